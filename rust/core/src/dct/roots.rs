//! The constants of the transform, rounded as scipy rounds its own.

use std::f64::consts::PI;

/// `exp(2 pi i k / n)` for all k, each the product of an entry of two short tables in double precision.
///
/// The product is not the nearest double to the root, but it is the number that scipy computes with.
pub(super) struct Roots {
    n: usize,
    shift: u32,
    fine: Vec<(f64, f64)>,
    coarse: Vec<(f64, f64)>,
}

impl Roots {
    pub(super) fn new(n: usize) -> Self {
        // pi / 4n rounded once from more digits than a double has: the quotient of doubles, mended by its remainder.
        let divisor = 4.0 * n as f64;
        let quotient = PI / divisor;
        let remainder = (-quotient).mul_add(divisor, PI) + PI_TAIL;
        let step = quotient + remainder / divisor;
        let values = (n + 2) / 2;
        let mut shift = 1;
        while (1 << (2 * shift)) < values {
            shift += 1;
        }
        let size = 1 << shift;
        let fine = (0..size).map(|k| root(k, n, step)).collect();
        let coarse = (0..values.div_ceil(size)).map(|k| root(k * size, n, step)).collect();
        Self { n, shift, fine, coarse }
    }

    /// Cosine and sine of `2 pi k / n`.
    pub(super) fn at(&self, k: usize) -> (f64, f64) {
        let mirrored = 2 * k > self.n;
        let k = if mirrored { self.n - k } else { k };
        let (a, b) = (self.fine[k & (self.fine.len() - 1)], self.coarse[k >> self.shift]);
        let (re, im) = (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0);
        (re, if mirrored { -im } else { im })
    }
}

/// What pi has beyond its double.
const PI_TAIL: f64 = 1.224_646_799_147_353_2e-16;

/// Cosine and sine of `8 k step`, by the symmetry of the octants so that the argument stays below pi / 4.
fn root(k: usize, n: usize, step: f64) -> (f64, f64) {
    let eighths = 8 * k;
    let (eighths, below) = if eighths < 4 * n { (eighths, false) } else { (8 * n - eighths, true) };
    let (eighths, left) = if eighths < 2 * n { (eighths, false) } else { (eighths - 2 * n, true) };
    let (cos, sin) = if eighths < n {
        let angle = eighths as f64 * step;
        (angle.cos(), angle.sin())
    } else {
        let angle = (2 * n - eighths) as f64 * step;
        (angle.sin(), angle.cos())
    };
    let (cos, sin) = if left { (-sin, cos) } else { (cos, sin) };
    (cos, if below { -sin } else { sin })
}

/// `1 / sqrt(n)` rounded once to single precision.
pub(super) fn inverse_sqrt_f32(n: usize) -> f32 {
    // A double has enough digits beyond a single: no n in range lies close enough to a border.
    (1.0 / (n as f64).sqrt()) as f32
}

/// `1 / sqrt(n)` rounded once to double precision: a step of Newton's method in extended precision on the quotient.
pub(super) fn inverse_sqrt_f64(n: usize) -> f64 {
    let n = n as f64;
    let estimate = 1.0 / n.sqrt();
    // With y the estimate, 1 - n y^2 is exact enough by fused steps: y^2 in two parts, then n times each.
    let square = estimate * estimate;
    let square_tail = estimate.mul_add(estimate, -square);
    let error = (-n).mul_add(square, 1.0) - n * square_tail;
    estimate + 0.5 * estimate * error
}
