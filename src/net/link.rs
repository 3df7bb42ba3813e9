//! What carries a subscriber's slices to its client: a plain socket, written without a copy, or one under TLS.
//! Each write has a deadline, and what the client says meanwhile is read only to notice that it leaves.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Buf;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::subscriber::Outgoing;

/// Slices handed over in one call.
const SLICES_MAX: usize = 64;
/// Silence after which the kernel asks whether a client is still there, and how often it asks again: what tells
/// that a client left where nothing is sent to it.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_AGAIN: Duration = Duration::from_secs(10);
/// Bytes a client may send while it listens before it is taken for something else and let go.
const UNASKED_BYTES_MAX: usize = 64 << 10;

/// Carries slices to a client.
pub(super) trait Link: Send {
    /// Sends all slices and empties the list.
    ///
    /// # Errors
    /// `TimedOut` when nothing moved for the write timeout; otherwise why the connection failed.
    fn send(&mut self, out: &mut Outgoing) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until the client has shut its sending side. It may listen on, as `nc` does when its input ends, or may
    /// have left, which shows once something is sent to it. From then on it waits until the connection fails.
    /// Cancel-safe.
    ///
    /// # Errors
    /// That the client left, or sends instead of listening.
    fn hush(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// What was heard of a client that ought to listen.
#[derive(Debug, Default)]
struct Hearing {
    unasked: usize,
    /// Whether it has shut its sending side.
    mute: bool,
}

impl Hearing {
    /// Takes note of a read; says whether it was the end.
    fn note(&mut self, read: usize) -> io::Result<bool> {
        self.mute = read == 0;
        self.unasked += read;
        if self.unasked > UNASKED_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client sends instead of listening"));
        }
        Ok(self.mute)
    }
}

fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(socket, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_AGAIN)?;
    Ok(sockopt::set_socket_keepalive(socket, true)?)
}

/// Waits until the connection has failed.
async fn failure(socket: &TcpStream) -> io::Result<()> {
    socket.ready(Interest::ERROR).await?;
    Err(socket.take_error()?.unwrap_or(io::ErrorKind::ConnectionReset.into()))
}

fn stalled() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")
}

/// Hands the first slices to `write`, which says how many bytes it took, and removes those.
fn write_some<T>(
    out: &mut Outgoing,
    write: impl FnOnce(&[IoSlice<'_>]) -> T,
    taken: impl FnOnce(&T) -> Option<usize>,
) -> io::Result<T> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    for (slice, part) in slices.iter_mut().zip(&out.parts) {
        *slice = IoSlice::new(part);
        count += 1;
    }
    let answer = write(&slices[..count]);
    let Some(mut written) = taken(&answer) else { return Ok(answer) };
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    while let Some(front) = out.parts.front_mut() {
        if written < front.len() {
            front.advance(written);
            break;
        }
        written -= front.len();
        out.parts.pop_front();
    }
    Ok(answer)
}

/// A plain socket.
pub(super) struct Plain<'a> {
    socket: &'a TcpStream,
    write_timeout: Duration,
    hearing: Hearing,
}

impl<'a> Plain<'a> {
    pub(super) fn new(socket: &'a TcpStream, write_timeout: Duration) -> io::Result<Plain<'a>> {
        keep_alive(socket)?;
        Ok(Plain { socket, write_timeout, hearing: Hearing::default() })
    }
}

impl Link for Plain<'_> {
    async fn send(&mut self, out: &mut Outgoing) -> io::Result<()> {
        while !out.parts.is_empty() {
            let socket = self.socket;
            let tried = write_some(out, |s| socket.try_write_vectored(s), |n| n.as_ref().ok().copied())?;
            match tried {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    timeout(self.write_timeout, socket.writable()).await.map_err(|_| stalled())??;
                }
                tried => drop(tried?),
            }
        }
        Ok(())
    }

    async fn hush(&mut self) -> io::Result<()> {
        if self.hearing.mute {
            return failure(self.socket).await;
        }
        loop {
            self.socket.readable().await?;
            let mut scratch = [0u8; 512];
            match self.socket.try_read(&mut scratch) {
                Ok(n) if self.hearing.note(n)? => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A socket under TLS.
pub(super) struct Encrypted<'a> {
    socket: &'a mut TlsStream<TcpStream>,
    write_timeout: Duration,
    hearing: Hearing,
}

impl<'a> Encrypted<'a> {
    pub(super) fn new(
        socket: &'a mut TlsStream<TcpStream>,
        write_timeout: Duration,
    ) -> io::Result<Encrypted<'a>> {
        keep_alive(socket.get_ref().0)?;
        Ok(Encrypted { socket, write_timeout, hearing: Hearing::default() })
    }
}

impl Link for Encrypted<'_> {
    async fn send(&mut self, out: &mut Outgoing) -> io::Result<()> {
        while !out.parts.is_empty() {
            let some = poll_fn(|cx| {
                let write =
                    |slices: &[IoSlice<'_>]| Pin::new(&mut *self.socket).poll_write_vectored(cx, slices);
                let taken = |polled: &Poll<io::Result<usize>>| match polled {
                    Poll::Ready(Ok(n)) => Some(*n),
                    _ => None,
                };
                match write_some(out, write, taken) {
                    Ok(polled) => polled.map(|done| done.map(drop)),
                    Err(e) => Poll::Ready(Err(e)),
                }
            });
            timeout(self.write_timeout, some).await.map_err(|_| stalled())??;
        }
        let flush = poll_fn(|cx| Pin::new(&mut *self.socket).poll_flush(cx));
        timeout(self.write_timeout, flush).await.map_err(|_| stalled())?
    }

    async fn hush(&mut self) -> io::Result<()> {
        if self.hearing.mute {
            return failure(self.socket.get_ref().0).await;
        }
        loop {
            let mut scratch = [0u8; 512];
            let read = poll_fn(|cx| {
                let mut buf = ReadBuf::new(&mut scratch);
                let polled = Pin::new(&mut *self.socket).poll_read(cx, &mut buf);
                polled.map(|done| done.map(|()| buf.filled().len()))
            });
            let read = match read.await {
                // The end of the socket without an end of TLS: nothing is read here that could have been cut off.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0,
                read => read?,
            };
            if self.hearing.note(read)? {
                return Ok(());
            }
        }
    }
}
