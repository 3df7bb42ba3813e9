//! A real nginx as a reverse proxy in front of weir, with the configuration that people copy: a stream passes
//! without being held back, ends with its subscriber, and resumes; an idle one outlives the proxy's patience.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use support::browser::{Browser, browser_is_there};
use support::eventually;
use support::http::Stream;
use support::nginx::{GZIP, Nginx, PIPELINE, has_nginx};
use support::weir::Place;

/// What a subscriber asks for; a browser offers gzip, which a proxy may use against it.
const HEADERS: &[(&str, &str)] = &[("Accept", "text/event-stream"), ("Accept-Encoding", "identity")];

#[test]
fn events_pass_at_once_with_the_simplest_proxy_configuration() {
    if !has_nginx("events_pass_at_once_with_the_simplest_proxy_configuration") {
        return;
    }
    let place = Place::new().with("app.log", "one\ntwo\n");
    let weir = place.started(PIPELINE);
    // HTTP/1.0 to the upstream, buffering on: nginx's defaults.
    let nginx = Nginx::start(&place, &weir.authority(), GZIP, "");
    let mut stream = Stream::open(&nginx.authority(), "/logs/app/stream?tail=2", HEADERS);
    assert!(stream.head.starts_with("HTTP/1.1 200"), "{}", stream.head);
    assert_eq!([stream.row().message(), stream.row().message()], ["one", "two"]);
    for n in 0..20 {
        place.append("app.log", format!("event {n}\n"));
        // Each is read before the next is written: a proxy that gathers would stop here.
        assert_eq!(stream.row().message(), format!("event {n}"));
    }
    drop(stream);
    eventually("the subscriber is gone", || {
        (weir.component("app", "app.sink.0.http")["clients"] == 0).then_some(())
    });
    weir.stop();
}

#[test]
fn an_idle_stream_outlives_the_proxys_patience() {
    if !has_nginx("an_idle_stream_outlives_the_proxys_patience") {
        return;
    }
    let place = Place::new().with("app.log", "");
    let weir = place.started(PIPELINE);
    let nginx =
        Nginx::start(&place, &weir.authority(), GZIP, "proxy_http_version 1.1; proxy_read_timeout 2s;");
    let mut stream = Stream::open(&nginx.authority(), "/logs/app/stream", HEADERS);
    // Twice as long as nginx waits for a byte; signs of life come every half a second.
    std::thread::sleep(std::time::Duration::from_secs(4));
    place.append("app.log", "after a while\n");
    assert_eq!(stream.row().message(), "after a while");
    weir.stop();
}

#[test]
fn a_subscriber_resumes_through_the_proxy_after_weir_was_stopped() {
    if !has_nginx("a_subscriber_resumes_through_the_proxy_after_weir_was_stopped") {
        return;
    }
    let place = Place::new().with("app.log", "");
    let weir = place.started(PIPELINE);
    let nginx = Nginx::start(
        &place,
        &weir.authority(),
        GZIP,
        "proxy_http_version 1.1; proxy_set_header Connection '';",
    );
    let mut stream = Stream::open(&nginx.authority(), "/logs/app/stream", HEADERS);
    place.append("app.log", "a\nb\nc\n");
    let last = (0..2).map(|_| stream.row()).last().unwrap();
    assert_eq!(last.message(), "b");
    drop(stream);
    place.append("app.log", "d\n");
    let resume = [HEADERS[0], HEADERS[1], ("Last-Event-ID", last.id.as_str())];
    let mut stream = Stream::open(&nginx.authority(), "/logs/app/stream", &resume);
    assert_eq!([stream.row().message(), stream.row().message()], ["c", "d"]);
    weir.stop();
    let bye = std::iter::from_fn(|| stream.event()).last().expect("a last event");
    assert_eq!(bye.kind, "bye", "{bye:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_page_works_below_the_prefix_of_a_proxy() {
    let name = "the_live_page_works_below_the_prefix_of_a_proxy";
    if !has_nginx(name) || !browser_is_there(name) {
        return;
    }
    let place = Place::new().with("app.log", "one\ntwo\n");
    let weir = place.started(PIPELINE);
    let nginx = Nginx::start(&place, &weir.authority(), "", "proxy_http_version 1.1;");
    let browser = Browser::open(1000, 700).await;
    browser.load(&format!("http://{}/logs/", nginx.authority())).await;
    browser.rows(2).await;
    place.append("app.log", "three\n");
    browser.rows(3).await;
    // Links, the address and a pipeline without its slash stay below the prefix.
    browser.until("there is a link", "$('pipelines').querySelector('a') !== null").await;
    let links = "[$('home').href, $('pipelines').querySelector('a').href, location.href]";
    let root = format!("http://{}/logs/", nginx.authority());
    let expected = serde_json::json!([root, format!("{root}app/"), root]);
    assert_eq!(browser.value(links).await, expected);
    browser.load(&format!("{root}app")).await;
    assert_eq!(browser.value("location.pathname").await, "/logs/app/");
    browser.query("two").await;
    browser.rows(1).await;
    browser.assert_clean(&root, &[]).await;
    weir.stop();
}
