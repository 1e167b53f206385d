//! Orthonormal DCT-II and its inverse along time.

use std::f64::consts::PI;

use crate::{Error, Result};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A float the codec computes in: `f32` or `f64`.
pub trait Float: sealed::Sealed + Copy + Into<f64> + Default + Send + Sync + 'static {
    /// Rounds from double precision.
    fn from_f64(x: f64) -> Self;
}

impl Float for f32 {
    fn from_f64(x: f64) -> Self {
        x as Self
    }
}

impl Float for f64 {
    fn from_f64(x: f64) -> Self {
        x
    }
}

/// A transform planned for one horizon.
#[derive(Debug)]
pub struct Dct {
    horizon: usize,
    basis: Vec<f64>,
}

impl Dct {
    /// Plans a horizon.
    ///
    /// # Errors
    /// [`Error::Argument`] for a horizon of 0.
    pub fn new(horizon: usize) -> Result<Self> {
        if horizon == 0 {
            return Err(Error::Argument { what: "horizon", why: "expected at least 1, got 0".to_owned() });
        }
        let n = horizon as f64;
        let basis = (0..horizon * horizon)
            .map(|i| {
                let (k, t) = ((i / horizon) as f64, (i % horizon) as f64);
                let norm = if k == 0.0 { (1.0 / n).sqrt() } else { (2.0 / n).sqrt() };
                norm * (PI * k * (2.0 * t + 1.0) / (2.0 * n)).cos()
            })
            .collect();
        Ok(Self { horizon, basis })
    }

    /// The horizon.
    #[must_use]
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// Forward.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn forward<T: Float>(&self, chunk: &mut [T], dim: usize, scratch: &mut Vec<T>) -> Result<()> {
        self.apply(chunk, dim, scratch, |k, t| self.basis[k * self.horizon + t])
    }

    /// Inverse.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn inverse<T: Float>(&self, chunk: &mut [T], dim: usize, scratch: &mut Vec<T>) -> Result<()> {
        self.apply(chunk, dim, scratch, |t, k| self.basis[k * self.horizon + t])
    }

    fn apply<T: Float>(
        &self,
        chunk: &mut [T],
        dim: usize,
        scratch: &mut Vec<T>,
        basis: impl Fn(usize, usize) -> f64,
    ) -> Result<()> {
        if dim == 0 || chunk.len() != self.horizon * dim {
            return Err(Error::Shape { what: "chunk", expected: self.horizon * dim, got: chunk.len() });
        }
        scratch.clear();
        scratch.extend_from_slice(chunk);
        for row in 0..self.horizon {
            for d in 0..dim {
                let sum: f64 = (0..self.horizon).map(|t| basis(row, t) * scratch[t * dim + d].into()).sum();
                chunk[row * dim + d] = T::from_f64(sum);
            }
        }
        Ok(())
    }
}
