//! The `file` sink against real directories.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::base::task;
use crate::batch::{Batch, BatchBuilder, Origin, Receipt, Timestamp};
use crate::config::ComponentKind;
use crate::flow::{Fault, Queue, ReopenSignal, Sink, TaskCx};
use crate::sinks::file::FileSink;
use crate::testing;

struct Running {
    queue: Arc<Queue>,
    cx: TaskCx,
    done: tokio::task::JoinHandle<Result<(), Fault>>,
}

fn start(options: serde_json::Value) -> Running {
    let mut sink = testing::build::<FileSink>(ComponentKind::Sink, options).unwrap();
    let (queue, mut inlet) = testing::queue();
    let cx = testing::task_cx(ComponentKind::Sink, "file", Path::new("/nonexistent"));
    let task_cx = cx.clone();
    let done = task::spawn(async move { sink.run(&mut inlet, &task_cx).await });
    Running { queue, cx, done }
}

impl Running {
    async fn finish(self) {
        self.queue.close();
        self.done.await.unwrap().unwrap();
        let counts = self.queue.meter().snapshot();
        assert!(counts.balances() && counts.queued_events == 0, "{counts:?}");
    }
}

async fn write(options: serde_json::Value, batches: Vec<Batch>) {
    let running = start(options);
    for batch in batches {
        running.queue.push(batch).await;
    }
    running.finish().await;
}

fn files(dir: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let read = |e: std::fs::DirEntry| {
        let name = e.file_name().into_string().unwrap();
        (name, String::from_utf8_lossy(&std::fs::read(e.path()).unwrap()).into_owned())
    };
    entries.filter(|e| e.path().is_file()).map(read).collect()
}

async fn until(what: &str, mut there: impl FnMut() -> bool) {
    for _ in 0..500 {
        if there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited ten seconds in vain: {what}");
}

#[tokio::test]
async fn bytes_arrive_untouched_and_runs_append() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/dir/out.log");
    for rows in [[&b"a\r"[..], b"", b"\xff\x00\x1b[2J"], [b"b", b"c", b"d"]] {
        write(json!({ "path": path, "fsync": "always" }), vec![Batch::from_lines("t", rows)]).await;
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"a\r\n\n\xff\x00\x1b[2J\nb\nc\nd\n");
}

#[tokio::test]
async fn rotation_cuts_between_lines_and_loses_none() {
    for format in ["raw", "json"] {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..2000).map(|i| format!("line {i:04} {}", "x".repeat(i % 50))).collect();
        let batches = lines.chunks(300).map(|rows| Batch::from_lines("t", rows)).collect();
        let options = json!({ "path": dir.path().join("out.log"),
            "rotate": { "max_size": 4096 }, "format": { "type": format } });
        write(options, batches).await;
        let files = files(dir.path());
        assert!(files.len() > 15, "{}", files.len());
        assert!(files.values().all(|text| text.len() <= 4096 && text.ends_with('\n')));
        // Names sort by age; the file itself is the newest.
        let (current, rotated): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| *name == "out.log");
        let all: String = rotated.iter().chain(&current).map(|(_, text)| text.as_str()).collect();
        let found: Vec<&str> = all.lines().collect();
        assert_eq!(found.len(), lines.len());
        assert!(found.iter().zip(&lines).all(|(found, line)| found.contains(line.as_str())), "in order");
    }
}

#[tokio::test]
async fn a_file_that_somebody_else_rotated_a_moment_ago_is_left_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o");
    let running = start(json!({ "path": path, "rotate": { "max_size": 1024 } }));
    running.queue.push(Batch::from_lines("t", ["a".repeat(900)])).await;
    until("written", || std::fs::metadata(&path).is_ok_and(|m| m.len() == 901)).await;
    std::fs::rename(&path, dir.path().join("theirs")).unwrap();
    running.queue.push(Batch::from_lines("t", ["b".repeat(900)])).await;
    until("written", || std::fs::metadata(&path).is_ok_and(|m| m.len() == 901)).await;
    running.finish().await;
    assert_eq!(files(dir.path()).into_keys().collect::<Vec<_>>(), ["o", "theirs"]);
}

#[tokio::test]
async fn a_line_larger_than_a_file_has_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let rows = ["a".repeat(10), "b".repeat(5000), "c".repeat(10)];
    let options = json!({ "path": dir.path().join("o"), "rotate": { "max_size": 1024 } });
    write(options, vec![Batch::from_lines("t", &rows)]).await;
    let mut texts: Vec<String> = files(dir.path()).into_values().collect();
    texts.sort();
    assert_eq!(texts, rows.map(|row| format!("{row}\n")));
}

#[tokio::test]
async fn retention_and_compression_follow_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..400).map(|i| format!("line {i:04} {}", "x".repeat(90))).collect();
    let options = json!({ "path": dir.path().join("o.log"),
        "rotate": { "max_size": 2048, "keep": 3, "compress": "gzip" } });
    write(options, vec![Batch::from_lines("t", &rows)]).await;
    let names: Vec<String> = files(dir.path()).into_keys().collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.iter().filter(|n| n.ends_with(".gz")).count() == 3, "{names:?}");
}

#[tokio::test]
async fn rows_find_their_files_whatever_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let rows: Vec<String> = (0..600)
        .map(|i| match i % 3 {
            0 => format!("user=u{} n={i}", i % 90),
            1 => format!("user=\"../../escape{}\" n={i}", i % 7),
            _ => format!("no user n={i}"),
        })
        .collect();
    let mut builder = BatchBuilder::new(Arc::new(Origin::new("t", "../origin")));
    rows.iter().for_each(|row| builder.push(row.as_bytes()));
    builder.received(Timestamp(1_795_230_000_000_000_000));
    let batch = builder.finish(Receipt::none());
    let options = json!({ "path": format!("{}/{{field:user}}.log", root.display()), "max_open_files": 4 });
    write(options, vec![batch]).await;
    assert!(files(dir.path()).is_empty(), "nothing beside the root");
    let files = files(&root);
    let total: usize = files.values().map(|text| text.lines().count()).sum();
    assert_eq!((total, files["none.log"].lines().count(), files["u30.log"].lines().count()), (600, 200, 7));
    assert!(files.contains_key("_._.._escape1.log"), "{files:?}");
}

#[tokio::test]
async fn reopens_on_the_signal_and_when_the_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.log");
    let running = start(json!({ "path": path }));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    running.queue.push(Batch::from_lines("t", ["one"])).await;
    until("the first line", || read(&path) == "one\n").await;
    let aside = dir.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    running.cx.shared.get::<ReopenSignal>().request();
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.queue.push(Batch::from_lines("t", ["two"])).await;
    until("the reopened file", || read(&path) == "two\n").await;
    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    running.queue.push(Batch::from_lines("t", ["three"])).await;
    until("the file made again", || read(&path) == "three\n").await;
    assert_eq!(read(&aside), "one\n");
    running.finish().await;
}

#[tokio::test]
async fn a_path_that_cannot_work_is_a_fault_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let running = start(json!({ "path": dir.path().join("file/below.log") }));
    let fault = running.done.await.unwrap().unwrap_err();
    assert!(fault.why().contains("file/below.log: "), "{fault}");
}

#[test]
fn options_are_checked_and_one_path_has_one_writer() {
    let bad = testing::build::<FileSink>(ComponentKind::Sink, json!({ "path": "/l/{who}.log" })).unwrap_err();
    assert!(bad[0].starts_with("invalid path: unknown placeholder {who}, allowed are"), "{bad:?}");
}

/// A small file system of its own, if this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        if !mounted.is_ok_and(|m| m.status.success()) {
            eprintln!("SKIPPED: this test needs the right to mount a tmpfs");
            return None;
        }
        Some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_out_without_loss_or_repetition() {
    let Some(disk) = SmallDisk::mount("256k") else { return };
    let path = disk.0.path().join("o.log");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 150 << 10]).unwrap();
    let lines: Vec<String> = (0..2000).map(|i| format!("line {i:06} {}", "x".repeat(68))).collect();
    let running = start(json!({ "path": path }));
    for rows in lines.chunks(100) {
        running.queue.push(Batch::from_lines("t", rows)).await;
    }
    let health = running.cx.health.clone();
    until("the disk is full", || matches!(health.state(), crate::flow::State::Restarting { .. })).await;
    assert!(running.queue.meter().snapshot().queued_events > 0);
    std::fs::remove_file(&ballast).unwrap();
    running.finish().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().eq(lines.iter().map(String::as_str)), "every line once, in order");
    assert_eq!(health.state(), crate::flow::State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_pauses_before_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount("512k") else { return };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 300 << 10]).unwrap();
    let path = disk.0.path().join("o.log");
    let running = start(json!({ "path": path, "rotate": { "min_disk_free": "256KiB" } }));
    running.queue.push(Batch::from_lines("t", ["waits"])).await;
    let health = running.cx.health.clone();
    until("it pauses", || matches!(health.state(), crate::flow::State::Restarting { .. })).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    std::fs::remove_file(&ballast).unwrap();
    running.finish().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "waits\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_to_make_room_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.log");
    // More than any disk has: it waits for ever.
    let running = start(json!({ "path": path, "rotate": { "min_disk_free": "1000000TiB" } }));
    running.queue.push(Batch::from_lines("t", ["waits"])).await;
    let health = running.cx.health.clone();
    until("it waits", || matches!(health.state(), crate::flow::State::Restarting { .. })).await;
    std::fs::remove_file(&path).unwrap();
    // As long as the old one is held open, its room is not free.
    until("it begins another one", || path.exists()).await;
    running.done.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn as_long_as_one_path_fails_nothing_is_repeated_in_the_others() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("b.log")).unwrap();
    let options = json!({ "path": dir.path().join("{field:t}.log") });
    let mut sink = testing::build::<FileSink>(ComponentKind::Sink, options).unwrap();
    let (queue, mut inlet) = testing::queue();
    let cx = testing::task_cx(ComponentKind::Sink, "file", Path::new("/nonexistent"));
    queue.push(Batch::from_lines("t", ["t=a", "t=b", "t=a"])).await;
    for _ in 0..3 {
        let Err(Fault::Retry { why, .. }) = sink.run(&mut inlet, &cx).await else { panic!("it went on") };
        assert!(why.contains("b.log"), "{why}");
    }
    std::fs::remove_dir(dir.path().join("b.log")).unwrap();
    queue.close();
    sink.run(&mut inlet, &cx).await.unwrap();
    let expected = [("a.log", "t=a\nt=a\n"), ("b.log", "t=b\n")].map(|(n, t)| (n.to_owned(), t.to_owned()));
    assert_eq!(files(dir.path()), BTreeMap::from(expected));
}
