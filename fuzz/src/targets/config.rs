//! What an operator may write into a file.

use logweir::codec::template::{Template, TimestampFormat};
use logweir::config::{Diagnostics, Source, toml_file};
use logweir::engine;
use logweir::files::PathTemplate;
use logweir::query::lookup::Field;
use logweir::query::patterns::Logic;

/// Any text becomes a plan or diagnostics that can be shown.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut diagnostics = Diagnostics::new();
    let source = Source::file("fuzz.toml", text);
    let tree = toml_file::parse_file(&source, &mut diagnostics);
    drop(engine::plan(&tree, &mut diagnostics));
}

/// Templates of lines, times and paths.
pub fn templates(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(Template::parse(text));
    drop(PathTemplate::parse(text));
    if let Ok(format) = TimestampFormat::parse(text) {
        format.write(logweir::batch::Timestamp(1_700_000_000_000_000_000), &mut Vec::new());
    }
}

/// Expressions compile within their bounds or are refused.
pub fn patterns(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() < 200 {
        let built = logweir::query::patterns::Patterns::new(&[text], Logic::Or, Field::Line);
        if let Ok(mut matcher) = built {
            let batch =
                logweir::batch::Batch::from_lines("fuzz", [&data[data.len() / 2..], b"ERROR x", data]);
            let found = matcher.matches(&batch);
            for row in 0..3 {
                assert_eq!(found.has(row), matcher.matches_row(&batch, row), "row {row} of {text:?}");
            }
        }
    }
}
