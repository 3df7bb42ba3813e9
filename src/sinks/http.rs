//! The `http` sink: serves its pipeline's events as they come, to any number of subscribers, as server-sent
//! events, JSON lines or raw lines. On the shared router, or on a listener of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::units::ByteCount;
use crate::batch::Batch;
use crate::codec::encode::{Format, RowEncoder};
use crate::codec::template::TimestampFormat;
use crate::config::{
    AccessOptions, AuthOptions, FormatOptions, FormatType, Listen, TlsServerOptions, choices, defaults,
    options,
};
use crate::flow::{BuildCx, Component, Fault, Inlet, Sink, TaskCx};
use crate::net::mount::{NothingElse, check_path};
use crate::net::notes::HeartbeatStyle;
use crate::net::ring::{Ring, RingBounds};
use crate::net::segment::{Content, Encode, RowWriter};
use crate::net::{self, CorsOrigins, EntranceConfig, Router, StreamOptions, StreamRoute};

options! {
    /// What a new subscriber may replay, with `tail`, `since` or the id of the last event it saw.
    pub struct HistoryOptions {
        /// Most events.
        #[range(0..=10_000_000)]
        pub max_events: u64 = 1000,
        /// Most memory for their lines.
        #[range(ByteCount(0)..=ByteCount::gib(16))]
        pub max_bytes: ByteCount = ByteCount::mib(4),
    }
}

choices! {
    /// What a sign of life looks like.
    pub enum HeartbeatFormat {
        /// A comment, which `EventSource` hides.
        Comment = "comment",
        /// An event of type `ping`.
        Event = "event",
        /// A JSON object as data, with `"weir":"heartbeat"`.
        Json = "json",
    }
}

options! {
    /// Signs of life on a stream that has nothing to say.
    pub struct HeartbeatOptions {
        /// Time without an event after which one is sent; "0" for none.
        pub interval: Duration = Duration::from_secs(15),
        /// What it looks like.
        pub format: HeartbeatFormat = HeartbeatFormat::Comment,
        /// Whether it tells how the stream stands: next id, clients, events received.
        pub include_stats: bool = false,
    }
}

options! {
    /// Options of the `http` sink.
    pub struct HttpOptions {
        /// An address to listen on; without it, the shared router serves the stream.
        pub listen: Option<Listen> = None,
        /// Encryption of the connections to `listen`; the shared router's is `server.tls`.
        pub tls: Option<TlsServerOptions> = None,
        /// Who may connect to `listen`, and how much one may ask; for the shared router it is `server.access`.
        pub access: Option<AccessOptions> = None,
        /// Who one has to be at `listen`; for the shared router it is `server.auth`.
        pub auth: Option<AuthOptions> = None,
        /// Path of the stream: `/<pipeline>/stream`, and with `listen` also `/stream`, unless set.
        pub stream_path: Option<String> = None,
        /// Path where the stream tells how it stands, as JSON: with `listen` `/status`, otherwise none unless set.
        pub status_path: Option<String> = None,
        /// What a new subscriber may replay. Without being asked to, a stream starts with the present.
        pub history: HistoryOptions = defaults(),
        /// Signs of life while there is nothing to say.
        pub heartbeat: HeartbeatOptions = defaults(),
        /// Most subscribers at a time; more are answered 503.
        #[range(1..=1_000_000)]
        pub max_connections: usize = 1000,
        /// How long a write may make no progress before the subscriber is let go.
        pub write_timeout: Duration = Duration::from_secs(30),
        /// How events are written; by default as the pipeline says, or as JSON.
        pub format: Option<FormatOptions> = None,
        /// Allows `listen` on an address that other machines reach: whoever does reads every event.
        pub insecure_public: bool = false,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Http {
    options: HttpOptions,
    /// The way in, with `listen`.
    entrance: Option<EntranceConfig>,
    format: Format,
    stream_paths: Vec<String>,
    status_paths: Vec<String>,
}

impl Component for Http {
    const NAME: &'static str = "http";
    const SUMMARY: &'static str = "serves events live as server-sent events, JSON lines or raw lines";
    const EXAMPLE: &'static str = "type = \"http\"\nhistory = { max_events = 1000, max_bytes = \"4MiB\" }\n\
        heartbeat = { interval = \"15s\", format = \"comment\" }\nmax_connections = 1000\nwrite_timeout = \"30s\"\n";
    type Options = HttpOptions;

    fn build(options: HttpOptions, cx: &mut BuildCx<'_>) -> Option<Http> {
        let format = Format::build(options.format.as_ref(), FormatType::Json, cx);
        let own = format!("/{}/stream", cx.site.pipeline);
        let (mut stream_paths, mut status_paths) = match &options.listen {
            Some(_) => (vec!["/stream".to_owned(), own], vec!["/status".to_owned()]),
            None => (vec![own], Vec::new()),
        };
        let mut sound = true;
        for (key, set, paths) in [
            ("stream_path", &options.stream_path, &mut stream_paths),
            ("status_path", &options.status_path, &mut status_paths),
        ] {
            if let Some(path) = set {
                sound &= check_path(key, path, options.listen.is_some(), cx);
                *paths = vec![path.clone()];
            }
        }
        let tls = options.tls.as_ref();
        let entrance = match &options.listen {
            Some(listen) => {
                let (access, auth) = (options.access.as_ref(), options.auth.as_ref());
                EntranceConfig::build(listen, tls, access, auth, options.insecure_public, cx).map(Some)
            }
            None => {
                stream_paths.iter().for_each(|path| cx.claim("route", path, "stream_path"));
                status_paths.iter().for_each(|path| cx.claim("route", path, "status_path"));
                let given = [
                    ("tls", tls.is_some()),
                    ("access", options.access.is_some()),
                    ("auth", options.auth.is_some()),
                ];
                for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                    cx.error(
                        key,
                        format!(
                            "`{key}` has no effect without `listen`: the shared router serves the stream"
                        ),
                    )
                    .hint(format!("set server.{key}, or give the sink a `listen` of its own"));
                    sound = false;
                }
                Some(None)
            }
        };
        if options.write_timeout.is_zero() {
            cx.error("write_timeout", "`write_timeout` is out of range: it must be longer than zero");
            sound = false;
        }
        let entrance = entrance?;
        sound.then_some(Http { options, entrance, format: format?, stream_paths, status_paths })
    }
}

#[async_trait]
impl Sink for Http {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        let shared = cx.shared.get::<Router>();
        let encoder: Arc<dyn Encode> = Arc::new(Rows::new(self.format.clone(), cx.site.pipeline.clone()));
        let history = &self.options.history;
        let bounds = RingBounds {
            history_events: history.max_events,
            history_bytes: history.max_bytes.0,
            ..RingBounds::default()
        };
        let name = cx.site.pipeline.clone();
        let ring = shared.ring(&cx.site, |epoch| Ring::new(name, epoch, bounds, encoder.clone()));
        ring.reconfigure(bounds, encoder.clone());
        let stream = StreamRoute {
            site: cx.site.clone(),
            ring: ring.clone(),
            meter: cx.meter.clone(),
            options: self.stream_options(encoder.own_is_json()),
        };
        let (Some(listen), Some(entrance)) = (&self.options.listen, &self.entrance) else {
            let attached = shared.mount_stream(stream, &self.stream_paths, &self.status_paths);
            cx.ready();
            net::append_all(inlet, &ring, &cx.meter).await;
            drop(attached);
            return Ok(());
        };
        let own = Arc::new(Router::default());
        let attached = own.mount_stream(stream, &self.stream_paths, &self.status_paths);
        let entrance = entrance.bind(cx).await?;
        cx.ready();
        let ending = cx.shutdown.child();
        let others = Arc::new(NothingElse([&self.stream_paths[..], &self.status_paths[..]].concat()));
        let policy = cx.shared.get::<CorsOrigins>().policy();
        let served = net::serve(entrance, own, others, policy, ending.clone());
        let served = net::append_and_serve(inlet, &ring, &cx.meter, served, attached, &ending).await;
        served.map_err(|e| Fault::retry(format!("cannot serve on {listen}: {e}")))
    }

    fn written(&self, batch: &Batch, pipeline: &Arc<str>) -> Vec<Vec<u8>> {
        self.format.each(batch, pipeline)
    }
}

impl Http {
    fn stream_options(&self, own_is_json: bool) -> StreamOptions {
        let heartbeat = &self.options.heartbeat;
        StreamOptions {
            heartbeat: Some(heartbeat.interval).filter(|interval| !interval.is_zero()),
            heartbeat_style: match heartbeat.format {
                HeartbeatFormat::Comment => HeartbeatStyle::Comment,
                HeartbeatFormat::Event => HeartbeatStyle::Event,
                HeartbeatFormat::Json => HeartbeatStyle::Json,
            },
            heartbeat_stats: heartbeat.include_stats,
            connections_max: self.options.max_connections,
            write_timeout: self.options.write_timeout,
            own_is_json,
        }
    }
}

/// Writes the rows of a stream.
struct Rows {
    own: Format,
    json: Format,
    pipeline: Arc<str>,
}

impl Rows {
    fn new(own: Format, pipeline: Arc<str>) -> Rows {
        Rows { own, json: Format::Json(TimestampFormat::Rfc3339), pipeline }
    }
}

impl Encode for Rows {
    fn rows<'a>(&'a self, batch: &'a Batch, content: Content) -> RowWriter<'a> {
        let format = match content {
            Content::Own => &self.own,
            Content::Json => &self.json,
            Content::Raw => &Format::Raw,
        };
        let encoder = RowEncoder::new(batch, format, &self.pipeline);
        Box::new(move |row, out| encoder.write(row, out))
    }

    fn own_is_json(&self) -> bool {
        matches!(self.own, Format::Json(_))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::base::task;
    use crate::config::ComponentKind;
    use crate::flow::Queue;
    use crate::testing;

    fn built(options: serde_json::Value) -> Result<Http, Vec<String>> {
        testing::build::<Http>(ComponentKind::Sink, options)
    }

    async fn push(queue: &Queue, lines: &[&str]) {
        queue.push(Batch::from_lines("t", lines)).await;
    }

    #[test]
    fn paths_and_public_addresses_are_checked() {
        for (options, message) in [
            (json!({ "listen": "0.0.0.0:8081" }), "other machines can reach `0.0.0.0:8081` without a guard"),
            (
                json!({ "stream_path": "logs" }),
                "invalid path: `logs`: it must start with `/` and name something",
            ),
            (json!({ "stream_path": "/a/../b" }), "invalid path: `/a/../b`: it must not hold `.` or `..`"),
            (
                json!({ "stream_path": "/a b" }),
                "invalid path: `/a b`: letters, digits and `/-_.~` are allowed",
            ),
            (
                json!({ "status_path": "/metrics" }),
                "invalid path: `/metrics`: the server keeps this path for itself",
            ),
            (json!({ "write_timeout": "0" }), "`write_timeout` is out of range: it must be longer than zero"),
        ] {
            assert_eq!(built(options).unwrap_err(), [message]);
        }
        assert!(built(json!({ "listen": "0.0.0.0:8081", "insecure_public": true })).is_ok());
        assert!(built(json!({ "listen": "127.0.0.1:0", "status_path": "/metrics" })).is_ok());
    }

    #[tokio::test]
    async fn on_the_router_rows_are_delivered_once_they_can_be_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let cx = testing::task_cx(ComponentKind::Sink, "http", dir.path());
        let (queue, mut inlet) = testing::queue();
        let mut sink = built(json!({ "history": { "max_events": 2 }, "status_path": "/how" })).unwrap();
        // Two more were let go by the buffer: they have numbers, which subscribers are told of.
        cx.meter.dropped(crate::flow::Reason::BufferFullOldest, 2);
        push(&queue, &["a", "b", "c"]).await;
        queue.close();
        sink.run(&mut inlet, &cx).await.unwrap();
        assert_eq!(queue.meter().snapshot().delivered_events, 3);
        let router = cx.shared.get::<Router>();
        let stream = router.stream_of("test").unwrap();
        assert_eq!((stream.ring.head(), stream.ring.history_events()), (6, 2));
        assert!(router.find("/test/stream").is_some() && router.find("/how").is_some());
        assert!(!stream.ring.is_attached());
    }

    #[tokio::test]
    async fn a_listener_of_its_own_serves_the_stream_and_its_status() {
        let dir = tempfile::tempdir().unwrap();
        let cx = testing::task_cx(ComponentKind::Sink, "http", dir.path());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (queue, mut inlet) = testing::queue();
        let options =
            json!({ "listen": free.to_string(), "format": { "type": "text", "template": "<{message}>" } });
        let mut sink = built(options).unwrap();
        let run = task::spawn({
            let cx = cx.clone();
            async move { sink.run(&mut inlet, &cx).await }
        });
        cx.health.started().await;
        push(&queue, &["hello"]).await;
        let ask = |target: &'static str| async move {
            let mut socket = TcpStream::connect(free).await.unwrap();
            let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            socket.read_to_string(&mut text).await.unwrap();
            text
        };
        for target in ["/stream?tail=1&limit=1", "/test/stream?tail=1&limit=1"] {
            let mut text = ask(target).await;
            while !text.contains("message") && !text.contains("<hello>") {
                text = ask(target).await;
            }
            assert!(text.contains("-1\ndata: <hello>\n\n"), "{text}");
        }
        let lines = ask("/stream?tail=1&limit=1&format=ndjson").await;
        assert!(lines.contains("\"message\":\"hello\"}\n"), "{lines}");
        assert!(ask("/status").await.contains("\"received\":"), "status");
        let lost = ask("/nothing").await;
        assert!(lost.starts_with("HTTP/1.1 404") && lost.contains("/test/stream"), "{lost}");
        // The input ends: so do the streams, and the sink.
        let following = task::spawn(ask("/stream"));
        while cx.meter.snapshot().clients == 0 {
            task::spawn(async {}).await.unwrap();
        }
        push(&queue, &["last"]).await;
        queue.close();
        let text = following.await.unwrap();
        assert!(text.contains("<last>") && text.contains("event: bye"), "{text}");
        run.await.unwrap().unwrap();
    }
}
