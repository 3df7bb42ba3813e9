//! What is on the screen, from two recorded statuses a second apart, at sizes from comfortable to hopeless; and what
//! keys do.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::Color;
use serde_json::Value;

use super::app::{Action, App, Pane, Sort};
use super::model::Status;
use super::theme::Theme;
use super::{draw, text};
use crate::base::clock::{self, Instant};
use crate::cli::tap::{Note, Row};

fn recorded(json: &str) -> Status {
    Status::read(&serde_json::from_str::<Value>(json).unwrap()).unwrap()
}

fn app() -> App {
    let mut app = App::new("unix:/run/weir/4711.sock".to_owned());
    app.answered(recorded(include_str!("recorded-1.json")));
    app.answered(recorded(include_str!("recorded-2.json")));
    app
}

fn frame(app: &mut App, width: u16, height: u16, now: Instant, color: bool) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buf = Buffer::empty(area);
    draw::draw(app, &Theme::new(color), now, area, &mut buf);
    buf
}

fn shown(app: &mut App, width: u16, height: u16) -> String {
    text(&frame(app, width, height, clock::now(), true)).join("\n")
}

fn press(app: &mut App, keys: &[KeyCode]) -> Action {
    let mut last = Action::Nothing;
    for key in keys {
        last = app.key(KeyEvent::new(*key, KeyModifiers::NONE));
    }
    last
}

use KeyCode::{Char, Down, End, Enter, Esc, Left, Up};

fn row(line: &[u8]) -> Row {
    Row { component: "app.source.0.generate".into(), timestamp: None, level: None, line: line.to_vec() }
}

#[test]
fn a_comfortable_terminal() {
    insta::assert_snapshot!(shown(&mut app(), 132, 20));
}

#[test]
fn the_usual_terminal() {
    insta::assert_snapshot!(shown(&mut app(), 80, 24));
}

#[test]
fn a_small_terminal() {
    insta::assert_snapshot!(shown(&mut app(), 40, 10));
}

#[test]
fn details_of_a_component_that_is_down() {
    let mut app = app();
    press(&mut app, &[End, Enter]);
    insta::assert_snapshot!(shown(&mut app, 100, 24));
}

#[test]
fn help() {
    let mut app = app();
    press(&mut app, &[Char('?')]);
    insta::assert_snapshot!(shown(&mut app, 80, 24));
}

#[test]
fn no_size_is_too_small() {
    for pane in [vec![], vec![Char('?')], vec![Down, Enter], vec![Char('t')]] {
        let mut app = app();
        press(&mut app, &pane);
        for width in 0..60 {
            for height in 0..20 {
                shown(&mut app, width, height);
            }
        }
    }
}

#[test]
fn the_cursor_is_always_on_the_screen() {
    let mut app = app();
    for key in [Down, Down, Down, Down, Down, Down, Down, Down, Up, Up, Up, Up, Up, Up, Up, Up] {
        press(&mut app, &[key]);
        let label = app.selected.split_once('.').map_or(app.selected.clone(), |(_, label)| label.to_owned());
        assert!(shown(&mut app, 40, 6).contains(&label), "{label}");
    }
    assert_eq!(app.selected, "app");
}

#[test]
fn a_tap_shows_rows_and_what_it_did_not_show_and_no_sequence_reaches_the_terminal() {
    let mut app = app();
    let action = press(&mut app, &[Down, Char('t')]);
    assert_eq!(action, Action::Tap("app.source.0.generate".to_owned()));
    assert!(shown(&mut app, 80, 24).contains("nothing has passed yet"));
    for i in 0..30 {
        app.row("app.source.0.generate", row(format!("row {i}").as_bytes()));
    }
    app.row("app.source.0.generate", row(b"\x1b[2Jevil\x07\ttabbed\x9b"));
    app.row("another", row(b"of a tap before"));
    app.noted("app.source.0.generate", &Note::Drop { missed: 1200 });
    app.noted("app.source.0.generate", &Note::Drop { missed: 34 });
    let screen = shown(&mut app, 80, 24);
    assert!(screen.contains("tap app.source.0.generate, 1,234 rows not shown"), "{screen}");
    assert!(
        screen.contains("row 29") && !screen.contains("row 0\n") && !screen.contains("before"),
        "{screen}"
    );
    assert!(screen.contains("\\x1b[2Jevil\\x07    tabbed\\x9b") && !screen.contains('\x1b'), "{screen}");
    app.noted("app.source.0.generate", &Note::Bye { reason: "shutdown".to_owned() });
    app.tap_ended("app.source.0.generate", "the end: weir is gone".to_owned());
    assert!(shown(&mut app, 80, 24).contains("# the end: weir has stopped"));
    assert_eq!(press(&mut app, &[Char('t')]), Action::EndTap);
    assert_eq!((app.pane, app.tapped.is_none()), (Pane::None, true));
}

#[test]
fn keys_move_fold_sort_and_pause() {
    let mut app = app();
    assert_eq!(app.selected, "app");
    press(&mut app, &[Enter]);
    let folded = shown(&mut app, 80, 24);
    assert!(folded.contains("▸ app") && !folded.contains("sink.1.http_client"), "{folded}");
    press(&mut app, &[Down]);
    assert_eq!(app.selected, "billing");
    press(&mut app, &[Up, Enter, Down, Down, Left]);
    assert_eq!(app.selected, "app", "closing a pipeline leaves the cursor on it");
    press(&mut app, &[Char('s'), Char('s'), Char('s')]);
    assert_eq!(app.sort, Sort::Queue);
    let (first, second) = (app.pipelines()[0].0.own.id.clone(), app.pipelines()[1].0.own.id.clone());
    assert_eq!((first.as_str(), second.as_str()), ("app", "billing"));
    press(&mut app, &[Char('p')]);
    let before = app.status.clone();
    app.answered(recorded(include_str!("recorded-1.json")));
    assert_eq!(app.status, before, "paused");
    assert!(shown(&mut app, 80, 24).contains("paused"));
    assert_eq!(press(&mut app, &[Char('q')]), Action::Quit);
    assert_eq!(app.key(KeyEvent::new(Char('c'), KeyModifiers::CONTROL)), Action::Quit);
    assert_eq!(press(&mut app, &[Enter, Esc]), Action::Nothing);
}

#[test]
fn one_that_is_gone_is_told_since_when_and_is_back_when_it_is() {
    let (mut app, now) = (app(), clock::now());
    app.unanswered("nothing listens there".to_owned(), now);
    app.unanswered("nothing listens there".to_owned(), now + Duration::from_secs(4));
    let screen = text(&frame(&mut app, 80, 24, now + Duration::from_secs(5), true)).join("\n");
    assert!(screen.starts_with("weir 0.1.0  gone since 5s  nothing listens there"), "{screen}");
    assert!(screen.contains("sink.1.http_client"), "what was last known stays");
    let mut restarted = recorded(include_str!("recorded-1.json"));
    (restarted.pid, restarted.uptime_seconds) = (Some(9), 0.5);
    app.answered(restarted);
    let screen = shown(&mut app, 80, 24);
    assert!(!screen.contains("gone") && screen.contains("up 0s"), "{screen}");
    assert!(app.rates.of("app").is_none(), "another process has no rate yet");
}

#[test]
fn without_colour_nothing_is_coloured() {
    let mut app = app();
    press(&mut app, &[End, Enter]);
    let now = clock::now();
    let colored = |buf: &Buffer| {
        buf.content.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert_eq!(colored(&frame(&mut app, 100, 24, now, false)), 0);
    assert!(colored(&frame(&mut app, 100, 24, now, true)) > 20);
}
