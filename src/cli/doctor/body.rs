//! The body of an answer as it comes: framed by its length, by chunks or by the connection's end, unpacked where it is
//! packed, each piece as soon as it is there.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use crate::base::clock::{self, Instant};
use crate::cli::https::Connection;

/// Most bytes that are unpacked from one piece.
const UNPACKED_BYTES_MAX: usize = 16 << 20;
/// What ends a body as its framing says.
pub(super) const ENDED: &str = "the answer has ended";

/// What comes next of a body.
pub(super) enum Piece {
    /// Bytes, unpacked.
    Data(Vec<u8>),
    /// Nothing until the deadline.
    Quiet,
    /// It has ended, as it should or not.
    End(String),
}

/// A body as it comes.
pub(super) struct Body {
    connection: Connection,
    framing: Framing,
    /// Read, and not yet looked at.
    raw: Vec<u8>,
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
}

/// How its end is known.
pub(super) enum Framing {
    /// Until the connection ends.
    Close,
    /// So many bytes are left.
    Length(u64),
    /// Chunks (RFC 9112, 7.1); so many bytes are left of this one.
    Chunked(u64),
    /// The last chunk has come.
    Done,
}

/// What a read brought.
pub(super) enum Got {
    Bytes,
    Nothing,
    End,
}

/// Reads what is there, waiting until `deadline` for something.
pub(super) fn read(connection: &mut Connection, deadline: Instant, into: &mut Vec<u8>) -> io::Result<Got> {
    let left = deadline.saturating_duration_since(clock::now());
    if left.is_zero() {
        return Ok(Got::Nothing);
    }
    connection.set_timeouts(Some(left))?;
    let mut chunk = [0; 16 << 10];
    match connection.read(&mut chunk) {
        Ok(0) => Ok(Got::End),
        Ok(n) => {
            into.extend_from_slice(&chunk[..n]);
            Ok(Got::Bytes)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(Got::Nothing),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Got::Bytes),
        // Without the TLS farewell, as many servers end.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Got::End),
        Err(e) => Err(e),
    }
}

impl Body {
    /// The body behind a head, of which `raw` is there already.
    pub(super) fn new(connection: Connection, framing: Framing, is_gzip: bool, raw: Vec<u8>) -> Body {
        let gzip = is_gzip.then(|| MultiGzDecoder::new(Vec::new()));
        Body { connection, framing, raw, gzip }
    }

    /// The next piece, as soon as there is one.
    pub(super) fn next(&mut self, deadline: Instant) -> Piece {
        loop {
            let data = match self.framed() {
                Ok(data) => data,
                Err(why) => return Piece::End(why),
            };
            if !data.is_empty() {
                return match self.unpacked(data) {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => Piece::Data(data),
                    Err(why) => Piece::End(why),
                };
            }
            if matches!(self.framing, Framing::Done | Framing::Length(0)) {
                return Piece::End(ENDED.to_owned());
            }
            match read(&mut self.connection, deadline, &mut self.raw) {
                Ok(Got::Bytes) => {}
                Ok(Got::Nothing) => return Piece::Quiet,
                Ok(Got::End) => return Piece::End("the connection was closed".to_owned()),
                Err(e) => return Piece::End(e.to_string()),
            }
        }
    }

    /// All of a body that ends, at most so many bytes of it.
    pub(super) fn all(&mut self, bytes_max: usize, deadline: Instant) -> Vec<u8> {
        let mut all = Vec::new();
        while let Piece::Data(data) = self.next(deadline) {
            all.extend(data);
            if all.len() > bytes_max {
                break;
            }
        }
        all
    }

    /// What is there of the body itself.
    fn framed(&mut self) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        loop {
            match &mut self.framing {
                Framing::Close => out.append(&mut self.raw),
                Framing::Done => self.raw.clear(),
                Framing::Length(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.raw.len());
                    out.extend(self.raw.drain(..take));
                    *left -= take as u64;
                }
                Framing::Chunked(left @ 1..) => {
                    // The last two bytes of a chunk are its line break.
                    let data =
                        usize::try_from(left.saturating_sub(2)).unwrap_or(usize::MAX).min(self.raw.len());
                    out.extend(self.raw.drain(..data));
                    *left -= data as u64;
                    let end = usize::try_from((*left).min(2)).unwrap_or(2).min(self.raw.len());
                    if *left <= 2 {
                        self.raw.drain(..end);
                        *left -= end as u64;
                        if *left == 0 {
                            continue;
                        }
                    }
                }
                Framing::Chunked(left) => {
                    let Some(end) = memchr::memmem::find(&self.raw, b"\r\n") else {
                        return if self.raw.len() > 1024 {
                            Err("a chunk is broken".to_owned())
                        } else {
                            Ok(out)
                        };
                    };
                    let line = String::from_utf8_lossy(&self.raw[..end]).into_owned();
                    self.raw.drain(..end + 2);
                    let size = line.split(';').next().unwrap_or_default().trim();
                    let size = u64::from_str_radix(size, 16).map_err(|_| "a chunk is broken".to_owned())?;
                    match size {
                        0 => self.framing = Framing::Done,
                        size => *left = size.saturating_add(2),
                    }
                    continue;
                }
            }
            return Ok(out);
        }
    }

    fn unpacked(&mut self, data: Vec<u8>) -> Result<Vec<u8>, String> {
        let Some(gzip) = &mut self.gzip else { return Ok(data) };
        gzip.write_all(&data).map_err(|e| format!("it is not gzip: {e}"))?;
        gzip.flush().map_err(|e| format!("it is not gzip: {e}"))?;
        let out = std::mem::take(gzip.get_mut());
        if out.len() > UNPACKED_BYTES_MAX {
            return Err("unpacked, it is larger than 16MiB".to_owned());
        }
        Ok(out)
    }
}
