//! Who may come in: what every listener asks before it serves a connection or a request.

pub(super) mod origin;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{AccessOptions, AuthOptions};
use crate::flow::BuildCx;

/// The guard of one listener. Shared by its connections.
#[derive(Debug, Default)]
pub struct Guard {}

/// A connection that was let in; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Admission(#[expect(dead_code, reason = "held for its guard")] Arc<Guard>);

/// Why somebody was turned away.
#[derive(Debug, Clone)]
pub struct Refusal(&'static str);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Guard {
    /// A guard that admits everybody.
    pub fn open() -> Guard {
        Guard::default()
    }

    /// The guard that the tables ask for, or `None` after complaints.
    pub fn build(
        _access: Option<&AccessOptions>,
        _auth: Option<&AuthOptions>,
        _cx: &mut BuildCx<'_>,
    ) -> Option<Guard> {
        Some(Guard::open())
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(self: &Arc<Self>, _peer: IpAddr) -> Result<Admission, Refusal> {
        Ok(Admission(self.clone()))
    }
}
