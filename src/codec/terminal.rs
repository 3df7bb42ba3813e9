//! Text for terminals. A log line can carry control sequences that rewrite the screen, rename the window or worse
//! (CWE-150); here they become visible text. Only colours pass, and they end with their line.

use crate::batch::Level;

/// Longest colour sequence, in bytes.
const COLOR_BYTES_MAX: usize = 32;
/// Ends all colours.
pub const RESET: &[u8] = b"\x1b[0m";

/// The colour of a line of this severity; empty for ordinary ones.
pub fn color_of(level: Option<Level>) -> &'static [u8] {
    match level {
        Some(Level::Fatal) => b"\x1b[1;31m",
        Some(Level::Error) => b"\x1b[31m",
        Some(Level::Warn) => b"\x1b[33m",
        Some(Level::Debug | Level::Trace) => b"\x1b[2m",
        _ => b"",
    }
}

/// Appends a whole line as [`harmless_into`] does, but leaves a `\r` at its very end: what comes after it is the line
/// break.
pub fn harmless_line_into(out: &mut Vec<u8>, line: &[u8], colors: bool) {
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    harmless_into(out, text, colors);
    out.extend_from_slice(&line[text.len()..]);
}

/// Appends `text` with its control characters made visible: `\x1b`, `\r`, `\u{9b}`. Tabs stay. Colour sequences (SGR,
/// ECMA-48 8.3.117) stay if `colors` and never outlive the text; bytes that are not UTF-8 are shown as `\xff`.
pub fn harmless_into(out: &mut Vec<u8>, text: &[u8], colors: bool) {
    let mut colored = false;
    for chunk in text.utf8_chunks() {
        colored |= harmless_text(out, chunk.valid(), colors);
        chunk.invalid().iter().for_each(|byte| hex(out, *byte));
    }
    if colored {
        out.extend_from_slice(RESET);
    }
}

/// Whether any colour sequence passed.
fn harmless_text(out: &mut Vec<u8>, text: &str, colors: bool) -> bool {
    let (mut rest, mut colored) = (text, false);
    while let Some(at) = rest.find(|c: char| c != '\t' && is_control(c)) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if colors && let Some(len) = color_len(rest.as_bytes()) {
            out.extend_from_slice(&rest.as_bytes()[..len]);
            rest = &rest[len..];
            colored = true;
            continue;
        }
        let Some(control) = rest.chars().next() else { break };
        match control {
            '\r' => out.extend_from_slice(b"\\r"),
            '\n' => out.extend_from_slice(b"\\n"),
            c if c.is_ascii() => hex(out, c as u8),
            c => out.extend_from_slice(format!("\\u{{{:x}}}", u32::from(c)).as_bytes()),
        }
        rest = &rest[control.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
    colored
}

/// Controls (C0, DEL, C1), and the characters that reorder text, which can show a line as what it is not
/// (CVE-2021-42574).
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Length of the colour sequence that `text` starts with: `ESC [`, digits and semicolons, `m`. Invisible text (8)
/// does not count as a colour.
fn color_len(text: &[u8]) -> Option<usize> {
    let body = text.strip_prefix(b"\x1b[")?;
    let end = body.iter().take(COLOR_BYTES_MAX).position(|b| !(b.is_ascii_digit() || *b == b';'))?;
    let invisible = body[..end].split(|b| *b == b';').any(|n| n == b"8" || n == b"08");
    (body[end] == b'm' && !invisible).then_some(2 + end + 1)
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(line: &[u8], colors: bool) -> String {
        let mut out = Vec::new();
        harmless_into(&mut out, line, colors);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sequences_become_visible_and_colors_end_with_the_line() {
        assert_eq!(shown(b"\x1b]0;title\x07 \x1b[2J\tx", true), "\\x1b]0;title\\x07 \\x1b[2J\tx");
        assert_eq!(shown(b"\x1b[31mred", true), "\x1b[31mred\x1b[0m");
        assert_eq!(shown(b"\x1b[31mred", false), "\\x1b[31mred");
        assert_eq!(shown(b"\x1b[8mhidden", true), "\\x1b[8mhidden");
        assert_eq!(shown(b"over\rwritten\r", true), "over\\rwritten\\r");
        assert_eq!(shown("\u{9b}2J \u{202e}txt".as_bytes(), true), "\\u{9b}2J \\u{202e}txt");
        assert_eq!(shown(b"\x9b2J \xff", true), "\\x9b2J \\xff");
        assert_eq!(shown("grüße 😀".as_bytes(), true), "grüße 😀");
    }

    #[test]
    fn only_the_break_of_a_line_keeps_its_carriage_return() {
        let mut out = Vec::new();
        harmless_line_into(&mut out, b"\x1b[31mred\r\r", true);
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[31mred\\r\x1b[0m\r");
    }

    proptest! {
        #[test]
        fn nothing_but_colors_reaches_the_terminal(line in proptest::collection::vec(
            prop_oneof![2 => proptest::sample::select(&b"\x1b[];0123m8JH\x07\r\x9b\xc2"[..]), 1 => any::<u8>()], 0..80)) {
            let plain = shown(&line, false);
            prop_assert!(plain.chars().all(|c| c == '\t' || !c.is_control()), "{:?}", plain);
            let mut rest = shown(&line, true);
            while let Some(at) = rest.find('\x1b') {
                let len = color_len(&rest.as_bytes()[at..]);
                prop_assert!(len.is_some(), "{rest:?}");
                rest.replace_range(..at + len.unwrap_or(1), "");
            }
        }
    }
}
