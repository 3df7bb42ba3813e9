//! Queries from outside: a configuration's mistakes shown inside the string, sinks that take what their `when` finds,
//! streams with `q`, the flag, and accounts that balance.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use support::free_port;
use support::http::get;
use support::weir::Place;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/QUERY.md")).unwrap()
}

#[test]
fn a_mistake_is_shown_as_the_page_says() {
    let config = "[[pipelines]]\nname = \"app\"\n\n[[pipelines.sources]]\ntype = \"stdin\"\n\n[[pipelines.filters]]\n\
                  type = \"query\"\nquery = 'level:warn status>=500'\n\n[[pipelines.sinks]]\ntype = \"console\"\n\
                  when = \"\\\"a b\\\" level:loud\"\n";
    let place = Place::new().with("pipelines.toml", config);
    let checked = place.run(&["check"]);
    assert_eq!(checked.code, 1);
    let block = page();
    let block = block.split("```text\n").find(|b| b.starts_with("error: invalid query")).unwrap();
    let block = block.split("\n```").next().unwrap();
    let printed = format!("{}{}", checked.stdout, checked.stderr);
    assert!(printed.contains(block), "{printed}\n--- the page says\n{block}");
    // With escapes before it, too.
    assert!(printed.contains("pipelines.toml:13:23"), "{printed}");
}

#[test]
fn sinks_take_what_their_query_finds_and_accounts_balance() {
    let place = Place::new();
    let port = free_port();
    let file = |name: &str, when: &str| {
        let path = place.path(name);
        format!("[[pipelines.sinks]]\ntype = \"file\"\npath = \"{}\"\nwhen = '{when}'\n", path.display())
    };
    let config = format!(
        "server.listen = \"127.0.0.1:{port}\"\n[[pipelines]]\nname = \"app\"\n[[pipelines.sources]]\ntype = \"stdin\"\n\
         {}filters = [{{ type = \"exclude\", patterns = \"secret\" }}]\n{}[[pipelines.sinks]]\ntype = \"http\"\n\
         history = {{ max_events = 100 }}\n",
        file("errors.log", "level:>=error OR req.status:>=500"),
        file("others.log", "NOT (level:>=error OR req.status:>=500)"),
    );
    place.write("pipelines.toml", config);
    let mut command = place.command(&["run"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut weir = place.spawn(&mut command, port);
    weir.wait_ready();
    let lines = [
        "ERROR disk",
        "INFO ok",
        r#"{"req":{"status":503},"msg":"upstream"}"#,
        r#"{"req":{"status":200}}"#,
        "ERROR secret",
    ];
    let mut stdin = weir.child().stdin.take().unwrap();
    writeln!(stdin, "{}", lines.join("\n")).unwrap();

    // A stream of all that its query finds; a limit ends it.
    let target = "/app/stream?format=raw&tail=10&limit=2&q=error+OR+req.status:503";
    let authority = weir.authority();
    let mut stream = support::http::Stream::open(&authority, target, &[]);
    assert_eq!(stream.line().unwrap(), b"ERROR disk");
    assert_eq!(stream.line().unwrap(), lines[2].as_bytes());

    let (code, body) = get(&authority, "/app/stream?q=a+level:loud").unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &body["position"]), (400, &json!({ "start": 8, "end": 12 })));
    assert_eq!(body["message"], "unknown level: `loud`");
    let (code, _) = get(&authority, "/app/stream?q=%20&limit=0").unwrap();
    assert_eq!(code, 200, "an empty query asks for everything");

    let balanced = |component: &Value| {
        let count = |key: &str| component[key].as_u64().unwrap();
        assert_eq!(
            count("received"),
            count("delivered") + count("filtered") + count("queued"),
            "{component}"
        );
        (count("received"), count("filtered"))
    };
    assert_eq!(balanced(&weir.component("app", "app.filter.0.when")), (5, 2));
    assert_eq!(balanced(&weir.component("app", "app.filter.1.exclude")), (3, 1));
    assert_eq!(balanced(&weir.component("app", "app.filter.2.when")), (5, 3));
    drop(stdin);
    assert_eq!(weir.wait(), 0);
    let read = |name: &str| String::from_utf8(place.read(name)).unwrap();
    assert_eq!(read("errors.log"), format!("{}\n{}\n", lines[0], lines[2]));
    assert_eq!(read("others.log"), format!("{}\n{}\n", lines[1], lines[3]));
}

#[test]
fn the_flag_combines_with_the_others() {
    let place = Place::new().with("in.log", "ERROR a\nERROR b\nINFO a\nerror c\n");
    let run = |args: &[&str]| {
        let mut command = place.command(args);
        command.stdin(std::fs::File::open(place.path("in.log")).unwrap());
        support::weir::finish(&mut command)
    };
    let found = run(&["--query", "error -b", "--exclude", "c$"]);
    assert_eq!((found.code, found.stdout.as_str()), (0, "ERROR a\n"));
    let wrong = run(&["--query", "level:loud"]);
    assert_eq!(wrong.code, 78);
    assert!(
        wrong.stderr.contains("--query level:loud") && wrong.stderr.contains("^^^^ expected trace"),
        "{}",
        wrong.stderr
    );
}
