//! The transforms of the horizons that came lately, so that each is planned once and memory stays bounded.

use std::sync::{Arc, RwLock};

use super::Dct;
use crate::Result;

/// Plans kept. The longest take some megabytes each.
const KEPT: usize = 16;

/// A plan is a function of its horizon alone, so sharing it between callers changes no answer.
#[derive(Debug, Default)]
pub(crate) struct Plans(RwLock<Vec<Arc<Dct>>>);

impl Plans {
    /// The plan of a horizon, made if it isn't there; the one made first makes room.
    pub(crate) fn get(&self, horizon: usize) -> Result<Arc<Dct>> {
        let kept = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(plan) = kept.iter().find(|plan| plan.horizon() == horizon) {
            return Ok(plan.clone());
        }
        drop(kept);
        let plan = Arc::new(Dct::new(horizon)?);
        let mut kept = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(plan.clone());
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_kept_and_few() {
        let plans = Plans::default();
        let first = plans.get(7).unwrap();
        assert!(Arc::ptr_eq(&first, &plans.get(7).unwrap()));
        for horizon in 8..8 + KEPT {
            assert_eq!(plans.get(horizon).unwrap().horizon(), horizon);
        }
        assert!(!Arc::ptr_eq(&first, &plans.get(7).unwrap()));
        assert_eq!(plans.0.read().unwrap().len(), KEPT);
        assert!(plans.get(0).is_err());
    }
}
