//! The slowest of a million calls from Rust: encode, decode, prompt, queue and safety, their allocations and page
//! faults. Prints one line of JSON a function; times are wall time in microseconds. `PIOXIDE_CALLS` sets how many.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../../rust/core/tests/common/counting.rs"]
mod counting;

use std::hint::black_box;
use std::time::Instant;

use counting::allocations;
use pioxide_benches::text_model;
use pioxide_core::{
    ActionQueue, FastCodec, FastScratch, FitOptions, Limits, OnEmpty, OnOverflow, Partial, Pi05Prompts,
    PromptOptions, SafetyFilter,
};

const HORIZON: usize = 50;
const DIM: usize = 14;
const MANY: usize = 256;

/// The chunks of `benches/realtime.cpp`.
fn chunk(number: usize) -> Vec<f64> {
    let value = |at: usize| {
        let (step, joint) = ((at / DIM + number * 3) as f64, (at % DIM) as f64);
        0.8 * (step / (15.0 + joint) + joint).sin() + 0.02 * (step * 12.9898 + joint * 78.233).sin()
    };
    (0..HORIZON * DIM).map(value).collect()
}

/// Page faults of this process, minor and major; 0 where the system does not say.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.enumerate().filter(|(at, _)| [7, 9].contains(at)).filter_map(|(_, x)| x.parse::<u64>().ok()).sum()
}

fn measure(name: &str, times: &mut [f64], mut call: impl FnMut(usize)) {
    (0..1000).for_each(&mut call);
    let before = faults();
    let allocated = allocations(|| {
        for (at, time) in times.iter_mut().enumerate() {
            let began = Instant::now();
            call(at);
            *time = began.elapsed().as_secs_f64() * 1e6;
        }
    });
    // Reading the file of faults itself may fault now and then.
    let faulted = faults() - before;
    times.sort_unstable_by(f64::total_cmp);
    let part = |share: f64| times[(share * (times.len() - 1) as f64) as usize];
    println!(
        "{{\"from\": \"Rust\", \"call\": \"{name}\", \"calls\": {}, \"p50\": {:.3}, \"p99.9\": {:.3}, \
         \"p99.99\": {:.3}, \"max\": {:.3}, \"allocations\": {allocated}, \"faults\": {faulted}}}",
        times.len(),
        part(0.5),
        part(0.999),
        part(0.9999),
        part(1.0),
    );
}

fn main() {
    let calls = std::env::var("PIOXIDE_CALLS").map_or(1_000_000, |calls| calls.parse().unwrap());
    let mut times = vec![1.0; calls];
    let times = &mut times;
    let chunks: Vec<_> = (0..MANY).map(chunk).collect();
    let shaped: Vec<_> = chunks.iter().map(|values| (values.as_slice(), HORIZON, DIM)).collect();
    let codec = FastCodec::fit(&shaped, &FitOptions::default()).unwrap();
    let (plan, mut scratch) = (codec.plan(HORIZON).unwrap(), FastScratch::default());
    let mut ids = Vec::with_capacity(4 * HORIZON * DIM);
    measure("encode", times, |at| {
        ids.clear();
        let chunk = &chunks[at % MANY];
        codec.encode_into(&plan, chunk, DIM, OnOverflow::Error, &mut scratch, &mut ids).unwrap();
    });
    let encoded: Vec<Vec<u32>> = chunks
        .iter()
        .map(|chunk| {
            let mut ids = Vec::new();
            codec.encode_into(&plan, chunk, DIM, OnOverflow::Error, &mut scratch, &mut ids).unwrap();
            ids
        })
        .collect();
    let mut actions = [0.0; HORIZON * DIM];
    measure("decode", times, |at| {
        let ids = &encoded[at % MANY];
        codec.decode_into(&plan, ids, DIM, Partial::Error, &mut scratch, &mut actions).unwrap();
    });

    let prompts = Pi05Prompts::new(text_model().unwrap(), PromptOptions::default()).unwrap();
    let instruction = prompts.tokenize("Fold the towel").unwrap();
    let (mut tokens, mut mask) = ([0; 200], [false; 200]);
    measure("prompt", times, |at| {
        let state = &chunks[at % MANY][..DIM];
        black_box(prompts.write_into(&instruction, state, &mut tokens, &mut mask).unwrap());
    });

    let mut queue = ActionQueue::new(DIM, HORIZON, OnEmpty::Hold).unwrap();
    let mut action = [0.0; DIM];
    measure("queue", times, |at| {
        if at % 25 == 0 {
            queue.put(&chunks[at % MANY], queue.consumed()).unwrap();
        }
        black_box(queue.take(&mut action).unwrap());
    });
    let limits = Limits { low: &[-1.0], high: &[1.0], velocity: &[2.0], acceleration: &[20.0] };
    let mut safety = SafetyFilter::new(DIM, 1000.0, &limits).unwrap();
    safety.reset(&action).unwrap();
    measure("safety", times, |at| {
        black_box(safety.apply(&chunks[at % MANY][..DIM], &mut action).unwrap());
    });
}
