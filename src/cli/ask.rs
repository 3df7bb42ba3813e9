//! `weir health` and `weir status`: questions to a running weir over HTTP.

use serde_json::Value;

use super::config_source::ConfigSource;
use super::exit::{Exit, Failure};
use super::http_get::Base;
use super::status_table;
use super::terminal::{self, Terminal};

fn base(url: Option<&str>, source: &ConfigSource) -> Result<Base, Failure> {
    url.map_or_else(|| Ok(Base::of_listen(&source.listen())), Base::parse)
}

/// Asks whether it is ready; says why not.
///
/// # Errors
/// With exit code 69 when there is no answer, and 1 when it is not ready.
pub fn health(url: Option<&str>, source: &ConfigSource) -> Result<Exit, Failure> {
    let base = base(url, source)?;
    let answer = base.get("/readyz")?;
    if answer.status == 200 {
        return Ok(Exit::OK);
    }
    let body = String::from_utf8_lossy(&answer.body);
    let detail = serde_json::from_str::<Value>(&body)
        .ok()
        .and_then(|json| json.get("detail").and_then(Value::as_str).map(str::to_owned));
    let why: String =
        detail.unwrap_or_else(|| body.into_owned()).chars().filter(|c| !c.is_control()).take(500).collect();
    Err(Failure::new(Exit::FAILED, format!("{base} is not ready: {why} (status {})", answer.status)))
}

/// Prints what it is doing.
///
/// # Errors
/// With exit code 69 when there is no answer, or not the answer of a weir.
pub fn status(
    url: Option<&str>,
    json: bool,
    source: &ConfigSource,
    terminal: Terminal,
) -> Result<Exit, Failure> {
    let base = base(url, source)?;
    let answer = base.get("/status")?;
    let parsed: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200);
    let Some(status) = parsed else {
        return Err(Failure::new(
            Exit::UNAVAILABLE,
            format!("{base}/status did not answer as a weir does (status {})", answer.status),
        )
        .hint("is it another program that listens there?"));
    };
    terminal::print(&if json {
        format!("{status:#}\n")
    } else {
        status_table::render(&status, terminal.color_stdout)
    })?;
    Ok(Exit::OK)
}
