//! What events must look like: fields that must be there, and types of fields. Checked on the text, field by field,
//! without parsing the rest.

use super::{Events, Malformed};
use crate::query::lookup::lookup_json;

/// A type that a field can be required to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A string.
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// An object.
    Object,
    /// An array.
    Array,
    /// A string that holds an RFC 3339 time, or a number: seconds since 1970, or milli-, micro- or nanoseconds.
    Timestamp,
}

impl FieldType {
    fn describe(self) -> &'static str {
        match self {
            FieldType::String => "a string",
            FieldType::Number => "a number",
            FieldType::Bool => "true or false",
            FieldType::Object => "an object",
            FieldType::Array => "an array",
            FieldType::Timestamp => "a timestamp (RFC 3339 or a number)",
        }
    }

    fn fits(self, value: &[u8]) -> bool {
        let first = value.first().copied().unwrap_or_default();
        let number = first == b'-' || first.is_ascii_digit();
        match self {
            FieldType::String => first == b'"',
            FieldType::Number => number,
            FieldType::Bool => first == b't' || first == b'f',
            FieldType::Object => first == b'{',
            FieldType::Array => first == b'[',
            FieldType::Timestamp => number || first == b'"' && is_time(&value[1..value.len() - 1]),
        }
    }
}

fn is_time(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<jiff::Timestamp>().is_ok())
}

/// What every event of a body must have. Dots in names go into objects; `null` counts as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Fields that must have a type if they are there.
    pub types: Vec<(String, FieldType)>,
}

impl Schema {
    /// Checks every event of `body`, which `events` came from.
    ///
    /// # Errors
    /// The first event that does not fit, and its place in the body.
    pub fn check(&self, events: &Events, body: &[u8]) -> Result<(), Malformed> {
        for (row, line) in events.iter().enumerate() {
            if let Err(why) = self.check_event(line) {
                let mistake = Malformed::at(body, events.start_of(row), why);
                return Err(if events.is_array { mistake.element(row) } else { mistake });
            }
        }
        Ok(())
    }

    fn check_event(&self, line: &[u8]) -> Result<(), String> {
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err("expected a JSON object: the schema of this source asks for fields".to_owned());
        }
        let value = |name: &str| lookup_json(line, name).filter(|value| *value != b"null");
        if let Some(name) = self.required.iter().find(|name| value(name).is_none()) {
            return Err(format!("the required field `{name}` is missing"));
        }
        for (name, expected) in &self.types {
            if let Some(value) = value(name)
                && !expected.fits(value)
            {
                let shown: String = String::from_utf8_lossy(value).chars().take(40).collect();
                return Err(format!("the field `{name}` must be {}, it is {shown}", expected.describe()));
            }
        }
        Ok(())
    }
}
