//! The `sample` filter: lets one event in N pass, evenly spaced, counted across batches.

use crate::batch::Batch;
use crate::config::options;
use crate::flow::{BuildCx, Component, Emit, Filter};

options! {
    /// Options of the `sample` filter.
    pub struct SampleOptions {
        /// One event in this many passes, beginning with the first.
        #[range(1..=1_000_000_000)]
        pub one_in: u64,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Sample {
    one_in: u64,
    /// Events to skip before the next that passes.
    skip: u64,
}

impl Component for Sample {
    const NAME: &'static str = "sample";
    const SUMMARY: &'static str = "lets one event in N pass";
    const EXAMPLE: &'static str = "type = \"sample\"\none_in = 10\n";
    type Options = SampleOptions;

    fn build(options: SampleOptions, _: &mut BuildCx<'_>) -> Option<Sample> {
        Some(Sample { one_in: options.one_in, skip: 0 })
    }
}

impl Filter for Sample {
    fn apply(&mut self, mut batch: Batch, emit: &mut Emit) {
        if batch.events() <= self.skip {
            self.skip -= batch.events();
            return emit.push({
                batch.narrow(batch.mask());
                batch
            });
        }
        batch.retain(|_, _| {
            let passes = self.skip == 0;
            self.skip = if passes { self.one_in - 1 } else { self.skip - 1 };
            passes
        });
        emit.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_three_across_batches() {
        let mut sample = Sample { one_in: 3, skip: 0 };
        let mut passed = Vec::new();
        for start in (0..40).step_by(4) {
            let mut emit = Emit::default();
            sample.apply(Batch::from_lines("t", (start..start + 4).map(|i| i.to_string())), &mut emit);
            for batch in emit.take() {
                passed.extend(batch.lines().map(|(_, l)| String::from_utf8(l.to_vec()).unwrap()));
            }
        }
        assert_eq!(passed, (0..40).step_by(3).map(|i| i.to_string()).collect::<Vec<_>>());
    }
}
