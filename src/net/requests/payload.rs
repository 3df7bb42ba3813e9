//! The body of a request as a list of shared pieces: nothing is put together, and trying again costs a reference
//! count.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The bytes of a request; clones share them.
#[derive(Debug, Clone)]
pub struct Payload {
    parts: Arc<[Bytes]>,
    bytes: u64,
}

impl Payload {
    /// The parts one after the other.
    pub fn new(parts: impl IntoIterator<Item = Bytes>) -> Payload {
        let parts: Arc<[Bytes]> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        Payload { parts, bytes }
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A body to send, and a flag that says when all of it was taken to be sent.
    pub fn body(&self) -> (PayloadBody, Arc<AtomicBool>) {
        let taken = Arc::new(AtomicBool::new(self.parts.is_empty()));
        (PayloadBody { payload: self.clone(), next: 0, left: self.bytes, taken: taken.clone() }, taken)
    }
}

/// One sending of a [`Payload`]. Its length is known, so that it is sent with `content-length`.
#[derive(Debug)]
pub struct PayloadBody {
    payload: Payload,
    next: usize,
    left: u64,
    taken: Arc<AtomicBool>,
}

impl Body for PayloadBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let Some(part) = this.payload.parts.get(this.next).cloned() else { return Poll::Ready(None) };
        this.next += 1;
        this.left -= part.len() as u64;
        if this.left == 0 {
            this.taken.store(true, Relaxed);
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn parts_leave_in_order_with_their_length_known() {
        let payload = Payload::new([Bytes::from("ab"), Bytes::new(), Bytes::from("c")]);
        for _ in 0..2 {
            let (body, taken) = payload.body();
            assert_eq!((payload.bytes(), body.size_hint().exact(), taken.load(Relaxed)), (3, Some(3), false));
            assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
            assert!(taken.load(Relaxed));
        }
        let (nothing, taken) = Payload::new([]).body();
        assert!(nothing.is_end_stream() && taken.load(Relaxed));
    }
}
