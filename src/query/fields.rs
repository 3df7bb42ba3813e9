//! Every value that a field has in a line: JSON keys, objects within objects, elements of arrays, and logfmt pairs,
//! visited where they stand without parsing the rest of the line.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::finder::Finder;
use super::lookup::{pair_at, skip_space, string_end, unescaped, value_end};

/// Deepest object or array that is gone into.
const DEPTH_MAX: usize = 32;

/// A value as it stands in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// The inside of a quoted string, with its escapes.
    Text(&'a [u8]),
    /// A number, a literal, or a logfmt value.
    Bare(&'a [u8]),
    /// A JSON object with its braces: its whole text counts.
    Object(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The value at the start of `written`, which ends with it.
    pub(super) fn of(written: &'a [u8]) -> Value<'a> {
        match written {
            [b'"', inner @ .., b'"'] => Value::Text(inner),
            [b'{', ..] => Value::Object(written),
            bare => Value::Bare(bare),
        }
    }

    /// The value without quotes and escapes.
    pub(super) fn text(self) -> Cow<'a, [u8]> {
        match self {
            Value::Text(inner) => unescaped(inner),
            Value::Bare(text) | Value::Object(text) => Cow::Borrowed(text),
        }
    }

    /// Whether it is JSON's `null`, which counts as absent.
    pub(super) fn is_null(self) -> bool {
        self == Value::Bare(b"null")
    }
}

/// The name of a field, ready to be looked for.
#[derive(Debug, Clone)]
pub(super) struct Name {
    bytes: Box<[u8]>,
    /// Finds the part behind the last dot, with which the key ends however deep it stands. `None` where the key may
    /// be written in ways that do not hold it.
    needle: Option<Finder>,
}

impl Name {
    pub(super) fn new(name: &str) -> Name {
        let last = name.rsplit('.').next().unwrap_or(name);
        // Quotes, backslashes, slashes and control characters have escapes of their own in JSON. Anything has the
        // escape `\u`, which whoever uses the needle has to reckon with.
        let plain = !last.is_empty() && !last.contains(|c: char| c.is_ascii_control() || "\"\\/".contains(c));
        let needle = plain.then(|| Finder::exact(last.as_bytes()));
        Name { bytes: name.as_bytes().into(), needle }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn needle(&self) -> Option<&Finder> {
        self.needle.as_ref()
    }
}

/// Who is told of values; breaking off ends the visit.
type Visit<'v, 'a> = &'v mut dyn FnMut(Value<'a>) -> ControlFlow<()>;

/// Shows every value of the field `name` to `visit`. A line that is a JSON object has its keys; any other line its
/// `key=value` pairs, and the keys of the first JSON object within it.
pub(super) fn visit<'a>(line: &'a [u8], name: &[u8], visit: Visit<'_, 'a>) -> ControlFlow<()> {
    let text = line.trim_ascii_start();
    if text.first() == Some(&b'{') {
        return in_object(text, name, 0, visit);
    }
    in_pairs(line, name, visit)?;
    match memchr::memmem::find(line, b"{\"") {
        Some(object) => in_object(&line[object..], name, 0, visit),
        None => ControlFlow::Continue(()),
    }
}

fn in_pairs<'a>(line: &'a [u8], name: &[u8], visit: Visit<'_, 'a>) -> ControlFlow<()> {
    // Nearly every line that lacks the key is done here.
    if memchr::memmem::find(line, name).is_none() {
        return ControlFlow::Continue(());
    }
    let mut at = 0;
    while let Some(pair) = pair_at(line, at) {
        if line[pair.key.clone()] == *name {
            visit(Value::of_pair(&line[pair.value.clone()]))?;
        }
        at = pair.next;
    }
    ControlFlow::Continue(())
}

impl<'a> Value<'a> {
    /// The value of a logfmt pair: braces mean nothing there.
    pub(super) fn of_pair(written: &'a [u8]) -> Value<'a> {
        match written {
            [b'"', inner @ .., b'"'] => Value::Text(inner),
            bare => Value::Bare(bare),
        }
    }
}

/// The values under `name` in the object that `text` starts with; broken text ends the walk.
fn in_object<'a>(text: &'a [u8], name: &[u8], depth: usize, visit: Visit<'_, 'a>) -> ControlFlow<()> {
    let mut at = 1;
    loop {
        at = skip_space(text, at);
        match text.get(at) {
            Some(b',') => at += 1,
            Some(b'"') => {
                let Some((key, start, end)) = member(text, at) else { return ControlFlow::Continue(()) };
                let key = unescaped(key);
                if *key == *name {
                    each(&text[start..end], depth, visit)?;
                } else if let Some(rest) = name.strip_prefix(&*key).and_then(|rest| rest.strip_prefix(b"."))
                    && depth < DEPTH_MAX
                {
                    inside(&text[start..end], rest, depth + 1, visit)?;
                }
                at = end;
            }
            _ => return ControlFlow::Continue(()),
        }
    }
}

/// The key that opens at `at`, still escaped, and where its value starts and ends. Of a line that was cut off in
/// the middle of an object or an array, the value is what is left.
fn member(text: &[u8], at: usize) -> Option<(&[u8], usize, usize)> {
    let key_end = string_end(text, at)?;
    let colon = skip_space(text, key_end);
    if text.get(colon) != Some(&b':') {
        return None;
    }
    let start = skip_space(text, colon + 1);
    let cut = matches!(text.get(start)?, b'{' | b'[').then_some(text.len());
    Some((&text[at + 1..key_end - 1], start, value_end(text, start).or(cut)?))
}

/// The field `name` of an object, or of the objects in an array.
fn inside<'a>(value: &'a [u8], name: &[u8], depth: usize, visit: Visit<'_, 'a>) -> ControlFlow<()> {
    match value.first() {
        Some(b'{') => in_object(value, name, depth, visit),
        Some(b'[') if depth < DEPTH_MAX => {
            elements(value, &mut |element| inside(element, name, depth + 1, visit))
        }
        _ => ControlFlow::Continue(()),
    }
}

/// A value itself, or each element of an array, however nested.
pub(super) fn each<'a>(value: &'a [u8], depth: usize, visit: Visit<'_, 'a>) -> ControlFlow<()> {
    if value.first() == Some(&b'[') {
        return match depth < DEPTH_MAX {
            true => elements(value, &mut |element| each(element, depth + 1, visit)),
            false => ControlFlow::Continue(()),
        };
    }
    visit(Value::of(value))
}

fn elements<'a>(array: &'a [u8], visit: &mut dyn FnMut(&'a [u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    let mut at = 1;
    loop {
        at = skip_space(array, at);
        match array.get(at) {
            Some(b',') => at += 1,
            None | Some(b']') => return ControlFlow::Continue(()),
            Some(first) => {
                let cut = matches!(first, b'{' | b'[').then_some(array.len());
                let Some(end) = value_end(array, at).or(cut) else { return ControlFlow::Continue(()) };
                visit(&array[at..end])?;
                at = end;
            }
        }
    }
}
