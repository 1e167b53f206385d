//! The pass for a factor that has none of its own: 7, 11, 13 and other primes, in quadratic time in the factor.

use super::Float;
use super::lanes::{Lanes, Row};
use super::radix::Pass;

impl<T: Float> Pass<T> {
    /// The sum over the branches with their cosines (or sines), four, then two, then one at a time: the grouping is the
    /// rounding.
    fn weighted(&self, l: usize, branch: impl Fn(usize) -> Lanes<T>, sine: bool) -> Lanes<T> {
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

    pub(super) fn synthesise_any(&self, src: &mut [Row<T>], dst: &mut [Row<T>]) {
        let (n, radix, half) = (self.inner, self.radix, self.radix.div_ceil(2));
        let two = T::from_f64(2.0);
        for k in 0..self.groups {
            for a in 0..n {
                dst[self.apart(a, k, 0)] = src[self.together(a, 0, k)];
            }
            for j in 1..half {
                dst[self.apart(0, k, j)] = (Lanes(src[self.together(n - 1, 2 * j - 1, k)]) * two).0;
                dst[self.apart(0, k, radix - j)] = (Lanes(src[self.together(0, 2 * j, k)]) * two).0;
                for i in (1..n.saturating_sub(1)).step_by(2) {
                    let c = n - i - 2;
                    let get = |a, b| Lanes(src[self.together(a, b, k)]);
                    let (a_re, b_re) = (get(i, 2 * j), get(c, 2 * j - 1));
                    let (a_im, b_im) = (get(i + 1, 2 * j), get(c + 1, 2 * j - 1));
                    dst[self.apart(i, k, j)] = (a_re + b_re).0;
                    dst[self.apart(i, k, radix - j)] = (a_re - b_re).0;
                    dst[self.apart(i + 1, k, j)] = (a_im - b_im).0;
                    dst[self.apart(i + 1, k, radix - j)] = (a_im + b_im).0;
                }
            }
        }
        let span = n * self.groups;
        for l in 1..half {
            for at in 0..span {
                src[at + span * l] = self.weighted(l, |j| Lanes(dst[at + span * j]), false).0;
                src[at + span * (radix - l)] =
                    self.weighted(l, |j| Lanes(dst[at + span * ((radix - j) % radix)]), true).0;
            }
        }
        for j in 1..half {
            for at in 0..span {
                dst[at] = (Lanes(dst[at]) + Lanes(dst[at + span * j])).0;
            }
        }
        for j in 1..half {
            for k in 0..self.groups {
                let get = |a, b| Lanes(src[self.apart(a, k, b)]);
                let (near, far) = (get(0, j), get(0, radix - j));
                dst[self.apart(0, k, radix - j)] = (near + far).0;
                dst[self.apart(0, k, j)] = (near - far).0;
                for i in (1..n.saturating_sub(1)).step_by(2) {
                    let (near_re, near_im) = (get(i, j), get(i + 1, j));
                    let (far_re, far_im) = (get(i, radix - j), get(i + 1, radix - j));
                    dst[self.apart(i, k, j)] = (near_re - far_im).0;
                    dst[self.apart(i, k, radix - j)] = (near_re + far_im).0;
                    dst[self.apart(i + 1, k, j)] = (near_im + far_re).0;
                    dst[self.apart(i + 1, k, radix - j)] = (near_im - far_re).0;
                }
            }
        }
        for j in 1..radix {
            for k in 0..self.groups {
                for i in (2..n).step_by(2) {
                    let (at_re, at_im) = (self.apart(i - 1, k, j), self.apart(i, k, j));
                    let (w, re, im) = (self.twiddle(j, i), Lanes(dst[at_re]), Lanes(dst[at_im]));
                    dst[at_re] = (re * w.0 - im * w.1).0;
                    dst[at_im] = (im * w.0 + re * w.1).0;
                }
            }
        }
    }

    pub(super) fn analyse_any(&self, src: &mut [Row<T>], dst: &mut [Row<T>]) {
        let (n, radix, half) = (self.inner, self.radix, self.radix.div_ceil(2));
        for j in 1..half {
            let mirror = radix - j;
            for k in 0..self.groups {
                for i in (2..n).step_by(2) {
                    let get = |a, b| Lanes(src[self.apart(a, k, b)]);
                    let rotated = |b: usize| {
                        let (w, re, im) = (self.twiddle(b, i), get(i - 1, b), get(i, b));
                        (re * w.0 + im * w.1, im * w.0 - re * w.1)
                    };
                    let ((a_re, a_im), (b_re, b_im)) = (rotated(j), rotated(mirror));
                    src[self.apart(i - 1, k, j)] = (b_re + a_re).0;
                    src[self.apart(i, k, mirror)] = (b_re - a_re).0;
                    src[self.apart(i, k, j)] = (a_im + b_im).0;
                    src[self.apart(i - 1, k, mirror)] = (a_im - b_im).0;
                }
                let (a, b) = (Lanes(src[self.apart(0, k, j)]), Lanes(src[self.apart(0, k, mirror)]));
                src[self.apart(0, k, mirror)] = (b - a).0;
                src[self.apart(0, k, j)] = (b + a).0;
            }
        }
        let span = n * self.groups;
        for l in 1..half {
            for at in 0..span {
                dst[at + span * l] = self.weighted(l, |j| Lanes(src[at + span * j]), false).0;
                dst[at + span * (radix - l)] =
                    self.weighted(l, |j| Lanes(src[at + span * ((radix - j) % radix)]), true).0;
            }
        }
        for at in 0..span {
            let mut sum = Lanes(src[at]);
            for j in 1..half {
                sum = sum + Lanes(src[at + span * j]);
            }
            dst[at] = sum.0;
        }
        for k in 0..self.groups {
            for a in 0..n {
                src[self.together(a, 0, k)] = dst[self.apart(a, k, 0)];
            }
        }
        for j in 1..half {
            for k in 0..self.groups {
                let get = |a, b| Lanes(dst[self.apart(a, k, b)]);
                src[self.together(n - 1, 2 * j - 1, k)] = get(0, j).0;
                src[self.together(0, 2 * j, k)] = get(0, radix - j).0;
                for i in (1..n.saturating_sub(1)).step_by(2) {
                    let c = n - i - 2;
                    let (a_re, a_im) = (get(i, j), get(i + 1, j));
                    let (b_re, b_im) = (get(i, radix - j), get(i + 1, radix - j));
                    src[self.together(i, 2 * j, k)] = (a_re + b_re).0;
                    src[self.together(c, 2 * j - 1, k)] = (a_re - b_re).0;
                    src[self.together(i + 1, 2 * j, k)] = (a_im + b_im).0;
                    src[self.together(c + 1, 2 * j - 1, k)] = (b_im - a_im).0;
                }
            }
        }
        dst.copy_from_slice(src);
    }
}
