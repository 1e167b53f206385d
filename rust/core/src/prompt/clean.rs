//! What the formats do to a prompt's text before it is tokenized, with the meaning Python's `str` methods have: the
//! models were trained on text cleaned by those.

/// π0 and π0.5: `prompt.strip()`, then underscores and newlines become spaces.
pub(super) fn flow(prompt: &str) -> String {
    strip(prompt).replace(['_', '\n'], " ")
}

/// π0-FAST: `prompt.lower().strip()`, then underscores become spaces. Newlines inside stay.
pub(super) fn fast(prompt: &str) -> String {
    // Both languages lower-case by Unicode's full mapping, the final sigma included.
    strip(&prompt.to_lowercase()).replace('_', " ")
}

/// `str.strip()`.
fn strip(text: &str) -> &str {
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
    }

    #[test]
    fn a_sigma_that_ends_a_word_is_final() {
        assert_eq!(fast("ΟΔΟΣ ΣΑΣ Σ"), "οδος σας σ");
        assert_eq!(fast("ΑΣ\u{301}. ΑΣΑ"), "ας\u{301}. ασα");
        assert_eq!(fast("İ"), "i\u{307}");
    }
}
