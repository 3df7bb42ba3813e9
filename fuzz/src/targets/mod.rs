//! What is fuzzed, by name.

mod config;
mod lines;
mod requests;

/// A name for `FUZZ_TARGET`, and what it does with the bytes. It panics where a promise is broken.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("newline_framing", lines::newline_framing),
    ("detect", lines::detect),
    ("lookup", lines::lookup),
    ("encode_json", lines::encode_json),
    ("terminal", lines::terminal),
    ("query_string", requests::query_string),
    ("stream_params", requests::stream_params),
    ("config", config::config),
    ("templates", config::templates),
    ("patterns", config::patterns),
];
