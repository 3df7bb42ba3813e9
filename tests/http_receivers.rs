//! The `http_client` sink against receivers that nobody here wrote: Python's HTTP server, and one behind TLS by
//! `openssl`'s certificates. Refused events end in the dead-letter pipeline of the real program.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use support::weir::Place;
use support::{eventually, installed, skip};

/// Takes JSON lines, appends each message to `got.txt`, refuses requests of more than three events with 413 and
/// those with a "bad" one with 400; every fifth request ends in a 500.
const RECEIVER: &str = r#"
import json, sys, gzip, http.server
count = 0
class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        global count
        count += 1
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.headers["content-type"] == "application/json":
            rows = [row["message"] for row in json.loads(body)]
        else:
            rows = [json.loads(line)["message"] for line in body.splitlines()]
        ok = self.headers["authorization"] == "Bearer open sesame" and self.headers["x-tenant"] == "web"
        code = 401 if not ok else 500 if count % 5 == 0 else 413 if len(rows) > 3 else 400 if "bad" in rows else 200
        if code == 200:
            with open("got.txt", "a") as out:
                out.writelines(row + "\n" for row in rows)
        answer = b"thank you"
        self.send_response(code)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
if len(sys.argv) > 1:
    import ssl
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain("cert.pem", "key.pem")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

struct Python(Child, u16);

impl Drop for Python {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn python(place: &Place, args: &[&str]) -> Python {
    place.write("receiver.py", RECEIVER);
    let mut command = Command::new("python3");
    command.arg("receiver.py").args(args).current_dir(place.dir()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("python3 starts");
    let mut port = String::new();
    let output = child.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut port).expect("it says its port");
    Python(child, port.trim().parse().expect("a port"))
}

fn sorted(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<_> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn delivers(place: &Place, url: &str, more: &str) {
    place.write("token", "open sesame\n");
    let lines = ["one", "two", "bad", "three", "four", "five", "bad", "six", "seven", "eight"];
    place.write("in.log", lines.join("\n") + "\n");
    let mut weir = place.started(&format!(
        r#"
        [[pipelines]]
        name = "ship"
        sources = [{{ type = "file", path = "DIR/in.log" }}]
        [[pipelines.sinks]]
        type = "http_client"
        url = "{url}"
        headers = {{ x-tenant = "web" }}
        auth = {{ bearer = {{ file = "DIR/token" }} }}
        dead_letter = "refused"
        retry = {{ initial_delay = "5ms", max_delay = "50ms" }}
        {more}
        [[pipelines]]
        name = "refused"
        sources = [{{ type = "pipeline" }}]
        sinks = [{{ type = "file", path = "DIR/refused.log" }}]
        "#
    ));
    eventually("all is delivered or refused", || {
        let sink = weir.component("ship", "ship.sink.0.http_client");
        (sink["received"] == 10 && sink["queued"] == 0).then_some(())
    });
    let sink = weir.component("ship", "ship.sink.0.http_client");
    assert_eq!((&sink["delivered"], &sink["dropped"]["rejected"]), (&8.into(), &2.into()), "{sink}");
    weir.wait_ready();
    let errors = weir.stop();
    assert!(!errors.contains("sesame"), "{errors}");
    assert_eq!(
        sorted(&place.read("got.txt")),
        ["eight", "five", "four", "one", "seven", "six", "three", "two"]
    );
    assert_eq!(place.read("refused.log"), b"bad\nbad\n");
}

#[test]
fn a_python_receiver_gets_what_it_wants_and_the_rest_is_kept() {
    if !installed("python3") {
        return skip("http_receivers", "python3 is not installed");
    }
    for more in
        ["compression = \"gzip\"", "body = \"json_array\"\nconcurrency = 1", "strategy = \"round_robin\""]
    {
        let place = Place::new();
        let server = python(&place, &[]);
        delivers(&place, &format!("http://127.0.0.1:{}/in", server.1), more);
    }
}

#[test]
fn a_python_receiver_behind_tls_is_checked_by_its_certificate() {
    if !installed("python3") || !installed("openssl") {
        return skip("http_receivers over TLS", "python3 or openssl is not installed");
    }
    let place = Place::new();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=DNS:logs.test"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(place.dir())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let server = python(&place, &["tls"]);
    let url = format!("https://localhost:{}/in", server.1);
    delivers(&place, &url, "tls = { ca_file = \"DIR/cert.pem\", server_name = \"logs.test\" }");
}
