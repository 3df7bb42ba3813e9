//! Options that every component of a role takes besides its own.

use super::query_option::QueryOption;
use crate::config::{BufferOptions, ComponentKind, Section, Shape, defaults, options};

options! {
    /// Options of every sink.
    pub struct SinkOptions {
        /// What waits before the sink while it is busy.
        pub buffer: BufferOptions = defaults(),
        /// A query: only events that it finds go to this sink, before its own filters. See `docs/QUERY.md`.
        pub when: Option<QueryOption> = None,
        /// Filters of this sink alone; rows pass them before its buffer.
        #[shape(Shape::List(Box::new(Shape::Section(ComponentKind::Filter))))]
        pub filters: Vec<Section> = Vec::new(),
    }
}
