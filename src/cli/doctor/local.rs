//! `weir doctor` without a URL: what a weir that is started here would meet. The configuration, its state directory,
//! its ports, and the limits of the system.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::report::{Finding, Report};
use crate::cli::config_source::ConfigSource;
use crate::cli::state_dir::state_directory;
use crate::config::Diagnostics;
use crate::engine::{self, Plan};

/// Descriptors below which a weir with many files or clients has to be careful.
const DESCRIPTORS_FEW: u64 = 4096;
/// Watches of the kernel below which large trees of files cannot be followed by notification.
const WATCHES_FEW: u64 = 8192;
/// Free space below which a disk buffer or a log soon ends, in bytes.
const SPACE_LITTLE: u64 = 1 << 30;

pub(super) fn look(source: &ConfigSource) -> Report {
    let mut findings = Vec::new();
    let mut diagnostics = Diagnostics::new();
    let loaded = match source.load(&mut diagnostics) {
        Ok(loaded) => loaded,
        Err(failure) => {
            let text = failure.render(false);
            let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            findings.push(Finding::warn("config", text).hint("weir init writes one to begin with"));
            None
        }
    };
    let plan = loaded.as_ref().and_then(|loaded| engine::plan(&loaded.tree, &mut diagnostics));
    if let Some(loaded) = &loaded {
        let shown = source.shown(&loaded.files);
        findings.push(match diagnostics.error_count() {
            0 => Finding::ok("config", shown),
            n => Finding::fail("config", format!("{shown}: {n} errors")).hint("weir check says which"),
        });
    } else if diagnostics.has_errors() {
        findings.push(Finding::fail("config", diagnostics.items()[0].message.clone()));
    }
    let directory =
        state_directory(plan.as_ref().and_then(|plan| plan.root.state_dir.as_deref()), source.environment());
    state(&directory, &mut findings);
    if let Some(plan) = &plan {
        ports(plan, &mut findings);
    }
    limits(&mut findings);
    Report { about: "this machine".to_owned(), proxies: Vec::new(), findings }
}

/// The path itself, or the nearest one above it that exists.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|path| path.exists()).map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// Whether a file can be made in it.
fn may_write(directory: &Path) -> Result<(), String> {
    use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
    if !directory.is_dir() {
        return Err(format!("{} is no directory", directory.display()));
    }
    access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| e.to_string())?;
    let read_only = statvfs(directory).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    if read_only { Err("the file system is read-only".to_owned()) } else { Ok(()) }
}

fn state(directory: &Path, findings: &mut Vec<Finding>) {
    let there = existing(directory);
    let shown = directory.display();
    findings.push(match may_write(&there) {
        Ok(()) if directory.is_dir() => Finding::ok("state", format!("{shown} can be written")),
        Ok(()) => Finding::ok("state", format!("{shown} will be made")),
        Err(e) => Finding::fail("state", format!("{shown} cannot be written: {e}"))
            .cause("how far files were read, and disk buffers, are kept there")
            .hint("set state_dir, or give the directory to the user that runs weir"),
    });
    if let Ok(stat) = rustix::fs::statvfs(&there) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let text = format!("{:.1} GiB free below {}", free as f64 / f64::from(1 << 30), there.display());
        findings.push(if free < SPACE_LITTLE {
            Finding::warn("disk", text).cause("disk buffers and checkpoints need room")
        } else {
            Finding::ok("disk", text)
        });
    }
}

fn ports(plan: &Plan, findings: &mut Vec<Finding>) {
    let mut listens: Vec<&str> = Vec::new();
    let components = plan.pipelines.iter().flat_map(|pipeline| {
        let sources = pipeline.sources.iter().map(|source| &source.claims);
        sources.chain(pipeline.sinks.iter().map(|sink| &sink.sink.claims))
    });
    let own = components.flat_map(|claims| claims.iter()).filter(|(what, _)| *what == "listen address");
    listens.extend(own.map(|(_, key)| key.as_str()));
    let server = plan.root.server.listen.to_string();
    if plan.server.is_some() {
        listens.push(&server);
    }
    listens.sort_unstable();
    listens.dedup();
    for listen in listens.into_iter().filter(|listen| !listen.ends_with(":0")) {
        findings.push(match std::net::TcpListener::bind(listen) {
            Ok(_) => Finding::ok("port", format!("{listen} is free")),
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                Finding::warn("port", format!("{listen} is taken"))
                    .hint("if that is not weir itself: ss -ltnp shows who; `weir status` asks a weir there")
            }
            Err(e) => Finding::fail("port", format!("{listen} cannot be listened on: {e}"))
                .hint("ports below 1024 need CAP_NET_BIND_SERVICE; addresses must be this machine's"),
        });
    }
}

fn limits(findings: &mut Vec<Finding>) {
    let files = getrlimit(Resource::Nofile).current;
    let text = files.map_or("no limit".to_owned(), |n| format!("{n} may be open"));
    findings.push(if files.is_some_and(|n| n < DESCRIPTORS_FEW) {
        Finding::warn("descriptors", text)
            .cause("every file that is followed and every client takes one")
            .hint("LimitNOFILE=65536 in the unit, or ulimit -n 65536")
    } else {
        Finding::ok("descriptors", text)
    });
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    if let (Some(watches), Some(instances)) = (read("max_user_watches"), read("max_user_instances")) {
        let text = format!("{watches} watches, {instances} instances");
        findings.push(if watches < WATCHES_FEW {
            Finding::warn("inotify", text)
                .cause("each directory takes a watch; without one, files are only looked at now and then")
                .hint("sysctl fs.inotify.max_user_watches=524288")
        } else {
            Finding::ok("inotify", text)
        });
    }
}
