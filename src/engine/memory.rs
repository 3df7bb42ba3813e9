//! Measures what the process holds, a few times a second while there is a bound, and finds the bound that the
//! system sets where the configuration names none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::RootOptions;
use crate::flow::{Board, Memory, Shared};
use crate::net::Router;

/// Longest and shortest time between two measurements while there is a bound.
const MEASURE_EVERY: Duration = Duration::from_millis(50);
const MEASURE_AGAIN: Duration = Duration::from_millis(2);
/// The same where there is none: for status only.
const UNBOUNDED_EVERY: Duration = Duration::from_secs(2);

/// The bound in force: the configured one, or nine tenths of the control group's.
pub(super) fn bound(root: &RootOptions) -> Option<u64> {
    root.max_memory.map(|bytes| bytes.0).or_else(|| group_limit(Path::new("/")).map(|limit| limit / 10 * 9))
}

/// The least memory limit of this process's control group and those above it, version 2 or 1.
fn group_limit(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mount = root.join("sys/fs/cgroup");
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (base, file) = match controllers {
            "" => (mount.clone(), "memory.max"),
            _ if controllers.split(',').any(|c| c == "memory") => {
                (mount.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // In a container its own group is the mount itself, whatever the path says.
        let own: PathBuf = path.trim_start_matches('/').into();
        own.ancestors().map(|group| base.join(group).join(file)).collect()
    });
    let read = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    // Version 1 says "no limit" with a number near the largest.
    limits.filter_map(read).filter(|limit| *limit < 1 << 60).min()
}

/// Keeps [`Memory`] up to date. Runs until it is dropped.
pub(super) async fn watch(shared: Arc<Shared>) {
    let (memory, board, router) = (shared.get::<Memory>(), shared.get::<Board>(), shared.get::<Router>());
    let mut told = false;
    loop {
        memory.measured(held(&board, &router), resident().unwrap_or(0));
        if memory.is_over() && !std::mem::replace(&mut told, true) {
            tracing::warn!(
                held = memory.held(),
                resident = memory.resident(),
                max = memory.max(),
                "max_memory is reached: sources wait until sinks have caught up"
            );
        } else if told && memory.max().is_none_or(|max| memory.held().max(memory.resident()) < max / 10 * 9) {
            told = false;
        }
        if memory.max().is_none() {
            tokio::time::sleep(UNBOUNDED_EVERY).await;
            continue;
        }
        tokio::time::sleep(MEASURE_AGAIN).await;
        tokio::time::timeout(MEASURE_EVERY - MEASURE_AGAIN, memory.stale()).await.ok();
    }
}

/// What rows keep in buffers and in hand, but not in files, and in the rings of streams with their encodings.
fn held(board: &Board, router: &Router) -> u64 {
    let pipelines = board.pipelines();
    let components = pipelines.iter().flat_map(|p| &p.components);
    let queued: u64 = components.map(|c| c.meter.snapshot().memory_bytes).sum();
    queued + router.held_bytes()
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(group_limit(root.path()), None);
        write("proc/self/cgroup", "0::/system.slice/weir.service\n");
        assert_eq!(group_limit(root.path()), None);
        write("sys/fs/cgroup/system.slice/weir.service/memory.max", "max\n");
        assert_eq!(group_limit(root.path()), None);
        write("sys/fs/cgroup/system.slice/memory.max", "1000000\n");
        assert_eq!(group_limit(root.path()), Some(1_000_000));
        write("sys/fs/cgroup/memory.max", "500000\n");
        assert_eq!(group_limit(root.path()), Some(500_000));
        write("proc/self/cgroup", "5:cpu,memory:/a\n");
        write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(group_limit(root.path()), None, "version 1 without a limit");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "300\n");
        assert_eq!(group_limit(root.path()), Some(300));
    }

    #[test]
    fn this_process_holds_something() {
        assert!(resident().is_none_or(|bytes| bytes > 1 << 20));
    }
}
