//! `weir tap`: what components of a running weir put out, as it passes. Rows go to standard output, everything
//! that is said about them to standard error.

mod rows;

use std::io::{self, Write};

use super::args::TapArgs;
use super::control;
use super::exit::{Exit, Failure};
use super::http_stream::Stream;
use super::terminal::{self, Terminal};
use crate::config::Environment;
use crate::query::Query;
use rows::Writer;
pub use rows::{Note, Row, Said, harmless, thousands};

/// Reads `--rate`: a number, or `all`.
///
/// # Errors
/// What is wrong with it.
pub fn rate(text: &str) -> Result<String, String> {
    let sound = text == "all" || text.parse::<u32>().is_ok_and(|n| (1..=1_000_000).contains(&n));
    if sound { Ok(text.to_owned()) } else { Err("it is a number from 1 to 1000000, or `all`".to_owned()) }
}

/// The target of a tap.
pub fn target(components: &[String], rate: &str, limit: Option<u64>, query: Option<&str>) -> String {
    let mut target = format!("/api/tap?rate={rate}");
    limit.into_iter().for_each(|limit| target.push_str(&format!("&limit={limit}")));
    let components = components.iter().map(|component| ("component", component.as_str()));
    for (key, value) in components.chain(query.map(|query| ("q", query))) {
        target.push_str(&format!("&{key}="));
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'*' => {
                    target.push(char::from(byte))
                }
                byte => target.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    target
}

/// Shows rows until there are enough, weir or the component ends, or nobody reads them any more.
///
/// # Errors
/// With exit code 69 when no weir is found or it goes away, 64 when it has no such component.
pub fn run(args: &TapArgs, environment: &Environment, terminal: Terminal) -> Result<Exit, Failure> {
    let query = args.query.as_deref().map(Query::parse).transpose();
    let query = query.map_err(|wrong| Failure::usage(format!("`--query`: {wrong}")))?;
    let base = control::find(&args.local, environment)?;
    let target = target(&args.components, &args.rate, args.limit, args.query.as_deref());
    let mut stream = base.stream(&target)?;
    let mut writer = Writer::new(args.output, query.as_ref(), terminal);
    match show(&mut stream, &mut writer, &args.rate, terminal) {
        Ok(true) => Ok(Exit::OK),
        Ok(false) => Err(Failure::new(Exit::UNAVAILABLE, "weir is gone: the tap broke off")),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::OK),
        Err(e) => Err(Failure::new(Exit::IO, format!("cannot go on with the tap: {e}"))),
    }
}

/// Whether it ended in order.
fn show(stream: &mut Stream, writer: &mut Writer, rate: &str, terminal: Terminal) -> io::Result<bool> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (mut line, mut over, mut first) = (Vec::new(), false, true);
    while stream.line(&mut line)?.is_some() {
        match Said::parse(&line) {
            Said::Row(row) => writer.row(&row, &line, &mut out)?,
            Said::Note(note) => {
                out.flush()?;
                over |= matches!(note, Note::Bye { .. });
                writer.hear(&note);
                if let Some(text) = note.text(rate, first, terminal.stderr_is_terminal) {
                    terminal::complain(&format!("# {text}\n"));
                }
                first = false;
            }
            Said::Nothing => {}
        }
        if !stream.has_more() {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_escaped() {
        let names = ["app.*".to_owned(), "a&b ?é".to_owned()];
        assert_eq!(
            target(&names, "all", None, None),
            "/api/tap?rate=all&component=app.*&component=a%26b%20%3F%C3%A9"
        );
        assert_eq!(
            target(&names[..1], "5", Some(2), Some("a b")),
            "/api/tap?rate=5&limit=2&component=app.*&q=a%20b"
        );
        assert!(rate("0").is_err() && rate("x").is_err() && rate("1000001").is_err() && rate("7").is_ok());
    }
}
