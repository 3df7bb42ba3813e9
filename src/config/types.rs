//! The types that only configuration needs: one value or several, an address to listen on, and a value that
//! remembers where it was written.

use std::fmt;
use std::ops::{Deref, Range};

use super::diagnostics::{Diagnostic, Diagnostics};
use super::field::Shape;
use super::from_node::{FromNode, wrong_form, wrong_type};
use super::node::{Node, Value};
use super::origin::Origin;
use super::path::{Path, quote_string};

/// A string or an array of strings; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany(Vec<String>);

impl OneOrMany {
    /// A single string.
    pub fn one(text: impl Into<String>) -> OneOrMany {
        OneOrMany(vec![text.into()])
    }
}

impl Deref for OneOrMany {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl FromNode for OneOrMany {
    fn shape() -> Shape {
        Shape::OneOrMany(Box::new(Shape::String))
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<OneOrMany> {
        match &node.value {
            Value::String(text) => Some(OneOrMany::one(text)),
            Value::Array(nodes) if nodes.is_empty() => {
                wrong_form(node, at, "the array is empty", "at least one string", diags);
                None
            }
            Value::Array(_) => Vec::from_node(node, at, diags).map(OneOrMany),
            _ => {
                wrong_type(node, at, "a string or an array of strings", diags);
                None
            }
        }
    }

    fn display(&self) -> String {
        if let [one] = self.0.as_slice() { quote_string(one) } else { self.0.display() }
    }
}

/// A socket address to listen on. Only its form is checked here: whether the host resolves and the port is free
/// shows when it is bound.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listen {
    /// An address or a host name, an IPv6 address without its brackets.
    pub host: String,
    /// The port; 0 asks the system for a free one.
    pub port: u16,
}

impl Listen {
    /// Parses `host:port`, `1.2.3.4:80` or `[::1]:80`. Errors say what is wrong.
    pub fn parse(text: &str) -> Result<Listen, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some(parts) => parts,
            None if text.parse::<u16>().is_ok() => ("", text),
            None => return Err(format!("{text:?} has no port")),
        };
        let port = port.parse().map_err(|_| format!("{port:?} is not a port, 0 to 65535 is allowed"))?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => match v6.parse::<std::net::Ipv6Addr>() {
                Ok(_) => v6,
                Err(_) => return Err(format!("{v6:?} is not an IPv6 address")),
            },
            None if host.contains(':') => {
                return Err(format!("an IPv6 address is written in brackets: \"[{host}]:{port}\""));
            }
            None => host,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() {
            return Err(format!(
                "{text:?} has no host: write \"0.0.0.0:{port}\" for all addresses, \"127.0.0.1:{port}\" for this machine only"
            ));
        }
        if !host.chars().all(is_name) {
            return Err(format!("{host:?} is not a host name or an address"));
        }
        let only_digits_and_dots = host.chars().all(|c| c.is_ascii_digit() || c == '.');
        if only_digits_and_dots && host.parse::<std::net::Ipv4Addr>().is_err() {
            return Err(format!("{host:?} is not an IPv4 address"));
        }
        Ok(Listen { host: host.to_owned(), port })
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromNode for Listen {
    fn shape() -> Shape {
        Shape::Listen
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Listen> {
        let Some(text) = node.as_str() else {
            wrong_type(node, at, &Self::shape().expected(), diags);
            return None;
        };
        match Listen::parse(text) {
            Ok(listen) => Some(listen),
            Err(why) => {
                wrong_form(node, at, &why, &Self::shape().expected(), diags);
                None
            }
        }
    }

    fn display(&self) -> String {
        format!("\"{self}\"")
    }
}

/// A value that remembers where it was written, for options that are checked only after they were read, such as
/// regular expressions. It is used like the value itself.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub origin: Origin,
    /// The option's path.
    pub path: Path,
}

impl<T> Located<T> {
    /// Adds an error about the value; say more through what it returns.
    pub fn error<'d>(&self, message: impl Into<String>, diags: &'d mut Diagnostics) -> &'d mut Diagnostic {
        diags.error(&self.origin, message).path(&self.path)
    }
}

impl Located<String> {
    /// The origin of a byte range of the string, for the errors of what parses it; the whole string's where its
    /// text is not the file's (a variable was filled in).
    pub fn origin_of(&self, range: Range<usize>) -> Origin {
        let written = self.origin.source().and_then(|source| source.text.get(self.origin.span()));
        let Some(written) = written else { return self.origin.clone() };
        if let Some(at) = written.find(&self.value) {
            return self.origin.narrow(at + range.start..at + range.end);
        }
        let offset = |offset| offset_in_basic(written, &self.value, offset);
        match (offset(range.start), offset(range.end)) {
            (Some(start), Some(end)) => self.origin.narrow(start..end),
            _ => self.origin.clone(),
        }
    }
}

/// Where byte `offset` of `value` stands in `written`, a TOML basic string of one line with escapes; `None` if
/// that is not what `written` is.
fn offset_in_basic(written: &str, value: &str, offset: usize) -> Option<usize> {
    let inner = written.strip_prefix('"').filter(|_| !written.starts_with("\"\"\""))?;
    let (mut at, mut decoded, mut found) = (0, 0, None);
    while decoded < value.len() {
        if decoded == offset {
            found = Some(at);
        }
        let rest = inner.get(at..)?;
        let character = value[decoded..].chars().next()?;
        at += match rest.strip_prefix('\\').and_then(|escape| escape.chars().next()) {
            Some('u') => 6,
            Some('U') => 10,
            Some('x') => 4,
            Some(_) => 2,
            None if rest.starts_with(character) => character.len_utf8(),
            None => return None,
        };
        decoded += character.len_utf8();
    }
    let end = inner.get(at..)?.starts_with('"').then_some(at)?;
    found.or((decoded == offset).then_some(end)).map(|at| at + 1)
}

impl<T> From<T> for Located<T> {
    fn from(value: T) -> Located<T> {
        Located { value, origin: Origin::Default, path: Path::root() }
    }
}

impl<T: fmt::Display> fmt::Display for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: FromNode> FromNode for Located<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Located<T>> {
        let value = T::from_node(node, at, diags)?;
        Some(Located { value, origin: node.origin.clone(), path: at.clone() })
    }

    fn display(&self) -> String {
        self.value.display()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_print() {
        for (text, host, loopback) in [
            ("127.0.0.1:8080", "127.0.0.1", true),
            ("localhost:0", "localhost", true),
            ("[::1]:80", "::1", true),
            ("[::]:80", "::", false),
            ("0.0.0.0:65535", "0.0.0.0", false),
            ("logs.example.com:1", "logs.example.com", false),
        ] {
            let listen = Listen::parse(text).unwrap();
            assert_eq!((listen.host.as_str(), listen.is_loopback()), (host, loopback), "{text}");
            assert_eq!(listen.to_string(), text);
        }
        for bad in ["", "8080", ":8080", "host:", "host:99999", "::1:80", "[x]:1", "a b:1", "1.2.3:4", "h:-1"]
        {
            assert!(Listen::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_within_a_string() {
        let file = crate::config::Source::file("f", r#"a = "x(y" b = "x\t(""#);
        let at = |span: Range<usize>, value: &str| {
            let located = Located { value: value.to_owned(), origin: file.at(span), path: Path::root() };
            located.origin_of(1..2).span()
        };
        assert_eq!(at(4..9, "x(y"), 6..7);
        assert_eq!(at(14..20, "x\t("), 16..18);
        let end = Located { value: "x\t(".to_owned(), origin: file.at(14..20), path: Path::root() };
        assert_eq!(end.origin_of(3..3).span(), 19..19);
        assert_eq!(at(14..20, "filled in"), 14..20);
        assert_eq!(Located::from("x".to_owned()).origin_of(0..1).span(), 0..0);
    }

    #[test]
    fn one_or_many_strings() {
        let mut diags = Diagnostics::new();
        let mut read = |node: Node| OneOrMany::from_node(&node, &Path::root(), &mut diags);
        assert_eq!(read("a".into()).unwrap().display(), "\"a\"");
        assert_eq!(read(vec!["a", "b"].into()).unwrap().display(), "[\"a\", \"b\"]");
        assert_eq!(read(Node::array([])), None);
        assert_eq!(read(Node::from(1)), None);
        assert_eq!(read(vec![1, 2].into()), None);
        assert_eq!(diags.items().len(), 4);
    }
}
