//! From reads to batches of lines: text is read straight into recycled chunks, framed in place, and leaves as an
//! arena without a copy when there is much of it, or as a small copy when there is little.

use std::sync::Arc;

use bytes::Bytes;

use super::framing::{Framed, LineFramer, Oversize};
use crate::base::clock;
use crate::batch::{Arena, Batch, Chunk, ChunkPool, Origin, Receipt, Timestamp};
use crate::config::choices;
use crate::flow::{Meter, Reason};

choices! {
    /// What happens to a line longer than `max_line_size`.
    pub enum OversizeOption {
        /// Its beginning passes, the rest is skipped.
        Truncate = "truncate",
        /// It is skipped and counted.
        Drop = "drop",
        /// It passes in pieces.
        Split = "split",
    }
}

impl From<OversizeOption> for Oversize {
    fn from(option: OversizeOption) -> Oversize {
        match option {
            OversizeOption::Truncate => Oversize::Truncate,
            OversizeOption::Drop => Oversize::Drop,
            OversizeOption::Split => Oversize::Split,
        }
    }
}

/// Size of a chunk in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks kept for reuse.
const FREE_CHUNKS_MAX: usize = 8;
/// Least room offered to a read, in bytes.
const READ_BYTES_MIN: usize = 4 << 10;

/// Collects the text of one stream and hands its lines out in batches. Holds at most one chunk, and more only for
/// an unfinished line longer than that, up to the limit for lines.
#[derive(Debug)]
pub struct LineReader {
    pool: ChunkPool,
    chunk: Chunk,
    /// Bytes of the chunk that hold text.
    filled: usize,
    /// Bytes of it that are known to hold no newline.
    scanned: usize,
    framer: LineFramer,
    oversize: Oversize,
    origin: Arc<Origin>,
}

impl LineReader {
    /// A reader at the start of a stream from `origin`.
    pub fn new(line_bytes_max: usize, oversize: Oversize, origin: Arc<Origin>) -> LineReader {
        let pool = ChunkPool::new(CHUNK_BYTES, FREE_CHUNKS_MAX);
        let framer = LineFramer::new(line_bytes_max, oversize);
        LineReader { chunk: pool.take(), pool, filled: 0, scanned: 0, framer, oversize, origin }
    }

    /// Room for the next read, never empty; say how much was read with [`LineReader::advance`].
    pub fn space(&mut self) -> &mut [u8] {
        if self.chunk.len() - self.filled < READ_BYTES_MIN {
            self.chunk.grow(self.chunk.len() * 2);
        }
        &mut self.chunk.as_mut_slice()[self.filled..]
    }

    /// The first `bytes` of [`LineReader::space`] now hold text.
    pub fn advance(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.chunk.len());
    }

    /// Whether it is time to [`take`](LineReader::take) before reading on.
    pub fn is_full(&self) -> bool {
        self.chunk.len() - self.filled < READ_BYTES_MIN
    }

    /// The complete lines read so far, if there are any. Lines dropped as too long are counted on `meter`.
    pub fn take(&mut self, meter: &Meter) -> Option<Batch> {
        let fresh = &self.chunk.as_slice()[self.scanned..self.filled];
        // A long line that comes in small pieces is not searched again from its start.
        let waits = self.filled <= self.framer.line_bytes_max() && !self.framer.is_skipping();
        if waits && memchr::memchr(b'\n', fresh).is_none() {
            self.scanned = self.filled;
            return None;
        }
        let framed = self.framer.frame(&self.chunk.as_slice()[..self.filled]);
        self.hand_out(framed, meter)
    }

    /// The stream has ended: the lines left, the last of which may lack its newline.
    pub fn finish(&mut self, meter: &Meter) -> Option<Batch> {
        let framed = self.framer.finish(&self.chunk.as_slice()[..self.filled]);
        self.hand_out(framed, meter)
    }

    fn hand_out(&mut self, framed: Framed, meter: &Meter) -> Option<Batch> {
        count_oversize(self.oversize, framed.oversize_events, meter);
        let (consumed, rest) = (framed.consumed, self.filled - framed.consumed);
        let text = if framed.spans.is_empty() || consumed < CHUNK_BYTES / 2 {
            // Little text must not keep a whole chunk alive.
            let used = if framed.spans.is_empty() { 0 } else { consumed };
            let text = Bytes::copy_from_slice(&self.chunk.as_slice()[..used]);
            self.chunk.as_mut_slice().copy_within(consumed..self.filled, 0);
            text
        } else {
            let mut next = self.pool.take();
            next.grow(rest);
            next.as_mut_slice()[..rest].copy_from_slice(&self.chunk.as_slice()[consumed..self.filled]);
            std::mem::replace(&mut self.chunk, next).freeze(consumed)
        };
        (self.filled, self.scanned) = (rest, rest);
        batch_of(text, framed, &self.origin)
    }
}

/// The batch of a text's rows, received now, if there are any.
pub(super) fn batch_of(text: Bytes, framed: Framed, origin: &Arc<Origin>) -> Option<Batch> {
    if framed.spans.is_empty() {
        return None;
    }
    let received = Timestamp(clock::unix_nanos());
    let arena = Arena::new(text, framed.spans, framed.framing, origin.clone(), received);
    Some(Batch::new(arena, Receipt::none()))
}

/// Counts lines that were longer than the limit: lost, or passed but not whole.
pub fn count_oversize(policy: Oversize, events: u64, meter: &Meter) {
    match policy {
        _ if events == 0 => {}
        Oversize::Drop => {
            meter.received(events, 0);
            meter.dropped(Reason::Oversize, events);
        }
        Oversize::Truncate | Oversize::Split => meter.cut(events),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_pass_cut_are_counted_and_lost_ones_are_dropped() {
        let counts = |oversize| {
            let meter = Meter::default();
            let mut reader = LineReader::new(4, oversize, Arc::new(Origin::new("t", "t")));
            reader.space()[..10].copy_from_slice(b"123456789\n");
            reader.advance(10);
            drop(reader.take(&meter));
            let counts = meter.snapshot();
            (counts.cut_events, counts.dropped(Reason::Oversize))
        };
        assert_eq!(counts(Oversize::Truncate), (1, 0));
        assert_eq!(counts(Oversize::Split), (1, 0));
        assert_eq!(counts(Oversize::Drop), (0, 1));
    }

    fn lines_of(text: &[u8], piece: usize, max: usize, oversize: Oversize) -> (Vec<Vec<u8>>, u64) {
        let meter = Meter::default();
        let mut reader = LineReader::new(max, oversize, Arc::new(Origin::new("t", "t")));
        let mut lines = Vec::new();
        let mut keep = |batch: Option<Batch>| {
            lines.extend(batch.iter().flat_map(Batch::lines).map(|(_, line)| line.to_vec()));
        };
        for bytes in text.chunks(piece) {
            let mut bytes = bytes;
            while !bytes.is_empty() {
                let space = reader.space();
                let n = bytes.len().min(space.len());
                space[..n].copy_from_slice(&bytes[..n]);
                reader.advance(n);
                bytes = &bytes[n..];
                keep(reader.take(&meter));
            }
        }
        keep(reader.finish(&meter));
        let counts = meter.snapshot();
        assert!(counts.balances());
        (lines, counts.dropped(Reason::Oversize))
    }

    #[test]
    fn every_line_comes_out_whole_whatever_the_reads() {
        let mut text = Vec::new();
        for i in 0..3000u32 {
            text.extend(std::iter::repeat_n(b'a' + (i % 26) as u8, (i % 190) as usize));
            text.extend_from_slice(if i % 7 == 0 { b"\r\n" } else { b"\n" });
        }
        text.extend(vec![b'L'; 700_000]);
        text.extend_from_slice(b"\nlast without newline");
        let expected: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        for piece in [1, 7, 4096, 65536, 1 << 20] {
            let sample = if piece == 1 { &text[..20_000] } else { &text[..] };
            let (lines, _) = lines_of(sample, piece, 1 << 20, Oversize::Drop);
            if piece > 1 {
                assert!(lines == expected, "pieces of {piece}");
            } else {
                assert!(lines[..lines.len() - 1] == expected[..lines.len() - 1]);
            }
        }
    }

    #[test]
    fn lines_too_long_are_dropped_and_counted() {
        let text = [vec![b'x'; 600_000], b"\nshort\n".to_vec()].concat();
        let (lines, dropped) = lines_of(&text, 64 << 10, 1000, Oversize::Drop);
        assert_eq!((lines, dropped), (vec![b"short".to_vec()], 1));
        let (lines, dropped) = lines_of(&text, 64 << 10, 1000, Oversize::Truncate);
        assert_eq!((lines[0].len(), lines.len(), dropped), (1000, 2, 0));
    }
}
