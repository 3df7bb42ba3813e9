//! A server with one stream per name, and a client of plain bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::batch::Batch;
use crate::config::ComponentKind;
use crate::flow::{Meter, Site};
use crate::net::notes::HeartbeatStyle;
use crate::net::problem::{Body, Problem};
use crate::net::ring::{Attachment, Ring, RingBounds};
use crate::net::segment::{Content, Encode, RowWriter};
use crate::net::{Entrance, Handler, Policy, Router, StreamOptions, StreamRoute, bind, serve};

/// Rows as `{"message":…}`, for the tests' streams.
pub(super) struct Plain;

impl Encode for Plain {
    fn rows<'a>(&'a self, batch: &'a Batch, content: Content) -> RowWriter<'a> {
        Box::new(move |row, out| match content {
            Content::Raw => out.extend_from_slice(batch.line(row)),
            _ => {
                let line = String::from_utf8_lossy(batch.line(row));
                out.extend_from_slice(
                    serde_json::json!({ "n": row, "message": line }).to_string().as_bytes(),
                );
            }
        })
    }

    fn own_is_json(&self) -> bool {
        true
    }
}

/// Rows as they came, for streams whose own format is not JSON.
pub(super) struct RawOwn;

impl Encode for RawOwn {
    fn rows<'a>(&'a self, batch: &'a Batch, content: Content) -> RowWriter<'a> {
        let content = if content == Content::Own { Content::Raw } else { content };
        Plain.rows(batch, content)
    }

    fn own_is_json(&self) -> bool {
        false
    }
}

pub(in crate::net) struct Nothing;

#[async_trait]
impl Handler for Nothing {
    async fn handle(&self, path: &str, _: Request<Incoming>) -> Response<Body> {
        if path == "/slow" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Problem::new(StatusCode::NOT_FOUND, "nothing here").into_response()
    }
}

pub(super) fn bounds(history_events: u64) -> RingBounds {
    RingBounds { history_events, ..RingBounds::default() }
}

pub(super) fn options() -> StreamOptions {
    StreamOptions {
        heartbeat: Some(Duration::from_secs(15)),
        heartbeat_style: HeartbeatStyle::Comment,
        heartbeat_stats: false,
        connections_max: 10_000,
        write_timeout: Duration::from_secs(10),
        own_is_json: true,
    }
}

/// A running server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) router: Arc<Router>,
    pub(super) shutdown: Shutdown,
    pub(super) meter: Arc<Meter>,
    pub(super) served: tokio::task::JoinHandle<std::io::Result<()>>,
    pub(super) attached: Vec<Attachment>,
}

impl Server {
    /// A server whose listener has `policy`.
    pub(super) async fn start(policy: Policy) -> Server {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let (address, router, shutdown) =
            (listener.local_addr().unwrap(), Arc::<Router>::default(), Shutdown::new());
        let served = task::spawn(serve(
            Entrance::open(listener).unwrap(),
            router.clone(),
            Arc::new(Nothing),
            policy,
            shutdown.clone(),
        ));
        Server { address, router, shutdown, meter: Arc::default(), served, attached: Vec::new() }
    }

    /// Mounts a stream at `/<name>/stream`.
    pub(super) fn mount(
        &mut self,
        name: &'static str,
        bounds: RingBounds,
        options: StreamOptions,
        encoder: Arc<dyn Encode>,
    ) -> Arc<Ring> {
        let site = Site { pipeline: name.into(), kind: ComponentKind::Sink, index: 0, type_name: "http" };
        let ring = self.router.ring(&site, |epoch| Ring::new(name.into(), epoch, bounds, encoder));
        let stream =
            StreamRoute { site: Arc::new(site), ring: ring.clone(), meter: self.meter.clone(), options };
        self.attached.push(self.router.mount_stream(stream, &[format!("/{name}/stream")], &[]));
        ring
    }

    /// A server with the stream `app`.
    pub(super) async fn with_app(history_events: u64) -> (Server, Arc<Ring>) {
        let mut server = Server::start(Policy::default()).await;
        let ring = server.mount("app", bounds(history_events), options(), Arc::new(Plain));
        (server, ring)
    }

    pub(super) async fn connect(&self) -> Client {
        Client { socket: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// Sends a GET with extra header lines, each ended by CRLF.
    pub(super) async fn get(&self, target: &str, headers: &str) -> Client {
        let mut client = self.connect().await;
        client.send(&format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
        client
    }
}

/// Appends one batch of lines.
pub(super) fn say<L: AsRef<[u8]>>(ring: &Ring, lines: impl IntoIterator<Item = L>) {
    ring.append(&Batch::from_lines("t", lines));
}

pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) read: Vec<u8>,
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `enough` of what was read, ten seconds at most.
    pub(super) async fn until(&mut self, enough: impl Fn(&str) -> bool) -> String {
        let reading = async {
            let mut chunk = vec![0; 64 << 10];
            loop {
                let text = String::from_utf8_lossy(&self.read);
                if enough(&text) {
                    return text.into_owned();
                }
                match self.socket.read(&mut chunk).await {
                    Ok(0) | Err(_) => panic!("ended early: {}", String::from_utf8_lossy(&self.read)),
                    Ok(n) => self.read.extend_from_slice(&chunk[..n]),
                }
            }
        };
        match timeout(Duration::from_secs(10), reading).await {
            Ok(text) => text,
            Err(_) => panic!("not within ten seconds: {}", String::from_utf8_lossy(&self.read)),
        }
    }

    pub(super) async fn until_has(&mut self, text: &str) -> String {
        self.until(|read| read.contains(text)).await
    }

    /// Reads to the end, ten seconds at most.
    pub(super) async fn finish(&mut self) -> String {
        let mut rest = Vec::new();
        let reading = self.socket.read_to_end(&mut rest);
        timeout(Duration::from_secs(10), reading).await.expect("ends within ten seconds").ok();
        self.read.extend_from_slice(&rest);
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// The events of a chunked stream so far.
    pub(super) fn events(&self) -> Vec<Event> {
        parse(&dechunk(body(&self.read)))
    }

    /// Reads until the stream has carried `count` rows.
    pub(super) async fn until_rows(&mut self, count: usize) -> Vec<Event> {
        let mut found = Vec::new();
        self.until(|_| true).await;
        let deadline = tokio::time::sleep(Duration::from_secs(10));
        tokio::pin!(deadline);
        while found.len() < count {
            let mut chunk = vec![0; 64 << 10];
            tokio::select! {
                n = self.socket.read(&mut chunk) => {
                    let n = n.unwrap();
                    assert!(n > 0, "ended early: {}", String::from_utf8_lossy(&self.read));
                    self.read.extend_from_slice(&chunk[..n]);
                }
                () = &mut deadline => panic!("{} of {count} rows: {}", found.len(), String::from_utf8_lossy(&self.read)),
            }
            found = self.events();
            found.retain(|e| e.kind.is_empty());
        }
        found
    }
}

/// What follows the head.
pub(super) fn body(response: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(response, b"\r\n\r\n").map_or(response.len(), |at| at + 4);
    &response[end..]
}

/// The bytes of a chunked body so far.
pub(super) fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(line) = memchr::memmem::find(body, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        let rest = &body[line + 2..];
        if size == 0 {
            assert_eq!(rest, b"\r\n", "bytes after the last chunk");
            break;
        }
        out.extend_from_slice(&rest[..size.min(rest.len())]);
        if rest.len() < size + 2 {
            break;
        }
        assert_eq!(&rest[size..size + 2], b"\r\n");
        body = &rest[size + 2..];
    }
    out
}

/// One event as a browser would dispatch it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) data: String,
}

impl Event {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap()
    }

    /// The sequence in its id.
    pub(super) fn seq(&self) -> u64 {
        self.id.rsplit('-').next().unwrap().parse().unwrap()
    }

    pub(super) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

/// Reads an event stream as the HTML standard tells a browser to.
pub(super) fn parse(stream: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let Some(complete) = text.rfind("\n\n").map(|end| &text[..end + 2]) else { return Vec::new() };
    let (mut events, mut event, mut data) = (Vec::new(), Event::default(), Vec::new());
    for line in complete.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let done = std::mem::take(&mut event);
                if !data.is_empty() {
                    events.push(Event { data: data.join("\n"), ..done });
                }
                data.clear();
            }
            "data" => data.push(value.to_owned()),
            "event" => event.kind = value.to_owned(),
            "id" => event.id = value.to_owned(),
            _ => {}
        }
    }
    events
}
