//! What `weir top` listens to, each on a thread of its own: the status, a tap, keys, signals. All of it comes out of
//! one bounded channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event as TerminalEvent, KeyEvent, KeyEventKind};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::model::Status;
use crate::cli::exit::{Failure, Report};
use crate::cli::http_get::Base;
use crate::cli::http_stream::{Stopper, Stream};
use crate::cli::tap::{Note, Row, Said, target};

/// How often the status is asked for.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// How often a thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// Events that may wait to be drawn.
const WAITING_MAX: usize = 256;
/// Most tapped rows a second; more cannot be read.
const TAP_RATE: &str = "50";

/// Something happened.
pub(super) enum Event {
    Status(Box<Status>),
    /// There is no status, and why.
    Gone(String),
    Row(String, Row),
    Note(String, Note),
    TapEnded(String, String),
    Key(KeyEvent),
    Resized,
    /// A signal that ends programs, by its number.
    End(i32),
}

/// Finds whom to ask; again, after that one is gone.
pub(super) type Find = Arc<dyn Fn() -> Result<Base, Failure> + Send + Sync>;

/// The way to the threads and from them.
pub(super) struct Feed {
    sender: SyncSender<Event>,
    find: Find,
    stop: Arc<AtomicBool>,
    tap: Option<Tapping>,
}

struct Tapping {
    /// Set once the tap is there to be ended.
    stopper: Arc<std::sync::Mutex<Option<Stopper>>>,
    stop: Arc<AtomicBool>,
}

/// Asks once.
pub(super) fn ask(base: &Base) -> Result<Status, String> {
    let answer = base.get("/status").map_err(|failure| said(&failure))?;
    let json: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200);
    json.as_ref().and_then(Status::read).ok_or_else(|| match answer.status {
        200 => "it does not answer as a weir does".to_owned(),
        status => format!("it answers with status {status}"),
    })
}

/// A failure in one line.
fn said(failure: &Failure) -> String {
    match &failure.report {
        Report::Message { message, .. } => message.lines().next().unwrap_or_default().to_owned(),
        _ => failure.to_string(),
    }
}

impl Feed {
    /// Begins to ask, and to listen for keys and signals.
    ///
    /// # Errors
    /// When the system has no threads.
    pub(super) fn start(find: Find, signals: Signals) -> std::io::Result<(Feed, Receiver<Event>)> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let feed = Feed { sender, find, stop: Arc::default(), tap: None };
        let (asking, find) = (feed.sender.clone(), feed.find.clone());
        feed.spawn("top-status", move |stop| ask_on(&asking, &find, stop))?;
        let keys = feed.sender.clone();
        feed.spawn("top-keys", move |stop| listen(&keys, stop))?;
        let ending = feed.sender.clone();
        feed.spawn("top-signals", move |_| signals.report(&ending))?;
        Ok((feed, receiver))
    }

    fn spawn(&self, name: &str, work: impl FnOnce(&AtomicBool) + Send + 'static) -> std::io::Result<()> {
        let stop = self.stop.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || work(&stop)).map(drop)
    }

    /// Shows what passes `id`, instead of what was shown.
    pub(super) fn tap(&mut self, id: String) {
        self.end_tap();
        let stopper = Arc::<std::sync::Mutex<Option<Stopper>>>::default();
        let stop = Arc::<AtomicBool>::default();
        self.tap = Some(Tapping { stopper: stopper.clone(), stop: stop.clone() });
        let (sender, find) = (self.sender.clone(), self.find.clone());
        let failed = (self.sender.clone(), id.clone());
        let begun = self.spawn("top-tap", move |_| {
            let opened = find().and_then(|base| match base.is_local() {
                true => base.stream(&target(std::slice::from_ref(&id), TAP_RATE, None, None)),
                false => {
                    Err(Failure::usage("rows are shown by the control socket only, not over the network"))
                }
            });
            let why = match opened {
                Ok(stream) => {
                    if let Ok(mut slot) = stopper.lock() {
                        *slot = Some(stream.stopper());
                    }
                    read(stream, &id, &sender, &stop)
                }
                Err(failure) => said(&failure),
            };
            // Who listened may have gone.
            sender.send(Event::TapEnded(id, why)).ok();
        });
        if let Err(e) = begun {
            failed.0.try_send(Event::TapEnded(failed.1, format!("no thread: {e}"))).ok();
        }
    }

    /// Ends the tap there may be.
    pub(super) fn end_tap(&mut self) {
        if let Some(tap) = self.tap.take() {
            tap.stop.store(true, Relaxed);
            if let Ok(Some(stopper)) = tap.stopper.lock().as_deref() {
                stopper.stop();
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end_tap();
        self.stop.store(true, Relaxed);
    }
}

fn ask_on(sender: &SyncSender<Event>, find: &Find, stop: &AtomicBool) {
    let mut base = None;
    loop {
        // Whoever starts this has just asked.
        for _ in 0..EVERY.as_millis() / LOOK.as_millis() {
            thread::sleep(LOOK);
            if stop.load(Relaxed) {
                return;
            }
        }
        let found = match base.take() {
            Some(base) => Ok(base),
            None => find().map_err(|failure| said(&failure)),
        };
        let event = match found.and_then(|found| ask(&found).inspect(|_| base = Some(found))) {
            Ok(status) => Event::Status(Box::new(status)),
            Err(why) => Event::Gone(why),
        };
        if sender.send(event).is_err() {
            return;
        }
    }
}

/// Why it ended.
fn read(mut stream: Stream, id: &str, sender: &SyncSender<Event>, stop: &AtomicBool) -> String {
    let mut line = Vec::new();
    while !stop.load(Relaxed) {
        match stream.line(&mut line) {
            Ok(Some(())) => {}
            Ok(None) => return "the end: weir is gone".to_owned(),
            Err(e) => return format!("the end: {e}"),
        }
        let event = match Said::parse(&line) {
            Said::Row(row) => Event::Row(id.to_owned(), row),
            Said::Note(note) => Event::Note(id.to_owned(), note),
            Said::Nothing => continue,
        };
        if sender.send(event).is_err() {
            break;
        }
    }
    String::new()
}

fn listen(sender: &SyncSender<Event>, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let event = match event::poll(LOOK) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(e) => Err(e),
        };
        let event = match event {
            Ok(TerminalEvent::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
            Ok(TerminalEvent::Resize(..)) => Event::Resized,
            Ok(_) => continue,
            // The terminal is gone.
            Err(_) => Event::End(rustix::process::Signal::HUP.as_raw()),
        };
        let last = matches!(event, Event::End(_));
        if sender.send(event).is_err() || last {
            return;
        }
    }
}

/// Signals that end programs, caught from the moment this is made.
pub(super) struct Signals {
    runtime: Runtime,
    caught: [Signal; 3],
}

impl Signals {
    const KINDS: [fn() -> SignalKind; 3] = [SignalKind::terminate, SignalKind::interrupt, SignalKind::hangup];

    /// Begins to catch them.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(super) fn catch() -> std::io::Result<Signals> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let caught = {
            let _inside = runtime.enter();
            let [terminate, interrupt, hang_up] = Signals::KINDS;
            [signal(terminate())?, signal(interrupt())?, signal(hang_up())?]
        };
        Ok(Signals { runtime, caught })
    }

    /// Waits for the first one and reports it.
    fn report(mut self, sender: &SyncSender<Event>) {
        let [terminate, interrupt, hang_up] = &mut self.caught;
        let at = self.runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => 0,
                _ = interrupt.recv() => 1,
                _ = hang_up.recv() => 2,
            }
        });
        // Who listened may have gone.
        sender.send(Event::End(Signals::KINDS[at]().as_raw_value())).ok();
    }
}
