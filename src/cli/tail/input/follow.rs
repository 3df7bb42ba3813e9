//! What files get: the engine that follows the files of sources does it here too, rotation and all, on a thread of its
//! own. It begins where their backlogs ended, and keeps no checkpoints.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{LINE_BYTES_MAX, Said, Voice};
use crate::base::shutdown::Shutdown;
use crate::cli::exit::{Exit, Failure};
use crate::cli::tail::block::Block;
use crate::cli::tail::wanted::{Carry, Wanted};
use crate::codec::framing::Oversize;
use crate::config::ComponentKind;
use crate::flow::{
    Bounds, Branch, Chain, Health, Inlet, Intake, Meter, Outlet, Queue, Shared, Site, TaskCx, WhenFull,
};
use crate::tail::identity::FileId;
use crate::tail::{Patterns, Settings};

/// How long a last line without its end waits for it.
const PARTIAL_LINE: Duration = Duration::from_secs(1);
/// How long a file is still read that was rotated away.
const ROTATE_WAIT: Duration = Duration::from_secs(5);
/// How often files are looked at where the system does not report changes.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Files of which it is remembered what their last line was.
const CARRIES_MAX: usize = 10_000;
/// Bounds of what waits between the engine and the printer.
const BOUNDS: Bounds = Bounds { events_max: 100_000, bytes_max: 8 << 20, when_full: WhenFull::Block };

/// How `weir tail` reads files.
pub(in crate::cli::tail) fn settings(patterns: Patterns, starts: HashMap<FileId, u64>) -> Settings {
    Settings {
        patterns,
        required_dir: None,
        start_at_end: false,
        starts,
        poll_interval: POLL_INTERVAL,
        line_bytes_max: LINE_BYTES_MAX,
        oversize: Oversize::Truncate,
        encoding: None,
        multiline: None,
        rotate_wait: ROTATE_WAIT,
        partial_line_timeout: Some(PARTIAL_LINE),
        ignore_older: None,
        fingerprint_bytes: 1024,
        component: "tail".into(),
        checkpoints: "tail".into(),
    }
}

/// Follows the files of `settings` until the process ends; what they get is said as the input `index`.
///
/// # Errors
/// When there can be no thread for it.
pub(in crate::cli::tail) fn start(
    index: usize,
    settings: Settings,
    wanted: Wanted,
    voice: Voice,
) -> Result<(), Failure> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(follow(&settings, wanted, &voice)),
            Err(e) => Err(Failure::new(Exit::INTERNAL, format!("cannot follow files: {e}"))),
        };
        voice.send(Said::Ended(index, ended)).ok();
    };
    let started = std::thread::Builder::new().name("tail files".to_owned()).spawn(work);
    started.map(drop).map_err(|e| Failure::new(Exit::UNAVAILABLE, format!("cannot follow files: {e}")))
}

async fn follow(settings: &Settings, mut wanted: Wanted, voice: &Voice) -> Result<(), Failure> {
    let meter = || Arc::new(Meter::default());
    let queue = Queue::new(BOUNDS, meter());
    let intake =
        Intake::new(None, Chain::default(), vec![Branch { chain: None, queue: queue.clone() }], meter());
    let out = Outlet::new(Arc::new(intake), meter());
    let site = Site { pipeline: "tail".into(), kind: ComponentKind::Source, index: 0, type_name: "file" };
    let cx = TaskCx {
        site: Arc::new(site),
        shutdown: Shutdown::new(),
        meter: meter(),
        shared: Arc::new(Shared::default()),
        // None: nothing is remembered.
        state_dir: Path::new("").into(),
        health: Arc::new(Health::default()),
    };
    let mut inlet = Inlet::new(queue);
    let pass_on = async {
        let mut carries: HashMap<String, Carry> = HashMap::new();
        while let Some(lease) = inlet.recv().await {
            let mut batch = lease.batch().view();
            lease.delivered();
            if !wanted.is_everything() {
                let label = batch.arena().origin().label();
                if carries.len() >= CARRIES_MAX && !carries.contains_key(label) {
                    carries.clear();
                }
                let carry = carries.entry(label.to_owned()).or_default();
                wanted.keep(&mut batch, carry);
            }
            // Waits for the printer, and the engine with it: this thread is theirs alone.
            if !batch.is_empty() && voice.send(Said::Block(Block::lines(batch))).is_err() {
                break;
            }
        }
    };
    tokio::select! {
        ended = crate::tail::run(settings, &out, &cx) => ended
            .map_err(|fault| Failure::new(Exit::IO, format!("cannot follow files: {fault}"))),
        () = pass_on => Ok(()),
    }
}
