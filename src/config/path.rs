//! The full path of an option, such as `pipelines[0].sources[1].path`, as diagnostics and the reference print it.

use std::fmt;

/// The path of a node in the configuration tree; the root is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Path(String);

impl Path {
    /// The path of the root table.
    pub fn root() -> Path {
        Path::default()
    }

    /// The path of a key in this table; a key that is not a bare TOML key is quoted.
    pub fn key(&self, key: &str) -> Path {
        let dot = if self.0.is_empty() { "" } else { "." };
        Path(format!("{}{dot}{}", self.0, quote_key(key)))
    }

    /// The path of an element of this array.
    pub fn index(&self, index: usize) -> Path {
        Path(format!("{}[{index}]", self.0))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path as text; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key as TOML spells it: bare where it can be, quoted otherwise.
pub fn quote_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quote_string(key) }
}

/// A string as a TOML basic string.
pub fn quote_string(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                write!(out, "\\u{:04X}", c as u32).expect("writing to a string cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_the_file() {
        let path = Path::root().key("pipelines").index(0).key("sources").index(1).key("path");
        assert_eq!(path.as_str(), "pipelines[0].sources[1].path");
        assert_eq!(Path::root().key("a b").key("").as_str(), "\"a b\".\"\"");
        assert!(Path::root().is_root());
    }

    #[test]
    fn strings_are_quoted_so_that_toml_reads_them_back() {
        let text = "a\"b\\c\nd\te\u{7f}\u{1}é";
        let quoted = quote_string(text);
        let parsed = toml::de::DeValue::parse(&quoted).unwrap().into_inner();
        assert_eq!(parsed.as_str(), Some(text));
    }
}
