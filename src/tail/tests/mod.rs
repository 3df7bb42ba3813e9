//! What the tests of following files stand on: a directory, a state directory, and a `file` source that can be
//! started, stopped in order, and torn down as a crash would.

mod backlog;
mod content;
mod discovery;
mod hostile;
mod random;
mod restart;
mod rotation;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::config::ComponentKind;
use crate::flow::{Branch, Chain, Component, Fault, Inlet, Intake, Meter, Outlet, Queue, Source, TaskCx};
use crate::sources::directory::Directory;
use crate::sources::file::File;
use crate::testing;

/// A place with logs and state.
struct Rig {
    root: tempfile::TempDir,
    options: Value,
}

/// A running source.
struct Running {
    shutdown: Shutdown,
    meter: Arc<Meter>,
    inlet: Inlet,
    ended: JoinHandle<Result<(), Fault>>,
}

impl Rig {
    /// Follows `globs` under the log directory with `options`.
    fn new(globs: &[&str], mut options: Value) -> Rig {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("logs")).unwrap();
        let path: Vec<String> =
            globs.iter().map(|g| root.path().join("logs").join(g).display().to_string()).collect();
        options["path"] = json!(path);
        for (key, value) in [("poll_interval", json!("20ms")), ("rotate_wait", json!("200ms"))] {
            options.as_object_mut().unwrap().entry(key).or_insert(value);
        }
        Rig { root, options }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.root.path().join("logs").join(name)
    }

    /// The name of the source's checkpoints.
    fn ledger(&self) -> String {
        let mut globs: Vec<String> =
            self.options["path"].as_array().unwrap().iter().map(ToString::to_string).collect();
        globs.sort();
        let hash = crate::tail::identity::Fingerprint::of(globs.join("\n").as_bytes()).hash;
        format!("test.file.{hash:016x}")
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(name))
            .unwrap()
            .write_all(text.as_ref())
            .unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.log(from), self.log(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.log(name)).unwrap();
    }

    fn cx(&self) -> TaskCx {
        testing::task_cx(ComponentKind::Source, "file", &self.state())
    }

    async fn start(&self) -> Running {
        self.start_as::<File>(self.cx()).await
    }

    async fn start_as<T: Component + Source>(&self, cx: TaskCx) -> Running {
        self.start_into::<T>(cx, testing::queue()).await
    }

    async fn start_into<T: Component + Source>(
        &self,
        cx: TaskCx,
        (queue, inlet): (Arc<Queue>, Inlet),
    ) -> Running {
        let mut source: T = testing::build(ComponentKind::Source, self.options.clone()).unwrap();
        let branches = vec![Branch { chain: None, queue }];
        let intake = Intake::new(None, Chain::default(), branches, Arc::new(Meter::default()));
        let outlet = Outlet::new(Arc::new(intake), cx.meter.clone());
        let (shutdown, meter, health) = (cx.shutdown.clone(), cx.meter.clone(), cx.health.clone());
        let ended = task::spawn(async move { source.run(&outlet, &cx).await });
        tokio::time::timeout(Duration::from_secs(5), health.started()).await.ok();
        Running { shutdown, meter, inlet, ended }
    }
}

impl Running {
    /// The next `enough` rows, and any that come within a little while after them.
    async fn lines(&mut self, enough: usize) -> Vec<String> {
        let mut lines = testing::wait_lines(&mut self.inlet, enough).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        lines.extend(testing::take_lines(&mut self.inlet));
        lines.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect()
    }

    /// Whatever comes within `wait`.
    async fn during(&mut self, wait: Duration) -> Vec<String> {
        tokio::time::sleep(wait).await;
        self.lines(0).await
    }

    /// Stops in order: the source returns, then what waits is delivered.
    async fn stop(mut self) -> Vec<String> {
        self.shutdown.drain();
        self.ended.await.unwrap().unwrap();
        testing::take_lines(&mut self.inlet).iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect()
    }

    /// Stops with the source's receipts lost, as after an abort.
    async fn abort(self) {
        self.shutdown.abort();
        self.ended.await.unwrap().unwrap();
        drop(self.inlet);
    }
}

fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("line {i}\n")).collect()
}

fn expected(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("line {i}")).collect()
}
