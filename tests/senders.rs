//! Senders that nobody here wrote, as people run them: syslog-ng and rsyslog daemons, the logging handlers of Python's
//! standard library and of graypy, and the requests that Fluent Bit and Fluentd make, byte for byte as their sources
//! write them. What was sent must arrive once, in order, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::zombie_processes, reason = "the guard that ends them waits for them")]

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::weir::{Place, Weir};
use support::{eventually, free_port, installed, skip};

/// A pipeline that writes what its source takes to `<name>.log`.
fn pipeline(name: &str, source: &str, format: &str) -> String {
    format!(
        "[[pipelines]]\nname = \"{name}\"\n[[pipelines.sources]]\n{source}\n\
         [[pipelines.sinks]]\ntype = \"file\"\npath = \"DIR/{name}.log\"\nformat = {{ type = \"{format}\" }}\n"
    )
}

/// A `tcp` source, or another that listens on an address.
fn listening(kind: &str, port: u16, options: &str) -> String {
    format!("type = \"{kind}\"\nlisten = \"127.0.0.1:{port}\"\n{options}")
}

/// Waits until a file holds so many lines.
fn lines(place: &Place, name: &str, count: usize) -> Vec<String> {
    eventually(&format!("{name} has {count} lines"), || {
        let text = String::from_utf8_lossy(&place.read(name)).into_owned();
        (text.matches('\n').count() >= count).then(|| text.lines().map(str::to_owned).collect())
    })
}

/// What a file holds once it has so many lines: each ends with what was sent, in order, and there are no others.
fn assert_ends(place: &Place, name: &str, sent: &[String]) -> Vec<String> {
    let found = lines(place, name, sent.len());
    assert_eq!(found.len(), sent.len(), "{name}: {:?}", &found[..found.len().min(5)]);
    for (line, text) in found.iter().zip(sent) {
        assert!(line.ends_with(text), "{name}: `{line}` does not end with `{text}`");
    }
    found
}

/// The block of a guide that begins with `start`, as its readers copy it, pointed at this machine.
fn guide(page: &str, start: &str, ports: &[(&str, u16)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let mut blocks = text.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.find(|block| block.starts_with(start)).unwrap_or_else(|| panic!("{page}: {start}"));
    ports.iter().fold(block.replace("weir.example.com", "127.0.0.1"), |block, (named, port)| {
        assert!(block.contains(named), "{page}: no port {named} in {block}");
        block.replace(named, &port.to_string())
    })
}

const SOCKETS: &str = "receive-logs-over-tcp-udp-unix.md";

/// A daemon that is ended when dropped; what it says is in `daemon.out`.
struct Daemon(Child);

impl Daemon {
    fn start(place: &Place, command: &mut Command) -> Daemon {
        let out = File::create(place.path("daemon.out")).unwrap();
        let command = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        Daemon(command.current_dir(place.dir()).spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs a script by a Python to its end; what it printed. It must succeed.
fn python(python: &str, script: &str) -> String {
    let output = Command::new(python).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether Python is there; says so where not.
fn has_python(test: &str) -> bool {
    let there = installed("python3");
    if !there {
        skip(test, "python3 is not installed");
    }
    there
}

/// The root that syslog-ng is installed below: `/`, or `/opt/syslog-ng`, where its package can be unpacked beside
/// rsyslog, with which it conflicts.
fn syslog_ng() -> Option<PathBuf> {
    ["/", "/opt/syslog-ng"]
        .map(PathBuf::from)
        .into_iter()
        .find(|root| root.join("usr/sbin/syslog-ng").exists())
}

/// The directory of its modules.
fn syslog_ng_modules(root: &Path) -> Option<PathBuf> {
    let all = std::fs::read_dir(root.join("usr/lib/syslog-ng")).ok()?;
    all.map(|entry| entry.unwrap().path()).find(|path| path.join("libaffile.so").exists())
}

/// Starts syslog-ng with `destinations` (each begins with `destination NAME {`) for what is appended to `in.log`.
fn start_syslog_ng(place: &Place, root: &Path, destinations: &[String]) -> Daemon {
    let modules = syslog_ng_modules(root).unwrap();
    let version = modules.file_name().unwrap().to_str().unwrap();
    let dir = place.dir().to_str().unwrap();
    let name = |text: &String| text.split_whitespace().nth(1).unwrap().to_owned();
    let to: String = destinations.iter().map(|d| format!("destination({});\n", name(d))).collect();
    let all = destinations.concat();
    let config = format!(
        "@version: {version}\n@module affile\n@module afsocket\n@module http\n\
         {all}\nlog {{ source {{ file(\"{dir}/in.log\" flags(no-parse) follow-freq(0.1)); }};\n{to}}};\n"
    );
    place.write("in.log", "");
    place.write("syslog-ng.conf", config);
    let mut command = Command::new(root.join("usr/sbin/syslog-ng"));
    command.args(["-F", "--no-caps", "--stderr", "-f", "syslog-ng.conf", "-R", "persist"]);
    command.args(["-c", &format!("{dir}/control"), "-p", &format!("{dir}/pid")]);
    command.arg(format!("--module-path={}", modules.display()));
    command.env("LD_LIBRARY_PATH", root.join("usr/lib/syslog-ng"));
    Daemon::start(place, &mut command)
}

#[test]
fn syslog_ng_by_its_syslog_network_and_http_destinations() {
    const TEST: &str = "syslog_ng_by_its_syslog_network_and_http_destinations";
    let Some(root) = syslog_ng() else { return skip(TEST, "syslog-ng is not installed") };
    if !syslog_ng_modules(&root).is_some_and(|modules| modules.join("libhttp.so").exists()) {
        return skip(TEST, "syslog-ng's module http is not installed");
    }
    let (place, counted, plain) = (Place::new(), free_port(), free_port());
    let weir = place.started(
        &[
            pipeline("counted", &listening("tcp", counted, "framing = \"octet_counted\""), "raw"),
            pipeline("plain", &listening("tcp", plain, ""), "raw"),
            pipeline("app", "type = \"http\"", "raw"),
        ]
        .concat(),
    );
    let router = weir.authority().rsplit_once(':').unwrap().1.parse().unwrap();
    let daemon = start_syslog_ng(
        &place,
        &root,
        &[
            guide(SOCKETS, "destination d_weir", &[("5170", counted)]).replace("d_weir", "d_counted"),
            format!(
                "destination d_plain {{ network(\"127.0.0.1\" transport(\"tcp\") port({plain}) template(\"$MSG\\n\")); }};\n"
            ),
            guide("receive-logs-over-http.md", "destination d_weir", &[("8080", router)]),
        ],
    );
    let sent: Vec<String> = (0..300).map(|i| format!("12 <{i}> \"routed\" {i}.")).collect();
    place.append("in.log", sent.join("\n") + "\n");
    for line in assert_ends(&place, "counted.log", &sent) {
        assert!(line.starts_with("<13>1 "), "{line}");
    }
    let found = assert_ends(&place, "plain.log", &sent);
    assert_eq!(found, sent);
    let found = lines(&place, "app.log", sent.len());
    let messages: Vec<Value> =
        found.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["MESSAGE"].clone()).collect();
    assert_eq!(messages, sent.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>());
    drop(daemon);
    weir.stop();
}

/// The network driver of rsyslog that speaks TLS.
fn rsyslog_tls_driver() -> Option<&'static str> {
    let multiarch = format!("/usr/lib/{}-linux-gnu/rsyslog", std::env::consts::ARCH);
    let there = |file: &str| {
        ["/usr/lib/rsyslog", "/usr/lib64/rsyslog", &multiarch]
            .map(Path::new)
            .iter()
            .any(|dir| dir.join(file).exists())
    };
    [("lmnsd_ossl.so", "ossl"), ("lmnsd_gtls.so", "gtls")]
        .into_iter()
        .find(|(file, _)| there(file))
        .map(|(_, driver)| driver)
}

#[test]
fn rsyslog_over_tls_with_a_certificate_of_weir_tls() {
    const TEST: &str = "rsyslog_over_tls_with_a_certificate_of_weir_tls";
    if !Path::new("/usr/sbin/rsyslogd").exists() {
        return skip(TEST, "rsyslogd is not installed");
    }
    let Some(driver) = rsyslog_tls_driver() else {
        return skip(TEST, "rsyslog's TLS driver is not installed");
    };
    let (place, port) = (Place::new(), free_port());
    for args in [&["ca"][..], &["server", "--name", "127.0.0.1"], &["client", "--name", "shipper-1"]] {
        assert_eq!(place.run(&[&["tls"], args].concat()).code, 0);
    }
    let tls = "framing = \"octet_counted\"\ntls = { cert_file = \"DIR/server.pem\", key_file = \"DIR/server.key\", \
               client_ca_file = \"DIR/ca.pem\", require_client_cert = true }";
    let weir = place.started(&pipeline("syslog", &listening("tcp", port, tls), "json"));
    let dir = place.dir().to_str().unwrap();
    let forward = guide(SOCKETS, "global(", &[("6514", port)]);
    let forward = forward.replace("/etc/rsyslog.d", dir).replace("\"ossl\"", &format!("\"{driver}\""));
    place.write("in.log", "");
    place.write(
        "rsyslog.conf",
        format!(
            "global(workDirectory=\"{dir}\")\nmodule(load=\"imfile\" pollingInterval=\"1\" mode=\"polling\")\n\
             input(type=\"imfile\" file=\"{dir}/in.log\" tag=\"app\" addMetadata=\"off\")\n{forward}"
        ),
    );
    let mut rsyslogd = Command::new("/usr/sbin/rsyslogd");
    rsyslogd.args(["-n", "-f", &format!("{dir}/rsyslog.conf"), "-i", &format!("{dir}/rsyslog.pid")]);
    let daemon = Daemon::start(&place, &mut rsyslogd);
    let sent: Vec<String> = (0..300).map(|i| format!("encrypted {i}.")).collect();
    place.append("in.log", sent.join("\n") + "\n");
    // Besides, it tells of its own start.
    let find = |line: &String| -> Option<String> {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["source"], "shipper-1", "the name in its certificate: {line}");
        row["message"].as_str().unwrap().split_once(" app - - - ").map(|(_, text)| text.to_owned())
    };
    let found = eventually("all lines came", || {
        let text = String::from_utf8(place.read("syslog.log")).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        let found: Vec<String> = whole.lines().map(str::to_owned).filter_map(|line| find(&line)).collect();
        (found.len() >= sent.len()).then_some(found)
    });
    assert_eq!(found, sent);
    drop(daemon);
    weir.stop();
}

/// Posts as Fluent Bit and Fluentd do; Python's own client adds but `Host` and `Content-Length`, as theirs do.
const FLUENT: &str = r#"
import gzip, http.client, json, sys
port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
records = [{"date": 1763700000.25 + i, "log": "line %d é\n" % i, "stream": "stdout"} for i in range(3)]
dump = lambda r: json.dumps(r, separators=(",", ":"), ensure_ascii=False)
bit = {"User-Agent": "Fluent-Bit", "X-Tag": "app.web"}
posts = [
    # Fluent Bit: format json, the three kinds.
    (bit | {"Content-Type": "application/json"}, "[" + ",".join(map(dump, records)) + "]"),
    (bit | {"Content-Type": "application/json"}, "".join(map(dump, records))),
    (bit | {"Content-Type": "application/x-ndjson"}, "\n".join(map(dump, records)) + "\n"),
    # json_lines before Fluent Bit 3.1; a gelf body looks the same.
    (bit | {"Content-Type": "application/json"}, "\n".join(map(dump, records)) + "\n"),
    # compress gzip
    (bit | {"Content-Type": "application/json", "Content-Encoding": "gzip"}, "[" + ",".join(map(dump, records)) + "]"),
    # Fluentd: @type http, and with json_array true
    ({"Content-Type": "application/x-ndjson", "Accept": "*/*", "User-Agent": "Ruby", "Connection": "close"}, "".join(dump(r) + "\n" for r in records)),
    ({"Content-Type": "application/json", "Accept": "*/*", "User-Agent": "Ruby", "Connection": "close"}, "[" + ",".join(map(dump, records)) + "]"),
    # What they cannot send: MessagePack, Fluent Bit's default.
    (bit | {"Content-Type": "application/msgpack"}, "\x92\x01"),
]
for headers, body in posts:
    body = body.encode()
    if headers.get("Content-Encoding") == "gzip":
        body = gzip.compress(body)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/posted/ingest", body, headers)
    answer = connection.getresponse()
    print(answer.status, answer.read().decode().replace("\n", " "))
"#;

#[test]
fn fluent_bit_and_fluentd_post_as_their_sources_write_it() {
    if !has_python("fluent_bit_and_fluentd_post_as_their_sources_write_it") {
        return;
    }
    let place = Place::new();
    let weir = place.started(&pipeline("posted", "type = \"http\"", "raw"));
    let port = weir.authority().rsplit_once(':').unwrap().1.to_owned();
    let printed = python("python3", &FLUENT.replace("PORT", &port));
    let answers: Vec<&str> = printed.lines().collect();
    let (refused, taken) = answers.split_last().unwrap();
    assert_eq!(taken.len(), 7);
    for answer in taken {
        assert!(answer.starts_with("200 ") && answer.contains("\"accepted\":3"), "{answer}");
    }
    assert!(refused.starts_with("415 ") && refused.contains("application/x-ndjson"), "{refused}");
    let found = lines(&place, "posted.log", 21);
    assert_eq!(found.len(), 21);
    for (i, line) in found.iter().enumerate() {
        let i = i % 3;
        let expected =
            format!("{{\"date\":{}.25,\"log\":\"line {i} é\\n\",\"stream\":\"stdout\"}}", 1_763_700_000 + i);
        assert_eq!(*line, expected);
    }
    weir.stop();
}

/// Sends as Fluent Bit's output `tcp` with `format json_lines` does.
const FLUENT_TCP: &str = r#"
import json, socket
with socket.create_connection(("127.0.0.1", PORT)) as connection:
    for flush in range(10):
        rows = [{"date": 1763700000.0 + i, "log": "line %d" % i} for i in range(flush * 10, flush * 10 + 10)]
        connection.sendall("".join(json.dumps(r) + "\n" for r in rows).encode())
"#;

#[test]
fn fluent_bits_json_lines_over_tcp() {
    if !has_python("fluent_bits_json_lines_over_tcp") {
        return;
    }
    let (place, port) = (Place::new(), free_port());
    let weir = place.started(&pipeline("lines", &listening("tcp", port, ""), "raw"));
    python("python3", &FLUENT_TCP.replace("PORT", &port.to_string()));
    let sent: Vec<String> = (0..100).map(|i| format!("\"log\": \"line {i}\"}}")).collect();
    assert_ends(&place, "lines.log", &sent);
    weir.stop();
}

/// The five handlers of Python's standard library that send over a network.
const STANDARD: &str = r#"
import logging, logging.handlers as handlers, pickle, socket
log = logging.getLogger("app")
log.setLevel("INFO")
log.propagate = False
def each(handler, text="hello %d"):
    log.addHandler(handler)
    for i in range(50):
        log.info(text, i)
    log.removeHandler(handler)
    handler.close()
facility = handlers.SysLogHandler.LOG_LOCAL0
each(handlers.SysLogHandler(("127.0.0.1", UDP), facility))
each(handlers.SysLogHandler(("127.0.0.1", TCP), facility, socket.SOCK_STREAM))
each(handlers.SysLogHandler("DIR/log", facility))
each(handlers.SocketHandler("127.0.0.1", PICKLED))
each(handlers.HTTPHandler("127.0.0.1:ROUTER", "/form/ingest", "POST"))
"#;

#[test]
fn the_handlers_of_pythons_standard_library() {
    if !has_python("the_handlers_of_pythons_standard_library") {
        return;
    }
    let (place, tcp, pickled) = (Place::new(), free_port(), free_port());
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let weir = place.started(
        &[
            pipeline("udp", &listening("udp", udp, "framing = \"nul\""), "raw"),
            // No line breaks: it ends messages with a zero byte.
            pipeline("tcp", &listening("tcp", tcp, "framing = \"nul\""), "raw"),
            pipeline(
                "dev",
                "type = \"unix\"\npath = \"DIR/log\"\nmode = \"datagram\"\nframing = \"nul\"",
                "raw",
            ),
            pipeline("pickled", &listening("tcp", pickled, "framing = \"length_prefixed\""), "json"),
            pipeline("form", "type = \"http\"", "raw"),
        ]
        .concat(),
    );
    let router = weir.authority().rsplit_once(':').unwrap().1.to_owned();
    let script = STANDARD.replace("UDP", &udp.to_string()).replace("TCP", &tcp.to_string());
    let script = script.replace("PICKLED", &pickled.to_string()).replace("ROUTER", &router);
    python("python3", &script.replace("DIR", place.dir().to_str().unwrap()));
    let sent: Vec<String> = (0..50).map(|i| format!("hello {i}")).collect();
    for name in ["udp.log", "tcp.log", "dev.log"] {
        for (line, text) in assert_ends(&place, name, &sent).iter().zip(&sent) {
            assert_eq!(*line, format!("<134>{text}"), "{name}");
        }
    }
    // Whole pickles: each has the text it was made of.
    let found = lines(&place, "pickled.log", 50);
    assert_eq!(found.len(), 50);
    for (i, line) in found.iter().enumerate() {
        assert!(line.contains(&format!("hello {i}q")), "{line}");
    }
    // Form fields are a plain line, as `curl -d` sends them.
    let found = lines(&place, "form.log", 50);
    assert_eq!(found.len(), 50);
    for (i, line) in found.iter().enumerate() {
        assert!(
            line.starts_with("name=app&msg=hello+%25d&") && line.contains(&format!("&args=%28{i}%2C%29&")),
            "{line}"
        );
    }
    no_cuts(&weir, &["udp", "tcp", "dev", "pickled", "form"]);
    weir.stop();
}

/// No source has cut or dropped anything.
fn no_cuts(weir: &Weir, pipelines: &[&str]) {
    for name in pipelines {
        let status = weir.status(name);
        let source = &status["components"][0];
        assert_eq!((&source["cut"], &source["dropped"]), (&0.into(), &serde_json::json!({})), "{status}");
    }
}

/// GELF by graypy: over TCP events end with a zero byte, over HTTP each is a request.
const GRAYPY: &str = r#"
import graypy, logging
log = logging.getLogger("app")
log.setLevel("INFO")
log.propagate = False
for handler in [graypy.GELFTCPHandler("127.0.0.1", TCP), graypy.GELFHTTPHandler("127.0.0.1", ROUTER, compress=False, path="/posted/ingest")]:
    log.addHandler(handler)
    for i in range(50):
        log.info("hello %d\nand more", i)
    log.removeHandler(handler)
    handler.close()
"#;

#[test]
fn gelf_by_graypy_over_tcp_and_http() {
    // A distribution's package is there for its own Python only.
    let found = ["/usr/bin/python3", "python3"].into_iter().find(|python| {
        Command::new(python)
            .args(["-c", "import graypy"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    let Some(interpreter) = found else {
        return skip("gelf_by_graypy_over_tcp_and_http", "python3-graypy is not installed");
    };
    let (place, tcp) = (Place::new(), free_port());
    let weir = place.started(
        &[
            pipeline("tcp", &listening("tcp", tcp, "framing = \"nul\""), "raw"),
            pipeline("posted", "type = \"http\"", "raw"),
        ]
        .concat(),
    );
    let router = weir.authority().rsplit_once(':').unwrap().1.to_owned();
    python(interpreter, &GRAYPY.replace(", TCP)", &format!(", {tcp})")).replace("ROUTER", &router));
    let mut expected: Vec<String> = (0..50).map(|i| format!("hello {i}\nand more")).collect();
    for name in ["tcp.log", "posted.log"] {
        let message = |line: &String| -> String {
            let row: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
            row["short_message"].as_str().unwrap().to_owned()
        };
        let mut found: Vec<String> = lines(&place, name, 50).iter().map(message).collect();
        if name == "posted.log" {
            // It does not wait for an answer before it sends the next: there is no order between connections.
            found.sort();
            expected.sort();
        }
        assert_eq!(found, expected, "{name}");
    }
    weir.stop();
}
