//! Prompts of any text and any state, of all three models in both styles, alone and in batches.

use std::sync::{Arc, LazyLock};

use arbitrary::Unstructured;
use pioxide_core::{
    Error, FastIds, FastRow, Instructions, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, PromptOptions,
    PromptRows, PromptStyle, Result, SentencePiece, Written,
};

const FAST_IDS: usize = 1024;

/// The vocabulary that ships with pioxide.
static TEXT: LazyLock<Arc<SentencePiece>> = LazyLock::new(|| {
    let model = include_bytes!("../../../python/pioxide/demo/text.model");
    Arc::new(SentencePiece::from_bytes(model).expect("it reads"))
});

/// The formats by style and by the width of the state.
static FORMATS: LazyLock<Vec<Formats>> = LazyLock::new(|| {
    let styles = [PromptStyle::OpenPi, PromptStyle::LeRobot];
    let options = styles.map(|style| [None, Some(9)].map(|state_width| PromptOptions { style, state_width }));
    options.into_iter().flatten().map(Formats::new).collect()
});

struct Formats {
    width: Option<usize>,
    pi0: Pi0Prompts,
    pi05: Pi05Prompts,
    fast: Pi0FastPrompts,
}

impl Formats {
    fn new(options: PromptOptions) -> Self {
        let text = || TEXT.clone();
        Self {
            width: options.state_width,
            pi0: Pi0Prompts::new(text(), options.style).expect("it has what they need"),
            pi05: Pi05Prompts::new(text(), options).expect("it has what they need"),
            fast: Pi0FastPrompts::new(text(), FastIds::new(FAST_IDS), options)
                .expect("it has what they need"),
        }
    }
}

/// What a prompt is made of.
struct Input {
    texts: [String; 2],
    state: Vec<f64>,
    actions: Vec<u32>,
    /// What a model may have written.
    wild: Vec<i32>,
    /// Ids that a row has room for.
    room: usize,
}

impl Input {
    fn of(input: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let room = input.int_in_range(0..=300)?;
        let text = |input: &mut Unstructured<'_>| {
            let length = usize::from(input.arbitrary::<u8>()?).min(input.len());
            Ok(String::from_utf8_lossy(input.bytes(length)?).into_owned())
        };
        let texts = [text(input)?, text(input)?];
        let exact = input.ratio(1, 8)?;
        let state = (0..input.int_in_range(0..=12)?)
            .map(|_| match exact {
                true => input.arbitrary().map(f64::from_bits),
                false => input.arbitrary().map(|step: i16| f64::from(step) / 16384.0),
            })
            .collect::<arbitrary::Result<_>>()?;
        let actions = (0..input.int_in_range(0..=30)?)
            .map(|_| input.arbitrary().map(|id: u16| u32::from(id) % FAST_IDS as u32))
            .collect::<arbitrary::Result<_>>()?;
        let wild = input.arbitrary_iter()?.flatten().map(|id: i16| i32::from(id) % 5000).collect();
        Ok(Self { texts, state, actions, wild, room })
    }
}

/// Any prompt.
pub fn prompts(data: &[u8]) {
    let input = &mut Unstructured::new(data);
    let Ok((formats, input)) = input.choose(&FORMATS).and_then(|formats| Ok((formats, Input::of(input)?)))
    else {
        return;
    };
    let Formats { pi0, pi05, fast, width } = formats;
    let text = &input.texts[0];
    let full = check_cut(&input, |tokens, mask| pi0.encode_into(text, tokens, mask));
    assert!(full.is_ok(), "any text has a prompt");
    let stated = [
        check_cut(&input, |tokens, mask| pi05.encode_into(text, &input.state, tokens, mask)),
        check_cut(&input, |tokens, mask| fast.encode_into(text, &input.state, tokens, mask)),
    ];
    for result in &stated {
        match result {
            Ok(_) => assert!(input.state.iter().all(|x| x.is_finite())),
            Err(Error::NotFinite { joint, .. }) => assert!(!input.state[*joint].is_finite()),
            Err(error) => assert!(width.is_some_and(|width| width < input.state.len()), "{error}"),
        }
    }
    check_batch(formats, &input);
    if let Ok(prefix) = &stated[1] {
        check_training(fast, &input, prefix);
    }
    check_generated(fast, &input.wild);
}

/// Writes a prompt into a row that is long enough and one that may not be: the same ids, cut at the end, filled up with
/// the pad id. Returns the whole prompt.
fn check_cut(
    input: &Input,
    mut write: impl FnMut(&mut [i32], &mut [bool]) -> Result<Written>,
) -> Result<Vec<i32>> {
    let (mut tokens, mut mask) = (vec![-9; 8192], vec![true; 8192]);
    let written = write(&mut tokens, &mut mask)?;
    let length = written.length;
    assert!(!written.truncated && length >= 1, "a prompt begins");
    let pad = TEXT.pad().unwrap_or(0) as i32;
    assert!(tokens[length..].iter().all(|&id| id == pad) && mask[..length].iter().all(|&counts| counts));
    assert!(!mask[length..].contains(&true));
    tokens.truncate(length);
    assert!(tokens.iter().all(|&id| (0..TEXT.vocab_size() as i32).contains(&id)));
    let (mut cut, mut mask) = (vec![-9; input.room], vec![true; input.room]);
    assert_eq!(write(&mut cut, &mut mask), Ok(Written { length, truncated: length > input.room }));
    let kept = length.min(input.room);
    assert!(cut[..kept] == tokens[..kept] && cut[kept..].iter().all(|&id| id == pad));
    assert_eq!(mask.iter().filter(|&&counts| counts).count(), kept);
    Ok(tokens)
}

/// A batch has the rows that its prompts have alone.
fn check_batch(formats: &Formats, input: &Input) {
    let rows = [0, 1, 0];
    let texts = || rows.map(|text| input.texts[text].as_str());
    let states = input.state.repeat(rows.len());
    let room = input.room;
    let (mut tokens, mut mask) = (vec![-9; 3 * room], vec![true; 3 * room]);
    let (mut lengths, mut truncated) = ([0; 3], [false; 3]);
    let batch =
        PromptRows { tokens: &mut tokens, mask: &mut mask, lengths: &mut lengths, truncated: &mut truncated };
    let result =
        formats.pi05.encode_batch_into(&Instructions::of_rows(texts()), &states, batch, &mut || true);
    for (row, text) in texts().into_iter().enumerate() {
        let (mut one, mut one_mask) = (vec![-9; room], vec![true; room]);
        match formats.pi05.encode_into(text, &input.state, &mut one, &mut one_mask) {
            Ok(written) => {
                assert_eq!(result, Ok(()));
                let place = row * room..(row + 1) * room;
                assert!(tokens[place.clone()] == one && mask[place] == one_mask);
                assert_eq!((lengths[row], truncated[row]), (written.length as i32, written.truncated));
            }
            Err(error) => {
                assert!(matches!(&result, Err(Error::At { error: inner, .. }) if same(inner, &error)))
            }
        }
    }
}

/// Whether two errors are of one kind; a value that is no number equals nothing.
fn same(one: &Error, other: &Error) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// A training row is the prompt and its answer, and the actions can be read from it.
fn check_training(fast: &Pi0FastPrompts, input: &Input, prefix: &[i32]) {
    let (mut tokens, mut mask) = (vec![-9; 9000], vec![true; 9000]);
    let (mut ar_mask, mut loss_mask) = (vec![-9; 9000], vec![true; 9000]);
    let out =
        FastRow { tokens: &mut tokens, mask: &mut mask, ar_mask: &mut ar_mask, loss_mask: &mut loss_mask };
    let written =
        fast.encode_training_into(&input.texts[0], &input.state, &input.actions, out).expect("as the prompt");
    let answer = &tokens[prefix.len()..written.length];
    assert!(tokens.starts_with(prefix) && answer.starts_with(fast.answer_start()));
    assert!(answer.ends_with(fast.answer_end()));
    let actions = &answer[fast.answer_start().len()..answer.len() - fast.answer_end().len()];
    assert!(actions.iter().map(|&token| fast.fast_id(token)).eq(input.actions.iter().map(|&id| Some(id))));
    let mut found = Vec::new();
    fast.fast_ids(answer, &mut found).expect("it holds actions");
    assert_eq!(found, input.actions);
    found.clear();
    fast.continued_fast_ids(&answer[fast.answer_start().len()..], &mut found).expect("it holds actions");
    assert_eq!(found, input.actions);
    let places = 0..tokens.len();
    assert!(places.clone().all(|at| (ar_mask[at] == 1) == (prefix.len()..written.length).contains(&at)));
    let learnt = loss_mask.iter().filter(|&&counts| counts).count();
    assert!(learnt <= answer.len() && places.into_iter().all(|at| !loss_mask[at] || ar_mask[at] == 1));
}

/// What a model writes is actions or an error, and then nothing is left half-written.
fn check_generated(fast: &Pi0FastPrompts, wild: &[i32]) {
    for read in [Pi0FastPrompts::fast_ids, Pi0FastPrompts::continued_fast_ids] {
        let mut found = vec![7];
        match read(fast, wild, &mut found) {
            Ok(()) => {
                let mut all = wild.iter().filter_map(|&token| fast.fast_id(token));
                assert!(found[1..].iter().all(|&id| all.any(|other| other == id)), "ids in their order");
            }
            Err(Error::NotAnAction { position, id }) => assert_eq!(wild[position], id),
            Err(error) => assert!(matches!(error, Error::NoActions { .. }), "{error}"),
        }
        assert_eq!(found[0], 7);
    }
}
