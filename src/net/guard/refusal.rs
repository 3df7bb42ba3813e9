//! Why a connection or a request was turned away, how often each reason occurred, and the answer that whoever
//! speaks HTTP gets for it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};

use crate::net::problem::Problem;

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The address is in `access.deny`.
    Denied,
    /// The address is not in `access.allow`.
    NotAllowed,
    /// `access.max_connections` are open.
    Connections,
    /// `access.max_connections_per_ip` are open from this address.
    ConnectionsPerAddress,
    /// More requests from this address than `access.requests_per_second`.
    Requests,
    /// More requests than `access.global_requests_per_second`.
    RequestsGlobal,
    /// No credentials were sent.
    NoCredentials,
    /// The credentials are wrong.
    WrongCredentials,
    /// Too many wrong credentials came from this address.
    Guessing,
    /// Credentials cannot be checked right now: too many are being checked, or they could not be read.
    CannotCheck,
    /// A page of another origin asked.
    ForeignOrigin,
    /// The request asks for a host that this machine is not.
    ForeignHost,
    /// The TLS handshake failed, or was not finished in time.
    Handshake,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 13] = [
        Reason::Denied,
        Reason::NotAllowed,
        Reason::Connections,
        Reason::ConnectionsPerAddress,
        Reason::Requests,
        Reason::RequestsGlobal,
        Reason::NoCredentials,
        Reason::WrongCredentials,
        Reason::Guessing,
        Reason::CannotCheck,
        Reason::ForeignOrigin,
        Reason::ForeignHost,
        Reason::Handshake,
    ];

    /// The word for it in metrics, status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Denied => "denied",
            Reason::NotAllowed => "not_allowed",
            Reason::Connections => "max_connections",
            Reason::ConnectionsPerAddress => "max_connections_per_ip",
            Reason::Requests => "requests_per_second",
            Reason::RequestsGlobal => "global_requests_per_second",
            Reason::NoCredentials => "no_credentials",
            Reason::WrongCredentials => "wrong_credentials",
            Reason::Guessing => "guessing",
            Reason::CannotCheck => "cannot_check",
            Reason::ForeignOrigin => "foreign_origin",
            Reason::ForeignHost => "foreign_host",
            Reason::Handshake => "handshake",
        }
    }
}

/// How often each reason occurred since the guard was made.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; Reason::ALL.len()]);

impl Refusals {
    /// Counts one.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Reasons that occurred, with how often.
    pub fn snapshot(&self) -> Vec<(Reason, u64)> {
        let counts =
            Reason::ALL.into_iter().map(|reason| (reason, self.0[reason as usize].load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How often one reason occurred.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

/// Somebody was turned away.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub(super) reason: Reason,
    pub(super) status: StatusCode,
    pub(super) detail: String,
    pub(super) retry_after: Option<Duration>,
    /// The values of `WWW-Authenticate`, where the answer is to ask for credentials.
    pub(super) challenges: &'static [&'static str],
}

impl Refusal {
    pub(super) fn new(reason: Reason, status: StatusCode, detail: impl Into<String>) -> Refusal {
        Refusal { reason, status, detail: detail.into(), retry_after: None, challenges: &[] }
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Refusal {
        self.retry_after = Some(wait);
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer, for what speaks HTTP.
    pub fn into_problem(self) -> Problem {
        let mut problem = Problem::new(self.status, self.detail).with("reason", self.reason.as_str());
        if let Some(wait) = self.retry_after {
            // Whole seconds (RFC 9110, section 10.2.3), rounded up: earlier would be too early. The nanosecond that a
            // bucket adds for its own rounding is none.
            let wait = wait.saturating_sub(Duration::from_micros(1));
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            problem = problem.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        for challenge in self.challenges {
            problem = problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        problem
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_word() {
        let refusals = Refusals::default();
        for (i, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            (0..=i).for_each(|_| refusals.count(reason));
        }
        let mut words: Vec<_> = refusals.snapshot().iter().map(|(reason, _)| reason.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
        assert_eq!((refusals.of(Reason::Denied), refusals.of(Reason::ForeignHost)), (1, 12));
    }

    #[test]
    fn waits_are_rounded_up_to_whole_seconds() {
        for (wait, said) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_500, "60")] {
            let refusal = Refusal::new(Reason::Requests, StatusCode::TOO_MANY_REQUESTS, "too many");
            let answer = refusal.retry_after(Duration::from_millis(wait)).into_problem().into_response();
            assert_eq!(answer.headers()[header::RETRY_AFTER], said, "{wait}");
        }
    }
}
