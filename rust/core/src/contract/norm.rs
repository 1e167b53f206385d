//! The ways a state or an action is brought to about [-1, 1], with openpi's arithmetic or LeRobot's, bit for bit as
//! `pioxide.transforms` computes them in Python.

use super::MOST_DIM;
use crate::Float;
use crate::json::{Json, Read};

/// What keeps openpi's denominators from 0.
const EPSILON: f64 = 1e-6;

/// Which statistics normalise a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormMode {
    /// None: numbers stay as they are.
    Identity,
    /// Mean and standard deviation.
    MeanStd,
    /// Smallest and largest value; LeRobot's alone.
    MinMax,
    /// The 1% and the 99% quantile.
    Quantiles,
    /// The 10% and the 90% quantile; LeRobot's alone.
    Quantile10,
}

/// Whose formulas: they treat small denominators differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// openpi's.
    OpenPi,
    /// LeRobot's.
    LeRobot,
}

/// How one feature is normalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormRule {
    /// Which statistics.
    pub mode: NormMode,
    /// Whose formulas.
    pub arithmetic: Arithmetic,
    /// What keeps a denominator from 0.
    pub epsilon: f64,
}

impl NormRule {
    pub(super) fn read(value: &Json) -> Read<Self> {
        let fields = value.fields(&["mode", "arithmetic", "epsilon"])?;
        let mode = fields.needed("mode", |value| match value.text()? {
            "identity" => Ok(NormMode::Identity),
            "mean_std" => Ok(NormMode::MeanStd),
            "min_max" => Ok(NormMode::MinMax),
            "quantiles" => Ok(NormMode::Quantiles),
            "quantile10" => Ok(NormMode::Quantile10),
            _ => Err(value.wrong("identity, mean_std, min_max, quantiles or quantile10")),
        })?;
        let arithmetic = fields.optional("arithmetic", |value| match value.text()? {
            "openpi" => Ok(Arithmetic::OpenPi),
            "lerobot" => Ok(Arithmetic::LeRobot),
            _ => Err(value.wrong("openpi or lerobot")),
        })?;
        let positive = |value: &Json| {
            let number = value.number().ok().filter(|number| *number > 0.0);
            number.ok_or_else(|| value.wrong("a small number above 0"))
        };
        let (arithmetic, epsilon) =
            (arithmetic.unwrap_or(Arithmetic::OpenPi), fields.optional("epsilon", positive)?);
        if arithmetic == Arithmetic::OpenPi && matches!(mode, NormMode::MinMax | NormMode::Quantile10) {
            return Err("openpi has no such mode; its arithmetic is lerobot's".to_owned());
        }
        Ok(Self { mode, arithmetic, epsilon: epsilon.unwrap_or(EPSILON) })
    }

    /// The statistics it is computed from; `None` for none.
    fn needs(self) -> Option<(&'static str, &'static str)> {
        match self.mode {
            NormMode::Identity => None,
            NormMode::MeanStd => Some(("mean", "std")),
            NormMode::MinMax => Some(("min", "max")),
            NormMode::Quantiles => Some(("q01", "q99")),
            NormMode::Quantile10 => Some(("q10", "q90")),
        }
    }
}

/// What a dimension's values look like: `[D]` numbers of each kind that is known, in the data's own units.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    dim: usize,
    vectors: Vec<(&'static str, Vec<f64>)>,
}

impl Stats {
    /// The kinds there are.
    const NAMES: [&str; 8] = ["mean", "std", "q01", "q99", "min", "max", "q10", "q90"];

    pub(super) fn read(value: &Json) -> Read<Self> {
        let fields = value.fields(&Self::NAMES)?;
        let mut vectors: Vec<(&'static str, Vec<f64>)> = Vec::new();
        for name in Self::NAMES {
            let read = fields.optional(name, |value| value.or_null(|value| value.each(Json::number)))?;
            if let Some(vector) = read.flatten() {
                vectors.push((name, vector));
            }
        }
        let Some((first, vector)) = vectors.first() else {
            return Err(format!("expected at least one of {}", Self::NAMES.join(", ")));
        };
        let dim = vector.len();
        if dim > MOST_DIM {
            return Err(format!("{first}: expected at most {MOST_DIM} numbers, got {dim}"));
        }
        if let Some((name, vector)) = vectors.iter().find(|(_, vector)| vector.len() != dim) {
            return Err(format!("{name} has {} numbers, {first} has {dim}", vector.len()));
        }
        let this = Self { dim, vectors };
        if let Some(at) = this.get("std").and_then(|std| std.iter().position(|&x| x < 0.0)) {
            return Err(format!("std[{at}] is negative"));
        }
        for (low, high) in [("q01", "q99"), ("min", "max"), ("q10", "q90")] {
            let (lows, highs) = (this.get(low).unwrap_or_default(), this.get(high).unwrap_or_default());
            if let Some(at) = lows.iter().zip(highs).position(|(low, high)| low > high) {
                return Err(format!("{low}[{at}] is above {high}[{at}]"));
            }
        }
        Ok(this)
    }

    /// Numbers that they cover, D.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// One kind by its name in the file (mean, std, q01, q99, min, max, q10, q90), `[D]`; `None` where it is not known.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        self.vectors.iter().find(|(known, _)| *known == name).map(|(_, vector)| vector.as_slice())
    }

    /// Whether what is beyond `dim` is padding: one of 0, 1 and -1 throughout, which leaves what it normalises as it is.
    fn padded_beyond(&self, dim: usize) -> bool {
        self.vectors.iter().all(|(_, vector)| match vector.get(dim..) {
            Some([first, rest @ ..]) => [0.0, 1.0].contains(&first.abs()) && rest.iter().all(|x| x == first),
            _ => false,
        })
    }
}

/// A normalisation of `[D]` numbers and its inverse.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    kind: Kind,
    /// Of each dimension: what is subtracted, what it is divided by, what it is multiplied by on the way back.
    dims: Vec<[f64; 3]>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Identity,
    Deviations,
    Openpi,
    Lerobot,
}

impl Norm {
    /// The normalisation of `dim` numbers by these statistics.
    pub(super) fn new(rule: NormRule, stats: Option<&Stats>, dim: usize) -> Read<Self> {
        let Some((low, high)) = rule.needs() else {
            return Ok(Self { kind: Kind::Identity, dims: vec![[0.0, 1.0, 1.0]; dim] });
        };
        let stats = stats.ok_or_else(|| "the norm statistics are not there".to_owned())?;
        if stats.dim < dim || (stats.dim > dim && !stats.padded_beyond(dim)) {
            return Err(format!(
                "the norm statistics cover {} numbers, and the robot has {dim}: they are another robot's, or of other \
                 columns",
                stats.dim
            ));
        }
        let need = |name| stats.get(name).ok_or_else(|| format!("the norm statistics have no {name}"));
        let kind = match (rule.mode, rule.arithmetic) {
            (NormMode::MeanStd, _) => Kind::Deviations,
            (_, Arithmetic::OpenPi) => Kind::Openpi,
            (_, Arithmetic::LeRobot) => Kind::Lerobot,
        };
        let of = |(&low, &high): (&f64, &f64)| match (kind, rule.arithmetic) {
            // LeRobot's way back leaves the epsilon out.
            (Kind::Deviations, Arithmetic::LeRobot) => [low, high + rule.epsilon, high],
            (Kind::Deviations, Arithmetic::OpenPi) => [low, high + rule.epsilon, high + rule.epsilon],
            (Kind::Openpi, _) => [low, high - low + rule.epsilon, high - low + rule.epsilon],
            _ if high - low == 0.0 => [low, rule.epsilon, rule.epsilon],
            _ => [low, high - low, high - low],
        };
        Ok(Self { kind, dims: need(low)?.iter().zip(need(high)?).take(dim).map(of).collect() })
    }

    /// Normalises a number of a dimension; one that it does not know stays as it is.
    pub(super) fn apply(&self, dim: usize, x: f64) -> f64 {
        let [offset, divisor, _] = self.dims.get(dim).copied().unwrap_or([0.0, 1.0, 1.0]);
        match self.kind {
            Kind::Identity => x,
            Kind::Deviations => (x - offset) / divisor,
            Kind::Openpi => (x - offset) / divisor * 2.0 - 1.0,
            Kind::Lerobot => 2.0 * (x - offset) / divisor - 1.0,
        }
    }

    /// Brings a normalised number of a dimension back to the data's units.
    pub(super) fn invert<T: Float>(&self, dim: usize, x: T) -> f64 {
        let [offset, _, factor] = self.dims.get(dim).copied().unwrap_or([0.0, 1.0, 1.0]);
        let wide: f64 = x.into();
        match self.kind {
            Kind::Identity => wide,
            Kind::Deviations => wide * factor + offset,
            // openpi adds and halves in the number's own precision (single for a model's output), then widens.
            #[allow(clippy::arithmetic_side_effects, reason = "T is f32 or f64, which have none")]
            Kind::Openpi => {
                let halved: f64 = ((x + T::from_f64(1.0)) * T::from_f64(0.5)).into();
                halved * factor + offset
            }
            Kind::Lerobot => (wide + 1.0) * factor / 2.0 + offset,
        }
    }
}

/// A mask of its run lengths: a positive number stands for as many true, a negative one for false.
pub(super) fn mask_of(value: &Json) -> Read<Vec<bool>> {
    let mut mask = Vec::new();
    for run in value.each(Json::whole)? {
        let length = usize::try_from(run.unsigned_abs()).unwrap_or(usize::MAX).saturating_add(mask.len());
        if length > MOST_DIM {
            return Err(format!("expected a mask of at most {MOST_DIM} dimensions"));
        }
        mask.resize(length, run > 0);
    }
    Ok(mask)
}
