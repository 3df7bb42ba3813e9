//! Structured lines laid out for reading: time, level and message first, whatever their keys are called, then the rest
//! as `key=value` with the keys of objects joined by dots. Text of several lines stands below, indented.

use super::paint::Painter;
use super::shapes::{is_level_key, is_status_key};
use super::style::{Style, tag};
use crate::batch::{Level, Span, Timestamp, detect};
use crate::cli::tail::json::{self, Kind, Member};
use crate::query::lookup;

/// Objects within objects that are taken apart; deeper ones stay as they are.
const DEPTH_MAX: usize = 8;

/// What is known of a line besides what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Its time, if it states none.
    pub(super) timestamp: Option<Timestamp>,
    /// Its level, if it states none.
    pub(super) level: Option<Level>,
    /// When it came.
    pub(super) received: Timestamp,
}

/// See the module. Owns the room it works in.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The members of a line, and below them those of the objects being taken apart.
    pub(super) members: Vec<Member>,
    /// The keys that lead to the object being taken apart, each with its dot.
    prefix: Vec<u8>,
    text: Vec<u8>,
    key: Vec<u8>,
    /// Values of several lines: the keys, and where they end; the values.
    below: Vec<(Vec<u8>, Span)>,
}

/// Which members are what everything has.
#[derive(Debug, Default, Clone, Copy)]
struct Roles {
    time: Option<(usize, Timestamp)>,
    level: Option<(usize, Level)>,
    message: Option<usize>,
}

impl Layout {
    /// Appends the line whose members were found, without a line break at its end. False, and nothing is appended, if
    /// it has neither a message nor time and level: then it is no event, but just an object.
    pub(super) fn line(
        &mut self,
        painter: &mut Painter,
        out: &mut Vec<u8>,
        text: &[u8],
        known: Known,
    ) -> bool {
        let roles = self.roles(text, known.received);
        if roles.message.is_none() && (roles.time.is_none() || roles.level.is_none()) {
            return false;
        }
        let from = out.len();
        if let Some(time) = roles.time.map(|(_, time)| time).or(known.timestamp) {
            put_time(painter, out, time);
        }
        if let Some(level) = roles.level.map(|(_, level)| level).or(known.level) {
            painter.framed(out, tag(level).as_bytes(), Style::Level(level).on());
            out.push(b' ');
        }
        let mut rest = Vec::new();
        if let Some(message) = roles.message {
            let member = self.members[message];
            let mut line = std::mem::take(&mut self.text);
            let value = unescaped(member, text, &mut line);
            let value = value.trim_ascii_end();
            let cut = memchr::memchr(b'\n', value).unwrap_or(value.len());
            painter.text(out, value[..cut].strip_suffix(b"\r").unwrap_or(&value[..cut]));
            // Only where a message has several lines is anything kept of it.
            rest.extend_from_slice(value.get(cut + 1..).unwrap_or_default());
            self.text = line;
        }
        for index in 0..self.members.len() {
            let used = |role: Option<usize>| role == Some(index);
            let time = roles.time.map(|(at, _)| at);
            let level = roles.level.map(|(at, _)| at);
            if !used(time) && !used(level) && !used(roles.message) {
                self.field(painter, out, text, self.members[index], 0);
            }
        }
        while out.len() > from && out.ends_with(b" ") {
            out.pop();
        }
        if !rest.is_empty() {
            indented(painter, out, &rest, b"    ");
        }
        self.put_below(painter, out, text);
        true
    }

    /// Finds what everything has; of several messages, the one with the most telling key.
    fn roles(&self, text: &[u8], received: Timestamp) -> Roles {
        let mut roles = Roles::default();
        let mut telling = usize::MAX;
        for (index, member) in self.members.iter().enumerate() {
            let (key, value) = (member.key(text), member.value(text));
            let scalar = matches!(member.kind, Kind::Text { .. } | Kind::Bare);
            if let Some(rank) = message_rank(key)
                && rank < telling
                && matches!(member.kind, Kind::Text { .. })
            {
                (telling, roles.message) = (rank, Some(index));
            } else if roles.time.is_none() && detect::is_time_key(key) {
                // MongoDB wraps it: {"$date":"…"}.
                let value = value.strip_prefix(b"{\"$date\":\"").unwrap_or(value);
                let value = value.strip_suffix(b"\"}").unwrap_or(value);
                let time = Timestamp::parse_rfc3339(value);
                let time = time.or_else(|| detect::detect_timestamp(value, received));
                roles.time = time.map(|time| (index, time));
            } else if roles.level.is_none() && scalar && is_level_key(key) {
                let level = match member.kind {
                    Kind::Bare if value.first().is_some_and(u8::is_ascii_digit) => Level::from_number(value),
                    _ => Level::parse(value),
                };
                roles.level = level.map(|level| (index, level));
            }
        }
        roles
    }

    /// Appends ` key=value`, or the fields of an object.
    fn field(&mut self, painter: &mut Painter, out: &mut Vec<u8>, text: &[u8], member: Member, depth: usize) {
        let value = member.value(text);
        if member.kind == Kind::Object && depth < DEPTH_MAX && value.len() > 2 {
            let (from, prefix) = (self.members.len(), self.prefix.len());
            let range = member.value.start()..member.value.end();
            if json::members(text, range, &mut self.members) && self.members.len() > from {
                self.prefix.extend_from_slice(member.key(text));
                self.prefix.push(b'.');
                for index in from..self.members.len() {
                    // Those of deeper objects come and go behind them.
                    self.field(painter, out, text, self.members[index], depth + 1);
                }
                self.prefix.truncate(prefix);
                self.members.truncate(from);
                return;
            }
            self.members.truncate(from);
        }
        if let Kind::Text { escaped: true } = member.kind
            && memchr::memmem::find(value, b"\\n").is_some()
        {
            let key = [&self.prefix[..], member.key(text)].concat();
            return self.below.push((key, member.value));
        }
        out.push(b' ');
        self.key.clear();
        self.key.extend_from_slice(&self.prefix);
        self.key.extend_from_slice(member.key(text));
        self.key.push(b'=');
        painter.styled(out, &self.key, Style::Key);
        match member.kind {
            Kind::Bare => painter.styled(out, value, bare_style(member.key(text), value)),
            Kind::Object | Kind::Array => painter.text(out, value),
            Kind::Text { .. } => {
                let mut line = std::mem::take(&mut self.text);
                let value = unescaped(member, text, &mut line);
                let plain = |b: &u8| !matches!(b, b' ' | b'\t' | b'"' | b'=' | b'\'');
                if !value.is_empty() && value.iter().all(plain) {
                    painter.text(out, value);
                } else {
                    self.key.clear();
                    self.key.push(b'"');
                    self.key.extend_from_slice(value);
                    self.key.push(b'"');
                    painter.styled(out, &self.key, Style::Quoted);
                }
                self.text = line;
            }
        }
    }

    /// Appends the values of several lines.
    fn put_below(&mut self, painter: &mut Painter, out: &mut Vec<u8>, text: &[u8]) {
        for (key, span) in std::mem::take(&mut self.below) {
            out.extend_from_slice(b"\n    ");
            painter.styled(out, &[&key[..], b":"].concat(), Style::Key);
            self.text.clear();
            lookup::unescape_into(&text[span.start()..span.end()], &mut self.text);
            indented(painter, out, self.text.trim_ascii_end(), b"      ");
        }
    }
}

/// Appends each line of a text below, behind `indent`.
fn indented(painter: &mut Painter, out: &mut Vec<u8>, text: &[u8], indent: &[u8]) {
    for line in text.split(|b| *b == b'\n') {
        out.push(b'\n');
        out.extend_from_slice(indent);
        painter.text(out, line.strip_suffix(b"\r").unwrap_or(line));
    }
}

/// A value without its escapes, in `room` if it has any.
fn unescaped<'a>(member: Member, text: &'a [u8], room: &'a mut Vec<u8>) -> &'a [u8] {
    if member.kind != (Kind::Text { escaped: true }) {
        return member.value(text);
    }
    room.clear();
    lookup::unescape_into(member.value(text), room);
    room
}

fn bare_style(key: &[u8], value: &[u8]) -> Style {
    match value {
        [first @ b'1'..=b'5', _, _] if is_status_key(key) => Style::status(*first),
        [b'0'..=b'9' | b'-', ..] => Style::Number,
        _ => Style::Word,
    }
}

/// Appends a time and a space: `2026-11-21 10:11:12.123Z`.
pub(super) fn put_time(painter: &Painter, out: &mut Vec<u8>, time: Timestamp) {
    let (on, off): (&[u8], &[u8]) =
        if painter.color { (Style::Time.on(), super::style::RESET) } else { (b"", b"") };
    out.extend_from_slice(on);
    let from = out.len();
    time.write_rfc3339(out);
    if let Some(between) = out.get_mut(from + 10) {
        *between = b' ';
    }
    out.extend_from_slice(off);
    out.push(b' ');
}

/// How telling a key is of the message; the least is the most.
fn message_rank(key: &[u8]) -> Option<usize> {
    const KEYS: [&[u8]; 10] = [
        b"message",
        b"msg",
        b"@m",
        b"short_message",
        b"@mt",
        b"MESSAGE",
        b"Message",
        b"event",
        b"log",
        b"text",
    ];
    KEYS.iter().position(|known| *known == key)
}
