//! A TCP socket that counts what it sends and asks the system how much of it the peer has acknowledged.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Wire;

/// A socket shared by the one who reads and writes it ([`SocketIo`]) and the one who asks after its bytes.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    sent: AtomicU64,
}

impl Socket {
    /// Counts from now on.
    pub fn new(stream: TcpStream) -> Arc<Socket> {
        Arc::new(Socket { stream, sent: AtomicU64::new(0) })
    }
}

impl Wire for Socket {
    fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    fn acknowledged(&self) -> io::Result<u64> {
        Ok(self.sent().saturating_sub(unacknowledged(&self.stream)?))
    }
}

/// Bytes in the socket's send queue: not sent, or sent and not acknowledged.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "an ioctl that the library has no wrapper for")]
fn unacknowledged(stream: &TcpStream) -> io::Result<u64> {
    use rustix::ioctl::{Getter, Opcode, ioctl};
    /// `TIOCOUTQ`, for sockets `SIOCOUTQ` (tcp(7)): 0x5411 except on the few systems that number it otherwise.
    #[cfg(not(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "sparc64"
    )))]
    const SIOCOUTQ: Opcode = 0x5411;
    #[cfg(any(target_arch = "mips", target_arch = "mips64"))]
    const SIOCOUTQ: Opcode = 0x7472;
    #[cfg(any(target_arch = "powerpc", target_arch = "powerpc64", target_arch = "sparc64"))]
    const SIOCOUTQ: Opcode = 0x4004_7473;
    // SAFETY: SIOCOUTQ takes a pointer to an int and stores one int there, which is what `Getter` over `i32` gives
    // and reads back; the borrowed descriptor is open for the whole call.
    let bytes: i32 = unsafe { ioctl(stream, Getter::<SIOCOUTQ, i32>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Elsewhere nothing is known, and what the system has taken counts as acknowledged.
#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: &TcpStream) -> io::Result<u64> {
    Ok(0)
}

/// Reads and writes a [`Socket`].
#[derive(Debug)]
pub struct SocketIo(pub Arc<Socket>);

impl SocketIo {
    fn poll_sent(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(cx))?;
            match write(&self.0.stream) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Ok(n) => {
                    self.0.sent.fetch_add(n as u64, Relaxed);
                    return Poll::Ready(Ok(n));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncRead for SocketIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            // Zeroed once: a `ReadBuf` remembers, and what a client reads is small.
            match self.0.stream.try_read(buf.initialize_unfilled()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for SocketIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_sent(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_sent(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = rustix::net::shutdown(&self.0.stream, rustix::net::Shutdown::Write);
        Poll::Ready(shut.map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn what_the_peer_took_is_acknowledged_and_what_it_cannot_take_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = Socket::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut io = SocketIo(socket.clone());
        io.write_all(b"hello").await.unwrap();
        while socket.acknowledged().unwrap() < 5 {
            tokio::task::yield_now().await;
        }
        // More than both systems hold: the rest waits here, unacknowledged.
        let flood = vec![b'x'; 64 << 20];
        let fill = tokio::time::timeout(std::time::Duration::from_millis(200), io.write_all(&flood)).await;
        assert!(fill.is_err(), "nobody reads");
        assert!(socket.acknowledged().unwrap() < socket.sent(), "{socket:?}");
        // The peer goes with bytes unread: a reset, after which the count still says what is missing.
        let mut some = [0; 5];
        peer.read_exact(&mut some).await.unwrap();
        drop(peer);
        while io.write(b"y").await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(socket.acknowledged().unwrap() < socket.sent(), "{socket:?}");
    }
}
