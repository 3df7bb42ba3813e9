//! Which files are hooked: libraries that were removed or rewritten, that are loaded late, whose processes have ended, and
//! files that cannot be hooked, which keep nobody else's from being.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use logweir::trace::event::TraceEvent;
use logweir::trace::http::Pairing;
use logweir::trace::http::pairing::Wanted;
use logweir::trace::kernel::Tracer;
use logweir::trace::records::Record;
use logweir::trace::settings::{Capture, Scope, Settings};

use crate::programs::{Program, certificate, curl, left_out, possible, tls_alone};
use crate::support::eventually;

/// More than lie between two looks at all processes.
const SCANS: usize = 61;

fn settings(pids: Vec<u32>) -> Settings {
    let capture = Capture { tls: true, ..Capture::default() };
    let scope = Scope { pids, ..Scope::default() };
    Settings { capture, scope, ring_bytes: 1 << 20, without: Vec::new() }
}

/// The library that python uses here.
fn library() -> PathBuf {
    let script = "import ssl\nprint(next(l.split()[5] for l in open('/proc/self/maps') if '/libssl' in l))";
    let python = ["/usr/bin/python3", "python3"]
        .into_iter()
        .find(|path| *path == "python3" || Path::new(path).exists());
    let output = Command::new(python.unwrap()).args(["-c", script]).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn copy_to(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let copy = dir.join(library().file_name().unwrap());
    fs::copy(library(), &copy).unwrap();
    copy
}

/// How many libraries are hooked.
fn hooked(tracer: &Tracer) -> usize {
    let hooks = tracer.hooks().to_string();
    let count = hooks
        .split("tls=on(")
        .nth(1)
        .and_then(|tls| tls.split([' ', ')']).find_map(|word| word.parse().ok()));
    count.unwrap_or_else(|| panic!("{hooks}"))
}

fn paths(tracer: &mut Tracer) -> Vec<String> {
    let mut pairing = Pairing::new(Wanted { tcp: false, query: false }, Path::new("/proc"), 1024);
    let mut events = Vec::new();
    tracer.read(usize::MAX, |bytes| pairing.record(&Record::parse(bytes).unwrap(), &mut events));
    let path = |event: &TraceEvent| match event {
        TraceEvent::Exchange(exchange) => Some(exchange.request.path.to_string()),
        _ => None,
    };
    events.iter().filter_map(path).collect()
}

/// As after an upgrade: the processes go on with the file that they have, whatever its name leads to by now.
#[test]
fn a_library_that_was_replaced_is_hooked_where_it_is_used() {
    let Some(place) = possible("tls, replaced") else { return };
    let _alone = tls_alone();
    let pem = certificate(&place);
    for (n, is_replaced) in [("of its own", None), ("removed", Some(false)), ("replaced", Some(true))] {
        let dir = place.path(n);
        let copy = copy_to(&dir);
        let server = Program::with_libraries(&dir, &["server.py", &pem]);
        if let Some(is_replaced) = is_replaced {
            fs::remove_file(&copy).unwrap();
            is_replaced.then(|| copy_to(&dir));
        }
        let mut tracer = Tracer::start(&settings(vec![server.id()])).unwrap();
        curl(&["-k", &format!("https://127.0.0.1:{}/x", server.port)]);
        assert_eq!(paths(&mut tracer), ["/x"], "{n}: {}", tracer.hooks());
    }
}

/// `cp` writes into the file that is there. Who runs next has the new one.
#[test]
fn a_file_that_was_rewritten_is_looked_at_again() {
    let Some(place) = possible("tls, rewritten") else { return };
    let _alone = tls_alone();
    let script = "import mmap, sys\nprint(1, flush=True)\nfor line in sys.stdin:\n  f = open(sys.argv[1], 'rb')\n  \
        m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n  print('mapped', flush=True)";
    let copy = place.path("libssl.so.3");
    fs::write(&copy, "not yet").unwrap();
    let mut program = Program::command(&["-c", script, copy.to_str().unwrap()]);
    program.go_on();
    program.wait_for("mapped");
    let settings = settings(vec![program.id()]);
    let mut tracer = Tracer::start(&settings).unwrap();
    let before = hooked(&tracer);
    fs::copy(library(), &copy).unwrap();
    let found: usize = (0..SCANS).map(|_| tracer.find_libraries(&settings).unwrap()).sum();
    assert_eq!((found, hooked(&tracer)), (1, before + 1));
}

/// A program that loads the library when it has long been running.
#[test]
fn a_library_that_is_loaded_late_is_found() {
    let Some(place) = possible("tls, late") else { return };
    let _alone = tls_alone();
    let script = "import ctypes, sys, time\nprint(1, flush=True)\n\
        age = lambda: time.clock_gettime(time.CLOCK_BOOTTIME) \
        - int(open('/proc/self/stat').read().rsplit(')', 1)[1].split()[19]) / 100\n\
        sys.stdin.readline()\nwhile age() < 4.5: time.sleep(0.01)\nprint('old', flush=True)\n\
        sys.stdin.readline()\nctypes.CDLL(sys.argv[1])\nprint('loaded', flush=True)\nsys.stdin.readline()";
    let copy = copy_to(&place.path("late"));
    let mut program = Program::command(&["-c", script, copy.to_str().unwrap()]);
    let settings = settings(vec![program.id()]);
    let mut tracer = Tracer::start(&settings).unwrap();
    program.go_on();
    program.wait_for("old");
    assert_eq!(tracer.find_libraries(&settings), Ok(0));
    program.go_on();
    program.wait_for("loaded");
    let found: usize = (0..SCANS).map(|_| tracer.find_libraries(&settings).unwrap()).sum();
    assert_eq!(found, 1);
}

/// What is on a filesystem that nothing runs from any more, such as a container's, is let go: it can be unmounted.
#[test]
fn a_filesystem_that_is_not_used_any_more_can_be_unmounted() {
    const MOUNTED: &str = "EBPF_TEST_FILESYSTEM";
    let Some(place) = possible("tls, unmounted") else { return };
    let dir = place.path("container");
    let Some(_) = std::env::var_os(MOUNTED) else {
        in_mount_namespace(
            "libraries::a_filesystem_that_is_not_used_any_more_can_be_unmounted",
            MOUNTED,
            ":",
        );
        return;
    };
    fs::create_dir_all(&dir).unwrap();
    let run =
        |program: &str, args: &[&str]| Command::new(program).args(args).arg(&dir).status().unwrap().success();
    assert!(run("mount", &["-t", "tmpfs", "tmpfs"]));
    copy_to(&dir);
    let pem = certificate(&place);
    let server = Program::with_libraries(&dir, &["server.py", &pem]);
    let settings = settings(vec![server.id(), std::process::id()]);
    let mut tracer = Tracer::start(&settings).unwrap();
    let all = hooked(&tracer);
    (0..SCANS).for_each(|_| assert_eq!(tracer.find_libraries(&settings), Ok(0)));
    assert_eq!(hooked(&tracer), all, "it is used");
    drop(server);
    assert!(!run("umount", &[]));
    (0..SCANS).for_each(|_| assert_eq!(tracer.find_libraries(&settings), Ok(0)));
    assert_eq!(hooked(&tracer), all - 1);
    // The kernel lets go of the file's place in the mount a moment later.
    eventually("it can be unmounted", || run("umount", &[]).then_some(()));
}

/// Anybody may run a file whose functions are nowhere. Where it is the first that is found, the others are hooked still.
#[test]
fn a_file_that_cannot_be_hooked_is_no_reason_not_to_hook_others() {
    const ALONE: &str = "EBPF_TEST_NO_LIBRARIES";
    let Some(place) = possible("tls, not to be hooked") else { return };
    let Some(real) = std::env::var_os(ALONE) else {
        // Without the system's own.
        let hide = "for file in /usr/lib/libssl* /usr/lib64/libssl* /usr/local/lib/libssl* /usr/lib/*-linux-gnu/libssl*; do \
            [ ! -f \"$file\" ] || mount --bind /dev/null \"$file\" || exit 77; done";
        let copy = copy_to(&place.path("real"));
        let name = "libraries::a_file_that_cannot_be_hooked_is_no_reason_not_to_hook_others";
        in_mount_namespace_with(name, ALONE, copy.to_str().unwrap(), hide);
        return;
    };
    let script = "import mmap, sys\nprint(1, flush=True)\nfiles = []\nfor line in sys.stdin:\n  \
        f = open(sys.argv[1 + len(files)], 'rb')\n  \
        files.append(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ))\n  print('mapped', flush=True)";
    let bad = place.path("libssl-bad.so");
    fs::write(&bad, beyond_its_end(Path::new(&real))).unwrap();
    let mut program = Program::command(&["-c", script, bad.to_str().unwrap(), real.to_str().unwrap()]);
    program.go_on();
    program.wait_for("mapped");
    let settings = settings(vec![program.id()]);
    let mut tracer = Tracer::start(&settings).unwrap();
    assert_eq!(hooked(&tracer), 0);
    program.go_on();
    program.wait_for("mapped");
    let found: usize = (0..SCANS).map(|_| tracer.find_libraries(&settings).unwrap()).sum();
    assert_eq!((found, hooked(&tracer)), (1, 1));
}

/// A library whose code lies beyond the end of the file, as its headers have it.
fn beyond_its_end(real: &Path) -> Vec<u8> {
    let mut bytes = fs::read(real).unwrap();
    let number = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let first = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    for n in 0..usize::from(number(&bytes, 56)) {
        let at = usize::try_from(first).unwrap() + n * 56;
        // PT_LOAD with PF_X.
        if bytes[at..at + 4] == [1, 0, 0, 0] && bytes[at + 4] & 1 != 0 {
            bytes[at + 8 + 4] = 1;
        }
    }
    bytes
}

fn in_mount_namespace(test: &str, variable: &str, first: &str) {
    in_mount_namespace_with(test, variable, "1", first);
}

/// Runs a test of this file anew, where what is mounted is nobody else's matter.
fn in_mount_namespace_with(test: &str, variable: &str, value: &str, first: &str) {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &format!("{first}; exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test]).env(variable, value).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if output.status.code() == Some(77) || said.starts_with("unshare:") {
        left_out(test, &format!("no mount namespace of its own: {}", said.trim()));
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
