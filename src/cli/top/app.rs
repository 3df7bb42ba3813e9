//! What `weir top` shows and how keys change it. It does no I/O: it takes statuses, tapped rows and keys, and says
//! what is to be done.

use std::collections::{HashSet, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Pipeline, Rates, Status};
use crate::base::clock::Instant;
use crate::cli::tap::{Note, Row};

/// Most tapped rows that are kept; more than any screen shows.
const TAPPED_MAX: usize = 500;

/// By what pipelines are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// As in the configuration.
    Config,
    /// What comes in, per second.
    In,
    /// What was dropped.
    Dropped,
    /// How full the buffers are.
    Queue,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Config => "config",
            Sort::In => "in",
            Sort::Dropped => "dropped",
            Sort::Queue => "queue",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Config => Sort::In,
            Sort::In => Sort::Dropped,
            Sort::Dropped => Sort::Queue,
            Sort::Queue => Sort::Config,
        }
    }
}

/// What lies below the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    None,
    Details,
    Tap,
    Help,
}

/// Rows of a component as they pass.
#[derive(Debug)]
pub(super) struct Tapped {
    /// The component.
    pub(super) id: String,
    pub(super) rows: VecDeque<Row>,
    pub(super) not_shown: u64,
    /// Why there is nothing, or nothing more.
    pub(super) over: Option<String>,
}

/// What is to be done after a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Quit,
    /// Begin a tap, in place of the one there may be.
    Tap(String),
    EndTap,
}

/// See the module.
#[derive(Debug)]
pub(super) struct App {
    /// Whom is asked.
    pub(super) asked: String,
    pub(super) status: Option<Status>,
    pub(super) rates: Rates,
    /// Since when there has been no answer, and why.
    pub(super) gone: Option<(Instant, String)>,
    /// The id of the row under the cursor.
    pub(super) selected: String,
    closed: HashSet<String>,
    pub(super) sort: Sort,
    pub(super) paused: bool,
    pub(super) pane: Pane,
    pub(super) tapped: Option<Tapped>,
    /// The first row of the table that is shown.
    pub(super) scroll: usize,
}

impl App {
    pub(super) fn new(asked: String) -> App {
        App {
            asked,
            status: None,
            rates: Rates::default(),
            gone: None,
            selected: String::new(),
            closed: HashSet::new(),
            sort: Sort::Config,
            paused: false,
            pane: Pane::None,
            tapped: None,
            scroll: 0,
        }
    }

    /// Takes an answer.
    pub(super) fn answered(&mut self, status: Status) {
        self.gone = None;
        if self.paused {
            return;
        }
        if let Some(before) = &self.status {
            self.rates = Rates::between(before, &status);
        }
        self.status = Some(status);
        let ids = self.ids();
        if !ids.contains(&self.selected) {
            self.selected = ids.into_iter().next().unwrap_or_default();
        }
    }

    /// There was none.
    pub(super) fn unanswered(&mut self, why: String, now: Instant) {
        let since = self.gone.take().map_or(now, |(since, _)| since);
        self.gone = Some((since, why));
    }

    /// Something came from the tap on `id`.
    pub(super) fn row(&mut self, id: &str, row: Row) {
        let Some(tapped) = self.tapped.as_mut().filter(|t| t.id == id && !self.paused) else { return };
        if tapped.rows.len() == TAPPED_MAX {
            tapped.rows.pop_front();
        }
        tapped.rows.push_back(row);
    }

    /// The tap on `id` said something about its rows.
    pub(super) fn noted(&mut self, id: &str, note: &Note) {
        let Some(tapped) = self.tapped.as_mut().filter(|t| t.id == id) else { return };
        match note {
            Note::Drop { missed } => tapped.not_shown += missed,
            note => tapped.over = note.text("", true, false),
        }
    }

    /// The tap on `id` ended.
    pub(super) fn tap_ended(&mut self, id: &str, why: String) {
        if let Some(tapped) = self.tapped.as_mut().filter(|t| t.id == id) {
            tapped.over.get_or_insert(why);
        }
    }

    /// Pipelines in the chosen order, each with whether its components are shown.
    pub(super) fn pipelines(&self) -> Vec<(&Pipeline, bool)> {
        let Some(status) = &self.status else { return Vec::new() };
        let mut pipelines: Vec<&Pipeline> = status.pipelines.iter().collect();
        let received = |p: &Pipeline| self.rates.of(&p.own.id).map_or(0.0, |rate| rate.received);
        match self.sort {
            Sort::Config => {}
            Sort::In => pipelines.sort_by(|a, b| received(b).total_cmp(&received(a))),
            Sort::Dropped => pipelines.sort_by_key(|p| std::cmp::Reverse(p.dropped())),
            Sort::Queue => {
                pipelines.sort_by(|a, b| b.fill().unwrap_or(0.0).total_cmp(&a.fill().unwrap_or(0.0)));
            }
        }
        pipelines.into_iter().map(|p| (p, !self.closed.contains(&p.own.id))).collect()
    }

    /// The ids of all rows that are shown, in order.
    fn ids(&self) -> Vec<String> {
        let rows = |(pipeline, open): (&Pipeline, bool)| {
            let components = pipeline.components.iter().filter(move |_| open).map(|part| part.id.clone());
            std::iter::once(pipeline.own.id.clone()).chain(components).collect::<Vec<_>>()
        };
        self.pipelines().into_iter().flat_map(rows).collect()
    }

    /// Acts on a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Action::Quit } else { Action::Nothing };
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc => return self.open(Pane::None),
            KeyCode::Char('?') if self.pane == Pane::Help => return self.open(Pane::None),
            KeyCode::Char('?') => return self.open(Pane::Help),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-10),
            KeyCode::PageDown => self.step(10),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Left | KeyCode::Char('h') => self.fold(Some(true)),
            KeyCode::Right | KeyCode::Char('l') => self.fold(Some(false)),
            KeyCode::Enter if !self.selected.contains('.') => self.fold(None),
            KeyCode::Enter | KeyCode::Char('d') => {
                let pane = if self.pane == Pane::Details { Pane::None } else { Pane::Details };
                return self.open(pane);
            }
            KeyCode::Char('t') => return self.tap(),
            _ => {}
        }
        Action::Nothing
    }

    fn open(&mut self, pane: Pane) -> Action {
        self.pane = pane;
        if self.tapped.take().is_some() { Action::EndTap } else { Action::Nothing }
    }

    /// Taps what is under the cursor, or ends that.
    fn tap(&mut self) -> Action {
        if self.selected.is_empty() || self.tapped.as_ref().is_some_and(|t| t.id == self.selected) {
            return self.open(Pane::None);
        }
        let id = self.selected.clone();
        self.tapped = Some(Tapped { id: id.clone(), rows: VecDeque::new(), not_shown: 0, over: None });
        self.pane = Pane::Tap;
        Action::Tap(id)
    }

    fn step(&mut self, by: isize) {
        let ids = self.ids();
        let Some(last) = ids.len().checked_sub(1) else { return };
        let at = ids.iter().position(|id| *id == self.selected).unwrap_or(0);
        self.selected.clone_from(&ids[at.saturating_add_signed(by).min(last)]);
    }

    /// Closes or opens the pipeline under the cursor, or turns it over.
    fn fold(&mut self, close: Option<bool>) {
        let pipeline = self.selected.split('.').next().unwrap_or_default().to_owned();
        if pipeline.is_empty() {
            return;
        }
        if close.unwrap_or(!self.closed.contains(&pipeline)) {
            self.selected.clone_from(&pipeline);
            self.closed.insert(pipeline);
        } else {
            self.closed.remove(&pipeline);
        }
    }
}
