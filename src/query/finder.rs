//! Finding a literal whatever the case of its ASCII letters, at about the cost of `memmem`. Two bytes of the literal
//! that are rare in logs are compared for many positions at once, in a loop that compilers turn into vector
//! instructions; only where both are found is the rest looked at.

use memchr::memmem;

/// Positions looked at together.
const BLOCK: usize = 64;

/// A literal to find.
#[derive(Debug, Clone)]
pub(super) enum Finder {
    /// These bytes exactly.
    Exact(Box<memmem::Finder<'static>>),
    /// These bytes, of which letters are lower case and match either.
    Folded(Folded),
}

/// See [`Finder::Folded`].
#[derive(Debug, Clone)]
pub(super) struct Folded {
    needle: Box<[u8]>,
    /// The two positions that are compared first.
    probes: [Probe; 2],
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    at: usize,
    byte: u8,
    /// What makes both cases of the byte the same: 0x20 for a letter.
    fold: u8,
}

impl Finder {
    /// Finds `needle` (not empty) with either case of its ASCII letters.
    pub(super) fn folding(needle: &[u8]) -> Finder {
        let needle = needle.to_ascii_lowercase();
        if !needle.iter().any(u8::is_ascii_alphabetic) {
            return Finder::exact(&needle);
        }
        let mut order: Vec<usize> = (0..needle.len()).collect();
        // The rarest first; of the same byte, the ends.
        order.sort_by_key(|&i| (frequency(needle[i]), i));
        let first = order[0];
        let second = order[1..].iter().copied().find(|&i| needle[i] != needle[first]);
        let second = second.or(order.get(1).copied()).unwrap_or(first);
        let probe = |at: usize| {
            let byte = needle[at];
            Probe { at, byte, fold: if byte.is_ascii_alphabetic() { 0x20 } else { 0 } }
        };
        Finder::Folded(Folded { probes: [probe(first), probe(second)], needle: needle.into() })
    }

    /// Finds exactly `needle`.
    pub(super) fn exact(needle: &[u8]) -> Finder {
        Finder::Exact(Box::new(memmem::Finder::new(needle).into_owned()))
    }

    /// Length of what is found, in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Finder::Exact(finder) => finder.needle().len(),
            Finder::Folded(folded) => folded.needle.len(),
        }
    }

    /// The first place at or behind `from`.
    #[inline]
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<usize> {
        match self {
            Finder::Exact(finder) => Some(from + finder.find(text.get(from..)?)?),
            Finder::Folded(folded) => folded.find(text, from),
        }
    }
}

impl Folded {
    fn find(&self, text: &[u8], from: usize) -> Option<usize> {
        let last = text.len().checked_sub(self.needle.len())?;
        let [a, b] = self.probes;
        let mut at = from;
        loop {
            at = skip(text, at, last + 1, a, b);
            if at + BLOCK > last + 1 {
                return self.among(text, at, last + 1);
            }
            let (left, right) = (block(text, at + a.at)?, block(text, at + b.at)?);
            if let Some(found) = self.among_marks(text, at, both(left, a, right, b)) {
                return Some(found);
            }
            at += BLOCK;
        }
    }

    /// The first place in the block at `at`, where each marked byte is a position at which both probes fit.
    fn among_marks(&self, text: &[u8], at: usize, marks: [u64; BLOCK / 8]) -> Option<usize> {
        for (index, mut mark) in marks.into_iter().enumerate() {
            while mark != 0 {
                let found = at + index * 8 + mark.trailing_zeros() as usize / 8;
                if text[found..found + self.needle.len()].eq_ignore_ascii_case(&self.needle) {
                    return Some(found);
                }
                mark &= mark - 1;
            }
        }
        None
    }

    /// The first place in `from..to`.
    fn among(&self, text: &[u8], from: usize, to: usize) -> Option<usize> {
        let [a, b] = self.probes;
        (from..to).find(|&at| {
            text[at + a.at] | a.fold == a.byte
                && text[at + b.at] | b.fold == b.byte
                && text[at..at + self.needle.len()].eq_ignore_ascii_case(&self.needle)
        })
    }
}

#[inline]
fn block(text: &[u8], at: usize) -> Option<&[u8; BLOCK]> {
    text.get(at..)?.first_chunk()
}

/// Passes over blocks of positions in `from..to` where nowhere both bytes are what they should be: most of them, and
/// telling only whether costs a quarter of telling where. On its own, so that its loop has all registers to itself: that
/// halves what it costs.
#[inline(never)]
fn skip(text: &[u8], from: usize, to: usize, a: Probe, b: Probe) -> usize {
    let under = |probe: Probe| text.get(from + probe.at..to + probe.at).unwrap_or_default();
    let (left, right) = (under(a).as_chunks::<BLOCK>().0, under(b).as_chunks::<BLOCK>().0);
    let mut blocks = 0;
    for (left, right) in left.iter().zip(right) {
        if any_both(left, a, right, b) {
            break;
        }
        blocks += 1;
    }
    from + blocks * BLOCK
}

/// Whether at any position both bytes are what they should be.
#[inline]
fn any_both(left: &[u8; BLOCK], a: Probe, right: &[u8; BLOCK], b: Probe) -> bool {
    let mut any = 0u8;
    for (l, r) in left.iter().zip(right) {
        any |= u8::from(l | a.fold == a.byte) & u8::from(r | b.fold == b.byte);
    }
    any != 0
}

/// Where both bytes are what they should be: a byte of 1 for each such position, eight to a word.
#[inline]
fn both(left: &[u8; BLOCK], a: Probe, right: &[u8; BLOCK], b: Probe) -> [u64; BLOCK / 8] {
    let mut bytes = [0u8; BLOCK];
    for ((mark, l), r) in bytes.iter_mut().zip(left).zip(right) {
        *mark = u8::from(l | a.fold == a.byte) & u8::from(r | b.fold == b.byte);
    }
    let mut words = [0; BLOCK / 8];
    for (word, eight) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*eight);
    }
    words
}

/// How common a byte is in logs, lower case; rare ones are low.
fn frequency(byte: u8) -> u8 {
    // English letters from rare to common, with what logs add: digits and hexadecimal letters everywhere.
    const RARE_TO_COMMON: &[u8] = b"qzjxkvwybghmpuflcdrnsoiate_0123456789";
    let known = RARE_TO_COMMON.iter().position(|b| *b == byte);
    known.map_or(0, |at| at as u8 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(needle: &[u8], text: &[u8], from: usize) -> Option<usize> {
        (from..(text.len() + 1).saturating_sub(needle.len()))
            .find(|&at| text[at..at + needle.len()].eq_ignore_ascii_case(needle))
    }

    proptest! {
        #[test]
        fn finds_the_first_whatever_the_case(
            needle in "[a-cA-C_1@`]{1,6}",
            text in proptest::collection::vec(prop_oneof![
                20 => proptest::sample::select(&b"xxxxxxxxyyy "[..]), 6 => proptest::sample::select(&b"abcABC_1@`"[..]), 1 => any::<u8>()], 0..400),
            from in 0usize..420,
        ) {
            let finder = Finder::folding(needle.as_bytes());
            prop_assert_eq!(finder.len(), needle.len());
            let from = from.min(text.len());
            prop_assert_eq!(finder.find(&text, from), naive(needle.as_bytes(), &text, from));
        }

        #[test]
        fn finds_it_at_every_place(at in 0usize..200, len in 0usize..200) {
            let mut text = vec![b'.'; at];
            text.extend_from_slice(b"tImEoUt");
            text.resize(text.len() + len, b't');
            prop_assert_eq!(Finder::folding(b"TIMEOUT").find(&text, 0), Some(at));
            prop_assert_eq!(Finder::folding(b"timeout").find(&text, at + 1), None);
        }
    }
}
