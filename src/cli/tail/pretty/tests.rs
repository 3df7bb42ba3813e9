//! What lines look like, of all the kinds that people have; and that nothing gets through to the terminal.

use proptest::prelude::*;

use super::*;
use crate::batch::Batch;
