//! A `contract.json` of any content: refused by name, or read and then computing nothing but numbers.

use pioxide_core::{Contract, Error, Numbers};

use super::random::Random;

/// Any `contract.json`.
pub fn contract(data: &[u8]) {
    let contract = match Contract::from_json(data) {
        Ok(contract) => contract,
        Err(error) => {
            assert!(matches!(error, Error::Format { .. }), "{error}");
            return;
        }
    };
    assert_eq!(Contract::from_json(data).as_ref(), Ok(&contract), "the same file is the same contract");
    let numbers = match Numbers::of(&contract) {
        Ok(numbers) => numbers,
        Err(error) => {
            assert!(matches!(error, Error::Argument { .. }), "{error}");
            return;
        }
    };
    let (states, actions) = (numbers.state_dim(), numbers.action_dim());
    if states.max(actions) > 1000 {
        return;
    }
    let random = &mut Random::of(data);
    let mut some =
        |count: usize| -> Vec<f64> { (0..count).map(|_| random.below(4001) as f64 / 1000.0 - 2.0).collect() };
    let (state, chunk, answer) = (some(states), some(3 * actions), some(3 * (actions + 1)));
    let (mut normalised, mut there, mut back) =
        (vec![0.0; states], vec![0.0; 3 * actions], vec![0.0; 3 * actions]);
    let results = [
        numbers.apply_state(&state, &mut normalised).map(|()| normalised.as_slice()),
        numbers.apply_actions(&chunk, &state, &mut there).map(|()| there.as_slice()),
        numbers.invert_actions(&answer, actions + 1, &state, &mut back).map(|()| back.as_slice()),
    ];
    for result in results {
        match result {
            Ok(found) => assert!(found.iter().all(|x| x.is_finite())),
            Err(Error::Unusable { joint, .. }) => assert!(joint < states.max(actions)),
            Err(error) => panic!("{error}"),
        }
    }
}
