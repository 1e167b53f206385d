//! The DCT of a few columns at a time by a real FFT of the same length (Makhoul 1980): neighbouring time steps are folded
//! on the way in, and the spectrum is turned by a quarter of its angles on the way out. The inverse goes backwards.

use std::f64::consts::SQRT_2;

use super::bluestein::Bluestein;
use super::lanes::Lanes;
use super::radix::{self, Pass};
use super::roots::Roots;
use super::{Direction, Float, sized};

/// Constants and passes in one precision.
#[derive(Debug, Clone)]
pub struct Tables<T> {
    /// `cos(pi k / 2N)` for k from 1.
    quarter: Vec<T>,
    passes: Vec<Pass<T>>,
    /// What stands for the passes where they would be too slow.
    bluestein: Option<Bluestein<T>>,
    /// `1 / sqrt(2N)`.
    norm: T,
}

impl<T: Float> Tables<T> {
    pub(super) fn new(horizon: usize, full: &Roots, quarter: &Roots, norm: T) -> Self {
        let bluestein = Bluestein::plan(horizon);
        Self {
            quarter: (1..horizon).map(|k| T::from_f64(quarter.at(k).0)).collect(),
            passes: if bluestein.is_some() { Vec::new() } else { radix::plan(horizon, full) },
            bluestein,
            norm,
        }
    }

    /// Transforms `from` of shape `[H, dim]` into `to`, `W` columns at a time.
    ///
    /// This and all it calls is inlined into each of its callers, which differ in the instructions they may use.
    #[inline(always)]
    pub(super) fn transform<V: Lanes<T, W>, const W: usize>(
        &self,
        direction: Direction,
        from: &[T],
        dim: usize,
        scratch: &mut Vec<T>,
        to: &mut [T],
    ) {
        let horizon = self.quarter.len() + 1;
        let more = self.bluestein.as_ref().map_or(horizon, Bluestein::rows);
        let size = (2 * horizon + more) * W;
        // A row that begins where a register would is never in two lines of the cache.
        let buffer = sized(scratch, size + W);
        let start = buffer.as_ptr().align_offset(W * size_of::<T>()).min(W);
        let rows = buffer[start..start + size].as_chunks_mut().0;
        let (a, rest) = rows.split_at_mut(horizon);
        let (narrow, b) = rest.split_at_mut(horizon);
        if dim >= W {
            for first in (0..dim).step_by(W) {
                // The last columns overlap those before, which gives the same values twice.
                let first = first.min(dim - W);
                let (source, target) =
                    (Source { values: from, dim, first }, Target { values: to, stride: dim, first });
                self.columns::<V, W>(direction, source, target, a, b);
            }
            return;
        }
        let target = Target { values: narrow.as_flattened_mut(), stride: W, first: 0 };
        self.columns::<V, W>(direction, Source { values: from, dim, first: 0 }, target, a, b);
        for (row, at) in narrow.iter().zip((0..).step_by(dim)) {
            // What a row has beyond its columns is overwritten by the next.
            match to[at..].first_chunk_mut() {
                Some(to) => *to = *row,
                None => to[at..].iter_mut().zip(row).for_each(|(to, from)| *to = *from),
            }
        }
    }

    #[inline(always)]
    fn columns<V: Lanes<T, W>, const W: usize>(
        &self,
        direction: Direction,
        from: Source<'_, T>,
        to: Target<'_, T>,
        a: &mut [[T; W]],
        b: &mut [[T; W]],
    ) {
        match direction {
            Direction::Forward => self.forward::<V, W>(from, to, a, b),
            Direction::Inverse => self.inverse::<V, W>(from, to, a, b),
        }
    }

    /// DCT-II: odd and even parts folded, a real inverse FFT, then a rotation by a quarter of the angle.
    #[inline(always)]
    fn forward<V: Lanes<T, W>, const W: usize>(
        &self,
        from: Source<'_, T>,
        mut to: Target<'_, T>,
        a: &mut [[T; W]],
        b: &mut [[T; W]],
    ) {
        let n = a.len();
        let (half, two) = (T::from_f64(0.5), T::from_f64(2.0));
        let get = |t| -> V { from.get(t) };
        a[0] = (get(0) * two).store();
        for k in (1..n.saturating_sub(1)).step_by(2) {
            let (x, y) = (get(k), get(k + 1));
            (a[k], a[k + 1]) = ((y + x).store(), (y - x).store());
        }
        if n.is_multiple_of(2) {
            a[n - 1] = (get(n - 1) * two).store();
        }
        let c = self.run::<V, W>(a, b, self.passes.iter(), Direction::Forward);
        let get = |k: usize| V::load(c[k]) * self.norm;
        to.put(0, get(0) * (T::from_f64(SQRT_2) * half));
        for k in 1..n.div_ceil(2) {
            let (low, high) = (self.quarter[k - 1], self.quarter[n - k - 1]);
            let (x, y) = (get(k), get(n - k));
            let (sum, difference) = (y * low + x * high, x * low - y * high);
            to.put(k, (sum + difference) * half);
            to.put(n - k, (sum - difference) * half);
        }
        if n.is_multiple_of(2) {
            to.put(n / 2, get(n / 2) * self.quarter[n / 2 - 1]);
        }
    }

    /// DCT-III: the same steps backwards.
    #[inline(always)]
    fn inverse<V: Lanes<T, W>, const W: usize>(
        &self,
        from: Source<'_, T>,
        mut to: Target<'_, T>,
        a: &mut [[T; W]],
        b: &mut [[T; W]],
    ) {
        let n = a.len();
        let get = |t| -> V { from.get(t) };
        a[0] = (get(0) * T::from_f64(SQRT_2)).store();
        for k in 1..n.div_ceil(2) {
            let (low, high) = (self.quarter[k - 1], self.quarter[n - k - 1]);
            let (x, y) = (get(k), get(n - k));
            let (sum, difference) = (x + y, x - y);
            (a[k], a[n - k]) =
                ((difference * low + sum * high).store(), (sum * low - difference * high).store());
        }
        if n.is_multiple_of(2) {
            a[n / 2] = (get(n / 2) * (T::from_f64(2.0) * self.quarter[n / 2 - 1])).store();
        }
        let c = self.run::<V, W>(a, b, self.passes.iter().rev(), Direction::Inverse);
        let get = |k: usize| V::load(c[k]) * self.norm;
        to.put(0, get(0));
        for k in (1..n.saturating_sub(1)).step_by(2) {
            let (x, y) = (get(k), get(k + 1));
            to.put(k, x - y);
            to.put(k + 1, x + y);
        }
        if n.is_multiple_of(2) && n > 1 {
            to.put(n - 1, get(n - 1));
        }
    }

    /// A real FFT: passes, each from one buffer to the other. Returns the one that the result is in.
    #[inline(always)]
    fn run<'a, 'b, V: Lanes<T, W>, const W: usize>(
        &'a self,
        mut from: &'b mut [[T; W]],
        mut to: &'b mut [[T; W]],
        passes: impl Iterator<Item = &'a Pass<T>>,
        direction: Direction,
    ) -> &'b [[T; W]] {
        if let Some(bluestein) = &self.bluestein {
            match direction {
                Direction::Forward => bluestein.synthesise(from, to),
                Direction::Inverse => bluestein.analyse(from, to),
            }
            return from;
        }
        for one in passes {
            match direction {
                Direction::Forward => one.synthesise::<V, W>(from, to),
                Direction::Inverse => one.analyse::<V, W>(from, to),
            }
            (from, to) = (to, from);
        }
        from
    }
}

/// Some columns of a chunk to read.
struct Source<'a, T> {
    values: &'a [T],
    dim: usize,
    first: usize,
}

impl<T: Float> Source<'_, T> {
    /// The columns' values at time `t`. Lanes beyond the last column hold anything.
    #[inline(always)]
    fn get<V: Lanes<T, W>, const W: usize>(&self, t: usize) -> V {
        let rest = &self.values[t * self.dim + self.first..];
        V::load(match rest.first_chunk() {
            Some(whole) => *whole,
            None => {
                let mut row = [T::default(); W];
                row.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                row
            }
        })
    }
}

/// Some columns to write, in rows of `stride` values.
struct Target<'a, T> {
    values: &'a mut [T],
    stride: usize,
    first: usize,
}

impl<T: Float> Target<'_, T> {
    #[inline(always)]
    fn put<V: Lanes<T, W>, const W: usize>(&mut self, t: usize, value: V) {
        self.values[t * self.stride + self.first..][..W].copy_from_slice(&value.store());
    }
}
