//! Captured output, as lines: what a process wrote to its standard output or error, put together over calls. Lines, and
//! how many of them are open at a time, are bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Line, Moment, Process, Stdio, TraceEvent};
use super::records::OutputRecord;

/// Most outputs with an open line, and most calls whose records are not all there.
const OPEN_MAX: usize = 1024;
/// Most bytes of a call that are put together: as many as are captured.
const CALL_MAX: usize = 32 * 4096;
/// After how long a line without an end is told as it is.
const IDLE: Duration = Duration::from_secs(1);

/// Which output of which process: number, start, stream.
type Key = (u32, u64, Stdio);

#[derive(Debug)]
struct Open {
    process: Arc<Process>,
    tid: u32,
    text: Vec<u8>,
    truncated: bool,
    last: Moment,
}

/// See the module.
#[derive(Debug)]
pub struct Outputs {
    line_max: usize,
    open: HashMap<Key, Open>,
    /// By thread: the part of a call that was told so far.
    calls: HashMap<u32, Vec<u8>>,
}

impl Outputs {
    /// Nothing open; longer lines are cut at `line_max` bytes.
    pub fn new(line_max: usize) -> Outputs {
        Outputs { line_max, open: HashMap::new(), calls: HashMap::new() }
    }

    /// Goes on with a record of `process`; complete lines are appended to `events`.
    pub fn record(
        &mut self,
        record: &OutputRecord<'_>,
        process: Arc<Process>,
        at: Moment,
        events: &mut Vec<TraceEvent>,
    ) {
        let tid = record.owner.tid;
        if record.continues {
            // Threads may write at the same time: a call is one piece.
            if self.calls.len() >= OPEN_MAX {
                self.calls.clear();
            }
            let call = self.calls.entry(tid).or_default();
            let room = CALL_MAX.saturating_sub(call.len()).min(record.bytes.len());
            call.extend_from_slice(&record.bytes[..room]);
            return;
        }
        let stream = if record.fd == 2 { Stdio::Stderr } else { Stdio::Stdout };
        let whole = self.calls.remove(&tid).map(|mut call| {
            call.extend_from_slice(record.bytes);
            call
        });
        let bytes = whole.as_deref().unwrap_or(record.bytes);
        if self.open.len() >= OPEN_MAX {
            self.flush(|_| true, events);
        }
        let key = (process.pid, process.started_ns, stream);
        let fresh = || Open { process: process.clone(), tid, text: Vec::new(), truncated: false, last: at };
        let open = self.open.entry(key).or_insert_with(fresh);
        (open.tid, open.last) = (tid, at);
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            open.extend(&rest[..end], self.line_max);
            events.push(open.take(stream));
            rest = &rest[end + 1..];
        }
        open.extend(rest, self.line_max);
        // Whatever was not captured ends the line: nobody knows where it does.
        open.truncated |= record.cut;
        if open.text.is_empty() && !record.cut {
            self.open.remove(&key);
        } else if record.cut
            && let Some(mut open) = self.open.remove(&key)
        {
            events.push(open.take(stream));
        }
    }

    /// Tells lines that have waited for their end.
    pub fn tick(&mut self, now: Moment, events: &mut Vec<TraceEvent>) {
        self.flush(|open| now.since(open.last) >= IDLE, events);
    }

    /// Tells all open lines.
    pub fn finish(&mut self, _now: Moment, events: &mut Vec<TraceEvent>) {
        self.flush(|_| true, events);
    }

    fn flush(&mut self, due: impl Fn(&Open) -> bool, events: &mut Vec<TraceEvent>) {
        self.open.retain(|key, open| {
            let due = due(open);
            if due {
                events.push(open.take(key.2));
            }
            !due
        });
    }
}

impl Open {
    fn extend(&mut self, bytes: &[u8], max: usize) {
        let room = max.saturating_sub(self.text.len());
        self.truncated |= bytes.len() > room;
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take(&mut self, stream: Stdio) -> TraceEvent {
        let mut text = std::mem::take(&mut self.text);
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        TraceEvent::Line(Line {
            process: self.process.clone(),
            tid: self.tid,
            stream,
            at: self.last,
            text,
            truncated: std::mem::take(&mut self.truncated),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::process::Processes;
    use crate::trace::records::{Head, Owner};

    struct Writer {
        outputs: Outputs,
        processes: Processes,
        events: Vec<TraceEvent>,
    }

    impl Writer {
        fn new(line_max: usize) -> Writer {
            let processes = Processes::new(std::path::Path::new("/nonexistent"));
            Writer { outputs: Outputs::new(line_max), processes, events: Vec::new() }
        }

        fn write(&mut self, (pid, tid, fd): (u32, u32, u32), bytes: &[u8], continues: bool, cut: bool) {
            let owner = Owner {
                pid,
                tid,
                uid: 0,
                pid_inner: pid,
                cgroup: 0,
                started_ns: 0,
                pid_namespace: 0,
                comm: [0; 16],
                group: 0,
            };
            let head = Head { cpu: 0, sequence: 0, time_ns: 0 };
            let total = u32::try_from(bytes.len()).unwrap();
            let record = OutputRecord { head, owner, fd, total, continues, cut, bytes };
            let process = self.processes.of(&owner);
            self.outputs.record(&record, process, at(0), &mut self.events);
        }

        fn lines(&mut self) -> Vec<(String, bool)> {
            let text = |event| match event {
                TraceEvent::Line(line) => (String::from_utf8(line.text).unwrap(), line.truncated),
                other => panic!("{other:?}"),
            };
            self.events.drain(..).map(text).collect()
        }
    }

    fn at(monotonic_ns: u64) -> Moment {
        Moment { monotonic_ns, unix_ns: 0 }
    }

    #[test]
    fn lines_are_put_together_per_output_and_calls_per_thread() {
        let mut writer = Writer::new(100);
        writer.write((1, 1, 1), b"a\r\nb", false, false);
        writer.write((2, 2, 1), b"other\n", false, false);
        writer.write((1, 1, 2), b"error\n", false, false);
        // Two threads write at the same time, each in one call of two records.
        writer.write((1, 10, 1), b"first ", true, false);
        writer.write((1, 11, 1), b"second ", true, false);
        writer.write((1, 11, 1), b"call\n", false, false);
        writer.write((1, 10, 1), b"call\n", false, false);
        let texts: Vec<String> = writer.lines().into_iter().map(|(text, _)| text).collect();
        assert_eq!(texts, ["a", "other", "error", "bsecond call", "first call"]);
    }

    #[test]
    fn lines_are_bounded_and_do_not_wait_for_ever() {
        let mut writer = Writer::new(4);
        writer.write((1, 1, 1), b"too long\nok\ncut", false, true);
        writer.write((1, 1, 1), b"open", false, false);
        let expected =
            [("too ", true), ("ok", false), ("cut", true)].map(|(text, cut)| (text.to_owned(), cut));
        assert_eq!(writer.lines(), expected);
        writer.outputs.tick(at(500_000_000), &mut writer.events);
        assert_eq!(writer.lines(), []);
        writer.outputs.tick(at(1_500_000_000), &mut writer.events);
        assert_eq!(writer.lines(), [("open".to_owned(), false)]);
        for pid in 0..5000 {
            writer.write((pid, pid, 1), b"x", false, false);
            writer.write((pid, pid, 2), b"y", true, false);
        }
        assert!(writer.outputs.open.len() <= OPEN_MAX && writer.outputs.calls.len() <= OPEN_MAX);
    }
}
