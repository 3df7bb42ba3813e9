//! Signals of a running weir: SIGTERM and SIGINT drain and, the second time, force the end; SIGUSR1 opens files
//! again; SIGHUP reads the configuration again, or ends like SIGTERM where it means that the terminal is gone. SIGPIPE is ignored by the runtime, so a closed pipe is a write error.

use std::io::{self, IsTerminal};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::exit::Exit;
use super::logging::LogFile;
use crate::base::clock;
use crate::base::shutdown::Shutdown;

/// How long after the second signal the process may take before it is ended from here, whatever still hangs.
const FORCED_END_MAX: Duration = Duration::from_secs(2);
/// Signals this close to the first are the same wish: `timeout` and some supervisors signal the process and then its
/// group. Nobody presses Ctrl-C twice that fast.
const SAME_WISH_WITHIN: Duration = Duration::from_millis(100);

/// What answers SIGHUP and SIGUSR1 once everything has started.
pub struct Answers {
    /// Opened again on SIGUSR1, before anything else.
    pub log: LogFile,
    /// Called on SIGUSR1.
    pub reopen: Box<dyn Fn() + Send>,
    /// Called on SIGHUP.
    pub reload: Box<dyn Fn() + Send>,
}

/// The signals, caught from the moment this is made.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    terminal: Option<BorrowedFd<'static>>,
}

/// The terminal that this process was started on, if it is the one who uses it: in the background, or behind `nohup`,
/// the terminal may go and the process stays.
fn foreground() -> Option<BorrowedFd<'static>> {
    let own = rustix::process::getpgrp();
    let ends = [rustix::stdio::stderr(), rustix::stdio::stdout(), rustix::stdio::stdin()];
    ends.into_iter().find(|fd| rustix::termios::tcgetpgrp(fd).is_ok_and(|user| user == own))
}

impl Answers {
    fn reopen(&self) {
        tracing::info!("SIGUSR1: opening files again");
        if let Err(e) = self.log.reopen() {
            tracing::error!("cannot open the log file again, the old one stays in use: {e}");
        }
        (self.reopen)();
    }
}

impl Signals {
    /// Begins to catch the signals.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn catch() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            terminal: foreground(),
        })
    }

    /// Acts on signals for as long as the process runs. SIGHUP and SIGUSR1 wait until `started` brings what answers
    /// them; the end can be asked for, and forced, before.
    pub async fn obey(mut self, shutdown: Shutdown, mut started: oneshot::Receiver<Answers>) {
        let (mut asked_at, mut answers, mut starting) = (None, None::<Answers>, true);
        loop {
            let name = tokio::select! {
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
                brought = &mut started, if starting => {
                    (answers, starting) = (brought.ok(), false);
                    continue;
                }
                Some(()) = self.hang_up.recv(), if !starting => {
                    // Its terminal was closed: nobody is left who could end it, and it would keep its port for ever.
                    if self.terminal.is_some_and(|fd| !fd.is_terminal()) {
                        // The kernel and the shell may both say so.
                        if asked_at.is_some() {
                            continue;
                        }
                        "SIGHUP, the terminal is gone"
                    } else {
                        if let Some(answers) = &answers {
                            tracing::info!("SIGHUP: reading the configuration again");
                            (answers.reload)();
                        }
                        continue;
                    }
                }
                Some(()) = self.user1.recv(), if !starting => {
                    if let Some(answers) = &answers {
                        answers.reopen();
                    }
                    continue;
                }
                else => return,
            };
            let Some(asked_at) = asked_at else {
                asked_at = Some(clock::now());
                tracing::info!(
                    "{name}: delivering what is in flight, then stopping; a second signal forces it"
                );
                shutdown.drain();
                continue;
            };
            if clock::now().duration_since(asked_at) < SAME_WISH_WITHIN {
                continue;
            }
            tracing::warn!("{name} again: stopping at once");
            shutdown.abort();
            tokio::time::sleep(FORCED_END_MAX).await;
            // Something hangs in a system call; whoever sent two signals does not want to wait for it.
            std::process::exit(i32::from(Exit::IO.0));
        }
    }
}
