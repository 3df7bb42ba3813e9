//! `weir doctor URL`: what breaks a stream between a server and its clients. It asks as a browser does, several times,
//! and tells from what comes, and when, who is in the way. Without a URL it looks around on this machine.

mod answer;
mod body;
mod cures;
mod flow;
mod local;
mod reach;
mod report;
mod watch;
mod wire;

use std::time::Duration;

use self::answer::{Asked, Target};
use self::cures::Proxy;
use self::report::{Finding, Report};
use self::watch::Until;
use super::config_source::ConfigSource;
use super::exit::{Exit, Failure};
use super::http_get::Base;
use super::login::{AskArgs, Credentials};
use super::terminal::{self, Terminal};

/// How long a stream is watched that shows no sign of life, where nobody says how long.
const WATCHED_MAX: Duration = Duration::from_secs(40);

/// What was asked for besides the URL.
#[derive(Debug)]
pub struct Wanted {
    /// How long to watch the stream; unless given, until enough is known.
    pub duration: Option<Duration>,
    /// Whose pages are to read it.
    pub origin: Option<String>,
    /// JSON instead of a checklist.
    pub json: bool,
}

/// Looks, and prints what it has found.
///
/// # Errors
/// With 64 if the URL is none. What is wrong with the stream is no error here: the exit code is 1.
pub fn run(
    ask: &AskArgs,
    wanted: &Wanted,
    source: &ConfigSource,
    terminal: Terminal,
) -> Result<Exit, Failure> {
    let report = match &ask.url {
        Some(url) => look(url, &ask.who, wanted)?,
        None => local::look(source),
    };
    let text = if wanted.json { format!("{:#}\n", report.json()) } else { report.human(terminal) };
    terminal::print(&text)?;
    Ok(if report.has_failed() { Exit::FAILED } else { Exit::OK })
}

/// The URL in two: whom to ask, and the path with its query, as it is written.
fn parse(url: &str, who: &Credentials) -> Result<(Base, String), Failure> {
    let whole = url.split('#').next().unwrap_or_default();
    let place = whole.split('?').next().unwrap_or_default();
    let query = &whole[place.len()..];
    if query.chars().any(|c| c.is_control() || c == ' ') {
        return Err(Failure::usage("the URL holds a character that does not belong there"));
    }
    let base = who.on(Base::parse(place)?)?;
    let rest = place.split_once("://").map_or(place, |(_, rest)| rest);
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    Ok((base, format!("{path}{query}")))
}

fn look(url: &str, who: &Credentials, wanted: &Wanted) -> Result<Report, Failure> {
    let (base, path) = parse(url, who)?;
    let mut report = Report { about: base.to_string(), proxies: Vec::new(), findings: Vec::new() };
    let Some(address) = reach::reach(&base, &mut report.findings) else { return Ok(report) };
    let mut target = Target { base, address, path };
    let mut tried = 0;
    let response = loop {
        match answer::ask(&target, tried, &mut report.findings) {
            Asked::Stream(response) => break response,
            Asked::Nothing => return Ok(report),
            Asked::Path(path) => {
                // Below the place that was asked, not below its stream.
                target.base = target.base.clone().at(path.rsplit_once('/').map_or("", |(above, _)| above));
                target.path = path;
            }
            Asked::Elsewhere(url) => {
                // Credentials are for the host that was named.
                let same = url.contains(&format!("://{}", target.base.host_header()));
                let nobody = Credentials::default();
                let (base, path) = parse(&url, if same { who } else { &nobody })?;
                let Some(address) = reach::reach(&base, &mut report.findings) else { return Ok(report) };
                target = Target { path, base, address };
            }
        }
        tried += 1;
    };
    report.about = format!("{}{}", target.base.clone().at(""), target.path);
    report.proxies = Proxy::of(&response.head.headers);
    examine(&target, response, wanted, &mut report);
    Ok(report)
}

/// All that can be asked of a stream.
fn examine(target: &Target, response: Box<wire::Response>, wanted: &Wanted, report: &mut Report) {
    let wire::Response { head, mut body } = *response;
    let seen = flow::begin(&mut body);
    drop(body);
    let is_weir = seen.has("hello");
    let first = flow::first(&seen, is_weir);
    let flows = first.verdict == report::Verdict::Ok;
    let has_proxy = !report.proxies.is_empty();
    let findings = &mut report.findings;
    // Of what does not flow nobody knows whose it is.
    answer::head(&head, is_weir, has_proxy || !flows, findings);
    let clock = answer::time(&head);
    findings.push(first);
    if !flows {
        findings.push(Finding::skipped("idle", "not looked at: nothing flows"));
        findings.push(clock);
        return;
    }
    findings.push(flow::packed(target));
    findings.push(if is_weir {
        flow::resume(target)
    } else {
        Finding::skipped("resume", "not looked at: the stream is not one of weir's")
    });
    findings.push(flow::together(target));
    findings.push(answer::cors(target, wanted.origin.as_deref()));
    findings.push(clock);
    let until = if wanted.duration.is_some() { Until::Time } else { Until::Sure };
    findings.extend(flow::observe(target, wanted.duration.unwrap_or(WATCHED_MAX), until));
}
