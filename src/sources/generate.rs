//! The `generate` source: seeded sample logs at a steady rate, for demos, tests and benches.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::clock;
use crate::base::rng::Rng;
use crate::batch::{BatchBuilder, Origin, Receipt, Timestamp};
use crate::config::{choices, options};
use crate::flow::{BuildCx, Component, Fault, Outlet, Source, TaskCx};

choices! {
    /// What the lines look like.
    pub enum Kind {
        /// An application's log: time, level, service, message.
        App = "app",
        /// Access log in the combined format.
        Nginx = "nginx",
        /// One JSON object per line.
        Json = "json",
        /// RFC 5424 syslog.
        Syslog = "syslog",
    }
}

options! {
    /// Options of the `generate` source.
    pub struct GenerateOptions {
        /// Events per second; 0 is as fast as the pipeline takes them.
        #[range(0.0..=100_000_000.0)]
        pub events_per_second: f64 = 10.0,
        /// What the lines look like.
        pub kind: Kind = Kind::App,
        /// How many events, then the source ends; without it, it goes on.
        pub count: Option<u64> = None,
        /// Seed of the random choices; the same seed gives the same choices.
        pub seed: u64 = 1,
    }
}

/// Most events in one batch.
const BATCH_EVENTS_MAX: u64 = 2_000;
/// Time between batches when the rate allows several events in it.
const BEAT: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Clone)]
pub struct Generate {
    options: GenerateOptions,
    origin: Arc<Origin>,
}

impl Component for Generate {
    const NAME: &'static str = "generate";
    const SUMMARY: &'static str = "sample logs at a steady rate, for demos and tests";
    const EXAMPLE: &'static str = "type = \"generate\"\nevents_per_second = 10.0\nkind = \"app\"\n";
    type Options = GenerateOptions;

    fn build(options: GenerateOptions, cx: &mut BuildCx<'_>) -> Option<Generate> {
        let origin = Arc::new(Origin::new(&cx.site.id(), Self::NAME));
        Some(Generate { options, origin })
    }
}

#[async_trait]
impl Source for Generate {
    async fn run(&mut self, out: &Outlet, cx: &TaskCx) -> Result<(), Fault> {
        cx.ready();
        let mut rng = Rng::seeded(self.options.seed);
        let (rate, start) = (self.options.events_per_second, clock::now());
        let mut made = 0u64;
        let end = self.options.count.unwrap_or(u64::MAX);
        while made < end && !cx.shutdown.is_draining() {
            let due = if rate == 0.0 { end } else { (start.elapsed().as_secs_f64() * rate) as u64 + 1 };
            let now = due.min(end).saturating_sub(made).min(BATCH_EVENTS_MAX);
            if now == 0 {
                let next = Duration::from_secs_f64(made as f64 / rate).max(start.elapsed() + BEAT);
                tokio::select! {
                    () = tokio::time::sleep_until(start + next) => continue,
                    () = cx.shutdown.draining() => break,
                }
            }
            let wall = Timestamp(clock::unix_nanos());
            let mut builder =
                BatchBuilder::with_capacity(self.origin.clone(), now as usize * 160, now as usize);
            builder.received(wall);
            for _ in 0..now {
                builder.push_with(|line| write_line(self.options.kind, wall, &mut rng, line));
            }
            made += now;
            out.send(builder.finish(Receipt::none())).await;
            // As fast as it goes is no reason to starve others on this thread.
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

const LEVELS: [&str; 10] =
    ["DEBUG", "DEBUG", "INFO", "INFO", "INFO", "INFO", "INFO", "INFO", "WARN", "ERROR"];
const SERVICES: [&str; 6] = ["checkout", "cart", "auth", "search", "billing", "gateway"];
const CALM: [&str; 5] =
    ["request completed", "session refreshed", "payment authorised", "job finished", "cache miss"];
const WORRIED: [&str; 3] = ["slow query", "queue depth above threshold", "retrying upstream"];
const BROKEN: [&str; 3] =
    ["connection reset by peer", "timeout while reading from upstream", "disk quota exceeded"];
const PATHS: [&str; 6] = ["/", "/api/v1/users", "/api/v1/orders", "/login", "/search", "/static/app.js"];

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.below(from.len() as u64) as usize]
}

/// Writes one line, which holds no line break.
fn write_line(kind: Kind, now: Timestamp, rng: &mut Rng, out: &mut Vec<u8>) {
    use std::io::Write;
    let level = pick(rng, &LEVELS);
    let service = pick(rng, &SERVICES);
    let message = pick(
        rng,
        match level {
            "ERROR" => &BROKEN,
            "WARN" => &WORRIED,
            _ => &CALM,
        },
    );
    let (id, took_ms) = (rng.below(1_000_000), rng.below(3000));
    let mut time = Vec::with_capacity(32);
    now.write_rfc3339(&mut time);
    let time = String::from_utf8_lossy(&time);
    // Writing to a vector cannot fail.
    match kind {
        Kind::App => write!(out, "{time} {level} [{service}] {message} id={id} took={took_ms}ms"),
        Kind::Json => write!(
            out,
            r#"{{"timestamp":"{time}","level":"{level}","service":"{service}","message":"{message}","id":{id},"duration_ms":{took_ms}}}"#
        ),
        Kind::Syslog => {
            let severity = if level == "ERROR" { 3 } else if level == "WARN" { 4 } else { 6 };
            write!(out, "<{}>1 {time} node-{:02} {service} {} - - {message} id={id}", 128 + severity, id % 32, took_ms)
        }
        Kind::Nginx => {
            let status = if level == "ERROR" { 502 } else if level == "WARN" { 404 } else { 200 };
            let date = jiff::Timestamp::from_nanosecond(i128::from(now.0)).unwrap_or_default();
            let date = date.to_zoned(jiff::tz::TimeZone::UTC).strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
            let path = pick(rng, &PATHS);
            write!(out, "10.0.{}.{} - - [{date}] \"GET {path}?id={id} HTTP/1.1\" {status} {took_ms} \"-\" \"curl/8.5.0\"", id % 200, id % 250)
        }
    }
    .ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_lines() {
        let lines = |kind| {
            let (mut rng, mut out) = (Rng::seeded(3), Vec::new());
            (0..50).for_each(|_| write_line(kind, Timestamp(1_795_000_000_000_000_000), &mut rng, &mut out));
            out
        };
        for kind in [Kind::App, Kind::Nginx, Kind::Json, Kind::Syslog] {
            assert_eq!(lines(kind), lines(kind));
            assert!(!lines(kind).contains(&b'\n'));
        }
    }
}
