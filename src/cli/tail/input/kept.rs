//! The last rows of what can only be read forwards: a pipe, a compressed file. What is older is let go as it comes.

use std::collections::VecDeque;

use crate::cli::tail::block::Block;

/// Most bytes that are kept; beyond them the oldest go, however many were asked for.
const BYTES_MAX: u64 = 256 << 20;

/// See the module.
#[derive(Debug)]
pub(in crate::cli::tail) struct Kept {
    count: u64,
    blocks: VecDeque<Block>,
    events: u64,
    bytes: u64,
}

impl Kept {
    /// Room for the last `count` rows.
    pub(in crate::cli::tail) fn last(count: u64) -> Kept {
        Kept { count, blocks: VecDeque::new(), events: 0, bytes: 0 }
    }

    /// Takes rows, and lets go of those that are not among the last any more.
    pub(in crate::cli::tail) fn push(&mut self, block: Block) {
        if self.count == 0 || block.batch.is_empty() {
            return;
        }
        let block = Block { batch: block.batch.compacted(), ..block };
        self.events += block.batch.events();
        self.bytes += block.weight();
        self.blocks.push_back(block);
        loop {
            let several = self.blocks.len() > 1;
            let Some(first) = self.blocks.front_mut() else { return };
            let own = first.batch.events();
            if self.events - own >= self.count || (self.bytes > BYTES_MAX && several) {
                self.pop();
                continue;
            }
            if self.events > self.count {
                let weight = first.weight();
                drop(first.batch.split_to(self.events - self.count));
                self.bytes = self.bytes - weight + first.weight();
                self.events = self.count;
            }
            return;
        }
    }

    /// The oldest of them.
    pub(in crate::cli::tail) fn pop(&mut self) -> Option<Block> {
        let block = self.blocks.pop_front()?;
        self.events -= block.batch.events();
        self.bytes -= block.weight();
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Batch;

    proptest! {
        #[test]
        fn what_is_kept_is_the_end(count in 0u64..20, sizes in proptest::collection::vec(0usize..9, 0..12)) {
            let mut kept = Kept::last(count);
            let mut all = Vec::new();
            for size in sizes {
                let lines: Vec<String> = (all.len()..all.len() + size).map(|n| n.to_string()).collect();
                kept.push(Block::lines(Batch::from_lines("t", &lines)));
                all.extend(lines);
            }
            let mut got = Vec::new();
            while let Some(block) = kept.pop() {
                got.extend(block.batch.lines().map(|(_, l)| String::from_utf8_lossy(l).into_owned()));
            }
            prop_assert_eq!(&got, &all[all.len().saturating_sub(count as usize)..]);
            prop_assert_eq!((kept.events, kept.bytes), (0, 0));
        }
    }
}
