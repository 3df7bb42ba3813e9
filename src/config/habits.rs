//! What people write who come from other programs: names that Vector, Fluent Bit, rsyslog and others have for options and
//! components, options in a place where weir does not look for them, and files that are YAML or JSON. Only hints are
//! made of it; nothing is taken for what it is not.

use super::macros::Options;
use super::path::Path;
use super::root::{PipelineOptions, RootOptions};

/// Names from elsewhere, each with weir's for it, the likeliest first where there are several.
const OPTIONS: [(&str, &str); 37] = [
    ("include", "path"),
    ("paths", "path"),
    ("file", "path"),
    ("read_from", "start_at"),
    ("read_from_head", "start_at"),
    ("encoding", "format"),
    ("codec", "format"),
    ("delimiter", "framing"),
    ("port", "listen"),
    ("address", "listen"),
    ("address", "endpoints"),
    ("bind", "listen"),
    ("host", "listen"),
    ("uri", "url"),
    ("endpoint", "url"),
    ("endpoints", "url"),
    ("host", "url"),
    ("max_size", "max_bytes"),
    ("rate", "one_in"),
    ("rate", "events_per_second"),
    ("threshold", "events_per_second"),
    ("pattern", "patterns"),
    ("regex", "patterns"),
    ("regexp", "patterns"),
    ("condition", "query"),
    ("level", "min"),
    ("to", "name"),
    ("pipeline", "name"),
    ("cmd", "command"),
    ("mode", "framing"),
    ("compression", "compress"),
    ("batch", "request"),
    ("crt_file", "cert_file"),
    ("drop", "when_full"),
    ("tokens", "bearer"),
    ("token", "bearer"),
    ("users", "basic"),
];

/// Types of components elsewhere, each with weir's for it.
const TYPES: [(&str, &str); 21] = [
    ("tail", "file"),
    ("filelog", "file"),
    ("imfile", "file"),
    ("omfile", "file"),
    ("stdout", "console"),
    ("stderr", "console"),
    ("print", "console"),
    ("blackhole", "null"),
    ("syslog", "tcp"),
    ("socket", "tcp"),
    ("http_server", "http"),
    ("dummy", "generate"),
    ("demo_logs", "generate"),
    ("command", "exec"),
    ("grep", "include"),
    ("filter", "query"),
    ("route", "query"),
    ("reduce", "dedupe"),
    ("rate_limit", "throttle"),
    ("webhook", "http_client"),
    ("forward", "tcp_client"),
];

/// The one of `names` that is meant by an option's name from elsewhere.
pub fn option<'a>(given: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    meant(&OPTIONS, given, names)
}

/// The one of `names` that is meant by a component's type from elsewhere.
pub fn component<'a>(given: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    meant(&TYPES, given, names)
}

fn meant<'a>(
    table: &[(&str, &str)],
    given: &str,
    mut names: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let given = given.to_lowercase();
    let mut ours = table.iter().filter(|(theirs, _)| *theirs == given).map(|(_, ours)| *ours);
    ours.find_map(|ours| names.clone().find(|name| *name == ours)).or_else(|| {
        // `Path` and `maxSize` are names of ours in another dress.
        names.find(|name| *name == given)
    })
}

/// Where an option belongs that is no option at `at`, as a hint.
pub fn place(given: &str, at: &Path) -> Option<String> {
    let steps = at.to_string();
    let of_root = || RootOptions::fields().iter().any(|field| field.name == given);
    // Whoever names a component does not mean the pipeline.
    let of_pipeline = || given != "name" && PipelineOptions::fields().iter().any(|field| field.name == given);
    let hint = match given {
        "sources" | "filters" | "sinks" if steps.is_empty() => {
            let below = format!("[[pipelines]] with a name, below it [[pipelines.{given}]]");
            return Some(format!("it belongs to a pipeline: {below}"));
        }
        "transforms" if steps.is_empty() => {
            "filters lie between sources and sinks: [[pipelines]] with a name, below it [[pipelines.filters]]"
        }
        _ if steps.is_empty() => return None,
        _ if of_root() => {
            "it is an option of the whole: write it at the top of the file, above the first [table]"
        }
        _ if steps.contains('.') && of_pipeline() => {
            "it is an option of the pipeline: write it below [[pipelines]], above the first [[pipelines.…]]"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The language of a text that is no TOML, with how the same begins in TOML.
pub fn language(text: &str) -> Option<(&'static str, &'static str)> {
    let written = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let mut lines = text.lines().map(str::trim).filter(written);
    let first = lines.next()?;
    let section = |line: &str| line.starts_with('[') && line.chars().any(|c| c.is_ascii_uppercase());
    let words = |line: &str| !line.contains('=') && line.split_whitespace().count() >= 2;
    match first {
        "---" => Some(("YAML", BEGINNING)),
        _ if first.starts_with('{') => Some(("JSON", BEGINNING)),
        _ if first.starts_with("- ")
            || first.ends_with(':')
            || (first.contains(": ") && !first.contains('=')) =>
        {
            Some(("YAML", BEGINNING))
        }
        _ if section(first) && lines.next().is_some_and(words) => Some(("Fluent Bit's", BEGINNING)),
        _ => None,
    }
}

const BEGINNING: &str =
    "configurations are TOML: `[[pipelines]]`, then `name = \"app\"`; `weir init` writes one to begin with";

/// What to write instead of a line that is no TOML; `message` is the parser's.
pub fn remedy(line: &str, message: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if value.starts_with(['"', '[', '{']) && message.contains("escape") {
        return Some(
            "in double quotes `\\` is special: write single quotes around expressions, as in '\\d+'"
                .to_owned(),
        );
    }
    let quotes = ['"', '\'', '“', '”', '‘', '’', '„'];
    let bare = value.trim_matches(quotes);
    let begins = value.chars().next()?;
    let is_text =
        begins.is_alphabetic() || matches!(begins, '/' | '*' | '.' | '~' | '$' | '^' | '“' | '‘' | '„' | ':');
    let is_short = bare.len() <= 60 && !bare.contains(['"', '\'', '#', '\\', ',']);
    (is_text && is_short).then(|| format!("text stands in quotes: {key} = \"{bare}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere_mean_one_of_ours_only_where_it_exists() {
        let file = ["exclude", "path", "start_at"];
        assert_eq!(option("include", file.into_iter()), Some("path"));
        assert_eq!(option("Path", file.into_iter()), Some("path"));
        assert_eq!(option("port", file.into_iter()), None);
        assert_eq!(option("rate", ["burst", "events_per_second"].into_iter()), Some("events_per_second"));
        assert_eq!(component("stdout", ["file", "console"].into_iter()), Some("console"));
        assert_eq!(component("elasticsearch", ["file", "console"].into_iter()), None);
    }

    #[test]
    fn other_languages_are_recognised_and_toml_is_not() {
        for (text, expected) in [
            ("# x\n\npipelines:\n  - name: app\n", Some("YAML")),
            ("---\na: 1\n", Some("YAML")),
            ("name: app", Some("YAML")),
            ("{\"pipelines\": []}", Some("JSON")),
            ("[INPUT]\n    Name tail\n", Some("Fluent Bit's")),
            ("[[pipelines]]\nname = app\n", None),
            ("[server]\nlisten = x", None),
            ("a = \"b: c\"", None),
            ("", None),
        ] {
            assert_eq!(language(text).map(|(name, _)| name), expected, "{text:?}");
        }
    }

    #[test]
    fn remedies_quote_text_and_nothing_else() {
        for (line, message, expected) in [
            ("type = file", "", Some("text stands in quotes: type = \"file\"")),
            ("path = /var/log/*.log", "", Some("text stands in quotes: path = \"/var/log/*.log\"")),
            ("name = “app”", "", Some("text stands in quotes: name = \"app\"")),
            ("name = ", "", None),
            ("a = 5 minutes", "", None),
            ("a = [x, y]", "", None),
            ("no value", "", None),
        ] {
            assert_eq!(remedy(line, message).as_deref(), expected, "{line}");
        }
        let escaped = remedy("p = [\"\\d+\"]", "missing escaped value, expected `b`");
        assert!(escaped.is_some_and(|hint| hint.contains("'\\d+'")));
    }
}
