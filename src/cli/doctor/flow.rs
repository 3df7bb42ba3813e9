//! How events flow: whether the first comes at once, plain and packed, whether a place to resume from gets through,
//! how many streams there may be, and what becomes of one that is watched for a while.

use std::time::Duration;

use super::answer::Target;
use super::body::Body;
use super::cures::Fault;
use super::reach::why;
use super::report::Finding;
use super::watch::{Seen, Until, watch};

/// The longest wait for a first event.
const FIRST_MAX: Duration = Duration::from_secs(5);
/// A first event later than this after the head has been held back: weir sends both at once.
const AT_ONCE: Duration = Duration::from_millis(1500);
/// Streams that are opened at once: as many as a browser has to a server over HTTP/1.1.
const TOGETHER: usize = 6;

/// The first moments of a stream.
pub(super) fn begin(body: &mut Body) -> Seen {
    watch(body, FIRST_MAX, Until::Note("hello"))
}

/// Whether the first event came at once.
pub(super) fn first(seen: &Seen, is_weir: bool) -> Finding {
    const CAUSE: &str = "something in between gathers the stream until a buffer is full";
    match seen.first_after {
        Some(after) if after <= AT_ONCE => {
            let what = if is_weir { "the first event" } else { "the first bytes" };
            Finding::ok("buffering", format!("{what} came {} ms after the head", after.as_millis()))
        }
        Some(after) => Finding::fail(
            "buffering",
            format!("the first event came {:.1} s after the head", after.as_secs_f32()),
        )
        .cause(CAUSE)
        .fault(Fault::Buffering),
        None if seen.end.is_some() => Finding::fail("buffering", "the stream ended before its first event")
            .cause("something in between gathers the stream, and gives up on the server before it has enough")
            .fault(Fault::Buffering),
        None => {
            let text = format!(
                "a head, and then nothing for {} s: a stream of weir begins with an event",
                FIRST_MAX.as_secs()
            );
            Finding::fail("buffering", text).cause(CAUSE).fault(Fault::Buffering)
        }
    }
}

/// The same as a browser asks: willing to take it packed.
pub(super) fn packed(target: &Target) -> Finding {
    let mut response = match target.ask_again(&target.path, &[("Accept-Encoding", "gzip, deflate, br")]) {
        Ok(response) => response,
        Err(e) => return Finding::fail("compression", why(&e)).fault(Fault::Compression),
    };
    let Some(coding) = response.head.header("content-encoding").map(str::to_owned) else {
        return Finding::ok("compression", "not packed, though it was offered");
    };
    if !response.head.lists("content-encoding", "gzip") {
        let text = format!("packed ({coding}), which cannot be looked into");
        return Finding::warn("compression", text).fault(Fault::Compression);
    }
    let seen = watch(&mut response.body, FIRST_MAX, Until::Note("hello"));
    match seen.first_after {
        Some(after) if after <= AT_ONCE => {
            let text =
                format!("packed ({coding}), though no-transform forbids it; events still come at once");
            Finding::warn("compression", text)
                .cause("a packer may hold events back until it has enough of them")
                .fault(Fault::Compression)
        }
        _ => {
            let text =
                format!("packed ({coding}), and nothing comes out for {} s", seen.watched.as_secs().max(1));
            Finding::fail("compression", text)
                .cause("the packer waits for more before it passes anything on; plain streams do not")
                .fault(Fault::Compression)
        }
    }
}

/// Whether `Last-Event-ID` gets through: behind an id of another life, weir announces a gap.
pub(super) fn resume(target: &Target) -> Finding {
    const MARK: &str = "doctor-1";
    let gap = |path: &str, headers: &[(&str, &str)]| {
        target.ask_again(path, headers).map(|mut response| {
            watch(&mut response.body, FIRST_MAX.min(AT_ONCE * 2), Until::Note("gap")).has("gap")
        })
    };
    match gap(&target.path, &[("Last-Event-ID", MARK)]) {
        Err(e) => Finding::fail("resume", why(&e)),
        Ok(true) => Finding::ok("resume", "Last-Event-ID gets through"),
        Ok(false) => {
            let parameter = gap(&target.with(&format!("last_event_id={MARK}")), &[]).unwrap_or(false);
            let hint = if parameter {
                "let the header through; until then, clients can send it as the parameter last_event_id"
            } else {
                "let the header Last-Event-ID and the query of the URL through"
            };
            Finding::fail("resume", "Last-Event-ID does not get through")
                .cause(
                    "something in between takes the header away: who reconnects misses what came meanwhile",
                )
                .hint(hint)
        }
    }
}

/// Opens several streams at once.
pub(super) fn together(target: &Target) -> Finding {
    let mut open = Vec::new();
    for number in 1..=TOGETHER {
        match target.ask(&[]) {
            Ok(response) if response.head.status == 200 => open.push(response),
            other => {
                let why = match other {
                    Ok(response) => format!("the answer was {}", response.head.status),
                    Err(e) => why(&e),
                };
                let text = format!("of {TOGETHER} streams at once, number {number} was refused: {why}");
                return Finding::warn("limits", text)
                    .cause("a browser with several tabs, or users behind one address, get no further")
                    .hint("raise access.max_connections_per_ip, the sink's max_connections, or the proxy's limit");
            }
        }
    }
    Finding::ok("limits", format!("{TOGETHER} streams at once are taken"))
}

/// Watches a stream for a while.
pub(super) fn observe(target: &Target, time: Duration, until: Until) -> Vec<Finding> {
    let mut response = match target.ask_again(&target.path, &[]) {
        Ok(response) if response.head.status == 200 => response,
        Ok(response) => {
            return vec![Finding::fail("idle", format!("the answer was {}", response.head.status))];
        }
        Err(e) => return vec![Finding::fail("idle", why(&e))],
    };
    let seen = watch(&mut response.body, time, until);
    let mut findings = Vec::new();
    if seen.beats_together() > 0 {
        let text = format!("{} signs of life came together with the one before", seen.beats_together());
        let cause = "something in between gathers them and passes them on in one go";
        findings.push(Finding::fail("heartbeat", text).cause(cause).fault(Fault::Buffering));
    }
    findings.push(match &seen.end {
        Some((at, why)) if !seen.has("bye") => ended(&seen, *at, why),
        Some(_) => Finding::ok("idle", "the server ended the stream in order"),
        None => lived(&seen),
    });
    findings
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f32())
}

fn ended(seen: &Seen, at: Duration, why: &str) -> Finding {
    let silence = seen.silence_before_end().unwrap_or_default();
    let text = format!("the stream was cut off after {}: {why}", seconds(at));
    // A cut that follows closely on bytes is no matter of silence.
    if silence * 2 >= seen.longest_silence() && silence >= Duration::from_millis(500) {
        let text = format!("{text}, after {} of silence", seconds(silence));
        return Finding::fail("idle", text)
            .cause(
                "something in between ends connections that are silent, sooner than weir's next sign of life",
            )
            .hint("or let signs of life come more often: heartbeat = { interval = \"5s\" } on the http sink")
            .fault(Fault::IdleTimeout);
    }
    Finding::fail("idle", text)
        .cause("something in between limits how long an answer may take, or fails")
        .fault(Fault::IdleTimeout)
}

/// Silence that outlasts the patience of many proxies.
const SILENCE_LONG: Duration = Duration::from_secs(30);

fn lived(seen: &Seen) -> Finding {
    let watched = seconds(seen.watched);
    if seen.longest_silence() >= SILENCE_LONG {
        let text = format!("no sign of life for {}", seconds(seen.longest_silence()));
        return Finding::warn("idle", text)
            .cause("proxies end what is silent: nginx after 60 s, others sooner")
            .hint("heartbeat = { interval = \"15s\" } on the http sink");
    }
    match seen.beat() {
        Some(beat) => {
            Finding::ok("idle", format!("alive for {watched}, with a sign of life every {}", seconds(beat)))
        }
        None => Finding::ok(
            "idle",
            format!("alive for {watched}, never silent for more than {}", seconds(seen.longest_silence())),
        ),
    }
}
