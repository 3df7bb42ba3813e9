//! The `buffer` table, which every sink shares: how much waits before it, and what happens when that is full.

use crate::base::units::ByteCount;
use crate::config::{choices, options};

choices! {
    /// What a full buffer does.
    pub enum BufferFull {
        /// The pipeline's sources wait; nothing is lost.
        Block = "block",
        /// New rows are dropped and counted.
        DropNewest = "drop_newest",
        /// The oldest waiting rows are dropped and counted.
        DropOldest = "drop_oldest",
    }
}

choices! {
    /// Where a buffer keeps what waits.
    pub enum BufferType {
        /// In memory.
        Memory = "memory",
    }
}

options! {
    /// What waits before a sink.
    pub struct BufferOptions {
        /// Where it waits.
        pub r#type: BufferType = BufferType::Memory,
        /// Most events that wait.
        #[range(1..=100_000_000)]
        pub max_events: u64 = 10_000,
        /// Most memory that waiting events keep alive.
        #[range(ByteCount::kib(4)..=ByteCount::gib(64))]
        pub max_bytes: ByteCount = ByteCount::mib(64),
        /// What happens when it is full. Live sinks (`http`, `tcp`) empty it at once into what their subscribers read
        /// from, where the oldest rows give way: a subscriber that falls behind is told what it missed and holds
        /// nobody back.
        pub when_full: BufferFull = BufferFull::Block,
    }
}
