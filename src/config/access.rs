//! The `access` and `auth` tables, which every listener shares.

use crate::config::options;

options! {
    /// Who may connect.
    pub struct AccessOptions {
        /// Networks that may connect; everybody if empty.
        pub allow: Vec<String> = Vec::new(),
    }
}

options! {
    /// Who may log in.
    pub struct AuthOptions {
    }
}
