//! The `ebpf` source against a real kernel, as root, on loopback and free ports: what curl and python do shows as they
//! did it. Without privileges the tests are left out, saying so; `REQUIRE_EBPF_TESTS=1` makes that a failure.
#![cfg(feature = "ebpf")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::print_stdout, reason = "a test that is left out says so where its results are read")]

#[cfg(ebpf_object)]
#[path = "ebpf_programs/containers.rs"]
mod containers;
#[cfg(ebpf_object)]
#[path = "ebpf_programs/hooks.rs"]
mod hooks;
#[cfg(ebpf_object)]
#[path = "ebpf_programs/libraries.rs"]
mod libraries;
#[path = "ebpf_programs/mod.rs"]
mod programs;
mod support;

use std::process::Stdio;

use programs::{Program, Traced, certificate, curl, possible, tls_alone};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Both ends of each connection, opened, used and closed.
#[test]
fn an_exchange_with_its_connection_and_exact_bytes() {
    let Some(place) = possible("exchange") else { return };
    let server = Program::start(&["server.py"]);
    let mut traced = Traced::start(&place, r#"["tcp", "http"]"#, &format!("port = [{}]", server.port));
    let url = format!("http://127.0.0.1:{}", server.port);
    let header = format!("traceparent: {TRACE}");
    curl(&["-H", &header, &format!("{url}/first?secret=1"), &format!("{url}/missing")]);
    let closes = traced.rows(2, |row| row["event"] == "tcp_close");
    let exchanges = traced.rows(4, |row| row["event"] == "http");
    for role in ["client", "server"] {
        let mine = |rows: &[serde_json::Value]| -> Vec<serde_json::Value> {
            rows.iter().filter(|row| row["role"] == role).cloned().collect()
        };
        let (exchanges, closes) = (mine(&exchanges), mine(&closes));
        let seen: Vec<_> = exchanges.iter().map(|e| (e["path"].clone(), e["status"].clone())).collect();
        assert_eq!(seen, [("/first".into(), 200.into()), ("/missing".into(), 404.into())], "{role}");
        for exchange in &exchanges {
            assert_eq!(exchange["trace_id"], "0af7651916cd43dd8448eb211c80319c");
            assert_eq!((&exchange["ending"], &exchange["tls"]), (&"complete".into(), &false.into()));
            assert!(exchange["latency_ms"].as_f64().unwrap() > 0.0 && exchange.get("query").is_none());
            assert_eq!(exchange["connection"], closes[0]["connection"]);
            assert_eq!(exchange["comm"], if role == "client" { "curl" } else { "python3" }, "{exchange}");
        }
        // Whatever went over the connection belongs to one of the two exchanges, to the byte.
        let sum = |name: &str| exchanges.iter().map(|e| e[name].as_u64().unwrap()).sum::<u64>();
        let (sent, received) = match role {
            "client" => (sum("request_bytes"), sum("response_bytes")),
            _ => (sum("response_bytes"), sum("request_bytes")),
        };
        assert_eq!(
            (closes[0]["bytes_sent"].as_u64(), closes[0]["bytes_received"].as_u64()),
            (Some(sent), Some(received))
        );
        assert!(received > 2000 || role == "server");
    }
    let opened = traced.rows(2, |row| row["event"] == "tcp_open" || row["event"] == "tcp_accept");
    assert_eq!(opened.iter().filter(|row| row["comm"] == "curl" && row["event"] == "tcp_open").count(), 1);
    assert_eq!(
        opened.iter().filter(|row| row["comm"] == "python3" && row["event"] == "tcp_accept").count(),
        1
    );
    let accept = opened.iter().find(|row| row["event"] == "tcp_accept").unwrap();
    assert_eq!(accept["pid"], server.id());
    assert!(traced.errors().contains("hooks: tcp=on(tp_btf) accept=on("), "{}", traced.errors());
    let took = traced.end();
    assert!(took.as_secs_f64() < 2.0, "teardown took {took:?}");
}

#[test]
fn the_same_within_tls() {
    let Some(place) = possible("tls") else { return };
    let _alone = tls_alone();
    let pem = certificate(&place);
    let server = Program::start(&["server.py", &pem]);
    let mut traced = Traced::start(&place, r#"["tcp", "tls"]"#, &format!("port = [{}]", server.port));
    curl(&["-k", &format!("https://127.0.0.1:{}/curl", server.port)]);
    let client = "import ssl, sys, urllib.request\n\
        urllib.request.urlopen(sys.argv[1], context=ssl._create_unverified_context()).read()";
    programs::python(&["-c", client, &format!("https://127.0.0.1:{}/python", server.port)]);
    let exchanges = traced.rows(4, |row| row["event"] == "http");
    for (path, comm) in [("/curl", "curl"), ("/python", "python3")] {
        let both: Vec<_> = exchanges.iter().filter(|row| row["path"] == path).collect();
        assert_eq!(both.len(), 2, "{exchanges:?}");
        assert!(
            both.iter().all(|row| row["tls"] == true && row["status"] == 200 && row["ending"] == "complete")
        );
        assert!(both.iter().any(|row| row["role"] == "client" && row["comm"] == comm));
        assert!(both.iter().any(|row| row["role"] == "server" && row["pid"] == server.id()));
        assert!(both.iter().all(|row| row.get("connection_inferred").is_none()), "{both:?}");
        // The connection is known, so its addresses are.
        let server_address = format!("127.0.0.1:{}", server.port);
        assert!(both.iter().all(|row| row["server"] == server_address.as_str()));
    }
    let closes = traced.rows(4, |row| row["event"] == "tcp_close");
    assert_eq!(closes.len(), 4);
    let at_once = traced.errors().contains("tls=on(uprobe_multi, ");
    let took = traced.end();
    // One by one it is half a second and more for each library, which is the kernel's.
    assert!(!at_once || took.as_secs_f64() < 2.0, "teardown took {took:?}");
}

/// asyncio reads the socket by itself and hands the bytes to the library: the connection is inferred, and said to be.
#[test]
fn tls_that_a_program_moves_itself_is_inferred() {
    let Some(place) = possible("asyncio tls") else { return };
    let _alone = tls_alone();
    let pem = certificate(&place);
    let mut program = Program::start(&["asyncio_tls.py", &pem]);
    let mut traced = Traced::start(&place, r#"["tls"]"#, &format!("port = [{}]", program.port));
    program.go_on();
    let exchanges = traced.rows(6, |row| row["event"] == "http");
    for n in 0..3 {
        let both: Vec<_> = exchanges.iter().filter(|row| row["path"] == format!("/asyncio/{n}")).collect();
        assert_eq!(both.len(), 2, "{exchanges:?}");
        assert!(both.iter().all(|row| row["tls"] == true && row["connection_inferred"] == true), "{both:?}");
    }
    traced.end();
}

/// Forty-eight exchanges: six ways to write by eight ways to read, peeked and byte by byte included.
#[test]
fn every_way_to_read_and_write_a_socket() {
    let Some(place) = possible("calls") else { return };
    let mut program = Program::start(&["calls.py"]);
    let mut traced = Traced::start(&place, r#"["http"]"#, &format!("port = [{}]", program.port));
    program.go_on();
    let exchanges = traced.rows(96, |row| row["event"] == "http");
    for send in ["write", "writev", "send", "sendmsg", "sendmmsg", "pieces"] {
        for receive in
            ["read", "readv", "recv", "recv_into", "recvmsg", "recvmsg_two", "peeked", "byte_by_byte"]
        {
            let path = format!("/{send}/{receive}");
            let both: Vec<_> = exchanges.iter().filter(|row| row["path"] == path.as_str()).collect();
            assert_eq!(both.len(), 2, "{path}: {both:?}");
            let request = format!("GET {path} HTTP/1.1\r\nHost: calls\r\n\r\n").len();
            for row in both {
                assert_eq!((&row["status"], &row["ending"]), (&200.into(), &"complete".into()), "{row}");
                assert_eq!(
                    (&row["request_bytes"], &row["response_bytes"]),
                    (&request.into(), &38.into()),
                    "{row}"
                );
            }
        }
    }
    assert_eq!(traced.all(|row| row["event"] == "http").len(), 96, "nothing is counted twice");
    traced.end();
}

#[test]
fn what_was_open_before_and_what_fails_is_told_too() {
    let Some(place) = possible("before") else { return };
    let server = Program::start(&["server.py"]);
    let kept = "import http.client, sys\nc = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))\n\
        c.request('GET', '/before'); c.getresponse().read()\nprint(sys.argv[1], flush=True)\nsys.stdin.readline()\n\
        c.request('GET', '/during'); c.getresponse().read()\n\
        import socket\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
        s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'); s.recv(1)\n\
        n = socket.create_server(('127.0.0.1', 0)); p = n.getsockname()[1]; n.close()\n\
        print(socket.socket().connect_ex(('127.0.0.1', p)), p, flush=True)\nsys.stdin.readline()";
    let mut client = Program::command(&["-c", kept, &server.port.to_string()]);
    let scope = format!("pid = [{}, {}]", server.id(), client.id());
    let mut traced = Traced::start(&place, r#"["tcp", "http"]"#, &scope);
    client.go_on();
    let during = traced.rows(2, |row| row["event"] == "http" && row["path"] == "/during");
    assert!(during.iter().all(|row| row["opened_before"] == true && row["role"] != "unknown"), "{during:?}");
    assert!(traced.all(|row| row["path"] == "/before").is_empty());
    let prefaces = traced.rows(2, |row| row["event"] == "http2");
    assert_eq!(prefaces.len(), 2, "both ends saw it");
    let failed = traced.rows(1, |row| row["event"] == "tcp_connect_failed");
    assert_eq!(failed[0]["error"], "Connection refused (os error 111)");
    assert_eq!(failed[0]["pid"], client.id());
    traced.end();
}

#[test]
fn lines_of_chosen_processes() {
    let Some(place) = possible("stdio") else { return };
    let script = "import os, sys\nprint(1, flush=True)\nsys.stdin.readline()\n\
        os.write(1, b'one\\ntwo\\npar'); os.write(1, b'tial\\n'); os.write(2, b'wrong\\n')\n\
        os.write(1, b'a' * 10000 + b'\\n'); os.writev(1, [b'x' * 5000, b'y' * 5000 + b'\\n'])\n\
        os.write(1, b'no end'); sys.stdin.readline()";
    let mut program = Program::command(&["-c", script]);
    let mut traced = Traced::start(&place, r#"["stdio"]"#, &format!("pid = [{}]", program.id()));
    program.go_on();
    let lines = traced.rows(7, |row| row["event"] == "stdout" || row["event"] == "stderr");
    let texts: Vec<_> = lines.iter().map(|row| row["message"].as_str().unwrap().to_owned()).collect();
    let (long, both) = ("a".repeat(10_000), "x".repeat(5000) + &"y".repeat(5000));
    assert_eq!(texts, ["one", "two", "partial", "wrong", &long, &both, "no end"]);
    assert_eq!(lines.iter().filter(|row| row["event"] == "stderr").count(), 1);
    assert!(lines.iter().all(|row| row["pid"] == program.id() && row["tid"] == program.id()));
    traced.end();
}

/// The receiver is traced, too: if weir's own requests were told of, each would cause the next.
#[test]
fn forwarding_does_not_feed_itself() {
    let Some(place) = possible("feedback") else { return };
    let (receiver, server) = (Program::start(&["server.py"]), Program::start(&["server.py"]));
    let sink = format!(
        "type = \"http_client\"\nurl = \"http://127.0.0.1:{}/logs\"\nbatch = {{ max_wait = \"20ms\" }}",
        receiver.port
    );
    let scope = format!("pid = [{}, {}]", receiver.id(), server.id());
    let mut traced = Traced::start_with(&place, r#"["http"]"#, &scope, &sink);
    for _ in 0..5 {
        curl(&[&format!("http://127.0.0.1:{}/", server.port)]);
        // Long enough for several rounds of feedback.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let rows = traced.rows(5, |row| row["event"] == "http");
    assert!(rows.iter().all(|row| row["pid"] == server.id()), "{rows:?}");
    assert_eq!(traced.all(|_| true).len(), 5);
    traced.end();
}

#[test]
fn excluded_peers_and_other_ports_are_left_out() {
    let Some(place) = possible("scope") else { return };
    let (seen, unseen) = (Program::start(&["server.py"]), Program::start(&["server.py"]));
    let scope = format!("comm = [\"curl\"] }}\nexclude_peers = [\"127.0.0.1:{}\"", unseen.port);
    let config =
        format!("[[pipelines]]\nname = \"k\"\n[[pipelines.sources]]\ntype = \"ebpf\"\nscope = {{ {scope}]\n");
    let mut traced = Traced::start_config(&place, &config);
    curl(&[&format!("http://127.0.0.1:{}/unseen", unseen.port)]);
    curl(&[&format!("http://127.0.0.1:{}/seen", seen.port)]);
    traced.rows(1, |row| row["path"] == "/seen");
    traced.rows(1, |row| row["event"] == "tcp_close");
    let port = format!(":{}", unseen.port);
    assert!(
        traced
            .all(|row| row["path"] == "/unseen" || row["server"].as_str().unwrap().ends_with(&port))
            .is_empty()
    );
    traced.end();
}

/// What a handler prints carries the trace of the request it handles.
#[test]
fn a_printed_line_carries_the_trace_of_its_request() {
    let Some(place) = possible("correlate") else { return };
    let server = Program::start(&["server.py"]);
    let config = format!(
        "[[pipelines]]\nname = \"k\"\n[[pipelines.sources]]\ntype = \"ebpf\"\ncapture = [\"http\", \"stdio\"]\n\
         scope = {{ pid = [{}] }}\n[[pipelines.filters]]\ntype = \"correlate\"\n",
        server.id()
    );
    let mut traced = Traced::start_config(&place, &config);
    let header = format!("traceparent: {TRACE}");
    curl(&["-H", &header, &format!("http://127.0.0.1:{}/with", server.port)]);
    curl(&[&format!("http://127.0.0.1:{}/without", server.port)]);
    let line = &traced.rows(1, |row| row["message"] == "handling /with")[0];
    assert_eq!((&line["trace_id"], &line["span_id"]), (&TRACE[3..35].into(), &TRACE[36..52].into()));
    assert_eq!(
        (&line["path"], &line["method"], &line["correlation"]),
        (&"/with".into(), &"GET".into(), &"thread".into())
    );
    let line = &traced.rows(1, |row| row["message"] == "handling /without")[0];
    assert_eq!((line.get("trace_id"), &line["path"]), (None, &"/without".into()), "an id is never made up");
    traced.end();
}

#[test]
fn two_requests_on_one_thread_are_ambiguous() {
    let Some(place) = possible("ambiguous") else { return };
    two_at_a_time(&place, &Program::start(&["asyncio_plain.py"]));
}

#[test]
fn two_requests_on_nodes_event_loop_are_ambiguous() {
    let Some(place) = possible("ambiguous, node") else { return };
    if !support::installed("node") {
        programs::skip("ambiguous, node", "node is not installed");
        return;
    }
    two_at_a_time(&place, &Program::node("node_plain.js"));
}

/// What a server that has one thread for all prints: with two requests in flight nobody can say whose it is.
fn two_at_a_time(place: &support::weir::Place, server: &Program) {
    let config = format!(
        "[[pipelines]]\nname = \"k\"\n[[pipelines.sources]]\ntype = \"ebpf\"\ncapture = [\"http\", \"stdio\"]\n\
         scope = {{ pid = [{}] }}\n[[pipelines.filters]]\ntype = \"correlate\"\n",
        server.id()
    );
    let mut traced = Traced::start_config(place, &config);
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", server.port);
    let header = format!("traceparent: {TRACE}");
    // Both begin well before either answers.
    curl(&["-Z", "-H", &header, &url("/first"), &url("/second")]);
    let lines = traced.rows(2, |row| row["event"] == "stdout");
    // The first line is written with both in flight; by the second, the first may have been answered.
    assert_eq!(lines[0]["correlation"], "ambiguous", "{lines:?}");
    assert!(lines[0].get("trace_id").is_none() && lines[0].get("path").is_none());
    for line in &lines {
        let own = line["message"].as_str().unwrap().strip_prefix("handling ").unwrap();
        assert!(line.get("path").is_none_or(|path| path == own), "a wrong request: {line}");
    }
    curl(&["-H", &header, &url("/alone")]);
    let line = &traced.rows(1, |row| row["message"] == "handling /alone")[0];
    assert_eq!((&line["trace_id"], &line["correlation"]), (&TRACE[3..35].into(), &"thread".into()));
    traced.end();
}

/// The line comes by way of a file, and names its process.
#[test]
fn lines_of_a_log_file_are_joined_by_their_pid() {
    let Some(place) = possible("log file") else { return };
    let script = "import datetime, http.server, os, sys\nlog = open(sys.argv[1], 'a', buffering=1)\n\
        class H(http.server.BaseHTTPRequestHandler):\n  def do_GET(self):\n   \
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='milliseconds')\n   \
        log.write(f'{now} INFO pid={os.getpid()} handling {self.path}\\n')\n   \
        self.send_response(200)\n   self.end_headers()\n  def log_message(self, *a): pass\n\
        s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\nprint(s.server_address[1], flush=True)\ns.serve_forever()";
    let log = place.path("app.log");
    let server = Program::command(&["-c", script, log.to_str().unwrap()]);
    let config = format!(
        "[[pipelines]]\nname = \"k\"\n[[pipelines.sources]]\ntype = \"ebpf\"\ncapture = [\"http\"]\n\
         scope = {{ pid = [{}] }}\n[[pipelines.sinks]]\ntype = \"null\"\n[[pipelines]]\nname = \"app\"\n\
         [[pipelines.sources]]\ntype = \"file\"\npath = \"{}\"\n[[pipelines.filters]]\ntype = \"correlate\"\n\
         [[pipelines.filters]]\ntype = \"include\"\npatterns = [\"correlation=pid_single\"]\n\
         [[pipelines.sinks]]\ntype = \"file\"\npath = \"{}\"\n",
        server.id(),
        log.display(),
        place.path("joined.log").display()
    );
    let traced = Traced::start_config(&place, &config);
    let header = format!("traceparent: {TRACE}");
    curl(&["-H", &header, &format!("http://127.0.0.1:{}/logged", server.port)]);
    let joined = support::eventually("the joined line", || {
        let text = String::from_utf8(place.read("joined.log")).unwrap();
        text.contains("handling /logged").then_some(text)
    });
    assert!(joined.contains(&format!(
        "trace_id={} span_id={} method=GET path=/logged",
        &TRACE[3..35],
        &TRACE[36..52]
    )));
    drop(traced);
}

/// What the kernel refuses without capabilities, in words; with the two that suffice, everything but TLS.
#[test]
fn capabilities() {
    let Some(place) = possible("capabilities") else { return };
    let _alone = tls_alone();
    if !support::installed("setpriv") {
        programs::skip("capabilities", "setpriv is not installed");
        return;
    }
    let run = |extra: &[&str], capture: &str, optional: bool| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(extra);
        programs::run_for_a_moment(&place, command, capture, optional)
    };
    let none = ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"];
    let two = ["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"];
    let (code, errors) = run(&none, r#"["tcp"]"#, false);
    assert_ne!(code, Some(0));
    assert!(errors.contains("needs CAP_BPF and CAP_PERFMON"), "{errors}");
    assert!(errors.contains("sudo setcap cap_bpf,cap_perfmon+ep"), "{errors}");
    let (code, errors) = run(&none, r#"["tcp"]"#, true);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("nothing is traced") && errors.contains("CAP_BPF and CAP_PERFMON"), "{errors}");
    let (code, errors) = run(&two, r#"["tcp", "http"]"#, false);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("tcp=on(tp_btf)") && errors.contains("http=on(tp_btf)"), "{errors}");
    let (code, errors) = run(&two, r#"["tcp", "tls"]"#, true);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("tls=on(") || errors.contains("tls=off(needs CAP_SYS_ADMIN)"), "{errors}");
}

/// What is seen and cannot be told shows in the status and the metrics.
#[test]
fn what_is_not_told_is_counted() {
    let Some(place) = possible("counts") else { return };
    let server = Program::start(&["server.py"]);
    let weir = place.started(&format!(
        "[[pipelines]]\nname = \"k\"\n[[pipelines.sources]]\ntype = \"ebpf\"\ncapture = [\"http\"]\n\
         scope = {{ pid = [{}] }}\n[[pipelines.sinks]]\ntype = \"null\"\n",
        server.id()
    ));
    let preface = "import socket, sys\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
        s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'); s.recv(1)";
    programs::python(&["-c", preface, &server.port.to_string()]);
    let counts = support::eventually("the preface is counted", || {
        let counts = weir.component("k", "k.source.0.ebpf")["ebpf"].clone();
        (counts["http2_connections"] == 1).then_some(counts)
    });
    assert_eq!((&counts["untracked_connections"], &counts["unlinked_tls_calls"]), (&0.into(), &0.into()));
    assert_eq!(counts["left_out"], 0);
    assert!(counts["records"].as_u64().unwrap() >= 1, "{counts}");
    let (_, metrics) = support::http::get(&weir.authority(), "/metrics").unwrap();
    let series =
        "weir_ebpf_http2_connections_total{pipeline=\"k\",component=\"k.source.0.ebpf\",type=\"ebpf\"} 1";
    assert!(metrics.contains(series), "{metrics}");
}

#[test]
fn quick_flags_need_no_file() {
    let Some(place) = possible("quick flags") else { return };
    let server = Program::start(&["server.py"]);
    let mut command = place.command(&["--ebpf-tcp", "--ebpf-http-tracing", "--server.enabled=false"]);
    let mut traced = Traced::of(&place, command.stdout(Stdio::piped()));
    curl(&[&format!("http://127.0.0.1:{}/quick", server.port)]);
    traced.rows(2, |row| row["path"] == "/quick");
    traced.rows(1, |row| row["event"] == "tcp_accept" && row["pid"] == server.id());
    traced.end();
}

/// The exact account of a ring that nobody reads.
#[cfg(ebpf_object)]
mod ring {
    use super::*;
    use logweir::trace::kernel::{PROGRAMS, Tracer, try_program};
    use logweir::trace::records::Record;
    use logweir::trace::settings::{Capture, Scope, Settings};

    fn settings(capture: Capture, pid: u32, ring_bytes: u32) -> Settings {
        Settings {
            capture,
            scope: Scope { pids: vec![pid], ..Scope::default() },
            ring_bytes,
            without: Vec::new(),
        }
    }

    #[test]
    fn a_stalled_reader_loses_exactly_what_the_counter_says() {
        let Some(_place) = possible("drops") else { return };
        let script = "import os, sys\nprint(1, flush=True)\nsys.stdin.readline()\n\
            for n in range(3000): os.write(1, b'line %d\\n' % n)\nprint('done', flush=True)\nsys.stdin.readline()";
        let mut program = Program::command(&["-c", script]);
        let capture = Capture { stdio: true, ..Capture::default() };
        let mut tracer = Tracer::start(&settings(capture, program.id(), 4096)).unwrap();
        program.go_on();
        program.wait_for("done");
        // Nothing was read so far. Per CPU, the records there are and the highest sequence among them.
        let mut seen = std::collections::BTreeSet::new();
        let read = tracer.read(usize::MAX, |bytes| {
            let head = Record::parse(bytes).unwrap().head();
            assert!(seen.insert((head.cpu, head.sequence)), "twice: {head:?}");
        });
        let counts = tracer.counts();
        assert!(counts.tried >= 3000 && counts.dropped > 2000, "{counts:?}");
        assert_eq!(read as u64 + counts.dropped, counts.tried, "{counts:?}");
        // What is missing among the sequence numbers, up to the next record of each CPU, is what was dropped.
        program.go_on();
        drop(program);
        assert_eq!(seen.len(), read);
    }

    #[test]
    fn every_program_loads_alone() {
        if possible("programs").is_none() {
            return;
        }
        let mut refused = Vec::new();
        for name in PROGRAMS {
            match try_program(name) {
                Ok(()) => {}
                // A kernel may not allow the hooking of functions; then the other way is taken.
                Err(why) if *name == "conn_accept" && !why.contains("processed") => println!("{name}: {why}"),
                Err(why) => refused.push(format!("{name}: {why}")),
            }
        }
        assert!(refused.is_empty(), "{}", refused.join("\n\n"));
        assert!(try_program("no_such_program").is_err());
    }

    /// What `src/trace` is tested on without a kernel: `WEIR_REWRITE_FIXTURES=1` records it anew.
    #[test]
    fn a_session_is_recorded_and_read_again() {
        let Some(place) = possible("session") else { return };
        let _alone = tls_alone();
        let pem = certificate(&place);
        let (plain, tls) = (Program::start(&["server.py"]), Program::start(&["server.py", &pem]));
        let capture = Capture { tcp: true, http: true, tls: true, stdio: true };
        let comms = vec!["curl".to_owned(), "python3".to_owned()];
        let scope = Scope { comms, ports: vec![plain.port, tls.port], ..Scope::default() };
        let ring_bytes = 1 << 20;
        let mut tracer =
            Tracer::start(&Settings { capture, scope, ring_bytes, without: Vec::new() }).unwrap();
        let base = format!("http://127.0.0.1:{}", plain.port);
        let header = format!("traceparent: {TRACE}");
        let secret = "Authorization: Basic c2VjcmV0";
        curl(&["-H", &header, "-H", secret, &format!("{base}/a?b=1"), &format!("{base}/missing")]);
        curl(&["-k", "-H", &header, &format!("https://127.0.0.1:{}/tls", tls.port)]);
        let mut recorded = Vec::new();
        programs::until_quiet(|| {
            tracer.read(usize::MAX, |bytes| {
                // Other tests' programs write, too.
                let foreign = matches!(Record::parse(bytes), Ok(Record::Output(output))
                    if ![plain.id(), tls.id()].contains(&output.owner.pid));
                if !foreign {
                    recorded.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
                    recorded.extend_from_slice(bytes);
                }
            })
        });
        if std::env::var_os("WEIR_REWRITE_FIXTURES").is_some() {
            std::fs::write("src/trace/testdata/session.bin", &recorded).unwrap();
        }
        let (mut events, mut rest) = (Vec::new(), recorded.as_slice());
        let wanted = logweir::trace::http::pairing::Wanted { tcp: true, query: true };
        let mut pairing = logweir::trace::http::Pairing::new(wanted, std::path::Path::new("/proc"), 1024);
        while let Some((len, bytes)) = rest.split_first_chunk::<4>() {
            let (record, after) = bytes.split_at(u32::from_le_bytes(*len) as usize);
            pairing.record(&Record::parse(record).unwrap(), &mut events);
            rest = after;
        }
        let is_exchange = |event: &&_| matches!(event, logweir::trace::event::TraceEvent::Exchange(_));
        assert_eq!(events.iter().filter(is_exchange).count(), 6, "{events:#?}");
    }
}
