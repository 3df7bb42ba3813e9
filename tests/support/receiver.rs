//! Receivers that misbehave on purpose, and remember every line they answered for. The HTTP one refuses, hangs,
//! closes in the middle and answers 503 by turns; the TCP one stops listening, half-closes and dies, and knows to the
//! byte what its sockets had taken by then.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use logweir::base::clock::{self, Instant};
use logweir::base::rng::Rng;
use socket2::{SockFilter, SockRef};

/// How often each numbered line has come, and when last. Lines hold `line NNNNNNNNNN` somewhere.
pub type Arrived = Arc<Mutex<HashMap<u64, (u32, Instant)>>>;

/// A receiver on threads of its own, stopped when dropped.
pub struct Receiver {
    /// The port it keeps.
    pub port: u16,
    /// What has come.
    pub arrived: Arrived,
    /// The numbers that a dying receiver's sockets had taken, and nobody read.
    pub held: Arc<Mutex<HashSet<u64>>>,
    /// How often the receiver died with a connection open.
    pub deaths: Arc<AtomicU64>,
    /// How long before its cause (a kill, a reload, an end of its connection) a line that came again had come.
    pub stalest: Arc<Mutex<Duration>>,
    causes: Arc<Mutex<Vec<Instant>>>,
    /// What became of each connection, and when nobody listened, in order.
    pub history: Arc<Mutex<Vec<String>>>,
    calm: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Answers HTTP posts.
    pub fn http(seed: u64) -> Receiver {
        Receiver::start(seed, serve_http)
    }

    /// Reads lines.
    pub fn tcp(seed: u64) -> Receiver {
        Receiver::start(seed, serve_tcp)
    }

    fn start(seed: u64, serve: fn(TcpStream, &Guest, Rng)) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        small(&listener);
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let guest = Guest::default();
        let (arrived, held, deaths) = (guest.arrived.clone(), guest.held.clone(), guest.deaths.clone());
        let (calm, stop, history) = (guest.calm.clone(), guest.stop.clone(), guest.history.clone());
        let (stalest, causes) = (guest.stalest.clone(), guest.causes.clone());
        let thread = thread::spawn(move || listen(listener, port, &guest, seed, serve));
        Receiver { port, arrived, held, deaths, stalest, causes, history, calm, stop, thread: Some(thread) }
    }

    /// From now on it behaves.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Something happens now for which lines may come again.
    pub fn cause(&self) {
        self.causes.lock().unwrap().push(clock::now());
    }

    /// How many different lines have come.
    pub fn lines(&self) -> u64 {
        self.arrived.lock().unwrap().len() as u64
    }

    /// How many lines have come again.
    pub fn repeats(&self) -> u64 {
        self.arrived.lock().unwrap().values().map(|(n, _)| u64::from(*n) - 1).sum()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What the threads of one receiver share.
#[derive(Clone, Default)]
struct Guest {
    arrived: Arrived,
    held: Arc<Mutex<HashSet<u64>>>,
    deaths: Arc<AtomicU64>,
    stalest: Arc<Mutex<Duration>>,
    causes: Arc<Mutex<Vec<Instant>>>,
    history: Arc<Mutex<Vec<String>>>,
    calm: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Guest {
    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn note(&self, what: String) {
        self.history.lock().unwrap().push(what);
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn take(&self, text: &str) {
        let (now, mut arrived) = (clock::now(), self.arrived.lock().unwrap());
        for number in numbers(text) {
            let (times, last) = arrived.entry(number).or_insert((0, now));
            *times += 1;
            let before = std::mem::replace(last, now);
            if *times > 1 {
                let causes = self.causes.lock().unwrap();
                let cause = causes.get(causes.partition_point(|at| *at < before)).copied().unwrap_or(now);
                let mut stalest = self.stalest.lock().unwrap();
                *stalest = stalest.max(cause - before);
            }
        }
    }

    fn cause(&self) {
        self.causes.lock().unwrap().push(clock::now());
    }
}

/// The numbers after each `line `.
pub fn numbers(text: &str) -> impl Iterator<Item = u64> + '_ {
    text.match_indices("line ").filter_map(|(at, _)| text.get(at + 5..at + 15)?.parse().ok())
}

/// What a receiver may lose by dying is bounded by its receive buffer; a small one also fills now and then.
fn small(listener: &TcpListener) {
    rustix::net::sockopt::set_socket_recv_buffer_size(listener, 16 << 10).unwrap();
}

/// Longer than a packet that had passed a socket's filter takes to be in the socket.
const SETTLED: Duration = Duration::from_millis(10);

/// From the next packet on the socket takes nothing: each is dropped unseen, so that nothing is acknowledged any more.
/// What it has stays in it, and can be told to the byte.
fn deafen(socket: &impl AsFd) {
    // A program of one instruction, BPF_RET | BPF_K (socket(7), SO_ATTACH_FILTER): of each packet, keep 0 bytes.
    let keep_nothing = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(socket).attach_filter(&[keep_nothing]).unwrap();
    thread::sleep(SETTLED);
}

/// Accepts; now and then nobody listens for a while.
fn listen(listener: TcpListener, port: u16, guest: &Guest, seed: u64, serve: fn(TcpStream, &Guest, Rng)) {
    let mut rng = Rng::seeded(seed);
    let mut listener = Some(listener);
    let mut connections = Vec::new();
    let begin = |socket: TcpStream, seed| {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let guest = guest.clone();
        thread::spawn(move || serve(socket, &guest, Rng::seeded(seed)))
    };
    while !guest.is_over() {
        if listener.is_some() && !guest.is_calm() && rng.below(400) == 0 {
            // Who is already connected, and has had bytes acknowledged, is served: or they are gone unseen.
            let closing = listener.take().unwrap();
            deafen(&closing);
            while let Ok((socket, _)) = closing.accept() {
                // It may have been made when the filter was there, and inherited it.
                SockRef::from(&socket).detach_filter().ok();
                connections.push(begin(socket, rng.next_u64()));
            }
            drop(closing);
            guest.note("nobody listens".to_owned());
            thread::sleep(Duration::from_millis(rng.below(200)));
        }
        if listener.is_none() {
            listener = TcpListener::bind(("127.0.0.1", port)).ok();
            if let Some(listener) = &listener {
                small(listener);
                listener.set_nonblocking(true).unwrap();
            }
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((socket, _))) => {
                connections.push(begin(socket, rng.next_u64()));
            }
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
    connections.into_iter().for_each(|c| drop(c.join()));
}

/// Reads, waiting as long as the receiver runs.
struct Patient<'a>(TcpStream, &'a Guest);

impl Read for Patient<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && !self.1.is_over() => {}
                other => return other,
            }
        }
    }
}

fn serve_http(socket: TcpStream, guest: &Guest, mut rng: Rng) {
    let mut answers = socket.try_clone().unwrap();
    let mut requests = BufReader::new(Patient(socket, guest));
    while let Some(body) = request(&mut requests) {
        let fate = if guest.is_calm() { 99 } else { rng.below(30) };
        match fate {
            // Gone without an answer, before or after the lines were taken.
            0 => return guest.cause(),
            1 => {
                guest.take(&body);
                return guest.cause();
            }
            2 => thread::sleep(Duration::from_millis(rng.below(300))),
            3..7 => {
                let code = [
                    "503 Service Unavailable",
                    "429 Too Many Requests",
                    "500 Internal Server Error",
                    "502 Bad Gateway",
                ];
                let code = code[fate as usize - 3];
                if write!(answers, "HTTP/1.1 {code}\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\nno")
                    .is_err()
                {
                    return;
                }
                continue;
            }
            _ => {}
        }
        guest.take(&body);
        if answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

/// The body of the next request, whole; `None` when the client has gone.
fn request(from: &mut impl BufRead) -> Option<String> {
    let (mut length, mut chunked) = (0, false);
    let mut line = String::new();
    loop {
        line.clear();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let header = line.trim_end().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= header == "transfer-encoding: chunked";
        if header.is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            line.clear();
            from.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let start = body.len();
            body.resize(start + size + 2, 0);
            from.read_exact(&mut body[start..]).ok()?;
            body.truncate(start + size);
            if size == 0 {
                break;
            }
        }
    } else {
        body.resize(length, 0);
        from.read_exact(&mut body).ok()?;
    }
    String::from_utf8(body).ok()
}

fn serve_tcp(socket: TcpStream, guest: &Guest, mut rng: Rng) {
    let ends = socket.try_clone().unwrap();
    let mut lines = BufReader::new(Patient(socket, guest));
    let peer = ends.peer_addr().map_or(0, |peer| peer.port());
    let (mut line, mut first, mut last) = (Vec::new(), None, None);
    guest.note(format!("{peer} begins"));
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(n) if n > 0 && line.ends_with(b"\n") => {}
            end => {
                let rest = String::from_utf8_lossy(&line);
                return guest
                    .note(format!("{peer} ends after {first:?} to {last:?} with {end:?} and {rest:?}"));
            }
        }
        let text = String::from_utf8_lossy(&line);
        guest.take(&text);
        if numbers(&text).next() != last.map(|n| n + 1) {
            guest.note(format!("{peer} had {first:?} to {last:?}"));
            first = numbers(&text).next();
        }
        last = numbers(&text).last().or(last);
        match if guest.is_calm() { 99_999 } else { rng.below(8_000) } {
            // It stops writing, and reads until the sender has noticed.
            0 | 1 => {
                guest.note(format!("{peer} writes no more, at {last:?}"));
                guest.cause();
                ends.shutdown(std::net::Shutdown::Write).unwrap_or(());
            }
            // It dies: what its kernel has and it has not read is gone.
            2 => return die(lines, &ends, guest, last),
            3..6 => thread::sleep(Duration::from_millis(rng.below(50))),
            _ => {}
        }
    }
}

/// Closes without having read everything, as the system does for a process that was killed, and notes the lines that
/// nobody will read: those that are in its socket to their last byte, and could have been acknowledged.
fn die(lines: BufReader<Patient>, socket: &TcpStream, guest: &Guest, last: Option<u64>) {
    guest.cause();
    deafen(socket);
    let mut unread = lines.buffer().to_vec();
    let from = unread.len();
    let waiting = rustix::io::ioctl_fionread(socket).unwrap() as usize;
    unread.resize(from + waiting, 0);
    // Peeked at and not read: an end with unread bytes is a reset (RFC 9293, 3.6.1).
    let seen = if waiting > 0 { socket.peek(&mut unread[from..]).unwrap() } else { 0 };
    assert_eq!(seen, waiting, "a deaf socket holds what it held");
    let complete = unread.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(&unread[..complete]);
    guest.note(format!(
        "one dies, had taken {last:?}, {from} + {waiting} bytes unread: {:?} to {:?}",
        numbers(&text).next(),
        numbers(&text).last()
    ));
    guest.deaths.fetch_add(1, Ordering::Relaxed);
    guest.held.lock().unwrap().extend(numbers(&text));
}
