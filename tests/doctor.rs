//! `weir doctor` before a real nginx that is set up wrongly in the ways people set it up, before small proxies that
//! break streams in other ways, and before what is well: every fault is named, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;
use support::nginx::{GZIP, Nginx, PIPELINE, has_nginx};
use support::weir::{Place, Weir};

/// What the doctor says of a URL: the exit code, and all that is not ok.
#[derive(Debug)]
struct Said {
    code: i32,
    all: Value,
}

impl Said {
    fn of(place: &Place, args: &[&str]) -> Said {
        let mut command = vec!["doctor", "--json"];
        command.extend(args);
        let end = place.run(&command);
        let all = serde_json::from_str(&end.stdout);
        Said { code: end.code, all: all.unwrap_or_else(|e| panic!("{e}: {} {}", end.stdout, end.stderr)) }
    }

    /// The checks with one verdict, by name.
    fn with(&self, verdict: &str) -> Vec<&str> {
        let checks = self.all["checks"].as_array().unwrap().iter();
        checks.filter(|c| c["verdict"] == verdict).map(|c| c["check"].as_str().unwrap()).collect()
    }

    fn check(&self, name: &str) -> &Value {
        let mut checks = self.all["checks"].as_array().unwrap().iter();
        checks.rfind(|c| c["check"] == name).unwrap_or_else(|| panic!("no {name}: {:#}", self.all))
    }

    /// Nothing fails but these, and no warning is given but these.
    fn is(&self, failures: &[&str], warnings: &[&str]) {
        assert_eq!(
            (self.with("fail"), self.with("warn")),
            (failures.to_vec(), warnings.to_vec()),
            "{:#}",
            self.all
        );
        assert_eq!(self.code, i32::from(!failures.is_empty()), "{:#}", self.all);
    }

    fn says(&self, check: &str, text: &str) {
        assert!(self.check(check).to_string().contains(text), "{text}: {:#}", self.check(check));
    }
}

fn started(pipeline: &str) -> (Place, Weir) {
    let place = Place::new().with("app.log", "one\ntwo\n");
    let weir = place.started(pipeline);
    (place, weir)
}

#[test]
fn a_healthy_stream_gives_no_warning_also_through_nginx() {
    let (place, weir) = started(PIPELINE);
    let direct = Said::of(&place, &[&format!("http://{}/app/stream?tail=1", weir.authority())]);
    direct.is(&[], &[]);
    direct.says("idle", "a sign of life every 0.5 s");
    // A page or the server as a whole lead to a stream.
    for path in ["", "/", "/app", "/app/"] {
        let said = Said::of(&place, &[&format!("http://{}{path}", weir.authority())]);
        said.is(&[], &[]);
        assert!(
            said.all["about"].as_str().unwrap().ends_with("/app/stream"),
            "{path}: {}",
            said.all["about"]
        );
    }
    let human = place.run(&["doctor", &format!("http://{}", weir.authority())]);
    assert!(human.stdout.ends_with("\nall is well\n") && human.code == 0, "{}", human.stdout);
    if has_nginx("a_healthy_stream_gives_no_warning_also_through_nginx") {
        let nginx = Nginx::start(&place, &weir.authority(), "", "");
        let said = Said::of(&place, &[&format!("http://{}/logs/app/stream", nginx.authority())]);
        said.is(&[], &[]);
        assert_eq!(said.all["proxies"], serde_json::json!(["nginx"]));
    }
}

#[test]
fn nginx_that_buffers_is_named_with_its_cure() {
    if !has_nginx("nginx_that_buffers_is_named_with_its_cure") {
        return;
    }
    let (place, weir) = started(PIPELINE);
    let extra = "proxy_ignore_headers X-Accel-Buffering; proxy_buffering on;";
    let nginx = Nginx::start(&place, &weir.authority(), "", extra);
    let url = format!("http://{}/logs/app/stream", nginx.authority());
    let said = Said::of(&place, &[&url]);
    said.is(&["buffering"], &[]);
    assert!(said.check("buffering")["cures"]["nginx"].as_str().unwrap().starts_with("proxy_buffering off;"));
    let human = place.run(&["doctor", &url]).stdout;
    assert!(human.contains("FAIL  buffering") && human.contains("cure for nginx:"), "{human}");
}

#[test]
fn nginx_that_buffers_until_its_patience_ends_is_named_with_its_cure() {
    if !has_nginx("nginx_that_buffers_until_its_patience_ends_is_named_with_its_cure") {
        return;
    }
    let (place, weir) = started(&PIPELINE.replace("500ms", "10s"));
    let extra = "proxy_ignore_headers X-Accel-Buffering; proxy_read_timeout 2s;";
    let nginx = Nginx::start(&place, &weir.authority(), GZIP, extra);
    let said = Said::of(&place, &[&format!("http://{}/logs/app/stream", nginx.authority())]);
    said.is(&["buffering"], &[]);
    said.says("buffering", "before its first event");
    said.says("buffering", "proxy_buffering off;");
}

#[test]
fn nginx_that_packs_streams_is_named() {
    if !has_nginx("nginx_that_packs_streams_is_named") {
        return;
    }
    let (place, weir) = started(PIPELINE);
    let nginx = Nginx::start(&place, &weir.authority(), GZIP, "");
    let said = Said::of(&place, &[&format!("http://{}/logs/app/stream", nginx.authority())]);
    // nginx passes on what it has packed at once, as long as it does not gather as well.
    said.is(&[], &["compression"]);
    said.says("compression", "gzip off;");
}

#[test]
fn nginx_with_little_patience_is_named() {
    if !has_nginx("nginx_with_little_patience_is_named") {
        return;
    }
    let (place, weir) = started(&PIPELINE.replace("500ms", "10s"));
    let nginx = Nginx::start(&place, &weir.authority(), "", "proxy_read_timeout 2s;");
    let said = Said::of(&place, &[&format!("http://{}/logs/app/stream", nginx.authority())]);
    said.is(&["idle"], &[]);
    said.says("idle", "of silence");
    said.says("idle", "proxy_read_timeout");
}

/// A proxy before `upstream`: `request` changes the head of what a client asks, `answer` passes the rest on.
fn proxy(
    upstream: String,
    request: fn(String) -> String,
    answer: fn(TcpStream, TcpStream) -> std::io::Result<()>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = upstream.clone();
            std::thread::spawn(move || {
                let mut client = client;
                let head = request(head(&mut client)?).replace(&client.local_addr()?.to_string(), &upstream);
                let mut server = TcpStream::connect(&upstream)?;
                server.write_all(head.as_bytes())?;
                let (done, behind) = (client.try_clone()?, server.try_clone()?);
                let passed = answer(server, client);
                done.shutdown(Shutdown::Both).ok();
                behind.shutdown(Shutdown::Both).ok();
                passed
            });
        }
    });
    authority
}

/// The head of a message, to its empty line.
fn head(from: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if from.read(&mut byte)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn pass(mut server: TcpStream, mut client: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut server, &mut client).map(drop)
}

fn untouched(head: String) -> String {
    head
}

/// Gathers what comes for so long before it passes it on; a pause of `after` comes first.
fn gather(mut server: TcpStream, mut client: TcpStream, every: Duration) -> std::io::Result<()> {
    server.set_read_timeout(Some(every))?;
    let (mut all, mut since) = (Vec::new(), logweir::base::clock::now());
    loop {
        let mut piece = [0; 4096];
        match server.read(&mut piece) {
            Ok(0) => return client.write_all(&all),
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(_) => {}
        }
        if logweir::base::clock::now() - since >= every {
            client.write_all(&all)?;
            all.clear();
            since = logweir::base::clock::now();
        }
    }
}

#[test]
fn a_lost_last_event_id_is_named() {
    let (place, weir) = started(PIPELINE);
    let strip = |head: String| {
        let lines = head.split_inclusive("\r\n").filter(|line| !line.starts_with("Last-Event-ID"));
        lines.collect::<String>()
    };
    let through = proxy(weir.authority(), strip, pass);
    let said = Said::of(&place, &[&format!("http://{through}/app/stream")]);
    said.is(&["resume"], &[]);
    said.says("resume", "clients can send it as the parameter last_event_id");
}

#[test]
fn a_proxy_that_gathers_signs_of_life_is_named() {
    let (place, weir) = started(PIPELINE);
    // The beginning passes, then two seconds' worth at a time.
    let late = |server: TcpStream, mut client: TcpStream| {
        let mut server = server;
        let head = head(&mut server)?;
        client.write_all(head.as_bytes())?;
        let mut first = [0; 4096];
        let n = server.read(&mut first)?;
        client.write_all(&first[..n])?;
        gather(server, client, Duration::from_secs(2))
    };
    let through = proxy(weir.authority(), untouched, late);
    let said = Said::of(&place, &["--duration", "5s", &format!("http://{through}/app/stream")]);
    assert!(said.with("fail").contains(&"heartbeat"), "{:#}", said.all);
    assert_eq!(said.code, 1);
}

#[test]
fn a_proxy_that_waits_for_the_end_is_named() {
    let (place, weir) = started(PIPELINE);
    let whole = |mut server: TcpStream, mut client: TcpStream| {
        let mut all = Vec::new();
        server.read_to_end(&mut all)?;
        client.write_all(&all)
    };
    let through = proxy(weir.authority(), untouched, whole);
    let said = Said::of(&place, &[&format!("http://{through}/app/stream")]);
    said.is(&["buffering"], &[]);
    said.says("buffering", "flushpackets=on");
}

#[test]
fn a_limit_on_the_whole_answer_is_named() {
    let (place, weir) = started(PIPELINE);
    let short = |mut server: TcpStream, mut client: TcpStream| {
        server.set_read_timeout(Some(Duration::from_millis(100)))?;
        let end = logweir::base::clock::now() + Duration::from_millis(1800);
        while logweir::base::clock::now() < end {
            let mut piece = [0; 4096];
            if let Ok(n @ 1..) = server.read(&mut piece) {
                client.write_all(&piece[..n])?;
            }
        }
        Ok(())
    };
    let through = proxy(weir.authority(), untouched, short);
    let said = Said::of(&place, &["--duration", "10s", &format!("http://{through}/app/stream")]);
    said.is(&["idle"], &[]);
    said.says("idle", "cut off after 1.");
    said.says("idle", "limits how long an answer may take");
}

/// A server that gives every client the same answer, and keeps the connection for a while.
fn server(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut client = client;
                head(&mut client)?;
                client.write_all(answer.as_bytes())?;
                for _ in 0..100 {
                    std::thread::sleep(Duration::from_millis(300));
                    client.write_all(if answer.contains("event-stream") { b":hb\n\n" } else { b"" })?;
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    authority
}

/// The beginning of a stream under this status line and these headers.
fn stream(version: &str, headers: &str) -> String {
    format!(
        "{version} 200 OK\r\nContent-Type: text/event-stream\r\n{headers}\r\n:hb\n\nevent: hello\ndata: {{}}\n\nevent: gap\ndata: {{}}\n\n"
    )
}

#[test]
fn heads_under_which_no_stream_flows_are_named() {
    let place = Place::new();
    let good = "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n";
    for (version, headers, failures, warnings, text) in [
        ("HTTP/1.1", good.to_owned(), &[][..], &[][..], ""),
        ("HTTP/1.0", good.to_owned(), &[], &["version"], "proxy_http_version 1.1;"),
        ("HTTP/1.1", "X-Accel-Buffering: no\r\n".to_owned(), &[], &["headers"], "Cache-Control is missing"),
        (
            "HTTP/1.1",
            format!("{good}Content-Length: 100000\r\n"),
            &["headers"],
            &[],
            "has read the whole answer",
        ),
        ("HTTP/1.1", format!("{good}Date: Mon, 05 Jan 2026 00:00:00 GMT\r\n"), &[], &["clock"], "behind"),
    ] {
        let said = Said::of(&place, &[&format!("http://{}/stream", server(stream(version, &headers)))]);
        said.is(failures, warnings);
        let named = said.with(if failures.is_empty() { "warn" } else { "fail" });
        named.iter().for_each(|check| said.says(check, text));
    }
}

#[test]
fn answers_that_are_no_stream_are_explained() {
    let place = Place::new();
    let login =
        "HTTP/1.1 302 Found\r\nLocation: https://sso.example.com/login?back=%2F\r\nContent-Length: 0\r\n\r\n";
    let form = "<form><input type=\"password\"></form>";
    let page =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{form}", form.len());
    let status = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    for (answer, check, text) in [
        (login.to_owned(), "login", "redirected to a login page"),
        (page, "login", "a login page is shown"),
        (status("401 Unauthorized"), "credentials", "--token-file"),
        (status("403 Forbidden"), "credentials", "not allowed"),
        (status("404 Not Found"), "answer", "nothing is there"),
        (status("429 Too Many Requests"), "limits", "takes no more"),
        (status("502 Bad Gateway"), "answer", "the proxy does not reach the server"),
        (status("302 Found\r\nLocation: /again"), "redirect", "in a circle"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), "answer", "not HTTP/1"),
    ] {
        let said = Said::of(&place, &[&format!("http://{}/stream", server(answer))]);
        assert_eq!((said.with("fail"), said.code), (vec![check], 1), "{:#}", said.all);
        said.says(check, text);
    }
    let said = Said::of(&place, &[&format!("http://127.0.0.1:{}/stream", support::free_port())]);
    said.is(&["connect"], &[]);
    let said = Said::of(&place, &["http://no-such-host.invalid/stream"]);
    said.is(&["dns"], &[]);
    assert_eq!(place.run(&["doctor", "ftp://x"]).code, 64);
}

#[test]
fn limits_credentials_and_origins_of_weir_itself() {
    let guarded = format!(
        "server.cors_origins = [\"https://good.example\"]\n[server.access]\nmax_connections_per_ip = 4\n[server.auth]\nbearer = [{{ name = \"t\", token_hash = \"HASH\" }}]\n{PIPELINE}"
    );
    let place = Place::new().with("app.log", "one\n");
    let made = place.run(&["hash", "--token"]).stdout;
    let word = |prefix: &str| made.split(['"', '\n']).find(|word| word.starts_with(prefix)).unwrap();
    let hash = word("sha256:");
    place.write("token", word("weir_"));
    let mut weir = place.start(&guarded.replace("HASH", hash));
    weir.wait_listening("/readyz", 200);
    let url = format!("http://{}/app/stream", weir.authority());
    Said::of(&place, &[&url]).is(&["credentials"], &[]);
    let token = ["--token-file", "token"];
    let said = Said::of(&place, &[&token[..], &[&url]].concat());
    said.is(&[], &["limits"]);
    said.says("limits", "number 5 was refused");
    Said::of(&place, &[&token[..], &["--origin", "https://good.example", &url]].concat())
        .is(&[], &["limits"]);
    let said = Said::of(&place, &[&token[..], &["--origin", "https://bad.example", &url]].concat());
    said.is(&["cors"], &["limits"]);
    said.says("cors", "cors_origins = [\\\"https://bad.example\\\"]");
}

#[test]
fn certificates_are_looked_at() {
    let place = Place::new().with("app.log", "one\n");
    assert_eq!(place.run(&["tls", "ca"]).code, 0);
    assert_eq!(place.run(&["tls", "server", "--name", "127.0.0.1"]).code, 0);
    let tls = "[server.tls]\ncert_file = \"DIR/server.pem\"\nkey_file = \"DIR/server.key\"\n";
    let weir = place.start(&format!("{tls}{PIPELINE}"));
    let url = format!("https://{}/app/stream", weir.authority());
    support::eventually("it listens", || TcpStream::connect(weir.authority()).ok());
    let said = Said::of(&place, &["--ca-file", "ca.pem", &url]);
    said.is(&[], &[]);
    said.says("tls", "TLS 1.3, certificate for ");
    let said = Said::of(&place, &[&url]);
    said.is(&["tls"], &[]);
    said.says("tls", "--ca-file ca.pem");
    said.says("tls", "the certificate is for ");
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let said = Said::of(&place, &["--ca-file", "ca.pem", &elsewhere]);
    said.is(&["tls"], &[]);
    said.says("tls", "use a name that the certificate has");
    Said::of(&place, &[&url.replace("https", "http")]).is(&["answer"], &[]);
}

#[test]
fn without_a_url_it_looks_around_here() {
    let place = Place::new().with("file", "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    place.write(
        "pipelines.toml",
        format!(
            "state_dir = \"file/state\"\nserver.listen = \"{address}\"\n{}",
            PIPELINE.replace("DIR", "/tmp")
        ),
    );
    let said = Said::of(&place, &[]);
    assert_eq!((said.with("fail"), said.code), (vec!["state"], 1), "{:#}", said.all);
    said.says("port", &format!("{address} is taken"));
    said.says("config", "pipelines.toml");
    for check in ["disk", "descriptors", "inotify"] {
        said.check(check);
    }
}
