//! The `tcp_client` sink against receivers that nobody here wrote (nc, socat, openssl) and against one that is
//! killed in the middle: every line arrives, and only what was not acknowledged comes twice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use support::weir::{Place, Weir};
use support::{Killed, eventually, free_port, installed, skip};

/// A weir that sends its standard input, with these options of the sink.
fn sending(place: &Place, options: &str) -> (Weir, ChildStdin) {
    place.fed(&format!(
        "shutdown_timeout = \"2s\"\n[[pipelines]]\nname = \"app\"\n\
         [[pipelines.sources]]\ntype = \"stdin\"\n[[pipelines.sinks]]\ntype = \"tcp_client\"\n{options}\n"
    ))
}

const RAW: &str = "format = { type = \"raw\" }\nretry = { initial_delay = \"20ms\", max_delay = \"100ms\" }";

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("line {n:07} {}\n", "x".repeat(n as usize % 90))).collect()
}

/// Reads beside the test, since a program whose output nobody reads stops taking in.
fn reading(mut out: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut found = String::new();
        out.read_to_string(&mut found).unwrap();
        found
    })
}

/// What a program takes in, for its whole life.
fn output_of(program: &str, args: &[&str], text: &str) -> Option<String> {
    if !installed(program) {
        skip("interop", &format!("{program} is not installed"));
        return None;
    }
    let place = Place::new();
    let port = free_port();
    let args: Vec<String> = args.iter().map(|a| a.replace("PORT", &port.to_string())).collect();
    let mut child = Command::new(program)
        .args(&args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let found = reading(child.stdout.take().unwrap());
    let _killed = Killed(child);
    let (mut weir, mut stdin) = sending(&place, &format!("address = \"127.0.0.1:{port}\"\n{RAW}"));
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
    Some(found.join().unwrap())
}

#[test]
fn netcat_and_socat_get_every_line_once() {
    let text = lines(0..20_000);
    for (program, args) in
        [("nc", &["-l", "127.0.0.1", "PORT"][..]), ("socat", &["-u", "TCP-LISTEN:PORT,reuseaddr", "-"])]
    {
        if let Some(found) = output_of(program, args, &text) {
            assert!(found == text, "{program}: {} of {} bytes", found.len(), text.len());
        }
    }
}

/// A receiver in this process that takes `most` bytes of each connection and then resets it.
fn resetting(listener: TcpListener, most: usize) -> Receiver<(bool, Vec<u8>)> {
    let (tell, hear) = sync_channel(1000);
    std::thread::spawn(move || {
        for (n, connection) in listener.incoming().enumerate() {
            let mut connection = connection.unwrap();
            let mut taken = Vec::new();
            let mut chunk = vec![0; 64 << 10];
            // The bytes left unread make the system answer with a reset.
            let limit = if n < 8 { most } else { usize::MAX };
            let was_reset = loop {
                match connection.read(&mut chunk[..(limit - taken.len()).min(64 << 10)]) {
                    Ok(0) | Err(_) => break false,
                    Ok(read) => taken.extend_from_slice(&chunk[..read]),
                }
                if taken.len() == limit {
                    // So that there is something unread.
                    let mut more = [0];
                    break connection.peek(&mut more).is_ok();
                }
            };
            drop(connection);
            if tell.send((was_reset, taken)).is_err() {
                return;
            }
        }
    });
    hear
}

#[test]
fn a_receiver_that_resets_in_the_middle_misses_only_what_its_socket_had_taken() {
    const LINES: u32 = 200_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hear = resetting(listener, 300_000);
    let place = Place::new();
    let (mut weir, mut stdin) = sending(&place, &format!("address = \"{address}\"\n{RAW}"));
    let text = lines(0..LINES);
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
    let connections: Vec<_> = hear.iter().take(9).collect();
    assert_eq!(connections.iter().filter(|(reset, _)| *reset).count(), 8, "eight were reset");
    let number = |line: &str| line.get(5..12)?.parse::<u32>().ok();
    let mut next = 0;
    for (n, (_, taken)) in connections.iter().enumerate() {
        let end = taken.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let found: Vec<u32> =
            std::str::from_utf8(&taken[..end]).unwrap().lines().filter_map(number).collect();
        assert!(
            found.windows(2).all(|w| w[0] + 1 == w[1]),
            "connection {n}: every line, in order, from its start"
        );
        let (first, last) = (found[0], found[found.len() - 1]);
        // Between two connections only what the dead socket had acknowledged, unread, is missing.
        let gap: u64 = (next..first).map(|n| 14 + u64::from(n) % 90).sum();
        assert!(gap <= 8 << 20, "connection {n} misses {gap} bytes");
        next = last + 1;
    }
    assert_eq!(next, LINES, "the last line arrived");
}

#[test]
fn a_receiver_that_closes_in_order_misses_nothing() {
    const LINES: u32 = 20_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let place = Place::new();
    let (mut weir, mut stdin) = sending(&place, &format!("address = \"{address}\"\n{RAW}"));
    let feeding = std::thread::spawn(move || {
        for start in (0..LINES).step_by(500) {
            stdin.write_all(lines(start..start + 500).as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    // Says that it will leave, and reads on until the sender has left: as a proxy does that is reloaded.
    let receiving = std::thread::spawn(move || {
        let mut seen: HashMap<u32, u32> = HashMap::new();
        for n in 0.. {
            let (connection, _) = listener.accept().unwrap();
            let leaving: TcpStream = connection.try_clone().unwrap();
            let mut lines_read = 0;
            for line in BufReader::new(connection).lines().map_while(Result::ok) {
                let Some(number) = line.get(5..12).and_then(|t| t.parse().ok()) else { continue };
                *seen.entry(number).or_default() += 1;
                lines_read += 1;
                if n < 5 && lines_read == 2000 {
                    leaving.shutdown(std::net::Shutdown::Write).unwrap();
                }
            }
            if seen.contains_key(&(LINES - 1)) {
                return seen;
            }
        }
        seen
    });
    feeding.join().unwrap();
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
    let seen = receiving.join().unwrap();
    let missing: Vec<u32> = (0..LINES).filter(|n| !seen.contains_key(n)).take(5).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_dead_receiver_does_not_hold_up_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let place = Place::new();
    let (mut weir, mut stdin) = sending(&place, &format!("address = \"{address}\"\n{RAW}"));
    // Accepted by its system, and never read.
    // More than all buffers take: it blocks until weir ends.
    std::thread::spawn(move || stdin.write_all(lines(0..500_000).as_bytes()).ok());
    eventually("events wait", || {
        weir.component("app", "app.sink.0.tcp_client")["queued"].as_u64().filter(|n| *n > 0)
    });
    let before = logweir::base::clock::now();
    weir.signal("TERM");
    assert_eq!(weir.wait(), 74, "it says that not all was delivered: {}", weir.errors());
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
}

#[test]
fn openssl_takes_tls_with_the_name_checked() {
    if !installed("openssl") {
        return skip("openssl_takes_tls_with_the_name_checked", "openssl is not installed");
    }
    let place = Place::new();
    let made = rcgen::generate_simple_self_signed(vec!["logs.example".to_owned()]).unwrap();
    place.write("server.pem", made.cert.pem());
    place.write("server.key", made.signing_key.serialize_pem());
    let port = free_port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-naccept", "1", "-accept", &port.to_string()])
        .args(["-cert", "server.pem", "-key", "server.key"])
        .current_dir(place.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (found, _open) = (reading(server.stdout.take().unwrap()), server.stdin.take());
    let _server = Killed(server);
    let ca = place.path("server.pem");
    let tls = format!("tls = {{ ca_file = \"{}\", server_name = \"logs.example\" }}", ca.display());
    let (mut weir, mut stdin) = sending(&place, &format!("address = \"127.0.0.1:{port}\"\n{tls}\n{RAW}"));
    let text = lines(0..5000);
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
    let found = found.join().unwrap();
    assert!(found == text, "{} of {} bytes", found.len(), text.len());
}

#[test]
fn a_certificate_for_another_name_is_refused_and_the_way_out_is_named() {
    let place = Place::new();
    let made = rcgen::generate_simple_self_signed(vec!["logs.example".to_owned()]).unwrap();
    place.write("server.pem", made.cert.pem());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(logweir::net::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = std::sync::Arc::new(config);
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut connection).is_ok() {}
        }
    });
    let tls = format!("tls = {{ ca_file = \"{}\" }}", place.path("server.pem").display());
    let (weir, mut stdin) = sending(&place, &format!("address = \"{address}\"\n{tls}\n{RAW}"));
    stdin.write_all(b"secret\n").unwrap();
    let said =
        eventually("the refusal", || Some(weir.errors()).filter(|errors| errors.contains("tls.server_name")));
    assert!(said.contains("127.0.0.1"), "{said}");
    let sink = weir.component("app", "app.sink.0.tcp_client");
    assert_eq!(sink["delivered"], 0, "{sink}");
}
