//! The stages of the core, one thread, buffers reused as a caller would: `cargo bench -p pioxide-benches`.
//!
//! Every iteration takes the next chunk of many, so that no branch predictor learns one by heart.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pioxide_benches::{Chunks, text_model};
use pioxide_core::{
    Dct, FastIds, FastRow, FastScratch, OnOverflow, Partial, Pi0FastPrompts, Pi0Prompts, Pi05Prompts,
    PromptOptions, PromptStyle, TextScratch,
};

type Failure = Box<dyn std::error::Error>;

const SHAPES: [(usize, usize, usize); 2] = [(50, 26, 2048), (16, 14, 1024)];
const PROMPT: &str = "pick up the yellow bottle and put it into the left drawer";

fn transform(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut group = criterion.benchmark_group("dct");
    for (horizon, dim, _) in SHAPES {
        let chunks = Chunks::new(horizon, dim, 256);
        let single = chunks.single();
        let plan = Dct::new(horizon)?;
        let (mut wide, mut narrow) = (vec![0.0f64; horizon * dim], vec![0.0f32; horizon * dim]);
        let (mut scratch, mut narrow_scratch) = (Vec::new(), Vec::new());
        let mut next = (0..chunks.chunks.len()).cycle();
        group.bench_function(format!("forward f64 {horizon}x{dim}"), |bench| {
            bench.iter(|| {
                let chunk = &chunks.chunks[next.next().unwrap_or_default()];
                plan.forward(black_box(chunk), dim, &mut scratch, &mut wide)
            });
        });
        group.bench_function(format!("forward f32 {horizon}x{dim}"), |bench| {
            bench.iter(|| {
                let chunk = &single[next.next().unwrap_or_default()];
                plan.forward(black_box(chunk), dim, &mut narrow_scratch, &mut narrow)
            });
        });
        group.bench_function(format!("inverse f64 {horizon}x{dim}"), |bench| {
            bench.iter(|| {
                let chunk = &chunks.chunks[next.next().unwrap_or_default()];
                plan.inverse(black_box(chunk), dim, &mut scratch, &mut wide)
            });
        });
    }
    group.finish();
    Ok(())
}

fn fast(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut group = criterion.benchmark_group("fast");
    for (horizon, dim, vocab) in SHAPES {
        let chunks = Chunks::new(horizon, dim, 1024);
        let single = chunks.single();
        let plan = Dct::new(horizon)?;
        let mut scratch = FastScratch::default();
        let mut ids = Vec::new();
        group.throughput(Throughput::Elements(1));
        for regex_split in [true, false] {
            let codec = chunks.fit(vocab, regex_split)?;
            let split = if regex_split { "" } else { " unsplit" };
            let mut next = (0..chunks.chunks.len()).cycle();
            group.bench_function(format!("encode f64 {horizon}x{dim}{split}"), |bench| {
                bench.iter(|| {
                    ids.clear();
                    let chunk = &chunks.chunks[next.next().unwrap_or_default()];
                    codec.encode_into(&plan, black_box(chunk), dim, OnOverflow::Clip, &mut scratch, &mut ids)
                });
            });
            group.bench_function(format!("encode f32 {horizon}x{dim}{split}"), |bench| {
                bench.iter(|| {
                    ids.clear();
                    let chunk = &single[next.next().unwrap_or_default()];
                    codec.encode_into(&plan, black_box(chunk), dim, OnOverflow::Clip, &mut scratch, &mut ids)
                });
            });
            let still = vec![0.0; horizon * dim];
            group.bench_function(format!("encode zeros {horizon}x{dim}{split}"), |bench| {
                bench.iter(|| {
                    ids.clear();
                    codec.encode_into(&plan, black_box(&still), dim, OnOverflow::Clip, &mut scratch, &mut ids)
                });
            });
            let mut encoded = Vec::with_capacity(chunks.chunks.len());
            for chunk in &chunks.chunks {
                let mut one = Vec::new();
                codec.encode_into(&plan, chunk, dim, OnOverflow::Clip, &mut scratch, &mut one)?;
                encoded.push(one);
            }
            let mut actions = vec![0.0; horizon * dim];
            group.bench_function(format!("decode {horizon}x{dim}{split}"), |bench| {
                bench.iter(|| {
                    let ids = &encoded[next.next().unwrap_or_default()];
                    codec.decode_into(&plan, black_box(ids), dim, Partial::Error, &mut scratch, &mut actions)
                });
            });
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("fit");
    group.sample_size(10);
    let chunks = Chunks::new(50, 26, 2482);
    for (regex_split, name) in [(true, "50x26 1024 tokens"), (false, "50x26 1024 tokens unsplit")] {
        group.bench_function(name, |bench| bench.iter(|| chunks.fit(1024, regex_split)));
    }
    group.finish();
    Ok(())
}

fn text(criterion: &mut Criterion) -> Result<(), Failure> {
    let text = text_model()?;
    let mut group = criterion.benchmark_group("text");
    let (mut scratch, mut ids) = (TextScratch::default(), Vec::new());
    group.bench_function("encode an instruction", |bench| {
        bench.iter(|| {
            ids.clear();
            text.encode_into(black_box(PROMPT), &mut scratch, &mut ids)
        });
    });
    group.bench_function("decode it", |bench| bench.iter(|| text.decode(black_box(&ids))));
    group.finish();

    let mut group = criterion.benchmark_group("prompt");
    let states = Chunks::new(1, 32, 512);
    let mut next = (0..states.chunks.len()).cycle();
    let (mut tokens, mut mask) = (vec![0; 400], vec![false; 400]);
    let (pi0, pi05) = (
        Pi0Prompts::new(text.clone(), PromptStyle::OpenPi)?,
        Pi05Prompts::new(text.clone(), PromptOptions::default())?,
    );
    let task = pi0.tokenize(PROMPT)?;
    group.bench_function("pi0, known task", |bench| {
        bench.iter(|| pi0.write_into(black_box(&task), &mut tokens[..48], &mut mask[..48]));
    });
    let task = pi05.tokenize(PROMPT)?;
    group.bench_function("pi05, known task, 32 joints", |bench| {
        bench.iter(|| {
            let state = &states.chunks[next.next().unwrap_or_default()];
            pi05.write_into(black_box(&task), state, &mut tokens[..200], &mut mask[..200])
        });
    });
    let pi0_fast = Pi0FastPrompts::new(text, FastIds::new(1024), PromptOptions::default())?;
    let task = pi0_fast.tokenize(PROMPT)?;
    group.bench_function("pi0-fast prefix, known task, 32 joints", |bench| {
        bench.iter(|| {
            let state = &states.chunks[next.next().unwrap_or_default()];
            pi0_fast.write_into(black_box(&task), state, &mut tokens[..250], &mut mask[..250])
        });
    });
    let actions: Vec<u32> = (0..100).map(|i| i * 7 % 1024).collect();
    let (mut ar_mask, mut loss_mask) = (vec![0; 400], vec![false; 400]);
    group.bench_function("pi0-fast training row, 32 joints, 100 action tokens", |bench| {
        bench.iter(|| {
            let row = FastRow {
                tokens: &mut tokens,
                mask: &mut mask,
                ar_mask: &mut ar_mask,
                loss_mask: &mut loss_mask,
            };
            let state = &states.chunks[next.next().unwrap_or_default()];
            pi0_fast.write_training_into(black_box(&task), state, &actions, row)
        });
    });
    let mut ids = Vec::new();
    group.bench_function("pi0-fast ids back to FAST ids", |bench| {
        bench.iter(|| {
            ids.clear();
            pi0_fast.fast_ids(black_box(&tokens), &mut ids)
        });
    });
    group.finish();
    Ok(())
}

/// Runs one group; a bench that can't set up its material says why and fails.
fn run(criterion: &mut Criterion, name: &str, group: fn(&mut Criterion) -> Result<(), Failure>) {
    if let Err(error) = group(criterion) {
        eprintln!("{name}: {error}");
        std::process::exit(1);
    }
}

fn all(criterion: &mut Criterion) {
    run(criterion, "dct", transform);
    run(criterion, "fast", fast);
    run(criterion, "text", text);
}

criterion_group!(stages, all);
criterion_main!(stages);
