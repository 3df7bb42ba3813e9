//! Who somebody turned out to be.

use std::sync::Arc;

/// How somebody was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// Nobody had to be: the listener has no `auth`.
    Open,
    /// A user's password.
    Basic,
    /// A token.
    Bearer,
    /// A ticket, which one of the others was exchanged for.
    Ticket,
    /// The name in a verified certificate.
    Certificate,
    /// The user at the other end of the control socket.
    User,
}

impl Means {
    /// One word for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Means::Open => "open",
            Means::Basic => "basic",
            Means::Bearer => "bearer",
            Means::Ticket => "ticket",
            Means::Certificate => "certificate",
            Means::User => "user",
        }
    }
}

/// Who somebody turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    name: Option<Arc<str>>,
    means: Means,
}

impl Identity {
    pub(super) fn new(name: Arc<str>, means: Means) -> Identity {
        Identity { name: Some(name), means }
    }

    /// Anybody.
    pub(in crate::net) fn anybody() -> Identity {
        Identity { name: None, means: Means::Open }
    }

    /// The user `uid` of this machine, who is at the other end of the control socket.
    pub fn of_user(uid: u32) -> Identity {
        Identity::new(format!("uid {uid}").into(), Means::User)
    }

    /// The user, the token's name or the certificate's; `None` where nobody has to say.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How it is known.
    pub fn means(&self) -> Means {
        self.means
    }

    /// The same, recognised by a ticket.
    pub(super) fn by_ticket(mut self) -> Identity {
        self.means = Means::Ticket;
        self
    }
}
