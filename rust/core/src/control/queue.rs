//! The actions still to be played: one chunk, a place in it, and what to do when it runs dry.

use crate::{Error, Result};

/// What a loop gets when no action is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEmpty {
    /// The last action again.
    Hold,
    /// Nothing: the loop is to stop.
    Stop,
    /// The rest of the chunk at half speed once so many actions or fewer are left, then the last action.
    Slow {
        /// At least 1.
        below: usize,
    },
}

/// What [`ActionQueue::take`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A fresh action.
    Fresh,
    /// The queue is dry: the last action again.
    Held,
    /// Nothing: no action has come yet, or a dry queue is to stop the robot.
    Nothing,
}

/// A chunk `[H, D]` and the place in it. Time is counted in actions consumed, never by a clock, so a jittery loop neither
/// repeats nor skips an action.
///
/// ```
/// use pioxide_core::{ActionQueue, OnEmpty, Taken};
///
/// let mut queue = ActionQueue::new(1, 50, OnEmpty::Hold)?;
/// queue.put(&[0.1, 0.2, 0.3], queue.consumed())?;
/// let mut action = [0.0];
/// assert_eq!(queue.take(&mut action)?, Taken::Fresh);
/// assert_eq!((action[0], queue.remaining()), (0.1, 2));
/// # Ok::<(), pioxide_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ActionQueue {
    dim: usize,
    most: usize,
    on_empty: OnEmpty,
    chunk: Vec<f64>,
    last: Vec<f64>,
    played: bool,
    /// The place, in consumed actions, at which row 0 of the chunk was due.
    start: f64,
    consumed: f64,
    late: u64,
    outdated: u64,
    dry: u64,
}

impl ActionQueue {
    /// An empty queue for chunks of `dim` numbers a step and at most `most` steps, for which room is made now.
    ///
    /// # Errors
    /// [`Error::Argument`] where `dim`, `most` or the steps of [`OnEmpty::Slow`] are 0; [`Error::OutOfMemory`].
    pub fn new(dim: usize, most: usize, on_empty: OnEmpty) -> Result<Self> {
        if dim == 0 || most == 0 || on_empty == (OnEmpty::Slow { below: 0 }) {
            let why = format!("expected 1 or more of each, got {dim} numbers, {most} steps, {on_empty:?}");
            return Err(Error::Argument { what: "queue", why });
        }
        let mut chunk = Vec::new();
        let room = most.checked_mul(dim).filter(|&room| chunk.try_reserve_exact(room).is_ok());
        if room.is_none() {
            return Err(Error::OutOfMemory { what: "an action queue" });
        }
        let last = vec![0.0; dim];
        let (start, consumed, late, outdated, dry) = (0.0, 0.0, 0, 0, 0);
        Ok(Self { dim, most, on_empty, chunk, last, played: false, start, consumed, late, outdated, dry })
    }

    /// Numbers in an action, D.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Actions consumed since the start, with fractions where the queue plays slowly: to be read when an observation is
    /// taken, and given to [`ActionQueue::put`] with its chunk.
    #[must_use]
    pub fn consumed(&self) -> f64 {
        self.consumed
    }

    /// Chunks that came so late that nothing of them was left.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Chunks whose observation was older than the current chunk's.
    #[must_use]
    pub fn outdated(&self) -> u64 {
        self.outdated
    }

    /// Ticks without a fresh action.
    #[must_use]
    pub fn dry_ticks(&self) -> u64 {
        self.dry
    }

    /// What is left of the current chunk `[n, D]`, the next action first: what a policy is to continue.
    #[must_use]
    pub fn leftover(&self) -> &[f64] {
        // A chunk half way between two rows has its next whole row as the first that is left.
        let at = ((self.consumed - self.start).ceil() as usize).min(self.rows());
        &self.chunk[at * self.dim..]
    }

    /// Whole actions left in the current chunk.
    #[must_use]
    pub fn remaining(&self) -> usize {
        (self.rows() as f64 - (self.consumed - self.start)).floor().max(0.0) as usize
    }

    /// Lets a new chunk `[H, D]` take over at the place that the robot has reached meanwhile. Returns the delay in actions,
    /// or `None` where the chunk was dropped, late or outdated.
    ///
    /// # Errors
    /// [`Error::Shape`] for a chunk that is empty, not `[H, D]` or longer than the queue's most; [`Error::NotFinite`];
    /// [`Error::Argument`] for a `since` that is no place of this queue. The queue is then as it was.
    pub fn put(&mut self, actions: &[f64], since: f64) -> Result<Option<f64>> {
        let rows = actions.len() / self.dim;
        if rows == 0 || rows > self.most || rows * self.dim != actions.len() {
            let expected = self.dim * rows.clamp(1, self.most);
            return Err(Error::Shape { what: "a chunk", expected, got: actions.len() });
        }
        if let Some(at) = actions.iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite { joint: at % self.dim, value: actions[at] });
        }
        if since.is_nan() {
            return Err(Error::Argument {
                what: "since",
                why: "expected a place in the queue, got NaN".into(),
            });
        }
        let delay = self.consumed - since;
        if delay < 0.0 || since < self.start {
            self.outdated += 1;
            return Ok(None);
        }
        if delay >= rows as f64 {
            self.late += 1;
            return Ok(None);
        }
        self.chunk.clear();
        self.chunk.extend_from_slice(actions);
        self.start = since;
        Ok(Some(delay))
    }

    /// Writes the next action to play.
    ///
    /// # Errors
    /// [`Error::Shape`] where `action` is not `[D]`.
    pub fn take(&mut self, action: &mut [f64]) -> Result<Taken> {
        if action.len() != self.dim {
            return Err(Error::Shape { what: "an action", expected: self.dim, got: action.len() });
        }
        let (rows, at) = (self.rows(), self.consumed - self.start);
        if at >= rows as f64 {
            self.dry += 1;
            if self.on_empty == OnEmpty::Stop || !self.played {
                return Ok(Taken::Nothing);
            }
            action.copy_from_slice(&self.last);
            return Ok(Taken::Held);
        }
        let row = at as usize;
        let following = (row + 1).min(rows - 1);
        let part = at - row as f64;
        for (d, value) in action.iter_mut().enumerate() {
            // No difference of two rows: it could overflow.
            *value =
                (1.0 - part) * self.chunk[row * self.dim + d] + part * self.chunk[following * self.dim + d];
        }
        let slow = matches!(self.on_empty, OnEmpty::Slow { below } if rows as f64 - at <= below as f64);
        self.consumed += if slow { 0.5 } else { 1.0 };
        self.last.copy_from_slice(action);
        self.played = true;
        Ok(Taken::Fresh)
    }

    /// Forgets chunk and last action, as between episodes; a chunk on its way is dropped as outdated.
    pub fn clear(&mut self) {
        self.chunk.clear();
        self.played = false;
        self.consumed = self.consumed.floor() + 1.0;
        self.start = self.consumed;
    }

    fn rows(&self) -> usize {
        self.chunk.len() / self.dim
    }
}
