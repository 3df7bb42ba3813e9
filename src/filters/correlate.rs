//! The `correlate` filter: a log line whose process is known gets the HTTP request that the process was answering, as
//! the `ebpf` source saw it. Each such line says how that is known; where several are possible, none is attached.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use crate::base::clock::{self, Instant};
use crate::batch::{Batch, BatchBuilder};
use crate::config::options;
use crate::flow::{BuildCx, Component, Emit, Filter};
use crate::query::lookup::{lookup, lookup_json};
use crate::trace::activity::{Activity, Finding, Span};
use crate::trace::event::Request;

options! {
    /// Options of the `correlate` filter.
    pub struct CorrelateOptions {
        /// The field with the number of the process; without it `pid`, `_PID`, `procid`, and what syslog says.
        pub pid_field: Option<String> = None,
        /// How long a line waits for what the kernel told of its moment: both come by different ways.
        #[range(Duration::ZERO..=Duration::from_secs(10))]
        pub wait: Duration = Duration::from_millis(200),
    }
}

/// Fields that may hold the number of the process.
const PID_FIELDS: &[&str] = &["pid", "_PID", "procid", "PROCID"];
/// How far a line's time may be off its moment: programs write milliseconds.
const SLACK_NS: i64 = 1_000_000;
/// Most batches that wait; beyond that the oldest goes on.
const WAITING_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Clone)]
pub struct Correlate {
    pid_field: Option<String>,
    wait: Duration,
    waiting: VecDeque<(Instant, Batch)>,
    activity: &'static Activity,
}

impl Component for Correlate {
    const NAME: &'static str = "correlate";
    const SUMMARY: &'static str =
        "adds the HTTP request in flight to the lines of the process that answers it (with `ebpf`)";
    const EXAMPLE: &'static str = "type = \"correlate\"\nwait = \"200ms\"\n";
    type Options = CorrelateOptions;

    fn build(options: CorrelateOptions, _: &mut BuildCx<'_>) -> Option<Correlate> {
        let (pid_field, wait) = (options.pid_field, options.wait);
        Some(Correlate { pid_field, wait, waiting: VecDeque::new(), activity: Activity::shared() })
    }
}

impl Filter for Correlate {
    fn apply(&mut self, batch: Batch, emit: &mut Emit) {
        self.waiting.push_back((clock::now(), batch));
        if self.wait.is_zero() || self.waiting.len() > WAITING_MAX {
            self.release_one(emit);
        }
    }

    fn tick(&mut self, now: Instant, emit: &mut Emit) {
        while self
            .waiting
            .front()
            .is_some_and(|(since, _)| now.saturating_duration_since(*since) >= self.wait)
        {
            self.release_one(emit);
        }
    }

    fn ticks(&self) -> bool {
        !self.wait.is_zero()
    }

    fn finish(&mut self, emit: &mut Emit) {
        while !self.waiting.is_empty() {
            self.release_one(emit);
        }
    }

    fn held_events(&self) -> u64 {
        self.waiting.iter().map(|(_, batch)| batch.events()).sum()
    }
}

impl Correlate {
    fn release_one(&mut self, emit: &mut Emit) {
        if let Some((_, batch)) = self.waiting.pop_front() {
            emit.push(self.joined(batch));
        }
    }

    /// The batch with what was found; the same batch if nothing was.
    fn joined(&self, mut batch: Batch) -> Batch {
        let findings: Vec<(u32, Finding)> =
            batch.lines().map(|(row, line)| (row, self.find(&batch, row, line))).collect();
        if findings.iter().all(|(_, finding)| *finding == Finding::Nothing) {
            return batch;
        }
        let capacity = batch.bytes() as usize + 160 * findings.len();
        let mut out = BatchBuilder::with_capacity(batch.arena().origin().clone(), capacity, findings.len());
        out.received(batch.arena().received());
        let mut text = Vec::new();
        for (row, finding) in &findings {
            text.clear();
            write_joined(batch.line(*row), finding, &mut text);
            out.push(&text);
        }
        out.finish(batch.take_receipt())
    }

    fn find(&self, batch: &Batch, row: u32, line: &[u8]) -> Finding {
        // What is an event of the network itself has its connection; what has a trace keeps it.
        if lookup_json(line, "connection").is_some() {
            return Finding::Nothing;
        }
        let pid = match &self.pid_field {
            Some(name) => number(line, name),
            None => PID_FIELDS.iter().find_map(|name| number(line, name)).or_else(|| syslog_pid(line)),
        };
        let Some(pid) = pid else { return Finding::Nothing };
        // Only what the kernel captured says on which thread, and when to the nanosecond.
        let is_captured =
            lookup_json(line, "event").is_some_and(|e| e == b"\"stdout\"" || e == b"\"stderr\"");
        let tid = if is_captured { number(line, "tid") } else { None };
        let time = batch.timestamp(row).0;
        self.activity.find(pid, tid, span_of(time, is_captured))
    }
}

/// When a line was written, by its time: whole seconds may be any moment of that second.
fn span_of(time: i64, is_exact: bool) -> Span {
    let whole_seconds = time.rem_euclid(1_000_000_000) == 0;
    match (is_exact, whole_seconds) {
        (true, _) => Span { from: time, to: time },
        (false, true) => Span { from: time, to: time.saturating_add(999_999_999) },
        (false, false) => Span { from: time.saturating_sub(SLACK_NS), to: time.saturating_add(SLACK_NS) },
    }
}

fn number(line: &[u8], name: &str) -> Option<u32> {
    std::str::from_utf8(&lookup(line, name)?).ok()?.parse().ok()
}

/// The PROCID of a syslog message: the fifth word of RFC 5424, the number behind the tag of RFC 3164.
fn syslog_pid(line: &[u8]) -> Option<u32> {
    let digits = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u32>().ok();
    let head = &line[..line.len().min(256)];
    let after = head.strip_prefix(b"<").and_then(|rest| {
        let end = rest.iter().position(|b| *b == b'>')?;
        digits(&rest[..end]).map(|_| &rest[end + 1..])
    });
    if let Some(rest) = after.and_then(|rest| rest.strip_prefix(b"1 ")) {
        return rest.split(|b| *b == b' ').nth(3).and_then(digits);
    }
    // The tag ends with the first colon behind the number.
    let end = memchr::memmem::find(head, b"]:")?;
    let start = head[..end].iter().rposition(|b| *b == b'[')?;
    digits(&head[start + 1..end])
}

fn write_joined(line: &[u8], finding: &Finding, out: &mut Vec<u8>) {
    let (request, basis) = match finding {
        Finding::Nothing => return out.extend_from_slice(line),
        Finding::Ambiguous => (None, "ambiguous"),
        Finding::One(request, basis) => (Some(request), basis.as_str()),
    };
    let mut fields = request.map(|request| fields_of(request)).unwrap_or_default();
    fields.push(("correlation", basis.to_owned()));
    let object =
        line.trim_ascii_end().strip_suffix(b"}").filter(|_| line.trim_ascii_start().starts_with(b"{"));
    let Some(object) = object else {
        out.extend_from_slice(line);
        for (name, value) in fields {
            let plain =
                !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
            // Writing to a vector cannot fail.
            match plain {
                true => write!(out, " {name}={value}").ok(),
                false => write!(out, " {name}={}", serde_json::Value::from(value)).ok(),
            };
        }
        return;
    };
    out.extend_from_slice(object);
    let mut comma = if object.trim_ascii_end().ends_with(b"{") { "" } else { "," };
    for (name, value) in fields {
        // What the program said itself stays.
        if lookup_json(line, name).is_none() {
            write!(out, "{comma}\"{name}\":{}", serde_json::Value::from(value)).ok();
            comma = ",";
        }
    }
    out.push(b'}');
}

fn fields_of(request: &Request) -> Vec<(&'static str, String)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut fields = Vec::with_capacity(7);
    if let Some(trace) = &request.trace {
        fields.push(("trace_id", hex(&trace.trace_id)));
        fields.push(("span_id", hex(&trace.span_id)));
    }
    fields.push(("method", request.method.to_string()));
    fields.push(("path", request.path.to_string()));
    fields.push(("client", request.connection.client().to_string()));
    fields.push(("connection", format!("{:x}", request.connection.id)));
    fields
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::config::ComponentKind;
    use crate::testing;
    use crate::trace::event::{Connection, Moment, Process, Role, TraceContext, TraceEvent};

    const BEGAN: i64 = 1_795_000_000_500_000_000;

    fn request(id: u64, pid: u32, path: &str) -> Arc<Request> {
        let at = Moment { monotonic_ns: 1, unix_ns: BEGAN };
        let process = Process {
            pid,
            started_ns: 1,
            pid_inner: pid,
            pid_namespace: 1,
            uid: 0,
            comm: "s".into(),
            cgroup_id: 1,
            cgroup: None,
            container: None,
        };
        Arc::new(Request {
            id,
            connection: Arc::new(Connection {
                id,
                process: Arc::new(process),
                local: "127.0.0.1:80".parse().unwrap(),
                remote: "10.0.0.9:4000".parse().unwrap(),
                role: Role::Server,
                opened: at,
                before: false,
                process_guessed: false,
            }),
            tls: false,
            connection_inferred: false,
            began: at,
            tid: pid + 1,
            method: "GET".into(),
            path: path.into(),
            query: None,
            host: None,
            trace: Some(TraceContext { trace_id: [0xab; 16], span_id: [0xcd; 8], flags: 1 }),
        })
    }

    /// A filter with a table of its own, in which the process 70 answers `paths`.
    fn correlate(paths: &[&str]) -> Correlate {
        let mut filter = testing::build::<Correlate>(ComponentKind::Filter, json!({ "wait": "0s" })).unwrap();
        filter.activity = Box::leak(Box::default());
        for (id, path) in (1..).zip(paths) {
            filter.activity.observe(&TraceEvent::Request(request(id, 70, path)));
        }
        filter
    }

    fn pass(filter: &mut Correlate, line: &str) -> String {
        let mut emit = Emit::default();
        filter.apply(Batch::from_lines("t", [line]), &mut emit);
        filter.finish(&mut emit);
        let batches = emit.take();
        String::from_utf8(batches[0].lines().next().unwrap().1.to_vec()).unwrap()
    }

    #[test]
    fn lines_of_every_kind_get_the_request_in_flight() {
        let mut filter = correlate(&["/a b"]);
        let added = r#""trace_id":"abababababababababababababababab","span_id":"cdcdcdcdcdcdcdcd","method":"GET","path":"/a b","client":"10.0.0.9:4000","connection":"1","correlation":"#;
        let time = "2026-11-18T11:06:40.6Z";
        assert_eq!(
            pass(&mut filter, &format!(r#"{{"timestamp":"{time}","pid":70,"message":"x"}}"#)),
            format!(r#"{{"timestamp":"{time}","pid":70,"message":"x",{added}"pid_single"}}"#)
        );
        let captured =
            format!(r#"{{"timestamp":"{time}","event":"stdout","message":"x","pid":70,"tid":71}}"#);
        assert!(pass(&mut filter, &captured).ends_with(&format!(r#"{added}"thread"}}"#)));
        let text = " trace_id=abababababababababababababababab span_id=cdcdcdcdcdcdcdcd method=GET path=\"/a b\" client=10.0.0.9:4000 connection=1 correlation=pid_single";
        for line in [
            format!("{time} INFO pid=70 hello"),
            format!("<13>1 {time} host app 70 - - hello"),
            format!("{time} app[70]: hello"),
            format!(r#"{time} {{"_PID":"70"}} hello"#),
        ] {
            assert_eq!(pass(&mut filter, &line), format!("{line}{text}"));
        }
        // Its own ids stay as they are.
        let own = pass(&mut filter, &format!(r#"{{"time":"{time}","pid":70,"trace_id":"mine"}}"#));
        let own: serde_json::Value = serde_json::from_str(&own).unwrap();
        assert_eq!((&own["trace_id"], &own["path"]), (&"mine".into(), &"/a b".into()));
    }

    #[test]
    fn what_is_not_known_is_not_touched() {
        let mut filter = correlate(&["/a"]);
        let time = "2026-11-18T11:06:40.6Z";
        for line in [
            format!("{time} no process"),
            format!("{time} pid=71 another one"),
            format!("{time} pid=-70 garbage"),
            "2026-11-18T11:06:40.1Z pid=70 before".to_owned(),
            format!(r#"{{"timestamp":"{time}","event":"http","pid":70,"connection":"9"}}"#),
            "<13>1 [70]: [[[".to_owned(),
            "<".to_owned(),
            String::new(),
        ] {
            assert_eq!(pass(&mut filter, &line), line);
        }
    }

    #[test]
    fn two_in_flight_are_ambiguous_and_get_nothing_but_the_word() {
        let mut filter = correlate(&["/a", "/b"]);
        let line = "2026-11-18T11:06:40.6Z pid=70 x";
        assert_eq!(pass(&mut filter, line), format!("{line} correlation=ambiguous"));
        // On the thread that read both, too.
        let captured =
            r#"{"timestamp":"2026-11-18T11:06:40.6Z","event":"stdout","message":"x","pid":70,"tid":71}"#;
        let out: serde_json::Value = serde_json::from_str(&pass(&mut filter, captured)).unwrap();
        assert_eq!(
            (&out["correlation"], out.get("trace_id"), out.get("path")),
            (&"ambiguous".into(), None, None)
        );
    }

    #[test]
    fn lines_wait_for_the_kernel_and_are_counted_meanwhile() {
        let mut filter = correlate(&[]);
        filter.wait = Duration::from_millis(200);
        let (mut emit, start) = (Emit::default(), clock::now());
        filter.apply(Batch::from_lines("t", ["2026-11-18T11:06:40.6Z pid=70 x", "b"]), &mut emit);
        assert_eq!((filter.held_events(), filter.ticks()), (2, true));
        filter.tick(start, &mut emit);
        assert!(emit.take().is_empty());
        filter.activity.observe(&TraceEvent::Request(request(1, 70, "/late")));
        filter.tick(start + Duration::from_secs(1), &mut emit);
        let batches = emit.take();
        assert!(batches[0].lines().next().unwrap().1.ends_with(b"correlation=pid_single"));
        assert_eq!((batches[0].events(), filter.held_events()), (2, 0));
    }
}
