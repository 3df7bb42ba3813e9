//! Which files of a buffer's directory are segments, and where each starts. A header says so; without a sound one the
//! first record does. Files under other names get their own back, what cannot be told is moved aside and named.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::format::{
    BadHeader, Point, SEGMENT_HEADER, SegmentHeader, VERSION, decode_segment, encode_segment,
};
use super::recovery::Tries;
use super::scan::{CHUNK_BYTES, Found, Scanner};
use super::storage::{Open, Storage};
use super::store::{Segment, segment_number, segment_path};
use crate::base::rng::Rng;
use crate::batch::ChunkPool;

/// Why a directory cannot be read.
pub(super) enum Unreadable {
    Io(io::Error),
    Version(String),
}

/// The header of a segment, or what to do without it.
enum Header {
    Good(SegmentHeader),
    Damaged,
    /// Shorter than a header: made by a start that was cut short, it holds nothing.
    Empty,
}

/// A file that may be a segment.
struct File {
    /// In its name.
    number: u64,
    len: u64,
    header: Header,
}

/// Files that have their place, by the number of their first record: where they start, and under which number they lie.
type Placed = BTreeMap<u64, (Segment, u64)>;

/// The segments of a directory in order, and the salt of their checksums. Files that the disk has not given back in
/// some tries are moved aside.
pub(super) fn find_segments(
    storage: &dyn Storage,
    dir: &Path,
    salt: Option<u32>,
    tries: &mut Tries,
    notes: &mut Vec<String>,
) -> Result<(VecDeque<Segment>, u32), Unreadable> {
    let mut files: Vec<File> = Vec::new();
    for (name, len) in storage.list(dir).map_err(Unreadable::Io)? {
        let Some(number) = segment_number(&name) else { continue };
        let path = dir.join(&name);
        let header = match read_header(storage, &path) {
            Err(Unreadable::Io(e)) if tries.give_up(&e) => {
                set_aside(storage, &path, &e, &mut tries.notes).map_err(Unreadable::Io)?;
                continue;
            }
            header => header?,
        };
        match header {
            Header::Empty => drop(storage.remove(&segment_path(dir, number))),
            header => files.push(File { number, len, header }),
        }
    }
    files.sort_by_key(|file| file.number);
    let good = files.iter().find_map(|f| if let Header::Good(h) = &f.header { Some(h.salt) } else { None });
    let salt = good.or(salt).unwrap_or_else(|| Rng::from_entropy().next_u64() as u32);
    let (mut placed, mut aside) = (Placed::new(), Vec::new());
    for file in &files {
        if let Header::Good(header) = &file.header {
            place_good(file, header.start, &mut placed, &mut aside);
        }
    }
    let mut damaged = Vec::new();
    for file in files.iter().filter(|file| matches!(file.header, Header::Damaged)) {
        let path = segment_path(dir, file.number);
        match first_record(storage, &path, file, salt) {
            Ok(Some(first)) => damaged.push((file, first)),
            Ok(None) => aside.push(file.number),
            Err(e) if tries.give_up(&e) => {
                set_aside(storage, &path, &e, &mut tries.notes).map_err(Unreadable::Io)?;
            }
            Err(e) => return Err(Unreadable::Io(e)),
        }
    }
    // Those that can be sure of their place come first.
    damaged.sort_by_key(|(_, first)| !first.leads);
    for (file, first) in damaged {
        if !place_damaged(storage, dir, salt, file, &first, &mut placed, notes) {
            aside.push(file.number);
        }
    }
    for number in aside {
        let path = segment_path(dir, number);
        let to = free_name(storage, &path);
        notes.push(match storage.rename(&path, &to) {
            Ok(()) => format!("{} is damaged: moved aside as {}", path.display(), to.display()),
            Err(e) => format!("{} is damaged and cannot be moved aside: {e}", path.display()),
        });
    }
    give_names(storage, dir, &mut placed, notes);
    Ok((placed.into_values().map(|(segment, _)| segment).collect(), salt))
}

/// A file whose header can be trusted. Of two that claim one place, the one that has the name stays, else the longer.
fn place_good(file: &File, start: Point, placed: &mut Placed, aside: &mut Vec<u64>) {
    let segment = Segment { start, len: file.len, file_len: 0 };
    if let Some((other, number)) = placed.get(&start.seq)
        && (*number == start.seq || (file.number != start.seq && other.len >= file.len))
    {
        return aside.push(file.number);
    }
    if let Some((_, number)) = placed.insert(start.seq, (segment, file.number)) {
        aside.push(number);
    }
}

/// A file without a sound header, which gets one. It starts with its first record if that stands where a first record
/// does; else where its name says, unless another file does or lies between that and the record. False: nobody knows
/// where it belongs.
fn place_damaged(
    storage: &dyn Storage,
    dir: &Path,
    salt: u32,
    file: &File,
    first: &First,
    placed: &mut Placed,
    notes: &mut Vec<String>,
) -> bool {
    let path = segment_path(dir, file.number);
    let First { before, leads } = *first;
    let named =
        !leads && file.number <= before.seq && placed.range(file.number..=before.seq).next().is_none();
    let seq = if named { file.number } else { before.seq };
    if placed.contains_key(&seq) {
        return false;
    }
    let start = Point { seq, segment: seq, offset: SEGMENT_HEADER, ..before };
    let header = encode_segment(&SegmentHeader { start, salt });
    let mended = storage.open(&path, Open::Write);
    let mended = mended.and_then(|f| f.write_at(&mut [IoSlice::new(&header)], 0).and(f.sync()));
    notes.push(match mended {
        Ok(()) => format!("{} had a damaged header, which was mended", path.display()),
        Err(e) => format!("{} has a damaged header: {e}", path.display()),
    });
    placed.insert(seq, (Segment { start, len: file.len, file_len: 0 }, file.number));
    true
}

/// Gives files the names that their headers ask for. Where they stand in each other's way, one waits under a number
/// that no segment has; a start that is cut short then finds it there.
fn give_names(storage: &dyn Storage, dir: &Path, placed: &mut Placed, notes: &mut Vec<String>) {
    let mut free = u64::MAX;
    loop {
        let taken: Vec<u64> = placed.values().map(|(_, number)| *number).collect();
        let wrong = placed.iter().filter(|(seq, (_, number))| *seq != number);
        let wrong: Vec<(u64, u64)> = wrong.map(|(seq, (_, number))| (*seq, *number)).collect();
        let Some(first) = wrong.first() else { return };
        let (seq, number, to) = match wrong.iter().find(|(seq, _)| !taken.contains(seq)) {
            Some((seq, number)) => (*seq, *number, *seq),
            None => {
                while taken.contains(&free) {
                    free -= 1;
                }
                (first.0, first.1, free)
            }
        };
        let (from, path) = (segment_path(dir, number), segment_path(dir, to));
        match storage.rename(&from, &path) {
            Ok(()) if to == seq => notes.push(format!("{} is segment {seq}: renamed", from.display())),
            Ok(()) => {}
            Err(e) => {
                notes.push(format!("{} is segment {seq} and cannot be renamed: {e}", from.display()));
                placed.remove(&seq);
                continue;
            }
        }
        if let Some((_, number)) = placed.get_mut(&seq) {
            *number = to;
        }
    }
}

fn read_header(storage: &dyn Storage, path: &Path) -> Result<Header, Unreadable> {
    let file = storage.open(path, Open::Read).map_err(Unreadable::Io)?;
    let mut bytes = [0; SEGMENT_HEADER as usize];
    let read = file.read_at(&mut bytes, 0).map_err(Unreadable::Io)?;
    match decode_segment(&bytes[..read]) {
        Ok(header) => Ok(Header::Good(header)),
        Err(BadHeader::Version(version)) => Err(Unreadable::Version(format!(
            "{} is a disk buffer segment of version {version}, this weir knows version {VERSION}\n\
             hint: run the weir that wrote it, or move the file away; it was left as it is",
            path.display()
        ))),
        Err(BadHeader::Damaged) if read < bytes.len() => Ok(Header::Empty),
        Err(BadHeader::Damaged) => Ok(Header::Damaged),
    }
}

/// The first record of a file that verifies.
struct First {
    /// Before it.
    before: Point,
    /// Nothing stands before it.
    leads: bool,
}

/// The first record of a file that verifies: of those that its name allows, if there are any. Others may be left of a
/// segment that was written over.
fn first_record(storage: &dyn Storage, path: &Path, file: &File, salt: u32) -> io::Result<Option<First>> {
    let stored = storage.open(path, Open::Read)?;
    for least in [file.number, 0] {
        let mut scanner = Scanner::new(stored.clone(), salt, least, ChunkPool::new(CHUNK_BYTES, 1));
        let mut at = SEGMENT_HEADER;
        loop {
            match scanner.at(at, file.len)? {
                Found::Record(header, _) => {
                    let (seq, events, bytes) = (header.seq, header.events_before, header.bytes_before);
                    let before = Point { seq, events, bytes, ..Point::default() };
                    return Ok(Some(First { before, leads: at == SEGMENT_HEADER }));
                }
                Found::Damage { until, .. } => at = until,
                Found::End => break,
            }
        }
    }
    Ok(None)
}

/// Moves a file aside that the disk does not give back.
pub(super) fn set_aside(
    storage: &dyn Storage,
    path: &Path,
    why: &io::Error,
    notes: &mut Vec<String>,
) -> io::Result<()> {
    let to = free_name(storage, path);
    storage.rename(path, &to)?;
    notes.push(format!("{} cannot be read: moved aside as {}: {why}", path.display(), to.display()));
    Ok(())
}

/// A name for a damaged file that is not taken.
pub(super) fn free_name(storage: &dyn Storage, path: &Path) -> PathBuf {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let mut aside = with(".damaged");
    let mut n = 1;
    while storage.open(&aside, Open::Read).is_ok() {
        aside = with(&format!(".{n}.damaged"));
        n += 1;
    }
    aside
}
