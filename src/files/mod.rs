//! Row 4: files that are written to. Where a row goes, how a file is opened, rotated and cut back after a failed
//! write, and what becomes of rotated files.

mod output;
mod path_template;
mod retention;
mod writer;

pub use output::{OutputFile, period_of};
pub use path_template::{Names, PathTemplate, Scope};
pub use retention::{Compression, Retention, Tidier, rotated_path};
pub use writer::{FileWriter, Limits, names};
