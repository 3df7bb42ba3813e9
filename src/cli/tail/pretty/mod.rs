//! Lines for people: labelled by where they come from, structured ones laid out, all of them coloured by what they
//! say. One pass over each line, in room that is kept; how wide a line is never matters.

mod highlight;
mod layout;
mod logfmt;
mod paint;
mod shapes;
mod style;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use layout::{Known, Layout, put_time};
use paint::Painter;
use style::SOURCES;

use super::block::Block;
use super::json;
use super::wanted::Marks;
use crate::batch::detect;

/// Widest label that others are aligned to, in characters.
const LABEL_WIDTH_MAX: usize = 24;
/// Most labels that are remembered.
const LABELS_MAX: usize = 10_000;
/// Most labels that others are told apart from.
const TOLD_APART_MAX: usize = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Pretty {
    painter: Painter,
    layout: Layout,
    /// Whether lines say where they come from; from the second source on they do.
    labelled: bool,
    first: Option<String>,
    /// The labels there are, as they came.
    known: Vec<String>,
    labels: HashMap<String, Vec<u8>>,
    width: usize,
}

impl Pretty {
    /// Colours if `color`, labels from the start if `labelled`, marks what `marks` finds.
    pub(super) fn new(color: bool, labelled: bool, marks: Option<Marks>) -> Pretty {
        Pretty {
            painter: Painter::new(color, marks),
            layout: Layout::default(),
            labelled,
            first: None,
            known: Vec::new(),
            labels: HashMap::new(),
            width: 0,
        }
    }

    /// Makes room for these labels, so that the column is as wide from the first line on as it will be.
    pub(super) fn expect(&mut self, labels: impl Iterator<Item = String>) {
        self.known = labels.take(TOLD_APART_MAX).collect();
        let widths = self.known.iter().map(|label| short(label, &self.known).chars().count());
        self.width = widths.filter(|chars| *chars <= LABEL_WIDTH_MAX).max().unwrap_or(0);
    }

    /// Appends a row and its line break.
    pub(super) fn row(&mut self, block: &Block, row: u32, out: &mut Vec<u8>) {
        self.label(block.label(row), out);
        let line = block.batch.line(row);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let envelope = block.envelope(row);
        let known = Known {
            timestamp: envelope.and_then(|e| e.timestamp),
            level: envelope.and_then(|e| e.level),
            received: block.batch.arena().received(),
        };
        let start = line.trim_ascii_start();
        let is_structured = match start.first() {
            Some(b'{') => {
                self.layout.members.clear();
                json::members(line, 0..line.len(), &mut self.layout.members)
            }
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'_') => {
                self.layout.members.clear();
                logfmt::pairs(line, &mut self.layout.members)
            }
            _ => false,
        };
        if !is_structured || !self.layout.line(&mut self.painter, out, line, known) {
            // Of a line that does not state its time, a running weir knows when it came.
            if let Some(time) = known.timestamp
                && detect::detect_timestamp(line, known.received).is_none()
            {
                put_time(&self.painter, out, time);
            }
            self.text(block.label(row), line, out);
        }
        out.push(b'\n');
    }

    /// Appends text, which may be of several lines.
    fn text(&mut self, label: &str, text: &[u8], out: &mut Vec<u8>) {
        if memchr::memchr(b'\n', text).is_none() {
            return self.painter.text(out, text);
        }
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            if index > 0 {
                out.push(b'\n');
                self.label(label, out);
            }
            self.painter.text(out, line.strip_suffix(b"\r").unwrap_or(line));
        }
    }

    fn label(&mut self, label: &str, out: &mut Vec<u8>) {
        if !self.labelled {
            match &self.first {
                None => self.first = Some(label.to_owned()),
                Some(first) if first != label => self.labelled = true,
                Some(_) => {}
            }
            if !self.labelled {
                return;
            }
        }
        if let Some(written) = self.labels.get(label) {
            return out.extend_from_slice(written);
        }
        if self.labels.len() >= LABELS_MAX {
            self.labels.clear();
        }
        if self.known.len() < TOLD_APART_MAX && !self.known.iter().any(|known| known == label) {
            // One of the others may have to be told apart from it.
            self.known.push(label.to_owned());
            self.labels.clear();
        }
        let short = short(label, &self.known);
        let chars = short.chars().count();
        if chars > self.width && chars <= LABEL_WIDTH_MAX {
            // Those that were written already are written anew, as wide as this one.
            self.width = chars;
            self.labels.clear();
        }
        let mut written = Vec::new();
        let color = SOURCES[(hash(label) % SOURCES.len() as u64) as usize];
        let mut clean = Vec::new();
        crate::codec::terminal::harmless_into(&mut clean, short.as_bytes(), false);
        self.painter.framed(&mut written, &clean, color);
        written.extend(std::iter::repeat_n(b' ', self.width.saturating_sub(chars)));
        written.extend_from_slice(b" | ");
        out.extend_from_slice(&written);
        self.labels.insert(label.to_owned(), written);
    }
}

/// The name of a file, with as many of the directories before it as tell it apart from `others`; other labels as they
/// are.
fn short<'a>(label: &'a str, others: &[String]) -> &'a str {
    if label.contains("://") {
        return label;
    }
    let alike = |end: &str| others.iter().any(|other| other != label && ends_with_names(other, end));
    let begins = label.rmatch_indices('/').map(|(at, _)| at + 1).chain([0]);
    begins.map(|at| &label[at..]).find(|end| !end.is_empty() && !alike(end)).unwrap_or(label)
}

/// Whether a path ends with these names, and not in the middle of one.
fn ends_with_names(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// FNV-1a: the colour of a source is the same every time.
fn hash(label: &str) -> u64 {
    label
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
