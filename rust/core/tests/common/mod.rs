//! Builds small SentencePiece models byte by byte, so that tests need no file.
#![allow(dead_code)]

pub(crate) mod shared;

/// Piece kinds as the file numbers them.
pub(crate) const NORMAL: u8 = 1;
pub(crate) const UNKNOWN: u8 = 2;
pub(crate) const CONTROL: u8 = 3;
pub(crate) const USER_DEFINED: u8 = 4;
pub(crate) const UNUSED: u8 = 5;
pub(crate) const BYTE: u8 = 6;

/// A length-delimited field.
pub(crate) fn delimited(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = body.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(body);
    out
}

/// A varint field with a number up to 127 and a one-byte value.
pub(crate) fn varint(number: u8, value: u8) -> Vec<u8> {
    if number < 16 { vec![number << 3, value] } else { vec![(number << 3) | 0x80, number >> 4, value] }
}

pub(crate) fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
    let mut body = delimited(1, text.as_bytes());
    body.push(2 << 3 | 5);
    body.extend(score.to_le_bytes());
    body.extend(varint(3, kind));
    delimited(1, &body)
}

/// A BPE model: normalizer `identity`, nothing added, nothing removed, spaces escaped.
pub(crate) fn model(pieces: &[(&str, f32, u8)], byte_fallback: bool) -> Vec<u8> {
    let mut out: Vec<u8> = pieces.iter().flat_map(|&(text, score, kind)| piece(text, score, kind)).collect();
    if byte_fallback {
        for byte in 0..=255u8 {
            out.extend(piece(&format!("<0x{byte:02X}>"), 0.0, BYTE));
        }
    }
    out.extend(trainer(2, byte_fallback));
    out.extend(normalizer(b"", false, false));
    out
}

pub(crate) fn trainer(model_type: u8, byte_fallback: bool) -> Vec<u8> {
    delimited(2, &[varint(3, model_type), varint(35, byte_fallback.into())].concat())
}

pub(crate) fn normalizer(charsmap: &[u8], add_dummy_prefix: bool, remove_extra_whitespaces: bool) -> Vec<u8> {
    let settings = [
        delimited(1, b"identity"),
        delimited(2, charsmap),
        varint(3, add_dummy_prefix.into()),
        varint(4, remove_extra_whitespaces.into()),
    ];
    delimited(3, &settings.concat())
}
