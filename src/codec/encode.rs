//! Encoding: rows out, in the format a sink asks for. Raw rows that lie next to each other leave as one slice of
//! the arena; everything else is written once into one buffer per batch.

use std::sync::Arc;

use bytes::Bytes;

use super::json;
use super::template::{Template, TimestampFormat};
use crate::batch::{Batch, Framing};
use crate::config::{FormatOptions, FormatType};
use crate::flow::BuildCx;

/// A sink's format, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// The line as it came.
    Raw,
    /// `{"timestamp":…,"level":…,"source":…,"message":…}`.
    Json(TimestampFormat),
    /// A template.
    Text(Template, TimestampFormat),
}

impl Format {
    /// What a row takes on top of its own bytes, about: its newline, and with JSON its keys, time and source.
    pub fn row_overhead(&self) -> u64 {
        match self {
            Format::Raw => 1,
            Format::Text(..) => 48,
            Format::Json(_) => 112,
        }
    }

    /// The format a sink uses: its own option, else its pipeline's, else `default`. Complains about templates.
    pub fn build(own: Option<&FormatOptions>, default: FormatType, cx: &mut BuildCx<'_>) -> Option<Format> {
        let Some(options) = own.or(cx.pipeline_format) else {
            return Some(match default {
                FormatType::Json => Format::Json(TimestampFormat::Rfc3339),
                _ => Format::Raw,
            });
        };
        let time = match TimestampFormat::parse(options.timestamp_format.as_deref().unwrap_or("rfc3339")) {
            Ok(time) => time,
            Err(why) => {
                cx.error("format", why);
                return None;
            }
        };
        match (options.r#type, &options.template) {
            (FormatType::Raw, _) => Some(Format::Raw),
            (FormatType::Json, _) => Some(Format::Json(time)),
            (FormatType::Text, None) => {
                cx.error("format", "format \"text\" needs a template")
                    .hint("add template = \"{timestamp} {level} {message}\"");
                None
            }
            (FormatType::Text, Some(text)) => match Template::parse(text) {
                Ok(template) => Some(Format::Text(template, time)),
                Err(why) => {
                    cx.error("format", why);
                    None
                }
            },
        }
    }
}

impl Format {
    /// The live rows of a batch that flows through `pipeline`, each written by itself, without a delimiter.
    pub fn each(&self, batch: &Batch, pipeline: &Arc<str>) -> Vec<Vec<u8>> {
        let encoder = RowEncoder::new(batch, self, pipeline);
        let write = |row| {
            let mut out = Vec::new();
            encoder.write(row, &mut out);
            out
        };
        batch.live().iter().map(write).collect()
    }

    /// A name that two formats share only if they write the same bytes for the same pipeline.
    pub fn key(&self) -> Arc<str> {
        format!("{self:?}").into()
    }
}

/// Writes the rows of one batch; made once per batch, it holds what all its rows share.
#[derive(Debug)]
pub struct RowEncoder<'a> {
    batch: &'a Batch,
    format: &'a Format,
    pipeline: &'a Arc<str>,
    /// `","source":"…","message":"`, escaped once.
    json_middle: Vec<u8>,
}

impl<'a> RowEncoder<'a> {
    /// An encoder for the rows of `batch`, which flows through `pipeline`.
    pub fn new(batch: &'a Batch, format: &'a Format, pipeline: &'a Arc<str>) -> RowEncoder<'a> {
        let mut json_middle = Vec::new();
        if matches!(format, Format::Json(_)) {
            json_middle.extend_from_slice(b",\"source\":");
            json::string_into(&mut json_middle, batch.arena().origin().label().as_bytes());
            json_middle.extend_from_slice(b",\"message\":\"");
        }
        RowEncoder { batch, format, pipeline, json_middle }
    }

    /// Appends one row without a delimiter.
    pub fn write(&self, row: u32, out: &mut Vec<u8>) {
        match self.format {
            Format::Raw => out.extend_from_slice(self.batch.line(row)),
            Format::Text(template, time) => template.write(self.batch, row, self.pipeline, time, out),
            Format::Json(time) => {
                out.extend_from_slice(b"{\"timestamp\":");
                let at = self.batch.timestamp(row);
                match time {
                    TimestampFormat::UnixSeconds | TimestampFormat::UnixMillis => time.write(at, out),
                    TimestampFormat::Rfc3339 => {
                        out.push(b'"');
                        time.write(at, out);
                        out.push(b'"');
                    }
                    TimestampFormat::Pattern(_) => {
                        // A pattern may hold anything, quotes and line breaks too.
                        let mut text = Vec::new();
                        time.write(at, &mut text);
                        json::string_into(out, &text);
                    }
                }
                match self.batch.level(row) {
                    Some(level) => {
                        out.extend_from_slice(b",\"level\":\"");
                        out.extend_from_slice(level.as_str().as_bytes());
                        out.push(b'"');
                    }
                    None => out.extend_from_slice(b",\"level\":null"),
                }
                out.extend_from_slice(&self.json_middle);
                json::escape_into(out, self.batch.line(row));
                out.extend_from_slice(b"\"}");
            }
        }
    }
}

/// All live rows of `batch`, each followed by `\n`, as shared bytes: a slice of the arena where raw rows lie
/// together, else encoded once for all sinks that ask for this format. `key` is [`Format::key`].
pub fn lines(batch: &Batch, format: &Format, key: &Arc<str>, pipeline: &Arc<str>) -> Bytes {
    if *format == Format::Raw {
        let mut slices = 0;
        let mut whole = None;
        raw_slices(batch, |slice| {
            slices += 1;
            whole = Some(slice);
        });
        if let (1, Some(slice)) = (slices, whole) {
            return batch.arena().text().slice_ref(slice);
        }
    }
    let own_key;
    let key = match format {
        Format::Text(template, _) if template.names_pipeline() => {
            own_key = Arc::from(format!("{pipeline} {key}"));
            &own_key
        }
        _ => key,
    };
    batch.encoding(key, |batch| {
        // Grown by doubling it would be copied again and again, and end with room for twice as much.
        let expected = batch.bytes() + batch.events() * format.row_overhead();
        let mut out = Vec::with_capacity(expected as usize);
        encode_lines(batch, format, pipeline, &mut out);
        Bytes::from(out)
    })
}

/// Appends all live rows of `batch`, each followed by `\n`. Rows that hold `\n` pass as they are.
pub fn encode_lines(batch: &Batch, format: &Format, pipeline: &Arc<str>, out: &mut Vec<u8>) {
    if *format == Format::Raw {
        out.reserve(batch.bytes() as usize + batch.events() as usize);
        return raw_slices(batch, |slice| out.extend_from_slice(slice));
    }
    let encoder = RowEncoder::new(batch, format, pipeline);
    out.reserve(batch.bytes() as usize + batch.events() as usize * 96);
    for row in batch.live().iter() {
        encoder.write(row, out);
        out.push(b'\n');
    }
}

/// Calls `take` with slices that together are all live rows, each followed by `\n`. Neighbouring rows share one
/// slice; a batch from which nothing was filtered is usually a single one.
pub fn raw_slices<'a>(batch: &'a Batch, mut take: impl FnMut(&'a [u8])) {
    let (arena, text) = (batch.arena(), &batch.arena().text()[..]);
    let spans = arena.spans();
    if arena.framing() == Framing::Free {
        for row in batch.live().iter() {
            take(arena.line(row));
            take(b"\n");
        }
        return;
    }
    let mut flush = |start: usize, end: usize| {
        if start == end && end > text.len() {
            return;
        }
        if end <= text.len() {
            take(&text[start..end]);
        } else {
            // The last row ends the text and lacks its newline.
            take(&text[start..]);
            take(b"\n");
        }
    };
    let (first, end) = batch.live().bounds();
    if first == end {
        return;
    }
    if batch.live().is_dense()
        && spans[end as usize - 1].end() + 1 - spans[first as usize].start()
            == batch.bytes() as usize + (end - first) as usize
    {
        return flush(spans[first as usize].start(), spans[end as usize - 1].end() + 1);
    }
    let mut run: Option<(usize, usize)> = None;
    for row in batch.live().iter() {
        let span = spans[row as usize];
        run = match run {
            Some((start, end)) if end == span.start() => Some((start, span.end() + 1)),
            Some((start, end)) => {
                flush(start, end);
                Some((span.start(), span.end() + 1))
            }
            None => Some((span.start(), span.end() + 1)),
        };
    }
    if let Some((start, end)) = run {
        flush(start, end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{Arena, Origin, Receipt, Timestamp};
    use crate::codec::framing::{LineFramer, Oversize};

    proptest! {
        #[test]
        fn raw_is_byte_for_byte(
            text in proptest::collection::vec(prop_oneof![4 => Just(b'x'), 1 => Just(b'\n'), 1 => any::<u8>()], 0..300),
            keep in proptest::collection::vec(any::<bool>(), 301),
        ) {
            let framed = LineFramer::new(1000, Oversize::Split).finish(&text);
            let origin = Arc::new(Origin::new("t", "t"));
            let arena = Arena::new(text.clone().into(), framed.spans, framed.framing, origin, Timestamp(0));
            let mut batch = Batch::new(arena, Receipt::none());
            batch.retain(|_, row| keep[row as usize]);
            let mut naive = Vec::new();
            for (_, line) in batch.lines() {
                naive.extend_from_slice(line);
                naive.push(b'\n');
            }
            let mut out = Vec::new();
            encode_lines(&batch, &Format::Raw, &"p".into(), &mut out);
            prop_assert_eq!(out, naive);
        }
    }

    #[test]
    fn untouched_raw_batches_leave_as_one_slice() {
        let batch = Batch::from_lines("t", ["a", "", "b"]);
        let mut slices = Vec::new();
        raw_slices(&batch, |s| slices.push(s));
        assert_eq!(slices, [&b"a\n\nb\n"[..]]);
    }

    /// A batch that goes on into another pipeline keeps its arena, and with it what was encoded there.
    #[test]
    fn each_pipeline_writes_its_own_name() {
        let (batch, time) = (Batch::from_lines("t", ["x"]), TimestampFormat::Rfc3339);
        let format = Format::Text(Template::parse("{pipeline}").unwrap(), time);
        let (key, other) = (format.key(), batch.clone());
        assert_eq!(lines(&batch, &format, &key, &"a".into()), "a\n");
        assert_eq!(lines(&other, &format, &key, &"b".into()), "b\n");
    }

    #[test]
    fn json_stays_json_whatever_the_timestamp_pattern_says() {
        let time = TimestampFormat::parse("\"%Y\"\\\n").unwrap();
        let mut out = Vec::new();
        encode_lines(&Batch::from_lines("t", ["x"]), &Format::Json(time), &"p".into(), &mut out);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1, "one line a row");
        let row: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(row["timestamp"].as_str().unwrap().starts_with('"'));
    }

    #[test]
    fn json_rows_parse_and_name_their_parts() {
        let batch = Batch::from_lines("a\"b", ["say \"hi\"\r"]);
        let mut out = Vec::new();
        encode_lines(&batch, &Format::Json(TimestampFormat::UnixMillis), &"p".into(), &mut out);
        let row: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&row["source"], &row["message"]), (&"a\"b".into(), &"say \"hi\"\r".into()));
        assert!(row["timestamp"].is_i64() && row["level"].is_null());
    }
}
