//! Where rows go that a receiver refuses for good: counted as rejected, and sent into another pipeline if one is
//! named for them, where they are kept under the same receipt.

use crate::flow::{Lease, Links, Outlet, Reason, TaskCx};

/// See the module.
#[derive(Debug)]
pub(super) struct Rejects {
    cx: TaskCx,
    pipeline: Option<String>,
}

impl Rejects {
    pub(super) fn new(pipeline: Option<String>, cx: &TaskCx) -> Rejects {
        Rejects { cx: cx.clone(), pipeline }
    }

    /// The pipeline that takes them.
    pub(super) fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }

    /// Ends the leases. Waits while the other pipeline has no room. When cancelled, what was not passed on goes
    /// back to the queue or is counted by the other pipeline.
    pub(super) async fn take(&self, leases: impl IntoIterator<Item = Lease>) {
        let Some(entrance) = self.entrance().await else {
            return leases.into_iter().for_each(|lease| lease.dropped(Reason::Rejected));
        };
        for lease in leases {
            if let Some(batch) = lease.diverted() {
                entrance.send(batch).await;
            }
        }
    }

    /// Asked for each time: a reload may have given the other pipeline another entrance.
    async fn entrance(&self) -> Option<Outlet> {
        self.cx.shared.get::<Links>().link(self.pipeline.as_deref()?).entrance().await
    }
}
