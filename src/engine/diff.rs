//! What a reload would change, worked out from two plans without touching anything. Components are compared by all
//! that decides how they work, not by text; what is equal and in the same place is not touched.

use super::plan::{PipelinePlan, Planned, PlannedSink};

/// What becomes of a sink of the new plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SinkFate {
    /// The old one at this place works on. Only what lies before it may differ.
    Kept {
        /// Its own filters are new.
        filters: bool,
        /// Its buffer has other bounds.
        bounds: bool,
    },
    /// It is started with the buffer, and all that waits there, of this old one.
    TakesOver(usize),
    /// It is started with a buffer of its own.
    Added,
}

/// What a reload changes in one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PipelineDiff {
    /// Whether the sources of the new plan run on; otherwise they are started.
    pub(super) source_kept: Vec<bool>,
    /// Old sources that end.
    pub(super) sources_ended: Vec<usize>,
    /// The pipeline's filters are new.
    pub(super) filters: bool,
    /// The limit is new.
    pub(super) limit: bool,
    /// What becomes of the sinks of the new plan.
    pub(super) sinks: Vec<SinkFate>,
    /// Old sinks that end without a successor.
    pub(super) sinks_ended: Vec<usize>,
}

/// What a reload does with each pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diff {
    /// For each pipeline of the new plan: the old one of its name and what changes in it, `None` when it is new.
    pub(super) pipelines: Vec<Option<(usize, PipelineDiff)>>,
    /// Old pipelines that end.
    pub(super) ended: Vec<usize>,
}

impl PipelineDiff {
    /// The old sink whose buffer a sink of the new plan goes on with.
    pub(super) fn predecessor(&self, sink: usize) -> Option<usize> {
        match self.sinks[sink] {
            SinkFate::Kept { .. } => Some(sink),
            SinkFate::TakesOver(from) => Some(from),
            SinkFate::Added => None,
        }
    }

    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        let untouched = SinkFate::Kept { filters: false, bounds: false };
        self.source_kept.iter().all(|kept| *kept)
            && self.sinks.iter().all(|fate| *fate == untouched)
            && self.sources_ended.is_empty()
            && self.sinks_ended.is_empty()
            && !self.filters
            && !self.limit
    }
}

/// Compares the pipelines that run with those of a new plan.
pub(super) fn compare(old: &[&PipelinePlan], new: &[PipelinePlan]) -> Diff {
    let find = |name: &str| old.iter().position(|o| *o.name == *name);
    let pipelines = new.iter().map(|n| find(&n.name).map(|i| (i, pipeline(old[i], n)))).collect();
    let gone = |o: &PipelinePlan| !new.iter().any(|n| n.name == o.name);
    let ended = (0..old.len()).filter(|&i| gone(old[i])).collect();
    Diff { pipelines, ended }
}

fn same<F>(a: &Planned<F>, b: &Planned<F>) -> bool {
    a.site == b.site && a.config == b.config
}

fn all_same<F>(a: &[Planned<F>], b: &[Planned<F>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

fn pipeline(old: &PipelinePlan, new: &PipelinePlan) -> PipelineDiff {
    let kept = |i: usize| old.sources.get(i).zip(new.sources.get(i)).is_some_and(|(o, n)| same(o, n));
    let sinks = sinks(&old.sinks, &new.sinks);
    let succeeded = |i: usize| {
        sinks.iter().enumerate().any(|(at, fate)| match fate {
            SinkFate::Kept { .. } => at == i,
            SinkFate::TakesOver(from) => *from == i,
            SinkFate::Added => false,
        })
    };
    PipelineDiff {
        source_kept: (0..new.sources.len()).map(kept).collect(),
        sources_ended: (0..old.sources.len()).filter(|&i| !kept(i)).collect(),
        filters: !all_same(&old.filters, &new.filters),
        limit: old.limit_written != new.limit_written,
        sinks_ended: (0..old.sinks.len()).filter(|&i| !succeeded(i)).collect(),
        sinks,
    }
}

/// Whether the buffer of one sink may become another's. One in files is named by its sink's place and type.
fn hands_over(old: &PlannedSink, new: &PlannedSink) -> bool {
    let files = old.buffer.is_disk() || new.buffer.is_disk();
    !files || old.sink.site == new.sink.site
}

/// Finds each new sink its old one: the same at the same place, the same elsewhere, one of its type at the same
/// place, one of its type elsewhere, whatever was at its place.
fn sinks(old: &[PlannedSink], new: &[PlannedSink]) -> Vec<SinkFate> {
    let mut fates: Vec<Option<SinkFate>> = vec![None; new.len()];
    let mut free: Vec<bool> = vec![true; old.len()];
    for (i, (o, n)) in old.iter().zip(new).enumerate() {
        if same(&o.sink, &n.sink) {
            let filters = !all_same(&o.filters, &n.filters);
            let bounds = o.buffer != n.buffer && o.buffer.becomes(&n.buffer);
            // The old one takes from the queue itself.
            let moves = o.buffer.moves_to_disk(&n.buffer);
            fates[i] = Some(if moves { SinkFate::TakesOver(i) } else { SinkFate::Kept { filters, bounds } });
            free[i] = false;
        }
    }
    type Fits = fn(usize, &PlannedSink, usize, &PlannedSink) -> bool;
    let ways: [Fits; 4] = [
        |_, o, _, n| o.sink.config == n.sink.config,
        |i, o, at, n| i == at && o.sink.site.type_name == n.sink.site.type_name,
        |_, o, _, n| o.sink.site.type_name == n.sink.site.type_name,
        |i, _, at, _| i == at,
    ];
    for fits in ways {
        for (at, n) in new.iter().enumerate() {
            if fates[at].is_some() {
                continue;
            }
            if let Some(i) =
                (0..old.len()).find(|&i| free[i] && fits(i, &old[i], at, n) && hands_over(&old[i], n))
            {
                fates[at] = Some(SinkFate::TakesOver(i));
                free[i] = false;
            }
        }
    }
    fates.into_iter().map(|fate| fate.unwrap_or(SinkFate::Added)).collect()
}
