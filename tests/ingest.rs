//! Events posted by clients that nobody here wrote: curl in every content type and encoding, wrk in a crowd, raw
//! sockets where a client must misbehave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::weir::{Place, Weir};
use support::{PATIENCE, installed, skip};

/// A pipeline `app` with an `http` source that has these further options (TOML) and a file as its sink.
fn started(place: &Place, source: &str) -> Weir {
    place.started(&format!(
        "[[pipelines]]\nname = \"app\"\nsinks = [{{ type = \"file\", path = \"DIR/out.log\" }}]\n\
         [[pipelines.sources]]\ntype = \"http\"\n{source}\n"
    ))
}

fn out(place: &Place) -> String {
    String::from_utf8_lossy(&place.read("out.log")).into_owned()
}

/// What an answer was.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    fn parse(text: &str) -> Answer {
        // What precedes the last head is `100 Continue`.
        let at = text.rfind("HTTP/1.1 ").unwrap_or_else(|| panic!("no answer: {text}"));
        let (head, body) = text[at..].split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
        let code = head[9..12].parse().unwrap();
        Answer { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

/// Runs the real curl with `body` as its standard input.
fn curl(weir: &Weir, path: &str, args: &[&str], body: &[u8]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--http1.1", "-m", "30"]).args(args);
    command.arg(format!("http://{}{path}", weir.authority()));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&body).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Answer::parse(&String::from_utf8_lossy(&output.stdout))
}

fn post(weir: &Weir, headers: &[&str], body: &[u8]) -> Answer {
    let mut args = vec!["--data-binary", "@-"];
    headers.iter().for_each(|header| args.extend(["-H", header]));
    curl(weir, "/app/ingest", &args, body)
}

/// Whether curl is there; says so where it is not.
fn has_curl(test: &str) -> bool {
    let there = installed("curl");
    if !there {
        skip(test, "curl is not installed");
    }
    there
}

#[test]
fn curl_posts_every_kind_of_body() {
    if !has_curl("curl_posts_every_kind_of_body") {
        return;
    }
    let place = Place::new();
    let weir = started(&place, "");
    let mut expected = String::new();
    let json = "content-type: application/json";
    for (headers, body, events, lines) in [
        (&[json][..], &b"{\n \"a\": 1\n}"[..], 1, "{\"a\":1}\n"),
        (&[json], b"[{\"a\":2}, \"plain\", {\"b\": [1, 2]}]", 3, "{\"a\":2}\nplain\n{\"b\":[1,2]}\n"),
        (&["content-type: application/x-ndjson"], b"{\"a\": 3}\r\n{\"a\":4}\n", 2, "{\"a\": 3}\n{\"a\":4}\n"),
        (&["content-type: text/plain"], b"one\n\ntwo", 3, "one\n\ntwo\n"),
        (&[], b"said nothing", 1, "said nothing\n"),
        (&["content-type:"], b"{\"said\":\"nothing\"}", 1, "{\"said\":\"nothing\"}\n"),
        (&[json], b"[]", 0, ""),
    ] {
        let answer = post(&weir, headers, body);
        assert_eq!((answer.code, answer.json()), (200, json!({ "accepted": events, "dropped": 0 })));
        // The answer comes once the sink has the events.
        expected.push_str(lines);
        assert_eq!(out(&place), expected);
    }
    let component = weir.component("app", "app.source.0.http");
    assert_eq!(component["received"], 11, "{component}");
    assert_eq!(weir.stop().matches("ERROR").count(), 0);
}

#[test]
fn curl_posts_what_other_programs_compressed() {
    if !has_curl("curl_posts_what_other_programs_compressed") {
        return;
    }
    let place = Place::new();
    let weir = started(&place, "");
    let text = (0..2000).map(|i| format!("line {i}\n")).collect::<String>();
    let mut expected = String::new();
    for (coding, program) in [("gzip", "gzip"), ("zstd", "zstd")] {
        if !installed(program) {
            skip("curl_posts_what_other_programs_compressed", &format!("{program} is not installed"));
            continue;
        }
        place.write("half", &text);
        let packed =
            Command::new(program).args(["-c", "-q"]).arg(place.path("half")).output().unwrap().stdout;
        // Two members, or frames, are one body.
        let body = [packed.clone(), packed].concat();
        let answer =
            post(&weir, &["content-type: text/plain", &format!("content-encoding: {coding}")], &body);
        assert_eq!(answer.json(), json!({ "accepted": 4000, "dropped": 0 }));
        expected.push_str(&text.repeat(2));
        assert!(out(&place) == expected, "{coding}");
        let cut = post(&weir, &[&format!("content-encoding: {coding}")], &body[..body.len() - 3]);
        assert_eq!(cut.code, 400, "{cut:?}");
        assert!(cut.body.contains("cut off") || cut.body.contains("incomplete"), "{cut:?}");
    }
    assert!(out(&place) == expected, "nothing of a broken body is taken in");
}

#[test]
fn a_decompression_bomb_is_refused_and_leaves_nothing() {
    if !has_curl("a_decompression_bomb_is_refused_and_leaves_nothing") {
        return;
    }
    if !installed("gzip") {
        return skip("a_decompression_bomb_is_refused_and_leaves_nothing", "gzip is not installed");
    }
    let place = Place::new();
    let weir = started(&place, "max_decompressed_size = \"1MiB\"");
    place.write("zeros", vec![0u8; 64 << 20]);
    let bomb = Command::new("gzip").arg("-c").arg(place.path("zeros")).output().unwrap().stdout;
    let answer = post(&weir, &["content-encoding: gzip"], &bomb);
    assert_eq!(answer.code, 413, "{answer:?}");
    assert!(answer.body.contains("1048576 bytes are taken once decompressed"), "{answer:?}");
    assert_eq!(out(&place), "");
}

#[test]
fn what_is_refused_says_why_and_leaves_nothing() {
    if !has_curl("what_is_refused_says_why_and_leaves_nothing") {
        return;
    }
    let place = Place::new();
    let weir = started(
        &place,
        "max_body_size = \"1KiB\"\nschema = { required = [\"msg\"], types = { n = \"number\" } }",
    );
    let json = "content-type: application/json";
    let deep = format!("{{\"msg\":{}", "[".repeat(1000));
    let large = vec![b'x'; 3000];
    for (headers, body, code, says) in [
        (&[json][..], &b"[{\"msg\":1},\n{\"msg\":}]"[..], 400, "line 2, column 8, element 1"),
        (
            &[json],
            b"[{\"msg\":1},\n{\"n\":1}]",
            400,
            "element 1 of the array (counted from 0): the required field `msg` is missing",
        ),
        (&[json], b"{\"msg\":1,\"n\":\"1\"}", 400, "the field `n` must be a number, it is \\\"1\\\""),
        (&[json], deep.as_bytes(), 400, "nested more than 128 deep"),
        (
            &["content-type: application/xml"],
            b"<a/>",
            415,
            "application/json, application/x-ndjson, text/plain",
        ),
        (&[json, "content-encoding: br"], b"x", 415, "gzip, zstd, deflate, snappy"),
        (&[json, "content-encoding: gzip"], b"{\"msg\":1}", 400, "the body is not gzip"),
        (&[json], &large, 413, "at most 1024 bytes are taken"),
        (&[json, "transfer-encoding: chunked"], &large, 413, "at most 1024 bytes are taken"),
        (&[json, "expect: 100-continue"], &large, 413, "at most 1024 bytes are taken"),
        (&[json, "origin: http://evil.example"], b"{\"msg\":1}", 403, "origin"),
    ] {
        let answer = post(&weir, headers, body);
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.body.contains(says), "{says}: {answer:?}");
        assert!(answer.head.contains("application/problem+json"), "{answer:?}");
    }
    for method in ["GET", "PUT", "DELETE"] {
        let answer = curl(&weir, "/app/ingest", &["-X", method], b"");
        assert_eq!((answer.code, answer.head.contains("allow: post")), (405, true), "{answer:?}");
    }
    assert_eq!(curl(&weir, "/app/ingest", &["-I"], b"").code, 405);
    assert_eq!(out(&place), "", "nothing of a bad request is taken in");
    assert_eq!(post(&weir, &[json], b"{\"msg\":1}").code, 200);
}

#[test]
fn a_rate_limit_tells_each_request_what_it_refused() {
    if !has_curl("a_rate_limit_tells_each_request_what_it_refused") {
        return;
    }
    let place = Place::new();
    let weir = place.started(
        "[[pipelines]]\nname = \"app\"\nsources = [{ type = \"http\" }]\n\
         rate_limit = { events_per_second = 0.001, burst = 3, policy = \"drop\", max_event_size = \"4B\" }\n\
         sinks = [{ type = \"file\", path = \"DIR/out.log\" }]\n",
    );
    let plain = ["content-type: text/plain"];
    assert_eq!(post(&weir, &plain, b"a\nb").json(), json!({ "accepted": 2, "dropped": 0 }));
    assert_eq!(post(&weir, &plain, b"c\ntoo long\nd").json(), json!({ "accepted": 1, "dropped": 2 }));
    let none = post(&weir, &plain, b"e");
    assert_eq!((none.code, none.head.contains("retry-after: 1")), (429, true), "{none:?}");
    assert_eq!(out(&place), "a\nb\nc\n");
}

/// A connection that sends what it is told to.
fn raw(weir: &Weir) -> TcpStream {
    let stream = TcpStream::connect(weir.authority()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn head(weir: &Weir, more: &str) -> String {
    format!(
        "POST /app/ingest HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain\r\n{more}\r\n",
        weir.authority()
    )
}

fn read_all(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn requests_in_a_row_are_answered_in_order_on_one_connection() {
    let place = Place::new();
    let weir = started(&place, "");
    let mut stream = raw(&weir);
    let mut requests = String::new();
    for line in ["one", "two", "three"] {
        requests.push_str(&head(&weir, &format!("content-length: {}\r\n", line.len())));
        requests.push_str(line);
    }
    requests.push_str(&head(&weir, "connection: close\r\ncontent-length: 4\r\n"));
    requests.push_str("last");
    stream.write_all(requests.as_bytes()).unwrap();
    let answers = read_all(stream);
    assert_eq!(answers.matches("{\"accepted\":1,\"dropped\":0}").count(), 4, "{answers}");
    assert_eq!(out(&place), "one\ntwo\nthree\nlast\n");
}

#[test]
fn a_client_that_waits_to_be_told_is_told_to_go_on() {
    let place = Place::new();
    let weir = started(&place, "");
    let mut stream = raw(&weir);
    let request = head(&weir, "expect: 100-continue\r\nconnection: close\r\ncontent-length: 5\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = [0; 25];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    assert_eq!(Answer::parse(&read_all(stream)).code, 200);
    // One whose body is too large is not asked for it.
    let mut stream = raw(&weir);
    let request = head(&weir, "expect: 100-continue\r\ncontent-length: 99999999999\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let answer = read_all(stream);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(out(&place), "hello\n");
}

#[test]
fn a_body_that_stands_still_or_trickles_is_ended() {
    let place = Place::new();
    let weir = started(&place, "read_timeout = \"300ms\"");
    // Stands still.
    let mut still = raw(&weir);
    still.write_all(head(&weir, "content-length: 100\r\n").as_bytes()).unwrap();
    still.write_all(b"half").unwrap();
    assert_eq!(Answer::parse(&read_all(still)).code, 408);
    // A byte every 50 ms is progress, but no pace.
    let mut slow = raw(&weir);
    slow.write_all(head(&weir, "content-length: 100000\r\n").as_bytes()).unwrap();
    let mut sent = 0;
    while slow.write_all(b"x").is_ok() {
        sent += 1;
        assert!(sent < 400, "it goes on for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(out(&place), "");
    assert_eq!(weir.component("app", "app.source.0.http")["received"], 0);
}

#[test]
fn clients_that_break_off_leave_nothing_and_hold_nobody_up() {
    let place = Place::new();
    let weir = started(&place, "");
    for _ in 0..50 {
        let mut stream = raw(&weir);
        stream.write_all(head(&weir, "content-length: 1000\r\n").as_bytes()).unwrap();
        stream.write_all(b"half a line\nand a ha").unwrap();
    }
    let mut whole = raw(&weir);
    whole.write_all(head(&weir, "connection: close\r\ncontent-length: 5\r\n").as_bytes()).unwrap();
    whole.write_all(b"whole").unwrap();
    assert_eq!(Answer::parse(&read_all(whole)).code, 200);
    assert_eq!(out(&place), "whole\n");
    assert_eq!(weir.stop().matches("ERROR").count(), 0);
}

#[test]
fn smuggled_requests_are_not_taken_for_two() {
    let place = Place::new();
    let weir = started(&place, "");
    let inner = format!(
        "POST /app/ingest HTTP/1.1\r\nhost: {}\r\ncontent-length: 8\r\n\r\nsmuggled",
        weir.authority()
    );
    for headers in [
        "content-length: 5\r\ncontent-length: 6\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(),
        "content-length: -1\r\n".to_owned(),
        "content-length: 5, 5\r\ntransfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding : chunked\r\n".to_owned(),
    ] {
        let mut stream = raw(&weir);
        stream.write_all(head(&weir, &headers).as_bytes()).unwrap();
        stream.write_all(b"0\r\n\r\n").ok();
        stream.write_all(inner.as_bytes()).ok();
        let answers = read_all(stream);
        assert!(answers.starts_with("HTTP/1.1 4") || answers.is_empty(), "{headers:?}: {answers}");
    }
    // Both a length and chunks, whichever comes first: whoever stands before us may see another end.
    let chunked = "transfer-encoding: chunked\r\n";
    for headers in [format!("content-length: 3\r\n{chunked}"), format!("{chunked}content-length: 3\r\n")] {
        let mut stream = raw(&weir);
        stream.write_all(head(&weir, &headers).as_bytes()).unwrap();
        stream.write_all(format!("5\r\nabcde\r\n0\r\n\r\n{inner}").as_bytes()).ok();
        let answers = read_all(stream);
        assert!(answers.starts_with("HTTP/1.1 400") && answers.contains("two ends"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    }
    assert_eq!(out(&place), "");
}

#[test]
fn pages_that_the_server_allows_may_post_to_a_listener_of_its_own() {
    let place = Place::new();
    let port = support::free_port();
    let weir = place.started(&format!(
        "server.cors_origins = [\"https://ops.example\"]\n[[pipelines]]\nname = \"app\"\n\
         sources = [{{ type = \"http\", listen = \"127.0.0.1:{port}\" }}]\nsinks = [{{ type = \"null\" }}]\n"
    ));
    for (origin, code) in [("https://ops.example", 200), ("https://evil.example", 403)] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let more = format!("origin: {origin}\r\nconnection: close\r\ncontent-length: 1\r\n");
        stream.write_all(format!("{}x", head(&weir, &more)).as_bytes()).unwrap();
        let answer = Answer::parse(&read_all(stream));
        assert_eq!(answer.code, code, "{answer:?}");
        assert_eq!(answer.head.contains("access-control-allow-origin"), code == 200, "{answer:?}");
    }
    weir.stop();
}

#[test]
fn who_waits_at_the_end_hears_what_became_of_it_on_every_listener() {
    let place = Place::new();
    let port = support::free_port();
    let mut weir = place.start(&format!(
        "shutdown_timeout = \"500ms\"\n[[pipelines]]\nname = \"app\"\n\
         sources = [{{ type = \"http\" }}, {{ type = \"http\", listen = \"127.0.0.1:{port}\" }}]\n\
         sinks = [{{ type = \"tcp_client\", address = \"127.0.0.1:1\" }}]\n"
    ));
    weir.wait_listening("/healthz", 200);
    let listening = || TcpStream::connect(("127.0.0.1", port)).ok();
    let own = support::eventually("its own listener is there", listening);
    let mut waiting = [raw(&weir), own];
    for stream in &mut waiting {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{}lost", head(&weir, "content-length: 4\r\n")).as_bytes()).unwrap();
    }
    support::eventually("both are on their way", || {
        (weir.component("app", "app.sink.0.tcp_client")["queued"] == 2).then_some(())
    });
    weir.signal("TERM");
    for stream in waiting {
        let answer = Answer::parse(&read_all(stream));
        assert_eq!(answer.code, 503, "{answer:?}");
        assert!(answer.body.contains("send them again"), "{answer:?}");
    }
    assert_eq!(weir.wait(), 74);
}

#[test]
fn a_listener_of_its_own_takes_events_at_its_paths_and_nothing_else() {
    if !has_curl("a_listener_of_its_own_takes_events_at_its_paths_and_nothing_else") {
        return;
    }
    let place = Place::new();
    let port = support::free_port();
    let weir = started(&place, &format!("listen = \"127.0.0.1:{port}\""));
    let ask = |target: &str, body: &str| {
        let url = format!("http://127.0.0.1:{port}{target}");
        let output = Command::new("curl").args(["-sS", "-i", "-d", body, &url]).output().unwrap();
        Answer::parse(&String::from_utf8_lossy(&output.stdout))
    };
    assert_eq!(ask("/ingest", "one").code, 200);
    assert_eq!(ask("/app/ingest", "two").code, 200);
    let lost = ask("/other", "three");
    assert_eq!((lost.code, lost.json()["paths"].clone()), (404, json!(["/ingest", "/app/ingest"])));
    assert_eq!(curl(&weir, "/app/ingest", &["-d", "x"], b"").code, 405, "not on the shared server");
    assert_eq!(out(&place), "one\ntwo\n");
    weir.stop();
}

/// The `source` of every event that the file sink wrote as JSON.
fn origins(place: &Place) -> Vec<String> {
    let text = out(place);
    let source =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["source"].as_str().unwrap().to_owned();
    text.lines().map(source).collect()
}

#[test]
fn under_tls_clients_speak_http2_and_events_bear_their_certificates_name() {
    let test = "under_tls_clients_speak_http2_and_events_bear_their_certificates_name";
    if !has_curl(test) {
        return;
    }
    let place = Place::new();
    for args in [
        &["tls", "ca"][..],
        &["tls", "server", "--name", "localhost"],
        &["tls", "client", "--name", "shipper"],
    ] {
        assert_eq!(place.run(args).code, 0);
    }
    let port = support::free_port();
    let weir = place.started(&format!(
        "[[pipelines]]\nname = \"app\"\n\
         sinks = [{{ type = \"file\", path = \"DIR/out.log\", format = {{ type = \"json\" }} }}]\n\
         [[pipelines.sources]]\ntype = \"http\"\nlisten = \"127.0.0.1:{port}\"\n\
         tls = {{ cert_file = \"DIR/server.pem\", key_file = \"DIR/server.key\", client_ca_file = \"DIR/ca.pem\" }}\n"
    ));
    let ask = |version: &str, more: &[&str]| {
        let url = format!("https://localhost:{port}/ingest");
        let resolve = format!("localhost:{port}:127.0.0.1");
        let form = "\n%{http_version} %{http_code}";
        let args =
            ["-sS", version, "--cacert", "ca.pem", "--resolve", &resolve, "-w", form, "-d", "hello", &url];
        let output = Command::new("curl").current_dir(place.dir()).args(args).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answer = "{\"accepted\":1,\"dropped\":0}";
    assert_eq!(ask("--http2", &[]), format!("{answer}\n2 200"));
    assert_eq!(
        ask("--http1.1", &["--cert", "shipper.pem", "--key", "shipper.key"]),
        format!("{answer}\n1.1 200")
    );
    assert_eq!(origins(&place), ["127.0.0.1", "shipper"]);
    weir.stop();
}

#[test]
fn who_has_to_log_in_is_the_source_of_what_is_posted() {
    if !has_curl("who_has_to_log_in_is_the_source_of_what_is_posted") {
        return;
    }
    let place = Place::new();
    let mut hashing = place.command(&["hash"]);
    let mut child = hashing.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"secret").unwrap();
    let hash = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let port = support::free_port();
    let weir = place.started(&format!(
        "[[pipelines]]\nname = \"app\"\n\
         sinks = [{{ type = \"file\", path = \"DIR/out.log\", format = {{ type = \"json\" }} }}]\n\
         [[pipelines.sources]]\ntype = \"http\"\nlisten = \"127.0.0.1:{port}\"\n\
         auth = {{ basic = [{{ user = \"ada\", password_hash = '{}' }}] }}\n",
        hash.trim()
    ));
    let ask = |login: &str| {
        let url = format!("http://127.0.0.1:{port}/ingest");
        let args = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-d", "x", "-u", login, &url];
        String::from_utf8(Command::new("curl").args(args).output().unwrap().stdout).unwrap()
    };
    assert_eq!((ask("ada:wrong"), ask("ada:secret")), ("401".to_owned(), "200".to_owned()));
    assert_eq!(origins(&place), ["ada"]);
    weir.stop();
}

#[test]
fn a_full_pipeline_says_so_in_time_and_takes_nothing_in_twice() {
    if !has_curl("a_full_pipeline_says_so_in_time_and_takes_nothing_in_twice") {
        return;
    }
    let place = Place::new();
    let port = support::free_port();
    place.write(
        "pipelines.toml",
        format!(
            "state_dir = \"state\"\nserver.listen = \"127.0.0.1:{port}\"\n\
             [[pipelines]]\nname = \"app\"\n\
             sources = [{{ type = \"http\", settle_timeout = \"300ms\" }}]\n\
             sinks = [{{ type = \"console\", buffer = {{ max_events = 1 }} }}]\n"
        ),
    );
    let mut command = place.command(&["run"]);
    // A terminal that nobody reads.
    let mut weir = place.spawn(command.stdout(Stdio::piped()), port);
    weir.wait_ready();
    let large = "x".repeat(300 << 10);
    let plain = ["content-type: text/plain"];
    let mut unsettled = 0;
    let refused = loop {
        let answer = post(&weir, &plain, format!("{unsettled} {large}").as_bytes());
        assert_eq!(answer.code, 503, "{answer:?}");
        assert!(answer.head.contains("retry-after"), "{answer:?}");
        if answer.body.contains("nothing was taken in") {
            break format!("{unsettled} ");
        }
        assert!(answer.body.contains("not delivered within 300ms"), "{answer:?}");
        unsettled += 1;
        assert!(unsettled < 10, "it takes in more than it has room for");
    };
    // One is being written, one waits, one is on its way in.
    assert_eq!(unsettled, 3);
    let mut terminal = weir.child().stdout.take().unwrap();
    let shown = std::thread::spawn(move || {
        let mut shown = String::new();
        terminal.read_to_string(&mut shown).map(|_| shown)
    });
    support::eventually("it takes events in again", || {
        (post(&weir, &plain, b"at last").code == 200).then_some(())
    });
    weir.stop();
    let shown = shown.join().unwrap().unwrap();
    for number in 0..unsettled {
        assert_eq!(shown.matches(&format!("{number} xxx")).count(), 1, "{number}");
    }
    assert!(!shown.contains(&refused), "what was refused is not shown");
    assert!(shown.contains("at last"));
}

#[test]
fn a_crowd_of_wrk_loses_nothing() {
    if !installed("wrk") {
        return skip("a_crowd_of_wrk_loses_nothing", "wrk is not installed");
    }
    let place = Place::new().with(
        "post.lua",
        "wrk.method = 'POST'\nwrk.body = '{\"level\":\"info\",\"msg\":\"hello from wrk\"}'\n\
         wrk.headers['content-type'] = 'application/json'\n",
    );
    let weir = started(&place, "");
    let url = format!("http://{}/app/ingest", weir.authority());
    let script = place.path("post.lua");
    let output = Command::new("wrk")
        .args(["-t", "1", "-c", "32", "-d", "1s", "-s", script.to_str().unwrap(), &url])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let requests: u64 = report
        .lines()
        .find_map(|line| line.split_once(" requests in ")?.0.trim().parse().ok())
        .unwrap_or_else(|| panic!("{report}"));
    assert!(requests > 100 && !report.contains("Non-2xx"), "{report}");
    let received = weir.component("app", "app.source.0.http")["received"].as_u64().unwrap();
    // Requests that were under way at the end are taken in, too; wrk does not count them.
    assert!((requests..=requests + 32).contains(&received), "{received} of {requests}");
    weir.stop();
    let lines = out(&place).lines().filter(|l| *l == r#"{"level":"info","msg":"hello from wrk"}"#).count();
    assert_eq!(lines as u64, received);
}
