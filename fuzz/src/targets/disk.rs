//! The bytes of disk buffers: records, positions, and a whole directory that something has damaged.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use logweir::batch::{Batch, Framing};
use logweir::flow::disk::format::{
    Compression, GivenUp, Point, Positions, RECORD_HEADER, RecordHeader, SLOT, decode_header, decode_segment,
    decode_slot, encode_header, encode_segment, encode_slot,
};
use logweir::flow::disk::storage::{Open, Storage as _};
use logweir::flow::disk::{Limits, Store, audit, record as records};

use model::{Model, Survives};

/// What the model of a file system implements.
mod storage {
    pub(super) use logweir::flow::disk::storage::{Held, Open, Storage, StoredFile};
}

#[allow(dead_code, reason = "the library's own tests use more of it")]
#[path = "../../../src/flow/disk/model_tests.rs"]
mod model;

const CODINGS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];
const DIR: &str = "/buffer";

fn lines(batch: &Batch) -> Vec<Vec<u8>> {
    batch.lines().map(|(_, line)| line.to_vec()).collect()
}

/// A batch as a record and back; any byte that changes is noticed.
pub fn record(data: &[u8]) {
    let [coding, salt, at, flip, text @ ..] = data else { return };
    let (coding, salt) = (CODINGS[usize::from(*coding) % 3], u32::from(*salt));
    let rows: Vec<&[u8]> = text.split(|b| *b == b'|').collect();
    let batch = Batch::from_lines("fuzz", rows.iter());
    let at = Point { seq: u64::from(*at) << 40, events: 7, bytes: u64::MAX / 2, segment: 0, offset: 64 };
    let encoded = records::encode(&batch, &at, coding, salt).expect("small");
    let mut bytes = [&encoded.head[..], &encoded.body, if encoded.newline { b"\n" } else { b"" }].concat();
    assert_eq!(bytes.len() as u64, encoded.stored_len());
    let header = decode_header(&bytes, salt).expect("a header");
    assert_eq!((header.seq, header.record_len()), (at.seq, bytes.len() as u64));
    assert!(records::is_intact(&header, &bytes[RECORD_HEADER..], salt));
    let payload = Bytes::copy_from_slice(&bytes[RECORD_HEADER..]);
    let back = records::decode(&header, payload, &mut None).expect("a batch");
    assert_eq!(lines(&back), lines(&batch));
    assert_eq!(back.arena().origin().component(), batch.arena().origin().component());
    assert_eq!(back.arena().received(), batch.arena().received());
    assert!(decode_header(&bytes, salt + 1).is_none(), "of another buffer");
    let place = usize::from(*flip) * 7 % bytes.len();
    bytes[place] ^= 0x10;
    let sound =
        decode_header(&bytes, salt).is_some_and(|h| records::is_intact(&h, &bytes[RECORD_HEADER..], salt));
    assert!(!sound, "byte {place} of {}", bytes.len());
}

/// A payload that is not what its header says becomes no batch, or one that can be written again.
pub fn payload(data: &[u8]) {
    assert!(decode_header(data, 0).is_none_or(|header| data.starts_with(&encode_header(&header, 0))));
    if let Ok(header) = decode_segment(data) {
        assert_eq!(encode_segment(&header)[..48], data[..48]);
    }
    let [coding, rows, meta, raw, payload @ ..] = data else { return };
    let header = RecordHeader {
        seq: 1,
        events_before: 0,
        bytes_before: 0,
        rows: u32::from(*rows),
        row_bytes: 0,
        received: 0,
        stored_len: payload.len() as u32,
        // Both ways: as long as it is, and something else.
        raw_len: if *raw == 0 { payload.len() as u32 } else { u32::from(*raw) * 4 },
        meta_len: u32::from(*meta),
        payload_crc: 0,
        compression: CODINGS[usize::from(*coding) % 3],
        framing: if coding & 0x80 == 0 { Framing::Free } else { Framing::Lines },
    };
    let Some(batch) = records::decode(&header, Bytes::copy_from_slice(payload), &mut None) else { return };
    assert_eq!(batch.events(), u64::from(*rows));
    let found = lines(&batch);
    assert!(found.iter().map(Vec::len).sum::<usize>() <= header.raw_len as usize);
    if header.framing == Framing::Free {
        let again = records::encode(&batch, &Point::default(), Compression::None, 5).expect("small");
        let bytes = [&again.head[..], &again.body, if again.newline { b"\n" } else { b"" }].concat();
        let header = decode_header(&bytes, 5).expect("a header");
        let back = records::decode(&header, Bytes::copy_from_slice(&bytes[RECORD_HEADER..]), &mut None);
        assert_eq!(lines(&back.expect("a batch")), found);
    }
}

/// A slot of the position file is what was written, or nothing.
pub fn positions(data: &[u8]) {
    if let Some(positions) = decode_slot(data) {
        assert_eq!(encode_slot(&positions)[..SLOT - 4], data[..SLOT - 4], "nothing but zeros in the rest");
    }
    let mut numbers = data.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("eight")));
    let mut point = || {
        let mut next = || numbers.next().unwrap_or(3);
        Point { seq: next(), events: next(), bytes: next(), segment: next(), offset: next() }
    };
    let mut given_up = || GivenUp { events: 5, bytes: 70, upto: point() };
    let (given_up, giving_up) = (given_up(), given_up());
    let (acked, synced) = (point(), point());
    let positions = Positions { generation: data.len() as u64, salt: 9, acked, synced, given_up, giving_up };
    let mut slot = encode_slot(&positions);
    assert_eq!(decode_slot(&slot), Some(positions));
    for cut in [0, 8, 100, SLOT - 1] {
        assert_eq!(decode_slot(&slot[..cut]), None);
    }
    if let Some(byte) = data.first() {
        slot[usize::from(*byte) * 2] ^= 0x40;
        assert_eq!(decode_slot(&slot), None);
    }
}

fn limits() -> Limits {
    Limits { bytes_max: 256 << 10, events_max: None, compression: Compression::None }
}

fn open(model: &Model) -> (Store, u64) {
    let opened = Store::open(Arc::new(model.clone()), Path::new(DIR), limits());
    let (store, recovered) = opened.expect("damage never blocks the start");
    (store, recovered.events)
}

fn line(number: u64) -> String {
    format!("{number:06} {}", "x".repeat(number as usize * 37 % 900))
}

/// Everything that can be read; each line is whole, in order and there once.
fn read(store: &mut Store) -> Vec<u64> {
    let mut found: Vec<u64> = Vec::new();
    while let Some(record) = store.read_next().expect("memory can be read") {
        for (_, text) in record.batch.lines() {
            let number = std::str::from_utf8(&text[..6]).expect("text").parse().expect("a number");
            assert_eq!(text, line(number).as_bytes());
            assert!(found.last().is_none_or(|last| *last < number), "{number} after {found:?}");
            found.push(number);
        }
    }
    found
}

/// Appends, forces to the disk and lets the buffer go.
fn append(store: &mut Store, numbers: std::ops::Range<u64>) {
    let batches: Vec<Batch> = numbers
        .clone()
        .step_by(4)
        .map(|n| Batch::from_lines("fuzz", (n..(n + 4).min(numbers.end)).map(line)))
        .collect();
    store.append(&batches, &mut Vec::new()).expect("room");
    if let Some(ticket) = store.begin_sync() {
        ticket.run().expect("memory");
        store.end_sync(&ticket, true);
    }
}

/// A buffer in which bytes were changed, cut and zeroed, and files removed or exchanged: it opens, delivers what is
/// sound and knows how much is not, and goes on.
pub fn recovery(data: &[u8]) {
    let [settled, damage @ ..] = data else { return };
    let model = Model::default();
    let (mut store, _) = open(&model);
    append(&mut store, 0..120);
    for _ in 0..settled % 30 {
        let record = store.read_next().expect("memory").expect("thirty records");
        store.ack_to(record.end).expect("memory");
    }
    store.persist(true).expect("memory");
    drop(store);
    damage.chunks_exact(5).take(12).for_each(|act| harm(&model, act));
    // What was done to the files is on the disk, too.
    let model = model.after_crash(Survives::Everything);
    let report = audit::report(&model, Path::new(DIR), true);
    let (mut store, waiting) = open(&model);
    let found = read(&mut store);
    let losses = store.take_losses();
    assert_eq!(found.len() as u64 + losses.events, waiting, "every event is delivered or known to be lost");
    assert_eq!(store.queued().0, found.len() as u64, "what is lost does not wait");
    assert!(found.iter().all(|n| *n < 120));
    if damage.len() < 5 {
        assert_eq!(found, (u64::from(settled % 30) * 4..120).collect::<Vec<_>>());
        assert!(report.expect("memory").is_sound());
    }
    append(&mut store, 500..506);
    drop(store);
    let after = model.after_crash(Survives::Nothing);
    let (mut store, _) = open(&after);
    let again = read(&mut store);
    let expected: Vec<u64> = found.into_iter().chain(500..506).collect();
    assert_eq!(again, expected, "what was sound still is, and what came since");
    drop(store);
    drop(audit::repair(&after, Path::new(DIR)));
    assert_eq!(read(&mut open(&after).0), expected, "a repair loses nothing");
}

/// Does something to a file of the buffer.
fn harm(model: &Model, act: &[u8]) {
    let dir = Path::new(DIR);
    let names: Vec<(String, u64)> = model.list(dir).expect("memory");
    let Some((name, len)) = names.get(usize::from(act[0]) % names.len().max(1)) else { return };
    let path = dir.join(name);
    let offset = u64::from(u16::from_le_bytes([act[2], act[3]])) * 3 % (len + 1);
    let Ok(file) = model.open(&path, Open::Write) else { return };
    let write = |bytes: &[u8]| file.write_at(&mut [std::io::IoSlice::new(bytes)], offset).expect("memory");
    match act[1] % 8 {
        0..=2 => write(&[act[4]]),
        3 => write(&[0; 700][..usize::from(act[4]) * 2 + 1]),
        4 => file.truncate(offset).expect("memory"),
        5 => write(b"\xF1WR\x1A"),
        6 if act[4] > 200 => model.remove(&path).expect("memory"),
        7 if act[4] > 200 && name.ends_with(".seg") => {
            let other = dir.join(format!("{:020}.seg", u64::from(act[2])));
            if model.open(&other, Open::Read).is_err() {
                model.rename(&path, &other).expect("memory");
            }
        }
        _ => {}
    }
}
