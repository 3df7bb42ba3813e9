//! Events as rows: one JSON object each, in the words of docs/EBPF.md. Only what is known is written; nothing is made up.

use std::net::SocketAddr;
use std::time::Duration;

use super::event::{
    Change, Connection, ConnectionEvent, Exchange, Line, Moment, Process, Role, TraceContext, TraceEvent,
};
use crate::batch::Timestamp;

/// Writes an event as a JSON object without a line break; `false` if it is none for people: a request is told with
/// its exchange.
pub fn write(event: &TraceEvent, out: &mut Vec<u8>) -> bool {
    match event {
        TraceEvent::Connection(event) => connection(event, out),
        TraceEvent::Exchange(exchange) => http(exchange, out),
        TraceEvent::Line(line) => output(line, out),
        TraceEvent::Request(_) => return false,
    }
    true
}

fn connection(event: &ConnectionEvent, out: &mut Vec<u8>) {
    let connection = &event.connection;
    let lasted = event.at.since(connection.opened);
    let (local, remote) = (connection.local, connection.remote);
    let (name, level, message) = match &event.change {
        Change::Opened => ("tcp_open", "info", format!("connected to {remote}")),
        Change::Accepted => ("tcp_accept", "info", format!("accepted {remote} on {local}")),
        Change::Closed(t) => (
            "tcp_close",
            "info",
            format!(
                "closed {remote} after {} ms, {} bytes sent, {} received",
                milliseconds(lasted),
                t.bytes_sent,
                t.bytes_received
            ),
        ),
        Change::Failed { error } => {
            ("tcp_connect_failed", "warn", format!("{remote}: {}", error_text(*error)))
        }
        Change::Http2 => ("http2", "info", format!("HTTP/2 with {remote} is not read")),
    };
    let mut object = Object::new(out, event.at, level, name, message.as_bytes());
    match &event.change {
        Change::Closed(totals) => {
            object.number("bytes_sent", totals.bytes_sent);
            object.number("bytes_received", totals.bytes_received);
            object.milliseconds("duration_ms", lasted);
            object.milliseconds("rtt_ms", totals.rtt);
            object.number("retransmits", totals.retransmits);
            if totals.error != 0 {
                object.text("error", &error_text(totals.error));
            }
        }
        Change::Failed { error } => {
            object.milliseconds("duration_ms", lasted);
            object.text("error", &error_text(*error));
        }
        Change::Opened | Change::Accepted | Change::Http2 => {}
    }
    object.connection(connection);
    object.process(&connection.process);
    object.end();
}

fn http(exchange: &Exchange, out: &mut Vec<u8>) {
    let request = &exchange.request;
    let level = match exchange.status {
        Some(500..) => "error",
        Some(400..) | None => "warn",
        Some(_) => "info",
    };
    let answer =
        exchange.status.map_or_else(|| exchange.ending.as_str().to_owned(), |status| status.to_string());
    let message =
        format!("{} {} {answer} {} ms", request.method, request.path, milliseconds(exchange.latency()));
    let mut object = Object::new(out, request.began, level, "http", message.as_bytes());
    object.text("method", &request.method);
    object.text("path", &request.path);
    request.query.iter().for_each(|query| object.text("query", query));
    request.host.iter().for_each(|host| object.text("host", host));
    exchange.status.iter().for_each(|status| object.number("status", *status));
    object.milliseconds("latency_ms", exchange.latency());
    object.milliseconds("duration_ms", exchange.duration());
    object.number("request_bytes", exchange.request_bytes);
    object.number("response_bytes", exchange.response_bytes);
    object.text("ending", exchange.ending.as_str());
    object.raw("tls", if request.tls { "true" } else { "false" });
    if request.connection_inferred {
        object.raw("connection_inferred", "true");
    }
    request.trace.iter().for_each(|trace| object.trace(trace));
    object.connection(&request.connection);
    object.process(&request.connection.process);
    object.number("tid", request.tid);
    object.end();
}

fn output(line: &Line, out: &mut Vec<u8>) {
    let mut object = Object::new(out, line.at, "", line.stream.as_str(), &line.text);
    if line.truncated {
        object.raw("truncated", "true");
    }
    object.process(&line.process);
    object.number("tid", line.tid);
    object.end();
}

/// Milliseconds with three decimals.
fn milliseconds(duration: Duration) -> String {
    let micros = duration.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn error_text(number: u32) -> String {
    match number {
        0 => "given up".to_owned(),
        number => std::io::Error::from_raw_os_error(number.cast_signed()).to_string(),
    }
}

/// A JSON object in the making; a name is written as it is, so it must need no escapes.
struct Object<'a>(&'a mut Vec<u8>);

impl<'a> Object<'a> {
    fn new(out: &'a mut Vec<u8>, at: Moment, level: &str, event: &str, message: &[u8]) -> Object<'a> {
        out.extend_from_slice(b"{\"timestamp\":\"");
        Timestamp(at.unix_ns).write_rfc3339(out);
        out.push(b'"');
        let mut object = Object(out);
        if !level.is_empty() {
            object.text("level", level);
        }
        object.text("event", event);
        object.text("message", &String::from_utf8_lossy(message));
        object
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        self.raw(name, &value.to_string());
    }

    fn milliseconds(&mut self, name: &str, duration: Duration) {
        self.raw(name, &milliseconds(duration));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        // Writing to a vector cannot fail.
        serde_json::to_writer(&mut *self.0, value).ok();
    }

    fn hex(&mut self, name: &str, bytes: &[u8]) {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.text(name, &digits);
    }

    fn trace(&mut self, trace: &TraceContext) {
        self.hex("trace_id", &trace.trace_id);
        self.hex("span_id", &trace.span_id);
    }

    fn address(&mut self, name: &str, address: SocketAddr) {
        self.number(name, format_args!("\"{address}\""));
    }

    fn connection(&mut self, connection: &Connection) {
        self.text("connection", &format!("{:x}", connection.id));
        self.text("role", connection.role.as_str());
        if connection.role == Role::Unknown {
            self.address("local", connection.local);
            self.address("remote", connection.remote);
        } else {
            self.address("client", connection.client());
            self.address("server", connection.server());
        }
        if connection.before {
            self.raw("opened_before", "true");
        }
    }

    fn process(&mut self, process: &Process) {
        self.number("pid", process.pid);
        if process.pid_inner != process.pid {
            self.number("pid_inner", process.pid_inner);
        }
        self.text("comm", &process.comm);
        self.number("uid", process.uid);
        self.number("cgroup_id", process.cgroup_id);
        process.cgroup.iter().for_each(|cgroup| self.text("cgroup", cgroup));
        process.container.iter().for_each(|container| self.text("container_id", container));
    }

    fn end(self) {
        self.0.push(b'}');
    }
}
