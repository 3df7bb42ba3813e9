//! The parts of the live page that need no page: each is imported in Chromium and held against a simpler way to the same
//! end, on seeded random input.
#![allow(clippy::unwrap_used, reason = "acceptance tests")]

mod support;

use support::browser::{Browser, browser_is_there};
use support::weir::Place;

const CONFIG: &str = r#"
[[pipelines]]
name = "app"
sources = [{ type = "file", path = "DIR/in.log" }]
sinks = [{ type = "http" }]
"#;

/// Random numbers below `n` from a seed, in every script.
const RANDOM: &str = "let seed = 7; const below = (n) => { seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff; return (seed >> 8) % n; };";

/// However a stream is cut into chunks, its events are the same; what is not complete counts for nothing.
const EVENTS: &str = r#"load('sse.js').then(({ SseParser }) => {
    const text = 'retry: 3000\n:hb\n\nid: a-1\ndata: {"x":1}\n\nid: a-2\r\ndata: one\r\ndata:two\r\n\r\n:comment\nid: a-3\n\nevent: gap\ndata: {}\nid: \u0000\n\ndata\n\nid: a-9\ndata: cut off\n';
    const read = (chunks) => {
        const events = [];
        const parser = new SseParser((...event) => events.push(event));
        for (const chunk of chunks) parser.push(chunk);
        return JSON.stringify([events, parser.id, parser.retry]);
    };
    const whole = read([text]);
    for (let cut = 0; cut <= text.length; cut += 1) {
        if (read([text.slice(0, cut), text.slice(cut)]) !== whole) return 'cut at ' + cut;
    }
    if (read([...text]) !== whole) return 'character by character';
    return whole;
})"#;

/// A tree of heights against adding them up.
const HEIGHTS: &str = r#"load('view.js').then(({ View }) => {
    RANDOM
    const view = new View(37);
    const rows = [];
    for (let step = 0; step < 5000; step += 1) {
        const what = below(10);
        if (what < 6) { const height = 1 + below(90); view.push(step, height); rows.push([step, height]); if (rows.length > 37) rows.shift(); }
        else if (what < 8 && rows.length) { const at = below(rows.length); rows[at][1] = 1 + below(90); view.resize(at, rows[at][1]); }
        else if (what < 9) { const first = step - below(60); view.evict(first); while (rows.length && rows[0][0] < first) rows.shift(); }
        else view.reheight((row) => rows.find(([one]) => one === row)[1]);
        let y = 0;
        for (let at = 0; at < rows.length; at += 1) {
            if (view.at(at) !== rows[at][0] || view.offset(at) !== y || view.position(rows[at][0]) !== at) return 'row ' + at + ' at step ' + step;
            if (view.find(y) !== at || view.find(y + rows[at][1] - 1) !== at) return 'offset ' + y + ' at step ' + step;
            y += rows[at][1];
        }
        if (view.count !== rows.length || view.total !== y) return 'total at step ' + step;
    }
    return 'held';
})"#;

/// Rows that come late are woven in: each once, each pipeline in its order, nothing lost.
const WEAVE: &str = r#"load('store.js').then(({ Store }) => {
    RANDOM
    for (let round = 0; round < 300; round += 1) {
        const store = new Store(500);
        const wanted = new Set();
        const newest = [0, 0, 0];
        const row = (pipeline, seq, time) => ({ time, seq, level: 1, pipeline, source: 0, epoch: 1, kind: 0, line: pipeline + ':' + seq });
        for (let at = 0; at < 60 + below(200); at += 1) {
            const pipeline = 1 + below(2);
            newest[pipeline] += 1;
            if (!below(3)) continue;
            store.push(row(pipeline, newest[pipeline], at));
            wanted.add(pipeline + ':' + newest[pipeline]);
        }
        const late = new Map();
        for (const pipeline of [1, 2]) {
            const rows = [];
            for (let seq = Math.max(1, newest[pipeline] - below(80)); seq <= newest[pipeline]; seq += 1) if (below(2)) rows.push(row(pipeline, seq, seq * 2));
            late.set(pipeline, rows);
            for (const one of rows) wanted.add(one.line);
        }
        store.weave(late);
        const found = [];
        const last = [0, 0, 0];
        for (let number = store.first; number < store.next; number += 1) {
            const at = store.slot(number);
            if (store.seq[at] <= last[store.pipeline[at]]) return 'out of order in round ' + round;
            last[store.pipeline[at]] = store.seq[at];
            found.push(store.line[at]);
        }
        if (found.length !== wanted.size || found.some((line) => !wanted.has(line))) return 'lost or doubled in round ' + round;
    }
    return 'held';
})"#;

/// What is written into an address comes back from it.
const ADDRESS: &str = r#"load('url.js').then(({ read, write }) => {
    for (const pipelines of [null, ['app'], ['app', 'web']]) {
        const state = { pipelines, q: 'level:error "a & b" /x?/ #1 +', level: 'warn', columns: ['req.path', 'a,b'], wrap: true, ansi: false, raw: null, theme: 'dark', at: 'app:x-7' };
        const back = read(write(state).href);
        if (JSON.stringify(back) !== JSON.stringify(state)) return JSON.stringify([state, back]);
    }
    return 'held';
})"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_part_keeps_its_word() {
    if !browser_is_there("each_part_keeps_its_word") {
        return;
    }
    let place = Place::new();
    let weir = place.started(CONFIG);
    let browser = Browser::open(800, 600).await;
    browser.load(&format!("http://{}/app/", weir.authority())).await;
    let events = browser.value(EVENTS).await;
    let expected = serde_json::json!([
        [["", "{\"x\":1}", "a-1"], ["", "one\ntwo", "a-2"], ["gap", "{}", "a-3"], ["", "", "a-3"]],
        "a-3",
        3000
    ]);
    assert_eq!(events.as_str().unwrap(), expected.to_string());
    for script in [HEIGHTS, WEAVE, ADDRESS] {
        assert_eq!(browser.value(&script.replace("RANDOM", RANDOM)).await, "held");
    }
    weir.stop();
}
