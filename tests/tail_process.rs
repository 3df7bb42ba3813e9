//! What following files costs the process: processor time while nothing happens, and descriptors when there are
//! more files than may be open. In a process of its own, as both are counted per process.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use logweir::base::shutdown::Shutdown;
use logweir::base::task;
use logweir::config::{ComponentKind, Diagnostics, Node, Origin, Path as OptionPath, Reader};
use logweir::flow::{
    Bounds, Branch, Build, BuildCx, Chain, Fault, Health, Inlet, Intake, Meter, Outlet, Queue, Shared, Site,
    Source, TaskCx, WhenFull,
};
use logweir::registry;

/// The tests would disturb each other's counts.
static ALONE: Mutex<()> = Mutex::new(());

fn source(options: &serde_json::Value, site: &Site) -> Box<dyn Source> {
    let node = Node::from_json(options, &Origin::Default).unwrap();
    let (mut diagnostics, mut claims, at) = (Diagnostics::new(), Vec::new(), OptionPath::root());
    let mut reader = Reader::new(&node, &at, "file", &mut diagnostics).unwrap();
    let Build::Source(build) = registry::find(ComponentKind::Source, "file").unwrap().build else {
        unreachable!()
    };
    let mut cx = BuildCx {
        site,
        pipeline_format: None,
        node: &node,
        at: &at,
        diagnostics: &mut diagnostics,
        claims: &mut claims,
    };
    build(&mut reader, &mut cx).unwrap()()
}

struct Running {
    cx: TaskCx,
    inlet: Inlet,
    ended: tokio::sync::oneshot::Receiver<Result<(), Fault>>,
}

impl Running {
    async fn stop(self) {
        self.cx.shutdown.drain();
        self.ended.await.unwrap().unwrap();
    }
}

fn start(root: &Path) -> Running {
    start_on(root, "logs/*.log")
}

fn start_on(root: &Path, glob: &str) -> Running {
    let site = Site { pipeline: "test".into(), kind: ComponentKind::Source, index: 0, type_name: "file" };
    let options = serde_json::json!({ "path": root.join(glob).display().to_string() });
    let mut source = source(&options, &site);
    let cx = TaskCx {
        site: Arc::new(site),
        shutdown: Shutdown::new(),
        meter: Arc::new(Meter::default()),
        shared: Arc::new(Shared::default()),
        state_dir: root.join("state").into(),
        health: Arc::new(Health::default()),
    };
    let bounds = Bounds { events_max: 1_000_000, bytes_max: 1 << 30, when_full: WhenFull::Block };
    let queue = Queue::new(bounds, Arc::new(Meter::default()));
    let inlet = Inlet::new(queue.clone());
    let intake =
        Intake::new(None, Chain::default(), vec![Branch { chain: None, queue }], Arc::new(Meter::default()));
    let outlet = Outlet::new(Arc::new(intake), cx.meter.clone());
    let running = cx.clone();
    let ended = task::spawn_thread("file", async move { source.run(&outlet, &running).await }).unwrap();
    Running { cx, inlet, ended }
}

fn write_logs(root: &Path, files: usize) {
    fs::create_dir_all(root.join("logs")).unwrap();
    for i in 0..files {
        fs::write(root.join(format!("logs/{i}.log")), format!("file {i}\n")).unwrap();
    }
}

async fn take(inlet: &mut Inlet, enough: u64) -> u64 {
    let mut events = 0;
    while events < enough {
        match tokio::time::timeout(Duration::from_secs(10), inlet.recv()).await {
            Ok(Some(lease)) => {
                events += lease.batch().events();
                lease.delivered();
            }
            _ => break,
        }
    }
    events
}

/// Nanoseconds that the threads of this process have run.
fn ran_nanos() -> u64 {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let read = |dir: fs::DirEntry| fs::read_to_string(dir.path().join("schedstat")).unwrap_or_default();
    threads.map(|t| read(t).split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)).sum()
}

/// Memory of this process, in KiB.
fn resident_kib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 4
}

#[test]
fn a_thousand_quiet_files_cost_under_half_a_percent_of_a_core() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = tempfile::tempdir().unwrap();
    write_logs(root.path(), 1000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut weir = start(root.path());
        assert_eq!(take(&mut weir.inlet, 1000).await, 1000);
        // Checkpoints are written, and looks become rare.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let (before, wait) = (ran_nanos(), Duration::from_secs(10));
        tokio::time::sleep(wait).await;
        let percent = (ran_nanos() - before) as f64 * 100.0 / wait.as_nanos() as f64;
        println!("idle with 1000 files: {percent:.3} % of a core, {} KiB resident", resident_kib());
        assert!(percent < 0.5, "{percent} % of a core");
        weir.stop().await;
    });
}

#[test]
fn a_huge_tree_below_two_stars_costs_little_at_rest_and_new_files_in_it_are_noticed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = tempfile::tempdir().unwrap();
    for branch in 0..20 {
        for leaf in 0..50 {
            fs::create_dir_all(root.path().join(format!("logs/{branch}/{leaf}/deep"))).unwrap();
            // What does not match is passed over.
            fs::write(root.path().join(format!("logs/{branch}/{leaf}/other.txt")), "no\n").unwrap();
        }
        fs::write(root.path().join(format!("logs/{branch}/7/deep/app.log")), "first\n").unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut weir = start_on(root.path(), "logs/**/*.log");
        assert_eq!(take(&mut weir.inlet, 20).await, 20);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (before, wait) = (ran_nanos(), Duration::from_secs(5));
        tokio::time::sleep(wait).await;
        let percent = (ran_nanos() - before) as f64 * 100.0 / wait.as_nanos() as f64;
        println!("idle below 2021 directories: {percent:.3} % of a core, {} KiB resident", resident_kib());
        assert!(percent < 2.0, "{percent} % of a core");
        fs::write(root.path().join("logs/19/49/deep/late.log"), "late\n").unwrap();
        assert_eq!(take(&mut weir.inlet, 1).await, 1, "noticed in the deepest directory");
        weir.stop().await;
    });
}

/// One more line in each file, with the few descriptors that are left.
fn append_slowly(root: &Path, files: usize) {
    for i in 0..files {
        let path = root.join(format!("logs/{i}.log"));
        let append = || {
            let opened = fs::OpenOptions::new().append(true).open(&path);
            opened.and_then(|mut f| std::io::Write::write_all(&mut f, b"more\n"))
        };
        while append().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn more_files_than_descriptors_are_all_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = tempfile::tempdir().unwrap();
    write_logs(root.path(), 400);
    let resource = rustix::process::Resource::Nofile;
    let limit = rustix::process::getrlimit(resource);
    rustix::process::setrlimit(resource, rustix::process::Rlimit { current: Some(64), ..limit }).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut weir = start(root.path());
        assert_eq!(take(&mut weir.inlet, 400).await, 400);
        // Others in the process take what is left; weir has to make do with fewer.
        let mut greedy = Vec::new();
        while let Ok(file) = fs::File::open("/dev/null") {
            greedy.push(file);
        }
        greedy.truncate(greedy.len().saturating_sub(2));
        append_slowly(root.path(), 400);
        assert_eq!(take(&mut weir.inlet, 400).await, 400);
        weir.stop().await;
    });
    rustix::process::setrlimit(resource, limit).unwrap();
}
