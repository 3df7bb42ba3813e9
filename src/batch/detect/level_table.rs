//! Every shape of severity, as a table of lines; and that no bytes make the search panic.

use super::detect_level;
use crate::batch::Level::{self, *};
use proptest::prelude::*;

fn check(table: &[(&str, Option<Level>)]) {
    for (line, want) in table {
        assert_eq!(detect_level(line.as_bytes()), *want, "{line}");
    }
}

#[test]
fn upper_case_words() {
    check(&[
        ("2026-11-20 10:11:12.123 WARN [cart-3] cart - slow", Some(Warn)),
        ("2026-11-20 10:11:12,123 - root - ERROR - boom", Some(Error)),
        ("2026-11-20T10:11:12.123456Z  INFO weir::engine: started", Some(Info)),
        ("2026-11-20T10:11:12.123456+01:00 DEBUG x", Some(Debug)),
        ("[2026-11-20T10:11:12Z INFO  app] hi", Some(Info)),
        ("[2026-11-20T10:11:12,123][WARN ][o.e.n.Node] [n1] x", Some(Warn)),
        ("2026/11/20 10:11:12 INFO hello", Some(Info)),
        ("2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]] - x", Some(Info)),
        ("081109 203615 148 INFO dfs.DataNode: x", Some(Info)),
        ("WARNING:root:watch out", Some(Warn)),
        ("CRITICAL:app:down", Some(Fatal)),
        ("ERROR: relation does not exist", Some(Error)),
        ("ERROR", Some(Error)),
        ("[10:11:12 INF] Serilog", Some(Info)),
        ("10:11AM WRN zerolog", Some(Warn)),
        ("[10:11:12] [Server thread/WARN]: Can't keep up!", Some(Warn)),
        ("[2026-11-20 10:11:12,123: INFO/MainProcess] celery", Some(Info)),
        ("I, [2026-11-20T10:11:12.123456 #17]  INFO -- : ruby", Some(Info)),
        ("\x1b[2m2026-11-20T10:11:12.123Z\x1b[0m \x1b[33m WARN\x1b[0m app: x", Some(Warn)),
        ("10:11:12 \x1b[31mERROR\x1b[0m app: x", Some(Error)),
        ("\"2026-11-20\",\"ERROR\",\"text\"", Some(Error)),
        ("2026-11-20 10:11:12 [main] SEVERE com.x", Some(Error)),
        ("FINE: detail", Some(Debug)),
        ("app TRACE enter", Some(Trace)),
        ("日本 ERROR 失敗", Some(Error)),
    ]);
}

#[test]
fn postgres() {
    check(&[
        ("2026-11-20 10:11:12.123 UTC [123] LOG:  checkpoint starting: time", Some(Info)),
        ("2026-11-20 10:11:12.123 UTC [123] ERROR:  syntax error at or near \"x\"", Some(Error)),
        ("2026-11-20 10:11:12.123 CET [123] FATAL:  the database system is starting up", Some(Fatal)),
        ("2026-11-20 10:11:12.123 UTC [123] DEBUG2:  x", Some(Debug)),
        ("2026-11-20 10:11:12.123 UTC [123] PANIC:  x", Some(Fatal)),
        ("2026-11-20 10:11:12.123 UTC [123] NOTICE:  x", Some(Notice)),
        ("2026-11-20 10:11:12.123 UTC [123] STATEMENT:  SELECT 1", None),
    ]);
}

#[test]
fn brackets() {
    check(&[
        ("[ERROR] boom", Some(Error)),
        ("[ERROR   ] boom", Some(Error)),
        ("[ info ] x", Some(Info)),
        ("[Sun Dec 04 04:47:44 2005] [error] mod_jk child", Some(Error)),
        ("[Sun Dec 04 04:47:44.123456 2005] [core:error] [pid 1] x", Some(Error)),
        ("[Sun Dec 04 04:47:44 2005] [proxy_fcgi:warn] [pid 1] x", Some(Warn)),
        ("2026/11/20 10:11:12 [error] 123#0: *1 open() failed", Some(Error)),
        ("2026/11/20 10:11:12 [emerg] 123#0: bind() failed", Some(Fatal)),
        ("2026-11-20T10:11:12.123456Z 0 [Warning] [MY-010068] mysql", Some(Warn)),
        ("2026-11-20T10:11:12.123456Z 0 [Note] mysql", Some(Info)),
        ("<E> 2026-11-20 x", Some(Error)),
        ("<warning> x", Some(Warn)),
        ("[W] x", Some(Warn)),
        ("[I 10:11:12.123 NotebookApp] x", Some(Info)),
        ("[warn] x", Some(Warn)),
        ("[error in foo] x", None),
        ("[x] a", None),
        ("[", None),
        ("<", None),
        ("[error", None),
    ]);
}

#[test]
fn keys() {
    check(&[
        ("time=2026-11-20T10:11:12Z level=info msg=\"no ERROR here\"", Some(Info)),
        ("ts=1763633472.1 caller=a.go:1 level=warn msg=x", Some(Warn)),
        ("msg=\"GET INFO\" lvl=eror level=error", Some(Error)),
        ("level=\"error\" msg=x", Some(Error)),
        ("severity=CRITICAL x", Some(Fatal)),
        ("levelname=WARNING x", Some(Warn)),
        ("a=b loglevel=debug", Some(Debug)),
        ("a=b level=30", Some(Info)),
        ("sea_level=error", None),
        ("level=", None),
        ("=", None),
    ]);
}

#[test]
fn json() {
    check(&[
        (r#"{"level":"warn","msg":"ERROR"}"#, Some(Warn)),
        (r#"{"time":"x","level":30,"msg":"pino"}"#, Some(Info)),
        (r#"{"name":"bunyan","level":50}"#, Some(Error)),
        (r#"{"version":"1.1","level":4,"short_message":"gelf"}"#, Some(Warn)),
        (r#"{ "severity" : "NOTICE" }"#, Some(Notice)),
        (r#"{"lvl":"dbg"}"#, Some(Debug)),
        (r#"{"log.level":"error"}"#, Some(Error)),
        (r#"{"log":{"level":"error","logger":"x"}}"#, Some(Error)),
        (r#"{"@t":"2026","@l":"Fatal"}"#, Some(Fatal)),
        (r#"{"levelname":"CRITICAL"}"#, Some(Fatal)),
        (r#"{"loglevel":"trace"}"#, Some(Trace)),
        (r#"{"PRIORITY":"3","MESSAGE":"x"}"#, Some(Error)),
        (r#"{"t":{"$date":"2026-11-20T10:11:12.123+00:00"},"s":"W","c":"NETWORK"}"#, Some(Warn)),
        (r#"{"msg":"level: \"ERROR\"","level":"info"}"#, Some(Info)),
        (r#"{"user":{"level":"error"},"msg":"x ERROR x"}"#, None),
        (r#"{"level":null,"severity":"error"}"#, Some(Error)),
        (r#"{"level":"#, None),
        (r#"  {"level":"error"}"#, Some(Error)),
        ("\u{feff}{\"level\":\"error\"}", Some(Error)),
        (r#"2026-11-20T10:11:12.1Z stdout F {"level":"error"}"#, Some(Error)),
        ("{req-1} ERROR x", Some(Error)),
    ]);
    let late = format!(r#"{{"msg":"{}","level":"error"}}"#, "x".repeat(10_000));
    assert_eq!(detect_level(late.as_bytes()), Some(Error));
}

#[test]
fn syslog() {
    check(&[
        ("<165>1 2026-11-20T10:11:12Z host app 1 ID - ERROR in text", Some(Notice)),
        ("<34>Oct 11 22:14:15 mymachine su: failed", Some(Fatal)),
        ("<11>x", Some(Error)),
        ("<0>x", Some(Fatal)),
        ("<191>x", Some(Debug)),
        ("<6>[   12.3] usb 1-1: new device", Some(Info)),
        ("<192>x", None),
        ("<>x", None),
        ("Dec 10 07:51:15 LabSZ sshd[24324]: error: Received disconnect", Some(Error)),
        ("Dec 10 07:51:15 LabSZ sshd[24324]: fatal: Write failed", Some(Fatal)),
        ("Nov 20 10:11:12 host daemon.err prog: x", Some(Error)),
        ("Nov 20 10:11:12 host local7.notice prog: x", Some(Notice)),
        ("Nov 20 10:11:12 host kernel: [1.2] BUG: unable to handle page fault", Some(Error)),
        ("Nov 20 10:11:12 host kernel: Oops: 0002", Some(Error)),
        ("Nov 20 10:11:12 host kernel: Kernel panic - not syncing", Some(Fatal)),
        ("Jun 15 04:06:20 combo logrotate: ALERT exited abnormally with [1]", Some(Fatal)),
        ("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; logname= uid=0", None),
    ]);
}

#[test]
fn lettered() {
    check(&[
        ("I0102 15:04:05.123456   1 main.go:1] hello ERROR", Some(Info)),
        ("W0102 15:04:05.123456   1 main.go:1] hello", Some(Warn)),
        ("E0102 15:04:05.123456   1 main.go:1] hello", Some(Error)),
        ("F0102 15:04:05.123456   1 main.go:1] hello", Some(Fatal)),
        ("E/ActivityManager( 123): died", Some(Error)),
        ("V/Tag: x", Some(Trace)),
        ("11-20 10:11:12.123  1234  5678 W Tag: x", Some(Warn)),
        ("2026-11-20T10:11:12.123+0000 I NETWORK  [conn1] end", Some(Info)),
        ("I am a sentence", None),
    ]);
}

#[test]
fn access_lines() {
    let line = |status: &str| {
        format!(
            "10.0.0.1 - bob [20/Nov/2026:10:11:12 +0000] \"GET /error?x=\\\"ERROR HTTP/1.1\" {status} 12 \"-\" \"curl\""
        )
    };
    for (status, want) in
        [("200", Info), ("101", Info), ("304", Info), ("404", Warn), ("500", Error), ("503", Error)]
    {
        assert_eq!(detect_level(line(status).as_bytes()), Some(want), "{status}");
    }
    check(&[
        ("::1 - - [20/Nov/2026:10:11:12 +0000] \"-\" 400 0", Some(Warn)),
        ("h - - [20/Nov/2026:10:11:12 +0000] \"\" 408", Some(Warn)),
        ("h - - [20/Nov/2026:10:11:12 +0000] \"GET / HTTP/1.1", None),
        ("h - - [20/Nov/2026:10:11:12 +0000] \"GET / HTTP/1.1\" 999 1", None),
    ]);
}

#[test]
fn first_words() {
    check(&[
        ("error: disk full", Some(Error)),
        ("Warning: x", Some(Warn)),
        ("panic: runtime error: index out of range", Some(Fatal)),
        ("info: Microsoft.Hosting.Lifetime[0]", Some(Info)),
        ("2026-11-20T10:11:12.123Z error: winston", Some(Error)),
        ("2026-11-20 10:11:12 error something", Some(Error)),
        ("2026-11-20T10:11:12.123Z\tinfo\tcaller.go:1\tzap", Some(Info)),
        ("2026-11-20 10:11:12 | warning | x", Some(Warn)),
        ("main.c:12:3: error: expected ';'", Some(Error)),
    ]);
}

#[test]
fn words_that_are_no_level() {
    check(&[
        ("", None),
        ("   ", None),
        ("no error found", None),
        ("error rate is 0", None),
        ("notice that this is text", None),
        ("GET /debug/info HTTP/1.1", None),
        ("retrying after error in module", None),
        ("connection closed (error)", None),
        ("code ERROR_TIMEOUT raised", None),
        ("it is NON-FATAL", None),
        ("DEBUG=1 npm start", None),
        ("see INFO.md", None),
        ("com.example.ERROR", None),
        ("said \"this is an ERROR\" loudly", None),
        ("THE FINE PRINT", None),
        ("INFORMED", None),
        ("404 error page shown", None),
        ("[12345.678] usb", None),
    ]);
    let late = format!("{} ERROR", "x ".repeat(100));
    assert_eq!(detect_level(late.as_bytes()), None, "outside the window");
}

#[test]
fn hostile_lines_cost_no_more_than_they_are_long() {
    // Deep nesting and many openings: must neither overflow the stack nor go quadratic.
    for unit in ["{\"log\":", "{\"", "[", "{\"a\":[", " ", "<", "=", "\"", "level=", "\x1b["] {
        let line = unit.repeat(1_000_000 / unit.len());
        assert_eq!(detect_level(line.as_bytes()), None, "{unit}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..300)) {
        detect_level(&line);
    }

    #[test]
    fn no_mixture_of_pieces_panics(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        let line = pieces.concat();
        for cut in 0..line.len().min(40) {
            detect_level(&line.as_bytes()[..line.len() - cut]);
            detect_level(&line.as_bytes()[cut..]);
        }
    }
}

/// What lines are made of, for mixtures that get further than random bytes.
const PIECES: &[&str] = &[
    "[",
    "]",
    "<",
    ">",
    "{\"",
    "\":",
    "\"",
    "}",
    ",",
    " ",
    "  ",
    "level",
    "=",
    ":",
    "error",
    "INFO",
    "I",
    "1",
    "20",
    "/",
    "Nov",
    ".",
    "-",
    "\x1b[31",
    "m",
    "é",
    "local0",
    "daemon",
    "{",
    "severity",
    "log",
    "\\",
    "BUG",
    "Oops",
    "T",
    "Z",
    "2026-11-20T10:11:12",
    "[20/Nov/2026:10:11:12 +0000] \"",
    "<165>1 ",
    "Kernel panic",
];
