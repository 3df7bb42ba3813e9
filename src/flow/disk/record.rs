//! Batches as records and back. The text of a dense batch is written straight from its arena; a record that is read
//! becomes an arena over the bytes that were read.

use std::sync::Arc;

use bytes::Bytes;

use super::format::{Compression, META_MAX, Point, RECORD_HEADER, RecordHeader, encode_header};
use crate::batch::{Arena, Batch, Framing, Origin, Receipt, Span, Timestamp};

/// A batch as a record: a head that was made for it, and text that is shared with the batch where possible.
#[derive(Debug)]
pub struct Encoded {
    /// Header and, unless compressed, the payload's first part.
    pub head: Vec<u8>,
    /// The rest of the payload.
    pub body: Bytes,
    /// The rows' text lacks its last delimiter.
    pub newline: bool,
}

impl Encoded {
    /// Length of the whole record.
    pub fn stored_len(&self) -> u64 {
        (self.head.len() + self.body.len() + usize::from(self.newline)) as u64
    }
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(first & 0x7F) << shift;
        if first & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn read_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(read_varint(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

/// The live rows' text, each row followed by a delimiter: a slice of the arena where it lies there like that.
fn text_of(batch: &Batch, meta: &mut Vec<u8>) -> (Bytes, bool) {
    let (live, arena) = (batch.live(), batch.arena());
    let (first, end) = live.bounds();
    let spans = &arena.spans()[first as usize..end as usize];
    let neighbours =
        live.is_dense() && !spans.is_empty() && spans.windows(2).all(|w| w[0].end() + 1 == w[1].start());
    if neighbours && arena.framing() == Framing::Lines {
        spans.iter().for_each(|span| varint(span.len() as u64, meta));
        let (from, to) = (spans[0].start(), spans[spans.len() - 1].end());
        let text = arena.text();
        let newline = to == text.len();
        return (text.slice(from..to + usize::from(!newline)), newline);
    }
    let mut text = Vec::with_capacity(batch.bytes() as usize + live.count() as usize);
    for (_, line) in batch.lines() {
        varint(line.len() as u64, meta);
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    (text.into(), false)
}

/// Encodes a batch as the record after `at`. `None`: its rows do not fit one record (their index is over 512 MiB).
pub fn encode(batch: &Batch, at: &Point, compression: Compression, salt: u32) -> Option<Encoded> {
    let origin = batch.arena().origin();
    let mut head = Vec::with_capacity(RECORD_HEADER + 256 + batch.live().count() as usize * 2);
    head.resize(RECORD_HEADER, 0);
    for text in [origin.component(), origin.label()] {
        varint(text.len() as u64, &mut head);
        head.extend_from_slice(text.as_bytes());
    }
    let (mut body, mut newline) = text_of(batch, &mut head);
    let meta_len = u32::try_from(head.len() - RECORD_HEADER).ok().filter(|n| *n <= META_MAX)?;
    let raw_len = u32::try_from(head.len() - RECORD_HEADER + body.len() + usize::from(newline)).ok()?;
    let mut used = Compression::None;
    if compression != Compression::None {
        let mut raw = Vec::with_capacity(raw_len as usize);
        raw.extend_from_slice(&head[RECORD_HEADER..]);
        raw.extend_from_slice(&body);
        raw.extend(newline.then_some(b'\n'));
        let packed = match compression {
            Compression::Lz4 => Some(lz4_flex::block::compress(&raw)),
            _ => zstd::bulk::compress(&raw, 1).ok(),
        };
        if let Some(packed) = packed.filter(|p| p.len() < raw.len()) {
            head.truncate(RECORD_HEADER);
            (body, newline, used) = (packed.into(), false, compression);
        }
    }
    let mut crc = crc32c::crc32c_append(salt, &head[RECORD_HEADER..]);
    crc = crc32c::crc32c_append(crc, &body);
    if newline {
        crc = crc32c::crc32c_append(crc, b"\n");
    }
    let stored_len = u32::try_from(head.len() - RECORD_HEADER + body.len() + usize::from(newline)).ok()?;
    let header = RecordHeader {
        seq: at.seq,
        events_before: at.events,
        bytes_before: at.bytes,
        rows: batch.live().count(),
        row_bytes: u32::try_from(batch.bytes()).ok()?,
        received: batch.arena().received().0,
        stored_len,
        raw_len,
        meta_len,
        payload_crc: crc,
        compression: used,
        framing: batch.arena().framing(),
    };
    head[..RECORD_HEADER].copy_from_slice(&encode_header(&header, salt));
    Some(Encoded { head, body, newline })
}

/// Whether a stored payload is what was written.
pub fn is_intact(header: &RecordHeader, payload: &[u8], salt: u32) -> bool {
    crc32c::crc32c_append(salt, payload) == header.payload_crc
}

/// The batch of a record whose payload is intact; `None` if it makes no sense all the same. `last_origin` is kept
/// from record to record, so that neighbours share one.
pub fn decode(header: &RecordHeader, payload: Bytes, last_origin: &mut Option<Arc<Origin>>) -> Option<Batch> {
    let raw_len = header.raw_len as usize;
    let raw = match header.compression {
        Compression::None => payload,
        Compression::Lz4 => lz4_flex::block::decompress(&payload, raw_len).ok()?.into(),
        Compression::Zstd => zstd::bulk::decompress(&payload, raw_len).ok()?.into(),
    };
    let meta_len = header.meta_len as usize;
    if raw.len() != raw_len || meta_len > raw_len {
        return None;
    }
    let (mut meta, text) = (&raw[..meta_len], raw.slice(meta_len..));
    let (component, label) = (read_text(&mut meta)?, read_text(&mut meta)?);
    // Each row takes a byte of the index at least.
    if header.rows as usize > meta.len() {
        return None;
    }
    let mut spans = Vec::with_capacity(header.rows as usize);
    let mut at = 0usize;
    for _ in 0..header.rows {
        let len = usize::try_from(read_varint(&mut meta)?).ok()?;
        if len >= text.len() || at + len >= text.len() {
            return None;
        }
        spans.push(Span::new(at, len));
        at += len + 1;
    }
    if at != text.len() || !meta.is_empty() {
        return None;
    }
    let same = last_origin.as_ref().is_some_and(|o| o.component() == component && o.label() == label);
    if !same {
        *last_origin = Some(Arc::new(Origin::new(component, label)));
    }
    let origin = last_origin.clone()?;
    let arena = Arena::new(text, spans, header.framing, origin, Timestamp(header.received));
    Some(Batch::new(arena, Receipt::none()))
}
