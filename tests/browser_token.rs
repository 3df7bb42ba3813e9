//! A server that takes tokens only, opened in a browser: the page loads without one and says nothing, asks for it in a
//! form, and keeps it for its tab. Over HTTP: what everybody may load tells nobody what runs here, all else is 401.
#![allow(clippy::unwrap_used, reason = "acceptance tests")]

mod support;

use serde_json::{Value, json};
use support::browser::{Browser, browser_is_there, url};
use support::curl::{Answer, curl, has_curl};
use support::weir::{Place, Weir};

const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

/// `payments` from a file and from requests, to the page.
const PIPELINES: &str = r#"
[[pipelines]]
name = "payments"
sources = [{ type = "file", path = "DIR/in.log" }, { type = "http" }]
sinks = [{ type = "http" }]
"#;

/// A weir that takes one token, with these lines in its history; and the token.
fn guarded(place: &Place, server: &str, lines: usize) -> (Weir, String) {
    let made = place.run(&["hash", "--token"]).stdout;
    let value = |key: &str| {
        let line = made.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    place.write("in.log", (0..lines).map(|n| format!("card {n} charged\n")).collect::<String>());
    let auth =
        format!("[server.auth]\nbearer = [{{ name = \"ops\", token_hash = \"{}\" }}]\n", value("token_hash"));
    (place.started(&format!("{server}\n{auth}{PIPELINES}")), value("token"))
}

fn get(weir: &Weir, args: &[&str], path: &str) -> Answer {
    curl(&[args, &[&url(weir, path)]].concat(), b"")
}

/// An answer without what is different each time.
fn lasting(answer: &Answer) -> (String, &str) {
    let head: Vec<&str> = answer.head.lines().filter(|line| !line.starts_with("date:")).collect();
    (head.join("\n"), &answer.body)
}

#[test]
fn the_shell_is_for_everybody_and_says_nothing() {
    if !has_curl("the_shell_is_for_everybody_and_says_nothing") {
        return;
    }
    let place = Place::new();
    let (weir, token) = guarded(&place, "server.access = { deny = [\"127.0.0.2\"] }", 3);
    let bearer = format!("Authorization: Bearer {token}");
    let page = get(&weir, &[], "/");
    assert_eq!(page.code, 200, "{page:?}");
    assert!(
        page.head.contains("content-security-policy: default-src 'none'; script-src 'self';"),
        "{page:?}"
    );
    assert!(page.head.contains("require-trusted-types-for 'script'"), "{page:?}");
    let script = page.body.split("src=\"./").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for file in
        [script.as_str(), &script.replace("main.js", "login.js"), &script.replace("main.js", "app.css")]
    {
        let file = get(&weir, &[], &format!("/{file}"));
        assert!(file.code == 200 && !file.body.contains("payments"), "{}", file.head);
    }
    // A name that there is looks like any other.
    for (known, unknown, code) in [("/payments/", "/payment5/", 200), ("/payments", "/payment5", 308)] {
        let (known, unknown) = (get(&weir, &[], known), get(&weir, &[], unknown));
        assert_eq!((known.code, unknown.code), (code, code), "{known:?}");
        let (known, unknown) = (lasting(&known), lasting(&unknown));
        assert_eq!((known.0.replace("payments", "payment5"), known.1), unknown);
        assert!(!unknown.1.contains("payment") && !unknown.1.contains("charged"), "{unknown:?}");
    }
    // However it is asked for.
    let preflight = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST"];
    let asked: [(&[&str], &str, u16); 4] = [
        (&[], "/stream", 401),
        (&[], "/stream?ticket=x", 401),
        (&["-H", "Origin: http://elsewhere.example"], "/stream", 403),
        (&preflight, "/ingest", 204),
    ];
    for (args, rest, code) in asked {
        let [known, unknown] =
            ["payments", "payment5"].map(|name| get(&weir, args, &format!("/{name}{rest}")));
        assert_eq!(known.code, code, "{rest}: {known:?}");
        let (known, unknown) = (lasting(&known), lasting(&unknown));
        assert_eq!((known.0.replace("payments", "payment5"), known.1), unknown, "{rest}");
    }
    // Everything that tells something, and everything that does something.
    for path in [
        "/status",
        "/metrics",
        "/openapi.json",
        "/payments/stream?limit=1",
        "/_stream?p=payments&limit=1",
        "/_stream",
        "/payments/status",
        "/payments/ingest",
        "/payments/nothing",
        "/Payments/",
        "//",
        "/_ticket",
        "/_assets",
        "/api/",
        "/api/reload",
    ] {
        for method in ["GET", "POST", "HEAD", "PUT"] {
            let method: &[&str] = if method == "HEAD" { &["--head"] } else { &["-X", method] };
            let answer = get(&weir, method, path);
            assert_eq!(answer.code, 401, "{method:?} {path}: {answer:?}");
            assert!(!answer.body.contains("payments") || path.contains("payments"), "{path}: {answer:?}");
        }
    }
    for path in ["/", "/payments/", "/payments"] {
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(get(&weir, &["-X", method], path).code, 401, "{method} {path}");
        }
        // Who says something is held to it.
        assert_eq!(get(&weir, &["-H", "Authorization: Bearer wrong"], path).code, 401, "{path}");
        assert_eq!(get(&weir, &["-u", "ops:wrong"], path).code, 401, "{path}");
        assert_eq!(get(&weir, &["--interface", "127.0.0.2"], path).code, 403, "{path}");
    }
    assert_eq!(get(&weir, &["-H", &bearer], "/payment5/").code, 404);
    assert_eq!(get(&weir, &["-H", &bearer], "/payments/").code, 200);
    assert!(get(&weir, &["-H", &bearer], "/status").body.contains("payments"));
    weir.stop();
    // Limits are before everything.
    let (weir, _) = guarded(&place, "server.access = { requests_per_second = 0.01, burst = 60 }", 0);
    let codes: Vec<u16> = (0..70).map(|_| get(&weir, &["--interface", "127.0.0.3"], "/").code).collect();
    assert!(codes[0] == 200 && codes[69] == 429, "{codes:?}");
    weir.stop();
}

/// What the page has of the token: in its address, what it asked for, what lasts, what ends with the tab, in sight.
const TRACES: &str = "[location.href, performance.getEntriesByType('resource').map((one) => one.name).join(' '), JSON.stringify({ ...localStorage }) + document.cookie, JSON.stringify({ ...sessionStorage }), document.documentElement.outerHTML + $('token').value]";

async fn asks(browser: &Browser) {
    browser.until("it asks for a token", "$('login').open && document.activeElement === $('token')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_asks_for_the_token_and_keeps_it_for_its_tab() {
    if !browser_is_there("the_page_asks_for_the_token_and_keeps_it_for_its_tab") {
        return;
    }
    let place = Place::new();
    let (weir, token) = guarded(&place, "", 20);
    let browser = Browser::open(1100, 760).await;
    browser.client().goto(&url(&weir, "/payments/?q=card")).await.unwrap();
    asks(&browser).await;
    let form = "[$('token').type, $('token').labels[0].innerText.trim(), $('login').getAttribute('aria-labelledby') && $('login-title').innerText, $('login-problem').getAttribute('role'), $('login-problem').hidden, $('login').matches(':modal'), $('pipelines').childElementCount, page.view.count]";
    let expected = json!(["password", "Token", "This weir asks for a token", "alert", true, true, 0, 0]);
    assert_eq!(browser.value(form).await, expected);
    // There is nothing behind it to get to; keys of the page are not its keys.
    browser.press(ESCAPE).await;
    browser.press(ESCAPE).await;
    asks(&browser).await;
    // What is wrong is said where the focus is.
    for (typed, said) in
        [("wrong", "does not accept"), ("two words", "no spaces"), ("über", "does not accept")]
    {
        browser.value("($('token').value = '', $('token').focus(), 0)").await;
        browser.press(typed).await;
        browser.press(ENTER).await;
        browser.until(typed, &format!("$('login-problem').innerText.includes('{said}')")).await;
        browser.until("one can go on typing", "$('token').getAttribute('aria-invalid') === 'true' && document.activeElement === $('token') && $('login').open").await;
    }
    browser.picture("token.png").await;
    // By keys alone, and in the form in which it is copied from a script.
    browser.press(&format!("Bearer {token}{ENTER}")).await;
    browser.until("it is live", "$('state').textContent === 'live' && !$('login').open").await;
    browser.rows(20).await;
    let holds = |traces: &Value| -> Vec<bool> {
        traces.as_array().unwrap().iter().map(|one| one.as_str().unwrap().contains(&token)).collect()
    };
    assert_eq!(holds(&browser.value(TRACES).await), [false, false, false, true, false]);
    // It goes along with all that is asked afterwards, and the page asks for no ticket it has no use for.
    browser.query("charged").await;
    browser.until("it is filtered", "page.applied.q === 'charged' && page.view.count === 20").await;
    let tickets = "performance.getEntriesByType('resource').some((one) => one.name.includes('ticket'))";
    assert_eq!(browser.value(tickets).await, false);
    // What cannot send a header gets a ticket for it.
    let ticket = format!(
        "fetch(new URL('/_ticket', location), {{ method: 'POST', headers: {{ authorization: 'Bearer {token}' }} }}).then((answer) => answer.json()).then(({{ ticket }}) => new Promise((done) => {{ const one = new EventSource('/payments/stream?tail=1&ticket=' + ticket); one.onmessage = (event) => {{ one.close(); done(JSON.parse(event.data).message); }}; }}))"
    );
    assert_eq!(browser.value(&ticket).await, "card 19 charged");
    browser.client().refresh().await.unwrap();
    browser.until("it is live again", "$('state').textContent === 'live'").await;
    browser.rows(20).await;
    // Another tab knows nothing of it; nor does this one, once it was told to forget.
    let first = browser.client().window().await.unwrap();
    let second = browser.client().new_window(true).await.unwrap().handle;
    browser.client().switch_to_window(second).await.unwrap();
    browser.client().goto(&url(&weir, "/")).await.unwrap();
    asks(&browser).await;
    assert_eq!(holds(&browser.value(TRACES).await), [false; 5]);
    browser.client().switch_to_window(first).await.unwrap();
    assert_eq!(browser.value("$('forget').hidden").await, false);
    browser.value("($('forget').click(), 0)").await;
    asks(&browser).await;
    assert_eq!(holds(&browser.value(TRACES).await), [false; 5]);
    browser.assert_clean(&url(&weir, "/"), &["status of 401"]).await;
    let log = weir.stop();
    assert!(!log.contains(&token), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_later_is_asked_for_again_and_rows_go_on() {
    if !browser_is_there("a_token_that_is_refused_later_is_asked_for_again_and_rows_go_on") {
        return;
    }
    let place = Place::new();
    let (weir, token) = guarded(&place, "", 20);
    let browser = Browser::open(420, 760).await;
    browser.client().goto(&url(&weir, "/")).await.unwrap();
    asks(&browser).await;
    browser.press(&format!("{token}{ENTER}")).await;
    browser.rows(20).await;
    // As after a change of the configuration: what the tab keeps opens nothing any more.
    browser
        .value(
            "load('login.js').then(({ newToken, currentToken }) => { newToken(currentToken()); return 0; })",
        )
        .await;
    asks(&browser).await;
    browser.until("it says why", "$('login-problem').innerText.includes('not accepted any more')").await;
    let fits = "(() => { const box = $('login').getBoundingClientRect(); return box.left >= 0 && box.right <= innerWidth && box.width > 250; })()";
    browser.until("it fits a phone", fits).await;
    browser.picture("token-narrow.png").await;
    browser.value("(window.due = performance.now() + 3000, 0)").await;
    browser.until("a poll came due meanwhile", "performance.now() > window.due").await;
    browser.press(&format!("{token}{ENTER}")).await;
    browser.until("the form is gone", "!$('login').open").await;
    place.append("in.log", "card 20 charged\n");
    browser.rows(21).await;
    // What it asks for now and then it asks for again, whichever request was the one that was refused.
    let polls =
        "performance.getEntriesByType('resource').filter((one) => /\\/status(\\?|$)/.test(one.name)).length";
    browser.value(&format!("(window.polls = {polls}, 0)")).await;
    browser.until("the counters go on", &format!("{polls} >= window.polls + 2")).await;
    // One that was stored and is wrong from the start.
    browser
        .value("(sessionStorage.setItem(Object.keys(sessionStorage)[0], 'stale'), location.reload(), 0)")
        .await;
    browser.until("it says why", "$('login-problem').innerText.includes('not accepted any more')").await;
    browser.press(&format!("{token}{ENTER}")).await;
    browser.rows(21).await;
    browser.assert_clean(&url(&weir, "/"), &["status of 401"]).await;
    weir.stop();
}
