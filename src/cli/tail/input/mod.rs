//! Where lines come from: files with what they hold and what they get, streams that end, and running weirs.

mod envelope;
pub(super) mod file;
pub(super) mod follow;
mod history;
pub(super) mod kept;
pub(super) mod search;
mod sse;
pub(super) mod stream;
pub(super) mod url;
pub(super) mod wish;

use std::fs::File;
use std::io;
use std::sync::mpsc::SyncSender;

use super::block::Block;
use super::wanted::Wanted;
use crate::cli::exit::Failure;
use crate::tail::identity::FileId;

/// Blocks that wait for the printer; beyond them, inputs wait.
pub(super) const WAITING_MAX: usize = 64;
/// The longest line, in bytes; what is longer is cut.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;

/// What an input has to say.
#[derive(Debug)]
pub(super) enum Said {
    /// Lines.
    Block(Block),
    /// Something about the input, for whoever watches.
    Notice(String),
    /// What was there when it was asked has all come.
    CaughtUp(usize),
    /// No more will come of the input with that number.
    Ended(usize, Result<(), Failure>),
}

/// How inputs say it.
pub(super) type Voice = SyncSender<Said>;

/// What is there already, read piece by piece.
pub(super) trait Backlog {
    /// The next lines, none of them empty of rows; `None` when there are no more.
    fn next(&mut self, wanted: &mut Wanted) -> Result<Option<Block>, Failure>;

    /// Writes all that is left to `out` as it is, without looking at it; `None` if it has to be looked at.
    fn copy_to(&mut self, _out: &mut File) -> Option<io::Result<()>> {
        None
    }

    /// The file it is of, if it is one, and where to go on in it.
    fn position(&self) -> Option<(FileId, u64)> {
        None
    }
}
