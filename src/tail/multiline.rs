//! Lines that belong together. They lie next to each other in the chunk, so joining them is one span over all of
//! them: nothing is copied, and what is not complete yet is simply not consumed.

use std::time::Duration;

use regex_automata::meta::Regex;

use super::options::MultilineOptions;
use crate::batch::{Framing, Span};
use crate::codec::framing::Framed;
use crate::config::Located;
use crate::flow::BuildCx;

/// Rules for joining lines.
#[derive(Debug, Clone)]
pub struct Multiline {
    regex: Regex,
    /// Whether a match begins an event; otherwise it continues one.
    begins: bool,
    lines_max: u64,
    bytes_max: usize,
    timeout: Duration,
}

impl Multiline {
    /// Checks `options`; complaints go to `cx`.
    pub fn new(options: &MultilineOptions, cx: &mut BuildCx<'_>) -> Option<Multiline> {
        let (text, begins): (&Located<String>, bool) = match (&options.start, &options.r#continue) {
            (Some(start), None) => (start, true),
            (None, Some(go_on)) => (go_on, false),
            (both, _) => {
                let what = if both.is_some() { "both are given" } else { "neither is given" };
                cx.error("multiline", format!("`multiline` takes either `start` or `continue`: {what}"));
                return None;
            }
        };
        let syntax = regex_automata::util::syntax::Config::new().utf8(false);
        let built = Regex::builder()
            .syntax(syntax)
            .configure(Regex::config().utf8_empty(false).nfa_size_limit(Some(10 << 20)))
            .build(text);
        match built {
            Ok(regex) => Some(Multiline {
                regex,
                begins,
                lines_max: options.max_lines,
                bytes_max: options.max_bytes.as_usize(),
                timeout: options.timeout,
            }),
            Err(e) => {
                text.error(format!("invalid regular expression: {e}"), cx.diagnostics);
                None
            }
        }
    }

    /// Most bytes of an event, unless it is a single longer line.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// How long an event waits for its next line.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Joins the lines of `framed`, found in `chunk`, which starts where an event starts. The last event is held
    /// back (not consumed), as more lines of it may come, unless `all`.
    pub fn join(&self, chunk: &[u8], mut framed: Framed, all: bool) -> Framed {
        let mut joined: Vec<Span> = Vec::with_capacity(framed.spans.len());
        let mut lines = 0;
        for span in framed.spans {
            let line = chunk[span.start()..span.end()].strip_suffix(b"\r");
            let line = line.unwrap_or(&chunk[span.start()..span.end()]);
            let continues = self.regex.is_match(line) != self.begins;
            if let Some(last) = joined.last_mut()
                && continues
                && lines < self.lines_max
                // What was cut from a line lies in between; an event cannot span it.
                && last.end() + 1 == span.start()
                && chunk[last.end()] == b'\n'
                && span.end() - last.start() <= self.bytes_max
            {
                *last = Span::new(last.start(), span.end() - last.start());
                lines += 1;
            } else {
                joined.push(span);
                lines = 1;
            }
        }
        // An event stays open only if nothing was cut after it.
        if !all
            && let Some(last) = joined.last().copied()
            && last.end() + 1 >= framed.consumed.min(chunk.len())
            && chunk.get(last.end()) == Some(&b'\n')
            && lines < self.lines_max
        {
            joined.pop();
            framed.consumed = last.start();
        }
        framed.spans = joined;
        framed.framing = Framing::Free;
        framed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::framing::{LineFramer, Oversize};

    fn rules(regex: &str, begins: bool, lines_max: u64, bytes_max: usize) -> Multiline {
        let regex = Regex::new(regex).unwrap();
        Multiline { regex, begins, lines_max, bytes_max, timeout: Duration::from_secs(1) }
    }

    fn join(rules: &Multiline, text: &str, all: bool) -> (Vec<String>, usize) {
        let mut framer = LineFramer::new(20, Oversize::Truncate);
        let framed = rules.join(text.as_bytes(), framer.frame(text.as_bytes()), all);
        (framed.spans.iter().map(|s| text[s.start()..s.end()].to_owned()).collect(), framed.consumed)
    }

    #[test]
    fn lines_join_from_start_to_start_and_the_last_event_waits() {
        let rules = rules(r"^\S", true, 100, 1000);
        let text = "Error\n  at a\n  at b\nnext\n  at c\npart";
        assert_eq!(join(&rules, text, false), (vec!["Error\n  at a\n  at b".to_owned()], 20));
        assert_eq!(
            join(&rules, text, true),
            (vec!["Error\n  at a\n  at b".to_owned(), "next\n  at c".to_owned()], 32)
        );
    }

    #[test]
    fn continuing_lines_join_the_one_before() {
        let rules = rules(r"^\s", false, 100, 1000);
        assert_eq!(join(&rules, "a\n b\nc\n", false), (vec!["a\n b".to_owned()], 5));
    }

    #[test]
    fn bounds_close_an_event() {
        let (lines, _) = join(&rules(r"^\s", false, 2, 1000), "a\n b\n c\n d\n e\nf\n", true);
        assert_eq!(lines, ["a\n b", " c\n d", " e", "f"]);
        let (lines, _) = join(&rules(r"^\s", false, 100, 6), "a\n b\n c\n d\nf\n", true);
        assert_eq!(lines, ["a\n b", " c\n d", "f"]);
    }

    #[test]
    fn a_cut_line_ends_its_event() {
        let (lines, consumed) =
            join(&rules(r"^\s", false, 9, 1000), "a\n 3456789012345678901234\n b\nx\n", false);
        assert_eq!(lines, ["a\n 3456789012345678901", " b"]);
        assert_eq!(consumed, 29);
    }
}
