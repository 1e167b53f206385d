//! From generated ids back to FAST ids, against openpi's way through text.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::sync::{Arc, LazyLock};

use common::shared::in_repository;
use pioxide_core::{Error, FastIds, FastRow, Pi0FastPrompts, PromptOptions, SentencePiece};
use proptest::prelude::*;

struct Demo {
    text: Arc<SentencePiece>,
    fast: Pi0FastPrompts,
    /// With as many FAST ids as there are `<loc>` pieces, which text leaves as they are.
    small: Pi0FastPrompts,
    marker: Vec<i32>,
    bar: i32,
}

static DEMO: LazyLock<Demo> = LazyLock::new(|| {
    let bytes = fs::read(in_repository("python/pioxide/demo/text.model")).unwrap();
    let text = Arc::new(SentencePiece::from_bytes(&bytes).unwrap());
    let ids = |part: &str| text.encode(part).unwrap().iter().map(|&id| id as i32).collect::<Vec<_>>();
    let (marker, bar) = (ids("Action: "), ids("|")[0]);
    let [fast, small] = [2048, 1024]
        .map(|size| Pi0FastPrompts::new(text.clone(), FastIds::new(size), PromptOptions::default()).unwrap());
    Demo { fast, small, marker, bar, text }
});

impl Demo {
    fn token(&self, fast_id: u32) -> i32 {
        self.text.vocab_size() as i32 - 129 - fast_id as i32
    }

    fn ids(&self, text: &str) -> Vec<i32> {
        self.text.encode(text).unwrap().iter().map(|&id| id as i32).collect()
    }

    fn back(&self, tokens: &[i32]) -> Result<Vec<u32>, Error> {
        Self::back_by(&self.fast, tokens)
    }

    fn back_by(fast: &Pi0FastPrompts, tokens: &[i32]) -> Result<Vec<u32>, Error> {
        let mut out = vec![77];
        let result = fast.fast_ids(tokens, &mut out);
        assert_eq!(out[0], 77, "what was there stays");
        if result.is_err() {
            assert_eq!(out.len(), 1, "nothing half-written");
        }
        result.map(|()| out.split_off(1))
    }

    /// openpi's way: all ids to text, cut, stripped, and encoded again. `None` where it finds no actions, or where what
    /// it maps back is no FAST id, so that decoding could give nothing real.
    fn through_text(&self, tokens: &[i32]) -> Option<Vec<u32>> {
        let ids: Vec<u32> = tokens.iter().map(|&id| id as u32).collect();
        let text = self.text.decode(&ids).unwrap();
        let between = text.split("Action: ").nth(1)?.split('|').next()?;
        let python_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
        let again = self.text.encode(between.trim_matches(python_space)).unwrap();
        let back = again.iter().map(|&id| self.text.vocab_size() as i64 - 129 - i64::from(id));
        back.map(|id| (0..1024).contains(&id).then_some(id as u32)).collect()
    }
}

#[test]
fn training_rows_come_back() {
    let demo = &*DEMO;
    let task = demo.fast.tokenize("pick up the cube").unwrap();
    let actions: Vec<u32> = (0..2048).step_by(13).collect();
    let (mut tokens, mut mask) = (vec![0; 400], vec![false; 400]);
    let (mut ar_mask, mut loss_mask) = (vec![0; 400], vec![false; 400]);
    let row =
        FastRow { tokens: &mut tokens, mask: &mut mask, ar_mask: &mut ar_mask, loss_mask: &mut loss_mask };
    let written = demo.fast.write_training_into(&task, &[0.5f32; 7], &actions, row).unwrap();
    assert!(!written.truncated);
    assert_eq!(demo.back(&tokens).unwrap(), actions);
    let prefix = loss_mask.iter().position(|&lossy| lossy).unwrap();
    assert_eq!(demo.back(&tokens[prefix..]).unwrap(), actions);
    let mut out = Vec::new();
    demo.fast.continued_fast_ids(&tokens[prefix + demo.marker.len()..], &mut out).unwrap();
    assert_eq!(out, actions);
}

#[test]
fn what_ends_the_actions_and_what_does_not_count() {
    let demo = &*DEMO;
    let (a, b, c) = (demo.token(5), demo.token(1023), demo.token(0));
    let from = |rest: &[i32]| demo.back(&[&demo.marker, rest].concat()).unwrap();
    assert_eq!(from(&[a, b, demo.bar, c]), [5, 1023]);
    assert_eq!(from(&[a, b, 1, c]), [5, 1023]);
    assert_eq!(from(&[a, b]), [5, 1023]);
    assert_eq!(from(&[a, 0, b, 0, 0]), [5, 1023], "padding");
    assert_eq!(from(&[&[a], demo.marker.as_slice(), &[b]].concat()), [5], "another beginning");
    assert_eq!(
        from(&[&demo.ids("  \n"), &[a][..], &demo.ids(" "), &[demo.bar]].concat()),
        [5],
        "white space around"
    );
    assert_eq!(from(&[]), Vec::<u32>::new());
    // The prompt may hold the marker in other tokens: text decides, as in openpi.
    let spelled =
        [demo.ids("Act"), demo.ids("ion"), demo.ids(":"), demo.ids(" "), vec![a, demo.bar]].concat();
    assert_eq!(demo.back(&spelled).unwrap(), [5]);
    let in_bytes: Vec<i32> =
        b"Action: ".iter().map(|b| demo.text.id(&format!("<0x{b:02X}>")).unwrap() as i32).collect();
    assert_eq!(demo.back(&[in_bytes, vec![a, demo.bar]].concat()).unwrap(), [5]);
}

#[test]
fn garbage_is_an_error_that_names_it() {
    let demo = &*DEMO;
    let (a, word) = (demo.token(5), demo.ids("table")[0]);
    let failing = |tokens: &[i32]| demo.back(tokens).unwrap_err();
    assert_eq!(failing(&[a, a, demo.bar]), Error::NoActions { tokens: 3 });
    assert_eq!(failing(&[]), Error::NoActions { tokens: 0 });
    assert_eq!(
        failing(&[&demo.marker, &[a, word][..]].concat()),
        Error::NotAnAction { position: 4, id: word }
    );
    assert_eq!(failing(&[&demo.marker, &[a, -3][..]].concat()), Error::NotAnAction { position: 4, id: -3 });
    assert_eq!(
        failing(&[&demo.marker, &[a, i32::MIN][..]].concat()),
        Error::NotAnAction { position: 4, id: i32::MIN }
    );
    assert_eq!(failing(&[999_999]), Error::NotAnAction { position: 0, id: 999_999 });
    let segment = demo.token(0) + 1;
    assert_eq!(
        failing(&[&demo.marker, &[segment][..]].concat()),
        Error::NotAnAction { position: 3, id: segment }
    );
    // A FAST vocabulary of 2048 reaches no further down.
    let below = demo.token(2047) - 1;
    assert_eq!(
        failing(&[&demo.marker, &[below][..]].concat()),
        Error::NotAnAction { position: 3, id: below }
    );
    let space = demo.ids(" ")[0];
    assert_eq!(
        failing(&[&demo.marker, &[a, space, a][..]].concat()),
        Error::NotAnAction { position: 4, id: space },
        "white space between ids"
    );
    assert_eq!(
        demo.back(&[&demo.marker, &[a, word][..]].concat()).unwrap_err().to_string(),
        format!("token 4 (id {word}) is no action token")
    );
}

#[test]
fn a_vocabulary_too_small_for_the_ids_is_refused() {
    let text = &DEMO.text;
    let refusal = |size| {
        Pi0FastPrompts::new(text.clone(), FastIds::new(size), PromptOptions::default())
            .unwrap_err()
            .to_string()
    };
    assert!(refusal(0).contains("can't hold 0 FAST ids"));
    assert!(refusal(text.vocab_size()).contains("can't hold"));
    assert!(refusal(text.vocab_size() - 128).contains("is both an action and part of the frame"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever openpi's way gives a real answer, this one gives the same, and the other way round.
    #[test]
    fn it_agrees_with_the_way_through_text(
        parts in proptest::collection::vec((0..14usize, 0..1024u32), 0..14), begun in any::<bool>(),
    ) {
        let demo = &*DEMO;
        let mut tokens = if begun { demo.marker.clone() } else { vec![] };
        for (kind, number) in parts {
            match kind {
                0..=6 => tokens.push(demo.token(number)),
                7 => tokens.push(demo.bar),
                8 => tokens.extend(&demo.marker),
                9 => tokens.push(0),
                10 => tokens.extend(demo.ids([" ", "\n", "  ", "\t"][number as usize % 4])),
                11 => tokens.extend(demo.ids(["Act", "ion", ":", "A", "| ", " |", "||"][number as usize % 7])),
                12 => tokens.push(12 + number as i32 % 256),
                _ => tokens.push(number as i32 % 4100),
            }
        }
        // What follows the end of the sequence is read there as if it were part of it.
        prop_assume!(!tokens.contains(&1));
        let real = demo.through_text(&tokens);
        let ours = Demo::back_by(&demo.small, &tokens);
        match (&real, &ours) {
            (Some(real), Ok(ours)) => prop_assert_eq!(real, ours),
            (None, Err(_)) => {}
            // Text can also be cut inside a token, or a character be put together from bytes.
            (Some(ids), Err(_)) => prop_assert!(ids.is_empty(), "{:?}", tokens),
            (None, Ok(_)) => prop_assert!(false, "{:?}", tokens),
        }
    }
}
