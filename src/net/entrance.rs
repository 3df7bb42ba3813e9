//! The way in to a listener: binds, admits connections by its guard, and opens each with its TLS handshake. Every
//! component that listens has one, so that what guards one guards all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::guard::{Admission, Exposure, Guard, exposure};
use super::listener;
use super::listeners::Listeners;
use super::socket::{Peer, Socket};
use super::tls::TlsError;
use super::tls::server::TlsServer;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::config::{AccessOptions, AuthOptions, Listen, TlsServerOptions};
use crate::flow::{BuildCx, Fault, Shared, TaskCx};

/// How long a handshake may go on once weir ends.
const LAST_HANDSHAKES: Duration = Duration::from_secs(1);

/// What a component keeps of its listener options: checked, not yet bound.
#[derive(Debug, Clone)]
pub struct EntranceConfig {
    listen: Listen,
    tls: Option<TlsServerOptions>,
    guard: Arc<Guard>,
}

/// Why an entrance cannot be bound.
#[derive(Debug)]
pub enum BindError {
    /// The address is taken, not this machine's, or needs a privilege: with the address and a hint.
    Address(io::Error),
    /// A certificate, key or authority cannot be used.
    Tls(TlsError),
    /// A secret or the password file cannot be read.
    Guard(String),
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BindError::Address(e) => e.fmt(f),
            BindError::Tls(e) => e.fmt(f),
            BindError::Guard(why) => f.write_str(why),
        }
    }
}

impl EntranceConfig {
    /// Claims the address, refuses one that other machines reach without a guard (logins, a list of who may
    /// connect, or certificates that every client needs) unless `insecure_public`, and checks the tables. `None`
    /// after complaints. No I/O.
    pub fn build(
        listen: &Listen,
        tls: Option<&TlsServerOptions>,
        access: Option<&AccessOptions>,
        auth: Option<&AuthOptions>,
        insecure_public: bool,
        cx: &mut BuildCx<'_>,
    ) -> Option<EntranceConfig> {
        cx.claim("listen address", listen.to_string(), "listen");
        let mut sound = true;
        let certificates = tls.is_some_and(|tls| tls.require_client_cert);
        match exposure(listen, (tls.is_some(), certificates), access, auth, insecure_public) {
            Exposure::Sound => {}
            Exposure::Unguarded { message, hint } => {
                cx.error("listen", message).hint(hint);
                sound = false;
            }
            Exposure::PlainCredentials { message, hint } => drop(cx.warning("listen", message).hint(hint)),
        }
        if tls.is_some_and(|tls| tls.require_client_cert && tls.client_ca_file.is_none()) {
            cx.error(
                "tls",
                "`require_client_cert` needs `client_ca_file`: nobody says whose clients are trusted",
            )
            .hint("set client_ca_file to the certificate of the authority that signs the clients'");
            sound = false;
        }
        let guard = Arc::new(Guard::build(access, auth, cx)?);
        sound.then(|| EntranceConfig { listen: listen.clone(), tls: tls.cloned(), guard })
    }

    /// Binds, loads certificates and reads secrets. A socket that an earlier run of the component, or one that a
    /// reload replaced, had bound is taken over.
    ///
    /// # Errors
    /// With the address, or a file that cannot be used, and the way out: for good where the component has never been
    /// ready, later it may pass.
    pub async fn bind(&self, cx: &TaskCx) -> Result<Entrance, Fault> {
        let bound = async {
            let tls = self.prepare(&cx.site.id(), &cx.shared).await?;
            let listeners = cx.shared.get::<Listeners>();
            let listener = listeners.bind(&cx.site, &self.listen.to_string()).await;
            Entrance::over(listener.map_err(BindError::Address)?, tls, self.guard.clone())
                .map_err(BindError::Address)
        };
        bound.await.map_err(|e| Fault::unavailable(e.to_string()))
    }

    /// Binds, loads certificates and reads secrets, for what is no component; `who` names it in messages.
    ///
    /// # Errors
    /// Why not.
    pub async fn bind_as(&self, who: &str, shared: &Arc<Shared>) -> Result<Entrance, BindError> {
        let tls = self.prepare(who, shared).await?;
        let listener = listener::bind(&self.listen.to_string()).await.map_err(BindError::Address)?;
        Entrance::over(Arc::new(listener), tls, self.guard.clone()).map_err(BindError::Address)
    }

    /// Loads certificates and reads the guard's secrets.
    async fn prepare(&self, who: &str, shared: &Arc<Shared>) -> Result<Option<Encryption>, BindError> {
        let tls = match self.tls.clone() {
            None => None,
            Some(options) => {
                let loaded = tokio::task::spawn_blocking(move || TlsServer::load(&options)).await;
                let failed = |e| TlsError::new(format!("reading failed: {e}"), "report this as a bug");
                let server = loaded.unwrap_or_else(|e| Err(failed(e))).map_err(BindError::Tls)?;
                Some(Encryption::new(server, who))
            }
        };
        let (guard, name, shared) = (self.guard.clone(), who.to_owned(), shared.clone());
        let loaded = tokio::task::spawn_blocking(move || guard.load(&name, &shared)).await;
        loaded.unwrap_or_else(|e| Err(format!("reading failed: {e}"))).map_err(BindError::Guard)?;
        Ok(tls)
    }

    /// Where it will listen.
    pub fn listen(&self) -> &Listen {
        &self.listen
    }
}

/// The TLS of an entrance, and the task that looks after it; it ends with the entrance.
#[derive(Debug)]
struct Encryption {
    server: Arc<TlsServer>,
    looking: JoinHandle<()>,
}

impl Encryption {
    fn new(server: TlsServer, who: &str) -> Encryption {
        let server = Arc::new(server);
        let looking = task::spawn(server.clone().look_after(who.to_owned()));
        Encryption { server, looking }
    }
}

impl Drop for Encryption {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// A bound listener with its guard.
#[derive(Debug)]
pub struct Entrance {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    tls: Option<Encryption>,
    guard: Arc<Guard>,
    /// Whether those who come speak HTTP, and so can be told why they may not.
    http: AtomicBool,
}

impl Entrance {
    /// A plain entrance that is open to all who reach `listener`.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn open(listener: TcpListener) -> io::Result<Entrance> {
        Entrance::over(Arc::new(listener), None, Arc::new(Guard::open()))
    }

    fn over(listener: Arc<TcpListener>, tls: Option<Encryption>, guard: Arc<Guard>) -> io::Result<Entrance> {
        let address = listener.local_addr()?;
        Ok(Entrance { listener, address, tls, guard, http: AtomicBool::new(false) })
    }

    /// An encrypted entrance that is open to all who reach `listener`.
    #[cfg(test)]
    pub(super) fn encrypted(listener: TcpListener, server: TlsServer) -> Entrance {
        let guard = Arc::new(Guard::open());
        Entrance::over(Arc::new(listener), Some(Encryption::new(server, "test")), guard).unwrap()
    }

    /// Offers HTTP/2 and HTTP/1.1 in its handshakes, if it has any; for those that speak HTTP.
    pub fn offer_http(&self) {
        self.http.store(true, Ordering::Relaxed);
        if let Some(tls) = &self.tls {
            tls.server.offer_http();
        }
    }

    /// Whether connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Its guard, for what is asked per request.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// The next connection that the guard admits; `None` when draining. Those it refuses are closed at once, plain HTTP
    /// with an answer.
    /// Cancel-safe.
    pub async fn accept(&self, shutdown: &Shutdown) -> Option<Arrival> {
        let mut told = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.draining() => return None,
            };
            match accepted {
                Ok((socket, peer)) => match self.guard.admit(peer.ip().to_canonical()) {
                    Ok(admission) => {
                        let tls = self.tls.as_ref().map(|tls| tls.server.clone());
                        return Some(Arrival { socket, peer, tls, admission });
                    }
                    // Before a handshake there is no way to say why.
                    Err(refusal) if self.tls.is_none() && self.http.load(Ordering::Relaxed) => {
                        self.guard.turn_away(socket, refusal);
                    }
                    Err(_) => drop(socket),
                },
                Err(e) => {
                    // Out of descriptors, or the client left already; the first does not pass at once, and is said once.
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!("cannot accept a connection: {e}");
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// An accepted connection before its TLS handshake. Open it in the connection's own task: a slow handshake then
/// holds up nobody else.
#[derive(Debug)]
pub struct Arrival {
    socket: TcpStream,
    /// Where it comes from.
    pub peer: SocketAddr,
    tls: Option<Arc<TlsServer>>,
    admission: Admission,
}

impl Arrival {
    /// Makes the handshake, within a deadline, and within a second once `shutdown` drains. Plain connections are open
    /// at once.
    ///
    /// # Errors
    /// What went wrong in the handshake; it is counted as refused.
    pub async fn open(self, shutdown: &Shutdown) -> io::Result<Visitor> {
        let Arrival { socket, peer, tls, admission } = self;
        socket.set_nodelay(true).ok();
        let Some(tls) = tls else {
            return Ok(Visitor { socket: Socket::Plain(socket), peer: Peer::at(peer), admission });
        };
        // Boxed: a handshake is short, and the future of its connection is not to have room for it all along.
        let shaking = Box::pin(tls.accept(socket));
        let hurry = async {
            shutdown.draining().await;
            tokio::select! {
                () = tokio::time::sleep(LAST_HANDSHAKES) => {}
                () = shutdown.aborted() => {}
            }
        };
        let shaken = tokio::select! {
            shaken = shaking => shaken,
            () = hurry => Err(io::Error::new(io::ErrorKind::TimedOut, "weir ends before the handshake does")),
        };
        let socket = shaken.inspect_err(|_| admission.handshake_failed())?;
        let socket = Socket::Tls(Box::new(socket));
        let name = socket.peer_name();
        Ok(Visitor { socket, peer: Peer { address: peer, name }, admission })
    }
}

/// A connection that may be served.
#[derive(Debug)]
pub struct Visitor {
    /// Its socket.
    pub socket: Socket,
    /// Who it is.
    pub peer: Peer,
    /// Its place among the connections; free again when dropped.
    pub admission: Admission,
}
