//! Which files are read, and how soon.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn new_files_and_growth_are_noticed_within_a_second() {
    let rig = Rig::new(&["**/*.log"], json!({ "poll_interval": "10s", "exclude": ["**/skip/**", "no.log"] }));
    let mut weir = rig.start().await;
    for (i, name) in ["a.log", "deep/er/b.log", "skip/c.log", "no.log", "d.txt"].iter().enumerate() {
        fs::create_dir_all(rig.log(name).parent().unwrap()).unwrap();
        rig.append(name, numbered(i..i + 1));
    }
    let start = std::time::Duration::from_millis(950);
    let lines = tokio::time::timeout(start, testing::wait_lines(&mut weir.inlet, 2)).await.unwrap();
    assert_eq!(lines.len(), 2);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    rig.append("deep/er/b.log", "more\n");
    let lines = tokio::time::timeout(start, testing::wait_lines(&mut weir.inlet, 1)).await.unwrap();
    assert_eq!(lines, [b"more"]);
    assert_eq!(weir.stop().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn start_at_end_reads_new_lines_whole_and_later_files_from_the_beginning() {
    let rig = Rig::new(&["*.log"], json!({ "start_at": "end" }));
    rig.append("a.log", "old\nhalf of a li");
    let mut weir = rig.start().await;
    rig.append("a.log", "ne\n");
    rig.append("b.log", "first\nsecond\n");
    let mut lines = weir.lines(3).await;
    lines.sort();
    assert_eq!(lines, ["first", "half of a line", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_files_with_the_same_first_lines_are_two() {
    let rig = Rig::new(&["*.log"], json!({}));
    rig.append("a.log", numbered(0..100));
    rig.append("b.log", numbered(0..100));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(200).await.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_empty_files_and_a_thousand_small_beside_a_huge_one() {
    let rig = Rig::new(&["*.log"], json!({}));
    (0..300).for_each(|i| rig.append(&format!("empty{i}.log"), ""));
    let row = "x".repeat(99) + "\n";
    rig.append("a-huge.log", row.repeat(300_000));
    (0..1000).for_each(|i| rig.append(&format!("small{i}.log"), format!("small {i}\n")));
    let mut weir = rig.start().await;
    let (mut small, mut huge_when_done, mut huge) = (0, 0, 0);
    while huge < 300_000 || small < 1000 {
        let lease = tokio::time::timeout(Duration::from_secs(20), weir.inlet.recv()).await.unwrap().unwrap();
        for (_, line) in lease.batch().lines() {
            if line.starts_with(b"small") {
                small += 1;
                huge_when_done = huge;
            } else {
                huge += 1;
            }
        }
        lease.delivered();
    }
    assert!(huge_when_done < 100_000, "small files waited for {huge_when_done} rows of the huge one");
    rig.append("empty7.log", "no longer\n");
    assert_eq!(weir.lines(1).await, ["no longer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_is_reported_once_and_read_when_it_can_be() {
    let rig = Rig::new(&["a.log"], json!({}));
    // A regular file whose first byte nobody may read, not even root.
    std::os::unix::fs::symlink("/proc/self/mem", rig.log("a.log")).unwrap();
    let mut weir = rig.start().await;
    assert_eq!(weir.during(Duration::from_millis(2000)).await, [""; 0]);
    assert_eq!(weir.meter.snapshot().errors, 1);
    rig.append("b", "now\n");
    std::os::unix::fs::symlink(rig.log("b"), rig.log("c")).unwrap();
    rig.rename("c", "a.log");
    assert_eq!(weir.lines(1).await, ["now"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_files_are_left_alone_but_their_new_lines_are_read() {
    let rig = Rig::new(&["*.log"], json!({ "ignore_older": "1h" }));
    rig.append("a.log", "ancient\n");
    let file = OpenOptions::new().write(true).open(rig.log("a.log")).unwrap();
    file.set_modified(file.metadata().unwrap().modified().unwrap() - Duration::from_secs(7200)).unwrap();
    rig.append("b.log", "fresh\n");
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(1).await, ["fresh"]);
    rig.append("a.log", "revived\n");
    assert_eq!(weir.lines(1).await, ["revived"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_required_and_its_streams_carry_their_paths() {
    let mut rig = Rig::new(&[], json!({}));
    rig.options["path"] = json!(rig.log("sub").display().to_string());
    rig.options["pattern"] = json!("/^app-\\d+\\.log$/");
    let cx = || testing::task_cx(ComponentKind::Source, "directory", &rig.state());
    let missing = rig.start_as::<Directory>(cx());
    let ended = tokio::time::timeout(Duration::from_secs(8), async { missing.await.ended.await.unwrap() });
    let Err(Fault::Retry { why, .. }) = ended.await.unwrap() else { panic!("no directory") };
    assert!(why.contains("sub"), "{why}");
    fs::create_dir(rig.log("sub")).unwrap();
    rig.append("sub/app-1.log", "one\n");
    rig.append("sub/other.log", "no\n");
    let mut weir = rig.start_as::<Directory>(cx()).await;
    let lease = weir.inlet.recv().await.unwrap();
    assert_eq!(lease.batch().arena().origin().label(), rig.log("sub/app-1.log").display().to_string());
    assert_eq!(lease.batch().line(0), b"one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_and_remade_directory_is_watched_again() {
    let rig = Rig::new(&["sub/*.log"], json!({}));
    fs::create_dir(rig.log("sub")).unwrap();
    let mut weir = rig.start().await;
    for round in 0..3 {
        rig.append("sub/a.log", numbered(round..round + 1));
        assert_eq!(weir.lines(1).await, expected(round..round + 1));
        fs::remove_dir_all(rig.log("sub")).unwrap();
        fs::create_dir(rig.log("sub")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_are_read_once_over_a_restart() {
    let rig = Rig::new(&["**/*.log"], json!({}));
    for i in 0..10_000 {
        if i % 100 == 0 {
            fs::create_dir(rig.log(&format!("{}", i / 100))).unwrap();
        }
        rig.append(&format!("{}/{i}.log", i / 100), numbered(i..i + 1));
    }
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(10_000).await.len(), 10_000);
    weir.stop().await;
    let mut weir = rig.start().await;
    rig.append("0/7.log", "more\n");
    assert_eq!(weir.lines(1).await, ["more"]);
    weir.stop().await;
}
