//! Which file is it? A path is only where a file was last seen; the file itself is its device, its inode and a
//! hash of its first bytes, so that a rotated file is followed, and a new file in an old inode is not mistaken
//! for it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

impl FileId {
    /// The identity in `meta`.
    pub fn of(meta: &Metadata) -> FileId {
        FileId { dev: meta.dev(), ino: meta.ino() }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A hash (64-bit FNV-1a, stable across builds) of a file's first `len` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The hash.
    pub hash: u64,
    /// How many bytes it covers; 0 says nothing about the content yet.
    pub len: u32,
}

impl Fingerprint {
    /// Of a file that was empty.
    pub const EMPTY: Fingerprint = Fingerprint { hash: FNV_OFFSET, len: 0 };

    /// Of all of `prefix`.
    pub fn of(prefix: &[u8]) -> Fingerprint {
        let hash = prefix.iter().fold(FNV_OFFSET, |h, &b| (h ^ u64::from(b)).wrapping_mul(FNV_PRIME));
        Fingerprint { hash, len: prefix.len() as u32 }
    }

    /// Whether a file that now starts with `prefix` may be the one this was taken of: it starts the same, and has
    /// not become shorter.
    pub fn matches(&self, prefix: &[u8]) -> bool {
        prefix.get(..self.len as usize).is_some_and(|same| Fingerprint::of(same).hash == self.hash)
    }

    /// Which of `candidates` the content that starts with `prefix` may be; one pass over the bytes for all.
    pub fn among<'a, T>(
        prefix: &[u8],
        candidates: impl Iterator<Item = (&'a Fingerprint, T)>,
    ) -> impl Iterator<Item = T> {
        let mut hashes = Vec::with_capacity(prefix.len() + 1);
        hashes.push(FNV_OFFSET);
        for &b in prefix {
            let last = hashes[hashes.len() - 1];
            hashes.push((last ^ u64::from(b)).wrapping_mul(FNV_PRIME));
        }
        candidates.filter_map(move |(fp, item)| {
            (fp.len > 0 && hashes.get(fp.len as usize) == Some(&fp.hash)).then_some(item)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_what_grew_from_it_only() {
        let print = Fingerprint::of(b"hello\n");
        assert!(print.matches(b"hello\nworld\n"));
        assert!(!print.matches(b"hello"), "became shorter");
        assert!(!print.matches(b"hullo\nworld\n"));
        assert!(Fingerprint::EMPTY.matches(b"anything"));
    }

    #[test]
    fn candidates_are_found_in_one_pass() {
        let prints =
            [Fingerprint::of(b"ab"), Fingerprint::of(b"abc"), Fingerprint::of(b"b"), Fingerprint::EMPTY];
        let found: Vec<usize> = Fingerprint::among(b"abcd", prints.iter().zip(0..)).collect();
        assert_eq!(found, [0, 1]);
    }
}
