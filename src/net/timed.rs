//! The socket below hyper's HTTP/1: writes must make progress, since a client that asks for pages and never reads them
//! would otherwise hold its connection for ever; requests are watched as they come; and where hyper answers a head
//! that it cannot read with a bare status, a problem that says why goes out instead.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::head_watch::HeadWatch;
use super::problem::Problem;
use super::socket::Socket;

/// A socket on which a write that stands still for `limit` fails.
#[derive(Debug)]
pub(super) struct TimedSocket {
    socket: Socket,
    limit: Duration,
    /// Runs while a write waits; most connections never need it.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Sees what is read, under HTTP/1.
    heads: Option<Arc<Mutex<HeadWatch>>>,
    /// What goes out in place of a bare status.
    instead: Bytes,
}

impl TimedSocket {
    pub(super) fn new(socket: Socket, limit: Duration) -> TimedSocket {
        TimedSocket { socket, limit, stalled: None, heads: None, instead: Bytes::new() }
    }

    /// Lets `heads` see what is read, and explains bare answers.
    pub(super) fn watched_by(mut self, heads: Arc<Mutex<HeadWatch>>) -> TimedSocket {
        self.heads = Some(heads);
        self
    }

    pub(super) fn into_inner(self) -> Socket {
        self.socket
    }

    fn timed<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
    }

    /// Takes a bare answer of hyper's for written, and keeps what is to be written instead.
    fn explained(&mut self, written: &[u8]) -> bool {
        if self.heads.is_none() {
            return false;
        }
        let Some(problem) = explanation(written) else { return false };
        self.instead = problem.into_last_words();
        true
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let polled = Pin::new(&mut self.socket).poll_write(cx, &self.instead);
            match ready!(self.timed(cx, polled))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.instead.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What to say in place of the answer `written`, if that is one of those that hyper gives to heads it cannot read: all
/// of ours have a body.
fn explanation(written: &[u8]) -> Option<Problem> {
    let rest = written.strip_prefix(b"HTTP/1.1 4")?;
    if !rest.ends_with(b"\r\n\r\n") || memchr::memmem::find(rest, b"\r\ncontent-length: 0\r\n").is_none() {
        return None;
    }
    Some(match rest.get(..2)? {
        b"00" => Problem::bad_request("malformed request: its head is not HTTP/1.1")
            .hint("spaces, quotes, < and > in a target are percent-encoded (curl -G --data-urlencode 'q=…'); else a head line or length is broken, or the client does not speak HTTP"),
        b"14" => Problem::new(StatusCode::URI_TOO_LONG, "the target of the request is too long"),
        b"31" => too_large(),
        _ => return None,
    })
}

/// The answer to a head that is larger than allowed.
pub(super) fn too_large() -> Problem {
    Problem::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the head of the request is too large: at most 32KiB in 100 lines are taken",
    )
    .hint("send fewer or shorter headers; cookies of other programs on this host may be among them")
}

impl AsyncRead for TimedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if let (Some(heads), read) = (&self.heads, &buf.filled()[before..])
            && !read.is_empty()
        {
            heads.lock().unwrap_or_else(PoisonError::into_inner).note(read);
        }
        polled
    }
}

impl AsyncWrite for TimedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if self.explained(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.timed(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(cx))?;
        if let [only] = bufs
            && self.explained(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.timed(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        // Under TLS what was written may still wait here.
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.timed(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        let polled = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.timed(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_answers_are_explained() {
        let bare = |status: &str, end: &str| {
            let text =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n{end}");
            explanation(text.as_bytes()).map(|problem| problem.status().as_u16())
        };
        assert_eq!(bare("400 Bad Request", "\r\n"), Some(400));
        assert_eq!(bare("414 URI Too Long", "\r\n"), Some(414));
        assert_eq!(bare("431 Request Header Fields Too Large", "\r\n"), Some(431));
        assert_eq!(bare("404 Not Found", "\r\n"), None);
        assert_eq!(bare("400 Bad Request", "\r\n{}"), None);
        assert!(explanation(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n").is_none());
        assert!(explanation(b"HTTP/1.1 4").is_none() && explanation(b"").is_none());
    }
}
