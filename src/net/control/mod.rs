//! The control socket: HTTP over a Unix socket that only its owner reaches, so that a running weir can be looked into
//! without an open port or a password. [`socket`] makes it, [`serve`] answers on it.

mod serve;
pub mod socket;

pub use serve::{ControlBody, ControlHandler, serve};
pub use socket::ControlSocket;
