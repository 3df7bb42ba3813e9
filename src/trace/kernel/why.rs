//! Why something could not be loaded or hooked, in words that say what is missing and which command grants it.

use std::error::Error;
use std::fmt;

use aya::programs::ProgramError;

use crate::trace::capability::{self, Capabilities};

/// Why no program could be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// What is wrong.
    pub why: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; hint: {hint}"))
    }
}

impl LoadError {
    pub(super) fn other(why: impl Into<String>) -> LoadError {
        LoadError { why: why.into(), hint: None }
    }

    pub(super) fn no_types(error: &aya::BtfError) -> LoadError {
        let why = format!("the kernel's type information cannot be read: /sys/kernel/btf/vmlinux: {error}");
        LoadError { why, hint: Some("a kernel with CONFIG_DEBUG_INFO_BTF=y is needed".to_owned()) }
    }

    pub(super) fn of(error: &aya::EbpfError) -> LoadError {
        if !is_refusal(error) {
            return LoadError::other(format!("the programs cannot be loaded: {}", chain(error)));
        }
        let missing = capability::missing_for_tracing(Capabilities::current());
        match missing {
            Some(missing) => LoadError {
                why: format!("the kernel refuses eBPF: needs {missing}"),
                hint: Some(capability::grant(&missing)),
            },
            None => LoadError::other(format!(
                "the kernel refuses eBPF although no capability is missing: {}",
                chain(error)
            )),
        }
    }
}

/// What the kernel must be before anything is tried.
pub(super) fn check_kernel() -> Result<(), LoadError> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    match capability::is_too_old(&release) {
        true => Err(LoadError {
            why: format!("Linux {release} is too old: the ring buffer needs 5.8, what is read from it 5.15"),
            hint: None,
        }),
        false if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() => Err(LoadError {
            why: "the kernel has no type information: there is no /sys/kernel/btf/vmlinux".to_owned(),
            hint: Some("a kernel with CONFIG_DEBUG_INFO_BTF=y is needed, and /sys mounted".to_owned()),
        }),
        false => Ok(()),
    }
}

/// Why a program could not be loaded or hooked; one line, unless `whole`: then with all that the verifier said.
pub(super) fn of_program(error: &ProgramError, whole: bool) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error
        && whole
    {
        return format!("{io_error}\n{verifier_log}");
    }
    if is_refusal(error) {
        let capabilities = Capabilities::current();
        return match capability::missing_for_tracing(capabilities)
            .or(capability::missing_for_probes(capabilities))
        {
            Some(missing) => format!("needs {missing}"),
            None => "the kernel refuses it".to_owned(),
        };
    }
    match error {
        ProgramError::LoadError { verifier_log, .. } => {
            let log = verifier_log.to_string();
            let said = log.lines().rev().map(str::trim).find(|line| !line.is_empty() && !is_statistics(line));
            format!("the verifier refuses it: {}", said.unwrap_or("it did not say why"))
        }
        error => chain(error),
    }
}

/// Why a system call failed that hooks something.
pub(super) fn of_call(call: &str, error: &std::io::Error) -> String {
    match (is_refusal(error), capability::missing_for_probes(Capabilities::current())) {
        (true, Some(missing)) => format!("needs {missing}"),
        (true, None) => "the kernel refuses it".to_owned(),
        (false, _) => format!("{call}: {error}"),
    }
}

fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time", "stack depth", "insns "].iter().any(|start| line.starts_with(start))
}

/// Whether the kernel said EPERM or EACCES, without a verifier's reasons.
pub(super) fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref::<ProgramError>()
            && !verifier_log.to_string().trim().is_empty()
        {
            return false;
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::PermissionDenied
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error and what caused it, each once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text.replace('\n', " ")
}
