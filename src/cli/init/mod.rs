//! `weir init`: writes a commented configuration to begin with. Every recipe is a file of its own, passes `check`,
//! runs as it is, and holds tests.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::exit::{Exit, Failure};
use super::terminal;
use crate::config::nearest::nearest;

/// A configuration to begin with.
struct Recipe {
    name: &'static str,
    text: &'static str,
    /// What to look at once it runs.
    then: &'static str,
}

/// All of them; the first is written if none is named.
const RECIPES: [Recipe; 6] = [
    Recipe {
        name: "start",
        text: include_str!("recipes/start.toml"),
        then: "open http://127.0.0.1:8080/app/",
    },
    Recipe {
        name: "tail",
        text: include_str!("recipes/tail.toml"),
        then: "open http://127.0.0.1:8080/logs/",
    },
    Recipe {
        name: "aggregate",
        text: include_str!("recipes/aggregate.toml"),
        then: "curl -d 'hello' http://127.0.0.1:8080/all/ingest",
    },
    Recipe {
        name: "forward",
        text: include_str!("recipes/forward.toml"),
        then: "weir status http://127.0.0.1:8085, and `weir buffer inspect` for what waits",
    },
    Recipe {
        name: "ingest",
        text: include_str!("recipes/ingest.toml"),
        then: "curl --json '{\"level\":\"error\",\"msg\":\"disk full\"}' http://127.0.0.1:8080/all/ingest",
    },
    Recipe {
        name: "split",
        text: include_str!("recipes/split.toml"),
        then: "open http://127.0.0.1:8080/app/ for errors and warnings",
    },
];

/// What marks the lines that nobody else can know.
const MARK: &str = "# CHANGE: ";

impl Recipe {
    /// What it does: the rest of its first line.
    fn summary(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.split_once(": ").map_or("", |(_, summary)| summary.trim_end_matches('.'))
    }

    fn find(name: &str) -> Result<&'static Recipe, Failure> {
        RECIPES.iter().find(|recipe| recipe.name == name).ok_or_else(|| {
            let names = RECIPES.map(|recipe| recipe.name);
            let hint = match nearest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there is {}", names.join(", ")),
            };
            Failure::usage(format!("no recipe is called `{name}`")).hint(hint)
        })
    }
}

/// Writes the recipe to `output`, which is `-` for standard output; an existing file only if `force`.
///
/// # Errors
/// With 64 if there is no such recipe, with 73 if the file exists or cannot be written.
pub fn run(recipe: Option<&str>, output: &Path, force: bool) -> Result<Exit, Failure> {
    let recipe = recipe.map_or(Ok(&RECIPES[0]), Recipe::find)?;
    if output == Path::new("-") {
        terminal::print(recipe.text)?;
        return Ok(Exit::OK);
    }
    let shown = output.display();
    let mut options = OpenOptions::new();
    options.write(true).truncate(force).create(force).create_new(!force);
    let written = options.open(output).and_then(|mut file| file.write_all(recipe.text.as_bytes()));
    written.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => {
            Failure::new(Exit::CANNOT_CREATE, format!("{shown} exists: it is left as it is"))
                .hint("write elsewhere with -o FILE, look first with -o -, or replace it with --force")
        }
        _ => Failure::new(Exit::CANNOT_CREATE, format!("cannot write {shown}: {e}")),
    })?;
    terminal::print(&next_steps(recipe, output))?;
    Ok(Exit::OK)
}

/// Prints what there is.
///
/// # Errors
/// With 74 if standard output cannot be written.
pub fn list() -> Result<Exit, Failure> {
    let width = RECIPES.iter().map(|recipe| recipe.name.len()).max().unwrap_or(0);
    let line = |recipe: &Recipe| format!("{:<width$}  {}\n", recipe.name, recipe.summary());
    terminal::print(&RECIPES.iter().map(line).collect::<String>())?;
    Ok(Exit::OK)
}

fn next_steps(recipe: &Recipe, output: &Path) -> String {
    let usual = output == Path::new("pipelines.toml");
    let config = if usual { String::new() } else { format!(" -c {}", output.display()) };
    let mut text = format!("{}: {}\n\nnext:\n", output.display(), recipe.summary());
    let marked =
        recipe.text.lines().enumerate().filter_map(|(i, line)| Some((i + 1, line.split_once(MARK)?.1)));
    for (number, what) in marked {
        text.push_str(&format!("  change line {number:>2}: {what}\n"));
    }
    text.push_str(&format!("  weir check{config}\n  weir test{config}\n  weir{config}\n  {}\n", recipe.then));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Diagnostics, Source, toml_file::parse_file};
    use crate::engine::{self, trial};

    #[test]
    fn every_recipe_is_sound_and_its_tests_pass() {
        for recipe in &RECIPES {
            let mut findings = Diagnostics::new();
            let tree = parse_file(&Source::file(recipe.name, recipe.text), &mut findings);
            let plan = engine::plan(&tree, &mut findings);
            assert!(findings.is_empty(), "{}", findings.render_human(false));
            let plan = plan.unwrap();
            assert!(!plan.trials.is_empty(), "{}", recipe.name);
            for one in &plan.trials {
                let report = trial::run(&plan, one).unwrap();
                assert!(report.differences.is_empty(), "{}: {:?}", recipe.name, report.differences);
            }
            assert!(!recipe.summary().is_empty() && recipe.text.starts_with(&format!("# {}: ", recipe.name)));
            assert!(
                recipe.text.contains(MARK) && recipe.text.lines().all(|line| line.chars().count() <= 120)
            );
        }
    }

    /// Options that are commented out are sound, too, once the `#` is gone.
    #[test]
    fn what_is_commented_out_is_known_to_the_schema() {
        for recipe in &RECIPES {
            for (number, line) in recipe.text.lines().enumerate() {
                let Some(option) =
                    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
                else {
                    continue;
                };
                let key = option.split(" = ").next().unwrap_or_default();
                let known = crate::config::json_schema(&crate::registry::Registry).to_string();
                assert!(known.contains(&format!("\"{key}\"")), "{}:{}: {key}", recipe.name, number + 1);
            }
        }
    }
}
