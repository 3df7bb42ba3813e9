//! A client against a receiver at the other end of a pipe: connections are kept and shared, stale ones replaced,
//! answers read within bounds.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::base::clock;
use crate::base::task;
use crate::net::dial::{Connection, Dial, Endpoint};

type Serve = dyn Fn(DuplexStream, usize) + Send + Sync;

/// Dials pipes; `serve` takes the other end, with the connection's number.
struct Pipes {
    serve: Box<Serve>,
    h2: bool,
    dialed: AtomicUsize,
}

impl std::fmt::Debug for Pipes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipes")
    }
}

#[async_trait]
impl Dial for Pipes {
    async fn dial(&self, _: &Endpoint) -> io::Result<Connection> {
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        (self.serve)(theirs, self.dialed.fetch_add(1, SeqCst));
        Ok(Connection { alpn_h2: self.h2, ..Connection::over(ours) })
    }
}

fn client(
    h2: bool,
    serve: impl Fn(DuplexStream, usize) + Send + Sync + 'static,
) -> (Arc<Client>, Arc<Pipes>) {
    let pipes = Arc::new(Pipes { serve: Box::new(serve), h2, dialed: AtomicUsize::new(0) });
    let target = Target::parse("http://logs.test/in?a=b").unwrap();
    let client = Client::new(target, Method::POST, Duration::from_secs(10), pipes.clone());
    (Arc::new(client), pipes)
}

fn payload(bytes: usize) -> Payload {
    Payload::new((0..bytes.div_ceil(1000)).map(|i| Bytes::from(vec![b'x'; 1000.min(bytes - i * 1000)])))
}

async fn send(client: &Client, payload: &Payload) -> Result<Answer, NoAnswer> {
    let id = (http::HeaderName::from_static("x-id"), http::HeaderValue::from_static("1"));
    client.send(&HeaderMap::new(), Some(id), payload, Duration::MAX).await
}

/// What arrived: method, target, host, length.
type Seen = Arc<Mutex<Vec<(String, usize)>>>;

async fn note(request: Request<Incoming>, seen: Seen) -> Result<Response<Full<Bytes>>, Infallible> {
    let head = format!("{} {} {:?}", request.method(), request.uri(), request.headers().get("host"));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    seen.lock().unwrap().push((head, body.len()));
    Ok(Response::new(Full::new(Bytes::from("thanks"))))
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_request_after_request() {
    let seen = Seen::default();
    let noted = seen.clone();
    let (client, pipes) = client(false, move |io, _| {
        let seen = noted.clone();
        let service = service_fn(move |request| note(request, seen.clone()));
        task::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service));
    });
    for _ in 0..5 {
        let answer = send(&client, &payload(100_500)).await.unwrap();
        assert_eq!((answer.verdict, answer.to_string()), (Verdict::Taken, "200 OK: thanks".to_owned()));
    }
    assert_eq!((pipes.dialed.load(SeqCst), client.waiting_connections()), (1, 1));
    assert_eq!(seen.lock().unwrap()[4], ("POST /in?a=b Some(\"logs.test\")".to_owned(), 100_500));
    // Its age is up: the name is looked up again.
    tokio::time::advance(Duration::from_secs(301)).await;
    send(&client, &payload(1)).await.unwrap();
    assert_eq!((pipes.dialed.load(SeqCst), client.waiting_connections()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn http_2_shares_one_connection() {
    let seen = Seen::default();
    let noted = seen.clone();
    let (client, pipes) = client(true, move |io, _| {
        let seen = noted.clone();
        let service = service_fn(move |request| note(request, seen.clone()));
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        task::spawn(builder.serve_connection(TokioIo::new(io), service));
    });
    send(&client, &payload(10)).await.unwrap();
    let many = (0..20).map(|_| {
        let client = client.clone();
        task::spawn(async move { send(&client, &payload(100_000)).await.unwrap().verdict })
    });
    for sent in many.collect::<Vec<_>>() {
        assert_eq!(sent.await.unwrap(), Verdict::Taken);
    }
    assert_eq!((pipes.dialed.load(SeqCst), client.waiting_connections()), (1, 1));
    assert!(seen.lock().unwrap().iter().all(|(head, _)| head == "POST http://logs.test/in?a=b None"));
}

/// Reads a request whose body has `length` bytes and answers with `answer`.
async fn answer_raw(io: &mut DuplexStream, length: usize, answer: &[u8]) {
    let mut got = Vec::new();
    let mut buffer = vec![0; 4096];
    loop {
        if let Some(at) = got.windows(4).position(|w| w == b"\r\n\r\n")
            && got.len() >= at + 4 + length
        {
            break;
        }
        match io.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => got.extend_from_slice(&buffer[..n]),
        }
    }
    io.write_all(answer).await.ok();
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_breaks_is_replaced_at_once() {
    let (client, pipes) = client(false, |mut io, number| {
        task::spawn(async move {
            answer_raw(&mut io, 3, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            if number == 0 {
                // The second request is read, and the connection closed without a word.
                answer_raw(&mut io, 3, b"").await;
            } else {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        });
    });
    for _ in 0..2 {
        let answer = send(&client, &payload(3)).await.unwrap();
        assert_eq!(answer.verdict, Verdict::Taken);
    }
    assert_eq!(pipes.dialed.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_is_none() {
    for (said, why) in [
        (&b""[..], "connection closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "the answer broke off"),
        (b"\x16\x03\x01 this is not http\r\n\r\n", "invalid HTTP"),
    ] {
        let (client, pipes) = client(false, move |mut io, _| {
            task::spawn(async move { answer_raw(&mut io, 3, said).await });
        });
        let error = send(&client, &payload(3)).await.unwrap_err();
        assert!(error.why.contains(why) && !error.timed_out, "{error:?}");
        assert_eq!((pipes.dialed.load(SeqCst), client.waiting_connections()), (1, 0), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_against_silence_and_drops() {
    for drip in [false, true] {
        let (client, _) = client(false, move |mut io, _| {
            task::spawn(async move {
                answer_raw(&mut io, 3, b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
                while drip && io.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                tokio::time::sleep(Duration::from_secs(60)).await;
            });
        });
        let start = clock::now();
        let error = send(&client, &payload(3)).await.unwrap_err();
        assert!(error.timed_out, "{error:?}");
        assert_eq!((start.elapsed().as_secs(), client.waiting_connections()), (10, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_counts_for_what_it_says_and_ends_the_connection() {
    let early = |answer: &'static [u8]| {
        client(false, move |mut io, _| {
            task::spawn(async move {
                let mut head = [0; 64];
                io.read_exact(&mut head).await.unwrap();
                io.write_all(answer).await.unwrap();
                tokio::time::sleep(Duration::from_secs(60)).await;
            });
        })
    };
    let (client, _) = early(b"HTTP/1.1 413 Too Much\r\ncontent-length: 0\r\n\r\n");
    let answer = send(&client, &payload(2_000_000)).await.unwrap();
    assert_eq!((answer.verdict, client.waiting_connections()), (Verdict::Rows, 0));
    // Whoever says yes without having read everything has not got everything.
    let (client, _) = early(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let error = send(&client, &payload(2_000_000)).await.unwrap_err();
    assert!(error.why.contains("before it had the whole request"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endless_answer_is_not_read_to_its_end() {
    let (client, _) = client(false, |mut io, _| {
        task::spawn(async move {
            answer_raw(
                &mut io,
                3,
                b"HTTP/1.1 400 Bad\r\nretry-after: 7\r\n\r\nline one\r\n\x1b[31mline two ",
            )
            .await;
            while io.write_all(&[b'x'; 1000]).await.is_ok() {}
        });
    });
    let answer = send(&client, &payload(3)).await.unwrap();
    assert!(answer.to_string().starts_with("400 Bad Request: line one [31mline two xxx"), "{answer}");
    assert!(answer.quote.len() <= 200 && answer.retry_after == Some(Duration::from_secs(7)));
    assert_eq!(client.waiting_connections(), 0);
}
