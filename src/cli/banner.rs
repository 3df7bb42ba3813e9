//! The few lines a person sees at the start: where the live pages are and how to read a stream.

use std::fmt::Write;

use crate::config::Node;
use crate::engine::Started;

/// Where the pipelines of a configuration can be watched.
#[derive(Debug, PartialEq, Eq)]
pub struct Live {
    /// Pipelines with a live page on the shared server.
    pub pages: Vec<String>,
    /// What listens on an address of its own: the pipeline, what it is, and the address.
    pub listeners: Vec<(String, String, String)>,
}

impl Live {
    /// Reads it from a planned configuration.
    pub fn of(tree: &Node) -> Live {
        let mut live = Live { pages: Vec::new(), listeners: Vec::new() };
        let array = |node: &Node, key: &str| -> Vec<Node> {
            node.get(key).and_then(Node::as_array).unwrap_or_default().to_vec()
        };
        let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
        for pipeline in array(tree, "pipelines") {
            let Some(name) = text(&pipeline, "name") else { continue };
            for (role, component) in [("sources", "in"), ("sinks", "out")]
                .into_iter()
                .flat_map(|(key, role)| array(&pipeline, key).into_iter().map(move |c| (role, c)))
            {
                let Some(kind) = text(&component, "type") else { continue };
                match text(&component, "listen") {
                    Some(address) => live.listeners.push((name.clone(), format!("{kind} {role}"), address)),
                    None if kind == "http" && role == "out" && !live.pages.contains(&name) => {
                        live.pages.push(name.clone());
                    }
                    None => {}
                }
            }
        }
        live
    }
}

/// See the module.
#[derive(Debug)]
pub struct Banner {
    /// Where to look.
    pub live: Live,
    /// The configuration files.
    pub files: Vec<String>,
    /// Whether the usual port was taken and another is used.
    pub port_was_taken: bool,
    /// Whether to colour.
    pub color: bool,
}

/// Most pipelines that are listed.
const LISTED_MAX: usize = 12;

impl Banner {
    /// The lines.
    pub fn text(&self, started: &Started) -> String {
        let (bold, dim, reset) = if self.color { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let mut lines =
            vec![format!("{bold}weir {}{reset}  {}", env!("CARGO_PKG_VERSION"), self.files.join(", "))];
        let width = self.live.pages.iter().map(String::len).max().unwrap_or(0).clamp(4, 24);
        let scheme = if started.encrypted { "https" } else { "http" };
        if let Some(server) = started.server {
            for name in self.live.pages.iter().take(LISTED_MAX) {
                lines.push(format!("  {name:width$}  {bold}{scheme}://{server}/{name}/{reset}"));
            }
            if self.live.pages.len() > LISTED_MAX {
                lines.push(format!(
                    "  {:width$}  {scheme}://{server}/",
                    format!("all {}", self.live.pages.len())
                ));
            }
            if self.port_was_taken {
                lines.push(format!(
                    "  {:width$}  port 8080 is taken, so it is {} this time",
                    "note",
                    server.port()
                ));
            }
            if let Some(name) = self.live.pages.first() {
                lines.push(format!(
                    "  {dim}{:width$}  curl -N {scheme}://{server}/{name}/stream{reset}",
                    "try"
                ));
            }
        }
        for (name, what, address) in self.live.listeners.iter().take(LISTED_MAX) {
            lines.push(format!("  {name:width$}  {what}: {address}"));
        }
        let mut out = String::new();
        for line in lines {
            writeln!(out, "{}", line.trim_end()).expect("writing to a string cannot fail");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_every_page_and_one_thing_to_try() {
        let component = |kind: &str| Node::table([("type", Node::from(kind))]);
        let tcp = Node::table([("type", Node::from("tcp")), ("listen", "127.0.0.1:9".into())]);
        let pipeline = Node::table([
            ("name", Node::from("app")),
            ("sources", Node::array([component("http")])),
            ("sinks", Node::array([component("http"), tcp])),
        ]);
        let live = Live::of(&Node::table([("pipelines", Node::array([pipeline]))]));
        let banner = Banner { live, files: vec!["p.toml".into()], port_was_taken: true, color: false };
        let started = Started {
            server: Some(([127, 0, 0, 1], 4711).into()),
            encrypted: false,
            pipelines: vec!["app".into()],
        };
        let expected = format!(
            "weir {}  p.toml\n  app   http://127.0.0.1:4711/app/\n  note  port 8080 is taken, so it is 4711 this time\n  \
             try   curl -N http://127.0.0.1:4711/app/stream\n  app   tcp out: 127.0.0.1:9\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(banner.text(&started), expected);
    }
}
