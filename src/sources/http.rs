//! The `http` source: takes in events that clients post, on the shared router or on a listener of its own, and
//! answers once they are delivered (or safe in a disk buffer).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::base::units::ByteCount;
use crate::codec::decode::{FieldType, Schema};
use crate::config::{AccessOptions, AuthOptions, Listen, TlsServerOptions, choices, options};
use crate::flow::{BuildCx, Component, Fault, Outlet, Source, TaskCx};
use crate::net::body::BodyLimits;
use crate::net::commit::Committer;
use crate::net::ingest::{Ingest, IngestOptions};
use crate::net::mount::{NothingElse, check_path};
use crate::net::{self, CorsOrigins, EntranceConfig, Router};

choices! {
    /// What a field of an event must be.
    pub enum SchemaType {
        /// A string.
        String = "string",
        /// A number.
        Number = "number",
        /// `true` or `false`.
        Bool = "bool",
        /// An object.
        Object = "object",
        /// An array.
        Array = "array",
        /// A string that holds an RFC 3339 time, or a number.
        Timestamp = "timestamp",
    }
}

options! {
    /// What every event must have; a request with one that does not is refused as a whole, with its place.
    pub struct SchemaOptions {
        /// Fields that must be there and not `null`; dots go into objects.
        pub required: Vec<String> = Vec::new(),
        /// Types of fields, for those that are there.
        pub types: BTreeMap<String, SchemaType> = BTreeMap::new(),
    }
}

options! {
    /// Options of the `http` source.
    pub struct HttpSourceOptions {
        /// An address to listen on; without it, the shared router takes the requests.
        pub listen: Option<Listen> = None,
        /// Path that events are posted to: `/<pipeline>/ingest`, and with `listen` also `/ingest`, unless set.
        pub path: Option<String> = None,
        /// Encryption of the connections to `listen`; the shared router's is `server.tls`.
        pub tls: Option<TlsServerOptions> = None,
        /// Who may connect to `listen`, and how much one may ask; for the shared router it is `server.access`.
        pub access: Option<AccessOptions> = None,
        /// Who one has to be at `listen`; for the shared router it is `server.auth`.
        pub auth: Option<AuthOptions> = None,
        /// Largest body of a request as it is sent; a larger one is answered 413.
        #[range(ByteCount(1)..=ByteCount::gib(1))]
        pub max_body_size: ByteCount = ByteCount::mib(10),
        /// Largest body once it is decompressed; a larger one is answered 413.
        #[range(ByteCount(1)..=ByteCount::gib(1))]
        pub max_decompressed_size: ByteCount = ByteCount::mib(64),
        /// How long a body may make no progress. One that takes longer on the whole must come with at least 1 KiB a
        /// second. Slower ones are answered 408.
        pub read_timeout: Duration = Duration::from_secs(10),
        /// How long the answer waits for the events to be delivered; then it is 503.
        pub settle_timeout: Duration = Duration::from_secs(30),
        /// What every event must have.
        pub schema: Option<SchemaOptions> = None,
        /// Allows `listen` on an address that other machines reach without a guard: whoever does writes into the
        /// logs.
        pub insecure_public: bool = false,
    }
}

/// Memory for bodies and what is not yet sent of them, unless single bodies may be larger.
const MEMORY_BYTES: usize = 64 << 20;
/// How long a listener of its own goes on after the source has ended, for requests whose events are on their way:
/// the sinks must not wait for it longer than that.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Clone)]
pub struct HttpSource {
    ingest: IngestOptions,
    listen: Option<(Listen, EntranceConfig)>,
    paths: Vec<String>,
}

impl Component for HttpSource {
    const NAME: &'static str = "http";
    const SUMMARY: &'static str = "events that clients post: JSON, NDJSON or plain lines, also compressed";
    const EXAMPLE: &'static str = "type = \"http\"\nmax_body_size = \"10MiB\"\nmax_decompressed_size = \"64MiB\"\n\
        read_timeout = \"10s\"\nsettle_timeout = \"30s\"\n";
    type Options = HttpSourceOptions;

    fn build(options: HttpSourceOptions, cx: &mut BuildCx<'_>) -> Option<HttpSource> {
        let own = format!("/{}/ingest", cx.site.pipeline);
        let mut sound = true;
        let paths = match &options.path {
            Some(path) => {
                sound &= check_path("path", path, options.listen.is_some(), cx);
                vec![path.clone()]
            }
            None if options.listen.is_some() => vec!["/ingest".to_owned(), own],
            None => vec![own],
        };
        for (key, timeout) in
            [("read_timeout", options.read_timeout), ("settle_timeout", options.settle_timeout)]
        {
            if timeout.is_zero() {
                cx.error(key, format!("`{key}` is out of range: it must be longer than zero"));
                sound = false;
            }
        }
        let listen = match &options.listen {
            Some(listen) => {
                let (tls, access, auth) =
                    (options.tls.as_ref(), options.access.as_ref(), options.auth.as_ref());
                let entrance = EntranceConfig::build(listen, tls, access, auth, options.insecure_public, cx);
                entrance.map(|entrance| Some((listen.clone(), entrance)))
            }
            None => {
                paths.iter().for_each(|path| cx.claim("route", path, "path"));
                sound &= no_guards_without_listen(&options, cx);
                Some(None)
            }
        };
        let listen = listen?;
        sound.then(|| HttpSource { ingest: ingest_options(&options), listen, paths })
    }
}

fn no_guards_without_listen(options: &HttpSourceOptions, cx: &mut BuildCx<'_>) -> bool {
    let given = [
        ("tls", options.tls.is_some()),
        ("access", options.access.is_some()),
        ("auth", options.auth.is_some()),
    ];
    for (key, _) in given.iter().filter(|(_, given)| *given) {
        cx.error(
            key,
            format!("`{key}` has no effect without `listen`: the shared router takes the requests"),
        )
        .hint(format!("set server.{key}, or give the source a `listen` of its own"));
    }
    given.iter().all(|(_, given)| !given)
}

fn ingest_options(options: &HttpSourceOptions) -> IngestOptions {
    let (sent, decompressed) = (options.max_body_size.as_usize(), options.max_decompressed_size.as_usize());
    let types = |schema: &SchemaOptions| {
        schema.types.iter().map(|(name, kind)| (name.clone(), field_type(*kind))).collect()
    };
    IngestOptions {
        body: BodyLimits { bytes_max: sent, read_timeout: options.read_timeout },
        decompressed_bytes_max: decompressed,
        memory_bytes_max: MEMORY_BYTES.max(2 * sent.max(decompressed)),
        settle_timeout: options.settle_timeout,
        schema: options.schema.as_ref().map(|s| Schema { required: s.required.clone(), types: types(s) }),
    }
}

fn field_type(option: SchemaType) -> FieldType {
    match option {
        SchemaType::String => FieldType::String,
        SchemaType::Number => FieldType::Number,
        SchemaType::Bool => FieldType::Bool,
        SchemaType::Object => FieldType::Object,
        SchemaType::Array => FieldType::Array,
        SchemaType::Timestamp => FieldType::Timestamp,
    }
}

#[async_trait]
impl Source for HttpSource {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        let committer = Committer::new(cx.site.id(), self.ingest.settle_timeout);
        let endpoint = Arc::new(Ingest::new(self.ingest.clone(), committer.clone(), out.clone()));
        let Some((listen, entrance)) = &self.listen else {
            let router = cx.shared.get::<Router>();
            self.paths.iter().for_each(|path| router.mount(&cx.site, path, endpoint.clone()));
            cx.ready();
            committer.run(out, &cx.shutdown).await;
            return Ok(());
        };
        let entrance = entrance.bind(cx).await?;
        let own = Arc::new(Router::default());
        self.paths.iter().for_each(|path| own.mount(&cx.site, path, endpoint.clone()));
        let others = Arc::new(NothingElse(self.paths.clone()));
        // Not a child of ours: who waits for an answer hears it also when weir is forced to end.
        let ending = Shutdown::new();
        let policy = cx.shared.get::<CorsOrigins>().policy();
        let mut served = task::spawn(net::serve(entrance, own, others, policy, ending.clone()));
        drop(task::spawn(give_up_late(ending.clone(), self.ingest.settle_timeout + LAST_ANSWERS)));
        // Ends the listener when this run is given up, too; answers that are on their way still go out.
        let ending = EndOnDrop(ending);
        cx.ready();
        let mut committing = std::pin::pin!(async {
            tokio::join!(committer.run(out, &cx.shutdown), async {
                cx.shutdown.draining().await;
                ending.0.drain();
            });
        });
        tokio::select! {
            () = &mut committing => {}
            failed = &mut served => {
                let why = match failed {
                    Ok(Ok(())) if cx.shutdown.is_draining() => {
                        committing.await;
                        return Ok(());
                    }
                    Ok(Ok(())) => "it ended".to_owned(),
                    Ok(Err(e)) => e.to_string(),
                    Err(e) => e.to_string(),
                };
                return Err(Fault::retry(format!("cannot serve on {listen}: {why}")));
            }
        }
        tokio::time::timeout(LAST_ANSWERS, served).await.ok();
        Ok(())
    }
}

/// Ends what is left of a listener's connections when the last answer must have gone out.
async fn give_up_late(ending: Shutdown, after: Duration) {
    ending.draining().await;
    tokio::time::sleep(after).await;
    ending.abort();
}

/// Lets a listener take no more requests once the run it belongs to is over.
struct EndOnDrop(Shutdown);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.drain();
    }
}
