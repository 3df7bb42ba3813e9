//! The whole screen: who is looked at, the table, what lies below it, and the keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::app::{App, Pane};
use super::model::Part;
use super::numbers::{short, short_bytes, span};
use super::theme::Theme;
use super::{pane, table};
use crate::base::clock::Instant;

/// Below this many lines there is no line of keys.
const KEYS_FROM: u16 = 8;
/// Below this many lines what lies below the table takes its place.
const BESIDE_FROM: u16 = 16;

/// Draws everything.
pub(super) fn draw(app: &mut App, theme: &Theme, now: Instant, area: Rect, buf: &mut Buffer) {
    let line = |y: u16| Rect { y: area.y + y, height: 1, ..area };
    if area.height == 0 {
        return;
    }
    title(app, theme, now, line(0), buf);
    let mut top = 1;
    if area.height >= BESIDE_FROM / 2 {
        totals(app, theme, line(1), buf);
        top = 2;
    }
    let keys = u16::from(area.height >= KEYS_FROM);
    let rest = Rect { y: area.y + top, height: area.height.saturating_sub(top + keys), ..area };
    let below = match app.pane {
        Pane::None => 0,
        _ if area.height < BESIDE_FROM => rest.height,
        Pane::Help => (pane::HELP.len() as u16 + 1).min(rest.height),
        Pane::Details | Pane::Tap => rest.height / 2,
    };
    table::draw(app, theme, Rect { height: rest.height - below, ..rest }, buf);
    if below > 0 {
        let area = Rect { y: rest.y + rest.height - below, height: below, ..rest };
        pane::draw(app, theme, area, buf);
    }
    if keys == 1 {
        foot(app, theme, line(area.height - 1), buf);
    }
}

/// Writes pieces one after the other, each with two blanks before it, as long as whole ones fit.
fn pieces(buf: &mut Buffer, area: Rect, pieces: &[(String, Style)]) {
    let mut x = area.x;
    for (i, (text, style)) in pieces.iter().enumerate() {
        let gap = if i == 0 { 0 } else { 2 };
        let left = (area.x + area.width).saturating_sub(x + gap);
        if i > 0 && usize::from(left) < text.chars().count() {
            return;
        }
        (x, _) = buf.set_stringn(x + gap, area.y, text, usize::from(left), *style);
    }
}

fn title(app: &App, theme: &Theme, now: Instant, area: Rect, buf: &mut Buffer) {
    let plain = Style::new();
    let version = app.status.as_ref().map_or_else(String::new, |s| format!(" {}", s.version));
    let mut all = vec![(format!("weir{version}"), theme.strong)];
    if let Some((since, why)) = &app.gone {
        let gone = now.saturating_duration_since(*since).as_secs_f64();
        let text =
            if app.status.is_some() { format!("gone since {}", span(gone)) } else { "no answer".to_owned() };
        all.push((text, theme.bad));
        all.push((why.clone(), theme.dim));
        return pieces(buf, area, &all);
    }
    if app.paused {
        all.push(("paused".to_owned(), theme.warn));
    }
    if let Some(status) = &app.status {
        all.push(if status.ready {
            ("ready".to_owned(), theme.good)
        } else {
            ("not ready".to_owned(), theme.warn)
        });
        all.push((format!("up {}", span(status.uptime_seconds)), plain));
        all.extend(app.rates.cpu_percent.map(|cpu| (format!("cpu {cpu:.1}%"), plain)));
        all.extend(status.resident_bytes.map(|bytes| {
            let most = status
                .memory_bytes_max
                .map_or_else(String::new, |most| format!("/{}", short_bytes(most as f64)));
            (format!("rss {}{most}", short_bytes(bytes as f64)), plain)
        }));
        all.extend(status.pid.map(|pid| (format!("pid {pid}"), plain)));
    }
    all.push((app.asked.clone(), theme.dim));
    pieces(buf, area, &all);
}

fn totals(app: &App, theme: &Theme, area: Rect, buf: &mut Buffer) {
    let Some(status) = &app.status else { return };
    let count = status.pipelines.len();
    let rate = app.rates.sum(status.pipelines.iter().map(|p| p.own.id.as_str()));
    let sinks = status.parts().filter(|part| part.kind == "sink");
    let out = app.rates.sum(sinks.map(|part| part.id.as_str()));
    let dropped: u64 = status.parts().map(Part::dropped_total).sum();
    let plain = Style::new();
    let mut all = vec![
        (format!("{count} pipeline{}", if count == 1 { "" } else { "s" }), plain),
        (format!("in {}/s {}/s", short(rate.received), short_bytes(rate.received_bytes)), plain),
        (format!("sinks out {}/s {}/s", short(out.delivered), short_bytes(out.delivered_bytes)), plain),
    ];
    if dropped > 0 {
        all.push((format!("dropped {}", short(dropped as f64)), theme.warn));
    }
    pieces(buf, area, &all);
}

fn foot(app: &App, theme: &Theme, area: Rect, buf: &mut Buffer) {
    let keys = [
        "q quit".to_owned(),
        "? help".to_owned(),
        "↑↓ move".to_owned(),
        "⏎ open".to_owned(),
        "t tap".to_owned(),
        format!("s sort: {}", app.sort.name()),
        if app.paused { "p go on" } else { "p pause" }.to_owned(),
    ];
    pieces(buf, area, &keys.map(|text| (text, theme.dim)));
}
