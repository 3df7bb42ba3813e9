//! What lines look like, of all the kinds that people have; and that nothing gets through to the terminal.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::batch::{Arena, Batch, Framing, Level, Origin, Receipt, Span, Timestamp};
use crate::cli::tail::block::Envelope;

/// 2026-11-21T12:00:00Z.
const NOW: Timestamp = Timestamp(1_795_262_400_000_000_000);

fn block(label: &str, line: &[u8]) -> Block {
    let origin = Arc::new(Origin::new("t", label));
    let spans = vec![Span::new(0, line.len())];
    Block::lines(Batch::new(
        Arena::new(line.to_vec().into(), spans, Framing::Free, origin, NOW),
        Receipt::none(),
    ))
}

fn shown(pretty: &mut Pretty, block: &Block) -> String {
    let mut out = Vec::new();
    pretty.row(block, 0, &mut out);
    String::from_utf8(out).unwrap()
}

/// The line as a terminal gets it, with names for its colours: `<2>dim</>`.
fn colored(line: &str) -> String {
    let text = shown(&mut Pretty::new(true, false, None), &block("app.log", line.as_bytes()));
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        let (code, after) = after.split_once('m').unwrap();
        out.push_str(before);
        out.push_str(&if code == "0" { "</>".to_owned() } else { format!("<{code}>") });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn plain(line: &str) -> String {
    shown(&mut Pretty::new(false, false, None), &block("app.log", line.as_bytes()))
}

const JSON: [&str; 7] = [
    // pino
    r#"{"level":30,"time":1795255200123,"pid":7,"hostname":"web-1","req":{"id":"r1","method":"GET","url":"/x?a=1","headers":{"host":"h"}},"res":{"statusCode":200},"responseTime":12,"msg":"request completed"}"#,
    // bunyan
    r#"{"name":"app","hostname":"web-1","pid":7,"level":50,"msg":"it broke","time":"2026-11-21T10:00:00.123Z","v":0,"err":{"message":"no","stack":"Error: no\n    at run (/srv/app.js:7:3)\n    at main (/srv/app.js:2:1)\n"}}"#,
    // zap
    r#"{"level":"warn","ts":1795255200.123,"caller":"app/main.go:42","msg":"slow query","took":"1.2s","rows":[1,2,3],"empty":{},"text":""}"#,
    // slog, with a message of several lines
    r#"{"time":"2026-11-21T10:00:00.123456789+02:00","level":"ERROR","msg":"panic: boom\ngoroutine 1 [running]:\n\tmain.main()","service.name":"api","ok":false,"next":null}"#,
    // no event, just an object
    r#"{"a":1,"b":{"c":"x y"}}"#,
    // ECS
    r#"{"@timestamp":"2026-11-21T10:00:00.000Z","log.level":"info","message":"started","ecs":{"version":"8.1"},"tags":["a","b"]}"#,
    // cut short
    r#"{"level":"info","msg":"cut sho"#,
];

const TEXT: [&str; 13] = [
    r#"203.0.113.7 - alice [21/Nov/2026:10:11:12 +0000] "GET /api/3?x=1 HTTP/1.1" 500 1234 "https://example.com/a" "Mozilla/5.0""#,
    r#"2026/11/21 10:11:12 [error] 1234#5: *9 open() "/var/www/x.html" failed (2: No such file or directory), client: 2001:db8::1, server: _"#,
    "Nov 21 10:11:12 web-1 sshd[24200]: Failed password for invalid user admin from 198.51.100.3 port 38926 ssh2",
    "<34>1 2026-11-21T10:11:12.003Z web-1 su - ID47 - 'su root' failed for lonvick on /dev/pts/8",
    "ts=2026-11-21T10:00:00.5Z level=error caller=main.go:7 msg=\"cannot connect\" addr=10.0.0.1:5432 took=3ms ok=false try=2",
    "2026-11-21 10:11:12,123 ERROR [main] c.e.App - it broke",
    "java.lang.IllegalStateException: no",
    "\tat com.example.App.run(App.java:42)",
    "I1121 10:11:12.123456   17 controller.go:114] pod \"web-1\" is ready uid=0f3c8a52-1b2e-4f3a-9b0a-0123456789ab",
    "2026-11-21 10:11:12.123 UTC [4242] LOG:  duration: 1204.5 ms  statement: SELECT 'x' FROM t WHERE id = 7",
    "081109 203615 148 INFO dfs.DataNode$PacketResponder: src: /10.250.19.102:54106",
    "it's 100% done, see http://example.com/x?y=1. commit 4f2a9c81d3e7b6a5 in 12.5ms, true",
    "warning: [ERROR] not \"closed",
];

#[test]
fn structured_lines_are_laid_out() {
    insta::assert_snapshot!(JSON.map(plain).concat());
}

#[test]
fn what_stands_out_in_a_line() {
    insta::assert_snapshot!(TEXT.iter().chain(&JSON).map(|line| colored(line)).collect::<String>());
}

#[test]
fn labels_name_sources_once_there_are_two() {
    let mut pretty = Pretty::new(false, false, None);
    let mut say = |label: &str| shown(&mut pretty, &block(label, b"x"));
    assert_eq!([say("/var/log/a.log"), say("/var/log/a.log")], ["x\n", "x\n"]);
    assert_eq!(say("/var/log/long.log"), "long.log | x\n");
    assert_eq!(say("/var/log/a.log"), "a.log    | x\n");
    assert_eq!(say("evil\x1b[2J"), "evil\\x1b[2J | x\n");
}

#[test]
fn labels_are_as_wide_as_they_will_be_and_tell_files_apart() {
    let mut pretty = Pretty::new(false, true, None);
    let pods = ["/pods/api/0.log", "/pods/web-1/0.log", "/pods/db.log", "/x/pods/db.log/"];
    pretty.expect(pods.iter().map(|&label| label.to_owned()));
    let mut say = |label: &str| shown(&mut pretty, &block(label, b"x"));
    assert_eq!(say("/pods/db.log"), "db.log      | x\n");
    assert_eq!(say("/pods/api/0.log"), "api/0.log   | x\n");
    assert_eq!(say("/pods/web-1/0.log"), "web-1/0.log | x\n");
    // One that comes later is told apart, too, and from then on the other one.
    assert_eq!(say("/old/db.log"), "old/db.log  | x\n");
    assert_eq!(say("/pods/db.log"), "pods/db.log | x\n");
    assert_eq!(say("http://host/0.log"), "http://host/0.log | x\n");
    assert_eq!(say("10.log"), "10.log            | x\n");
}

#[test]
fn a_running_weir_knows_times_and_levels() {
    let envelope = |line: &str| {
        let mut block = block("u", line.as_bytes());
        let timestamp = Some(NOW);
        block.envelopes = vec![Envelope {
            data: Span::new(0, 0),
            timestamp,
            level: Some(Level::Warn),
            label: "app".into(),
        }];
        shown(&mut Pretty::new(false, false, None), &block)
    };
    assert_eq!(envelope("plain"), "2026-11-21 12:00:00.000Z plain\n");
    assert_eq!(envelope("2026-11-20 01:02:03 stated"), "2026-11-20 01:02:03 stated\n");
    assert_eq!(envelope("{\"msg\":\"m\",\"a\":1}"), "2026-11-21 12:00:00.000Z WARN  m a=1\n");
    assert_eq!(envelope("two\nlines"), "2026-11-21 12:00:00.000Z two\nlines\n");
}

#[test]
fn what_was_searched_for_is_marked_across_colors() {
    use clap::Parser;
    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        args: crate::cli::tail::args::TailArgs,
    }
    let shown = |args: &[&str], line: &str| {
        let given = Given::parse_from([&["x"], args].concat()).args;
        let marks = crate::cli::tail::wanted::Wanted::new(&given).unwrap().marks();
        shown(&mut Pretty::new(true, false, marks), &block("u", line.as_bytes()))
    };
    let (on, off) = ("\x1b[1;30;43m", "\x1b[0m");
    assert_eq!(shown(&["-i", "b c"], "a b c d"), format!("a {on}b c{off} d\n"));
    assert_eq!(shown(&["-i", "at 10"], "at 10.5 x"), format!("{on}at {off}{on}10{off}\x1b[36m.5{off} x\n"));
    assert_eq!(
        shown(&["-q", "boom"], "{\"msg\":\"a boom\",\"level\":\"info\"}"),
        format!("\x1b[32mINFO {off} a {on}boom{off}\n")
    );
    assert_eq!(shown(&["-i", "x*"], "a"), "a\n", "nothing to mark is no mark");
}

#[test]
fn a_carriage_return_within_a_row_is_seen() {
    assert_eq!(plain("two\r\r"), "two\\r\n");
    assert_eq!(plain("{\"msg\":\"paid\",\"user\":\"x\\r\",\"n\":1}"), "paid user=x\\r n=1\n");
}

fn visible(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        out.push_str(before);
        let (code, after) = after.split_once('m').expect("only colours");
        assert!(code.bytes().all(|b| b.is_ascii_digit() || b == b';'), "{code:?}");
        rest = after;
    }
    out + rest
}

proptest! {
    #[test]
    fn nothing_steers_the_terminal_and_no_text_is_lost(line in proptest::collection::vec(prop_oneof![
        3 => proptest::sample::select(&b"{}[]\"':,=\\/.-_ 0129azAZ\t\n\x1b[31mJ\x07\r\x9b\xc2\xff"[..]), 1 => any::<u8>()], 0..120)) {
        let text = shown(&mut Pretty::new(true, false, None), &block("u", &line));
        prop_assert!(visible(&text).chars().all(|c| matches!(c, '\t' | '\n') || !c.is_control()), "{text:?}");
        // A colour of its own is shown as a colour, or, without colours, as what it is.
        let colored_itself = memchr::memmem::find(&line, b"\x1b[").is_some();
        if !colored_itself {
            let plain = shown(&mut Pretty::new(false, false, None), &block("u", &line));
            prop_assert_eq!(visible(&text), plain, "colours change no text");
        }
    }

    #[test]
    fn lines_that_look_like_something_are_survived(line in "[\\[<(\"' ]{0,2}(20[0-9]{2}-[0-9-]{0,6}[T ]?[0-9:.,]{0,14}|[A-Z]{3} [0-9 :]{0,16}|[0-9.]{1,18}|[0-9a-f:]{1,45}|[a-z]{1,5}=[\"0-9a-z]{0,8}|https?://[a-z/.]{0,20}|/[a-z./]{0,9}|0x[0-9a-z]{0,8}|[IWEF][0-9]{4} [0-9:.]{0,16}){1,3}") {
        let text = shown(&mut Pretty::new(true, false, None), &block("u", line.as_bytes()));
        let plain = shown(&mut Pretty::new(false, false, None), &block("u", line.as_bytes()));
        prop_assert_eq!(visible(&text), plain);
    }
}
