//! Where to subscribe, and for what: a URL as people write it, and the arguments as parameters of a stream.

use std::fmt::Write;

use crate::batch::Timestamp;
use crate::cli::http_get::Base;
use crate::cli::tail::args::{LineCount, TailArgs};

/// Where to subscribe.
#[derive(Debug)]
pub(in crate::cli::tail) struct Remote {
    pub(in crate::cli::tail) base: Base,
    /// All pipelines, whichever there are.
    pub(super) all: bool,
    /// Parameters that the URL brought along.
    pub(super) query: Option<String>,
}

impl Remote {
    /// The stream that a URL means: of a pipeline, or of all where it names none.
    pub(in crate::cli::tail) fn new(base: Base, query: Option<&str>) -> Remote {
        let path = base.path().to_owned();
        let all = path.is_empty();
        let is_stream = path.ends_with("/stream") || path.ends_with("/_stream");
        let base = if all || is_stream { base } else { base.at(&format!("{path}/stream")) };
        Remote { base, all, query: query.filter(|q| !q.is_empty()).map(str::to_owned) }
    }
}

/// What of it is wanted.
#[derive(Debug)]
pub(in crate::cli::tail) struct Wish {
    /// As a stream takes them, with the question mark.
    pub(super) parameters: String,
    pub(super) follow: bool,
    /// So many events are all that was asked for of the past.
    pub(super) enough: Option<u64>,
}

impl Wish {
    /// What the arguments ask for, as parameters of a stream.
    pub(in crate::cli::tail) fn new(args: &TailArgs, since: Option<Timestamp>) -> Wish {
        let mut parameters = String::new();
        let mut add = |name: &str, value: &str| {
            parameters.push_str(if parameters.is_empty() { "?" } else { "&" });
            parameters.push_str(name);
            parameters.push('=');
            encode(value, &mut parameters);
        };
        let rfc3339 = |at: Timestamp| {
            let mut text = Vec::new();
            at.write_rfc3339(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        match (args.count(), since) {
            (LineCount::Last(count), _) => add("tail", &count.to_string()),
            (LineCount::All, None) => add("since", "1970-01-01"),
            (LineCount::All, Some(_)) => {}
        }
        if let Some(since) = since {
            add("since", &rfc3339(since));
        }
        if let Some(level) = args.level {
            add("level", level.as_str());
        }
        if let Some(query) = &args.query {
            add("q", query);
        }
        args.include.iter().for_each(|pattern| add("include", pattern));
        args.exclude.iter().for_each(|pattern| add("exclude", pattern));
        let enough = match args.count() {
            LineCount::Last(count) => Some(count),
            LineCount::All => None,
        };
        Wish { parameters, follow: args.follows(), enough }
    }
}

/// Percent-encodes all but what needs none (RFC 3986, section 2.3).
pub(super) fn encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        args: TailArgs,
    }

    fn parameters(args: &[&str]) -> String {
        let args = Given::parse_from([&["x"], args].concat()).args;
        let since = args.since.as_ref().map(|since| since.from(Timestamp(0)));
        Wish::new(&args, since).parameters
    }

    #[test]
    fn what_is_wanted_is_asked_for_there() {
        assert_eq!(parameters(&[]), "?tail=10");
        assert_eq!(parameters(&["-n", "all"]), "?since=1970-01-01");
        assert_eq!(parameters(&["--since", "1970-01-02"]), "?since=1970-01-02T00%3A00%3A00.000Z");
        assert_eq!(
            parameters(&["-n", "0", "-l", "warn", "-q", "a b:\"c\"", "-i", "x+", "-i", "y", "-x", "é"]),
            "?tail=0&level=warn&q=a%20b%3A%22c%22&include=x%2B&include=y&exclude=%C3%A9"
        );
    }

    #[test]
    fn urls_lead_to_streams() {
        for (url, shown, all) in [
            ("localhost:8080", "http://localhost:8080", true),
            ("localhost:8080/app/", "http://localhost:8080/app/stream", false),
            ("https://h/logs/app/stream", "https://h:443/logs/app/stream", false),
            ("http://h/_stream", "http://h:80/_stream", false),
        ] {
            let remote = Remote::new(Base::parse(url).unwrap(), None);
            assert_eq!((&*remote.base.to_string(), remote.all), (shown, all), "{url}");
        }
    }
}
