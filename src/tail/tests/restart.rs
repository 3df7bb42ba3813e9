//! Stops, crashes and what happens meanwhile.

use super::*;
use crate::tail::journal;

#[tokio::test(flavor = "multi_thread")]
async fn orderly_stop_repeats_nothing_and_loses_nothing() {
    let rig = Rig::new(&["app.log"], json!({}));
    for round in 0..5 {
        rig.append("app.log", numbered(round * 100..round * 100 + 100));
        let mut weir = rig.start().await;
        let mut lines = testing::wait_lines(&mut weir.inlet, 1).await.len();
        lines += weir.stop().await.len();
        assert_eq!(lines, 100, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_with_data_in_every_buffer_leaves_checkpoints_at_what_was_delivered() {
    let rig = Rig::new(&["*.log"], json!({}));
    for i in 0..20 {
        rig.append(&format!("{i}.log"), numbered(0..1000));
    }
    let mut weir = rig.start().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    weir.shutdown.drain();
    (&mut weir.ended).await.unwrap().unwrap();
    // The source has returned; the sink delivers half of what waits, the rest is aborted.
    let mut delivered = Vec::new();
    for _ in 0..10 {
        let lease = weir.inlet.recv().await.unwrap();
        delivered.extend(lease.batch().lines().map(|(_, l)| String::from_utf8_lossy(l).into_owned()));
        lease.delivered();
    }
    drop(weir.inlet);
    let mut weir = rig.start().await;
    delivered.extend(weir.lines(20_000 - delivered.len()).await);
    assert_eq!(delivered.len(), 20_000, "each line once");
    let mut counts = std::collections::HashMap::new();
    delivered.into_iter().for_each(|line| *counts.entry(line).or_insert(0) += 1);
    assert!(counts.values().all(|n| *n == 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_batches_are_offered_again_after_a_restart() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..50));
    let weir = rig.start().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    weir.abort().await;
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(50).await, expected(0..50));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_repeats_but_loses_nothing() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..50));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(50).await.len(), 50);
    // Long enough for the periodic write; then the state is taken as `kill -9` would leave it.
    tokio::time::sleep(Duration::from_millis(800)).await;
    rig.append("app.log", numbered(50..60));
    assert_eq!(weir.lines(10).await.len(), 10);
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("checkpoints")).unwrap();
    for entry in fs::read_dir(rig.state().join("checkpoints")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join("checkpoints").join(entry.file_name())).unwrap();
    }
    let cx = testing::task_cx(ComponentKind::Source, "file", copy.path());
    let mut second = rig.start_as::<File>(cx).await;
    let lines = second.lines(0).await;
    assert!(lines.is_empty() || lines == expected(50..60), "{lines:?}");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_while_down_to_a_name_outside_the_glob_is_finished_first() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await.len(), 10);
    weir.stop().await;
    rig.append("app.log", numbered(10..15));
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", numbered(15..20));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await, expected(10..20), "the rest of the old one, then the new one");
    weir.stop().await;
    let mut weir = rig.start().await;
    assert_eq!(weir.during(Duration::from_millis(300)).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_rotations_while_down_lose_none() {
    let rig = Rig::new(&["app.log"], json!({ "start_at": "end" }));
    rig.append("app.log", numbered(0..10));
    // An old one that was there before weir ever ran is not its business.
    rig.append("app.log.9", "ancient\n");
    // Longer than a tick of the clock that stamps files.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut weir = rig.start().await;
    rig.append("app.log", numbered(10..12));
    assert_eq!(weir.lines(2).await, expected(10..12));
    weir.stop().await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    rig.append("app.log", numbered(12..15));
    rig.rename("app.log", "app.log.2");
    tokio::time::sleep(Duration::from_millis(20)).await;
    rig.append("app.log", numbered(15..20));
    rig.rename("app.log", "app.log.1");
    tokio::time::sleep(Duration::from_millis(20)).await;
    rig.append("app.log", numbered(20..25));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(13).await, expected(12..25));
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_appeared_while_down_is_read_from_its_beginning_even_with_start_at_end() {
    let rig = Rig::new(&["*.log"], json!({ "start_at": "end" }));
    rig.append("old.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.during(Duration::from_millis(100)).await, [""; 0]);
    weir.stop().await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    rig.append("new.log", numbered(20..25));
    rig.append("old.log", numbered(10..12));
    let mut weir = rig.start().await;
    let mut lines = weir.lines(7).await;
    lines.sort();
    assert_eq!(lines, [expected(10..12), expected(20..25)].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_state_starts_over_with_a_warning() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    weir.lines(10).await;
    weir.stop().await;
    fs::write(rig.state().join(format!("checkpoints/{}.log", rig.ledger())), b"\0\0garbage").unwrap();
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await, expected(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_instance_on_the_same_state_is_told_who_holds_it() {
    let rig = Rig::new(&["app.log"], json!({}));
    let first = rig.start().await;
    let second = rig.start().await;
    let Err(Fault::Fatal { why }) = second.ended.await.unwrap() else { panic!("two run on one state") };
    assert!(why.contains("checkpoints") && why.contains(&std::process::id().to_string()), "{why}");
    first.stop().await;
    rig.start().await.stop().await;
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(rig.state()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_in_the_same_process_goes_on_behind_what_is_under_way() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let cx = rig.cx();
    let mut first = rig.start_as::<File>(cx.clone()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.shutdown.drain();
    (&mut first.ended).await.unwrap().unwrap();
    rig.append("app.log", numbered(10..15));
    // The sinks still have the first ten lines when a fresh source starts, as after a fault.
    let cx = TaskCx { shutdown: Shutdown::new(), ..cx };
    let mut second = rig.start_as::<File>(cx).await;
    assert_eq!(second.lines(5).await, expected(10..15));
    assert_eq!(testing::take_lines(&mut first.inlet).len(), 10);
    second.stop().await;
    let mut third = rig.start().await;
    assert_eq!(third.during(Duration::from_millis(100)).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_space_for_state_is_survived_and_made_up_for() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let checkpoints = rig.state().join("checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    std::os::unix::fs::symlink("/dev/full", checkpoints.join(format!("{}.new", rig.ledger()))).unwrap();
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await.len(), 10);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!checkpoints.join(format!("{}.log", rig.ledger())).exists());
    fs::remove_file(checkpoints.join(format!("{}.new", rig.ledger()))).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(checkpoints.join(format!("{}.log", rig.ledger())).exists(), "tried again without new lines");
    weir.stop().await;
    let mut weir = rig.start().await;
    assert_eq!(weir.during(Duration::from_millis(100)).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_directory_nothing_is_kept() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    for _ in 0..2 {
        let cx = testing::task_cx(ComponentKind::Source, "file", std::path::Path::new(""));
        let mut weir = rig.start_as::<File>(cx).await;
        assert_eq!(weir.lines(10).await.len(), 10);
        weir.stop().await;
    }
    assert!(!std::path::Path::new("checkpoints").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_batches_are_read_again_while_running_and_nothing_behind_them_counts() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    // What a sink's end or a bug does: the rows leave the queue, and nobody settles them.
    let lease = weir.inlet.recv().await.unwrap();
    drop(lease.forward());
    rig.append("app.log", numbered(10..20));
    let mut lines = weir.lines(20).await;
    lines.sort();
    lines.dedup();
    let mut all = expected(0..20);
    all.sort();
    assert_eq!(lines, all, "without a restart");
    weir.stop().await;
    let mut weir = rig.start().await;
    assert_eq!(weir.during(Duration::from_millis(100)).await, [""; 0], "the checkpoint moved past them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_loses_everything_is_offered_it_once_a_second_and_no_faster() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let weir = rig.start().await;
    // A queue without its consumer loses whatever comes.
    drop(weir.inlet);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let received = weir.meter.snapshot().received_events;
    assert!((10..=40).contains(&received), "{received} rows read");
    weir.shutdown.drain();
    weir.ended.await.unwrap().unwrap();
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await, expected(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_run_that_found_nothing_is_remembered() {
    let rig = Rig::new(&["*.log"], json!({ "start_at": "end" }));
    rig.start().await.stop().await;
    rig.append("new.log", numbered(0..5));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(5).await, expected(0..5), "it appeared while weir was down");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_while_weir_was_there_is_not_taken_for_a_rotation_after_it() {
    let rig = Rig::new(&["app.log"], json!({ "poll_interval": "10s" }));
    rig.append("app.log", numbered(0..5));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(5).await, expected(0..5));
    fs::copy(rig.log("app.log"), rig.log("app.log.bak")).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // This makes weir look again, which no checkpoint records by itself.
    rig.append("other", "x");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    weir.stop().await;
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", numbered(5..6));
    let mut weir = rig.start().await;
    let mut lines = weir.lines(1).await;
    lines.extend(weir.during(Duration::from_millis(300)).await);
    assert_eq!(lines, expected(5..6));
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_during_a_long_absence_goes_on_where_it_was() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await.len(), 10);
    weir.stop().await;
    let mut journal = journal::Journal::open(&rig.state(), &rig.ledger()).unwrap();
    let (mut all, _) = journal.load().unwrap().unwrap();
    let mut records = Vec::new();
    for (id, checkpoint) in &mut all {
        checkpoint.seen -= 30 * 24 * 3600;
        journal::encode(*id, Some(checkpoint), &mut records);
    }
    journal.replace(&records).unwrap();
    drop(journal);
    rig.append("app.log", numbered(10..12));
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", numbered(12..14));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(4).await, expected(10..14));
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_cannot_be_read_now_is_left_as_it_is() {
    let rig = Rig::new(&["app.log"], json!({}));
    let state = rig.state().join(format!("checkpoints/{}.log", rig.ledger()));
    // Reading a directory fails, for root too.
    fs::create_dir_all(&state).unwrap();
    let Err(Fault::Retry { why, .. }) = rig.start().await.ended.await.unwrap() else {
        panic!("it was taken")
    };
    assert!(why.contains("checkpoint") && state.is_dir(), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_taken_over_when_a_source_moves_or_its_globs_change() {
    let mut rig = Rig::new(&["a.log"], json!({}));
    rig.append("a.log", "one\n");
    let mut running = rig.start().await;
    assert_eq!(testing::wait_lines(&mut running.inlet, 1).await, [b"one"]);
    running.stop().await;
    let dir = rig.state().join("checkpoints");
    // As an earlier version named them.
    fs::rename(dir.join(format!("{}.log", rig.ledger())), dir.join("test.source.3.file.log")).unwrap();
    for globs in [&["a.log"][..], &["*.log"], &["b.log", "a.l*"]] {
        let logs = rig.log("");
        rig.options["path"] = json!(globs.iter().map(|g| logs.join(g)).collect::<Vec<_>>());
        rig.append("a.log", "more\n");
        let mut running = rig.start().await;
        assert_eq!(testing::wait_lines(&mut running.inlet, 1).await, [b"more"], "{globs:?}");
        running.stop().await;
        let names = journal::Journal::names(&rig.state());
        assert_eq!(names, [rig.ledger()], "renamed, not copied");
    }
    // What another source of the configuration uses is not taken.
    let cx = rig.cx();
    let owner = rig.ledger();
    cx.shared.get::<crate::tail::CheckpointNames>().set([owner]);
    rig.options["path"] = json!(rig.log("a.log"));
    let mut running = rig.start_as::<File>(cx).await;
    assert_eq!(testing::wait_lines(&mut running.inlet, 4).await.len(), 4);
    running.stop().await;
}
