//! Percent-decoding of paths and query strings. Strict: a broken escape, a NUL or text that is not UTF-8 is an
//! error, never passed on half decoded.

/// The `key=value` pairs of a query string, decoded (`+` is a space).
///
/// # Errors
/// What is wrong with it.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(key, true)?, decode(value, true)?))
        })
        .collect()
}

/// One part of a URL, decoded.
///
/// # Errors
/// What is wrong with it.
pub fn component(text: &str) -> Result<String, String> {
    decode(text, false)
}

/// The path with its escapes decoded.
///
/// # Errors
/// When it does not start with a slash, or holds a broken escape, a NUL, a `..` segment, a backslash, an escaped slash or bytes that are not UTF-8.
pub fn path(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err("a path starts with `/`".to_owned());
    }
    let mut decoded = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            decoded.push('/');
        }
        let segment = decode(segment, false)?;
        if segment == ".." || segment == "." || segment.contains(['/', '\\']) {
            return Err("a path segment must not be `.` or `..` or hold a slash".to_owned());
        }
        decoded.push_str(&segment);
    }
    Ok(decoded)
}

fn decode(text: &str, plus_is_space: bool) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let hex = |b: Option<u8>| char::from(b?).to_digit(16);
                let (Some(high), Some(low)) = (hex(rest.next()), hex(rest.next())) else {
                    return Err("broken percent escape: expected `%` and two hexadecimal digits".to_owned());
                };
                (high * 16 + low) as u8
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    if bytes.contains(&0) {
        return Err("a NUL byte is not allowed".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8 after percent-decoding".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_strictly() {
        let owned = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            pairs("a=1+2&b=%2B%26&c&&").unwrap(),
            [owned("a", "1 2"), owned("b", "+&"), owned("c", "")]
        );
        assert_eq!(path("/app/%73tream").unwrap(), "/app/stream");
        assert_eq!(path("/a+b").unwrap(), "/a+b");
        for bad in [
            "",
            "*",
            "app",
            "/..",
            "/%2e%2E/x",
            "/a%2fb",
            "/a%5cb",
            "/%00",
            "/%zz",
            "/%f",
            "/%ff",
            "/%",
            "/.",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
        for bad in ["a=%", "a=%0", "a=%00", "%ff=1", "a=%+1"] {
            assert!(pairs(bad).is_err(), "{bad}");
        }
    }
}
