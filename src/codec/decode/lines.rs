//! Bodies of lines: plain ones, which pass byte for byte, and NDJSON, each line of which is checked and passes as it
//! was sent, without the white space around it.

use bytes::Bytes;

use super::json::{Scanner, check_utf8};
use super::{EVENTS_MAX, Events, Malformed};
use crate::batch::{Framing, Span};

/// A row per line. A last line may lack its line break; a `\r` before one belongs to the line, as everywhere.
pub(super) fn plain(body: Bytes) -> Result<Events, Malformed> {
    let mut events = Events::of_body(body);
    let text = events.text.clone();
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', &text).chain((!text.ends_with(b"\n")).then_some(text.len()));
    for end in ends.filter(|_| !text.is_empty()) {
        if events.spans.len() == EVENTS_MAX {
            return Err(Malformed::too_many(&text, start));
        }
        events.spans.push(Span::new(start, end - start));
        start = end + 1;
    }
    Ok(events)
}

/// A row per line that holds a JSON object; blank lines are passed over.
pub(super) fn objects(body: Bytes) -> Result<Events, Malformed> {
    check_utf8(&body)?;
    let mut events = Events::of_body(body);
    let text = events.text.clone();
    let mut scan = Scanner::new(&text);
    let mut row_end = None;
    while scan.at < text.len() {
        let line_end = memchr::memchr(b'\n', &text[scan.at..]).map_or(text.len(), |at| scan.at + at);
        let mut line = Scanner::within(&text, scan.at, line_end);
        scan.at = line_end + 1;
        line.space();
        if line.peek().is_none() {
            continue;
        }
        if line.peek() != Some(b'{') {
            return Err(line.expected("a JSON object on each line"));
        }
        if events.spans.len() == EVENTS_MAX {
            return Err(Malformed::too_many(&text, line.at));
        }
        let start = line.at;
        line.value()?;
        let end = line.at;
        line.space();
        if line.peek().is_some() {
            return Err(line.expected("the end of the line after the object"));
        }
        // Rows are neighbours only where nothing but the line break lies between them.
        if row_end.is_some_and(|before: usize| before + 1 != start)
            || line_end != end && line_end < text.len()
        {
            events.framing = Framing::Free;
        }
        row_end = Some(end);
        events.spans.push(Span::new(start, end - start));
    }
    Ok(events)
}
