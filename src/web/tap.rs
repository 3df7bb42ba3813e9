//! `GET /api/tap`, on the control socket only: what components put out, as JSON lines, sampled. It says which
//! components it shows, how much it did not show, and why it ended.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use globset::GlobBuilder;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use crate::base::shutdown::Shutdown;
use crate::codec::encode::{Format, RowEncoder};
use crate::codec::json;
use crate::codec::template::TimestampFormat;
use crate::config::nearest::nearest;
use crate::flow::{Board, Meter, Shown, TapLimits, TapReader};
use crate::net;
use crate::net::control::ControlBody;
use crate::net::notes::{NoteStyle, note};
use crate::net::problem::Problem;
use crate::net::query_string;
use crate::query::Query;

/// Where it is.
pub(super) const PATH: &str = "/api/tap";
const PARAMETERS: [&str; 4] = ["component", "rate", "limit", "q"];
/// Rows a second where nobody says otherwise: as many as somebody can follow, and more.
const RATE_DEFAULT: u32 = 100;
/// How often it says what it did not show, if there is something to say.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Most bytes in one piece of the answer, save a longer row.
const PIECE_BYTES: usize = 64 << 10;

/// What taps look into.
pub(super) struct Taps {
    pub(super) board: Arc<Board>,
    pub(super) shutdown: Shutdown,
}

/// What somebody asked for.
struct Wish {
    patterns: Vec<String>,
    limits: TapLimits,
    query: Option<Query>,
}

impl Wish {
    fn parse(query: Option<&str>) -> Result<Wish, Problem> {
        let pairs = query_string::pairs(query.unwrap_or_default())
            .map_err(|why| Problem::bad_request(format!("broken query string: {why}")))?;
        let limits = TapLimits { events_per_second: Some(RATE_DEFAULT), events: None };
        let mut wish = Wish { patterns: Vec::new(), limits, query: None };
        for (name, value) in pairs {
            let number = |most: u64| {
                value.parse::<u64>().ok().filter(|n| (1..=most).contains(n)).ok_or_else(|| {
                    Problem::bad_request(format!(
                        "invalid parameter `{name}`: it is a number from 1 to {most}"
                    ))
                })
            };
            match name.as_str() {
                "component" => wish.patterns.push(value),
                "rate" if value == "all" => wish.limits.events_per_second = None,
                "rate" => wish.limits.events_per_second = u32::try_from(number(1_000_000)?).ok(),
                "q" => wish.query = net::params::query(&value)?,
                "limit" => wish.limits.events = Some(number(u64::MAX)?),
                _ => {
                    let problem = Problem::bad_request(format!("unknown parameter: `{name}`"));
                    return Err(match nearest(&name, PARAMETERS) {
                        Some(near) => problem.hint(format!("did you mean `{near}`?")),
                        None => problem.hint(format!("parameters: {}", PARAMETERS.join(", "))),
                    });
                }
            }
        }
        if wish.patterns.is_empty() {
            return Err(Problem::bad_request("missing parameter `component`: which one")
                .hint("as /status names them, such as `app.filter.0`, `app.*`, or `app` for what passes its filters"));
        }
        Ok(wish)
    }
}

/// Whether `pattern` means the pipeline or component `id`. A pipeline's name is the pipeline; the beginning of an id
/// means all that begin so, where a dot follows; wildcards without a dot are for pipelines, others for components.
fn means(pattern: &str, id: &str) -> bool {
    if pattern.contains(['*', '?', '[', '{']) {
        let glob = GlobBuilder::new(pattern).build();
        let same_kind = pattern.contains('.') == id.contains('.');
        return same_kind && glob.is_ok_and(|glob| glob.compile_matcher().is_match(id));
    }
    let rest = id.strip_prefix(pattern);
    rest == Some("") || (pattern.contains('.') && rest.is_some_and(|rest| rest.starts_with('.')))
}

/// What can be tapped: each pipeline, which shows what passes its filters, and its components.
fn places(board: &Board) -> Vec<(String, Arc<Meter>)> {
    let pipelines = board.pipelines();
    let of = |p: &crate::flow::PipelineEntry| {
        let components: Vec<_> = p.components.iter().map(|c| (c.site.id(), c.meter.clone())).collect();
        std::iter::once((p.name.to_string(), p.meter.clone())).chain(components)
    };
    pipelines.iter().flat_map(of).collect()
}

fn chosen(board: &Board, patterns: &[String]) -> Vec<(String, Arc<Meter>)> {
    let mut places = places(board);
    places.retain(|(id, _)| patterns.iter().any(|pattern| means(pattern, id)));
    places
}

impl Taps {
    /// Begins a tap.
    pub(super) fn answer(&self, query: Option<&str>) -> Result<Response<ControlBody>, Problem> {
        let wish = Wish::parse(query)?;
        let changes = self.board.changes();
        let chosen = chosen(&self.board, &wish.patterns);
        if chosen.is_empty() {
            return Err(self.unknown(&wish.patterns.join(", ")));
        }
        let mut tick = tokio::time::interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tapping = Tapping {
            board: self.board.clone(),
            shutdown: self.shutdown.clone(),
            reader: TapReader::new(wish.limits, wish.query.as_ref()),
            patterns: wish.patterns,
            names: Vec::new(),
            changes,
            tick,
            told: 0,
            over: false,
        };
        let hello = tapping.watch(chosen);
        let pieces =
            futures_util::stream::unfold((Some(hello), tapping), |(first, mut tapping)| async move {
                let piece = match first {
                    Some(first) => first,
                    None => tapping.piece().await?,
                };
                Some((Ok::<_, Infallible>(Frame::data(piece)), (None, tapping)))
            });
        let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        Ok(response)
    }

    fn unknown(&self, asked: &str) -> Problem {
        let ids: Vec<String> = places(&self.board).into_iter().map(|(id, _)| id).collect();
        let shown: String = asked.chars().take(64).collect();
        let problem = Problem::new(StatusCode::NOT_FOUND, format!("no component is called `{shown}`"));
        let problem = problem.with("components", ids.clone());
        match nearest(asked, ids.iter().map(String::as_str)) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("there are: {}", ids.join(", "))),
        }
    }
}

/// A tap that runs.
struct Tapping {
    board: Arc<Board>,
    shutdown: Shutdown,
    reader: TapReader,
    patterns: Vec<String>,
    /// What is tapped, each id by its place.
    names: Vec<Arc<str>>,
    changes: watch::Receiver<()>,
    tick: Interval,
    /// How much it has said it did not show.
    told: u64,
    over: bool,
}

impl Tapping {
    /// Looks at these components from now on; the note that says so.
    fn watch(&mut self, chosen: Vec<(String, Arc<Meter>)>) -> Bytes {
        let (ids, meters): (Vec<String>, Vec<Arc<Meter>>) = chosen.into_iter().unzip();
        let hello = note(NoteStyle::JsonLines, "hello", json!({ "components": ids }));
        // What waits goes by the places before.
        self.reader.watch(Vec::new());
        let mut out = self.rest();
        self.reader.watch(meters);
        self.names = ids.into_iter().map(Arc::from).collect();
        out.extend_from_slice(&hello);
        out.into()
    }

    /// The next piece of the answer; `None` at its end.
    async fn piece(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        loop {
            tokio::select! {
                shown = self.reader.next() => {
                    return Some(match shown {
                        Some(shown) => self.written(shown).into(),
                        None => self.bye("limit"),
                    });
                }
                _ = self.tick.tick() => {
                    let missed = self.missed();
                    if !missed.is_empty() {
                        return Some(missed);
                    }
                }
                // The sender lives in the board.
                _ = self.changes.changed() => {
                    let chosen = chosen(&self.board, &self.patterns);
                    let meters: Vec<_> = chosen.iter().map(|(_, meter)| meter.clone()).collect();
                    if chosen.is_empty() {
                        return Some(self.bye("removed"));
                    }
                    if !self.reader.watches(&meters) {
                        return Some(self.watch(chosen));
                    }
                }
                () = self.shutdown.draining() => return Some(self.bye("shutdown")),
            }
        }
    }

    /// `first`, and what else waits, as far as it fits into a piece.
    fn written(&self, first: Shown) -> Vec<u8> {
        let (mut out, mut next) = (Vec::new(), Some(first));
        while let Some(shown) = next {
            self.write(&shown, &mut out);
            next = if out.len() < PIECE_BYTES { self.reader.take() } else { None };
        }
        out
    }

    /// Everything that waits, which is bounded.
    fn rest(&self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(shown) = self.reader.take() {
            self.write(&shown, &mut out);
        }
        out
    }

    fn write(&self, shown: &Shown, out: &mut Vec<u8>) {
        if let Some(name) = self.names.get(shown.place) {
            write(name, shown, out);
        }
    }

    /// What it did not show since it last said so.
    fn missed(&mut self) -> Bytes {
        let not_shown = self.reader.counts().not_shown;
        let missed = not_shown - std::mem::replace(&mut self.told, not_shown);
        if missed == 0 {
            return Bytes::new();
        }
        note(NoteStyle::JsonLines, "drop", json!({ "missed": missed }))
    }

    /// Everything that waits, and the last words.
    fn bye(&mut self, reason: &str) -> Bytes {
        self.reader.watch(Vec::new());
        self.over = true;
        let mut out = self.rest();
        out.extend_from_slice(&self.missed());
        let counts = self.reader.counts();
        let about: Value = json!({ "reason": reason, "shown": counts.shown, "not_shown": counts.not_shown });
        out.extend_from_slice(&note(NoteStyle::JsonLines, "bye", about));
        out.into()
    }
}

/// Rows as JSON lines, each with its component. Bytes that are no text come along in base64.
fn write(component: &Arc<str>, shown: &Shown, out: &mut Vec<u8>) {
    let format = Format::Json(TimestampFormat::Rfc3339);
    let encoder = RowEncoder::new(&shown.rows, &format, component);
    let mut row_text = Vec::new();
    for (row, line) in shown.rows.lines() {
        row_text.clear();
        encoder.write(row, &mut row_text);
        out.extend_from_slice(b"{\"component\":");
        json::string_into(out, component.as_bytes());
        out.push(b',');
        // The object's members without its braces.
        out.extend_from_slice(&row_text[1..row_text.len() - 1]);
        if std::str::from_utf8(line).is_err() {
            out.extend_from_slice(b",\"bytes\":\"");
            out.extend_from_slice(STANDARD.encode(line).as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_prefixes_and_wildcards() {
        let ids =
            ["app", "app.source.0.file", "app.filter.1.level", "app.sink.0.http", "app2", "app2.sink.0.null"];
        let matching =
            |pattern: &str| -> Vec<&str> { ids.into_iter().filter(|id| means(pattern, id)).collect() };
        assert_eq!(matching("app"), ["app"]);
        assert_eq!(matching("app.sink.0.http"), ["app.sink.0.http"]);
        assert_eq!(matching("app.filter.1"), ["app.filter.1.level"]);
        assert_eq!(matching("app.sink"), ["app.sink.0.http"]);
        assert_eq!(matching("app.*"), ["app.source.0.file", "app.filter.1.level", "app.sink.0.http"]);
        assert_eq!(matching("*.sink.*"), ["app.sink.0.http", "app2.sink.0.null"]);
        assert_eq!(matching("*"), ["app", "app2"]);
        assert!(
            matching("app.sink.0.htt").is_empty() && matching("ap").is_empty() && matching("a[").is_empty()
        );
    }

    #[test]
    fn parameters_are_checked() {
        let wish = Wish::parse(Some("component=app.*&component=b&rate=7&limit=3")).unwrap();
        assert_eq!(wish.patterns, ["app.*", "b"]);
        assert_eq!(wish.limits, TapLimits { events_per_second: Some(7), events: Some(3) });
        let all = Wish::parse(Some("component=a&rate=all")).unwrap();
        assert_eq!(all.limits, TapLimits { events_per_second: None, events: None });
        for wrong in [
            "",
            "rate=1",
            "component=a&rate=0",
            "component=a&limit=x",
            "component=a&q=b%20AND",
            "component=a&componnt=b",
        ] {
            assert!(Wish::parse(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
