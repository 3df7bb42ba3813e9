//! What the arguments name: running weirs, streams that end, files. What cannot be found is said at once, with what
//! may have been meant.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::input::wish::Remote;
use crate::cli::config_source::stdin_is_piped;
use crate::cli::exit::{Exit, Failure};
use crate::cli::http_get::Base;
use crate::cli::login::Credentials;
use crate::config::nearest::nearest;
use crate::tail::Patterns;

/// Most entries of a directory among which a name is looked for that may have been meant.
const ENTRIES_MAX: usize = 10_000;
/// What in a directory of logs is no log to look at.
const NO_LOGS: [&str; 12] = [
    ".*",
    "*.gz",
    "*.zst",
    "*.xz",
    "*.bz2",
    "*.zip",
    "*.journal",
    "*~",
    "wtmp*",
    "btmp*",
    "lastlog",
    "faillog",
];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Running weirs.
    pub(super) remotes: Vec<Remote>,
    /// Pipes, devices and standard input, and what they are called.
    pub(super) streams: Vec<(File, String)>,
    /// Patterns of files.
    globs: Vec<String>,
    /// Patterns of files that are left out.
    except: Vec<String>,
    /// Whether more files may match later.
    pub(super) open_ended: bool,
}

impl Targets {
    /// What `inputs` name. `usual` is the weir to ask where they name nothing and nothing is piped in.
    ///
    /// # Errors
    /// With exit code 66 when a file is missing or nothing matches, and 64 for what is no input at all.
    pub(super) fn of(
        inputs: &[String],
        who: &Credentials,
        usual: impl Fn() -> Base,
    ) -> Result<Targets, Failure> {
        let mut targets = Targets::default();
        for input in inputs {
            targets.add(input, who)?;
        }
        if inputs.is_empty() && stdin_is_piped() {
            targets.stdin()?;
        } else if inputs.is_empty() {
            targets.remotes.push(Remote::new(who.on(usual())?, None));
        }
        if targets.remotes.is_empty()
            && (who.token_file.is_some() || who.cert.is_some() || who.ca_file.is_some())
        {
            return Err(Failure::usage(
                "`--token-file`, `--cert` and `--ca-file` are for URLs, and none is given",
            ));
        }
        Ok(targets)
    }

    fn add(&mut self, input: &str, who: &Credentials) -> Result<(), Failure> {
        if input == "-" {
            return self.stdin();
        }
        if is_url(input) {
            // The base refuses a query string, which streams have.
            let (url, query) = input.split_once('?').map_or((input, None), |(url, query)| (url, Some(query)));
            self.remotes.push(Remote::new(who.on(Base::parse(url)?)?, query));
            return Ok(());
        }
        let path = Path::new(input);
        let meta = match path.metadata() {
            Ok(meta) => meta,
            Err(_) if input.contains(['*', '?', '[', '{']) => return self.glob(input),
            Err(e) => return Err(missing(path, &e)),
        };
        if meta.is_dir() {
            let dir = globset::escape(input.trim_end_matches('/'));
            self.except.extend(NO_LOGS.iter().map(|name| format!("{dir}/{name}")));
            return self.glob(&format!("{dir}/*"));
        }
        let file = File::open(path);
        let file = file.map_err(|e| {
            let failure = Failure::new(Exit::NO_INPUT, format!("cannot read {input}: {e}"));
            match e.kind() {
                io::ErrorKind::PermissionDenied => {
                    failure.hint("who may read it? try `sudo`, or join its group")
                }
                _ => failure,
            }
        })?;
        // What the kernel makes as it is read, as below /proc, says that it is empty.
        let made = meta.is_file() && meta.len() == 0 && is_not_empty(path);
        if meta.is_file() && !made {
            self.globs.push(globset::escape(input));
        } else {
            self.streams.push((file, input.to_owned()));
        }
        Ok(())
    }

    fn stdin(&mut self) -> Result<(), Failure> {
        let stdin = io::stdin();
        if self.streams.iter().any(|(_, label)| label == "stdin") {
            return Err(Failure::usage("standard input is named twice"));
        }
        if stdin.is_terminal() {
            return Err(Failure::usage("nothing is piped into standard input").hint("app | weir tail"));
        }
        let file = stdin.as_fd().try_clone_to_owned();
        let file = file.map_err(|e| Failure::new(Exit::IO, format!("cannot read standard input: {e}")))?;
        self.streams.push((File::from(file), "stdin".to_owned()));
        Ok(())
    }

    fn glob(&mut self, glob: &str) -> Result<(), Failure> {
        let wrong = |(_, why): (usize, String)| Failure::usage(format!("`{glob}` is no glob: {why}"));
        let patterns =
            Patterns::globs(&[glob.to_owned()]).map_err(wrong)?.except(&self.except).map_err(wrong)?;
        if patterns.scan().files.is_empty() {
            return Err(Failure::new(Exit::NO_INPUT, format!("no file matches {glob}"))
                .hint("quote a glob, so that weir sees files that appear later: '/var/log/**/*.log'"));
        }
        self.globs.push(glob.to_owned());
        self.open_ended = true;
        Ok(())
    }

    /// The patterns of all files, if files are named.
    pub(super) fn patterns(&self) -> Result<Option<Patterns>, Failure> {
        if self.globs.is_empty() {
            return Ok(None);
        }
        let patterns = Patterns::globs(&self.globs).and_then(|patterns| patterns.except(&self.except));
        patterns.map(Some).map_err(|(_, why)| Failure::usage(format!("cannot look for files: {why}")))
    }
}

/// Whether something can be read of a file.
fn is_not_empty(path: &Path) -> bool {
    use io::Read;
    File::open(path).and_then(|mut file| file.read(&mut [0])).is_ok_and(|n| n > 0)
}

/// Whether an argument names a running weir: it has a scheme, or looks like `host:port` and no file is called so.
fn is_url(input: &str) -> bool {
    if let Some((scheme, _)) = input.split_once("://") {
        return scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
    }
    let authority = input.split(['/', '?']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let Some((host, port)) = authority.rsplit_once(':') else { return false };
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_host = host.starts_with('[') && host.ends_with(']') || !host.is_empty() && host.bytes().all(name);
    is_host && port.parse::<u16>().is_ok() && !Path::new(input).exists()
}

fn missing(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::NO_INPUT, format!("cannot read {}: {error}", path.display()));
    if error.kind() != io::ErrorKind::NotFound {
        return failure;
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return failure.hint(format!("there is no directory {}", parent.display()));
    }
    let entries = parent.read_dir().into_iter().flatten().flatten().take(ENTRIES_MAX);
    let names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    let given = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match nearest(given, names.iter().map(String::as_str)) {
        Some(near) => {
            let meant: PathBuf =
                if path.parent() == Some(Path::new("")) { near.into() } else { parent.join(near) };
            failure.hint(format!("did you mean `{}`?", meant.display()))
        }
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_files() {
        for url in [
            "http://h",
            "https://h/x",
            "localhost:8080",
            "localhost:8080/app",
            "[::1]:80/x",
            "ann:pw@h:1/app",
            "ftp://x",
        ] {
            assert!(is_url(url), "{url}");
        }
        for file in ["app.log", "a:b", "./x:80/y", "/var/log/x:1", "host:99999", ":80", "a b:80", "x/y:80"] {
            assert!(!is_url(file), "{file}");
        }
    }

    #[test]
    fn what_is_missing_names_what_may_have_been_meant() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("access.log"), "x").unwrap();
        let of = |name: &str| {
            let input = dir.path().join(name).display().to_string();
            Targets::of(&[input], &Credentials::default(), || Base::parse("http://h").unwrap())
        };
        let failure = of("acess.log").unwrap_err();
        assert_eq!(failure.exit, Exit::NO_INPUT);
        assert!(failure.to_string().contains("did you mean `/"), "{failure}");
        assert!(of("nothing/x.log").unwrap_err().to_string().contains("there is no directory"));
        assert!(of("*.txt").unwrap_err().to_string().contains("no file matches"));
        std::fs::write(dir.path().join("old.log.gz"), "x").unwrap();
        for (name, files) in [("", 1), ("*", 2), ("access.log", 1), ("a*.log", 1)] {
            let found = of(name).unwrap().patterns().unwrap().unwrap().scan().files;
            assert_eq!(found.len(), files, "{name}: {found:?}");
        }
        std::fs::write(dir.path().join("a[1].log"), "x").unwrap();
        assert_eq!(of("a[1].log").unwrap().patterns().unwrap().unwrap().scan().files.len(), 1);
    }
}
