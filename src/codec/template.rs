//! Text templates such as `{timestamp} {level} {message}`, compiled once and filled per row.

use std::io::Write;

use crate::batch::{Batch, Timestamp};

/// How a template or the JSON format writes an event's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimestampFormat {
    /// RFC 3339 in UTC.
    Rfc3339,
    /// Whole seconds since the Unix epoch.
    UnixSeconds,
    /// Milliseconds since the Unix epoch.
    UnixMillis,
    /// A strftime pattern, in UTC.
    Pattern(String),
}

impl TimestampFormat {
    /// Parses "rfc3339", "unix", "unix_ms" or a strftime pattern (anything with a `%`).
    pub fn parse(text: &str) -> Result<TimestampFormat, String> {
        match text {
            "rfc3339" => Ok(TimestampFormat::Rfc3339),
            "unix" => Ok(TimestampFormat::UnixSeconds),
            "unix_ms" => Ok(TimestampFormat::UnixMillis),
            pattern if pattern.contains('%') => {
                let probe = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
                jiff::fmt::strtime::format(pattern, &probe)
                    .map_err(|e| format!("not a strftime pattern: {pattern:?}: {e}"))?;
                Ok(TimestampFormat::Pattern(pattern.to_owned()))
            }
            other => Err(format!(
                "unknown timestamp format: {other:?}, expected \"rfc3339\", \"unix\", \"unix_ms\" or a strftime pattern like \"%F %T\""
            )),
        }
    }

    /// Whether the value is a number, which JSON writes without quotes.
    pub fn is_number(&self) -> bool {
        matches!(self, TimestampFormat::UnixSeconds | TimestampFormat::UnixMillis)
    }

    /// Appends `at`.
    pub fn write(&self, at: Timestamp, out: &mut Vec<u8>) {
        let number = match self {
            TimestampFormat::Rfc3339 => return at.write_rfc3339(out),
            TimestampFormat::UnixSeconds => at.0.div_euclid(1_000_000_000),
            TimestampFormat::UnixMillis => at.0.div_euclid(1_000_000),
            TimestampFormat::Pattern(pattern) => {
                let text = jiff::Timestamp::from_nanosecond(i128::from(at.0))
                    .map(|t| t.to_zoned(jiff::tz::TimeZone::UTC))
                    .and_then(|t| jiff::fmt::strtime::format(pattern, &t));
                return out.extend_from_slice(text.unwrap_or_default().as_bytes());
            }
        };
        write!(out, "{number}").ok();
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Timestamp,
    Level,
    Source,
    Message,
    Pipeline,
}

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// What may stand in braces.
pub const PLACEHOLDERS: [&str; 5] = ["timestamp", "level", "source", "message", "pipeline"];

impl Template {
    /// Compiles `text`; `{{` and `}}` are literal braces. Errors say what may stand in braces.
    pub fn parse(text: &str) -> Result<Template, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (here, after) = (&rest[at..], &rest[at + 1..]);
            if here.starts_with("{{") || here.starts_with("}}") {
                literal.push_str(&here[..1]);
                rest = &here[2..];
                continue;
            }
            let end = after.find('}').filter(|_| here.starts_with('{'));
            let Some(end) = end else {
                return Err(format!(
                    "unmatched brace in template {text:?}, write {{{{ or }}}} for a literal one"
                ));
            };
            parts.push(Part::Literal(std::mem::take(&mut literal)));
            parts.push(Template::part(&after[..end])?);
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        parts.retain(|p| !matches!(p, Part::Literal(text) if text.is_empty()));
        Ok(Template { parts })
    }

    fn part(name: &str) -> Result<Part, String> {
        match name {
            "timestamp" => Ok(Part::Timestamp),
            "level" => Ok(Part::Level),
            "source" => Ok(Part::Source),
            "message" => Ok(Part::Message),
            "pipeline" => Ok(Part::Pipeline),
            _ => {
                Err(format!("unknown placeholder {{{name}}}, allowed are {{{}}}", PLACEHOLDERS.join("}, {")))
            }
        }
    }

    /// Whether rows differ between pipelines.
    pub fn names_pipeline(&self) -> bool {
        self.parts.contains(&Part::Pipeline)
    }

    /// Appends a row.
    pub fn write(&self, batch: &Batch, row: u32, pipeline: &str, time: &TimestampFormat, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Timestamp => time.write(batch.timestamp(row), out),
                Part::Level => out.extend_from_slice(batch.level(row).map_or("-", |l| l.as_str()).as_bytes()),
                Part::Source => out.extend_from_slice(batch.arena().origin().label().as_bytes()),
                Part::Message => out.extend_from_slice(batch.line(row)),
                Part::Pipeline => out.extend_from_slice(pipeline.as_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_refuses() {
        let batch = Batch::from_lines("src", ["hello"]);
        let write = |text: &str| {
            let mut out = Vec::new();
            Template::parse(text).unwrap().write(&batch, 0, "app", &TimestampFormat::Rfc3339, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(write("{{{pipeline}}} {source}: {message}!"), "{app} src: hello!");
        assert_eq!(write("plain"), "plain");
        for bad in ["{", "}", "{msg}", "{message"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        assert!(TimestampFormat::parse("%F %T").is_ok());
        assert!(TimestampFormat::parse("iso").is_err());
    }
}
