//! JSON as plain values, for files whose every field is checked: a key that stands twice is refused, and whole numbers
//! are told from others, as Python tells them.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Why a value is not what it should be; whoever asked says where it stands, by [`Within`].
pub(crate) type Read<T> = Result<T, String>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Flag(bool),
    Whole(i64),
    /// Also whole numbers beyond 64 bits.
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Json {
    /// The value that these bytes hold; a byte order mark is passed over.
    pub(crate) fn parse(bytes: &[u8]) -> Read<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    pub(crate) fn flag(&self) -> Read<bool> {
        if let Self::Flag(flag) = self { Ok(*flag) } else { Err(self.wrong("true or false")) }
    }

    pub(crate) fn whole(&self) -> Read<i64> {
        if let Self::Whole(number) = self { Ok(*number) } else { Err(self.wrong("a whole number")) }
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn count(&self, most: usize) -> Read<usize> {
        let count = self.whole().ok().and_then(|number| usize::try_from(number).ok());
        let count = count.filter(|count| (1..=most).contains(count));
        count.ok_or_else(|| self.wrong(format_args!("a whole number from 1 to {most}")))
    }

    /// Any number; JSON has finite ones alone.
    pub(crate) fn number(&self) -> Read<f64> {
        match self {
            Self::Whole(number) => Ok(*number as f64),
            Self::Number(number) => Ok(*number),
            _ => Err(self.wrong("a number")),
        }
    }

    pub(crate) fn text(&self) -> Read<&str> {
        if let Self::Text(text) = self { Ok(text) } else { Err(self.wrong("a text")) }
    }

    /// A text that is not empty.
    pub(crate) fn name(&self) -> Read<String> {
        let name = self.text().ok().filter(|text| !text.is_empty());
        name.map(str::to_owned).ok_or_else(|| self.wrong("a text that is not empty"))
    }

    pub(crate) fn list(&self) -> Read<&[Self]> {
        if let Self::List(items) = self { Ok(items) } else { Err(self.wrong("a list")) }
    }

    /// Each item of a list, read.
    pub(crate) fn each<T>(&self, read: impl Fn(&Self) -> Read<T>) -> Read<Vec<T>> {
        let one = |(at, item)| read(item).within(format_args!("[{at}]"));
        self.list()?.iter().enumerate().map(one).collect()
    }

    pub(crate) fn map(&self) -> Read<&[(String, Self)]> {
        if let Self::Map(fields) = self { Ok(fields) } else { Err(self.wrong("an object")) }
    }

    /// Each value of an object, read, under its key.
    pub(crate) fn each_value<T>(&self, read: impl Fn(&str, &Self) -> Read<T>) -> Read<Vec<T>> {
        let one = |(key, value): &(String, Self)| read(key, value).within(short(key));
        self.map()?.iter().map(one).collect()
    }

    /// An object that has these fields alone.
    pub(crate) fn fields(&self, known: &[&str]) -> Read<Fields<'_>> {
        let fields = self.map()?;
        match fields.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => {
                Err(format!("unknown field {:?}; expected some of {}", short(key), known.join(", ")))
            }
            None => Ok(Fields(fields)),
        }
    }

    /// `None` for null.
    pub(crate) fn or_null<'a, T>(&'a self, read: impl FnOnce(&'a Self) -> Read<T>) -> Read<Option<T>> {
        if *self == Self::Null { Ok(None) } else { read(self).map(Some) }
    }

    pub(crate) fn wrong(&self, expected: impl fmt::Display) -> String {
        format!("expected {expected}, got {self}")
    }
}

/// A value as a message shows it.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number:?}"),
            Self::Text(text) => write!(f, "{:?}", short(text)),
            Self::List(items) => write!(f, "a list of {}", items.len()),
            Self::Map(fields) => write!(f, "an object of {} fields", fields.len()),
        }
    }
}

/// The beginning of a text.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The fields of an object.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a [(String, Json)]);

impl<'a> Fields<'a> {
    pub(crate) fn get(self, name: &str) -> Option<&'a Json> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A field that must be there.
    pub(crate) fn needed<T>(self, name: &str, read: impl FnOnce(&'a Json) -> Read<T>) -> Read<T> {
        let value = self.get(name).ok_or_else(|| format!("field {name:?} is missing"))?;
        read(value).within(name)
    }

    /// A field that may be absent.
    pub(crate) fn optional<T>(self, name: &str, read: impl FnOnce(&'a Json) -> Read<T>) -> Read<Option<T>> {
        self.get(name).map(read).transpose().within(name)
    }
}

/// Says where a failure is.
pub(crate) trait Within {
    #[must_use]
    fn within(self, place: impl fmt::Display) -> Self;
}

impl<T> Within for Read<T> {
    fn within(self, place: impl fmt::Display) -> Self {
        self.map_err(|why| format!("{place}: {why}"))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
                Ok(Json::Flag(flag))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
                Ok(Json::Whole(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
                Ok(i64::try_from(number).map_or(Json::Number(number as f64), Json::Whole))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
                Ok(Json::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
                let (mut fields, mut seen) = (Vec::new(), HashSet::new());
                while let Some((key, value)) = entries.next_entry::<String, Json>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format_args!("key {:?} stands twice", short(&key))));
                    }
                    fields.push((key, value));
                }
                Ok(Json::Map(fields))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
