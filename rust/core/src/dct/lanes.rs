//! A few columns side by side: every operation is the same scalar one on each, so vector registers change no bit.

use std::array::from_fn;
use std::ops::{Add, Mul, Neg, Sub};

use super::Float;

/// One value of each of `W` columns.
pub(super) trait Lanes<T, const W: usize>:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<T, Output = Self> + Neg<Output = Self>
{
    fn load(row: [T; W]) -> Self;
    fn store(self) -> [T; W];
}

/// Lanes for any machine, which the compiler puts into whatever registers it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain<T, const W: usize>([T; W]);

impl<T: Float, const W: usize> Lanes<T, W> for Plain<T, W> {
    #[inline(always)]
    fn load(row: [T; W]) -> Self {
        Self(row)
    }

    #[inline(always)]
    fn store(self) -> [T; W] {
        self.0
    }
}

impl<T: Float, const W: usize> Add for Plain<T, W> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] + other.0[i]))
    }
}

impl<T: Float, const W: usize> Sub for Plain<T, W> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] - other.0[i]))
    }
}

impl<T: Float, const W: usize> Mul<T> for Plain<T, W> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, factor: T) -> Self {
        Self(from_fn(|i| self.0[i] * factor))
    }
}

impl<T: Float, const W: usize> Neg for Plain<T, W> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(from_fn(|i| T::default() - self.0[i]))
    }
}
