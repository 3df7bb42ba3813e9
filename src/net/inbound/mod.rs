//! Rows from the network: byte streams that are framed as they are read, datagrams taken in bunches, and the files of
//! Unix sockets. What sources listen on differs; what they do with a connection is the same.

pub mod datagram;
mod drops;
mod seldom;
pub mod stream;
pub mod unix;

pub use drops::UdpDrops;
pub use seldom::Seldom;
