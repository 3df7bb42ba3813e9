//! Records come back as they were written, whatever rows are live and whatever they hold; damage never does.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::format::*;
use super::record::{decode, encode, is_intact};
use crate::batch::{Arena, Batch, BatchBuilder, Framing, Origin, Receipt, Span, Timestamp};

const SALT: u32 = 7;

fn written(batch: &Batch, at: &Point, compression: Compression) -> Vec<u8> {
    let record = encode(batch, at, compression, SALT).expect("short enough");
    let mut bytes = record.head.clone();
    bytes.extend_from_slice(&record.body);
    bytes.extend(record.newline.then_some(b'\n'));
    assert_eq!(bytes.len() as u64, record.stored_len());
    bytes
}

fn read(bytes: &[u8]) -> Option<(RecordHeader, Batch)> {
    let header = decode_header(bytes, SALT)?;
    let payload = bytes.get(RECORD_HEADER..header.record_len() as usize)?;
    if !is_intact(&header, payload, SALT) {
        return None;
    }
    let batch = decode(&header, Bytes::copy_from_slice(payload), &mut None)?;
    Some((header, batch))
}

fn lines(batch: &Batch) -> Vec<Vec<u8>> {
    batch.lines().map(|(_, line)| line.to_vec()).collect()
}

fn batch(rows: &[Vec<u8>], keep: &[bool]) -> Batch {
    let mut builder = BatchBuilder::new(Arc::new(Origin::new("app.source.0.file", "/var/log/ä.log")));
    builder.received(Timestamp(1_234_567));
    rows.iter().for_each(|row| builder.push(row));
    let mut batch = builder.finish(Receipt::none());
    batch.retain(|_, row| keep.get(row as usize).copied().unwrap_or(true));
    batch
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
}

#[test]
fn a_dense_batch_is_written_from_its_arena() {
    let batch = Batch::from_lines("t", ["one", "two", "three"]);
    let record = encode(&batch, &Point::default(), Compression::None, SALT).expect("short");
    assert_eq!(record.body.as_ptr(), batch.arena().text().as_ptr());
}

#[test]
fn a_last_line_without_a_delimiter_gets_one() {
    let (text, spans) = (Bytes::from_static(b"a\nbc"), vec![Span::new(0, 1), Span::new(2, 2)]);
    let origin = Arc::new(Origin::new("t", "t"));
    let arena = Arena::new(text, spans, Framing::Lines, origin, Timestamp(0));
    let batch = Batch::new(arena, Receipt::none());
    let (_, back) = read(&written(&batch, &Point::default(), Compression::None)).expect("intact");
    assert_eq!(lines(&back), [b"a".to_vec(), b"bc".to_vec()]);
    assert_eq!(&back.arena().text()[..], b"a\nbc\n");
}

#[test]
fn another_salt_makes_another_checksum() {
    let bytes = written(&Batch::from_lines("t", ["x"]), &Point::default(), Compression::None);
    assert!(decode_header(&bytes, SALT).is_some());
    assert!(decode_header(&bytes, SALT + 1).is_none(), "a log line cannot pass for a record");
}

#[test]
fn a_later_version_is_told_from_damage() {
    let start = Point { seq: 5, events: 9, bytes: 100, segment: 5, offset: SEGMENT_HEADER };
    let header = SegmentHeader { start, salt: 3 };
    let mut bytes = encode_segment(&header);
    assert_eq!(decode_segment(&bytes), Ok(header));
    bytes[8] = 2;
    assert_eq!(decode_segment(&bytes), Err(BadHeader::Damaged), "a byte that changed");
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(decode_segment(&bytes), Err(BadHeader::Version(2)));
    bytes[20] ^= 1;
    assert_eq!(decode_segment(&bytes), Err(BadHeader::Damaged));
}

proptest! {
    #[test]
    fn any_batch_comes_back(
        rows in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..60),
        keep in proptest::collection::vec(any::<bool>(), 0..60),
        compression in compression(),
        seq in any::<u32>(),
    ) {
        let batch = batch(&rows, &keep);
        prop_assume!(!batch.is_empty());
        let at = Point { seq: u64::from(seq), events: 11, bytes: 22, ..Point::default() };
        let (header, back) = read(&written(&batch, &at, compression)).expect("intact");
        prop_assert_eq!(lines(&back), lines(&batch));
        prop_assert_eq!((header.seq, header.events_before, header.bytes_before), (at.seq, 11, 22));
        prop_assert_eq!(u64::from(header.row_bytes), batch.bytes());
        prop_assert_eq!(back.arena().origin().label(), batch.arena().origin().label());
        prop_assert_eq!(back.arena().received(), Timestamp(1_234_567));
        prop_assert_eq!(back.arena().framing(), batch.arena().framing());
    }

    #[test]
    fn a_flipped_bit_is_noticed(
        rows in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..20),
        compression in compression(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = written(&batch(&rows, &[]), &Point::default(), compression);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read(&bytes).is_none(), "byte {at}");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        decode_header(&bytes, SALT);
        decode_segment(&bytes).ok();
        decode_slot(&bytes);
    }

    #[test]
    fn a_payload_that_lies_is_refused_without_a_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        rows in 0u32..400,
        meta_len in 0u32..400,
        raw_len in 0u32..5000,
        compression in compression(),
    ) {
        let header = RecordHeader {
            seq: 0, events_before: 0, bytes_before: 0, rows, row_bytes: 0, received: 0,
            stored_len: payload.len() as u32, raw_len, meta_len, payload_crc: 0, compression,
            framing: Framing::Lines,
        };
        decode(&header, Bytes::from(payload), &mut None);
    }

    #[test]
    fn a_torn_slot_is_no_slot(cut in 0usize..SLOT) {
        let slot = encode_slot(&Positions { generation: 3, ..Positions::default() });
        prop_assert!(decode_slot(&slot).is_some());
        prop_assert!(decode_slot(&slot[..cut]).is_none());
        let mut torn = slot;
        torn[cut..].fill(0);
        prop_assert!(torn == slot || decode_slot(&torn).is_none());
    }
}
