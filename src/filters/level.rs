//! The `level` filter: events pass by their severity, however the line spells it.

use crate::batch::{Batch, Level};
use crate::config::{choices, options};
use crate::flow::{BuildCx, Component, Emit, Filter};

choices! {
    /// A severity, least first.
    pub enum LevelOption {
        /// The finest detail.
        Trace = "trace",
        /// For developers.
        Debug = "debug",
        /// Normal operation.
        Info = "info",
        /// Normal but significant.
        Notice = "notice",
        /// Something may be wrong.
        Warn = "warn",
        /// Something failed.
        Error = "error",
        /// The program or the system cannot go on.
        Fatal = "fatal",
    }
}

choices! {
    /// What happens to events without a level.
    pub enum Unknown {
        /// They pass.
        Pass = "pass",
        /// They are filtered away.
        Drop = "drop",
    }
}

options! {
    /// Options of the `level` filter; one of `min` and `only` is needed.
    pub struct LevelOptions {
        /// Events of this level and above pass.
        pub min: Option<LevelOption> = None,
        /// Events of these levels pass.
        pub only: Option<Vec<LevelOption>> = None,
        /// What happens to events without a level.
        pub unknown: Unknown = Unknown::Pass,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct LevelFilter {
    /// One bit for each level that passes.
    passing: u8,
    unknown_passes: bool,
}

fn bit(level: Level) -> u8 {
    1 << level as u8
}

fn level_of(option: LevelOption) -> Level {
    match option {
        LevelOption::Trace => Level::Trace,
        LevelOption::Debug => Level::Debug,
        LevelOption::Info => Level::Info,
        LevelOption::Notice => Level::Notice,
        LevelOption::Warn => Level::Warn,
        LevelOption::Error => Level::Error,
        LevelOption::Fatal => Level::Fatal,
    }
}

impl Component for LevelFilter {
    const NAME: &'static str = "level";
    const SUMMARY: &'static str = "lets events pass by their severity";
    const EXAMPLE: &'static str = "type = \"level\"\nmin = \"warn\"\n";
    type Options = LevelOptions;

    fn build(options: LevelOptions, cx: &mut BuildCx<'_>) -> Option<LevelFilter> {
        let passing = match (options.min, &options.only) {
            (Some(min), None) => {
                Level::ALL.into_iter().filter(|level| *level >= level_of(min)).map(bit).sum()
            }
            (None, Some(only)) => only.iter().fold(0, |bits, level| bits | bit(level_of(*level))),
            (None, None) => {
                cx.error("type", "neither `min` nor `only` is given").hint("add min = \"info\"");
                return None;
            }
            (Some(_), Some(_)) => {
                cx.error("only", "`min` and `only` exclude each other").hint("keep one of them");
                return None;
            }
        };
        Some(LevelFilter { passing, unknown_passes: options.unknown == Unknown::Pass })
    }
}

impl Filter for LevelFilter {
    fn apply(&mut self, mut batch: Batch, emit: &mut Emit) {
        batch.retain(|b, row| match b.level(row) {
            Some(level) => self.passing & bit(level) != 0,
            None => self.unknown_passes,
        });
        emit.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ComponentKind;
    use crate::testing;

    fn pass(options: serde_json::Value) -> Vec<u32> {
        let mut filter = testing::build::<LevelFilter>(ComponentKind::Filter, options).unwrap();
        let mut emit = Emit::default();
        let lines = ["level=debug a", "INFO b", "{\"level\":\"warning\"}", "[ERROR] c", "FATAL d", "plain"];
        filter.apply(Batch::from_lines("t", lines), &mut emit);
        emit.take().iter().flat_map(|b| b.live().iter().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn by_least_level_or_by_list() {
        assert_eq!(pass(json!({ "min": "warn" })), [2, 3, 4, 5]);
        assert_eq!(pass(json!({ "min": "trace", "unknown": "drop" })), [0, 1, 2, 3, 4]);
        assert_eq!(pass(json!({ "only": ["debug", "fatal"], "unknown": "drop" })), [0, 4]);
    }

    #[test]
    fn needs_exactly_one_of_the_two() {
        for options in [json!({}), json!({ "min": "info", "only": ["warn"] }), json!({ "min": "loud" })] {
            assert!(testing::build::<LevelFilter>(ComponentKind::Filter, options).is_err());
        }
    }
}
