//! Ten minutes with receivers that do everything wrong, under many seeds: nothing is lost, order is kept on each
//! connection, only what was not acknowledged comes twice, and memory stays flat.

use std::collections::HashSet;

use super::network::{End, Mood, Network};
use super::*;

const MINUTES: u64 = 10;

/// Does something bad to a random receiver every now and then, and lets all be well in the end.
async fn torment(network: Arc<Network>, seed: u64) {
    let mut rng = Rng::seeded(seed);
    let end = crate::base::clock::now() + Duration::from_secs(MINUTES * 60);
    while crate::base::clock::now() < end {
        tokio::time::sleep(Duration::from_millis(rng.below(8000))).await;
        let receiver = rng.below(network.receivers() as u64) as usize;
        match rng.below(9) {
            0 => network.set(receiver, Mood::Hangs),
            1 => network.set(receiver, Mood::Silent),
            2 => {
                network.set(receiver, Mood::Down);
                network.end(receiver, End::Reset);
            }
            3 => network.end(receiver, End::Reset),
            4 => network.end(receiver, End::Closed),
            5 | 6 => network.set(receiver, Mood::Slow(1 + rng.below(300) as usize)),
            _ => network.set(receiver, Mood::Well),
        }
    }
    (0..network.receivers()).for_each(|receiver| network.set(receiver, Mood::Well));
}

async fn ordeal(receivers: usize, strategy: Strategy, opaque: bool, seed: u64) {
    let network = Network::new(receivers, opaque);
    drop(task::spawn(network.clone().run(Duration::from_millis(40), seed)));
    let subject = Subject::start(&network, strategy, LIMITS, seed);
    let tormented = task::spawn(torment(network.clone(), seed ^ 0xbad));
    let (mut rng, mut rows, mut most_bytes) = (Rng::seeded(seed), 0u64, 0);
    while !tormented.is_finished() {
        let batch: Vec<String> = (0..1 + rng.below(20))
            .map(|_| {
                rows += 1;
                format!("{rows:08}{}", "x".repeat(rng.below(120) as usize))
            })
            .collect();
        subject.queue.push(Batch::from_lines("t", batch)).await;
        most_bytes = most_bytes.max(subject.queue.meter().snapshot().queued_bytes);
        tokio::time::sleep(Duration::from_millis(rng.below(400))).await;
    }
    let counts_of = subject.queue.clone();
    subject.finish().await;
    let counts = counts_of.meter().snapshot();
    assert_eq!((counts.delivered_events, counts.dropped_total()), (rows, 0), "seed {seed}");
    // The buffer, a window for each receiver with a batch beyond it, and what was taken in for them.
    let bound = (64 << 10) + (receivers as u64 + 1) * (LIMITS.window_bytes_max + (8 << 10)) + (256 << 10);
    assert!(most_bytes <= bound, "seed {seed}: {most_bytes} bytes");
    let (mut seen, mut known, mut steps_back) = (HashSet::new(), HashSet::new(), 0);
    for (_, arrived, acknowledged) in network.deliveries() {
        let numbers: Vec<u64> = arrived.iter().map(|row| row[..8].parse().unwrap()).collect();
        let back = numbers.windows(2).filter(|w| w[0] >= w[1]).count();
        // What one receiver gave back follows on another's connection after what went there meanwhile.
        assert!(receivers > 1 || back == 0, "seed {seed}: order on one connection, {back} steps back");
        steps_back += back;
        // Encrypted, a batch of which a part had arrived goes again as a whole.
        if !opaque {
            // With several receivers an earlier connection may have brought it later.
            let sure = &numbers[..if receivers == 1 { numbers.len() } else { acknowledged }];
            let again = sure.iter().find(|n| known.contains(*n));
            assert!(again.is_none(), "seed {seed}: row {again:?} was acknowledged and came again");
        }
        known.extend(numbers[..acknowledged].iter().copied());
        seen.extend(numbers);
    }
    assert!(
        steps_back <= network.dials(),
        "seed {seed}: one step back for a connection that broke, not {steps_back}"
    );
    assert_eq!(seen.len() as u64, rows, "seed {seed}: rows are missing");
    let arrived: usize = network.deliveries().iter().map(|(_, rows, _)| rows.len()).sum();
    println!(
        "seed {seed}: {rows} rows, {} connections, {} rows twice",
        network.dials(),
        arrived as u64 - rows
    );
    assert!(network.dials() > 10, "seed {seed}: it was no ordeal");
}

#[tokio::test(start_paused = true)]
async fn one_receiver() {
    for seed in 1..=4 {
        ordeal(1, Strategy::Failover, false, seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_receiver_whose_bytes_are_encrypted() {
    for seed in 11..=13 {
        ordeal(1, Strategy::Failover, true, seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn several_receivers() {
    for (seed, strategy) in
        (21..=26).zip([Strategy::Failover, Strategy::RoundRobin, Strategy::LeastPending].into_iter().cycle())
    {
        ordeal(3, strategy, false, seed).await;
    }
}
