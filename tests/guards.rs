//! Guards as the world meets them: a running weir and the real `curl`, over 401, 403, 429 and a ticket that is good
//! once. Requests come from several loopback addresses, so that what is limited per address can be told apart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use support::curl::{self, Answer, has_curl};
use support::weir::{Place, Weir, finish};
use support::{PATIENCE, eventually, free_port};

const PIPELINE: &str =
    "[[pipelines]]\nname = \"app\"\nsources = [{ type = \"generate\" }]\nsinks = [{ type = \"http\" }]\n";

/// The hash that `weir hash` makes of `secret`.
fn hash(place: &Place, args: &[&str], secret: &str) -> String {
    let mut command = place.command(&[&["hash"], args].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{secret}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn curl(args: &[&str]) -> Answer {
    curl::curl(args, b"")
}

fn url(weir: &Weir, path: &str) -> String {
    format!("http://{}{path}", weir.authority())
}

#[test]
fn a_password_a_token_and_a_ticket_open_the_door() {
    if !has_curl("a_password_a_token_and_a_ticket_open_the_door") {
        return;
    }
    let place = Place::new();
    let made = place.run(&["hash", "--token"]).stdout;
    let value = |key: &str| {
        let line = made.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let (token, token_hash) = (value("token"), value("token_hash"));
    place.write("users", format!("bob:{}\n", hash(&place, &["--algorithm", "bcrypt"], "geheim")));
    place.write("hash", hash(&place, &[], "hunter2"));
    let weir = place.started(&format!(
        "[server.auth]\nbasic = [{{ user = \"alice\", password_hash = {{ file = \"DIR/hash\" }} }}]\n\
         htpasswd_file = \"DIR/users\"\nbearer = [{{ name = \"agent\", token_hash = \"{token_hash}\" }}]\n{PIPELINE}"
    ));
    let status = url(&weir, "/status");
    let none = curl(&[&status]);
    assert_eq!(none.code, 401, "{none:?}");
    assert!(none.head.contains("www-authenticate: basic realm=\"weir\", charset=\"utf-8\""), "{none:?}");
    assert!(none.head.contains("www-authenticate: bearer realm=\"weir\"\r\n"), "{none:?}");
    assert!(none.head.contains("content-type: application/problem+json"), "{none:?}");
    assert_eq!(none.json()["reason"], "no_credentials");
    let bearer = format!("Authorization: Bearer {token}");
    for (args, code) in [
        (&["-u", "alice:hunter2"][..], 200),
        (&["-u", "bob:geheim"], 200),
        (&["-H", &bearer], 200),
        (&["-u", "alice:geheim"], 401),
        (&["-u", "mallory:hunter2"], 401),
        (&["-H", "Authorization: Bearer hunter2"], 401),
        (&["-H", &bearer, "-H", &bearer], 401),
    ] {
        assert_eq!(curl(&[args, &[&status]].concat()).code, code, "{args:?}");
    }
    // Everything but the two paths for health checks.
    for (path, code) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/", 401),
        ("/app/", 401),
        ("/app/stream?limit=1", 401),
        ("/_stream?p=app&limit=1", 401),
        ("/_assets/app.js", 401),
        ("/metrics", 401),
        ("/openapi.json", 401),
        ("/nothing", 401),
    ] {
        assert_eq!(curl(&[&url(&weir, path)]).code, code, "{path}");
    }
    assert_eq!(curl(&["-X", "POST", &url(&weir, "/_ticket")]).code, 401);
    let given = curl(&["-X", "POST", "-u", "alice:hunter2", &url(&weir, "/_ticket")]);
    assert_eq!((given.code, &given.json()["expires_in"]), (200, &30.into()), "{given:?}");
    let ticket = given.json()["ticket"].as_str().unwrap().to_owned();
    // Not for anything but a stream; and there once.
    assert_eq!(curl(&[&format!("{status}?ticket={ticket}")]).code, 401);
    let stream = url(&weir, &format!("/app/stream?limit=1&tail=1&ticket={ticket}"));
    let first = curl(&[&stream]);
    assert!(first.code == 200 && first.body.contains("event: bye"), "{first:?}");
    let second = curl(&[&stream]);
    assert_eq!((second.code, &second.json()["reason"]), (401, &"wrong_credentials".into()));
    let metrics = curl(&["-u", "alice:hunter2", &url(&weir, "/metrics")]).body;
    assert!(
        metrics.contains("weir_refused_total{listener=\"server\",reason=\"no_credentials\"} "),
        "{metrics}"
    );
    let refused = curl(&["-u", "alice:hunter2", &status]).json()["guards"][0].clone();
    assert_eq!(
        (&refused["listener"], refused["refused"]["wrong_credentials"].as_u64()),
        (&"server".into(), Some(5))
    );
    let log = weir.stop();
    assert!(log.contains("refused") && log.contains("no_credentials"), "{log}");
    for secret in ["hunter2", "geheim", &token, &ticket, "$argon2", "$2y$"] {
        assert!(!log.contains(secret), "{secret} in the log: {log}");
    }
}

#[test]
fn denied_addresses_hear_403_and_the_log_says_how_many_did() {
    if !has_curl("denied_addresses_hear_403_and_the_log_says_how_many_did") {
        return;
    }
    let place = Place::new();
    let port = free_port();
    let weir = place.started(&format!(
        "server.access = {{ deny = [\"127.0.0.2\"] }}\n[[pipelines]]\nname = \"app\"\n\
         sources = [{{ type = \"generate\" }}]\n[[pipelines.sinks]]\ntype = \"http\"\nlisten = \"127.0.0.1:{port}\"\n\
         access = {{ allow = [\"127.0.0.3\"], deny = [\"127.0.0.4/30\"] }}\n"
    ));
    let own = format!("http://127.0.0.1:{port}/status");
    for (from, target, code, reason) in [
        ("127.0.0.1", url(&weir, "/status"), 200, None),
        ("127.0.0.2", url(&weir, "/status"), 403, Some("denied")),
        ("127.0.0.2", url(&weir, "/healthz"), 403, Some("denied")),
        ("127.0.0.3", own.clone(), 200, None),
        ("127.0.0.2", own.clone(), 403, Some("not_allowed")),
        ("127.0.0.6", own.clone(), 403, Some("denied")),
    ] {
        let answer = curl(&["--interface", from, &target]);
        assert_eq!(answer.code, code, "{from} {target}: {answer:?}");
        if let Some(reason) = reason {
            assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
            assert_eq!(answer.json()["reason"], reason, "{from} {target}");
        }
    }
    for _ in 0..20 {
        assert_eq!(curl(&["--interface", "127.0.0.2", &url(&weir, "/status")]).code, 403);
    }
    let guards = curl(&[&url(&weir, "/status")]).json()["guards"].clone();
    assert_eq!(guards[0]["refused"], serde_json::json!({ "denied": 22 }));
    assert_eq!(guards[1]["listener"], "app.sink.0.http");
    let log = weir.stop();
    let lines = log.lines().filter(|line| line.contains("refused") && line.contains("127.0.0.2"));
    // One for each listener and reason, within ten seconds of each other.
    assert!((2..=6).contains(&lines.count()), "{log}");
}

#[test]
fn requests_beyond_the_rate_hear_429_and_when_to_come_back() {
    if !has_curl("requests_beyond_the_rate_hear_429_and_when_to_come_back") {
        return;
    }
    let place = Place::new();
    let weir = place.started(&format!(
        "server.access = {{ requests_per_second = 0.05, burst = 500, message = \"slow down\" }}\n{PIPELINE}"
    ));
    // One connection, many requests: it is requests that are counted.
    let target = url(&weir, "/healthz?[1-520]");
    let asked = finish(Command::new("curl").args([
        "--silent",
        "--include",
        "--noproxy",
        "*",
        "--interface",
        "127.0.0.3",
        &target,
    ]));
    let count = |code: &str| asked.stdout.matches(&format!("HTTP/1.1 {code}")).count();
    assert!((500..=505).contains(&count("200")) && count("200") + count("429") == 520, "{}", count("200"));
    let refused = curl(&["--interface", "127.0.0.3", &url(&weir, "/status")]);
    let wait = refused.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!(refused.code == 429 && (1..=20).contains(&wait.parse::<u32>().unwrap()), "{refused:?}");
    assert_eq!(refused.json()["detail"], "slow down");
    assert_eq!(curl(&["--interface", "127.0.0.4", &url(&weir, "/status")]).code, 200, "others go on");
    weir.stop();
}

/// A curl that follows a stream and has heard the first of it.
fn following(weir: &Weir, from: &str) -> Child {
    let mut command = Command::new("curl");
    command.args(["--silent", "--no-buffer", "--noproxy", "*", "--interface", from]);
    let mut child = command.arg(url(weir, "/app/stream")).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 16]).unwrap();
    child
}

#[test]
fn connections_beyond_the_limit_are_refused_until_one_is_free() {
    if !has_curl("connections_beyond_the_limit_are_refused_until_one_is_free") {
        return;
    }
    let place = Place::new();
    let weir = place.started(&format!(
        "server.access = {{ max_connections = 4, max_connections_per_ip = 2, status_code = 503 }}\n{PIPELINE}"
    ));
    let status = url(&weir, "/status");
    let mut streams: Vec<Child> = ["127.0.0.3", "127.0.0.3"].map(|from| following(&weir, from)).into();
    let refused = curl(&["--interface", "127.0.0.3", &status]);
    assert_eq!((refused.code, &refused.json()["reason"]), (503, &"max_connections_per_ip".into()));
    assert_eq!(curl(&["--interface", "127.0.0.4", &status]).code, 200);
    streams.extend(["127.0.0.4", "127.0.0.5"].map(|from| following(&weir, from)));
    let full = curl(&["--interface", "127.0.0.6", &status]);
    assert_eq!((full.code, &full.json()["reason"]), (503, &"max_connections".into()), "{full:?}");
    for mut stream in streams {
        stream.kill().unwrap();
        stream.wait().unwrap();
    }
    // A server that has nothing to write learns of it by and by.
    eventually("a place is free again", || {
        (curl(&["--interface", "127.0.0.3", &status]).code == 200).then_some(())
    });
    weir.stop();
}

#[test]
fn token_guesses_at_full_speed() {
    if !has_curl("token_guesses_at_full_speed") {
        return;
    }
    let place = Place::new();
    let hash = hash(&place, &["--algorithm", "sha256"], "right");
    let weir = place.started(&format!(
        "server.auth = {{ bearer = [{{ name = \"agent\", token_hash = \"{hash}\" }}] }}\n{PIPELINE}"
    ));
    let ask = |from: &str, token: &str| {
        curl(&["--interface", from, "-H", &format!("Authorization: Bearer {token}"), &url(&weir, "/status")])
    };
    let codes: Vec<u16> = (0..15).map(|n| ask("127.0.0.3", &format!("guess{n}")).code).collect();
    assert_eq!(codes[..10], [401; 10]);
    assert!(codes[12..].contains(&429), "{codes:?}");
    let refused = eventually("guesses are throttled", || {
        Some(ask("127.0.0.3", "right")).filter(|answer| answer.code == 429)
    });
    assert!(refused.head.contains("retry-after: ") && refused.json()["reason"] == "guessing", "{refused:?}");
    assert_eq!(ask("127.0.0.4", "right").code, 200, "another address is not held back");
    weir.stop();
}

#[test]
fn cross_origin_reads_of_a_stream_by_any_web_page() {
    if !has_curl("cross_origin_reads_of_a_stream_by_any_web_page") {
        return;
    }
    let place = Place::new();
    let weir = place.started(&format!("server.cors_origins = [\"https://ops.example\"]\n{PIPELINE}"));
    let stream = url(&weir, "/app/stream?limit=0");
    for (headers, code) in [
        (&["Origin: https://evil.example"][..], 403),
        (&["Origin: null"], 403),
        (&["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"], 403),
        (&["Origin: https://ops.example", "Sec-Fetch-Site: cross-site"], 200),
        (&["Sec-Fetch-Site: same-origin"], 200),
        (&[], 200),
    ] {
        let args: Vec<&str> =
            headers.iter().flat_map(|header| ["-H", header]).chain([stream.as_str()]).collect();
        let answer = curl(&args);
        assert_eq!(answer.code, code, "{headers:?}");
        let may_read = headers.contains(&"Origin: https://ops.example");
        assert_eq!(answer.head.contains("access-control-allow-origin"), may_read, "{headers:?}");
    }
    let posted = curl(&["-X", "POST", "-H", "Origin: https://evil.example", &url(&weir, "/_ticket")]);
    assert_eq!(posted.json()["reason"], "foreign_origin");
    let rebound = curl(&["-H", "Host: evil.example", &stream]);
    assert_eq!((rebound.code, &rebound.json()["reason"]), (403, &"foreign_host".into()));
    weir.stop();
}

/// Sends bytes and reads all that comes until the connection is closed.
fn raw(weir: &Weir, bytes: &str) -> String {
    let mut socket = TcpStream::connect(weir.authority()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    socket.read_to_end(&mut answer).ok();
    String::from_utf8(answer).unwrap()
}

#[test]
fn request_smuggling_shapes() {
    let place = Place::new();
    let weir = place.started(PIPELINE);
    let host = "Host: localhost\r\n";
    let inner = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = inner.len();
    for (what, head) in [
        ("two lengths that differ", "Content-Length: 5\r\nContent-Length: 0\r\n".to_owned()),
        ("a list of lengths", "Content-Length: 5, 0\r\n".to_owned()),
        ("a signed length", "Content-Length: +0\r\n".to_owned()),
        ("a negative length", "Content-Length: -1\r\n".to_owned()),
        (
            "a coding that is not chunked",
            format!("Transfer-Encoding: identity\r\nContent-Length: {length}\r\n"),
        ),
        ("chunked before another coding", "Transfer-Encoding: chunked, gzip\r\n".to_owned()),
        (
            "chunked, and another line",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
        ),
        ("a folded line", "X-A: b\r\n Transfer-Encoding: chunked\r\n".to_owned()),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n".to_owned()),
        ("a bare carriage return", "X-A: b\rTransfer-Encoding: chunked\r\n".to_owned()),
        ("a NUL in a value", "X-A: \0b\r\n".to_owned()),
        ("two hosts", "Host: evil.example\r\n".to_owned()),
    ] {
        let answer = raw(&weir, &format!("POST /status HTTP/1.1\r\n{host}{head}\r\n{inner}"));
        let answered = answer.matches("HTTP/1.1 ").count();
        // Two hosts are refused by weir, which then goes on with the next request; all else by the parser.
        let refused = answer.starts_with("HTTP/1.1 400");
        assert!(refused && (answered == 1 || what == "two hosts"), "{what}: {answer}");
    }
    // Where length and chunks disagree, the request is refused and the connection ends (RFC 9112, section 6.1): what
    // follows is never taken for a request.
    for head in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
    ] {
        let answer = raw(&weir, &format!("POST /status HTTP/1.1\r\n{host}{head}\r\n0\r\n\r\n{inner}"));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("two ends"), "{answer}");
    }
    let old =
        raw(&weir, &format!("POST /status HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
    assert!(old.starts_with("HTTP/1.1 400") || old.starts_with("HTTP/1.0 400"), "{old}");
    weir.stop();
}

#[test]
fn a_page_that_is_allowed_may_ask_whether_it_may_ask() {
    let test = "a_page_that_is_allowed_may_ask_whether_it_may_ask";
    if !has_curl(test) {
        return;
    }
    let place = Place::new();
    let hash = hash(&place, &["--algorithm", "sha256"], "right");
    let weir = place.started(&format!(
        "server.cors_origins = [\"https://ops.example\"]\n\
         server.auth = {{ bearer = [{{ name = \"agent\", token_hash = \"{hash}\" }}] }}\n{PIPELINE}"
    ));
    let (ticket, stream) = (url(&weir, "/_ticket"), url(&weir, "/app/stream?limit=0"));
    let from = |origin: &str| format!("Origin: https://{origin}.example");
    let preflight = |target: &str, origin: &str| {
        let method = "Access-Control-Request-Method: POST";
        curl(&["-X", "OPTIONS", "-H", &from(origin), "-H", method, target])
    };
    // Browsers send no credentials with it.
    let may = preflight(&ticket, "ops");
    assert!(may.code == 204 && may.head.contains("access-control-allow-methods: post, options"), "{may:?}");
    assert!(may.head.contains("authorization"), "{may:?}");
    let may_not = preflight(&ticket, "evil");
    assert!(may_not.code == 204 && !may_not.head.contains("access-control"), "{may_not:?}");
    // Without a question there is an answer only for who is known.
    assert_eq!(curl(&["-X", "OPTIONS", &stream]).code, 401);
    let bearer = "Authorization: Bearer right";
    let given = curl(&["-X", "POST", "-H", bearer, "-H", &from("ops"), &ticket]);
    assert_eq!(given.code, 200, "{given:?}");
    let stream = format!("{stream}&ticket={}", given.json()["ticket"].as_str().unwrap());
    let read = curl(&["-H", &from("ops"), &stream]);
    assert!(
        read.code == 200 && read.head.contains("access-control-allow-origin: https://ops.example"),
        "{read:?}"
    );
    assert_eq!(curl(&["-X", "POST", "-H", bearer, "-H", &from("evil"), &ticket]).code, 403);
    assert_eq!(curl(&["-H", bearer, &ticket]).code, 405);
    let status = place.run(&["status", &format!("http://{}", weir.authority())]);
    assert!(status.code == 69 && status.stderr.contains("credentials are needed"), "{status:?}");
    assert!(status.stderr.contains("--token-file"), "{status:?}");
    place.write("token", "right\n");
    let known = place.run(&["status", "--token-file", "token", &format!("http://{}", weir.authority())]);
    assert!(known.code == 0 && known.stdout.contains("app"), "{known:?}");
    let wrong = place.run(&["status", &format!("http://ann:s%65cret@{}", weir.authority())]);
    assert!(wrong.code == 69 && !format!("{wrong:?}").contains("cret"), "{wrong:?}");
    assert_eq!(place.run(&["health", &format!("http://{}", weir.authority())]).code, 0);
    weir.stop();
}

#[test]
fn certificates_are_held_to_names_and_addresses_are_refused_before_the_handshake() {
    if !has_curl("certificates_are_held_to_names_and_addresses_are_refused_before_the_handshake") {
        return;
    }
    let place = Place::new();
    for args in [
        &["tls", "ca"][..],
        &["tls", "server"],
        &["tls", "client", "--name", "agent-1"],
        &["tls", "client", "--name", "other"],
    ] {
        assert_eq!(place.run(args).code, 0, "{args:?}");
    }
    let port = free_port();
    let weir = place.started(&format!(
        "[[pipelines]]\nname = \"app\"\nsources = [{{ type = \"generate\" }}]\n[[pipelines.sinks]]\ntype = \"http\"\n\
         listen = \"127.0.0.1:{port}\"\naccess = {{ deny = [\"127.0.0.2\"] }}\nauth = {{ client_names = [\"agent-1\"] }}\n\
         tls = {{ cert_file = \"DIR/server.pem\", key_file = \"DIR/server.key\", client_ca_file = \"DIR/ca.pem\" }}\n"
    ));
    let target = format!("https://127.0.0.1:{port}/status");
    let dir = place.dir().to_str().unwrap().to_owned();
    let ask = |name: Option<&str>, from: &str| {
        let ca = format!("{dir}/ca.pem");
        let mut args = vec!["--cacert".to_owned(), ca, "--http1.1".into(), "--interface".into(), from.into()];
        if let Some(name) = name {
            args.extend([
                "--cert".into(),
                format!("{dir}/{name}.pem"),
                "--key".into(),
                format!("{dir}/{name}.key"),
            ]);
        }
        args.push(target.clone());
        curl(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(ask(Some("agent-1"), "127.0.0.1").code, 200);
    assert_eq!(ask(Some("other"), "127.0.0.1").code, 403);
    assert_eq!(ask(None, "127.0.0.1").code, 403);
    // No handshake, no answer.
    assert_eq!(ask(Some("agent-1"), "127.0.0.2").code, 0);
    let status = |args: &[&str]| {
        let url = format!("https://127.0.0.1:{port}");
        let mut command = place.command(&[&["status", &url][..], args].concat());
        finish(command.env("SSL_CERT_FILE", place.path("ca.pem")))
    };
    let known = status(&["--cert", "agent-1.pem", "--key", "agent-1.key"]);
    assert!(known.code == 0 && known.stdout.contains("app.sink.0.http"), "{known:?}");
    let unknown = status(&[]);
    assert!(unknown.code == 69 && unknown.stderr.contains("--cert and --key"), "{unknown:?}");
    assert_eq!(status(&["--cert", "agent-1.pem"]).code, 64);
    weir.stop();
}

#[test]
fn check_refuses_what_strangers_could_reach_and_names_both_ways_out() {
    let place = Place::new();
    let hash = hash(&place, &[], "secret");
    let check = |server: &str| {
        place.write("p.toml", format!("[server]\nlisten = \"0.0.0.0:8080\"\n{server}\n{PIPELINE}"));
        let run = place.run(&["check", "-c", "p.toml"]);
        (run.code, run.stdout + &run.stderr)
    };
    let basic = format!("auth = {{ basic = [{{ user = \"a\", password_hash = \"{hash}\" }}] }}");
    let (code, said) = check("");
    assert_eq!(code, 1, "{said}");
    for part in [
        "other machines can reach `0.0.0.0:8080` without a guard",
        "p.toml:2:10",
        "`auth`",
        "`access.allow`",
        "insecure_public",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (server, code, says) in [
        ("insecure_public = true", 0, None),
        ("access = { allow = [\"10.0.0.0/8\"] }", 0, None),
        ("access = { allow = [\"0.0.0.0/0\"] }", 1, Some("without a guard")),
        ("access = { deny = [\"10.0.0.0/8\"] }", 1, Some("without a guard")),
        (&basic, 0, Some("warning: passwords and tokens reach `0.0.0.0:8080` in the clear")),
        ("auth = {}", 1, Some("`auth` names nobody")),
        ("access = { allow = [\"10.0.0.1/8\"] }", 1, Some("the network is 10.0.0.0/8")),
        ("access = { allow = [\"ten\"] }", 1, Some("is not a network like 10.0.0.0/8 or an address")),
        (
            "auth = { basic = [{ user = \"a\", password_hash = \"hunter2\" }] }",
            1,
            Some("server.auth.basic[0].password_hash"),
        ),
        (
            "auth = { bearer = [{ name = \"a\", token_hash = \"hunter2\" }] }",
            1,
            Some("`weir hash --token` makes"),
        ),
        (
            "auth = { basic = [{ user = \"a\", password = \"hunter2\" }] }",
            1,
            Some("did you mean `password_hash`?"),
        ),
        (
            "auth = { bearer = [{ name = \"a\", token = \"hunter2\" }] }",
            1,
            Some("did you mean `token_hash`?"),
        ),
        ("auth = { client_names = [\"a\"] }", 1, Some("needs `tls.client_ca_file`")),
    ] {
        let (ended, said) = check(server);
        assert_eq!(ended, code, "{server}: {said}");
        assert!(says.is_none_or(|says| said.contains(says)), "{server}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("$argon2"), "{server}: {said}");
    }
    place.write("p.toml", format!("server.listen = \"0.0.0.0:0\"\n{PIPELINE}"));
    assert_eq!(place.run(&["run", "-c", "p.toml"]).code, 78);
    place.write(
        "p.toml",
        format!("server.listen = \"127.0.0.1:0\"\nserver.auth.htpasswd_file = \"nowhere\"\n{PIPELINE}"),
    );
    let run = place.run(&["run", "-c", "p.toml"]);
    assert!(run.code == 69 && run.stderr.contains("cannot read the password file nowhere"), "{run:?}");
}
