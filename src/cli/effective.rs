//! `weir config`: the configuration as it takes effect, each value with where it came from.

use super::config_source::ConfigSource;
use super::exit::{Exit, Failure};
use super::terminal;
use crate::config::effective::render_effective;
use crate::config::{Diagnostics, RootOptions};
use crate::registry::Registry;

/// Prints the effective configuration as TOML.
///
/// # Errors
/// With exit code 78 or 66 when it cannot be loaded or typed.
pub fn run(source: &ConfigSource) -> Result<Exit, Failure> {
    let mut findings = Diagnostics::new();
    let loaded = source.load(&mut findings)?;
    let typed = loaded.as_ref().and_then(|loaded| RootOptions::from_tree(&loaded.tree, &mut findings));
    match (loaded, typed) {
        (Some(loaded), Some(_)) if !findings.has_errors() => {
            terminal::print(&render_effective(&loaded.tree, &Registry))?;
            Ok(Exit::OK)
        }
        _ => Err(Failure::config(findings)),
    }
}
