//! The live page in a real Chromium: what it shows, what it does when asked, what it survives. Chromium and its driver
//! are Debian's; without them the tests say SKIP.
#![allow(clippy::unwrap_used, reason = "acceptance tests")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;
use support::browser::{Browser, FILE, browser_is_there, url};
use support::weir::Place;

const TWO: &str = r#"
[[pipelines]]
name = "app"
sources = [{ type = "file", path = "DIR/in.log" }]
sinks = [{ type = "http" }]
[[pipelines]]
name = "web"
sources = [{ type = "file", path = "DIR/web.log" }]
sinks = [{ type = "http" }]
"#;

fn numbered(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| format!("2026-11-21T10:00:00Z INFO line {n} of many\n")).collect()
}

/// The numbers of lines that [`numbered`] wrote, as the page shows them.
async fn numbers(browser: &Browser) -> Vec<usize> {
    let lines = browser.shown().await;
    lines.iter().filter_map(|line| line.split("line ").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_rows_are_filtered_and_mistakes_are_shown_in_place() {
    if !browser_is_there("live_rows_are_filtered_and_mistakes_are_shown_in_place") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..20));
    let weir = place.started(FILE);
    let browser = Browser::open(1200, 800).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(20).await;
    place.append("in.log", "2026-11-21T10:00:01Z ERROR connection reset by peer status=503 user=ann\n");
    place.append(
        "in.log",
        "{\"level\":\"warn\",\"message\":\"slow query\",\"req\":{\"ms\":1200},\"status\":200}\n",
    );
    browser.rows(22).await;
    browser
        .until("rows are elements", "document.querySelectorAll('#rows .row:not([hidden])').length > 5")
        .await;
    // Kept rows are checked at once; what comes is chosen by the server.
    for (query, count) in [
        ("\"connection reset\"", 1),
        ("status:>=500", 1),
        ("req.ms:>1000 OR user:ann", 2),
        ("NOT line", 2),
        ("/line 1[0-4] /", 5),
        ("level:>=warn", 2),
        ("", 22),
    ] {
        browser.query(query).await;
        browser.rows(count).await;
        browser
            .until(
                "the address has it",
                &format!("(new URL(location.href).searchParams.get('q') ?? '') === {}", json!(query)),
            )
            .await;
    }
    // What the server's history holds and the filter of before hid comes again.
    browser.query("status:503").await;
    browser.rows(1).await;
    place.append("in.log", "INFO hidden for now status=200\nINFO shown status=503\n");
    browser.rows(2).await;
    browser.until("it is marked", "$('rows').querySelectorAll('mark').length >= 2").await;
    browser.query("").await;
    browser.rows(24).await;
    // A mistake is shown under the input, and the rows of the last good query stay.
    browser.query("status:>=").await;
    browser
        .until("the mistake is shown", "!$('problem').hidden && $('problem').querySelector('mark') !== null")
        .await;
    let problem = browser.text("problem").await;
    assert!(problem.contains("status:>=") && problem.contains("nothing follows >="), "{problem}");
    assert!(problem.contains("expected a number"), "{problem}");
    browser.query("user:ann AND (status:200").await;
    browser.until("the place is marked", "$('problem').querySelector('mark')?.textContent === '('").await;
    assert_eq!(
        browser.value("[page.view.count, $('state').innerText, $('q').getAttribute('aria-invalid')]").await,
        json!([24, "live", "true"])
    );
    place.append("in.log", "INFO still live\n");
    browser.rows(25).await;
    browser.query("live").await;
    browser.rows(1).await;
    assert_eq!(
        browser.value("[$('problem').hidden, $('q').getAttribute('aria-invalid')]").await,
        json!([true, null])
    );
    // The least level, by the list next to it.
    browser.value("($('q').value = '', $('level').value = 'warn', $('level').dispatchEvent(new Event('change')), 0)").await;
    browser.rows(2).await;
    browser.assert_clean(&url(&weir, "/"), &["status of 400"]).await;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_it_counts_what_waits_and_scrolled_up_it_stays() {
    if !browser_is_there("paused_it_counts_what_waits_and_scrolled_up_it_stays") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..200));
    let weir = place.started(FILE);
    let browser = Browser::open(1200, 800).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(200).await;
    browser.press(" ").await;
    browser.until("it is paused", "$('pause').getAttribute('aria-pressed') === 'true'").await;
    place.append("in.log", numbered(200..230));
    browser.until("what waits is counted", "$('pause-text').innerText === 'Resume (30 waiting)'").await;
    assert_eq!(numbers(&browser).await.len(), 200);
    browser.press(" ").await;
    browser.rows(230).await;
    assert_eq!(numbers(&browser).await, (0..230).collect::<Vec<_>>());
    assert_eq!(browser.text("pause-text").await, "Pause");
    // Scrolled up, the row at the top stays where it is while others come.
    browser.value("($('log').scrollTop -= 1000, 0)").await;
    browser.until("it no longer follows", "!page.list.following && !$('latest').hidden").await;
    let top = "[...document.querySelectorAll('#rows .row:not([hidden])')].map((row) => [row.row, Math.round(row.getBoundingClientRect().top - $('log').getBoundingClientRect().top)]).sort((a, b) => a[1] - b[1]).find(([, y]) => y > -20)";
    let before = browser.value(top).await;
    place.append("in.log", numbered(230..400));
    browser.rows(400).await;
    assert_eq!(browser.value(top).await, before);
    browser.press("G").await;
    browser.until("it follows again", "page.list.following && $('latest').hidden && $('log').scrollHeight - $('log').scrollTop - $('log').clientHeight < 2").await;
    browser.assert_clean(&url(&weir, "/"), &[]).await;
    weir.stop();
}

/// Passes bytes on to weir, until it is told to cut all that pass.
struct Cutter {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cutter {
    fn new(to: String) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::<Mutex<Vec<TcpStream>>>::default();
        let all = open.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&to) else { continue };
                all.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                for (mut from, mut into) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(1..) =
                            from.read(&mut bytes).inspect(|n| drop(into.write_all(&bytes[..*n])))
                        {
                        }
                        into.shutdown(Shutdown::Both).ok();
                    });
                }
            }
        });
        Cutter { port, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_again_and_again_it_loses_nothing_and_shows_nothing_twice() {
    if !browser_is_there("cut_off_again_and_again_it_loses_nothing_and_shows_nothing_twice") {
        return;
    }
    let place = Place::new().with("in.log", "").with("web.log", "");
    let weir = place.started(TWO);
    let cutter = Cutter::new(weir.authority());
    let browser = Browser::open(1200, 800).await;
    browser.load(&format!("http://127.0.0.1:{}/", cutter.port)).await;
    for round in 0..6 {
        for part in 0..10 {
            let from = round * 100 + part * 10;
            place.append("in.log", numbered(from..from + 10));
            place.append("web.log", numbered(10_000 + from..10_010 + from));
            tokio::time::sleep(std::time::Duration::from_millis(15)).await;
            if part == 5 {
                cutter.cut();
            }
        }
        browser.until("it is live again", "page.stream.hurry() ?? $('state').textContent === 'live'").await;
    }
    browser.rows(1200).await;
    let mut found = numbers(&browser).await;
    let (app, web): (Vec<usize>, Vec<usize>) = found.iter().partition(|n| **n < 10_000);
    assert!(app.is_sorted() && web.is_sorted(), "each pipeline in its order");
    found.sort_unstable();
    assert_eq!(found, (0..600).chain(10_000..10_600).collect::<Vec<_>>());
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_weir_is_told_and_costs_no_row() {
    if !browser_is_there("a_restart_of_weir_is_told_and_costs_no_row") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..50));
    let weir = place.started(FILE);
    let authority = weir.authority();
    let config = String::from_utf8(place.read("pipelines.toml")).unwrap();
    let browser = Browser::open(1200, 800).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(50).await;
    weir.stop();
    browser.until("the state says so", "/trying again|reconnecting/.test($('state').textContent)").await;
    place.append("in.log", numbered(50..80));
    place.write("pipelines.toml", config);
    let mut command = place.command(&["run"]);
    let port = authority.rsplit(':').next().unwrap().parse().unwrap();
    let mut weir = place.spawn(command.stdout(std::process::Stdio::null()), port);
    weir.wait_ready();
    browser.value("(page.stream.hurry(), 0)").await;
    // 80 lines, and a note where the restart lies.
    browser.rows(81).await;
    assert_eq!(numbers(&browser).await, (0..80).collect::<Vec<_>>());
    assert!(browser.shown().await[50].contains("weir was started anew"));
    browser.until("it is live", "$('state').textContent === 'live'").await;
    place.append("in.log", numbered(80..90));
    browser.rows(91).await;
    weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_history_lost_is_a_row_with_its_count() {
    if !browser_is_there("what_history_lost_is_a_row_with_its_count") {
        return;
    }
    let place = Place::new().with("in.log", numbered(0..10));
    let weir = place.started(&FILE.replace("\"http\" }", "\"http\", history = { max_events = 100 } }"));
    let browser = Browser::open(1200, 800).await;
    browser.load(&url(&weir, "/app/")).await;
    browser.rows(10).await;
    browser.value("(page.stream.rest('for the test'), 0)").await;
    assert_eq!(browser.text("state").await, "for the test");
    place.append("in.log", numbered(10..1000));
    support::eventually("all is read", || (weir.status("app")["received"] == 1000).then_some(()));
    browser.value("(page.stream.resume(), 0)").await;
    browser
        .until(
            "the newest is there",
            "page.store.line[page.store.slot(page.store.next - 1)].includes('line 999 ')",
        )
        .await;
    let shown = browser.shown().await;
    let told = shown.iter().find(|line| line.contains("missing")).unwrap();
    let missing: usize = told.split(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert_eq!(missing + numbers(&browser).await.len(), 1000, "{told}");
    assert!(told.contains("of app missing: the server's history no longer holds them"), "{told}");
    browser.until("it stands out", "$('rows').querySelector('.row.note') === null || $('rows').querySelector('.row.note').innerText.includes('missing')").await;
    weir.stop();
}
