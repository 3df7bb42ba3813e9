//! A running weir: subscribed to as any client does, with what is wanted chosen there. A lost connection is made again
//! and goes on behind the last event, so that nothing is lost or repeated; what history could not keep is told.

use std::io;
use std::time::Duration;

use super::envelope::Opener;
use super::history::History;
use super::sse::{Dechunk, Event, Events};
use super::wish::{Remote, Wish, encode};
use super::{Said, Voice};
use crate::base::backoff::Backoff;
use crate::base::clock;
use crate::base::rng::Rng;
use crate::cli::ask;
use crate::cli::exit::{Exit, Failure};
use crate::cli::http_get::{Answer, Base};
use crate::cli::https::Connection;

/// Longest wait for a connection and the head of an answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A connection that is silent for so long is dead: three heartbeats are missing.
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// While what history holds arrives from a weir that does not say how far it goes, how long nothing may come before that
/// was all of it.
const SETTLED_FOLLOWING: Duration = Duration::from_millis(250);
const SETTLED_ENDING: Duration = Duration::from_millis(600);
/// Most bytes of a refusal that are read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Subscribes, and says what comes as the input `index`.
///
/// # Errors
/// When there can be no thread for it.
pub(in crate::cli::tail) fn start(
    index: usize,
    remote: Remote,
    wish: Wish,
    voice: Voice,
) -> Result<(), Failure> {
    let work = move || {
        let name = remote.base.to_string();
        let opener = Opener::new(&name, remote.all || remote.base.path().ends_with("/_stream"));
        let events = Events::default();
        let mut subscription = Subscription {
            index,
            name,
            remote,
            wish,
            voice,
            events,
            opener,
            history: None,
            came: 0,
            told_caught_up: false,
        };
        let ended = subscription.run();
        subscription.voice.send(Said::Ended(index, ended)).ok();
    };
    let started = std::thread::Builder::new().name("tail stream".to_owned()).spawn(work);
    started.map(drop).map_err(|e| Failure::new(Exit::UNAVAILABLE, format!("cannot subscribe: {e}")))
}

/// Why a connection ended.
enum Lost {
    /// All that was asked for has come, or nobody listens to us any more.
    Done,
    /// It may be made again.
    Connection(Failure),
    /// Asking again would not help.
    Refused(Failure),
}

struct Subscription {
    index: usize,
    name: String,
    remote: Remote,
    wish: Wish,
    voice: Voice,
    events: Events,
    opener: Opener,
    /// How far the history of this connection goes, where it was said.
    history: Option<History>,
    /// Events that have come.
    came: u64,
    told_caught_up: bool,
}

impl Subscription {
    fn run(&mut self) -> Result<(), Failure> {
        let mut backoff =
            Backoff::new(Duration::from_millis(250), Duration::from_secs(10), Rng::from_entropy());
        let (mut connected, mut told) = (false, false);
        loop {
            let lost = match self.connect() {
                Ok((connection, chunks, rest)) => {
                    if std::mem::take(&mut told) {
                        self.notice("connected again");
                    }
                    connected = true;
                    let before = self.events.id.clone();
                    let lost = self.listen(connection, chunks, &rest);
                    if self.events.id != before {
                        backoff.reset();
                    }
                    lost
                }
                Err(lost) => lost,
            };
            match lost {
                Lost::Done => return Ok(()),
                Lost::Refused(failure) => return Err(failure),
                Lost::Connection(failure) if !connected || !self.wish.follow => return Err(failure),
                Lost::Connection(failure) => {
                    if !std::mem::replace(&mut told, true) {
                        self.notice(&format!("{}; trying again", failure.message()));
                    }
                }
            }
            let asked = self.events.retry_millis.map_or(Duration::MAX, Duration::from_millis);
            std::thread::sleep(backoff.next_delay().min(asked));
        }
    }

    fn notice(&self, text: &str) {
        self.voice.send(Said::Notice(format!("{}: {text}", self.name))).ok();
    }

    fn caught_up(&mut self) {
        if !std::mem::replace(&mut self.told_caught_up, true) {
            self.voice.send(Said::CaughtUp(self.index)).ok();
        }
    }

    /// The path to ask for. Of all pipelines, a weir is asked first which there are: it says so in its refusal.
    fn path(&self) -> Result<String, Lost> {
        let mut path = String::new();
        let mut parameters = self.wish.parameters.clone();
        if self.remote.all {
            path.push_str("/_stream");
            let answer = self.remote.base.get("/_stream").map_err(Lost::Connection)?;
            let known = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
            let names = known.as_ref().and_then(|body| body.get("pipelines")?.as_array());
            let names: Vec<&str> =
                names.into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
            if names.is_empty() {
                return Err(self.refusal(&answer));
            }
            parameters.push_str(if parameters.is_empty() { "?p=" } else { "&p=" });
            encode(&names.join(","), &mut parameters);
        }
        path.push_str(&parameters);
        if let Some(query) = &self.remote.query {
            path.push(if parameters.is_empty() { '?' } else { '&' });
            path.push_str(query);
        }
        Ok(path)
    }

    /// Connects and reads the head of the answer; with it comes the start of the body.
    fn connect(&mut self) -> Result<(Connection, Dechunk, Vec<u8>), Lost> {
        let path = self.path()?;
        let resume =
            self.events.id.as_ref().map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let base = &self.remote.base;
        let failed = |e: io::Error| Lost::Connection(unanswered(base, &e));
        let mut connection =
            base.request(&path, "text/event-stream", &resume, CONNECT_MAX).map_err(failed)?;
        let mut raw = Vec::new();
        let head_len = loop {
            if let Some(found) = memchr::memmem::find(&raw, b"\r\n\r\n") {
                break found;
            }
            if raw.len() > HEAD_BYTES_MAX || !read(&mut connection, &mut raw).map_err(failed)? {
                return Err(failed(io::Error::other("the answer is not HTTP")));
            }
        };
        let rest = raw.split_off(head_len + 4);
        let head = String::from_utf8_lossy(&raw).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let chunked = head.lines().any(|l| l.starts_with("transfer-encoding:") && l.contains("chunked"));
        let chunks = if chunked { Dechunk::Size(Vec::new()) } else { Dechunk::Plain };
        let is_stream =
            head.lines().any(|l| l.starts_with("content-type:") && l.contains("text/event-stream"));
        if status == 200 && is_stream {
            return Ok((connection, chunks, rest));
        }
        Err(self.refusal(&Answer { status, body: rest_of(connection, chunks, rest) }))
    }

    /// What an answer that is no stream means.
    fn refusal(&self, answer: &Answer) -> Lost {
        let base = &self.remote.base;
        let said = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap_or_default();
        let text = |key: &str| said.get(key).and_then(serde_json::Value::as_str).map(ask::harmless);
        let failure = match answer.status {
            401 | 403 | 429 => ask::refused(base, answer),
            _ => {
                let why = text("detail").unwrap_or_else(|| "it did not answer as a weir does".to_owned());
                let failure =
                    Failure::new(Exit::UNAVAILABLE, format!("{base}: {why} (status {})", answer.status));
                match text("hint") {
                    Some(hint) => failure.hint(hint),
                    None if text("detail").is_some() => failure,
                    None => failure.hint("is it another program that listens there?"),
                }
            }
        };
        // What is overloaded or just starts may answer later.
        if answer.status >= 500 || answer.status == 429 {
            Lost::Connection(failure)
        } else {
            Lost::Refused(failure)
        }
    }

    /// Says what comes until the connection ends.
    fn listen(&mut self, mut connection: Connection, mut chunks: Dechunk, rest: &[u8]) -> Lost {
        let settled = if self.wish.follow { SETTLED_FOLLOWING } else { SETTLED_ENDING };
        self.history = None;
        let mut raw = rest.to_vec();
        let mut heard = clock::now();
        loop {
            if !raw.is_empty() {
                heard = clock::now();
                match self.take(&mut chunks, &raw) {
                    Ok(true) => {}
                    Ok(false) => return self.gone("it ended the stream"),
                    Err(lost) => return lost,
                }
            }
            if self.told_caught_up && !self.wish.follow {
                return Lost::Done;
            }
            let knows = self.told_caught_up || self.history.is_some();
            let wait = if knows { SILENCE_MAX } else { settled / 4 };
            connection.set_timeouts(Some(wait)).ok();
            raw.clear();
            match read(&mut connection, &mut raw) {
                Ok(true) => {}
                Ok(false) => return self.gone("it closed the connection"),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    let silent = clock::now() - heard;
                    if silent >= SILENCE_MAX {
                        return self.gone("it has fallen silent");
                    }
                    if silent >= settled && self.history.is_none() {
                        self.caught_up();
                    }
                }
                Err(e) => return self.gone(&e.to_string()),
            }
        }
    }

    fn gone(&self, why: &str) -> Lost {
        Lost::Connection(Failure::new(Exit::UNAVAILABLE, format!("lost {}: {why}", self.name)))
    }

    /// Deals with bytes of the body; false at its end.
    fn take(&mut self, chunks: &mut Dechunk, raw: &[u8]) -> Result<bool, Lost> {
        let (events, opener, came) = (&mut self.events, &mut self.opener, &mut self.came);
        let (history, follow) = (&mut self.history, self.wish.follow);
        let mut notices = Vec::new();
        let (mut failed, mut over) = (None, false);
        let more = chunks.feed(raw, |bytes| {
            let taken = events.feed(bytes, |event| {
                if !follow && let Some(history) = history {
                    // What is newer than the past was not asked for.
                    if history.is_over() {
                        return;
                    }
                    event.id.iter().for_each(|id| history.reach(id));
                }
                match event.kind.as_str() {
                    "" | "message" => {
                        *came += 1;
                        opener.open(&event.data);
                    }
                    "hello" => *history = History::of_hello(&event.data),
                    "bye" => over |= memchr::memmem::find(&event.data, b"limit").is_some(),
                    kind => notices.extend(notice(kind, event)),
                }
            });
            failed = failed.take().or(taken.err());
        });
        if let (Some(history), Some(position)) = (history, events.position()) {
            history.reach(position);
        }
        let gone = opener.take().is_some_and(|block| self.voice.send(Said::Block(block)).is_err());
        notices.iter().for_each(|text| self.notice(text));
        // More than was asked for of the past is not of the past.
        let enough = || self.wish.enough.is_some_and(|enough| self.came >= enough);
        if self.history.as_ref().map_or_else(enough, History::is_over) {
            self.caught_up();
        }
        if let Some(why) = failed {
            return Err(Lost::Refused(Failure::new(Exit::IO, format!("{}: {why}", self.name))));
        }
        if gone || over { Err(Lost::Done) } else { Ok(more) }
    }
}

/// What an event that is no line of log means for whoever watches, if anything.
fn notice(kind: &str, event: &Event) -> Option<String> {
    let about: serde_json::Value = serde_json::from_slice(&event.data).ok()?;
    let pipeline = about.get("pipeline").and_then(serde_json::Value::as_str).unwrap_or_default();
    let missed = about.get("missed").and_then(serde_json::Value::as_u64);
    let events = match missed {
        None => format!("events of {pipeline}"),
        Some(1) => format!("1 event of {pipeline}"),
        Some(n) => format!("{n} events of {pipeline}"),
    };
    match (kind, missed) {
        ("gap", Some(_)) => Some(format!("{events} missing: history there no longer holds them")),
        ("gap", None) => Some(format!("{events} may be missing: weir was started anew, its history follows")),
        ("drop", _) => Some(format!("{events} missed: they came faster than they could be taken")),
        _ => None,
    }
}

/// Appends what can be read at once; false at the end.
fn read(connection: &mut Connection, raw: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 64 << 10];
    loop {
        match connection.read(&mut chunk) {
            Ok(n) => {
                raw.extend_from_slice(&chunk[..n]);
                return Ok(n > 0);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The rest of a body that is no stream, as far as it matters.
fn rest_of(mut connection: Connection, mut chunks: Dechunk, mut raw: Vec<u8>) -> Vec<u8> {
    connection.set_timeouts(Some(Duration::from_secs(2))).ok();
    let mut body = Vec::new();
    loop {
        let more = chunks.feed(&raw, |bytes| body.extend_from_slice(bytes));
        raw.clear();
        if !more || body.len() > REFUSAL_BYTES_MAX || !matches!(read(&mut connection, &mut raw), Ok(true)) {
            return body;
        }
    }
}

fn unanswered(base: &Base, e: &io::Error) -> Failure {
    let failure = base.unanswered(e);
    if e.kind() == io::ErrorKind::ConnectionRefused {
        return failure.hint("start one: `weir demo` to see it at work, `app | weir` to watch a program, or `weir` with a configuration");
    }
    failure
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::mpsc::{RecvTimeoutError, sync_channel};

    use super::*;

    const ALIVE: &[u8] = b":hb\n\n";

    /// What a subscription without following says of a stream that says these parts, one after the other once the other
    /// has read the one before, and then shows signs of life and nothing else until it is left: blocks of lines.
    fn said_of(parts: &[&str], pause: Duration) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Base::parse(&listener.local_addr().unwrap().to_string()).unwrap().at("/app/stream");
        let wish = Wish { parameters: "?tail=10".to_owned(), follow: false, enough: Some(10) };
        let (voice, said) = sync_channel(64);
        start(0, Remote { base, all: false, query: None }, wish, voice).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").unwrap();
        for part in parts {
            socket.write_all(part.as_bytes()).ok();
            // Alive all the while, so that silence says nothing.
            let until = clock::now() + pause;
            while clock::now() < until && socket.write_all(ALIVE).is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let end = clock::now() + Duration::from_secs(20);
        let mut lines = Vec::new();
        loop {
            assert!(clock::now() < end, "it goes on: {lines:?}");
            match said.recv_timeout(Duration::from_millis(20)) {
                Ok(Said::Block(block)) => {
                    lines.extend(
                        block.batch.lines().map(|(_, line)| String::from_utf8_lossy(line).into_owned()),
                    );
                }
                Ok(Said::Ended(_, ended)) => return ended.map(|()| lines).unwrap(),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => drop(socket.write_all(ALIVE)),
                Err(e) => panic!("{e}: {lines:?}"),
            }
        }
    }

    #[test]
    fn what_was_there_is_all_that_comes_however_slowly_and_nothing_newer() {
        let hello = |next: u32, newest: u32| {
            format!("event: hello\ndata: {{\"next\":\"e-{next}\",\"newest\":\"e-{newest}\"}}\n\n")
        };
        let row = |n: u32| format!("id: e-{n}\ndata: row {n}\n\n");
        let slow = Duration::from_millis(700);
        let parts = [hello(1, 3) + &row(1), row(2), row(3) + &row(4)];
        let parts = parts.each_ref().map(String::as_str);
        assert_eq!(said_of(&parts, slow), ["row 1", "row 2", "row 3"]);
        // Rows that a filter passes over have no event, and then a position says that history is over.
        let passed = [hello(1, 3) + &row(1), "id: e-3\n\n".to_owned()];
        assert_eq!(said_of(&passed.each_ref().map(String::as_str), slow), ["row 1"]);
        assert!(said_of(&[&hello(4, 3)], Duration::ZERO).is_empty());
    }

    #[test]
    fn what_is_missing_is_told() {
        let told = |kind: &str, data: &str| {
            notice(kind, &Event { kind: kind.to_owned(), id: None, data: data.as_bytes().to_vec() })
        };
        assert_eq!(
            told("gap", r#"{"pipeline":"app","missed":3}"#).as_deref(),
            Some("3 events of app missing: history there no longer holds them")
        );
        assert!(told("gap", r#"{"pipeline":"app","missed":null}"#).unwrap().contains("started anew"));
        assert!(
            told("drop", r#"{"pipeline":"app","missed":1}"#).unwrap().starts_with("1 event of app missed")
        );
        assert_eq!(told("hello", r#"{"pipeline":"app"}"#), None);
        assert_eq!(told("gap", "no object"), None);
    }
}
