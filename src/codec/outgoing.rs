//! Rows on their way into a byte stream: in a sink's format, framed so that the receiver can tell them apart. Raw
//! lines leave as slices of the arena itself; what must be written anew is written once per batch.

use std::sync::Arc;

use bytes::Bytes;

use super::encode::{self, Format, RowEncoder, raw_slices};
use super::framing::Scheme;
use crate::batch::Batch;

/// Stretches at least this long are sent from where they are, in bytes: for shorter ones a copy is cheaper than
/// another entry in a system call.
const DIRECT_BYTES_MIN: usize = 8 << 10;

/// How rows are written to a stream.
#[derive(Debug, Clone)]
pub struct Outgoing {
    format: Format,
    format_key: Arc<str>,
    scheme: Scheme,
    pipeline: Arc<str>,
}

impl Outgoing {
    /// Rows of `pipeline` in that format and framing. [`Scheme::Auto`] is for readers; here it is octet counting.
    pub fn new(format: Format, scheme: Scheme, pipeline: Arc<str>) -> Outgoing {
        let format_key = format.key();
        Outgoing { format, format_key, scheme, pipeline }
    }

    /// All live rows of `batch`, framed, as stretches in order; never an empty one. Rows that hold the delimiter
    /// pass as they are.
    pub fn write(&self, batch: &Batch, mut take: impl FnMut(Bytes)) {
        if batch.is_empty() {
            return;
        }
        if self.scheme != Scheme::Newline {
            return take(Bytes::from(self.framed(batch)));
        }
        if self.format != Format::Raw {
            return take(encode::lines(batch, &self.format, &self.format_key, &self.pipeline));
        }
        let text = batch.arena().text();
        let mut short = Vec::new();
        raw_slices(batch, |slice| {
            // Only slices of the text are long: what is put between rows is a byte.
            if slice.len() < DIRECT_BYTES_MIN {
                return short.extend_from_slice(slice);
            }
            if !short.is_empty() {
                take(Bytes::from(std::mem::take(&mut short)));
            }
            take(text.slice_ref(slice));
        });
        if !short.is_empty() {
            take(Bytes::from(short));
        }
    }

    fn framed(&self, batch: &Batch) -> Vec<u8> {
        let encoder = RowEncoder::new(batch, &self.format, &self.pipeline);
        let overhead = if self.format == Format::Raw { 8 } else { 104 };
        let mut out = Vec::with_capacity(batch.bytes() as usize + batch.events() as usize * overhead);
        let mut row_text = Vec::new();
        for row in batch.live().iter() {
            row_text.clear();
            encoder.write(row, &mut row_text);
            self.frame(&row_text, &mut out);
        }
        out
    }

    fn frame(&self, row: &[u8], out: &mut Vec<u8>) {
        match self.scheme {
            Scheme::Newline | Scheme::Nul => {
                out.extend_from_slice(row);
                out.push(if self.scheme == Scheme::Nul { 0 } else { b'\n' });
            }
            // A length is never 0 (RFC 6587, 3.4.1): receivers break off. A line break is what comes closest,
            // and weir's own reader makes an empty event of it again.
            Scheme::OctetCounted | Scheme::Auto if row.is_empty() => out.extend_from_slice(b"1 \n"),
            Scheme::OctetCounted | Scheme::Auto => {
                out.extend_from_slice(row.len().to_string().as_bytes());
                out.push(b' ');
                out.extend_from_slice(row);
            }
            Scheme::LengthPrefixed => {
                // An arena is below 4 GiB, and so is a row of it.
                out.extend_from_slice(&u32::try_from(row.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(row);
            }
        }
    }

    /// How many of the first rows of `batch` lie wholly within the first `bytes` of what [`Outgoing::write`] gives.
    /// Writes them again to find out; for the rare moment when a connection breaks.
    pub fn rows_within(&self, batch: &Batch, bytes: u64) -> u64 {
        let encoder = RowEncoder::new(batch, &self.format, &self.pipeline);
        let (mut row_text, mut framed, mut end, mut rows) = (Vec::new(), Vec::new(), 0, 0);
        for row in batch.live().iter() {
            row_text.clear();
            framed.clear();
            encoder.write(row, &mut row_text);
            self.frame(&row_text, &mut framed);
            end += framed.len() as u64;
            if end > bytes {
                break;
            }
            rows += 1;
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::framing::{Framer, Oversize};
    use crate::codec::template::TimestampFormat;

    fn written(outgoing: &Outgoing, batch: &Batch) -> Vec<u8> {
        let mut all = Vec::new();
        outgoing.write(batch, |part| {
            assert!(!part.is_empty());
            all.extend_from_slice(&part);
        });
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 2))]
        #[test]
        fn what_is_sent_is_framed_again_as_the_same_rows(
            lengths in proptest::collection::vec(prop_oneof![6 => 0usize..60, 1 => 9_000usize..12_000], 1..40),
            keep in proptest::collection::vec(any::<bool>(), 40),
            kind in 0usize..4,
            cut in 0.0f64..1.0,
        ) {
            let scheme = [Scheme::Newline, Scheme::Nul, Scheme::OctetCounted, Scheme::LengthPrefixed][kind];
            let lines = lengths.iter().enumerate().map(|(i, n)| vec![b'a' + (i % 26) as u8; *n]);
            let mut batch = Batch::from_lines("t", lines);
            batch.retain(|_, row| keep[row as usize]);
            let outgoing = Outgoing::new(Format::Raw, scheme, "p".into());
            let bytes = written(&outgoing, &batch);
            let mut framer = Framer::new(scheme, 1 << 20, Oversize::Drop);
            let (framed, error) = framer.frame(&bytes, 0);
            prop_assert!(error.is_none());
            prop_assert_eq!(framed.consumed, bytes.len());
            let found: Vec<&[u8]> = framed.spans.iter().map(|s| &bytes[s.start()..s.end()]).collect();
            let expected: Vec<&[u8]> = batch.lines().map(|(_, line)| line).collect();
            prop_assert_eq!(found, expected);
            // A prefix holds as many rows as a framer finds in it.
            let some = (bytes.len() as f64 * cut) as usize;
            let (framed, _) = Framer::new(scheme, 1 << 20, Oversize::Drop).frame(&bytes[..some], 0);
            prop_assert_eq!(outgoing.rows_within(&batch, some as u64), framed.spans.len() as u64);
            prop_assert_eq!(outgoing.rows_within(&batch, u64::MAX), batch.events());
        }
    }

    #[test]
    fn raw_lines_leave_from_where_they_are() {
        let batch = Batch::from_lines("t", vec!["x".repeat(99); 1000]);
        let outgoing = Outgoing::new(Format::Raw, Scheme::Newline, "p".into());
        let mut parts = Vec::new();
        outgoing.write(&batch, |part| parts.push(part));
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].as_ptr(), batch.arena().text().as_ptr(), "not a copy");
    }

    #[test]
    fn json_rows_are_counted_as_they_are_sent() {
        let batch = Batch::from_lines("t", ["say \"hi\"", "", "x"]);
        let json = Format::Json(TimestampFormat::Rfc3339);
        for scheme in [Scheme::Newline, Scheme::OctetCounted] {
            let outgoing = Outgoing::new(json.clone(), scheme, "p".into());
            let all = written(&outgoing, &batch).len() as u64;
            assert_eq!([0, all - 1, all].map(|n| outgoing.rows_within(&batch, n)), [0, 2, 3]);
        }
    }
}
