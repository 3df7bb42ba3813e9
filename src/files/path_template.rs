//! Output paths with placeholders, such as `/var/log/{source}/{date}.log`. Values come out of log lines, so they
//! are hostile: no value can add a directory, climb out of one, hide a file or make a name too long.

use std::fmt::Write;

use crate::batch::Batch;
use crate::query::lookup;

/// Longest value, in characters.
const VALUE_CHARS_MAX: usize = 64;
/// Longest name of a file or directory, in bytes; what file systems allow, less the room for a rotation's suffix.
const NAME_BYTES_MAX: usize = 200;
/// What stands for a value that a row does not have.
const MISSING: &str = "none";

/// How far one path reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All rows go to one path.
    Process,
    /// All rows of a batch do.
    Batch,
    /// Each row has its own.
    Row,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Pipeline,
    Host,
    Source,
    Level,
    Date,
    Hour,
    Field(String),
}

/// A compiled path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    parts: Vec<Part>,
}

/// Names that do not change while the process runs.
#[derive(Debug, Clone)]
pub struct Names {
    /// Of the pipeline.
    pub pipeline: String,
    /// Of this machine.
    pub host: String,
}

impl PathTemplate {
    /// Compiles `text`; `{{` and `}}` are literal braces. Errors say what is wrong and what may stand in braces.
    pub fn parse(text: &str) -> Result<PathTemplate, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let here = &rest[at..];
            if here.starts_with("{{") || here.starts_with("}}") {
                literal.push_str(&here[..1]);
                rest = &here[2..];
                continue;
            }
            let Some(end) = here.find('}').filter(|_| here.starts_with('{')) else {
                return Err(format!("unmatched brace in {text:?}, write {{{{ or }}}} for a literal one"));
            };
            parts.push(Part::Literal(std::mem::take(&mut literal)));
            parts.push(part(&here[1..end])?);
            rest = &here[end + 1..];
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        parts.retain(|p| !matches!(p, Part::Literal(text) if text.is_empty()));
        match parts.last() {
            None => return Err("the path is empty".to_owned()),
            Some(Part::Literal(end)) if end.ends_with('/') => {
                return Err(format!("{text:?} is a directory, a file's name is missing after the last `/`"));
            }
            _ if text.contains('\0') => return Err("the path holds a NUL character".to_owned()),
            _ => {}
        }
        Ok(PathTemplate { parts })
    }

    /// How far one path reaches.
    pub fn scope(&self) -> Scope {
        let scope = |part: &Part| match part {
            Part::Literal(_) | Part::Pipeline | Part::Host => Scope::Process,
            Part::Source => Scope::Batch,
            Part::Level | Part::Date | Part::Hour | Part::Field(_) => Scope::Row,
        };
        self.parts.iter().map(scope).max().unwrap_or(Scope::Process)
    }

    /// Writes the path of `row` into `out`, which is cleared first. Dates and hours are those of the event, in UTC.
    pub fn write(&self, batch: &Batch, row: u32, names: &Names, out: &mut String) {
        out.clear();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Pipeline => push_value(out, names.pipeline.as_bytes()),
                Part::Host => push_value(out, names.host.as_bytes()),
                Part::Source => push_value(out, batch.arena().origin().label().as_bytes()),
                Part::Level => out.push_str(batch.level(row).map_or(MISSING, |level| level.as_str())),
                Part::Date => push_date(out, batch.timestamp(row).0),
                Part::Hour => {
                    let hour = batch.timestamp(row).0.div_euclid(3_600_000_000_000).rem_euclid(24);
                    // Writing to a string cannot fail.
                    write!(out, "{hour:02}").ok();
                }
                Part::Field(name) => match lookup::lookup(batch.line(row), name) {
                    Some(value) => push_value(out, &value),
                    None => out.push_str(MISSING),
                },
            }
        }
        shorten_names(out);
    }
}

fn part(name: &str) -> Result<Part, String> {
    Ok(match name {
        "pipeline" => Part::Pipeline,
        "host" => Part::Host,
        "source" => Part::Source,
        "level" => Part::Level,
        "date" => Part::Date,
        "hour" => Part::Hour,
        other => match other.strip_prefix("field:").filter(|name| !name.is_empty()) {
            Some(name) => Part::Field(name.to_owned()),
            None => {
                return Err(format!(
                    "unknown placeholder {{{other}}}, allowed are {{pipeline}}, {{source}}, {{host}}, {{level}}, {{date}}, {{hour}} and {{field:NAME}}"
                ));
            }
        },
    })
}

fn push_date(out: &mut String, nanos: i64) {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
    // Writing to a string cannot fail.
    write!(out, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day()).ok();
}

/// Appends `value` as (part of) one name: letters, digits and a few signs stay, all else becomes `_`. It is never
/// empty and never starts with a dot, so no name that holds a value can be `.` or `..`.
fn push_value(out: &mut String, value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    let text = text.trim_start_matches('/');
    if text.is_empty() {
        return out.push_str(MISSING);
    }
    for (i, c) in text.chars().take(VALUE_CHARS_MAX).enumerate() {
        let fine = c.is_alphanumeric() || matches!(c, '-' | '_' | '@' | ':' | '+' | '=' | ',');
        out.push(if fine || (c == '.' && i > 0) { c } else { '_' });
    }
}

/// Cuts names that no file system would take.
fn shorten_names(path: &mut String) {
    if path.split('/').all(|name| name.len() <= NAME_BYTES_MAX) {
        return;
    }
    let short = |name: &str| name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned();
    *path = path.split('/').map(short).collect::<Vec<_>>().join("/");
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names { pipeline: "app".to_owned(), host: "../host".to_owned() }
    }

    fn path(template: &str, line: &[u8]) -> String {
        let mut out = String::new();
        let batch = Batch::from_lines("/var/log/x.log", [line]);
        PathTemplate::parse(template).unwrap().write(&batch, 0, &names(), &mut out);
        out
    }

    #[test]
    fn fills_in_what_rows_have() {
        let line = br#"{"timestamp":"2026-11-21T03:05:00Z","level":"error","user":{"id":"u 1"}}"#;
        assert_eq!(path("/l/{pipeline}/{date}/{hour}.log", line), "/l/app/2026-11-21/03.log");
        assert_eq!(path("/l/{level}-{field:user.id}.log", line), "/l/error-u_1.log");
        assert_eq!(path("/l/{source}-{field:nope}-{host}", line), "/l/var_log_x.log-none-_._host");
        assert_eq!(path("a{{b}}", line), "a{b}");
        let scope = |text: &str| PathTemplate::parse(text).unwrap().scope();
        assert_eq!(scope("/l/{pipeline}"), Scope::Process);
        assert_eq!((scope("/l/{source}"), scope("/l/{source}{hour}")), (Scope::Batch, Scope::Row));
        for bad in ["", "/l/", "{", "a}", "{who}", "{field:}", "a\0b"] {
            assert!(PathTemplate::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn traversal_comes_to_nothing() {
        for value in
            ["..", "../../etc/passwd", "/etc/passwd", ".", "", "a/../b", "..\\\\x", "a\\u0000b", ".hidden"]
        {
            let line = format!("{{\"x\":\"{value}\"}}");
            let made = path("/root/{field:x}/{field:x}{field:x}.log", line.as_bytes());
            assert!(made.starts_with("/root/") && made.ends_with(".log"), "{made}");
            assert_eq!(made.matches('/').count(), 3, "{made}");
            assert!(!made.split('/').any(|name| name.starts_with('.')), "{made}");
        }
        let long = format!("x={}", "é".repeat(5000));
        assert!(path("/root/{field:x}{field:x}{field:x}{field:x}.log", long.as_bytes()).len() <= 206);
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_directory(value in proptest::collection::vec(
            prop_oneof![proptest::sample::select(&b"./\\\0\n:a~"[..]), any::<u8>()], 0..100)) {
            let mut line = b"x=\"".to_vec();
            line.extend(value.iter().filter(|b| **b != b'"'));
            line.push(b'"');
            let made = path("/root/{field:x}/f{field:x}", &line);
            let parts: Vec<_> = Path::new(&made).components().collect();
            prop_assert_eq!(parts.len(), 4, "{:?}", made);
            prop_assert!(parts[1..].iter().all(|c| matches!(c, Component::Normal(_))), "{:?}", made);
            prop_assert!(!made.contains('\0') && !made.chars().any(char::is_control));
        }
    }
}
