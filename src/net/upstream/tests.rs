//! Upstreams against a model: whatever happens, work goes where it may, trials are single, pauses keep their bounds.

use std::collections::HashMap;

use proptest::prelude::{Strategy as _, any, prop_oneof, proptest};

use super::*;

fn endpoints(count: usize) -> Vec<Endpoint> {
    (0..count).map(|i| Endpoint::new("h", 1 + i as u16)).collect()
}

fn upstreams(count: usize, strategy: Strategy, policy: BreakerPolicy) -> Upstreams {
    Upstreams::new(endpoints(count), strategy, policy, Rng::seeded(7))
}

fn slot(upstreams: &Upstreams) -> Slot {
    match upstreams.pick(clock::now()) {
        Pick::Use(slot) => slot,
        Pick::WaitUntil(at) => panic!("nobody until {at:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn failover_goes_back_to_the_first() {
    let all = upstreams(2, Strategy::Failover, BreakerPolicy::default());
    slot(&all).failed("refused");
    let second = slot(&all);
    assert_eq!((second.index(), all.works(0), all.trouble().as_deref()), (1, false, Some("refused")));
    tokio::time::advance(Duration::from_millis(200)).await;
    let trial = slot(&all);
    assert_eq!((trial.index(), slot(&all).index()), (0, 1), "one trial only");
    trial.succeeded();
    assert_eq!((slot(&all).index(), all.trouble()), (0, None));
    second.succeeded();
}

#[tokio::test(start_paused = true)]
async fn probes_keep_work_out_of_danger() {
    let policy = BreakerPolicy { trials: Trials::Probe, ..BreakerPolicy::default() };
    let all = upstreams(2, Strategy::Failover, policy);
    slot(&all).failed("refused");
    assert!(all.probe(0, clock::now()).is_none(), "its pause is not over");
    tokio::time::advance(Duration::from_millis(200)).await;
    assert_eq!(slot(&all).index(), 1);
    let probe = all.probe(0, clock::now()).unwrap();
    assert!(all.probe(0, clock::now()).is_none());
    probe.succeeded();
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        // Accepts connections and fails at work: pauses still grow.
        slot(&all).failed("reset");
        let pause = all.paused_until(0).unwrap() - clock::now();
        longest = longest.max(pause);
        tokio::time::advance(pause).await;
        all.probe(0, clock::now()).unwrap().succeeded();
    }
    assert!(longest >= Duration::from_secs(15) && longest <= policy.pause_max, "{longest:?}");
    // With nobody left, work is risked.
    slot(&all).failed("reset");
    slot(&all).failed("reset");
    tokio::time::advance(policy.pause_max).await;
    assert_eq!(slot(&all).index(), 0);
}

#[tokio::test(start_paused = true)]
async fn turns_and_least_pending() {
    let all = upstreams(3, Strategy::RoundRobin, BreakerPolicy::default());
    let order: Vec<_> = (0..6).map(|_| slot(&all).index()).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    let all = upstreams(3, Strategy::LeastPending, BreakerPolicy::default());
    let (a, b, c) = (slot(&all), slot(&all), slot(&all));
    drop(b);
    assert_eq!(slot(&all).index(), 1);
    assert_eq!(all.pending(1), 0);
    let full = all.pick_among(clock::now(), |_| false);
    assert!(full.is_none(), "all work, all are full");
    drop((a, c));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_for_time_gets_it() {
    let policy = BreakerPolicy { failures_max: 5, ..BreakerPolicy::default() };
    let all = upstreams(1, Strategy::Failover, policy);
    slot(&all).failed("once is not enough");
    let until = clock::now() + Duration::from_secs(90);
    slot(&all).failed_until("429", Some(until));
    let Pick::WaitUntil(at) = all.pick(clock::now()) else { panic!("it asked to be left alone") };
    assert_eq!(at, until);
    all.hasten(clock::now() + Duration::from_secs(1));
    let before = clock::now();
    drop(all.ready().await);
    assert_eq!(clock::now() - before, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_haste_again_and_again_is_not_woken_by_it() {
    let all = upstreams(1, Strategy::Failover, BreakerPolicy::default());
    slot(&all).failed_until("x", Some(clock::now() + Duration::from_secs(60)));
    let latest = clock::now() + Duration::from_secs(1);
    let news = all.changed();
    all.hasten(latest);
    assert_eq!(futures_util::FutureExt::now_or_never(news), Some(()), "its pause is shorter now");
    let news = all.changed();
    all.hasten(latest + Duration::from_millis(1));
    assert_eq!(futures_util::FutureExt::now_or_never(news), None, "nothing is new");
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_that_a_trial_has_ended() {
    let all = upstreams(1, Strategy::Failover, BreakerPolicy::default());
    slot(&all).failed("x");
    tokio::time::advance(Duration::from_secs(1)).await;
    let trial = slot(&all);
    let (before, waiting) = (clock::now(), all.ready());
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    trial.succeeded();
    drop(waiting.await);
    assert_eq!(clock::now(), before);
}

#[derive(Debug, Clone)]
enum Step {
    Pick(Vec<bool>),
    Probe(usize),
    Succeed(usize),
    Fail(usize),
    Abandon(usize),
    Wait(u64),
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(any::<bool>(), 4).prop_map(Step::Pick),
        1 => (0usize..4).prop_map(Step::Probe),
        2 => any::<usize>().prop_map(Step::Succeed),
        2 => any::<usize>().prop_map(Step::Fail),
        1 => any::<usize>().prop_map(Step::Abandon),
        2 => (0u64..3000).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn work_goes_where_it_may(
        count in 1usize..5,
        kind in 0usize..3,
        by_probe in any::<bool>(),
        failures_max in 1u32..4,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let strategy = [Strategy::Failover, Strategy::RoundRobin, Strategy::LeastPending][kind];
        let trials = if by_probe { Trials::Probe } else { Trials::Work };
        let policy = BreakerPolicy { failures_max, trials, ..BreakerPolicy::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let all = upstreams(count, strategy, policy);
            let mut out: Vec<Slot> = Vec::new();
            for step in steps {
                let now = clock::now();
                match step {
                    Step::Pick(room) => match all.pick_among(now, |i| room[i]) {
                        Some(Pick::Use(slot)) => {
                            let i = slot.index();
                            assert!(room[i], "it had no room");
                            if strategy == Strategy::Failover && all.works(i) {
                                assert!((0..i).all(|j| !all.works(j)), "an earlier one works");
                            }
                            if strategy == Strategy::LeastPending {
                                let rivals = (0..count).filter(|&j| j != i && room[j] && all.works(j));
                                assert!(rivals.map(|j| all.pending(j)).all(|p| p + 1 >= all.pending(i)) || !all.works(i));
                            }
                            out.push(slot);
                        }
                        Some(Pick::WaitUntil(at)) => {
                            assert!((0..count).all(|i| !all.works(i)), "one works");
                            assert!(at > now && at <= now + policy.pause_max);
                        }
                        None => assert!((0..count).any(|i| !room[i])),
                    },
                    Step::Probe(i) => out.extend((i < count).then(|| all.probe(i, now)).flatten()),
                    Step::Succeed(n) if !out.is_empty() => {
                        let slot = out.swap_remove(n % out.len());
                        slot.succeeded();
                    }
                    Step::Fail(n) if !out.is_empty() => {
                        let slot = out.swap_remove(n % out.len());
                        let i = slot.index();
                        slot.failed("x");
                        if let Some(until) = all.paused_until(i) {
                            assert!(until <= now + policy.pause_max);
                        }
                    }
                    Step::Abandon(n) if !out.is_empty() => drop(out.swap_remove(n % out.len())),
                    Step::Wait(millis) => tokio::time::advance(Duration::from_millis(millis)).await,
                    Step::Succeed(_) | Step::Fail(_) | Step::Abandon(_) => {}
                }
                let mut held: HashMap<usize, u64> = HashMap::new();
                out.iter().for_each(|slot| *held.entry(slot.index()).or_default() += 1);
                for i in 0..count {
                    assert_eq!(all.pending(i), held.get(&i).copied().unwrap_or(0));
                }
            }
            // Once nothing is out and time has passed, somebody takes work: no endpoint is stuck for ever.
            out.clear();
            tokio::time::advance(policy.pause_max).await;
            assert!(matches!(all.pick(clock::now()), Pick::Use(_)));
        });
    }
}
