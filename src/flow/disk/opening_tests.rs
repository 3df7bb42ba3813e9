//! Buffers that cannot be opened at once: what keeps them from it for good is moved out of the way and named, what may
//! pass is waited for, and an end does not wait where nothing is left to do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::model_tests::Model;
use super::passing_tests::{Life, options, pause};
use super::positions::POSITION_FILE;
use super::recovery::Tries;
use super::stage::{DiskBuffer, Stage};
use super::store::segment_path;
use super::trouble::READS_MAX;
use super::weather_tests::{Act, Weather, away, no_position};
use super::{DiskFull, Store};
use crate::base::clock;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::batch::Batch;
use crate::flow::{Meter, Reason};

/// The first row of its last segment.
const LAST: u64 = 180;

/// A disk with the buffer of a run that was killed, of which the last ten batches are behind the known positions if
/// `late`.
async fn left_behind(late: bool) -> Weather {
    let disk = Weather::default();
    let life = Life::on(&disk, options(DiskFull::Block)).await.unwrap();
    for n in 0..200 {
        if late && n == 190 {
            pause(500).await;
            disk.turns(no_position);
        }
        life.push(n).await;
        pause(5).await;
    }
    pause(500).await;
    let (counts, _) = life.kill().await;
    disk.clears_up();
    assert_eq!(counts.stored_events, 600);
    assert!(disk.segments().last().unwrap().contains(&LAST.to_string()), "{:?}", disk.segments());
    disk
}

async fn deliver_all(life: &mut Life) {
    for _ in 0..100 {
        life.deliver_all();
        pause(50).await;
    }
}

fn first_unreadable(act: Act, name: &str) -> Option<Errno> {
    (act == Act::Read && name == "00000000000000000000.seg").then_some(Errno::IO)
}

fn one_is_bad_and_the_next_has_no_descriptor(act: Act, name: &str) -> Option<Errno> {
    let second = act == Act::Open && name.ends_with("0.seg") && name > "00000000000000000000.seg";
    first_unreadable(act, name).or(second.then_some(Errno::MFILE))
}

#[tokio::test(start_paused = true)]
async fn a_file_that_could_not_be_read_once_stays_however_long_the_disk_was_away_before() {
    let disk = left_behind(false).await;
    disk.turns(away);
    let weather = disk.clone();
    let changes = task::spawn(async move {
        pause(60_000).await;
        weather.turns(first_unreadable);
        pause(6_000).await;
        weather.clears_up();
    });
    let mut life =
        Life::within(Duration::from_secs(90), &disk, options(DiskFull::Block)).await.expect("open");
    changes.await.unwrap();
    deliver_all(&mut life).await;
    assert_eq!(life.counts().delivered_events, 600, "{:?}", life.counts());
    life.kill().await;
}

fn no_known_position(act: Act, name: &str) -> Option<Errno> {
    (act == Act::Read && name == POSITION_FILE).then_some(Errno::IO)
}

#[tokio::test(start_paused = true)]
async fn positions_that_cannot_be_read_do_not_keep_a_buffer_from_opening() {
    let disk = left_behind(false).await;
    disk.turns(no_known_position);
    let opened = Life::within(Duration::from_secs(60), &disk, options(DiskFull::Block)).await;
    let mut life = opened.expect("it opens");
    deliver_all(&mut life).await;
    let counts = life.counts();
    assert!(counts.delivered_events == 600 && counts.queued_events == 0, "{counts:?}");
    assert!(life.state() == "ok" && disk.has("position.damaged"));
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_moved_aside_is_named_though_the_try_failed() {
    let disk = left_behind(false).await;
    disk.turns(one_is_bad_and_the_next_has_no_descriptor);
    let mut tries = Tries::default();
    let limits = options(DiskFull::Block).limits;
    for _ in 0..=READS_MAX {
        assert!(Store::open_trying(Arc::new(disk.clone()), Path::new("/b"), limits, &mut tries).is_err());
    }
    assert!(disk.has("00000000000000000000.seg.damaged"));
    assert!(tries.notes.len() == 1 && tries.notes[0].contains("0.seg.damaged"), "{:?}", tries.notes);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_read_does_not_keep_a_buffer_from_opening() {
    let disk = left_behind(true).await;
    disk.model.unreadable(&segment_path(Path::new("/b"), LAST), 1_000);
    let opened = Life::within(Duration::from_secs(60), &disk, options(DiskFull::Block)).await;
    let mut life = opened.expect("it opens");
    life.push(1_000).await;
    deliver_all(&mut life).await;
    let (counts, status) = (life.counts(), life.status.snapshot());
    assert!(counts.balances() && counts.queued_events == 0 && life.state() == "ok", "{counts:?}");
    assert_eq!(counts.delivered_events, LAST * 3 + 3);
    // The positions know of these; what came after had not been told to be safe by what they know.
    assert_eq!(counts.dropped(Reason::BufferFault), 30, "{counts:?}");
    assert!(status.damaged == 1 && disk.has("00000000000000000180.seg.damaged"), "{status:?}");
    life.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_waits_for_a_disk_that_is_away_only_where_rows_do() {
    for (rows, fails) in [(false, false), (true, false), (false, true)] {
        let disk = Weather::default();
        disk.turns(away);
        let (meter, shutdown) = (Arc::new(Meter::default()), Shutdown::new());
        let storage = Arc::new(disk.clone());
        let (front, buffer, mut inlet) = DiskBuffer::on(storage, options(DiskFull::Block), meter.clone());
        let (tell, ends, gone) = (oneshot::channel().0, shutdown.clone(), CancellationToken::new());
        let sink = gone.clone();
        let stage = task::spawn(async move {
            if let Some(stage) = Stage::open(buffer, "/b".into(), "t".into(), ends, sink, tell).await {
                stage.run().await;
            }
        });
        pause(1_000).await;
        if rows {
            front.push(Batch::from_lines("t", ["waits"])).await;
        }
        front.close();
        pause(20_000).await;
        assert!(
            !stage.is_finished(),
            "sources that have ended are no hurry: it may hold rows of an earlier run"
        );
        if fails {
            // For nobody.
            gone.cancel();
            pause(6_000).await;
            assert!(stage.is_finished());
            continue;
        }
        shutdown.drain();
        pause(1_000).await;
        assert_eq!(stage.is_finished(), !rows);
        if rows {
            disk.clears_up();
            inlet.recv().await.unwrap().delivered();
        }
        assert!(inlet.recv().await.is_none());
        stage.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_take_no_longer_than_the_sink_does() {
    let mut life = Life::on(&Model::default(), options(DiskFull::Block)).await.unwrap();
    life.push(0).await;
    let lease = life.next().await;
    pause(500).await;
    assert_eq!(life.counts().stored_events, 3, "it is a record");
    let asked = clock::now();
    life.shutdown.abort();
    pause(20).await;
    lease.delivered();
    let inlet = life.inlet.take();
    life.stage.await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
    drop(inlet);
    assert_eq!(life.meter.snapshot().delivered_events, 3);
}
