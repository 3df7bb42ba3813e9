//! `weir health`, `weir status` and `weir reload`: questions to a running weir over HTTP, and a wish.

use std::time::Duration;

use serde_json::Value;

use super::config_source::ConfigSource;
use super::control;
use super::exit::{Exit, Failure};
use super::http_get::{Answer, Base};
use super::https::Trust;
use super::login::AskArgs;
use super::status_table;
use super::terminal::{self, Terminal};

/// Most characters of an answer that are shown.
const WHY_CHARS_MAX: usize = 1000;
/// The longest wait for a reload: what is exchanged may take as long as `shutdown_timeout` to end.
const RELOAD_PATIENCE: Duration = Duration::from_secs(80);

/// Where the weir listens that the configuration at hand runs.
pub(super) fn configured(source: &ConfigSource) -> Base {
    let (listen, certificate) = source.listen();
    Base::of_listen(&listen, certificate.map(Trust::Exactly))
}

/// Whom a question goes to: the URL, the socket or process that was named, else the configuration's server.
///
/// # Errors
/// When the arguments contradict each other, or nobody is found.
pub fn base(ask: &AskArgs, source: &ConfigSource) -> Result<Base, Failure> {
    if !ask.local.names_one() {
        return ask.who.on(ask.url.as_deref().map_or_else(|| Ok(configured(source)), Base::parse)?);
    }
    if !ask.is_anybody() {
        return Err(Failure::usage(
            "`--socket` and `--pid` are for a weir on this machine: they go with no URL or login",
        ));
    }
    control::find(&ask.local, source.environment())
}

/// Whom to look at or to tell something: what was named, else the only one that runs here.
///
/// # Errors
/// As [`base`]; also when several run, and none was named.
pub(super) fn running(ask: &AskArgs, source: &ConfigSource) -> Result<Base, Failure> {
    if ask.is_anybody() && !ask.local.names_one() {
        return control::find(&ask.local, source.environment());
    }
    base(ask, source)
}

/// Asks; where nothing says whom, by the control socket of the only weir that runs, and where there is none, or not
/// one alone, at the usual address. A server that was named is never stood in for by another weir.
fn get(ask: &AskArgs, source: &ConfigSource, path: &str) -> Result<(Base, Answer), Failure> {
    let named = !ask.is_anybody() || ask.local.names_one() || source.names_server();
    let local = (!named).then(|| control::find(&ask.local, source.environment()));
    let several = match local {
        Some(Ok(local)) => return local.get(path).map(|answer| (local, answer)),
        Some(Err(failure)) if failure.exit == Exit::USAGE => Some(failure),
        _ => None,
    };
    let base = base(ask, source)?;
    let answer = base.get(path);
    let silent = answer.as_ref().map_or(true, |answer| matches!(answer.status, 401 | 403 | 429));
    match several {
        Some(several) if silent => Err(several),
        _ => answer.map(|answer| (base, answer)),
    }
}

/// Asks whether it is ready; says why not.
///
/// # Errors
/// With exit code 69 when there is no answer, and 1 when it is not ready.
pub fn health(ask: &AskArgs, source: &ConfigSource) -> Result<Exit, Failure> {
    let (base, answer) = get(ask, source, "/readyz")?;
    if answer.status == 200 {
        return Ok(Exit::OK);
    }
    let why = harmless(&why_not(&answer.body));
    Err(Failure::new(Exit::FAILED, format!("{base} is not ready: {why} (status {})", answer.status)))
}

/// What an answer says of the components that are not ready, and otherwise of itself.
pub(super) fn why_not(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return String::from_utf8_lossy(body).into_owned();
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let reason = |reason: &Value| {
        let state = text(reason, "why").or_else(|| text(reason, "state"))?;
        Some(format!("{}: {state}", text(reason, "component")?))
    };
    let reasons: Vec<String> =
        json.get("reasons").and_then(Value::as_array).into_iter().flatten().filter_map(reason).collect();
    if reasons.is_empty() { text(&json, "detail").unwrap_or_default() } else { reasons.join("; ") }
}

/// Prints what it is doing.
///
/// # Errors
/// With exit code 69 when there is no answer, or not the answer of a weir.
pub fn status(ask: &AskArgs, json: bool, source: &ConfigSource, terminal: Terminal) -> Result<Exit, Failure> {
    let (base, answer) = get(ask, source, "/status")?;
    if matches!(answer.status, 401 | 403 | 429) {
        return Err(refused(&base, &answer));
    }
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

/// Has a running weir read its configuration again, and says what came of it.
///
/// # Errors
/// With exit code 1 when it runs on as before, because the configuration has errors or could not be started; with 69
/// when there is no answer.
pub fn reload(ask: &AskArgs, source: &ConfigSource) -> Result<Exit, Failure> {
    let base = running(ask, source)?;
    let answer = base.post("/api/reload", RELOAD_PATIENCE)?;
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        200 => terminal::print(&reloaded(&said)).map(|()| Exit::OK),
        409 | 422 => {
            let why = said.get("detail").and_then(Value::as_str).unwrap_or("not reloaded");
            Err(Failure::new(Exit::FAILED, harmless(why))
                .hint("what ran before runs on; mend it and ask again"))
        }
        401 | 403 | 429 => Err(refused(&base, &answer)),
        status => Err(Failure::new(
            Exit::UNAVAILABLE,
            format!("{base}/api/reload did not answer as a weir does (status {status})"),
        )
        .hint("is it another program that listens there?")),
    }
}

/// The report of a reload in lines.
fn reloaded(report: &Value) -> String {
    let texts = |key: &str| -> Vec<String> {
        let items = report.get(key).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(harmless).collect()
    };
    let done = ["changed", "added", "removed"].map(|kind| (kind, texts(kind)));
    let done: Vec<String> = done
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("{kind} {}", names.join(", ")))
        .collect();
    let mut out = format!(
        "reloaded: {}\n",
        if done.is_empty() { "nothing changed".to_owned() } else { done.join("; ") }
    );
    let restart = texts("needs_restart");
    if !restart.is_empty() {
        out.push_str(&format!("changes at the next start only: {}\n", restart.join(", ")));
    }
    texts("notes").iter().for_each(|note| out.push_str(&format!("{note}\n")));
    out
}

/// What somebody else says, short and without anything that steers a terminal.
pub(super) fn harmless(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(WHY_CHARS_MAX).collect()
}

/// The failure where a guard does not let in who asks.
pub(super) fn refused(base: &Base, answer: &Answer) -> Failure {
    let why = harmless(&why_not(&answer.body));
    let failure =
        Failure::new(Exit::UNAVAILABLE, format!("{base} does not answer: {why} (status {})", answer.status));
    match answer.status {
        401 => failure.hint("put a login into the URL (https://USER:PASSWORD@HOST), or name a --token-file"),
        403 => failure.hint("the server knows allowed addresses or certificates: see --cert and --key"),
        _ => failure.hint("try again later"),
    }
}
