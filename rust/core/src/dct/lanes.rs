//! A few columns side by side: every operation is the same scalar one on each, so vector registers change no bit.

use std::array::from_fn;
use std::ops::{Add, Mul, Neg, Sub};

use super::Float;

/// Columns at a time.
pub(super) const LANES: usize = 8;

/// One value of each of [`LANES`] columns, as it lies in memory.
pub(super) type Row<T> = [T; LANES];

/// The same while it is computed with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lanes<T>(pub(super) Row<T>);

impl<T: Float> Add for Lanes<T> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] + other.0[i]))
    }
}

impl<T: Float> Sub for Lanes<T> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] - other.0[i]))
    }
}

impl<T: Float> Mul<T> for Lanes<T> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, factor: T) -> Self {
        Self(from_fn(|i| self.0[i] * factor))
    }
}

impl<T: Float> Neg for Lanes<T> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(from_fn(|i| T::default() - self.0[i]))
    }
}
