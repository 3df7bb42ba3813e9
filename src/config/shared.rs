//! Tables that many components share: how rows are written (`format`) and how much waits before a sink (`buffer`).

use crate::base::units::ByteCount;
use crate::config::{choices, options};

choices! {
    /// How rows are written.
    pub enum FormatType {
        /// The line as it came.
        Raw = "raw",
        /// One JSON object per line: timestamp, level, source, message.
        Json = "json",
        /// A template.
        Text = "text",
    }
}

options! {
    /// How rows are written.
    pub struct FormatOptions {
        /// The kind of format.
        pub r#type: FormatType,
        /// For `text`: literal text with `{timestamp}`, `{level}`, `{source}`, `{message}` and `{pipeline}`.
        pub template: Option<String> = None,
        /// How times are written: `rfc3339`, `unix`, `unix_ms` or a strftime pattern, in UTC.
        pub timestamp_format: String = "rfc3339".to_owned(),
    }
}

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
        /// What happens when it is full; `block`, except for live sinks (`http`, `tcp`), which `drop_oldest`.
        pub when_full: Option<BufferFull> = None,
    }
}
