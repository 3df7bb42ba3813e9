//! Options that every component of a role takes besides its own.

use crate::config::{BufferOptions, ComponentKind, Section, Shape, defaults, options};

options! {
    /// Options of every sink.
    pub struct SinkOptions {
        /// What waits before the sink while it is busy.
        pub buffer: BufferOptions = defaults(),
        /// Filters of this sink alone; rows pass them before its buffer.
        #[shape(Shape::List(Box::new(Shape::Section(ComponentKind::Filter))))]
        pub filters: Vec<Section> = Vec::new(),
    }
}
