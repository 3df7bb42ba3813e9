//! Writing JSON strings fast: eight bytes at a time as long as nothing needs escaping. Bytes that are not UTF-8
//! become U+FFFD, since JSON has no way to carry them (RFC 8259, section 8.1).

/// Appends `text` as the inside of a JSON string (no quotes). Control characters, quotes and backslashes are
/// escaped, so the result holds no line break of any kind.
pub fn escape_into(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_ascii() || std::str::from_utf8(text).is_ok() {
        return escape_valid(out, text);
    }
    for chunk in text.utf8_chunks() {
        escape_valid(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn string_into(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    escape_into(out, text);
    out.push(b'"');
}

/// `text` as a JSON string with its quotes.
pub fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    string_into(&mut out, text);
    out
}

fn escape_valid(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len());
    let mut rest = text;
    loop {
        let clean = clean_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        let Some(&byte) = rest.get(clean) else { return };
        escape_byte(out, byte);
        rest = &rest[clean + 1..];
    }
}

fn escape_byte(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"\\u00");
            return out.extend_from_slice(&digits);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Length of the longest prefix that holds neither a control character nor a quote nor a backslash.
pub(super) fn clean_prefix(text: &[u8]) -> usize {
    let mut words = text.chunks_exact(8);
    let mut at = 0;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        let found = needs_escape(word);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + words.remainder().iter().take_while(|b| **b >= 0x20 && **b != b'"' && **b != b'\\').count()
}

/// Sets the high bit of each byte that is a control character, a quote or a backslash. Borrows between bytes can
/// only mark a byte above one that is truly marked, so the lowest mark is always right ("Bit Twiddling Hacks",
/// determine if a word has a byte less than n).
fn needs_escape(word: u64) -> u64 {
    let equal = |byte: u8| {
        let x = word ^ (ONES * u64::from(byte));
        x.wrapping_sub(ONES) & !x
    };
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (control | equal(b'"') | equal(b'\\')) & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_serde(text in proptest::collection::vec(prop_oneof![3 => 0x20u8..0x7f, 1 => any::<u8>()], 0..200)) {
            let ours = string(&text);
            let read: String = serde_json::from_slice(&ours).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&text));
            prop_assert!(!ours.iter().any(|b| *b < 0x20));
        }
    }
}
