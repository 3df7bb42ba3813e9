//! Which capabilities tracing needs, which of them the process has, and the command that grants what is missing.

/// The effective capabilities of a process (capabilities(7)), one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(pub u64);

const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

impl Capabilities {
    /// Those of this process; none if `/proc` does not tell.
    pub fn current() -> Capabilities {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Capabilities::in_status(&status)
    }

    /// From the text of `/proc/PID/status`.
    pub fn in_status(status: &str) -> Capabilities {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Capabilities(line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok()).unwrap_or(0))
    }

    fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }
}

/// What is missing to load programs and hook tracepoints: `CAP_SYS_ADMIN` includes both of the newer ones.
pub fn missing_for_tracing(capabilities: Capabilities) -> Option<String> {
    if capabilities.has(SYS_ADMIN) {
        return None;
    }
    match (capabilities.has(BPF), capabilities.has(PERFMON)) {
        (true, true) => None,
        (false, true) => Some("CAP_BPF".to_owned()),
        (true, false) => Some("CAP_PERFMON".to_owned()),
        (false, false) => Some("CAP_BPF and CAP_PERFMON".to_owned()),
    }
}

/// What is missing where a kernel asks for more than the two: for uprobes, and for some kinds of programs.
pub fn missing_for_probes(capabilities: Capabilities) -> Option<String> {
    (!capabilities.has(SYS_ADMIN)).then(|| "CAP_SYS_ADMIN".to_owned())
}

/// The command that grants what is missing to the binary.
pub fn grant(missing: &str) -> String {
    let names = missing.replace(" and ", ",").to_lowercase();
    // Capabilities of a file replace each other.
    let names = match names.as_str() {
        "cap_bpf" | "cap_perfmon" => "cap_bpf,cap_perfmon".to_owned(),
        names => names.to_owned(),
    };
    format!("run weir as root, or grant it once: sudo setcap {names}+ep \"$(command -v weir)\"")
}

/// The same for text that names what is missing; empty if it names nothing.
pub fn hint_for(why: &str) -> String {
    let named = ["CAP_BPF and CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON"];
    let missing = named.into_iter().find(|name| why.contains(name));
    missing.map(|missing| format!("; hint: {}", grant(missing))).unwrap_or_default()
}

/// Whether a kernel of this release (`uname -r`) is older than 5.15.
pub fn is_too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version != (0, 0) && version < (5, 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_grants_it() {
        let missing = |bits| missing_for_tracing(Capabilities(bits));
        assert_eq!(missing(0).as_deref(), Some("CAP_BPF and CAP_PERFMON"));
        assert_eq!(missing(BPF).as_deref(), Some("CAP_PERFMON"));
        assert_eq!(missing(PERFMON).as_deref(), Some("CAP_BPF"));
        assert_eq!((missing(BPF | PERFMON), missing(SYS_ADMIN)), (None, None));
        assert_eq!(missing_for_probes(Capabilities(BPF | PERFMON)).as_deref(), Some("CAP_SYS_ADMIN"));
        assert!(grant("CAP_BPF and CAP_PERFMON").contains("setcap cap_bpf,cap_perfmon+ep"));
        assert!(grant("CAP_PERFMON").contains("setcap cap_bpf,cap_perfmon+ep"));
        assert!(grant("CAP_SYS_ADMIN").contains("setcap cap_sys_admin+ep"));
    }

    #[test]
    fn the_status_file_tells() {
        let status = "Name:\tweir\nCapPrm:\t000001ffffffffff\nCapEff:\t000000c000000000\n";
        assert_eq!(Capabilities::in_status(status), Capabilities(BPF | PERFMON));
        assert_eq!(Capabilities::in_status(""), Capabilities(0));
    }

    #[test]
    fn releases() {
        for (release, old) in [
            ("5.14.21", true),
            ("4.18.0-553.el8", true),
            ("5.15.0-100-generic", false),
            ("6.18.44", false),
            ("?", false),
        ] {
            assert_eq!(is_too_old(release), old, "{release}");
        }
    }
}
