//! Rows from the network: byte streams that are framed as they are read, datagrams taken in bunches, and the files of
//! Unix sockets. What sources listen on differs; what they do with a connection is the same.

pub mod datagram;
mod drops;
mod seldom;
pub mod stream;
pub mod unix;

use crate::flow::BuildCx;

pub use drops::UdpDrops;
pub use seldom::Seldom;

/// Options of `access` that limit requests; what comes in here knows none.
pub const REQUEST_OPTIONS: &[&str] =
    &["requests_per_second", "global_requests_per_second", "burst", "status_code", "message"];
/// Options of `access` that limit connections.
pub const CONNECTION_OPTIONS: &[&str] = &["max_connections", "max_connections_per_ip"];

/// Complains about options of `access` that would do nothing, since there are no `things`; true if there are none.
pub fn refuse_access_options(cx: &mut BuildCx<'_>, things: &str, options: &[&str]) -> bool {
    let Some(access) = cx.node.get("access") else { return true };
    let idle: Vec<_> = options.iter().filter(|key| access.get(key).is_some()).collect();
    for key in &idle {
        cx.error("access", format!("`access.{key}` has no meaning here: there are no {things} to limit"))
            .hint("leave it out; `rate_limit` on the pipeline limits events");
    }
    idle.is_empty()
}
