//! What the kernel's records become: connections, HTTP exchanges and captured lines, each with the process it
//! belongs to. These are the types that the `ebpf` source writes out and that log lines are joined with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A point in time, on both clocks: the monotonic one orders events, the other is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Nanoseconds on the system's monotonic clock (`CLOCK_MONOTONIC`).
    pub monotonic_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub unix_ns: i64,
}

impl Moment {
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.monotonic_ns.saturating_sub(earlier.monotonic_ns))
    }
}

/// A process as it was when the event happened. `pid` and `started_ns` together never name another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number in the initial pid namespace.
    pub pid: u32,
    /// When it started, in nanoseconds on the monotonic clock.
    pub started_ns: u64,
    /// Its number in its own pid namespace; the same as `pid` outside of containers.
    pub pid_inner: u32,
    /// The inode number of its own pid namespace (`/proc/PID/ns/pid`).
    pub pid_namespace: u32,
    /// Its real user.
    pub uid: u32,
    /// The name of its main thread, at most 15 bytes.
    pub comm: Arc<str>,
    /// The id of its cgroup in the unified hierarchy: the inode number of the cgroup's directory.
    pub cgroup_id: u64,
    /// The path of its cgroup, if it could still be read.
    pub cgroup: Option<Arc<str>>,
    /// The id of the container it runs in, if its cgroup's path names one.
    pub container: Option<Arc<str>>,
}

/// Which end of a connection a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It connected.
    Client,
    /// It accepted.
    Server,
    /// The connection is older than the tracing, and nothing has told yet.
    Unknown,
}

impl Role {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Server => "server",
            Role::Unknown => "unknown",
        }
    }
}

/// One end of a TCP connection, in one process. Where both ends are on this machine there are two of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Unique for as long as the tracing runs. (Addresses of sockets, and ports, are used again.)
    pub id: u64,
    /// Whose end it is.
    pub process: Arc<Process>,
    /// The process's own address.
    pub local: SocketAddr,
    /// The other end's.
    pub remote: SocketAddr,
    /// Whether the process connected or accepted.
    pub role: Role,
    /// When it was opened, or first seen.
    pub opened: Moment,
    /// Whether it was open before the tracing was: `opened` is when it was first seen.
    pub before: bool,
    /// Whether no process had taken it yet: the process is the one that listens.
    pub process_guessed: bool,
}

impl Connection {
    /// The address of the client, whichever end this is.
    pub fn client(&self) -> SocketAddr {
        if self.role == Role::Client { self.local } else { self.remote }
    }

    /// The address of the server, whichever end this is.
    pub fn server(&self) -> SocketAddr {
        if self.role == Role::Client { self.remote } else { self.local }
    }
}

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `connect` was answered.
    Opened,
    /// `accept` handed it to the process.
    Accepted,
    /// It ended.
    Closed(Totals),
    /// `connect` was refused or not answered.
    Failed {
        /// The system's error number; 0 if it was given up.
        error: u32,
    },
    /// It began with the preface of HTTP/2, which is counted, not read.
    Http2,
}

/// What a connection moved while it was open, headers and retransmissions not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes that the process's end sent.
    pub bytes_sent: u64,
    /// Bytes that it received.
    pub bytes_received: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Segments sent again.
    pub retransmits: u32,
    /// The system's error number if it was reset; else 0.
    pub error: u32,
}

/// A connection and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionEvent {
    /// Which.
    pub connection: Arc<Connection>,
    /// When.
    pub at: Moment,
    /// What.
    pub change: Change,
}

/// The W3C trace context that a request carried in `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace, never all zero.
    pub trace_id: [u8; 16],
    /// The caller's span, never all zero.
    pub span_id: [u8; 8],
    /// The trace flags; bit 0 is "sampled".
    pub flags: u8,
}

/// An HTTP/1 request, told as soon as its head is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Unique for as long as the tracing runs; its [`Exchange`] carries the same request.
    pub id: u64,
    /// Where it came in (role server) or went out (role client).
    pub connection: Arc<Connection>,
    /// Whether it was inside TLS.
    pub tls: bool,
    /// Whether its connection was inferred: the program moves the encrypted bytes itself, and the thread last used
    /// this connection.
    pub connection_inferred: bool,
    /// When its first byte was read or sent.
    pub began: Moment,
    /// The thread that read or sent the end of its head, by its number in the initial pid namespace.
    pub tid: u32,
    /// `GET`.
    pub method: Box<str>,
    /// The path, without the query; `*` or an authority where the method has no path.
    pub path: Box<str>,
    /// The query, without `?`.
    pub query: Option<Box<str>>,
    /// `Host`, or the authority of an absolute target.
    pub host: Option<Box<str>>,
    /// The trace that the caller says it is part of.
    pub trace: Option<TraceContext>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The response was complete.
    Complete,
    /// The connection ended within the response.
    Cut,
    /// The connection ended before a response.
    Unanswered,
    /// The end of the response was not seen: more bytes than are captured held a boundary.
    Unseen,
    /// The connection went on with another protocol (101, or CONNECT).
    Switched,
}

impl Ending {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Complete => "complete",
            Ending::Cut => "cut",
            Ending::Unanswered => "unanswered",
            Ending::Unseen => "unseen",
            Ending::Switched => "switched",
        }
    }
}

/// A request and its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The request.
    pub request: Arc<Request>,
    /// The status of the final response; `None` if there was none.
    pub status: Option<u16>,
    /// When the first byte of the final response was read or sent.
    pub answered: Option<Moment>,
    /// When the exchange ended.
    pub ended: Moment,
    /// The thread that sent or read the start of the response.
    pub response_tid: Option<u32>,
    /// Bytes of the request as sent, head and body.
    pub request_bytes: u64,
    /// Bytes of the response as sent, head and body, interim responses included.
    pub response_bytes: u64,
    /// How it ended.
    pub ending: Ending,
}

impl Exchange {
    /// From the request's first byte to the response's first byte, or to the end if there was none.
    pub fn latency(&self) -> Duration {
        self.answered.unwrap_or(self.ended).since(self.request.began)
    }

    /// From the request's first byte to the end.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.request.began)
    }
}

/// Which of its outputs a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stdio {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

impl Stdio {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Stdio::Stdout => "stdout",
            Stdio::Stderr => "stderr",
        }
    }
}

/// A line that a process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who.
    pub process: Arc<Process>,
    /// The thread that wrote the line's end, by its number in the initial pid namespace.
    pub tid: u32,
    /// Where to.
    pub stream: Stdio,
    /// When its end was written.
    pub at: Moment,
    /// The line without its end.
    pub text: Vec<u8>,
    /// Whether some of it is missing: it was too long, or written in one call larger than is captured.
    pub truncated: bool,
}

/// Everything that the tracing tells, in the order it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceEvent {
    /// A connection opened, closed or failed.
    Connection(ConnectionEvent),
    /// A request is in flight from now on, until its [`TraceEvent::Exchange`].
    Request(Arc<Request>),
    /// A request was answered, or will not be.
    Exchange(Exchange),
    /// A process wrote a line.
    Line(Line),
}
