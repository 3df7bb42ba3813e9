//! Compressed files, as rotation leaves them: read once, front to back, with bounded memory. Offsets are offsets of
//! the content, so what was read before compression is skipped, and an interrupted reading goes on where it was.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::text::Coding;

/// Largest zstd window that is believed (128 MiB is what the format's own tools allow by default).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Which compression a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
}

impl Compression {
    /// Of a file with that name: the extension says so.
    pub fn of(path: &Path) -> Option<Compression> {
        match path.extension()?.to_str()? {
            "gz" => Some(Compression::Gzip),
            "zst" => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// A compressed file that is being read.
pub struct Archive {
    content: Box<dyn Read + Send>,
    /// Read and not yet consumed.
    pub carry: Vec<u8>,
    /// Whether the content has ended.
    pub ended: bool,
    /// How the content is encoded.
    pub coding: Coding,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("carry", &self.carry.len()).field("ended", &self.ended).finish()
    }
}

impl Archive {
    /// The content of `file` from its start.
    ///
    /// # Errors
    /// When the decoder cannot be made.
    pub fn open(mut file: File, compression: Compression) -> io::Result<Archive> {
        file.seek(SeekFrom::Start(0))?;
        let content: Box<dyn Read + Send> = match compression {
            Compression::Gzip => {
                Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, file)))
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(file)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        Ok(Archive { content, carry: Vec::new(), ended: false, coding: Coding::of(&[], None) })
    }

    /// Fills `buffer` with what was carried over and then content; the count is short only at the end.
    ///
    /// # Errors
    /// From the file or its format; a truncated file is [`io::ErrorKind::UnexpectedEof`].
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut len = self.carry.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.carry[..len]);
        self.carry.drain(..len);
        while len < buffer.len() && !self.ended {
            match self.content.read(&mut buffer[len..]) {
                Ok(0) => self.ended = true,
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(len)
    }

    /// Reads and forgets `bytes` of content; whether there was that much.
    ///
    /// # Errors
    /// As [`Archive::fill`].
    pub fn skip(&mut self, mut bytes: u64) -> io::Result<bool> {
        let mut buffer = vec![0; 64 << 10];
        while bytes > 0 {
            let want = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
            let got = self.fill(&mut buffer[..want])?;
            if got == 0 {
                return Ok(false);
            }
            bytes -= got as u64;
        }
        Ok(true)
    }
}
