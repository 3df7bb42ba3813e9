//! The log on a real file system: what a crash, a careless hand or a failing disk leaves behind never keeps a buffer
//! from being opened, and what is lost is counted exactly.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::audit;
use super::format::{Compression, Point};
use super::storage::Disk;
use super::store::{Limits, Losses, Store, segment_path};
use super::{Recovered, Refused};
use crate::batch::Batch;
use crate::flow::component::Fault;

const LIMITS: Limits = Limits { bytes_max: 1 << 20, events_max: None, compression: Compression::None };

fn open_with(dir: &Path, limits: Limits) -> (Store, Recovered) {
    Store::open(Arc::new(Disk), dir, limits).expect("opens")
}

fn open(dir: &Path) -> (Store, Recovered) {
    open_with(dir, LIMITS)
}

/// A batch of ten lines of about 1 KiB.
fn batch(number: u64) -> Batch {
    Batch::from_lines("t", (0..10).map(|row| format!("{number:06}.{row} {}", "y".repeat(1000))))
}

fn append(store: &mut Store, numbers: std::ops::Range<u64>) {
    for number in numbers {
        store.append([&batch(number)], &mut Vec::new()).expect("appended");
    }
}

/// The numbers of the batches that are still there.
fn read(store: &mut Store) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(record) = store.read_next().expect("readable") {
        assert_eq!(record.batch.events(), 10);
        let (_, line) = record.batch.lines().next().expect("ten lines");
        numbers.push(std::str::from_utf8(&line[..6]).expect("digits").parse().expect("a number"));
    }
    numbers
}

fn number_of(path: &Path) -> u64 {
    super::store::segment_number(path.file_name().unwrap().to_str().unwrap()).unwrap()
}

fn filled(dir: &Path, batches: u64) {
    let (mut store, _) = open(dir);
    append(&mut store, 0..batches);
    let ticket = store.begin_sync().expect("something");
    ticket.run().expect("synced");
    store.end_sync(&ticket, true);
    store.persist(true).expect("written");
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .expect("a directory")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[at] ^= 0xFF;
    fs::write(path, bytes).expect("writable");
}

#[test]
fn what_was_appended_is_read_in_order_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 50);
    assert!(segments(dir.path()).len() > 3, "several segments");
    let (mut store, recovered) = open(dir.path());
    assert_eq!((recovered.events, recovered.notes), (500, vec![]));
    let first = store.read_next().unwrap().unwrap();
    assert_eq!(read(&mut store), (1..50).collect::<Vec<_>>());
    store.ack_to(first.end).unwrap();
    store.persist(false).unwrap();
    drop(store);
    assert_eq!(read(&mut open(dir.path()).0), (1..50).collect::<Vec<_>>(), "settled is not delivered again");
}

#[test]
fn files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = dir.path().join("state/buffers/app/null-0");
    filled(&buffer, 2);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&buffer), 0o700);
    assert_eq!(mode(&dir.path().join("state")), 0o700);
    for entry in fs::read_dir(&buffer).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_torn_last_record_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    // Not synced, as a crash finds it.
    fs::remove_file(dir.path().join("position")).unwrap();
    for cut in [1, 30, 5000, 10_000] {
        fs::write(&last, &whole[..whole.len() - cut]).unwrap();
        let (mut store, recovered) = open(dir.path());
        assert!(recovered.cut_bytes > 0);
        assert_eq!(read(&mut store), [0, 1, 2, 3], "cut {cut}");
        append(&mut store, 7..8);
        assert_eq!(read(&mut store), [7], "and goes on behind what is left");
        drop(store);
        assert_eq!(read(&mut open(dir.path()).0), [0, 1, 2, 3, 7]);
        fs::remove_file(dir.path().join("position")).unwrap();
    }
}

#[test]
fn one_corrupt_segment_blocks_nothing_and_costs_only_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 70);
    let found = segments(dir.path());
    // One record's text, another's header, a whole segment's header, and a segment that is all garbage.
    flip(&found[0], 3000);
    flip(&found[1], 64 + 20);
    flip(&found[2], 5);
    let garbage = super::store::segment_number(found[3].file_name().unwrap().to_str().unwrap()).unwrap();
    fs::write(&found[3], vec![0x55; 100_000]).unwrap();
    let (mut store, recovered) = open(dir.path());
    assert_eq!(recovered.events, 700);
    let numbers = read(&mut store);
    let next: u64 = super::store::segment_number(found[4].file_name().unwrap().to_str().unwrap()).unwrap();
    let second = super::store::segment_number(found[1].file_name().unwrap().to_str().unwrap()).unwrap();
    let wanted: Vec<u64> =
        (0..70).filter(|n| ![0, second].contains(n) && !(garbage..next).contains(n)).collect();
    assert_eq!(numbers, wanted);
    let losses = store.take_losses();
    assert_eq!(losses.events, (70 - wanted.len() as u64) * 10, "counted exactly");
    assert_eq!(losses.damaged, 2);
    assert_eq!(store.queued().0, wanted.len() as u64 * 10);
}

#[test]
fn missing_segments_are_counted_and_misnamed_ones_found() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 50);
    let found = segments(dir.path());
    let number =
        |path: &PathBuf| super::store::segment_number(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let (missing, after) = (number(&found[1]), number(&found[2]));
    fs::remove_file(&found[1]).unwrap();
    // Two files under each other's name, and one under a third.
    fs::rename(&found[3], segment_path(dir.path(), 4_000)).unwrap();
    let (mut store, recovered) = open(dir.path());
    assert_eq!(recovered.notes.len(), 1, "{:?}", recovered.notes);
    let wanted: Vec<u64> = (0..50).filter(|n| !(missing..after).contains(n)).collect();
    assert_eq!(read(&mut store), wanted);
    let losses = store.take_losses();
    assert_eq!((losses.events, losses.missing), ((after - missing) * 10, 1));
}

#[test]
fn the_oldest_or_the_newest_segment_may_be_the_one_that_is_missing() {
    for which in [0, usize::MAX] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 50);
        let found = segments(dir.path());
        fs::remove_file(&found[which.min(found.len() - 1)]).unwrap();
        let (mut store, recovered) = open(dir.path());
        assert_eq!(recovered.events, 500, "the positions know");
        let left = read(&mut store).len() as u64;
        assert!((30..50).contains(&left));
        assert_eq!(store.take_losses().events, (50 - left) * 10);
        append(&mut store, 50..51);
        assert_eq!(read(&mut store), [50]);
    }
}

#[test]
fn the_only_segment_survives_its_header() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let only = segments(dir.path()).remove(0);
    flip(&only, 20);
    for _ in 0..2 {
        let (mut store, _) = open(dir.path());
        assert_eq!(read(&mut store), (0..5).collect::<Vec<_>>());
        drop(store);
        fs::remove_file(dir.path().join("position")).unwrap();
    }
}

#[test]
fn an_unknown_version_is_an_error_that_names_the_file_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 50);
    let path = segments(dir.path())[1].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let Err(Fault::Fatal { why }) = Store::open(Arc::new(Disk), dir.path(), LIMITS) else { panic!("opened") };
    assert!(why.contains(path.to_str().unwrap()) && why.contains("version 9"), "{why}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_byte_that_changed_in_a_header_costs_nothing() {
    for byte in 0..64 {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 50);
        flip(&segments(dir.path())[1], byte);
        let (mut store, recovered) = open(dir.path());
        assert!(recovered.notes.iter().any(|n| n.contains("mended")), "{byte}: {:?}", recovered.notes);
        assert_eq!((read(&mut store), store.take_losses().events), ((0..50).collect(), 0), "byte {byte}");
    }
}

#[test]
fn segments_under_each_others_names_are_told_apart() {
    for damaged in [&[][..], &[0], &[1], &[0, 1]] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 50);
        let found = segments(dir.path());
        damaged.iter().for_each(|at: &usize| flip(&found[*at], 20));
        let between = dir.path().join("between");
        for (from, to) in [(&found[0], &between), (&found[1], &found[0]), (&between, &found[1])] {
            fs::rename(from, to).unwrap();
        }
        for _ in 0..2 {
            let (mut store, recovered) = open(dir.path());
            let all: Vec<u64> = (0..50).collect();
            assert_eq!((read(&mut store), store.take_losses().events), (all, 0), "{damaged:?} {recovered:?}");
            assert_eq!(segments(dir.path()), found, "all have their names again");
        }
    }
}

#[test]
fn what_the_policy_dropped_is_not_missing_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    append(&mut store, 0..90);
    let starts: Vec<u64> = segments(dir.path()).iter().map(|path| number_of(path)).collect();
    // Three batches are in the sink's hands; then one of the next segment, when the first is gone.
    for _ in 0..3 {
        store.read_next().unwrap().unwrap();
    }
    let mut dropped = store.drop_oldest().unwrap().unwrap().0;
    assert_eq!(store.read_next().unwrap().unwrap().start.seq, starts[1]);
    dropped += store.drop_oldest().unwrap().unwrap().0;
    dropped += store.drop_oldest().unwrap().unwrap().0;
    assert_eq!(dropped, starts[3] * 10 - 40);
    store.persist(false).unwrap();
    drop(store);
    for at_least_once in 0..2 {
        assert_eq!(audit::report(&Disk, dir.path(), false).unwrap().waiting_events, {
            if at_least_once == 0 { 900 - dropped } else { 900 - starts[3] * 10 }
        });
        let (mut store, recovered) = open(dir.path());
        // What the sink had in hand is lost with the process, and counted; once it was, it is settled.
        let in_hand = if at_least_once == 0 { 40 } else { 0 };
        assert_eq!(recovered.events, 900 - starts[3] * 10 + in_hand);
        assert_eq!(store.take_losses().events, in_hand);
        assert_eq!(read(&mut store), (starts[3]..90).collect::<Vec<_>>());
        assert_eq!(store.take_losses(), Losses::default(), "nothing is missing");
    }
}

#[test]
fn two_on_one_buffer_are_refused_by_pid() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(dir.path());
    let Err(Fault::Fatal { why }) = Store::open(Arc::new(Disk), dir.path(), LIMITS) else { panic!("both") };
    assert!(why.contains("in use") && why.contains(&std::process::id().to_string()), "{why}");
    drop(held);
    open(dir.path());
}

#[test]
fn garbage_in_the_position_file_repeats_and_loses_nothing() {
    for garbage in [&b""[..], b"garbage", &[0; 1024], &[0xFF; 4096]] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 20);
        fs::write(dir.path().join("position"), garbage).unwrap();
        let (mut store, recovered) = open(dir.path());
        assert_eq!(recovered.notes.len(), 1, "{:?}", recovered.notes);
        assert_eq!(read(&mut store), (0..20).collect::<Vec<_>>());
    }
}

#[test]
fn bounds_hold_and_room_comes_back_with_what_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut number = 0;
    let fill = |store: &mut Store, number: &mut u64| {
        while store.append([&batch(*number)], &mut Vec::new()).is_ok() {
            *number += 1;
        }
    };
    fill(&mut store, &mut number);
    assert!(matches!(store.append([&batch(0)], &mut Vec::new()), Err(Refused::Full)));
    let on_disk = || segments(dir.path()).iter().map(|p| fs::metadata(p).unwrap().len()).sum::<u64>();
    assert_eq!(on_disk(), store.disk_bytes());
    assert!(on_disk() <= LIMITS.bytes_max && on_disk() > LIMITS.bytes_max * 8 / 10);
    let before = number;
    let mut last = Point::default();
    for _ in 0..number / 2 {
        last = store.read_next().unwrap().unwrap().end;
    }
    store.settle(before / 2 * 10, before / 2 * 10 * 1009);
    store.ack_to(last).unwrap();
    fill(&mut store, &mut number);
    assert!(number > before + before / 4, "{before} {number}");
    assert!(on_disk() <= LIMITS.bytes_max);
    assert_eq!(store.queued().0, (number - before / 2) * 10);
}

#[test]
fn a_buffer_that_was_full_at_a_crash_is_not_full_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    while store.append([&batch(0)], &mut Vec::new()).is_ok() {}
    drop(store);
    let (mut store, recovered) = open(dir.path());
    assert!(
        recovered.events > 900 && matches!(store.append([&batch(1)], &mut Vec::new()), Err(Refused::Full))
    );
    let mut end = Point::default();
    while let Some(record) = store.read_next().unwrap() {
        end = record.end;
    }
    store.ack_to(end).unwrap();
    store.append([&batch(1)], &mut Vec::new()).expect("everything is settled");
    assert_eq!(read(&mut store), [1]);
}

#[test]
fn one_batch_larger_than_the_buffer_passes_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open_with(dir.path(), Limits { bytes_max: 4096, ..LIMITS });
    append(&mut store, 0..1);
    assert!(matches!(store.append([&batch(1)], &mut Vec::new()), Err(Refused::Full)));
    let record = store.read_next().unwrap().unwrap();
    store.ack_to(record.end).unwrap();
    append(&mut store, 1..2);
    assert_eq!(read(&mut store), [1]);
}

#[test]
fn size_changes_hold_for_a_buffer_that_is_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 80);
    let small = Limits { bytes_max: 200 << 10, ..LIMITS };
    let (mut store, recovered) = open_with(dir.path(), small);
    assert_eq!(recovered.events, 800, "a smaller limit takes nothing away");
    assert!(matches!(store.append([&batch(80)], &mut Vec::new()), Err(Refused::Full)));
    let mut end = Point::default();
    for _ in 0..75 {
        end = store.read_next().unwrap().unwrap().end;
    }
    store.ack_to(end).unwrap();
    append(&mut store, 80..81);
    drop(store);
    let (mut store, _) = open_with(dir.path(), Limits { bytes_max: 4 << 20, ..LIMITS });
    append(&mut store, 81..300);
    let (from, all) = (75, read(&mut store));
    assert_eq!(all, (from..300).collect::<Vec<_>>());
}

#[test]
fn events_are_bounded_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open_with(dir.path(), Limits { events_max: Some(35), ..LIMITS });
    let batches: Vec<Batch> = (0..5).map(batch).collect();
    let mut appended = Vec::new();
    assert!(matches!(store.append(&batches, &mut appended), Err(Refused::Full)));
    assert_eq!((appended.len(), store.queued().0), (3, 30));
}

#[test]
fn the_oldest_segment_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    append(&mut store, 0..50);
    let next = segments(dir.path()).remove(1);
    let kept = number_of(&next);
    let delivered = store.read_next().unwrap().unwrap();
    assert_eq!(delivered.start.seq, 0);
    assert_eq!(store.drop_oldest().unwrap().unwrap().0, (kept - 1) * 10, "one is in the sink's hands");
    assert_eq!(read(&mut store), (kept..50).collect::<Vec<_>>());
    assert_eq!(store.queued().0, (50 - kept + 1) * 10);
}

#[test]
fn compressed_records_mix_with_others() {
    let dir = tempfile::tempdir().unwrap();
    for (at, compression) in [Compression::Zstd, Compression::None, Compression::Lz4].into_iter().enumerate()
    {
        let (mut store, _) = open_with(dir.path(), Limits { compression, ..LIMITS });
        append(&mut store, at as u64 * 10..at as u64 * 10 + 10);
    }
    let (mut store, recovered) = open(dir.path());
    assert_eq!((read(&mut store), recovered.bytes), ((0..30).collect::<Vec<_>>(), 30 * 10 * 1009));
    assert!(store.disk_bytes() < 13 * 10 * 1009, "{}", store.disk_bytes());
}

#[test]
fn repair_keeps_what_is_sound_and_the_damaged_file() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 50);
    let found = segments(dir.path());
    let damaged = {
        flip(&found[1], 3000);
        fs::read(&found[1]).unwrap()
    };
    let before = audit::report(&Disk, dir.path(), true).unwrap();
    assert_eq!((before.is_sound(), before.waiting_events, before.missing.len()), (false, 500, 1));
    let held = open(dir.path());
    let refused = audit::repair(&Disk, dir.path()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    drop(held);
    let moved = audit::repair(&Disk, dir.path()).unwrap();
    assert_eq!(moved.len(), 1);
    assert_eq!(fs::read(&moved[0]).unwrap(), damaged);
    let after = audit::report(&Disk, dir.path(), true).unwrap();
    assert_eq!((after.is_sound(), after.missing, after.set_aside.len()), (true, before.missing, 1));
    let (mut store, _) = open(dir.path());
    assert_eq!((read(&mut store).len(), store.take_losses().events), (49, 10));
}

#[test]
fn repair_of_what_was_settled_costs_nothing_that_was_not() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 20);
    let (mut store, _) = open(dir.path());
    for _ in 0..2 {
        let record = store.read_next().unwrap().unwrap();
        store.ack_to(record.end).unwrap();
    }
    store.persist(true).unwrap();
    drop(store);
    flip(&segments(dir.path())[0], 3000);
    assert_eq!(audit::repair(&Disk, dir.path()).unwrap().len(), 1);
    let (mut store, recovered) = open(dir.path());
    assert_eq!((read(&mut store), recovered.events), ((2..20).collect::<Vec<_>>(), 180));
}
