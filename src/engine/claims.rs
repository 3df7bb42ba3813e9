//! What components claim for themselves, held against each other: two listeners on one address, two sinks on one
//! route or file, pipelines that feed each other in a circle or read what they write. Every complaint names both places.

use std::collections::HashMap;

use super::plan::PipelinePlan;
use crate::config::{ComponentKind, Diagnostics, Node, Path, ServerOptions};
use crate::flow::{BuildCx, Claim, Site};
use crate::net::EntranceConfig;
use crate::tail::{CHECKPOINTS, Patterns};

/// The claim a `pipeline` sink makes on the pipeline it feeds; any number may make it.
pub(super) const FEEDS: &str = "feeds pipeline";

/// The names of the checkpoints that the sources of these pipelines write.
pub(super) fn checkpoints<'a>(pipelines: impl Iterator<Item = &'a PipelinePlan>) -> Vec<String> {
    let claims = pipelines.flat_map(|p| &p.sources).flat_map(|source| source.claims.iter());
    claims.filter(|(what, _)| *what == CHECKPOINTS).map(|(_, name)| name.clone()).collect()
}

/// The pipeline that a component's claims say it feeds.
pub(super) fn feeds<'a>(claims: &'a [(&'static str, String)]) -> Option<&'a str> {
    claims.iter().find(|(what, _)| *what == FEEDS).map(|(_, name)| name.as_str())
}

/// The shared router's way in: its claim on the address, its guard and its certificates.
pub(super) fn server(
    options: &ServerOptions,
    tree: &Node,
    claims: &mut Vec<Claim>,
    diagnostics: &mut Diagnostics,
) -> Option<EntranceConfig> {
    let site = Site { pipeline: "server".into(), kind: ComponentKind::Sink, index: 0, type_name: "server" };
    let at = Path::root().key("server");
    let (listen, tls) = (&options.listen, options.tls.as_ref());
    let mut own = Vec::new();
    let mut cx = BuildCx {
        site: &site,
        pipeline_format: None,
        node: tree.get("server").unwrap_or(tree),
        at: &at,
        diagnostics,
        claims: &mut own,
    };
    let entrance = {
        let (access, auth) = (options.access.as_ref(), options.auth.as_ref());
        EntranceConfig::build(listen, tls, access, auth, options.insecure_public, &mut cx)
    };
    // An address that was left to its default still has a name of its own.
    claims.extend(own.into_iter().map(|claim| Claim { at: at.key("listen"), ..claim }));
    entrance
}

/// Reports every second claim of the same thing.
pub(super) fn conflicts(claims: &[Claim], diagnostics: &mut Diagnostics) {
    let mut first: HashMap<(&str, &str), &Claim> = HashMap::new();
    for claim in claims.iter().filter(|c| ![FEEDS, CHECKPOINTS].contains(&c.what)) {
        // Port 0 asks for any free port: no two conflict.
        if claim.what == "listen address" && claim.key.ends_with(":0") {
            continue;
        }
        if let Some(other) = first.get(&(claim.what, claim.key.as_str())) {
            diagnostics
                .error(
                    &claim.origin,
                    format!("{} {} is already taken by {}", claim.what, claim.key, other.at),
                )
                .path(&claim.at)
                .also(&other.origin, "first used here")
                .hint("give each its own");
        } else {
            first.insert((claim.what, &claim.key), claim);
        }
    }
}

/// Checks that fed pipelines exist, listen, and form no circle; tells each how many feed it.
pub(super) fn links(claims: &[Claim], pipelines: &mut [PipelinePlan], diagnostics: &mut Diagnostics) {
    let index: HashMap<String, usize> =
        pipelines.iter().enumerate().map(|(i, p)| (p.name.to_string(), i)).collect();
    let mut edges: Vec<(usize, usize, &Claim)> = Vec::new();
    for claim in claims.iter().filter(|c| c.what == FEEDS) {
        let Some(&to) = index.get(&claim.key) else {
            diagnostics
                .error(&claim.origin, format!("no pipeline is named `{}`", claim.key))
                .path(&claim.at)
                .choices(&claim.key, index.keys().map(String::as_str));
            continue;
        };
        if !pipelines[to].sources.iter().any(|s| s.site.type_name == "pipeline") {
            diagnostics
                .error(&claim.origin, format!("pipeline `{}` does not take in other pipelines", claim.key))
                .path(&claim.at)
                .hint(format!("add a source of type \"pipeline\" to `{}`", claim.key));
            continue;
        }
        pipelines[to].fed_by += 1;
        if let Some(from) = owner(claim, pipelines.len()) {
            edges.push((from, to, claim));
        }
    }
    for (from, to, claim) in &edges {
        if reaches(*to, *from, &edges) {
            diagnostics
                .error(
                    &claim.origin,
                    format!("pipelines feed each other in a circle: `{}` leads back here", claim.key),
                )
                .path(&claim.at)
                .hint("let one of them end in another sink");
        }
    }
}

/// Warns of files that a pipeline writes and reads again: each line would come again and again, until the disk is full.
pub(super) fn feedback(
    tree: &Node,
    claims: &[Claim],
    pipelines: &[PipelinePlan],
    diagnostics: &mut Diagnostics,
) {
    let written = tree.get("pipelines").and_then(Node::as_array).unwrap_or_default();
    for claim in claims.iter().filter(|claim| claim.what == "output file") {
        let Some(writer) = owner(claim, pipelines.len()) else { continue };
        let sources = written.get(writer).and_then(|node| node.get("sources")).and_then(Node::as_array);
        let reader =
            sources.unwrap_or_default().iter().find(|source| reads(source, &without_fields(&claim.key)));
        let Some(reader) = reader else { continue };
        diagnostics
            .warning(
                &claim.origin,
                "this pipeline reads what it writes: its lines would come again and again",
            )
            .path(&claim.at)
            .also(reader.get("path").map_or(&reader.origin, |path| &path.origin), "read here")
            .hint("write to another directory, or leave the file out of the source with `exclude`");
    }
}

/// Whether a source follows the file at `path`.
fn reads(source: &Node, path: &str) -> bool {
    let text = |key: &str| source.get(key).and_then(Node::as_str);
    let list = |key: &str| {
        let one = text(key).map(str::to_owned).into_iter();
        let many = source.get(key).and_then(Node::as_array).unwrap_or_default().iter();
        one.chain(many.filter_map(Node::as_str).map(str::to_owned)).collect::<Vec<_>>()
    };
    let patterns = match text("type") {
        Some("file") => Patterns::globs(&list("path")).ok(),
        Some("directory") => {
            let recursive = source.get("recursive") == Some(&Node::from(true));
            Patterns::directory(text("path").unwrap_or_default(), text("pattern").unwrap_or("*"), recursive)
                .ok()
        }
        _ => None,
    };
    let patterns = patterns.and_then(|patterns| patterns.except(&list("exclude")).ok());
    let path = std::path::Path::new(path);
    patterns.is_some_and(|patterns| patterns.matches(path) && !patterns.is_excluded(path))
}

/// A path with a letter in the place of each `{…}`, whatever it will be.
fn without_fields(path: &str) -> String {
    let mut parts = path.split('{');
    let begins = parts.next().unwrap_or_default().to_owned();
    parts.fold(begins, |path, part| path + "x" + part.split_once('}').map_or(part, |(_, rest)| rest))
}

/// The pipeline whose sink made the claim, from the claim's path `pipelines[N]…`.
fn owner(claim: &Claim, count: usize) -> Option<usize> {
    (0..count).find(|&i| {
        let prefix = Path::root().key("pipelines").index(i).key(ComponentKind::Sink.plural());
        claim.at.as_str().starts_with(&format!("{prefix}["))
    })
}

fn reaches(from: usize, to: usize, edges: &[(usize, usize, &Claim)]) -> bool {
    let (mut seen, mut next) = (vec![from], vec![from]);
    while let Some(here) = next.pop() {
        if here == to {
            return true;
        }
        for (a, b, _) in edges {
            if *a == here && !seen.contains(b) {
                seen.push(*b);
                next.push(*b);
            }
        }
    }
    false
}
