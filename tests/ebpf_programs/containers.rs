//! Containers, by real cgroups in every hierarchy that is there: those out of scope are left out in the kernel once they
//! are known, and counted; of those in scope nothing is lost, new ones included.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use logweir::trace::event::TraceEvent;
use logweir::trace::http::Pairing;
use logweir::trace::http::pairing::Wanted;
use logweir::trace::kernel::Tracer;
use logweir::trace::records::Record;
use logweir::trace::settings::{Capture, Scope, Settings};

use crate::programs::{Program, Traced, curl, left_out, possible, until_quiet};

const WANTED: &str = "aaaaaaaaaaaa";
const UNWANTED: &str = "bbbbbbbbbbbb";

/// A cgroup that names a container as runtimes do; removed when dropped, its processes moved to where they were.
struct Group(PathBuf);

impl Group {
    /// A group whose container's id begins so; `None` where none can be made, or takes no process.
    fn new(hierarchy: &Path, id: &str, n: u32) -> Option<Group> {
        let own = format!("{}{n:04}", std::process::id());
        let dir = hierarchy.join(format!("docker-{id}{own:0>width$}.scope", width = 64 - id.len()));
        fs::create_dir(&dir).ok()?;
        let group = Group(dir);
        let mut sleeps = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let taken = fs::write(group.0.join("cgroup.procs"), sleeps.id().to_string());
        sleeps.kill().unwrap();
        sleeps.wait().unwrap();
        taken.is_ok().then_some(group)
    }

    fn add(&self, program: &Program) {
        fs::write(self.0.join("cgroup.procs"), program.id().to_string()).unwrap();
    }
}

fn no_groups(test: &str) {
    left_out(test, "no control group can be made here, or takes processes");
}

impl Drop for Group {
    fn drop(&mut self) {
        let root = self.0.parent().unwrap().join("cgroup.procs");
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            fs::write(&root, pid).ok();
        }
        fs::remove_dir(&self.0).ok();
    }
}

/// The unified hierarchy, and one of version 1 where there are such.
fn hierarchies() -> Vec<PathBuf> {
    let all = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"].map(PathBuf::from);
    all.into_iter().filter(|dir| dir.join("cgroup.procs").exists()).collect()
}

/// A tracing of containers, read as the source does.
struct Reader {
    tracer: Tracer,
    pairing: Pairing,
    scope: Scope,
    /// The processes that records named.
    owners: Vec<u32>,
    foreign: BTreeSet<u64>,
    events: Vec<TraceEvent>,
}

impl Reader {
    fn new(scope: Scope, capture: Capture) -> Reader {
        let scope = Scope { containers: vec![WANTED.to_owned()], ..scope };
        let settings = Settings { capture, scope: scope.clone(), ring_bytes: 1 << 20, without: Vec::new() };
        let wanted = Wanted { tcp: true, query: false };
        let mut pairing = Pairing::new(wanted, Path::new("/proc"), 1024);
        pairing.find_cgroups_by_id(logweir::trace::kernel::cgroup_path);
        let tracer = Tracer::start(&settings).unwrap();
        Reader { tracer, pairing, scope, owners: Vec::new(), foreign: BTreeSet::new(), events: Vec::new() }
    }

    /// Reads until nothing more comes: ends of calls may be told of a moment after others saw what they did.
    fn read(&mut self) {
        let Reader { tracer, pairing, scope, owners, foreign, events } = self;
        until_quiet(|| {
            tracer.read(usize::MAX, |bytes| {
                let record = Record::parse(bytes).unwrap();
                pairing.record(&record, events);
                if let Some(owner) = record.owner() {
                    owners.push(owner.pid);
                    foreign.extend(pairing.processes().foreign_group(owner, |id| scope.wants_container(id)));
                }
            })
        });
    }

    /// Tells the kernel which groups turned out to be foreign.
    fn tell(&mut self) {
        self.foreign.iter().for_each(|group| self.tracer.leave_out(*group).unwrap());
    }

    /// The paths of a process's exchanges.
    fn exchanges_of(&self, pid: u32) -> Vec<String> {
        let of = |event: &TraceEvent| match event {
            TraceEvent::Exchange(e) if e.request.connection.process.pid == pid => {
                Some(e.request.path.to_string())
            }
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }
}

fn fetch(server: &Program, path: &str, times: usize) {
    for n in 0..times {
        curl(&[&format!("http://127.0.0.1:{}/{path}/{n}", server.port)]);
    }
}

/// Per hierarchy: both are told of until user space has decided, then the one in scope only, and a new one that is, too.
#[test]
fn containers_out_of_scope_are_left_out_in_the_kernel() {
    let Some(_place) = possible("containers") else { return };
    let capture = Capture { tcp: true, http: true, ..Capture::default() };
    let mut tried = 0;
    for hierarchy in hierarchies() {
        let group = |id: &str, n| Group::new(&hierarchy, id, n);
        let (Some(ours), Some(theirs)) = (group(WANTED, 1), group(UNWANTED, 2)) else { continue };
        tried += 1;
        let (a, b, c) =
            (Program::start(&["server.py"]), Program::start(&["server.py"]), Program::start(&["server.py"]));
        ours.add(&a);
        theirs.add(&b);
        let mut reader =
            Reader::new(Scope { ports: vec![a.port, b.port, c.port], ..Scope::default() }, capture);
        fetch(&a, "first", 1);
        fetch(&b, "first", 1);
        reader.read();
        assert_eq!(reader.exchanges_of(a.id()), ["/first/0"]);
        assert_eq!(reader.exchanges_of(b.id()), ["/first/0"], "nobody knew yet");
        reader.tell();
        reader.owners.clear();
        let before = reader.tracer.counts();

        fetch(&b, "later", 20);
        fetch(&a, "later", 20);
        let new = Group::new(&hierarchy, WANTED, 3).unwrap();
        new.add(&c);
        fetch(&c, "new", 1);
        reader.read();
        let counts = reader.tracer.counts();
        assert!(!reader.owners.contains(&b.id()), "{}: {counts:?}", hierarchy.display());
        // Its 20 connections; and curl's own ends of all, which are in no container.
        assert!(counts.left_out - before.left_out >= 20, "{before:?} {counts:?}");
        assert_eq!(counts.dropped, 0);
        assert_eq!(reader.exchanges_of(b.id()).len(), 1);
        assert_eq!(reader.exchanges_of(a.id()).len(), 21, "nothing is lost");
        assert_eq!(reader.exchanges_of(c.id()), ["/new/0"], "nor of a new one");
        drop((a, b, c));
    }
    if tried == 0 {
        no_groups("containers");
    }
}

/// A connection that was there before its container was known, and lines.
#[test]
fn what_was_open_is_left_out_too() {
    let Some(_place) = possible("containers, open connections") else { return };
    let script = "import os, socket, sys\nl = socket.create_server(('127.0.0.1', 0))\n\
        c = socket.create_connection(l.getsockname()); a, _ = l.accept()\n\
        print(l.getsockname()[1], flush=True)\n\
        for line in sys.stdin:\n  c.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n'); a.recv(100)\n  \
        a.sendall(b'HTTP/1.1 204 No Content\\r\\n\\r\\n'); c.recv(100)\n  os.write(1, b'done\\n')";
    let Some((hierarchy, theirs)) =
        hierarchies().into_iter().find_map(|dir| Some((dir.clone(), Group::new(&dir, UNWANTED, 4)?)))
    else {
        no_groups("containers, open connections");
        return;
    };
    let mut program = Program::command(&["-c", script]);
    theirs.add(&program);
    let capture = Capture { http: true, stdio: true, ..Capture::default() };
    let mut reader = Reader::new(Scope { pids: vec![program.id()], ..Scope::default() }, capture);
    let mut turn = |reader: &mut Reader| {
        reader.owners.clear();
        program.go_on();
        program.wait_for("done");
        reader.read();
        reader.owners.iter().filter(|pid| **pid == program.id()).count()
    };
    // Two ends that were open, and a line; then a line, and calls, which have no owner; then nothing.
    assert_eq!(turn(&mut reader), 3, "{}", hierarchy.display());
    assert_eq!(turn(&mut reader), 1);
    reader.tell();
    let before = reader.tracer.counts();
    assert_eq!(turn(&mut reader), 0);
    assert_eq!(turn(&mut reader), 0);
    // Either end once, and each line.
    let counts = reader.tracer.counts();
    assert_eq!((counts.left_out - before.left_out, counts.dropped), (4, 0));
    assert_eq!(reader.exchanges_of(program.id()).len(), 4, "of the first two turns, from both ends");
    drop(program);
}

/// Gone before its first record is read, in a group that nobody knows: the container is known by the group's id.
#[test]
fn processes_that_are_gone_have_their_containers() {
    let Some(_place) = possible("containers, gone") else { return };
    let unified = Path::new(match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => "/sys/fs/cgroup",
        false => "/sys/fs/cgroup/unified",
    });
    let Some(group) = Group::new(unified, WANTED, 7) else {
        no_groups("containers, gone");
        return;
    };
    let server = Program::start(&["server.py"]);
    let capture = Capture { http: true, ..Capture::default() };
    let mut reader = Reader::new(Scope { ports: vec![server.port], ..Scope::default() }, capture);
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec curl -s -o /dev/null http://127.0.0.1:{}/gone",
        group.0.display(),
        server.port
    );
    let mut client = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let pid = client.id();
    assert!(client.wait().unwrap().success());
    reader.read();
    assert_eq!(reader.exchanges_of(pid), ["/gone"]);
    let container = reader.events.iter().find_map(|event| match event {
        TraceEvent::Exchange(e) if e.request.connection.process.pid == pid => {
            e.request.connection.process.container.clone()
        }
        _ => None,
    });
    assert!(container.is_some_and(|id| id.starts_with(WANTED)));
}

/// The same by way of the source: rows, and what its status says.
#[test]
fn the_source_tells_of_wanted_containers_only() {
    let Some(place) = possible("containers, source") else { return };
    let groups = hierarchies()
        .into_iter()
        .find_map(|dir| Some((Group::new(&dir, WANTED, 5)?, Group::new(&dir, UNWANTED, 6)?)));
    let Some((ours, theirs)) = groups else {
        no_groups("containers, source");
        return;
    };
    let (a, b) = (Program::start(&["server.py"]), Program::start(&["server.py"]));
    ours.add(&a);
    theirs.add(&b);
    let scope = format!("container = [\"{WANTED}\"], port = [{}, {}]", a.port, b.port);
    let mut traced = Traced::start(&place, r#"["http"]"#, &scope);
    fetch(&b, "theirs", 3);
    fetch(&a, "ours", 3);
    let rows = traced.rows(3, |row| row["event"] == "http");
    assert!(rows.iter().all(|row| row["pid"] == a.id()), "{rows:?}");
    assert!(rows.iter().all(|row| row["container_id"].as_str().unwrap().starts_with(WANTED)), "{rows:?}");
    assert_eq!(traced.all(|_| true).len(), 3);
    traced.end();
    drop((a, b));
}
