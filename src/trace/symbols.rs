//! Where functions are in an ELF file, as offsets in the file, which is how uprobes are placed. The files are other
//! people's: whatever is in them, reading takes bounded memory and time and never panics (System V ABI, chapters 4, 5).

use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem;

/// Most headers of each kind that are looked at, and most bytes of a table of symbols or names.
const SEGMENTS_MAX: u16 = 1024;
const TABLE_MAX: u64 = 256 << 20;
/// Most places of names: each symbol is looked for among them.
const PLACES_MAX: usize = 64;
/// How much is read at a time; a multiple of a symbol's size.
const CHUNK: usize = 24 * 16 * 1024;

const FILE_HEADER: usize = 64;
const SEGMENT_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;

/// `SHT_DYNSYM` and `SHT_SYMTAB`: what is exported, and everything, in files that are not stripped.
const SYMBOL_TABLES: [u32; 2] = [11, 2];

/// The offset of each function in an ELF file for this machine's processor; `None` for what it does not define, and for
/// all of them if it is another kind of file.
///
/// # Errors
/// When the file cannot be read.
pub fn offsets<const N: usize>(file: &impl FileExt, functions: [&str; N]) -> io::Result<[Option<u64>; N]> {
    let mut found = [None; N];
    let Some(elf) = Elf::open(file)? else { return Ok(found) };
    for kind in SYMBOL_TABLES {
        // A second table of the same kind is no ELF file that anybody runs.
        let Some(table) = elf.sections.iter().find(|section| section.kind == kind) else { continue };
        let Some(names) = usize::try_from(table.link).ok().and_then(|link| elf.sections.get(link)) else {
            continue;
        };
        let places = places(file, names, functions)?;
        elf.look_up(file, table, &places, &mut found)?;
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    Ok(found)
}

struct Section {
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
}

/// A part of the file that is mapped to be run.
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

struct Elf {
    segments: Vec<Segment>,
    sections: Vec<Section>,
}

impl Elf {
    /// The headers; `None` if this is no ELF file that this machine runs in 64 bits.
    fn open(file: &impl FileExt) -> io::Result<Option<Elf>> {
        let mut header = [0; FILE_HEADER];
        if !read_whole(file, &mut header, 0)? {
            return Ok(None);
        }
        let machine = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        // 64 bits, little endian; an executable or a shared object.
        if !header.starts_with(b"\x7fELF\x02\x01") || u16_at(&header, 18) != machine {
            return Ok(None);
        }
        if !matches!(u16_at(&header, 16), 2 | 3) {
            return Ok(None);
        }
        let (segments, sections) = (u16_at(&header, 56), u16_at(&header, 60));
        let sizes = (usize::from(u16_at(&header, 54)), usize::from(u16_at(&header, 58)));
        if sizes != (SEGMENT_HEADER, SECTION_HEADER) || segments > SEGMENTS_MAX {
            return Ok(None);
        }
        let mut table = vec![0; usize::from(segments) * SEGMENT_HEADER];
        if !read_whole(file, &mut table, u64_at(&header, 32))? {
            return Ok(None);
        }
        // PT_LOAD with PF_X.
        let is_code = |entry: &&[u8]| u32_at(entry, 0) == 1 && u32_at(entry, 4) & 1 != 0;
        let segment = |entry: &[u8]| Segment {
            offset: u64_at(entry, 8),
            address: u64_at(entry, 16),
            size: u64_at(entry, 32),
        };
        let segments = table.chunks_exact(SEGMENT_HEADER).filter(is_code).map(segment).collect();
        let mut table = vec![0; usize::from(sections) * SECTION_HEADER];
        if !read_whole(file, &mut table, u64_at(&header, 40))? {
            return Ok(None);
        }
        let section = |entry: &[u8]| Section {
            kind: u32_at(entry, 4),
            offset: u64_at(entry, 24),
            size: u64_at(entry, 32),
            link: u32_at(entry, 40),
        };
        let sections = table.chunks_exact(SECTION_HEADER).map(section).collect();
        Ok(Some(Elf { segments, sections }))
    }

    /// Goes through a table for defined functions whose names begin at one of the places.
    fn look_up<const N: usize>(
        &self,
        file: &impl FileExt,
        table: &Section,
        places: &[(u32, usize)],
        found: &mut [Option<u64>; N],
    ) -> io::Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        chunks(file, table, 0, |chunk, _| {
            for symbol in chunk.chunks_exact(SYMBOL) {
                let name = u32_at(symbol, 0);
                let Ok(place) = places.binary_search_by_key(&name, |(place, _)| *place) else { continue };
                let function = places[place].1;
                // STT_FUNC, and in a section.
                if symbol[4] & 0xf == 2 && u16_at(symbol, 6) != 0 && found[function].is_none() {
                    found[function] = self.offset(u64_at(symbol, 8));
                }
            }
        })
    }

    fn offset(&self, address: u64) -> Option<u64> {
        let within = |segment: &Segment| {
            let at = address.checked_sub(segment.address).filter(|at| *at < segment.size)?;
            segment.offset.checked_add(at)
        };
        self.segments.iter().find_map(within)
    }
}

/// Where the names are in a table of names, with the index of each, in the order of the places. One may end another, so
/// there may be several.
fn places<const N: usize>(
    file: &impl FileExt,
    table: &Section,
    names: [&str; N],
) -> io::Result<Vec<(u32, usize)>> {
    let mut places = Vec::new();
    let wanted = names.map(|name| [name.as_bytes(), b"\0"].concat());
    let overlap = wanted.iter().map(Vec::len).max().unwrap_or(1) - 1;
    chunks(file, table, overlap, |chunk, start| {
        for (n, name) in wanted.iter().enumerate() {
            let place = |at| Some((u32::try_from(start + at as u64).ok()?, n));
            // No sane file has more than a few; what is in the overlap is found twice.
            places.extend(memmem::find_iter(chunk, name).filter_map(place).take(PLACES_MAX));
        }
        places.sort_unstable();
        places.dedup();
        places.truncate(PLACES_MAX);
    })?;
    Ok(places)
}

/// Hands over a section piece by piece, with where each begins in it; the last `overlap` bytes of each piece begin the
/// next one. What is too large, or goes beyond the end of the file, is not read further.
fn chunks(
    file: &impl FileExt,
    section: &Section,
    overlap: usize,
    mut each: impl FnMut(&[u8], u64),
) -> io::Result<()> {
    let (size, mut at) = (section.size.min(TABLE_MAX), 0);
    let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
    while at < size {
        let n = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        let Some(offset) = section.offset.checked_add(at) else { return Ok(()) };
        if !read_whole(file, &mut buffer[..n], offset)? {
            return Ok(());
        }
        each(&buffer[..n], at);
        let step = if at + (n as u64) < size { n - overlap } else { n };
        at += step as u64;
    }
    Ok(())
}

/// Fills the buffer; `false` if the file ends before.
fn read_whole(file: &impl FileExt, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    // What no file can be as long as is beyond the end, too.
    if i64::try_from(offset).is_err() {
        return Ok(false);
    }
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Numbers within entries whose length was made sure of before.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in memory.
    struct Bytes(Vec<u8>);

    impl FileExt for Bytes {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn put(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
        bytes.resize(bytes.len().max(at + what.len()), 0);
        bytes[at..at + what.len()].copy_from_slice(what);
    }

    /// An executable whose code at address 0x401000 is at 0x1000, with these symbols: type, section, address, name.
    fn elf(symbols: &[(u8, u16, u64, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
        let machine: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        for (at, value) in [(16, 3), (18, machine), (54, 56), (56, 2), (58, 64), (60, 3)] {
            put(&mut bytes, at, &u16::to_le_bytes(value));
        }
        put(&mut bytes, 32, &64_u64.to_le_bytes());
        put(&mut bytes, 40, &0x200_u64.to_le_bytes());
        // Data first, at the same addresses, then code.
        for (n, flags) in [(0, 6_u32), (1, 5)] {
            let at = 64 + n * SEGMENT_HEADER;
            put(&mut bytes, at, &1_u32.to_le_bytes());
            put(&mut bytes, at + 4, &flags.to_le_bytes());
            let offset = if n == 0 { 0_u64 } else { 0x1000 };
            for (field, value) in [(8, offset), (16, 0x40_1000), (32, 0x800), (40, 0x800)] {
                put(&mut bytes, at + field, &value.to_le_bytes());
            }
        }
        let (mut table, mut names) = (vec![0; SYMBOL], vec![0_u8]);
        for (kind, section, address, name) in symbols {
            let place = u32::try_from(names.len()).unwrap().to_le_bytes();
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            table.extend_from_slice(&place);
            table.extend_from_slice(&[0x10 | kind, 0]);
            table.extend_from_slice(&section.to_le_bytes());
            table.extend_from_slice(&address.to_le_bytes());
            table.extend_from_slice(&[0; 8]);
        }
        for (n, kind, offset, content, link) in
            [(1, 11_u32, 0x2000, &table, 2_u32), (2, 3, 0x1_0000, &names, 0)]
        {
            let at = 0x200 + n * SECTION_HEADER;
            put(&mut bytes, at + 4, &kind.to_le_bytes());
            put(&mut bytes, at + 24, &u64::to_le_bytes(offset));
            put(&mut bytes, at + 32, &(content.len() as u64).to_le_bytes());
            put(&mut bytes, at + 40, &link.to_le_bytes());
            put(&mut bytes, usize::try_from(offset).unwrap(), content);
        }
        bytes
    }

    fn found(bytes: Vec<u8>) -> [Option<u64>; 2] {
        offsets(&Bytes(bytes), ["SSL_read", "SSL_read_ex"]).unwrap()
    }

    #[test]
    fn functions_are_found_by_their_whole_names() {
        let all = [
            (2, 1, 0x40_1100, "SSL_read_early"),
            (2, 1, 0x40_1200, "my_SSL_read"),
            (1, 1, 0x40_1300, "SSL_read"),
            (2, 0, 0x40_1400, "SSL_read"),
            (2, 1, 0x40_1500, "SSL_read"),
            (2, 1, 0x40_17ff, "SSL_read_ex"),
        ];
        assert_eq!(found(elf(&all)), [Some(0x1500), Some(0x17ff)], "not data, not what is needed of others");
        assert_eq!(found(elf(&all[..4])), [None, None]);
        assert_eq!(found(elf(&[(2, 1, 0x40_1800, "SSL_read")])), [None, None], "beyond the code");
    }

    /// Linkers let one name be the end of another.
    #[test]
    fn a_name_may_be_the_end_of_another() {
        let mut bytes = elf(&[(2, 1, 0x40_1100, "my_SSL_read")]);
        put(&mut bytes, 0x2000 + SYMBOL, &(1_u32 + 3).to_le_bytes());
        assert_eq!(found(bytes), [Some(0x1100), None]);
    }

    /// Tables that are read in several pieces, the name on the border of two of them.
    #[test]
    fn large_tables_are_read_in_pieces() {
        let names = 0x1_0000;
        let mut bytes = elf(&[(2, 1, 0x40_1100, "x")]);
        let border = CHUNK - 4;
        put(&mut bytes, names + border, b"SSL_read\0end\0");
        put(&mut bytes, 0x2000 + SYMBOL, &u32::try_from(border).unwrap().to_le_bytes());
        put(&mut bytes, 0x200 + 2 * SECTION_HEADER + 32, &(CHUNK as u64 + 9).to_le_bytes());
        assert_eq!(found(bytes), [Some(0x1100), None]);
    }

    /// As often as it fits, in every piece: or each of millions of symbols would be looked for among all of them.
    #[test]
    fn a_name_that_comes_again_and_again_takes_no_time() {
        let names = b"SSL_read\0".repeat(CHUNK);
        let table = Section { kind: 3, offset: 0, size: names.len() as u64, link: 0 };
        let places = places(&Bytes(names), &table, ["SSL_read_ex", "SSL_read"]).unwrap();
        assert_eq!(places.len(), PLACES_MAX);
        assert_eq!(places.last(), Some(&(63 * 9, 1)), "the first ones");
    }

    #[test]
    fn other_files_have_none() {
        let good = elf(&[(2, 1, 0x40_1100, "SSL_read")]);
        assert_eq!(found(good.clone())[0], Some(0x1100));
        // Another class, byte order, kind, processor.
        for (at, value) in [(0, 0), (4, 1), (5, 2), (16, 1), (18, 40), (54, 32), (58, 40), (57, 255)] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert_eq!(found(bytes), [None, None], "byte {at}");
        }
        assert_eq!(found(b"#!/bin/sh\n".to_vec()), [None, None]);
    }

    /// Cut anywhere, and with any byte of the headers at its worst.
    #[test]
    fn whatever_is_in_the_file_it_is_read() {
        let good = elf(&[(2, 1, 0x40_1100, "SSL_read")]);
        for end in (0..0x300).chain((0x300..good.len()).step_by(997)) {
            found(good[..end].to_vec());
        }
        for at in 0..0x2c0 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                found(bytes);
            }
        }
    }

    /// What a linker made: the functions of this very test.
    #[test]
    fn a_real_program() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let [main, none] = offsets(&file, ["main", "no_such_function"]).unwrap();
        assert!(main.is_some_and(|at| at < file.metadata().unwrap().len()) && none.is_none());
    }
}
