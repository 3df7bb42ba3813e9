//! What lies below the table: a component's figures, the rows that pass it, or help.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::app::{App, Pane, Tapped};
use super::model::Part;
use super::theme::Theme;
use crate::cli::tap::{harmless, thousands};

/// Width of one figure in the details.
const FIGURE_WIDTH: u16 = 38;

pub(super) const HELP: [&str; 12] = [
    "q, Ctrl-C     quit",
    "↑ ↓, k j      move; PgUp, PgDn, Home, End",
    "⏎             open or close a pipeline; details of a component",
    "← →, h l      close, open a pipeline",
    "d             details: all figures, drops by reason, the last error",
    "t             tap: rows as they leave the component; a sink's as they reach it",
    "s             sort pipelines: config, in, dropped, queue",
    "p, space      pause; what runs goes on",
    "Esc           close what is below",
    "",
    "in/s, out/s are events a second; `dropped` is red while it goes on;",
    "`stalled` is how long a sink has not moved while events wait",
];

/// Draws the pane that is open.
pub(super) fn draw(app: &App, theme: &Theme, area: Rect, buf: &mut Buffer) {
    match (app.pane, &app.tapped) {
        (Pane::Help, _) => {
            rule(buf, area, theme, "keys");
            let lines = HELP.iter().map(|line| ((*line).to_owned(), Style::new()));
            texts(buf, below(area), lines);
        }
        (Pane::Details, _) => {
            let part = app.status.iter().flat_map(|s| s.parts()).find(|part| part.id == app.selected);
            if let Some(part) = part {
                details(part, theme, area, buf);
            }
        }
        (Pane::Tap, Some(tapped)) => tap(tapped, theme, area, buf),
        _ => {}
    }
}

fn below(area: Rect) -> Rect {
    Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area }
}

fn rule(buf: &mut Buffer, area: Rect, theme: &Theme, title: &str) {
    let line = "─".repeat(usize::from(area.width));
    buf.set_stringn(area.x, area.y, line, usize::from(area.width), theme.dim);
    let width = usize::from(area.width.saturating_sub(2));
    buf.set_stringn(area.x + 2.min(area.width), area.y, format!(" {title} "), width, theme.strong);
}

fn texts(buf: &mut Buffer, area: Rect, lines: impl Iterator<Item = (String, Style)>) {
    for (y, (line, style)) in (area.y..area.y + area.height).zip(lines) {
        buf.set_stringn(area.x, y, line, usize::from(area.width), style);
    }
}

fn details(part: &Part, theme: &Theme, area: Rect, buf: &mut Buffer) {
    rule(buf, area, theme, &part.id);
    let mut lines: Vec<(String, Style)> = Vec::new();
    if let Some(why) = &part.why {
        lines.push((format!("{}: {}", part.state, harmless(why.as_bytes())), theme.state(&part.state)));
    }
    if let Some((why, at)) = &part.last_error {
        lines.push((format!("last error {at}: {}", harmless(why.as_bytes())), theme.warn));
    }
    let columns = usize::from((area.width / FIGURE_WIDTH).max(1));
    let rows = part.figures.len().div_ceil(columns);
    for row in 0..rows {
        let cells = (0..columns).filter_map(|column| part.figures.get(column * rows + row));
        let line: String = cells
            .map(|(key, value)| {
                let cell = format!("{key}: {}", harmless(value.as_bytes()));
                format!("{cell:<width$}", width = usize::from(FIGURE_WIDTH))
            })
            .collect();
        lines.push((line.trim_end().to_owned(), Style::new()));
    }
    texts(buf, below(area), lines.into_iter());
}

fn tap(tapped: &Tapped, theme: &Theme, area: Rect, buf: &mut Buffer) {
    let not_shown = match tapped.not_shown {
        0 => String::new(),
        n => format!(", {} rows not shown", thousands(n)),
    };
    rule(buf, area, theme, &format!("tap {}{not_shown}", tapped.id));
    let area = below(area);
    let over = tapped.over.iter().map(|why| (format!("# {why}"), theme.dim));
    let room = usize::from(area.height).saturating_sub(usize::from(tapped.over.is_some()));
    let rows = tapped.rows.iter().skip(tapped.rows.len().saturating_sub(room));
    let lines = rows.map(|row| (harmless(&row.line).replace('\t', "    "), theme.level(row.level)));
    if tapped.rows.is_empty() && tapped.over.is_none() {
        return texts(buf, area, std::iter::once(("nothing has passed yet".to_owned(), theme.dim)));
    }
    texts(buf, area, lines.chain(over));
}
