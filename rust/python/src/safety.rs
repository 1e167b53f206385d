//! The safety filter for Python: each call returns the filter as it is afterwards, so that Python decides when an action
//! counts as sent.

use std::sync::Arc;

use numpy::{IntoPyArray, Ix1, PyArray1};
use pioxide_core::{Limits, Motion};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arguments::whole;
use crate::arrays::{Floats, packed_floats};
use crate::error::to_py;

type Array<'py> = Bound<'py, PyArray1<f64>>;
/// The joints that each of four kinds of limit changed.
type Changed<'py> = [Bound<'py, PyTuple>; 4];

/// Limits, and where the robot is taken to be. Never changes; see `pioxide.control.SafetyFilter`.
#[pyclass(frozen, module = "pioxide._core")]
pub(crate) struct SafetyFilter {
    filter: pioxide_core::SafetyFilter,
    made_of: Arc<MadeOf>,
}

struct MadeOf {
    hz: f64,
    /// Low, high, velocity, acceleration, as they came.
    limits: [Vec<f64>; 4],
}

#[pymethods]
impl SafetyFilter {
    #[new]
    #[pyo3(signature = (dim, hz, low, high, velocity, acceleration, motion = None))]
    fn new(
        dim: &Bound<'_, PyAny>,
        hz: f64,
        low: &Bound<'_, PyAny>,
        high: &Bound<'_, PyAny>,
        velocity: &Bound<'_, PyAny>,
        acceleration: &Bound<'_, PyAny>,
        motion: Option<[Bound<'_, PyAny>; 3]>,
    ) -> PyResult<Self> {
        let dim = whole(dim, "dim")?;
        let limits = [
            numbers(low, "low")?,
            numbers(high, "high")?,
            numbers(velocity, "velocity")?,
            numbers(acceleration, "acceleration")?,
        ];
        let [low, high, velocity, acceleration] = &limits;
        let mut filter =
            pioxide_core::SafetyFilter::new(dim, hz, &Limits { low, high, velocity, acceleration })
                .map_err(to_py)?;
        if let Some([position, target, speed]) = motion {
            let (position, target) = (numbers(&position, "position")?, numbers(&target, "target")?);
            let speed = numbers(&speed, "speed")?;
            let motion = Motion { position: &position, target: &target, speed: &speed };
            filter.resume(motion).map_err(to_py)?;
        }
        Ok(Self { filter, made_of: Arc::new(MadeOf { hz, limits }) })
    }

    /// Whether somebody said where the robot is.
    #[getter]
    fn placed(&self) -> bool {
        self.filter.motion().is_some()
    }

    /// The filter at rest at `position` [D].
    fn reset(&self, position: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut filter = self.filter.clone();
        filter.reset(&numbers(position, "position")?).map_err(to_py)?;
        Ok(self.with(filter))
    }

    /// The filter after a tick in which nothing is sent.
    fn hold(&self) -> Self {
        let mut filter = self.filter.clone();
        filter.hold();
        self.with(filter)
    }

    /// The action [D] to send for `wanted` [D], the filter once it is sent, and the joints that were changed for being
    /// not finite, for their position, velocity and acceleration; None where all passed unchanged.
    fn apply<'py>(
        &self,
        py: Python<'py>,
        wanted: &Bound<'py, PyAny>,
    ) -> PyResult<(Array<'py>, Self, Option<Changed<'py>>)> {
        let wanted = numbers(wanted, "wanted")?;
        let mut filter = self.filter.clone();
        let mut given = vec![0.0; filter.dim()];
        let mut changed = [const { Vec::new() }; 4];
        let tell = |joint, violated: pioxide_core::Violations| {
            let kinds = [violated.not_finite, violated.position, violated.velocity, violated.acceleration];
            for (joints, is_changed) in changed.iter_mut().zip(kinds) {
                if is_changed {
                    joints.push(joint);
                }
            }
        };
        filter.apply_by_joint(&wanted, &mut given, tell).map_err(to_py)?;
        let changed = if changed.iter().all(Vec::is_empty) {
            None
        } else {
            let [not_finite, position, velocity, acceleration] =
                changed.map(|joints| PyTuple::new(py, joints));
            Some([not_finite?, position?, velocity?, acceleration?])
        };
        Ok((given.into_pyarray(py), self.with(filter), changed))
    }

    /// What makes it again, for pickle and copy.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (py, this) = (slf.py(), slf.get());
        let array = |values: &[f64]| PyArray1::from_slice(py, values);
        let motion = this
            .filter
            .motion()
            .map(|Motion { position, target, speed }| (array(position), array(target), array(speed)));
        let [low, high, velocity, acceleration] = this.made_of.limits.each_ref().map(|values| array(values));
        let made_of = (this.filter.dim(), this.made_of.hz, low, high, velocity, acceleration, motion);
        Ok((slf.get_type().into_any(), made_of.into_pyobject(py)?))
    }
}

impl SafetyFilter {
    fn with(&self, filter: pioxide_core::SafetyFilter) -> Self {
        Self { filter, made_of: Arc::clone(&self.made_of) }
    }
}

/// [n] numbers.
fn numbers(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<f64>> {
    Ok(match packed_floats::<Ix1>(value, name)? {
        Floats::F32(array) => array.as_slice()?.iter().map(|&x| x.into()).collect(),
        Floats::F64(array) => array.as_slice()?.to_vec(),
    })
}
