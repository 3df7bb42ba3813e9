//! What files hold.

use super::*;

async fn read(name: &str, bytes: &[u8], options: Value, enough: usize) -> Vec<Vec<u8>> {
    let rig = Rig::new(&["*"], options);
    fs::write(rig.log(name), bytes).unwrap();
    let mut weir = rig.start().await;
    let mut lines = testing::wait_lines(&mut weir.inlet, enough).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    lines.extend(testing::take_lines(&mut weir.inlet));
    weir.stop().await;
    lines
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_untouched_nul_invalid_utf8_crlf_and_empty_lines() {
    let lines = read("a", b"a\0b\n\xff\xfe\x80\n\r\n\nc\r\n", json!({}), 5).await;
    assert_eq!(lines, [&b"a\0b"[..], b"\xff\xfe\x80", b"\r", b"", b"c\r"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_become_utf8_and_marks_vanish() {
    let marked = |mark: &[u8], text: Vec<u8>| [mark.to_vec(), text].concat();
    for (bytes, encoding) in [
        (marked(b"\xef\xbb\xbf", "grün\nä€\n".as_bytes().to_vec()), "utf-8"),
        (marked(b"\xff\xfe", utf16("grün\nä€\n", false)), "utf-8"),
        (marked(b"\xfe\xff", utf16("grün\nä€\n", true)), "utf-8"),
        (utf16("grün\nä€\n", false), "utf-16le"),
        (utf16("grün\nä€\n", true), "UTF-16BE"),
        (b"gr\xfcn\n\xe4\x80\n".to_vec(), "latin-1"),
    ] {
        let lines = read("a", &bytes, json!({ "encoding": encoding }), 2).await;
        assert_eq!(lines, ["grün".as_bytes(), "ä€".as_bytes()], "{encoding} {bytes:?}");
    }
    let lines = read("a", b"\x83\x8d\x83O\n\x93\xfa\n", json!({ "encoding": "shift_jis" }), 2).await;
    assert_eq!(lines, ["ログ".as_bytes(), "日".as_bytes()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_encoding_keeps_its_place_over_a_restart() {
    let rig = Rig::new(&["a"], json!({ "encoding": "utf-16le", "max_line_size": "64B" }));
    let text: String = (0..100).map(|i| format!("wörd {i}\n")).collect();
    rig.append("a", [utf16(&text, false), utf16("part", false)].concat());
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(100).await.len(), 100);
    weir.stop().await;
    rig.append("a", utf16("ly\nlast\n", false));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(2).await, ["partly", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_longer_than_every_buffer_meets_its_policy_and_the_offset_stays_right() {
    let long = "x".repeat(1_000_000);
    let text = format!("before\n{long}\nafter\n");
    for (oversize, middle) in [("drop", vec![]), ("truncate", vec![1000]), ("split", vec![1000; 1000])] {
        for encoding in ["utf-8", "latin-1"] {
            let options = json!({ "max_line_size": "1000B", "oversize": oversize, "encoding": encoding });
            let rig = Rig::new(&["a"], options);
            rig.append("a", &text);
            let mut weir = rig.start().await;
            let lines = weir.lines(2 + middle.len()).await;
            assert_eq!(
                (&lines[0][..], &lines[lines.len() - 1][..]),
                ("before", "after"),
                "{oversize} {encoding}"
            );
            let sizes: usize = lines[1..lines.len() - 1].iter().map(String::len).sum();
            assert_eq!(sizes, middle.iter().sum::<usize>(), "{oversize} {encoding}");
            assert!(lines.iter().all(|l| l.len() <= 1000));
            weir.stop().await;
            rig.append("a", "later\n");
            let mut weir = rig.start().await;
            assert_eq!(weir.lines(1).await, ["later"], "{oversize} {encoding}");
            weir.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_inside_a_long_line_it_goes_on_skipping_after_a_restart() {
    let rig = Rig::new(&["a"], json!({ "max_line_size": "100B" }));
    rig.append("a", "x".repeat(500));
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(1).await, ["x".repeat(100)]);
    weir.stop().await;
    rig.append("a", "x".repeat(500) + "\nnext\n");
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(1).await, ["next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_lines_are_counted() {
    let rig = Rig::new(&["a"], json!({ "max_line_size": "10B", "oversize": "drop" }));
    rig.append("a", "short\nmuch too long for that\nshort\n");
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(2).await, ["short", "short"]);
    let counts = weir.meter.snapshot();
    assert_eq!((counts.received_events, counts.dropped(crate::flow::Reason::Oversize)), (3, 1));
    assert!(counts.balances());
}

#[tokio::test(flavor = "multi_thread")]
async fn last_line_without_a_newline_waits_also_over_a_restart() {
    let rig = Rig::new(&["a"], json!({}));
    rig.append("a", "one\ntw");
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(1).await, ["one"]);
    rig.append("a", "o");
    assert_eq!(weir.during(Duration::from_millis(100)).await, [""; 0]);
    assert_eq!(weir.stop().await, [""; 0], "not delivered at shutdown");
    rig.append("a", "\nthree\n");
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(2).await, ["two", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_line_without_a_newline_passes_when_the_file_stays_quiet() {
    for multiline in [false, true] {
        let mut options = json!({ "partial_line_timeout": "300ms" });
        if multiline {
            options["multiline"] = json!({ "start": "^\\S", "timeout": "100ms" });
        }
        let rig = Rig::new(&["a"], options);
        rig.append("a", "one\r\ntw");
        let mut weir = rig.start().await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        rig.append("a", "o");
        assert_eq!(weir.lines(2).await, ["one\r", "two"], "what comes in time belongs to it");
        rig.append("a", "three\n");
        assert_eq!(weir.lines(1).await, ["three"]);
        assert_eq!(weir.stop().await, [""; 0]);
        let mut weir = rig.start().await;
        assert_eq!(weir.during(Duration::from_millis(500)).await, [""; 0], "nothing comes twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn multiline_across_a_pause_a_restart_and_a_rotation() {
    let rig = Rig::new(&["a"], json!({ "multiline": { "start": "^\\S", "timeout": "1s" } }));
    rig.append("a", "E1\n at x\n");
    let mut weir = rig.start().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.append("a", " at y\n");
    assert_eq!(
        weir.lines(1).await,
        ["E1\n at x\n at y"],
        "a short pause does not cut it, a long one ends it"
    );
    rig.append("a", "E2\n at x\n");
    assert_eq!(weir.stop().await, [""; 0]);
    rig.append("a", " at y\nE3\n at z\n");
    let mut weir = rig.start().await;
    assert_eq!(weir.lines(1).await[0], "E2\n at x\n at y");
    rig.rename("a", "b");
    rig.append("a", "E4\n");
    let lines = weir.lines(2).await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.contains(&"E3\n at z".to_owned()) && lines.contains(&"E4".to_owned()), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn multiline_works_in_declared_encodings() {
    let text: String = (0..300).map(|i| format!("Fehler {i}\n  bei ä\n  bei ö\n")).collect();
    let options = json!({ "encoding": "utf-16le", "multiline": { "continue": "^\\s", "timeout": "100ms" } });
    let lines = read("a", &utf16(&text, false), options, 300).await;
    assert_eq!(lines.len(), 300);
    assert!(lines.iter().enumerate().all(|(i, l)| l == format!("Fehler {i}\n  bei ä\n  bei ö").as_bytes()));
}

#[tokio::test]
async fn wrong_options_are_refused_with_their_reason() {
    for (key, value, what) in [
        ("encoding", json!("utf-9"), "unknown encoding"),
        ("path", json!("/a/["), "invalid glob"),
        ("path", json!("/a/"), "directory"),
        ("exclude", json!("["), "invalid glob"),
        ("multiline", json!({ "start": "(" }), "invalid regular expression"),
        ("multiline", json!({}), "neither"),
        ("multiline", json!({ "start": "a", "continue": "b" }), "both"),
        ("poll_interval", json!("1ms"), "poll_interval"),
    ] {
        let mut options = json!({ "path": "/a" });
        options[key] = value;
        let errors = testing::build::<File>(ComponentKind::Source, options).unwrap_err();
        assert!(errors.iter().any(|e| e.contains(what)), "{key}: {errors:?}");
    }
}
