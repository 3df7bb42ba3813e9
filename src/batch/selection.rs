//! Which rows of an arena are live: a range of rows and, once something was filtered away, a bitmap. Counts are
//! computed when a selection is made, so asking is free.

use std::sync::Arc;

use super::Span;

/// A bitmap under construction, one bit per row of the arena.
#[derive(Debug, Clone)]
pub struct Mask(Vec<u64>);

impl Mask {
    /// No row set, room for `rows`.
    pub fn empty(rows: usize) -> Mask {
        Mask(vec![0; rows.div_ceil(64)])
    }

    /// The mask whose bits these are, of an arena with as many rows.
    pub fn of_words(words: Vec<u64>) -> Mask {
        Mask(words)
    }

    /// Sets a row.
    pub fn set(&mut self, row: u32) {
        self.0[row as usize / 64] |= 1 << (row % 64);
    }

    /// Whether a row is set.
    pub fn has(&self, row: u32) -> bool {
        self.0[row as usize / 64] >> (row % 64) & 1 == 1
    }
}

/// The live rows of a batch, ascending.
#[derive(Debug, Clone)]
pub struct Selection {
    first: u32,
    end: u32,
    /// `None`: every row of the range is live.
    mask: Option<Arc<[u64]>>,
    count: u32,
    bytes: u64,
}

impl Selection {
    /// Every row.
    pub fn all(spans: &[Span]) -> Selection {
        let count = spans.len() as u32;
        Selection {
            first: 0,
            end: count,
            mask: None,
            count,
            bytes: spans.iter().map(|s| s.len() as u64).sum(),
        }
    }

    /// Number of live rows.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the live rows, without delimiters.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The range of rows that holds all live ones: first, and one past the last.
    pub fn bounds(&self) -> (u32, u32) {
        (self.first, self.end)
    }

    /// Whether every row within the bounds is live.
    pub fn is_dense(&self) -> bool {
        self.mask.is_none()
    }

    /// Whether both are the same selection of the same arena (not merely equal): clones of one another.
    pub fn is_same(&self, other: &Selection) -> bool {
        let masks = match (&self.mask, &other.mask) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        masks && (self.first, self.end) == (other.first, other.end)
    }

    /// Whether a row is live.
    pub fn has(&self, row: u32) -> bool {
        (self.first..self.end).contains(&row)
            && self.mask.as_ref().is_none_or(|m| m[row as usize / 64] >> (row % 64) & 1 == 1)
    }

    /// The live rows, ascending.
    pub fn iter(&self) -> Iter {
        let word = match &self.mask {
            Some(mask) if self.first < self.end => {
                mask[self.first as usize / 64] & (u64::MAX << (self.first % 64))
            }
            _ => 0,
        };
        Iter { mask: self.mask.clone(), next: self.first, end: self.end, word }
    }

    /// The rows live here and set in `mask`.
    pub fn narrowed(&self, mask: Mask, spans: &[Span]) -> Selection {
        let mut words = mask.0;
        if let Some(old) = &self.mask {
            words.iter_mut().zip(old.iter()).for_each(|(new, old)| *new &= old);
        }
        self.of_words(&words, self.first, self.end, spans)
    }

    /// The first `count` live rows, and the others.
    pub fn split_at(&self, count: u64, spans: &[Span]) -> (Selection, Selection) {
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(self.count);
        let cut = match &self.mask {
            None => self.first + count,
            Some(_) if count == self.count => self.end,
            Some(_) => self.iter().nth(count as usize).unwrap_or(self.end),
        };
        (self.part(self.first, cut, spans), self.part(cut, self.end, spans))
    }

    /// The live rows within `first..end`.
    fn part(&self, first: u32, end: u32, spans: &[Span]) -> Selection {
        if (first, end) == (self.first, self.end) {
            return self.clone();
        }
        let part = Selection { first, end, mask: self.mask.clone(), count: 0, bytes: 0 };
        part.counted(spans)
    }

    fn of_words(&self, words: &[u64], first: u32, end: u32, spans: &[Span]) -> Selection {
        Selection { first, end, mask: Some(words.into()), count: 0, bytes: 0 }.counted(spans)
    }

    /// Computes the counts and tightens the bounds to the live rows; neighbours need no bitmap.
    fn counted(mut self, spans: &[Span]) -> Selection {
        if self.mask.is_none() {
            self.count = self.end - self.first;
            self.bytes = spans[self.first as usize..self.end as usize].iter().map(|s| s.len() as u64).sum();
            return self;
        }
        let (mut count, mut bytes, mut low, mut high) = (0, 0, self.first, self.first);
        for row in self.iter() {
            if count == 0 {
                low = row;
            }
            high = row + 1;
            count += 1;
            bytes += spans[row as usize].len() as u64;
        }
        let mask = self.mask.filter(|_| count < high - low);
        Selection { first: low, end: high, mask, count, bytes }
    }
}

/// Iterator over live rows; holds its own reference to the bitmap.
#[derive(Debug)]
pub struct Iter {
    mask: Option<Arc<[u64]>>,
    next: u32,
    end: u32,
    /// What is left of the bitmap word that `next` is in.
    word: u64,
}

impl Iterator for Iter {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let Some(mask) = &self.mask else {
            let row = self.next;
            self.next += u32::from(row < self.end);
            return (row < self.end).then_some(row);
        };
        let mut index = self.next / 64;
        while self.word == 0 {
            index += 1;
            if index * 64 >= self.end {
                return None;
            }
            self.word = mask[index as usize];
        }
        let row = index * 64 + self.word.trailing_zeros();
        self.word &= self.word - 1;
        self.next = index * 64;
        (row < self.end).then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_that_are_left_are_dense_again() {
        let spans: Vec<Span> = (0..200).map(|i| Span::new(i * 10, 9)).collect();
        let mut mask = Mask::empty(200);
        (70..140).for_each(|row| mask.set(row));
        let middle = Selection::all(&spans).narrowed(mask.clone(), &spans);
        assert_eq!((middle.is_dense(), middle.bounds()), (true, (70, 140)));
        mask.set(0);
        let (one, rest) = Selection::all(&spans).narrowed(mask, &spans).split_at(1, &spans);
        assert_eq!((one.bounds(), rest.bounds(), rest.is_dense()), ((0, 1), (70, 140), true));
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_of_rows(keep in proptest::collection::vec(any::<bool>(), 0..300), cut in 0u64..320) {
            let spans: Vec<Span> = (0..keep.len()).map(|i| Span::new(i * 10, i % 10)).collect();
            let mut mask = Mask::empty(keep.len());
            let naive: Vec<u32> = (0..keep.len() as u32).filter(|&r| keep[r as usize]).collect();
            naive.iter().for_each(|&r| mask.set(r));
            let chosen = Selection::all(&spans).narrowed(mask, &spans);
            prop_assert_eq!(chosen.iter().collect::<Vec<_>>(), naive.clone());
            prop_assert_eq!(chosen.count() as usize, naive.len());
            let (head, tail) = chosen.split_at(cut, &spans);
            let cut = (cut as usize).min(naive.len());
            prop_assert_eq!(head.iter().collect::<Vec<_>>(), &naive[..cut]);
            prop_assert_eq!(tail.iter().collect::<Vec<_>>(), &naive[cut..]);
            prop_assert_eq!(head.bytes() + tail.bytes(), chosen.bytes());
            prop_assert!((0..keep.len() as u32).all(|r| chosen.has(r) == keep[r as usize]));
        }
    }
}
