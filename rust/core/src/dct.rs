//! The orthonormal DCT-II along time and its inverse (DCT-III), planned once a horizon, bit for bit as scipy gives them.
//!
//! Coefficients are rounded to integers next, and a gripper's zeros and ones put many of them exactly half way: there the
//! last bit decides a token. So this follows the operation order that scipy 1.17 and earlier have (Makhoul's DCT by a
//! real FFT of the same length, FFTPACK's factors 4, 2, 3, 5 and a general one), with its constants rounded as there.
//! No operation is fused. Lengths with a prime factor above about 190 go through Bluestein's algorithm there and not
//! here; those agree to rounding only.

mod lanes;
mod radix;
mod radix_any;
mod roots;

use std::f64::consts::SQRT_2;
use std::fmt;

use crate::{Error, Result};
use lanes::{LANES, Lanes, Row};
use radix::Pass;
use roots::Roots;

mod sealed {
    use super::{Room, Rooms, Tables};

    pub trait Sealed: Sized {
        fn tables(dct: &super::Dct) -> &Tables<Self>;
        fn room(rooms: &mut Rooms) -> &mut Room<Self>;
    }

    impl Sealed for f32 {
        fn tables(dct: &super::Dct) -> &Tables<Self> {
            &dct.single
        }

        fn room(rooms: &mut Rooms) -> &mut Room<Self> {
            &mut rooms.single
        }
    }

    impl Sealed for f64 {
        fn tables(dct: &super::Dct) -> &Tables<Self> {
            &dct.double
        }

        fn room(rooms: &mut Rooms) -> &mut Room<Self> {
            &mut rooms.double
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

/// Room to work in, in either precision.
#[derive(Debug, Default)]
pub struct Rooms {
    single: Room<f32>,
    double: Room<f64>,
}

/// Room for one chunk.
#[derive(Debug, Default)]
pub struct Room<T> {
    /// The chunk, then its coefficients.
    pub(crate) values: Vec<T>,
    /// What the transform needs.
    pub(crate) scratch: Vec<T>,
}

/// The room in this precision.
pub(crate) fn room<T: Float>(rooms: &mut Rooms) -> &mut Room<T> {
    T::room(rooms)
}

/// Constants and passes in one precision.
#[derive(Debug, Clone)]
pub struct Tables<T> {
    /// `cos(pi k / 2N)` for k from 1.
    quarter: Vec<T>,
    passes: Vec<Pass<T>>,
    /// `1 / sqrt(2N)`.
    norm: T,
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

    /// Replaces a row-major chunk `[H, D]` by its coefficients `[H, D]`, lowest frequency first.
    ///
    /// # Errors
    /// [`Error::Shape`] when the chunk is not `horizon * dim` values, [`Error::Argument`] for a `dim` of 0.
    pub fn forward<T: Float>(&self, chunk: &mut [T], dim: usize, scratch: &mut Vec<T>) -> Result<()> {
        self.by_lanes(chunk, dim, scratch, |tables, values, other| tables.forward(values, other))
    }

    /// Replaces coefficients `[H, D]` by the chunk they are of.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn inverse<T: Float>(&self, chunk: &mut [T], dim: usize, scratch: &mut Vec<T>) -> Result<()> {
        self.by_lanes(chunk, dim, scratch, |tables, values, other| tables.inverse(values, other))
    }

    /// Columns are independent: takes them a few at a time, side by side in vector registers.
    fn by_lanes<T: Float>(
        &self,
        chunk: &mut [T],
        dim: usize,
        scratch: &mut Vec<T>,
        transform: impl Fn(&Tables<T>, &mut [Row<T>], &mut [Row<T>]),
    ) -> Result<()> {
        if dim == 0 {
            return Err(Error::Argument { what: "dim", why: "expected at least 1, got 0".to_owned() });
        }
        let expected = self.horizon.saturating_mul(dim);
        if chunk.len() != expected {
            return Err(Error::Shape { what: "chunk", expected, got: chunk.len() });
        }
        scratch.clear();
        scratch.resize(2 * self.horizon * LANES, T::default());
        let (values, other) = scratch.as_chunks_mut().0.split_at_mut(self.horizon);
        let tables = T::tables(self);
        for first in (0..dim).step_by(LANES) {
            let width = LANES.min(dim - first);
            for (row, lanes) in chunk.chunks_exact(dim).zip(values.iter_mut()) {
                copy(&row[first..first + width], lanes);
            }
            transform(tables, values, other);
            for (row, lanes) in chunk.chunks_exact_mut(dim).zip(values.iter()) {
                copy(lanes, &mut row[first..first + width]);
            }
        }
        Ok(())
    }
}

/// Copies what both have room for. All lanes are a few vector moves, a part of them is a loop; a library call for each
/// would take as long as the transform of a short chunk.
#[inline(always)]
fn copy<T: Float>(from: &[T], to: &mut [T]) {
    match (from.first_chunk::<LANES>(), to.first_chunk_mut::<LANES>()) {
        (Some(from), Some(to)) => *to = *from,
        _ => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
    }
}

impl<T: Float> Tables<T> {
    fn new(horizon: usize, full: &Roots, quarter: &Roots, norm: T) -> Self {
        Self {
            quarter: (1..horizon).map(|k| T::from_f64(quarter.at(k).0)).collect(),
            passes: radix::plan(horizon, full),
            norm,
        }
    }

    /// DCT-II: odd and even parts folded, a real inverse FFT, then a rotation by a quarter of the angle.
    fn forward(&self, c: &mut [Row<T>], other: &mut [Row<T>]) {
        let n = c.len();
        let (half, two) = (T::from_f64(0.5), T::from_f64(2.0));
        c[0] = (Lanes(c[0]) * two).0;
        if n.is_multiple_of(2) {
            c[n - 1] = (Lanes(c[n - 1]) * two).0;
        }
        for k in (1..n.saturating_sub(1)).step_by(2) {
            let (a, b) = (Lanes(c[k]), Lanes(c[k + 1]));
            (c[k], c[k + 1]) = ((b + a).0, (b - a).0);
        }
        self.run(c, other, self.passes.iter(), Pass::synthesise);
        for k in 1..n.div_ceil(2) {
            let (low, high) = (self.quarter[k - 1], self.quarter[n - k - 1]);
            let (a, b) = (Lanes(c[k]), Lanes(c[n - k]));
            let (sum, difference) = (b * low + a * high, a * low - b * high);
            (c[k], c[n - k]) = (((sum + difference) * half).0, ((sum - difference) * half).0);
        }
        if n.is_multiple_of(2) {
            c[n / 2] = (Lanes(c[n / 2]) * self.quarter[n / 2 - 1]).0;
        }
        c[0] = (Lanes(c[0]) * (T::from_f64(SQRT_2) * half)).0;
    }

    /// DCT-III: the same steps backwards.
    fn inverse(&self, c: &mut [Row<T>], other: &mut [Row<T>]) {
        let n = c.len();
        c[0] = (Lanes(c[0]) * T::from_f64(SQRT_2)).0;
        for k in 1..n.div_ceil(2) {
            let (low, high) = (self.quarter[k - 1], self.quarter[n - k - 1]);
            let (a, b) = (Lanes(c[k]), Lanes(c[n - k]));
            let (sum, difference) = (a + b, a - b);
            (c[k], c[n - k]) = ((difference * low + sum * high).0, (sum * low - difference * high).0);
        }
        if n.is_multiple_of(2) {
            c[n / 2] = (Lanes(c[n / 2]) * (T::from_f64(2.0) * self.quarter[n / 2 - 1])).0;
        }
        self.run(c, other, self.passes.iter().rev(), Pass::analyse);
        for k in (1..n.saturating_sub(1)).step_by(2) {
            let (a, b) = (Lanes(c[k]), Lanes(c[k + 1]));
            (c[k], c[k + 1]) = ((a - b).0, (a + b).0);
        }
    }

    /// The passes of a real FFT, each from one buffer to the other, then the norm. The result ends in `c`.
    fn run<'a>(
        &self,
        c: &mut [Row<T>],
        other: &mut [Row<T>],
        passes: impl Iterator<Item = &'a Pass<T>>,
        pass: impl Fn(&Pass<T>, &mut [Row<T>], &mut [Row<T>]),
    ) where
        T: 'a,
    {
        let mut in_other = false;
        for one in passes {
            if in_other {
                pass(one, other, c);
            } else {
                pass(one, c, other);
            }
            in_other = !in_other;
        }
        if in_other {
            c.copy_from_slice(other);
        }
        for value in c {
            *value = (Lanes(*value) * self.norm).0;
        }
    }
}

#[cfg(test)]
mod tests;
