//! From the name of a variable or a dotted flag to the option it means. Names are matched against the declared
//! options, not cut at every `_`, so that `WEIR_PIPELINES_0_RATE_LIMIT_BURST` finds `rate_limit.burst`.

use super::component::{Catalog, ComponentKind};
use super::diagnostics::Diagnostics;
use super::field::{Field, Shape};
use super::macros::Options;
use super::node::{Node, Table, Value};
use super::origin::{Origin, Source};
use super::path::Path;
use super::root::RootOptions;
use super::toml_file;

/// One step from a node to a node within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a table.
    Key(String),
    /// Into an array.
    Index(usize),
}

/// An option by its place in the tree, and what values it takes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The way from the root.
    pub steps: Vec<Step>,
    /// What values it takes.
    pub shape: Shape,
}

impl Target {
    /// The option's path.
    pub fn path(&self) -> Path {
        self.steps.iter().fold(Path::root(), |path, step| match step {
            Step::Key(key) => path.key(key),
            Step::Index(index) => path.index(*index),
        })
    }
}

/// The deepest table that names are followed into.
const DEPTH_MAX: usize = 32;

/// Finds what names mean in a tree: which options a component has depends on its `type` there.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The tree as loaded so far.
    pub tree: &'a Node,
    /// What components take.
    pub catalog: &'a dyn Catalog,
}

impl Names<'_> {
    /// The option of a variable's name without its prefix, such as `LOGGING_LEVEL`.
    pub fn variable(&self, name: &str) -> Option<Target> {
        let mut steps = Vec::new();
        let shape = self.fields_match(&RootOptions::fields(), Some(self.tree), name, &mut steps)?;
        Some(Target { steps, shape })
    }

    fn fields_match(
        &self,
        fields: &[Field],
        node: Option<&Node>,
        rest: &str,
        steps: &mut Vec<Step>,
    ) -> Option<Shape> {
        let mut matching: Vec<(&Field, &str)> = fields
            .iter()
            .filter_map(|field| Some((field, after(rest.strip_prefix(&field.name.to_uppercase())?)?)))
            .collect();
        // The longest name first: `max_events` before `max`.
        matching.sort_by_key(|(field, _)| std::cmp::Reverse(field.name.len()));
        matching.into_iter().find_map(|(field, rest)| {
            steps.push(Step::Key(field.name.to_owned()));
            let found = self.shape_matches(&field.shape, node.and_then(|n| n.get(field.name)), rest, steps);
            if found.is_none() {
                steps.pop();
            }
            found
        })
    }

    fn shape_matches(
        &self,
        shape: &Shape,
        node: Option<&Node>,
        rest: &str,
        steps: &mut Vec<Step>,
    ) -> Option<Shape> {
        if rest.is_empty() {
            return Some(shape.clone());
        }
        if steps.len() >= DEPTH_MAX {
            return None;
        }
        let length = steps.len();
        let found = match shape {
            Shape::List(item) | Shape::OneOrMany(item) => {
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                let index: usize = rest[..digits].parse().ok()?;
                let rest = after(&rest[digits..])?;
                steps.push(Step::Index(index));
                self.shape_matches(item, node.and_then(|n| n.as_array()?.get(index)), rest, steps)
            }
            Shape::Map(item) => self.key_matches(item, node, rest, steps),
            Shape::Any => self.key_matches(&Shape::Any, node, rest, steps),
            other => self.fields_match(&self.fields(other, node)?, node, rest, steps),
        };
        if found.is_none() {
            steps.truncate(length);
        }
        found
    }

    /// A free key: all of the rest, or what comes before an `_` if the value goes on after it.
    fn key_matches(
        &self,
        item: &Shape,
        node: Option<&Node>,
        rest: &str,
        steps: &mut Vec<Step>,
    ) -> Option<Shape> {
        let ends = rest.match_indices("__").map(|(i, _)| i);
        let single = rest.match_indices('_').map(|(i, _)| i).filter(|_| !matches!(item, Shape::Any));
        let whole = std::iter::once(rest.len());
        ends.chain(whole).chain(single).filter(|end| *end > 0).find_map(|end| {
            let (key, rest) = (rest[..end].to_lowercase(), after(&rest[end..])?);
            let node = node.and_then(|n| n.get(&key));
            steps.push(Step::Key(key));
            let found = self.shape_matches(item, node, rest, steps);
            if found.is_none() {
                steps.pop();
            }
            found
        })
    }

    /// The declared keys of a shape that has any, given the node that is there.
    pub fn fields(&self, shape: &Shape, node: Option<&Node>) -> Option<Vec<Field>> {
        match shape {
            Shape::Table(table) => Some((table.fields)()),
            Shape::Secret => Some(secret_fields()),
            Shape::Section(kind) => {
                let type_name = node.and_then(|n| n.get("type")?.as_str());
                Some(section_fields(*kind, type_name, self.catalog))
            }
            _ => None,
        }
    }

    /// The option of a dotted path, such as `pipelines.0.name`, `pipelines[0].name` or `logging.status-interval`.
    /// An error names the step that leads nowhere and the names that would.
    pub fn dotted(&self, path: &str) -> Result<Target, NoSuchOption> {
        let mut target = Target { steps: Vec::new(), shape: root_shape() };
        let mut node = Some(self.tree);
        for step in path.replace('[', ".").replace(']', "").split('.') {
            let at = target.path();
            let wrong = |known: Vec<&'static str>| NoSuchOption { step: step.to_owned(), at, known };
            if target.steps.len() >= DEPTH_MAX {
                return Err(wrong(Vec::new()));
            }
            target.shape = match &target.shape {
                Shape::List(item) | Shape::OneOrMany(item) => {
                    let index: usize = step.parse().map_err(|_| wrong(Vec::new()))?;
                    node = node.and_then(|n| n.as_array()?.get(index));
                    target.steps.push(Step::Index(index));
                    (**item).clone()
                }
                Shape::Map(_) | Shape::Any if step.is_empty() => return Err(wrong(Vec::new())),
                Shape::Map(item) => {
                    let item = (**item).clone();
                    (node, target.steps) = into_key(node, target.steps, step);
                    item
                }
                Shape::Any => {
                    (node, target.steps) = into_key(node, target.steps, step);
                    Shape::Any
                }
                shape => {
                    let fields = self.fields(shape, node).unwrap_or_default();
                    let wanted = step.replace('-', "_");
                    let Some(field) = fields.iter().find(|f| f.name == wanted) else {
                        return Err(wrong(fields.iter().map(|f| f.name).collect()));
                    };
                    (node, target.steps) = into_key(node, target.steps, field.name);
                    field.shape.clone()
                }
            };
        }
        Ok(target)
    }

    /// The names of all variables that mean an option of the tree as it is, without their prefix, for "did you
    /// mean".
    pub fn all_variables(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.list(&root_shape(), Some(self.tree), "", 0, &mut out);
        out
    }

    fn list(&self, shape: &Shape, node: Option<&Node>, prefix: &str, depth: usize, out: &mut Vec<String>) {
        const NAMES_MAX: usize = 10_000;
        if depth > DEPTH_MAX || out.len() > NAMES_MAX {
            return;
        }
        if !prefix.is_empty() {
            out.push(prefix.to_owned());
        }
        let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}_{name}") };
        if let Shape::List(item) = shape {
            let items = node.and_then(Node::as_array).unwrap_or_default();
            for (i, item_node) in items.iter().enumerate() {
                self.list(item, Some(item_node), &join(&i.to_string()), depth + 1, out);
            }
        }
        // A declared table may hold itself; without a node there is no need to go deep.
        let too_deep = node.is_none() && depth > 4;
        for field in self.fields(shape, node).filter(|_| !too_deep).unwrap_or_default() {
            let child = node.and_then(|n| n.get(field.name));
            self.list(&field.shape, child, &join(&field.name.to_uppercase()), depth + 1, out);
        }
    }
}

/// A dotted path that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchOption {
    /// The step that is not there.
    pub step: String,
    /// The path before it.
    pub at: Path,
    /// The names that are there instead; none where an index is needed or a value has no options.
    pub known: Vec<&'static str>,
}

fn into_key<'n>(node: Option<&'n Node>, mut steps: Vec<Step>, key: &str) -> (Option<&'n Node>, Vec<Step>) {
    steps.push(Step::Key(key.to_owned()));
    (node.and_then(|n| n.get(key)), steps)
}

fn root_shape() -> Shape {
    <RootOptions as super::FromNode>::shape()
}

fn secret_fields() -> Vec<Field> {
    vec![
        Field::new::<String>("file", " A file that holds the secret.", None),
        Field::new::<String>("env", " A variable that holds the secret.", None),
    ]
}

/// What is left after a name: nothing, or what follows the separator.
fn after(rest: &str) -> Option<&str> {
    if rest.is_empty() {
        return Some(rest);
    }
    let rest = rest.strip_prefix("__").or_else(|| rest.strip_prefix('_'))?;
    (!rest.is_empty()).then_some(rest)
}

/// The options of a component with its `type`; with no known type, those of every component of the kind.
pub fn section_fields(kind: ComponentKind, type_name: Option<&str>, catalog: &dyn Catalog) -> Vec<Field> {
    let mut fields = vec![Field::new::<String>("type", " Which component it is.", None)];
    match type_name.and_then(|name| catalog.component(kind, name)) {
        Some(own) => fields.extend(own),
        None => {
            for name in catalog.names(kind) {
                for field in catalog.component(kind, name).unwrap_or_default() {
                    if !fields.iter().any(|f| f.name == field.name) {
                        fields.push(field);
                    }
                }
            }
        }
    }
    fields
}

/// The value of a variable or a flag, read as its option's shape asks: strings as they are, numbers and booleans
/// by whoever reads them, arrays and tables as TOML or JSON.
pub fn value(text: &str, shape: &Shape, source: &std::sync::Arc<Source>) -> Node {
    let origin = source.whole();
    let written = text.trim_start();
    let literal = match shape {
        Shape::Secret | Shape::Section(_) | Shape::Table(_) | Shape::Map(_) => written.starts_with('{'),
        Shape::List(_) | Shape::OneOrMany(_) => written.starts_with('['),
        Shape::Any => true,
        _ => false,
    };
    let parsed = literal.then(|| structured(text, &origin)).flatten();
    parsed.unwrap_or_else(|| Node::loose(text, origin))
}

fn structured(text: &str, origin: &Origin) -> Option<Node> {
    let node = toml_file::parse_value(text, origin);
    node.or_else(|| Node::from_json(&serde_json::from_str(text).ok()?, origin)).map(loosened)
}

/// Strings within a structured value may stand for numbers as well: JSON from a script often has them so.
fn loosened(mut node: Node) -> Node {
    node.loose = true;
    match &mut node.value {
        Value::Array(items) => {
            for item in items {
                *item = loosened(std::mem::replace(item, Node::empty()));
            }
        }
        Value::Table(table) => {
            for entry in table.entries_mut() {
                entry.node = loosened(std::mem::replace(&mut entry.node, Node::empty()));
            }
        }
        _ => {}
    }
    node
}

/// Sets the option, making the tables on the way. An index one past the end appends; one beyond is an error.
pub fn assign(tree: &mut Node, target: &Target, node: Node, name: &Origin, diags: &mut Diagnostics) {
    let mut at = tree;
    for step in &target.steps {
        let (made, length) =
            (Node::new(Value::Table(Table::default()), name.clone()), at.as_array().map(<[_]>::len));
        at = match step {
            Step::Key(key) => {
                if at.as_table().is_none() {
                    *at = made.clone();
                }
                let Value::Table(table) = &mut at.value else { return };
                if table.get(key).is_none() {
                    table.insert(key.as_str(), name.clone(), made);
                }
                let Some(child) = table.get_mut(key) else { return };
                child
            }
            Step::Index(index) => {
                if length.is_none() {
                    // What was a single value becomes the first of several.
                    let first = (!matches!(at.value, Value::Table(_))).then(|| at.clone());
                    *at = Node::new(Value::Array(first.into_iter().collect()), name.clone());
                }
                let Value::Array(items) = &mut at.value else { return };
                if *index > items.len() {
                    let n = items.len();
                    diags
                        .error(name, format!("index {index} is beyond the end: the array has {n} elements"))
                        .path(&target.path())
                        .hint(format!("the next index is {n}"));
                    return;
                }
                if *index == items.len() {
                    items.push(made);
                }
                &mut items[*index]
            }
        };
    }
    *at = node;
}
