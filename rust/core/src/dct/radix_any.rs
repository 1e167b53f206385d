//! The pass for a factor that has none of its own: 7, 11, 13 and other primes, in quadratic time in the factor.

use super::Float;
use super::lanes::Lanes;
use super::radix::Pass;

impl<T: Float> Pass<T> {
    /// The sum over the branches with their cosines (or sines), four, then two, then one at a time: the grouping is the
    /// rounding.
    #[inline(always)]
    fn weighted<V: Lanes<T, W>, const W: usize>(
        &self,
        l: usize,
        branch: impl Fn(usize) -> V,
        sine: bool,
    ) -> V {
        let (radix, half) = (self.radix, self.radix.div_ceil(2));
        let weight = |j: usize| {
            let root = self.roots[l * j % radix];
            if sine { root.1 } else { root.0 }
        };
        let pair = branch(1) * weight(1) + branch(2) * weight(2);
        let mut sum = if sine { pair } else { branch(0) + branch(1) * weight(1) + branch(2) * weight(2) };
        let mut j = 3;
        while j + 3 < half {
            let four = branch(j) * weight(j)
                + branch(j + 1) * weight(j + 1)
                + branch(j + 2) * weight(j + 2)
                + branch(j + 3) * weight(j + 3);
            sum = sum + four;
            j += 4;
        }
        while j + 1 < half {
            sum = sum + (branch(j) * weight(j) + branch(j + 1) * weight(j + 1));
            j += 2;
        }
        if j < half {
            sum = sum + branch(j) * weight(j);
        }
        sum
    }

    #[inline(always)]
    pub(super) fn synthesise_any<V: Lanes<T, W>, const W: usize>(
        &self,
        src: &mut [[T; W]],
        dst: &mut [[T; W]],
    ) {
        let (n, radix, half) = (self.inner, self.radix, self.radix.div_ceil(2));
        let two = T::from_f64(2.0);
        for k in 0..self.groups {
            for a in 0..n {
                dst[self.apart(a, k, 0)] = src[self.together(a, 0, k)];
            }
            for j in 1..half {
                dst[self.apart(0, k, j)] = (V::load(src[self.together(n - 1, 2 * j - 1, k)]) * two).store();
                dst[self.apart(0, k, radix - j)] = (V::load(src[self.together(0, 2 * j, k)]) * two).store();
                for i in (1..n.saturating_sub(1)).step_by(2) {
                    let c = n - i - 2;
                    let get = |a, b| V::load(src[self.together(a, b, k)]);
                    let (a_re, b_re) = (get(i, 2 * j), get(c, 2 * j - 1));
                    let (a_im, b_im) = (get(i + 1, 2 * j), get(c + 1, 2 * j - 1));
                    dst[self.apart(i, k, j)] = (a_re + b_re).store();
                    dst[self.apart(i, k, radix - j)] = (a_re - b_re).store();
                    dst[self.apart(i + 1, k, j)] = (a_im - b_im).store();
                    dst[self.apart(i + 1, k, radix - j)] = (a_im + b_im).store();
                }
            }
        }
        let span = n * self.groups;
        for l in 1..half {
            for at in 0..span {
                src[at + span * l] = self.weighted::<V, W>(l, |j| V::load(dst[at + span * j]), false).store();
                src[at + span * (radix - l)] = self
                    .weighted::<V, W>(l, |j| V::load(dst[at + span * ((radix - j) % radix)]), true)
                    .store();
            }
        }
        for j in 1..half {
            for at in 0..span {
                dst[at] = (V::load(dst[at]) + V::load(dst[at + span * j])).store();
            }
        }
        for j in 1..half {
            for k in 0..self.groups {
                let get = |a, b| V::load(src[self.apart(a, k, b)]);
                let (near, far) = (get(0, j), get(0, radix - j));
                dst[self.apart(0, k, radix - j)] = (near + far).store();
                dst[self.apart(0, k, j)] = (near - far).store();
                for i in (1..n.saturating_sub(1)).step_by(2) {
                    let (near_re, near_im) = (get(i, j), get(i + 1, j));
                    let (far_re, far_im) = (get(i, radix - j), get(i + 1, radix - j));
                    dst[self.apart(i, k, j)] = (near_re - far_im).store();
                    dst[self.apart(i, k, radix - j)] = (near_re + far_im).store();
                    dst[self.apart(i + 1, k, j)] = (near_im + far_re).store();
                    dst[self.apart(i + 1, k, radix - j)] = (near_im - far_re).store();
                }
            }
        }
        for j in 1..radix {
            for k in 0..self.groups {
                for i in (2..n).step_by(2) {
                    let (at_re, at_im) = (self.apart(i - 1, k, j), self.apart(i, k, j));
                    let (w, re, im) = (self.twiddle(j, i), V::load(dst[at_re]), V::load(dst[at_im]));
                    dst[at_re] = (re * w.0 - im * w.1).store();
                    dst[at_im] = (im * w.0 + re * w.1).store();
                }
            }
        }
    }

    #[inline(always)]
    pub(super) fn analyse_any<V: Lanes<T, W>, const W: usize>(&self, src: &mut [[T; W]], dst: &mut [[T; W]]) {
        let (n, radix, half) = (self.inner, self.radix, self.radix.div_ceil(2));
        for j in 1..half {
            let mirror = radix - j;
            for k in 0..self.groups {
                for i in (2..n).step_by(2) {
                    let get = |a, b| V::load(src[self.apart(a, k, b)]);
                    let rotated = |b: usize| {
                        let (w, re, im) = (self.twiddle(b, i), get(i - 1, b), get(i, b));
                        (re * w.0 + im * w.1, im * w.0 - re * w.1)
                    };
                    let ((a_re, a_im), (b_re, b_im)) = (rotated(j), rotated(mirror));
                    src[self.apart(i - 1, k, j)] = (b_re + a_re).store();
                    src[self.apart(i, k, mirror)] = (b_re - a_re).store();
                    src[self.apart(i, k, j)] = (a_im + b_im).store();
                    src[self.apart(i - 1, k, mirror)] = (a_im - b_im).store();
                }
                let (a, b) = (V::load(src[self.apart(0, k, j)]), V::load(src[self.apart(0, k, mirror)]));
                src[self.apart(0, k, mirror)] = (b - a).store();
                src[self.apart(0, k, j)] = (b + a).store();
            }
        }
        let span = n * self.groups;
        for l in 1..half {
            for at in 0..span {
                dst[at + span * l] = self.weighted::<V, W>(l, |j| V::load(src[at + span * j]), false).store();
                dst[at + span * (radix - l)] = self
                    .weighted::<V, W>(l, |j| V::load(src[at + span * ((radix - j) % radix)]), true)
                    .store();
            }
        }
        for at in 0..span {
            let mut sum = V::load(src[at]);
            for j in 1..half {
                sum = sum + V::load(src[at + span * j]);
            }
            dst[at] = sum.store();
        }
        for k in 0..self.groups {
            for a in 0..n {
                src[self.together(a, 0, k)] = dst[self.apart(a, k, 0)];
            }
        }
        for j in 1..half {
            for k in 0..self.groups {
                let get = |a, b| V::load(dst[self.apart(a, k, b)]);
                src[self.together(n - 1, 2 * j - 1, k)] = get(0, j).store();
                src[self.together(0, 2 * j, k)] = get(0, radix - j).store();
                for i in (1..n.saturating_sub(1)).step_by(2) {
                    let c = n - i - 2;
                    let (a_re, a_im) = (get(i, j), get(i + 1, j));
                    let (b_re, b_im) = (get(i, radix - j), get(i + 1, radix - j));
                    src[self.together(i, 2 * j, k)] = (a_re + b_re).store();
                    src[self.together(c, 2 * j - 1, k)] = (a_re - b_re).store();
                    src[self.together(i + 1, 2 * j, k)] = (a_im + b_im).store();
                    src[self.together(c + 1, 2 * j - 1, k)] = (b_im - a_im).store();
                }
            }
        }
        dst.copy_from_slice(src);
    }
}
