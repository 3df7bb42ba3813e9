//! The accounts of a life: every meter that was ever on the board, and which sink it was of. A reload takes
//! components off the board; what they were given has to add up all the same.

use std::collections::HashMap;
use std::sync::Arc;

use logweir::flow::{Board, Meter};

use super::world::{World, lock};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// Of each component, with its id and whether it is on the board still.
    components: Vec<(String, Arc<Meter>, bool)>,
    /// Of the entrance of each pipeline.
    entrances: Vec<(Arc<str>, Arc<Meter>)>,
    /// Of each sink of the scenario.
    sinks: HashMap<usize, Vec<Arc<Meter>>>,
    /// Sinks that had filters of their own at some time.
    filtered: Vec<usize>,
}

fn add<T>(known: &mut Vec<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) {
    if !known.iter().any(is) {
        known.push(new());
    }
}

/// Writes down what is on the board now.
pub(crate) fn observe(world: &World, board: &Board) {
    let pipelines = board.pipelines();
    let shape = lock(&world.shape).clone();
    let ids: HashMap<String, usize> =
        shape.sink_ids(&world.scenario).map(|(which, id)| (id, which)).collect();
    let mut gone = Vec::new();
    {
        let mut accounts = lock(&world.accounts);
        let accounts = &mut *accounts;
        let on_board = |meter: &Arc<Meter>| {
            pipelines.iter().flat_map(|p| &p.components).any(|c| Arc::ptr_eq(&c.meter, meter))
        };
        for (id, meter, there) in &mut accounts.components {
            if *there && !on_board(meter) {
                *there = false;
                gone.push((id.clone(), meter.clone()));
            }
        }
        for pipeline in pipelines.iter() {
            let own = (pipeline.name.clone(), pipeline.meter.clone());
            add(&mut accounts.entrances, |(_, m)| Arc::ptr_eq(m, &own.1), || own.clone());
            for component in &pipeline.components {
                let (id, meter) = (component.site.id(), &component.meter);
                if let Some(which) = ids.get(&id) {
                    let of_sink = accounts.sinks.entry(*which).or_default();
                    add(of_sink, |m| Arc::ptr_eq(m, meter), || meter.clone());
                }
                let same = |(_, m, _): &(String, Arc<Meter>, bool)| Arc::ptr_eq(m, meter);
                add(&mut accounts.components, same, || (id, meter.clone(), true));
            }
        }
        let own = ids.values().filter(|which| shape.has_own_filters(&world.scenario, **which));
        accounts.filtered.extend(own);
    }
    gone.iter().for_each(|(id, meter)| super::oracle::retired(world, id, meter));
}

impl Accounts {
    /// The only account of a steady sink, whatever was reloaded: each successor goes on with it.
    pub(crate) fn of_steady_sink(&self, sink: usize) -> Option<&Arc<Meter>> {
        self.sinks.get(&sink)?.first()
    }

    /// A run is over: what must hold of all accounts together.
    pub(crate) fn complaints(&self, world: &World) -> Vec<String> {
        let mut found = Vec::new();
        for (id, meter, there) in &self.components {
            let counts = meter.snapshot();
            if !counts.balances() {
                found.push(format!("{id} does not balance: {counts:?}"));
            }
            if !there && counts.queued_events != counts.stored_events {
                found.push(format!("{id} was taken away with rows in its buffer: {counts:?}"));
            }
        }
        for (name, meter) in &self.entrances {
            let counts = meter.snapshot();
            if !counts.balances() {
                found.push(format!("the entrance of {name} does not balance: {counts:?}"));
            }
        }
        found.extend(self.entrance_complaints(world));
        (0..world.scenario.steady).for_each(|sink| found.extend(self.sink_complaints(world, sink)));
        found
    }

    /// What sources offered is what came in.
    fn entrance_complaints(&self, world: &World) -> Option<String> {
        let own = (0..world.scenario.sources).filter(|s| !world.scenario.is_source_aside(*s));
        let offered: u64 = own.map(|source| lock(&world.sources[source]).offered).sum();
        let of_first = self.entrances.iter().filter(|(name, _)| **name == *"first");
        let received: u64 = of_first.map(|(_, meter)| meter.snapshot().received_events).sum();
        (offered != received)
            .then(|| format!("{offered} rows were offered, and the entrance counts {received}"))
    }

    fn sink_complaints(&self, world: &World, sink: usize) -> Vec<String> {
        let mut found = Vec::new();
        let meters = self.sinks.get(&sink).map(Vec::as_slice).unwrap_or_default();
        let [meter] = meters else {
            return vec![format!(
                "sink {sink} has {} accounts: its buffer was not handed over",
                meters.len()
            )];
        };
        let (counts, log) = (meter.snapshot(), lock(&world.sinks[sink]));
        if counts.delivered_events != log.in_this_life {
            let took = log.in_this_life;
            found.push(format!("sink {sink} took {took} rows in this life, and its meter says {counts:?}"));
        }
        let entrance = self.entrances.iter().filter(|(name, _)| **name == *world.scenario.last_pipeline());
        let passed: u64 = entrance.map(|(_, meter)| meter.snapshot().delivered_events).sum();
        let received = counts.received_events - counts.recovered_events;
        if !self.filtered.contains(&sink) && received != passed {
            found.push(format!("{passed} rows passed the filters, and sink {sink} was given {received}"));
        }
        found
    }
}
