//! Searching text for what a condition names: words by way of a literal they hold, exact text, or a regular
//! expression.

use std::ops::Range;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir};

use super::finder::Finder;
use super::patterns::Program;
use super::phrase::{Phrase, Piece, Word};
use super::word;

/// The programs of a query with their caches; a search names one by its index.
pub(super) type Programs = [Program];

/// What to search for.
#[derive(Debug, Clone)]
pub(super) enum Search {
    /// Words next to each other, with a literal that one of them holds.
    Words(Phrase, Option<Anchor>),
    /// Text without letters or digits, exactly.
    Exact(Finder),
    /// What the program finds.
    Regex(usize),
}

/// A part of a phrase that is fast to find.
#[derive(Debug, Clone)]
pub(super) struct Anchor {
    /// The word of the phrase that holds it.
    word: usize,
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    /// The whole word.
    Whole(Finder),
    /// A part of the word.
    Part(Finder),
    /// A part of the word that only a program finds, for its case folds beyond ASCII.
    Program(usize),
}

impl Search {
    /// The words of `phrase`; `compile` makes a program where one is needed and gives its index,
    /// or `None` to do without.
    pub(super) fn words<E>(
        phrase: Phrase,
        compile: impl FnOnce(Hir) -> Result<Option<usize>, E>,
    ) -> Result<Search, E> {
        let literal = |(index, word): (usize, &Word)| {
            let run = longest_run(word)?;
            let whole = matches!(word, Word::Ascii(_));
            Some((run.len(), index, run, whole))
        };
        // The longest, which is likely the rarest.
        let best = phrase.0.iter().enumerate().filter_map(literal).max_by_key(|(len, ..)| *len);
        if let Some((_, word, run, whole)) = best {
            let finder = Finder::folding(&run);
            let by = if whole { By::Whole(finder) } else { By::Part(finder) };
            return Ok(Search::Words(phrase, Some(Anchor { word, by })));
        }
        let best = phrase
            .0
            .iter()
            .enumerate()
            .filter_map(|(index, word)| longest_folded(index, word))
            .max_by_key(|(len, ..)| *len);
        let anchor = match best {
            None => None,
            Some((_, word, run)) if run.iter().all(|variants| variants.len() == 1) => {
                let text: String = run.iter().map(|variants| variants[0]).collect();
                Some(Anchor { word, by: By::Part(Finder::exact(text.as_bytes())) })
            }
            Some((_, word, run)) => {
                let class = |variants: &&[char]| {
                    let ranges = variants.iter().map(|&c| ClassUnicodeRange::new(c, c));
                    Hir::class(Class::Unicode(ClassUnicode::new(ranges)))
                };
                let program = compile(Hir::concat(run.iter().map(class).collect()))?;
                program.map(|program| Anchor { word, by: By::Program(program) })
            }
        };
        Ok(Search::Words(phrase, anchor))
    }

    /// The first match in one text at or behind `from`, which no word reaches over.
    pub(super) fn find(&self, text: &[u8], from: usize, programs: &mut Programs) -> Option<Range<usize>> {
        match self {
            Search::Words(phrase, None) => phrase.find_slowly(text, from),
            Search::Words(phrase, Some(anchor)) => {
                let mut at = from;
                loop {
                    let hit = anchor.find(text, at, programs)?;
                    match anchor.check(phrase, text, hit) {
                        Ok(found) if found.start >= from => return Some(found),
                        Ok(found) => at = found.end.max(hit + 1),
                        Err(next) => at = next,
                    }
                }
            }
            Search::Exact(finder) => finder.find(text, from).map(|at| at..at + finder.len()),
            Search::Regex(index) => programs[*index].range(text, from),
        }
    }

    /// Whether the text has it.
    pub(super) fn is_in(&self, text: &[u8], programs: &mut Programs) -> bool {
        match self {
            Search::Regex(index) => programs[*index].find(text, 0).is_some(),
            search => search.find(text, 0, programs).is_some(),
        }
    }
}

impl Anchor {
    /// Where the literal starts, at or behind `from`.
    #[inline]
    pub(super) fn find(&self, text: &[u8], from: usize, programs: &mut Programs) -> Option<usize> {
        match &self.by {
            By::Whole(finder) | By::Part(finder) => finder.find(text, from),
            By::Program(index) => programs[*index].range(text, from).map(|range| range.start),
        }
    }

    /// Whether the phrase stands around the literal at `hit` in `text`: where, or else from where on to look for the
    /// next literal.
    #[inline]
    pub(super) fn check(&self, phrase: &Phrase, text: &[u8], hit: usize) -> Result<Range<usize>, usize> {
        let word = match &self.by {
            By::Whole(finder) => {
                let end = hit + finder.len();
                if !word::is_boundary(text, hit) || !word::is_boundary(text, end) {
                    // No whole word starts before this one ends.
                    return Err(word::word_end(text, hit).max(hit + 1));
                }
                hit..end
            }
            By::Part(_) | By::Program(_) => word::word_around(text, hit),
        };
        // No other literal of the same word can say anything else.
        let next = word.end.max(hit + 1);
        phrase.stands_around(text, word, self.word).ok_or(next)
    }
}

/// The longest part of a word that is ASCII and has no wildcards, lower case.
fn longest_run(word: &Word) -> Option<Vec<u8>> {
    let ascii =
        |variants: &[char]| variants.iter().find(|c| c.is_ascii()).map(|c| c.to_ascii_lowercase() as u8);
    let run = match word {
        Word::Ascii(text) => text.to_vec(),
        Word::Folded(chars) => longest(chars.iter().map(|variants| ascii(variants))),
        Word::Pattern(pieces) => longest(pieces.iter().map(|piece| match piece {
            Piece::Char(variants) => ascii(variants),
            _ => None,
        })),
    };
    (!run.is_empty()).then_some(run)
}

/// The longest part of a word that has no wildcards: its length, the word's index, and the characters' variants.
fn longest_folded(index: usize, word: &Word) -> Option<(usize, usize, Vec<&[char]>)> {
    let run: Vec<&[char]> = match word {
        Word::Ascii(_) => return None,
        Word::Folded(chars) => chars.iter().map(|variants| &variants[..]).collect(),
        Word::Pattern(pieces) => longest(pieces.iter().map(|piece| match piece {
            Piece::Char(variants) => Some(&variants[..]),
            _ => None,
        })),
    };
    (!run.is_empty()).then_some((run.len(), index, run))
}

/// The longest run of items that are there.
fn longest<T>(items: impl Iterator<Item = Option<T>>) -> Vec<T> {
    let (mut best, mut run) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Some(item) => run.push(item),
            None if run.len() > best.len() => best = std::mem::take(&mut run),
            None => run.clear(),
        }
    }
    if run.len() > best.len() { run } else { best }
}
