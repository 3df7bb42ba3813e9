//! The `weir` binary: hands the command line and the environment to the commands and exits with their code.

use std::process::ExitCode;

/// Batches are allocated on one thread and freed on another, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let environment = logweir::config::Environment::from_process();
    ExitCode::from(logweir::cli::main(std::env::args_os(), &environment))
}
