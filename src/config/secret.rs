//! Secrets: written in place, or better named by a file or a variable. Nothing prints one, neither `Debug` nor
//! `weir config` nor a quoted line in an error.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use super::diagnostics::Diagnostics;
use super::environment::Environment;
use super::field::Shape;
use super::from_node::{FromNode, wrong_form, wrong_type};
use super::node::{Node, Value};
use super::path::Path;
use super::reader::Reader;

/// The most a secret's file may hold, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret, or where to find it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Literal(String),
    File(PathBuf),
    Env(String),
}

/// A secret's text. It prints as stars; only [`SecretText::expose`] gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The text itself: to be used, not to be shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Secret {
    /// A secret given in place.
    pub fn literal(text: impl Into<String>) -> Secret {
        Secret(Place::Literal(text.into()))
    }

    /// The text, where it stands in the configuration itself; not to be shown.
    pub fn in_place(&self) -> Option<&str> {
        match &self.0 {
            Place::Literal(text) => Some(text),
            Place::File(_) | Place::Env(_) => None,
        }
    }

    /// The secret's text, read now: a file may have changed since. Reads the file, blocking; one trailing line
    /// end is dropped. Errors name the file or the variable, never the text.
    pub fn resolve(&self, environment: &Environment) -> Result<SecretText, String> {
        match &self.0 {
            Place::Literal(text) => Ok(SecretText(text.clone())),
            Place::Env(name) => match environment.get(name) {
                Some(text) => Ok(SecretText(text.to_owned())),
                None => Err(format!("no secret: the variable {name} is not set")),
            },
            Place::File(path) => {
                let shown = path.display();
                let mut text = String::new();
                std::fs::File::open(path)
                    .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text))
                    .map_err(|e| format!("cannot read the secret file {shown}: {e}"))?;
                if text.len() as u64 > SECRET_BYTES_MAX {
                    return Err(format!("the secret file {shown} is too long: at most 64KiB is allowed"));
                }
                let end = text.strip_suffix('\n').map_or(text.len(), str::len);
                text.truncate(end);
                let end = text.strip_suffix('\r').map_or(text.len(), str::len);
                text.truncate(end);
                Ok(SecretText(text))
            }
        }
    }
}

impl FromNode for Secret {
    fn shape() -> Shape {
        Shape::Secret
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Secret> {
        let expected = Self::shape().expected();
        match &node.value {
            Value::String(text) => {
                diags.mask(&node.origin);
                Some(Secret::literal(text))
            }
            Value::Table(_) => {
                let mut reader = Reader::new(node, at, "a secret", diags)?;
                let file: Option<Option<String>> = reader.field("file", Some(|| None), diags);
                let env: Option<Option<String>> = reader.field("env", Some(|| None), diags);
                reader.finish(diags);
                match (file?, env?) {
                    (Some(path), None) => Some(Secret(Place::File(path.into()))),
                    (None, Some(name)) => Some(Secret(Place::Env(name))),
                    _ => {
                        wrong_form(
                            node,
                            at,
                            "a secret has exactly one of `file` and `env`",
                            &expected,
                            diags,
                        );
                        None
                    }
                }
            }
            _ => {
                diags.mask(&node.origin);
                wrong_type(node, at, &expected, diags);
                None
            }
        }
    }

    fn display(&self) -> String {
        match &self.0 {
            Place::Literal(_) => "\"***\"".to_owned(),
            Place::File(path) => {
                format!("{{ file = {} }}", super::path::quote_string(&path.to_string_lossy()))
            }
            Place::Env(name) => format!("{{ env = {} }}", super::path::quote_string(name)),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "from file\r\n").unwrap();
        let environment = Environment::from_pairs([("TOKEN", "from env")]);
        let mut diags = Diagnostics::new();
        let at = |key: &str, value: &str| Node::table([(key, value.into())]);
        for (node, expected) in [
            (Node::from("hunter2"), Ok("hunter2")),
            (at("env", "TOKEN"), Ok("from env")),
            (at("file", file.to_str().unwrap()), Ok("from file")),
            (at("env", "NONE"), Err("no secret: the variable NONE is not set")),
        ] {
            let secret = Secret::from_node(&node, &Path::root(), &mut diags).unwrap();
            let text = secret.resolve(&environment);
            assert_eq!(text.as_ref().map(SecretText::expose).map_err(String::as_str), expected);
            assert!(!format!("{secret:?} {text:?}").contains("hunter2"));
        }
        assert!(diags.is_empty());
    }

    #[test]
    fn a_secret_has_one_place() {
        for node in [
            Node::empty(),
            Node::from(5),
            Node::table([("file", Node::from("a")), ("env", "b".into())]),
            Node::table([("fil", Node::from("a"))]),
        ] {
            let mut diags = Diagnostics::new();
            assert_eq!(Secret::from_node(&node, &Path::root(), &mut diags), None);
            assert!(diags.has_errors());
        }
        let missing = Secret(Place::File("/nonexistent".into())).resolve(&Environment::default());
        assert!(missing.unwrap_err().starts_with("cannot read the secret file /nonexistent: "));
    }
}
