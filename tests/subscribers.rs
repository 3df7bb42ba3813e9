//! Subscribers that come and go while lines flow: resuming loses and repeats nothing, and one that reads a byte a
//! second disturbs nobody and is told exactly what it lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::process::ChildStdin;
use std::time::Duration;

use logweir::base::rng::Rng;
use support::http::Stream;
use support::weir::{Place, Weir};

/// A weir that serves its standard input, with a history of that many events.
fn served(place: &Place, history: u32) -> (Weir, ChildStdin) {
    place.fed(&format!(
        "[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\n\
         type = \"stdin\"\n[[pipelines.sinks]]\ntype = \"http\"\n\
         history = {{ max_events = {history}, max_bytes = \"256MiB\" }}\n"
    ))
}

#[test]
fn resuming_under_load_neither_loses_nor_repeats() {
    const LINES: u64 = 60_000;
    let place = Place::new();
    let (weir, mut stdin) = served(&place, 100_000);
    let authority = weir.authority();
    let writer = std::thread::spawn(move || {
        for hundred in 0..LINES / 100 {
            let lines: String = (0..100).map(|n| format!("line {:08}\n", hundred * 100 + n)).collect();
            stdin.write_all(lines.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        stdin
    });
    let read = |seed: u64| {
        let mut rng = Rng::seeded(seed);
        let (mut next, mut last, mut connections) = (0u64, None::<String>, 0);
        while next < LINES {
            // By header, as browsers do, or by parameter, in turn.
            let mut stream = match &last {
                None => Stream::open(&authority, "/app/stream?tail=100000", &[]),
                Some(id) if next % 2 == 0 => {
                    Stream::open(&authority, "/app/stream", &[("Last-Event-ID", id)])
                }
                Some(id) => Stream::open(&authority, &format!("/app/stream?last_event_id={id}"), &[]),
            };
            connections += 1;
            for _ in 0..(rng.next_u64() % 3000 + 1).min(LINES - next) {
                let row = stream.row();
                assert_eq!(row.message(), format!("line {next:08}"), "connection {connections}");
                assert_eq!(row.seq(), next + 1);
                (next, last) = (next + 1, Some(row.id));
            }
        }
        connections
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (1..=3).map(|seed| scope.spawn(move || read(seed))).collect();
        for reader in readers {
            assert!(reader.join().unwrap() > 20, "it came and went often");
        }
    });
    let sink = weir.component("app", "app.sink.0.http");
    assert_eq!(
        (&sink["received"], &sink["delivered"], &sink["client_drops"]),
        (&LINES.into(), &LINES.into(), &0.into())
    );
    drop(writer.join().unwrap());
}

#[test]
fn what_history_no_longer_holds_is_announced_as_a_gap() {
    let place = Place::new();
    let (weir, mut stdin) = served(&place, 10);
    let mut first = weir.stream("/app/stream?tail=1");
    stdin.write_all(b"0\n").unwrap();
    let id = first.row().id;
    for n in 1..=500 {
        writeln!(stdin, "{n}").unwrap();
        // One by one: each is a batch of its own, and history holds ten.
        assert_eq!(first.row().message(), n.to_string());
    }
    drop(first);
    // Live rows are kept for a while for those who follow; with nobody there, history alone counts.
    support::eventually("it is gone", || {
        (weir.component("app", "app.sink.0.http")["clients"] == 0).then_some(())
    });
    writeln!(stdin, "501").unwrap();
    let mut back = Stream::open(&weir.authority(), "/app/stream", &[("Last-Event-ID", &id)]);
    let event = back.until("gap");
    let gap = event.json();
    let missed = gap["missed"].as_u64().unwrap();
    assert!(missed > 400, "{gap}");
    assert_eq!(gap["from"].as_str().map(support::http::seq), Some(2));
    let row = back.row();
    assert_eq!((row.seq(), row.message()), (missed + 2, (missed + 1).to_string()));
    let mut other = Stream::open(&weir.authority(), "/app/stream", &[("Last-Event-ID", "elsewhere-5")]);
    assert!(other.until("gap").json()["missed"].is_null(), "an id of another run: nobody knows how many");
}

/// Reads on at full speed to the row `last`, and adds up what was told to be lost.
fn read_on(slow: &mut Stream, last: u64) -> u64 {
    let (mut next, mut missed) = (1, 0);
    while next <= last {
        let event = slow.event().expect("the stream goes on");
        match event.kind.as_str() {
            "" => {
                assert_eq!(event.seq(), next, "nothing is missing that was not told");
                next += 1;
            }
            "drop" => {
                let drop = event.json();
                let count = drop["missed"].as_u64().unwrap();
                assert_eq!(drop["from"].as_str().map(support::http::seq), Some(next), "{drop}");
                assert_eq!(drop["to"].as_str().map(support::http::seq), Some(next + count - 1), "{drop}");
                (next, missed) = (next + count, missed + count);
            }
            _ => assert_eq!(event.kind, "hello"),
        }
    }
    missed
}

#[test]
fn one_that_reads_a_byte_a_second_disturbs_nobody_and_is_told_what_it_lost() {
    const ROUNDS: u64 = 60;
    const ROWS: u64 = 500;
    let place = Place::new();
    let (weir, mut stdin) = served(&place, 100);
    let mut slow = weir.stream("/app/stream");
    let mut quick = weir.stream("/app/stream");
    quick.until("hello");
    let line = "z".repeat(2000);
    let (go, read) = std::sync::mpsc::sync_channel::<()>(0);
    let reader = std::thread::spawn(move || {
        let mut bytes = 0;
        // A byte a second until the flood is over.
        while read.recv_timeout(Duration::from_secs(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            slow.byte();
            bytes += 1;
        }
        (bytes, read_on(&mut slow, ROUNDS * ROWS))
    });
    for round in 0..ROUNDS {
        let rows: String = (0..ROWS).map(|_| format!("{line}\n")).collect();
        stdin.write_all(rows.as_bytes()).unwrap();
        // The quick one keeps up, whatever the slow one does.
        (0..ROWS).for_each(|n| assert_eq!(quick.row().seq(), round * ROWS + n + 1));
        std::thread::sleep(Duration::from_millis(60));
    }
    go.send(()).unwrap();
    let (bytes, missed) = reader.join().unwrap();
    assert!(bytes >= 2, "the flood was over within seconds");
    assert!(missed > 0 && missed < ROUNDS * ROWS, "{missed}: the sockets took it all, or nothing came");
    let sink = weir.component("app", "app.sink.0.http");
    let all = serde_json::json!(ROUNDS * ROWS);
    assert_eq!((&sink["received"], &sink["delivered"]), (&all, &all), "{sink}");
    assert_eq!(sink["client_drops"], missed, "{sink}");
}
