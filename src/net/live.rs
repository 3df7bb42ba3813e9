//! What the live sinks share: their batches go into a ring, and a listener of their own ends in order with them. No
//! subscriber is waited for here.

use std::future::Future;
use std::io;

use super::ring::Ring;
use crate::base::shutdown::Shutdown;
use crate::flow::{Inlet, Meter};

/// Moves every batch into the ring until the inlet ends, and tells it what its buffer had to let go. A batch there is
/// delivered: what a single subscriber misses is told to it alone.
pub async fn append_all(inlet: &mut Inlet, ring: &Ring, meter: &Meter) {
    while let Some(lease) = inlet.recv().await {
        ring.lost(meter.snapshot().dropped_total());
        ring.append(lease.batch());
        lease.delivered();
    }
}

/// Does so while `served` accepts subscribers. When the inlet ends, `attached` is dropped, by which subscribers know
/// that no more comes. A released sink is over then: another one accepts from now on, and those who are connected read
/// on from the ring. Else `ending` drains and the last subscriber is served.
///
/// # Errors
/// When the listener itself fails.
pub async fn append_and_serve(
    inlet: &mut Inlet,
    ring: &Ring,
    meter: &Meter,
    served: impl Future<Output = io::Result<()>>,
    attached: impl Sized,
    ending: &Shutdown,
) -> io::Result<()> {
    tokio::pin!(served);
    tokio::select! {
        served = &mut served => return served,
        () = append_all(inlet, ring, meter) => drop(attached),
    }
    if inlet.is_released() {
        return Ok(());
    }
    ending.drain();
    served.await
}
