//! What the acceptance tests share: a weir run from outside with a configuration, ended when dropped, and small
//! clients for what it serves. Every wait is bounded by [`PATIENCE`] and says what it waited for.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part of it")]
#![allow(clippy::print_stdout, reason = "a test that is left out says so where its results are read")]

pub mod browser;
pub mod control;
pub mod curl;
pub mod docs;
pub mod http;
pub mod ingest;
pub mod machine;
pub mod nginx;
pub mod receiver;
pub mod weir;

use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::Duration;

use logweir::base::clock;

/// The longest any single thing is waited for, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A port of this machine that nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A child that is killed when dropped, so that it does not outlive its test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sends a signal by name.
pub fn signal(id: u32, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().unwrap();
}

/// Asks again and again until there is an answer; fails with `what` when none came in time.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = clock::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(clock::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Says that a test is left out; fails instead where everything is required.
pub fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("WEIR_REQUIRE_ALL").is_none_or(|v| v != "1"), "{test} is required: {reason}");
    println!("SKIP {test}: {reason}");
}

/// Whether a program is installed.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
