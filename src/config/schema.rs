//! The JSON schema (draft 2020-12) of the configuration file, for completion and checks in editors, made from the
//! declared options.

use serde_json::{Map, Value, json};

use super::component::{Catalog, ComponentKind};
use super::field::{Field, Shape, doc_text};
use super::macros::Options;
use super::root::RootOptions;

/// The schema of the whole configuration.
pub fn json_schema(catalog: &dyn Catalog) -> Value {
    let mut schema = Schema { catalog, defs: Map::new() };
    let reference = json!({
        "type": "string",
        "pattern": r"\$\{",
        "description": "A reference such as ${NAME}, filled in from the environment.",
    });
    schema.defs.insert("reference".to_owned(), reference);
    for kind in ComponentKind::ALL {
        schema.components(kind);
    }
    let Value::Object(root) = schema.table(RootOptions::DOC, &RootOptions::fields()) else {
        return Value::Null;
    };
    let mut out = Map::new();
    out.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    out.insert("title".to_owned(), json!("weir configuration"));
    out.extend(root);
    out.insert("$defs".to_owned(), Value::Object(schema.defs));
    Value::Object(out)
}

struct Schema<'a> {
    catalog: &'a dyn Catalog,
    defs: Map<String, Value>,
}

impl Schema<'_> {
    /// A definition for each component, and one for all of the kind.
    fn components(&mut self, kind: ComponentKind) {
        let mut branches = Vec::new();
        let names = self.catalog.names(kind);
        for name in &names {
            let fields = self.catalog.component(kind, name).unwrap_or_default();
            let summary = self.catalog.summary(kind, name).unwrap_or_default();
            let mut table = self.table(&summary, &fields);
            table["properties"]["type"] = json!({ "const": name });
            let mut required = vec![json!("type")];
            required.extend(table["required"].as_array().cloned().unwrap_or_default());
            table["required"] = Value::Array(required);
            let id = format!("{}.{name}", kind.as_str());
            branches.push(json!({ "$ref": format!("#/$defs/{id}") }));
            self.defs.insert(id, table);
        }
        let any = json!({
            "type": "object",
            "properties": { "type": { "enum": names } },
            "required": ["type"],
            "oneOf": branches,
        });
        self.defs.insert(kind.as_str().to_owned(), any);
    }

    fn table(&mut self, doc: &str, fields: &[Field]) -> Value {
        let mut properties = Map::new();
        for field in fields {
            properties.insert(field.name.to_owned(), self.field(field));
        }
        let required: Vec<&str> = fields.iter().filter(|f| f.required).map(|f| f.name).collect();
        let mut out = json!({
            "type": "object",
            "description": doc_text(doc),
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            out["required"] = json!(required);
        }
        out
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut out = self.shape(&field.shape);
        let literal = |text: &String| toml_to_json(text);
        if let Shape::Integer { .. } | Shape::Number = field.shape {
            for (bound, keyword) in [(&field.min, "minimum"), (&field.max, "maximum")] {
                if let Some(number) = bound.as_ref().and_then(literal).filter(Value::is_number) {
                    out["anyOf"][0][keyword] = number;
                }
            }
        }
        let range = field.range.as_ref().map(|range| format!("\n\nAllowed: {range}.")).unwrap_or_default();
        out["description"] = json!(format!("{}{range}", field.doc));
        if let Some(default) = field.default.as_ref().and_then(literal) {
            out["default"] = default;
        }
        out
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        let or_reference = |value: Value| json!({ "anyOf": [value, { "$ref": "#/$defs/reference" }] });
        match shape {
            Shape::Bool => or_reference(json!({ "type": "boolean" })),
            Shape::Integer { min, max } => {
                or_reference(json!({ "type": "integer", "minimum": min, "maximum": max }))
            }
            Shape::CountOr { max, word } => {
                let count = json!({ "type": "integer", "minimum": 1, "maximum": max });
                json!({ "anyOf": [count, { "const": word }, { "$ref": "#/$defs/reference" }] })
            }
            Shape::Number => or_reference(json!({ "type": "number" })),
            Shape::String | Shape::Text(_) | Shape::Listen => json!({ "type": "string" }),
            Shape::ByteCount => json!({ "type": ["string", "integer"], "examples": ["64KiB", "10MB"] }),
            Shape::Duration => json!({ "type": ["string", "integer"], "examples": ["250ms", "10s"] }),
            Shape::Secret => json!({
                "oneOf": [
                    { "type": "string" },
                    one_key("file", "A file that holds the secret."),
                    one_key("env", "A variable that holds the secret."),
                ],
            }),
            Shape::Any => json!({}),
            Shape::Choice(choices) => {
                let values =
                    choices.iter().map(|c| json!({ "const": c.name, "description": doc_text(c.doc) }));
                or_reference(json!({ "oneOf": values.collect::<Vec<_>>() }))
            }
            Shape::List(item) => json!({ "type": "array", "items": self.shape(item) }),
            Shape::OneOrMany(item) => {
                let item = self.shape(item);
                json!({ "anyOf": [item.clone(), { "type": "array", "items": item, "minItems": 1 }] })
            }
            Shape::Map(item) => json!({ "type": "object", "additionalProperties": self.shape(item) }),
            Shape::Table(table) => {
                if !self.defs.contains_key(table.name) {
                    // Taken before the fields are read, for a table that holds itself.
                    self.defs.insert(table.name.to_owned(), Value::Null);
                    let built = self.table(table.doc, &(table.fields)());
                    self.defs.insert(table.name.to_owned(), built);
                }
                json!({ "$ref": format!("#/$defs/{}", table.name) })
            }
            Shape::Section(kind) => json!({ "$ref": format!("#/$defs/{}", kind.as_str()) }),
        }
    }
}

fn one_key(key: &str, doc: &str) -> Value {
    json!({
        "type": "object",
        "properties": { key: { "type": "string", "description": doc } },
        "required": [key],
        "additionalProperties": false,
    })
}

/// A TOML literal as JSON.
fn toml_to_json(text: &str) -> Option<Value> {
    let source = super::Source::flag("default", text);
    super::toml_file::parse_value(text, &source.whole()).map(|node| node.to_json())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::TestCatalog;

    #[test]
    fn the_schema_follows_the_declarations() {
        let schema = json_schema(&TestCatalog);
        let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing"));
        assert_eq!(at("/properties/shutdown_timeout/default"), "10s");
        assert_eq!(at("/additionalProperties"), false);
        let file = "/$defs/source.file";
        assert_eq!(at(&format!("{file}/required")), &json!(["type", "path"]));
        assert_eq!(at(&format!("{file}/properties/type/const")), "file");
        assert_eq!(at(&format!("{file}/properties/start_at/anyOf/0/oneOf/1/const")), "end");
        assert_eq!(at("/$defs/MultilineOptions/properties/lines/anyOf/0/maximum"), 10);
        assert_eq!(at("/$defs/sink/oneOf/0/$ref"), "#/$defs/sink.http");
        assert_eq!(at("/$defs/PipelineOptions/properties/sources/items/$ref"), "#/$defs/source");
        assert!(!schema.to_string().contains("null"), "a definition was never filled in");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let schema = json_schema(&TestCatalog);
        let mut stack = vec![&schema];
        while let Some(value) = stack.pop() {
            if let Some(target) = value.get("$ref").and_then(Value::as_str) {
                assert!(schema.pointer(&target[1..]).is_some(), "{target}");
            }
            match value {
                Value::Array(items) => stack.extend(items),
                Value::Object(map) => stack.extend(map.values()),
                _ => {}
            }
        }
    }
}
