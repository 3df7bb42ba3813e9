//! What the router promises, tried over real sockets by a client that sends and reads plain bytes.

mod control;
mod half_close;
mod harness;
mod hostile;
mod ring;
mod streams;
mod tls;

pub(in crate::net) use harness::Nothing;
