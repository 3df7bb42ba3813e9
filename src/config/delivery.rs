//! The `batch` and `retry` tables that every client sink shares, and the credentials a client shows: how much is
//! sent at once, and what happens when the other side does not take it.

use std::time::Duration;

use crate::base::units::ByteCount;
use crate::config::{Secret, choices, options};

options! {
    /// How much is gathered before it is sent. Whatever is reached first ends the gathering.
    pub struct BatchOptions {
        /// Most events sent at once.
        #[range(1..=1_000_000)]
        pub max_events: u64 = 10_000,
        /// Most bytes sent at once, before compression. A single event may be larger.
        #[range(ByteCount::kib(1)..=ByteCount::mib(256))]
        pub max_bytes: ByteCount = ByteCount::mib(1),
        /// Longest wait for more, counted from the first event.
        #[range(Duration::ZERO..=Duration::from_secs(3600))]
        pub max_wait: Duration = Duration::from_millis(200),
    }
}

choices! {
    /// How the pause between attempts grows.
    pub enum RetryBackoff {
        /// The limit doubles with every attempt, up to `max_delay`.
        Exponential = "exponential",
        /// The limit stays at `initial_delay`.
        Constant = "constant",
    }
}

options! {
    /// What happens when sending failed in a way that may pass. Each pause is drawn at random between zero and a
    /// limit, so that many senders do not return all at once.
    pub struct RetryOptions {
        /// Attempts after which events are given up, counted as rejected. Default: none, nothing is given up.
        #[range(1..=1_000_000)]
        pub max_attempts: Option<u64> = None,
        /// The limit of the first pause.
        #[range(Duration::from_millis(1)..=Duration::from_secs(3600))]
        pub initial_delay: Duration = Duration::from_millis(200),
        /// The longest pause. A receiver's `Retry-After` is honoured up to this, too.
        #[range(Duration::from_millis(1)..=Duration::from_secs(86_400))]
        pub max_delay: Duration = Duration::from_secs(30),
        /// How the limit grows.
        pub backoff: RetryBackoff = RetryBackoff::Exponential,
    }
}

options! {
    /// A name and a password (RFC 7617).
    pub struct ClientBasicOptions {
        /// The name.
        pub user: String,
        /// The password.
        pub password: Secret,
    }
}

options! {
    /// What a client shows to be let in: one of the two.
    pub struct ClientAuthOptions {
        /// A name and a password.
        pub basic: Option<ClientBasicOptions> = None,
        /// A token, sent as `Authorization: Bearer` (RFC 6750).
        pub bearer: Option<Secret> = None,
    }
}
