//! An answer that goes on: JSON lines over HTTP, read one after the other as they come.

use std::io::{self, BufRead, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::exit::{Exit, Failure};
use super::http_get::{Base, parse_answer};
use super::https::Connection;
use crate::base::clock;

/// The longest wait for the head of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of the head, and of an answer that is none.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// The longest line, in bytes: a row of a mebibyte whose every byte is escaped, and what is said about it.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// See the module.
pub struct Stream {
    reader: BufReader<Connection>,
}

/// Ends a [`Stream`] from another thread.
#[derive(Debug)]
pub struct Stopper(Option<UnixStream>);

impl Stopper {
    /// Ends it: who reads it finds its end.
    pub fn stop(&self) {
        if let Some(socket) = &self.0 {
            // It may have ended by itself.
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Base {
    /// Asks for a stream.
    ///
    /// # Errors
    /// With exit code 69 when there is no answer, 64 when the question was wrong, with what was answered.
    pub fn stream(&self, path: &str) -> Result<Stream, Failure> {
        let (head, reader) = self.begin(path).map_err(|e| self.unanswered(&e))?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).unwrap_or(0);
        if status == 200 {
            return Ok(Stream { reader });
        }
        let mut answer = head.into_bytes();
        reader.take(HEAD_BYTES_MAX).read_to_end(&mut answer).map_err(|e| self.unanswered(&e))?;
        let body = parse_answer(&answer).map(|answer| answer.body).unwrap_or_default();
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |key: &str| said.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        let detail = text("detail").unwrap_or_else(|| format!("{self} answered with status {status}"));
        let exit = if (400..500).contains(&status) { Exit::USAGE } else { Exit::UNAVAILABLE };
        let failure = Failure::new(exit, detail);
        Err(match text("hint") {
            Some(hint) => failure.hint(hint),
            None => failure,
        })
    }

    /// The head of the answer, and what comes behind it.
    fn begin(&self, path: &str) -> io::Result<(String, BufReader<Connection>)> {
        let deadline = clock::now() + PATIENCE;
        let mut connection = self.connect(deadline)?;
        // In this version the body ends with the connection, and has no chunks.
        let request = format!(
            "GET {}{path} HTTP/1.0\r\nHost: {}\r\n{}\r\n",
            self.path(),
            self.host_header(),
            self.login_line()
        );
        connection.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(connection);
        let (mut head, mut left) = (Vec::new(), HEAD_BYTES_MAX);
        while !head.ends_with(b"\r\n\r\n") {
            let n = reader.by_ref().take(left).read_until(b'\n', &mut head)? as u64;
            left -= n;
            if n == 0 {
                return Err(io::Error::other("the answer is not HTTP"));
            }
        }
        reader.get_ref().set_timeouts(None)?;
        let head = String::from_utf8(head).map_err(|_| io::Error::other("the answer is not HTTP"))?;
        Ok((head, reader))
    }
}

impl Stream {
    /// The next line without its line break; `None` at the end.
    ///
    /// # Errors
    /// What the system says, and `InvalidData` for a line that is longer than any can be.
    pub fn line(&mut self, line: &mut Vec<u8>) -> io::Result<Option<()>> {
        line.clear();
        self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
        if line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(Some(()));
        }
        match line.len() as u64 {
            LINE_BYTES_MAX => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long")),
            _ => Ok(None),
        }
    }

    /// Whether the next line is there already, most likely.
    pub fn has_more(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// What ends it from another thread; on a Unix socket only.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.reader.get_ref().local())
    }
}
