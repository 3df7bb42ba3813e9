//! The `buffer` table, which every sink shares: how much waits before it, and what happens when that is full.

use std::time::Duration;

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
        /// For `disk`: rows stay in memory while there is room and go to the disk only then, keeping their order; when
        /// that is full too, the sources wait.
        Overflow = "overflow",
    }
}

choices! {
    /// Where a buffer keeps what waits.
    pub enum BufferType {
        /// In memory.
        Memory = "memory",
        /// In files below `state_dir`, where it survives a crash and a restart.
        Disk = "disk",
    }
}

choices! {
    /// How a disk buffer compresses.
    pub enum BufferCompression {
        /// Fast.
        Lz4 = "lz4",
        /// Smaller.
        Zstd = "zstd",
    }
}

options! {
    /// What waits before a sink.
    pub struct BufferOptions {
        /// Where it waits.
        pub r#type: BufferType = BufferType::Memory,
        /// Most events that wait. Default: 10,000 in memory; on disk, no limit of its own.
        #[range(1..=100_000_000_000)]
        pub max_events: Option<u64> = None,
        /// Most memory that waiting events keep alive, or most bytes of the buffer's files. Default: `64MiB` in memory,
        /// `1GiB` on disk.
        #[range(ByteCount::kib(4)..=ByteCount::gib(64 << 10))]
        pub max_bytes: Option<ByteCount> = None,
        /// What happens when it is full. Live sinks (`http`, `tcp`) empty it at once into what their subscribers read
        /// from, where the oldest rows give way: a subscriber that falls behind is told what it missed and holds
        /// nobody back.
        pub when_full: BufferFull = BufferFull::Block,
        /// For `disk`: how long a row may wait for the sink in memory before it is written, and least time between two
        /// waits for the disk. A row counts as accepted once the sink has settled it or it is on the disk, so an
        /// acknowledging source waits about twice as long at most. Under `block`, faster sources wait for a sink that
        /// keeps up, which is one that leaves no row unsettled for four intervals or half a second; others do not hold
        /// them back. With 0, every row is written. Default: `50ms`.
        #[range(Duration::ZERO..=Duration::from_secs(60))]
        pub sync_interval: Option<Duration> = None,
        /// For `disk`: compresses what is written. Default: no.
        pub compress: Option<BufferCompression> = None,
        /// For `disk`: most memory for rows on their way through it. Default: `32MiB`.
        #[range(ByteCount::kib(64)..=ByteCount::gib(64))]
        pub max_memory: Option<ByteCount> = None,
    }
}
