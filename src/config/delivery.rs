//! The `batch` and `retry` tables that every client sink shares, and the credentials a client shows: how much is
//! sent at once, and what happens when the other side does not take it.

use std::time::Duration;

use crate::base::units::ByteCount;
use crate::config::from_node::{wrong_form, wrong_type};
use crate::config::{Diagnostics, FromNode, Node, Path, Secret, Shape, Value, choices, options};

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

/// How many requests are under way at a time: a number, or `"adaptive"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyOption {
    /// As many as the receiver takes gladly.
    Adaptive,
    /// This many.
    Fixed(usize),
}

impl ConcurrencyOption {
    /// The greatest number.
    pub const MAX: usize = 1024;
    const WORD: &'static str = "adaptive";
}

impl FromNode for ConcurrencyOption {
    fn shape() -> Shape {
        Shape::CountOr { max: ConcurrencyOption::MAX as i64, word: ConcurrencyOption::WORD }
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<ConcurrencyOption> {
        let expected = Self::shape().expected();
        let number = match &node.value {
            Value::String(text) if text == ConcurrencyOption::WORD => {
                return Some(ConcurrencyOption::Adaptive);
            }
            Value::String(text) if node.loose => text.trim().parse().ok(),
            Value::Int(n) => Some(*n),
            Value::String(_) => None,
            _ => {
                wrong_type(node, at, &expected, diags);
                return None;
            }
        };
        match number.and_then(|n: i64| usize::try_from(n).ok()) {
            Some(n @ 1..=ConcurrencyOption::MAX) => Some(ConcurrencyOption::Fixed(n)),
            _ => {
                wrong_form(node, at, "that is no number of requests", &expected, diags);
                None
            }
        }
    }

    fn display(&self) -> String {
        match self {
            ConcurrencyOption::Adaptive => format!("\"{}\"", ConcurrencyOption::WORD),
            ConcurrencyOption::Fixed(n) => n.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_is_a_number_or_adaptive() {
        let mut diags = Diagnostics::new();
        let mut read = |node: Node| ConcurrencyOption::from_node(&node, &Path::root(), &mut diags);
        assert_eq!(read("adaptive".into()), Some(ConcurrencyOption::Adaptive));
        assert_eq!(read(7.into()), Some(ConcurrencyOption::Fixed(7)));
        for bad in [Node::from(0), (-1).into(), 1025.into(), "7".into(), "fast".into(), Node::empty()] {
            assert_eq!(read(bad), None);
        }
        assert_eq!(diags.error_count(), 6);
        assert_eq!(
            (ConcurrencyOption::Fixed(7).display(), ConcurrencyOption::Adaptive.display()),
            ("7".to_owned(), "\"adaptive\"".to_owned())
        );
    }
}
