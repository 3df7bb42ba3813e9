//! Loading: files are found, parsed, merged and their references filled in; variables and flags go on top. The
//! result is one tree in which every value knows where it was written, to be read by
//! [`RootOptions::from_tree`](super::RootOptions::from_tree).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use super::component::Catalog;
use super::diagnostics::Diagnostics;
use super::environment::Environment;
use super::interpolate::interpolate;
use super::layers::{Override, PREFIX, apply_environment, apply_overrides, referenced_secrets};
use super::merge::merge;
use super::node::Node;
use super::origin::{Origin, Source};
use super::toml_file::parse_file;

/// The variable that names a file or a directory, used when no `-c` is given.
pub const CONFIG_VARIABLE: &str = "WEIR_CONFIG";

/// The name of the file that is searched for.
const FILE_NAME: &str = "pipelines.toml";

/// The most bytes of one file: what is longer is no configuration.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The most files of one directory.
const FILES_MAX: usize = 1000;

/// What to load.
#[derive(Debug, Clone, Default)]
pub struct LoadRequest {
    /// Files and directories as given by `-c`, in this order. Empty: `WEIR_CONFIG`, or else the first file that
    /// exists on the search path.
    pub files: Vec<PathBuf>,
    /// Dotted flags, in the order given.
    pub overrides: Vec<Override>,
    /// The environment, for `WEIR_` variables and references.
    pub environment: Environment,
    /// A pipeline made from quick flags, or the demo. With it nothing is searched for; files given by `-c` are
    /// merged into it.
    pub base: Option<Node>,
    /// What to use if the search finds nothing and no variable or flag sets a pipeline up, such as stdin to
    /// stdout.
    pub fallback: Option<Node>,
}

/// A loaded configuration, before it is typed.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// All layers as one tree.
    pub tree: Node,
    /// The texts of the files, in the order they were merged.
    pub sources: Vec<Arc<Source>>,
    /// The files that were read, and the directories that were listed: what to watch for changes.
    pub files: Vec<PathBuf>,
}

/// Loads all layers. Reads files, blocking. `None` if a file that was asked for cannot be read; other errors are
/// in `diags` and the tree holds what could be understood, so that the caller can go on to find all errors, and
/// must look at [`Diagnostics::has_errors`] before using it.
pub fn load(request: &LoadRequest, catalog: &dyn Catalog, diags: &mut Diagnostics) -> Option<Loaded> {
    let mut loaded = Loaded { tree: Node::empty(), sources: Vec::new(), files: Vec::new() };
    let mut complete = true;
    for (path, named_by) in places(request) {
        complete &= read_place(&path, &named_by, &mut loaded, diags).is_some();
    }
    let mut referenced = BTreeSet::new();
    interpolate(&mut loaded.tree, &request.environment, &mut referenced, diags);
    referenced_secrets(&loaded.tree, &mut referenced);
    let nothing = loaded.files.is_empty() && !declares_pipelines(request);
    let base = request.base.clone().or_else(|| request.fallback.clone().filter(|_| nothing));
    if let Some(mut base) = base {
        merge(&mut base, std::mem::replace(&mut loaded.tree, Node::empty()), diags);
        loaded.tree = base;
    }
    apply_environment(&mut loaded.tree, &request.environment, &referenced, catalog, diags);
    apply_overrides(&mut loaded.tree, &request.overrides, catalog, diags);
    complete.then_some(loaded)
}

/// Whether variables or flags set pipelines up, as in a container without a file.
fn declares_pipelines(request: &LoadRequest) -> bool {
    let mut variables = request.environment.iter();
    let mut flags = request.overrides.iter();
    variables.any(|(name, _)| name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with("PIPELINES")))
        || flags.any(|flag| flag.path.starts_with("pipelines"))
}

/// The files and directories to read, each with what named it.
fn places(request: &LoadRequest) -> Vec<(PathBuf, Origin)> {
    if !request.files.is_empty() || request.base.is_some() {
        let flag = |path: &PathBuf| Source::flag("-c", &path.to_string_lossy()).whole();
        return request.files.iter().map(|path| (path.clone(), flag(path))).collect();
    }
    let variable = |name| request.environment.get(name).filter(|value| !value.is_empty());
    if let Some(path) = variable(CONFIG_VARIABLE) {
        return vec![(path.into(), Source::variable(CONFIG_VARIABLE, path).whole())];
    }
    let found = search_path(&request.environment).into_iter().find(|path| path.exists());
    found.into_iter().map(|path| (path, Origin::Default)).collect()
}

/// The files that are looked for when none is named, the first that exists being used.
pub fn search_path(environment: &Environment) -> Vec<PathBuf> {
    let variable = |name| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let mut paths = vec![PathBuf::from(FILE_NAME)];
    paths.extend(user.map(|dir| dir.join("weir").join(FILE_NAME)));
    paths.push(PathBuf::from("/etc/weir").join(FILE_NAME));
    paths
}

fn read_place(
    path: &FilePath,
    named_by: &Origin,
    loaded: &mut Loaded,
    diags: &mut Diagnostics,
) -> Option<()> {
    if !path.is_dir() {
        return read_file(path, named_by, loaded, diags);
    }
    let shown = path.display();
    let files = match list(path) {
        Ok(files) => files,
        Err(e) => {
            diags.error(named_by, format!("cannot list the directory {shown}: {}", why(&e))).no_input();
            return None;
        }
    };
    if files.is_empty() || files.len() > FILES_MAX {
        let message = match files.len() {
            0 => format!("no configuration in the directory {shown}: it has no *.toml file"),
            n => format!("too many files in the directory {shown}: {n}, at most {FILES_MAX} are allowed"),
        };
        diags.error(named_by, message).no_input();
        return None;
    }
    loaded.files.push(path.to_owned());
    let read: Vec<_> = files.iter().map(|file| read_file(file, named_by, loaded, diags)).collect();
    read.into_iter().collect()
}

/// The directory's `*.toml` in name order, without hidden ones: editors leave those behind.
fn list(directory: &FilePath) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|e| e == "toml") && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &FilePath, named_by: &Origin, loaded: &mut Loaded, diags: &mut Diagnostics) -> Option<()> {
    let shown = path.display().to_string();
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            diags.error(named_by, format!("cannot read {shown}: {}", why(&e))).no_input();
            return None;
        }
    };
    loaded.files.push(path.to_owned());
    if bytes.len() as u64 > FILE_BYTES_MAX {
        diags.error(named_by, format!("{shown} is too long for a configuration: 16MiB is the most"));
        return None;
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let valid = e.utf8_error().valid_up_to();
            let source = Source::file(&shown, String::from_utf8_lossy(e.as_bytes()));
            diags
                .error(
                    &source.at(valid..valid + 1),
                    format!("not UTF-8: {shown} has an invalid byte at {valid}"),
                )
                .hint("save the file in the UTF-8 encoding");
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let source = Source::file(shown, text);
    let file = parse_file(&source, diags);
    if loaded.sources.is_empty() {
        loaded.tree.origin = file.origin.clone();
    }
    loaded.sources.push(source);
    merge(&mut loaded.tree, file, diags);
    Some(())
}

/// At most one byte more than is allowed.
fn read_bounded(path: &FilePath) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The reason in our words where there is one, without the system's error number.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
