//! What the benches of the core work on: robot motions made up of smooth moves and grippers that snap, a FAST tokenizer
//! fitted on them, and the text model of the demo. Nothing is read but that model.

use std::path::Path;
use std::sync::Arc;

use pioxide_core::{FastCodec, FitOptions, Result, SentencePiece};

/// The SentencePiece model to bench with: `$PIOXIDE_TEXT_MODEL` (for PaliGemma's own), else the demo's.
///
/// # Errors
/// Where the file can't be read or is no model.
pub fn text_model() -> std::result::Result<Arc<SentencePiece>, Box<dyn std::error::Error>> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/pioxide/demo/text.model");
    let path = std::env::var_os("PIOXIDE_TEXT_MODEL").map_or(demo, Into::into);
    let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Arc::new(SentencePiece::from_bytes(&bytes)?))
}

/// Chunks of one shape, row-major [horizon, dim] each, normalised to about -1..1.
#[derive(Debug)]
pub struct Chunks {
    /// Steps in a chunk.
    pub horizon: usize,
    /// Joints.
    pub dim: usize,
    /// All of them distinct.
    pub chunks: Vec<Vec<f64>>,
}

impl Chunks {
    /// Windows of a made-up recording: every joint moves from pose to pose with minimum jerk and trembles a little, every
    /// seventh is a gripper that opens and closes.
    #[must_use]
    pub fn new(horizon: usize, dim: usize, count: usize) -> Self {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let frames = count * 3 + horizon;
        let joints: Vec<Vec<f64>> =
            (0..dim).map(|joint| trajectory(frames, joint % 7 == 6, &mut random)).collect();
        let chunk = |start: usize| {
            (start..start + horizon).flat_map(|frame| joints.iter().map(move |joint| joint[frame])).collect()
        };
        Self { horizon, dim, chunks: (0..count).map(|i| chunk(i * 3)).collect() }
    }

    /// The same in single precision.
    #[must_use]
    pub fn single(&self) -> Vec<Vec<f32>> {
        self.chunks.iter().map(|chunk| chunk.iter().map(|&x| x as f32).collect()).collect()
    }

    /// A tokenizer fitted on them.
    ///
    /// # Errors
    /// As [`FastCodec::fit`].
    pub fn fit(&self, vocab_size: usize, regex_split: bool) -> Result<FastCodec> {
        let chunks: Vec<_> =
            self.chunks.iter().map(|chunk| (chunk.as_slice(), self.horizon, self.dim)).collect();
        FastCodec::fit(&chunks, &FitOptions { vocab_size, regex_split, ..FitOptions::default() })
    }
}

fn trajectory(frames: usize, gripper: bool, random: &mut Random) -> Vec<f64> {
    let mut values = Vec::with_capacity(frames);
    let mut from = random.between(-1.0, 1.0);
    while values.len() < frames {
        let to =
            if gripper { f64::from(u8::from(from < 0.0)) * 2.0 - 1.0 } else { random.between(-1.0, 1.0) };
        let (rest, steps) = (random.between(5.0, 60.0) as usize, random.between(20.0, 90.0) as usize);
        let steps = if gripper { 4 } else { steps };
        for step in 1..=steps {
            let t = step as f64 / steps as f64;
            let moved = t.powi(3) * (10.0 - 15.0 * t + 6.0 * t * t);
            values.push(from + (to - from) * moved + random.between(-0.002, 0.002));
        }
        values.extend((0..rest).map(|_| to));
        from = to;
    }
    values
}

/// A small generator (xorshift), so that the benches need no crate and always see the same.
struct Random(u64);

impl Random {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + (high - low) * (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}
