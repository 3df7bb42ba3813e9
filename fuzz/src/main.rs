//! One fuzzing program for every decoder, frame parser and text that strangers write. `FUZZ_TARGET` names which
//! of [`TARGETS`] it feeds; `./run` builds it with coverage and goes through all of them. A new decoder is one
//! function in `targets/` and one line here.

#![no_main]

mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use targets::TARGETS;

fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        match TARGETS.iter().find(|(known, _)| *known == name) {
            Some((_, target)) => *target,
            None => panic!("no target {name:?}: set FUZZ_TARGET to one of src/targets/mod.rs"),
        }
    });
    target(data);
});
