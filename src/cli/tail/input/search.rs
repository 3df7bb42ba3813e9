//! Where the last lines of a file begin, found by reading it backwards in pieces of whole lines: what is asked for
//! costs what is shown, not what the file holds.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::LINE_BYTES_MAX;
use crate::base::clock;
use crate::batch::{Arena, Batch, Origin, Receipt, Timestamp};
use crate::cli::tail::args::LineCount;
use crate::cli::tail::wanted::Wanted;
use crate::codec::framing::{LineFramer, Oversize};
use crate::tail::archive::Compression;
use crate::tail::checkpoint::ARCHIVE_DONE;
use crate::tail::follow::read_full;
use crate::tail::identity::FileId;

/// Bytes of the first piece, which holds what is wanted of most files, and of those before it.
const FIRST_BYTES: u64 = 64 << 10;
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces without a line that is new enough after which no older ones are looked at: files are written in the order of
/// time, but for writers that race each other.
const OLD_PIECES: u32 = 2;

/// One past the last line break before `end`; 0 if there is none.
pub(super) fn whole_lines_end(file: &File, end: u64) -> io::Result<u64> {
    let mut at = end;
    let mut piece = vec![0; FIRST_BYTES as usize];
    while at > 0 {
        let from = at.saturating_sub(FIRST_BYTES);
        let len = read_full(file, &mut piece[..(at - from) as usize], from)?;
        if let Some(found) = memchr::memrchr(b'\n', &piece[..len]) {
            return Ok(from + found as u64 + 1);
        }
        at = from;
    }
    Ok(0)
}

/// A file, and where its whole lines end.
pub(in crate::cli::tail) fn end_of(path: &Path) -> io::Result<(FileId, u64)> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if Compression::of(path).is_some() {
        return Ok((FileId::of(&meta), ARCHIVE_DONE));
    }
    Ok((FileId::of(&meta), whole_lines_end(&file, meta.len())?))
}

/// Where the last lines begin of a file whose lines end at `end`: so many that are `wanted`, by themselves.
pub(super) fn start(
    file: &File,
    end: u64,
    count: LineCount,
    wanted: &mut Wanted,
    label: &str,
) -> io::Result<u64> {
    let mut left = match count {
        LineCount::Last(0) => return Ok(end),
        LineCount::Last(count) => count,
        // Asked for in so many words, or without a time: everything is looked at.
        LineCount::All if wanted.since.is_none() || wanted.exhaustive => return Ok(0),
        LineCount::All => u64::MAX,
    };
    let mut pieces = Pieces { file, at: end, bytes: FIRST_BYTES };
    let origin = Arc::new(Origin::new("tail", label));
    let (mut found, mut old) = (end, 0);
    while let Some((from, text)) = pieces.next()? {
        if wanted.is_everything() && wanted.since.is_none() {
            let lines = Ends(&text);
            let (at, counted) = lines.nth_last(left);
            if let Some(at) = at {
                return Ok(from + at as u64);
            }
            left -= counted;
            found = from;
            continue;
        }
        let framed = LineFramer::new(LINE_BYTES_MAX, Oversize::Truncate).finish(&text);
        let received = Timestamp(clock::unix_nanos());
        let arena = Arena::new(text.into(), framed.spans, framed.framing, Arc::clone(&origin), received);
        let mut batch = Batch::new(arena, Receipt::none());
        wanted.keep_matching(&mut batch);
        let timed = wanted.keep_recent(&mut batch);
        let rows: Vec<u32> = batch.live().iter().collect();
        let taken = left.min(rows.len() as u64);
        if taken > 0 {
            let first = rows[rows.len() - taken as usize];
            found = from + batch.arena().spans()[first as usize].start() as u64;
        }
        left -= taken;
        match timed {
            Some(true) => old = 0,
            Some(false) => old += 1,
            None => {}
        }
        if left == 0 || old >= OLD_PIECES {
            break;
        }
    }
    Ok(found)
}

/// Whole lines, from the end of a file to its start.
struct Pieces<'a> {
    file: &'a File,
    at: u64,
    bytes: u64,
}

impl Pieces<'_> {
    /// Where the piece before begins, and its text.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        if self.at == 0 {
            return Ok(None);
        }
        let mut bytes = self.bytes;
        self.bytes = PIECE_BYTES;
        loop {
            let from = self.at.saturating_sub(bytes);
            let mut text = vec![0; (self.at - from) as usize];
            let len = read_full(self.file, &mut text, from)?;
            text.truncate(len);
            // The first line may have begun before; one that is too long to show is cut anywhere.
            let cut = match memchr::memchr(b'\n', &text) {
                _ if from == 0 => 0,
                Some(found) if found + 1 < text.len() => found + 1,
                _ if bytes <= 2 * LINE_BYTES_MAX as u64 => {
                    bytes *= 4;
                    continue;
                }
                _ => 0,
            };
            self.at = from + cut as u64;
            text.drain(..cut);
            return Ok(Some((self.at, text)));
        }
    }
}

/// The lines of a text, by where they end.
struct Ends<'a>(&'a [u8]);

impl Ends<'_> {
    /// Where the `nth` line from the end begins, if there are so many, and how many lines were counted.
    fn nth_last(&self, nth: u64) -> (Option<usize>, u64) {
        let text = self.0;
        let body = text.strip_suffix(b"\n").unwrap_or(text);
        let mut counted = 0;
        for at in memchr::memrchr_iter(b'\n', body) {
            counted += 1;
            if counted == nth {
                return (Some(at + 1), counted);
            }
        }
        counted += u64::from(!text.is_empty());
        ((counted == nth).then_some(0), counted)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::*;
    use crate::cli::tail::args::TailArgs;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        args: TailArgs,
    }

    fn found(text: &[u8], args: &[&str]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let given = Given::parse_from([&["x"], args].concat()).args;
        let mut wanted = Wanted::new(&given).unwrap();
        let at = start(&file, text.len() as u64, given.count(), &mut wanted, "f").unwrap() as usize;
        String::from_utf8_lossy(&text[at..]).into_owned()
    }

    #[test]
    fn the_last_lines_are_those_that_tail_shows() {
        for (text, n, expected) in [
            ("", "3", ""),
            ("a", "1", "a"),
            ("a\nb\nc\n", "2", "b\nc\n"),
            ("a\nb\nc", "2", "b\nc"),
            ("a\nb\nc\n", "3", "a\nb\nc\n"),
            ("a\nb\nc\n", "9", "a\nb\nc\n"),
            ("\n\n\n", "2", "\n\n"),
            ("a\nb\n", "0", ""),
            ("a\nb\n", "all", "a\nb\n"),
        ] {
            assert_eq!(found(text.as_bytes(), &["-n", n]), expected, "{n} of {text:?}");
        }
    }

    #[test]
    fn pieces_join_where_lines_are_longer_than_they_are() {
        let long = format!("{}\n{}\nend\n", "x".repeat(200_000), "y".repeat(3_000_000));
        assert_eq!(found(long.as_bytes(), &["-n", "1"]), "end\n");
        assert_eq!(found(long.as_bytes(), &["-n", "2"]), long[200_001..]);
        assert_eq!(found(long.as_bytes(), &["-n", "3"]), long);
        let many: String = (0..100_000).map(|i| format!("line {i}\n")).collect();
        assert!(found(many.as_bytes(), &["-n", "70000"]).starts_with("line 30000\n"));
    }

    #[test]
    fn of_lines_that_match_as_many_as_were_asked_for() {
        let many: String =
            (0..200_000).map(|i| format!("{} {i}\n", if i % 1000 == 7 { "ERROR" } else { "INFO" })).collect();
        assert!(found(many.as_bytes(), &["-n", "2", "-l", "error"]).starts_with("ERROR 198007\n"));
        assert!(found(many.as_bytes(), &["-n", "150", "-i", "ERROR"]).starts_with("ERROR 50007\n"));
        assert!(found(many.as_bytes(), &["-n", "999", "-i", "ERROR"]).starts_with("ERROR 7\n"));
        assert_eq!(found(many.as_bytes(), &["-n", "5", "-i", "nothing"]), "");
    }

    #[test]
    fn since_begins_with_the_first_line_that_is_new_enough() {
        let line = |i: usize| format!("2026-11-21T10:{:02}:{:02}Z line {i}\n  more\n", i / 60 % 60, i % 60);
        let many: String = (0..3600).map(line).collect();
        let at = found(many.as_bytes(), &["--since", "2026-11-21T10:30:00Z"]);
        assert!(at.starts_with("2026-11-21T10:30:00Z"), "{}", &at[..40]);
        assert_eq!(found(many.as_bytes(), &["--since", "2026-11-22"]), "");
        let last = found(many.as_bytes(), &["--since", "2026-11-21T10:30:00Z", "-n", "3"]);
        assert!(last.starts_with("  more\n2026-11-21T10:59:59Z") || last.lines().count() <= 4, "{last}");
    }
}
