//! What is fuzzed, by name.

mod bodies;
mod clients;
mod config;
mod disk;
mod framing;
mod lines;
mod query;
mod requests;
mod state;
mod strangers;
mod trace;

/// A name for `FUZZ_TARGET`, and what it does with the bytes. It panics where a promise is broken.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("framing_newline", framing::newline),
    ("framing_nul", framing::nul),
    ("framing_octet_counted", framing::octet_counted),
    ("framing_auto", framing::auto),
    ("framing_length_prefixed", framing::length_prefixed),
    ("file_lines", lines::file_lines),
    ("gzip", bodies::gzip),
    ("zstd", bodies::zstd),
    ("deflate", bodies::deflate),
    ("snappy", bodies::snappy),
    ("bodies", bodies::bodies),
    ("schema", bodies::schema),
    ("archive", state::archive),
    ("checkpoints", state::checkpoints),
    ("disk_record", disk::record),
    ("disk_payload", disk::payload),
    ("disk_positions", disk::positions),
    ("disk_recovery", disk::recovery),
    ("http_answers", clients::http_answers),
    ("own_http_answers", clients::own_http_answers),
    ("proxy_answers", clients::proxy_answers),
    ("proxy_urls", clients::proxy_urls),
    ("urls", clients::urls),
    ("retry_after", clients::retry_after),
    ("credentials", strangers::credentials),
    ("tickets", strangers::tickets),
    ("htpasswd", strangers::htpasswd),
    ("hashes", strangers::hashes),
    ("networks", strangers::networks),
    ("pem", strangers::pem),
    ("certificates", strangers::certificates),
    ("event_ids", strangers::event_ids),
    ("detect", lines::detect),
    ("lookup", lines::lookup),
    ("encode_json", lines::encode_json),
    ("terminal", lines::terminal),
    ("query", query::query),
    ("query_string", requests::query_string),
    ("stream_params", requests::stream_params),
    ("config", config::config),
    ("templates", config::templates),
    ("patterns", config::patterns),
    ("trace_records", trace::trace_records),
    ("http_heads", trace::http_heads),
    ("elf_symbols", trace::elf_symbols),
];
