//! What stands out in a line, found in one pass: times, levels, numbers, addresses, URLs, identifiers, quoted text,
//! paths, requests. A table says which bytes can begin something; nothing is looked at more than a few times, so that
//! no line costs more than in proportion to its length.

use super::shapes::{self, is_ident};
use super::style::Style;
use crate::batch::Level;

/// Longest text in quotes that is taken for one.
const QUOTED_MAX: usize = 2048;
/// How far into a line a month or a weekday may begin a time.
const TIME_WITHIN: usize = 48;
/// Hexadecimal digits that make an identifier.
const ID_DIGITS_MIN: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Other,
    Digit,
    Letter,
    Quote,
    Slash,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => Class::Digit,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' | 0x80.. => Class::Letter,
            b'"' | b'\'' => Class::Quote,
            b'/' => Class::Slash,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// Calls `token` with what stands out in `text`: start, end and style, ascending, without overlap.
pub(super) fn lex(text: &[u8], mut token: impl FnMut(usize, usize, Style)) {
    let (mut at, mut quotes_from) = (0, 0);
    while let Some(&byte) = text.get(at) {
        at = match CLASSES[usize::from(byte)] {
            Class::Other => at + 1,
            Class::Digit => number(text, at, &mut token),
            Class::Letter => word(text, at, &mut token),
            Class::Quote if at < quotes_from => at + 1,
            Class::Quote => quoted(text, at, byte, &mut quotes_from, &mut token),
            Class::Slash => path(text, at, &mut token),
        };
    }
}

/// One past the run of letters, digits and `_` that begins at `at`.
#[inline]
fn ident_end(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|b| is_ident(**b)).count()
}

/// The same, over dots and dashes that join such runs.
#[inline]
fn joined_end(text: &[u8], mut end: usize) -> usize {
    while matches!(text.get(end), Some(b'.' | b'-')) && text.get(end + 1).is_some_and(|b| is_ident(*b)) {
        end = ident_end(text, end + 1);
    }
    end
}

fn number(text: &[u8], at: usize, token: &mut impl FnMut(usize, usize, Style)) -> usize {
    let rest = &text[at..];
    let time = if at == 0 { shapes::bare_time(rest) } else { None };
    if let Some(len) = time.or_else(|| shapes::time(rest)) {
        token(at, at + len, Style::Time);
        return at + len;
    }
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let next = rest.get(digits).copied().unwrap_or(b' ');
    if next == b'.'
        && let Some(len) = shapes::ipv4(rest)
    {
        token(at, at + len, Style::Ip);
        return at + len;
    }
    if digits <= 4
        && (next == b':' || next | 32 >= b'a')
        && let Some(len) = shapes::ipv6(rest)
    {
        token(at, at + len, Style::Ip);
        return at + len;
    }
    if digits == 3 && at >= 2 && text[at - 2] == b'"' && text[at - 1] == b' ' && next == b' ' {
        token(at, at + 3, Style::status(rest[0]));
        return at + 3;
    }
    let end = ident_end(text, at);
    if end - at <= 8
        && let Some(len) = shapes::uuid(rest)
    {
        token(at, at + len, Style::Uuid);
        return at + len;
    }
    if let Some(len) = shapes::number(rest) {
        token(at, at + len, Style::Number);
        return at + len;
    }
    if shapes::is_id(&text[at..end], ID_DIGITS_MIN) {
        token(at, end, Style::Uuid);
    }
    joined_end(text, end)
}

fn word(text: &[u8], at: usize, token: &mut impl FnMut(usize, usize, Style)) -> usize {
    let rest = &text[at..];
    let end = ident_end(text, at);
    let (word, next) = (&text[at..end], text.get(end).copied().unwrap_or(b' '));
    match next {
        b'=' => return key(text, at, end, token),
        b':' if text[end..].starts_with(b"://") => {
            let end = shapes::url_end(text, end + 3);
            token(at, end, Style::Url);
            return end;
        }
        b':' if word.len() <= 4
            && let Some(len) = shapes::ipv6(rest) =>
        {
            token(at, at + len, Style::Ip);
            return at + len;
        }
        b'-' if word.len() == 8
            && let Some(len) = shapes::uuid(rest) =>
        {
            token(at, at + len, Style::Uuid);
            return at + len;
        }
        b'.' | b'-' => {
            let end = joined_end(text, end);
            return if text.get(end) == Some(&b'=') { key(text, at, end, token) } else { end };
        }
        _ => {}
    }
    let before = if at == 0 { b' ' } else { text[at - 1] };
    if let Some(style) = styled(text, at, end, before, next) {
        token(at, end, style);
        return end;
    }
    if at <= TIME_WITHIN && word.len() == 3 {
        if let Some(len) = shapes::named_time(rest) {
            token(at, at + len, Style::Time);
            return at + len;
        }
    } else if at == 0
        && word.len() == 5
        && let Some((level, len)) = shapes::klog(rest)
    {
        token(0, 1, Style::Level(level));
        token(1, len, Style::Time);
        return len;
    }
    if shapes::is_id(word, ID_DIGITS_MIN) {
        token(at, end, Style::Uuid);
    }
    end
}

/// The style of a word that is one of few.
#[inline]
fn styled(text: &[u8], at: usize, end: usize, before: u8, next: u8) -> Option<Style> {
    let word = &text[at..end];
    if !(2..=8).contains(&word.len()) {
        return None;
    }
    let upper = word[0].is_ascii_uppercase();
    if upper && word[1].is_ascii_uppercase() {
        let request = next == b' ' && matches!(text.get(end + 1), Some(b'/' | b'h' | b'*'));
        if request && shapes::is_method(word) {
            return Some(Style::Method);
        }
        return Level::parse(word)
            .filter(|_| word.len() > 2 && word.iter().all(u8::is_ascii_uppercase))
            .map(Style::Level);
    }
    let bracketed = before == b'[' && next == b']' || before == b'<' && next == b'>';
    if bracketed || (next == b':' && word.len() > 3) {
        return Level::parse(word).filter(|_| word.len() > 2).map(Style::Level);
    }
    matches!(word, b"true" | b"false" | b"null" | b"None" | b"nil" | b"True" | b"False")
        .then_some(Style::Word)
}

/// A key before its `=`, and the value if the key says what it is.
fn key(text: &[u8], at: usize, end: usize, token: &mut impl FnMut(usize, usize, Style)) -> usize {
    token(at, end + 1, Style::Key);
    let key = &text[at..end];
    let open = if text.get(end + 1) == Some(&b'"') { end + 2 } else { end + 1 };
    let close = ident_end(text, open.min(text.len()));
    let value = text.get(open..close).unwrap_or_default();
    if shapes::is_level_key(key)
        && let Some(level) = Level::parse(value)
    {
        token(open, close, Style::Level(level));
        return close;
    }
    if let [first @ b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] = value
        && shapes::is_status_key(key)
    {
        token(open, close, Style::status(*first));
        return close;
    }
    end + 1
}

fn quoted(
    text: &[u8],
    at: usize,
    quote: u8,
    quotes_from: &mut usize,
    token: &mut impl FnMut(usize, usize, Style),
) -> usize {
    if quote == b'\'' && at > 0 && is_ident(text[at - 1]) {
        return at + 1;
    }
    let within = &text[..text.len().min(at + QUOTED_MAX)];
    let mut end = at + 1;
    loop {
        let Some(found) = memchr::memchr2(quote, b'\\', within.get(end..).unwrap_or_default()) else {
            // An open quote: many of them must not cost a search each.
            *quotes_from = within.len();
            return at + 1;
        };
        end += found;
        if within[end] == quote {
            break;
        }
        end += 2;
    }
    let inner = &text[at + 1..end];
    let next = text.get(end + 1).copied().unwrap_or(b' ');
    if quote == b'\'' && is_ident(next) {
        return at + 1;
    }
    if inner.is_empty() {
        return at + 1;
    }
    if shapes::is_request(inner) {
        request(text, at + 1, end, token);
        return end + 1;
    }
    token(at, end + 1, if next == b':' { Style::Key } else { Style::Quoted });
    end + 1
}

/// The parts of a request line: `GET /x HTTP/1.1`.
fn request(text: &[u8], at: usize, end: usize, token: &mut impl FnMut(usize, usize, Style)) {
    let space = |from: usize| memchr::memchr(b' ', &text[from..end]).map_or(end, |len| from + len);
    let method = space(at);
    token(at, method, Style::Method);
    let target = (method + 1).min(end);
    if target < space(target) {
        token(target, space(target), Style::Path);
    }
}

fn path(text: &[u8], at: usize, token: &mut impl FnMut(usize, usize, Style)) -> usize {
    let begins = at == 0
        || matches!(
            text[at - 1],
            b' ' | b'\t' | b'=' | b'"' | b'\'' | b'(' | b'[' | b',' | b':' | b'<' | b'>'
        );
    let goes_on =
        text.get(at + 1).is_some_and(|b| is_ident(*b) || matches!(b, b'.' | b'~' | b'%' | b'-' | b'?'));
    if !begins || !goes_on {
        return at + 1;
    }
    // Java writes addresses so.
    if let Some(len) = shapes::ipv4(&text[at + 1..]) {
        token(at + 1, at + 1 + len, Style::Ip);
        return at + 1 + len;
    }
    let end = shapes::path_end(text, at + 1);
    token(at, end, Style::Path);
    end
}
