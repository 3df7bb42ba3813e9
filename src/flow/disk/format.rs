//! The bytes of a buffer's files, version 1. All numbers are little-endian; every header and every record carries
//! its own CRC-32C, and each record counts the events before it, so that what a damaged or missing stretch held is
//! known exactly from what follows it.

use crate::batch::Framing;

/// First bytes of a segment file.
const SEGMENT_MAGIC: &[u8; 8] = b"weirsegm";
/// First bytes of a record, looked for after damage.
pub const RECORD_MAGIC: &[u8; 4] = b"\xF1WR\x1A";
/// First bytes of a slot of the position file.
const SLOT_MAGIC: &[u8; 8] = b"weirposn";
/// The version that this code writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// Length of a segment's header in bytes.
pub const SEGMENT_HEADER: u64 = 64;
/// Length of a record's header in bytes.
pub const RECORD_HEADER: usize = 64;
/// Length of a slot of the position file: one sector, which disks write whole.
pub const SLOT: usize = 512;

/// A place between two records, with what lies before it since the buffer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// Records before it; also the number of the record after it.
    pub seq: u64,
    /// Events before it.
    pub events: u64,
    /// Bytes of events before it, without delimiters.
    pub bytes: u64,
    /// The segment it lies in, by the number of its first record.
    pub segment: u64,
    /// Byte of the segment file.
    pub offset: u64,
}

/// How a record's payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// LZ4 block format.
    Lz4,
    /// Zstandard, level 1.
    Zstd,
}

/// Why a segment's header is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHeader {
    /// Written by another version of weir.
    Version(u32),
    /// Too short, wrong magic or wrong checksum.
    Damaged,
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Where the segment starts; its `segment` is its own number and its `offset` is [`SEGMENT_HEADER`].
    pub start: Point,
    /// Mixed into every checksum of the segment, so that a log line cannot pass for a record.
    pub salt: u32,
}

/// What a record's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Number of the record.
    pub seq: u64,
    /// Events before it.
    pub events_before: u64,
    /// Bytes of events before it.
    pub bytes_before: u64,
    /// Rows it holds.
    pub rows: u32,
    /// Bytes of its rows, without delimiters.
    pub row_bytes: u32,
    /// When the rows were received.
    pub received: i64,
    /// Length of the payload as stored.
    pub stored_len: u32,
    /// Length of the payload after decompression.
    pub raw_len: u32,
    /// Length of the payload's first part: origin and lengths of the rows.
    pub meta_len: u32,
    /// Checksum of the stored payload.
    pub payload_crc: u32,
    /// How the payload is stored.
    pub compression: Compression,
    /// How the rows lie in the text.
    pub framing: Framing,
}

impl RecordHeader {
    /// Length of the whole record.
    pub fn record_len(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.stored_len)
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }
}

/// A segment's header as bytes.
pub fn encode_segment(header: &SegmentHeader) -> [u8; SEGMENT_HEADER as usize] {
    let mut out = [0; SEGMENT_HEADER as usize];
    out[..8].copy_from_slice(SEGMENT_MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&header.salt.to_le_bytes());
    out[16..24].copy_from_slice(&header.start.seq.to_le_bytes());
    out[24..32].copy_from_slice(&header.start.events.to_le_bytes());
    out[32..40].copy_from_slice(&header.start.bytes.to_le_bytes());
    let crc = crc32c::crc32c(&out[..60]);
    out[60..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The header of a segment file that starts with `bytes`.
///
/// # Errors
/// When it is another version's, or damaged.
pub fn decode_segment(bytes: &[u8]) -> Result<SegmentHeader, BadHeader> {
    if bytes.len() < SEGMENT_HEADER as usize || &bytes[..8] != SEGMENT_MAGIC {
        return Err(BadHeader::Damaged);
    }
    let fields = Fields(bytes);
    // Every version has its checksum here, so that a byte that changed is not taken for another version.
    if fields.u32(60) != crc32c::crc32c(&bytes[..60]) {
        return Err(BadHeader::Damaged);
    }
    if fields.u32(8) != VERSION {
        return Err(BadHeader::Version(fields.u32(8)));
    }
    let seq = fields.u64(16);
    let start =
        Point { seq, events: fields.u64(24), bytes: fields.u64(32), segment: seq, offset: SEGMENT_HEADER };
    Ok(SegmentHeader { start, salt: fields.u32(12) })
}

/// A record's header as bytes.
pub fn encode_header(header: &RecordHeader, salt: u32) -> [u8; RECORD_HEADER] {
    let mut out = [0; RECORD_HEADER];
    out[..4].copy_from_slice(RECORD_MAGIC);
    out[8..16].copy_from_slice(&header.seq.to_le_bytes());
    out[16..24].copy_from_slice(&header.events_before.to_le_bytes());
    out[24..32].copy_from_slice(&header.bytes_before.to_le_bytes());
    out[32..36].copy_from_slice(&header.rows.to_le_bytes());
    out[36..40].copy_from_slice(&header.row_bytes.to_le_bytes());
    out[40..48].copy_from_slice(&header.received.to_le_bytes());
    out[48..52].copy_from_slice(&header.stored_len.to_le_bytes());
    out[52..56].copy_from_slice(&header.raw_len.to_le_bytes());
    // Two bits of compression and one of framing above the length, which stays under 512 MiB.
    let kind = match header.compression {
        Compression::None => 0,
        Compression::Lz4 => 1,
        Compression::Zstd => 2,
    };
    let flags = (kind << 1) | u32::from(header.framing == Framing::Free);
    out[56..60].copy_from_slice(&(header.meta_len | (flags << 29)).to_le_bytes());
    out[60..64].copy_from_slice(&header.payload_crc.to_le_bytes());
    let crc = crc32c::crc32c_append(salt, &out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The header of a record that starts with `bytes`, if they are one.
pub fn decode_header(bytes: &[u8], salt: u32) -> Option<RecordHeader> {
    let bytes = bytes.get(..RECORD_HEADER)?;
    let fields = Fields(bytes);
    if &bytes[..4] != RECORD_MAGIC || fields.u32(4) != crc32c::crc32c_append(salt, &bytes[8..]) {
        return None;
    }
    let (meta_len, flags) = (fields.u32(56) & META_MAX, fields.u32(56) >> 29);
    let compression = match flags >> 1 {
        0 => Compression::None,
        1 => Compression::Lz4,
        2 => Compression::Zstd,
        _ => return None,
    };
    Some(RecordHeader {
        seq: fields.u64(8),
        events_before: fields.u64(16),
        bytes_before: fields.u64(24),
        rows: fields.u32(32),
        row_bytes: fields.u32(36),
        received: fields.u64(40).cast_signed(),
        stored_len: fields.u32(48),
        raw_len: fields.u32(52),
        meta_len,
        payload_crc: fields.u32(60),
        compression,
        framing: if flags & 1 == 1 { Framing::Free } else { Framing::Lines },
    })
}

/// Longest first part of a payload in bytes.
pub const META_MAX: u32 = (1 << 29) - 1;

/// Events of the log that were dropped on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GivenUp {
    /// Events.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// After the last of them. The segments before are gone; at zero there are none.
    pub upto: Point,
}

/// What a slot of the position file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Positions {
    /// Grows with every write; the slot with the larger one is valid.
    pub generation: u64,
    /// The salt of the buffer's checksums, should the headers of its segments be damaged.
    pub salt: u32,
    /// Everything before it was settled by the sink.
    pub acked: Point,
    /// Everything before it was forced to the disk: checking may start here.
    pub synced: Point,
    /// Dropped behind `acked`, with the segments they were in.
    pub given_up: GivenUp,
    /// The same of the segment that is being removed; if it is still there, it is as if nothing had been said.
    pub giving_up: GivenUp,
}

/// A slot as bytes.
pub fn encode_slot(positions: &Positions) -> [u8; SLOT] {
    let mut out = [0; SLOT];
    out[..8].copy_from_slice(SLOT_MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&positions.salt.to_le_bytes());
    out[16..24].copy_from_slice(&positions.generation.to_le_bytes());
    let point = |p: &Point| [p.seq, p.events, p.bytes, p.segment, p.offset];
    let numbers = [&positions.acked, &positions.synced].into_iter().flat_map(point);
    // Zeros, as in slots of before, where nothing was given up.
    let numbers = numbers.chain(
        [&positions.given_up, &positions.giving_up]
            .into_iter()
            .flat_map(|g| [g.events, g.bytes].into_iter().chain(point(&g.upto))),
    );
    for (i, number) in numbers.enumerate() {
        out[24 + i * 8..32 + i * 8].copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out[..SLOT - 4]);
    out[SLOT - 4..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// A slot of the position file, unless it is torn or empty.
pub fn decode_slot(bytes: &[u8]) -> Option<Positions> {
    let bytes = bytes.get(..SLOT)?;
    let fields = Fields(bytes);
    if &bytes[..8] != SLOT_MAGIC || fields.u32(8) != VERSION {
        return None;
    }
    if fields.u32(SLOT - 4) != crc32c::crc32c(&bytes[..SLOT - 4]) {
        return None;
    }
    let point = |at: usize| Point {
        seq: fields.u64(at),
        events: fields.u64(at + 8),
        bytes: fields.u64(at + 16),
        segment: fields.u64(at + 24),
        offset: fields.u64(at + 32),
    };
    let given_up =
        |at: usize| GivenUp { events: fields.u64(at), bytes: fields.u64(at + 8), upto: point(at + 16) };
    Some(Positions {
        generation: fields.u64(16),
        salt: fields.u32(12),
        acked: point(24),
        synced: point(64),
        given_up: given_up(104),
        giving_up: given_up(160),
    })
}
