//! What a stranger may write into a URL.

use logweir::batch::Timestamp;
use logweir::net::{params::StreamParams, query_string as urls};

/// Paths and pairs decode to text or an error.
pub fn query_string(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(urls::pairs(text));
    drop(urls::path(text));
}

/// The parameters of a stream.
pub fn stream_params(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(StreamParams::parse(Some(text), true, Timestamp(0)).map(drop));
}
