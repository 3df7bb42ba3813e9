//! The client sinks against receivers that break the rules, over real sockets and with the real program: all rows
//! arrive, the end keeps its deadline in every state, and what a receiver did not take does not count as delivered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use logweir::base::clock;
use rustix::net::sockopt;

use support::eventually;
use support::weir::{Place, Weir};

const ROWS: usize = 60;

/// A receiver on threads that end with the test program.
#[derive(Clone)]
struct Receiver {
    port: u16,
    /// How often each line was taken and answered for.
    taken: Arc<Mutex<HashMap<String, u32>>>,
    /// Requests, or connections over plain TCP.
    asked: Arc<AtomicUsize>,
    /// It behaves from now on.
    calm: Arc<AtomicBool>,
}

/// What it does with the request of that number; `false` ends the connection.
type Manners = fn(&mut Guest, usize) -> bool;

impl Receiver {
    fn listening(
        serve: impl Fn(TcpStream, &Receiver) + Clone + Send + 'static,
        receive_bytes: usize,
    ) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if receive_bytes > 0 {
            sockopt::set_socket_recv_buffer_size(&listener, receive_bytes).unwrap();
        }
        let port = listener.local_addr().unwrap().port();
        let (taken, asked, calm) = (Arc::default(), Arc::default(), Arc::default());
        let receiver = Receiver { port, taken, asked, calm };
        let own = receiver.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serve, own) = (serve.clone(), own.clone());
                thread::spawn(move || serve(stream, &own));
            }
        });
        receiver
    }

    /// One that reads requests.
    fn http(manners: Manners) -> Receiver {
        Receiver::listening(
            move |stream, receiver| {
                let mut guest = Guest {
                    requests: BufReader::new(stream.try_clone().unwrap()),
                    stream,
                    receiver: receiver.clone(),
                    length: 0,
                };
                while guest.head().is_some() {
                    let number = receiver.asked.fetch_add(1, SeqCst);
                    if receiver.calm.load(SeqCst) {
                        guest.take();
                    } else if !manners(&mut guest, number) {
                        return;
                    }
                }
            },
            0,
        )
    }

    /// One that reads lines. While it is not calm it does something else first, after which it may end.
    fn lines(first: fn(&TcpStream, &Receiver) -> bool, receive_bytes: usize) -> Receiver {
        Receiver::listening(
            move |stream, receiver| {
                receiver.asked.fetch_add(1, SeqCst);
                if !receiver.calm.load(SeqCst) && !first(&stream, receiver) {
                    return;
                }
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    *receiver.taken.lock().unwrap().entry(line).or_default() += 1;
                }
            },
            receive_bytes,
        )
    }

    fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

/// A connection that requests come on.
struct Guest {
    requests: BufReader<TcpStream>,
    stream: TcpStream,
    receiver: Receiver,
    /// Of the body that was announced last.
    length: usize,
}

impl Guest {
    fn head(&mut self) -> Option<()> {
        let mut line = String::new();
        self.length = 0;
        while self.requests.read_line(&mut line).ok()? > 0 {
            if line.trim().is_empty() {
                return Some(());
            }
            if let Some(length) = line.to_lowercase().strip_prefix("content-length: ") {
                self.length = length.trim().parse().unwrap();
            }
            line.clear();
        }
        None
    }

    fn body(&mut self) -> Vec<String> {
        let mut body = vec![0; self.length];
        if self.requests.read_exact(&mut body).is_err() {
            return Vec::new();
        }
        String::from_utf8(body).unwrap().lines().map(str::to_owned).collect()
    }

    fn say(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(text.as_ref()).is_ok()
    }

    fn store(&mut self) {
        for line in self.body() {
            *self.receiver.taken.lock().unwrap().entry(line).or_default() += 1;
        }
    }

    fn take(&mut self) -> bool {
        self.store();
        self.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    }

    /// Reads the request and answers it without taking its rows.
    fn refuse(&mut self, answer: &str) -> bool {
        self.body();
        self.say(format!("HTTP/1.1 {answer}\r\n\r\n"))
    }

    /// An answer that is no whole one, after which the connection ends.
    fn botch(&mut self, answer: impl AsRef<[u8]>) -> bool {
        self.body();
        self.say(answer);
        false
    }

    fn reset(&mut self) -> bool {
        reset(&self.stream);
        false
    }
}

/// The end of this socket is a reset.
fn reset(stream: &TcpStream) {
    sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
}

fn wait(millis: u64) -> bool {
    thread::sleep(Duration::from_millis(millis));
    false
}

/// Each breaks the rules a few times, then keeps them.
const MANNERS: &[(&str, Manners)] = &[
    ("resets", |g, n| if n < 3 { g.reset() } else { g.take() }),
    ("hangs", |g, n| if n < 2 { wait(3000) } else { g.take() }),
    ("500", |g, n| if n < 3 { g.refuse("500 No\r\ncontent-length: 0") } else { g.take() }),
    ("429", |g, n| if n < 2 { g.refuse("429 No\r\nretry-after: 1\r\ncontent-length: 0") } else { g.take() }),
    ("429 of old", |g, n| match n {
        0 | 1 => g.refuse("429 No\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0"),
        2 | 3 => g.refuse("503 No\r\nretry-after: Thu, 31 Dec 9998 23:59:59 GMT\r\ncontent-length: 0"),
        _ => g.take(),
    }),
    ("413", |g, _| if g.length > 50 { g.refuse("413 No\r\ncontent-length: 0") } else { g.take() }),
    // It has an answer before it has read the request, and leaves the rest of that unread.
    ("413 early", |g, _| {
        if g.length <= 50 {
            return g.take();
        }
        g.say("HTTP/1.1 413 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        g.stream.shutdown(Shutdown::Write).unwrap();
        wait(20)
    }),
    ("closes in the body", |g, n| {
        if n >= 3 {
            return g.take();
        }
        g.requests.read_exact(&mut [0; 5]).unwrap();
        false
    }),
    ("half-closes", |g, n| {
        if n >= 3 {
            return g.take();
        }
        g.body();
        g.stream.shutdown(Shutdown::Write).unwrap();
        wait(50)
    }),
    ("a byte a second", |g, n| {
        if n >= 2 {
            return g.take();
        }
        g.body();
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789".iter().all(|b| {
            thread::sleep(Duration::from_millis(200));
            g.say([*b])
        });
        false
    }),
    ("1 GiB", |g, _| {
        g.store();
        g.say("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n");
        let mut sent = 0;
        while sent < 1 << 30 && g.say([b'x'; 65536]) {
            sent += 65536;
        }
        assert!(sent < 64 << 20, "it read {sent} bytes of an answer");
        false
    }),
    ("100 and 103", |g, _| {
        g.say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
        g.take()
    }),
    ("101", |g, n| {
        if n < 2 {
            g.refuse("101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x")
        } else {
            g.take()
        }
    }),
    ("204", |g, _| {
        g.store();
        g.say("HTTP/1.1 204 Thanks\r\n\r\n")
    }),
    ("302", |g, n| if n < 3 { g.refuse("302 There\r\nlocation: /x\r\ncontent-length: 0") } else { g.take() }),
    ("HTTP/1.0", |g, _| {
        g.store();
        g.say("HTTP/1.0 200 OK\r\n\r\nthanks, until the end");
        false
    }),
    ("bad chunks", |g, n| match n {
        0 => g.botch("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello"),
        1 => g.botch("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello"),
        2 => g.botch("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe"),
        3 => g.botch("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        4 => g.botch("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello"),
        5 => g.botch("\x16\x03\x01\x02 no HTTP at all\r\n\r\n"),
        6 => g.botch(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20))),
        _ => g.take(),
    }),
    // What belongs to no request: the answer to the next one is not this.
    ("answers twice", |g, _| {
        g.store();
        g.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n")
    }),
    // The next request meets a connection that is just being closed.
    ("closes when used again", |g, n| n % 2 == 0 && g.take()),
    ("resets when used again", |g, n| if n % 2 == 0 { g.take() } else { g.reset() }),
];

fn config(place: &Place, sinks: &[(String, String)], timeout: &str) -> String {
    let mut text = format!("shutdown_timeout = \"{timeout}\"\n");
    for (i, (_, sink)) in sinks.iter().enumerate() {
        let rows: String = (0..ROWS).map(|row| format!("row {row:03} of {i}\n")).collect();
        if place.read(&format!("{i}.log")).is_empty() {
            place.write(&format!("{i}.log"), rows);
        }
        writeln!(
            text,
            "[[pipelines]]\nname = \"p{i}\"\nsources = [{{ type = \"file\", path = \"DIR/{i}.log\" }}]\n\
             [[pipelines.sinks]]\nformat = {{ type = \"raw\" }}\n\
             retry = {{ initial_delay = \"5ms\", max_delay = \"300ms\" }}\n{sink}"
        )
        .unwrap();
    }
    text
}

fn http_sink(port: u16, more: &str) -> String {
    format!(
        "type = \"http_client\"\nurl = \"http://127.0.0.1:{port}/\"\ntimeout = \"1s\"\n\
         batch = {{ max_events = 10, max_wait = \"10ms\" }}\n{more}"
    )
}

fn tcp_sink(port: u16, more: &str) -> String {
    format!("type = \"tcp_client\"\naddress = \"127.0.0.1:{port}\"\nwrite_timeout = \"1s\"\n{more}")
}

fn kind(sink: &str) -> &str {
    if sink.contains("tcp_client") { "tcp_client" } else { "http_client" }
}

/// Waits until all rows of all sinks are delivered, and checks their accounts.
fn all_delivered(weir: &Weir, sinks: &[(String, String)], receivers: &[Receiver]) {
    for (i, (name, sink)) in sinks.iter().enumerate() {
        let id = format!("p{i}.sink.0.{}", kind(sink));
        eventually(&format!("{name}: all rows arrive: {}", weir.component(&format!("p{i}"), &id)), || {
            (receivers[i].count() == ROWS && weir.component(&format!("p{i}"), &id)["queued"] == 0)
                .then_some(())
        });
        let counts = weir.component(&format!("p{i}"), &id);
        assert_eq!(counts["delivered"], counts["received"], "{name}: {counts}");
        assert_eq!(counts["dropped"].as_object().map_or(0, serde_json::Map::len), 0, "{name}: {counts}");
    }
}

#[test]
fn rows_arrive_whatever_the_receiver_does_with_the_first() {
    let place = Place::new();
    let receivers: Vec<Receiver> = MANNERS.iter().map(|(_, manners)| Receiver::http(*manners)).collect();
    let sinks: Vec<(String, String)> = MANNERS
        .iter()
        .zip(&receivers)
        .map(|((name, _), r)| ((*name).to_owned(), http_sink(r.port, "concurrency = 2")))
        .collect();
    let weir = place.started(&config(&place, &sinks, "10s"));
    all_delivered(&weir, &sinks, &receivers);
    let repeats = |name| {
        let at = MANNERS.iter().position(|(n, _)| *n == name).unwrap();
        receivers[at].taken.lock().unwrap().values().filter(|n| **n > 1).count()
    };
    // Who took rows and said so, or did not take them, gets none of them again.
    for name in [
        "resets",
        "500",
        "429",
        "413",
        "1 GiB",
        "204",
        "302",
        "HTTP/1.0",
        "100 and 103",
        "closes when used again",
    ] {
        assert_eq!(repeats(name), 0, "{name}");
    }
    weir.stop();
}

/// Receivers that let nothing through until they are calm.
fn dead_ends() -> (Vec<(String, String)>, Vec<Receiver>) {
    let mut all: Vec<(String, String, Receiver)> = Vec::new();
    let mut add = |name: &str, receiver: Receiver, sink: &dyn Fn(u16) -> String| {
        all.push((name.to_owned(), sink(receiver.port), receiver));
    };
    let ways: [(&str, Manners); 8] = [
        ("hangs", |_, _| wait(3_600_000)),
        ("resets", |g, _| g.reset()),
        ("500", |g, _| g.refuse("500 No\r\ncontent-length: 0")),
        ("429", |g, _| g.refuse("429 No\r\nretry-after: 3600\r\ncontent-length: 0")),
        ("302", |g, _| g.refuse("302 There\r\ncontent-length: 0")),
        ("drips", |g, _| {
            g.body();
            while g.say("H") {
                wait(100);
            }
            false
        }),
        ("half an answer", |g, _| g.botch("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12")),
        ("1xx without end", |g, _| {
            g.body();
            while g.say("HTTP/1.1 103 Early Hints\r\n\r\n") {
                wait(10);
            }
            false
        }),
    ];
    for (name, manners) in ways {
        let patient = |sink: String| sink.replace("timeout = \"1s\"", "timeout = \"30s\"");
        add(name, Receiver::http(manners), &|port| patient(http_sink(port, "")));
        add(name, Receiver::http(manners), &|port| patient(http_sink(port, "concurrency = 1")));
    }
    let resets = |stream: &TcpStream, _: &Receiver| {
        reset(stream);
        false
    };
    add("tcp resets", Receiver::lines(resets, 0), &|port| tcp_sink(port, ""));
    add("tcp closes", Receiver::lines(|_, _| false, 0), &|port| tcp_sink(port, ""));
    let silent = |_: &TcpStream, _: &Receiver| wait(3_600_000);
    add("a silent proxy", Receiver::lines(silent, 0), &|port| {
        http_sink(9, &format!("proxy = \"http://127.0.0.1:{port}\""))
    });
    add("a silent proxy, tcp", Receiver::lines(silent, 0), &|port| {
        tcp_sink(9, &format!("proxy = \"http://127.0.0.1:{port}\""))
    });
    add("no TLS there", Receiver::lines(silent, 0), &|port| {
        http_sink(port, "").replace("http://127", "https://127")
    });
    all.into_iter().map(|(name, sink, receiver)| ((name, sink), receiver)).unzip()
}

/// Ends weir while nothing gets through: how long that took in seconds, and the exit code.
fn end_in_trouble(weir: &mut Weir, receivers: &[Receiver]) -> (f64, i32) {
    for (i, receiver) in receivers.iter().enumerate() {
        eventually(&format!("{i} is asked"), || (receiver.asked.load(SeqCst) > 0).then_some(()));
    }
    let begun = clock::now();
    weir.signal("TERM");
    let code = weir.wait();
    (begun.elapsed().as_secs_f64(), code)
}

#[test]
fn the_end_keeps_its_deadline_and_the_next_start_delivers() {
    for buffer in ["memory", "disk"] {
        let place = Place::new();
        let (mut sinks, receivers) = dead_ends();
        sinks.iter_mut().for_each(|(_, sink)| *sink += &format!("\nbuffer = {{ type = \"{buffer}\" }}"));
        let config = config(&place, &sinks, "1500ms");
        let mut weir = place.start(&config);
        let (seconds, code) = end_in_trouble(&mut weir, &receivers);
        assert!(seconds < 4.0, "{buffer}: it took {seconds} s: {}", weir.errors());
        // What is on disk is no loss; what was in memory is counted, and comes again from the files.
        assert_eq!(code, if buffer == "disk" { 0 } else { 74 }, "{buffer}: {}", weir.errors());
        // What lay in a socket that is reset is gone (docs/DELIVERY.md); behind a proxy or TLS nobody ever answers.
        let reachable = sinks.iter().take_while(|(name, _)| !name.contains("tcp")).count();
        receivers.iter().for_each(|receiver| receiver.calm.store(true, SeqCst));
        let mut weir = place.start(&config);
        weir.wait_listening("/healthz", 200);
        all_delivered(&weir, &sinks[..reachable], &receivers[..reachable]);
    }
}

#[test]
fn refused_rows_wait_for_a_full_dead_letter_pipeline_and_the_end_does_not() {
    let place = Place::new();
    let picky = Receiver::http(|g, _| g.refuse("400 No\r\ncontent-length: 0"));
    let silent = Receiver::http(|_, _| wait(3_600_000));
    let sinks = [("picky".to_owned(), http_sink(picky.port, "dead_letter = \"refused\""))];
    let text = config(&place, &sinks, "1500ms")
        + &format!(
            "[[pipelines]]\nname = \"refused\"\nsources = [{{ type = \"pipeline\" }}]\n[[pipelines.sinks]]\n{}\n\
             format = {{ type = \"raw\" }}\nbuffer = {{ max_events = 10, when_full = \"block\" }}",
            http_sink(silent.port, "concurrency = 1")
        );
    let mut weir = place.started(&text);
    eventually("the dead-letter buffer is full", || {
        (weir.component("refused", "refused.sink.0.http_client")["queued"].as_u64() > Some(10)).then_some(())
    });
    let (seconds, code) = end_in_trouble(&mut weir, &[picky, silent.clone()]);
    assert!(seconds < 4.0 && code == 74, "{seconds} s, {code}: {}", weir.errors());
    silent.calm.store(true, SeqCst);
    let weir = place.started(&text);
    eventually("every refused row is kept", || (silent.count() == ROWS).then_some(()));
    let counts = weir.component("p0", "p0.sink.0.http_client");
    assert_eq!(counts["dropped"]["rejected"], ROWS, "{counts}");
    weir.stop();
}

#[test]
fn what_a_receiver_does_not_read_is_not_delivered_and_memory_stays_flat() {
    let place = Place::new();
    let lines = 60_000;
    let receiver = Receiver::lines(
        |_, receiver| {
            while !receiver.calm.load(SeqCst) {
                wait(10);
            }
            true
        },
        4096,
    );
    let text: String = (0..lines).map(|n| format!("{n:06}{}\n", "x".repeat(1000))).collect();
    place.write("0.log", text);
    let sinks = [("deaf".to_owned(), tcp_sink(receiver.port, "").replace("write_timeout = \"1s\"", ""))];
    let mut weir = place.started(&config(&place, &sinks, "10s"));
    let delivered = |weir: &Weir| weir.component("p0", "p0.sink.0.tcp_client")["delivered"].as_u64().unwrap();
    eventually("the buffer is full", || {
        (weir.component("p0", "p0.sink.0.tcp_client")["queued"].as_u64() > Some(10_000)).then_some(())
    });
    thread::sleep(Duration::from_millis(500));
    // The receive buffer is 8 KiB; the system may have acknowledged a little more than that.
    let before = delivered(&weir);
    assert!(before < 200, "{before} rows of 1000 bytes count as delivered, and nobody has read any");
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.child().id())).unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap();
    assert!(resident < 80 << 10, "{resident} KiB while the receiver reads nothing");
    receiver.calm.store(true, SeqCst);
    eventually("all rows arrive", || (receiver.count() == lines).then_some(()));
    assert!(receiver.taken.lock().unwrap().values().all(|n| *n == 1), "none twice");
    weir.stop();
}

#[test]
fn a_reload_takes_the_rows_of_a_dead_receiver_to_a_living_one() {
    let place = Place::new();
    let silent = || Receiver::lines(|_, _| wait(3_600_000), 4096);
    let (dead, alive) =
        ([silent(), silent()], [Receiver::http(|g, _| g.take()), Receiver::lines(|_, _| true, 0)]);
    let sinks = |to: &[Receiver; 2]| {
        let http = http_sink(to[0].port, "").replace("\"1s\"", "\"1h\"");
        let tcp = tcp_sink(to[1].port, "").replace("\"1s\"", "\"1h\"");
        [("http".to_owned(), http), ("tcp".to_owned(), tcp)]
    };
    // More than any socket takes unread.
    for i in 0..2 {
        let rows: String = (0..3000).map(|row| format!("{row:04}{}\n", "x".repeat(2000))).collect();
        place.write(&format!("{i}.log"), rows);
    }
    let weir = place.started(&config(&place, &sinks(&dead), "1500ms"));
    eventually("both are stuck", || dead.iter().all(|r| r.asked.load(SeqCst) > 0).then_some(()));
    thread::sleep(Duration::from_millis(500));
    let port = weir.authority();
    let text = format!(
        "state_dir = \"DIR/state\"\nserver.listen = \"{port}\"\n{}",
        config(&place, &sinks(&alive), "1500ms")
    );
    place.write("pipelines.toml", text.replace("DIR", place.dir().to_str().unwrap()));
    weir.signal("HUP");
    let begun = clock::now();
    eventually("the living one has the rest", || {
        (alive[0].count() == 3000
            && alive[1].taken.lock().unwrap().contains_key(&format!("2999{}", "x".repeat(2000))))
        .then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let first = alive[1].taken.lock().unwrap().keys().min().map(|row| row[..4].parse::<u64>().unwrap());
    assert!(first < Some(200), "only what the dead one's system had acknowledged stays away: {first:?}");
    weir.stop();
}

#[test]
fn a_receiver_that_says_nothing_more_and_listens_gets_everything() {
    let place = Place::new();
    let mute = Receiver::lines(|stream, _| stream.shutdown(Shutdown::Write).is_ok(), 0);
    let sinks = [("mute".to_owned(), tcp_sink(mute.port, ""))];
    let weir = place.started(&config(&place, &sinks, "10s"));
    all_delivered(&weir, &sinks, std::slice::from_ref(&mute));
    let connections = mute.asked.load(SeqCst);
    assert!(connections <= 10, "{connections} connections");
    weir.stop();
}
