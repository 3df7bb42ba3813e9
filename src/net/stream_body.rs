//! A stream as the body of an HTTP/2 response: the pump sends into a short queue, from which the engine takes as
//! fast as the client's windows open. What does not move for the write timeout is reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::Link;
use super::subscriber::Outgoing;

/// Pieces that wait between the pump and the engine, each of at most [`PIECE_BYTES`] or one event.
const PIECES: usize = 1;
/// Slices are put together up to this size: each piece becomes frames of its own.
const PIECE_BYTES: usize = 64 << 10;

/// The body of a response under HTTP/2.
#[derive(Debug)]
pub(super) enum Outgoings {
    /// All of it is there.
    Whole(Full<Bytes>),
    /// It is still being made.
    Stream(StreamBody),
}

/// The end of a stream that the engine reads.
#[derive(Debug)]
pub(super) struct StreamBody {
    pieces: mpsc::Receiver<Bytes>,
    complete: Arc<AtomicBool>,
}

/// The end of a stream that the pump writes.
#[derive(Debug)]
pub(super) struct Feed {
    pieces: mpsc::Sender<Bytes>,
    complete: Arc<AtomicBool>,
    write_timeout: Duration,
}

/// A body and what feeds it.
pub(super) fn stream(write_timeout: Duration) -> (Feed, StreamBody) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let complete = Arc::<AtomicBool>::default();
    let feed = Feed { pieces: sender, complete: complete.clone(), write_timeout };
    (feed, StreamBody { pieces: receiver, complete })
}

impl Feed {
    /// Ends the body in order. One whose feed is dropped without is reset.
    pub(super) fn finish(self) {
        self.complete.store(true, Ordering::Release);
    }

    async fn piece(&self, piece: Bytes) -> io::Result<()> {
        match timeout(self.write_timeout, self.pieces.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")),
        }
    }
}

impl Link for Feed {
    async fn send(&mut self, out: &mut Outgoing) -> io::Result<()> {
        while let Some(first) = out.parts.pop_front() {
            let fits =
                |sum: usize, next: Option<&Bytes>| next.is_some_and(|next| sum + next.len() <= PIECE_BYTES);
            if !fits(first.len(), out.parts.front()) {
                self.piece(first).await?;
                continue;
            }
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            piece.extend_from_slice(&first);
            while fits(piece.len(), out.parts.front()) {
                if let Some(next) = out.parts.pop_front() {
                    piece.extend_from_slice(&next);
                }
            }
            self.piece(piece.freeze()).await?;
        }
        Ok(())
    }

    async fn hush(&mut self) -> io::Result<()> {
        self.pieces.closed().await;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl http_body::Body for Outgoings {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Outgoings::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Outgoings::Stream(body) => Poll::Ready(match ready!(body.pieces.poll_recv(cx)) {
                Some(piece) => Some(Ok(Frame::data(piece))),
                None if body.complete.load(Ordering::Acquire) => None,
                None => Some(Err(io::ErrorKind::ConnectionAborted.into())),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoings::Whole(body) => body.is_end_stream(),
            Outgoings::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoings::Whole(body) => body.size_hint(),
            Outgoings::Stream(_) => SizeHint::default(),
        }
    }
}
