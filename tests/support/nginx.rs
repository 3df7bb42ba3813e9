//! A real nginx as a reverse proxy, with a configuration of its own in a directory of a test.

use std::process::{Child, Command, Stdio};

use super::weir::Place;
use super::{eventually, free_port, installed, skip};

/// Packs streams, too, which is not its default.
pub const GZIP: &str = "gzip on;\ngzip_types text/event-stream application/json;";

/// A pipeline `app` from `app.log` to a stream whose signs of life come often.
pub const PIPELINE: &str = r#"
[[pipelines]]
name = "app"
[[pipelines.sources]]
type = "file"
path = "DIR/app.log"
[[pipelines.sinks]]
type = "http"
history = { max_events = 100 }
heartbeat = { interval = "500ms" }
"#;

/// An nginx in the foreground, killed when dropped.
pub struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    /// Starts it before `upstream`, with `server` for all that it serves, and `extra` in its only location, which is
    /// below `/logs/`.
    pub fn start(place: &Place, upstream: &str, server: &str, extra: &str) -> Nginx {
        let (port, dir) = (free_port(), place.dir().display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {dir}/nginx-{kind};\n"))
            .concat();
        let config = format!(
            "worker_processes 1;\ndaemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\naccess_log off;\n{temporary}{server}\n\
             server {{\nlisten 127.0.0.1:{port};\n\
             location /logs/ {{\nproxy_pass http://{upstream}/;\n{extra}\n}}\n}}\n}}\n"
        );
        place.write("nginx.conf", config);
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(place.dir())
            .arg("-c")
            .arg(place.path("nginx.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Nginx { child, port };
        eventually("nginx listens", || std::net::TcpStream::connect(nginx.authority()).ok());
        nginx
    }

    /// Where it listens.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with the master's orderly end, not with its death.
        super::signal(self.child.id(), "TERM");
        self.child.wait().ok();
    }
}

/// Whether it is installed; says so if not.
pub fn has_nginx(test: &str) -> bool {
    let there = installed("nginx");
    if !there {
        skip(test, "nginx is not installed");
    }
    there
}
