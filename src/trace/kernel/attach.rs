//! Each hook by itself: the best kind of program that the kernel takes, else the next, else why not.

use aya::programs::{BtfTracePoint, FExit, Program, ProgramError, TracePoint, UProbe};
use aya::{Btf, Ebpf};

use super::uprobe_multi::UprobeMulti;
use super::why;
use crate::trace::settings::{HookState, Hooks, Settings};

/// How a program is hooked.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A raw tracepoint whose arguments the verifier knows the types of.
    Typed(&'static str),
    /// The same, where it shows who has accepted a connection.
    FirstUse(&'static str),
    /// The return of a kernel function.
    FunctionExit(&'static str),
    /// A classic tracepoint, by category and name.
    Classic(&'static str, &'static str),
    /// A place in a user-space file, given later.
    User,
}

impl Way {
    /// The kind, as hooks are reported.
    fn kind(self) -> &'static str {
        match self {
            Way::Typed("sys_exit") => "tp_btf sys_exit",
            Way::Typed(_) => "tp_btf",
            Way::FirstUse(_) => "first use",
            Way::FunctionExit(_) => "fexit",
            Way::Classic(..) => "tracepoint",
            Way::User => "uprobe",
        }
    }
}

/// How each program of the object is hooked.
fn way_of(program: &str) -> Option<Way> {
    Some(match program {
        "conn_state" => Way::Typed("inet_sock_set_state"),
        "conn_state_classic" => Way::Classic("sock", "inet_sock_set_state"),
        "conn_accept" => Way::FunctionExit("inet_accept"),
        "conn_sent" => Way::FirstUse("sock_send_length"),
        "conn_received" => Way::FirstUse("sock_recv_length"),
        "http_sent" => Way::Typed("sock_send_length"),
        "http_received" => Way::Typed("sock_recv_length"),
        "conn_accept_call" | "http_call" | "stdio_written" => Way::Typed("sys_exit"),
        "http_call_classic" | "stdio_written_classic" => Way::Classic("raw_syscalls", "sys_exit"),
        name if name.starts_with("ssl_") => Way::User,
        _ => return None,
    })
}

/// What each capture needs: alternatives in the order of preference, each one or more programs together.
const STATE: &[&[&str]] = &[&["conn_state"], &["conn_state_classic"]];
const ACCEPT: &[&[&str]] = &[&["conn_accept"]];
/// The first use of a connection shows who has accepted it, too; where HTTP is looked at, its programs see that.
const FIRST_USE: &[&[&str]] = &[&["conn_sent", "conn_received"], &["conn_accept_call"]];
const HTTP: &[&[&str]] = &[&["http_sent", "http_received"], &["http_call"], &["http_call_classic"]];
const STDIO: &[&[&str]] = &[&["stdio_written"], &["stdio_written_classic"]];
/// Hooks what the settings ask for, TLS excepted.
pub(super) fn all(ebpf: &mut Ebpf, btf: &Btf, settings: &Settings) -> Hooks {
    let capture = settings.capture;
    let mut hooks = Hooks::default();
    let mut first_of = |alternatives: &[&[&str]]| first_possible(ebpf, btf, alternatives, &settings.without);
    // Whose a connection is, and when it is over, matters to HTTP, too.
    if capture.tcp || capture.http || capture.tls {
        hooks.0.push(("tcp", first_of(STATE)));
    }
    // TLS connections are known by what their sockets move.
    let http = (capture.http || capture.tls).then(|| first_of(HTTP));
    if capture.tcp {
        let state = match (first_of(ACCEPT), &http) {
            (HookState::Off(_), Some(HookState::On(_))) => HookState::On("first use".to_owned()),
            (HookState::Off(_), _) => first_of(FIRST_USE),
            (on, _) => on,
        };
        hooks.0.push(("accept", state));
    }
    hooks.0.extend(http.map(|state| ("http", state)));
    if capture.stdio {
        hooks.0.push(("stdio", first_of(STDIO)));
    }
    hooks
}

/// Loads one program and hooks nothing.
pub(super) fn load_alone(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<(), String> {
    load(ebpf, btf, name).map_err(|e| why::of_program(&e, true))?;
    // These are loaded in either of two ways.
    if let Some(Way::User) = way_of(name) {
        let both = UprobeMulti::load(ebpf, btf, [name, name]);
        both.map_err(|e| format!("as uprobe_multi: {}", why::of_program(&e, true)))?;
    }
    Ok(())
}

/// A program by its name and kind.
pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| format!("the program {name} is not in the object"))?;
    program.try_into().map_err(|e: ProgramError| format!("the program {name}: {e}"))
}

fn first_possible(ebpf: &mut Ebpf, btf: &Btf, alternatives: &[&[&str]], without: &[&str]) -> HookState {
    let mut first_failure = None;
    for programs in alternatives {
        let Some(way) = programs.first().and_then(|name| way_of(name)) else { continue };
        if programs.iter().any(|name| without.contains(name)) {
            continue;
        }
        match programs.iter().try_for_each(|name| hook(ebpf, btf, name)) {
            Ok(()) => return HookState::On(way.kind().to_owned()),
            Err(e) => {
                programs.iter().for_each(|name| unload(ebpf, name));
                first_failure.get_or_insert_with(|| why::of_program(&e, false));
            }
        }
    }
    HookState::Off(first_failure.unwrap_or_else(|| "no kind of hook is left".to_owned()))
}

fn hook(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<(), ProgramError> {
    load(ebpf, btf, name)?;
    match (ebpf.program_mut(name), way_of(name)) {
        (Some(Program::BtfTracePoint(program)), _) => program.attach().map(drop),
        (Some(Program::FExit(program)), _) => program.attach().map(drop),
        (Some(Program::TracePoint(program)), Some(Way::Classic(category, name))) => {
            program.attach(category, name).map(drop)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Undoes what was done of a program, so that another can take its place.
fn unload(ebpf: &mut Ebpf, name: &str) {
    // One that was not loaded has nothing to undo.
    match ebpf.program_mut(name) {
        Some(Program::BtfTracePoint(program)) => program.unload().ok(),
        Some(Program::FExit(program)) => program.unload().ok(),
        Some(Program::TracePoint(program)) => program.unload().ok(),
        _ => None,
    };
}

fn load(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<(), ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?;
    match way_of(name) {
        Some(Way::Typed(tracepoint) | Way::FirstUse(tracepoint)) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(tracepoint, btf)
        }
        Some(Way::FunctionExit(function)) => {
            let program: &mut FExit = program.try_into()?;
            program.load(function, btf)
        }
        Some(Way::Classic(..)) => {
            let program: &mut TracePoint = program.try_into()?;
            program.load()
        }
        Some(Way::User) => {
            let program: &mut UProbe = program.try_into()?;
            program.load()
        }
        None => Err(ProgramError::UnexpectedProgramType),
    }
}
