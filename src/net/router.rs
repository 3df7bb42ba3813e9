//! The router: which path is which stream or service. Components mount on it when they start; the rings live here
//! by component, so that a stream and its history outlive a restart of its sink.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use hyper::body::Incoming;

use super::id::Epoch;
use super::notes::HeartbeatStyle;
use super::problem::Body;
use super::ring::{Attachment, Ring};
use crate::flow::{Meter, Site};

/// Answers requests: the web interface, or an endpoint that a source mounts.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The response to a request for `path`, which is the decoded path. What it leaves of the body is dealt with
    /// afterwards. May be dropped when the client goes away.
    async fn handle(&self, path: &str, request: &mut Request<Incoming>) -> Response<Body>;

    /// The methods allowed on `path`, for `OPTIONS`.
    fn methods(&self, _path: &str) -> &'static str {
        "GET, HEAD, OPTIONS"
    }

    /// Whether everybody who may connect may ask for `path`, without credentials.
    fn is_open(&self, _path: &str) -> bool {
        false
    }

    /// Whether `path` leads to the page as such, which a browser has to load before it can ask for a token. Asked by who
    /// was not recognised ([`Unrecognised`](super::Unrecognised)), the answer must tell nothing of this server: not even
    /// whether a pipeline of that name exists.
    fn is_shell(&self, _path: &str) -> bool {
        false
    }
}

/// How a stream treats its subscribers.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Time without a row after which a sign of life is sent; `None`: never.
    pub heartbeat: Option<Duration>,
    /// What it looks like.
    pub heartbeat_style: HeartbeatStyle,
    /// Whether it tells how the stream stands.
    pub heartbeat_stats: bool,
    /// Most subscribers at a time.
    pub connections_max: usize,
    /// How long a write may make no progress before the subscriber is let go.
    pub write_timeout: Duration,
    /// Whether the sink's own format is a JSON object.
    pub own_is_json: bool,
}

/// A stream as it is mounted.
#[derive(Debug)]
pub struct StreamRoute {
    /// The sink.
    pub site: Arc<Site>,
    /// Its events.
    pub ring: Arc<Ring>,
    /// Its counters.
    pub meter: Arc<Meter>,
    /// How it treats subscribers.
    pub options: StreamOptions,
}

/// What lies at a path.
#[derive(Clone)]
pub enum Route {
    /// A stream.
    Stream(Arc<StreamRoute>),
    /// How a stream stands.
    Status(Arc<StreamRoute>),
    /// Something else.
    Service(Arc<dyn Handler>),
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Route::Stream(stream) => write!(f, "stream of {}", stream.site.id()),
            Route::Status(stream) => write!(f, "status of {}", stream.site.id()),
            Route::Service(_) => f.write_str("service"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Router {
    epoch: Epoch,
    /// Path to owner (a site id) and route.
    routes: RwLock<BTreeMap<String, (String, Route)>>,
    rings: Mutex<HashMap<String, Arc<Ring>>>,
}

impl Default for Router {
    fn default() -> Router {
        Router { epoch: Epoch::now(), routes: RwLock::default(), rings: Mutex::default() }
    }
}

impl Router {
    /// The epoch of this run's event ids.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The ring of the sink `site`, made by `make` when there is none.
    pub fn ring(&self, site: &Site, make: impl FnOnce(Epoch) -> Ring) -> Arc<Ring> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.entry(site.id()).or_insert_with(|| Arc::new(make(self.epoch.clone()))).clone()
    }

    /// Mounts a stream and its status at these decoded paths, in place of what the same sink had mounted. The
    /// stream counts as live until the guard is dropped; it stays mounted until [`Router::retain`] says otherwise.
    pub fn mount_stream(&self, stream: StreamRoute, paths: &[String], status_paths: &[String]) -> Attachment {
        let (owner, attachment) = (stream.site.id(), stream.ring.attach());
        let stream = Arc::new(stream);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|_, (o, _)| *o != owner);
        for path in paths {
            routes.insert(path.clone(), (owner.clone(), Route::Stream(stream.clone())));
        }
        for path in status_paths {
            routes.insert(path.clone(), (owner.clone(), Route::Status(stream.clone())));
        }
        attachment
    }

    /// Mounts a service at a decoded path, in place of what was there.
    pub fn mount(&self, site: &Site, path: &str, service: Arc<dyn Handler>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(path.to_owned(), (site.id(), Route::Service(service)));
    }

    /// Gives rings to other sinks, each named by its site id before and after: the streams go on there, with their
    /// history and their numbers. All at once, so that two may change places.
    pub fn rename(&self, moves: &[(String, String)]) {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = moves.iter().map(|(from, to)| (to.clone(), rings.remove(from))).collect();
        rings.extend(taken.into_iter().filter_map(|(to, ring)| Some((to, ring?))));
    }

    /// Bytes that all rings hold: lines with their index, and their encodings.
    pub fn held_bytes(&self) -> u64 {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.values().map(|ring| ring.held_bytes()).map(|(lines, encodings)| lines + encodings).sum()
    }

    /// Keeps only what belongs to components for which `keep` holds of their site id: call it after a reload. The
    /// streams of the others end with a `bye`.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).retain(|_, (owner, _)| keep(owner));
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).retain(|owner, ring| {
            let kept = keep(owner);
            if !kept {
                ring.retire();
            }
            kept
        });
    }

    /// What lies at a decoded path.
    pub fn find(&self, path: &str) -> Option<Route> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(path).map(|(_, route)| route.clone())
    }

    /// All streams, each once, in the order of their paths.
    pub fn streams(&self) -> Vec<(String, Arc<StreamRoute>)> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut streams: Vec<(String, Arc<StreamRoute>)> = Vec::new();
        for (path, (_, route)) in routes.iter() {
            if let Route::Stream(stream) = route
                && !streams.iter().any(|(_, known)| Arc::ptr_eq(known, stream))
            {
                streams.push((path.clone(), stream.clone()));
            }
        }
        streams
    }

    /// The stream of a pipeline: of its first sink that has one.
    pub fn stream_of(&self, pipeline: &str) -> Option<Arc<StreamRoute>> {
        let streams = self.streams().into_iter().map(|(_, stream)| stream);
        streams.filter(|stream| &*stream.site.pipeline == pipeline).min_by_key(|stream| stream.site.index)
    }
}
