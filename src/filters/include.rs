//! The `include` filter: only events that match its patterns pass.

use crate::batch::Batch;
use crate::codec::match_options::MatchOptions;
use crate::flow::{BuildCx, Component, Emit, Filter};
use crate::query::patterns::Patterns;

/// See the module.
#[derive(Debug, Clone)]
pub struct Include {
    matcher: Patterns,
}

impl Component for Include {
    const NAME: &'static str = "include";
    const SUMMARY: &'static str = "lets events pass that match a regular expression";
    const EXAMPLE: &'static str = "type = \"include\"\npatterns = [\"ERROR\", \"(?i)timed? ?out\"]\n";
    type Options = MatchOptions;

    fn build(options: MatchOptions, cx: &mut BuildCx<'_>) -> Option<Include> {
        Some(Include { matcher: options.build(cx)? })
    }
}

impl Filter for Include {
    fn apply(&mut self, mut batch: Batch, emit: &mut Emit) {
        let matching = self.matcher.matches(&batch);
        batch.narrow(matching);
        emit.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ComponentKind;
    use crate::testing;

    fn pass(options: serde_json::Value, lines: &[&str]) -> Vec<String> {
        let mut filter = testing::build::<Include>(ComponentKind::Filter, options).unwrap();
        let mut emit = Emit::default();
        filter.apply(Batch::from_lines("t", lines), &mut emit);
        let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        emit.take().iter().flat_map(|b| b.lines().map(|(_, l)| text(l)).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn one_pattern_or_several_on_the_line_or_a_field() {
        let lines = ["ERROR disk", "WARN disk", "INFO net", r#"{"svc":"disk","msg":"INFO"}"#];
        assert_eq!(pass(json!({ "patterns": "ERROR|WARN" }), &lines), lines[..2]);
        assert_eq!(pass(json!({ "patterns": ["ERROR", "net"] }), &lines), [lines[0], lines[2]]);
        assert_eq!(pass(json!({ "patterns": ["disk", "INFO"], "logic": "and" }), &lines), lines[3..]);
        assert_eq!(pass(json!({ "patterns": "disk", "field": "svc" }), &lines), lines[3..]);
        assert!(pass(json!({ "patterns": "nothing" }), &lines).is_empty());
    }

    #[test]
    fn bad_patterns_are_named_each() {
        let bad =
            testing::build::<Include>(ComponentKind::Filter, json!({ "patterns": ["ok", "(", "a\\nb"] }));
        let messages = bad.unwrap_err();
        assert_eq!(messages[0], "invalid pattern: unclosed group, at byte 0");
        assert!(messages.len() == 2 && messages[1].contains("can never match"), "{messages:?}");
        let bad = testing::build::<Include>(ComponentKind::Filter, json!({ "patterns": [] }));
        assert!(bad.unwrap_err()[0].contains("empty"));
    }
}
