//! What a word is: a run of letters, digits and `_`, in any script; invalid UTF-8 separates words. Scripts that
//! are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) have one word per character, so that
//! a term finds its characters anywhere in a run of them.
//!
//! Case: ASCII letters equal each other only; all others by Unicode's simple case folding.

use std::ops::Range;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// How a byte takes part in words.
const OTHER: u8 = 0;
const WORD: u8 = 1;
/// Part of a character beyond ASCII, which has to be looked at as a whole.
const LOOK: u8 = 2;

static KINDS: [u8; 256] = {
    let mut kinds = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        kinds[byte] = if b.is_ascii_alphanumeric() || b == b'_' {
            WORD
        } else if b >= 0x80 {
            LOOK
        } else {
            OTHER
        };
        byte += 1;
    }
    kinds
};

/// Whether a character is part of words.
pub(super) fn is_word(c: char) -> bool {
    if c.is_ascii() { KINDS[c as usize] == WORD } else { regex_syntax::is_word_character(c) }
}

/// Whether a word character is a word of its own.
pub(super) fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}'      // Thai, Lao
        | '\u{1000}'..='\u{109f}'    // Myanmar
        | '\u{1780}'..='\u{17ff}'    // Khmer
        | '\u{2e80}'..='\u{30ff}'    // CJK radicals, Hiragana, Katakana
        | '\u{31f0}'..='\u{31ff}'    // Katakana extensions
        | '\u{3400}'..='\u{9fff}'    // CJK ideographs
        | '\u{f900}'..='\u{faff}'    // compatibility ideographs
        | '\u{ff66}'..='\u{ff9f}'    // half-width Katakana
        | '\u{20000}'..='\u{3ffff}') // ideographs beyond the first plane
}

/// The character at `at` with its length, or `None` with 1 for a byte that is no UTF-8.
fn char_at(text: &[u8], at: usize) -> (Option<char>, usize) {
    let len = match text[at] {
        0x00..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (None, 1),
    };
    let decoded = text.get(at..at + len).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match decoded.and_then(|s| s.chars().next()) {
        Some(c) => (Some(c), len),
        None => (None, 1),
    }
}

/// The character that ends at `end` with its length, or `None` with 1.
fn char_before(text: &[u8], end: usize) -> (Option<char>, usize) {
    for len in 1..=end.min(4) {
        let byte = text[end - len];
        if byte & 0b1100_0000 != 0b1000_0000 {
            return match char_at(text, end - len) {
                (Some(c), taken) if taken == len => (Some(c), len),
                _ => (None, 1),
            };
        }
    }
    (None, 1)
}

/// What a character does to the word it follows or precedes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joining {
    Joins,
    Alone,
    Separates,
}

fn joining(c: Option<char>) -> Joining {
    match c {
        Some(c) if !is_word(c) => Joining::Separates,
        Some(c) if stands_alone(c) => Joining::Alone,
        Some(_) => Joining::Joins,
        None => Joining::Separates,
    }
}

/// The end of the word that starts, or goes on, at `at`; `at` itself when no word is there.
pub(super) fn word_end(text: &[u8], at: usize) -> usize {
    let mut end = at;
    while let Some(&byte) = text.get(end) {
        match KINDS[usize::from(byte)] {
            WORD => end += 1,
            OTHER => break,
            _ => {
                let (c, len) = char_at(text, end);
                match joining(c) {
                    Joining::Joins => end += len,
                    Joining::Alone if end == at => return end + len,
                    _ => break,
                }
            }
        }
    }
    end
}

/// The start of the word that ends, or has begun before, `end`; `end` itself when no word is there.
pub(super) fn word_start(text: &[u8], end: usize) -> usize {
    let mut start = end;
    while start > 0 {
        match KINDS[usize::from(text[start - 1])] {
            WORD => start -= 1,
            OTHER => break,
            _ => {
                let (c, len) = char_before(text, start);
                match joining(c) {
                    Joining::Joins => start -= len,
                    Joining::Alone if start == end => return start - len,
                    _ => break,
                }
            }
        }
    }
    start
}

/// Whether no word reaches over `at`.
#[inline]
pub(super) fn is_boundary(text: &[u8], at: usize) -> bool {
    if at == 0 || at >= text.len() {
        return true;
    }
    let (left, right) = (KINDS[usize::from(text[at - 1])], KINDS[usize::from(text[at])]);
    if left != LOOK && right != LOOK {
        return left != WORD || right != WORD;
    }
    joining(char_before(text, at).0) != Joining::Joins || joining(char_at(text, at).0) != Joining::Joins
}

/// The word that holds the byte at `at`, which is the start of a word character.
pub(super) fn word_around(text: &[u8], at: usize) -> Range<usize> {
    let end = word_end(text, at);
    if is_boundary(text, at) { at..end } else { word_start(text, at)..end }
}

/// The first word that starts at or behind `from`, which is a boundary.
pub(super) fn next_word(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    while at < text.len() {
        let end = word_end(text, at);
        if end > at {
            return Some(at..end);
        }
        at += char_at(text, at).1;
    }
    None
}

/// The last word that ends at or before `to`, which is a boundary.
pub(super) fn previous_word(text: &[u8], to: usize) -> Option<Range<usize>> {
    let mut end = to;
    while end > 0 {
        let start = word_start(text, end);
        if start < end {
            return Some(start..end);
        }
        end -= char_before(text, end).1;
    }
    None
}

/// All characters that equal `c` when case does not count, `c` included.
pub(super) fn case_variants(c: char) -> Vec<char> {
    if c.is_ascii() {
        let mut both = vec![c.to_ascii_lowercase()];
        if c.is_ascii_alphabetic() {
            both.push(c.to_ascii_uppercase());
        }
        return both;
    }
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
    class.case_fold_simple();
    class.ranges().iter().flat_map(|range| range.start()..=range.end()).filter(|v| !v.is_ascii()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &[u8]) -> Vec<&[u8]> {
        let (mut at, mut found) = (0, Vec::new());
        while let Some(word) = next_word(text, at) {
            at = word.end;
            found.push(&text[word]);
        }
        found
    }

    #[test]
    fn words_of_all_scripts() {
        for (text, expected) in [
            ("GET /api/v1?x_y=2", vec!["GET", "api", "v1", "x_y", "2"]),
            ("größer, ошибка; हिन्दी", vec!["größer", "ошибка", "हिन्दी"]),
            ("发生错误 ok2错", vec!["发", "生", "错", "误", "ok2", "错"]),
            ("e\u{301}a", vec!["e\u{301}a"]),
            ("…—“x”", vec!["x"]),
            ("", vec![]),
        ] {
            assert_eq!(words(text.as_bytes()), expected.iter().map(|w| w.as_bytes()).collect::<Vec<_>>());
        }
        assert_eq!(words(b"a\xffb\xc3(\xe9"), [b"a", b"b"]);
    }

    #[test]
    fn case_folds_within_ascii_and_within_the_rest() {
        assert_eq!(case_variants('K'), ['k', 'K']);
        assert_eq!(case_variants('\u{212a}'), ['\u{212a}'], "the Kelvin sign is no ASCII letter");
        let mut sigma = case_variants('Σ');
        sigma.sort_unstable();
        assert_eq!(sigma, ['Σ', 'ς', 'σ']);
        assert_eq!(case_variants('错'), ['错']);
    }

    proptest! {
        /// Forwards, backwards and around agree, on any bytes.
        #[test]
        fn both_directions_agree(text in proptest::collection::vec(prop_oneof![
            4 => proptest::sample::select(&b"ab_ -"[..]), 2 => any::<u8>(), 2 => proptest::sample::select("é错ß\u{301}".as_bytes())], 0..40)) {
            let (mut at, mut forwards) = (0, Vec::new());
            while let Some(word) = next_word(&text, at) {
                at = word.end;
                forwards.push(word);
            }
            let (mut to, mut backwards) = (text.len(), Vec::new());
            while let Some(word) = previous_word(&text, to) {
                to = word.start;
                backwards.insert(0, word);
            }
            prop_assert_eq!(&forwards, &backwards);
            for word in &forwards {
                prop_assert!(is_boundary(&text, word.start) && is_boundary(&text, word.end));
                prop_assert_eq!(&word_around(&text, word.start), word);
                let inside = std::str::from_utf8(&text[word.clone()]).unwrap();
                for (i, _) in inside.char_indices() {
                    prop_assert_eq!(&word_around(&text, word.start + i), word);
                }
            }
        }
    }
}
