//! Length-prefixed framing: each event follows its length as four bytes, big-endian, not counting themselves. Used by
//! many binary transports (Cribl, NXLog, Vector's `length_delimited`); a length of 0 is an empty event.

use super::counted::{Bodies, Header};
use super::{FRAME_BYTES_MAX, Framed, FramingError, Oversize};
use crate::batch::Framing;

/// Frames one stream of length-prefixed events.
#[derive(Debug, Clone)]
pub struct LengthPrefixedFramer {
    bodies: Bodies,
}

impl LengthPrefixedFramer {
    /// A framer at the start of a stream.
    pub fn new(line_bytes_max: usize, oversize: Oversize) -> LengthPrefixedFramer {
        LengthPrefixedFramer { bodies: Bodies::new(line_bytes_max, oversize) }
    }

    /// See [`Framer::frame`](super::Framer::frame).
    pub fn frame(&mut self, chunk: &[u8]) -> (Framed, Option<FramingError>) {
        let mut framed = Framed::expecting(chunk.len(), Framing::Free);
        let Some(mut at) = self.bodies.go_on(chunk, 0, &mut framed) else { return (framed, None) };
        loop {
            match header(&chunk[at..]) {
                Ok(Some(header)) => match self.bodies.begin(chunk, at, header, &mut framed) {
                    Some(next) => at = next,
                    None => return (framed, None),
                },
                Ok(None) => return (framed, None),
                Err(e) => return (framed, Some(e)),
            }
        }
    }

    /// See [`Framer::finish`](super::Framer::finish).
    pub fn finish(&mut self, rest: &[u8]) -> (Framed, bool) {
        let (mut framed, _) = self.frame(rest);
        let left = &rest[framed.consumed..];
        let header = if self.bodies.is_within_long() { None } else { header(left).ok().flatten() };
        let cut = self.bodies.finish(rest, header, &mut framed);
        (framed, cut)
    }
}

/// The length at the start of `bytes`, once it is there.
fn header(bytes: &[u8]) -> Result<Option<Header>, FramingError> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let body_bytes = u32::from_be_bytes(*length) as usize;
    if body_bytes > FRAME_BYTES_MAX {
        return Err(FramingError::TooLong { announced: body_bytes as u64 });
    }
    Ok(Some(Header { header_bytes: 4, body_bytes }))
}
