//! Encrypted listeners as clients that nobody here wrote see them: openssl and curl, with certificates made by
//! `weir tls`. Versions, mutual TLS, HTTP/2, new certificates while streams go on, and hostile handshakes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use logweir::base::clock;
use support::weir::{End, Place, Weir, finish};
use support::{Killed, PATIENCE, eventually, free_port, installed, signal, skip};

/// A directory with an authority and certificates of a server and of the client `shipper`.
fn certified() -> Place {
    let place = Place::new();
    for args in [
        &["ca"][..],
        &["server", "--name", "localhost", "--name", "127.0.0.1"],
        &["client", "--name", "shipper"],
    ] {
        tls(&place, args, 0);
    }
    place
}

/// Runs `weir tls` with the directory's files.
fn tls(place: &Place, args: &[&str], code: i32) -> End {
    let end = place.run(&[&["tls"], args].concat());
    assert_eq!(end.code, code, "{args:?}: {}{}", end.stdout, end.stderr);
    end
}

/// Whether every program is there; says so where not.
fn all_installed(test: &str, programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !installed(program)).collect();
    missing.iter().for_each(|program| skip(test, &format!("{program} is not installed")));
    missing.is_empty()
}

const TLS: &str = r#"tls = { cert_file = "DIR/server.pem", key_file = "DIR/server.key" }"#;
const MUTUAL: &str = r#"tls = { cert_file = "DIR/server.pem", key_file = "DIR/server.key", client_ca_file = "DIR/ca.pem", require_client_cert = true }"#;

/// A weir that serves what is appended to `in.log`, by a sink on a port of its own.
fn serving(place: &Place, sink: &str, options: &str) -> (Weir, u16) {
    let port = free_port();
    place.append("in.log", "first\n");
    let weir = place.started(&format!(
        "[[pipelines]]\nname = \"app\"\nsources = [{{ type = \"file\", path = \"DIR/in.log\", poll_interval = \"50ms\" }}]\n\
         [[pipelines.sinks]]\ntype = \"{sink}\"\nlisten = \"127.0.0.1:{port}\"\nhistory = {{ max_events = 100 }}\n{options}\n"
    ));
    (weir, port)
}

/// A program that runs until it is dropped, its output read line by line.
struct Running {
    child: Killed,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::sync_channel(10_000);
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { child: Killed(child), lines }
    }

    /// Reads on until a line has `text`.
    fn until(&self, text: &str) {
        let end = clock::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(clock::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|e| panic!("no line with `{text}`: {e}"));
            if line.contains(text) {
                return;
            }
        }
    }
}

fn openssl(place: &Place, port: u16, args: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost"]);
    command.args(["-CAfile", "ca.pem", "-verify_return_error"]).args(args).current_dir(place.dir());
    command.stdin(Stdio::null());
    command
}

fn curl(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sSN", "--max-time", "40", "--cacert", "ca.pem"]).args(args).current_dir(place.dir());
    command.stdin(Stdio::null());
    command
}

#[test]
fn certificates_are_made_once_and_their_keys_are_private() {
    let place = certified();
    for (file, mode) in [("ca.key", 0o600), ("server.key", 0o600), ("shipper.key", 0o600), ("ca.pem", 0o644)]
    {
        let found = place.path(file).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found & !mode, 0, "{file} has mode {found:o}");
    }
    let before = place.read("server.pem");
    let refused = tls(&place, &["server"], 73);
    assert!(refused.stderr.contains("it exists") && refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(place.read("server.pem"), before);
    let again = tls(&place, &["server", "--force"], 0);
    assert!(again.stdout.contains("tls = { cert_file = \"/"), "{}", again.stdout);
    assert_ne!(place.read("server.pem"), before);
    let elsewhere = tls(&place, &["client", "--name", "x", "--dir", "other"], 66);
    assert!(elsewhere.stderr.contains("weir tls ca"), "{}", elsewhere.stderr);
    tls(&place, &["server", "--name", "https://x", "--force"], 64);
    tls(&place, &["client", "--name", "ca"], 64);
    let names: Vec<_> = std::fs::read_dir(place.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 6, "nothing else is left behind: {names:?}");
    if all_installed("certificates_are_made_once", &["openssl"]) {
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-x509_strict", "-CAfile", "ca.pem", "server.pem", "shipper.pem"]);
        let end = finish(verify.current_dir(place.dir()));
        assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
    }
}

#[test]
fn openssl_reads_lines_by_both_versions_and_the_minimum_refuses() {
    if !all_installed("openssl_reads_lines", &["openssl"]) {
        return;
    }
    let place = certified();
    let (_weir, port) = serving(&place, "tcp", &format!("format = {{ type = \"raw\" }}\n{TLS}"));
    for version in ["-tls1_2", "-tls1_3"] {
        let client = Running::start(&mut openssl(&place, port, &[version, "-quiet"]));
        client.until("first");
        place.append("in.log", format!("more {version}\n"));
        client.until(&format!("more {version}"));
    }
    let place = certified();
    let only_new = TLS.replace(" }", ", min_version = \"1.3\" }");
    let (_weir, port) = serving(&place, "tcp", &only_new);
    let old = finish(&mut openssl(&place, port, &["-tls1_2", "-quiet"]));
    assert!(old.code != 0 && old.stderr.contains("protocol version"), "{}", old.stderr);
    Running::start(&mut openssl(&place, port, &["-tls1_3", "-quiet"])).until("first");
}

#[test]
fn curl_follows_a_stream_by_http_2_and_by_http_1() {
    if !all_installed("curl_follows_a_stream", &["curl"]) {
        return;
    }
    let place = certified();
    let (weir, port) = serving(&place, "http", TLS);
    for (version, code) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let url = format!("https://localhost:{port}/stream?tail=1");
        let live = Running::start(&mut curl(&place, &[version, "-i", &url]));
        live.until(&format!("HTTP/{code} 200"));
        live.until("content-type: text/event-stream");
        live.until("event: hello");
        live.until("\"message\":");
        place.append("in.log", format!("by {version}\n"));
        live.until(&format!("by {version}"));
        drop(live);
        let limited = format!("https://localhost:{port}/stream?tail=1&limit=1");
        let end = finish(&mut curl(&place, &[version, "-w", "<%{http_version}>", &limited]));
        assert_eq!(end.code, 0, "{}", end.stderr);
        assert!(
            end.stdout.contains("event: bye") && end.stdout.ends_with(&format!("<{code}>")),
            "{}",
            end.stdout
        );
        let missing =
            finish(&mut curl(&place, &[version, "-i", &format!("https://localhost:{port}/nothing")]));
        assert!(missing.stdout.starts_with(&format!("HTTP/{code} 404")), "{}", missing.stdout);
    }
    eventually("nobody listens any more", || {
        (weir.component("app", "app.sink.0.http")["clients"] == 0).then_some(())
    });
    // The end of weir is the end of streams, in order.
    let url = format!("https://localhost:{port}/stream");
    let live = Running::start(&mut curl(&place, &["--http2", &url]));
    live.until("event: hello");
    weir.signal("TERM");
    live.until("event: bye");
}

#[test]
fn many_streams_share_one_http_2_connection_and_one_that_stops_reading_is_let_go() {
    if !all_installed("many_streams", &["curl"]) {
        return;
    }
    let place = certified();
    let (weir, port) = serving(&place, "http", &format!("write_timeout = \"1s\"\n{TLS}"));
    let url = format!("https://localhost:{port}/stream");
    let streams = [
        &url[..],
        "--next",
        "-sSN",
        "--cacert",
        "ca.pem",
        &url,
        "--next",
        "-sSN",
        "--cacert",
        "ca.pem",
        &url,
    ];
    let many = Running::start(&mut curl(
        &place,
        &[&["--http2", "--parallel", "--parallel-immediate"], &streams[..]].concat(),
    ));
    let clients = |count: u64| {
        eventually(&format!("{count} clients"), || {
            (weir.component("app", "app.sink.0.http")["clients"] == count).then_some(())
        });
    };
    clients(3);
    place.append("in.log", "to all\n");
    (0..3).for_each(|_| many.until("to all"));
    // Stopped, it takes what fits into windows and sockets, and no more.
    signal(many.child.0.id(), "STOP");
    let line = format!("{}\n", "x".repeat(10_000));
    for _ in 0..40 {
        place.append("in.log", line.repeat(100));
        std::thread::sleep(Duration::from_millis(20));
    }
    clients(0);
    signal(many.child.0.id(), "CONT");
    assert!(weir.component("app", "app.sink.0.http")["client_drops"].as_u64().unwrap() > 0);
    // Whoever comes next is served.
    let next = Running::start(&mut curl(&place, &["--http2", &format!("{url}?tail=1")]));
    next.until("xxxx");
}

#[test]
fn clients_need_a_certificate_of_the_authority_where_it_is_required() {
    if !all_installed("clients_need_a_certificate", &["curl", "openssl"]) {
        return;
    }
    let place = certified();
    let (weir, port) = serving(&place, "http", MUTUAL);
    let url = format!("https://localhost:{port}/status");
    let with = |pair: &str| {
        finish(&mut curl(&place, &["--cert", &format!("{pair}.pem"), "--key", &format!("{pair}.key"), &url]))
    };
    let none = finish(&mut curl(&place, &[&url]));
    assert!(none.code != 0 && none.stdout.is_empty(), "{}", none.stderr);
    let known = with("shipper");
    assert!(known.code == 0 && known.stdout.contains("\"received\""), "{}", known.stderr);
    eventually("it is told", || weir.errors().contains("the client shows no certificate").then_some(()));
    // One that another authority has signed.
    tls(&place, &["ca", "--dir", "strange"], 0);
    tls(&place, &["client", "--name", "shipper", "--dir", "strange"], 0);
    let strange = with("strange/shipper");
    assert!(strange.code != 0 && strange.stdout.is_empty(), "{}", strange.stderr);
    // A server's certificate is not one of a client.
    let server = with("server");
    assert!(server.code != 0 && server.stdout.is_empty(), "{}", server.stderr);
    drop(weir);
    let (_weir, port) = serving(&place, "tcp", &format!("format = {{ type = \"raw\" }}\n{MUTUAL}"));
    let pair = ["-cert", "shipper.pem", "-key", "shipper.key", "-quiet"];
    Running::start(&mut openssl(&place, port, &pair)).until("first");
    let none = finish(&mut openssl(&place, port, &["-quiet"]));
    assert!(none.code != 0 && none.stderr.contains("certificate required"), "{}", none.stderr);
}

/// The serial number of the certificate that is shown there.
fn serial(place: &Place, port: u16) -> String {
    let shown = finish(&mut openssl(place, port, &["-showcerts"])).stdout;
    let (_, rest) =
        shown.split_once("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("none: {shown}"));
    rest.split_once("-----END").unwrap().0.to_owned()
}

#[test]
fn a_new_certificate_is_taken_over_while_a_stream_goes_on() {
    if !all_installed("a_new_certificate", &["curl", "openssl"]) {
        return;
    }
    let place = certified();
    let (weir, port) = serving(&place, "http", TLS);
    let live = Running::start(&mut curl(&place, &[&format!("https://localhost:{port}/stream?tail=1")]));
    live.until("first");
    let old = serial(&place, port);
    tls(&place, &["server", "--name", "localhost", "--name", "127.0.0.1", "--force"], 0);
    let new =
        eventually("the new certificate is shown", || Some(serial(&place, port)).filter(|now| *now != old));
    assert!(String::from_utf8_lossy(&place.read("server.pem")).contains(&new), "it is the one in the file");
    // A broken file changes nothing, and is said once.
    place.write("server.pem", "no certificate\n");
    eventually("it is said", || weir.errors().contains("the old certificate stays in use").then_some(()));
    assert_eq!(serial(&place, port), new);
    std::thread::sleep(Duration::from_secs(5));
    let errors = weir.errors();
    assert_eq!(errors.matches("the old certificate stays in use").count(), 1, "{errors}");
    assert!(errors.contains("it is not PEM"), "{errors}");
    place.append("in.log", "after both\n");
    live.until("after both");
    // Once whole again, it is taken.
    tls(&place, &["server", "--name", "localhost", "--name", "127.0.0.1", "--force"], 0);
    eventually("the next certificate is shown", || Some(serial(&place, port)).filter(|now| *now != new));
}

#[test]
fn the_shared_server_speaks_https_only() {
    if !all_installed("the_shared_server", &["curl"]) {
        return;
    }
    let place = certified();
    let port = free_port();
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\n{}\n[[pipelines]]\nname = \"app\"\n\
         sources = [{{ type = \"generate\", events_per_second = 20 }}]\nsinks = [{{ type = \"http\" }}]\n",
        TLS.replace("DIR", place.dir().to_str().unwrap())
    );
    place.write("pipelines.toml", config);
    let weir = place.spawn(place.command(&["run"]).stdout(Stdio::null()), port);
    let ready = format!("https://localhost:{port}/readyz");
    eventually("ready", || (finish(&mut curl(&place, &["-f", &ready])).code == 0).then_some(()));
    let page = finish(&mut curl(&place, &["-i", "--http2", &format!("https://localhost:{port}/app/")]));
    assert!(page.stdout.starts_with("HTTP/2 200") && page.stdout.contains("<html"), "{}", page.stdout);
    let rows = finish(&mut curl(&place, &[&format!("https://localhost:{port}/_stream?p=app&limit=3")]));
    assert!(rows.code == 0 && rows.stdout.matches("\nid: ").count() >= 3, "{}{}", rows.stdout, rows.stderr);
    let plain = finish(&mut curl(&place, &[&format!("http://localhost:{port}/readyz")]));
    assert!(plain.code != 0 && !plain.stdout.contains("ready"), "{}", plain.stdout);
    // The commands know the configured certificate; another URL is checked by the authorities of this machine.
    assert_eq!(place.run(&["health"]).code, 0);
    assert!(place.run(&["status"]).stdout.contains("app"));
    let url = format!("https://localhost:{port}");
    let strange = place.run(&["health", &url]);
    assert!(strange.code == 69 && strange.stderr.contains("SSL_CERT_FILE"), "{}", strange.stderr);
    let known = finish(place.command(&["health", &url]).env("SSL_CERT_FILE", place.path("ca.pem")));
    assert_eq!(known.code, 0, "{}", known.stderr);
    weir.stop();
}

#[test]
fn garbage_and_silence_instead_of_a_handshake_cost_little_and_end() {
    let place = certified();
    let (weir, port) = serving(&place, "http", TLS);
    let connect = || {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    };
    // A record that promises much and brings nothing, a request without TLS, noise, and a byte at a time.
    let hello = [0x16, 0x03, 0x01, 0x3f, 0xff, 0x01, 0x00, 0xff, 0xff];
    let mut silent: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    silent.iter_mut().step_by(2).for_each(|socket| socket.write_all(&hello).unwrap());
    for round in 0..100u8 {
        let noise: Vec<u8> = (0..2000u32).map(|n| (n * 7 + u32::from(round)) as u8).collect();
        for bytes in [&noise[..], b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
            let mut socket = connect();
            // It may be closed before all is written.
            socket.write_all(bytes).ok();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).ok();
            assert!(answer.len() < 100, "nothing but an alert: {answer:?}");
        }
    }
    let begun = clock::now();
    if all_installed("garbage_and_silence", &["curl"]) {
        let end = finish(&mut curl(&place, &[&format!("https://localhost:{port}/status")]));
        assert_eq!(end.code, 0, "others are served meanwhile: {}", end.stderr);
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    for mut socket in silent {
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        assert!(read.is_ok() || read.unwrap_err().kind() != std::io::ErrorKind::WouldBlock, "it stays open");
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "within the deadline: {:?}", begun.elapsed());
    let errors = weir.errors();
    assert!(!errors.contains("panic"), "{errors}");
    // Two hundred and more failures are told, in a line or two.
    let lines = errors.matches("failed, the last from 127.0.0.1").count();
    assert!((1..=2).contains(&lines), "{errors}");
    weir.stop();
}

/// Starts with this `tls` table; the exit code and what was said.
fn refused(place: &Place, table: &str) -> (i32, String) {
    let port = free_port();
    let config = format!(
        "server.enabled = false\n[[pipelines]]\nname = \"app\"\nsources = [{{ type = \"generate\" }}]\n\
         [[pipelines.sinks]]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{port}\"\ntls = {{ {table} }}\n"
    );
    place.write("pipelines.toml", config);
    let end = place.run(&["run"]);
    (end.code, end.stderr)
}

#[test]
fn files_that_cannot_be_used_are_named_with_cause_and_way_out() {
    let place = certified();
    tls(&place, &["server", "--dir", "strange"], 66);
    tls(&place, &["ca", "--dir", "strange"], 0);
    let der = Command::new("openssl")
        .args(["x509", "-in", "server.pem", "-outform", "der", "-out", "server.der"])
        .current_dir(place.dir())
        .status();
    if !der.is_ok_and(|status| status.success()) {
        place.write("server.der", [0x30, 0x82, 0x01, 0x0a]);
    }
    place.write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    place.write("half.pem", "-----BEGIN CERTIFICATE-----\nMAA=\n");
    let good = r#"cert_file = "server.pem", key_file = "server.key""#;
    for (table, said) in [
        (
            r#"cert_file = "nowhere.pem", key_file = "server.key""#.to_owned(),
            ["cert_file nowhere.pem: no such file", "weir tls"],
        ),
        (
            r#"cert_file = "server.pem", key_file = "nowhere.key""#.to_owned(),
            ["key_file nowhere.key: no such file", "weir tls"],
        ),
        (
            r#"cert_file = "server.der", key_file = "server.key""#.to_owned(),
            ["cert_file server.der: it is not PEM", "-inform der"],
        ),
        (
            r#"cert_file = "half.pem", key_file = "server.key""#.to_owned(),
            ["broken PEM in cert_file half.pem", "whole"],
        ),
        (
            r#"cert_file = "server.key", key_file = "server.pem""#.to_owned(),
            ["it holds a private key", "`key_file`"],
        ),
        (
            r#"cert_file = "server.pem", key_file = "server.pem""#.to_owned(),
            ["it holds a certificate", "`cert_file`"],
        ),
        (
            r#"cert_file = "server.pem", key_file = "locked.key""#.to_owned(),
            ["encrypted with a passphrase", "openssl pkey"],
        ),
        (
            r#"cert_file = "server.pem", key_file = "shipper.key""#.to_owned(),
            ["does not match cert_file server.pem", "made with"],
        ),
        (
            format!(r#"{good}, client_ca_file = "no.pem""#),
            ["client_ca_file no.pem: no such file", "weir tls ca"],
        ),
    ] {
        let (code, stderr) = refused(&place, &table);
        assert_eq!(code, 69, "{table}: {stderr}");
        assert!(said.iter().all(|part| stderr.contains(part)), "{table}: {stderr}");
    }
    let (code, stderr) = refused(&place, &format!("{good}, require_client_cert = true"));
    assert!(
        code == 78 && stderr.contains("`require_client_cert` needs `client_ca_file`"),
        "{code}: {stderr}"
    );
    let (code, stderr) = refused(&place, &format!("{good}, min_version = \"1.1\""));
    assert!(code == 78 && stderr.contains("1.2"), "{code}: {stderr}");
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let place = certified();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 31);
    place.write("server.pem", params.self_signed(&key).unwrap().pem());
    place.write("server.key", key.serialize_pem());
    let (weir, port) = serving(&place, "tcp", TLS);
    assert!(weir.errors().contains("it expired on 2020-01-31"), "{}", weir.errors());
    if all_installed("an_expired_certificate", &["openssl"]) {
        let end = finish(&mut openssl(&place, port, &[]));
        assert!(
            end.stderr.contains("certificate has expired") || end.stderr.contains("verify error"),
            "{}",
            end.stderr
        );
    }
}
