//! Streams that end: standard input, pipes and devices. Read on a thread of their own, line by line as they come.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::kept::Kept;
use super::{LINE_BYTES_MAX, Said, Voice};
use crate::base::clock;
use crate::batch::{Arena, Batch, Origin, Receipt, Timestamp};
use crate::cli::exit::{Exit, Failure};
use crate::cli::tail::block::Block;
use crate::cli::tail::wanted::{Carry, Wanted};
use crate::codec::framing::{LineFramer, Oversize};

const CHUNK_BYTES: usize = 256 << 10;

/// What to do with a stream.
pub(in crate::cli::tail) struct Stream {
    /// Where it comes from.
    pub(in crate::cli::tail) file: File,
    /// What to call it.
    pub(in crate::cli::tail) label: String,
    /// Only its last rows, once it has ended.
    pub(in crate::cli::tail) last: Option<u64>,
    /// What of it is wanted.
    pub(in crate::cli::tail) wanted: Wanted,
}

/// Reads the stream to its end; it is said as the input `index`.
///
/// # Errors
/// When there can be no thread for it.
pub(in crate::cli::tail) fn start(index: usize, stream: Stream, voice: Voice) -> Result<(), Failure> {
    let work = move || {
        let ended = read(stream, &voice);
        voice.send(Said::Ended(index, ended)).ok();
    };
    let started = std::thread::Builder::new().name("tail stream".to_owned()).spawn(work);
    started.map(drop).map_err(|e| Failure::new(Exit::UNAVAILABLE, format!("cannot read a stream: {e}")))
}

fn read(mut stream: Stream, voice: &Voice) -> Result<(), Failure> {
    let origin = Arc::new(Origin::new("tail", &stream.label));
    let mut framer = LineFramer::new(LINE_BYTES_MAX, Oversize::Truncate);
    let mut carry = Carry::default();
    let mut kept = stream.last.map(Kept::last);
    let mut text = vec![0; CHUNK_BYTES];
    let mut len = 0;
    loop {
        if text.len() - len < CHUNK_BYTES / 2 {
            text.resize((len * 2).max(CHUNK_BYTES), 0);
        }
        let seen = len;
        let n = match stream.file.read(&mut text[len..]) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // What a terminal that has gone says.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => 0,
            Err(e) => {
                return Err(Failure::new(Exit::IO, format!("cannot read {}: {e}", stream.label)));
            }
        };
        len += n;
        let framed =
            if n == 0 { framer.finish(&text[..len]) } else { framer.frame_fresh(&text[..len], seen) };
        let consumed = framed.consumed;
        if !framed.spans.is_empty() {
            let rows = text[..consumed].to_vec();
            let arena = Arena::new(
                rows.into(),
                framed.spans,
                framed.framing,
                Arc::clone(&origin),
                Timestamp(clock::unix_nanos()),
            );
            let mut batch = Batch::new(arena, Receipt::none());
            stream.wanted.keep(&mut batch, &mut carry);
            match &mut kept {
                _ if batch.is_empty() => {}
                Some(kept) => kept.push(Block::lines(batch)),
                None if voice.send(Said::Block(Block::lines(batch))).is_err() => return Ok(()),
                None => {}
            }
        }
        text.copy_within(consumed..len, 0);
        len -= consumed;
        if n == 0 {
            break;
        }
    }
    while let Some(block) = kept.as_mut().and_then(Kept::pop) {
        if voice.send(Said::Block(block)).is_err() {
            break;
        }
    }
    Ok(())
}
