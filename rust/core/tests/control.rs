//! Queue and safety filter do what `pioxide.control` was recorded to do, keep every limit on any input, and allocate
//! nothing.
#![allow(clippy::unwrap_used)]

#[path = "common/counting.rs"]
mod counting;

use counting::allocations;
use pioxide_core::{ActionQueue, Error, Limits, OnEmpty, SafetyFilter, Taken, Violations};
use proptest::prelude::*;
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/control/control.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let number = |x: &Value| x.as_f64().unwrap_or_else(|| x.as_str().unwrap().parse().unwrap());
    value.as_array().map(|all| all.iter().map(number).collect()).unwrap_or_default()
}

#[test]
fn the_filter_gives_the_recorded_actions_to_the_last_bit() {
    for case in golden()["safety"].as_array().unwrap() {
        let limit = |name: &str| numbers(&case["limits"][name]);
        let (low, high, velocity) = (limit("low"), limit("high"), limit("velocity"));
        let acceleration = limit("acceleration");
        let limits = Limits { low: &low, high: &high, velocity: &velocity, acceleration: &acceleration };
        let start = numbers(&case["start"]);
        let mut filter = SafetyFilter::new(start.len(), case["hz"].as_f64().unwrap(), &limits).unwrap();
        filter.reset(&start).unwrap();
        let mut given = vec![0.0; start.len()];
        for (number, tick) in case["ticks"].as_array().unwrap().iter().enumerate() {
            if number as u64 == case["hold_before"].as_u64().unwrap() {
                filter.hold();
            }
            let mut changed: [Vec<u64>; 4] = Default::default();
            let mut whole = filter.clone();
            filter
                .apply_by_joint(&numbers(&tick["wanted"]), &mut given, |joint, violated| {
                    for (joints, is_changed) in changed.iter_mut().zip(kinds(violated)) {
                        joints.extend(is_changed.then_some(joint as u64));
                    }
                })
                .unwrap();
            let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&given), bits(&numbers(&tick["given"])), "{} at {number}", case["name"]);
            let names = ["not finite", "position", "velocity", "acceleration"];
            for (name, joints) in names.iter().zip(&changed) {
                let recorded = tick["violated"].get(name).map(|all| all.as_array().unwrap().iter());
                let recorded: Vec<u64> =
                    recorded.into_iter().flatten().map(|joint| joint.as_u64().unwrap()).collect();
                assert_eq!(*joints, recorded, "{name} of {} at {number}", case["name"]);
            }
            // Told of all joints together, it is the same.
            let violated = whole.apply(&numbers(&tick["wanted"]), &mut given).unwrap();
            assert_eq!(bits(&given), bits(&numbers(&tick["given"])));
            assert_eq!(kinds(violated), changed.each_ref().map(|joints| !joints.is_empty()));
        }
    }
}

fn kinds(violated: Violations) -> [bool; 4] {
    [violated.not_finite, violated.position, violated.velocity, violated.acceleration]
}

#[test]
fn the_queue_gives_the_recorded_actions() {
    for case in golden()["queue"].as_array().unwrap() {
        let on_empty = match case["on_empty"].as_str().unwrap() {
            "hold" => OnEmpty::Hold,
            "stop" => OnEmpty::Stop,
            _ => OnEmpty::Slow { below: case["slow_below"].as_u64().unwrap() as usize },
        };
        let mut queue = ActionQueue::new(2, 8, on_empty).unwrap();
        let mut action = [0.0; 2];
        for (number, event) in case["events"].as_array().unwrap().iter().enumerate() {
            if let Some(chunk) = event.get("put") {
                let flat: Vec<f64> = chunk.as_array().unwrap().iter().flat_map(numbers).collect();
                let since = numbers(&Value::Array(vec![event["since"].clone()]))[0];
                let put = queue.put(&flat, since);
                if event.get("refused").is_some() {
                    assert!(put.is_err(), "{on_empty:?}, event {number}");
                    continue;
                }
                let delay = put.unwrap();
                assert_eq!(delay, event["delay"].as_f64(), "{on_empty:?}, event {number}");
            } else if event.get("clear").is_some() {
                queue.clear();
            } else {
                let taken = queue.take(&mut action).unwrap();
                assert_eq!(taken != Taken::Fresh, event["dry"].as_bool().unwrap(), "event {number}");
                match taken {
                    Taken::Nothing => assert!(event["take"].is_null(), "{on_empty:?}, event {number}"),
                    _ => assert_eq!(action.to_vec(), numbers(&event["take"]), "{on_empty:?}, event {number}"),
                }
                assert_eq!(queue.remaining() as u64, event["remaining"].as_u64().unwrap());
                assert_eq!(queue.consumed(), event["consumed"].as_f64().unwrap());
                let left: Vec<f64> = event["leftover"].as_array().unwrap().iter().flat_map(numbers).collect();
                assert_eq!(queue.leftover(), left, "{on_empty:?}, event {number}");
            }
        }
        let counts = [queue.late(), queue.outdated(), queue.dry_ticks()];
        let recorded = ["late", "outdated", "dry_ticks"].map(|name| case["counts"][name].as_u64().unwrap());
        assert_eq!(counts, recorded);
    }
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![-3.0..3.0, any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(1e60), Just(-1e300)]
}

proptest! {
    #[test]
    fn whatever_comes_in_what_leaves_is_within_the_limits(
        wanted in prop::collection::vec(any_number(), 1..200),
        start in -1.0..1.0,
        velocity in 0.1..10.0,
        acceleration in 0.1..100.0,
    ) {
        let hz = 50.0;
        let limits = Limits { low: &[-1.0], high: &[1.0], velocity: &[velocity], acceleration: &[acceleration] };
        let mut filter = SafetyFilter::new(1, hz, &limits).unwrap();
        filter.reset(&[start]).unwrap();
        let (mut before, mut speed, mut given) = (start, 0.0, [0.0]);
        for action in wanted {
            filter.apply(&[action], &mut given).unwrap();
            let now = (given[0] - before) * hz;
            prop_assert!((-1.0..=1.0).contains(&given[0]));
            prop_assert!(now.abs() <= velocity * (1.0 + 1e-6));
            prop_assert!((now - speed).abs() <= acceleration / hz * (1.0 + 1e-6) + 1e-9);
            (before, speed) = (given[0], now);
        }
    }

    #[test]
    fn a_queue_takes_any_chunk_or_refuses_it_and_plays_only_what_it_took(
        chunks in prop::collection::vec((prop::collection::vec(any_number(), 0..12), any_number()), 1..20),
    ) {
        let mut queue = ActionQueue::new(2, 4, OnEmpty::Hold).unwrap();
        let mut action = [0.0; 2];
        for (chunk, since) in chunks {
            let before = queue.leftover().to_vec();
            if queue.put(&chunk, since).is_err() {
                prop_assert_eq!(queue.leftover(), before);
            }
            if queue.take(&mut action).unwrap() != Taken::Nothing {
                prop_assert!(action.iter().all(|x| x.is_finite()));
            }
        }
    }
}

#[test]
fn nothing_is_allocated_in_the_loop() {
    let limits = Limits { low: &[-1.0], high: &[1.0], velocity: &[2.0], acceleration: &[20.0] };
    let mut filter = SafetyFilter::new(7, 1000.0, &limits).unwrap();
    filter.reset(&[0.0; 7]).unwrap();
    let mut queue = ActionQueue::new(7, 50, OnEmpty::Slow { below: 5 }).unwrap();
    let (chunk, mut action, mut given) = ([0.3; 350], [0.0; 7], [0.0; 7]);
    let count = allocations(|| {
        for tick in 0..10_000 {
            if tick % 20 == 0 {
                queue.put(&chunk, queue.consumed()).unwrap();
            }
            if queue.take(&mut action).unwrap() == Taken::Fresh {
                filter.apply(&action, &mut given).unwrap();
            } else {
                filter.hold();
            }
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for limits in [
        Limits { low: &[1.0], high: &[-1.0], ..Limits::default() },
        Limits { velocity: &[0.0], ..Limits::default() },
        Limits { acceleration: &[f64::NAN], ..Limits::default() },
        Limits { low: &[0.0, 0.0], ..Limits::default() },
        Limits { low: &[f64::INFINITY], ..Limits::default() },
    ] {
        assert!(matches!(SafetyFilter::new(3, 50.0, &limits), Err(Error::Argument { .. })));
    }
    for (dim, hz) in [(0, 50.0), (1, 0.0), (1, f64::NAN), (1, f64::INFINITY)] {
        assert!(SafetyFilter::new(dim, hz, &Limits::default()).is_err());
    }
    let mut filter = SafetyFilter::new(2, 50.0, &Limits::default()).unwrap();
    assert!(filter.apply(&[0.0; 2], &mut [0.0; 2]).unwrap_err().to_string().contains("where is the robot"));
    assert!(filter.reset(&[0.0, f64::NAN]).is_err());
    assert!(filter.reset(&[0.0]).is_err());
    filter.reset(&[0.0; 2]).unwrap();
    assert!(filter.apply(&[0.0; 3], &mut [0.0; 2]).is_err());
    assert!(ActionQueue::new(usize::MAX, 2, OnEmpty::Hold).is_err());
    assert!(ActionQueue::new(1, 1, OnEmpty::Slow { below: 0 }).is_err());
}
