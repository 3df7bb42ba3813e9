//! Sets of rows while a query is carried out: one bit per row of the arena, reused from batch to batch.

use crate::batch::{Mask, Selection};

/// Some rows of an arena.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    words: Vec<u64>,
}

impl Rows {
    /// Becomes no row out of `rows`; keeps its memory.
    pub(super) fn clear(&mut self, rows: usize) {
        self.words.clear();
        self.words.resize(rows.div_ceil(64), 0);
    }

    /// Becomes the live rows out of `rows`.
    pub(super) fn fill(&mut self, live: &Selection, rows: usize) {
        self.clear(rows);
        if !live.is_dense() {
            return live.iter().for_each(|row| self.set(row));
        }
        let (first, end) = live.bounds();
        for (index, word) in self.words.iter_mut().enumerate() {
            let (low, high) = (index as u32 * 64, index as u32 * 64 + 64);
            let (from, to) = (first.clamp(low, high) - low, end.clamp(low, high) - low);
            if from < to {
                *word = (u64::MAX >> (64 - (to - from))) << from;
            }
        }
    }

    /// Becomes a copy.
    pub(super) fn copy(&mut self, other: &Rows) {
        self.words.clear();
        self.words.extend_from_slice(&other.words);
    }

    pub(super) fn set(&mut self, row: u32) {
        self.words[row as usize / 64] |= 1 << (row % 64);
    }

    pub(super) fn has(&self, row: u32) -> bool {
        self.words[row as usize / 64] >> (row % 64) & 1 == 1
    }

    pub(super) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The first row at or behind `from`.
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        let index = from as usize / 64;
        let first = self.words.get(index)? & (u64::MAX << (from % 64));
        let rest = self.words[index + 1..].iter().copied();
        let (step, word) = std::iter::once(first).chain(rest).enumerate().find(|(_, word)| *word != 0)?;
        Some((index + step) as u32 * 64 + word.trailing_zeros())
    }

    /// First row, and one past the last; `None` when empty.
    pub(super) fn bounds(&self) -> Option<(u32, u32)> {
        let last = self.words.iter().rposition(|word| *word != 0)?;
        Some((self.next(0)?, (last as u32 + 1) * 64 - self.words[last].leading_zeros()))
    }

    /// Adds the rows of `other`.
    pub(super) fn add(&mut self, other: &Rows) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    /// Takes the rows of `other` away.
    pub(super) fn remove(&mut self, other: &Rows) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= !b);
    }

    /// Keeps only rows of `other`.
    pub(super) fn keep(&mut self, other: &Rows) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    /// The same as a mask.
    pub(super) fn to_mask(&self) -> Mask {
        Mask::of_words(self.words.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Span;

    proptest! {
        #[test]
        fn behaves_like_a_list(keep in proptest::collection::vec(any::<bool>(), 1..200), first in 0usize..200, len in 0usize..200) {
            let n = keep.len();
            let (mut rows, mut list) = (Rows::default(), Vec::new());
            rows.clear(n);
            for (row, _) in keep.iter().enumerate().filter(|(_, keep)| **keep) {
                rows.set(row as u32);
                list.push(row as u32);
            }
            prop_assert_eq!(rows.count() as usize, list.len());
            prop_assert_eq!(rows.bounds(), list.first().map(|f| (*f, list[list.len() - 1] + 1)));
            let mut at = 0;
            for row in &list {
                prop_assert_eq!(rows.next(at), Some(*row));
                at = row + 1;
            }
            prop_assert_eq!(rows.next(at), None);
            // A dense stretch fills as it should.
            let spans: Vec<Span> = (0..n).map(|i| Span::new(i * 2, 1)).collect();
            let first = first.min(n);
            let end = (first + len).min(n);
            let (_, tail) = Selection::all(&spans).split_at(first as u64, &spans);
            let (middle, _) = tail.split_at((end - first) as u64, &spans);
            rows.fill(&middle, n);
            prop_assert!((0..n).all(|row| rows.has(row as u32) == (first..end).contains(&row)));
        }
    }
}
