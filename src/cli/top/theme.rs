//! Colours of `weir top`; without colour, weight and reversal say what must be seen.

use ratatui::style::{Color, Modifier, Style};

use crate::batch::Level;

/// How things look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) head: Style,
    pub(super) cursor: Style,
    pub(super) strong: Style,
    pub(super) dim: Style,
    pub(super) good: Style,
    pub(super) warn: Style,
    pub(super) bad: Style,
}

impl Theme {
    pub(super) fn new(color: bool) -> Theme {
        let of = |c: Color| if color { Style::new().fg(c) } else { Style::new() };
        Theme {
            head: Style::new().add_modifier(Modifier::UNDERLINED).patch(of(Color::Cyan)),
            cursor: Style::new().add_modifier(Modifier::REVERSED),
            strong: Style::new().add_modifier(Modifier::BOLD),
            dim: Style::new().add_modifier(Modifier::DIM),
            good: of(Color::Green),
            warn: of(Color::Yellow),
            bad: of(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// The style of a state.
    pub(super) fn state(&self, state: &str) -> Style {
        match state {
            "ready" => self.good,
            "failed" => self.bad,
            "restarting" | "starting" => self.warn,
            _ => self.dim,
        }
    }

    /// The style of a row's severity.
    pub(super) fn level(&self, level: Option<Level>) -> Style {
        match level {
            Some(Level::Fatal | Level::Error) => self.bad,
            Some(Level::Warn) => self.warn,
            Some(Level::Debug | Level::Trace) => self.dim,
            _ => Style::new(),
        }
    }
}
