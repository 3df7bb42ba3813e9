//! What a source says of how far it is behind its files: as they grow, are read, leave, and while nobody takes its rows.

use std::io::Write;

use super::*;
use crate::flow::{Bounds, Lag, WhenFull};

/// Waits until the source says this.
async fn says(running: &Running, expected: (u64, u64, u64)) {
    let (behind_bytes, files, open) = expected;
    let expected = Some(Lag { behind_bytes, files, open });
    for _ in 0..1000 {
        if running.meter.lag() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(running.meter.lag(), expected);
}

#[tokio::test]
async fn what_is_ahead_of_a_file_is_said_until_it_was_taken() {
    let rig = Rig::new(&["*.log", "*.log.gz"], json!({}));
    let mut running = rig.start().await;
    says(&running, (0, 0, 0)).await;
    rig.append("a.log", "one\ntwo");
    running.lines(1).await;
    // A line without its end was not taken.
    says(&running, (3, 1, 1)).await;
    rig.append("a.log", "\n");
    running.lines(1).await;
    says(&running, (0, 1, 1)).await;
    rig.append("b.log", "half");
    says(&running, (4, 2, 2)).await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(numbered(0..1000).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    // Its size, as long as it cannot be read to its end.
    let cut = packed.len() / 2;
    rig.append("c.log.gz", &packed[..cut]);
    says(&running, (4 + cut as u64, 3, 3)).await;
    for _ in 0..1000 {
        if running.meter.snapshot().errors > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(running.meter.snapshot().errors, 1);
    says(&running, (4 + cut as u64, 3, 3)).await;
    rig.append("c.log.gz", &packed[cut..]);
    running.lines(1000).await;
    says(&running, (4, 3, 3)).await;
    // What is shorter begins anew; what left is nobody's.
    fs::write(rig.log("b.log"), "x").unwrap();
    says(&running, (1, 3, 3)).await;
    rig.remove("b.log");
    says(&running, (0, 2, 2)).await;
    rig.remove("a.log");
    rig.remove("c.log.gz");
    says(&running, (0, 0, 0)).await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_file_that_is_removed_is_nobodys() {
    let rig = Rig::new(&["*.gz"], json!({}));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(numbered(0..1000).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    rig.append("a.log.gz", &packed[..packed.len() / 2]);
    let running = rig.start().await;
    while running.meter.snapshot().errors == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    says(&running, (packed.len() as u64 / 2, 1, 1)).await;
    rig.remove("a.log.gz");
    says(&running, (0, 0, 0)).await;
    running.stop().await;
}

#[tokio::test]
async fn while_nobody_takes_rows_it_says_how_much_more_there_is() {
    let rig = Rig::new(&["*.log"], json!({}));
    rig.append("a.log", numbered(0..50_000));
    let bounds = Bounds { events_max: 10, bytes_max: 1 << 20, when_full: WhenFull::Block };
    let queue = Queue::new(bounds, Arc::new(Meter::default()));
    let mut running = rig.start_into::<File>(rig.cx(), (queue.clone(), Inlet::new(queue))).await;
    // It stands still within its first chunk: all behind that is ahead.
    let taken = 256 << 10;
    let size = || fs::metadata(rig.log("a.log")).unwrap().len();
    let line = "line 24000\n".len() as u64;
    let held = async |least: u64| {
        for _ in 0..1000 {
            let behind = running.meter.lag().map_or(0, |lag| lag.behind_bytes);
            if behind > least && (behind..behind + line).contains(&(size() - taken + line - 1)) {
                return behind;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} of {}", running.meter.lag(), size());
    };
    let before = held(0).await;
    rig.append("a.log", numbered(50_000..100_000));
    assert_eq!(held(before).await - before, numbered(50_000..100_000).len() as u64);
    assert_eq!(running.lines(100_000).await, expected(0..100_000));
    says(&running, (0, 1, 1)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_file_of_two_names_is_one_file() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut running = rig.start().await;
    assert_eq!(running.lines(10).await, expected(0..10));
    running.stop().await;
    // Rotated while weir is away, and somebody keeps a second link.
    rig.append("app.log", numbered(10..15));
    rig.rename("app.log", "app.log.1");
    fs::hard_link(rig.log("app.log.1"), rig.log("app.log.2")).unwrap();
    rig.append("app.log", numbered(15..20));
    let mut running = rig.start().await;
    assert_eq!(running.lines(10).await, expected(10..20));
    says(&running, (0, 1, 1)).await;
    running.stop().await;
}
