//! The real dialer: the name is looked up anew each time, its addresses are tried in turn, a dead one delays the
//! next by a moment only; then the proxy and TLS, all within one deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::wire::{Socket, SocketIo};
use super::{Connection, Dial, Endpoint, Proxy};
use crate::net::tls::client::ClientTls;

/// How long an address has until the next one is tried beside it (RFC 8305, 5: 250 ms).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;
/// Unanswered keep-alive probes until a peer counts as gone.
const KEEP_ALIVE_PROBES: u32 = 3;

/// Dials over the network.
#[derive(Debug, Clone)]
pub struct NetDial {
    /// The time for everything, from the look-up to the TLS handshake.
    pub connect_timeout: Duration,
    /// Idle time after which the system probes whether the peer still lives; none: never.
    pub keep_alive: Option<Duration>,
    /// How long sent bytes may go unacknowledged until the system gives the connection up (`TCP_USER_TIMEOUT`,
    /// RFC 5482; where the system has it).
    pub unacknowledged_max: Option<Duration>,
    /// The proxy to go through.
    pub proxy: Option<Proxy>,
    /// How endpoints that want TLS get it.
    pub tls: Option<ClientTls>,
}

impl Default for NetDial {
    fn default() -> NetDial {
        NetDial {
            connect_timeout: Duration::from_secs(10),
            keep_alive: Some(Duration::from_secs(30)),
            unacknowledged_max: None,
            proxy: None,
            tls: None,
        }
    }
}

#[async_trait]
impl Dial for NetDial {
    async fn dial(&self, endpoint: &Endpoint) -> io::Result<Connection> {
        let limit = self.connect_timeout;
        match tokio::time::timeout(limit, self.open(endpoint)).await {
            Ok(opened) => opened,
            Err(_) => {
                let why = format!("cannot connect to {endpoint}: no answer within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    }
}

impl NetDial {
    async fn open(&self, endpoint: &Endpoint) -> io::Result<Connection> {
        let proxy = match &self.proxy {
            Some(proxy) => {
                let proxy = proxy.clone();
                let target = tokio::task::spawn_blocking(move || proxy.target());
                Some(target.await.map_err(io::Error::other)??)
            }
            None => None,
        };
        let first_hop = proxy.as_ref().map_or(endpoint, |target| &target.endpoint);
        let stream = connect(first_hop).await.map_err(|e| {
            let what = if proxy.is_some() { "the proxy " } else { "" };
            io::Error::new(e.kind(), format!("cannot connect to {what}{first_hop}: {}", plain(&e)))
        })?;
        let peer = stream.peer_addr().ok();
        self.prepare(&stream);
        let socket = Socket::new(stream);
        let mut io = SocketIo(socket.clone());
        if let Some(target) = proxy {
            target.open(&mut io, endpoint).await?;
        }
        let Some(server_name) = &endpoint.tls else {
            let io = Box::new(io);
            return Ok(Connection { io, wire: Some(socket), is_plain: true, alpn_h2: false, peer });
        };
        let tls = self.tls.as_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{endpoint} wants TLS, which is not set up"))
        })?;
        let io = tls.connect(server_name, io).await?;
        let alpn_h2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connection { io: Box::new(io), wire: Some(socket), is_plain: false, alpn_h2, peer })
    }

    /// What a system does not offer is left as it is: these only make it notice earlier.
    fn prepare(&self, stream: &TcpStream) {
        use rustix::net::sockopt;
        stream.set_nodelay(true).ok();
        if let Some(idle) = self.keep_alive {
            sockopt::set_socket_keepalive(stream, true).ok();
            #[cfg(any(target_os = "linux", target_os = "freebsd"))]
            {
                let idle = idle.max(Duration::from_secs(1));
                sockopt::set_tcp_keepidle(stream, idle).ok();
                let between = (idle / KEEP_ALIVE_PROBES).max(Duration::from_secs(1));
                sockopt::set_tcp_keepintvl(stream, between).ok();
                sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_PROBES).ok();
            }
            #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
            drop(idle);
        }
        #[cfg(target_os = "linux")]
        if let Some(limit) = self.unacknowledged_max {
            let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
            sockopt::set_tcp_user_timeout(stream, millis).ok();
        }
    }
}

/// The system's words without the number.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused; hint: is the receiver running?".to_owned(),
        _ => error.to_string(),
    }
}

async fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let found = tokio::net::lookup_host((&*endpoint.host, endpoint.port)).await;
    let addresses: Vec<SocketAddr> = found
        .map_err(|e| io::Error::new(e.kind(), format!("the name cannot be looked up: {e}")))?
        .take(ADDRESSES_MAX)
        .collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    race(interleaved(addresses)).await
}

/// IPv6 and IPv4 in turn, beginning with the family that the system put first (RFC 8305, 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut out = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let (a, b) = (first.next(), second.next());
        if a.is_none() && b.is_none() {
            return out;
        }
        out.extend(a.into_iter().chain(b));
    }
}

/// Tries the addresses in order, the next one when the one before has failed or taken its time; the first
/// connection wins. Fails with the last error.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut rest = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = rest.next();
        let is_last = next.is_none();
        trying.extend(next.map(TcpStream::connect));
        if trying.is_empty() {
            return Err(last);
        }
        tokio::select! {
            Some(tried) = trying.next() => match checked(tried) {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if !is_last => {}
        }
    }
}

/// A socket that is connected to itself reached nobody: where no one listens on a port that the system hands out to
/// clients, too, it may choose that very port for this end (RFC 9293, 3.5: simultaneous open), and then acknowledges
/// all that we say.
fn checked(tried: io::Result<TcpStream>) -> io::Result<TcpStream> {
    let stream = tried?;
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(own), Ok(peer)) if own == peer => Err(io::ErrorKind::ConnectionRefused.into()),
        _ => Ok(stream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let list = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = list(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        assert_eq!(interleaved(given), list(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
    }

    #[tokio::test]
    async fn a_dead_address_is_passed_over() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stream = race(vec![closed, listener.local_addr().unwrap()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        let refused = race(vec![closed]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_never_answers_through_itself() {
        // As the system does by chance: the client's end gets the port that it wants to reach.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert_eq!(checked(Ok(stream)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn failures_name_the_address_and_a_way_out() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint = Endpoint::new("127.0.0.1", closed.port());
        let error = NetDial::default().dial(&endpoint).await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot connect to {closed}: connection refused; hint: is the receiver running?")
        );
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dial = NetDial {
            connect_timeout: Duration::from_millis(100),
            tls: Some(ClientTls::new(crate::config::defaults(), &[])),
            ..NetDial::default()
        };
        let endpoint = Endpoint::new("127.0.0.1", silent.local_addr().unwrap().port()).with_tls(None);
        let error = dial.dial(&endpoint).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
}
