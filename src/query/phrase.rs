//! Words to find next to each other: split from the text of a query once, then compared with the words of lines.
//! A word may hold wildcards; case does not count.

use std::ops::Range;

use super::word::{self, case_variants, is_word};

/// Most words of one phrase.
pub const WORDS_MAX: usize = 64;
/// Longest word with wildcards, in characters.
pub const WILDCARD_CHARS_MAX: usize = 128;

/// One word of a phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// Only ASCII, lower case.
    Ascii(Box<[u8]>),
    /// Characters, each with all that equal it.
    Folded(Box<[Box<[char]>]>),
    /// With wildcards.
    Pattern(Box<[Piece]>),
}

/// One position of a word with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// One of these.
    Char(Box<[char]>),
    /// `?`: any one character.
    One,
    /// `*`: any characters, or none.
    Any,
}

/// Words in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phrase(pub(super) Box<[Word]>);

/// Why a text is no phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPhrase {
    /// It holds neither letters nor digits nor wildcards.
    NoWords,
    /// More words than [`WORDS_MAX`].
    TooManyWords,
    /// A word with wildcards is longer than [`WILDCARD_CHARS_MAX`].
    TooLong,
}

impl Phrase {
    /// The words of a quoted text; nothing in it is special.
    pub(super) fn quoted(text: &str) -> Result<Phrase, NoPhrase> {
        Phrase::of(text.chars().map(|c| (c, false)))
    }

    /// The words of a text without quotes: `\` takes the next character literally, `*` and `?` are wildcards.
    pub(super) fn bare(text: &str) -> Result<Phrase, NoPhrase> {
        let mut escaped = false;
        Phrase::of(text.chars().filter_map(move |c| {
            if c == '\\' && !escaped {
                escaped = true;
                return None;
            }
            let wildcard = !escaped && matches!(c, '*' | '?');
            escaped = false;
            Some((c, wildcard))
        }))
    }

    fn of(chars: impl Iterator<Item = (char, bool)>) -> Result<Phrase, NoPhrase> {
        let mut words: Vec<Word> = Vec::new();
        let mut pieces: Vec<(char, bool)> = Vec::new();
        // Where each character is a word, a `*` next to one adds nothing that the word could go on with.
        let mut behind_alone = false;
        for (c, wildcard) in chars {
            let alone = !wildcard && word::stands_alone(c) && is_word(c);
            if wildcard && c == '*' && behind_alone {
                continue;
            }
            behind_alone = alone;
            if alone && pieces.iter().all(|piece| *piece == ('*', true)) {
                pieces.clear();
            }
            if alone || (!wildcard && !is_word(c)) {
                Self::end_word(&mut words, &mut pieces)?;
            }
            if alone {
                pieces.push((c, false));
                Self::end_word(&mut words, &mut pieces)?;
            } else if wildcard || is_word(c) {
                pieces.push((c, wildcard));
            }
        }
        Self::end_word(&mut words, &mut pieces)?;
        if words.is_empty() { Err(NoPhrase::NoWords) } else { Ok(Phrase(words.into())) }
    }

    fn end_word(words: &mut Vec<Word>, pieces: &mut Vec<(char, bool)>) -> Result<(), NoPhrase> {
        if pieces.is_empty() {
            return Ok(());
        }
        let has_wildcards = pieces.iter().any(|(_, wildcard)| *wildcard);
        if words.len() == WORDS_MAX {
            return Err(NoPhrase::TooManyWords);
        }
        if has_wildcards && pieces.len() > WILDCARD_CHARS_MAX {
            return Err(NoPhrase::TooLong);
        }
        let variants = |c: &char| -> Box<[char]> { case_variants(*c).into() };
        words.push(if has_wildcards {
            let piece = |(c, wildcard): &(char, bool)| match (c, wildcard) {
                ('*', true) => Piece::Any,
                (_, true) => Piece::One,
                (c, false) => Piece::Char(variants(c)),
            };
            let mut pattern: Vec<Piece> = pieces.iter().map(piece).collect();
            pattern.dedup_by(|a, b| *a == Piece::Any && *b == Piece::Any);
            Word::Pattern(pattern.into())
        } else if pieces.iter().all(|(c, _)| c.is_ascii()) {
            Word::Ascii(pieces.iter().map(|(c, _)| c.to_ascii_lowercase() as u8).collect())
        } else {
            Word::Folded(pieces.iter().map(|(c, _)| variants(c)).collect())
        });
        pieces.clear();
        Ok(())
    }

    /// Whether the word `at` of `text` is this phrase's word `index`, and its neighbours are the others; where the
    /// whole phrase stands.
    pub(super) fn stands_around(&self, text: &[u8], at: Range<usize>, index: usize) -> Option<Range<usize>> {
        if !self.0[index].is(&text[at.clone()]) {
            return None;
        }
        let (mut start, mut end) = (at.start, at.end);
        for expected in self.0[..index].iter().rev() {
            let word = word::previous_word(text, start)?;
            if !expected.is(&text[word.clone()]) {
                return None;
            }
            start = word.start;
        }
        for expected in &self.0[index + 1..] {
            let word = word::next_word(text, end)?;
            if !expected.is(&text[word.clone()]) {
                return None;
            }
            end = word.end;
        }
        Some(start..end)
    }

    /// The first place at or behind `from`, which is a boundary, found by looking at every word.
    pub(super) fn find_slowly(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let mut at = from;
        while let Some(word) = word::next_word(text, at) {
            at = word.end;
            if let Some(found) = self.stands_around(text, word, 0) {
                return Some(found);
            }
        }
        None
    }
}

impl Word {
    /// Whether `word`, a whole word of a line, is this one.
    pub(super) fn is(&self, word: &[u8]) -> bool {
        match self {
            Word::Ascii(ours) => ours.len() == word.len() && word.eq_ignore_ascii_case(ours),
            Word::Folded(ours) => std::str::from_utf8(word).is_ok_and(|word| {
                let mut theirs = word.chars();
                ours.iter().all(|variants| theirs.next().is_some_and(|c| variants.contains(&c)))
                    && theirs.next().is_none()
            }),
            Word::Pattern(pieces) => std::str::from_utf8(word).is_ok_and(|word| glob(pieces, word)),
        }
    }
}

/// Whether all of `word` matches. Going back only to the last `*` keeps it at the product of the two lengths.
fn glob(pieces: &[Piece], word: &str) -> bool {
    let (mut piece, mut rest) = (0, word.chars());
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let mut ahead = rest.clone();
        let next = ahead.next();
        let fits = match (pieces.get(piece), next) {
            (Some(Piece::Any), _) => {
                retry = Some((piece + 1, rest.clone()));
                piece += 1;
                continue;
            }
            (Some(Piece::One), Some(_)) => true,
            (Some(Piece::Char(variants)), Some(c)) => variants.contains(&c),
            (None, None) => return true,
            _ => false,
        };
        if fits {
            (piece, rest) = (piece + 1, ahead);
            continue;
        }
        // The last `*` takes one character more.
        let Some((behind, from)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        (piece, rest) = (*behind, from.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finds(query: &str, line: &str) -> bool {
        Phrase::bare(query).unwrap().find_slowly(line.as_bytes(), 0).is_some()
    }

    #[test]
    fn words_next_to_each_other() {
        for (query, yes, no) in [
            ("timeout", "a TIMEOUT!", "timeouts time_out"),
            ("connection-reset", "Connection  reset", "connection was reset; reset connection"),
            ("10.0.0.1", "from 10.0.0.1:80", "from 110.0.0.1"),
            ("time*", "Timeouts", "my_time"),
            ("*out", "timeout", "outer"),
            ("t?me", "TIME", "tiime tme"),
            ("a*b*c", "aXbXbc", "acb"),
            ("10.0.*", "10.0.7", "10.0"),
            (r"\*x", "x", "ax"),
            ("größ*", "GRÖSSE GRÖßER", "grosse"),
            ("错误", "发生错误了", "错了误"),
            ("错*", "错误", "误"),
        ] {
            assert!(finds(query, yes), "{query} in {yes}");
            assert!(!finds(query, no), "{query} not in {no}");
        }
        assert_eq!(Phrase::bare("=> -"), Err(NoPhrase::NoWords));
        assert_eq!(Phrase::quoted("*"), Err(NoPhrase::NoWords));
        assert_eq!(Phrase::quoted(&"a ".repeat(65)), Err(NoPhrase::TooManyWords));
        assert_eq!(Phrase::bare(&"a*".repeat(200)), Err(NoPhrase::TooLong));
    }

    proptest! {
        #[test]
        fn globs_agree_with_regular_expressions(pattern in "[ab*?]{1,8}", word in "[aAb]{0,12}") {
            prop_assume!(pattern.contains(['*', '?']));
            let Phrase(words) = Phrase::bare(&pattern).unwrap();
            let regex = format!("(?i)^{}$", pattern.replace('*', ".*").replace('?', "."));
            let theirs = regex_automata::meta::Regex::new(&regex).unwrap().is_match(&word);
            prop_assert_eq!(words[0].is(word.as_bytes()), theirs);
        }
    }
}
