//! The way in to a listener: binds, admits connections by its guard, and opens each with its TLS handshake. Every
//! component that listens has one, so that what guards one guards all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::guard::{Admission, Guard};
use super::listener;
use super::socket::{Peer, Socket};
use crate::base::shutdown::Shutdown;
use crate::config::{AccessOptions, AuthOptions, Listen, TlsServerOptions};
use crate::flow::{BuildCx, Fault, TaskCx};

/// What a component keeps of its listener options: checked, not yet bound.
#[derive(Debug, Clone)]
pub struct EntranceConfig {
    listen: Listen,
    guard: Arc<Guard>,
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
        let guarded = auth.is_some()
            || access.is_some_and(|access| !access.allow.is_empty())
            || tls.is_some_and(|tls| tls.require_client_cert);
        let sound = guarded || insecure_public || listen.is_loopback();
        if !sound {
            cx.error("listen", format!("other machines can reach `{listen}`, and nothing guards the stream"))
                .hint("listen on 127.0.0.1, or set insecure_public = true");
        }
        let guard = Guard::build(access, auth, cx)?;
        sound.then(|| EntranceConfig { listen: listen.clone(), guard: Arc::new(guard) })
    }

    /// Binds.
    ///
    /// # Errors
    /// That the address cannot be bound, with the address and a hint; may pass.
    pub async fn bind(&self, _cx: &TaskCx) -> Result<Entrance, Fault> {
        let bound = listener::bind(&self.listen.to_string()).await;
        let listener = bound.map_err(|e| Fault::retry(e.to_string()))?;
        Entrance::over(listener, self.guard.clone()).map_err(|e| Fault::retry(e.to_string()))
    }
}

/// A bound listener with its guard.
#[derive(Debug)]
pub struct Entrance {
    listener: TcpListener,
    address: SocketAddr,
    guard: Arc<Guard>,
}

impl Entrance {
    /// A plain entrance that is open to all who reach `listener`.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn open(listener: TcpListener) -> io::Result<Entrance> {
        Entrance::over(listener, Arc::new(Guard::open()))
    }

    fn over(listener: TcpListener, guard: Arc<Guard>) -> io::Result<Entrance> {
        let address = listener.local_addr()?;
        Ok(Entrance { listener, address, guard })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Its guard, for what is asked per request.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// The next connection that the guard admits; `None` when draining. Those it refuses are closed at once.
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
                    Ok(admission) => return Some(Arrival { socket, peer, admission }),
                    Err(refusal) => tracing::debug!(%peer, "refused: {refusal}"),
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
    admission: Admission,
}

impl Arrival {
    /// Makes the handshake, within a deadline. Plain connections are open at once.
    ///
    /// # Errors
    /// What went wrong in the handshake.
    pub async fn open(self) -> io::Result<Visitor> {
        let Arrival { socket, peer, admission } = self;
        socket.set_nodelay(true).ok();
        Ok(Visitor { socket: Socket::Plain(socket), peer: Peer::at(peer), admission })
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
