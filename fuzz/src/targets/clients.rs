//! What servers answer to weir's clients, and the addresses that operators give them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use logweir::cli::http_get::parse_answer;
use logweir::config::Secret;
use logweir::net::dial::{Connection, Dial, Endpoint, Proxy};
use logweir::net::requests::{Client, Payload, Target, Verdict, retry_after as wait};
use tokio::runtime::Runtime;

thread_local! {
    static RUNTIME: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// A server that has its answer ready.
#[derive(Debug)]
struct Says(Bytes);

type Pipe = tokio::io::Join<io::Cursor<Bytes>, tokio::io::Sink>;

struct End(Pipe);

impl tokio::io::AsyncRead for End {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl tokio::io::AsyncWrite for End {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn pipe(answer: &[u8]) -> Pipe {
    tokio::io::join(io::Cursor::new(Bytes::copy_from_slice(answer)), tokio::io::sink())
}

#[async_trait]
impl Dial for Says {
    async fn dial(&self, _: &Endpoint) -> io::Result<Connection> {
        Ok(Connection::over(End(pipe(&self.0))))
    }
}

/// Answers that the HTTP client sink reads: an end in bounded time, a quote that is safe to log.
pub fn http_answers(data: &[u8]) {
    let target = Target::parse("http://receiver/in").expect("a URL");
    let dial = Arc::new(Says(Bytes::copy_from_slice(data)));
    let client = Client::new(target, Method::POST, Duration::from_secs(3), dial);
    let payload = Payload::new([Bytes::from_static(b"a row\n")]);
    let answered = RUNTIME.with(|runtime| {
        runtime.block_on(client.send(&HeaderMap::new(), None, &payload, std::time::Duration::from_secs(5)))
    });
    match answered {
        Ok(answer) => {
            assert!(answer.quote.len() <= 4096 && !answer.quote.chars().any(char::is_control), "{answer}");
            assert_eq!(answer.verdict == Verdict::Taken, answer.status.is_success());
        }
        Err(none) => assert!(!none.timed_out, "what is there is not waited for"),
    }
}

/// Answers that the command line reads from a running weir.
pub fn own_http_answers(data: &[u8]) {
    if let Some(answer) = parse_answer(data) {
        assert!(answer.body.len() <= data.len());
    }
    let [piece, body @ ..] = data else { return };
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(usize::from(*piece).max(1)) {
        chunked.extend(format!("{:X};x=y\r\n", chunk.len()).bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(parse_answer(&chunked).map(|answer| answer.body).as_deref(), Some(body));
    let mut counted = format!("HTTP/1.1 503 Busy\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    counted.extend_from_slice(body);
    let answer = parse_answer(&counted).expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (503, body));
    if !body.is_empty() {
        counted.pop();
        assert!(parse_answer(&counted).is_none(), "cut off");
    }
}

/// A proxy's answer to CONNECT: a tunnel only where it said 2xx, and not a byte of what follows is taken.
pub fn proxy_answers(data: &[u8]) {
    let proxy = Proxy::new(Secret::literal("http://user:hunter22222@proxy:3128"));
    let mut stream = pipe(data);
    let to = Endpoint::new("logs", 6514);
    let opened = RUNTIME.with(|runtime| runtime.block_on(proxy.tunnel(&mut stream, &to)));
    let read = stream.reader().position() as usize;
    let end = data.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    match opened {
        Ok(()) => {
            assert_eq!(Some(read), end);
            assert!(data.starts_with(b"HTTP/1.") && data.get(9) == Some(&b'2'));
        }
        Err(e) => {
            let why = e.to_string();
            assert!(why.len() < 800 && !why.chars().any(char::is_control), "{why:?}");
            assert!(!why.contains("hunter22222"));
            assert!(end.is_none_or(|end| read <= end), "what is behind the answer is left");
        }
    }
}

/// Proxies' addresses: read or refused, and a password is never in the message.
pub fn proxy_urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(Proxy::check(text));
    if data.iter().all(u8::is_ascii_alphanumeric) && data.len() > 10 {
        for url in
            [format!("http://u:{text}@"), format!("socks5://u:{text}@h:1"), format!("http://u:{text}%4@h:1")]
        {
            let why = Proxy::check(&url).expect_err("none of these is a proxy");
            assert!(!why.contains(text), "{why}");
        }
        Proxy::check(&format!("http://u:{text}@h:1")).expect("a proxy");
    }
}

/// URLs of receivers: shown as written, with a host and a port, and never with a password.
pub fn urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Target::parse(text) {
        Ok(target) => {
            assert_eq!(target.to_string(), text);
            assert!(!target.endpoint.host.is_empty() && target.endpoint.port > 0);
            assert!(target.path.to_string().starts_with('/'));
            assert!(!target.host().contains('@'));
            let health = target.at("/healthz").expect("another path at the same place");
            assert_eq!(health.endpoint, target.endpoint);
            assert_eq!(health.path.to_string(), "/healthz");
        }
        Err(e) => assert_eq!(e.secret, text.contains('@')),
    }
}

/// `Retry-After`: seconds are taken as they are; a date of RFC 9110 that lies ahead is that far away.
pub fn retry_after(data: &[u8]) {
    let headers =
        |value: &[u8]| Some(HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(value).ok()?)]));
    let waited = headers(data).and_then(|headers| wait(&headers));
    if let Some(seconds) = std::str::from_utf8(data).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit())) {
        let expected = seconds.parse().ok();
        assert!(expected.is_none() || waited == expected.map(Duration::from_secs), "{seconds}: {waited:?}");
    }
    let Some((number, _)) = data.split_first_chunk::<4>() else { return };
    let now = jiff::Timestamp::now();
    let Ok(at) = jiff::Timestamp::from_second(now.as_second() + i64::from(u32::from_le_bytes(*number)))
    else {
        return;
    };
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    for form in ["%a, %d %b %Y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"] {
        let date = at.strftime(form).to_string();
        let waited = headers(date.as_bytes()).and_then(|headers| wait(&headers)).expect("a date");
        let ahead = u64::from(u32::from_le_bytes(*number));
        assert!(
            waited.as_secs() <= ahead && waited.as_secs() + 5 >= ahead,
            "{date}: {waited:?} of {ahead} s"
        );
    }
}
