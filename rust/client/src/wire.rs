//! Observations as MessagePack with openpi's arrays, and answers read back.

use rmpv::Value;

use crate::{Error, Result};

/// Nested maps and lists of an answer that are followed.
const DEPTH: usize = 16;

/// What a robot sees, under the robot's keys.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    fields: Vec<(Value, Value)>,
}

/// What is left to play of the chunk before, for a server that continues it.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// `[n, D]` in the robot's units, the action that is due at the observation first.
    pub actions: &'a [f64],
    /// How many of them will be played before the answer is there.
    pub inference_delay: usize,
}

impl Observation {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image `[height, width, 3]`, red, green and blue.
    ///
    /// # Errors
    /// [`Error::Argument`] where the bytes are not as many.
    pub fn image(&mut self, key: &str, height: usize, width: usize, pixels: &[u8]) -> Result<&mut Self> {
        if height.checked_mul(width).and_then(|n| n.checked_mul(3)) != Some(pixels.len()) {
            let got = pixels.len();
            return Err(Error::Argument(format!(
                "{key}: {got} bytes are no image of {height} x {width} x 3"
            )));
        }
        self.fields.push((key.into(), array("|u1", &[height, width, 3], pixels.to_vec())));
        Ok(self)
    }

    /// Adds numbers, as a state `[S]`.
    pub fn numbers(&mut self, key: &str, values: &[f64]) -> &mut Self {
        self.fields.push((key.into(), floats(values, &[values.len()])));
        self
    }

    /// Adds a text, as the instruction.
    pub fn text(&mut self, key: &str, text: &str) -> &mut Self {
        self.fields.push((key.into(), text.into()));
        self
    }

    /// The message, with `added` under pioxide's key.
    pub(crate) fn message(&self, added: Option<Vec<(Value, Value)>>) -> Result<Vec<u8>> {
        let mut fields = self.fields.clone();
        if let Some(added) = added {
            fields.push(("pioxide".into(), Value::Map(added)));
        }
        let mut out = Vec::new();
        rmpv::encode::write_value(&mut out, &Value::Map(fields))
            .map_err(|error| Error::Argument(error.to_string()))?;
        Ok(out)
    }
}

/// A float64 array in openpi's form.
pub(crate) fn floats(values: &[f64], shape: &[usize]) -> Value {
    array("<f8", shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn array(dtype: &str, shape: &[usize], data: Vec<u8>) -> Value {
    let key = |name: &str| Value::Binary(name.as_bytes().to_vec());
    Value::Map(vec![
        (key("__ndarray__"), true.into()),
        (key("data"), Value::Binary(data)),
        (key("dtype"), dtype.into()),
        (key("shape"), Value::Array(shape.iter().map(|&n| n.into()).collect())),
    ])
}

/// Reads a message whole.
pub(crate) fn read(message: &[u8]) -> Result<Value> {
    let mut rest = message;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH)
        .map_err(|error| Error::Protocol(error.to_string()))?;
    if !rest.is_empty() {
        return Err(Error::Protocol(format!("{} bytes after the message's end", rest.len())));
    }
    Ok(value)
}

/// A map's value by its key, text or bytes.
pub(crate) fn get<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let is = |key: &Value| match key {
        Value::String(text) => text.as_bytes() == name.as_bytes(),
        Value::Binary(bytes) => bytes == name.as_bytes(),
        _ => false,
    };
    map.as_map()?.iter().find(|(key, _)| is(key)).map(|(_, value)| value)
}

/// A two-dimensional array of floats: its values, rows and columns.
pub(crate) fn matrix(value: &Value) -> Option<(Vec<f64>, usize, usize)> {
    let Value::Binary(data) = get(value, "data")? else { return None };
    let shape: Vec<usize> =
        get(value, "shape")?.as_array()?.iter().map(|n| Some(n.as_u64()? as usize)).collect::<Option<_>>()?;
    let [rows, columns] = shape[..] else { return None };
    let values: Vec<f64> = match get(value, "dtype")?.as_str()? {
        "<f8" => data.as_chunks::<8>().0.iter().map(|x| f64::from_le_bytes(*x)).collect(),
        "<f4" => data.as_chunks::<4>().0.iter().map(|x| f64::from(f32::from_le_bytes(*x))).collect(),
        _ => return None,
    };
    let width = if get(value, "dtype")?.as_str()? == "<f8" { 8 } else { 4 };
    let whole = rows.checked_mul(columns)? == values.len() && values.len() * width == data.len();
    (whole && rows > 0 && columns > 0 && values.iter().all(|x| x.is_finite()))
        .then_some((values, rows, columns))
}
