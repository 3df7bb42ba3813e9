//! What is done to log lines, whatever bytes they hold.

use logweir::batch::{Batch, Timestamp, detect};
use logweir::codec::framing::{LineFramer, Oversize};
use logweir::codec::{json, terminal as term};
use logweir::query::lookup as fields;

/// Lines do not depend on how the text was cut into reads, and none is longer than the limit.
pub fn file_lines(data: &[u8]) {
    let [max, policy, piece, text @ ..] = data else { return };
    let max = usize::from(*max).max(1);
    let oversize = [Oversize::Truncate, Oversize::Drop, Oversize::Split][usize::from(*policy) % 3];
    let whole = frame(text, text.len().max(1), max, oversize);
    assert_eq!(frame(text, usize::from(*piece).max(1), max, oversize), whole);
    assert!(whole.iter().all(|line| line.len() <= max));
}

fn frame(text: &[u8], piece: usize, max: usize, oversize: Oversize) -> Vec<Vec<u8>> {
    let mut framer = LineFramer::new(max, oversize);
    let (mut lines, mut carry) = (Vec::new(), Vec::new());
    for bytes in text.chunks(piece) {
        carry.extend_from_slice(bytes);
        let framed = framer.frame(&carry);
        lines.extend(framed.spans.iter().map(|s| carry[s.start()..s.end()].to_vec()));
        carry.drain(..framed.consumed);
    }
    let framed = framer.finish(&carry);
    lines.extend(framed.spans.iter().map(|s| carry[s.start()..s.end()].to_vec()));
    lines
}

/// Level and time are found, or not, without a panic.
pub fn detect(data: &[u8]) {
    detect::detect_level(data);
    detect::detect_timestamp(data, Timestamp(1_700_000_000_000_000_000));
}

/// Fields of JSON and logfmt lines.
pub fn lookup(data: &[u8]) {
    for name in ["level", "a", "msg", "b.c"] {
        fields::lookup(data, name);
    }
}

/// A string that is written as JSON parses, and holds no line break that would end an SSE field.
pub fn encode_json(data: &[u8]) {
    let written = json::string(data);
    assert!(!written.iter().any(|b| matches!(b, b'\n' | b'\r')));
    let parsed: String = serde_json::from_slice(&written).expect("what is written is JSON");
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(parsed, text);
    }
}

/// What is shown on a terminal cannot steer it, save for colours; a carriage return at the end is half a line break.
pub fn terminal(data: &[u8]) {
    let batch = Batch::from_lines("fuzz", [data]);
    let mut out = Vec::new();
    for colors in [false, true] {
        out.clear();
        term::harmless_into(&mut out, batch.line(0), colors);
        let shown = out.strip_suffix(b"\r").unwrap_or(&out);
        let controls = shown.iter().filter(|&&b| b < 0x20 && b != b'\t' && !(colors && b == 0x1b)).count();
        assert_eq!(controls, 0, "{out:?}");
    }
}
