//! Which requests a process is answering, and was a moment ago: what the `ebpf` source tells and log lines are joined
//! with. One table for the whole weir process, because those who tell and those who ask may be in different pipelines.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::event::{Request, Role, TraceEvent};

/// Most processes, and most requests of each, that are remembered.
const PROCESSES_MAX: usize = 4096;
const REQUESTS_MAX: usize = 256;
/// How long an answered request is remembered, for lines that arrive late.
const KEPT_NS: i64 = 30_000_000_000;

/// When something happened, as far as it is known: from and to, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The earliest it can have been.
    pub from: i64,
    /// The latest.
    pub to: i64,
}

/// How sure it is that a line belongs to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The thread that wrote it had read this request, and no other was in flight on it.
    Thread,
    /// The process had no other request in flight.
    PidSingle,
}

impl Basis {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Basis::Thread => "thread",
            Basis::PidSingle => "pid_single",
        }
    }
}

/// What a line belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing that is known.
    Nothing,
    /// This request.
    One(Arc<Request>, Basis),
    /// One of several: nobody can say which.
    Ambiguous,
}

#[derive(Debug)]
struct Entry {
    request: Arc<Request>,
    /// When it was answered, in nanoseconds since the Unix epoch.
    ended: Option<i64>,
}

#[derive(Debug, Default)]
struct Known {
    requests: VecDeque<Entry>,
    last: i64,
}

#[derive(Debug, Default)]
struct State {
    /// By number, and start, in the initial namespace.
    processes: HashMap<(u32, u64), Known>,
    /// The same by any number that the process may know itself by.
    numbers: HashMap<u32, Vec<(u32, u64)>>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Activity(Mutex<State>);

impl Activity {
    /// The table of this weir process.
    pub fn shared() -> &'static Activity {
        static SHARED: std::sync::LazyLock<Activity> = std::sync::LazyLock::new(Activity::default);
        &SHARED
    }

    /// Takes note of requests that begin and end. Only what a process answers counts, not what it asks of others.
    pub fn observe(&self, event: &TraceEvent) {
        match event {
            TraceEvent::Request(request) if request.connection.role == Role::Server => self.began(request),
            TraceEvent::Exchange(exchange) if exchange.request.connection.role == Role::Server => {
                self.ended(&exchange.request, exchange.ended.unix_ns);
            }
            _ => {}
        }
    }

    fn began(&self, request: &Arc<Request>) {
        let process = &request.connection.process;
        let key = (process.pid, process.started_ns);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.processes.contains_key(&key) {
            state.make_room(request.began.unix_ns);
            for number in [process.pid, process.pid_inner] {
                let keys = state.numbers.entry(number).or_default();
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        let known = state.processes.entry(key).or_default();
        known.last = request.began.unix_ns;
        let old = known.last - KEPT_NS;
        known.requests.retain(|entry| entry.ended.is_none_or(|ended| ended >= old));
        if known.requests.len() == REQUESTS_MAX {
            known.requests.pop_front();
        }
        known.requests.push_back(Entry { request: request.clone(), ended: None });
    }

    fn ended(&self, request: &Request, at: i64) {
        let process = &request.connection.process;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.processes.get_mut(&(process.pid, process.started_ns));
        let entry = known.and_then(|known| known.requests.iter_mut().find(|e| e.request.id == request.id));
        if let Some(entry) = entry {
            entry.ended = Some(at);
        }
    }

    /// What a line belongs to that the process of this number (its own, or the host's for it) wrote within `when`, on
    /// the thread `tid` if that is known.
    pub fn find(&self, number: u32, tid: Option<u32>, when: Span) -> Finding {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = state.numbers.get(&number).into_iter().flatten();
        let entries = keys.filter_map(|key| state.processes.get(key)).flat_map(|known| &known.requests);
        let in_flight = |entry: &&Entry| {
            entry.request.began.unix_ns <= when.to && entry.ended.is_none_or(|ended| ended >= when.from)
        };
        let candidates: Vec<&Arc<Request>> = entries.filter(in_flight).map(|entry| &entry.request).collect();
        let on_thread: Vec<_> = candidates.iter().filter(|request| Some(request.tid) == tid).collect();
        match (candidates.as_slice(), on_thread.as_slice()) {
            ([], _) => Finding::Nothing,
            (_, [one]) => Finding::One(Arc::clone(one), Basis::Thread),
            ([one], _) => Finding::One(Arc::clone(one), Basis::PidSingle),
            _ => Finding::Ambiguous,
        }
    }
}

impl State {
    /// Forgets processes that nothing was heard of for long, and the longest silent one if there are still too many.
    fn make_room(&mut self, now: i64) {
        if self.processes.len() < PROCESSES_MAX {
            return;
        }
        self.processes.retain(|_, known| known.last >= now - KEPT_NS);
        if self.processes.len() >= PROCESSES_MAX {
            let oldest = self.processes.iter().min_by_key(|(_, known)| known.last).map(|(key, _)| *key);
            oldest.iter().for_each(|key| drop(self.processes.remove(key)));
        }
        let processes = &self.processes;
        self.numbers.retain(|_, keys| {
            keys.retain(|key| processes.contains_key(key));
            !keys.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::event::{Connection, Ending, Exchange, Moment, Process, TraceContext};

    fn at(ms: i64) -> Moment {
        Moment { monotonic_ns: ms.unsigned_abs() * 1_000_000, unix_ns: ms * 1_000_000 }
    }

    fn request(id: u64, (pid, inner): (u32, u32), tid: u32, role: Role, began: i64) -> Arc<Request> {
        let process = Process {
            pid,
            started_ns: 1,
            pid_inner: inner,
            pid_namespace: 1,
            uid: 0,
            comm: "server".into(),
            cgroup_id: 1,
            cgroup: None,
            container: None,
        };
        let connection = Connection {
            id,
            process: Arc::new(process),
            local: "127.0.0.1:80".parse().unwrap(),
            remote: "127.0.0.1:4000".parse().unwrap(),
            role,
            opened: at(0),
            before: false,
            process_guessed: false,
        };
        Arc::new(Request {
            id,
            connection: Arc::new(connection),
            tls: false,
            connection_inferred: false,
            began: at(began),
            tid,
            method: "GET".into(),
            path: "/".into(),
            query: None,
            host: None,
            trace: Some(TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 }),
        })
    }

    fn begin(activity: &Activity, request: &Arc<Request>) {
        activity.observe(&TraceEvent::Request(request.clone()));
    }

    fn end(activity: &Activity, request: &Arc<Request>, ms: i64) {
        activity.observe(&TraceEvent::Exchange(Exchange {
            request: request.clone(),
            status: Some(200),
            answered: Some(at(ms)),
            ended: at(ms),
            response_tid: None,
            request_bytes: 0,
            response_bytes: 0,
            ending: Ending::Complete,
        }));
    }

    fn when(ms: i64) -> Span {
        Span { from: at(ms).unix_ns, to: at(ms).unix_ns }
    }

    fn found(finding: &Finding) -> Option<(u64, &'static str)> {
        match finding {
            Finding::One(request, basis) => Some((request.id, basis.as_str())),
            _ => None,
        }
    }

    #[test]
    fn one_thread_each_is_told_apart_and_a_single_one_is_the_processes() {
        let activity = Activity::default();
        let (a, b) = (request(1, (70, 7), 71, Role::Server, 10), request(2, (70, 7), 72, Role::Server, 20));
        begin(&activity, &a);
        assert_eq!(found(&activity.find(70, Some(71), when(15))), Some((1, "thread")));
        assert_eq!(found(&activity.find(70, None, when(15))), Some((1, "pid_single")));
        assert_eq!(found(&activity.find(7, Some(99), when(15))), Some((1, "pid_single")), "its own number");
        assert_eq!(activity.find(70, Some(71), when(5)), Finding::Nothing, "before it began");
        begin(&activity, &b);
        assert_eq!(found(&activity.find(70, Some(71), when(25))), Some((1, "thread")));
        assert_eq!(found(&activity.find(70, Some(72), when(25))), Some((2, "thread")));
        assert_eq!(activity.find(70, None, when(25)), Finding::Ambiguous);
        assert_eq!(activity.find(70, Some(99), when(25)), Finding::Ambiguous);
        // Lines arrive late: what was in flight then counts.
        end(&activity, &a, 30);
        assert_eq!(found(&activity.find(70, None, when(35))), Some((2, "pid_single")));
        assert_eq!(activity.find(70, None, when(25)), Finding::Ambiguous);
        assert_eq!(activity.find(71, None, when(25)), Finding::Nothing, "a thread's number is no process's");
    }

    #[test]
    fn one_thread_with_two_requests_is_ambiguous_never_wrong() {
        let activity = Activity::default();
        let (a, b) = (request(1, (70, 70), 70, Role::Server, 10), request(2, (70, 70), 70, Role::Server, 11));
        [&a, &b].into_iter().for_each(|r| begin(&activity, r));
        assert_eq!(activity.find(70, Some(70), when(15)), Finding::Ambiguous);
        // A vague time makes more of them possible, never fewer.
        end(&activity, &a, 12);
        assert_eq!(found(&activity.find(70, Some(70), when(15))), Some((2, "thread")));
        assert_eq!(activity.find(70, Some(70), Span { from: 0, to: at(1000).unix_ns }), Finding::Ambiguous);
    }

    #[test]
    fn what_a_process_asks_of_others_does_not_count() {
        let activity = Activity::default();
        begin(&activity, &request(1, (70, 70), 70, Role::Client, 10));
        assert_eq!(activity.find(70, Some(70), when(15)), Finding::Nothing);
    }

    #[test]
    fn the_table_is_bounded() {
        let activity = Activity::default();
        for n in 0..20_000 {
            begin(&activity, &request(n, (u32::try_from(n).unwrap() % 6000, 1), 1, Role::Server, 10));
        }
        for n in 0..2000 {
            begin(&activity, &request(100_000 + n, (1, 1), 1, Role::Server, 10));
        }
        let state = activity.0.lock().unwrap();
        assert!(state.processes.len() <= PROCESSES_MAX && state.numbers.len() <= 2 * PROCESSES_MAX);
        assert!(state.processes.values().all(|known| known.requests.len() <= REQUESTS_MAX));
        assert!(state.numbers.values().map(Vec::len).sum::<usize>() <= 2 * PROCESSES_MAX);
    }
}
