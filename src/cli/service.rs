//! What systemd is told (`sd_notify(3)`): ready, reloading and what came of it, stopping, and signs of life where it
//! asks for them. Elsewhere nothing is told.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::ask::harmless;
use crate::base::clock;
use crate::config::Environment;
use crate::engine::ReloadReport;

/// The service manager that started this process, if one wants to hear of it.
#[derive(Debug)]
pub struct Supervisor {
    socket: Option<(UnixDatagram, String)>,
    /// Time between two signs of life.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say.
    pub fn from(environment: &Environment) -> Supervisor {
        let address = environment.get("NOTIFY_SOCKET").filter(|a| a.starts_with('/') || a.starts_with('@'));
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address.to_owned())));
        if let Some((socket, _)) = &socket {
            // A full queue must not hold anything up.
            socket.set_nonblocking(true).ok();
        }
        let ours = environment.get("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit =
            environment.get("WATCHDOG_USEC").and_then(|usec| usec.parse().ok()).filter(|usec| *usec > 0);
        let watchdog = limit.filter(|_| ours && socket.is_some()).map(|usec| Duration::from_micros(usec) / 2);
        Supervisor { socket, watchdog }
    }

    /// The service is up, or has its new configuration.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_micros()));
    }

    /// What came of a reload, where it failed: `systemctl status` shows it until one succeeds.
    pub fn reloaded(&self, report: &ReloadReport) {
        let why = if report.is_ok() { String::new() } else { harmless(&report.headline()) };
        self.tell(&format!("STATUS={why}"));
    }

    /// The service is ending.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Gives signs of life for as long as the runtime runs tasks; ends at once where none are wanted.
    pub async fn stay_alive(&self) {
        let Some(every) = self.watchdog else { return };
        loop {
            self.tell("WATCHDOG=1");
            tokio::time::sleep(every).await;
        }
    }

    fn tell(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(e) = send(socket, address, message.as_bytes()) {
            tracing::debug!("cannot notify the service manager at {address}: {e}");
        }
    }
}

fn send(socket: &UnixDatagram, address: &str, message: &[u8]) -> std::io::Result<usize> {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return socket.send_to_addr(message, &address);
    }
    socket.send_to(message, address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ReloadOutcome;

    #[test]
    fn the_service_manager_hears_what_happens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let own = std::process::id().to_string();
        let pairs = |pid: &str| {
            let socket = path.to_str().unwrap().to_owned();
            [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "200000".into()), ("WATCHDOG_PID", pid.to_owned())]
        };
        let supervisor = Supervisor::from(&Environment::from_pairs(pairs(&own)));
        assert_eq!(supervisor.watchdog, Some(Duration::from_millis(100)));
        let heard = || {
            let mut text = [0; 256];
            let length = manager.recv(&mut text).unwrap();
            String::from_utf8(text[..length].to_vec()).unwrap()
        };
        supervisor.ready();
        assert_eq!(heard(), "READY=1");
        supervisor.reloading();
        let text = heard();
        let since = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(since.parse::<u64>().unwrap() > 0);
        supervisor.reloaded(&ReloadReport::refused(vec!["a line\nREADY=1".to_owned()]));
        assert_eq!(heard(), "STATUS=reload refused, everything runs on as before: a lineREADY=1");
        supervisor.reloaded(&ReloadReport::new(ReloadOutcome::Unchanged));
        assert_eq!(heard(), "STATUS=");
        supervisor.stopping();
        assert_eq!(heard(), "STOPPING=1");
        assert_eq!(Supervisor::from(&Environment::from_pairs(pairs("1"))).watchdog, None);
        let nobody = Supervisor::from(&Environment::from_pairs::<&str, &str>([]));
        nobody.ready();
        assert!(nobody.socket.is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_one_too() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("weir-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Supervisor::from(&Environment::from_pairs([("NOTIFY_SOCKET", format!("@{name}"))])).ready();
        let mut text = [0; 16];
        assert_eq!(manager.recv(&mut text).unwrap(), 7);
    }
}
