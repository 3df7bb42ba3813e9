//! Every shape of timestamp, as a table of lines with the instant in RFC 3339; and that no bytes panic.

use super::detect_timestamp;
use crate::batch::Timestamp;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text.as_bytes()).unwrap_or_else(|| panic!("bad table entry {text:?}"))
}

fn received() -> Timestamp {
    at("2026-11-21T12:00:00Z")
}

/// Each line must give the time; "" means none.
fn check(table: &[(&str, &str)]) {
    for (line, want) in table {
        let want = if want.is_empty() { None } else { Some(at(want)) };
        let got = detect_timestamp(line.as_bytes(), received());
        assert_eq!(got, want, "{line}");
    }
}

#[test]
fn iso_8601_at_the_start() {
    check(&[
        ("2026-11-20T10:11:12Z x", "2026-11-20T10:11:12Z"),
        ("2026-11-20 10:11:12", "2026-11-20T10:11:12Z"),
        ("2026-11-20 10:11:12.5 x", "2026-11-20T10:11:12.5Z"),
        ("2015-10-18 18:01:47,978 INFO [main] x", "2015-10-18T18:01:47.978Z"),
        ("2026-11-20T10:11:12.123456789Z", "2026-11-20T10:11:12.123456789Z"),
        ("2026-11-20T10:11:12.1234567891234Z", "2026-11-20T10:11:12.123456789Z"),
        ("2026-11-20T10:11:12.123+02:00 x", "2026-11-20T08:11:12.123Z"),
        ("2026-11-20T10:11:12-0530 x", "2026-11-20T15:41:12Z"),
        ("2026-11-20 10:11:12+00 x", "2026-11-20T10:11:12Z"),
        ("2026-11-20 10:11:12.123+01 x", "2026-11-20T09:11:12.123Z"),
        ("2026-11-20 10:11:12 +0100 x", "2026-11-20T09:11:12Z"),
        ("2026-11-20 10:11:12 -1 x", "2026-11-20T10:11:12Z"),
        ("2026-11-20 10:11:12.123 UTC [1] LOG:  x", "2026-11-20T10:11:12.123Z"),
        ("2026-11-20T10:11Z x", "2026-11-20T10:11:00Z"),
        ("2026-11-20 10:11 x", "2026-11-20T10:11:00Z"),
        ("20261120T101112Z x", "2026-11-20T10:11:12Z"),
        ("20261120T101112.5+0100 x", "2026-11-20T09:11:12.5Z"),
        ("2016-12-31T23:59:60Z leap", "2016-12-31T23:59:59Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("2026-11-20T00:11:12+14:00", "2026-11-19T10:11:12Z"),
        ("2026-11-20 10:11:12, then", "2026-11-20T10:11:12Z"),
    ]);
}

#[test]
fn off_the_calendar_or_out_of_range() {
    for line in [
        "2026-02-29T00:00:00Z",
        "2100-02-29 00:00:00",
        "2026-13-01 00:00:00",
        "2026-00-01 00:00:00",
        "2026-04-31 00:00:00",
        "2026-11-00 00:00:00",
        "2026-11-20 24:00:00",
        "2026-11-20 10:60:00",
        "2026-11-20 10:11:61",
        "2026-11-20 10:11:123",
        "2026-11-20",
        "2026-11-20 ",
        "2026-11-2x 10:11:12",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "1600-01-01T00:00:00Z",
        "Feb 30 10:11:12 h x",
        "31/Feb/2026:10:11:12 +0000",
        "Jun 31 10:11:12 h",
        "20/Abc/2026:10:11:12 +0000",
        "",
    ] {
        assert_eq!(detect_timestamp(line.as_bytes(), received()), None, "{line}");
    }
}

#[test]
fn prefixes() {
    check(&[
        ("<165>1 2026-11-20T10:11:12.003Z host app - - - x", "2026-11-20T10:11:12.003Z"),
        ("<34>Nov 11 22:14:15 mymachine su: x", "2026-11-11T22:14:15Z"),
        ("<13>2026-11-20T10:11:12Z host x", "2026-11-20T10:11:12Z"),
        ("[2026-11-20T10:11:12Z INFO  app] x", "2026-11-20T10:11:12Z"),
        ("[2026-11-20 10:11:12,123: INFO/MainProcess] x", "2026-11-20T10:11:12.123Z"),
        ("- 2026-11-20 10:11:12 x", "2026-11-20T10:11:12Z"),
        ("  2026-11-20 10:11:12 x", "2026-11-20T10:11:12Z"),
        ("\u{feff}2026-11-20 10:11:12 x", "2026-11-20T10:11:12Z"),
        ("\"2026-11-20 10:11:12\",\"x\"", "2026-11-20T10:11:12Z"),
        ("\x1b[2m2026-11-20T10:11:12.123Z\x1b[0m \x1b[32m INFO\x1b[0m x", "2026-11-20T10:11:12.123Z"),
        (
            "nova-api.log.1.2017-05-16_13:53:08 2017-05-16 00:00:00.008 25746 INFO nova x",
            "2017-05-16T00:00:00.008Z",
        ),
        ("web_1  | 2026-11-20T10:11:12Z x", "2026-11-20T10:11:12Z"),
        ("INFO  2026-11-20 10:11:12,123 [main] x", "2026-11-20T10:11:12.123Z"),
        ("[INFO] 2026-11-20 10:11:12 x", "2026-11-20T10:11:12Z"),
        ("[main] [INFO] [2026-11-20 10:11:12] x", "2026-11-20T10:11:12Z"),
        ("I, [2026-11-20T10:11:12.123456 #17]  INFO -- : ruby", "2026-11-20T10:11:12.123456Z"),
        ("backup from host 2026-11-20 10:11:12 done", ""),
        ("[   12.345678] usb 1-1: new", ""),
        ("<165>1 - host app - - - x", ""),
    ]);
}

#[test]
fn syslog_and_its_missing_year() {
    check(&[
        ("Jun 14 15:16:01 combo sshd: x", "2026-06-14T15:16:01Z"),
        ("Jul  1 04:05:19 combo x", "2026-07-01T04:05:19Z"),
        ("Jul 1 04:05:19 combo x", "2026-07-01T04:05:19Z"),
        ("Jul  1 04:05:19.123456 combo x", "2026-07-01T04:05:19.123456Z"),
        ("Nov 22 11:59:59 within a day ahead", "2026-11-22T11:59:59Z"),
        ("Nov 22 12:00:01 more than a day ahead", "2025-11-22T12:00:01Z"),
        ("Dec 31 23:59:59 last year's", "2025-12-31T23:59:59Z"),
        ("Feb 29 10:00:00 leap", "2024-02-29T10:00:00Z"),
        ("Nov 20 2024 10:11:12 cisco", "2024-11-20T10:11:12Z"),
        ("Nov 20, 2026 9:11:12 PM org.x.Y log", "2026-11-20T21:11:12Z"),
        ("Nov 20, 2026 12:11:12 AM org.x.Y log", "2026-11-20T00:11:12Z"),
        ("11-20 10:11:12.123  1234  5678 E Tag: x", "2026-11-20T10:11:12.123Z"),
        ("I1120 10:11:12.123456   1 main.go:1] x", "2026-11-20T10:11:12.123456Z"),
    ]);
    let january = at("2026-01-01T00:00:10Z");
    let got = |line: &str| detect_timestamp(line.as_bytes(), january);
    assert_eq!(got("Dec 31 23:59:59 h x"), Some(at("2025-12-31T23:59:59Z")));
    assert_eq!(
        detect_timestamp(b"Jan  1 00:00:01 h", at("2025-12-31T23:59:59Z")),
        Some(at("2026-01-01T00:00:01Z"))
    );
    for received in [i64::MIN, i64::MAX, 0] {
        // Whatever the clock says, it must not panic.
        detect_timestamp(b"Jan  1 00:00:01 h", Timestamp(received));
        detect_timestamp(b"Dec 31 23:59:59 h", Timestamp(received));
    }
}

#[test]
fn other_loggers() {
    check(&[
        ("[Sun Dec 04 04:47:44 2005] [notice] x", "2005-12-04T04:47:44Z"),
        ("[Sun Dec 04 04:47:44.123456 2005] [core:error] x", "2005-12-04T04:47:44.123456Z"),
        ("Sun Dec  4 04:47:44 UTC 2005", "2005-12-04T04:47:44Z"),
        ("Fri Nov 20 10:11:12 no year", "2026-11-20T10:11:12Z"),
        ("Fri, 20 Nov 2026 10:11:12 +0100", "2026-11-20T09:11:12Z"),
        ("2026/11/20 10:11:12 [error] 123#0: x", "2026-11-20T10:11:12Z"),
        ("2026/11/20 10:11:12.123456 main.go:1: x", "2026-11-20T10:11:12.123456Z"),
        ("17/06/09 20:10:40 INFO x", "2017-06-09T20:10:40Z"),
        ("081109 203615 148 INFO dfs x", "2008-11-09T20:36:15Z"),
        ("081109 20:36:15 mysql", "2008-11-09T20:36:15Z"),
        ("691231 000000 x", "1969-12-31T00:00:00Z"),
        ("2005-06-03-15.42.50.675872 R02 x", "2005-06-03T15:42:50.675872Z"),
        ("[20-Nov-2026 10:11:12 UTC] PHP Warning:  x", "2026-11-20T10:11:12Z"),
        ("1234:M 20 Nov 2026 10:11:12.123 * Ready", "2026-11-20T10:11:12.123Z"),
        ("9 Nov 2026 10:11:12.123 x", "2026-11-09T10:11:12.123Z"),
        ("10.0.0.1 - bob [20/Nov/2026:10:11:12 +0100] \"GET / HTTP/1.1\" 200 1", "2026-11-20T09:11:12Z"),
        ("host - - [20/Nov/2026:10:11:12 +0000] \"GET /?time=1 HTTP/1.1\" 200 1", "2026-11-20T10:11:12Z"),
        ("11/20/2026 10:11:12 ambiguous", ""),
        ("20/11/2026 10:11:12 ambiguous", ""),
    ]);
}

#[test]
fn unix_time() {
    check(&[
        ("1795169472 x", "2026-11-20T10:11:12Z"),
        ("1795169472", "2026-11-20T10:11:12Z"),
        ("1795169472.123    200 1.2.3.4 TCP_MISS/200 squid", "2026-11-20T10:11:12.123Z"),
        ("1795169472123 x", "2026-11-20T10:11:12.123Z"),
        ("1795169472123456 x", "2026-11-20T10:11:12.123456Z"),
        ("1795169472123456789 x", "2026-11-20T10:11:12.123456789Z"),
        ("[1795169472] x", "2026-11-20T10:11:12Z"),
        ("- 1117838570 2005.06.03 R02 2005-06-03-15.42.50.675872 R02 RAS x", "2005-06-03T22:42:50Z"),
        ("KERNDTLB 1117869872 2005.06.04 R24 2005-06-04-00.24.32.432192 R24 RAS x", "2005-06-04T07:24:32Z"),
        ("type=SYSCALL msg=audit(1364481363.243:24287): arch=c000003e", "2013-03-28T14:36:03.243Z"),
        ("request 1795169472 done", ""),
        ("134681 node-246 unix.hw state_change.unavailable 1077804742 1 Component", ""),
        ("12345678901 x", ""),
        ("179516947 x", ""),
        ("9999999999999999999 x", ""),
        ("1795169472abc", ""),
    ]);
}

#[test]
fn keys() {
    check(&[
        (r#"{"timestamp":"2026-11-20T10:11:12.5Z","m":1}"#, "2026-11-20T10:11:12.5Z"),
        (r#"{"level":"info","time":1795169472123}"#, "2026-11-20T10:11:12.123Z"),
        (r#"{"ts":1795169472.123456,"m":1}"#, "2026-11-20T10:11:12.123456Z"),
        (r#"{"@timestamp":"2026-11-20T10:11:12+01:00"}"#, "2026-11-20T09:11:12Z"),
        (r#"{"@t":"2026-11-20T10:11:12.1234567Z","@mt":"x"}"#, "2026-11-20T10:11:12.1234567Z"),
        (r#"{"datetime":"2026-11-20 10:11:12"}"#, "2026-11-20T10:11:12Z"),
        (r#"{"date":1795169472.5}"#, "2026-11-20T10:11:12.5Z"),
        (r#"{"t":{"$date":"2026-11-20T10:11:12.123+00:00"},"s":"I"}"#, "2026-11-20T10:11:12.123Z"),
        (r#"{"t":12,"time":"1795169472"}"#, "2026-11-20T10:11:12Z"),
        (
            r#"{"log":"2020-01-01 00:00:00 x","stream":"o","time":"2026-11-20T10:11:12.1Z"}"#,
            "2026-11-20T10:11:12.1Z",
        ),
        (r#"{"a":{"time":1795169472}}"#, ""),
        (r#"{"time":null,"ts":NaN,"t":1e400,"date":99999999999999999999}"#, ""),
        (r#"{"time":"#, ""),
        ("time=2026-11-20T10:11:12.123Z level=info msg=x", "2026-11-20T10:11:12.123Z"),
        ("level=info ts=1795169472.5 msg=x", "2026-11-20T10:11:12.5Z"),
        ("level=info time=\"2026-11-20 10:11:12\" msg=x", "2026-11-20T10:11:12Z"),
        ("app level=info ts=2026-11-20T10:11:12Z", "2026-11-20T10:11:12Z"),
        ("runtime=1795169472 x", ""),
    ]);
}

#[test]
fn hostile_lines_cost_no_more_than_they_are_long() {
    for unit in
        ["{\"t\":", "{\"", "[", "{\"a\":[", " ", "<", "=", "\"", "ts=", "\x1b[", "9", "- ", "\u{feff}"]
    {
        let line = unit.repeat(1_000_000 / unit.len());
        assert_eq!(detect_timestamp(line.as_bytes(), received()), None, "{unit}");
    }
}

/// What timestamps are made of, for mixtures that get further than random bytes.
const PIECES: &[&str] = &[
    "2026",
    "-",
    "11",
    "20",
    "/",
    ":",
    ".",
    ",",
    " ",
    "T",
    "Z",
    "+",
    "0",
    "[",
    "]",
    "<165>",
    "1 ",
    "Nov",
    "Fri",
    "{\"t\":",
    "\"",
    "}",
    "time=",
    "ts=",
    "audit(",
    "1795169472",
    "999",
    "10:11:12",
    "2026-11-20",
    "\x1b[2m",
    "PM",
    "é",
    "I1120",
    "9999",
    "0000",
    "Feb 29",
];

proptest! {
    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..300), received in any::<i64>()) {
        detect_timestamp(&line, Timestamp(received));
    }

    #[test]
    fn no_mixture_of_pieces_panics(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24),
        received in any::<i64>(),
    ) {
        let line = pieces.concat();
        for cut in 0..line.len().min(40) {
            detect_timestamp(&line.as_bytes()[..line.len() - cut], Timestamp(received));
            detect_timestamp(&line.as_bytes()[cut..], Timestamp(received));
        }
    }

    #[test]
    fn what_is_printed_is_detected(
        at in any::<i64>(),
        prefix in prop::sample::select(&["", "[", "<13>", "app "][..]),
    ) {
        let mut line = prefix.as_bytes().to_vec();
        Timestamp(at).write_rfc3339(&mut line);
        line.extend_from_slice(b" INFO x");
        prop_assert_eq!(detect_timestamp(&line, received()), Some(Timestamp(at)));
    }

    #[test]
    fn an_inferred_year_is_the_nearest_past(
        received in -4_000_000_000i64..4_000_000_000,
        ago in 0i64..364 * 86_400,
    ) {
        // Any syslog time within the last year is read back as it was.
        let (now, then) = (Timestamp(received * 1_000_000_000), Timestamp((received - ago) * 1_000_000_000));
        let text = jiff::Timestamp::from_second(received - ago).unwrap();
        let text = text.strftime("%b %e %H:%M:%S host x").to_string();
        prop_assert_eq!(detect_timestamp(text.as_bytes(), now), Some(then));
    }
}
