//! What a tap says: rows, and notes about them; and how rows are written.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::batch::{Level, Timestamp};
use crate::cli::tail::LayOut;
use crate::cli::tail::args::Output;
use crate::cli::terminal::Terminal;
use crate::codec::terminal::{harmless_into, harmless_line_into};
use crate::query::Query;

/// One line of a tap.
#[derive(Debug)]
pub enum Said {
    /// A row.
    Row(Row),
    /// Something about the rows.
    Note(Note),
    /// Something that a newer weir says.
    Nothing,
}

/// A row.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The component that put it out.
    pub component: String,
    /// Its time: what the line says, else when it was received.
    pub timestamp: Option<Timestamp>,
    /// Its severity.
    pub level: Option<Level>,
    /// The line, to the byte.
    pub line: Vec<u8>,
}

/// What is said about rows.
#[derive(Debug, PartialEq, Eq)]
pub enum Note {
    /// These components are looked at from now on.
    Hello {
        /// Their ids.
        components: Vec<String>,
    },
    /// So many rows passed that are not shown.
    Drop {
        /// Rows since the last time.
        missed: u64,
    },
    /// It is over.
    Bye {
        /// Why: `limit`, `removed` or `shutdown`.
        reason: String,
    },
}

impl Said {
    /// Reads a line.
    pub fn parse(line: &[u8]) -> Said {
        let Ok(json) = serde_json::from_slice::<Value>(line) else { return Said::Nothing };
        let text = |key: &str| json.get(key).and_then(Value::as_str);
        match text("weir").filter(|_| json.get("component").is_none()) {
            Some("hello") => {
                let ids = json.get("components").and_then(Value::as_array).into_iter().flatten();
                let components = ids.filter_map(Value::as_str).map(str::to_owned).collect();
                return Said::Note(Note::Hello { components });
            }
            Some("drop") => {
                let missed = json.get("missed").and_then(Value::as_u64).unwrap_or(0);
                return Said::Note(Note::Drop { missed });
            }
            Some("bye") => {
                return Said::Note(Note::Bye { reason: text("reason").unwrap_or_default().to_owned() });
            }
            Some(_) => return Said::Nothing,
            None => {}
        }
        let (Some(component), Some(message)) = (text("component"), text("message")) else {
            return Said::Nothing;
        };
        let bytes = text("bytes").and_then(|bytes| STANDARD.decode(bytes).ok());
        Said::Row(Row {
            component: component.to_owned(),
            timestamp: text("timestamp").and_then(time),
            level: text("level").and_then(|word| Level::parse(word.as_bytes())),
            line: bytes.unwrap_or_else(|| message.as_bytes().to_vec()),
        })
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok()?;
    i64::try_from(at.as_nanosecond()).ok().map(Timestamp)
}

impl Note {
    /// In words. `rate` is what was asked for; the `first` one says what is shown, to a `person`.
    pub fn text(&self, rate: &str, first: bool, person: bool) -> Option<String> {
        match self {
            Note::Hello { components } if !first => Some(format!("reloaded; now {}", components.join(", "))),
            Note::Hello { components } if person => {
                let most =
                    if rate == "all" { String::new() } else { format!("; at most {rate} rows a second") };
                Some(format!("{}{most}", components.join(", ")))
            }
            Note::Hello { .. } => None,
            Note::Drop { missed } => {
                let rows = if *missed == 1 { "row" } else { "rows" };
                Some(format!("{} {rows} not shown", thousands(*missed)))
            }
            Note::Bye { reason } => match reason.as_str() {
                "limit" => None,
                "removed" => Some("the end: a reload has removed what was shown".to_owned()),
                "shutdown" => Some("the end: weir has stopped".to_owned()),
                other => Some(format!("the end: {}", harmless(other.as_bytes()))),
            },
        }
    }
}

/// A count with a comma between thousands.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// A line as text that does nothing to a terminal.
pub fn harmless(line: &[u8]) -> String {
    let mut out = Vec::new();
    harmless_into(&mut out, line, false);
    String::from_utf8_lossy(&out).into_owned()
}

/// How rows are written.
enum Form {
    Json,
    /// As they are; harmless where a terminal reads them.
    Raw {
        harmless: bool,
    },
    Pretty(Box<LayOut>),
}

/// Writes rows to standard output.
pub(super) struct Writer {
    form: Form,
    color: bool,
    /// Whether it has to be said whose each row is.
    several: bool,
    query: Option<Query>,
}

impl Writer {
    pub(super) fn new(output: Option<Output>, query: Option<&Query>, terminal: Terminal) -> Writer {
        let to_terminal = io::IsTerminal::is_terminal(&io::stdout());
        let usual = if to_terminal { Output::Pretty } else { Output::Raw };
        let form = match output.unwrap_or(usual) {
            Output::Json => Form::Json,
            Output::Raw => Form::Raw { harmless: to_terminal },
            Output::Pretty => Form::Pretty(Box::new(LayOut::new(terminal.color_stdout, false, query))),
        };
        Writer { form, color: terminal.color_stdout, several: false, query: query.cloned() }
    }

    pub(super) fn hear(&mut self, note: &Note) {
        let Note::Hello { components } = note else { return };
        self.several = components.len() > 1;
        if let Form::Pretty(lay_out) = &mut self.form {
            **lay_out = LayOut::new(self.color, self.several, self.query.as_ref());
        }
    }

    /// `json` is the line that the row was read from.
    pub(super) fn row(&mut self, row: &Row, json: &[u8], out: &mut impl Write) -> io::Result<()> {
        let harmless_line = match &mut self.form {
            Form::Json => {
                out.write_all(json)?;
                return out.write_all(b"\n");
            }
            Form::Pretty(lay_out) => {
                let mut text = Vec::new();
                lay_out.row(&row.component, (row.timestamp, row.level), &row.line, &mut text);
                return out.write_all(&text);
            }
            Form::Raw { harmless } => *harmless,
        };
        if self.several {
            let (dim, reset) = if self.color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            write!(out, "{dim}{}{reset}  ", harmless(row.component.as_bytes()))?;
        }
        if harmless_line {
            let mut text = Vec::new();
            harmless_line_into(&mut text, &row.line, self.color);
            out.write_all(&text)?;
        } else {
            out.write_all(&row.line)?;
        }
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terminal =
        Terminal { color_stdout: false, color_stderr: false, stderr_is_terminal: false, width: 110 };

    #[test]
    fn lines_are_rows_or_notes() {
        let row = |text: &str| match Said::parse(text.as_bytes()) {
            Said::Row(row) => row,
            other => panic!("{other:?}"),
        };
        let plain = row(r#"{"component":"a.sink.0.null","level":"error","message":"x\ny"}"#);
        assert_eq!((plain.level, plain.line), (Some(Level::Error), b"x\ny".to_vec()));
        let raw = row(r#"{"component":"a","level":null,"message":"\ufffd","bytes":"/w=="}"#);
        assert_eq!((raw.level, raw.line), (None, vec![0xff]));
        let own = row(r#"{"component":"a","message":"m","weir":"bye"}"#);
        assert_eq!(own.line, b"m", "a row is no note, whatever it holds");
        for (text, note) in [
            (r#"{"weir":"drop","missed":7}"#, Note::Drop { missed: 7 }),
            (r#"{"weir":"bye","reason":"limit","shown":1}"#, Note::Bye { reason: "limit".to_owned() }),
            (r#"{"weir":"hello","components":["a"]}"#, Note::Hello { components: vec!["a".to_owned()] }),
        ] {
            assert!(matches!(Said::parse(text.as_bytes()), Said::Note(said) if said == note), "{text}");
        }
        assert!(matches!(Said::parse(b"{}"), Said::Nothing) && matches!(Said::parse(b"x"), Said::Nothing));
        assert!(matches!(Said::parse(br#"{"weir":"new"}"#), Said::Nothing));
    }

    #[test]
    fn notes_in_words() {
        let drop = |missed| Note::Drop { missed }.text("100", false, false).unwrap();
        assert_eq!(drop(1_234), "1,234 rows not shown");
        assert_eq!(drop(1), "1 row not shown");
        assert_eq!((thousands(999), thousands(1_000_000)), ("999".to_owned(), "1,000,000".to_owned()));
        let hello = Note::Hello { components: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(hello.text("100", true, true).unwrap(), "a, b; at most 100 rows a second");
        assert_eq!(hello.text("all", true, true).unwrap(), "a, b");
        assert_eq!(hello.text("100", true, false), None);
        assert_eq!(hello.text("100", false, false).unwrap(), "reloaded; now a, b");
    }

    #[test]
    fn rows_are_bytes_for_programs_and_harmless_for_terminals() {
        let line = b"{\"msg\":\"\x1b[2J\xff\",\"n\":1}".to_vec();
        let row = Row { component: "a".into(), timestamp: None, level: Some(Level::Error), line };
        let written = |writer: &mut Writer| {
            let mut out = Vec::new();
            writer.row(&row, b"{}", &mut out).unwrap();
            out
        };
        let several = Note::Hello { components: vec!["a".into(), "b".into()] };
        let mut raw = Writer { form: Form::Raw { harmless: false }, ..Writer::new(None, None, PLAIN) };
        assert_eq!(written(&mut raw), [&row.line[..], b"\n"].concat());
        raw.form = Form::Raw { harmless: true };
        assert!(!written(&mut raw).contains(&0x1b));
        raw.hear(&several);
        assert!(written(&mut raw).starts_with(b"a  {"));
        assert_eq!(written(&mut Writer::new(Some(Output::Json), None, PLAIN)), b"{}\n");
        let mut pretty = Writer::new(Some(Output::Pretty), None, PLAIN);
        pretty.hear(&several);
        let text = String::from_utf8(written(&mut pretty)).unwrap();
        assert!(text.starts_with("a | ") && text.contains("n=1") && !text.contains('\x1b'), "{text}");
    }
}
