//! Dotted overrides: any option of the configuration as a flag, `--logging.level debug`. They are taken out of the
//! command line before the rest of it is parsed, because which options there are depends on the components used.

use std::ffi::OsString;

use super::exit::Failure;
use crate::config::{Options, Override, RootOptions};

/// The command line without its overrides, and the overrides in the order they were given.
///
/// # Errors
/// When an override has no value, or one that is not UTF-8.
pub fn split(args: impl IntoIterator<Item = OsString>) -> Result<(Vec<OsString>, Vec<Override>), Failure> {
    let root_names: Vec<&'static str> = RootOptions::fields().iter().map(|field| field.name).collect();
    let (mut rest, mut overrides) = (Vec::new(), Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            rest.push(arg);
            rest.extend(args.by_ref());
            break;
        }
        let Some((path, inline)) = arg.to_str().and_then(|text| path_of(text, &root_names)) else {
            rest.push(arg);
            continue;
        };
        let value = match inline {
            Some(value) => value,
            None => match args.next() {
                Some(value) if !starts_a_flag(&value) => value
                    .into_string()
                    .map_err(|_| Failure::usage(format!("the value of `--{path}` is not UTF-8")))?,
                _ => {
                    return Err(Failure::usage(format!("option `--{path}` needs a value"))
                        .hint(format!("write `--{path} VALUE` or `--{path}=VALUE`")));
                }
            },
        };
        overrides.push(Override { path, value });
    }
    Ok((rest, overrides))
}

/// The option's path and its value after `=`, if the argument is an override.
fn path_of(arg: &str, root_names: &[&str]) -> Option<(String, Option<String>)> {
    let flag = arg.strip_prefix("--")?;
    let (path, value) = match flag.split_once('=') {
        Some((path, value)) => (path, Some(value.to_owned())),
        None => (flag, None),
    };
    let is_option =
        path.contains('.') || path.contains('[') || root_names.contains(&path.replace('-', "_").as_str());
    is_option.then(|| (path.to_owned(), value))
}

/// A value may start with one dash, as negative numbers do, and be `-` itself.
fn starts_a_flag(value: &OsString) -> bool {
    value.to_str().is_some_and(|text| text.starts_with("--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rest, and the overrides as `path=value`.
    fn split_text(args: &[&str]) -> Result<[Vec<String>; 2], String> {
        let (rest, overrides) = split(args.iter().map(OsString::from)).map_err(|f| f.to_string())?;
        let rest = rest.into_iter().map(|a| a.into_string().unwrap()).collect();
        Ok([rest, overrides.into_iter().map(|o| format!("{}={}", o.path, o.value)).collect()])
    }

    #[test]
    fn overrides_are_taken_out_wherever_they_stand() {
        let line = "weir --logging.level debug run --pipelines.0.name=a=b --state-dir /x -c a.b --include=x.y --x.y -5 -- cmd --not.ours=1";
        let [rest, overrides] = split_text(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(rest.join(" "), "weir run -c a.b --include=x.y -- cmd --not.ours=1");
        assert_eq!(overrides, ["logging.level=debug", "pipelines.0.name=a=b", "state-dir=/x", "x.y=-5"]);
    }

    #[test]
    fn a_missing_value_is_said() {
        for args in [&["--a.b"][..], &["--a.b", "--c"], &["--shutdown_timeout"]] {
            assert!(split_text(args).unwrap_err().contains("needs a value"), "{args:?}");
        }
        assert_eq!(split_text(&["--a.b="]).unwrap()[1], ["a.b="]);
    }
}
