//! What tests stand on: a component built from JSON options, a context to run it in, a pipeline that ends in a
//! queue the test reads. Compiled for tests only.

mod file_sink;

use std::path::Path;
use std::sync::Arc;

use crate::base::shutdown::Shutdown;
use crate::config::{ComponentKind, Diagnostics, Node, Options, Origin, Path as OptionPath, Reader};
use crate::flow::{
    Bounds, Branch, BuildCx, Chain, Component, Health, Inlet, Intake, Meter, Outlet, Queue, Shared, Site,
    TaskCx, WhenFull,
};

/// A component from its options as JSON, or what was wrong with them.
pub fn build<T: Component>(kind: ComponentKind, options: serde_json::Value) -> Result<T, Vec<String>> {
    let node = Node::from_json(&options, &Origin::Default).expect("options are a JSON object");
    let mut diagnostics = Diagnostics::new();
    let mut claims = Vec::new();
    let site = site(kind, T::NAME);
    let built = (|| {
        let at = OptionPath::root();
        let mut reader = Reader::new(&node, &at, T::NAME, &mut diagnostics)?;
        let options = T::Options::read(&mut reader, &mut diagnostics)?;
        reader.finish(&mut diagnostics);
        let mut cx = BuildCx {
            site: &site,
            pipeline_format: None,
            node: &node,
            at: &at,
            diagnostics: &mut diagnostics,
            claims: &mut claims,
        };
        T::build(options, &mut cx)
    })();
    match built {
        Some(component) if !diagnostics.has_errors() => Ok(component),
        _ => Err(diagnostics.items().iter().map(|d| d.message.clone()).collect()),
    }
}

/// The first component of its kind in the pipeline `test`.
pub fn site(kind: ComponentKind, type_name: &'static str) -> Site {
    Site { pipeline: "test".into(), kind, index: 0, type_name }
}

/// A context to run a component in; keep a clone of `shutdown` to stop it.
pub fn task_cx(kind: ComponentKind, type_name: &'static str, state_dir: &Path) -> TaskCx {
    TaskCx {
        site: Arc::new(site(kind, type_name)),
        shutdown: Shutdown::new(),
        meter: Arc::new(Meter::default()),
        shared: Arc::new(Shared::default()),
        state_dir: state_dir.into(),
        health: Arc::new(Health::default()),
    }
}

/// A queue of a million events that blocks when full, and its consuming end.
pub fn queue() -> (Arc<Queue>, Inlet) {
    let bounds = Bounds { events_max: 1_000_000, bytes_max: 1 << 30, when_full: WhenFull::Block };
    let queue = Queue::new(bounds, Arc::new(Meter::default()));
    (queue.clone(), Inlet::new(queue))
}

/// A pipeline without filters that ends in a queue; the source's way in and the test's way out.
pub fn pipeline() -> (Outlet, Inlet) {
    let (queue, inlet) = queue();
    let branches = vec![Branch { chain: None, queue }];
    let intake = Intake::new(None, Chain::default(), branches, Arc::new(Meter::default()));
    (Outlet::new(Arc::new(intake), Arc::new(Meter::default())), inlet)
}

/// All rows that wait, settled as delivered.
pub fn take_lines(inlet: &mut Inlet) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    while let Some(lease) = inlet.try_recv() {
        lines.extend(lease.batch().lines().map(|(_, line)| line.to_vec()));
        lease.delivered();
    }
    lines
}

/// Waits until `enough` rows have come (or ten seconds have passed) and returns all that came, settled.
pub async fn wait_lines(inlet: &mut Inlet, enough: usize) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let deadline = tokio::time::sleep(std::time::Duration::from_secs(10));
    tokio::pin!(deadline);
    while lines.len() < enough {
        tokio::select! {
            lease = inlet.recv() => {
                let Some(lease) = lease else { break };
                lines.extend(lease.batch().lines().map(|(_, line)| line.to_vec()));
                lease.delivered();
            }
            () = &mut deadline => break,
        }
    }
    lines
}
