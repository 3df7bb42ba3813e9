//! `weir buffer`: looks into disk buffers, verifies and repairs them, while no weir runs on them or (but for repairs)
//! while one does.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::BufferCommand;
use super::config_source::ConfigSource;
use super::exit::{Exit, Failure};
use super::state_dir::state_directory;
use super::terminal;
use crate::base::units::ByteCount;
use crate::config::Diagnostics;
use crate::flow::disk::audit::{self, Report};
use crate::flow::disk::storage::Disk;

/// How deep below a directory buffers are looked for: `state_dir/buffers/<pipeline>/<sink>`.
const DEPTH: usize = 3;

/// Runs one of the commands.
///
/// # Errors
/// 66 if there is no such directory, 69 if a buffer is in use, 74 if it cannot be read or written; 1 if `verify`
/// finds damage.
pub fn run(command: &BufferCommand, files: &ConfigSource) -> Result<Exit, Failure> {
    let (dir, json) = match command {
        BufferCommand::Inspect { dir, json } | BufferCommand::Verify { dir, json } => (dir, *json),
        BufferCommand::Repair { dir, json } => (dir, *json),
    };
    let (root, told) = match dir {
        Some(dir) => (dir.clone(), true),
        None => (state_dir(files)?.join("buffers"), false),
    };
    if told && !root.is_dir() {
        return Err(Failure::new(Exit::NO_INPUT, format!("no directory {}", root.display())));
    }
    let mut found = Vec::new();
    find(&root, 0, &mut found);
    found.sort();
    let (mut reports, mut text) = (Vec::new(), String::new());
    let mut exit = Exit::OK;
    for dir in &found {
        let moved = match command {
            BufferCommand::Repair { .. } => {
                audit::repair(&Disk, dir).map_err(|e| failed(dir, "repair", &e))?
            }
            _ => Vec::new(),
        };
        let deep = !matches!(command, BufferCommand::Inspect { .. });
        let report = audit::report(&Disk, dir, deep).map_err(|e| failed(dir, "read", &e))?;
        if deep && !report.is_sound() {
            exit = Exit::FAILED;
        }
        human(&report, &moved, deep, &mut text);
        reports.push(machine(&report, &moved, deep));
    }
    if json {
        terminal::print(&format!("{:#}\n", Value::from(reports)))?;
    } else if found.is_empty() {
        terminal::print(&format!("no disk buffers below {}\n", root.display()))?;
    } else {
        terminal::print(&text)?;
    }
    Ok(exit)
}

/// The state directory of the configuration, or the usual one.
fn state_dir(files: &ConfigSource) -> Result<PathBuf, Failure> {
    let mut findings = Diagnostics::new();
    let Some(loaded) = files.load(&mut findings)? else { return Err(Failure::config(findings)) };
    let told = loaded.tree.get("state_dir").and_then(crate::config::Node::as_str);
    Ok(state_directory(told, files.environment()))
}

fn find(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if audit::is_buffer(&Disk, dir) {
        found.push(dir.to_owned());
    } else if depth < DEPTH {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let below = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        below.for_each(|e| find(&e.path(), depth + 1, found));
    }
}

fn failed(dir: &Path, what: &str, e: &io::Error) -> Failure {
    if e.kind() == io::ErrorKind::WouldBlock {
        let why = format!("cannot {what} {}: a running weir has it (pid {e})", dir.display());
        return Failure::new(Exit::UNAVAILABLE, why).hint("stop that weir first");
    }
    Failure::new(Exit::IO, format!("cannot {what} {}: {e}", dir.display()))
}

fn human(report: &Report, moved: &[PathBuf], deep: bool, out: &mut String) {
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(report.dir.display().to_string());
    line(format!(
        "  {} events wait, {} in {} segments",
        report.waiting_events,
        size(report.bytes()),
        report.segments.len()
    ));
    if report.settled_records.is_none() {
        line("  no valid position: everything in it will be delivered".to_owned());
    }
    for (from, to) in &report.missing {
        line(format!("  records {from} to {} are missing", to - 1));
    }
    for segment in &report.segments {
        let mut text = format!("  {:020}  {:>10}", segment.number, size(segment.bytes));
        if deep {
            write!(text, "  {} records, {} events", segment.records, segment.events).ok();
        }
        if let Some(why) = &segment.header {
            write!(text, "  {why}").ok();
        }
        for (at, len) in &segment.damaged {
            write!(text, "  damaged: {len} bytes at {at}").ok();
        }
        line(text);
    }
    report.set_aside.iter().for_each(|name| line(format!("  set aside: {name}")));
    moved.iter().for_each(|path| line(format!("  repaired; the damaged file is {}", path.display())));
    if deep {
        line(format!(
            "  {}",
            if report.is_sound() { "sound" } else { "damaged: `weir buffer repair` keeps what is sound" }
        ));
    }
}

fn size(bytes: u64) -> String {
    let rounded = if bytes < 10 << 20 { ByteCount(bytes >> 10 << 10) } else { ByteCount(bytes >> 20 << 20) };
    if bytes < 1 << 10 { ByteCount(bytes).to_string() } else { rounded.to_string() }
}

fn machine(report: &Report, moved: &[PathBuf], deep: bool) -> Value {
    let segments: Vec<Value> = (report.segments.iter())
        .map(|s| {
            json!({
                "first_record": s.number,
                "bytes": s.bytes,
                "records": deep.then_some(s.records),
                "events": deep.then_some(s.events),
                "header": s.header,
                "damaged": s.damaged.iter().map(|(at, len)| json!({ "offset": at, "bytes": len })).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "directory": report.dir.display().to_string(),
        "waiting_events": report.waiting_events,
        "bytes": report.bytes(),
        "settled_records": report.settled_records,
        "sound": deep.then(|| report.is_sound()),
        "missing_records": report.missing.iter().map(|(from, to)| json!({ "first": from, "end": to })).collect::<Vec<_>>(),
        "set_aside": report.set_aside,
        "moved_aside": moved.iter().map(|p| p.display().to_string()).collect::<Vec<_>>(),
        "segments": segments,
    })
}
