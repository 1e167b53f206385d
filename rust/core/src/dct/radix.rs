//! One pass of a real FFT for each factor of the length, both ways, in the half-complex order of FFTPACK.

use super::Float;
use super::lanes::Lanes;
use super::roots::Roots;

/// One factor's share of the transform.
#[derive(Debug, Clone)]
pub(super) struct Pass<T> {
    pub(super) radix: usize,
    /// Transforms of the factors before, side by side.
    pub(super) groups: usize,
    /// Values that the factors after leave to each.
    pub(super) inner: usize,
    /// Rotations of input `j` (from 1), one for each pair of inner values: `[radix - 1][(inner - 1) / 2]`.
    twiddles: Vec<(T, T)>,
    /// The radix-th roots of one, for a factor without a pass of its own.
    pub(super) roots: Vec<(T, T)>,
}

/// The passes of a length: fours first, then the two, the threes, fives, and larger primes.
pub(super) fn plan<T: Float>(length: usize, roots: &Roots) -> Vec<Pass<T>> {
    let mut groups = 1;
    let at = |k: usize| {
        let (re, im) = roots.at(k % length);
        (T::from_f64(re), T::from_f64(im))
    };
    factors(length)
        .into_iter()
        .map(|radix| {
            let inner = length / (groups * radix);
            let pairs = (inner - 1) / 2;
            let pass = Pass {
                radix,
                groups,
                inner,
                twiddles: (1..radix)
                    .flat_map(|j| (1..=pairs).map(move |i| (j, i)))
                    .map(|(j, i)| at(j * groups * i))
                    .collect(),
                roots: if radix > 5 {
                    (0..radix).map(|k| at(k * (length / radix))).collect()
                } else {
                    Vec::new()
                },
            };
            groups *= radix;
            pass
        })
        .collect()
}

pub(super) fn factors(mut length: usize) -> Vec<usize> {
    let mut factors = Vec::new();
    while length.is_multiple_of(4) {
        factors.push(4);
        length /= 4;
    }
    if length.is_multiple_of(2) {
        factors.insert(0, 2);
        length /= 2;
    }
    let mut divisor = 3;
    while divisor * divisor <= length {
        while length.is_multiple_of(divisor) {
            factors.push(divisor);
            length /= divisor;
        }
        divisor += 2;
    }
    if length > 1 {
        factors.push(length);
    }
    factors
}

impl<T: Float> Pass<T> {
    /// From half-complex to real. `src` may be used as working memory.
    #[inline(always)]
    pub(super) fn synthesise<V: Lanes<T, W>, const W: usize>(&self, src: &mut [[T; W]], dst: &mut [[T; W]]) {
        match self.radix {
            2 => self.synthesise_2::<V, W>(src, dst),
            3 => self.synthesise_3::<V, W>(src, dst),
            4 => self.synthesise_4::<V, W>(src, dst),
            5 => self.synthesise_5::<V, W>(src, dst),
            _ => self.synthesise_any::<V, W>(src, dst),
        }
    }

    /// From real to half-complex. `src` may be used as working memory.
    #[inline(always)]
    pub(super) fn analyse<V: Lanes<T, W>, const W: usize>(&self, src: &mut [[T; W]], dst: &mut [[T; W]]) {
        match self.radix {
            2 => self.analyse_2::<V, W>(src, dst),
            3 => self.analyse_3::<V, W>(src, dst),
            4 => self.analyse_4::<V, W>(src, dst),
            5 => self.analyse_5::<V, W>(src, dst),
            _ => self.analyse_any::<V, W>(src, dst),
        }
    }

    /// Rotation of input `j` at inner index `i` (even, from 2).
    #[inline(always)]
    pub(super) fn twiddle(&self, j: usize, i: usize) -> (T, T) {
        self.twiddles[(j - 1) * ((self.inner - 1) / 2) + i / 2 - 1]
    }

    /// Index of (inner a, branch b, group k) where the branches of one group lie together.
    #[inline(always)]
    pub(super) fn together(&self, a: usize, b: usize, k: usize) -> usize {
        a + self.inner * (b + self.radix * k)
    }

    /// Index of (inner a, group k, branch b) where the groups of one branch lie together.
    #[inline(always)]
    pub(super) fn apart(&self, a: usize, k: usize, b: usize) -> usize {
        a + self.inner * (k + self.groups * b)
    }

    #[inline(always)]
    fn synthesise_2<V: Lanes<T, W>, const W: usize>(&self, src: &[[T; W]], dst: &mut [[T; W]]) {
        let n = self.inner;
        let get = |a, b, k| V::load(src[self.together(a, b, k)]);
        let mut put = |a, k, b, v: V| dst[self.apart(a, k, b)] = v.store();
        let two = T::from_f64(2.0);
        for k in 0..self.groups {
            let (a, b) = (get(0, 0, k), get(n - 1, 1, k));
            put(0, k, 0, a + b);
            put(0, k, 1, a - b);
            if n.is_multiple_of(2) {
                put(n - 1, k, 0, get(n - 1, 0, k) * two);
                put(n - 1, k, 1, -(get(0, 1, k) * two));
            }
            for i in (2..n).step_by(2) {
                let (a_re, a_im) = (get(i - 1, 0, k), get(i, 0, k));
                let (b_re, b_im) = (get(n - i - 1, 1, k), get(n - i, 1, k));
                put(i - 1, k, 0, a_re + b_re);
                put(i, k, 0, a_im - b_im);
                let (re, im) = turn(self.twiddle(1, i), a_re - b_re, a_im + b_im);
                put(i - 1, k, 1, re);
                put(i, k, 1, im);
            }
        }
    }

    #[inline(always)]
    fn analyse_2<V: Lanes<T, W>, const W: usize>(&self, src: &[[T; W]], dst: &mut [[T; W]]) {
        let n = self.inner;
        let get = |a, k, b| V::load(src[self.apart(a, k, b)]);
        let mut put = |a, b, k, v: V| dst[self.together(a, b, k)] = v.store();
        for k in 0..self.groups {
            let (a, b) = (get(0, k, 0), get(0, k, 1));
            put(0, 0, k, a + b);
            put(n - 1, 1, k, a - b);
            if n.is_multiple_of(2) {
                put(0, 1, k, -get(n - 1, k, 1));
                put(n - 1, 0, k, get(n - 1, k, 0));
            }
            for i in (2..n).step_by(2) {
                let (re, im) = turn_back(self.twiddle(1, i), get(i - 1, k, 1), get(i, k, 1));
                let (a_re, a_im) = (get(i - 1, k, 0), get(i, k, 0));
                put(i - 1, 0, k, a_re + re);
                put(n - i - 1, 1, k, a_re - re);
                put(i, 0, k, im + a_im);
                put(n - i, 1, k, im - a_im);
            }
        }
    }

    #[inline(always)]
    fn synthesise_3<V: Lanes<T, W>, const W: usize>(&self, src: &[[T; W]], dst: &mut [[T; W]]) {
        let n = self.inner;
        let get = |a, b, k| V::load(src[self.together(a, b, k)]);
        let mut put = |a, k, b, v: V| dst[self.apart(a, k, b)] = v.store();
        let (cos, sin, two) = (T::from_f64(-0.5), T::from_f64(SIN_3), T::from_f64(2.0));
        for k in 0..self.groups {
            let (a, b) = (get(0, 0, k), get(n - 1, 1, k) * two);
            let (near, far) = (a + b * cos, get(0, 2, k) * (two * sin));
            put(0, k, 0, a + b);
            put(0, k, 2, near + far);
            put(0, k, 1, near - far);
            for i in (2..n).step_by(2) {
                let (a_re, a_im) = (get(i - 1, 0, k), get(i, 0, k));
                let (b_re, b_im) = (get(i - 1, 2, k), get(i, 2, k));
                let (c_re, c_im) = (get(n - i - 1, 1, k), get(n - i, 1, k));
                let (sum_re, sum_im) = (b_re + c_re, b_im - c_im);
                put(i - 1, k, 0, a_re + sum_re);
                put(i, k, 0, a_im + sum_im);
                let (near_re, near_im) = (a_re + sum_re * cos, a_im + sum_im * cos);
                let (far_re, far_im) = ((b_re - c_re) * sin, (b_im + c_im) * sin);
                let (re, im) = turn(self.twiddle(1, i), near_re - far_im, near_im + far_re);
                put(i - 1, k, 1, re);
                put(i, k, 1, im);
                let (re, im) = turn(self.twiddle(2, i), near_re + far_im, near_im - far_re);
                put(i - 1, k, 2, re);
                put(i, k, 2, im);
            }
        }
    }

    #[inline(always)]
    fn analyse_3<V: Lanes<T, W>, const W: usize>(&self, src: &[[T; W]], dst: &mut [[T; W]]) {
        let n = self.inner;
        let get = |a, k, b| V::load(src[self.apart(a, k, b)]);
        let mut put = |a, b, k, v: V| dst[self.together(a, b, k)] = v.store();
        let (cos, sin) = (T::from_f64(-0.5), T::from_f64(SIN_3));
        for k in 0..self.groups {
            let (a, b, c) = (get(0, k, 0), get(0, k, 1), get(0, k, 2));
            let sum = b + c;
            put(0, 0, k, a + sum);
            put(0, 2, k, (c - b) * sin);
            put(n - 1, 1, k, a + sum * cos);
            for i in (2..n).step_by(2) {
                let (a_re, a_im) = (get(i - 1, k, 0), get(i, k, 0));
                let (b_re, b_im) = turn_back(self.twiddle(1, i), get(i - 1, k, 1), get(i, k, 1));
                let (c_re, c_im) = turn_back(self.twiddle(2, i), get(i - 1, k, 2), get(i, k, 2));
                let (sum_re, sum_im) = (b_re + c_re, b_im + c_im);
                put(i - 1, 0, k, a_re + sum_re);
                put(i, 0, k, a_im + sum_im);
                let (near_re, near_im) = (a_re + sum_re * cos, a_im + sum_im * cos);
                let (far_re, far_im) = ((b_im - c_im) * sin, (c_re - b_re) * sin);
                put(i - 1, 2, k, near_re + far_re);
                put(n - i - 1, 1, k, near_re - far_re);
                put(i, 2, k, far_im + near_im);
                put(n - i, 1, k, far_im - near_im);
            }
        }
    }

    #[inline(always)]
    fn synthesise_4<V: Lanes<T, W>, const W: usize>(&self, src: &[[T; W]], dst: &mut [[T; W]]) {
        let n = self.inner;
        let get = |a, b, k| V::load(src[self.together(a, b, k)]);
        let mut put = |a, k, b, v: V| dst[self.apart(a, k, b)] = v.store();
        let (two, root) = (T::from_f64(2.0), T::from_f64(SQRT_2));
        for k in 0..self.groups {
            let (a, d) = (get(0, 0, k), get(n - 1, 3, k));
            let (even, odd) = (a + d, a - d);
            let (b, c) = (get(n - 1, 1, k) * two, get(0, 2, k) * two);
            put(0, k, 0, even + b);
            put(0, k, 2, even - b);
            put(0, k, 3, odd + c);
            put(0, k, 1, odd - c);
            if n.is_multiple_of(2) {
                let (a, b, c, d) = (get(n - 1, 0, k), get(0, 1, k), get(n - 1, 2, k), get(0, 3, k));
                let (sum_im, difference_im) = (d + b, d - b);
                let (sum, difference) = (a + c, a - c);
                put(n - 1, k, 0, sum + sum);
                put(n - 1, k, 1, (difference - sum_im) * root);
                put(n - 1, k, 2, difference_im + difference_im);
                put(n - 1, k, 3, -((difference + sum_im) * root));
            }
            for i in (2..n).step_by(2) {
                let (a_re, a_im) = (get(i - 1, 0, k), get(i, 0, k));
                let (b_re, b_im) = (get(n - i - 1, 1, k), get(n - i, 1, k));
                let (c_re, c_im) = (get(i - 1, 2, k), get(i, 2, k));
                let (d_re, d_im) = (get(n - i - 1, 3, k), get(n - i, 3, k));
                let (even_re, odd_re) = (a_re + d_re, a_re - d_re);
                let (odd_im, even_im) = (a_im + d_im, a_im - d_im);
                let (cross_re, inner_im) = (c_im + b_im, c_im - b_im);
                let (inner_re, cross_im) = (c_re + b_re, c_re - b_re);
                put(i - 1, k, 0, even_re + inner_re);
                put(i, k, 0, even_im + inner_im);
                let (re, im) = turn(self.twiddle(1, i), odd_re - cross_re, odd_im + cross_im);
                put(i - 1, k, 1, re);
                put(i, k, 1, im);
                let (re, im) = turn(self.twiddle(2, i), even_re - inner_re, even_im - inner_im);
                put(i - 1, k, 2, re);
                put(i, k, 2, im);
                let (re, im) = turn(self.twiddle(3, i), odd_re + cross_re, odd_im - cross_im);
                put(i - 1, k, 3, re);
                put(i, k, 3, im);
            }
        }
    }

    #[inline(always)]
    fn analyse_4<V: Lanes<T, W>, const W: usize>(&self, src: &[[T; W]], dst: &mut [[T; W]]) {
        let n = self.inner;
        let get = |a, k, b| V::load(src[self.apart(a, k, b)]);
        let mut put = |a, b, k, v: V| dst[self.together(a, b, k)] = v.store();
        let half_root = T::from_f64(FRAC_1_SQRT_2);
        for k in 0..self.groups {
            let (a, b, c, d) = (get(0, k, 0), get(0, k, 1), get(0, k, 2), get(0, k, 3));
            let (odd, even) = (d + b, a + c);
            put(0, 2, k, d - b);
            put(n - 1, 1, k, a - c);
            put(0, 0, k, even + odd);
            put(n - 1, 3, k, even - odd);
            if n.is_multiple_of(2) {
                let (a, b) = (get(n - 1, k, 0), get(n - 1, k, 1));
                let (c, d) = (get(n - 1, k, 2), get(n - 1, k, 3));
                let (im, re) = (-((b + d) * half_root), (b - d) * half_root);
                put(n - 1, 0, k, a + re);
                put(n - 1, 2, k, a - re);
                put(0, 3, k, im + c);
                put(0, 1, k, im - c);
            }
            for i in (2..n).step_by(2) {
                let (a_re, a_im) = (get(i - 1, k, 0), get(i, k, 0));
                let (b_re, b_im) = turn_back(self.twiddle(1, i), get(i - 1, k, 1), get(i, k, 1));
                let (c_re, c_im) = turn_back(self.twiddle(2, i), get(i - 1, k, 2), get(i, k, 2));
                let (d_re, d_im) = turn_back(self.twiddle(3, i), get(i - 1, k, 3), get(i, k, 3));
                let (odd_re, cross_im) = (d_re + b_re, d_re - b_re);
                let (odd_im, cross_re) = (b_im + d_im, b_im - d_im);
                let (even_re, rest_re) = (a_re + c_re, a_re - c_re);
                let (even_im, rest_im) = (a_im + c_im, a_im - c_im);
                put(i - 1, 0, k, even_re + odd_re);
                put(n - i - 1, 3, k, even_re - odd_re);
                put(i, 0, k, odd_im + even_im);
                put(n - i, 3, k, odd_im - even_im);
                put(i - 1, 2, k, rest_re + cross_re);
                put(n - i - 1, 1, k, rest_re - cross_re);
                put(i, 2, k, cross_im + rest_im);
                put(n - i, 1, k, cross_im - rest_im);
            }
        }
    }

    #[inline(always)]
    fn synthesise_5<V: Lanes<T, W>, const W: usize>(&self, src: &[[T; W]], dst: &mut [[T; W]]) {
        let n = self.inner;
        let get = |a, b, k| V::load(src[self.together(a, b, k)]);
        let mut put = |a, k, b, v: V| dst[self.apart(a, k, b)] = v.store();
        let (cos1, sin1) = (T::from_f64(COS_5), T::from_f64(SIN_5));
        let (cos2, sin2) = (T::from_f64(COS_5_2), T::from_f64(SIN_5_2));
        let two = T::from_f64(2.0);
        for k in 0..self.groups {
            let a = get(0, 0, k);
            let (b, c) = (get(n - 1, 1, k) * two, get(n - 1, 3, k) * two);
            let (b_im, c_im) = (get(0, 2, k) * two, get(0, 4, k) * two);
            put(0, k, 0, a + b + c);
            let (near, far) = (a + b * cos1 + c * cos2, a + b * cos2 + c * cos1);
            let (near_im, far_im) = (b_im * sin1 + c_im * sin2, b_im * sin2 - c_im * sin1);
            put(0, k, 4, near + near_im);
            put(0, k, 1, near - near_im);
            put(0, k, 3, far + far_im);
            put(0, k, 2, far - far_im);
            for i in (2..n).step_by(2) {
                let (a_re, a_im) = (get(i - 1, 0, k), get(i, 0, k));
                let (b_re, b_im) = (get(i - 1, 2, k), get(i, 2, k));
                let (c_re, c_im) = (get(n - i - 1, 1, k), get(n - i, 1, k));
                let (d_re, d_im) = (get(i - 1, 4, k), get(i, 4, k));
                let (e_re, e_im) = (get(n - i - 1, 3, k), get(n - i, 3, k));
                let (sum1_re, rest1_re) = (b_re + c_re, b_re - c_re);
                let (rest1_im, sum1_im) = (b_im + c_im, b_im - c_im);
                let (sum2_re, rest2_re) = (d_re + e_re, d_re - e_re);
                let (rest2_im, sum2_im) = (d_im + e_im, d_im - e_im);
                put(i - 1, k, 0, a_re + sum1_re + sum2_re);
                put(i, k, 0, a_im + sum1_im + sum2_im);
                let near_re = a_re + sum1_re * cos1 + sum2_re * cos2;
                let near_im = a_im + sum1_im * cos1 + sum2_im * cos2;
                let far_re = a_re + sum1_re * cos2 + sum2_re * cos1;
                let far_im = a_im + sum1_im * cos2 + sum2_im * cos1;
                let (side1_re, side2_re) =
                    (rest1_re * sin1 + rest2_re * sin2, rest1_re * sin2 - rest2_re * sin1);
                let (side1_im, side2_im) =
                    (rest1_im * sin1 + rest2_im * sin2, rest1_im * sin2 - rest2_im * sin1);
                let outs = [
                    (near_re - side1_im, near_im + side1_re),
                    (far_re - side2_im, far_im + side2_re),
                    (far_re + side2_im, far_im - side2_re),
                    (near_re + side1_im, near_im - side1_re),
                ];
                for (j, (re, im)) in outs.into_iter().enumerate() {
                    let (re, im) = turn(self.twiddle(j + 1, i), re, im);
                    put(i - 1, k, j + 1, re);
                    put(i, k, j + 1, im);
                }
            }
        }
    }

    #[inline(always)]
    fn analyse_5<V: Lanes<T, W>, const W: usize>(&self, src: &[[T; W]], dst: &mut [[T; W]]) {
        let n = self.inner;
        let get = |a, k, b| V::load(src[self.apart(a, k, b)]);
        let mut put = |a, b, k, v: V| dst[self.together(a, b, k)] = v.store();
        let (cos1, sin1) = (T::from_f64(COS_5), T::from_f64(SIN_5));
        let (cos2, sin2) = (T::from_f64(COS_5_2), T::from_f64(SIN_5_2));
        for k in 0..self.groups {
            let a = get(0, k, 0);
            let (b, c, d, e) = (get(0, k, 1), get(0, k, 2), get(0, k, 3), get(0, k, 4));
            let (sum1, rest1) = (e + b, e - b);
            let (sum2, rest2) = (d + c, d - c);
            put(0, 0, k, a + sum1 + sum2);
            put(n - 1, 1, k, a + sum1 * cos1 + sum2 * cos2);
            put(0, 2, k, rest1 * sin1 + rest2 * sin2);
            put(n - 1, 3, k, a + sum1 * cos2 + sum2 * cos1);
            put(0, 4, k, rest1 * sin2 - rest2 * sin1);
            for i in (2..n).step_by(2) {
                let (a_re, a_im) = (get(i - 1, k, 0), get(i, k, 0));
                let (b_re, b_im) = turn_back(self.twiddle(1, i), get(i - 1, k, 1), get(i, k, 1));
                let (c_re, c_im) = turn_back(self.twiddle(2, i), get(i - 1, k, 2), get(i, k, 2));
                let (d_re, d_im) = turn_back(self.twiddle(3, i), get(i - 1, k, 3), get(i, k, 3));
                let (e_re, e_im) = turn_back(self.twiddle(4, i), get(i - 1, k, 4), get(i, k, 4));
                let (sum1_re, rest1_im) = (e_re + b_re, e_re - b_re);
                let (sum1_im, rest1_re) = (b_im + e_im, b_im - e_im);
                let (sum2_re, rest2_im) = (d_re + c_re, d_re - c_re);
                let (sum2_im, rest2_re) = (c_im + d_im, c_im - d_im);
                put(i - 1, 0, k, a_re + sum1_re + sum2_re);
                put(i, 0, k, a_im + sum1_im + sum2_im);
                let near_re = a_re + sum1_re * cos1 + sum2_re * cos2;
                let near_im = a_im + sum1_im * cos1 + sum2_im * cos2;
                let far_re = a_re + sum1_re * cos2 + sum2_re * cos1;
                let far_im = a_im + sum1_im * cos2 + sum2_im * cos1;
                let (side1_re, side2_re) =
                    (rest1_re * sin1 + rest2_re * sin2, rest1_re * sin2 - rest2_re * sin1);
                let (side1_im, side2_im) =
                    (rest1_im * sin1 + rest2_im * sin2, rest1_im * sin2 - rest2_im * sin1);
                put(i - 1, 2, k, near_re + side1_re);
                put(n - i - 1, 1, k, near_re - side1_re);
                put(i, 2, k, side1_im + near_im);
                put(n - i, 1, k, side1_im - near_im);
                put(i - 1, 4, k, far_re + side2_re);
                put(n - i - 1, 3, k, far_re - side2_re);
                put(i, 4, k, side2_im + far_im);
                put(n - i, 3, k, side2_im - far_im);
            }
        }
    }
}

const SQRT_2: f64 = std::f64::consts::SQRT_2;
const FRAC_1_SQRT_2: f64 = std::f64::consts::FRAC_1_SQRT_2;
const SIN_3: f64 = 0.866_025_403_784_438_6;
const COS_5: f64 = 0.309_016_994_374_947_45;
const SIN_5: f64 = 0.951_056_516_295_153_5;
const COS_5_2: f64 = -0.809_016_994_374_947_5;
const SIN_5_2: f64 = 0.587_785_252_292_473_1;

/// `(re + i im)` times `w`.
#[inline(always)]
fn turn<T: Float, V: Lanes<T, W>, const W: usize>(w: (T, T), re: V, im: V) -> (V, V) {
    (re * w.0 - im * w.1, im * w.0 + re * w.1)
}

/// `(re + i im)` times the conjugate of `w`.
#[inline(always)]
fn turn_back<T: Float, V: Lanes<T, W>, const W: usize>(w: (T, T), re: V, im: V) -> (V, V) {
    (re * w.0 + im * w.1, im * w.0 - re * w.1)
}
