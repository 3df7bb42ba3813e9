//! What a tap says: rows, and notes about them; and how rows are written.

use std::borrow::Cow;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::batch::Level;
use crate::cli::terminal::Terminal;
use crate::codec::terminal::{RESET, color_of, harmless_into};

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
            level: text("level").and_then(|word| Level::parse(word.as_bytes())),
            line: bytes.unwrap_or_else(|| message.as_bytes().to_vec()),
        })
    }
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

/// Writes rows to standard output.
pub(super) struct Writer {
    json: bool,
    color: bool,
    /// Whether a terminal reads them, which they must not reach as they are.
    to_terminal: bool,
    /// Whether it has to be said whose each row is.
    several: bool,
}

impl Writer {
    pub(super) fn new(json: bool, terminal: Terminal) -> Writer {
        let to_terminal = io::IsTerminal::is_terminal(&io::stdout());
        Writer { json, color: terminal.color_stdout, to_terminal, several: false }
    }

    pub(super) fn hear(&mut self, note: &Note) {
        if let Note::Hello { components } = note {
            self.several = components.len() > 1;
        }
    }

    /// `json` is the line that the row was read from.
    pub(super) fn row(&self, row: &Row, json: &[u8], out: &mut impl Write) -> io::Result<()> {
        if self.json {
            out.write_all(json)?;
            return out.write_all(b"\n");
        }
        if self.several {
            let (dim, reset) = if self.color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            write!(out, "{dim}{}{reset}  ", harmless(row.component.as_bytes()))?;
        }
        let color = if self.color { color_of(row.level) } else { b"" };
        let text = if self.to_terminal {
            let mut text = Vec::new();
            harmless_into(&mut text, &row.line, self.color);
            Cow::Owned(text)
        } else {
            Cow::Borrowed(&row.line)
        };
        out.write_all(color)?;
        out.write_all(&text)?;
        out.write_all(if color.is_empty() { b"" } else { RESET })?;
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
        let row = Row { component: "a".into(), level: Some(Level::Error), line: b"\x1b[2Jx\xff".to_vec() };
        let written = |writer: &Writer| {
            let mut out = Vec::new();
            writer.row(&row, b"{}", &mut out).unwrap();
            out
        };
        let mut writer = Writer { to_terminal: false, ..Writer::new(false, PLAIN) };
        assert_eq!(written(&writer), b"\x1b[2Jx\xff\n");
        writer.to_terminal = true;
        assert_eq!(written(&writer), b"\\x1b[2Jx\\xff\n");
        writer.hear(&Note::Hello { components: vec!["a".into(), "b".into()] });
        assert_eq!(written(&writer), b"a  \\x1b[2Jx\\xff\n");
        writer.json = true;
        assert_eq!(written(&writer), b"{}\n");
    }
}
