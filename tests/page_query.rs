//! The page checks rows that it keeps against queries in JavaScript. Here both sides judge the same lines, and must not
//! differ: every text that the query's own tests use as a query or a line, each with each, and more. What the page
//! leaves to the server is counted, so that it cannot leave everything.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "acceptance tests; figures are printed")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use logweir::base::clock;
use logweir::batch::{Batch, BatchBuilder, Origin, Receipt, Timestamp};
use logweir::query::Query;
use serde_json::{Value, json};
use support::browser::{Browser, browser_is_there};
use support::weir::Place;

const CONFIG: &str = "[[pipelines]]\nname = \"app\"\nsources = [{ type = \"file\", path = \"DIR/in.log\" }]\nsinks = [{ type = \"http\" }]\n";

/// The string literals of Rust code: plain ones with their escapes, raw ones with up to one `#`.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), code);
    while let Some(at) = rest.find('"') {
        let raw = rest[..at].ends_with("r#") || rest[..at].ends_with('r') && !rest[..at].ends_with("br");
        let close = if rest[..at].ends_with('#') { "\"#" } else { "\"" };
        rest = &rest[at + 1..];
        if raw {
            let end = rest.find(close).unwrap();
            found.push(rest[..end].to_owned());
            rest = &rest[end + close.len()..];
            continue;
        }
        let mut end = 0;
        while !rest[end..].starts_with('"') {
            end += if rest[end..].starts_with('\\') {
                2
            } else {
                rest[end..].chars().next().unwrap().len_utf8()
            };
        }
        if let Ok(text) = serde_json::from_str::<String>(&format!("\"{}\"", &rest[..end])) {
            found.push(text);
        }
        rest = &rest[end + 1..];
    }
    found
}

const QUERIES: &[&str] = &[
    "a b",
    "a OR b c",
    "NOT a",
    "-a b",
    "(a OR b) -c",
    "NOT (a OR NOT b)",
    "a AND b OR c AND d",
    "-(a b)",
    "level:error",
    "level:>=warn",
    "level:[info TO error}",
    "level:*",
    "NOT level:*",
    "level:warning",
    "level:e*",
    "level:/^(warn|info)$/",
    "timestamp:>2026-11-20",
    "timestamp:2026-11-21",
    "timestamp:[2026-11-21T10 TO 2026-11-21T11:30]",
    "timestamp:<now-1h",
    "timestamp:>=2026",
    "source:file",
    "source:/log$/",
    "message:a",
    "message:done",
    "ip:10.0.0.0/8",
    "ip:10.1.2.3",
    "ip:>=10.0.0.0",
    "ip:[10.0.0.1 TO 10.0.0.9]",
    "ip:2001:db8::/32",
    "ip:\"::1\"",
    "n:5",
    "n:5.0",
    "n:05",
    "n:1e2",
    "n:-1",
    "n:>9007199254740992",
    "n:<0.5",
    "n:{1 TO *]",
    "n:\"5\"",
    "a.b.c:x",
    "a.b:1",
    "tags:web",
    "/^a/",
    "/a$/",
    "/\\bfoo\\b/",
    "/\\w+@\\w+/",
    "/[^a-z ]+/",
    "/a{2,3}/",
    "/(foo|bar) baz/i",
    "/\\d+\\.\\d+/",
    "/é/i",
    "/./",
    "/\\s$/",
    "/(?i)ERROR/",
    "/[[:alpha:]]/",
    "/\\p{Greek}/",
    "/a.*b.*c/",
    "/\\x41/",
    "/[\\w.-]+:/",
    "größe",
    "STRASSE",
    "straße",
    "ΣΊΣΥΦΟΣ",
    "k",
    "K\u{212a}",
    "日本",
    "本*",
    "?本",
    "a?c",
    "*",
    "a*c",
    "*a*",
    "\"a b\"",
    "\"=>\"",
    "\"--\"",
    "10.0.*",
    "x-y_z",
    "http://h/p",
    "path:/v1/*",
    "path:/^\\/v1/",
    "\"a b\":c",
    "msg:\"a \\\"b\\\"\"",
    "x:(1 OR 2)",
    "x:(>1 <5)",
    "NOT x:*",
    "x:null",
    "x:true",
    ".level:info",
    "e:\"\\\\\"",
    "status:5*",
];
const LINES: &[&str] = &[
    "",
    " ",
    "a",
    "b",
    "a b",
    "b a c",
    "c d",
    "A-B",
    "aab abc a-c",
    "ac abcc",
    "foo bar baz",
    "FOO BAZ",
    "foobar",
    "user@host.example",
    "error: foo",
    "WARN a b",
    "2026-11-21T10:30:00Z INFO done",
    "2026-11-20T23:59:59.999Z ERROR no",
    "2024-01-01T00:00:00Z old",
    "n=5",
    "n=5.0 x=1",
    "n=\"5\"",
    "n=05",
    "n=100",
    "n=-1",
    "{\"n\":5}",
    "{\"n\":9007199254740993}",
    "{\"n\":\"5 apples\"}",
    "{\"n\":0.25}",
    "{\"n\":null}",
    "{\"n\":[1,5]}",
    "{\"x\":{\"n\":5}}",
    "x=3",
    "{\"x\":\"null\"}",
    "{\"x\":null}",
    "{\"x\":true}",
    "{\"x\":[]}",
    "{\"x\":{}}",
    "ip=10.1.2.3",
    "ip=10.1.2.3:80 x",
    "{\"ip\":\"::ffff:10.1.2.3\"}",
    "ip=[2001:db8::5]:443",
    "ip=2001:db8:0:0::5",
    "ip=::1",
    "ip=10.0.0.5",
    "ip=256.1.1.1",
    "ip=10.0.0.1/8",
    "GRÖßE",
    "Strasse",
    "STRAẞE",
    "σίσυφος",
    "K k \u{212a}",
    "日本語",
    "日 本",
    "本",
    "path=/v1/users",
    "{\"path\":\"/v1\"}",
    "a => b",
    "a -- b",
    "{\"a\":{\"b\":{\"c\":\"x\"}}}",
    "{\"a.b\":1}",
    "{\"a\":{\"b\":1",
    "{\"a b\":\"c\"}",
    "{\"msg\":\"a \\\"b\\\"\"}",
    "{\"e\":\"\\\\\"}",
    "{\"tags\":[\"db\",[\"web\"]]}",
    "prefix {\"tags\":\"web\"}",
    "{\"level\":\"info\",\"message\":\"a done\"}",
    "level=warn msg=x",
    "{\"level\":\"error\"}",
    "<3>1 2026-11-21T10:00:00Z h app - - - boom",
    "status=503",
    "{\"status\":500}",
    "x\u{301}y",
    "tab\there ",
    "trailing\r",
    "two\nlines a",
    "\u{feff}bom",
    "naïve café",
    "A1 1A",
    "_a_",
    "a\u{200d}b",
    "http://h/p",
    "http h p",
    "x-y_z",
    "AAa aaaa",
];

fn batch(lines: &[String]) -> Batch {
    let mut builder = BatchBuilder::new(Arc::new(Origin::new("app.source.0.file", "/var/log/file.log")));
    builder.received(Timestamp(clock::unix_nanos()));
    lines.iter().for_each(|line| builder.push(line.as_bytes()));
    builder.finish(Receipt::none())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_server_judge_alike() {
    if !browser_is_there("the_page_and_the_server_judge_alike") {
        return;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/query/tests/meaning.rs");
    let theirs = literals(&fs::read_to_string(path).unwrap());
    assert!(theirs.len() > 150, "only {} texts in the query's own tests", theirs.len());
    let queries = QUERIES.iter().map(|q| (*q).to_owned()).chain(theirs.clone());
    let queries: BTreeSet<String> = queries.filter(|q| Query::parse(q).is_ok()).collect();
    let lines: BTreeSet<String> = LINES.iter().map(|l| (*l).to_owned()).chain(theirs).collect();
    let lines: Vec<String> = lines.into_iter().collect();

    let whole = batch(&lines);
    let rows: Vec<Value> = (0..lines.len() as u32)
        .map(|row| {
            let level = whole.level(row).map(|level| level.as_str());
            let time = whole.timestamp(row).0 as f64 / 1e6;
            json!({ "line": lines[row as usize], "level": level, "time": time, "source": "/var/log/file.log" })
        })
        .collect();

    let place = Place::new();
    let weir = place.started(CONFIG);
    let browser = Browser::open(800, 600).await;
    browser.client().goto(&format!("http://{}/", weir.authority())).await.unwrap();
    browser.until("the page is there", "page.intake !== undefined").await;
    let queries: Vec<String> = queries.into_iter().collect();
    let script = format!(
        "Promise.all([load('query.js'), load('store.js')]).then(([{{ compile }}, {{ Store, levelIndex, sources }}]) => {{
            const rows = {rows};
            const store = new Store(rows.length);
            for (const row of rows) store.push({{ ...row, seq: 1, kind: 0, pipeline: 0, epoch: 0, level: levelIndex(row.level), source: sources.of(row.source) }});
            return {queries}.map((text) => {{
                const query = compile(text, '');
                return query.undecided ? null : rows.map((_, at) => (query.test(store, at) ? '1' : '0')).join('');
            }});
        }})",
        rows = Value::from(rows),
        queries = json!(queries),
    );
    let judged = browser.value(&script).await;
    let (mut wrong, mut left, mut pairs) = (Vec::new(), Vec::new(), 0);
    for (query, judged) in queries.iter().zip(judged.as_array().unwrap()) {
        let Some(judged) = judged.as_str() else {
            left.push(query);
            continue;
        };
        let mut kept = batch(&lines);
        Query::parse(query).unwrap().matcher().keep(&mut kept, clock::timestamp());
        for (row, line) in lines.iter().enumerate() {
            pairs += 1;
            let ours = kept.live().has(row as u32);
            if ours != (judged.as_bytes()[row] == b'1') {
                wrong.push(format!("{query:?} on {line:?}: weir says {ours}"));
            }
        }
    }
    println!(
        "{} queries on {} lines: {pairs} judged alike but {}; left to the server: {left:?}",
        queries.len(),
        lines.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
    assert!(left.len() * 6 < queries.len(), "{} of {} are left to the server", left.len(), queries.len());
    weir.stop();
}
