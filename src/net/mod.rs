//! Row 4: the shared HTTP router and its streams. A sink appends batches to a ring; a subscriber is a cursor in
//! it; the listener parses requests, refuses what it must, and hands a stream's socket to a small writer.

mod answer;
pub mod body;
pub mod commit;
pub mod control;
pub mod dial;
pub mod entrance;
mod gate;
pub mod guard;
mod head_watch;
mod http2;
pub mod id;
pub mod inbound;
pub mod ingest;
pub mod lanes;
mod lines;
mod link;
mod listener;
mod listeners;
mod live;
pub mod mount;
pub mod notes;
pub mod params;
pub mod problem;
mod pump;
pub mod query_string;
pub mod requests;
pub mod ring;
mod router;
pub mod segment;
pub mod select;
pub mod socket;
mod stream_body;
pub mod subscriber;
mod timed;
pub mod tls;
pub mod upstream;

pub use answer::{MANY_PATH, only_read};
pub use entrance::{Arrival, Entrance, EntranceConfig, Visitor};
pub use gate::{TICKET_PATH, Unrecognised};
pub use guard::Guard;
pub use lines::serve_lines;
pub use listener::{CorsOrigins, Policy, bind, listen, serve};
pub use listeners::Listeners;
pub use live::{append_all, append_and_serve};
pub use pump::PumpOptions;
pub use router::{Handler, Route, Router, StreamOptions, StreamRoute};
pub use socket::{Peer, Socket};

#[cfg(test)]
mod tests;
