//! Handshakes that failed: why, in a few words, and told in the log at most once a minute, however many there are.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::base::clock::{self, Instant};

/// The least time between two lines in the log.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The failures of one listener that were not told yet.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    count: u64,
    last: String,
    told: Option<Instant>,
}

impl Failures {
    /// Notes one, and says why it failed.
    pub(super) fn note(&self, peer: Option<SocketAddr>, e: &io::Error) -> String {
        let why = reason(e);
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        untold.count += 1;
        let from = peer.map_or_else(String::new, |peer| format!("{}: ", peer.ip().to_canonical()));
        untold.last = format!("{from}{why}");
        why
    }

    /// What is to be told now, if anything.
    pub(super) fn take(&self) -> Option<String> {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        let recently = untold.told.is_some_and(|told| now.duration_since(told) < TELL_EVERY);
        if untold.count == 0 || recently {
            return None;
        }
        untold.told = Some(now);
        let (count, last) = (std::mem::take(&mut untold.count), std::mem::take(&mut untold.last));
        Some(match count {
            1 => format!("a TLS handshake failed, from {last}"),
            count => format!("{count} TLS handshakes failed, the last from {last}"),
        })
    }
}

/// Why a handshake failed, as an operator wants to know it.
fn reason(e: &io::Error) -> String {
    let Some(inner) = e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match e.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "the client left".to_owned(),
            _ => e.to_string(),
        };
    };
    match inner {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the client does not speak TLS".to_owned()
        }
        Error::NoCertificatesPresented => "the client shows no certificate".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the client's certificate is of an authority that is not trusted here".to_owned()
        }
        Error::InvalidCertificate(why) => format!("the client's certificate is refused: {why}"),
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => "the client does not trust this server's certificate".to_owned(),
        Error::AlertReceived(alert) => format!("the client refused: {alert:?}"),
        Error::PeerIncompatible(_) => {
            "the client and this server have no version or cipher in common".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_failures_is_a_line_a_minute() {
        let failures = Failures::default();
        assert_eq!(failures.take(), None);
        let e = || io::Error::new(io::ErrorKind::InvalidData, Error::NoCertificatesPresented);
        let peer = Some("[::ffff:10.0.0.1]:5".parse().unwrap());
        failures.note(peer, &e());
        let first = failures.take().unwrap();
        assert_eq!(first, "a TLS handshake failed, from 10.0.0.1: the client shows no certificate");
        (0..1000).for_each(|_| drop(failures.note(peer, &io::ErrorKind::UnexpectedEof.into())));
        assert_eq!(failures.take(), None, "not so soon");
        tokio::time::sleep(TELL_EVERY).await;
        let flood = failures.take().unwrap();
        assert_eq!(flood, "1000 TLS handshakes failed, the last from 10.0.0.1: the client left");
        assert_eq!(failures.take(), None);
    }
}
