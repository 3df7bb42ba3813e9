//! The `exclude` filter: events that match its patterns end here; all others pass.

use crate::batch::Batch;
use crate::codec::match_options::MatchOptions;
use crate::flow::{BuildCx, Component, Emit, Filter};
use crate::query::patterns::Patterns;

/// See the module.
#[derive(Debug, Clone)]
pub struct Exclude {
    matcher: Patterns,
}

impl Component for Exclude {
    const NAME: &'static str = "exclude";
    const SUMMARY: &'static str = "filters events away that match a regular expression";
    const EXAMPLE: &'static str = "type = \"exclude\"\npatterns = \"GET /health\"\n";
    type Options = MatchOptions;

    fn build(options: MatchOptions, cx: &mut BuildCx<'_>) -> Option<Exclude> {
        Some(Exclude { matcher: options.build(cx)? })
    }
}

impl Filter for Exclude {
    fn apply(&mut self, mut batch: Batch, emit: &mut Emit) {
        let matching = self.matcher.matches(&batch);
        batch.retain(|_, row| !matching.has(row));
        emit.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ComponentKind;
    use crate::testing;

    #[test]
    fn what_does_not_match_passes() {
        let lines: Vec<String> = (0..200).map(|i| format!("line {i} {}", i % 7)).collect();
        let passes = |options: serde_json::Value| -> Vec<String> {
            let mut exclude = testing::build::<Exclude>(ComponentKind::Filter, options).unwrap();
            let mut emit = Emit::default();
            exclude.apply(Batch::from_lines("t", &lines), &mut emit);
            let batches = emit.take();
            let rows = batches.iter().flat_map(Batch::lines);
            rows.map(|(_, line)| String::from_utf8(line.to_vec()).unwrap()).collect()
        };
        let without = |test: &dyn Fn(&str) -> bool| -> Vec<String> {
            lines.iter().filter(|line| !test(line)).cloned().collect()
        };
        assert_eq!(passes(json!({ "patterns": "3$" })), without(&|l| l.ends_with('3')));
        let both = json!({ "patterns": ["1", "2"], "logic": "and" });
        assert_eq!(passes(both), without(&|l| l.contains('1') && l.contains('2')));
        let any = json!({ "patterns": ["1", "2"] });
        assert_eq!(passes(any), without(&|l| l.contains('1') || l.contains('2')));
        assert_eq!(passes(json!({ "patterns": "x", "field": "missing" })), lines);
    }
}
