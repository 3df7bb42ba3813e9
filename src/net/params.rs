//! The parameters of a stream. An unknown one is an error with the nearest name, and so is one given twice: a
//! filter that is silently ignored would show what the caller meant to hide.

use std::time::Duration;

use super::problem::Problem;
use super::query_string::pairs;
use super::segment::Fields;
use super::select::{self, Select};
use crate::base::units::parse_duration;
use crate::batch::Timestamp;
use crate::config::nearest::nearest;
use crate::query::Query;

/// What the body of a stream looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Server-sent events.
    Sse,
    /// One JSON object per line.
    Ndjson,
    /// The lines as they came.
    Raw,
}

impl Wire {
    /// The content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Wire::Sse => "text/event-stream",
            Wire::Ndjson => "application/x-ndjson",
            Wire::Raw => "text/plain; charset=utf-8",
        }
    }

    /// The wire format of that name.
    fn parse(name: &str) -> Option<Wire> {
        match name {
            "sse" => Some(Wire::Sse),
            "ndjson" | "json" => Some(Wire::Ndjson),
            "raw" | "text" => Some(Wire::Raw),
            _ => None,
        }
    }
}

/// The parameters of a stream, checked.
#[derive(Debug, Clone, Default)]
pub struct StreamParams {
    /// Which rows.
    pub select: Select,
    /// Start with the last `tail` matching rows of the history.
    pub tail: Option<u64>,
    /// End after that many rows.
    pub limit: Option<u64>,
    /// Which keys of the JSON object.
    pub fields: Option<Fields>,
    /// Resume behind this id.
    pub last_event_id: Option<String>,
    /// Heartbeats are events of type `ping`, for clients that cannot see comments.
    pub ping_event: bool,
    /// What the body looks like, whatever the request accepts.
    pub wire: Option<Wire>,
    /// For `/_stream`: which pipelines.
    pub pipelines: Vec<String>,
}

const NAMES: [&str; 11] = [
    "q",
    "include",
    "exclude",
    "level",
    "tail",
    "since",
    "limit",
    "fields",
    "last_event_id",
    "ping",
    "format",
];
const LEVELS: [&str; 7] = ["trace", "debug", "info", "notice", "warn", "error", "fatal"];
const WIRES: [&str; 3] = ["sse", "ndjson", "raw"];
/// Most keys in `fields` and names in `p`.
const LIST_MAX: usize = 64;

impl StreamParams {
    /// Reads a query string. `p` is known when `many` streams may be asked for. `now` is what `since=1h` counts
    /// back from.
    ///
    /// # Errors
    /// A 400 that names the parameter and what is allowed.
    pub fn parse(query: Option<&str>, many: bool, now: Timestamp) -> Result<StreamParams, Problem> {
        let pairs = pairs(query.unwrap_or_default())
            .map_err(|why| Problem::bad_request(format!("broken query string: {why}")))?;
        let mut params = StreamParams::default();
        let (mut include, mut exclude, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in pairs {
            let repeats = matches!(name.as_str(), "include" | "exclude");
            if !repeats && seen.contains(&name) {
                return Err(Problem::bad_request(format!("parameter given twice: `{name}`")));
            }
            match name.as_str() {
                "include" => include.push(value),
                "exclude" => exclude.push(value),
                "p" if many => params.pipelines = list(&name, &value)?,
                _ => params.set(&name, &value, now, many)?,
            }
            if !repeats {
                seen.push(name);
            }
        }
        params.select.include = select::any_of(&include).map_err(|why| invalid("include", &why))?;
        params.select.exclude = select::any_of(&exclude).map_err(|why| invalid("exclude", &why))?;
        Ok(params)
    }

    fn set(&mut self, name: &str, value: &str, now: Timestamp, many: bool) -> Result<(), Problem> {
        match name {
            "level" => {
                let level = select::level(value).ok_or_else(|| not_one_of(name, value, &LEVELS))?;
                self.select.level = Some(level);
            }
            "tail" => self.tail = Some(number(name, value)?),
            "limit" => self.limit = Some(number(name, value)?),
            "since" => self.select.since = Some(since(value, now)?),
            "fields" => self.fields = Some(Fields::new(list(name, value)?)),
            "q" => self.select.query = query(value)?.map(|query| query.matcher()),
            "last_event_id" => self.last_event_id = Some(value.to_owned()),
            "ping" if value == "event" => self.ping_event = true,
            "ping" => return Err(not_one_of(name, value, &["event"])),
            "format" => {
                self.wire = Some(Wire::parse(value).ok_or_else(|| not_one_of(name, value, &WIRES))?);
            }
            _ => return Err(unknown(name, many)),
        }
        Ok(())
    }
}

fn unknown(name: &str, many: bool) -> Problem {
    let known: Vec<&str> = NAMES.into_iter().chain(many.then_some("p")).collect();
    let shown: String = name.chars().take(64).collect();
    let problem =
        Problem::bad_request(format!("unknown parameter: `{shown}`")).with("parameters", known.clone());
    match nearest(name, known.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(format!("parameters: {}", known.join(", "))),
    }
}

fn invalid(name: &str, why: &str) -> Problem {
    Problem::bad_request(format!("invalid parameter `{name}`: {why}")).with("parameter", name)
}

/// A query; nothing at all asks for every row, as an empty box on a page does.
///
/// # Errors
/// A 400 that says what is wrong with it, and where.
pub fn query(text: &str) -> Result<Option<Query>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    Query::parse(text).map(Some).map_err(|wrong| {
        // What marks the place on a page: `position` counts bytes of the query, as UTF-8.
        let position = serde_json::json!({ "start": wrong.span.start, "end": wrong.span.end });
        let mut problem =
            invalid("q", &wrong.message).with("message", wrong.message).with("position", position);
        if let Some(expected) = wrong.expected {
            problem = problem.with("expected", expected);
        }
        match wrong.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    })
}

fn not_one_of(name: &str, value: &str, allowed: &[&str]) -> Problem {
    let shown: String = value.chars().take(64).collect();
    let problem = invalid(name, &format!("`{shown}` is not allowed")).with("allowed", allowed.to_vec());
    match nearest(value, allowed.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(format!("allowed: {}", allowed.join(", "))),
    }
}

fn number(name: &str, value: &str) -> Result<u64, Problem> {
    value.parse().map_err(|_| invalid(name, "expected a whole number from 0"))
}

fn list(name: &str, value: &str) -> Result<Vec<String>, Problem> {
    let mut items: Vec<String> = Vec::new();
    for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        if !items.iter().any(|known| known == item) {
            items.push(item.to_owned());
        }
    }
    match items.len() {
        0 => Err(invalid(name, "expected names with commas between them")),
        n if n > LIST_MAX => Err(invalid(name, &format!("{n} names, at most {LIST_MAX} are allowed"))),
        _ => Ok(items),
    }
}

/// A duration before `now`, or a point of time: RFC 3339, or a date in UTC.
fn since(value: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    if let Ok(back) = parse_duration(value) {
        return Ok(Timestamp(now.0.saturating_sub(nanos(back))));
    }
    let at = value.parse::<jiff::Timestamp>().or_else(|e| {
        let date = value.parse::<jiff::civil::Date>().map_err(|_| e)?;
        Ok::<_, jiff::Error>(date.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
    });
    let at = at.map_err(|_| {
        invalid("since", "expected a duration like `15m` or a time like `2026-11-20T12:00:00Z`")
    })?;
    Ok(Timestamp(i64::try_from(at.as_nanosecond()).unwrap_or(if at.as_second() < 0 {
        i64::MIN
    } else {
        i64::MAX
    })))
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<StreamParams, String> {
        StreamParams::parse(Some(query), false, Timestamp(1_000_000_000_000))
            .map_err(|p| p.detail().to_owned())
    }

    #[test]
    fn every_parameter_is_read_and_none_is_ignored() {
        let all = parse(
            "include=a&include=b&exclude=c&level=WARN&tail=5&since=10s&limit=7&fields=level,message,level&last_event_id=x-1&ping=event&format=ndjson",
        );
        let all = all.unwrap();
        assert!(all.select.include.is_some() && all.select.exclude.is_some() && all.ping_event);
        assert_eq!((all.tail, all.limit, all.wire), (Some(5), Some(7), Some(Wire::Ndjson)));
        assert_eq!(all.fields, Some(Fields::new(vec!["level".into(), "message".into()])));
        assert_eq!(all.select.since, Some(Timestamp(990_000_000_000)));
        assert_eq!(parse("since=1970-01-02").unwrap().select.since, Some(Timestamp(86_400_000_000_000)));
        assert_eq!(parse("since=1970-01-01T00:00:01Z").unwrap().select.since, Some(Timestamp(1_000_000_000)));
    }

    #[test]
    fn a_bad_query_says_where() {
        let bad = StreamParams::parse(Some("q=%C3%A9+level:loud"), false, Timestamp(0)).unwrap_err();
        let body = bad.into_last_words();
        let body = &body[memchr::memmem::find(&body, b"\r\n\r\n").unwrap() + 4..];
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["status"], 400);
        assert_eq!(body["parameter"], "q");
        assert_eq!(body["message"], "unknown level: `loud`");
        assert_eq!(body["position"], serde_json::json!({ "start": 9, "end": 13 }));
        assert!(body["expected"].as_str().unwrap().contains("error") && body["hint"].is_string());
        assert!(parse("q=+").unwrap().select.query.is_none());
        assert!(parse("q=level:error+-x").unwrap().select.query.is_some());
    }

    #[test]
    fn errors_name_the_parameter() {
        for (query, detail) in [
            ("query=level:error", "unknown parameter: `query`"),
            ("q=level:loud", "invalid parameter `q`: unknown level: `loud`"),
            ("q=a&q=b", "parameter given twice: `q`"),
            ("inclde=a", "unknown parameter: `inclde`"),
            ("p=a", "unknown parameter: `p`"),
            ("tail=1&tail=2", "parameter given twice: `tail`"),
            ("tail=-1", "invalid parameter `tail`: expected a whole number from 0"),
            ("ping=comment", "invalid parameter `ping`: `comment` is not allowed"),
            ("level=loud", "invalid parameter `level`: `loud` is not allowed"),
            ("fields=,", "invalid parameter `fields`: expected names with commas between them"),
            ("a=%zz", "broken query string: broken percent escape: expected `%` and two hexadecimal digits"),
        ] {
            assert_eq!(parse(query).unwrap_err(), detail, "{query}");
        }
        for query in
            ["include=(", "include=(a{9}{9}{9}{9}{9}{9}{9}{9})", "since=yesterday", &"include=x&".repeat(17)]
        {
            assert!(parse(query).unwrap_err().starts_with("invalid parameter"), "{query}");
        }
        let large = parse("include=%5Cw%7B20%7D").unwrap_err();
        assert!(large.contains("more than 512 KiB once compiled; hint"), "{large}");
        for fits in [
            "%5Cw%2B %5Cw%2B %5Cw%2B %5Cw%2B",
            "(?-u:%5Cw)%7B200%7D",
            "(?i)timeout|refused|reset",
            "%5Cd%7B4%7D-%5Cd%5Cd",
        ] {
            parse(&format!("include={}", fits.replace(' ', "%20"))).unwrap();
        }
    }
}
