//! What queries mean: for each, lines that match and lines that do not.

use std::sync::Arc;

use crate::batch::{BatchBuilder, Origin, Receipt, Timestamp};
use crate::query::Query;

/// Whether the query finds the line, in a batch and, where the batch says nothing of its own, alone.
fn finds(query: &str, line: &str) -> bool {
    let parsed = Query::parse(query).unwrap_or_else(|e| panic!("{e}"));
    let received = "2026-11-21T12:00:00Z".parse::<jiff::Timestamp>().unwrap();
    // Among others, so that the rows are searched together.
    let origin = Arc::new(Origin::new("app.source.0.file", "/var/log/app.log"));
    let mut builder = BatchBuilder::new(origin);
    builder.received(Timestamp(received.as_nanosecond() as i64));
    for i in 0..40 {
        builder.push(if i == 20 { line.as_bytes() } else { b"~" });
    }
    let mut batch = builder.finish(Receipt::none());
    parsed.matcher().keep(&mut batch, received);
    let together = batch.live().has(20);
    if !query.contains("source") && !query.contains("pipeline") {
        assert_eq!(parsed.matcher().matches(line.as_bytes(), received), together, "{query} alone: {line}");
    }
    let again = Query::parse(&parsed.to_string()).unwrap_or_else(|e| panic!("{query} printed: {e}"));
    assert!(again == parsed, "{query} printed is {parsed}");
    together
}

/// Each query with lines it finds and lines it does not.
fn table(cases: &[(&str, &[&str], &[&str])]) {
    for (query, yes, no) in cases {
        for line in *yes {
            assert!(finds(query, line), "{query} must find {line}");
        }
        for line in *no {
            assert!(!finds(query, line), "{query} must not find {line}");
        }
    }
}

#[test]
fn words_and_phrases() {
    table(&[
        (
            "timeout",
            &["Read TIMEOUT after 5s", "timeout", "a.timeout="],
            &["timeouts", "read_timeout", "time out"],
        ),
        (
            "\"connection reset\"",
            &["[Connection  reset] by peer"],
            &["connection was reset", "reset connection"],
        ),
        ("connection-reset", &["connection reset"], &["connections reset"]),
        ("time* *out", &["Timer without"], &["out of tim"]),
        ("t?me", &["the time", "TOME"], &["the tiime", "tme"]),
        ("*", &["", "anything"], &[]),
        ("10.0.0.1", &["from 10.0.0.1:80"], &["from 10.0.0.11", "110.0.0.1"]),
        ("10:11:12", &["2026-11-21 10:11:12,5"], &["2026-11-21 10:11:13"]),
        ("http://host/x", &["GET http://host/x HTTP/1.1"], &["http host y"]),
        ("std::io::Error", &["std::io::Error: no"], &["std io"]),
        ("\"=>\"", &["a => b"], &["a = > b"]),
        ("größe", &["GRÖßE"], &["grosse"]),
        ("ошибк*", &["Произошла ОШИБКА"], &["ошиб"]),
        ("ОШИБКА", &["ошибка!"], &["ошибкам"]),
        ("错误", &["发生错误了"], &["错了误"]),
        (r"foo\(\)", &["call foo()"], &["food"]),
    ]);
}

#[test]
fn regular_expressions() {
    table(&[
        ("/time ?out/", &["a timeout", "time out"], &["Timeout", "time  out"]),
        ("/time ?out/i", &["a TIMEOUT"], &["tim"]),
        (r"/^\/v[12]/", &["/v1/x"], &["x /v1"]),
        ("/a b/ c", &["a b c"], &["a b"]),
        ("/usr/bin", &["in /usr/bin/x", "usr bin"], &["usr"]),
        (r#"msg:/^a "b"$/"#, &[r#"{"msg":"a \"b\""}"#], &[r#"{"msg":"xa \"b\""}"#]),
        (r"path:/^\/v[12]/", &[r#"{"path":"/v2/x"}"#, "path=/v1"], &["path=/v3", "/v1"]),
    ]);
}

#[test]
fn fields_of_json_and_logfmt() {
    table(&[
        (
            "service:api",
            &[
                r#"{"service":"api"}"#,
                "service=api x",
                r#"{"service":"the API"}"#,
                r#"{ "service" : "api" }"#,
            ],
            &[
                r#"{"service":"apis"}"#,
                r#"{"x":"service api"}"#,
                "service: api",
                r#"{"x":{"service":"api"}}"#,
            ],
        ),
        (
            "req.path:\"/api/3\"",
            &[
                r#"{"req":{"path":"/api/3"}}"#,
                r#"{"req.path":"/api/3/x"}"#,
                "req.path=/api/3",
                r#"{"req":[{"path":"/"},{"path":"/api/3"}]}"#,
            ],
            &[r#"{"req":{"path":"/api/33"}}"#, r#"{"path":"/api/3"}"#],
        ),
        ("path:/health*", &["path=/healthz"], &["path=/api"]),
        (
            "msg:time*",
            &[r#"{"msg":"a timer"}"#, r#"{"msg":"a t\u0069mer"}"#, r#"{"m\u0073g":"timer"}"#],
            &[r#"{"msg":"untimely"}"#],
        ),
        ("tags:web", &[r#"{"tags":["db",["WEB"]]}"#], &[r#"{"tags":[]}"#]),
        ("ctx:boom", &[r#"{"ctx":{"e":"boom"}}"#], &[r#"{"ctx":{"e":"bo"}}"#]),
        ("user.id:7", &[r#"<14>1 host app: {"user":{"id":7}}"#], &[r#"<14>1 host app: {"user":{"id":8}}"#]),
        ("\"my key\":x", &[r#"{"my key":"x"}"#], &[r#"{"my":"x"}"#]),
        (
            "a:*",
            &[r#"{"a":0}"#, r#"{"a":""}"#, "a=", r#"{"a":{}}"#],
            &[r#"{"a":null}"#, r#"{"a":[]}"#, "a", r#"{"b":"a"}"#],
        ),
        ("NOT a:*", &["a", r#"{"a":null}"#], &[r#"{"a":1}"#]),
        ("a:(x OR y)", &["a=x", "a=y"], &["a=z", "x"]),
        ("a.b:1", &[r#"{"a":{"b":1"#, r#"{"x":1,"a":{"b":1,"c":"cut o"#], &[r#"{"a":{"b":12"#]),
        (
            "kubernetes.labels.app.kubernetes.io/name:web",
            &[r#"{"kubernetes":{"labels":{"app.kubernetes.io/name":"web"}}}"#],
            &[r#"{"name":"web"}"#],
        ),
    ]);
}

#[test]
fn numbers_times_and_addresses() {
    table(&[
        (
            "status:>=500",
            &[r#"{"status":500}"#, r#"{"status":"503"}"#, "status=500.5", r#"{"status":[200,500]}"#],
            &[r#"{"status":499}"#, r#"{"status":"5xx"}"#, "500", r#"{"status":null}"#],
        ),
        ("status:[300 TO 400]", &["status=300", "status=400"], &["status=299", "status=401"]),
        ("status:{300 TO 400}", &["status=301"], &["status=300", "status=400"]),
        ("status:[300 TO 400}", &["status=300"], &["status=400"]),
        ("status:[* TO 400]", &["status=-1"], &["status=401", "status=x"]),
        ("status:[* TO *]", &["status=x"], &["stat=1"]),
        ("ms:<5", &["ms=4.99"], &["ms=5", "ms=x"]),
        ("n:5", &["n=5", "n=5.0", "n=05", r#"{"n":"5 of 6"}"#], &["n=5.25", "n=-5", "n=55"]),
        ("n:-5", &["n=-5"], &["n=5"]),
        ("id:>9007199254740992", &["id=9007199254740993"], &["id=9007199254740992"]),
        ("ip:10.0.0.0/8", &["ip=10.1.2.3", r#"{"ip":"10.1.2.3:80"}"#], &["ip=11.0.0.1", "ip=10", "10.1.2.3"]),
        ("ip:2001:db8::/32", &["ip=2001:db8::1"], &["ip=2001:db9::1"]),
        ("ip:::1", &["ip=::1", "ip=0:0:0:0:0:0:0:1"], &["ip=::2"]),
        ("ip:[10.0.0.1 TO 10.0.0.9]", &["ip=10.0.0.5"], &["ip=10.0.0.10", "ip=::5"]),
        ("at:>=now-1h", &["at=2026-11-21T11:30:00Z"], &["at=2026-11-21T10:30:00Z", "at=x"]),
        ("at:[2026-11-20 TO 2026-11-20]", &["at=2026-11-20T23:59:59Z"], &["at=2026-11-21T00:00:00Z"]),
    ]);
}

#[test]
fn level_timestamp_and_origin() {
    table(&[
        ("level:error", &["ERROR x", "level=err", r#"{"level":50}"#, "[E] x"], &["WARN x", "x"]),
        ("level:>=warn", &["WARN x", "FATAL x"], &["INFO x", "x"]),
        ("level:[info TO warn}", &["INFO x", "NOTICE x"], &["WARN x"]),
        ("level:warning", &["WARN x"], &["ERROR x"]),
        ("level:/err|fat/", &["ERROR x", "FATAL x"], &["WARN x"]),
        ("level:*", &["INFO x"], &["x"]),
        (".level:err", &["level=err"], &["ERROR x"]),
        ("timestamp:>now-15m", &["2026-11-21T11:50:00Z x", "no time"], &["2026-11-21T11:40:00Z x"]),
        ("timestamp:[2026-11-20 TO 2026-11-21]", &["2026-11-21T23:00:00Z"], &["2026-11-22T00:00:00Z"]),
        ("timestamp:2026-11-20", &["2026-11-20T10:00:00Z"], &["2026-11-21T10:00:00Z"]),
        ("source:app.log", &["x"], &[]),
        ("source:syslog", &[], &["x"]),
        ("pipeline:app", &["x"], &[]),
        ("pipeline:/^app$/", &["x"], &[]),
        ("message:boom", &["boom", r#"{"message":"boom"}"#], &[r#"{"message":"x","b":"boom"}"#]),
    ]);
}

#[test]
fn operators() {
    table(&[
        ("a b", &["b a"], &["a", "b"]),
        ("a AND b", &["b a"], &["a"]),
        ("a OR b", &["a", "b"], &["c"]),
        ("NOT a", &["b", ""], &["a"]),
        ("-a", &["b"], &["a"]),
        ("-\"a b\" c", &["c b a"], &["a b c"]),
        ("NOT a b", &["b"], &["a b", "c"]),
        ("a OR b c", &["a", "b c"], &["b", "c"]),
        ("(a OR b) c", &["a c"], &["a"]),
        ("a OR NOT (b OR c)", &["a b", "x"], &["b", "c"]),
        ("NOT NOT a", &["a"], &["b"]),
        ("a and b", &["a and b"], &["a b"]),
        (
            "level:error service:api status:>=500 \"connection reset\" /time(d )?out/ NOT path:/health*",
            &["level=error service=api status=503 path=/x connection reset timed out"],
            &["level=error service=api status=503 path=/healthz connection reset timed out"],
        ),
    ]);
}

/// Lines and queries that would take forever if any byte were looked at again for each other one.
#[test]
fn long_lines_take_linear_time() {
    const N: usize = 60_000;
    let lines = [
        "a=".repeat(N),
        "a=\"".repeat(N),
        "a=\\\"".repeat(N),
        format!("{}1{}", "{\"a\":".repeat(N), "}".repeat(N)),
        format!("{{\"a\":{}{}}}", "[".repeat(N), "]".repeat(N)),
        "\"a\":\"a\":".repeat(N),
        "a".repeat(2 * N),
        "a ".repeat(N),
        format!("a{}a", "-".repeat(2 * N)),
        "é".repeat(N),
    ];
    for query in
        ["a:5", "a.a.a:x", "a:/x/", "b a:*", "x OR a", "a*b", "*a*a*b", "\"a a a b\"", "É*x", "a:\"a a b\""]
    {
        let query = Query::parse(query).unwrap();
        let mut batch = crate::batch::Batch::from_lines("t", lines.iter().chain(&vec![String::new(); 10]));
        query.matcher().keep(&mut batch, jiff::Timestamp::UNIX_EPOCH);
        lines.iter().for_each(|line| query.highlights().ranges(line.as_bytes(), &mut Vec::new()));
    }
}

#[test]
fn long_values_are_looked_at_whole() {
    let long = "x ".repeat(300);
    table(&[
        (
            "msg:last",
            &[&format!("msg=\"{long} last\" b=1"), &format!("{{\"msg\":\"{long} last\"}}")],
            &[&format!("msg=\"{long}\" last"), &format!("{{\"msg\":\"{long}\",\"b\":\"last\"}}")],
        ),
        (
            "msg:x*last",
            &[&format!("msg={}last b=1", "x".repeat(600))],
            &[&format!("msg={} last", "x".repeat(600))],
        ),
    ]);
}

#[test]
fn words_beyond_the_programs_are_found_nevertheless() {
    let many: Vec<String> = (0..20).map(|i| format!("слово{}", "ъ".repeat(i))).collect();
    assert!(finds(&many.join(" "), &many.join(" ").to_uppercase()));
    assert!(!finds(&many.join(" "), &many[1..].join(" ")));
}
