//! What must not stop, slow down or outgrow a source for good: reads that fail, holes, a disk that is slow to take
//! checkpoints, one row that is never settled, a directory whose mode changes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::base::clock;
use crate::batch::{Outcome, Receipt};
use crate::tail::checkpoint::Ledger;
use crate::tail::engine::Tail;
use crate::tail::identity::{FileId, Fingerprint};
use crate::tail::journal::Checkpoint;
use crate::tail::session::Session;

const ID: FileId = FileId { dev: 1, ino: 1 };

/// A ledger without a disk that knows one file, of which nothing was read.
fn ledger() -> Arc<Ledger> {
    let ledger = Arc::new(Ledger::open(Path::new(""), "t").unwrap());
    let (path, fingerprint) = (Path::new("app.log").into(), Fingerprint::EMPTY);
    ledger.begin(ID, Checkpoint { path, fingerprint, offset: 0, skipping: false, seen: 0 });
    ledger
}

fn checkpoint(ledger: &Ledger) -> u64 {
    ledger.all()[0].1.offset
}

#[test]
fn behind_a_row_that_is_never_settled_nothing_piles_up() {
    let ledger = ledger();
    let stuck = ledger.submit(ID, 1, false);
    (2..10_000).for_each(|end| ledger.submit(ID, end, false).settle(Outcome::Delivered));
    assert!(ledger.noted(ID) <= 2, "{} notes", ledger.noted(ID));
    assert_eq!((checkpoint(&ledger), ledger.find(ID).unwrap().offset), (0, 9_999));
    stuck.settle(Outcome::Delivered);
    assert_eq!((checkpoint(&ledger), ledger.noted(ID)), (9_999, 0));
}

proptest! {
    #[test]
    fn in_whatever_order_rows_are_settled_the_checkpoint_is_before_the_first_that_is_not(
        order in Just((1u64..40).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let ledger = ledger();
        let mut receipts: Vec<Option<Receipt>> = (1..40).map(|end| Some(ledger.submit(ID, end, false))).collect();
        for end in order {
            receipts[end as usize - 1].take().unwrap().settle(Outcome::Delivered);
            let first = receipts.iter().position(Option::is_some).unwrap_or(39);
            prop_assert_eq!(checkpoint(&ledger), first as u64);
            prop_assert_eq!(ledger.find(ID).unwrap().offset, 39);
            let waiting = receipts.iter().flatten().count();
            prop_assert!(ledger.noted(ID) <= 2 * waiting, "{} notes of {} rows", ledger.noted(ID), waiting);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_globs_go_on_behind_what_is_under_way_though_the_disk_has_no_checkpoint_yet() {
    let mut rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    // A disk that is slow to take the first one.
    let checkpoints = rig.state().join("checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    std::os::unix::fs::symlink("/dev/full", checkpoints.join(format!("{}.new", rig.ledger()))).unwrap();
    let cx = rig.cx();
    let mut first = rig.start_as::<File>(cx.clone()).await;
    while first.meter.snapshot().received_events < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.shutdown.drain();
    (&mut first.ended).await.unwrap().unwrap();
    rig.append("app.log", numbered(10..15));
    rig.options["path"] = json!([rig.log("*.log")]);
    let cx = TaskCx { shutdown: Shutdown::new(), ..cx };
    let mut second = rig.start_as::<File>(cx).await;
    assert_eq!(second.lines(5).await, expected(10..15));
    assert_eq!(testing::take_lines(&mut first.inlet).len(), 10);
    second.stop().await;
    let mut third = rig.start().await;
    assert_eq!(third.during(Duration::from_millis(100)).await, [""; 0]);
    third.stop().await;
}

/// Does what is to be done now.
async fn work(tail: &mut Tail<'_>, out: &Outlet) {
    loop {
        tail.look(clock::now());
        let Some(id) = tail.ready.pop_front() else { return };
        tail.turn(id, out).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_failed_is_tried_again_though_the_file_stays_as_it_is() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..3));
    let File(settings) = testing::build(ComponentKind::Source, rig.options.clone()).unwrap();
    let cx = rig.cx();
    let session = Session::open(&cx, &settings.checkpoints, |_| true).unwrap();
    let mut tail = Tail::new(&settings, session, &cx);
    let (out, mut inlet) = testing::pipeline();
    tail.first_scan();
    // A descriptor that does not read, as after a fault of the disk or of a server.
    let fails = OpenOptions::new().write(true).open(rig.log("app.log")).unwrap();
    tail.files.values_mut().for_each(|file| file.file = Some(fails.try_clone().unwrap()));
    work(&mut tail, &out).await;
    assert_eq!((cx.meter.snapshot().errors, testing::take_lines(&mut inlet).len()), (1, 0));
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
        work(&mut tail, &out).await;
    }
    assert_eq!(testing::take_lines(&mut inlet).len(), 3);
    let lag = cx.meter.lag().unwrap();
    assert_eq!((lag.behind_bytes, lag.files, lag.open), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn descriptors_that_were_scarce_once_are_used_again() {
    let rig = Rig::new(&["*.log"], json!({}));
    let names: Vec<String> = (0..8).map(|i| format!("{i}.log")).collect();
    names.iter().for_each(|name| rig.append(name, "one\n"));
    let File(settings) = testing::build(ComponentKind::Source, rig.options.clone()).unwrap();
    let cx = rig.cx();
    let session = Session::open(&cx, &settings.checkpoints, |_| true).unwrap();
    let mut tail = Tail::new(&settings, session, &cx);
    let (out, _inlet) = testing::pipeline();
    let open = || cx.meter.lag().unwrap().open;
    tail.first_scan();
    work(&mut tail, &out).await;
    assert_eq!(open(), 8);
    tail.close_for_others();
    assert_eq!(open(), 4);
    names.iter().for_each(|name| rig.append(name, "two\n"));
    tokio::time::advance(Duration::from_secs(5)).await;
    work(&mut tail, &out).await;
    assert_eq!(open(), 4, "not at once");
    names.iter().for_each(|name| rig.append(name, "three\n"));
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..3 {
        work(&mut tail, &out).await;
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    assert_eq!((open(), cx.meter.lag().unwrap().behind_bytes), (8, 0));
}

#[tokio::test]
async fn a_directory_whose_mode_changes_is_still_watched() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", "");
    let File(settings) = testing::build(ComponentKind::Source, rig.options.clone()).unwrap();
    let cx = rig.cx();
    let session = Session::open(&cx, &settings.checkpoints, |_| true).unwrap();
    let mut tail = Tail::new(&settings, session, &cx);
    tail.first_scan();
    assert!(tail.watch.covers(&rig.log("app.log")));
    fs::set_permissions(rig.log(""), fs::Permissions::from_mode(0o700)).unwrap();
    tokio::time::timeout(Duration::from_secs(10), tail.watch.changed()).await.expect("the system tells");
    tail.look(clock::now());
    assert!(
        tail.watch.covers(&rig.log("app.log")) || tail.scan_wanted,
        "until the next scan nobody would tell"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_takes_turns_with_other_files() {
    let rig = Rig::new(&["*.log"], json!({}));
    rig.append("a.log", "");
    // What `copytruncate` leaves of a large file whose writer does not append.
    OpenOptions::new().write(true).open(rig.log("a.log")).unwrap().set_len(16 << 30).unwrap();
    rig.append("b.log", numbered(0..5));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(5).await, expected(0..5));
    tokio::time::timeout(Duration::from_secs(5), weir.stop()).await.expect("it ends");
}
