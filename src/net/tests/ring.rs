//! The ring under any interleaving.
