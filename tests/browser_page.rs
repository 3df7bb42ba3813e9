//! The live page in a real Chromium, second part: hostile lines, links that bring back a view, keys, columns, logins,
//! many tabs, small windows, a proxy's prefix. See tests/browser.rs for the stream.
#![allow(clippy::unwrap_used, reason = "acceptance tests")]

mod support;

use serde_json::{Value, json};
use support::browser::{Browser, FILE, browser_is_there, url};
use support::weir::Place;

const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

#[tokio::test(flavor = "multi_thread")]
async fn hostile_lines_are_text_and_nothing_else() {
    if !browser_is_there("hostile_lines_are_text_and_nothing_else") {
        return;
    }
    let lines = [
        "<script>window.hit = 1</script><img src=x onerror=\"window.hit = 2\">",
        "<svg onload=window.hit=3> javascript:window.hit=4 ${window.hit=5} {{window.hit=6}}",
        "{\"message\":\"<b>bold</b><script>window.hit=7</script>\",\"<i>key</i>\":\"<u>value</u>\",\"__proto__\":{\"polluted\":1}}",
        "colour \x1b[31mred\x1b[0m \x1b[1;48;5;196mon red\x1b[m \x1b]0;title\x07 \x1b[2J\x1b[10;10Hmoved \x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
        "order \u{202e}gnp.exe\u{2066} \u{0} nul \u{7} bell \u{9b}31m c1 over\rwritten",
        "עברית שלום العربية mixed with English",
        "data: forged\\n\\nevent: bye",
        &"long ".repeat(20_000),
        "constructor=1 __proto__=2 toString=3 hasOwnProperty=4",
    ];
    let place = Place::new().with("in.log", lines.join("\n") + "\n");
    let weir = place.started(&FILE.replace("\"DIR/in.log\"", "\"DIR/in.log\", max_line_size = \"1MiB\""));
    let browser = Browser::open(1200, 900).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(lines.len()).await;
    assert_eq!(browser.value("page.seen.look(page.store.line[page.store.slot(2)]) ?? 0").await, 0);
    // Everything of every row is opened, in each of its tabs, with a column of the worst name.
    browser.value("(controls.column('<i>key</i>'), controls.column('__proto__'), 0)").await;
    for tab in ["fields", "json", "line", "context"] {
        let open = format!(
            "(() => {{ for (let row = page.store.first; row < page.store.next; row += 1) {{ page.detailer.tabs.set(row, '{tab}'); page.open.add(row); page.refresh(row); }} }})() ?? 0"
        );
        browser.value(&open).await;
        for row in 0..lines.len() {
            browser.value(&format!("new Promise((done) => {{ page.list.follow(false); page.list.reveal(page.store.first + {row}); page.wake(); requestAnimationFrame(() => requestAnimationFrame(() => done(0))); }})")).await;
        }
    }
    browser.query("script OR window OR \"<i>\" OR red").await;
    browser.until("it is filtered", "page.applied.q !== ''").await;
    let text = browser.value("[...document.querySelectorAll('#rows .message, #rows .whole')].map((one) => one.textContent).join('\\n')").await;
    assert!(text.as_str().unwrap().contains("<script>window.hit"), "{text}");
    browser.query("").await;
    browser.rows(lines.len()).await;
    let inert = "[window.hit ?? null, {}.polluted ?? null, document.querySelectorAll('#rows script, #rows img, #rows svg, #rows b, #rows i, #rows u, #rows a').length, document.title]";
    assert_eq!(browser.value(inert).await, json!([null, null, 0, "app · weir"]));
    // Colours are spans; every other sequence is gone, and what reorders or hides is visible.
    let shown = "load('ansi.js').then(({ pieces, plain }) => [plain(page.store.line[page.store.slot(page.store.first + 3)]), pieces(page.store.line[page.store.slot(page.store.first + 3)]).map((one) => [one.text, one.className, one.background]), plain(page.store.line[page.store.slot(page.store.first + 4)])])";
    let shown = browser.value(shown).await;
    assert_eq!(shown[0], "colour red on red  moved link");
    assert_eq!(shown[1][1], json!(["red", "a-f1", ""]));
    assert_eq!(shown[1][3], json!(["on red", "a-bold", "rgb(255,0,0)"]));
    assert_eq!(shown[2], "order ‹U+202E›gnp.exe‹U+2066› ␀ nul ␇ bell  c1 overwritten");
    browser.assert_clean(&url(&weir, "/"), &[]).await;
    weir.stop();
}

fn numbered(numbers: std::ops::Range<usize>) -> String {
    let line = |n: usize| match n % 10 {
        7 => format!(
            "{{\"level\":\"error\",\"msg\":\"failed {n}\",\"req\":{{\"path\":\"/x/{n}\"}},\"status\":500}}\n"
        ),
        3 => format!("2026-11-21T10:00:00Z WARN slow {n} took={n}ms\n"),
        _ => format!("2026-11-21T10:00:00Z INFO line {n}\n"),
    };
    numbers.map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_brings_back_the_view_and_its_event() {
    if !browser_is_there("a_link_brings_back_the_view_and_its_event") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..200)).with("web.log", numbered(0..20));
    let web = FILE.replace("app", "web").replace("in.log", "web.log");
    let weir = place.started(&format!("{FILE}{web}"));
    let browser = Browser::open(1200, 800).await;
    let asked =
        "/?p=app&q=level%3A%3E%3Dwarn&level=warn&col=req.path&col=status&wrap=1&ansi=0&raw=0&theme=dark";
    browser.load(&url(&weir, asked)).await;
    browser.rows(40).await;
    let look = "[page.look.columns, page.look.wrap, page.look.ansi, document.documentElement.dataset.theme, $('q').value, $('level').value]";
    let expected = json!([["req.path", "status"], true, false, "dark", "level:>=warn", "warn"]);
    assert_eq!(browser.value(look).await, expected);
    browser
        .until(
            "columns are filled",
            "[...document.querySelectorAll('#rows .field')].some((cell) => cell.textContent === '/x/197')",
        )
        .await;
    // Pausing at a row puts the row into the address; the address alone brings all of it back.
    browser.press("kkkk ").await;
    browser.until("it is paused", "page.paused && new URL(location.href).searchParams.has('at')").await;
    let at = browser.value("[location.href, page.store.line[page.store.slot(page.active)]]").await;
    place.append("in.log", numbered(200..220));
    browser.client().goto("about:blank").await.unwrap();
    browser.load(at[0].as_str().unwrap()).await;
    browser.until("it is paused at the event", "page.paused && page.active >= 0").await;
    assert_eq!(browser.value("page.store.line[page.store.slot(page.active)]").await, at[1]);
    assert_eq!(browser.value(look).await, expected);
    browser
        .until("the event is in sight", "document.querySelector('#rows .row.active:not([hidden])') !== null")
        .await;
    // What no longer is there is said.
    let gone = at[0].as_str().unwrap().replace("at=app%3A", "at=app%3Azz");
    browser.client().goto("about:blank").await.unwrap();
    browser.load(&gone).await;
    browser
        .until("it is said", "$('toast').textContent.includes('no longer in the history') && !page.paused")
        .await;
    // All pipelines, one, several.
    browser.load(&url(&weir, "/")).await;
    browser.rows(240).await;
    browser.until("all are named", "document.querySelectorAll('#pipelines a').length === 3").await;
    browser.load(&url(&weir, "/web/")).await;
    browser.rows(20).await;
    browser.load(&url(&weir, "/?p=web,app")).await;
    browser.rows(240).await;
    browser.assert_clean(&url(&weir, "/"), &[]).await;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rows_fields_context_and_export() {
    if !browser_is_there("keys_rows_fields_context_and_export") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..200));
    let weir = place.started(FILE);
    let browser = Browser::open(1200, 800).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(200).await;
    // The last error, opened; its fields, pretty JSON, a filter and a column from them.
    browser.press("p").await;
    browser
        .until("an error is active", "page.store.line[page.store.slot(page.active)].includes('failed 197')")
        .await;
    browser.press(ENTER).await;
    browser
        .until(
            "it is open",
            "document.querySelector('.row.open .details dl.fields')?.innerText.includes('req.path')",
        )
        .await;
    browser.picture("open.png").await;
    let click = |label: &str| {
        format!("(document.querySelector('.row.open button[aria-label=\"{label}\"]').click(), 0)")
    };
    browser.value(&click("Show as a column: req.path")).await;
    browser.until("it is a column", "$('head').innerText.includes('req.path') && [...document.querySelectorAll('#rows .field')].some((cell) => cell.textContent === '/x/197')").await;
    browser.value("([...document.querySelectorAll('.row.open .tab')].find((tab) => tab.textContent === 'JSON').click(), 0)").await;
    browser.until("JSON is pretty", "document.querySelector('.row.open .json')?.textContent.includes('\"req\": {\\n    \"path\": \"/x/197\"')").await;
    browser.value("([...document.querySelectorAll('.row.open .tab')].find((tab) => tab.textContent === 'Fields').click(), 0)").await;
    browser.until("fields again", "document.querySelector('.row.open dl.fields') !== null").await;
    browser.value(&click("Show only events with this status: status")).await;
    browser.until("it is the filter", "$('q').value === 'status:\"500\"'").await;
    browser.rows(20).await;
    // Around a hit stands what the filter hides.
    browser.press("c").await;
    browser.until("neighbours are shown", "document.querySelectorAll('.row.open .near').length >= 13").await;
    let near = browser
        .value("[...document.querySelectorAll('.row.open .near')].map((row) => row.lastChild.textContent)")
        .await;
    let near: Vec<String> = serde_json::from_value(near).unwrap();
    assert!(near[0].contains("line 187") || near[0].contains("failed 187"), "{near:?}");
    assert!(
        near.iter().any(|line| line.contains("line 196"))
            && near.iter().any(|line| line.contains("line 199"))
    );
    browser.press(ESCAPE).await;
    browser.until("it is closed", "page.open.size === 0").await;
    // Filter by keys only.
    browser.press("/").await;
    browser.until("the filter has the focus", "document.activeElement === $('q')").await;
    browser.press("slow").await;
    browser.press(ENTER).await;
    browser.rows(20).await;
    browser.press(ESCAPE).await;
    browser.press("jkgww?").await;
    browser.until("help is open", "$('help').open").await;
    browser.press(ESCAPE).await;
    browser.until("help is closed", "!$('help').open").await;
    assert_eq!(browser.value("[page.view.position(page.active), page.look.wrap]").await, json!([0, false]));
    // Rows as text: the shown ones, a selection, all that are kept.
    browser.press("JJ").await;
    let text = "load('export.js').then(({ rowsAsText }) => Promise.all([[{ shown: true, json: false }], [{ shown: false, json: true }], [{ shown: true, json: false, selected: true }]].map(([how]) => rowsAsText(page, how)))).then((all) => all.map(({ parts, count }) => [count, parts.join('')]))";
    let text = browser.value(text).await;
    assert_eq!((&text[0][0], &text[1][0], &text[2][0]), (&json!(20), &json!(200), &json!(3)));
    assert!(text[0][1].as_str().unwrap().starts_with("2026-11-21T10:00:00Z WARN slow 3 took=3ms\n"));
    let first: Value = serde_json::from_str(text[1][1].as_str().unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["message"], &first["pipeline"]),
        (&json!("2026-11-21T10:00:00Z INFO line 0"), &json!("app"))
    );
    assert_eq!((&first["timestamp"], &first["level"]), (&json!("2026-11-21T10:00:00.000Z"), &json!("info")));
    assert_eq!(
        browser
            .value("load('export.js').then(({ download }) => download(page, { shown: true, json: true }))")
            .await,
        20
    );
    browser.assert_clean(&url(&weir, "/"), &[]).await;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_login_it_streams_with_and_without_a_ticket() {
    if !browser_is_there("behind_a_login_it_streams_with_and_without_a_ticket") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..10));
    let hash = place.command(&["hash", "--algorithm", "bcrypt"]);
    let hash = {
        use std::io::Write;
        let mut hash = hash;
        let mut child =
            hash.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"open sesame\n").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let auth = format!("[server.auth]\nbasic = [{{ user = \"ann\", password_hash = '{hash}' }}]\n");
    let weir = place.started(&format!("{auth}{FILE}"));
    let browser = Browser::open(1200, 800).await;
    // Nobody gets in without.
    browser.client().goto(&url(&weir, "/app/")).await.unwrap();
    assert!(!browser.client().source().await.unwrap().contains("main.js"));
    browser.console();
    browser.load(&format!("http://ann:open%20sesame@{}/app/", weir.authority())).await;
    browser.rows(10).await;
    browser.value("new Promise((done) => setTimeout(() => done(0), 300))").await;
    assert_eq!(
        browser
            .value("performance.getEntriesByType('resource').some((entry) => entry.name.includes('ticket'))")
            .await,
        false
    );
    browser.assert_clean(&url(&weir, "/"), &[]).await;
    // A browser that sends no credentials along with streams uses a ticket for each.
    let strip = "(() => { const plain = window.fetch; window.asked = []; window.fetch = (url, how) => window.asked.push(String(url)) && plain(url, String(url).includes('_stream') ? { ...how, credentials: 'omit' } : how); })()";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": strip }));
    browser.load(&url(&weir, "/app/?q=line")).await;
    browser.rows(8).await;
    let tickets = "window.asked.filter((url) => url.includes('_stream') && url.includes('ticket=')).length";
    assert_eq!(browser.value(tickets).await, 1);
    browser.query("").await;
    browser.rows(10).await;
    assert_eq!(browser.value(tickets).await, 2);
    place.append("in.log", numbered(10..20));
    browser.rows(20).await;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_tabs_than_connections_all_work() {
    if !browser_is_there("more_tabs_than_connections_all_work") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..10));
    let weir = place.started(FILE);
    let browser = Browser::open(1000, 700).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(10).await;
    let first = browser.client().windows().await.unwrap()[0].clone();
    for _ in 0..8 {
        let new = browser.client().new_window(true).await.unwrap();
        browser.client().switch_to_window(new.handle).await.unwrap();
        browser.load(&url(&weir, "/app/")).await;
        browser.rows(10).await;
    }
    // Six connections are all there are: some of the others rest, and say so.
    let clients = weir.status("app")["clients"].as_u64().unwrap();
    assert!(clients <= 5, "{clients} of 9 pages hold a stream");
    place.append("in.log", numbered(10..30));
    browser.rows(30).await;
    browser.client().switch_to_window(first).await.unwrap();
    browser.until("the first goes on where it was", "$('state').textContent === 'live'").await;
    browser.rows(30).await;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn small_windows_dark_and_light_are_readable() {
    if !browser_is_there("small_windows_dark_and_light_are_readable") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..100) + &"unbroken".repeat(100) + "\n");
    let weir = place.started(FILE);
    let browser = Browser::open(1200, 800).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(101).await;
    // WCAG 2.1, 1.4.3: 4.5 to 1 between text and what is behind it, in both themes.
    let contrast = r#"(() => {
        const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
        const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (node) => { for (; node; node = node.parentElement) { const color = rgb(getComputedStyle(node).backgroundColor); if (color[3] === 255) return color; } return [255, 255, 255]; };
        const poor = [];
        for (const node of document.querySelectorAll('body *')) {
            if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) || !node.checkVisibility()) continue;
            const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            if (ratio < 4.5) poor.push([node.className, node.textContent.slice(0, 20), ratio]);
        }
        return poor;
    })()"#;
    browser.press("pp").await;
    browser.press(ENTER).await;
    browser.query("failed OR slow OR line").await;
    browser.until("it is marked", "$('rows').querySelector('mark') !== null").await;
    for scheme in ["light", "dark"] {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.devtools("Emulation.setEmulatedMedia", &features);
        browser
            .until("the theme is on", &format!("matchMedia('(prefers-color-scheme: {scheme})').matches"))
            .await;
        assert_eq!(browser.value(contrast).await, json!([]), "{scheme}");
        browser.picture(&format!("{scheme}.png")).await;
    }
    browser.resize(360, 700);
    browser.until("nothing overflows", "innerWidth === 360 && document.documentElement.scrollWidth <= 360 && $('log').scrollWidth <= $('log').clientWidth").await;
    browser.until("rows do not overlap", "(() => { const boxes = [...document.querySelectorAll('#rows .row:not([hidden])')].map((row) => row.getBoundingClientRect()).sort((a, b) => a.top - b.top); return boxes.every((box, at) => at === 0 || box.top >= boxes[at - 1].bottom - 1); })()").await;
    for menu in 0..3 {
        browser.value(&format!("(document.querySelectorAll('.menu')[{menu}].open = true, 0)")).await;
        browser.until("the menu fits", &format!("(() => {{ const box = document.querySelectorAll('.menu .panel')[{menu}].getBoundingClientRect(); return box.width > 100 && box.left >= 0 && box.right <= 360; }})()")).await;
    }
    browser.press(ESCAPE).await;
    browser.picture("narrow.png").await;
    // What assistive technology is told.
    let said = "[$('log').getAttribute('role'), $('rows').parentElement.getAttribute('aria-label'), $('log').getAttribute('aria-rowcount'), document.querySelectorAll('header, nav, main, footer, search').length, $('histogram').getAttribute('aria-label').startsWith('Last 5 minutes: '), [...document.querySelectorAll('button, input, select, a')].filter((one) => !one.textContent && !one.getAttribute('aria-label') && !one.closest('label')).length]";
    assert_eq!(browser.value(said).await, json!(["grid", "Events", "100", 5, true, 0]));
    browser.assert_clean(&url(&weir, "/"), &[]).await;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_one_line_high_whatever_its_text_holds() {
    if !browser_is_there("a_row_is_one_line_high_whatever_its_text_holds") {
        return;
    }
    let lines = [
        r#"{"log":"from docker ERROR\n","stream":"stderr","time":"2026-11-21T10:00:00Z"}"#,
        r#"{"msg":"failed\r\nat once","stack":"one\n  two\n  three"}"#,
        "ts=2026-11-21T10:00:01Z level=warn msg=\"behind \\\"them\\\" all\" took=5ms",
    ];
    let place = Place::new().with("in.log", lines.join("\n") + "\n");
    let weir = place.started(FILE);
    let browser = Browser::open(1200, 800).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(3).await;
    let heights = "[...document.querySelectorAll('#rows .row')].map((row) => Math.max(row.offsetHeight, row.scrollHeight))";
    browser.until("the rows are there", &format!("{heights}.length === 3")).await;
    browser.value("(controls.column('stack'), 0)").await;
    browser.until("the column is there", "document.querySelectorAll('#rows .field').length === 3").await;
    assert_eq!(browser.value(heights).await, json!([20, 20, 20]));
    let text = |class: &str| {
        format!("[...document.querySelectorAll('#rows .row .{class}')].map((one) => one.textContent)")
    };
    assert_eq!(
        browser.value(&text("message")).await,
        json!(["from docker ERROR stream=stderr", "failed↵at once", "behind \"them\" all took=5ms"])
    );
    assert_eq!(browser.value(&text("field")).await[1], "one↵  two↵  three");
    // Three rows are enough for the menu to know all fields.
    let fields = "page.seen.list.map(([name]) => name).sort()";
    assert_eq!(
        browser.value(fields).await,
        json!(["level", "log", "msg", "stack", "stream", "time", "took", "ts"])
    );
    browser.value("(page.setLook({ wrap: true, columns: [] }), 0)").await;
    browser.until("lines wrap where they end", &format!("{heights}[1] === 80 && {heights}[0] === 20")).await;
    // Where a filter leaves nothing, the page does not say that nothing came.
    browser.query("nothing_like_this").await;
    browser.until("nothing matches", "page.view.count === 0 && !$('empty').hidden").await;
    assert_eq!(browser.text("empty").await, "No event matches the filter so far.");
    browser.assert_clean(&url(&weir, "/"), &[]).await;
    weir.stop();
}
