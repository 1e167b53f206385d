//! The orthonormal DCT-II along time and its inverse (DCT-III), planned once a horizon, bit for bit as scipy gives them.
//!
//! Coefficients are rounded to integers next, and a gripper's zeros and ones put many of them exactly half way: there the
//! last bit decides a token. So this follows the operation order that scipy 1.17 and earlier have (Makhoul's DCT by a
//! real FFT of the same length, FFTPACK's factors 4, 2, 3, 5 and a general one), with its constants rounded as there.
//! No operation is fused. Lengths with a prime factor above about 190 go through Bluestein's algorithm in both; those
//! agree to rounding only.

mod bluestein;
mod columns;
mod lanes;
mod plans;
mod radix;
mod radix_any;
mod roots;
mod wide;

use std::fmt;

use crate::{Error, Result};
use columns::Tables;
pub(crate) use plans::Plans;
use roots::Roots;

mod sealed {
    use super::wide::{self, Transform};
    use super::{Dct, DctScratch, DctScratches, Tables};

    pub trait Sealed: Sized {
        /// As many columns at a time as the widest registers hold.
        const TRANSFORM: Transform<Self>;
        fn tables(dct: &Dct) -> &Tables<Self>;
        fn scratch(scratches: &mut DctScratches) -> &mut DctScratch<Self>;
    }

    impl Sealed for f32 {
        const TRANSFORM: Transform<Self> = wide::single;

        fn tables(dct: &Dct) -> &Tables<Self> {
            &dct.single
        }

        fn scratch(scratches: &mut DctScratches) -> &mut DctScratch<Self> {
            &mut scratches.single
        }
    }

    impl Sealed for f64 {
        const TRANSFORM: Transform<Self> = wide::double;

        fn tables(dct: &Dct) -> &Tables<Self> {
            &dct.double
        }

        fn scratch(scratches: &mut DctScratches) -> &mut DctScratch<Self> {
            &mut scratches.double
        }
    }
}

/// A float the codec computes in: `f32` or `f64`.
pub trait Float:
    sealed::Sealed
    + Copy
    + Default
    + PartialOrd
    + fmt::Debug
    + fmt::Display
    + Into<f64>
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + Send
    + Sync
    + 'static
{
    /// The nearest value to one in double precision.
    fn from_f64(x: f64) -> Self;
}

impl Float for f32 {
    #[inline]
    fn from_f64(x: f64) -> Self {
        x as Self
    }
}

impl Float for f64 {
    #[inline]
    fn from_f64(x: f64) -> Self {
        x
    }
}

/// A transform planned for one horizon: immutable, shareable between threads.
#[derive(Debug, Clone)]
pub struct Dct {
    horizon: usize,
    single: Tables<f32>,
    double: Tables<f64>,
}

/// DCT-II, or its inverse.
#[derive(Debug, Clone, Copy)]
pub enum Direction {
    /// From values in time to coefficients.
    Forward,
    /// Back.
    Inverse,
}

/// What chunks are worked on in, in either precision.
#[derive(Debug, Default)]
pub struct DctScratches {
    single: DctScratch<f32>,
    double: DctScratch<f64>,
}

/// What one chunk is worked on in.
#[derive(Debug, Default)]
pub struct DctScratch<T> {
    /// Coefficients, of a chunk at the most.
    pub(crate) coefficients: Vec<T>,
    /// What the transform needs.
    pub(crate) transform: Vec<T>,
}

/// What to work in, in this precision.
pub(crate) fn scratch<T: Float>(scratches: &mut DctScratches) -> &mut DctScratch<T> {
    T::scratch(scratches)
}

/// The front of `buffer`, which grows if need be. What is in it means nothing.
pub(crate) fn sized<T: Float>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

/// [`sized`] for a length that a caller chose.
///
/// # Errors
/// [`Error::OutOfMemory`] where there is no room for it.
pub(crate) fn try_sized<T: Float>(buffer: &mut Vec<T>, len: usize) -> Result<&mut [T]> {
    let more = len.saturating_sub(buffer.len());
    buffer.try_reserve(more).map_err(|_| Error::OutOfMemory { what: "a chunk" })?;
    Ok(sized(buffer, len))
}

impl Dct {
    /// The longest horizon that is planned; a chunk of many minutes.
    pub const MAX_HORIZON: usize = 1 << 16;

    /// Plans chunks of `horizon` time steps.
    ///
    /// # Errors
    /// [`Error::Argument`] for a horizon of 0 or over [`Self::MAX_HORIZON`].
    pub fn new(horizon: usize) -> Result<Self> {
        if !(1..=Self::MAX_HORIZON).contains(&horizon) {
            let why = format!("expected 1 to {}, got {horizon}", Self::MAX_HORIZON);
            return Err(Error::Argument { what: "horizon", why });
        }
        let (full, quarter) = (Roots::new(horizon), Roots::new(4 * horizon));
        Ok(Self {
            horizon,
            single: Tables::new(horizon, &full, &quarter, roots::inverse_sqrt_f32(2 * horizon)),
            double: Tables::new(horizon, &full, &quarter, roots::inverse_sqrt_f64(2 * horizon)),
        })
    }

    /// Time steps in a chunk, H.
    #[must_use]
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// Writes the coefficients `[H, D]` of a row-major chunk `[H, D]` to `out`, lowest frequency first.
    ///
    /// # Errors
    /// [`Error::Shape`] when the chunk or `out` is not `horizon * dim` values, [`Error::Argument`] for a `dim` of 0.
    pub fn forward<T: Float>(
        &self,
        chunk: &[T],
        dim: usize,
        scratch: &mut Vec<T>,
        out: &mut [T],
    ) -> Result<()> {
        self.transform(Direction::Forward, chunk, dim, scratch, out)
    }

    /// Writes the chunk of these coefficients to `out`.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn inverse<T: Float>(
        &self,
        coefficients: &[T],
        dim: usize,
        scratch: &mut Vec<T>,
        out: &mut [T],
    ) -> Result<()> {
        self.transform(Direction::Inverse, coefficients, dim, scratch, out)
    }

    fn transform<T: Float>(
        &self,
        direction: Direction,
        from: &[T],
        dim: usize,
        scratch: &mut Vec<T>,
        to: &mut [T],
    ) -> Result<()> {
        if dim == 0 {
            return Err(Error::Argument { what: "dim", why: "expected at least 1, got 0".to_owned() });
        }
        let expected = self.horizon.saturating_mul(dim);
        for (what, got) in [("chunk", from.len()), ("out", to.len())] {
            if got != expected {
                return Err(Error::Shape { what, expected, got });
            }
        }
        T::TRANSFORM(T::tables(self), direction, from, dim, scratch, to);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
