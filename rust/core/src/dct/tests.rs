//! Bits against scipy's, closeness against the definition, and there and back.

use std::f64::consts::PI;

use proptest::prelude::*;

use super::*;

/// The definition: orthonormal DCT-II of one column.
fn naive(x: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    (0..x.len())
        .map(|k| {
            let norm = if k == 0 { 1.0 / n } else { 2.0 / n }.sqrt();
            let angle = |t: usize| PI * k as f64 * (2 * t + 1) as f64 / (2.0 * n);
            norm * x.iter().enumerate().map(|(t, x)| x * angle(t).cos()).sum::<f64>()
        })
        .collect()
}

/// The generator of tests/golden/dct/record.py.
fn draw(horizon: usize, dim: usize) -> Vec<f64> {
    let mut state = horizon as u32;
    (0..horizon * dim)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if i % dim % 3 == 2 {
                f64::from(state >> 31)
            } else {
                (f64::from(state >> 8) - 8_388_608.0) / 8_388_608.0
            }
        })
        .collect()
}

fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn run<T: Float>(dct: &Dct, direction: Direction, from: &[T], dim: usize) -> Vec<T> {
    let mut to = vec![T::default(); from.len()];
    dct.transform(direction, from, dim, &mut Vec::new(), &mut to).unwrap();
    to
}

#[test]
fn bits_equal_scipys_on_two_hundred_horizons() {
    const DIM: usize = 9;
    let recorded = include_str!("../../../../tests/golden/dct/hashes.txt");
    let mut horizons = 0;
    for line in recorded.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let horizon: usize = fields[0].parse().unwrap();
        let dct = Dct::new(horizon).unwrap();
        let double = draw(horizon, DIM);
        let single: Vec<f32> = double.iter().map(|&x| x as f32).collect();
        let mut digests = Vec::new();
        for direction in [Direction::Forward, Direction::Inverse] {
            digests.push(fnv1a(run(&dct, direction, &single, DIM).iter().flat_map(|x| x.to_le_bytes())));
        }
        for direction in [Direction::Forward, Direction::Inverse] {
            digests.push(fnv1a(run(&dct, direction, &double, DIM).iter().flat_map(|x| x.to_le_bytes())));
        }
        let digests: Vec<String> = digests.iter().map(|digest| format!("{digest:016x}")).collect();
        assert_eq!(digests, fields[1..], "horizon {horizon}");
        horizons += 1;
    }
    assert!(horizons > 200);
}

#[test]
fn a_constant_has_one_coefficient_and_one_step_is_its_own() {
    let chunk = run(&Dct::new(50).unwrap(), Direction::Forward, &[3.0_f64; 50], 1);
    assert!((chunk[0] - 3.0 * 50.0_f64.sqrt()).abs() < 1e-12);
    assert!(chunk[1..].iter().all(|x| x.abs() < 1e-12));
    let chunk = run(&Dct::new(1).unwrap(), Direction::Forward, &[0.25_f32, -7.0], 2);
    assert!((chunk[0] - 0.25).abs() < 1e-7 && (chunk[1] + 7.0).abs() < 1e-5);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    assert!(matches!(Dct::new(0), Err(Error::Argument { what: "horizon", .. })));
    assert!(Dct::new(Dct::MAX_HORIZON + 1).is_err());
    let dct = Dct::new(4).unwrap();
    let error = dct.forward(&[0.0_f32; 7], 2, &mut Vec::new(), &mut [0.0; 8]).unwrap_err();
    assert_eq!(error, Error::Shape { what: "chunk", expected: 8, got: 7 });
    let error = dct.inverse(&[0.0; 8], 2, &mut Vec::new(), &mut [0.0; 7]).unwrap_err();
    assert_eq!(error, Error::Shape { what: "out", expected: 8, got: 7 });
    assert!(dct.inverse(&[0.0_f32; 0], 0, &mut Vec::new(), &mut []).is_err());
}

#[test]
fn long_prime_horizons_come_back_and_keep_their_energy() {
    for horizon in [211, 4 * 499, 9973, 16_381, 65_521] {
        let dct = Dct::new(horizon).unwrap();
        let values = draw(horizon, 5);
        let chunk = run(&dct, Direction::Forward, &values, 5);
        let energy = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
        assert!((energy(&chunk) / energy(&values) - 1.0).abs() < 1e-12);
        let back = run(&dct, Direction::Inverse, &chunk, 5);
        assert!(back.iter().zip(&values).all(|(x, y)| (x - y).abs() < 1e-11));
        let single: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        let narrow = run(&dct, Direction::Forward, &single, 5);
        assert!(narrow.iter().zip(&chunk).all(|(&x, y)| (f64::from(x) - y).abs() < 1e-4));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn it_follows_the_definition_and_comes_back(
        horizon in prop_oneof![1..130_usize, Just(191_usize), Just(997_usize), Just(2 * 499_usize), Just(1009_usize)],
        dim in 1..20_usize,
        seed in any::<u32>(),
    ) {
        let values: Vec<f64> = draw(horizon, dim).iter().map(|x| x * f64::from(seed % 1000)).collect();
        let dct = Dct::new(horizon).unwrap();
        let chunk = run(&dct, Direction::Forward, &values, dim);
        let column: Vec<f64> = values.iter().skip(dim - 1).step_by(dim).copied().collect();
        for (k, expected) in naive(&column).into_iter().enumerate() {
            prop_assert!((chunk[k * dim + dim - 1] - expected).abs() < 1e-8);
        }
        for (back, x) in run(&dct, Direction::Inverse, &chunk, dim).iter().zip(&values) {
            prop_assert!((back - x).abs() < 1e-9);
        }
    }

    #[test]
    fn the_portable_code_gives_the_same_bits(horizon in 1..300_usize, dim in 1..40_usize) {
        check_portable(horizon, dim);
    }
}

/// Few enough for an interpreter: `make miri` runs this.
#[test]
fn small_chunks_have_the_portable_bits() {
    for (horizon, dim) in [(1, 1), (2, 9), (7, 3), (12, 8), (50, 5)] {
        check_portable(horizon, dim);
    }
}

fn check_portable(horizon: usize, dim: usize) {
    let dct = Dct::new(horizon).unwrap();
    let double = draw(horizon, dim);
    let single: Vec<f32> = double.iter().map(|&x| x as f32).collect();
    for direction in [Direction::Forward, Direction::Inverse] {
        let mut portable = (vec![0.0; single.len()], vec![0.0; double.len()]);
        wide::portable_single(&dct.single, direction, &single, dim, &mut Vec::new(), &mut portable.0);
        wide::portable_double(&dct.double, direction, &double, dim, &mut Vec::new(), &mut portable.1);
        let (single, double) = (run(&dct, direction, &single, dim), run(&dct, direction, &double, dim));
        assert!(single.iter().zip(&portable.0).all(|(x, y)| x.to_bits() == y.to_bits()));
        assert!(double.iter().zip(&portable.1).all(|(x, y)| x.to_bits() == y.to_bits()));
    }
}
