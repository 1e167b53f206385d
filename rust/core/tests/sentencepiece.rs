//! SentencePiece models built by hand: what encoding and decoding do piece by piece, and what a reader refuses.

#![allow(clippy::unwrap_used)]

mod common;

use common::{BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, model, normalizer, piece, trainer};
use pioxide_core::SentencePiece;

const UNK: (&str, f32, u8) = ("<unk>", 0.0, UNKNOWN);

fn read(pieces: &[(&str, f32, u8)], byte_fallback: bool) -> SentencePiece {
    SentencePiece::from_bytes(&model(pieces, byte_fallback)).unwrap()
}

fn texts(sp: &SentencePiece, text: &str) -> Vec<String> {
    sp.encode(text).unwrap().iter().map(|&id| sp.piece(id).unwrap().to_owned()).collect()
}

fn refusal(bytes: &[u8]) -> String {
    SentencePiece::from_bytes(bytes).unwrap_err().to_string()
}

#[test]
fn the_best_score_merges_first_and_the_leftmost_among_equals() {
    let sp =
        read(&[UNK, ("a", -9., NORMAL), ("b", -9., NORMAL), ("ab", -2., NORMAL), ("ba", -1., NORMAL)], false);
    assert_eq!(texts(&sp, "abab"), ["a", "ba", "b"]);
    let sp =
        read(&[UNK, ("a", -9., NORMAL), ("b", -9., NORMAL), ("ab", -1., NORMAL), ("ba", -1., NORMAL)], false);
    assert_eq!(texts(&sp, "abab"), ["ab", "ab"]);
    assert_eq!(texts(&sp, "baba"), ["ba", "ba"]);
    // Zero is a better score than minus zero, as in sentencepiece 0.2.3.
    let sp =
        read(&[UNK, ("a", -9., NORMAL), ("aa", -0., NORMAL), ("ab", 0., NORMAL), ("b", -9., NORMAL)], false);
    assert_eq!(texts(&sp, "aab"), ["a", "ab"]);
}

#[test]
fn a_long_stretch_merges_as_a_short_one_does() {
    let pieces = [UNK, ("a", -9., NORMAL), ("b", -9., NORMAL), ("ab", -2., NORMAL), ("abab", -3., NORMAL)];
    let sp = read(&pieces, false);
    assert_eq!(texts(&sp, &"ab".repeat(5)), ["abab", "abab", "ab"]);
    let long = texts(&sp, &"ab".repeat(1001));
    assert_eq!(long.len(), 501);
    assert!(long[..500].iter().all(|piece| piece == "abab") && long[500] == "ab");
}

#[test]
fn parts_that_are_no_pieces_still_merge_into_one_that_is() {
    let sp = read(&[UNK, ("xy", -1., NORMAL)], false);
    assert_eq!(texts(&sp, "xyx"), ["xy", "<unk>"]);
}

#[test]
fn user_defined_pieces_are_found_first_longest_first_and_never_merge() {
    let pieces = [
        UNK,
        ("a", -9., NORMAL),
        ("b", -9., NORMAL),
        ("aa", -1., NORMAL),
        ("bb", 0., USER_DEFINED),
        ("bbb", 0., USER_DEFINED),
        ("abb", -1., NORMAL),
    ];
    let sp = read(&pieces, false);
    assert_eq!(texts(&sp, "aabbbb"), ["aa", "bbb", "b"]);
    assert_eq!(texts(&sp, "abb"), ["a", "bb"]);
}

#[test]
fn control_pieces_in_a_text_are_plain_text() {
    let sp = read(
        &[UNK, ("<s>", 0., CONTROL), ("</s>", 0., CONTROL), ("<", -1., NORMAL), ("s", -2., NORMAL)],
        false,
    );
    assert_eq!(texts(&sp, "<s"), ["<", "s"]);
    assert_eq!(texts(&sp, "<s>"), ["<", "s", "<unk>"]);
    assert_eq!((sp.bos(), sp.eos(), sp.pad(), sp.unk()), (Some(1), Some(2), None, 0));
    assert!(sp.is_control(1) && !sp.is_control(3));
}

#[test]
fn unknown_neighbours_are_one_unknown_or_their_bytes() {
    let pieces = [UNK, ("a", -1., NORMAL), ("\u{2581}", -2., NORMAL)];
    let sp = read(&pieces, false);
    assert_eq!(texts(&sp, "aé世a世 世"), ["a", "<unk>", "a", "<unk>", "\u{2581}", "<unk>"]);
    assert_eq!(sp.decode(&[1, 0, 1]).unwrap(), "a \u{2047} a");
    let sp = read(&pieces, true);
    assert_eq!(texts(&sp, "aé"), ["a", "<0xC3>", "<0xA9>"]);
    assert_eq!(sp.decode(&sp.encode("aé世 a").unwrap()).unwrap(), "aé世 a");
}

#[test]
fn broken_bytes_decode_to_one_replacement_each() {
    let sp = read(&[UNK, ("a", -1., NORMAL)], true);
    let byte = |b: u8| sp.id(&format!("<0x{b:02X}>")).unwrap();
    let ids: Vec<u32> = [0xe4, 0xb8, 0x61, 0xc3, 0xa9, 0xff].map(byte).to_vec();
    assert_eq!(sp.decode(&ids).unwrap(), "\u{fffd}\u{fffd}aé\u{fffd}");
    // A piece between the bytes of a character breaks it.
    assert_eq!(sp.decode(&[byte(0xc3), 1, byte(0xa9)]).unwrap(), "\u{fffd}a\u{fffd}");
}

#[test]
fn an_id_outside_the_vocabulary_is_named_with_its_position() {
    let sp = read(&[UNK, ("a", -1., NORMAL)], false);
    let error = sp.decode(&[1, 2]).unwrap_err().to_string();
    assert_eq!(error, "ids: id 2 at position 1 is outside a vocabulary of 2");
    assert_eq!((sp.piece(2), sp.id("b"), sp.vocab_size()), (None, None, 2));
}

#[test]
fn spaces_follow_the_settings_of_the_file() {
    let pieces: Vec<u8> = [UNK, ("a", -1., NORMAL), ("\u{2581}", -2., NORMAL), ("\u{2581}a", -3., NORMAL)]
        .iter()
        .flat_map(|&(text, score, kind)| piece(text, score, kind))
        .collect();
    let with = |dummy, remove| {
        let bytes = [pieces.clone(), trainer(2, false), normalizer(b"", dummy, remove)].concat();
        SentencePiece::from_bytes(&bytes).unwrap()
    };
    let trip = |sp: &SentencePiece, text: &str| {
        (texts(sp, text).concat(), sp.decode(&sp.encode(text).unwrap()).unwrap())
    };
    assert_eq!(trip(&with(false, false), " a  a "), ("▁a▁▁a▁".into(), " a  a ".into()));
    assert_eq!(trip(&with(true, false), "a"), ("▁a".into(), "a".into()));
    assert_eq!(trip(&with(true, true), "  a  a "), ("▁a▁a".into(), "a a".into()));
    assert_eq!(trip(&with(true, true), "   "), (String::new(), String::new()));
    assert_eq!(trip(&with(true, false), ""), (String::new(), String::new()));
}

#[test]
fn models_that_could_not_be_reproduced_are_refused_by_name() {
    let a = piece("a", -1., NORMAL);
    let unk = piece("<unk>", 0., UNKNOWN);
    let bpe = trainer(2, false);
    let plain = normalizer(b"", false, false);
    let whole = |parts: &[&[u8]]| parts.concat();
    for (bytes, words) in [
        (whole(&[&unk, &a, &trainer(1, false)]), "a Unigram model"),
        (whole(&[&unk, &a]), "a Unigram model"),
        (whole(&[&unk, &a, &trainer(3, false)]), "a word model"),
        (whole(&[&unk, &a, &trainer(4, false)]), "a character model"),
        (whole(&[&unk, &a, &trainer(9, false)]), "a model of type 9"),
        (
            whole(&[&unk, &a, &bpe, &normalizer(b"x", false, false)]),
            "normalizer \"identity\" rewrites characters",
        ),
        (whole(&[&unk, &a, &bpe, &common::delimited(5, &common::delimited(2, b"x"))]), "denormalizer"),
        (
            whole(&[
                &unk,
                &a,
                &common::delimited(2, &[common::varint(3, 2), common::varint(24, 1)].concat()),
            ]),
            "suffix",
        ),
        (whole(&[&unk, &piece("b", 0., UNUSED), &bpe, &plain]), "piece 1 is of the unused kind"),
        (whole(&[&unk, &piece("b", 0., 7), &bpe, &plain]), "piece 1 is of unknown kind 7"),
        (whole(&[&unk, &a, &a, &bpe, &plain]), "pieces 1 and 2 are both \"a\""),
        (whole(&[&unk, &a, &piece("a", 0., CONTROL), &bpe, &plain]), "pieces 1 and 2 are both \"a\""),
        (whole(&[&a, &bpe, &plain]), "no unknown piece"),
        (whole(&[&unk, &piece("?", 0., UNKNOWN), &bpe]), "pieces 0 and 1 are both the unknown piece"),
        (whole(&[&unk, &piece("", 0., NORMAL), &bpe]), "piece 1 is empty"),
        (whole(&[&unk, &piece("a\0", 0., NORMAL), &bpe]), "piece 1 holds a null character"),
        (whole(&[&unk, &piece(&"a".repeat(8000), 0., NORMAL), &bpe]), "piece 1 is 8000 bytes or longer"),
        (whole(&[&unk, &piece("a", f32::NAN, NORMAL), &bpe]), "a score that is no number"),
        (whole(&[&unk, &piece("<0x41>", 0., BYTE), &bpe]), "byte fallback is off"),
        (whole(&[&unk, &piece("<0x41>", 0., BYTE), &trainer(2, true)]), "<0x00> is missing"),
        (whole(&[&unk, &piece("<0x4a>", 0., BYTE), &trainer(2, true)]), "is written \"<0x4a>\""),
        (whole(&[&bpe, &plain]), "no pieces"),
        (vec![], "no pieces"),
        (b"<html>not a model</html>".to_vec(), "SentencePiece model: at byte"),
    ] {
        let message = refusal(&bytes);
        assert!(message.contains(words), "{message:?} should hold {words:?}");
    }
}

#[test]
fn every_truncation_and_every_flipped_byte_is_an_error_or_a_model() {
    let whole = model(&[UNK, ("a", -1., NORMAL), ("ab", -2., NORMAL), ("<x>", 0., USER_DEFINED)], false);
    for end in 0..whole.len() {
        if let Ok(sp) = SentencePiece::from_bytes(&whole[..end]) {
            sp.encode("abab<x>").unwrap();
        }
    }
    for at in 0..whole.len() {
        for flip in 1..=255 {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            if let Ok(sp) = SentencePiece::from_bytes(&bytes) {
                let ids = sp.encode("abab <x>a").unwrap();
                sp.decode(&ids).unwrap();
            }
        }
    }
}
