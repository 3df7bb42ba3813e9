//! What a file holds, compressed or not: read forwards from where it is to begin, piece by piece, by the same reader
//! that follows files. Where reading ended is where following goes on.

use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kept::Kept;
use super::{Backlog, search};
use crate::base::clock;
use crate::batch::{Arena, Batch, ChunkPool, Origin, Receipt, Timestamp};
use crate::cli::exit::{Exit, Failure};
use crate::cli::tail::args::LineCount;
use crate::cli::tail::block::Block;
use crate::cli::tail::wanted::{Carry, Wanted};
use crate::tail::Settings;
use crate::tail::archive::Compression;
use crate::tail::checkpoint::ARCHIVE_DONE;
use crate::tail::follow::{Followed, Read};
use crate::tail::identity::FileId;
use crate::tail::text::{Coding, Until};

/// What is shared by the files that are read.
#[derive(Debug)]
pub(in crate::cli::tail) struct Reading {
    /// How lines are told apart.
    pub(in crate::cli::tail) settings: Arc<Settings>,
    /// Room to read into.
    pub(in crate::cli::tail) pool: ChunkPool,
    /// How many lines to begin with.
    pub(in crate::cli::tail) count: LineCount,
    /// Whether a last line without its end is left to those who follow.
    pub(in crate::cli::tail) follow: bool,
    /// Whether descriptors are scarce, so that each is only held while it is read from.
    pub(in crate::cli::tail) thrifty: bool,
}

/// One file; see the module.
#[derive(Debug)]
pub(in crate::cli::tail) struct FileBacklog {
    reading: Arc<Reading>,
    followed: Followed,
    /// Where the file ended when it was opened, of its content if it is compressed.
    end: u64,
    carry: Carry,
    prefix: Vec<u8>,
    /// The last lines, of what is read forwards although only its last lines are wanted.
    kept: Option<Kept>,
    done: bool,
}

fn unreadable(path: &Path, e: &io::Error) -> Failure {
    let exit = if e.kind() == io::ErrorKind::NotFound { Exit::NO_INPUT } else { Exit::IO };
    Failure::new(exit, format!("cannot read {}: {e}", path.display()))
}

impl FileBacklog {
    /// Opens the file and finds where its last lines begin.
    pub(in crate::cli::tail) fn open(
        path: PathBuf,
        reading: &Arc<Reading>,
        wanted: &mut Wanted,
    ) -> Result<FileBacklog, Failure> {
        let failed = |e: io::Error| unreadable(&path, &e);
        let file = File::open(&path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let shown = path.display().to_string();
        let origin = Arc::new(Origin::new("tail", &shown));
        let settings = &reading.settings;
        let mut followed = Followed::reading(FileId::of(&meta), path.as_path().into(), origin, 0);
        let mut prefix = vec![0; 4];
        let known = crate::tail::follow::read_full(&file, &mut prefix, 0).map_err(failed)?;
        let coding = Coding::of(&prefix[..known], None);
        let (mut end, mut kept) = (meta.len(), None);
        let keep = || match reading.count {
            LineCount::Last(count) => Some(Kept::last(count)),
            LineCount::All => None,
        };
        if let Some(compression) = Compression::of(&path) {
            followed.compression = Some(compression);
            let again = file.try_clone().map_err(failed)?;
            followed.open_archive(again, compression, settings, |_| None).map_err(failed)?;
            (end, kept) = (u64::MAX, keep());
        } else if coding.is_wide() {
            kept = keep();
        } else {
            let whole = search::whole_lines_end(&file, end).map_err(failed)?;
            end = if reading.follow { whole } else { end };
            followed.offset = search::start(&file, end, reading.count, wanted, &shown).map_err(failed)?;
        }
        followed.file = (!reading.thrifty).then_some(file);
        let carry = Carry::default();
        let reading = Arc::clone(reading);
        Ok(FileBacklog { reading, followed, end, carry, prefix: Vec::new(), kept, done: false })
    }

    /// The next rows that pass, in the order of the file.
    fn forward(&mut self, wanted: &mut Wanted) -> Result<Option<Block>, Failure> {
        while !self.done && self.followed.offset < self.end {
            if self.followed.file.is_none() && self.followed.archive.is_none() {
                // Opened again by its name, which may lead elsewhere by now.
                let Ok(file) = File::open(&self.followed.path) else { break };
                if file.metadata().map(|meta| FileId::of(&meta)).ok() != Some(self.followed.id) {
                    break;
                }
                self.followed.file = Some(file);
            }
            let until = if self.reading.follow { Until::Complete } else { Until::End };
            let settings = &self.reading.settings;
            let read = self.followed.read(settings, &self.reading.pool, &mut self.prefix, until);
            if self.reading.thrifty {
                self.followed.file = None;
            }
            match read.map_err(|e| unreadable(&self.followed.path, &e))? {
                Read::Rows(rows, ended) => {
                    self.followed.offset += rows.consumed as u64;
                    self.followed.skipping = rows.skipping;
                    self.done = ended && (self.followed.compression.is_some() || until == Until::End);
                    if rows.spans.is_empty() {
                        continue;
                    }
                    let received = Timestamp(clock::unix_nanos());
                    let origin = Arc::clone(&self.followed.origin);
                    let arena = Arena::new(rows.text, rows.spans, rows.framing, origin, received);
                    let mut batch = Batch::new(arena, Receipt::none());
                    wanted.keep(&mut batch, &mut self.carry);
                    if !batch.is_empty() {
                        return Ok(Some(Block::lines(batch)));
                    }
                }
                Read::Hole => {}
                Read::End => self.done = true,
                Read::Replaced => {
                    // Another content: whoever follows begins at its start.
                    self.followed.offset = 0;
                    self.done = true;
                }
            }
        }
        Ok(None)
    }
}

impl Backlog for FileBacklog {
    fn next(&mut self, wanted: &mut Wanted) -> Result<Option<Block>, Failure> {
        let Some(mut kept) = self.kept.take() else { return self.forward(wanted) };
        while let Some(block) = self.forward(wanted)? {
            kept.push(block);
        }
        let next = kept.pop();
        self.kept = Some(kept);
        Ok(next)
    }

    fn copy_to(&mut self, out: &mut File) -> Option<io::Result<()>> {
        if self.kept.is_some() || self.followed.archive.is_some() {
            return None;
        }
        let file = self.followed.file.as_mut()?;
        // From file to file, the system moves the bytes itself.
        let copied = file
            .seek(SeekFrom::Start(self.followed.offset))
            .and_then(|_| io::copy(&mut file.take(self.end - self.followed.offset), out));
        if let Ok(bytes) = &copied {
            self.followed.offset += bytes;
        }
        self.done = true;
        Some(copied.map(drop))
    }

    fn position(&self) -> Option<(FileId, u64)> {
        let offset = if self.followed.compression.is_some() { ARCHIVE_DONE } else { self.followed.offset };
        Some((self.followed.id, offset))
    }
}
