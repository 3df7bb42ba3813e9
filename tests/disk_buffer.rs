//! Disk buffers of the real binary: acknowledged rows survive `kill -9`, a full or read-only disk degrades by policy
//! and recovers, two runs on one buffer are refused, and the command line sees what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use logweir::base::rng::Rng;
use serde_json::Value;
use support::weir::{Place, Weir};
use support::{eventually, signal, skip};

/// A file into a `file` sink behind a disk buffer. The sink's directory is missing until a test makes it.
const CONFIG: &str = r#"
[[pipelines]]
name = "app"
[[pipelines.sources]]
type = "file"
path = "DIR/in/*.log"
[[pipelines.sinks]]
type = "file"
path = "DIR/out/app.log"
[pipelines.sinks.buffer]
type = "disk"
"#;

const SINK: &str = "app.sink.0.file";

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("line {n:08} {}\n", "w".repeat(100))).collect()
}

fn arrived(place: &Place) -> Vec<u64> {
    let text = String::from_utf8(place.read("out/app.log")).expect("text");
    let number = |line: &str| line.strip_prefix("line ")?.get(..8)?.parse().ok();
    text.split_inclusive('\n').filter(|l| l.ends_with("w\n")).filter_map(number).collect()
}

/// Makes the sink unable to open its file.
fn block_output(place: &Place) {
    fs::remove_dir_all(place.path("out")).ok();
    place.write("out", "a file where the directory should be");
}

fn unblock_output(place: &Place) {
    fs::remove_file(place.path("out")).expect("was blocked");
}

fn buffered(weir: &Weir) -> u64 {
    weir.component("app", SINK)["buffer"]["events"].as_u64().expect("a count")
}

fn wait_buffered(weir: &Weir, events: u64) {
    eventually(&format!("{events} events on disk"), || (buffered(weir) == events).then_some(()));
}

/// The checkpoint has moved past everything: the rows live in the buffer alone.
fn wait_checkpoint() {
    std::thread::sleep(Duration::from_millis(1200));
}

#[test]
fn what_was_acknowledged_survives_kill_nine() {
    let place = Place::new().with("in/a.log", lines(0..5_000));
    block_output(&place);
    let mut weir = place.start(CONFIG);
    weir.wait_listening("/status", 200);
    wait_buffered(&weir, 5_000);
    wait_checkpoint();
    weir.signal("KILL");
    weir.wait();
    // Only the buffer has them now.
    fs::remove_file(place.path("in/a.log")).unwrap();
    unblock_output(&place);
    let mut weir = place.started(CONFIG);
    eventually("all lines", || (arrived(&place).len() == 5_000).then_some(()));
    assert_eq!(arrived(&place), (0..5_000).collect::<Vec<_>>());
    let sink = weir.component("app", SINK);
    assert_eq!((&sink["received"], &sink["buffer"]["recovered"]), (&Value::from(5_000), &Value::from(5_000)));
    weir.signal("TERM");
    assert_eq!(weir.wait(), 0);
}

#[test]
fn kill_nine_at_any_moment_with_the_sink_down_now_and_then() {
    let place = Place::new().with("in/a.log", "");
    let mut rng = Rng::seeded(7);
    let (mut written, mut blocked) = (0, false);
    for _ in 0..12 {
        match (rng.below(3), blocked) {
            (0, false) => {
                // Not the directory: what has arrived stays.
                fs::rename(place.path("out"), place.path("out.kept")).ok();
                place.write("out", "");
                blocked = true;
            }
            (_, true) => {
                unblock_output(&place);
                fs::rename(place.path("out.kept"), place.path("out")).ok();
                blocked = false;
            }
            _ => {}
        }
        let mut weir = place.start(CONFIG);
        for _ in 0..rng.below(30) {
            place.append("in/a.log", lines(written..written + 50));
            written += 50;
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(rng.below(150)));
        weir.signal("KILL");
        weir.wait();
    }
    if blocked {
        unblock_output(&place);
        fs::rename(place.path("out.kept"), place.path("out")).ok();
    }
    let mut weir = place.started(CONFIG);
    let missing = || {
        let seen: BTreeSet<u64> = arrived(&place).into_iter().collect();
        (0..written).filter(|n| !seen.contains(n)).count()
    };
    eventually("every line", || (missing() == 0).then_some(()));
    weir.signal("TERM");
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
}

#[test]
fn sigterm_with_data_in_the_buffer_keeps_it_and_is_no_failure() {
    let place = Place::new().with("in/a.log", lines(0..1_000));
    block_output(&place);
    let config = format!("shutdown_timeout = \"1s\"\n{CONFIG}");
    let mut weir = place.start(&config);
    weir.wait_listening("/status", 200);
    wait_buffered(&weir, 1_000);
    wait_checkpoint();
    weir.signal("TERM");
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
    assert!(weir.errors().contains("1000 events stay in disk buffers"), "{}", weir.errors());
    unblock_output(&place);
    let _weir = place.started(&config);
    eventually("all lines", || (arrived(&place).len() == 1_000).then_some(()));
}

#[test]
fn two_instances_on_one_state_directory_are_refused() {
    let place = Place::new().with("in/a.log", "");
    let mut first = place.started(&CONFIG.replace("DIR/in", "DIR/elsewhere"));
    let second = place.run(&["run", "--server.enabled", "false"]);
    assert_eq!(second.code, 69, "{}", second.stderr);
    assert!(second.stderr.contains("in use by another weir"), "{}", second.stderr);
    first.signal("TERM");
    assert_eq!(first.wait(), 0);
}

#[test]
fn the_command_line_inspects_verifies_and_repairs() {
    let place = Place::new().with("in/a.log", lines(0..3_000));
    block_output(&place);
    let mut weir = place.start(CONFIG);
    weir.wait_listening("/status", 200);
    wait_buffered(&weir, 3_000);
    let busy = place.run(&["buffer", "repair"]);
    assert_eq!(busy.code, 69, "{}", busy.stderr);
    assert!(busy.stderr.contains("a running weir has it"), "{}", busy.stderr);
    wait_checkpoint();
    weir.signal("KILL");
    weir.wait();
    let inspect = place.run(&["buffer", "inspect", "--json"]);
    let seen: Value = serde_json::from_str(&inspect.stdout).unwrap();
    assert_eq!((inspect.code, &seen[0]["waiting_events"]), (0, &Value::from(3_000)), "{}", inspect.stdout);
    let verify = place.run(&["buffer", "verify"]);
    assert_eq!(verify.code, 0, "{}", verify.stdout);
    assert!(verify.stdout.contains("3000 events") && verify.stdout.contains("sound"), "{}", verify.stdout);
    let buffer = place.path("state/buffers/app/file-0");
    let segment = buffer.join(format!("{:020}.seg", 0));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert_eq!(place.run(&["buffer", "verify", buffer.to_str().unwrap()]).code, 1);
    let repair = place.run(&["buffer", "repair"]);
    assert_eq!(repair.code, 0, "{}{}", repair.stdout, repair.stderr);
    assert!(buffer.join(format!("{:020}.seg.damaged", 0)).exists());
    assert_eq!(place.run(&["buffer", "verify"]).code, 0);
    assert_eq!(place.run(&["buffer", "inspect", "nowhere"]).code, 66);
    unblock_output(&place);
    let weir = place.started(CONFIG);
    eventually("the ledger balances", || {
        let sink = weir.component("app", SINK);
        let dropped = sink["dropped"]["buffer_fault"].as_u64()?;
        (sink["delivered"].as_u64()? + dropped == 3_000).then_some(())
    });
}

#[test]
fn an_unknown_version_stops_the_start_and_names_the_file() {
    let place = Place::new().with("in/a.log", lines(0..10));
    block_output(&place);
    let mut weir = place.start(CONFIG);
    weir.wait_listening("/status", 200);
    wait_buffered(&weir, 10);
    weir.signal("KILL");
    weir.wait();
    let segment = place.path("state/buffers/app/file-0").join(format!("{:020}.seg", 0));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8] = 77;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&segment, bytes).unwrap();
    let end = place.run(&["run"]);
    assert_eq!(end.code, 69);
    assert!(end.stderr.contains("version 77") && end.stderr.contains(".seg"), "{}", end.stderr);
    assert!(segment.exists());
}

/// A small file system of its own; `None` without the rights to mount one.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn tmpfs(at: &'a Path, size: &str) -> Option<Mount<'a>> {
        fs::create_dir_all(at).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o"]).arg(format!("size={size}")).arg("tmpfs").arg(at);
        mount.status().is_ok_and(|s| s.success()).then_some(Mount(at))
    }

    fn remount(&self, options: &str) -> bool {
        let remount = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0).status();
        remount.is_ok_and(|s| s.success())
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}

#[test]
fn a_full_disk_makes_block_wait_and_nothing_is_lost() {
    let place = Place::new().with("in/a.log", lines(0..30_000));
    let state = place.path("state/buffers");
    let Some(_mount) = Mount::tmpfs(&state, "1M") else {
        return skip("a_full_disk_makes_block_wait_and_nothing_is_lost", "mounting a tmpfs needs root");
    };
    block_output(&place);
    let mut weir = place.start(CONFIG);
    weir.wait_listening("/status", 200);
    eventually("trouble", || {
        let buffer = weir.component("app", SINK)["buffer"].clone();
        (buffer["state"] == "trouble" && buffer["why"].as_str()?.contains("No space left")).then_some(())
    });
    weir.signal("KILL");
    weir.wait();
    unblock_output(&place);
    let mut weir = place.started(CONFIG);
    eventually("every line", || {
        let seen: BTreeSet<u64> = arrived(&place).into_iter().collect();
        (seen.len() == 30_000).then_some(())
    });
    weir.signal("TERM");
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
}

#[test]
fn a_full_disk_makes_drop_newest_count_and_recovers_by_itself() {
    let place = Place::new().with("in/a.log", lines(0..30_000));
    let state = place.path("state/buffers");
    let Some(mount) = Mount::tmpfs(&state, "1M") else {
        return skip(
            "a_full_disk_makes_drop_newest_count_and_recovers_by_itself",
            "mounting a tmpfs needs root",
        );
    };
    block_output(&place);
    // With more memory, all of it would wait there.
    let config = format!("{CONFIG}when_full = \"drop_newest\"\nmax_memory = \"64KiB\"\n");
    let mut weir = place.start(&config);
    weir.wait_listening("/status", 200);
    let sink = eventually("drops", || {
        let sink = weir.component("app", SINK);
        let dealt = sink["received"] == 30_000 && sink["dropped"]["no_space"].as_u64()? > 1_000;
        dealt.then_some(sink)
    });
    assert_eq!(sink["queued"].as_u64().unwrap() + sink["dropped_total"].as_u64().unwrap(), 30_000, "{sink}");
    assert!(mount.remount("size=64M"));
    std::thread::sleep(Duration::from_secs(6));
    place.append("in/a.log", lines(30_000..31_000));
    eventually("at work again", || (weir.component("app", SINK)["buffer"]["state"] == "ok").then_some(()));
    unblock_output(&place);
    eventually("the new lines", || arrived(&place).contains(&30_999).then_some(()));
    weir.signal("TERM");
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
}

#[test]
fn a_read_only_file_system_delivers_what_is_there_and_recovers() {
    let place = Place::new().with("in/a.log", lines(0..2_000));
    let state = place.path("state/buffers");
    let Some(mount) = Mount::tmpfs(&state, "64M") else {
        return skip(
            "a_read_only_file_system_delivers_what_is_there_and_recovers",
            "mounting a tmpfs needs root",
        );
    };
    block_output(&place);
    let mut weir = place.start(CONFIG);
    weir.wait_listening("/status", 200);
    wait_buffered(&weir, 2_000);
    wait_checkpoint();
    weir.signal("KILL");
    weir.wait();
    assert!(mount.remount("ro"));
    unblock_output(&place);
    place.append("in/a.log", lines(2_000..3_000));
    let mut weir = place.started(CONFIG);
    let told = || weir.component("app", SINK)["buffer"]["why"].as_str().map(str::to_owned);
    let why = eventually("trouble", told);
    assert!(why.contains("Read-only"), "{why}");
    assert!(mount.remount("rw"));
    eventually("every line", || {
        let seen: BTreeSet<u64> = arrived(&place).into_iter().collect();
        (seen.len() == 3_000).then_some(())
    });
    signal(weir.child().id(), "TERM");
    assert_eq!(weir.wait(), 0, "{}", weir.errors());
}
