//! A stream of server-sent events, watched for a while: when its first event came, when signs of life did, how it
//! ended. Only what kinds of events there are is looked at, not what they say.

use std::time::Duration;

use super::body::{Body, Piece};
use crate::base::clock;

/// Signs of life closer together than this have waited for each other somewhere.
const TOGETHER: Duration = Duration::from_millis(40);
/// The longest line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What was seen of a stream.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// From the end of the head to the first byte.
    pub(super) first_after: Option<Duration>,
    /// Signs of life without events: comments, and events of type `ping`.
    pub(super) beats: Vec<Duration>,
    /// When bytes came.
    pub(super) arrivals: Vec<Duration>,
    /// Types of the events that are not rows.
    pub(super) notes: Vec<String>,
    /// How it ended, and when.
    pub(super) end: Option<(Duration, String)>,
    /// How long it was watched.
    pub(super) watched: Duration,
    comments: usize,
    line: Vec<u8>,
}

/// When to stop looking.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// An event of this type has come.
    Note(&'static str),
    /// Enough is known: two signs of life, or a steady flow for ten seconds.
    Sure,
    /// Only the time.
    Time,
}

impl Seen {
    /// Whether an event of this type came: `hello`, `gap`, `drop`, `bye`.
    pub(super) fn has(&self, note: &str) -> bool {
        self.notes.iter().any(|seen| seen == note)
    }

    /// How long the stream was silent before it ended.
    pub(super) fn silence_before_end(&self) -> Option<Duration> {
        let (end, _) = self.end.as_ref()?;
        Some(end.saturating_sub(self.arrivals.last().copied().unwrap_or_default()))
    }

    /// The longest time without a byte, the one after the last among them.
    pub(super) fn longest_silence(&self) -> Duration {
        let mut last = Duration::ZERO;
        let gaps = self
            .arrivals
            .iter()
            .chain([&self.watched])
            .map(|at| at.saturating_sub(std::mem::replace(&mut last, *at)));
        gaps.max().unwrap_or_default()
    }

    /// How many signs of life came together with the one before. They are sent at least half a second apart.
    pub(super) fn beats_together(&self) -> usize {
        self.beats.windows(2).filter(|pair| pair[1].saturating_sub(pair[0]) < TOGETHER).count()
    }

    /// The usual time between two signs of life.
    pub(super) fn beat(&self) -> Option<Duration> {
        let mut gaps: Vec<Duration> =
            self.beats.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        gaps.sort();
        gaps.get(gaps.len() / 2).copied()
    }

    fn is_sure(&self) -> bool {
        let steady =
            self.watched >= Duration::from_secs(10) && self.longest_silence() < Duration::from_secs(3);
        self.beats.len() >= 2 || steady
    }

    fn take(&mut self, data: &[u8], at: Duration) {
        for byte in data {
            if *byte != b'\n' {
                if self.line.len() < LINE_BYTES_MAX {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.starts_with(b":") {
                // The first belongs to the beginning of every stream.
                self.comments += 1;
                if self.comments > 1 {
                    self.beats.push(at);
                }
            } else if let Some(kind) = line.strip_prefix(b"event:") {
                match String::from_utf8_lossy(kind).trim() {
                    "ping" => self.beats.push(at),
                    kind => self.notes.push(kind.chars().take(64).collect()),
                }
            }
        }
    }
}

/// Watches a body for `time` at most.
pub(super) fn watch(body: &mut Body, time: Duration, until: Until) -> Seen {
    let start = clock::now();
    let (deadline, mut seen) = (start + time, Seen::default());
    loop {
        let piece = body.next(deadline);
        let at = clock::now() - start;
        seen.watched = at;
        match piece {
            Piece::Data(data) => {
                seen.first_after.get_or_insert(at);
                seen.arrivals.push(at);
                seen.take(&data, at);
            }
            Piece::Quiet => return seen,
            Piece::End(why) => {
                seen.end = Some((at, why));
                return seen;
            }
        }
        let enough = match until {
            Until::Note(kind) => seen.has(kind),
            Until::Sure => seen.is_sure(),
            Until::Time => false,
        };
        if enough || clock::now() >= deadline {
            return seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_and_notes_are_told_from_rows() {
        let mut seen = Seen::default();
        let ms = Duration::from_millis;
        seen.take(b"retry: 3000\n:hb\n\nevent: hel", ms(1));
        seen.take(b"lo\ndata: {}\n\nid: a-1\ndata: :hb\n\n", ms(2));
        assert_eq!((seen.beats.len(), seen.has("hello")), (0, true));
        seen.take(b":hb\n\nevent: ping\r\ndata: {}\r\n\r\n", ms(500));
        seen.take(b":hb\n\n", ms(1500));
        assert_eq!(seen.beats, [ms(500), ms(500), ms(1500)]);
        assert_eq!((seen.beats_together(), seen.beat()), (1, Some(ms(1000))));
        seen.arrivals = vec![ms(1), ms(2), ms(500), ms(1500)];
        seen.watched = ms(4000);
        seen.end = Some((ms(4000), String::new()));
        assert_eq!((seen.longest_silence(), seen.silence_before_end()), (ms(2500), Some(ms(2500))));
    }
}
