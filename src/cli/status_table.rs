//! The status of a running weir as tables for people: one per pipeline, one row per component, one column per
//! figure, and below it what is wrong, in words. It shows whatever figures the status has, so that a newer weir can be
//! asked too.

use serde_json::{Map, Value};

/// Columns that are shown even when every row has a zero there.
const ALWAYS: [&str; 2] = ["received", "delivered"];
/// What is no figure, is told by another one, or is for programs.
const UNTOLD: [&str; 10] = [
    "kind",
    "type",
    "index",
    "queue_max",
    "queue_max_bytes",
    "dropped_total",
    "why",
    "last_error",
    "stream",
    "memory",
];
/// What names a row.
const NAMES: [&str; 3] = ["name", "id", "component"];

/// All pipelines of a status.
pub fn render(status: &Value, color: bool) -> String {
    let (bold, reset) = if color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let mut out = facts(status.as_object(), &[]);
    out.push('\n');
    for (name, pipeline) in named(status.get("pipelines")) {
        let about = facts(pipeline.as_object(), &["name"]);
        out.push_str(&format!("\n{bold}{}{reset}  {about}\n", plain(&name)));
        let rows: Vec<(String, &Value)> = named(pipeline.get("components")).collect();
        out.push_str(&table(&rows));
        rows.iter().for_each(|(name, row)| reasons(name, row, &mut out));
    }
    out
}

/// The members of an array of objects, or of an object, each with its name.
fn named(value: Option<&Value>) -> Box<dyn Iterator<Item = (String, &Value)> + '_> {
    let name_of = |item: &Value| {
        let name = NAMES.iter().find_map(|key| item.get(key)?.as_str());
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
    let figures = object.into_iter().flat_map(figures);
    let shown = figures.filter(|(title, text)| !without.contains(&title.as_str()) && text != "0");
    shown.map(|(title, text)| format!("{title} {text}")).collect::<Vec<_>>().join(", ")
}

/// The figures of an object, each with its title. What an object within counts has that object's name before its own;
/// only drops are one figure, since [`reasons`] tells them apart.
fn figures(object: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (key, value) in object {
        match value {
            _ if UNTOLD.contains(&key.as_str()) => {}
            Value::Object(counts) if key == "dropped" => {
                let sum = counts.values().filter_map(Value::as_u64).fold(0, u64::saturating_add);
                found.push((title(key), sum.to_string()));
            }
            Value::Object(inner) => found.extend(inner.iter().filter_map(|(name, value)| {
                value
                    .is_number()
                    .then(|| Some((format!("{} {}", title(key), title(name)), cell(name, value)?)))?
            })),
            value => found.extend(cell(key, value).map(|text| (title(key), text))),
        }
    }
    found
}

/// Why a component is not as it should be, why it dropped rows, and what went wrong last, a line each.
fn reasons(name: &str, row: &Value, out: &mut String) {
    let text = |path: &str| row.pointer(path).and_then(Value::as_str).map(plain);
    let mut say = |what: String| out.push_str(&format!("  {}: {what}\n", plain(name)));
    text("/why").into_iter().for_each(&mut say);
    text("/buffer/why").into_iter().for_each(|why| say(format!("disk buffer: {why}")));
    let dropped = row.get("dropped").and_then(Value::as_object).into_iter().flatten();
    let dropped = dropped.filter_map(|(reason, count)| Some((reason, count.as_u64().filter(|n| *n > 0)?)));
    let dropped: Vec<_> = dropped.map(|(reason, count)| format!("{count} by {}", plain(reason))).collect();
    if !dropped.is_empty() {
        say(format!("dropped {}", dropped.join(", ")));
    }
    if let Some(why) = text("/last_error/why") {
        let at = text("/last_error/at").map(|at| format!(" at {at}")).unwrap_or_default();
        say(format!("last error{at}: {why}"));
    }
}

/// One cell; `None` for what is no figure.
fn cell(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::String(text) => Some(plain(text)),
        Value::Number(n) if key.ends_with("_seconds") => Some(duration(n.as_f64()?)),
        Value::Number(n) => Some(n.to_string()),
        Value::Array(_) | Value::Object(_) => None,
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
    let figures: Vec<_> =
        rows.iter().map(|(_, row)| row.as_object().map(figures).unwrap_or_default()).collect();
    let mut titles: Vec<&str> = Vec::new();
    for (title, _) in figures.iter().flatten() {
        if !NAMES.contains(&title.as_str()) && !titles.contains(&title.as_str()) {
            titles.push(title);
        }
    }
    titles.retain(|title| {
        let told = |(own, text): &(String, String)| own == title && !["", "0"].contains(&text.as_str());
        ALWAYS.contains(title) || figures.iter().flatten().any(told)
    });
    let mut lines =
        vec![std::iter::once("").chain(titles.iter().copied()).map(str::to_owned).collect::<Vec<_>>()];
    for ((name, _), figures) in rows.iter().zip(&figures) {
        let text = |title: &&str| figures.iter().find(|(own, _)| own == title).map(|(_, text)| text.clone());
        let cells = titles.iter().map(|title| text(title).unwrap_or_default());
        lines.push(std::iter::once(plain(name)).chain(cells).collect());
    }
    let widths: Vec<usize> = (0..=titles.len())
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
                    {"id": "app.source.0.stdin", "kind": "source", "state": "ready", "received_events": 12, "delivered_events": 12, "dropped": {"oversize": 0}, "errors": 0,
                     "files": {"followed": 2, "open": 1, "behind_bytes": 74}},
                    {"id": "app.sink.0.http\u{1b}", "kind": "sink", "state": "ready", "received_events": 12, "delivered_events": 2, "dropped": {"buffer_full_oldest": 9, "aborted": 1}, "dropped_total": 10, "errors": 1,
                     "why": "no\u{7} room", "buffer": {"state": "ready", "events": 3}, "last_error": {"why": "disk full", "at": "2026-11-21T15:00:00Z"}},
                ],
            }],
        });
        let expected = "\
version 1.2.3, uptime 1h2m, ready yes

app  received 12
                      state  received  delivered  dropped  errors  files followed  files open  files behind bytes  buffer events
  app.source.0.stdin  ready        12         12        0       0               2           1                  74
  app.sink.0.http     ready        12          2       10       1                                                              3
  app.sink.0.http: no room
  app.sink.0.http: dropped 9 by buffer_full_oldest, 1 by aborted
  app.sink.0.http: last error at 2026-11-21T15:00:00Z: disk full
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
