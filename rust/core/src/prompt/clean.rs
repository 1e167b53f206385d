//! What the formats do to a prompt's text before it is tokenized, with the meaning Python's `str` methods have: the
//! models were trained on text cleaned by those.

use std::borrow::Cow;

/// π0, π0.5 and LeRobot's π0-FAST: `prompt.strip()`, then underscores and newlines become spaces.
pub(super) fn flow(prompt: &str) -> String {
    strip(prompt).replace(['_', '\n'], " ")
}

/// π0-FAST: `prompt.lower().strip()`, then underscores become spaces. Newlines inside stay.
pub(super) fn fast(prompt: &str) -> String {
    // Both languages lower-case by Unicode's full mapping, the final sigma included.
    strip(&prompt.to_lowercase()).replace('_', " ")
}

/// LeRobot's π0: the prompt as it is, with a newline at its end.
pub(super) fn ends_in_newline(prompt: &str) -> Cow<'_, str> {
    if prompt.ends_with('\n') { prompt.into() } else { format!("{prompt}\n").into() }
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.isspace()`, which counts the four information separators that Unicode's White_Space leaves out.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_stripped_as_python_strips_them() {
        assert_eq!(strip("\u{1c}\u{1f}\u{85}\u{a0}\u{3000} a b\u{2028}\t\r\n"), "a b");
        // Not spaces, though they look like it.
        assert_eq!(strip("\u{200b}a\u{feff}\u{180e}"), "\u{200b}a\u{feff}\u{180e}");
    }

    #[test]
    fn underscores_and_newlines_follow_the_format() {
        assert_eq!(flow(" _Pick\nup_ \n"), " Pick up ");
        assert_eq!(fast(" _Pick\nup_ \n"), " pick\nup ");
        assert_eq!(ends_in_newline(" _Pick\nup_ "), " _Pick\nup_ \n");
        assert_eq!(ends_in_newline("up\n\n"), "up\n\n");
    }

    #[derive(serde::Deserialize)]
    struct Golden {
        characters: Characters,
        sigmas: Vec<(String, String)>,
    }

    /// What Python says of every code point, recorded by `tools/record_text_golden.py`.
    #[derive(serde::Deserialize)]
    struct Characters {
        lower: std::collections::BTreeMap<String, String>,
        space: Vec<u32>,
    }

    fn golden() -> Golden {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/text.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn every_code_point_is_lower_cased_as_python_does() {
        // Letters of Unicode 15 to 17, which the recording Python's Unicode 14 had not got yet.
        let newer = [0x1c89, 0xa7cb, 0xa7cc, 0xa7ce, 0xa7d2, 0xa7d4, 0xa7da, 0xa7dc];
        let is_newer = |c: u32| {
            newer.contains(&c) || (0x10d50..=0x10d65).contains(&c) || (0x16ea0..=0x16eb8).contains(&c)
        };
        let golden = golden().characters;
        assert!(golden.lower.len() > 1000);
        for c in '\0'..=char::MAX {
            let lower = c.to_string().to_lowercase();
            match golden.lower.get(&format!("{:x}", u32::from(c))) {
                // A sigma alone is not final.
                Some(wanted) => assert_eq!(&lower, wanted, "{c:?}"),
                None => assert!(lower == c.to_string() || is_newer(u32::from(c)), "{c:?} {lower:?}"),
            }
        }
    }

    #[test]
    fn every_code_point_is_stripped_as_python_does() {
        let golden = golden().characters;
        for c in '\0'..=char::MAX {
            assert_eq!(is_space(c), golden.space.contains(&u32::from(c)), "{c:?}");
        }
    }

    #[test]
    fn sigmas_are_lower_cased_as_python_does() {
        let sigmas = golden().sigmas;
        assert!(sigmas.len() > 200);
        for (word, lower) in sigmas {
            assert_eq!(word.to_lowercase(), lower, "{word:?}");
        }
    }

    #[test]
    fn a_sigma_that_ends_a_word_is_final() {
        assert_eq!(fast("ΟΔΟΣ ΣΑΣ Σ"), "οδος σας σ");
        assert_eq!(fast("ΑΣ\u{301}. ΑΣΑ"), "ας\u{301}. ασα");
        assert_eq!(fast("İ"), "i\u{307}");
    }
}
