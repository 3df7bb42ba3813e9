//! `weir top`: a running weir on the screen of a terminal, every second anew; or one frame of it as text.

mod app;
mod draw;
mod feed;
mod model;
mod numbers;
mod pane;
mod screen;
mod table;
#[cfg(test)]
mod tests;
mod theme;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::args::TopArgs;
use super::ask;
use super::config_source::ConfigSource;
use super::exit::{Exit, Failure};
use super::http_get::Base;
use super::terminal::{self, Terminal};
use crate::base::clock;
use app::{Action, App};
use feed::{Event, Feed, Find, Signals};
use screen::Screen;
use theme::Theme;

/// How often the screen is drawn anew when nothing happens: a clock may run on it.
const IDLE: Duration = Duration::from_millis(500);
/// How long rows are gathered before they are drawn: nobody reads faster.
const GATHER: Duration = Duration::from_millis(60);
/// Width of the one frame where no terminal has one.
const FRAME_WIDTH: u16 = 120;
/// Most lines of the one frame.
const FRAME_LINES_MAX: usize = 2000;

/// Looks until somebody has seen enough.
///
/// # Errors
/// With exit code 64 without a terminal, 69 when no weir answers at the start.
pub fn run(args: &TopArgs, source: &ConfigSource, terminal: Terminal) -> Result<Exit, Failure> {
    let find = finder(args, source);
    let base = find()?;
    let asked = base.to_string();
    let first = first(&base)?;
    if args.once {
        return once(&base, first, asked);
    }
    let dumb = source.environment().get("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    if !io::stdout().is_terminal() || dumb {
        return Err(Failure::usage("`weir top` needs a terminal: standard output is none, or TERM says so")
            .hint("`weir status --json` is for programs, `weir top --once` prints one frame"));
    }
    let mut app = App::new(asked);
    app.answered(first);
    watch(app, find, &Theme::new(terminal.color_stdout))
        .map_err(|e| Failure::new(Exit::IO, format!("cannot use the terminal: {e}")))
}

/// Whom to ask: what was named, else the only one that runs here.
fn finder(args: &TopArgs, source: &ConfigSource) -> Find {
    let (ask, source) = (args.ask.clone(), source.clone());
    Arc::new(move || ask::running(&ask, &source))
}

fn first(base: &Base) -> Result<model::Status, Failure> {
    let answer = base.get("/status")?;
    if matches!(answer.status, 401 | 403 | 429) {
        return Err(ask::refused(base, &answer));
    }
    feed::ask(base).map_err(|why| Failure::new(Exit::UNAVAILABLE, format!("cannot look at {base}: {why}")))
}

/// Prints one frame, with the rates of a second.
fn once(base: &Base, first: model::Status, asked: String) -> Result<Exit, Failure> {
    let mut app = App::new(asked);
    app.answered(first);
    std::thread::sleep(feed::EVERY);
    let next = feed::ask(base).map_err(|why| Failure::new(Exit::UNAVAILABLE, why))?;
    app.answered(next);
    // No row is under a cursor here.
    app.selected.clear();
    let rows = app.status.as_ref().map_or(0, |status| status.parts().count());
    let height = u16::try_from(rows.min(FRAME_LINES_MAX) + 4).unwrap_or(u16::MAX);
    let width = ratatui::crossterm::terminal::size().ok().filter(|_| io::stdout().is_terminal());
    let area = Rect::new(0, 0, width.map_or(FRAME_WIDTH, |(width, _)| width), height.max(8));
    let mut buf = Buffer::empty(area);
    draw::draw(&mut app, &Theme::new(false), clock::now(), area, &mut buf);
    let mut lines: Vec<String> = text(&buf);
    // The keys are for those who have some.
    lines.pop();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    terminal::print(&(lines.join("\n") + "\n"))?;
    Ok(Exit::OK)
}

/// The characters of a frame, line by line.
fn text(buf: &Buffer) -> Vec<String> {
    let line =
        |y| (0..buf.area.width).map(|x| buf[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..buf.area.height).map(line).collect()
}

fn watch(mut app: App, find: Find, theme: &Theme) -> io::Result<Exit> {
    // Before there is a terminal to give back.
    let signals = Signals::catch()?;
    let mut screen = Screen::take()?;
    let (mut feed, events) = Feed::start(find, signals)?;
    loop {
        screen.terminal.draw(|frame| {
            let area = frame.area();
            draw::draw(&mut app, theme, clock::now(), area, frame.buffer_mut());
        })?;
        let mut next = match events.recv_timeout(IDLE) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(Exit::OK),
        };
        if matches!(next, Some(Event::Row(..) | Event::Note(..))) {
            std::thread::sleep(GATHER);
        }
        // Everything that waits is drawn at once.
        while let Some(event) = next {
            match take(event, &mut app) {
                Taken::End(exit) => return Ok(exit),
                Taken::Act(Action::Tap(id)) => feed.tap(id),
                Taken::Act(Action::EndTap) => feed.end_tap(),
                Taken::Act(Action::Quit) => return Ok(Exit::OK),
                Taken::Act(Action::Nothing) => {}
            }
            next = events.try_recv().ok();
        }
    }
}

enum Taken {
    Act(Action),
    End(Exit),
}

fn take(event: Event, app: &mut App) -> Taken {
    match event {
        Event::Status(status) => app.answered(*status),
        Event::Gone(why) => app.unanswered(why, clock::now()),
        Event::Row(id, row) => app.row(&id, row),
        Event::Note(id, note) => app.noted(&id, &note),
        Event::TapEnded(id, why) => app.tap_ended(&id, why),
        Event::Key(key) => return Taken::Act(app.key(key)),
        Event::Resized => {}
        // As a shell reports a program that a signal has ended.
        Event::End(signal) => return Taken::End(Exit(u8::try_from(128 + signal).unwrap_or(Exit::FAILED.0))),
    }
    Taken::Act(Action::Nothing)
}
