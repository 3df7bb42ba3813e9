//! What weir wrote about files, and files that others compressed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use logweir::codec::compression::{Compression as Coding, Compressor};
use logweir::tail::archive::{Archive, Compression};
use logweir::tail::identity::{FileId, Fingerprint};
use logweir::tail::journal::{Checkpoint, encode, read};

const MAGIC: &[u8] = b"weir checkpoints 1\n";

/// A journal: the last record of each file counts, damage ends it, and a record is whole or not there.
pub fn checkpoints(data: &[u8]) {
    if let Some((_, rest)) = read(data) {
        assert!(data.ends_with(rest));
    }
    let [cut, flip, numbers @ ..] = data else { return };
    let (mut journal, mut known, mut ends) =
        (MAGIC.to_vec(), HashMap::new(), vec![(MAGIC.len(), HashMap::new())]);
    for bytes in numbers.chunks(12).take(20) {
        let id = FileId { dev: 1, ino: u64::from(bytes[0] % 4) };
        let entry = (bytes.len() == 12).then(|| Checkpoint {
            path: Path::new(OsStr::from_bytes(&bytes[4..])).into(),
            fingerprint: Fingerprint { hash: u64::from(bytes[1]) << 56, len: u32::from(bytes[2]) },
            offset: u64::from_le_bytes(bytes[4..12].try_into().expect("eight")),
            skipping: bytes[3] & 1 == 1,
            seen: i64::from(bytes[3]) - 128,
        });
        encode(id, entry.as_ref(), &mut journal);
        match entry {
            Some(entry) => known.insert(id, entry),
            None => known.remove(&id),
        };
        ends.push((journal.len(), known.clone()));
    }
    let (entries, rest) = read(&journal).expect("a journal");
    assert!(entries == known && rest.is_empty());
    let len = MAGIC.len() + usize::from(*cut) * 2 % (journal.len() - MAGIC.len() + 1);
    let until = |at: usize| &ends.iter().rev().find(|(end, _)| *end <= at).expect("the magic").1;
    assert_eq!(&read(&journal[..len]).expect("a journal").0, until(len), "cut at {len}");
    if let Some(byte) = journal.get_mut(MAGIC.len() + usize::from(*flip) * 3) {
        *byte ^= 1;
        assert_eq!(&read(&journal).expect("a journal").0, until(MAGIC.len() + usize::from(*flip) * 3));
    }
}

/// Compressed log files: what was compressed is read, in pieces of any size, to its end.
pub fn archive(data: &[u8]) {
    let [kind, piece, text @ ..] = data else { return };
    let (coding, compression, name) = match kind % 2 {
        0 => (Coding::Gzip, Compression::of(Path::new("x.gz")), "gz"),
        _ => (Coding::Zstd, Compression::of(Path::new("x.zst")), "zst"),
    };
    let Some(compression) = compression else { panic!("{name} is known by its name") };
    drop(content(text, compression, usize::from(*piece)));
    let mut packed = Vec::new();
    let mut compressor = Compressor::new(coding, Some(1)).expect("memory");
    compressor.compress(text, &mut packed).expect("small");
    let once = packed.len();
    packed.extend_from_within(..);
    let twice = content(&packed, compression, usize::from(*piece)).expect("what is sound can be read");
    assert_eq!(twice, text.repeat(2), "two members are one text");
    assert!(content(&packed[..once - 3], compression, 100).is_err(), "cut off");
}

fn content(bytes: &[u8], compression: Compression, piece: usize) -> std::io::Result<Vec<u8>> {
    let path = std::env::temp_dir().join(format!("weir-fuzz-archive-{}", std::process::id()));
    File::create(&path)?.write_all(bytes)?;
    let mut archive = Archive::open(File::open(&path)?, compression)?;
    std::fs::remove_file(&path)?;
    let (mut out, mut buffer) = (Vec::new(), vec![0; piece.max(1)]);
    while out.len() < 1 << 20 {
        let filled = archive.fill(&mut buffer)?;
        out.extend_from_slice(&buffer[..filled]);
        if archive.ended && filled == 0 {
            break;
        }
    }
    Ok(out)
}
