//! The seam every client connects through: whoever wants a connection asks a [`Dial`] for one, so that tests can put
//! an in-memory pipe behind it under paused time. [`NetDial`] is the real one.

mod net;
mod proxy;
mod wire;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

pub use net::NetDial;
pub use proxy::Proxy;
pub use wire::{Socket, SocketIo};

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes connections.
#[async_trait]
pub trait Dial: Send + Sync + fmt::Debug {
    /// A fresh connection, with everything below the application protocol done (proxy, TLS). Cancel-safe: dropped,
    /// it leaves nothing behind but a name lookup that the system ends by itself.
    ///
    /// # Errors
    /// With the address, the cause and a hint; [`io::ErrorKind::TimedOut`] after the dialer's own limit.
    async fn dial(&self, endpoint: &Endpoint) -> io::Result<Connection>;
}

/// What the system knows of the bytes of a connection. Counts start with the connection, in bytes on the wire: with
/// TLS or a proxy they are not those of the application.
pub trait Wire: Send + Sync + fmt::Debug {
    /// Bytes handed to the system so far.
    fn sent(&self) -> u64;

    /// Of those, how many the peer's system has acknowledged: a lower bound, one system call. It goes on answering
    /// after the connection broke.
    ///
    /// # Errors
    /// When the system does not say.
    fn acknowledged(&self) -> io::Result<u64>;
}

/// A connection that was dialed. Drop it as a whole: `wire` keeps the socket open, too.
pub struct Connection {
    /// The stream of the application's bytes.
    pub io: Box<dyn Io>,
    /// What is known of the bytes below; `None` where the system (or the pipe of a test) does not say.
    pub wire: Option<Arc<dyn Wire>>,
    /// Whether bytes written are bytes on the wire, one to one (no TLS).
    pub is_plain: bool,
    /// Whether the peer chose HTTP/2 in the TLS handshake.
    pub alpn_h2: bool,
    /// Whom it reached; the proxy, where there is one.
    pub peer: Option<SocketAddr>,
}

impl Connection {
    /// A connection over any stream, of which nothing more is known.
    pub fn over(io: impl Io + 'static) -> Connection {
        Connection { io: Box::new(io), wire: None, is_plain: true, alpn_h2: false, peer: None }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("is_plain", &self.is_plain).finish()
    }
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A host name or an address, IPv6 without brackets.
    pub host: Arc<str>,
    /// The port, not 0.
    pub port: u16,
    /// The name the server's certificate must have, if the connection uses TLS.
    pub tls: Option<Arc<str>>,
}

impl Endpoint {
    /// An endpoint without TLS.
    pub fn new(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port, tls: None }
    }

    /// The same endpoint over TLS; the certificate must be for `server_name`, or else for the host.
    #[must_use]
    pub fn with_tls(mut self, server_name: Option<&str>) -> Endpoint {
        self.tls = Some(server_name.map_or_else(|| self.host.clone(), Arc::from));
        self
    }

    /// Parses `host:port`, `1.2.3.4:80` or `[::1]:80`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let address = crate::config::Listen::parse(text)?;
        if address.port == 0 {
            return Err(format!("{text:?} has port 0, which nobody listens on"));
        }
        Ok(Endpoint::new(&address.host, address.port))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => write!(f, "[{}]:{}", self.host, self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_parse_and_print() {
        for text in ["logs.example.com:6514", "127.0.0.1:1", "[::1]:65535"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "host", "host:0", "::1:80", "host:x"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        let named = Endpoint::new("10.0.0.1", 1).with_tls(Some("logs.example.com"));
        assert_eq!(named.tls.as_deref(), Some("logs.example.com"));
    }
}
