//! A buffer seen from outside, for the command line: what is in it, whether every record verifies, and a repair that
//! keeps the damaged files next to the buffer. Inspecting takes no lock, repairing does.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    BadHeader, GivenUp, Point, SEGMENT_HEADER, SegmentHeader, decode_segment, encode_segment, encode_slot,
};
use super::positions::{self, POSITION_FILE};
use super::scan::{CHUNK_BYTES, Found, Scanner};
use super::segments::free_name;
use super::storage::{Held, Open, Storage, StoredFile};
use super::store::{LOCK_FILE, segment_number, segment_path};
use crate::batch::ChunkPool;

/// What a segment holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Number of its first record, from its name.
    pub number: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Records that verify; zero if records were not looked at.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Stretches that do not verify: first byte and length.
    pub damaged: Vec<(u64, u64)>,
    /// Why its header is not accepted.
    pub header: Option<String>,
}

/// What a buffer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Its directory.
    pub dir: PathBuf,
    /// Its segments, in order.
    pub segments: Vec<SegmentReport>,
    /// Records before which all is settled; `None` without a valid position file.
    pub settled_records: Option<u64>,
    /// Events that wait, by the counts of the headers and, when they were looked at, the records.
    pub waiting_events: u64,
    /// Numbers of records that are missing between segments or in damaged stretches: first, and one past the last.
    pub missing: Vec<(u64, u64)>,
    /// Files that were moved aside earlier.
    pub set_aside: Vec<String>,
}

impl Report {
    /// Whether every file is sound. Records that are missing since earlier are told, not held against it.
    pub fn is_sound(&self) -> bool {
        self.segments.iter().all(|s| s.damaged.is_empty() && s.header.is_none())
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }
}

/// Whether a directory is a disk buffer's.
pub fn is_buffer(storage: &dyn Storage, dir: &Path) -> bool {
    let files = storage.list(dir).unwrap_or_default();
    files.iter().any(|(name, _)| name == POSITION_FILE || name == LOCK_FILE || segment_number(name).is_some())
}

/// Looks into the buffer in `dir`; with `deep` every record is verified, else the last segment's only, to know its
/// end. Changes nothing.
///
/// # Errors
/// When a file cannot be read.
pub fn report(storage: &dyn Storage, dir: &Path, deep: bool) -> io::Result<Report> {
    let mut report = Report { dir: dir.to_owned(), ..Report::default() };
    let mut names = storage.list(dir)?;
    names.sort();
    let positions = match storage.open(&dir.join(POSITION_FILE), Open::Read) {
        Ok(file) => positions::read(file.as_ref())?,
        Err(_) => None,
    };
    let settled = positions.map(|p| p.acked);
    report.settled_records = settled.map(|p| p.seq);
    let numbers: Vec<(u64, u64)> =
        names.iter().filter_map(|(name, len)| Some((segment_number(name)?, *len))).collect();
    report.set_aside = names.into_iter().map(|(name, _)| name).filter(|n| n.ends_with(".damaged")).collect();
    let (mut first, mut end): (Option<Point>, Option<Point>) = (None, None);
    for (at, (number, bytes)) in numbers.iter().copied().enumerate() {
        let mut segment = SegmentReport { number, bytes, ..SegmentReport::default() };
        let file = storage.open(&segment_path(dir, number), Open::Read)?;
        match read_header(file.as_ref())? {
            Ok(header) => {
                first.get_or_insert(header.start);
                if let Some(before) = end.filter(|e| e.seq < header.start.seq && deep) {
                    report.missing.push((before.seq, header.start.seq));
                }
                let mut point = header.start;
                if deep || at + 1 == numbers.len() {
                    walk(file, &header, &mut segment, &mut point, &mut report.missing)?;
                }
                end = Some(point);
            }
            Err(why) => segment.header = Some(why),
        }
        report.segments.push(segment);
    }
    let from = settled.or(first).unwrap_or_default();
    // Settled segments go, but for one that is kept to be written over.
    report.missing.iter_mut().for_each(|(first, _)| *first = from.seq.max(*first));
    report.missing.retain(|(first, end)| first < end);
    // What the policy gave up is gone, with its segments.
    let is_gone = |gap: &GivenUp| gap.upto.seq > from.seq && first.is_none_or(|f| f.seq >= gap.upto.seq);
    let gaps = positions.into_iter().flat_map(|p| [p.given_up, p.giving_up]).filter(is_gone);
    let given_up: u64 = gaps.map(|gap| gap.events).sum();
    report.waiting_events = end.unwrap_or_default().events.saturating_sub(from.events + given_up);
    Ok(report)
}

fn read_header(file: &dyn StoredFile) -> io::Result<Result<SegmentHeader, String>> {
    let mut bytes = [0; SEGMENT_HEADER as usize];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(decode_segment(&bytes[..read]).map_err(|bad| match bad {
        BadHeader::Version(version) => format!("version {version} is not known"),
        BadHeader::Damaged => "the header is damaged".to_owned(),
    }))
}

/// Verifies the records of a segment; `point` ends after the last of them.
fn walk(
    file: Arc<dyn StoredFile>,
    header: &SegmentHeader,
    segment: &mut SegmentReport,
    point: &mut Point,
    missing: &mut Vec<(u64, u64)>,
) -> io::Result<()> {
    let mut scanner = Scanner::new(file, header.salt, header.start.seq, ChunkPool::new(CHUNK_BYTES, 2));
    loop {
        match scanner.at(point.offset, segment.bytes)? {
            Found::End => return Ok(()),
            Found::Damage { until, .. } => {
                segment.damaged.push((point.offset, until - point.offset));
                point.offset = until;
            }
            Found::Record(record, _) => {
                if record.seq > point.seq {
                    missing.push((point.seq, record.seq));
                }
                segment.records += 1;
                segment.events += u64::from(record.rows);
                *point = Point {
                    seq: record.seq + 1,
                    events: record.events_before + u64::from(record.rows),
                    bytes: record.bytes_before + u64::from(record.row_bytes),
                    offset: point.offset + record.record_len(),
                    ..*point
                };
            }
        }
    }
}

/// Takes the buffer's lock.
///
/// # Errors
/// When a weir has it ([`io::ErrorKind::WouldBlock`]), or the file cannot be opened.
pub fn lock(storage: &dyn Storage, dir: &Path) -> io::Result<Box<dyn Held>> {
    storage.lock(&dir.join(LOCK_FILE))
}

/// Rewrites each damaged segment with the records of it that verify; the damaged file is kept next to it as
/// `….seg.damaged`. A segment without a valid header is moved aside as a whole. Unknown versions are left alone.
/// Returns what was moved aside.
///
/// # Errors
/// When the buffer is in use, or from the file system; what was done until then is sound.
pub fn repair(storage: &dyn Storage, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let lock = lock(storage, dir)?;
    let mut moved = Vec::new();
    for segment in report(storage, dir, true)?.segments {
        let path = segment_path(dir, segment.number);
        if segment.header.as_ref().is_some_and(|why| why.starts_with("version"))
            || (segment.header.is_none() && segment.damaged.is_empty())
        {
            continue;
        }
        let aside = free_name(storage, &path);
        if segment.header.is_some() {
            storage.rename(&path, &aside)?;
        } else {
            let repaired = dir.join(format!("{:020}.new", segment.number));
            storage.remove(&repaired).ok();
            copy_sound(storage, &path, &repaired, segment.bytes)?;
            forget_offsets(storage, dir, segment.number)?;
            storage.rename(&path, &aside)?;
            storage.rename(&repaired, &path)?;
        }
        storage.sync_dir(dir)?;
        moved.push(aside);
    }
    drop(lock);
    Ok(moved)
}

/// Positions within a segment that gets shorter would point into the middle of records: they go back to its start,
/// from where what is settled is stepped over. Done before the segment changes, for it is as true of the old one.
fn forget_offsets(storage: &dyn Storage, dir: &Path, segment: u64) -> io::Result<()> {
    let Ok(file) = storage.open(&dir.join(POSITION_FILE), Open::Write) else { return Ok(()) };
    let Some(mut positions) = positions::read(file.as_ref())? else { return Ok(()) };
    for point in [&mut positions.acked, &mut positions.synced] {
        if point.segment == segment {
            point.offset = SEGMENT_HEADER;
        }
    }
    positions.generation += 1;
    let slot = encode_slot(&positions);
    let offset = (positions.generation % 2) * slot.len() as u64;
    file.write_at(&mut [IoSlice::new(&slot)], offset)?;
    file.sync()
}

fn copy_sound(storage: &dyn Storage, from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let file = storage.open(from, Open::Read)?;
    let Ok(header) = read_header(file.as_ref())? else { return Ok(()) };
    let out = storage.open(to, Open::Create)?;
    out.write_at(&mut [IoSlice::new(&encode_segment(&header))], 0)?;
    let mut scanner =
        Scanner::new(file.clone(), header.salt, header.start.seq, ChunkPool::new(CHUNK_BYTES, 2));
    let (mut at, mut end) = (SEGMENT_HEADER, SEGMENT_HEADER);
    loop {
        match scanner.at(at, bytes)? {
            Found::End => return out.sync(),
            Found::Damage { until, .. } => at = until,
            Found::Record(record, _) => {
                let mut copy = vec![0; record.record_len() as usize];
                file.read_at(&mut copy, at)?;
                out.write_at(&mut [IoSlice::new(&copy)], end)?;
                at += record.record_len();
                end += record.record_len();
            }
        }
    }
}
