//! Picks the instructions that a transform runs with: AVX-512 or AVX2 where the processor has them, the same operations
//! in the same order on registers of 64 or 32 bytes, else whatever any machine has. Most of the unsafe code is here.
#![allow(unsafe_code)]

use super::Direction;
use super::columns::Tables;
use super::lanes::Plain;

/// What this module holds, for one precision: `transform(tables, direction, from, dim, scratch, to)`.
pub(super) type Transform<T> = fn(&Tables<T>, Direction, &[T], usize, &mut Vec<T>, &mut [T]);

macro_rules! transforms {
    ($name:ident, $portable:ident, $scalar:ty, $width:literal, $register:ident, $wide_width:literal, $wide:ident) => {
        pub(super) fn $name(
            tables: &Tables<$scalar>,
            direction: Direction,
            from: &[$scalar],
            dim: usize,
            scratch: &mut Vec<$scalar>,
            to: &mut [$scalar],
        ) {
            // Few columns fill no wider register.
            #[cfg(target_arch = "x86_64")]
            if dim > $width && std::arch::is_x86_feature_detected!("avx512f") {
                #[target_feature(enable = "avx512f")]
                fn with_avx512(
                    tables: &Tables<$scalar>,
                    direction: Direction,
                    from: &[$scalar],
                    dim: usize,
                    scratch: &mut Vec<$scalar>,
                    to: &mut [$scalar],
                ) {
                    tables.transform::<avx::$wide, $wide_width>(direction, from, dim, scratch, to);
                }
                // SAFETY: the processor has AVX-512F, as just asked, and the function needs nothing else.
                return unsafe { with_avx512(tables, direction, from, dim, scratch, to) };
            }
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                /// Without FMA: a fused product would be rounded once where the reference rounds twice.
                #[target_feature(enable = "avx2")]
                fn with_avx2(
                    tables: &Tables<$scalar>,
                    direction: Direction,
                    from: &[$scalar],
                    dim: usize,
                    scratch: &mut Vec<$scalar>,
                    to: &mut [$scalar],
                ) {
                    tables.transform::<avx::$register, $width>(direction, from, dim, scratch, to);
                }
                // SAFETY: the processor has AVX2, as just asked, and the function needs nothing else.
                return unsafe { with_avx2(tables, direction, from, dim, scratch, to) };
            }
            $portable(tables, direction, from, dim, scratch, to);
        }

        pub(super) fn $portable(
            tables: &Tables<$scalar>,
            direction: Direction,
            from: &[$scalar],
            dim: usize,
            scratch: &mut Vec<$scalar>,
            to: &mut [$scalar],
        ) {
            tables.transform::<Plain<$scalar, $width>, $width>(direction, from, dim, scratch, to);
        }
    };
}
transforms!(single, portable_single, f32, 8, Single, 16, WideSingle);
transforms!(double, portable_double, f64, 4, Double, 8, WideDouble);

/// Registers of 32 and of 64 bytes.
#[cfg(target_arch = "x86_64")]
mod avx {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    use std::ops::{Add, Mul, Neg, Sub};

    use crate::dct::lanes::Lanes;

    macro_rules! register {
        ($name:ident, $register:ty, [$scalar:ty; $width:literal], $add:ident, $sub:ident, $mul:ident, $splat:ident) => {
            #[derive(Clone, Copy)]
            pub(super) struct $name($register);

            // SAFETY of all of these: register and row are the same bytes; the intrinsics need AVX or AVX-512F, and values
            // of this type are made alone inside `with_avx2` or `with_avx512`, which have it.
            impl Lanes<$scalar, $width> for $name {
                #[inline(always)]
                fn load(row: [$scalar; $width]) -> Self {
                    Self(unsafe { transmute::<[$scalar; $width], $register>(row) })
                }

                #[inline(always)]
                fn store(self) -> [$scalar; $width] {
                    unsafe { transmute::<$register, [$scalar; $width]>(self.0) }
                }
            }

            impl Add for $name {
                type Output = Self;
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    Self(unsafe { $add(self.0, other.0) })
                }
            }

            impl Sub for $name {
                type Output = Self;
                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    Self(unsafe { $sub(self.0, other.0) })
                }
            }

            impl Mul<$scalar> for $name {
                type Output = Self;
                #[inline(always)]
                fn mul(self, factor: $scalar) -> Self {
                    Self(unsafe { $mul(self.0, $splat(factor)) })
                }
            }

            impl Neg for $name {
                type Output = Self;
                #[inline(always)]
                fn neg(self) -> Self {
                    Self(unsafe { $sub($splat(0.0), self.0) })
                }
            }
        };
    }
    register!(Single, __m256, [f32; 8], _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_set1_ps);
    register!(Double, __m256d, [f64; 4], _mm256_add_pd, _mm256_sub_pd, _mm256_mul_pd, _mm256_set1_pd);
    register!(WideSingle, __m512, [f32; 16], _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_set1_ps);
    register!(WideDouble, __m512d, [f64; 8], _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd, _mm512_set1_pd);
}
