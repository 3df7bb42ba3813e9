//! The `tcp` sink: a server that streams lines to every client that connects. A client that cannot keep up misses
//! lines and, where they are JSON, is told how many.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::units::ByteCount;
use crate::batch::Batch;
use crate::codec::encode::{Format, RowEncoder};
use crate::config::{
    AccessOptions, FormatOptions, FormatType, Listen, TlsServerOptions, choices, defaults, options,
};
use crate::flow::{BuildCx, Component, Fault, Inlet, Sink, TaskCx};
use crate::net::notes::HeartbeatStyle;
use crate::net::ring::{Ring, RingBounds};
use crate::net::segment::{Content, Encode, RowWriter};
use crate::net::{self, EntranceConfig, Router, StreamOptions, StreamRoute};

options! {
    /// What every new client is sent first.
    pub struct TcpHistoryOptions {
        /// Most events.
        #[range(0..=10_000_000)]
        pub max_events: u64 = 0,
        /// Most memory for their lines.
        #[range(ByteCount(0)..=ByteCount::gib(16))]
        pub max_bytes: ByteCount = ByteCount::mib(4),
    }
}

choices! {
    /// What a sign of life looks like.
    pub enum TcpHeartbeatFormat {
        /// An empty line.
        Empty = "empty",
        /// A JSON object with `"weir":"heartbeat"`.
        Json = "json",
    }
}

options! {
    /// Signs of life on a connection that has nothing to say.
    pub struct TcpHeartbeatOptions {
        /// Time without a line after which one is sent; "0" for none.
        pub interval: Duration = Duration::ZERO,
        /// What it looks like.
        pub format: TcpHeartbeatFormat = TcpHeartbeatFormat::Empty,
    }
}

options! {
    /// Options of the `tcp` sink.
    pub struct TcpOptions {
        /// The address to listen on.
        pub listen: Listen,
        /// Encryption of the connections.
        pub tls: Option<TlsServerOptions> = None,
        /// Who may connect; limits on requests do not apply.
        pub access: Option<AccessOptions> = None,
        /// What every new client is sent first.
        pub history: TcpHistoryOptions = defaults(),
        /// Signs of life while there is nothing to say.
        pub heartbeat: TcpHeartbeatOptions = defaults(),
        /// Most clients at a time; more wait to be accepted.
        #[range(1..=1_000_000)]
        pub max_connections: usize = 1000,
        /// How long a write may make no progress before the client is let go.
        pub write_timeout: Duration = Duration::from_secs(30),
        /// How events are written; by default as the pipeline says, or as JSON.
        pub format: Option<FormatOptions> = None,
        /// Allows `listen` on an address that other machines reach: whoever does reads every event.
        pub insecure_public: bool = false,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Tcp {
    options: TcpOptions,
    entrance: EntranceConfig,
    format: Format,
}

impl Component for Tcp {
    const NAME: &'static str = "tcp";
    const SUMMARY: &'static str = "streams lines to every client that connects";
    const EXAMPLE: &'static str =
        "type = \"tcp\"\nlisten = \"127.0.0.1:9000\"\nhistory = { max_events = 100 }\n";
    type Options = TcpOptions;

    fn build(options: TcpOptions, cx: &mut BuildCx<'_>) -> Option<Tcp> {
        let format = Format::build(options.format.as_ref(), FormatType::Json, cx);
        let (listen, tls) = (&options.listen, options.tls.as_ref());
        let entrance =
            EntranceConfig::build(listen, tls, options.access.as_ref(), None, options.insecure_public, cx);
        let mut sound = true;
        if options.write_timeout.is_zero() {
            cx.error("write_timeout", "`write_timeout` is out of range: it must be longer than zero");
            sound = false;
        }
        let entrance = entrance?;
        sound.then_some(Tcp { options, entrance, format: format? })
    }
}

#[async_trait]
impl Sink for Tcp {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        let rows = Rows { format: self.format.clone(), pipeline: cx.site.pipeline.clone() };
        let own_is_json = rows.own_is_json();
        let encoder: Arc<dyn Encode> = Arc::new(rows);
        let bounds = RingBounds {
            history_events: self.options.history.max_events,
            history_bytes: self.options.history.max_bytes.0,
            ..RingBounds::default()
        };
        let name = cx.site.pipeline.clone();
        // The router keeps it, so that history outlives a restart.
        let kept = cx.shared.get::<Router>();
        let ring = kept.ring(&cx.site, |epoch| Ring::new(name, epoch, bounds, encoder.clone()));
        ring.reconfigure(bounds, encoder);
        let listen = &self.options.listen;
        let attached = ring.attach();
        let entrance = self.entrance.bind(cx).await?;
        cx.ready();
        let options = self.stream_options(own_is_json);
        let (site, meter) = (cx.site.clone(), cx.meter.clone());
        let ending = cx.shutdown.child();
        let stream = StreamRoute { site, ring: ring.clone(), meter, options };
        let served = net::serve_lines(entrance, stream, ending.clone());
        let served = net::append_and_serve(inlet, &ring, &cx.meter, served, attached, &ending).await;
        served.map_err(|e| Fault::retry(format!("cannot serve on {listen}: {e}")))
    }

    fn written(&self, batch: &Batch, pipeline: &Arc<str>) -> Vec<Vec<u8>> {
        self.format.each(batch, pipeline)
    }
}

impl Tcp {
    fn stream_options(&self, own_is_json: bool) -> StreamOptions {
        let heartbeat = &self.options.heartbeat;
        StreamOptions {
            heartbeat: Some(heartbeat.interval).filter(|interval| !interval.is_zero()),
            heartbeat_style: match heartbeat.format {
                TcpHeartbeatFormat::Empty => HeartbeatStyle::Comment,
                TcpHeartbeatFormat::Json => HeartbeatStyle::Json,
            },
            heartbeat_stats: false,
            connections_max: self.options.max_connections,
            write_timeout: self.options.write_timeout,
            own_is_json,
        }
    }
}

/// Writes the lines.
struct Rows {
    format: Format,
    pipeline: Arc<str>,
}

impl Encode for Rows {
    fn rows<'a>(&'a self, batch: &'a Batch, _: Content) -> RowWriter<'a> {
        let encoder = RowEncoder::new(batch, &self.format, &self.pipeline);
        Box::new(move |row, out| encoder.write(row, out))
    }

    fn own_is_json(&self) -> bool {
        matches!(self.format, Format::Json(_))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
    use tokio::net::TcpStream;

    use super::*;
    use crate::base::task;
    use crate::config::ComponentKind;
    use crate::testing;

    fn free() -> String {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    #[test]
    fn public_addresses_need_a_word() {
        let build = |options| testing::build::<Tcp>(ComponentKind::Sink, options);
        let refused = build(json!({ "listen": "[::]:9000" })).unwrap_err();
        assert_eq!(refused, ["other machines can reach `[::]:9000` without a guard"]);
        assert!(build(json!({ "listen": "[::]:9000", "insecure_public": true })).is_ok());
    }

    #[tokio::test]
    async fn every_client_gets_history_then_lines_until_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let cx = testing::task_cx(ComponentKind::Sink, "tcp", dir.path());
        let (queue, mut inlet) = testing::queue();
        let address = free();
        let options = json!({
            "listen": address, "history": { "max_events": 2 }, "format": { "type": "raw" },
            "heartbeat": { "interval": "30ms" },
        });
        let mut sink = testing::build::<Tcp>(ComponentKind::Sink, options).unwrap();
        let run = task::spawn({
            let cx = cx.clone();
            async move { sink.run(&mut inlet, &cx).await }
        });
        cx.health.started().await;
        queue.push(Batch::from_lines("t", ["a", "b", "c"])).await;
        while queue.meter().snapshot().delivered_events < 3 {
            tokio::task::yield_now().await;
        }
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = BufReader::new(TcpStream::connect(&address).await.unwrap());
            let mut lines = String::new();
            // The history, and an empty line as a sign of life.
            for _ in 0..3 {
                client.read_line(&mut lines).await.unwrap();
            }
            assert_eq!(lines, "b\nc\n\n");
            clients.push(client);
        }
        assert_eq!(cx.meter.snapshot().clients, 3);
        queue.push(Batch::from_lines("t", ["d"])).await;
        queue.close();
        for mut client in clients {
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest.trim_start_matches('\n'), "d\n");
        }
        run.await.unwrap().unwrap();
    }
}
