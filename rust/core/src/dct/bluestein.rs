//! Real FFTs of lengths with a large prime factor, where a pass of its own would take quadratic time: Bluestein's
//! algorithm turns the transform into a convolution, and that runs on passes of a length that factors well.
//!
//! It runs with whatever registers any machine has: inlined into every set of instructions, as the passes are, it would
//! take longer to compile than it saves.

use super::Float;
use super::lanes::{Lanes, Plain};
use super::radix::{self, Pass, factors};
use super::roots::Roots;

/// The plan of one length.
#[derive(Debug, Clone)]
pub(super) struct Bluestein<T> {
    /// `exp(-i pi t^2 / n)` for each t.
    chirp: Vec<(T, T)>,
    /// The spectrum of the conjugate chirp, repeated backwards: both parts are real and even, divided by the length. At
    /// each index of the half-complex order.
    spectrum: Vec<(T, T)>,
    passes: Vec<Pass<T>>,
}

impl<T: Float> Bluestein<T> {
    /// The plan, or `None` where passes for the length's own factors are cheaper: scipy's rule.
    pub(super) fn plan(length: usize) -> Option<Self> {
        let largest = factors(length).into_iter().max().unwrap_or(1);
        if length < 50 || largest * largest <= length {
            return None;
        }
        let size = good_size(2 * length - 1);
        if 2.0 * 1.5 * cost(size) >= 0.5 * cost(length) {
            return None;
        }
        let roots = Roots::new(2 * length);
        let chirp = |t: usize| {
            let (re, im) = roots.at(t * t % (2 * length));
            (re, -im)
        };
        let passes = radix::plan(size, &Roots::new(size));
        let mut repeated = vec![[0.0; 4]; size];
        for t in 0..length {
            let (re, im) = chirp(t);
            repeated[t] = [re, -im, 0.0, 0.0];
            repeated[(size - t) % size] = [re, -im, 0.0, 0.0];
        }
        // In double precision whatever the plan's own, real and imaginary parts side by side.
        let mut spare = repeated.clone();
        let double = radix::plan(size, &Roots::new(size));
        analyse::<f64, 4>(&double, &mut repeated, &mut spare);
        let part = |x: f64| T::from_f64(x / size as f64);
        // Slots 2k - 1 and 2k hold what belongs to frequency k; its imaginary part is zero.
        let spectrum = (0..size).map(|at| repeated[(at + at % 2).saturating_sub(1)]);
        Some(Self {
            chirp: (0..length).map(|t| (T::from_f64(chirp(t).0), T::from_f64(chirp(t).1))).collect(),
            spectrum: spectrum.map(|[re, im, ..]| (part(re), part(im))).collect(),
            passes,
        })
    }

    /// Rows that [`Self::synthesise`] and [`Self::analyse`] need to work in.
    pub(super) fn rows(&self) -> usize {
        3 * self.spectrum.len()
    }

    /// From half-complex to real, in place.
    #[inline(never)]
    pub(super) fn synthesise<const W: usize>(&self, row: &mut [[T; W]], room: &mut [[T; W]]) {
        let n = row.len();
        let (re, im, spare) = self.cleared(room);
        // The conjugate spectrum of a real row has that row as its transform.
        re[0] = row[0];
        for k in 1..n.div_ceil(2) {
            (re[k], re[n - k]) = (row[2 * k - 1], row[2 * k - 1]);
            (im[k], im[n - k]) = ((-Plain::load(row[2 * k])).store(), row[2 * k]);
        }
        if n.is_multiple_of(2) {
            re[n / 2] = row[n - 1];
        }
        self.transform::<W>(n, re, im, spare);
        row.copy_from_slice(&re[..n]);
    }

    /// From real to half-complex, in place.
    #[inline(never)]
    pub(super) fn analyse<const W: usize>(&self, row: &mut [[T; W]], room: &mut [[T; W]]) {
        let n = row.len();
        let (re, im, spare) = self.cleared(room);
        re[..n].copy_from_slice(row);
        self.transform::<W>(n, re, im, spare);
        row[0] = re[0];
        for k in 1..n.div_ceil(2) {
            (row[2 * k - 1], row[2 * k]) = (re[k], im[k]);
        }
        if n.is_multiple_of(2) {
            row[n - 1] = re[n / 2];
        }
    }

    /// The complex transform of the first `n` values.
    #[inline(never)]
    fn transform<const W: usize>(
        &self,
        n: usize,
        re: &mut [[T; W]],
        im: &mut [[T; W]],
        spare: &mut [[T; W]],
    ) {
        self.turn::<W>(n, re, im);
        analyse::<T, W>(&self.passes, re, spare);
        analyse::<T, W>(&self.passes, im, spare);
        for ((re, im), &by) in re.iter_mut().zip(&mut *im).zip(&self.spectrum) {
            let (x, y) = (Plain::load(*re), Plain::load(*im));
            (*re, *im) = ((x * by.0 - y * by.1).store(), (x * by.1 + y * by.0).store());
        }
        synthesise::<T, W>(&self.passes, re, spare);
        synthesise::<T, W>(&self.passes, im, spare);
        self.turn::<W>(n, re, im);
    }

    /// Multiplies by the chirp.
    #[inline(never)]
    fn turn<const W: usize>(&self, n: usize, re: &mut [[T; W]], im: &mut [[T; W]]) {
        for ((re, im), &by) in re[..n].iter_mut().zip(im).zip(&self.chirp) {
            let (x, y) = (Plain::load(*re), Plain::load(*im));
            (*re, *im) = ((x * by.0 - y * by.1).store(), (x * by.1 + y * by.0).store());
        }
    }

    #[inline(never)]
    fn cleared<'a, const W: usize>(&self, room: &'a mut [[T; W]]) -> Parts<'a, T, W> {
        let size = self.spectrum.len();
        let (re, rest) = room.split_at_mut(size);
        let (im, spare) = rest.split_at_mut(size);
        re.fill([T::default(); W]);
        im.fill([T::default(); W]);
        (re, im, &mut spare[..size])
    }
}

/// Real parts, imaginary parts, and room.
type Parts<'a, T, const W: usize> = (&'a mut [[T; W]], &'a mut [[T; W]], &'a mut [[T; W]]);

/// From real to half-complex, in place.
#[inline(never)]
fn analyse<T: Float, const W: usize>(passes: &[Pass<T>], row: &mut [[T; W]], spare: &mut [[T; W]]) {
    let (mut from, mut to) = (&mut *row, &mut *spare);
    for pass in passes.iter().rev() {
        pass.analyse::<Plain<T, W>, W>(from, to);
        (from, to) = (to, from);
    }
    if !passes.len().is_multiple_of(2) {
        row.copy_from_slice(spare);
    }
}

/// From half-complex to real, in place.
#[inline(never)]
fn synthesise<T: Float, const W: usize>(passes: &[Pass<T>], row: &mut [[T; W]], spare: &mut [[T; W]]) {
    let (mut from, mut to) = (&mut *row, &mut *spare);
    for pass in passes {
        pass.synthesise::<Plain<T, W>, W>(from, to);
        (from, to) = (to, from);
    }
    if !passes.len().is_multiple_of(2) {
        row.copy_from_slice(spare);
    }
}

/// Roughly what passes of this length cost.
fn cost(length: usize) -> f64 {
    let of = |factor: usize| if factor <= 5 { factor as f64 } else { 1.1 * factor as f64 };
    length as f64
        * factors(length)
            .into_iter()
            .flat_map(|f| if f == 4 { vec![2, 2] } else { vec![f] })
            .map(of)
            .sum::<f64>()
}

/// The smallest length from `least` on that is made of twos, threes and fives.
fn good_size(least: usize) -> usize {
    let mut best = least.next_power_of_two();
    let mut fives = 1;
    while fives < best {
        let mut odd = fives;
        while odd < best {
            best = best.min(odd * least.div_ceil(odd).next_power_of_two());
            odd *= 3;
        }
        fives *= 5;
    }
    best
}
