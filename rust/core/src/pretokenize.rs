//! The GPT-2 split of a text into pieces that no merge crosses, as a walk over character classes.
//!
//! The pattern is `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. Where a piece ends
//! is known at the latest one character later, so one step of [`Cutter`] per character finds all ends.

mod classes;

use classes::{LETTERS, NUMBERS};

/// What the split needs to know of a character. Some letters stand apart because contractions are made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// Any letter but those below.
    Letter,
    Number,
    /// Neither letter, number, whitespace nor apostrophe.
    Other,
    Apostrophe,
    /// U+0020, which joins the piece after it.
    Space,
    /// Any other whitespace.
    Break,
    /// s, t, m, d: a contraction with the apostrophe alone.
    Ending,
    /// r, v: they begin 're and 've.
    EndingBeforeE,
    /// e.
    E,
    /// l: two of them make 'll.
    L,
    /// No character: the text is over.
    End,
}

impl Class {
    const COUNT: usize = 11;

    /// All of them, in order.
    const ALL: [Self; Self::COUNT] = [
        Self::Letter,
        Self::Number,
        Self::Other,
        Self::Apostrophe,
        Self::Space,
        Self::Break,
        Self::Ending,
        Self::EndingBeforeE,
        Self::E,
        Self::L,
        Self::End,
    ];

    /// The class of a character.
    pub(crate) fn of(character: char) -> Self {
        match character {
            '\'' => Self::Apostrophe,
            ' ' => Self::Space,
            's' | 't' | 'm' | 'd' => Self::Ending,
            'r' | 'v' => Self::EndingBeforeE,
            'e' => Self::E,
            'l' => Self::L,
            '\t'..='\r' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' => Self::Break,
            '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => Self::Break,
            _ if holds(LETTERS, character) => Self::Letter,
            _ if holds(NUMBERS, character) => Self::Number,
            _ => Self::Other,
        }
    }

    fn is_letter(self) -> bool {
        matches!(self, Self::Letter | Self::Ending | Self::EndingBeforeE | Self::E | Self::L)
    }
}

fn holds(ranges: &[(u32, u32)], character: char) -> bool {
    let code = u32::from(character);
    let after = ranges.partition_point(|&(first, _)| first <= code);
    after > 0 && code <= ranges[after - 1].1
}

/// What of the current piece matters to where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Nothing has come yet.
    Start,
    Letters,
    Numbers,
    Others,
    /// An apostrophe alone: a contraction may follow.
    Apostrophe,
    /// 'r or 'v: a contraction if e follows.
    BeforeE,
    /// 'l: a contraction if l follows.
    BeforeL,
    /// A whole contraction, which nothing joins.
    Contraction,
    OneSpace,
    OneBreak,
    /// At least two whitespaces, U+0020 the last.
    Spaces,
    /// At least two whitespaces, another one the last.
    Breaks,
}

impl State {
    /// All of them, in order.
    const ALL: [Self; 12] = [
        Self::Start,
        Self::Letters,
        Self::Numbers,
        Self::Others,
        Self::Apostrophe,
        Self::BeforeE,
        Self::BeforeL,
        Self::Contraction,
        Self::OneSpace,
        Self::OneBreak,
        Self::Spaces,
        Self::Breaks,
    ];

    /// The state of a piece that starts with this class.
    fn opened_by(class: Class) -> Self {
        match class {
            Class::Number => Self::Numbers,
            Class::Other => Self::Others,
            Class::Apostrophe => Self::Apostrophe,
            Class::Space => Self::OneSpace,
            Class::Break => Self::OneBreak,
            Class::End => Self::Start,
            _ => Self::Letters,
        }
    }
}

/// What one more character tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    state: State,
    /// A piece starts with the character before it.
    before_previous: bool,
    /// A piece starts with this character.
    before: bool,
}

/// Reads one more character.
fn step(state: State, class: Class) -> Step {
    let stay = |state| Step { state, before_previous: false, before: false };
    let cut = Step { state: State::opened_by(class), before_previous: false, before: true };
    let late = |step: Step| Step { before_previous: true, ..step };
    let runs_on = match state {
        State::Letters => class.is_letter(),
        State::Numbers => class == Class::Number,
        State::Others => matches!(class, Class::Other | Class::Apostrophe),
        _ => false,
    };
    if runs_on {
        return stay(state);
    }
    match (state, class) {
        (State::BeforeE, Class::E) | (State::BeforeL, Class::L) => stay(State::Contraction),
        // No contraction: the letter after the apostrophe began a piece of its own.
        (State::BeforeE | State::BeforeL, _) => late(step(State::Letters, class)),
        (_, Class::End) => stay(State::Start),
        (State::Start, _) => stay(State::opened_by(class)),
        (State::Apostrophe, Class::Ending) => stay(State::Contraction),
        (State::Apostrophe, Class::EndingBeforeE) => stay(State::BeforeE),
        (State::Apostrophe, Class::L) => stay(State::BeforeL),
        (State::Apostrophe, Class::Other | Class::Apostrophe) => stay(State::Others),
        (State::OneSpace | State::OneBreak | State::Spaces | State::Breaks, Class::Space) => {
            stay(State::Spaces)
        }
        (State::OneSpace | State::OneBreak | State::Spaces | State::Breaks, Class::Break) => {
            stay(State::Breaks)
        }
        // A space joins what follows; of several whitespaces the last is given back.
        (State::OneSpace, Class::Apostrophe) => stay(State::Others),
        (State::OneSpace, _) => stay(State::opened_by(class)),
        (State::Spaces, _) => late(step(State::OneSpace, class)),
        (State::Breaks, _) => late(cut),
        _ => cut,
    }
}

/// [`step`] as a table.
#[derive(Debug)]
pub(crate) struct Cutter([[Step; Class::COUNT]; State::ALL.len()]);

impl Cutter {
    /// Before the first character.
    pub(crate) const START: State = State::Start;

    pub(crate) fn new() -> Self {
        Self(State::ALL.map(|state| Class::ALL.map(|class| step(state, class))))
    }

    /// Whether characters of this class change nothing: the piece goes on, however many come.
    #[inline]
    pub(crate) fn stays(&self, state: State, class: Class) -> bool {
        self.0[state as usize][class as usize] == Step { state, before_previous: false, before: false }
    }

    /// Reads one more character, which starts at `at`; the one before it started at `previous`. Appends the starts of
    /// pieces that it tells of. [`Class::End`] comes last.
    #[inline]
    pub(crate) fn step(
        &self,
        state: State,
        class: Class,
        previous: usize,
        at: usize,
        cuts: &mut Vec<u32>,
    ) -> State {
        let step = &self.0[state as usize][class as usize];
        if step.before_previous {
            cuts.push(previous as u32);
        }
        if step.before {
            cuts.push(at as u32);
        }
        step.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        let (cutter, mut state, mut starts) = (Cutter::new(), Cutter::START, vec![0]);
        let classes = chars.iter().map(|&c| Class::of(c)).chain([Class::End]);
        for (at, class) in classes.enumerate() {
            state = cutter.step(state, class, at.saturating_sub(1), at, &mut starts);
        }
        starts.push(chars.len() as u32);
        starts.windows(2).map(|w| chars[w[0] as usize..w[1] as usize].iter().collect()).collect()
    }

    #[test]
    fn pieces_are_those_of_the_pattern() {
        for (text, expected) in [
            ("", vec![""]),
            ("it's a dog's 3 toys", vec!["it", "'s", " a", " dog", "'s", " 3", " toys"]),
            ("we'll we've we're", vec!["we", "'ll", " we", "'ve", " we", "'re"]),
            ("'r 'v 'l 'lx 'rr", vec!["'", "r", " '", "v", " '", "l", " '", "lx", " '", "rr"]),
            ("a'r", vec!["a", "'", "r"]),
            ("a'r's", vec!["a", "'", "r", "'s"]),
            ("a'l1", vec!["a", "'", "l", "1"]),
            ("a'lll", vec!["a", "'ll", "l"]),
            ("'''s", vec!["'''", "s"]),
            ("'sss", vec!["'s", "ss"]),
            ("  a   b", vec![" ", " a", "  ", " b"]),
            (" \n a", vec![" \n", " a"]),
            (" \na", vec![" ", "\n", "a"]),
            ("\na\n", vec!["\n", "a", "\n"]),
            ("a \t\n ", vec!["a", " \t\n "]),
            (" 's", vec![" '", "s"]),
            ("\u{1c}\u{a0}\u{e9}\u{4e00}\u{b2}!", vec!["\u{1c}", "\u{a0}", "\u{e9}\u{4e00}", "\u{b2}", "!"]),
        ] {
            assert_eq!(pieces(text), expected, "{text:?}");
        }
    }

    #[test]
    fn classes_and_states_are_listed_in_order() {
        assert!(Class::ALL.iter().enumerate().all(|(at, &class)| class as usize == at));
        assert!(State::ALL.iter().enumerate().all(|(at, &state)| state as usize == at));
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        for ranges in [LETTERS, NUMBERS] {
            assert!(ranges.iter().all(|(first, last)| first <= last));
            assert!(ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
