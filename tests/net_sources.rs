//! Rows from the network as senders that nobody here wrote send them: nc, socat, openssl, logger, rsyslog and Python,
//! over TCP, TLS, UDP and Unix sockets; and what TORTURE.md says of content, on a connection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::zombie_processes, reason = "the guard that ends them waits for them")]

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::weir::{Place, Weir};
use support::{Killed, eventually, free_port, installed, skip};

/// Whether every program is there; says so where not.
fn have(test: &str, programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !installed(program)).collect();
    missing.iter().for_each(|program| skip(test, &format!("{program} is not installed")));
    missing.is_empty()
}

/// A weir whose source writes to `out.log`.
fn running(place: &Place, source: &str) -> Weir {
    place.started(&format!(
        "[[pipelines]]\nname = \"net\"\n[[pipelines.sources]]\n{source}\n[[pipelines.sinks]]\ntype = \"file\"\npath = \"DIR/out.log\"\n"
    ))
}

/// A weir with a `tcp` source, and its port.
fn tcp(place: &Place, options: &str) -> (Weir, u16) {
    let port = free_port();
    (running(place, &format!("type = \"tcp\"\nlisten = \"127.0.0.1:{port}\"\n{options}")), port)
}

/// Waits until the file has so many bytes, and returns them.
fn written(place: &Place, bytes: usize) -> Vec<u8> {
    eventually(&format!("{bytes} bytes are written"), || {
        let out = place.read("out.log");
        (out.len() >= bytes).then_some(out)
    })
}

/// Waits until the file holds `text`.
fn wait_for(place: &Place, text: &str) -> String {
    eventually(&format!("`{text}` is written"), || {
        let out = String::from_utf8_lossy(&place.read("out.log")).into_owned();
        out.contains(text).then_some(out)
    })
}

/// Runs a program with this input to its end; it must succeed.
fn feed(program: &str, args: &[&str], input: &[u8]) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A thousand lines, each different.
fn thousand() -> Vec<u8> {
    (0..1000).flat_map(|i| format!("line {i} {}\n", "x".repeat(i % 97)).into_bytes()).collect()
}

#[test]
fn nc_and_socat_over_tcp() {
    if !have("nc_and_socat_over_tcp", &["nc", "socat"]) {
        return;
    }
    let place = Place::new();
    let (weir, port) = tcp(&place, "");
    let text = thousand();
    feed("nc", &["-N", "127.0.0.1", &port.to_string()], &text);
    assert!(written(&place, text.len()) == text);
    feed("socat", &["-u", "-", &format!("TCP:127.0.0.1:{port}")], &text);
    assert!(written(&place, text.len() * 2)[text.len()..] == text);
    weir.stop();
}

#[test]
fn socat_over_udp_and_unix_sockets() {
    if !have("socat_over_udp_and_unix_sockets", &["socat"]) {
        return;
    }
    let text = b"one\ntwo\r\nthree\n".to_vec();
    for (source, address) in [
        ("type = \"udp\"\nlisten = \"127.0.0.1:PORT\"", "UDP:127.0.0.1:PORT"),
        ("type = \"unix\"\npath = \"DIR/s\"", "UNIX-CONNECT:DIR/s"),
        ("type = \"unix\"\nmode = \"datagram\"\npath = \"DIR/s\"", "UNIX-SENDTO:DIR/s"),
    ] {
        let place = Place::new();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let weir = running(&place, &source.replace("PORT", &port));
        let dir = place.dir().to_str().unwrap();
        feed("socat", &["-u", "-", &address.replace("PORT", &port).replace("DIR", dir)], &text);
        assert_eq!(
            String::from_utf8(written(&place, text.len())),
            String::from_utf8(text.clone()),
            "{source}"
        );
        weir.stop();
        assert!(!place.path("s").exists(), "the socket's file is gone");
    }
}

#[test]
fn a_socket_that_a_crash_left_behind_is_replaced() {
    let place = Place::new();
    let source = "type = \"unix\"\npath = \"DIR/s\"";
    let mut weir = running(&place, source);
    weir.signal("KILL");
    weir.wait();
    assert!(place.path("s").exists());
    let weir = running(&place, source);
    let mut stream = std::os::unix::net::UnixStream::connect(place.path("s")).unwrap();
    stream.write_all(b"again\n").unwrap();
    assert_eq!(written(&place, 6), b"again\n");
    weir.stop();
}

#[test]
fn openssl_over_tls_and_the_name_in_its_certificate() {
    if !have("openssl_over_tls_and_the_name_in_its_certificate", &["openssl"]) {
        return;
    }
    let place = Place::new();
    for args in [
        &["tls", "ca"][..],
        &["tls", "server", "--name", "127.0.0.1"],
        &["tls", "client", "--name", "shipper"],
    ] {
        assert_eq!(place.run(args).code, 0);
    }
    let tls = r#"tls = { cert_file = "DIR/server.pem", key_file = "DIR/server.key", client_ca_file = "DIR/ca.pem", require_client_cert = true }"#;
    let port = free_port();
    let weir = place.started(&format!(
        "[[pipelines]]\nname = \"net\"\n[[pipelines.sources]]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{port}\"\n{tls}\n\
         [[pipelines.sinks]]\ntype = \"file\"\npath = \"DIR/out.log\"\nformat = {{ type = \"json\" }}\n"
    ));
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let (ca, cert, key, at) =
        (path("ca.pem"), path("shipper.pem"), path("shipper.key"), format!("127.0.0.1:{port}"));
    let args =
        ["s_client", "-quiet", "-no_ign_eof", "-connect", &at, "-CAfile", &ca, "-cert", &cert, "-key", &key];
    let text = thousand();
    feed("openssl", &args, &text);
    let out = wait_for(&place, "line 999 ");
    assert_eq!(out.lines().filter(|line| line.contains("\"source\":\"shipper\"")).count(), 1000);
    // Without TLS nothing gets in, and the source goes on.
    TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"plain text\n").unwrap();
    feed("openssl", &args, b"after\n");
    wait_for(&place, "after");
    assert!(!String::from_utf8_lossy(&place.read("out.log")).contains("plain text"));
    weir.stop();
}

#[test]
fn logger_over_every_transport() {
    if !have("logger_over_every_transport", &["logger"]) {
        return;
    }
    let place = Place::new();
    let (weir, port) = tcp(&place, "framing = \"auto\"");
    let (port, to) = (port.to_string(), ["-n", "127.0.0.1"]);
    let tcp = [&to[..], &["-P", &port, "-T"]].concat();
    feed("logger", &[&tcp[..], &["--octet-count", "counted: 1"]].concat(), b"");
    feed("logger", &[&tcp[..], &["plain: 2"]].concat(), b"");
    let out = wait_for(&place, "plain: 2");
    for line in wait_for(&place, "counted: 1").lines().chain(out.lines()) {
        assert!(line.starts_with("<13>1 "), "no length is left, and nothing is lost: {line}");
    }
    weir.stop();

    let place = Place::new();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let weir =
        running(&place, &format!("type = \"udp\"\nlisten = \"127.0.0.1:{port}\"\nframing = \"datagram\""));
    feed("logger", &["-n", "127.0.0.1", "-P", &port, "-d", "by datagram"], b"");
    wait_for(&place, "by datagram\n");
    weir.stop();

    for (mode, kind) in [("stream", "--tcp"), ("datagram", "--udp")] {
        let place = Place::new();
        let framing = if mode == "stream" { "nul" } else { "datagram" };
        let options = format!("mode = \"{mode}\"\nframing = \"{framing}\"");
        let weir = running(&place, &format!("type = \"unix\"\npath = \"DIR/s\"\n{options}"));
        let socket = place.path("s");
        feed("logger", &["-u", socket.to_str().unwrap(), kind, "--socket-errors=on", "local"], b"");
        assert!(wait_for(&place, "local").starts_with("<13>"));
        weir.stop();
    }
}

#[test]
fn rsyslog_forwards_in_both_framings() {
    // Not on everybody's path.
    if !std::path::Path::new("/usr/sbin/rsyslogd").exists() {
        return skip("rsyslog_forwards_in_both_framings", "rsyslogd is not installed");
    }
    for (theirs, ours) in [
        ("octet-counted", "octet_counted"),
        ("octet-counted", "auto"),
        ("traditional", "newline"),
        ("traditional", "auto"),
    ] {
        let place = Place::new();
        let (weir, port) = tcp(&place, &format!("framing = \"{ours}\""));
        let dir = place.dir().to_str().unwrap().to_owned();
        place.write("in.log", "");
        place.write(
            "rsyslog.conf",
            format!(
                "global(workDirectory=\"{dir}\")\nmodule(load=\"imfile\" pollingInterval=\"1\" mode=\"polling\")\n\
                 input(type=\"imfile\" file=\"{dir}/in.log\" tag=\"app\" addMetadata=\"off\")\n\
                 action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"tcp\" TCP_Framing=\"{theirs}\" template=\"RSYSLOG_SyslogProtocol23Format\")\n"
            ),
        );
        let config = place.path("rsyslog.conf");
        let pid = place.path("rsyslog.pid");
        let daemon = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f", config.to_str().unwrap(), "-i", pid.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Killed(daemon);
        let lines: Vec<String> = (0..200).map(|i| format!("12 <{i}> forwarded {i}.")).collect();
        place.append("in.log", lines.join("\n") + "\n");
        let out = wait_for(&place, "forwarded 199.");
        for (i, line) in out.lines().filter(|l| l.contains("forwarded")).enumerate() {
            assert!(line.starts_with('<'), "{theirs} as {ours}: {line}");
            assert!(line.ends_with(&lines[i]), "{theirs} as {ours}: {line}");
        }
        drop(daemon);
        weir.stop();
    }
}

#[test]
fn python_sends_lengths_first() {
    if !have("python_sends_lengths_first", &["python3"]) {
        return;
    }
    let place = Place::new();
    let (weir, port) = tcp(&place, "framing = \"length_prefixed\"");
    let script = format!(
        "import socket, struct\ns = socket.create_connection(('127.0.0.1', {port}))\n\
         for i in range(1000):\n    m = b'event %d' % i\n    s.sendall(struct.pack('>I', len(m)) + m)\ns.close()\n"
    );
    feed("python3", &["-c", &script], b"");
    let expected: String = (0..1000).map(|i| format!("event {i}\n")).collect();
    assert_eq!(String::from_utf8(written(&place, expected.len())).unwrap(), expected);
    weir.stop();
}

#[test]
fn quick_flags_listen() {
    let place = Place::new();
    let (port, router) = (free_port(), free_port());
    let mut command = place.command(&[
        "--input-tcp",
        &format!("127.0.0.1:{port}"),
        "--output-file",
        "out.log",
        &format!("--server.listen=127.0.0.1:{router}"),
    ]);
    command.stdout(Stdio::null());
    let mut weir = place.spawn(&mut command, router);
    weir.wait_ready();
    TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"quick\n").unwrap();
    assert_eq!(written(&place, 6), b"quick\n");
    weir.stop();
}

/// Sends over one connection in pieces, and ends it; what is written must be `expected`.
fn over_a_connection(options: &str, pieces: &[&[u8]], expected: &[u8]) -> serde_json::Value {
    let place = Place::new();
    let (weir, port) = tcp(&place, options);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        written(&place, expected.len()).escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
    let counts = weir.component("net", "net.source.0.tcp");
    weir.stop();
    counts
}

#[test]
fn torture_a_delimiter_split_across_two_reads_crlf_and_empty_lines() {
    over_a_connection("", &[b"one\r", b"\n\ntw", b"o\n", b"\n"], b"one\r\n\ntwo\n\n");
}

#[test]
fn torture_nul_bytes_and_invalid_utf_8_pass_byte_for_byte() {
    let line = b"\0\xff\xfe\x80 \xc3( \x1b[31m\0\n";
    over_a_connection("", &[line, b"\xf0\x9f", b"\x98\x80\n"], &[&line[..], "😀\n".as_bytes()].concat());
}

#[test]
fn torture_a_last_line_without_a_newline_passes() {
    let counts = over_a_connection("", &[b"whole\nlast"], b"whole\nlast\n");
    assert_eq!((&counts["received"], &counts["cut"]), (&2.into(), &0.into()), "{counts}");
}

#[test]
fn torture_a_line_longer_than_every_buffer() {
    let long = [vec![b'L'; 3 << 20], b"\n".to_vec()].concat();
    over_a_connection("max_line_size = \"8MiB\"", &[&long, b"short\n"], &[&long[..], b"short\n"].concat());
    over_a_connection(
        "max_line_size = \"1KiB\"\noversize = \"truncate\"",
        &[&long, b"short\n"],
        &[&long[..1024], b"\nshort\n"].concat(),
    );
    let counts =
        over_a_connection("max_line_size = \"1KiB\"\noversize = \"drop\"", &[&long, b"short\n"], b"short\n");
    assert_eq!(counts["dropped"]["oversize"], 1, "{counts}");
}

#[test]
fn torture_a_forged_frame_length_ends_its_connection_only() {
    let place = Place::new();
    let (weir, port) = tcp(&place, "framing = \"length_prefixed\"");
    let mut honest = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut forged = TcpStream::connect(("127.0.0.1", port)).unwrap();
    forged.write_all(b"\xff\xff\xff\xffrest").unwrap();
    forged.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let ended = std::io::Read::read(&mut forged, &mut [0; 1]);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    honest.write_all(b"\0\0\0\x05hello").unwrap();
    assert_eq!(written(&place, 6), b"hello\n");
    let errors = weir.stop();
    assert!(errors.contains("forged frame length: 4294967295 bytes are announced"), "{errors}");
}

#[test]
fn torture_ten_thousand_connects_and_disconnects_while_streaming() {
    let place = Place::new();
    let (weir, port) = tcp(&place, "");
    let mut steady = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let text = thousand();
    for round in 0..10 {
        for i in 0..1000 {
            let mut passing = TcpStream::connect(("127.0.0.1", port)).unwrap();
            if i % 100 == 0 {
                passing.write_all(format!("passing {round} {i}\n").as_bytes()).unwrap();
            }
        }
        steady.write_all(&text).unwrap();
    }
    drop(steady);
    let passing: usize =
        (0..10).map(|r| (0..10).map(|i| format!("passing {r} {}\n", i * 100).len()).sum::<usize>()).sum();
    let out = written(&place, text.len() * 10 + passing);
    assert_eq!(out.len(), text.len() * 10 + passing);
    eventually("everybody has left", || {
        (weir.component("net", "net.source.0.tcp")["clients"] == 0).then_some(())
    });
    weir.stop();
}

#[test]
fn what_was_sent_before_sigterm_is_written() {
    let place = Place::new();
    let (weir, port) = tcp(&place, "");
    let text = thousand();
    let mut streams: Vec<_> = (0..50).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(&text).unwrap());
    weir.stop();
    assert_eq!(place.read("out.log").len(), text.len() * streams.len(), "the connections are still open");
}

#[test]
fn a_thousand_idle_connections_cost_little_memory() {
    let place = Place::new();
    let (mut weir, port) = tcp(&place, "read_timeout = \"1h\"");
    let id = weir.child().id();
    let resident_kib = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let connect = |n: usize| -> Vec<TcpStream> {
        let mut streams: Vec<_> = (0..n).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"hello\nunfinished").unwrap());
        streams
    };
    // What is allocated once is there after the first.
    let first = connect(50);
    written(&place, 6 * 50);
    let before = resident_kib();
    let others = connect(900);
    written(&place, 6 * 950);
    let each = resident_kib().saturating_sub(before) / 900;
    assert!(each <= 8, "{each} KiB for each");
    drop((first, others));
    weir.stop();
}
