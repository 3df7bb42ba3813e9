//! The status of a weir as `weir top` needs it, and the rates between two of them. What a status lacks, because the
//! weir is older or newer, is shown as unknown.

use std::collections::HashMap;

use serde_json::Value;

/// A process at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) pid: Option<u64>,
    pub(super) uptime_seconds: f64,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) memory_bytes_max: Option<u64>,
    pub(super) ready: bool,
    pub(super) pipelines: Vec<Pipeline>,
}

/// A pipeline: its own counters, which are those of its entrance, and its components.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pipeline {
    pub(super) own: Part,
    pub(super) components: Vec<Part>,
}

/// A component, or the entrance of a pipeline.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Part {
    /// The id; a pipeline's is its name.
    pub(super) id: String,
    /// "source", "filter" or "sink"; empty for a pipeline.
    pub(super) kind: String,
    pub(super) state: String,
    /// The fault behind its state.
    pub(super) why: Option<String>,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) delivered: u64,
    pub(super) delivered_bytes: u64,
    pub(super) dropped: Vec<(String, u64)>,
    pub(super) queued: u64,
    /// How full its buffer is, from 0 to 1.
    pub(super) fill: Option<f64>,
    pub(super) clients: u64,
    pub(super) errors: u64,
    pub(super) stalled_seconds: u64,
    /// The last fault, and when.
    pub(super) last_error: Option<(String, String)>,
    /// All figures, for the details.
    pub(super) figures: Vec<(String, String)>,
}

/// How fast something goes, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) received: f64,
    pub(super) received_bytes: f64,
    pub(super) delivered: f64,
    pub(super) delivered_bytes: f64,
    pub(super) dropped: f64,
}

/// All rates between two moments.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    /// Processor time used, in percent of one core.
    pub(super) cpu_percent: Option<f64>,
    parts: HashMap<String, Rate>,
}

impl Status {
    /// Reads the answer to `/status`; `None` if it is none.
    pub(super) fn read(json: &Value) -> Option<Status> {
        let number = |path: &str| json.pointer(path).and_then(Value::as_u64).filter(|n| *n > 0);
        Some(Status {
            version: text(json, "version")?,
            pid: number("/pid"),
            uptime_seconds: json.get("uptime_seconds")?.as_f64()?,
            cpu_seconds: json.get("cpu_seconds").and_then(Value::as_f64),
            resident_bytes: number("/memory/resident"),
            memory_bytes_max: number("/memory/max"),
            ready: json.get("ready").and_then(Value::as_bool).unwrap_or(false),
            pipelines: json.get("pipelines")?.as_array()?.iter().filter_map(Pipeline::read).collect(),
        })
    }

    /// All pipelines and components.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.pipelines.iter().flat_map(|p| std::iter::once(&p.own).chain(&p.components))
    }
}

impl Pipeline {
    fn read(json: &Value) -> Option<Pipeline> {
        let components: Vec<Part> =
            json.get("components")?.as_array()?.iter().filter_map(|c| Part::read(c, "id")).collect();
        let mut own = Part::read(json, "name")?;
        // Its entrance is not up or down: it is as its worst component is.
        let worst = components.iter().max_by_key(|part| gravity(&part.state))?;
        own.state.clone_from(&worst.state);
        own.why.clone_from(&worst.why);
        Some(Pipeline { own, components })
    }

    /// Rows dropped anywhere in it.
    pub(super) fn dropped(&self) -> u64 {
        self.own.dropped_total() + self.components.iter().map(Part::dropped_total).sum::<u64>()
    }

    /// Its fullest buffer.
    pub(super) fn fill(&self) -> Option<f64> {
        self.components.iter().filter_map(|part| part.fill).reduce(f64::max)
    }

    /// Rows in all its buffers.
    pub(super) fn queued(&self) -> u64 {
        self.components.iter().map(|part| part.queued).sum()
    }

    /// The longest that one of its sinks has not moved.
    pub(super) fn stalled_seconds(&self) -> u64 {
        self.components.iter().map(|part| part.stalled_seconds).max().unwrap_or(0)
    }
}

/// How bad a state is.
fn gravity(state: &str) -> u8 {
    match state {
        "failed" => 4,
        "restarting" => 3,
        "starting" => 2,
        "finished" => 0,
        _ => 1,
    }
}

impl Part {
    fn read(json: &Value, name: &str) -> Option<Part> {
        let number = |key: &str| json.get(key).and_then(Value::as_u64).unwrap_or(0);
        let dropped = json.get("dropped").and_then(Value::as_object).into_iter().flatten();
        let share = |used: &str, most: &str| {
            let most = json.get(most).and_then(Value::as_u64).filter(|most| *most > 0)?;
            Some((number(used) as f64 / most as f64).min(1.0))
        };
        let fills = [share("queued", "queue_max"), share("queued_bytes", "queue_max_bytes")];
        let last_error = json.get("last_error").and_then(|e| Some((text(e, "why")?, text(e, "at")?)));
        Some(Part {
            id: text(json, name)?,
            kind: text(json, "kind").unwrap_or_default(),
            state: text(json, "state").unwrap_or_default(),
            why: text(json, "why"),
            received: number("received"),
            received_bytes: number("received_bytes"),
            delivered: number("delivered"),
            delivered_bytes: number("delivered_bytes"),
            dropped: dropped.filter_map(|(reason, n)| Some((reason.clone(), n.as_u64()?))).collect(),
            queued: number("queued"),
            fill: fills.into_iter().flatten().reduce(f64::max),
            clients: number("clients"),
            errors: number("errors"),
            stalled_seconds: number("stalled_seconds"),
            last_error,
            figures: figures(json),
        })
    }

    /// Rows dropped for any reason.
    pub(super) fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, n)| n).sum()
    }

    /// Its name below its pipeline.
    pub(super) fn label(&self) -> &str {
        if self.kind.is_empty() {
            &self.id
        } else {
            self.id.split_once('.').map_or(&self.id, |(_, rest)| rest)
        }
    }
}

/// Everything that is a number or a short text, those in tables below it too.
fn figures(json: &Value) -> Vec<(String, String)> {
    let without = ["id", "name", "kind", "type", "state", "why", "components", "last_error", "dropped_total"];
    let mut figures = Vec::new();
    for (key, value) in
        json.as_object().into_iter().flatten().filter(|(key, _)| !without.contains(&key.as_str()))
    {
        let key = key.replace('_', " ");
        match value {
            Value::Object(table) => {
                let inner = table.iter().filter_map(|(name, value)| Some((name, figure(value)?)));
                figures.extend(inner.map(|(name, text)| (format!("{key} {}", name.replace('_', " ")), text)));
            }
            value => figures.extend(figure(value).map(|text| (key, text))),
        }
    }
    figures
}

fn figure(value: &Value) -> Option<String> {
    match value {
        Value::Number(n) => Some(n.as_u64().map_or_else(|| n.to_string(), crate::cli::tap::thousands)),
        Value::String(text) => Some(text.clone()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        _ => None,
    }
}

fn text(json: &Value, key: &str) -> Option<String> {
    json.get(key)?.as_str().map(str::to_owned)
}

impl Rates {
    /// The rates from `before` to `now`; none if that is another process, or no time has passed.
    pub(super) fn between(before: &Status, now: &Status) -> Rates {
        let seconds = now.uptime_seconds - before.uptime_seconds;
        if seconds <= 0.0 || before.pid != now.pid {
            return Rates::default();
        }
        let earlier: HashMap<&str, &Part> = before.parts().map(|part| (part.id.as_str(), part)).collect();
        let rate = |part: &Part| {
            let before = earlier.get(part.id.as_str())?;
            // A component that a reload has exchanged begins at nothing.
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let rate = Rate {
                received: per_second(part.received, before.received),
                received_bytes: per_second(part.received_bytes, before.received_bytes),
                delivered: per_second(part.delivered, before.delivered),
                delivered_bytes: per_second(part.delivered_bytes, before.delivered_bytes),
                dropped: per_second(part.dropped_total(), before.dropped_total()),
            };
            Some((part.id.clone(), rate))
        };
        let cpu = now.cpu_seconds.zip(before.cpu_seconds);
        Rates {
            cpu_percent: cpu.map(|(now, before)| (now - before).max(0.0) / seconds * 100.0),
            parts: now.parts().filter_map(rate).collect(),
        }
    }

    /// Of one pipeline or component; `None` while it is not known yet.
    pub(super) fn of(&self, id: &str) -> Option<Rate> {
        self.parts.get(id).copied()
    }

    /// Of several together.
    pub(super) fn sum<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Rate {
        let known = ids.filter_map(|id| self.of(id));
        known.fold(Rate::default(), |sum, rate| Rate {
            received: sum.received + rate.received,
            received_bytes: sum.received_bytes + rate.received_bytes,
            delivered: sum.delivered + rate.delivered,
            delivered_bytes: sum.delivered_bytes + rate.delivered_bytes,
            dropped: sum.dropped + rate.dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rates_are_per_second_and_a_restart_has_none() {
        let status = |pid: u64, uptime: f64, received: u64| {
            let part = json!({ "id": "a.sink.0.null", "kind": "sink", "received": received, "dropped": {"oversize": received / 10} });
            let pipeline = json!({ "name": "a", "received": received, "components": [part] });
            Status::read(&json!({ "version": "1", "pid": pid, "uptime_seconds": uptime, "cpu_seconds": uptime / 4.0, "pipelines": [pipeline] })).unwrap()
        };
        let rates = Rates::between(&status(1, 10.0, 100), &status(1, 12.0, 300));
        let sink = rates.of("a.sink.0.null").unwrap();
        assert_eq!((sink.received, sink.dropped, rates.cpu_percent), (100.0, 10.0, Some(25.0)));
        assert_eq!(rates.sum(["a", "a.sink.0.null", "b"].into_iter()).received, 200.0);
        assert_eq!(Rates::between(&status(1, 10.0, 100), &status(2, 12.0, 300)), Rates::default());
        assert_eq!(Rates::between(&status(1, 12.0, 100), &status(1, 12.0, 300)), Rates::default());
        let exchanged = Rates::between(&status(1, 10.0, 100), &status(1, 12.0, 0));
        assert_eq!(exchanged.of("a").unwrap().received, 0.0);
    }

    #[test]
    fn details_say_how_far_a_source_is_behind_its_files() {
        let json = json!({ "id": "a.source.0.file", "kind": "source", "state": "ready", "received": 1,
            "files": { "followed": 1200, "open": 1024, "behind_bytes": 1_234_567 } });
        let figures = Part::read(&json, "id").unwrap().figures;
        let figure =
            |name: &str| figures.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(figure("files behind bytes"), Some("1,234,567"));
        assert_eq!((figure("files followed"), figure("files open")), (Some("1,200"), Some("1,024")));
    }

    #[test]
    fn a_pipeline_is_as_its_worst_component_and_its_fullest_buffer() {
        let json = json!({ "name": "a", "components": [
            { "id": "a.source.0.file", "kind": "source", "state": "finished" },
            { "id": "a.sink.0.null", "kind": "sink", "state": "restarting", "why": "down", "queued": 5, "queue_max": 10,
              "queued_bytes": 1, "queue_max_bytes": 100 },
            { "id": "a.sink.1.null", "kind": "sink", "state": "ready", "queued": 2, "stalled_seconds": 7 },
        ]});
        let pipeline = Pipeline::read(&json).unwrap();
        assert_eq!((pipeline.own.state.as_str(), pipeline.own.why.as_deref()), ("restarting", Some("down")));
        assert_eq!((pipeline.fill(), pipeline.queued(), pipeline.stalled_seconds()), (Some(0.5), 7, 7));
        assert_eq!(pipeline.components[1].label(), "sink.0.null");
    }
}
