//! Protocol Buffers' wire format, as much of it as a SentencePiece `.model` needs: fields come out one by one, borrowed
//! from the bytes, and whatever does not add up is an error with its offset.

use crate::{Error, Result};

/// What the errors call the file.
pub(super) const FILE: &str = "SentencePiece model";

/// One field's value, by wire type. Groups (types 3 and 4) are refused: no field of a `.model` is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// Type 0: integers, booleans, enums.
    Varint(u64),
    /// Type 1: eight bytes, little-endian.
    Fixed64(u64),
    /// Type 2: strings, bytes, messages.
    Bytes(&'a [u8]),
    /// Type 5: four bytes, little-endian; `float`.
    Fixed32(u32),
}

/// One field: its number, its value, and where the value begins in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
    pub(super) offset: usize,
}

impl<'a> Field<'a> {
    #[cold]
    fn wrong(&self, wanted: &str) -> Error {
        let came = match self.value {
            Value::Varint(_) => "a varint",
            Value::Fixed64(_) => "64 fixed bits",
            Value::Bytes(_) => "a length-delimited value",
            Value::Fixed32(_) => "32 fixed bits",
        };
        malformed(self.offset, format_args!("field {} should be {wanted} but is {came}", self.number))
    }

    /// The value as the fields of a nested message.
    pub(super) fn message(&self) -> Result<Fields<'a>> {
        match self.value {
            Value::Bytes(bytes) => Ok(Fields { bytes, at: 0, base: self.offset }),
            _ => Err(self.wrong("a message")),
        }
    }

    /// The value as UTF-8 text.
    pub(super) fn text(&self) -> Result<&'a str> {
        match self.value {
            Value::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|error| {
                malformed(
                    self.offset + error.valid_up_to(),
                    format_args!("field {} is no UTF-8", self.number),
                )
            }),
            _ => Err(self.wrong("text")),
        }
    }

    /// The value as raw bytes.
    pub(super) fn bytes(&self) -> Result<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong("bytes")),
        }
    }

    /// The value as a `float`.
    pub(super) fn float(&self) -> Result<f32> {
        match self.value {
            Value::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(self.wrong("a float")),
        }
    }

    /// The value as an integer or enum.
    pub(super) fn integer(&self) -> Result<u64> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.wrong("an integer")),
        }
    }

    /// The value as a `bool`.
    pub(super) fn boolean(&self) -> Result<bool> {
        Ok(self.integer()? != 0)
    }
}

/// The fields of one message, in file order. Stops for good after an error.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    base: usize,
}

impl<'a> Fields<'a> {
    /// The fields of the outermost message.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, base: 0 }
    }

    /// Seven bits a byte, low ones first, at most ten bytes. Nearly all have one.
    #[inline]
    fn varint(&mut self) -> Result<u64> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u64> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(malformed(self.base + start, format_args!("the file ends inside a varint")));
            };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed(self.base + start, format_args!("a varint has more than 64 bits")))
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                let taken = &self.bytes[self.at..self.at + length];
                self.at += length;
                Ok(taken)
            }
            _ => Err(malformed(
                self.base + self.at,
                format_args!("a value of {length} bytes where {left} are left in its message"),
            )),
        }
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    #[inline]
    fn field(&mut self) -> Result<Field<'a>> {
        let offset = self.base + self.at;
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if (1..1 << 29).contains(&number) => number,
            _ => return Err(malformed(offset, format_args!("{} is no field number", tag >> 3))),
        };
        let mut at = self.base + self.at;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                at = self.base + self.at;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed()?)),
            kind => return Err(malformed(offset, format_args!("field {number} has wire type {kind}"))),
        };
        Ok(Field { number, value, offset: at })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.bytes.len();
        }
        Some(field)
    }
}

#[cold]
fn malformed(offset: usize, why: std::fmt::Arguments<'_>) -> Error {
    Error::Format { what: FILE, why: format!("at byte {offset}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Field<'_>>> {
        Fields::new(bytes).collect()
    }

    fn why(bytes: &[u8]) -> String {
        all(bytes).unwrap_err().to_string()
    }

    #[test]
    fn every_wire_type_comes_out() {
        let bytes =
            [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1d, 0, 0, 0x80, 0x3f, 0x21, 1, 0, 0, 0, 0, 0, 0, 0];
        let fields = all(&bytes).unwrap();
        assert_eq!(fields[0].integer().unwrap(), 150);
        assert_eq!(fields[1].text().unwrap(), "hi");
        assert_eq!(fields[2].float().unwrap(), 1.0);
        assert_eq!(fields[3].value, Value::Fixed64(1));
        assert_eq!(fields.iter().map(|f| f.offset).collect::<Vec<_>>(), [1, 5, 8, 13]);
    }

    #[test]
    fn what_does_not_add_up_is_named_with_its_offset() {
        assert!(why(&[0x08]).contains("at byte 1: the file ends inside a varint"));
        assert!(why(&[0x08, 0xff]).contains("ends inside a varint"));
        assert!(why(&[&[0x08][..], &[0xff; 10]].concat()).contains("more than 64 bits"));
        assert!(why(&[&[0x08][..], &[0xff; 9], &[2]].concat()).contains("more than 64 bits"));
        assert!(why(&[0x12, 0x05, b'h']).contains("at byte 2: a value of 5 bytes where 1 are left"));
        assert!(why(&[&[0x12][..], &[0xff; 9], &[1]].concat()).contains("18446744073709551615 bytes"));
        assert!(why(&[0x0b]).contains("wire type 3"));
        assert!(why(&[0x00, 0x00]).contains("0 is no field number"));
        assert!(why(&[0x0d, 1, 2]).contains("a value of 4 bytes where 2 are left"));
        assert_eq!(all(&[&[0x08][..], &[0xff; 9], &[1]].concat()).unwrap()[0].integer().unwrap(), u64::MAX);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        let bytes = [0x08, 1, 0x12, 1, 0xff];
        let fields = all(&bytes).unwrap();
        assert!(fields[0].text().unwrap_err().to_string().contains("field 1 should be text but is a varint"));
        assert!(fields[0].message().is_err() && fields[0].float().is_err() && fields[0].bytes().is_err());
        assert!(fields[1].integer().is_err());
        assert!(fields[1].text().unwrap_err().to_string().contains("at byte 4: field 2 is no UTF-8"));
    }

    #[test]
    fn iteration_ends_after_an_error() {
        let mut fields = Fields::new(&[0x0b, 0x0b, 0x0b]);
        assert!(fields.next().unwrap().is_err());
        assert!(fields.next().is_none());
    }
}
