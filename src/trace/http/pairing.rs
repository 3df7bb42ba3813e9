//! From records to events, over all connections: who is at the ends of each, what it says, and when it is over. What
//! is kept per connection is bounded, and so is the number of connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::conversation::{Call, Conversation, Results};
use crate::trace::event::{Change, Connection, ConnectionEvent, Moment, Role, Totals, TraceEvent};
use crate::trace::output::Outputs;
use crate::trace::process::Processes;
use crate::trace::records::{ConnectionKind, ConnectionRecord, DataRecord, Record, Tuple};

/// Most connections that are followed; as many as the programs follow.
const CONNECTIONS_MAX: usize = 32 * 1024;
/// Most bytes that wait, over all connections, for the rest of a head or for a response; beyond that those that have
/// waited longest are given up, until a quarter is free.
pub(super) const HELD_MAX: usize = 64 << 20;
/// After how long without data a connection whose end was not told is forgotten, once there are many.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// After how long a response whose end is not seen is told.
const UNSEEN_AFTER: Duration = Duration::from_secs(1);

/// What could not be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PairingCounts {
    /// Data of connections that are not known: the record that told of them was dropped.
    pub orphans: u64,
    /// Responses whose request was not seen.
    pub unpaired: u64,
    /// Connections beyond the bound.
    pub untracked: u64,
    /// Conversations whose half-received heads and requests without a response were too much to keep.
    pub given_up: u64,
}

/// Which events are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Connections that open, close and fail.
    pub tcp: bool,
    /// The query of a request.
    pub query: bool,
}

#[derive(Debug)]
struct Known {
    connection: Arc<Connection>,
    plain: Option<Box<Conversation>>,
    tls: Option<Box<Conversation>>,
    /// [`Pairing::losses`] when it was last heard of.
    losses: u64,
    last: Moment,
}

impl Known {
    fn conversations(&mut self) -> impl Iterator<Item = &mut Conversation> {
        [&mut self.plain, &mut self.tls].into_iter().flatten().map(Box::as_mut)
    }

    fn held(&self) -> usize {
        [&self.plain, &self.tls].into_iter().flatten().map(|talk| talk.held()).sum()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Pairing {
    wanted: Wanted,
    connections: HashMap<u64, Known>,
    processes: Processes,
    outputs: Outputs,
    /// What all conversations hold, in bytes.
    held: usize,
    last_id: u64,
    /// How often records were dropped.
    losses: u64,
    /// Unix time minus monotonic time, in nanoseconds.
    wall_offset: i64,
    counts: PairingCounts,
}

impl Pairing {
    /// Nothing known yet; processes are looked up below `proc` (`/proc`), captured lines are cut at `line_max` bytes.
    pub fn new(wanted: Wanted, proc: &std::path::Path, line_max: usize) -> Pairing {
        Pairing {
            wanted,
            connections: HashMap::new(),
            processes: Processes::new(proc),
            outputs: Outputs::new(line_max),
            held: 0,
            last_id: 0,
            losses: 0,
            wall_offset: 0,
            counts: PairingCounts::default(),
        }
    }

    /// Says how far the wall clock is ahead of the monotonic one, in nanoseconds.
    pub fn set_wall_offset(&mut self, offset: i64) {
        self.wall_offset = offset;
    }

    /// Says that records were dropped: what goes on after this may lack a part.
    pub fn records_were_lost(&mut self) {
        self.losses += 1;
    }

    /// What could not be put together so far.
    pub fn counts(&self) -> PairingCounts {
        self.counts
    }

    /// Where `/proc` tells nothing any more, cgroups are asked for by their ids.
    pub fn find_cgroups_by_id(&mut self, by_id: fn(u64) -> Option<String>) {
        self.processes.find_cgroups_by_id(by_id);
    }

    /// The processes that records named.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Bytes of memory that wait for the rest of a head, or for a response: 64 MiB at most.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Goes on with a record; what follows from it is appended to `events`.
    pub fn record(&mut self, record: &Record<'_>, events: &mut Vec<TraceEvent>) {
        match record {
            Record::Connection(record) => self.connection(record, events),
            Record::Data(record) => self.data(record, events),
            Record::Output(record) => {
                let at = self.moment(record.head.time_ns);
                let process = self.processes.of(&record.owner);
                self.outputs.record(record, process, at, events);
            }
        }
    }

    /// To be called about once a second: tells what has waited long enough.
    pub fn tick(&mut self, monotonic_ns: u64, events: &mut Vec<TraceEvent>) {
        let now = self.moment(monotonic_ns);
        let mut results = Results {
            events,
            last_id: &mut self.last_id,
            with_query: self.wanted.query,
            unpaired: &mut self.counts.unpaired,
        };
        for known in self.connections.values_mut() {
            known.conversations().for_each(|talk| talk.settle(now, UNSEEN_AFTER, &mut results));
        }
        if self.connections.len() > CONNECTIONS_MAX / 2 {
            self.connections.retain(|_, known| now.since(known.last) < FORGOTTEN_AFTER);
        }
        self.held = self.connections.values().map(Known::held).sum();
        self.outputs.tick(now, events);
    }

    /// The tracing ends: tells all that is still open.
    pub fn finish(&mut self, monotonic_ns: u64, events: &mut Vec<TraceEvent>) {
        self.outputs.finish(self.moment(monotonic_ns), events);
    }

    fn moment(&self, monotonic_ns: u64) -> Moment {
        let unix = i64::try_from(monotonic_ns).unwrap_or(i64::MAX).saturating_add(self.wall_offset);
        Moment { monotonic_ns, unix_ns: unix }
    }

    fn connection(&mut self, record: &ConnectionRecord, events: &mut Vec<TraceEvent>) {
        let at = self.moment(record.head.time_ns);
        let change = match record.event {
            ConnectionKind::Opened => Some(Change::Opened),
            ConnectionKind::Accepted => Some(Change::Accepted),
            ConnectionKind::Failed => Some(Change::Failed { error: record.error }),
            ConnectionKind::Http2 => Some(Change::Http2),
            ConnectionKind::Seen => None,
            ConnectionKind::Closed => Some(Change::Closed(Totals {
                bytes_sent: record.bytes_sent,
                bytes_received: record.bytes_received,
                rtt: Duration::from_micros(record.rtt_us.into()),
                retransmits: record.retransmits,
                error: record.error,
            })),
        };
        let connection = match record.event {
            ConnectionKind::Closed => self.close(record, at, events),
            ConnectionKind::Failed => self.described(record),
            _ => self.open(record, at),
        };
        let is_wanted = self.wanted.tcp || change == Some(Change::Http2);
        if let Some(change) = change.filter(|_| is_wanted) {
            events.push(TraceEvent::Connection(ConnectionEvent { connection, at, change }));
        }
    }

    fn open(&mut self, record: &ConnectionRecord, at: Moment) -> Arc<Connection> {
        if let Some(known) = self.connections.get(&record.id) {
            return known.connection.clone();
        }
        let connection = self.described(record);
        if self.connections.len() >= CONNECTIONS_MAX {
            self.counts.untracked += 1;
            return connection;
        }
        let losses = self.losses;
        let known = Known { connection: connection.clone(), plain: None, tls: None, losses, last: at };
        self.connections.insert(record.id, known);
        connection
    }

    fn close(
        &mut self,
        record: &ConnectionRecord,
        at: Moment,
        events: &mut Vec<TraceEvent>,
    ) -> Arc<Connection> {
        let Some(mut known) = self.connections.remove(&record.id) else { return self.described(record) };
        self.held -= known.held();
        let mut results = Results {
            events,
            last_id: &mut self.last_id,
            with_query: self.wanted.query,
            unpaired: &mut self.counts.unpaired,
        };
        known.conversations().for_each(|talk| talk.close(at, &mut results));
        known.connection
    }

    fn described(&mut self, record: &ConnectionRecord) -> Arc<Connection> {
        let (local, remote) = addresses(&record.tuple);
        Arc::new(Connection {
            id: record.id,
            process: self.processes.of(&record.owner),
            local,
            remote,
            role: match record.tuple.role {
                1 => Role::Client,
                2 => Role::Server,
                _ => Role::Unknown,
            },
            opened: self.moment(record.opened_ns),
            before: record.before,
            process_guessed: record.owner_guessed,
        })
    }

    fn data(&mut self, record: &DataRecord<'_>, events: &mut Vec<TraceEvent>) {
        let ended = self.moment(record.head.time_ns);
        let began = if record.began_ns == 0 || !record.sent { ended } else { self.moment(record.began_ns) };
        let Some(known) = self.connections.get_mut(&record.connection) else {
            self.counts.orphans += 1;
            return;
        };
        let call = Call { began, ended, doubt: known.losses != self.losses };
        (known.losses, known.last) = (self.losses, ended);
        let slot = if record.tls { &mut known.tls } else { &mut known.plain };
        let talk = slot.get_or_insert_with(|| Box::new(Conversation::new(known.connection.clone(), began)));
        let mut results = Results {
            events,
            last_id: &mut self.last_id,
            with_query: self.wanted.query,
            unpaired: &mut self.counts.unpaired,
        };
        let before = talk.held();
        talk.data(record, call, &mut results);
        self.held = self.held - before + talk.held();
        if self.held > HELD_MAX {
            self.give_up(events);
        }
    }

    /// Makes room: those that were heard of least recently let go first.
    fn give_up(&mut self, events: &mut Vec<TraceEvent>) {
        let mut results = Results {
            events,
            last_id: &mut self.last_id,
            with_query: self.wanted.query,
            unpaired: &mut self.counts.unpaired,
        };
        let mut holding: Vec<&mut Conversation> = self
            .connections
            .values_mut()
            .flat_map(Known::conversations)
            .filter(|talk| talk.held() > 0)
            .collect();
        holding.sort_unstable_by_key(|talk| talk.last().monotonic_ns);
        for talk in holding {
            if self.held <= HELD_MAX / 4 * 3 {
                break;
            }
            let before = talk.held();
            talk.give_up(&mut results);
            self.held -= before - talk.held();
            self.counts.given_up += 1;
        }
    }
}

/// Both ends of a tuple. IPv4 within IPv6 sockets is shown as IPv4.
fn addresses(tuple: &Tuple) -> (SocketAddr, SocketAddr) {
    let address = |bytes: [u8; 16]| match tuple.family {
        10 => Ipv6Addr::from(bytes).to_canonical(),
        _ => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
    };
    (
        SocketAddr::new(address(tuple.local), tuple.local_port),
        SocketAddr::new(address(tuple.remote), tuple.remote_port),
    )
}
