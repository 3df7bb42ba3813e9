//! The position file: how far the sink has settled and how far the disk has everything. Two slots of one sector are
//! written in turn, so that a torn write leaves the other one valid.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{Positions, SLOT, decode_slot, encode_slot};
use super::recovery::Tries;
use super::segments::set_aside;
use super::storage::{Open, Storage, StoredFile};

/// Name of the file in the buffer's directory.
pub const POSITION_FILE: &str = "position";

/// The open position file.
#[derive(Debug)]
pub struct PositionFile {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Arc<dyn StoredFile>,
    /// Whether it could be opened for writing; on a read-only file system it is tried again.
    writable: bool,
    generation: u64,
}

/// The positions that a file holds, if any slot is valid.
///
/// # Errors
/// When it cannot be read.
pub fn read(file: &dyn StoredFile) -> io::Result<Option<Positions>> {
    let mut bytes = [0; SLOT * 2];
    let read = file.read_at(&mut bytes, 0)?;
    let slots = bytes[..read].chunks(SLOT).filter_map(decode_slot);
    Ok(slots.max_by_key(|slot| slot.generation))
}

impl PositionFile {
    /// Opens the file of the buffer in `dir`, making it if there is none; the caller makes the new name durable. One that
    /// the disk has not given back in some tries is moved aside.
    ///
    /// # Errors
    /// From the file system.
    pub fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        tries: &mut Tries,
    ) -> io::Result<(PositionFile, Option<Positions>)> {
        let path = dir.join(POSITION_FILE);
        let (mut file, mut writable) = match storage.open(&path, Open::Write) {
            Ok(file) => (file, true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (storage.open(&path, Open::Create)?, true),
            Err(_) => (storage.open(&path, Open::Read)?, false),
        };
        let found = match read(file.as_ref()) {
            Err(e) if tries.give_up(&e) => {
                set_aside(storage.as_ref(), &path, &e, &mut tries.notes)?;
                (file, writable) = (storage.open(&path, Open::Create)?, true);
                None
            }
            found => found?,
        };
        let generation = found.map_or(0, |p| p.generation);
        Ok((PositionFile { storage, path, file, writable, generation }, found))
    }

    /// Writes the positions; they survive the death of the process at once, and that of the machine if `sync`.
    ///
    /// # Errors
    /// From the file system; the positions written before are still valid.
    pub fn write(&mut self, mut positions: Positions, sync: bool) -> io::Result<()> {
        if !self.writable {
            self.file = self.storage.open(&self.path, Open::Write)?;
            self.writable = true;
        }
        positions.generation = self.generation + 1;
        let slot = encode_slot(&positions);
        let offset = (positions.generation % 2) * SLOT as u64;
        self.file.write_at(&mut [IoSlice::new(&slot)], offset)?;
        self.generation += 1;
        if sync { self.file.sync() } else { Ok(()) }
    }
}
