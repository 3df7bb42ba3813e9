//! The status of a running weir as tables for people: one per pipeline, one row per component, one column per
//! figure. It shows whatever figures the status has, so that a newer weir can be asked too.

use serde_json::{Map, Value};

/// Columns that are shown even when every row has a zero there.
const ALWAYS: [&str; 2] = ["received", "delivered"];

/// All pipelines of a status.
pub fn render(status: &Value, color: bool) -> String {
    let (bold, reset) = if color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let mut out = facts(status.as_object(), &["pipelines"]);
    out.push('\n');
    for (name, pipeline) in named(status.get("pipelines")) {
        let about = facts(pipeline.as_object(), &["name", "components"]);
        out.push_str(&format!("\n{bold}{}{reset}  {about}\n", plain(&name)));
        let rows: Vec<(String, &Value)> = named(pipeline.get("components")).collect();
        out.push_str(&table(&rows));
    }
    out
}

/// The members of an array of objects, or of an object, each with its name.
fn named(value: Option<&Value>) -> Box<dyn Iterator<Item = (String, &Value)> + '_> {
    let name_of = |item: &Value| {
        let name = ["name", "id", "component"].iter().find_map(|key| item.get(key)?.as_str());
        name.unwrap_or("-").to_owned()
    };
    match value {
        Some(Value::Array(items)) => Box::new(items.iter().map(move |item| (name_of(item), item))),
        Some(Value::Object(map)) => Box::new(map.iter().map(|(name, item)| (name.clone(), item))),
        _ => Box::new(std::iter::empty()),
    }
}

/// "uptime 5m, received 12": the figures of an object, without those that are zero.
fn facts(object: Option<&Map<String, Value>>, without: &[&str]) -> String {
    let shown = object.into_iter().flatten().filter(|(key, _)| !without.contains(&key.as_str()));
    let texts = shown.filter_map(|(key, value)| {
        let text = cell(key, value)?;
        (text != "0").then(|| format!("{} {text}", title(key)))
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// One cell; `None` for what is no figure. An object of numbers, such as drops by reason, is added up.
fn cell(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::String(text) => Some(plain(text)),
        Value::Number(n) if key.ends_with("_seconds") => Some(duration(n.as_f64()?)),
        Value::Number(n) => Some(n.to_string()),
        Value::Object(map) if map.values().all(Value::is_u64) => {
            Some(map.values().filter_map(Value::as_u64).fold(0, u64::saturating_add).to_string())
        }
        _ => None,
    }
}

/// The column's name: what goes without saying is left out.
fn title(key: &str) -> String {
    key.trim_end_matches("_events").trim_end_matches("_seconds").replace('_', " ")
}

fn duration(seconds: f64) -> String {
    let total = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (total / 86_400, total / 3600 % 24, total / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{total}s"),
        (0, 0, m) => format!("{m}m{}s", total % 60),
        (0, h, m) => format!("{h}h{m}m"),
        (d, h, _) => format!("{d}d{h}h"),
    }
}

fn table(rows: &[(String, &Value)]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for key in rows.iter().filter_map(|(_, row)| row.as_object()).flat_map(|row| row.keys()) {
        if !["name", "id", "component", "kind", "type", "index", "queue_max", "queue_max_bytes"]
            .contains(&key.as_str())
            && !keys.contains(&key.as_str())
        {
            keys.push(key);
        }
    }
    let text = |row: &Value, key: &str| row.get(key).and_then(|value| cell(key, value)).unwrap_or_default();
    keys.retain(|key| {
        ALWAYS.contains(&title(key).as_str())
            || rows.iter().any(|(_, row)| !["", "0"].contains(&text(row, key).as_str()))
    });
    let mut lines: Vec<Vec<String>> =
        vec![std::iter::once(String::new()).chain(keys.iter().map(|k| title(k))).collect()];
    for (name, row) in rows {
        lines.push(std::iter::once(plain(name)).chain(keys.iter().map(|key| text(row, key))).collect());
    }
    let widths: Vec<usize> = (0..=keys.len())
        .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = format!("  {:1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Text of a peer without what could steer the terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pipelines_become_tables_without_empty_columns() {
        let status = json!({
            "version": "1.2.3", "uptime_seconds": 3725.5, "ready": true,
            "pipelines": [{
                "name": "app", "received_events": 12,
                "components": [
                    {"id": "app.source.0.stdin", "kind": "source", "state": "ready", "received_events": 12, "delivered_events": 12, "dropped": {"oversize": 0}, "errors": 0},
                    {"id": "app.sink.0.http\u{1b}", "kind": "sink", "state": "ready", "received_events": 12, "delivered_events": 2, "dropped": {"buffer_full_oldest": 9, "aborted": 1}, "errors": 0},
                ],
            }],
        });
        let expected = "\
version 1.2.3, uptime 1h2m, ready yes

app  received 12
                      state  received  delivered  dropped
  app.source.0.stdin  ready        12         12        0
  app.sink.0.http     ready        12          2       10
";
        assert_eq!(render(&status, false), expected);
    }

    #[test]
    fn an_answer_of_another_shape_is_shown_as_far_as_it_goes() {
        assert_eq!(
            render(&json!({"pipelines": {"a": {"x": [1]}}, "y": 1}), false),
            "y 1\n\na  \n  \n".replace("  \n  \n", "  \n\n")
        );
        assert_eq!(render(&json!([]), true), "\n");
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(0.5, "0s"), (59.0, "59s"), (61.0, "1m1s"), (90_000.0, "1d1h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
