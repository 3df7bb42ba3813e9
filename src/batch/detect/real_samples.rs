//! Detection over logs that real systems wrote (2,000 lines each, not kept in this repository): every count
//! is what plain text tools count in the same file. Without the samples the test says that it was skipped.

use super::{detect_level, detect_timestamp};
use crate::batch::Timestamp;

/// Where the samples lie, when they do.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/real");

/// A file: lines with a timestamp, the first line's, and lines per level (trace to fatal).
type Expected = (&'static str, usize, &'static str, [usize; 7]);

/// Counts by `grep -c` and `awk '{print $N}' | sort | uniq -c`.
const EXPECTED: [Expected; 10] = [
    ("Apache.log", 2000, "2005-12-04T04:47:44.000Z", [0, 0, 0, 1405, 0, 595, 0]),
    ("BGL.log", 2000, "2005-06-03T22:42:50.000Z", [0, 0, 1597, 0, 8, 48, 347]),
    ("HDFS.log", 2000, "2008-11-09T20:36:15.000Z", [0, 0, 1920, 0, 80, 0, 0]),
    // The time is the fifth field, a bare number: too weak a sign. There are no level words.
    ("HPC.log", 0, "", [0; 7]),
    ("Hadoop.log", 2000, "2015-10-18T18:01:47.978Z", [0, 0, 1040, 0, 808, 150, 2]),
    // Syslog files lose the priority: what is left are words in the messages (` ALERT `, `: warning:`).
    ("Linux.log", 2000, "2026-06-14T15:16:01.000Z", [0, 0, 0, 0, 2, 0, 43]),
    ("OpenSSH.log", 2000, "2025-12-10T06:55:46.000Z", [0, 0, 0, 0, 0, 47, 1]),
    ("OpenStack.log", 2000, "2017-05-16T00:00:00.008Z", [0, 0, 1969, 0, 31, 0, 0]),
    ("Spark.log", 2000, "2017-06-09T20:10:40.000Z", [0, 0, 2000, 0, 0, 0, 0]),
    ("Zookeeper.log", 2000, "2015-07-29T17:41:44.747Z", [0, 0, 669, 0, 1318, 13, 0]),
];

#[test]
fn real_logs_are_read_as_they_are() {
    let received = Timestamp::parse_rfc3339(b"2026-11-21T00:00:00Z").unwrap();
    for (name, dated, first, levels) in EXPECTED {
        let bytes = match std::fs::read(format!("{SAMPLES}/{name}")) {
            Ok(bytes) => bytes,
            Err(why) => {
                println!("SKIP real-samples: {SAMPLES}/{name}: {why}");
                return;
            }
        };
        let lines = bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut found = (0, Vec::new(), [0; 7]);
        for line in lines.filter(|line| !line.is_empty()) {
            let at = detect_timestamp(line, received);
            if let (0, Some(at)) = (found.0, at) {
                at.write_rfc3339(&mut found.1);
            }
            found.0 += usize::from(at.is_some());
            if let Some(level) = detect_level(line) {
                found.2[level as usize] += 1;
            }
        }
        assert_eq!(
            (found.0, String::from_utf8_lossy(&found.1).as_ref(), found.2),
            (dated, first, levels),
            "{name}"
        );
    }
}
