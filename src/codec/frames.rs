//! From many streams to batches: buffers are on loan only while bytes are there. A stream that waits keeps nothing
//! but the unfinished part of an event, so ten thousand idle connections cost little; a busy one reads into a large
//! recycled chunk that becomes the batch's text without a copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

use super::framing::{Framed, Framer, FramingError, Oversize, Scheme};
use super::lines::{batch_of, count_oversize};
use crate::batch::{Batch, Chunk, ChunkPool, Origin};
use crate::config::choices;
use crate::flow::Meter;

choices! {
    /// How the events of a stream are told apart.
    pub enum FramingOption {
        /// Each ends with a line break. A last one without it passes, too.
        Newline = "newline",
        /// Each ends with a zero byte and may hold line breaks.
        Nul = "nul",
        /// Each follows its length in decimal digits and a space (RFC 6587, RFC 5425). A line break as its last byte is
        /// left out, since syslog senders add one.
        OctetCounted = "octet_counted",
        /// Octet-counted where an event begins with a length, a space and `<`; else it ends with a line break. For
        /// syslog senders of either kind.
        Auto = "auto",
        /// Each follows its length as four bytes, big-endian.
        LengthPrefixed = "length_prefixed",
    }
}

impl From<FramingOption> for Scheme {
    fn from(option: FramingOption) -> Scheme {
        match option {
            FramingOption::Newline => Scheme::Newline,
            FramingOption::Nul => Scheme::Nul,
            FramingOption::OctetCounted => Scheme::OctetCounted,
            FramingOption::Auto => Scheme::Auto,
            FramingOption::LengthPrefixed => Scheme::LengthPrefixed,
        }
    }
}

/// Size of a chunk in bytes: what one read takes at most.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Chunks kept for reuse by all streams of a source.
const FREE_CHUNKS_MAX: usize = 16;
/// Least room offered to a read, in bytes.
const READ_BYTES_MIN: usize = 4 << 10;
/// Of a chunk, the part that text has to fill to take the chunk along; less is copied.
const FULL_ENOUGH: usize = CHUNK_BYTES / 4;

/// How the streams of a source are framed, and the buffers they share.
#[derive(Debug, Clone)]
pub struct FrameSettings {
    /// How events are told apart.
    pub scheme: Scheme,
    /// Longest event, in bytes.
    pub line_bytes_max: usize,
    /// What happens to longer ones.
    pub oversize: Oversize,
    /// Where chunks come from.
    pub pool: ChunkPool,
    /// Bytes that all streams keep while they wait.
    kept: Arc<AtomicUsize>,
}

impl FrameSettings {
    /// Settings with a pool of their own.
    pub fn new(scheme: Scheme, line_bytes_max: usize, oversize: Oversize) -> FrameSettings {
        let pool = ChunkPool::new(CHUNK_BYTES, FREE_CHUNKS_MAX);
        FrameSettings { scheme, line_bytes_max, oversize, pool, kept: Arc::default() }
    }

    /// Most bytes that all streams may keep together.
    fn kept_max(&self) -> usize {
        KEPT_BYTES_MAX.max(self.line_bytes_max.saturating_mul(8))
    }
}

/// Most bytes of unfinished events of all streams of a source, or eight of the longest if that is more: thousands of
/// senders that begin long events and never end them must not take all memory.
const KEPT_BYTES_MAX: usize = 256 << 20;
/// An unfinished event of this size keeps its chunk, in bytes: it is read on in place, not copied for each read.
const HELD_MIN: usize = 32 << 10;

/// One stream: its place in the framing and what is unfinished. A read goes [`start_read`](FrameReader::start_read),
/// then bytes into [`Reading::space`], then [`take`](FrameReader::take), also if nothing came.
#[derive(Debug)]
pub struct FrameReader {
    framer: Framer,
    oversize: Oversize,
    pool: ChunkPool,
    origin: Arc<Origin>,
    /// The unfinished part of an event, where that is short.
    tail: Vec<u8>,
    /// The same where it is long: a chunk that starts with it, and its length.
    held: Option<(Chunk, usize)>,
    kept: Kept,
}

/// This stream's part of what all streams keep.
#[derive(Debug)]
struct Kept {
    all: Arc<AtomicUsize>,
    all_max: usize,
    own: usize,
}

impl Kept {
    /// Says what this stream keeps now; what all keep, if that is too much and this one is to blame.
    fn now(&mut self, own: usize) -> Option<usize> {
        if own == self.own {
            return None;
        }
        let before = std::mem::replace(&mut self.own, own);
        let all = if own > before {
            self.all.fetch_add(own - before, Relaxed) + (own - before)
        } else {
            self.all.fetch_sub(before - own, Relaxed) - (before - own)
        };
        (own > before && own >= HELD_MIN && all > self.all_max).then_some(all)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Relaxed);
    }
}

/// A chunk on loan for one read.
#[derive(Debug)]
pub struct Reading {
    chunk: Chunk,
    /// Bytes of the unfinished event, and those with what was read.
    from: usize,
    filled: usize,
    /// Whether the unfinished event is in the chunk already; else there is room left for it.
    in_place: bool,
}

impl Reading {
    /// Room for the read, at least 4 KiB.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.chunk.as_mut_slice()[self.filled..]
    }

    /// The first `bytes` of [`Reading::space`] now hold text.
    pub fn advance(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.chunk.len());
    }
}

impl FrameReader {
    /// A reader at the start of a stream from `origin`. Allocates nothing.
    pub fn new(settings: &FrameSettings, origin: Arc<Origin>) -> FrameReader {
        let FrameSettings { scheme, line_bytes_max, oversize, pool, kept } = settings;
        let framer = Framer::new(*scheme, *line_bytes_max, *oversize);
        let kept = Kept { all: kept.clone(), all_max: settings.kept_max(), own: 0 };
        FrameReader {
            framer,
            oversize: *oversize,
            pool: pool.clone(),
            origin,
            tail: Vec::new(),
            held: None,
            kept,
        }
    }

    /// Bytes that are kept while the stream waits.
    pub fn kept_bytes(&self) -> usize {
        self.tail.capacity() + self.held.as_ref().map_or(0, |(chunk, _)| chunk.len())
    }

    /// A chunk to read into.
    pub fn start_read(&mut self) -> Reading {
        if let Some((mut chunk, from)) = self.held.take() {
            if chunk.len() - from < READ_BYTES_MIN {
                // Grows with what has come, by doubling, never with what is announced.
                chunk.grow(chunk.len() * 2);
            }
            return Reading { chunk, from, filled: from, in_place: true };
        }
        let (mut chunk, from) = (self.pool.take(), self.tail.len());
        chunk.grow(from + READ_BYTES_MIN);
        Reading { chunk, from, filled: from, in_place: false }
    }

    /// The events completed by what was read, if there are any. Those that were too long are counted on `meter`.
    ///
    /// # Errors
    /// When the stream breaks its framing; nothing more can be read from it then. Events before that are returned.
    pub fn take(&mut self, reading: Reading, meter: &Meter) -> (Option<Batch>, Option<FramingError>) {
        let Reading { mut chunk, from, filled, in_place } = reading;
        if filled == from {
            self.held = in_place.then_some((chunk, from));
            return (None, None);
        }
        if !in_place {
            chunk.as_mut_slice()[..from].copy_from_slice(&self.tail);
        }
        let (framed, error) = self.framer.frame(&chunk.as_slice()[..filled], from);
        count_oversize(self.oversize, framed.oversize_events, meter);
        if framed.consumed == 0 && filled >= HELD_MIN {
            self.tail = Vec::new();
            self.held = Some((chunk, filled));
            let held = self.kept.now(self.kept_bytes());
            return (None, error.or(held.map(|held| FramingError::Unfinished { held })));
        }
        // Of the right size: what was long once must not stay so.
        self.tail = chunk.as_slice()[framed.consumed..filled].to_vec();
        let held = self.kept.now(self.tail.capacity());
        let error = error.or(held.map(|held| FramingError::Unfinished { held }));
        (self.batch(framed, chunk), error)
    }

    /// The stream has ended: what is left, if anything. `in_order` says that the sender ended it; else an event
    /// without its end counts as cut.
    pub fn finish(&mut self, in_order: bool, meter: &Meter) -> Option<Batch> {
        let rest = match self.held.take() {
            Some((chunk, filled)) => chunk.freeze(filled),
            None => Bytes::from(std::mem::take(&mut self.tail)),
        };
        let (framed, cut) = self.framer.finish(&rest);
        count_oversize(self.oversize, framed.oversize_events, meter);
        if cut || (!in_order && !framed.spans.is_empty()) {
            meter.cut(1);
        }
        batch_of(rest, framed, &self.origin)
    }

    fn batch(&self, framed: Framed, chunk: Chunk) -> Option<Batch> {
        if framed.spans.is_empty() {
            return None;
        }
        let text = if framed.consumed < FULL_ENOUGH {
            // Little text must not keep a whole chunk alive.
            Bytes::copy_from_slice(&chunk.as_slice()[..framed.consumed])
        } else {
            chunk.freeze(framed.consumed)
        };
        batch_of(text, framed, &self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Reason;

    fn reader(scheme: Scheme, max: usize, oversize: Oversize) -> FrameReader {
        FrameReader::new(&FrameSettings::new(scheme, max, oversize), Arc::new(Origin::new("t", "t")))
    }

    /// Feeds `text` in pieces; the rows of all batches.
    fn feed(reader: &mut FrameReader, text: &[u8], piece: usize, meter: &Meter) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        let mut keep = |batch: Option<Batch>| {
            rows.extend(batch.iter().flat_map(Batch::lines).map(|(_, line)| line.to_vec()));
        };
        for bytes in text.chunks(piece) {
            let mut bytes = bytes;
            while !bytes.is_empty() {
                let mut reading = reader.start_read();
                let n = bytes.len().min(reading.space().len());
                reading.space()[..n].copy_from_slice(&bytes[..n]);
                reading.advance(n);
                bytes = &bytes[n..];
                let (batch, error) = reader.take(reading, meter);
                assert_eq!(error, None);
                keep(batch);
            }
        }
        keep(reader.finish(true, meter));
        rows
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
        for piece in [7, 4096, 65536, 1 << 20] {
            let meter = Meter::default();
            let rows = feed(&mut reader(Scheme::Newline, 1 << 20, Oversize::Drop), &text, piece, &meter);
            assert!(rows == expected, "pieces of {piece}");
            assert_eq!(meter.snapshot().cut_events, 0, "the sender ended it");
        }
    }

    #[test]
    fn a_stream_that_waits_holds_only_what_is_unfinished() {
        let meter = Meter::default();
        let mut reader = reader(Scheme::Newline, 1 << 20, Oversize::Drop);
        assert_eq!(reader.kept_bytes(), 0);
        let mut read = |bytes: &[u8]| {
            let mut reading = reader.start_read();
            assert!(reading.space().len() >= bytes.len());
            reading.space()[..bytes.len()].copy_from_slice(bytes);
            reading.advance(bytes.len());
            drop(reader.take(reading, &meter));
            reader.kept_bytes()
        };
        assert_eq!(read(b"whole\nunfin"), 5);
        assert_eq!(read(&[b'x'; 4000]), 4005);
        assert_eq!(read(b"\nnext"), 4, "a tail that was long once does not stay so");
        assert_eq!(read(&[b'x'; 40_000]), CHUNK_BYTES, "a long one keeps its chunk");
        assert_eq!(read(b""), CHUNK_BYTES);
        assert_eq!(read(b"\nnext"), 4);
        assert_eq!(read(b"\n"), 0);
    }

    #[test]
    fn full_reads_become_the_text_without_a_copy() {
        let meter = Meter::default();
        let mut reader = reader(Scheme::Newline, 1 << 20, Oversize::Drop);
        let mut reading = reader.start_read();
        let at = reading.space().as_ptr();
        reading.space().fill(b'\n');
        reading.advance(CHUNK_BYTES);
        let batch = reader.take(reading, &meter).0.unwrap();
        assert_eq!(batch.arena().text().as_ptr(), at);
    }

    #[test]
    fn a_forged_length_allocates_nothing() {
        let meter = Meter::default();
        let mut reader = reader(Scheme::LengthPrefixed, 64 << 20, Oversize::Truncate);
        let mut reading = reader.start_read();
        reading.space()[..6].copy_from_slice(&[3, 0xff, 0xff, 0xff, b'a', b'b']);
        reading.advance(6);
        assert!(matches!(reader.take(reading, &meter), (None, None)));
        assert_eq!(reader.start_read().chunk.len(), CHUNK_BYTES, "no more than for any other read");
        assert_eq!(reader.kept_bytes(), 6);
        let batch = reader.finish(true, &meter).unwrap();
        assert_eq!(batch.lines().map(|(_, l)| l.to_vec()).collect::<Vec<_>>(), [b"ab"]);
        assert_eq!(meter.snapshot().cut_events, 1, "shorter than announced");
    }

    #[test]
    fn all_streams_together_hold_no_more_than_the_bound() {
        let (settings, meter) =
            (FrameSettings::new(Scheme::Newline, 1 << 20, Oversize::Drop), Meter::default());
        let mut readers = Vec::new();
        let refused = loop {
            let mut reader = FrameReader::new(&settings, Arc::new(Origin::new("t", "t")));
            let mut reading = reader.start_read();
            reading.space()[..HELD_MIN].fill(b'x');
            reading.advance(HELD_MIN);
            let (_, error) = reader.take(reading, &meter);
            readers.push(reader);
            if let Some(error) = error {
                break error;
            }
        };
        assert_eq!(refused, FramingError::Unfinished { held: KEPT_BYTES_MAX + CHUNK_BYTES });
        assert_eq!(readers.len(), KEPT_BYTES_MAX / CHUNK_BYTES + 1);
        drop(readers);
        assert_eq!(settings.kept.load(Relaxed), 0, "given back");
    }

    #[test]
    fn what_is_too_long_is_counted_once() {
        for (oversize, cut, dropped) in
            [(Oversize::Split, 1, 0), (Oversize::Truncate, 1, 0), (Oversize::Drop, 0, 1)]
        {
            let meter = Meter::default();
            let rows = feed(&mut reader(Scheme::Newline, 4, oversize), b"123456789abc\nok", 3, &meter);
            assert_eq!(rows.last().unwrap(), b"ok");
            let counts = meter.snapshot();
            assert_eq!((counts.cut_events, counts.dropped(Reason::Oversize)), (cut, dropped), "{oversize:?}");
        }
    }
}
