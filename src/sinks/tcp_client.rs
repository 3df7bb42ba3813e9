//! The `tcp_client` sink: sends events to a receiver over TCP or TLS, or to one of several. What TCP can promise and
//! what not is said in [`lanes`](crate::net::lanes).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::rng::Rng;
use crate::batch::Batch;
use crate::codec::encode::Format;
use crate::codec::framing::Scheme;
use crate::codec::outgoing::Outgoing;
use crate::config::{FormatOptions, FormatType, RetryBackoff, RetryOptions, Secret, TlsClientOptions};
use crate::config::{choices, defaults, options};
use crate::flow::{BuildCx, Component, Fault, Inlet, Sink, TaskCx};
use crate::net::dial::{Dial, Endpoint, NetDial, Proxy};
use crate::net::lanes::{LaneLimits, Lanes};
use crate::net::tls::client::ClientTls;
use crate::net::upstream::{BreakerPolicy, Strategy, Trials, Upstreams};

choices! {
    /// How the receiver tells events apart.
    pub enum TcpClientFraming {
        /// Each ends with a newline.
        Newline = "newline",
        /// Each ends with a zero byte.
        Nul = "nul",
        /// Each follows its length in decimal digits and a space (RFC 6587): any byte may be in an event. One that
        /// is empty is sent as a line break, since a length is never 0.
        OctetCounted = "octet_counted",
        /// Each follows its length as four bytes, big-endian: any byte may be in an event.
        LengthPrefixed = "length_prefixed",
    }
}

options! {
    /// Options of the `tcp_client` sink.
    pub struct TcpClientOptions {
        /// The receiver, `host:port`. Its name is looked up anew for each connection.
        pub address: Option<String> = None,
        /// Several receivers, instead of `address`; each has a connection of its own.
        pub addresses: Vec<String> = Vec::new(),
        /// Which of several receivers takes the next events. One that fails is left alone for a while and probed
        /// until it is back; what it did not acknowledge goes to another.
        pub strategy: Strategy = Strategy::Failover,
        /// How the receiver tells events apart.
        pub framing: TcpClientFraming = TcpClientFraming::Newline,
        /// The time for a connection to be made, from the name's look-up to the TLS handshake.
        #[range(Duration::from_millis(1)..=Duration::from_secs(3600))]
        pub connect_timeout: Duration = Duration::from_secs(10),
        /// How long the receiver may take nothing and acknowledge nothing before the connection is made anew.
        #[range(Duration::from_millis(100)..=Duration::from_secs(86_400))]
        pub write_timeout: Duration = Duration::from_secs(30),
        /// Quiet time after which the system asks whether the receiver's machine is still there; "0" for never.
        pub keep_alive: Duration = Duration::from_secs(60),
        /// Age at which a connection is made anew, for receivers behind a name or a balancer that changes.
        #[range(Duration::from_secs(1)..=Duration::from_secs(365 * 86_400))]
        pub reconnect_after: Option<Duration> = None,
        /// Encrypts the connection.
        pub tls: Option<TlsClientOptions> = None,
        /// An HTTP proxy to go through, `http://host:port` or `http://user:password@host:port`. Proxies that the
        /// environment names (`http_proxy`, `all_proxy`) are not used.
        pub proxy: Option<Secret> = None,
        /// The pauses between attempts to connect, and when events are given up.
        pub retry: RetryOptions = defaults(),
        /// How events are written; by default as the pipeline says, or as JSON.
        pub format: Option<FormatOptions> = None,
    }
}

/// Memory that unacknowledged events keep alive, for each connection, in bytes: what a socket's buffer grows to at
/// most by itself (Linux: 4 MiB), so that it is hardly ever the limit of a healthy connection.
const WINDOW_BYTES_MAX: u64 = 4 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub struct TcpClient {
    options: TcpClientOptions,
    endpoints: Vec<Endpoint>,
    format: Format,
    dial: Arc<dyn Dial>,
}

impl Component for TcpClient {
    const NAME: &'static str = "tcp_client";
    const SUMMARY: &'static str = "sends to a receiver over TCP or TLS, or to one of several";
    const EXAMPLE: &'static str =
        "type = \"tcp_client\"\naddress = \"logs.example.com:6514\"\nframing = \"octet_counted\"\n";
    type Options = TcpClientOptions;

    fn build(options: TcpClientOptions, cx: &mut BuildCx<'_>) -> Option<TcpClient> {
        let format = Format::build(options.format.as_ref(), FormatType::Json, cx);
        let endpoints = endpoints(&options, cx);
        let tls = options.tls.as_ref().map(|tls| ClientTls::build(tls, &[], cx));
        let proxy = options.proxy.as_ref().map(|url| proxy(url, cx));
        if options.retry.max_delay < options.retry.initial_delay {
            cx.error("retry", "`retry.max_delay` is shorter than `retry.initial_delay`");
            return None;
        }
        // Some(None) was complained about.
        let (tls, proxy) =
            (tls.map_or(Some(None), |t| t.map(Some))?, proxy.map_or(Some(None), |p| p.map(Some))?);
        let dial = NetDial {
            connect_timeout: options.connect_timeout,
            keep_alive: Some(options.keep_alive).filter(|after| !after.is_zero()),
            unacknowledged_max: Some(options.write_timeout),
            proxy,
            tls,
        };
        Some(TcpClient { endpoints: endpoints?, format: format?, dial: Arc::new(dial), options })
    }
}

fn endpoints(options: &TcpClientOptions, cx: &mut BuildCx<'_>) -> Option<Vec<Endpoint>> {
    let texts = match (&options.address, options.addresses.as_slice()) {
        (Some(one), []) => std::slice::from_ref(one),
        (None, many) if !many.is_empty() => many,
        (Some(_), _) => {
            cx.error("addresses", "both `address` and `addresses` are set").hint("use one of them");
            return None;
        }
        (None, _) => {
            cx.error("address", "no receiver: neither `address` nor `addresses` is set")
                .hint("set address = \"host:port\"");
            return None;
        }
    };
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let complaint = match Endpoint::parse(text) {
            Ok(endpoint)
                if endpoints.iter().any(|e| (&e.host, e.port) == (&endpoint.host, endpoint.port)) =>
            {
                format!("{text} is there twice")
            }
            Ok(endpoint) => {
                endpoints.push(match &options.tls {
                    Some(tls) => endpoint.with_tls(tls.server_name.as_deref()),
                    None => endpoint,
                });
                continue;
            }
            Err(why) => format!("invalid address: {why}"),
        };
        if options.address.is_some() {
            cx.error("address", complaint);
        } else {
            cx.error_at("addresses", index, complaint);
        }
    }
    (endpoints.len() == texts.len()).then_some(endpoints)
}

fn proxy(url: &Secret, cx: &mut BuildCx<'_>) -> Option<Proxy> {
    if let Some(text) = url.in_place()
        && let Err(why) = Proxy::check(text)
    {
        cx.error("proxy", format!("invalid proxy: {why}"));
        return None;
    }
    Some(Proxy::new(url.clone()))
}

#[async_trait]
impl Sink for TcpClient {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        // A receiver that is not there yet is no reason not to start: events wait for it.
        cx.ready();
        let retry = &self.options.retry;
        let policy = BreakerPolicy {
            failures_max: 1,
            pause_initial: retry.initial_delay,
            pause_max: retry.max_delay,
            doubles: retry.backoff == RetryBackoff::Exponential,
            trials: Trials::Probe,
        };
        let limits = LaneLimits {
            window_bytes_max: WINDOW_BYTES_MAX,
            write_timeout: self.options.write_timeout,
            reconnect_after: self.options.reconnect_after,
            attempts_max: retry.max_attempts,
        };
        let scheme = match self.options.framing {
            TcpClientFraming::Newline => Scheme::Newline,
            TcpClientFraming::Nul => Scheme::Nul,
            TcpClientFraming::OctetCounted => Scheme::OctetCounted,
            TcpClientFraming::LengthPrefixed => Scheme::LengthPrefixed,
        };
        let outgoing = Outgoing::new(self.format.clone(), scheme, cx.site.pipeline.clone());
        let upstreams =
            Upstreams::new(self.endpoints.clone(), self.options.strategy, policy, Rng::from_entropy());
        Lanes::new(upstreams, &self.dial, outgoing, limits).run(inlet, cx).await;
        Ok(())
    }

    fn written(&self, batch: &Batch, pipeline: &Arc<str>) -> Vec<Vec<u8>> {
        self.format.each(batch, pipeline)
    }
}
