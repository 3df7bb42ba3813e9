//! A machine with systemd as its first process, beside everything else on this one: namespaces of its own for mounts,
//! processes, control groups and the network, and a file system in memory over this machine's files. It boots in a
//! second; dropped, it is gone with all that ran and was written in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use logweir::base::clock;

use super::weir::{End, binary, finish};
use super::{Killed, PATIENCE, eventually, installed};

const SCRIPT: &str = include_str!("machine.sh");
/// What it is made with.
const PROGRAMS: [&str; 6] = ["systemctl", "unshare", "nsenter", "setpriv", "pivot_root", "mount"];
/// Where programs are found in it.
const SEARCHED: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
/// Seconds that one command may take.
const COMMAND_MAX: &str = "60";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A machine that is up.
pub struct Machine {
    /// Dropped first: with the first process, all others end.
    unshare: Killed,
    /// Its first process, as this machine knows it.
    init: u32,
    cgroup: String,
    /// Where its root is mounted, out of sight of this machine.
    dir: tempfile::TempDir,
}

/// Why there is none.
pub enum Missing {
    /// Something can be installed, or given.
    Tools(String),
    /// The surroundings do not allow it: a container, a kernel without namespaces.
    Surroundings(String),
}

impl Machine {
    /// Boots one, with the files of this machine or of the root that `MACHINE_ROOT` names.
    pub fn boot() -> Result<Machine, Missing> {
        if !rustix::process::geteuid().is_root() {
            return Err(Missing::Tools("it takes root".to_owned()));
        }
        if let Some(program) = PROGRAMS.iter().find(|program| !installed(program)) {
            return Err(Missing::Tools(format!("{program} (of systemd or util-linux) is not installed")));
        }
        let dir = tempfile::tempdir().unwrap();
        let cgroup = format!("weir-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let said = dir.path().with_extension("boot");
        let file = fs::File::create(&said).unwrap();
        // Whatever becomes of the test, nothing is left running.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "sh",
            "-c",
            SCRIPT,
            "machine",
        ]);
        let files = std::env::var_os("MACHINE_ROOT").unwrap_or_else(|| "/".into());
        command.arg(dir.path()).arg(&cgroup).arg(binary()).arg(files).stdin(Stdio::null());
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let mut machine = Machine { unshare: Killed(child), init: 0, cgroup, dir };
        let up = machine.wait_up();
        let said = (fs::read_to_string(&said).unwrap_or_default(), fs::remove_file(&said)).0;
        up.map_err(|why| Missing::Surroundings(format!("{why}: {}", said.trim().replace('\n', "; "))))?;
        Ok(machine)
    }

    /// Waits until systemd has reached its target.
    fn wait_up(&mut self) -> Result<(), String> {
        let end = clock::now() + PATIENCE;
        while clock::now() < end {
            if let Some(status) = self.unshare.0.try_wait().unwrap() {
                return Err(format!("systemd cannot be started in namespaces here ({status})"));
            }
            if self.init == 0 {
                self.init = child_of(self.unshare.0.id()).unwrap_or_default();
            } else if fs::read_to_string(format!("/proc/{}/comm", self.init)).is_ok_and(|c| c == "systemd\n")
                && self.run(&["systemctl", "is-active", "machine.target"]).code == 0
            {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Err("systemd has not come up in time".to_owned())
    }

    /// A command in it, as root, in an empty environment.
    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args([COMMAND_MAX, "nsenter", "-t", &self.init.to_string()]);
        command.args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--root", "--wd"]);
        command.args(["env", "-i", SEARCHED, "LC_ALL=C.UTF-8", "SYSTEMD_PAGER="]).args(line);
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, line: &[&str]) -> End {
        finish(&mut self.command(line))
    }

    /// The same, which has to end with 0; what it printed.
    #[track_caller]
    pub fn passes(&self, line: &[&str]) -> String {
        let end = self.run(line);
        assert_eq!(end.code, 0, "{line:?}: {}{}", end.stdout, end.stderr);
        end.stdout
    }

    /// Runs lines of a shell, which have to end with 0.
    #[track_caller]
    pub fn shell(&self, lines: &str) -> String {
        self.passes(&["sh", "-euc", lines])
    }

    /// Writes a file, making its directories.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        self.passes(&["sh", "-euc", r#"mkdir -p "${1%/*}"; printf %s "$2" > "$1""#, "write", path, text]);
    }

    /// Writes a unit; systemd knows it from then on. The binary is /usr/bin/weir.
    #[track_caller]
    pub fn unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.passes(&["systemctl", "daemon-reload"]);
    }

    /// A property of the service.
    pub fn property(&self, name: &str) -> String {
        self.passes(&["systemctl", "show", "-P", name, "weir"]).trim().to_owned()
    }

    /// Waits until a property of the service is this.
    #[track_caller]
    pub fn wait_for(&self, name: &str, value: &str) {
        eventually(&format!("{name}={value}"), || (self.property(name) == value).then_some(()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        rustix::process::Pid::from_raw(self.init.cast_signed())
            .map(|init| rustix::process::kill_process(init, rustix::process::Signal::KILL).ok());
        self.unshare.0.wait().ok();
        // Its control groups outlive it; they are reached the way they were made.
        let script = "mount -t cgroup2 cgroup2 \"$1\" && find \"$1/$2\" -depth -type d -exec rmdir {} +";
        let mut sweep = Command::new("unshare");
        sweep.args(["--mount", "sh", "-c", script, "sweep"]).arg(self.dir.path()).arg(&self.cgroup);
        sweep.stderr(Stdio::null()).status().ok();
    }
}

/// The process that this one started.
fn child_of(parent: u32) -> Option<u32> {
    let parent = parent.to_string();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(Path::new("/proc").join(entry.file_name()).join("stat")).ok()?;
        // The state and the parent come after the name, which is in parentheses and may hold some.
        (stat.rsplit_once(") ")?.1.split(' ').nth(1)? == parent).then_some(id)
    })
}
