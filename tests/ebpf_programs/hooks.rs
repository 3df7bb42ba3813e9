//! The ways to hook the same thing, each by itself: what the best kind tells, the others tell as well, down to classic
//! tracepoints, for which the test mounts tracefs where nobody else sees it.

use std::process::Command;

use logweir::trace::event::{Change, TraceEvent};
use logweir::trace::http::Pairing;
use logweir::trace::http::pairing::Wanted;
use logweir::trace::kernel::Tracer;
use logweir::trace::records::Record;
use logweir::trace::settings::{Capture, Scope, Settings};

use crate::programs::{self, Program, certificate, curl, left_out, possible, tls_alone};

/// A tracing of one process that has to do without some programs.
fn tracer(capture: Capture, program: &Program, without: &[&'static str]) -> Tracer {
    let scope = Scope { pids: vec![program.id()], ..Scope::default() };
    Tracer::start(&Settings { capture, scope, ring_bytes: 1 << 20, without: without.to_vec() }).unwrap()
}

/// What the ring tells.
fn told(tracer: &mut Tracer) -> Vec<TraceEvent> {
    let wanted = Wanted { tcp: true, query: false };
    let mut pairing = Pairing::new(wanted, std::path::Path::new("/proc"), 1024);
    let mut events = Vec::new();
    tracer.read(usize::MAX, |bytes| pairing.record(&Record::parse(bytes).unwrap(), &mut events));
    pairing.finish(0, &mut events);
    events
}

/// How many paths both ends of `calls.py` told of. The ends of calls show the first message of sendmmsg only: those
/// are left out.
fn whole(events: &[TraceEvent]) -> usize {
    let mut paths = std::collections::BTreeMap::new();
    for event in events {
        if let TraceEvent::Exchange(exchange) = event {
            *paths.entry(exchange.request.path.clone()).or_insert(0) += 1;
        }
    }
    paths.iter().filter(|(path, n)| !path.contains("sendmmsg") && **n == 2).count()
}

/// On a kernel without the socket tracepoints, the ends of system calls are hooked instead.
#[test]
fn older_kernels_are_served_by_system_calls() {
    let Some(_place) = possible("fallback") else { return };
    let mut program = Program::start(&["calls.py"]);
    let capture = Capture { http: true, ..Capture::default() };
    let mut tracer = tracer(capture, &program, &["http_sent"]);
    assert_eq!(tracer.hooks().to_string(), "tcp=on(tp_btf) http=on(tp_btf sys_exit)");
    program.go_on();
    program.wait_for("done");
    assert_eq!(whole(&told(&mut tracer)), 40);
}

/// Kernels before 6.6 hook one function after the other, newer ones those of a library at once: both tell the same, of
/// the library's older functions (curl) and of the newer ones (python).
#[test]
fn tls_is_hooked_at_once_or_one_by_one() {
    let Some(place) = possible("tls, both ways") else { return };
    let _alone = tls_alone();
    let pem = certificate(&place);
    let client = "import ssl, sys, urllib.request\n\
        urllib.request.urlopen(sys.argv[1], context=ssl._create_unverified_context()).read()";
    for (without, way) in [(&[][..], "tls=on(uprobe_multi, "), (&["uprobe_multi"], "tls=on(uprobe, ")] {
        let server = Program::start(&["server.py", &pem]);
        let capture = Capture { tls: true, ..Capture::default() };
        let scope = Scope { ports: vec![server.port], ..Scope::default() };
        let settings = Settings { capture, scope, ring_bytes: 1 << 20, without: without.to_vec() };
        let mut tracer = Tracer::start(&settings).unwrap();
        let hooks = tracer.hooks().to_string();
        if !hooks.contains(way) {
            assert!(without.is_empty() && hooks.contains("tls=on(uprobe, "), "{hooks}");
            left_out("tls at once", "the kernel has no uprobe_multi");
            continue;
        }
        let url = format!("https://127.0.0.1:{}", server.port);
        curl(&["-k", &format!("{url}/curl"), &format!("{url}/again")]);
        programs::python(&["-c", client, &format!("{url}/python")]);
        let mut seen = Vec::new();
        for event in told(&mut tracer) {
            if let TraceEvent::Exchange(exchange) = event {
                let request = &exchange.request;
                assert!(request.tls && !request.connection_inferred, "{way} {exchange:?}");
                seen.push((request.path.clone(), request.connection.role.as_str(), exchange.status));
            }
        }
        seen.sort();
        let both = |path: &str| ["client", "server"].map(|role| (path.into(), role, Some(200)));
        assert_eq!(seen, ["/again", "/curl", "/python"].map(both).concat(), "{way}");
        let start = logweir::base::clock::now();
        drop(tracer);
        let took = start.elapsed();
        println!("{hooks}: unhooked in {took:?}");
        assert!(!without.is_empty() || took.as_secs_f64() < 2.0, "{took:?}");
    }
}

/// Who accepts is known by the function, by the first use of the connection, and by the end of the call.
#[test]
fn who_accepts_is_known_in_every_way() {
    let Some(_place) = possible("accept") else { return };
    let script = "import socket, sys\nl = socket.create_server(('127.0.0.1', 0))\n\
        print(l.getsockname()[1], flush=True)\nsys.stdin.readline()\n\
        c = socket.create_connection(l.getsockname()); a, _ = l.accept(); c.sendall(b'x'); a.recv(1)\n\
        c.close(); a.close()\n\
        c = socket.create_connection(l.getsockname()); a, _ = l.accept(); a.close(); c.close()\n\
        print('done', flush=True)\nsys.stdin.readline()";
    let (tcp, both) = (
        Capture { tcp: true, ..Capture::default() },
        Capture { tcp: true, http: true, ..Capture::default() },
    );
    for (capture, without, hooks) in [
        (tcp, &[][..], "tcp=on(tp_btf) accept=on("),
        (tcp, &["conn_accept"], "tcp=on(tp_btf) accept=on(first use)"),
        (both, &["conn_accept"], "tcp=on(tp_btf) accept=on(first use) http=on(tp_btf)"),
        (tcp, &["conn_accept", "conn_sent"], "tcp=on(tp_btf) accept=on(tp_btf sys_exit)"),
    ] {
        let mut program = Program::command(&["-c", script]);
        let mut tracer = tracer(capture, &program, without);
        assert!(tracer.hooks().to_string().starts_with(hooks), "{}", tracer.hooks());
        program.go_on();
        program.wait_for("done");
        let events = told(&mut tracer);
        let of = |wanted: fn(&Change) -> bool| {
            let is = |event: &&TraceEvent| {
                matches!(event, TraceEvent::Connection(c)
                if wanted(&c.change) && c.connection.process.pid == program.id() && !c.connection.process_guessed)
            };
            events.iter().filter(is).count()
        };
        assert_eq!(of(|change| *change == Change::Opened), 2, "{hooks}: {events:#?}");
        // One that was used, and one that was closed at once.
        assert_eq!(of(|change| *change == Change::Accepted), 2, "{hooks}: {events:#?}");
        assert_eq!(of(|change| matches!(change, Change::Closed(_))), 4, "{hooks}: {events:#?}");
    }
}

/// Where typed tracepoints cannot be had. Classic ones are found by tracefs, which the test mounts in a mount namespace
/// of its own and runs itself anew in there.
#[test]
fn classic_tracepoints_take_over() {
    const MOUNTED: &str = "EBPF_TEST_TRACEFS";
    let Some(_place) = possible("classic tracepoints") else { return };
    if !std::path::Path::new("/sys/kernel/tracing/events").exists() {
        assert!(std::env::var_os(MOUNTED).is_none(), "tracefs is mounted, and has no events");
        let mount = "mount -t tracefs tracefs /sys/kernel/tracing || exit 77; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", mount, "sh"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "hooks::classic_tracepoints_take_over"]).env(MOUNTED, "1");
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        if output.status.code() == Some(77) || said.starts_with("unshare:") {
            left_out("classic tracepoints", &format!("tracefs cannot be mounted: {}", said.trim()));
            return;
        }
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let mut program = Program::start(&["calls.py"]);
    let capture = Capture { tcp: true, http: true, stdio: true, tls: false };
    let without = ["conn_state", "conn_accept", "http_sent", "http_call", "stdio_written"];
    let mut tracer = tracer(capture, &program, &without);
    assert_eq!(
        tracer.hooks().to_string(),
        "tcp=on(tracepoint) accept=on(first use) http=on(tracepoint) stdio=on(tracepoint)"
    );
    program.go_on();
    program.wait_for("done");
    let events = told(&mut tracer);
    assert_eq!(whole(&events), 40, "{events:#?}");
    let changes = |wanted: fn(&Change) -> bool| {
        let is = |event: &&TraceEvent| matches!(event, TraceEvent::Connection(c) if wanted(&c.change));
        events.iter().filter(is).count()
    };
    assert_eq!(changes(|change| *change == Change::Opened), 48);
    assert_eq!(changes(|change| *change == Change::Accepted), 48);
    assert!(changes(|change| matches!(change, Change::Closed(_))) >= 94);
    let is_line = |event: &&TraceEvent| matches!(event, TraceEvent::Line(line) if line.text == b"done"[..]);
    assert_eq!(events.iter().filter(is_line).count(), 1, "{events:#?}");
}
