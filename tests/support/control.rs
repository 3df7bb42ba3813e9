//! What the tests of the control socket, of taps and of `weir top` share: a pipeline to look at, and where its process
//! can be reached.

use std::fs;
use std::path::PathBuf;

use super::eventually;
use super::weir::Place;

/// A pipeline that reads `in.log`, drops what says DEBUG and then what says noise, and writes `out.log` and, of it what
/// says ERROR, `errors.log`.
pub const PIPELINE: &str = r#"
[[pipelines]]
name = "app"
[[pipelines.sources]]
type = "file"
path = "DIR/in.log"
poll_interval = "20ms"
[[pipelines.filters]]
type = "exclude"
patterns = ["DEBUG"]
[[pipelines.filters]]
type = "exclude"
patterns = ["noise"]
[[pipelines.sinks]]
type = "file"
path = "DIR/out.log"
[[pipelines.sinks]]
type = "file"
path = "DIR/errors.log"
filters = [{ type = "include", patterns = ["ERROR"] }]
"#;

/// The only socket in a place.
pub fn socket(place: &Place) -> PathBuf {
    eventually("there is a control socket", || {
        let entries = fs::read_dir(place.path("run/weir")).ok()?;
        let mut sockets =
            entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "sock"));
        sockets.next()
    })
}
