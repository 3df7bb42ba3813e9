//! `weir tail`: looking at streams and files. [`input`] reads, [`wanted`] chooses, [`merge`] puts in order,
//! [`output`] writes and [`pretty`] lays out. Everything flows as blocks of rows; nothing is remembered on disk.

pub mod args;
mod block;
mod input;
mod json;
mod lay_out;
mod merge;
mod output;
mod pretty;
mod show;
mod target;
mod wanted;

pub(in crate::cli) use lay_out::LayOut;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use args::{LineCount, Output, TailArgs};
use input::file::{FileBacklog, Reading};
use input::{Backlog, Said, Voice, WAITING_MAX, follow, stream, url, wish};
use output::{Ended, Printer, Printing};
use pretty::Pretty;
use show::Show;
use target::Targets;
use wanted::Wanted;

use super::ask;
use super::config_source::ConfigSource;
use super::exit::{Exit, Failure};
use super::terminal::Terminal;
use crate::batch::ChunkPool;
use crate::tail::Patterns;
use crate::tail::identity::FileId;

const CHUNK_BYTES: usize = 512 << 10;
/// Bytes that the pieces of files take that are merged at a time.
const MERGING_BYTES: usize = 64 << 20;
/// Most files of which what they hold is shown; of others only what they get.
const BACKLOGS_MAX: usize = 2048;
/// Files whose descriptors are held while they are merged.
const OPEN_MAX: usize = 200;

/// Shows what the arguments name.
///
/// # Errors
/// When an input cannot be read (66, 69, 74), or output not written (74).
pub fn run(args: &TailArgs, source: &ConfigSource, terminal: Terminal) -> Result<Exit, Failure> {
    match Tail::new(args, source, terminal).and_then(|mut tail| tail.run().map(|()| tail)) {
        Ok(_) | Err(Ended::ReaderGone) => Ok(Exit::OK),
        Err(Ended::Failed(failure)) => Err(failure),
    }
}

struct Tail<'a> {
    args: &'a TailArgs,
    targets: Targets,
    wanted: Wanted,
    show: Show,
    voice: Voice,
    said: Receiver<Said>,
    /// Inputs that were started, by number.
    started: usize,
}

impl<'a> Tail<'a> {
    fn new(args: &'a TailArgs, source: &ConfigSource, terminal: Terminal) -> Result<Tail<'a>, Ended> {
        let wanted = Wanted::new(args)?;
        let targets = Targets::of(&args.inputs, &args.who, || ask::configured(source))?;
        let on_terminal = std::io::stdout().is_terminal();
        // Colours that were asked for in a pipe are for a pager.
        let for_people = on_terminal || terminal.color_stdout;
        let usual = if for_people { Output::Pretty } else { Output::Raw };
        let files = targets.patterns()?.map(|patterns| patterns.scan().files).unwrap_or_default();
        let inputs = files.len() + targets.remotes.len() + targets.streams.len();
        let single = inputs == 1 && !targets.open_ended;
        let printing = Printing {
            output: args.output.unwrap_or(usual),
            terminal: on_terminal,
            color: terminal.color_stdout,
            single,
        };
        let mut pretty = Pretty::new(terminal.color_stdout, inputs > 1, wanted.marks());
        if targets.remotes.is_empty() {
            pretty.expect(files.iter().map(|path| path.display().to_string()));
        }
        let printer = Printer::new(&printing, pretty)?;
        let (voice, said) = sync_channel(WAITING_MAX);
        let mut show = Show::new(printer, single, terminal);
        wanted.notes().iter().for_each(|note| show.notice(note));
        if args.inputs.is_empty()
            && on_terminal
            && let [remote] = &targets.remotes[..]
        {
            // Nobody named it, and it may be quiet.
            show.notice(&format!("streams of {}", remote.base));
        }
        Ok(Tail { args, targets, wanted, show, voice, said, started: 0 })
    }

    fn run(&mut self) -> Result<(), Ended> {
        let remotes = std::mem::take(&mut self.targets.remotes);
        let patterns = self.targets.patterns()?;
        let alone = remotes.len() == 1 && patterns.is_none() && self.targets.streams.is_empty();
        for remote in remotes {
            let wish = wish::Wish::new(self.args, self.wanted.since);
            let index = self.number();
            url::start(index, remote, wish, self.voice.clone())?;
        }
        // A single stream needs no order but its own.
        let mut backlogs: Vec<Box<dyn Backlog>> = match self.started {
            0 => Vec::new(),
            _ if alone => Vec::new(),
            remotes => self.show.collect(&self.said, remotes)?,
        };
        let mut starts = HashMap::new();
        if let Some(patterns) = &patterns {
            backlogs.extend(self.files(patterns.clone(), &mut starts)?);
        }
        merge::backlogs(&mut backlogs, &mut self.wanted, self.show.printer())?;
        starts.extend(backlogs.iter().filter_map(|backlog| backlog.position()));
        drop(backlogs);
        let mut streams = std::mem::take(&mut self.targets.streams);
        if self.passes_through()
            && let [(file, _)] = &mut streams[..]
            && let Some(out) = self.show.printer().untouched()?
        {
            return std::io::copy(file, out).map(drop).map_err(Ended::from);
        }
        for (file, label) in streams {
            // Unless it is asked for, all of a pipe is shown: nothing of it is there before it comes.
            let last = match self.args.lines {
                Some(LineCount::Last(count)) => Some(count),
                _ => None,
            };
            let stream = stream::Stream { file, label, last, wanted: self.wanted.clone() };
            let index = self.number();
            stream::start(index, stream, self.voice.clone())?;
        }
        if let Some(patterns) = patterns
            && self.args.follows()
        {
            let index = self.number();
            follow::start(index, follow::settings(patterns, starts), self.wanted.live(), self.voice.clone())?;
        }
        self.show.live(&self.said, self.started)
    }

    /// Whether there is nothing but one stream, of which every byte is wanted.
    fn passes_through(&self) -> bool {
        let everything = self.wanted.is_everything() && self.wanted.since.is_none();
        everything && self.started == 0 && self.args.lines.is_none_or(|lines| lines == LineCount::All)
    }

    fn number(&mut self) -> usize {
        self.started += 1;
        self.started - 1
    }

    /// What the files hold; where following begins in those of which nothing is shown goes to `starts`.
    fn files(
        &mut self,
        patterns: Patterns,
        starts: &mut HashMap<FileId, u64>,
    ) -> Result<Vec<Box<dyn Backlog>>, Failure> {
        let mut paths = patterns.scan().files;
        // What stands in for a file, such as a pipe that matches a glob, is not read.
        paths.retain(|path| path.metadata().is_ok_and(|meta| meta.is_file()));
        if paths.len() > BACKLOGS_MAX {
            let written = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
            paths.sort_by_cached_key(|path| std::cmp::Reverse(written(path)));
            let others = paths.split_off(BACKLOGS_MAX);
            self.show.notice(&format!(
                "{} files: of all but the {BACKLOGS_MAX} written to last, only what is new is shown",
                BACKLOGS_MAX + others.len()
            ));
            starts.extend(others.iter().filter_map(|path| input::search::end_of(path).ok()));
        }
        let chunk_bytes = (MERGING_BYTES / paths.len().max(1)).clamp(32 << 10, CHUNK_BYTES);
        let reading = Arc::new(Reading {
            settings: Arc::new(follow::settings(patterns, HashMap::new())),
            pool: ChunkPool::new(chunk_bytes, 4),
            count: self.args.count(),
            follow: self.args.follows(),
            thrifty: paths.len() > OPEN_MAX,
        });
        let mut backlogs: Vec<Box<dyn Backlog>> = Vec::with_capacity(paths.len());
        let alone = paths.len() == 1;
        for path in paths {
            match FileBacklog::open(path, &reading, &mut self.wanted) {
                Ok(backlog) => backlogs.push(Box::new(backlog)),
                Err(failure) if alone => return Err(failure),
                // Among many there is always one that only root may read.
                Err(failure) => self.show.notice(&failure.message()),
            }
        }
        Ok(backlogs)
    }
}
