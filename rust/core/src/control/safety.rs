//! Limits on position, velocity and acceleration: what leaves the filter is finite and inside them, whatever comes in.

use crate::{Error, Result};

/// Positions, speeds and accelerations beyond this are no numbers of a robot's. Their squares are still finite.
const FAR: f64 = 1e60;

/// Limits by joint, each `[D]` numbers, one for all joints, or empty for no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits<'a> {
    /// Lowest position, in the action's units.
    pub low: &'a [f64],
    /// Highest position.
    pub high: &'a [f64],
    /// Largest speed, units a second.
    pub velocity: &'a [f64],
    /// Largest change of velocity, units a second squared.
    pub acceleration: &'a [f64],
}

/// Which kinds of limit changed an action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Violations {
    /// A number of it was NaN, infinite or beyond 1e60: every joint brakes and holds.
    pub not_finite: bool,
    /// Out of the range, or too fast to brake before its end.
    pub position: bool,
    /// Too fast.
    pub velocity: bool,
    /// Too sudden.
    pub acceleration: bool,
}

/// Where a filter takes the robot to be, each `[D]`: what [`SafetyFilter::resume`] goes on from.
#[derive(Debug, Clone, Copy)]
pub struct Motion<'a> {
    /// The last action, in the action's units.
    pub position: &'a [f64],
    /// What was wanted last, within the range.
    pub target: &'a [f64],
    /// Velocity at the last action, units a second.
    pub speed: &'a [f64],
}

/// Turns each action into the nearest one that the limits allow, given the actions before it.
///
/// Speeds are capped so early that the robot can still brake before a position limit, so no joint runs into its end and
/// all limits hold at once. A joint that starts outside its range is led back into it, never further out. Actions are
/// taken to be sent at an even rate; where one is left out, [`SafetyFilter::hold`] says so.
///
/// ```
/// use pioxide_core::{Limits, SafetyFilter};
///
/// let limits = Limits { low: &[-1.0], high: &[1.0], velocity: &[2.0], ..Limits::default() };
/// let mut filter = SafetyFilter::new(2, 50.0, &limits)?;
/// filter.reset(&[0.0, 0.0])?; // where the joints are now
/// let mut given = [0.0; 2];
/// let violated = filter.apply(&[0.5, 0.01], &mut given)?; // at most 2 / 50 in one tick
/// assert!(violated.velocity && given == [0.04, 0.01]);
/// # Ok::<(), pioxide_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SafetyFilter {
    hz: f64,
    low: Vec<f64>,
    high: Vec<f64>,
    velocity: Vec<f64>,
    acceleration: Vec<f64>,
    position: Vec<f64>,
    target: Vec<f64>,
    speed: Vec<f64>,
    placed: bool,
}

impl SafetyFilter {
    /// Checks the limits once.
    ///
    /// # Errors
    /// [`Error::Argument`] names a limit of a wrong length, that is NaN or not above 0, or between which nothing lies;
    /// [`Error::OutOfMemory`].
    pub fn new(dim: usize, hz: f64, limits: &Limits<'_>) -> Result<Self> {
        if dim == 0 || !(1e-9..=1e9).contains(&hz) {
            let why = format!("expected at least one joint and a rate above 0, got dim {dim} and hz {hz}");
            return Err(Error::Argument { what: "safety", why });
        }
        let low = each(limits.low, dim, "low", -FAR)?;
        let high = each(limits.high, dim, "high", FAR)?;
        let velocity = each(limits.velocity, dim, "velocity", FAR)?;
        let acceleration = each(limits.acceleration, dim, "acceleration", FAR)?;
        for (what, values) in [("velocity", &velocity), ("acceleration", &acceleration)] {
            if let Some(joint) = values.iter().position(|&x| x < 1.0 / FAR) {
                let why = format!("{what} of joint {joint} must be above 0");
                return Err(Error::Argument { what: "limits", why });
            }
        }
        let empty = |joint: &usize| {
            let (low, high) = (low[*joint], high[*joint]);
            low > high || low == FAR || high == -FAR
        };
        if let Some(joint) = (0..dim).find(empty) {
            let why = format!("nothing lies between low and high of joint {joint}");
            return Err(Error::Argument { what: "limits", why });
        }
        let (position, target, speed) = (same(0.0, dim)?, same(0.0, dim)?, same(0.0, dim)?);
        Ok(Self { hz, low, high, velocity, acceleration, position, target, speed, placed: false })
    }

    /// Numbers in an action, D.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.low.len()
    }

    /// Starts anew at rest at `position` `[D]`, the measured joints; to be called before the first action.
    ///
    /// # Errors
    /// [`Error::Shape`], or [`Error::NotFinite`] for a number that is NaN, infinite or beyond 1e60.
    pub fn reset(&mut self, position: &[f64]) -> Result<()> {
        self.check(position, is_usable)?;
        self.position.copy_from_slice(position);
        self.placed = true;
        self.hold();
        Ok(())
    }

    /// A tick in which nothing is sent: the robot stands at the last action, and goes on from rest.
    pub fn hold(&mut self) {
        self.target.copy_from_slice(&self.position);
        self.speed.fill(0.0);
    }

    /// Where the robot is taken to be; `None` before the first [`SafetyFilter::reset`].
    #[must_use]
    pub fn motion(&self) -> Option<Motion<'_>> {
        let Self { position, target, speed, .. } = self;
        self.placed.then_some(Motion { position, target, speed })
    }

    /// Goes on from where another filter of the same robot was.
    ///
    /// # Errors
    /// As of [`SafetyFilter::reset`], for each of the three. Nothing has moved then.
    pub fn resume(&mut self, motion: Motion<'_>) -> Result<()> {
        self.check(motion.position, is_usable)?;
        self.check(motion.target, is_usable)?;
        // Rounding may take a speed beyond what is allowed.
        self.check(motion.speed, f64::is_finite)?;
        self.position.copy_from_slice(motion.position);
        self.target.copy_from_slice(motion.target);
        self.speed.copy_from_slice(motion.speed);
        self.placed = true;
        Ok(())
    }

    /// Writes the action `[D]` to send, and says which limits changed it.
    ///
    /// # Errors
    /// [`Error::Shape`], or [`Error::Argument`] where nobody said where the robot is. Nothing has moved then.
    pub fn apply(&mut self, wanted: &[f64], given: &mut [f64]) -> Result<Violations> {
        let mut all = Violations::default();
        self.apply_by_joint(wanted, given, |_, one| {
            all.not_finite |= one.not_finite;
            all.position |= one.position;
            all.velocity |= one.velocity;
            all.acceleration |= one.acceleration;
        })?;
        Ok(all)
    }

    /// [`SafetyFilter::apply`], which tells of each joint, in order, which limits changed it.
    ///
    /// # Errors
    /// As of [`SafetyFilter::apply`]. Nothing has moved then, and nothing is told.
    pub fn apply_by_joint(
        &mut self,
        wanted: &[f64],
        given: &mut [f64],
        mut tell: impl FnMut(usize, Violations),
    ) -> Result<()> {
        for (what, got) in [("an action", wanted.len()), ("an action's room", given.len())] {
            if got != self.dim() {
                return Err(Error::Shape { what, expected: self.dim(), got });
            }
        }
        if !self.placed {
            let why =
                "where is the robot? Call reset with its measured joints before the first action".into();
            return Err(Error::Argument { what: "safety", why });
        }
        let usable = wanted.iter().all(|&x| is_usable(x));
        for joint in 0..self.dim() {
            let (one, violations) = self.one(joint, usable.then_some(wanted[joint]));
            given[joint] = one;
            tell(joint, Violations { not_finite: !is_usable(wanted[joint]), ..violations });
        }
        Ok(())
    }

    /// One joint's action, and what changed it; `None` brakes and holds.
    fn one(&mut self, joint: usize, wanted: Option<f64>) -> (f64, Violations) {
        let dt = 1.0 / self.hz;
        let position = self.position[joint];
        let (low, high) = (self.low[joint], self.high[joint]);
        let (velocity, acceleration) = (self.velocity[joint], self.acceleration[joint]);
        let (inside, before) =
            wanted.map_or((position, position), |x| (clip(x, low, high), self.target[joint]));
        // The largest speed that, lowered at the limit from the next tick on, ends within `ahead`.
        let brake = |ahead: f64| {
            let double = 2.0 * acceleration * larger(ahead, 0.0);
            let step = acceleration * dt;
            double / ((step * step + double).sqrt() + step)
        };
        let speed = (inside - position) / dt;
        let slowed = clip(speed, -velocity, velocity);
        // Under an acceleration limit, catching up with what is wanted must not end beyond it: no faster than it moves
        // itself, plus what braking takes off again on the way to it.
        let pace = clip((inside - before) / dt, -velocity, velocity);
        let matched = if speed >= 0.0 {
            smaller(slowed, pace + brake(before - position))
        } else {
            larger(slowed, pace - brake(position - before))
        };
        let braked = clip(matched, -brake(position - low), brake(high - position));
        let change = acceleration * dt;
        let eased = clip(braked, self.speed[joint] - change, self.speed[joint] + change);
        let given = if eased == speed { inside } else { position + eased * dt };
        // Rounding alone could lead out of the range; a joint that is outside of it may be on its way back.
        let given = clip(given, smaller(low, position), larger(high, position));
        let violations = Violations {
            not_finite: false,
            position: wanted.is_some_and(|x| apart(x, inside)) || apart(matched * dt, braked * dt),
            velocity: apart(speed * dt, slowed * dt),
            acceleration: apart(slowed * dt, matched * dt) || apart(braked * dt, eased * dt),
        };
        self.position[joint] = given;
        self.target[joint] = inside;
        self.speed[joint] = (given - position) / dt;
        (given, violations)
    }

    /// Whether these are `[D]` numbers of a robot's.
    fn check(&self, values: &[f64], good: impl Fn(f64) -> bool) -> Result<()> {
        if values.len() != self.dim() {
            return Err(Error::Shape { what: "a position", expected: self.dim(), got: values.len() });
        }
        match values.iter().position(|&x| !good(x)) {
            Some(joint) => Err(Error::NotFinite { joint, value: values[joint] }),
            None => Ok(()),
        }
    }
}

fn each(values: &[f64], dim: usize, what: &str, missing: f64) -> Result<Vec<f64>> {
    if values.iter().any(|x| x.is_nan()) || !(values.len() <= 1 || values.len() == dim) {
        let why = format!("{what} must be one number or {dim}, none of them NaN, got {values:?}");
        return Err(Error::Argument { what: "limits", why });
    }
    let mut all = same(values.first().copied().unwrap_or(missing), dim)?;
    if values.len() > 1 {
        all.copy_from_slice(values);
    }
    all.iter_mut().for_each(|x| *x = clip(*x, -FAR, FAR));
    Ok(all)
}

/// One number for each joint.
fn same(value: f64, dim: usize) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    all.try_reserve_exact(dim).map_err(|_| Error::OutOfMemory { what: "a safety filter" })?;
    all.resize(dim, value);
    Ok(all)
}

fn is_usable(x: f64) -> bool {
    x.abs() <= FAR
}

/// The limit itself where x is equal to it, and low for NaN.
fn clip(x: f64, low: f64, high: f64) -> f64 {
    smaller(larger(x, low), high)
}

/// `f64::max`, which leaves it to the platform whether 0 or -0 is the larger: here `b` is, of equals.
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// `f64::min`, in the same way.
fn smaller(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// Whether two positions differ by more than rounding.
fn apart(before: f64, after: f64) -> bool {
    (before - after).abs() > 1e-9 * after.abs().max(1.0)
}
