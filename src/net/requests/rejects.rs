//! Where rows go that a receiver refuses for good: counted as rejected, and sent into another pipeline if one is
//! named for them, where they are kept under the same receipt.

use crate::flow::{Lease, Links, Outlet, Reason, TaskCx};

/// See the module.
#[derive(Debug)]
pub(super) struct Rejects {
    cx: TaskCx,
    pipeline: Option<String>,
    entrance: tokio::sync::OnceCell<Outlet>,
}

impl Rejects {
    pub(super) fn new(pipeline: Option<String>, cx: &TaskCx) -> Rejects {
        Rejects { cx: cx.clone(), pipeline, entrance: tokio::sync::OnceCell::new() }
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

    async fn entrance(&self) -> Option<&Outlet> {
        let name = self.pipeline.as_deref()?;
        let links = self.cx.shared.get::<Links>();
        let there = self.entrance.get_or_try_init(|| async { links.entrance(name).await.ok_or(()) });
        there.await.ok()
    }

    /// Nothing more will be refused.
    pub(super) fn end(&self) {
        if let Some(name) = &self.pipeline {
            self.cx.shared.get::<Links>().sender_ended(name);
        }
    }
}
