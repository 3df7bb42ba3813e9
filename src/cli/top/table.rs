//! The table of pipelines and components: which columns fit, and what stands in them.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::app::App;
use super::model::{Part, Pipeline, Rate};
use super::numbers::{short, short_bytes, span};
use super::theme::Theme;

/// Characters of a bar.
const BAR: usize = 6;
/// The name gets at least this many columns before another figure is shown.
const NAME_MIN: u16 = 16;
const NAME_MAX: u16 = 40;
/// What is left for the state, at least.
const STATE_MIN: u16 = 7;

/// A figure of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    In,
    Out,
    InBytes,
    OutBytes,
    Dropped,
    Queue,
    Clients,
    Errors,
    Stalled,
}

impl Column {
    /// Title and width; the ones that matter most come first.
    const ALL: [(Column, &str, u16); 9] = [
        (Column::In, "in/s", 5),
        (Column::Out, "out/s", 5),
        (Column::Dropped, "dropped", 7),
        (Column::Queue, "queue", BAR as u16 + 6),
        (Column::InBytes, "in B/s", 6),
        (Column::OutBytes, "out B/s", 7),
        (Column::Errors, "errors", 6),
        (Column::Clients, "clients", 7),
        (Column::Stalled, "stalled", 7),
    ];
    /// The order in which they stand.
    const ORDER: [Column; 9] = [
        Column::In,
        Column::InBytes,
        Column::Out,
        Column::OutBytes,
        Column::Dropped,
        Column::Queue,
        Column::Stalled,
        Column::Clients,
        Column::Errors,
    ];
}

/// One row.
struct Line<'a> {
    part: &'a Part,
    name: String,
    rate: Option<Rate>,
    dropped: u64,
    queued: u64,
    fill: Option<f64>,
    clients: u64,
    errors: u64,
    stalled: u64,
}

impl<'a> Line<'a> {
    fn of_pipeline(pipeline: &'a Pipeline, open: bool, app: &App) -> Line<'a> {
        let ids = || std::iter::once(&pipeline.own).chain(&pipeline.components).map(|p| p.id.as_str());
        let dropped = app.rates.sum(ids()).dropped;
        Line {
            part: &pipeline.own,
            name: format!("{} {}", if open { '▾' } else { '▸' }, pipeline.own.id),
            rate: app.rates.of(&pipeline.own.id).map(|rate| Rate { dropped, ..rate }),
            dropped: pipeline.dropped(),
            queued: pipeline.queued(),
            fill: pipeline.fill(),
            clients: pipeline.own.clients,
            errors: pipeline.own.errors,
            stalled: pipeline.stalled_seconds(),
        }
    }

    fn of_component(part: &'a Part, app: &App) -> Line<'a> {
        Line {
            part,
            name: format!("    {}", part.label()),
            rate: app.rates.of(&part.id),
            dropped: part.dropped_total(),
            queued: part.queued,
            fill: part.fill,
            clients: part.clients,
            errors: part.errors,
            stalled: part.stalled_seconds,
        }
    }

    fn cell(&self, column: Column, theme: &Theme) -> (String, Style) {
        let rate = |of: fn(Rate) -> f64, write: fn(f64) -> String| {
            (self.rate.map_or_else(|| "–".to_owned(), |rate| write(of(rate))), Style::new())
        };
        let count = |n: u64, style: Style| match n {
            0 => (String::new(), style),
            n => (short(n as f64), style),
        };
        match column {
            Column::In => rate(|r| r.received, short),
            Column::Out => rate(|r| r.delivered, short),
            Column::InBytes => rate(|r| r.received_bytes, short_bytes),
            Column::OutBytes => rate(|r| r.delivered_bytes, short_bytes),
            // Red while it goes on.
            Column::Dropped if self.rate.is_some_and(|rate| rate.dropped > 0.0) => {
                count(self.dropped, theme.bad)
            }
            Column::Dropped => count(self.dropped, theme.warn),
            Column::Queue => match self.fill {
                None => (String::new(), Style::new()),
                Some(fill) => {
                    let style = if fill >= 0.9 {
                        theme.bad
                    } else if fill >= 0.5 {
                        theme.warn
                    } else {
                        theme.good
                    };
                    (format!("{} {:>5}", bar(fill), short(self.queued as f64)), style)
                }
            },
            Column::Clients => count(self.clients, Style::new()),
            Column::Errors => count(self.errors, theme.warn),
            Column::Stalled if self.stalled == 0 => (String::new(), theme.bad),
            Column::Stalled => (span(self.stalled as f64), theme.bad),
        }
    }
}

fn bar(fill: f64) -> String {
    let full = (fill * BAR as f64).ceil() as usize;
    (0..BAR).map(|i| if i < full { '█' } else { '░' }).collect()
}

/// What a state is called where somebody looks.
fn state_text(part: &Part) -> String {
    let state = match part.state.as_str() {
        "ready" => "running",
        "restarting" => "backing off",
        other => other,
    };
    match &part.why {
        Some(why) => format!("{state}: {}", crate::cli::tap::harmless(why.as_bytes())),
        None => state.to_owned(),
    }
}

/// The columns that fit beside a name, a state and each other: their left edges and widths.
fn layout(width: u16, names: u16) -> (u16, Vec<(Column, &'static str, u16)>) {
    let name = names.clamp(NAME_MIN, NAME_MAX).min(width.saturating_sub(STATE_MIN + 1).max(4));
    let mut left = width.saturating_sub(name + STATE_MIN + 2);
    let mut chosen = Vec::new();
    for (column, title, wide) in Column::ALL {
        if left < wide + 2 {
            break;
        }
        left -= wide + 2;
        chosen.push((column, title, wide));
    }
    chosen.sort_by_key(|(column, ..)| Column::ORDER.iter().position(|other| other == column));
    (name, chosen)
}

/// Draws the table; scrolls so that the cursor is seen.
pub(super) fn draw(app: &mut App, theme: &Theme, area: Rect, buf: &mut Buffer) {
    if area.height < 2 || area.width < 10 {
        return;
    }
    let shown = app.pipelines();
    let lines: Vec<Line<'_>> = shown
        .iter()
        .flat_map(|(pipeline, open)| {
            let components =
                pipeline.components.iter().filter(|_| *open).map(|part| Line::of_component(part, app));
            std::iter::once(Line::of_pipeline(pipeline, *open, app)).chain(components).collect::<Vec<_>>()
        })
        .collect();
    let names = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let (name_width, columns) = layout(area.width, u16::try_from(names).unwrap_or(NAME_MAX));
    head(&columns, name_width, theme, area, buf);
    let at = lines.iter().position(|line| line.part.id == app.selected).unwrap_or(0);
    let visible = usize::from(area.height - 1);
    let scroll =
        app.scroll.clamp(at.saturating_sub(visible - 1), at).min(lines.len().saturating_sub(visible));
    for (i, line) in lines.iter().enumerate().skip(scroll).take(visible) {
        let y = area.y + 1 + (i - scroll) as u16;
        let row = Rect { y, height: 1, ..area };
        let base = if i == at { theme.cursor } else { Style::new() };
        buf.set_style(row, base);
        let bold = if line.part.kind.is_empty() { base.patch(theme.strong) } else { base };
        buf.set_stringn(area.x, y, &line.name, usize::from(name_width), bold);
        let mut x = area.x + name_width;
        for (column, _, wide) in &columns {
            let (text, style) = line.cell(*column, theme);
            put_right(buf, x + 2, y, *wide, &text, base.patch(style));
            x += wide + 2;
        }
        let left = usize::from((area.x + area.width).saturating_sub(x + 2));
        buf.set_stringn(x + 2, y, state_text(line.part), left, base.patch(theme.state(&line.part.state)));
    }
    app.scroll = scroll;
}

fn head(columns: &[(Column, &str, u16)], name_width: u16, theme: &Theme, area: Rect, buf: &mut Buffer) {
    buf.set_style(Rect { height: 1, ..area }, theme.head);
    buf.set_stringn(area.x, area.y, "pipeline", usize::from(name_width), theme.head);
    let mut x = area.x + name_width;
    for (_, title, wide) in columns {
        put_right(buf, x + 2, area.y, *wide, title, theme.head);
        x += wide + 2;
    }
    let left = usize::from((area.x + area.width).saturating_sub(x + 2));
    buf.set_stringn(x + 2, area.y, "state", left, theme.head);
}

fn put_right(buf: &mut Buffer, x: u16, y: u16, wide: u16, text: &str, style: Style) {
    let len = u16::try_from(text.chars().count()).unwrap_or(wide).min(wide);
    buf.set_stringn(x + wide - len, y, text, usize::from(len), style);
}
