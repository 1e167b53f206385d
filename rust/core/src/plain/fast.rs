//! STOPGAP FastCodec, to be replaced.
#![allow(missing_docs)]
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use crate::dct::{Dct, Float};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOverflow {
    Error,
    Clip,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    Error,
    Pad,
}
#[derive(Debug, Default)]
pub struct FastScratch {}
#[derive(Debug, Clone)]
pub struct FitOptions {
    pub vocab_size: usize,
    pub scale: f64,
    pub regex_split: bool,
}
impl Default for FitOptions {
    fn default() -> Self {
        Self { vocab_size: 1024, scale: 10.0, regex_split: false }
    }
}
#[derive(Debug)]
pub struct FastFiles {
    pub tokenizer_json: String,
    pub processor_config: String,
    pub tokenizer_config: String,
    pub special_tokens_map: String,
}

#[derive(Debug)]
pub struct FastCodec {
    scale: f64,
    min_token: i64,
    horizon: Option<usize>,
    dim: Option<usize>,
    vocab_size: usize,
    byte_ids: [Option<u32>; 256],
    pairs: HashMap<(u32, u32), (u32, u32)>,
    bytes: Vec<Option<Vec<u8>>>,
    regex: bool,
    json: serde_json::Value,
}

fn byte_chars() -> Vec<char> {
    let mut n = 0;
    (0..=255u32)
        .map(|b| {
            if (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b) {
                char::from_u32(b).unwrap()
            } else {
                n += 1;
                char::from_u32(255 + n).unwrap()
            }
        })
        .collect()
}
fn fe(why: impl Into<String>) -> Error {
    Error::Format { what: "tokenizer.json", why: why.into() }
}
fn class(c: char) -> u8 {
    if matches!(c, '\t'..='\r' | ' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
    {
        0
    } else if c.is_alphabetic() {
        1
    } else if c.is_numeric() {
        2
    } else {
        3
    }
}
fn split(s: &[char]) -> Vec<std::ops::Range<usize>> {
    let mut out = vec![];
    let mut i = 0;
    let n = s.len();
    while i < n {
        let start = i;
        if s[i] == '\'' {
            let two: String = s[i..n.min(i + 3)].iter().collect();
            let len = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
                .iter()
                .find(|p| two.starts_with(**p))
                .map_or(0, |p| p.len());
            if len > 0 {
                i += len;
                out.push(start..i);
                continue;
            }
        }
        let mut j = i;
        if s[j] == ' ' && j + 1 < n && class(s[j + 1]) != 0 {
            j += 1;
        }
        let c = class(s[j]);
        if c != 0 {
            while j < n && class(s[j]) == c {
                j += 1;
            }
            i = j;
            out.push(start..i);
            continue;
        }
        while j < n && class(s[j]) == 0 {
            j += 1;
        }
        i = if j < n && j - start > 1 { j - 1 } else { j };
        out.push(start..i);
    }
    out
}

impl FastCodec {
    pub fn from_json(tok: &[u8], conf: &[u8]) -> Result<Self> {
        let json: serde_json::Value = serde_json::from_slice(tok).map_err(|e| fe(e.to_string()))?;
        let c: serde_json::Value = serde_json::from_slice(conf)
            .map_err(|e| Error::Format { what: "processor_config.json", why: e.to_string() })?;
        let ce =
            |k: &str| Error::Format { what: "processor_config.json", why: format!("{k}: expected a number") };
        let scale = c["scale"].as_f64().ok_or_else(|| ce("scale"))?;
        let min_token = c["min_token"].as_i64().ok_or_else(|| ce("min_token"))?;
        if json["model"]["type"] != "BPE" {
            return Err(fe("model type is not BPE"));
        }
        let regex = json["pre_tokenizer"]["use_regex"].as_bool().ok_or_else(|| fe("use_regex"))?;
        let back: HashMap<char, u8> =
            byte_chars().into_iter().enumerate().map(|(b, c)| (c, b as u8)).collect();
        let vocab = json["model"]["vocab"].as_object().ok_or_else(|| fe("vocab"))?;
        let mut byte_ids = [None; 256];
        let size = vocab.values().filter_map(|v| v.as_u64()).max().unwrap_or(0) as usize + 1;
        let mut bytes = vec![None; size];
        for (t, id) in vocab {
            let id = id.as_u64().ok_or_else(|| fe("id"))? as usize;
            let b: Option<Vec<u8>> = t.chars().map(|c| back.get(&c).copied()).collect();
            if let Some(b) = b {
                if b.len() == 1 {
                    byte_ids[b[0] as usize] = Some(id as u32);
                }
                bytes[id] = Some(b);
            }
        }
        let mut pairs = HashMap::new();
        for (rank, m) in json["model"]["merges"].as_array().ok_or_else(|| fe("merges"))?.iter().enumerate() {
            let (a, b) = match m {
                serde_json::Value::String(s) => s.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
                serde_json::Value::Array(v) => {
                    Some((v[0].as_str().unwrap_or("").to_owned(), v[1].as_str().unwrap_or("").to_owned()))
                }
                _ => None,
            }
            .ok_or_else(|| fe("merge"))?;
            let id = |s: &str| {
                vocab
                    .get(s)
                    .and_then(|v| v.as_u64())
                    .map(|v| v as u32)
                    .ok_or_else(|| fe(format!("merge names {s}")))
            };
            pairs.entry((id(&a)?, id(&b)?)).or_insert((rank as u32, id(&format!("{a}{b}"))?));
        }
        Ok(Self {
            scale,
            min_token,
            horizon: c["time_horizon"].as_u64().map(|v| v as usize),
            dim: c["action_dim"].as_u64().map(|v| v as usize),
            vocab_size: size,
            byte_ids,
            pairs,
            bytes,
            regex,
            json,
        })
    }
    pub fn files(&self, horizon: Option<usize>, dim: Option<usize>) -> Result<FastFiles> {
        let conf = serde_json::json!({"scale": self.scale, "vocab_size": self.vocab_size, "min_token": self.min_token, "time_horizon": horizon, "action_dim": dim, "processor_class": "UniversalActionProcessor"});
        Ok(FastFiles { tokenizer_json: serde_json::to_string_pretty(&self.json).unwrap(), processor_config: serde_json::to_string_pretty(&conf).unwrap(),
            tokenizer_config: "{\"added_tokens_decoder\": {}, \"clean_up_tokenization_spaces\": false, \"tokenizer_class\": \"PreTrainedTokenizerFast\"}".into(), special_tokens_map: "{}".into() })
    }
    fn quantise<T: Float>(plan: &Dct, chunk: &[T], dim: usize, scale: f64) -> Result<Vec<i64>> {
        let mut c = chunk.to_vec();
        if let Some(i) = chunk.iter().position(|&x| !Into::<f64>::into(x).is_finite()) {
            return Err(Error::Argument {
                what: "chunk",
                why: format!("step {}, dimension {} is not finite", i / dim, i % dim),
            });
        }
        plan.forward(&mut c, dim, &mut Vec::new())?;
        Ok(c.iter()
            .map(|&x| T::from_f64(Into::<f64>::into(x) * scale).into().round_ties_even() as i64)
            .collect())
    }
    fn bpe(&self, symbols: &mut Vec<u32>) {
        let n = symbols.len();
        let mut next: Vec<usize> = (1..=n).collect();
        let mut prev: Vec<usize> = (0..n).map(|i| i.wrapping_sub(1)).collect();
        let mut heap = BinaryHeap::new();
        let look = |s: &[u32], a: usize, b: usize| {
            self.pairs.get(&(s[a], s[b])).map(|&(r, _)| Reverse((r, a, s[a], s[b])))
        };
        for i in 1..n {
            heap.extend(look(symbols, i - 1, i));
        }
        while let Some(Reverse((_, a, x, y))) = heap.pop() {
            let b = next[a];
            if symbols[a] != x || b >= n || symbols[b] != y {
                continue;
            }
            symbols[a] = self.pairs[&(x, y)].1;
            symbols[b] = u32::MAX;
            next[a] = next[b];
            if next[b] < n {
                prev[next[b]] = a;
            }
            if prev[a] != usize::MAX {
                heap.extend(look(symbols, prev[a], a));
            }
            if next[a] < n {
                heap.extend(look(symbols, a, next[a]));
            }
        }
        symbols.retain(|&s| s != u32::MAX);
    }
    fn representable(&self, v: i64) -> bool {
        let Some(c) = u32::try_from(v - self.min_token).ok().and_then(char::from_u32) else { return false };
        c.encode_utf8(&mut [0; 4]).bytes().all(|b| self.byte_ids[b as usize].is_some())
    }
    pub fn encode_into<T: Float>(
        &self,
        plan: &Dct,
        chunk: &[T],
        dim: usize,
        on: OnOverflow,
        _s: &mut FastScratch,
        out: &mut Vec<u32>,
    ) -> Result<usize> {
        if dim == 0 {
            return Err(Error::Argument { what: "dim", why: "expected at least 1, got 0".into() });
        }
        let q = Self::quantise(plan, chunk, dim, self.scale)?;
        let mut clipped = 0;
        let mut chars = Vec::with_capacity(q.len());
        for (i, &v) in q.iter().enumerate() {
            let mut w = v;
            if !self.representable(v) {
                if on == OnOverflow::Error {
                    return Err(Error::Overflow { frequency: i / dim, dim: i % dim, value: v });
                }
                clipped += 1;
                let (lo, hi) = self.value_range();
                w = (0..=(hi - lo))
                    .flat_map(|d| [v - d, v + d])
                    .map(|x| x.clamp(lo, hi))
                    .find(|&x| self.representable(x))
                    .unwrap_or(lo);
                if v < lo {
                    w = lo
                } else if v > hi {
                    w = hi
                }
            }
            chars.push(char::from_u32((w - self.min_token) as u32).unwrap());
        }
        let pieces = if self.regex { split(&chars) } else { vec![0..chars.len()] };
        for p in pieces {
            let s: String = chars[p].iter().collect();
            let mut sym: Vec<u32> =
                s.bytes().map(|b| self.byte_ids[b as usize].unwrap_or(u32::MAX)).collect();
            self.bpe(&mut sym);
            out.extend(sym);
        }
        Ok(clipped)
    }
    pub fn decode_into(
        &self,
        plan: &Dct,
        ids: &[u32],
        dim: usize,
        partial: Partial,
        _s: &mut FastScratch,
        out: &mut [f64],
    ) -> Result<usize> {
        let mut b = vec![];
        for (at, &id) in ids.iter().enumerate() {
            b.extend(self.bytes.get(id as usize).and_then(|x| x.as_ref()).ok_or(Error::Argument {
                what: "ids",
                why: format!("id {id} at {at} is outside the vocabulary of {}", self.vocab_size),
            })?);
        }
        let s = String::from_utf8(b).map_err(|e| Error::Argument { what: "ids", why: e.to_string() })?;
        let v: Vec<f64> = s.chars().map(|c| (c as i64 + self.min_token) as f64 / self.scale).collect();
        if v.len() > out.len() || (v.len() < out.len() && partial == Partial::Error) {
            return Err(Error::Incomplete { expected: out.len(), got: v.len() });
        }
        out.fill(0.0);
        out[..v.len()].copy_from_slice(&v);
        plan.inverse(out, dim, &mut Vec::new())?;
        Ok(out.len() - v.len())
    }
    pub fn fit<T: Float>(chunks: &[(&[T], usize, usize)], o: &FitOptions) -> Result<Self> {
        let ae = |what, why: &str| Error::Argument { what, why: why.into() };
        if chunks.is_empty() {
            return Err(ae("chunks", "expected at least one"));
        }
        if o.vocab_size < 257 {
            return Err(ae("vocab_size", "expected more than the 256 bytes"));
        }
        if !(o.scale > 0.0 && o.scale.is_finite()) {
            return Err(ae("scale", "expected a positive number"));
        }
        let mut plans: BTreeMap<usize, Dct> = BTreeMap::new();
        let mut qs = vec![];
        for &(c, h, d) in chunks {
            let p = plans.entry(h).or_insert(Dct::new(h.max(1))?);
            qs.push(Self::quantise(p, c, d, o.scale)?);
        }
        let lo = qs.iter().flatten().copied().min().unwrap_or(0);
        let hi = qs.iter().flatten().copied().max().unwrap_or(0);
        let min_token = lo - 1000 - (hi - lo);
        let table = byte_chars();
        let mut words: Vec<Vec<u32>> = vec![];
        for q in &qs {
            let chars: Vec<char> =
                q.iter().map(|v| char::from_u32((v - min_token) as u32).unwrap()).collect();
            let pieces = if o.regex_split { split(&chars) } else { vec![0..chars.len()] };
            for p in pieces {
                words.push(chars[p].iter().collect::<String>().bytes().map(u32::from).collect());
            }
        }
        let mut toks: Vec<String> = table.iter().map(|c| c.to_string()).collect();
        let mut merges = vec![];
        while toks.len() < o.vocab_size {
            let mut count: HashMap<(u32, u32), u64> = HashMap::new();
            for w in &words {
                for p in w.windows(2) {
                    *count.entry((p[0], p[1])).or_default() += 1;
                }
            }
            let Some((&(a, b), _)) =
                count.iter().filter(|x| *x.1 >= 2).max_by_key(|&(p, c)| (*c, Reverse(*p)))
            else {
                break;
            };
            let id = toks.len() as u32;
            merges.push(serde_json::json!([toks[a as usize], toks[b as usize]]));
            toks.push(format!("{}{}", toks[a as usize], toks[b as usize]));
            for w in &mut words {
                let mut r = 0;
                let mut k = 0;
                while r < w.len() {
                    if r + 1 < w.len() && w[r] == a && w[r + 1] == b {
                        w[k] = id;
                        r += 2;
                    } else {
                        w[k] = w[r];
                        r += 1;
                    }
                    k += 1;
                }
                w.truncate(k);
            }
        }
        let vocab: serde_json::Map<String, serde_json::Value> =
            toks.iter().enumerate().map(|(i, t)| (t.clone(), i.into())).collect();
        let bl = |r| serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": r});
        let json = serde_json::json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": bl(o.regex_split), "post_processor": bl(true), "decoder": bl(true), "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges}});
        let conf = serde_json::json!({"scale": o.scale, "vocab_size": o.vocab_size, "min_token": min_token, "time_horizon": null, "action_dim": null});
        Self::from_json(json.to_string().as_bytes(), conf.to_string().as_bytes())
    }
    pub fn scale(&self) -> f64 {
        self.scale
    }
    pub fn min_token(&self) -> i64 {
        self.min_token
    }
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
    pub fn time_horizon(&self) -> Option<usize> {
        self.horizon
    }
    pub fn action_dim(&self) -> Option<usize> {
        self.dim
    }
    pub fn value_range(&self) -> (i64, i64) {
        let lo = (self.min_token..).find(|&v| self.representable(v)).unwrap_or(0);
        let hi = (0..0xd800).rev().map(|c| c + self.min_token).find(|&v| self.representable(v)).unwrap_or(0);
        (lo, hi)
    }
}
