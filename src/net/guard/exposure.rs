//! Whether a listener is open to strangers: the rule of `check` and `run` that what other machines reach is guarded,
//! in one place for the shared router and for every component.

use crate::config::{AccessOptions, AuthOptions, Listen};

/// What is to be said of a listener before it is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposure {
    /// Nothing.
    Sound,
    /// It is refused: other machines reach it .
    Unguarded {
        /// What is wrong.
        message: String,
        /// The ways out.
        hint: String,
    },
    /// It is allowed, with a warning: passwords or tokens travel in the clear.
    PlainCredentials {
        /// What is wrong.
        message: String,
        /// The way out.
        hint: String,
    },
}

/// Looks at a listener's address and tables. A list of allowed networks guards unless it allows everybody, and so
/// do certificates that every client needs (`client_certificates`).
pub fn exposure(
    listen: &Listen,
    (tls, client_certificates): (bool, bool),
    access: Option<&AccessOptions>,
    auth: Option<&AuthOptions>,
    insecure_public: bool,
) -> Exposure {
    if listen.is_loopback() {
        return Exposure::Sound;
    }
    let guarded = auth.is_some() || client_certificates || access.is_some_and(AccessOptions::restricts);
    if !guarded && !insecure_public {
        return Exposure::Unguarded {
            message: format!("other machines can reach `{listen}` without a guard"),
            hint: "add `auth` (`weir hash` makes the hashes) or `access.allow` with the networks that may connect; \
                   or listen on 127.0.0.1; or set insecure_public = true if everybody may"
                .to_owned(),
        };
    }
    if !tls && auth.is_some_and(AuthOptions::has_credentials) {
        return Exposure::PlainCredentials {
            message: format!("passwords and tokens reach `{listen}` in the clear"),
            hint: "add `tls`, or let a proxy on this machine do it and listen on 127.0.0.1".to_owned(),
        };
    }
    Exposure::Sound
}
