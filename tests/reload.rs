//! Reloads of a running weir, from outside: nothing is lost, nobody is disconnected, and what cannot run changes
//! nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are what it states")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use logweir::base::clock;
use serde_json::Value;
use support::weir::{Place, Weir};
use support::{PATIENCE, eventually, http};

/// Ends the threads of a test that fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Asks for a reload; the code and the report, or the problem that holds it.
fn reload(weir: &Weir) -> (u16, Value) {
    let authority = weir.authority();
    let mut socket = TcpStream::connect(&authority).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        socket,
        "POST /api/reload HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {text}")))
}

/// A subscriber that reads without blocking, and what it saw.
struct Subscriber {
    socket: TcpStream,
    text: Vec<u8>,
    last_id: u64,
    lines: u64,
    greeted: bool,
}

impl Subscriber {
    fn connect(authority: &str, path: &str) -> Subscriber {
        let mut socket = TcpStream::connect(authority).unwrap();
        write!(socket, "GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: text/event-stream\r\n\r\n")
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        Subscriber { socket, text: Vec::new(), last_id: 0, lines: 0, greeted: false }
    }

    /// Reads what is there. Ids go up by one, lines too, and the stream does not end.
    fn read(&mut self, number: usize) {
        let mut bytes = [0; 64 << 10];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => panic!("subscriber {number} was disconnected after line {}", self.lines),
                Ok(n) => self.text.extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("subscriber {number}: {e}"),
            }
        }
        let mut from = 0;
        while let Some(end) = self.text[from..].iter().position(|b| *b == b'\n') {
            let line = String::from_utf8(self.text[from..from + end].to_vec()).unwrap();
            from += end + 1;
            self.line(number, line.trim_end());
        }
        self.text.drain(..from);
    }

    fn line(&mut self, number: usize, line: &str) {
        if let Some(kind) = line.strip_prefix("event: ") {
            assert_eq!(kind, "hello", "subscriber {number} heard of `{kind}` after line {}", self.lines);
            self.greeted = true;
        } else if let Some(id) = line.strip_prefix("id: ") {
            let id = http::seq(id);
            assert!(
                self.last_id == 0 || id == self.last_id + 1,
                "subscriber {number}: {id} after {}",
                self.last_id
            );
            self.last_id = id;
        } else if let Some(data) = line.strip_prefix("data: ").filter(|_| self.last_id > 0) {
            let data: Value = serde_json::from_str(data).unwrap();
            let said = data["message"].as_str().unwrap();
            assert_eq!(said, format!("line {}", self.lines), "subscriber {number}");
            self.lines += 1;
        }
    }
}

/// The configuration of a round: something else changes in each.
fn config(round: usize) -> String {
    let filter = match round % 3 {
        0 => String::new(),
        n => format!("[[pipelines.filters]]\ntype = \"exclude\"\npatterns = [\"never {n}\"]\n"),
    };
    let poll = if round % 4 == 1 { "poll_interval = \"200ms\"\n" } else { "" };
    let before = match round % 5 {
        2 => "[[pipelines.sources]]\ntype = \"file\"\npath = \"DIR/other.log\"\n",
        _ => "",
    };
    let heartbeat = if round % 6 == 3 { "heartbeat = { interval = \"20s\" }\n" } else { "" };
    let sink = match round % 7 {
        4 => "[[pipelines.sinks]]\ntype = \"null\"\n",
        _ => "",
    };
    // Near the end, when it keeps its place.
    let buffer = if round >= 97 { DISK } else { "" };
    let more = match round % 2 {
        1 => {
            "[[pipelines]]\nname = \"more\"\n[[pipelines.sources]]\ntype = \"generate\"\nevents_per_second = 100.0\n[[pipelines.sinks]]\ntype = \"http\"\n"
        }
        _ => "",
    };
    format!(
        "[[pipelines]]\nname = \"app\"\n{before}[[pipelines.sources]]\ntype = \"file\"\npath = \"DIR/app.log\"\n{poll}{filter}{sink}[[pipelines.sinks]]\ntype = \"http\"\n{heartbeat}{buffer}{more}"
    )
}

/// Replaces the configuration, whole, as an editor does.
fn write_config(place: &Place, weir: &Weir, config: &str) {
    let port = weir.authority().rsplit_once(':').unwrap().1.to_owned();
    let server = format!("state_dir = \"DIR/state\"\nserver.listen = \"127.0.0.1:{port}\"\n");
    let text = format!("{server}{config}").replace("DIR", place.dir().to_str().unwrap());
    place.write("pipelines.new", text);
    std::fs::rename(place.path("pipelines.new"), place.path("pipelines.toml")).unwrap();
}

#[test]
fn a_hundred_reloads_under_load_cost_no_line_and_no_subscriber() {
    const SUBSCRIBERS: usize = 100;
    const RELOADS: usize = 100;
    let place = Place::new().with("app.log", "").with("other.log", "");
    let weir = place.started(&config(0));
    let mut subscribers: Vec<Subscriber> =
        (0..SUBSCRIBERS).map(|_| Subscriber::connect(&weir.authority(), "/app/stream")).collect();
    eventually("all are greeted", || {
        subscribers.iter_mut().enumerate().for_each(|(i, s)| s.read(i));
        subscribers.iter().all(|s| s.greeted).then_some(())
    });
    let (writing, written) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (reloaded, began) = (Arc::new(AtomicBool::new(false)), clock::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while writing.load(Ordering::Relaxed) {
                let from = written.load(Ordering::Relaxed);
                let lines: String = (from..from + 20).map(|n| format!("line {n}\n")).collect();
                place.append("app.log", lines);
                written.store(from + 20, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        scope.spawn(|| {
            for round in 1..=RELOADS {
                if !writing.load(Ordering::Relaxed) {
                    return;
                }
                write_config(&place, &weir, &config(round));
                let (code, report) = reload(&weir);
                assert_eq!(code, 200, "round {round}: {report}");
                assert_eq!(report["outcome"], "applied", "round {round}: {report}");
                // Rows of each round pass before the next.
                let before = written.load(Ordering::Relaxed);
                eventually("rows come", || (written.load(Ordering::Relaxed) > before + 20).then_some(()));
            }
            reloaded.store(true, Ordering::Relaxed);
        });
        let end = clock::now() + PATIENCE * 4;
        let ends = Ends(&writing);
        loop {
            subscribers.iter_mut().enumerate().for_each(|(i, s)| s.read(i));
            if reloaded.load(Ordering::Relaxed) {
                writing.store(false, Ordering::Relaxed);
                let all = written.load(Ordering::Relaxed);
                if subscribers.iter().all(|s| s.lines >= all) && all > 0 {
                    break;
                }
            }
            if clock::now() > end {
                let least = subscribers.iter().map(|s| s.lines).min();
                panic!("{least:?} of {} lines came", written.load(Ordering::Relaxed));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(ends);
    });
    let lines = written.load(Ordering::Relaxed);
    assert!(lines > 1000, "there was load");
    assert!(subscribers.iter().all(|s| s.lines == lines), "each line once for each subscriber");
    println!(
        "{RELOADS} reloads of changed configurations, {SUBSCRIBERS} subscribers, {lines} lines to each: none lost or \
        repeated, no id skipped, nobody disconnected; in {:.1?}",
        clock::now() - began
    );
    let (_, status) = http::get(&weir.authority(), "/status").unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let names: Vec<&str> =
        status["pipelines"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["app"], "round 100 has no `more`");
    assert!(
        weir.component("app", "app.sink.0.http")["buffer"]["events"].is_u64(),
        "its buffer is on disk by now"
    );
}

const ONE: &str = "[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"file\"\npath = \"DIR/app.log\"\n[[pipelines.sinks]]\ntype = \"http\"\n";

#[test]
fn a_broken_or_unstartable_configuration_changes_nothing_and_says_why() {
    let place = Place::new().with("app.log", "one\n");
    let weir = place.started(ONE);
    write_config(&place, &weir, &format!("{ONE}[[pipelines.sinks]]\ntype = \"tpc\"\n"));
    let (code, problem) = reload(&weir);
    assert_eq!((code, &problem["report"]["outcome"]), (422, &Value::from("refused")));
    let said = problem["report"]["errors"][0].as_str().unwrap();
    assert!(said.contains("pipelines.toml:") && said.contains("tpc"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    write_config(
        &place,
        &weir,
        &format!("{ONE}[[pipelines.sinks]]\ntype = \"tcp\"\nlisten = \"{address}\"\n"),
    );
    let (code, problem) = reload(&weir);
    assert_eq!((code, &problem["report"]["outcome"]), (409, &Value::from("rolled_back")));
    assert!(problem["detail"].as_str().unwrap().contains(&address.to_string()), "{problem}");
    let components = weir.status("app")["components"].as_array().unwrap().len();
    assert_eq!(components, 2);
    place.append("app.log", "two\n");
    eventually("it goes on", || (weir.component("app", "app.sink.0.http")["delivered"] == 2).then_some(()));
    drop(taken);
    assert_eq!(reload(&weir).0, 200);
    assert!(TcpStream::connect(address).is_ok());
    weir.stop();
}

#[test]
fn clients_of_a_listener_of_its_own_stay_while_its_sink_changes() {
    let place = Place::new().with("app.log", "");
    let port = support::free_port();
    let config = |history: u32| {
        format!(
            "[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"file\"\npath = \"DIR/app.log\"\n[[pipelines.sinks]]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{port}\"\nhistory = {{ max_events = {history} }}\nformat = {{ type = \"raw\" }}\n"
        )
    };
    let weir = place.started(&config(10));
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    eventually("it is seated", || (weir.component("app", "app.sink.0.tcp")["clients"] == 1).then_some(()));
    let mut expected = String::new();
    for round in 0..20 {
        place.append("app.log", format!("line {round}\n"));
        expected += &format!("line {round}\n");
        write_config(&place, &weir, &config(11 + round));
        let (code, report) = reload(&weir);
        assert_eq!(code, 200, "{report}");
    }
    let mut seen = vec![0; expected.len()];
    client.read_exact(&mut seen).unwrap();
    assert_eq!(String::from_utf8(seen).unwrap(), expected);
    let mut newcomer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    newcomer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut first = [0; 7];
    newcomer.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"line 0\n", "the history is handed over");
    weir.stop();
}

#[test]
fn changed_files_and_a_signal_reload_and_the_report_names_what_needs_a_restart() {
    let place = Place::new().with("app.log", "");
    let weir = place.started(&format!("config_auto_reload = true\n{ONE}"));
    // `write_config` puts the server first, so that what follows it must be tables.
    let with = |more: &str| format!("config_auto_reload = true\n{more}{ONE}");
    write_config(&place, &weir, &with("logging.level = \"debug\"\n"));
    eventually("the changed file is read", || {
        weir.errors().contains("these options change at the next start only: logging.level").then_some(())
    });
    write_config(&place, &weir, &format!("{ONE}[[pipelines.sinks]]\ntype = \"null\"\n"));
    eventually("the second sink is there", || {
        (weir.status("app")["components"].as_array().unwrap().len() == 3).then_some(())
    });
    write_config(&place, &weir, ONE);
    weir.signal("HUP");
    eventually("the second sink is gone", || {
        (weir.status("app")["components"].as_array().unwrap().len() == 2).then_some(())
    });
    weir.stop();
}

#[test]
fn the_same_name_becomes_another_kind_and_no_line_is_lost() {
    let place = Place::new().with("app.log", "");
    // Nobody listens there, so lines wait.
    let dead = support::free_port();
    let (source, filters) = ("[[pipelines]]\nname = \"app\"\n", "[[pipelines.filters]]\ntype = ");
    let file = "[[pipelines.sources]]\ntype = \"file\"\npath = \"DIR/app.log\"\n";
    let directory = "[[pipelines.sources]]\ntype = \"directory\"\npath = \"DIR\"\npattern = \"app.log\"\n";
    let client = format!("[[pipelines.sinks]]\ntype = \"tcp_client\"\naddress = \"127.0.0.1:{dead}\"\n");
    let out = "[[pipelines.sinks]]\ntype = \"file\"\npath = \"DIR/out.log\"\n";
    let include = format!("{filters}\"include\"\npatterns = [\"line\"]\n");
    let exclude = format!("{filters}\"exclude\"\npatterns = [\"never\"]\n");
    let weir = place.start(&format!("{source}{file}{include}{client}"));
    let lines = |range: std::ops::Range<u32>| range.map(|n| format!("line {n}\n")).collect::<String>();
    place.append("app.log", lines(0..500));
    eventually("they wait", || {
        http::get(&weir.authority(), "/healthz")?;
        (weir.component("app", "app.sink.0.tcp_client")["queued"] == 500).then_some(())
    });
    // The source, the filter and the sink of the same places are of other types.
    write_config(&place, &weir, &format!("{source}{directory}{exclude}{out}"));
    let (code, report) = reload(&weir);
    assert_eq!((code, &report["outcome"]), (200, &Value::from("applied")), "{report}");
    place.append("app.log", lines(500..600));
    eventually("all lines", || (place.read("out.log").len() >= lines(0..600).len()).then_some(()));
    assert_eq!(String::from_utf8(place.read("out.log")).unwrap(), lines(0..600));
    weir.stop();
}

const DISK: &str = "buffer = { type = \"disk\" }\n";

#[test]
fn a_disk_buffer_goes_on_behind_a_changed_sink_and_one_nobody_empties_is_kept_and_named() {
    let place = Place::new().with("app.log", "");
    // Nobody listens there.
    let dead = support::free_port();
    let source = "shutdown_timeout = \"1s\"\n[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"file\"\npath = \"DIR/app.log\"\n";
    let file = |name: &str| format!("[[pipelines.sinks]]\ntype = \"file\"\npath = \"DIR/{name}\"\n{DISK}");
    let client =
        format!("[[pipelines.sinks]]\ntype = \"tcp_client\"\naddress = \"127.0.0.1:{dead}\"\n{DISK}");
    let weir = place.start(&format!("{source}{}{client}", file("one.log")));
    // Not ready, as one receiver is away.
    place.append("app.log", "a\nb\n");
    eventually("the first file has them", || (place.read("one.log") == b"a\nb\n").then_some(()));
    write_config(&place, &weir, &format!("{source}{}{client}", file("two.log")));
    let (code, report) = reload(&weir);
    assert_eq!((code, report["needs_restart"].as_array().unwrap().len()), (200, 0), "{report}");
    place.append("app.log", "c\n");
    eventually("the second file has what came later", || (place.read("two.log") == b"c\n").then_some(()));
    assert_eq!(place.read("one.log"), b"a\nb\n");
    // Its size and what it does when it is full may change while something waits in it.
    let sized = "buffer = { type = \"disk\", max_bytes = \"8MiB\", when_full = \"drop_oldest\", sync_interval = \"5ms\" }\n";
    write_config(&place, &weir, &format!("{source}{}{}", file("two.log"), client.replace(DISK, sized)));
    let (code, report) = reload(&weir);
    assert_eq!((code, report["needs_restart"].as_array().unwrap().len()), (200, 0), "{report}");
    let queued = weir.component("app", "app.sink.1.tcp_client")["queued"].as_u64();
    assert_eq!(queued, Some(3), "what waited waits still");
    // From files back to memory only with a restart.
    let memory = file("two.log").replace(DISK, "");
    write_config(&place, &weir, &format!("{source}{memory}{client}"));
    let (code, report) = reload(&weir);
    assert_eq!(
        (code, &report["needs_restart"][0]),
        (200, &Value::from("app.sink.0.file.buffer")),
        "{report}"
    );
    let why = report["notes"][0].as_str().unwrap();
    assert!(
        why.starts_with("app.sink.0.file: its buffer stays on disk") && why.contains("app/file-0"),
        "{why}"
    );
    // The receiver never came: what waits for it outlives its sink.
    write_config(&place, &weir, &format!("{source}{}", file("two.log")));
    let (code, report) = reload(&weir);
    let notes = report["notes"].to_string();
    assert_eq!(code, 200, "{report}");
    assert!(notes.contains("buffers/app/tcp_client-1") && notes.contains("3 events"), "{report}");
    place.append("app.log", "d\n");
    eventually("the others go on", || (place.read("two.log") == b"c\nd\n").then_some(()));
    weir.stop();
    let weir = place.start(&format!("{source}{}{client}", file("two.log")));
    eventually("they wait again", || {
        http::get(&weir.authority(), "/healthz")?;
        (weir.component("app", "app.sink.1.tcp_client")["queued"].as_u64() >= Some(3)).then_some(())
    });
}

/// The numbers of the lines that come to a listener, until it has heard so many different ones.
fn heard(listener: &std::net::TcpListener, lines: u64) -> BTreeSet<u64> {
    listener.set_nonblocking(true).unwrap();
    let mut seen = BTreeSet::new();
    let mut connection = eventually("it connects", || listener.accept().ok()).0;
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = BufReader::new(&mut connection).lines();
    while (seen.len() as u64) < lines {
        let line = text.next().expect("more lines").unwrap();
        seen.insert(line.strip_prefix("line ").unwrap().parse().unwrap());
    }
    seen
}

#[test]
fn a_buffer_moves_to_disk_under_load_and_what_waited_outlives_kill_nine() {
    let place = Place::new().with("app.log", "");
    let source = "shutdown_timeout = \"1s\"\n[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"file\"\npath = \"DIR/app.log\"\n";
    let client = |port: u16, buffer: &str| {
        format!(
            "{source}[[pipelines.sinks]]\ntype = \"tcp_client\"\naddress = \"127.0.0.1:{port}\"\nformat = {{ type = \"raw\" }}\n{buffer}"
        )
    };
    let sink = |weir: &Weir| weir.component("app", "app.sink.0.tcp_client");
    // Nobody listens there.
    let dead = support::free_port();
    let mut weir = place.start(&client(dead, ""));
    weir.wait_listening("/healthz", 200);
    let (writing, written) = (AtomicBool::new(true), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let ends = Ends(&writing);
        scope.spawn(|| {
            while writing.load(Ordering::Relaxed) {
                let from = written.load(Ordering::Relaxed);
                place.append("app.log", (from..from + 50).map(|n| format!("line {n}\n")).collect::<String>());
                written.store(from + 50, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let queued = |weir: &Weir| sink(weir)["queued"].as_u64();
        let waiting = eventually("lines wait in memory", || queued(&weir).filter(|n| *n > 2_000));
        assert_eq!(sink(&weir)["buffer"]["events"], Value::Null);
        write_config(&place, &weir, &client(dead, DISK));
        weir.signal("HUP");
        eventually("they are on disk", || {
            (sink(&weir)["buffer"]["events"].as_u64() >= Some(waiting + 2_000)).then_some(())
        });
        weir.signal("KILL");
        weir.wait_killed();
        drop(ends);
    });
    let written = written.load(Ordering::Relaxed);
    // Started as it was before, it says what it leaves there.
    let mut weir = place.start(&client(dead, ""));
    eventually("it names them", || weir.errors().contains("which no sink uses any more").then_some(()));
    assert!(weir.errors().contains("buffers/app/tcp_client-0"), "{}", weir.errors());
    weir.signal("KILL");
    weir.wait_killed();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let weir = place.start(&client(listener.local_addr().unwrap().port(), DISK));
    assert_eq!(heard(&listener, written), (0..written).collect());
    let recovered = sink(&weir)["buffer"]["recovered"].as_u64().unwrap();
    assert!(recovered > 4_000, "the files had them: {recovered} of {written}");
    println!("{written} lines, {recovered} of them from the files that a reload began: none missing");
}
