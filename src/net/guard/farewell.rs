//! The last words to a connection that is refused on a plain HTTP listener: why, in an answer, rather than a reset
//! that looks like a broken network. Few at a time and not for long, since whoever is refused may be an attacker.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::refusal::Refusal;
use crate::base::task;

/// Refused connections that are answered at a time; more are closed without a word.
const AT_ONCE: usize = 64;
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of its request that are read, so that closing does not reset what was just written.
const REQUEST_BYTES_MAX: u64 = 16 << 10;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Farewell(Arc<Semaphore>);

impl Default for Farewell {
    fn default() -> Farewell {
        Farewell(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Farewell {
    /// Answers and closes, in a task of its own.
    pub(super) fn say(&self, socket: TcpStream, refusal: Refusal) {
        let Ok(turn) = self.0.clone().try_acquire_owned() else { return };
        let said = async move {
            let answer = refusal.into_problem().into_last_words();
            // Whoever does not take it in time was told enough.
            tokio::time::timeout(PATIENCE, answer_and_close(socket, answer)).await.ok();
            drop(turn);
        };
        drop(task::spawn(said));
    }
}

async fn answer_and_close(mut socket: TcpStream, answer: Bytes) -> io::Result<()> {
    // The request first: some clients take an answer that comes before they asked for a broken one.
    socket.readable().await?;
    socket.write_all(&answer).await?;
    socket.shutdown().await?;
    let mut rest = socket.take(REQUEST_BYTES_MAX);
    let mut sink = [0; 1024];
    while rest.read(&mut sink).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::net::guard::refusal::Reason;

    #[tokio::test]
    async fn a_refused_client_hears_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let refusal = Refusal::new(Reason::Denied, StatusCode::FORBIDDEN, "this address is denied");
        Farewell::default().say(server, refusal);
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
        assert!(
            text.contains("\r\nconnection: close\r\n\r\n{") && text.contains("\"reason\":\"denied\""),
            "{text}"
        );
    }
}
