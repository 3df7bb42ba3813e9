//! Clients that shut their sending side and go on listening, as `nc` does when its input ends: they are served like
//! any other, and one that has really left is noticed all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{Plain, Server, bounds, options, say};
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::config::ComponentKind;
use crate::flow::Site;
use crate::net::id::Epoch;
use crate::net::ring::Ring;
use crate::net::{Entrance, Policy, StreamOptions, StreamRoute, bind, serve_lines};

async fn until(holds: impl Fn() -> bool) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within three seconds");
}

#[tokio::test]
async fn a_subscriber_that_only_listens_is_served() {
    let (server, ring) = Server::with_app(10).await;
    for target in ["/app/stream", "/app/stream?format=raw"] {
        let mut client = server.get(target, "").await;
        client.socket.shutdown().await.unwrap();
        until(|| ring.followers() == 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        say(&ring, ["still here"]);
        client.until_has("still here").await;
        drop(client);
        say(&ring, ["gone", "unless"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        say(&ring, ["it was"]);
        until(|| ring.followers() == 0).await;
    }
}

#[tokio::test]
async fn one_that_left_an_idle_stream_is_noticed_at_once() {
    let mut server = Server::start(Policy::default()).await;
    let ring = server.mount("app", bounds(10), options(), Arc::new(Plain));
    let mut client = server.get("/app/stream", "").await;
    client.until_has("hello").await;
    assert_eq!(ring.followers(), 1);
    drop(client);
    until(|| ring.followers() == 0).await;
}

#[tokio::test]
async fn a_line_client_that_only_listens_is_served() {
    let (listener, shutdown) = (bind("127.0.0.1:0").await.unwrap(), Shutdown::new());
    let address = listener.local_addr().unwrap();
    let ring = Arc::new(Ring::new("app".into(), Epoch::from_millis(1), bounds(10), Arc::new(Plain)));
    let site = Site { pipeline: "app".into(), kind: ComponentKind::Sink, index: 0, type_name: "tcp" };
    let options = StreamOptions { heartbeat: None, ..options() };
    let stream = StreamRoute { site: Arc::new(site), ring: ring.clone(), meter: Arc::default(), options };
    drop(task::spawn(serve_lines(Entrance::open(listener).unwrap(), stream, shutdown.clone())));
    let mut client = TcpStream::connect(address).await.unwrap();
    client.shutdown().await.unwrap();
    until(|| ring.followers() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    say(&ring, ["still here"]);
    let mut text = [0; 64];
    let read = timeout(Duration::from_secs(3), client.read(&mut text)).await.expect("a row").unwrap();
    assert!(String::from_utf8_lossy(&text[..read]).contains("still here"));
}
