//! `weir list`: the components of this build, and all options of one, as they were declared.

use std::fmt::Write;

use super::args::ListKind;
use super::exit::{Exit, Failure};
use super::terminal;
use crate::config::field::doc_text;
use crate::config::nearest::nearest;
use crate::config::{Catalog, ComponentKind, Field, Shape};
use crate::registry::Registry;

/// Prints the components of a kind, or of all, or one component's options.
///
/// # Errors
/// With exit code 64 when there is no such component.
pub fn run(kind: Option<ListKind>, name: Option<&str>) -> Result<Exit, Failure> {
    let text = match (kind.map(ComponentKind::from), name) {
        (Some(kind), Some(name)) => component(kind, name)?,
        (Some(kind), None) => names(kind),
        (None, _) => {
            let all =
                ComponentKind::ALL.map(|kind| format!("{}:\n{}", kind.plural(), indent(&names(kind), "  ")));
            format!("{}\n`weir list sinks http` shows the options of one.\n", all.join("\n"))
        }
    };
    terminal::print(&text)?;
    Ok(Exit::OK)
}

impl From<ListKind> for ComponentKind {
    fn from(kind: ListKind) -> ComponentKind {
        match kind {
            ListKind::Sources => ComponentKind::Source,
            ListKind::Filters => ComponentKind::Filter,
            ListKind::Sinks => ComponentKind::Sink,
        }
    }
}

fn names(kind: ComponentKind) -> String {
    let names = Registry.names(kind);
    let width = names.iter().map(|n| n.len()).max().unwrap_or(0);
    let line = |name: &&str| {
        let absent = if absent(kind, name).is_some() { " (not in this build)" } else { "" };
        format!("{name:width$}  {}{absent}\n", Registry.summary(kind, name).unwrap_or_default())
    };
    names.iter().map(line).collect()
}

/// Why the component cannot run in this build.
fn absent(kind: ComponentKind, name: &str) -> Option<&'static str> {
    crate::registry::find(kind, name).and_then(|descriptor| descriptor.absent)
}

fn component(kind: ComponentKind, name: &str) -> Result<String, Failure> {
    let Some(fields) = Registry.component(kind, name) else {
        let names = Registry.names(kind);
        let failure = Failure::usage(format!("unknown {} `{name}`", kind.as_str()));
        let elsewhere = ComponentKind::ALL.into_iter().find(|k| Registry.names(*k).contains(&name));
        return Err(match (elsewhere, nearest(name, names.iter().copied())) {
            (Some(other), _) => {
                failure.hint(format!("it is a {0}: `weir list {1} {name}`", other.as_str(), other.plural()))
            }
            (None, Some(close)) => failure.hint(format!("did you mean `{close}`?")),
            (None, None) => failure.hint(format!("{}: {}", kind.plural(), names.join(", "))),
        });
    };
    let mut out = format!("{} {name}: {}\n", kind.as_str(), Registry.summary(kind, name).unwrap_or_default());
    if let Some(why) = absent(kind, name) {
        out.push_str(&format!("\nIt cannot run: {why}.\n"));
    }
    if fields.is_empty() {
        out.push_str("\nIt has no options.\n");
    }
    options(&fields, "", &mut out);
    if let Some(example) = Registry.example(kind, name) {
        let header = format!("[[pipelines.{}]]\n{}", kind.plural(), example.trim_end());
        write!(out, "\nExample:\n\n{}", indent(&header, "  ")).expect("writing to a string cannot fail");
    }
    Ok(out)
}

/// Every option with its type, default and meaning; those of nested tables under their full name.
fn options(fields: &[Field], prefix: &str, out: &mut String) {
    for field in fields {
        let mut facts = vec![field.shape.type_name().replace('`', "")];
        match (&field.default, field.required) {
            (_, true) => facts.push("required".to_owned()),
            // What a table holds is listed below, each option with its own default.
            (Some(default), false) if !matches!(field.shape, Shape::Table(_)) => {
                facts.push(format!("default {default}"))
            }
            _ => {}
        }
        facts.extend(field.range.clone());
        let head = format!("\n{prefix}{}  ({})\n", field.name, facts.join("; "));
        out.push_str(&head);
        out.push_str(&indent(&field.doc, "    "));
        match &field.shape {
            Shape::Table(table) => options(&(table.fields)(), &format!("{prefix}{}.", field.name), out),
            Shape::Choice(choices) => {
                for choice in *choices {
                    let doc = doc_text(choice.doc).replace('\n', " ");
                    out.push_str(&format!("      {}: {doc}\n", choice.name));
                }
            }
            _ => {}
        }
    }
}

fn indent(text: &str, by: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{by}{line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_lists_with_all_its_options() {
        for kind in ComponentKind::ALL {
            for name in Registry.names(kind) {
                let text = component(kind, name).unwrap();
                for field in Registry.component(kind, name).unwrap() {
                    assert!(text.contains(&format!("\n{}  (", field.name)), "{name}.{}", field.name);
                }
                assert!(text.contains("Example:"));
            }
        }
    }

    #[test]
    fn unknown_names_lead_to_known_ones() {
        let message = |kind, name| component(kind, name).unwrap_err().to_string();
        assert!(message(ComponentKind::Source, "generat").contains("did you mean `generate`?"));
        assert!(message(ComponentKind::Sink, "generate").contains("`weir list sources generate`"));
    }
}
