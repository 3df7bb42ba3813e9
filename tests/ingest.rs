//! Events posted by clients that nobody here wrote: curl in every content type and encoding, wrk in a crowd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::curl::{self, Answer, has_curl};
use support::ingest::{out, started};
use support::weir::{Place, Weir};
use support::{installed, skip};

fn curl(weir: &Weir, path: &str, args: &[&str], body: &[u8]) -> Answer {
    let url = format!("http://{}{path}", weir.authority());
    curl::curl(&[args, &[&url]].concat(), body)
}

fn post(weir: &Weir, headers: &[&str], body: &[u8]) -> Answer {
    let mut args = vec!["--data-binary", "@-"];
    headers.iter().for_each(|header| args.extend(["-H", header]));
    curl(weir, "/app/ingest", &args, body)
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
fn under_http2_who_is_refused_before_the_body_was_read_hears_why() {
    let test = "under_http2_who_is_refused_before_the_body_was_read_hears_why";
    if !has_curl(test) {
        return;
    }
    let place = Place::new();
    for args in [&["tls", "ca"][..], &["tls", "server", "--name", "localhost"]] {
        assert_eq!(place.run(args).code, 0);
    }
    let port = support::free_port();
    let weir = place.started(&format!(
        "[[pipelines]]\nname = \"app\"\nsinks = [{{ type = \"null\" }}]\n[[pipelines.sources]]\ntype = \"http\"\n\
         listen = \"127.0.0.1:{port}\"\ntls = {{ cert_file = \"DIR/server.pem\", key_file = \"DIR/server.key\" }}\n\
         auth = {{ bearer = [{{ name = \"a\", token_hash = \"sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\" }}] }}\n"
    ));
    let post = |headers: [&str; 2], path: &str| {
        let mut command = Command::new("curl");
        command.current_dir(place.dir()).args(["-sS", "--http2", "--cacert", "ca.pem", "-o", "answer"]);
        command.args(["-w", "%{http_code}", "-d", "x", "-H", headers[0], "-H", headers[1]]);
        let output = command.arg(format!("https://localhost:{port}{path}")).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for _ in 0..20 {
        assert_eq!(post(["a: b", "c: d"], "/ingest"), "401");
        assert_eq!(post(["authorization: bearer foo", "content-type: image/png"], "/ingest"), "415");
        assert_eq!(post(["authorization: bearer foo", "c: d"], "/nowhere"), "404");
    }
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
