//! Rotation in every form it takes.

use super::*;

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Makes a file look as if it was written some time ago, as compressed files are when they are read.
fn age(path: &std::path::Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(file.metadata().unwrap().modified().unwrap() - Duration::from_secs(10)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rename_is_followed_to_the_end_and_the_new_file_is_read_from_its_start() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await, expected(0..10));
    let mut writer = OpenOptions::new().append(true).open(rig.log("app.log")).unwrap();
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", numbered(20..30));
    // The application still writes to the old one for a while.
    writer.write_all(numbered(10..15).as_bytes()).unwrap();
    let mut lines = weir.lines(15).await;
    lines.sort();
    let mut all = expected(10..15);
    all.extend(expected(20..30));
    assert_eq!(lines, all);
    rig.append("app.log", numbered(30..31));
    assert_eq!(weir.lines(1).await, expected(30..31));
}

#[tokio::test(flavor = "multi_thread")]
async fn rename_to_a_name_that_matches_reads_nothing_twice() {
    let rig = Rig::new(&["app.log*"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await.len(), 10);
    for round in 1..4 {
        for n in (1..round).rev() {
            rig.rename(&format!("app.log.{n}"), &format!("app.log.{}", n + 1));
        }
        rig.rename("app.log", "app.log.1");
        rig.append("app.log", numbered(round * 10..round * 10 + 10));
        assert_eq!(weir.lines(10).await, expected(round * 10..round * 10 + 10));
    }
    rig.append("app.log.3", "late\n");
    assert_eq!(weir.lines(1).await, ["late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copytruncate_starts_again_at_the_beginning() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await.len(), 10);
    fs::copy(rig.log("app.log"), rig.log("copy")).unwrap();
    fs::write(rig.log("app.log"), "").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.append("app.log", "short\n");
    assert_eq!(weir.lines(1).await, ["short"], "truncated and still shorter than the offset");
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_and_refilled_at_once_is_noticed_by_its_first_bytes() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await.len(), 10);
    // Longer than before, in one write: no moment at which it was short is seen.
    fs::write(rig.log("app.log"), numbered(50..80)).unwrap();
    assert_eq!(weir.lines(30).await, expected(50..80));
    fs::write(rig.log("app.log"), numbered(20..50)).unwrap();
    assert_eq!(weir.lines(30).await, expected(20..50), "of the same size");
}

#[tokio::test(flavor = "multi_thread")]
async fn copytruncate_that_leaves_a_hole_skips_its_zeros() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..1000));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(1000).await.len(), 1000);
    let size = fs::metadata(rig.log("app.log")).unwrap().len();
    for (round, hole) in [(0, size), (1, size + 100_000)] {
        let file = OpenOptions::new().write(true).open(rig.log("app.log")).unwrap();
        file.set_len(0).unwrap();
        // A writer that does not append goes on at its old place.
        std::os::unix::fs::FileExt::write_all_at(&file, numbered(round * 5..round * 5 + 5).as_bytes(), hole)
            .unwrap();
        assert_eq!(weir.lines(5).await, expected(round * 5..round * 5 + 5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_file_still_held_open_is_read_to_its_end() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..1));
    let mut writer = OpenOptions::new().append(true).open(rig.log("app.log")).unwrap();
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(1).await.len(), 1);
    rig.remove("app.log");
    for i in 1..6 {
        tokio::time::sleep(Duration::from_millis(80)).await;
        writer.write_all(numbered(i..i + 1).as_bytes()).unwrap();
    }
    writer.write_all(b"last words without a newline").unwrap();
    let mut lines = weir.lines(6).await;
    lines.extend(weir.during(Duration::from_millis(300)).await);
    let mut all = expected(1..6);
    all.push("last words without a newline".to_owned());
    assert_eq!(lines, all, "the partial line comes when the wait is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn symlink_retargeted_reads_the_new_target_from_its_start() {
    let rig = Rig::new(&["current"], json!({}));
    rig.append("one", numbered(0..5));
    std::os::unix::fs::symlink(rig.log("one"), rig.log("current")).unwrap();
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(5).await, expected(0..5));
    rig.append("one", numbered(5..7));
    assert_eq!(weir.lines(2).await, expected(5..7), "growth behind a link is noticed");
    rig.append("two", numbered(10..12));
    std::os::unix::fs::symlink(rig.log("two"), rig.log("next")).unwrap();
    rig.rename("next", "current");
    assert_eq!(weir.lines(2).await, expected(10..12));
}

#[tokio::test(flavor = "multi_thread")]
async fn inode_reused_by_a_new_file_is_a_new_file() {
    let rig = Rig::new(&["*.log"], json!({}));
    rig.append("a.log", numbered(0..5));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(5).await.len(), 5);
    weir.stop().await;
    // The same inode with other content, as a reused one would be: checkpoint and file disagree about the start.
    fs::write(rig.log("a.log"), numbered(70..90)).unwrap();
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(20).await, expected(70..90));
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_file_gzipped_and_matched_again_is_not_read_again() {
    let rig = Rig::new(&["app.log*"], json!({}));
    rig.append("app.log", numbered(0..200));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(200).await.len(), 200);
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", numbered(500..501));
    assert_eq!(weir.lines(1).await, expected(500..501));
    fs::write(rig.log("app.log.1.gz"), gz(&numbered(0..200))).unwrap();
    age(&rig.log("app.log.1.gz"));
    rig.remove("app.log.1");
    assert_eq!(weir.during(Duration::from_millis(600)).await, [""; 0]);
    rig.append("app.log", numbered(501..502));
    assert_eq!(weir.lines(1).await, expected(501..502));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_read_before_compression_is_read_from_the_compressed_file() {
    let rig = Rig::new(&["app.log*"], json!({}));
    rig.append("app.log", numbered(0..200));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(200).await.len(), 200);
    assert_eq!(weir.stop().await.len(), 0);
    rig.remove("app.log");
    fs::write(rig.log("app.log.1.gz"), gz(&numbered(0..250))).unwrap();
    age(&rig.log("app.log.1.gz"));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(50).await, expected(200..250));
    weir.stop().await;
    let mut weir = rig.start().await;
    assert_eq!(weir.during(Duration::from_millis(200)).await, [""; 0], "and once only");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_of_a_gzip_are_read_once_and_so_is_zstd() {
    let rig = Rig::new(&["*.gz", "*.zst"], json!({}));
    let mut members = gz(&numbered(0..100));
    members.extend(gz(&numbered(100..200)));
    fs::write(rig.log("a.gz"), &members).unwrap();
    age(&rig.log("a.gz"));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(200).await, expected(0..200));
    let frames = zstd::encode_all(numbered(200..90_000).as_bytes(), 1).unwrap();
    fs::write(rig.log("b.zst"), frames).unwrap();
    age(&rig.log("b.zst"));
    assert_eq!(weir.lines(89_800).await, expected(200..90_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_gzip_gives_what_is_there_once_and_the_rest_when_it_is_whole() {
    let rig = Rig::new(&["*.gz"], json!({}));
    let whole = gz(&(0..60_000).map(|i| format!("line {i} {}\n", i * 7919 % 10_007)).collect::<String>());
    fs::write(rig.log("a.gz"), &whole[..whole.len() / 2]).unwrap();
    age(&rig.log("a.gz"));
    let mut weir = rig.start().await;
    while weir.meter.snapshot().errors == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = weir.lines(0).await;
    rig.append("a.gz", &whole[whole.len() / 2..]);
    age(&rig.log("a.gz"));
    let mut lines = before;
    lines.extend(weir.lines(60_000 - lines.len()).await);
    assert_eq!(lines.len(), 60_000);
    assert!(lines.iter().enumerate().all(|(i, l)| l.starts_with(&format!("line {i} "))));
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_twice_before_anybody_looked_loses_none() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    // Neither a rotated file nor to be touched.
    rig.append("app.log.notes", "private\n");
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await.len(), 10);
    for n in 1..6 {
        rig.append("app.log", numbered(n * 10..n * 10 + 10));
        rig.rename("app.log", &format!("app.log.{n}"));
    }
    rig.append("app.log", numbered(60..61));
    let mut lines = weir.lines(51).await;
    // Files of one tick of the file system's clock have no order.
    lines.sort();
    assert_eq!(lines, expected(10..61));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_came_and_went_some_time_after_the_one_before_it_left_is_found() {
    let rig = Rig::new(&["app.log"], json!({ "rotate_wait": "5s" }));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await.len(), 10);
    rig.rename("app.log", "app.log.1");
    for other in ["x", "y", "z"] {
        // Looks at a path that is still empty.
        tokio::time::sleep(Duration::from_millis(60)).await;
        rig.append(other, "");
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    rig.append("app.log", numbered(10..20));
    rig.rename("app.log", "app.log.2");
    assert_eq!(weir.lines(10).await, expected(10..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_exchange_their_names_do_not_wait_for_each_other() {
    let rig = Rig::new(&["*.log"], json!({}));
    rig.append("a.log", numbered(0..1));
    rig.append("b.log", numbered(1..2));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(2).await.len(), 2);
    rig.rename("a.log", "c");
    rig.rename("b.log", "a.log");
    rig.rename("c", "b.log");
    rig.append("a.log", numbered(2..3));
    rig.append("b.log", numbered(3..4));
    let mut lines = weir.lines(2).await;
    lines.sort();
    assert_eq!(lines, expected(2..4));
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copytruncate_and_compression_together_read_nothing_twice() {
    let rig = Rig::new(&["app.log*"], json!({ "exclude": "app.log.1" }));
    rig.append("app.log", numbered(0..200));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(200).await.len(), 200);
    fs::copy(rig.log("app.log"), rig.log("app.log.1")).unwrap();
    fs::write(rig.log("app.log"), "").unwrap();
    rig.append("app.log", "next\n");
    assert_eq!(weir.lines(1).await, ["next"]);
    fs::write(rig.log("app.log.1.gz"), gz(&numbered(0..200))).unwrap();
    age(&rig.log("app.log.1.gz"));
    rig.remove("app.log.1");
    assert_eq!(weir.during(Duration::from_millis(500)).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_and_a_link_to_itself_in_its_place_it_is_read_to_its_end() {
    let rig = Rig::new(&["app.log"], json!({}));
    rig.append("app.log", numbered(0..10));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10).await, expected(0..10));
    fs::hard_link(rig.log("app.log"), rig.log("elsewhere")).unwrap();
    std::os::unix::fs::symlink("app.log", rig.log("loop")).unwrap();
    // At no moment is nothing there.
    rig.rename("loop", "app.log");
    rig.append("elsewhere", numbered(10..15));
    assert_eq!(weir.lines(5).await, expected(10..15));
    let followed = || weir.meter.lag().unwrap().files;
    for _ in 0..1000 {
        if followed() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(followed(), 0, "it is gone");
    weir.stop().await;
}
