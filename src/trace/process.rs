//! Which process a record belongs to: what the kernel told, and the path of its cgroup and its container, read once
//! from `/proc` while the process is there. What is remembered is bounded. Here it is also decided which groups of
//! processes can be left out in the kernel for good: only where nothing is left to doubt.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::event::Process;
use super::records::Owner;

/// Most processes, and most cgroups, that are remembered.
const KNOWN_MAX: usize = 4096;
/// Longest `/proc/PID/cgroup` that is looked at.
const CGROUP_FILE_MAX: usize = 16 * 1024;
/// How often a process's path is looked for that could not be read: with as many of its records.
const TRIES_MAX: u32 = 8;
/// The unit of times in `/proc/PID/stat` (USER_HZ is 100 everywhere).
const TICK_NS: u64 = 10_000_000;

#[derive(Debug)]
struct Known {
    process: Arc<Process>,
    /// [`Owner::group`] when it was looked up.
    group: u64,
    /// Whether every process of that group is in the same container.
    is_certain: bool,
    tries: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    known: HashMap<(u32, u64), Known>,
    /// By id in the unified hierarchy, for processes that are gone before they are looked up.
    /// With whether the path is certain to be that of the id, and all there is to know.
    cgroups: HashMap<u64, (Arc<str>, bool)>,
    /// The path of a group that no process told of so far.
    by_id: fn(u64) -> Option<String>,
}

impl Processes {
    /// Nobody known; `proc` is where process directories are.
    pub fn new(proc: &Path) -> Processes {
        Processes { proc: proc.to_owned(), known: HashMap::new(), cgroups: HashMap::new(), by_id: |_| None }
    }

    /// Says how the path of a group in the unified hierarchy is found by its id alone.
    pub fn find_cgroups_by_id(&mut self, by_id: fn(u64) -> Option<String>) {
        self.by_id = by_id;
    }

    /// The process of a record.
    pub fn of(&mut self, owner: &Owner) -> Arc<Process> {
        let key = (owner.pid, owner.started_ns);
        let mut tries = 1;
        if let Some(known) = self.known.get(&key) {
            // It may have become another program, or moved.
            let process = &known.process;
            let is_same = process.comm.as_bytes() == comm(owner)
                && (process.cgroup_id, known.group) == (owner.cgroup, owner.group)
                && process.uid == owner.uid;
            if is_same && (process.cgroup.is_some() || known.tries >= TRIES_MAX) {
                return process.clone();
            }
            tries += if is_same { known.tries } else { 0 };
        }
        let (process, is_certain) = self.look_up(owner);
        let process = Arc::new(process);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(key, Known { process: process.clone(), group: owner.group, is_certain, tries });
        process
    }

    /// The group of a record whose process was just looked up, if none of that group's processes are wanted. What could
    /// not be read, or is of a process that has ended, decides nothing: the group's next event may.
    pub fn foreign_group(&self, owner: &Owner, is_wanted: impl Fn(Option<&str>) -> bool) -> Option<u64> {
        let known = self.known.get(&(owner.pid, owner.started_ns))?;
        let is_foreign = known.is_certain
            && owner.group != 0
            && known.group == owner.group
            && !is_wanted(known.process.container.as_deref());
        is_foreign.then_some(owner.group)
    }

    /// The process, and whether its container is that of its whole group.
    fn look_up(&mut self, owner: &Owner) -> (Process, bool) {
        let (cgroup, is_certain) = self.cgroup(owner);
        let process = Process {
            pid: owner.pid,
            started_ns: owner.started_ns,
            pid_inner: owner.pid_inner,
            pid_namespace: owner.pid_namespace,
            uid: owner.uid,
            comm: String::from_utf8_lossy(comm(owner)).into(),
            cgroup_id: owner.cgroup,
            container: cgroup.as_deref().and_then(container),
            cgroup,
        };
        (process, is_certain)
    }

    fn cgroup(&mut self, owner: &Owner) -> (Option<Arc<str>>, bool) {
        let dir = self.proc.join(owner.pid.to_string());
        let read = std::fs::read(dir.join("cgroup")).ok().filter(|text| text.len() <= CGROUP_FILE_MAX);
        let text = read.map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
        match cgroup_path(&text).map(Arc::<str>::from) {
            Some(path) if self.has_moved(owner, &path) => self.cgroup_by_id(owner),
            Some(path) => {
                // In this order: if the number is still this process's now, it was when the paths were read.
                let is_certain = named_by_controllers(&text) && is_same_process(&dir, owner.started_ns);
                // The root group holds processes of which version 1 knows more.
                if owner.cgroup > 1 {
                    self.remember(owner.cgroup, &path, is_certain && owner.group == owner.cgroup);
                }
                (Some(path), is_certain)
            }
            None => self.cgroup_by_id(owner),
        }
    }

    /// Whether the process went to another group between the record and now, as far as that shows: what is read of it now
    /// says nothing of the group that it was in.
    fn has_moved(&self, owner: &Owner, path: &str) -> bool {
        owner.cgroup > 1
            && owner.group == owner.cgroup
            && (self.by_id)(owner.cgroup).is_some_and(|then| then != path)
    }

    /// Where there is no version 1, a group's id is all there is to know, and the path is that of all its processes.
    fn cgroup_by_id(&mut self, owner: &Owner) -> (Option<Arc<str>>, bool) {
        if let Some((path, is_certain)) = self.cgroups.get(&owner.cgroup) {
            return (Some(path.clone()), *is_certain);
        }
        let found = if owner.cgroup > 1 { (self.by_id)(owner.cgroup) } else { None };
        let Some(path) = found.map(Arc::<str>::from) else { return (None, false) };
        let is_certain = owner.group == owner.cgroup;
        self.remember(owner.cgroup, &path, is_certain);
        (Some(path), is_certain)
    }

    fn remember(&mut self, cgroup: u64, path: &Arc<str>, is_certain: bool) {
        if self.cgroups.len() >= KNOWN_MAX {
            self.cgroups.clear();
        }
        self.cgroups.insert(cgroup, (path.clone(), is_certain));
    }
}

fn comm(owner: &Owner) -> &[u8] {
    owner.comm.split(|b| *b == 0).next().unwrap_or_default()
}

/// Whether the hierarchies that the kernel's programs look at name the same container as all together do: those with
/// controllers, and the unified one; others have just a name.
fn named_by_controllers(text: &str) -> bool {
    let has_controllers = |line: &&str| !line.split(':').nth(1).is_some_and(|list| list.starts_with("name="));
    let of = |path: Option<&str>| path.and_then(container);
    let looked_at: Vec<&str> = text.lines().filter(has_controllers).collect();
    of(cgroup_path(&looked_at.join("\n"))) == of(cgroup_path(text))
}

/// Whether the number still belongs to the process that started then. On a machine that was suspended the two clocks
/// differ, and nothing is certain.
fn is_same_process(dir: &Path, started_ns: u64) -> bool {
    started_ticks(dir).is_some_and(|ticks| ticks.abs_diff(started_ns / TICK_NS) <= 1)
}

/// When the process of a `/proc` directory started, in hundredths of a second since the boot.
pub fn started_ticks(dir: &Path) -> Option<u64> {
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
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
        Owner {
            pid,
            tid: pid,
            uid: 0,
            pid_inner: 1,
            cgroup: 77,
            started_ns: 5 * TICK_NS,
            pid_namespace: 9,
            comm,
            group: 99,
        }
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

    /// A `/proc` of one process that started 5 ticks after the boot.
    fn proc_of(pid: u32, cgroup: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join(pid.to_string())).unwrap();
        std::fs::write(proc.path().join(format!("{pid}/cgroup")), cgroup).unwrap();
        let stat = format!("{pid} (a) b) S {}5 0 0", "1 ".repeat(18));
        std::fs::write(proc.path().join(format!("{pid}/stat")), stat).unwrap();
        proc
    }

    fn foreign(proc: &Path, owner: &Owner, wanted: &str) -> Option<u64> {
        let mut processes = Processes::new(proc);
        processes.of(owner);
        processes.foreign_group(owner, |id| id.is_some_and(|id| id.starts_with(wanted)))
    }

    #[test]
    fn a_group_is_foreign_only_where_nothing_is_left_to_doubt() {
        let proc = proc_of(7, &format!("0::/docker/{ID}\n"));
        assert_eq!(foreign(proc.path(), &owner(7), "abcdef"), Some(99));
        assert_eq!(foreign(proc.path(), &owner(7), &ID[..12]), None, "wanted");
        assert_eq!(foreign(proc.path(), &Owner { group: 0, ..owner(7) }, "abcdef"), None, "not known");
        let reused = Owner { started_ns: 50 * TICK_NS, ..owner(7) };
        assert_eq!(foreign(proc.path(), &reused, "abcdef"), None, "the number is another process's by now");
        assert_eq!(foreign(proc.path(), &owner(8), "abcdef"), None, "it has ended");
        let host = proc_of(7, "4:memory:/\n1:name=systemd:/a.service\n0::/a.service\n");
        assert_eq!(foreign(host.path(), &owner(7), "abcdef"), Some(99), "no container at all");
        let named = proc_of(7, &format!("4:memory:/\n1:name=systemd:/docker/{ID}\n0::/\n"));
        assert_eq!(foreign(named.path(), &owner(7), "abcdef"), None, "by what the programs do not see");
    }

    /// By its id where the process is gone; that decides for its group only where version 1 has no say.
    #[test]
    fn a_group_is_found_by_its_id() {
        let by_id = |id| (id == 77).then(|| format!("/docker/{ID}"));
        let mut processes = Processes::new(Path::new("/nonexistent"));
        processes.find_cgroups_by_id(by_id);
        assert_eq!(processes.of(&owner(7)).container.as_deref(), Some(ID));
        assert_eq!(processes.foreign_group(&owner(7), |_| false), None, "version 1 may know more");
        let mut processes = Processes::new(Path::new("/nonexistent"));
        processes.find_cgroups_by_id(by_id);
        let unified = Owner { group: 77, ..owner(7) };
        assert_eq!(processes.of(&unified).container.as_deref(), Some(ID));
        assert_eq!(processes.foreign_group(&unified, |_| false), Some(77));
        let another = Owner { group: 77, ..owner(9) };
        processes.of(&another);
        assert_eq!(processes.foreign_group(&another, |_| false), Some(77), "it may have to be told again");
        assert_eq!(processes.of(&Owner { cgroup: 1, ..owner(8) }).cgroup, None);
    }

    /// As those that a container starts in containers of its own are, after they have begun in its group.
    #[test]
    fn a_process_that_was_moved_decides_nothing_for_the_group_it_was_in() {
        let proc = proc_of(7, &format!("0::/docker/{}/docker/{}\n", "a".repeat(64), "b".repeat(64)));
        let by_id = |id| (id == 77).then(|| format!("/docker/{}", "a".repeat(64)));
        let is_wanted = |id: Option<&str>| id.is_some_and(|id| id.starts_with("aaaa"));
        let mut processes = Processes::new(proc.path());
        processes.find_cgroups_by_id(by_id);
        let (outside, inside) =
            (Owner { group: 77, ..owner(7) }, Owner { group: 78, cgroup: 78, ..owner(7) });
        assert_eq!(processes.of(&outside).container.as_deref(), Some("a".repeat(64).as_str()));
        assert_eq!(processes.foreign_group(&outside, is_wanted), None);
        assert_eq!(processes.of(&inside).container.as_deref(), Some("b".repeat(64).as_str()));
        assert_eq!(processes.foreign_group(&inside, is_wanted), Some(78));
        // Nor does it for those whose group is all that is left to know.
        let gone = Owner { group: 77, ..owner(8) };
        assert!(is_wanted(processes.of(&gone).container.as_deref()));
    }

    /// The path may be there a moment later; and a process that is in no container now may be moved into one.
    #[test]
    fn a_path_that_could_not_be_read_is_looked_for_again() {
        let proc = proc_of(7, "");
        let mut processes = Processes::new(proc.path());
        assert_eq!(processes.of(&owner(7)).container, None);
        assert_eq!(processes.foreign_group(&owner(7), |_| false), None);
        std::fs::write(proc.path().join("7/cgroup"), format!("0::/docker/{ID}\n")).unwrap();
        assert_eq!(processes.of(&owner(7)).container.as_deref(), Some(ID));
        assert_eq!(processes.foreign_group(&owner(7), |_| false), Some(99));
        let moved = Owner { group: 100, ..owner(7) };
        assert_eq!(processes.foreign_group(&moved, |_| false), None, "it was another group's");
        std::fs::write(proc.path().join("7/cgroup"), "0::/b\n").unwrap();
        assert_eq!(processes.of(&moved).cgroup.as_deref(), Some("/b"));
        assert_eq!(processes.foreign_group(&moved, |_| false), Some(100));
        // Not for ever, though.
        std::fs::write(proc.path().join("7/cgroup"), "").unwrap();
        let ended = Owner { pid: 9, cgroup: 1, ..owner(9) };
        let last = (0..TRIES_MAX + 1).map(|_| processes.of(&ended)).last().unwrap();
        assert!(Arc::ptr_eq(&last, &processes.of(&ended)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut processes = Processes::new(Path::new("/nonexistent"));
        (0..3 * KNOWN_MAX as u32).for_each(|pid| drop(processes.of(&owner(pid))));
        assert!(processes.known.len() <= KNOWN_MAX);
    }
}
