//! Which process a record belongs to: what the kernel told, and the path of its cgroup and its container, read once
//! from `/proc` while the process is there. What is remembered is bounded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::event::Process;
use super::records::Owner;

/// Most processes, and most cgroups, that are remembered.
const KNOWN_MAX: usize = 4096;
/// Longest `/proc/PID/cgroup` that is looked at.
const CGROUP_FILE_MAX: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    known: HashMap<(u32, u64), Arc<Process>>,
    /// By id in the unified hierarchy, for processes that are gone before they are looked up.
    cgroups: HashMap<u64, Arc<str>>,
}

impl Processes {
    /// Nobody known; `proc` is where process directories are.
    pub fn new(proc: &Path) -> Processes {
        Processes { proc: proc.to_owned(), known: HashMap::new(), cgroups: HashMap::new() }
    }

    /// The process of a record.
    pub fn of(&mut self, owner: &Owner) -> Arc<Process> {
        let key = (owner.pid, owner.started_ns);
        if let Some(known) = self.known.get(&key) {
            // It may have become another program, or moved.
            if known.comm.as_bytes() == comm(owner)
                && known.cgroup_id == owner.cgroup
                && known.uid == owner.uid
            {
                return known.clone();
            }
        }
        let process = Arc::new(self.look_up(owner));
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(key, process.clone());
        process
    }

    fn look_up(&mut self, owner: &Owner) -> Process {
        let cgroup = self.cgroup(owner);
        Process {
            pid: owner.pid,
            started_ns: owner.started_ns,
            pid_inner: owner.pid_inner,
            pid_namespace: owner.pid_namespace,
            uid: owner.uid,
            comm: String::from_utf8_lossy(comm(owner)).into(),
            cgroup_id: owner.cgroup,
            container: cgroup.as_deref().and_then(container),
            cgroup,
        }
    }

    fn cgroup(&mut self, owner: &Owner) -> Option<Arc<str>> {
        let file = self.proc.join(owner.pid.to_string()).join("cgroup");
        let read = std::fs::read(file).ok().filter(|text| text.len() <= CGROUP_FILE_MAX);
        let path = read.and_then(|text| cgroup_path(&String::from_utf8_lossy(&text)).map(Arc::<str>::from));
        match path {
            Some(path) => {
                if self.cgroups.len() >= KNOWN_MAX {
                    self.cgroups.clear();
                }
                // The root group holds processes of which version 1 knows more.
                if owner.cgroup > 1 {
                    self.cgroups.insert(owner.cgroup, path.clone());
                }
                Some(path)
            }
            None => self.cgroups.get(&owner.cgroup).cloned(),
        }
    }
}

fn comm(owner: &Owner) -> &[u8] {
    owner.comm.split(|b| *b == 0).next().unwrap_or_default()
}

/// The path that says most: one that names a container, else that of the unified hierarchy, else the longest.
fn cgroup_path(text: &str) -> Option<&str> {
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    let named = paths().find(|path| container(path).is_some());
    named.or(unified.filter(|path| *path != "/")).or_else(|| paths().max_by_key(|path| path.len()))
}

/// The id of the container that a cgroup's path names: 64 hexadecimal digits (docker, containerd, CRI-O, podman), or 32
/// and a number (Amazon ECS).
pub fn container(path: &str) -> Option<Arc<str>> {
    path.rsplit('/').find_map(|segment| {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let mut words = segment.split(|c: char| !c.is_ascii() || !is_hex(c as u8));
        let long = words.find(|word| word.len() == 64);
        let task = segment.split_once('-').filter(|(id, number)| {
            id.len() == 32 && id.bytes().all(is_hex) && number.bytes().all(|b| b.is_ascii_digit())
        });
        long.or(task.map(|_| segment)).map(Arc::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a9c0d1e4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1";

    fn owner(pid: u32) -> Owner {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"curl");
        Owner { pid, tid: pid, uid: 0, pid_inner: 1, cgroup: 77, started_ns: 5, pid_namespace: 9, comm }
    }

    #[test]
    fn containers_by_the_paths_of_their_runtimes() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods.slice/kubepods-burstable.slice/pod12_34.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/besteffort/pod1-2/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/kubepods.slice/crio-{ID}.scope"),
        ] {
            assert_eq!(container(&path).as_deref(), Some(ID), "{path}");
        }
        let ecs = "/ecs/0123456789abcdef0123456789abcdef-1234567890";
        assert_eq!(container(ecs).as_deref(), Some("0123456789abcdef0123456789abcdef-1234567890"));
        for path in
            ["/", "/user.slice/user-0.slice/session-1.scope", &format!("/x/{ID}0"), &format!("/{}", &ID[1..])]
        {
            assert_eq!(container(path), None, "{path}");
        }
    }

    #[test]
    fn both_versions_of_cgroups_are_read() {
        assert_eq!(cgroup_path("0::/system.slice/a.service\n"), Some("/system.slice/a.service"));
        let hybrid = format!("12:cpu:/\n3:memory:/docker/{ID}\n0::/\n");
        assert_eq!(cgroup_path(&hybrid), Some(format!("/docker/{ID}").as_str()));
        assert_eq!(cgroup_path("1:name=systemd:/init.scope\n0::/\n"), Some("/init.scope"));
        assert_eq!(cgroup_path(""), None);
    }

    #[test]
    fn a_process_that_is_gone_has_its_cgroups_path() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("7")).unwrap();
        std::fs::write(proc.path().join("7/cgroup"), format!("0::/docker/{ID}\n")).unwrap();
        let mut processes = Processes::new(proc.path());
        let first = processes.of(&owner(7));
        assert_eq!((first.comm.as_ref(), first.container.as_deref()), ("curl", Some(ID)));
        assert!(Arc::ptr_eq(&first, &processes.of(&owner(7))));
        assert_eq!(processes.of(&owner(8)).container.as_deref(), Some(ID));
        assert_eq!(processes.of(&Owner { cgroup: 78, ..owner(9) }).cgroup, None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut processes = Processes::new(Path::new("/nonexistent"));
        (0..3 * KNOWN_MAX as u32).for_each(|pid| drop(processes.of(&owner(pid))));
        assert!(processes.known.len() <= KNOWN_MAX);
    }
}
