//! The `http_client` sink: sends events to HTTP receivers in batches, again until each event was answered with 2xx
//! or refused for good, over connections that are kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderName, HeaderValue, Method};

use crate::base::rng::Rng;
use crate::batch::Batch;
use crate::codec::compression::Compression;
use crate::codec::encode::Format;
use crate::config::{
    BatchOptions, ClientAuthOptions, ConcurrencyOption, FormatOptions, FormatType, RetryBackoff,
    RetryOptions, Secret, TlsClientOptions, choices, defaults, options,
};
use crate::flow::{BuildCx, Component, Fault, Inlet, Sink, TaskCx};
use crate::net::dial::{Dial, Endpoint, NetDial, Proxy};
use crate::net::requests::{
    BodyEncoder, Client, Concurrency, Dispatch, DispatchOptions, Headers, Layout, Probes, Target,
};
use crate::net::tls::client::ClientTls;
use crate::net::upstream::{BreakerPolicy, Strategy, Trials, Upstreams};

choices! {
    /// Which of several receivers gets the next request.
    pub enum HttpStrategy {
        /// The first that works, in the order of `urls`.
        Failover = "failover",
        /// Each in turn.
        RoundRobin = "round_robin",
        /// The one with the fewest requests under way.
        LeastPending = "least_pending",
    }
}

choices! {
    /// The request method.
    pub enum HttpMethod {
        /// POST
        Post = "POST",
        /// PUT
        Put = "PUT",
        /// PATCH
        Patch = "PATCH",
    }
}

choices! {
    /// How bodies are compressed.
    pub enum HttpCompression {
        /// Not at all.
        None = "none",
        /// `content-encoding: gzip`
        Gzip = "gzip",
        /// `content-encoding: zstd`
        Zstd = "zstd",
        /// `content-encoding: deflate`
        Deflate = "deflate",
        /// `content-encoding: snappy`, one block
        Snappy = "snappy",
    }
}

choices! {
    /// How events are put together in a body.
    pub enum HttpBody {
        /// Each is followed by a newline: NDJSON where events are JSON, plain lines where they are not.
        Lines = "lines",
        /// A JSON array of all; events must be JSON.
        JsonArray = "json_array",
    }
}

options! {
    /// How a receiver that failed is asked whether it is back.
    pub struct HttpHealthOptions {
        /// The path that is asked with GET; 2xx is a yes.
        pub path: String,
        /// How often.
        #[range(Duration::from_millis(100)..=Duration::from_secs(3600))]
        pub interval: Duration = Duration::from_secs(5),
    }
}

options! {
    /// Options of the `http_client` sink.
    pub struct HttpClientOptions {
        /// Where events are sent: an `http://` or `https://` URL. Redirects are not followed.
        pub url: Option<String> = None,
        /// Several such places, instead of `url`. One that fails again and again is left alone for a while.
        pub urls: Vec<String> = Vec::new(),
        /// Which of them gets the next request.
        pub strategy: HttpStrategy = HttpStrategy::Failover,
        /// How a receiver that failed is asked whether it is back. Default: the next request finds out.
        pub health: Option<HttpHealthOptions> = None,
        /// The request method.
        pub method: HttpMethod = HttpMethod::Post,
        /// Header fields of every request; values may be secrets.
        pub headers: BTreeMap<String, Secret> = BTreeMap::new(),
        /// Credentials. Those in a file are read again when the receiver refuses them.
        pub auth: Option<ClientAuthOptions> = None,
        /// How bodies are compressed.
        pub compression: HttpCompression = HttpCompression::None,
        /// How events are put together in a body. `content-type` follows from it, unless `headers` says otherwise.
        pub body: HttpBody = HttpBody::Lines,
        /// How long a request may take, from connecting to the end of the answer.
        #[range(Duration::from_millis(1)..=Duration::from_secs(3600))]
        pub timeout: Duration = Duration::from_secs(30),
        /// How many requests are under way at a time. `"adaptive"` begins with 1 and goes up while answers
        /// stay quick, to 16 or as many full batches as make 4 MiB, and down when they do not, or are 429 or 503. Only
        /// with 1 do events arrive in order.
        pub concurrency: ConcurrencyOption = ConcurrencyOption::Adaptive,
        /// How much goes into a request.
        pub batch: BatchOptions = defaults(),
        /// When a request is sent again: after failures of the connection, timeouts, 408, 425, 429 and 5xx.
        /// Redirects and 401, 403, 404 and the like, which other events would meet as well, are tried again slowly,
        /// and the sink counts as not ready meanwhile. Other 4xx cut the request in two until the events that are
        /// not wanted stand alone. The header `idempotency-key` is the same at each attempt.
        pub retry: RetryOptions = defaults(),
        /// The pipeline that takes events which are refused for good; it needs a source of type `pipeline`. Without
        /// one they are dropped and counted as rejected.
        pub dead_letter: Option<String> = None,
        /// How `https://` is spoken. Default: with the certificate authorities of the system.
        pub tls: Option<TlsClientOptions> = None,
        /// An HTTP proxy to go through, `http://user:password@host:port`.
        pub proxy: Option<Secret> = None,
        /// How events are written; by default as the pipeline says, or as JSON.
        pub format: Option<FormatOptions> = None,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct HttpClient {
    targets: Vec<Target>,
    /// Where each of them is asked for its health.
    probed: Option<Vec<Target>>,
    method: Method,
    headers: Headers,
    format: Format,
    tls: ClientTls,
    proxy: Option<Proxy>,
    options: HttpClientOptions,
}

impl Component for HttpClient {
    const NAME: &'static str = "http_client";
    const SUMMARY: &'static str = "sends batches of events to HTTP receivers";
    const EXAMPLE: &'static str = "type = \"http_client\"\nurl = \"http://127.0.0.1:9000/ingest\"\n\
        compression = \"gzip\"\nbatch = { max_events = 1000, max_wait = \"100ms\" }\n";
    type Options = HttpClientOptions;

    fn build(options: HttpClientOptions, cx: &mut BuildCx<'_>) -> Option<HttpClient> {
        let format = Format::build(options.format.as_ref(), FormatType::Json, cx);
        let tls_options = options.tls.clone().unwrap_or_else(defaults);
        let tls = ClientTls::build(&tls_options, &["h2", "http/1.1"], cx);
        let targets = targets(&options, tls.as_ref(), cx);
        let probed = probed(&options, targets.as_deref().unwrap_or_default(), cx);
        let headers = headers(&options, cx);
        let proxy = proxy(&options, cx);
        if let Some(name) = &options.dead_letter {
            cx.claim("feeds pipeline", name.clone(), "dead_letter");
        }
        let is_json = format.as_ref().is_none_or(|format| matches!(format, Format::Json(_)));
        if options.body == HttpBody::JsonArray && !is_json {
            cx.error("body", "`body = \"json_array\"` needs events that are JSON")
                .hint("set format = { type = \"json\" }, or body = \"lines\"");
            return None;
        }
        if options.retry.max_delay < options.retry.initial_delay {
            cx.error("retry", "`max_delay` is shorter than `initial_delay`");
            return None;
        }
        let method = match options.method {
            HttpMethod::Post => Method::POST,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Patch => Method::PATCH,
        };
        let (targets, probed, headers, format) = (targets?, probed?, headers?, format?);
        let (tls, proxy) = (tls?, proxy?);
        Some(HttpClient { targets, probed, method, headers, format, tls, proxy, options })
    }
}

/// The URLs, taken apart, with the name that certificates must have.
fn targets(
    options: &HttpClientOptions,
    tls: Option<&ClientTls>,
    cx: &mut BuildCx<'_>,
) -> Option<Vec<Target>> {
    let written: Vec<(&String, Option<usize>)> = match (&options.url, options.urls.as_slice()) {
        (Some(url), []) => vec![(url, None)],
        (None, urls @ [_, ..]) => urls.iter().enumerate().map(|(i, url)| (url, Some(i))).collect(),
        (Some(_), _) => {
            cx.error("urls", "`url` and `urls` are both set").hint("keep one of them");
            return None;
        }
        (None, []) => {
            cx.error("url", "no receiver: neither `url` nor `urls` is set")
                .hint("set url = \"http://host:port/path\"");
            return None;
        }
    };
    let mut targets = Vec::new();
    let mut sound = true;
    for (url, index) in written {
        match Target::parse(url) {
            Ok(mut target) => {
                if let (Some(_), Some(name)) = (&target.endpoint.tls, tls.and_then(ClientTls::server_name)) {
                    target.endpoint = target.endpoint.with_tls(Some(name));
                }
                targets.push(target);
            }
            Err(error) => {
                sound = false;
                let node = cx.node.get(if index.is_some() { "urls" } else { "url" });
                if error.secret
                    && let Some(node) = node
                {
                    cx.diagnostics.mask(&node.origin);
                }
                let message = format!("invalid URL: {}", error.why);
                match index {
                    Some(index) => cx.error_at("urls", index, message),
                    None => cx.error("url", message),
                }
                .hint(if error.secret {
                    "credentials go into auth = { basic = { user = \"…\", password = { file = \"…\" } } }"
                } else {
                    "write \"http://host:port/path\" or \"https://host/path\""
                });
            }
        }
    }
    sound.then_some(targets)
}

/// The places that are asked for the targets' health, if they are.
fn probed(
    options: &HttpClientOptions,
    targets: &[Target],
    cx: &mut BuildCx<'_>,
) -> Option<Option<Vec<Target>>> {
    let Some(health) = &options.health else { return Some(None) };
    let places: Result<Vec<Target>, _> = targets.iter().map(|target| target.at(&health.path)).collect();
    match places {
        Ok(places) => Some(Some(places)),
        Err(error) => {
            cx.error("health", format!("invalid `path`: {}", error.why));
            None
        }
    }
}

fn headers(options: &HttpClientOptions, cx: &mut BuildCx<'_>) -> Option<Headers> {
    let mut fixed = HeaderMap::new();
    let agent = concat!("weir/", env!("CARGO_PKG_VERSION"));
    fixed.insert(USER_AGENT, HeaderValue::from_static(agent));
    let mut headers = Headers::new(fixed);
    if let Some(auth) = &options.auth {
        if auth.basic.is_some() == auth.bearer.is_some() {
            cx.error("auth", "`auth` has exactly one of `basic` and `bearer`");
            return None;
        }
        headers.add_auth(auth);
    }
    for (name, value) in &options.headers {
        let Ok(parsed) = HeaderName::try_from(name.as_str()) else {
            cx.error("headers", format!("{name:?} is not the name of a header"));
            return None;
        };
        if [CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING].contains(&parsed) {
            cx.error("headers", format!("the header {parsed} follows from the body and cannot be set"));
            return None;
        }
        headers.add(parsed, value.clone());
    }
    Some(headers)
}

fn proxy(options: &HttpClientOptions, cx: &mut BuildCx<'_>) -> Option<Option<Proxy>> {
    let Some(secret) = &options.proxy else { return Some(None) };
    if let Some(url) = cx.node.get("proxy").and_then(|node| node.as_str())
        && let Err(why) = Proxy::check(url)
    {
        cx.error("proxy", format!("invalid proxy: {why}"));
        return None;
    }
    Some(Some(Proxy::new(secret.clone())))
}

impl HttpClient {
    fn dial(&self) -> Arc<dyn Dial> {
        let (proxy, tls) = (self.proxy.clone(), Some(self.tls.clone()));
        let connect_timeout = NetDial::default().connect_timeout.min(self.options.timeout);
        // Sent bytes that nobody acknowledges are noticed by the deadline of the request.
        Arc::new(NetDial { connect_timeout, proxy, tls, ..NetDial::default() })
    }

    fn upstreams(&self) -> Upstreams {
        let strategy = match self.options.strategy {
            HttpStrategy::Failover => Strategy::Failover,
            HttpStrategy::RoundRobin => Strategy::RoundRobin,
            HttpStrategy::LeastPending => Strategy::LeastPending,
        };
        let retry = &self.options.retry;
        let policy = BreakerPolicy {
            // Where there is another receiver, one failure is enough to try that first.
            failures_max: if self.targets.len() > 1 { 1 } else { 5 },
            pause_initial: retry.initial_delay,
            pause_max: retry.max_delay,
            doubles: retry.backoff == RetryBackoff::Exponential,
            trials: if self.probed.is_some() { Trials::Probe } else { Trials::Work },
        };
        let endpoints: Vec<Endpoint> = self.targets.iter().map(|target| target.endpoint.clone()).collect();
        Upstreams::new(endpoints, strategy, policy, Rng::from_entropy())
    }

    /// All that a dispatch needs, with connections made by `dial` and chance taken from `rng`.
    fn dispatch_options(&self, dial: &Arc<dyn Dial>, rng: Rng, cx: &TaskCx) -> DispatchOptions {
        let options = &self.options;
        let layout = match options.body {
            HttpBody::Lines => Layout::Lines,
            HttpBody::JsonArray => Layout::JsonArray,
        };
        let compression = match options.compression {
            HttpCompression::None => None,
            HttpCompression::Gzip => Some(Compression::Gzip),
            HttpCompression::Zstd => Some(Compression::Zstd),
            HttpCompression::Deflate => Some(Compression::Deflate),
            HttpCompression::Snappy => Some(Compression::Snappy),
        };
        let encoder = BodyEncoder::new(self.format.clone(), layout, compression, cx.site.pipeline.clone());
        let mut headers = self.headers.clone();
        headers.set_default(CONTENT_TYPE, HeaderValue::from_static(encoder.content_type()));
        if let Some(coding) = encoder.content_encoding() {
            headers.set_default(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        let clients = |targets: &[Target], method: &Method| {
            let client = |target: &Target| {
                Arc::new(Client::new(target.clone(), method.clone(), options.timeout, dial.clone()))
            };
            targets.iter().map(client).collect()
        };
        let probes = self.probed.as_deref().zip(options.health.as_ref()).map(|(places, health)| Probes {
            clients: clients(places, &Method::GET),
            interval: health.interval,
        });
        DispatchOptions {
            clients: clients(&self.targets, &self.method),
            probes,
            upstreams: self.upstreams(),
            encoder,
            headers,
            batch: options.batch.clone(),
            retry: options.retry.clone(),
            concurrency: match options.concurrency {
                ConcurrencyOption::Adaptive => Concurrency::adaptive(options.batch.max_bytes.0),
                ConcurrencyOption::Fixed(n) => Concurrency::Fixed(n),
            },
            dead_letter: options.dead_letter.clone(),
            rng,
        }
    }
}

#[async_trait]
impl Sink for HttpClient {
    async fn run(&mut self, inlet: &mut Inlet, cx: &TaskCx) -> Result<(), Fault> {
        let options = self.dispatch_options(&self.dial(), Rng::from_entropy(), cx);
        options.headers.forget();
        // A secret that cannot be read is told at the start, not with the first event.
        options.headers.resolve().await.map_err(Fault::retry)?;
        // Ready whether the receiver is there or not: rows wait in the buffer until it is.
        cx.ready();
        Dispatch::new(options, cx).run(inlet).await;
        Ok(())
    }

    fn written(&self, batch: &Batch, pipeline: &Arc<str>) -> Vec<Vec<u8>> {
        self.format.each(batch, pipeline)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::ComponentKind;
    use crate::testing;

    fn build(options: Value) -> Result<HttpClient, Vec<String>> {
        testing::build::<HttpClient>(ComponentKind::Sink, options)
    }

    #[test]
    fn mistakes_are_told_and_passwords_are_not() {
        let url = "http://h/";
        for (options, why) in [
            (json!({}), "no receiver"),
            (json!({ "url": url, "urls": [url] }), "`url` and `urls` are both set"),
            (json!({ "url": "h:80" }), "it needs http:// or https:// in front"),
            (json!({ "urls": [url, "http://u:secret@h/"] }), "invalid URL: it holds a user or a password"),
            (json!({ "url": url, "headers": { "a b": "x" } }), "is not the name of a header"),
            (json!({ "url": url, "headers": { "Content-Length": "5" } }), "follows from the body"),
            (json!({ "url": url, "auth": {} }), "exactly one of"),
            (
                json!({ "url": url, "body": "json_array", "format": { "type": "raw" } }),
                "needs events that are JSON",
            ),
            (json!({ "url": url, "retry": { "initial_delay": "1m" } }), "`max_delay` is shorter"),
            (json!({ "url": url, "proxy": "socks5://u:secret@h:1" }), "proxies are reached by http"),
            (json!({ "url": url, "tls": { "key_file": "k" } }), "belong together"),
            (json!({ "url": url, "concurrency": 0 }), "no number of requests"),
            (json!({ "url": url, "health": { "path": "up" } }), "a path begins with /"),
        ] {
            let errors = build(options.clone()).expect_err("it is refused").join("\n");
            assert!(errors.contains(why) && !errors.contains("secret"), "{options}: {errors}");
        }
    }

    #[test]
    fn every_option_finds_its_place() {
        let sink = build(json!({
            "urls": ["https://a/x", "https://10.0.0.1:8443/x", "http://c/"], "strategy": "least_pending", "method": "PUT",
            "headers": { "x-a": "1" }, "auth": { "bearer": "t" }, "compression": "snappy", "body": "json_array",
            "concurrency": 3, "tls": { "server_name": "logs.test" }, "proxy": "http://p:1", "dead_letter": "d",
        }))
        .unwrap();
        let names: Vec<_> = sink.targets.iter().map(|t| t.endpoint.tls.as_deref()).collect();
        assert_eq!(names, [Some("logs.test"), Some("logs.test"), None]);
        assert!(!format!("{sink:?}").contains("\"t\""));
        let cx = testing::task_cx(ComponentKind::Sink, "http_client", std::path::Path::new("/none"));
        let options = sink.dispatch_options(&sink.dial(), Rng::seeded(1), &cx);
        assert_eq!((options.clients.len(), options.concurrency.limit()), (3, 3));
        assert_eq!(options.encoder.content_type(), "application/json");
        assert_eq!((options.encoder.content_encoding(), sink.method.as_str()), (Some("snappy"), "PUT"));
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_read_is_told_at_the_start() {
        let mut sink =
            build(json!({ "url": "http://h/", "headers": { "x": { "file": "/none/x" } } })).unwrap();
        let (_queue, mut inlet) = testing::queue();
        let cx = testing::task_cx(ComponentKind::Sink, "http_client", std::path::Path::new("/none"));
        let fault = sink.run(&mut inlet, &cx).await.unwrap_err();
        assert!(fault.why().contains("cannot read the secret file /none/x"), "{fault}");
    }
}
