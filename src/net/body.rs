//! Reading a request's body: whole, within bounds of size, of time between pieces, of overall rate, and of what all
//! bodies of a source may hold in memory together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::base::clock;

/// The slowest a body may come on the whole, once `read_timeout` has passed.
const BYTES_PER_SECOND_MIN: f64 = 1024.0;
/// What a client that says how much will come gets set aside for it at once, at most.
const SET_ASIDE_BYTES_MAX: usize = 256 << 10;

/// Memory that the bodies of one source share.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    bytes_max: usize,
}

impl Budget {
    /// Room for `bytes_max`.
    pub fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), bytes_max })
    }

    /// A share of nothing, to grow.
    pub fn share(self: &Arc<Budget>) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Makes the share `bytes` large, if there is room.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes) else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            return true;
        };
        let used = self.budget.used.fetch_add(more, Ordering::Relaxed) + more;
        if used > self.budget.bytes_max {
            self.budget.used.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes = bytes;
        true
    }

    /// Takes over what `other` has.
    pub fn merge(&mut self, mut other: Share) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bounds of one body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Its size as it is sent.
    pub bytes_max: usize,
    /// Time without a piece of it. A body that takes longer than this on the whole must come with at least a
    /// kibibyte a second.
    pub read_timeout: Duration,
}

/// Why a body was not read.
#[derive(Debug)]
pub enum BodyError {
    /// It is larger than the bound.
    TooLarge,
    /// It came too slowly.
    TooSlow,
    /// Other bodies have all the memory there is.
    NoRoom,
    /// The connection failed, or what came is no body by the rules of HTTP.
    Broken(hyper::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge => f.write_str("the body is too large"),
            BodyError::TooSlow => f.write_str("the body came too slowly"),
            BodyError::NoRoom => f.write_str("too many bodies at a time"),
            BodyError::Broken(e) => write!(f, "the body broke off: {e}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// Reads a body to its end; one that comes in a single piece is not copied.
///
/// # Errors
/// See [`BodyError`]. A body whose announced size is too large is not read at all.
pub async fn read_body(
    body: &mut Incoming,
    limits: BodyLimits,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Share), BodyError> {
    let announced = body.size_hint();
    if announced.lower() > limits.bytes_max as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut share = budget.share();
    let started = clock::now();
    let (mut first, mut all, mut received) = (Bytes::new(), Vec::new(), 0usize);
    while !body.is_end_stream() {
        let slowest = Duration::from_secs_f64(received as f64 / BYTES_PER_SECOND_MIN);
        let now = if received == 0 { started } else { clock::now() };
        let deadline = (now + limits.read_timeout).min(started + limits.read_timeout + slowest);
        let Ok(frame) = tokio::time::timeout_at(deadline, body.frame()).await else {
            return Err(BodyError::TooSlow);
        };
        let Some(frame) = frame else { break };
        // Trailers say nothing of events.
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        received += data.len();
        if received > limits.bytes_max {
            return Err(BodyError::TooLarge);
        }
        if !share.resize(received) {
            return Err(BodyError::NoRoom);
        }
        if received == data.len() {
            first = data;
            continue;
        }
        if all.is_empty() {
            let expected = usize::try_from(announced.lower()).unwrap_or(0).min(SET_ASIDE_BYTES_MAX);
            all = Vec::with_capacity(expected.max(received));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok((if all.is_empty() { first } else { all.into() }, share))
}

/// Reads what a client still sends and forgets it: were the connection closed at once, or the stream under HTTP/2, the
/// client might lose the answer with it (RFC 9112, section 9.6). At most `bytes_max` and for `time_max`.
pub async fn discard(body: &mut Incoming, bytes_max: usize, time_max: Duration) {
    let all = async {
        let mut left = bytes_max;
        while !body.is_end_stream() {
            let Some(Ok(frame)) = body.frame().await else { break };
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(time_max, all).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_take_no_more_than_there_is_and_give_all_back() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.resize(60) && b.resize(40) && !b.resize(41) && a.resize(50) && b.resize(50));
        a.merge(b);
        assert!(!budget.share().resize(1));
        drop(a);
        assert!(budget.share().resize(100));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
