//! The process environment, read once at the start and passed along, so that a test can bring its own and no
//! code reads a variable behind the user's back.

use std::collections::BTreeMap;

/// Variables by name.
#[derive(Clone, Default)]
pub struct Environment {
    vars: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process; the only place that reads it. Names and values that are not UTF-8 are
    /// left out.
    pub fn from_process() -> Environment {
        let vars = std::env::vars_os();
        let text =
            vars.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Environment { vars: text.collect() }
    }

    /// An environment of these variables.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Environment {
        Environment { vars: pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect() }
    }

    /// The value of a variable, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vars.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Names only: values may be secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.vars.keys()).finish()
    }
}
