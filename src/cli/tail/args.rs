//! The arguments of `weir tail`, and what its values mean: how many lines, since when.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::base::units::parse_duration;
use crate::batch::{Level, Timestamp};
use crate::cli::login::Credentials;

/// Lines of each input that are shown before what is new, unless `-n` says otherwise.
const LINES_USUAL: u64 = 10;

/// Arguments of `weir tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// What to look at: a URL of a running weir, files, directories, quoted globs, `-` for standard input; left out,
    /// what is piped in, else the weir that the configuration at hand runs
    #[arg(value_name = "URL|FILE")]
    pub inputs: Vec<String>,
    /// Begin with the last N lines of each input that pass: a number, or `all` [default: 10; all with --since]
    #[arg(short = 'n', long, alias = "tail", value_name = "N", value_parser = LineCount::parse)]
    pub lines: Option<LineCount>,
    /// Only lines of this level or worse: trace, debug, info, notice, warn, error or fatal
    #[arg(short, long, value_name = "LEVEL", value_parser = parse_level)]
    pub level: Option<Level>,
    /// Only lines that match this query, such as 'level:error service:api "connection reset"'
    #[arg(short, long, value_name = "QUERY", allow_hyphen_values = true)]
    pub query: Option<String>,
    /// Only lines that match this regular expression; repeated, any of them
    #[arg(short, long, value_name = "REGEX")]
    pub include: Vec<String>,
    /// No lines that match this regular expression; repeated, any of them
    #[arg(short = 'x', long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// Only what is there of this time or later: `15m`, `2026-11-21`, `2026-11-21T08:00`, RFC 3339; UTC unless it says
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    pub since: Option<Since>,
    /// Follow what is new, which is the default; accepted because fingers are used to it
    #[arg(short, long, short_alias = 'F', conflicts_with = "no_follow")]
    pub follow: bool,
    /// Show what is there and end
    #[arg(long)]
    pub no_follow: bool,
    /// How lines are written: for people, as they came, or as JSON objects [default: pretty on a terminal or with --color always, else raw]
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the docs of flattened arguments would become help text")]
    pub who: Credentials,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Byte for byte as they came
    Raw,
    /// One object per line: timestamp, level, source, message
    Json,
    /// Coloured, JSON and logfmt laid out
    Pretty,
}

/// How many lines to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineCount {
    /// The last ones.
    Last(u64),
    /// Every line.
    All,
}

impl LineCount {
    fn parse(text: &str) -> Result<LineCount, String> {
        match text {
            "all" => Ok(LineCount::All),
            text => text.parse().map(LineCount::Last).map_err(|_| "expected a number or `all`".to_owned()),
        }
    }
}

fn parse_level(text: &str) -> Result<Level, String> {
    Level::parse(text.as_bytes())
        .filter(|_| text.len() > 1)
        .ok_or_else(|| "allowed: trace, debug, info, notice, warn, error, fatal".to_owned())
}

/// A point of time as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl Since {
    fn parse(text: &str) -> Result<Since, String> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Since::Ago(ago));
        }
        let at = text.parse::<jiff::Timestamp>().or_else(|e| {
            let local = text.parse::<jiff::civil::DateTime>().map_err(|_| e)?;
            Ok::<_, jiff::Error>(local.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
        });
        let at = at.map_err(|_| "expected a duration like `15m`, a date or a time".to_owned())?;
        i64::try_from(at.as_nanosecond())
            .map(|nanos| Since::At(Timestamp(nanos)))
            .map_err(|_| "beyond the years 1677 to 2262".to_owned())
    }

    /// The point of time, seen from `now`.
    pub fn from(&self, now: Timestamp) -> Timestamp {
        match self {
            Since::At(at) => *at,
            Since::Ago(ago) => {
                Timestamp(now.0.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX)))
            }
        }
    }
}

impl TailArgs {
    /// Whether to go on after what is there.
    pub fn follows(&self) -> bool {
        !self.no_follow
    }

    /// How many lines each input begins with.
    pub fn count(&self) -> LineCount {
        let usual = if self.since.is_some() { LineCount::All } else { LineCount::Last(LINES_USUAL) };
        self.lines.unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_durations_dates_and_instants() {
        let now = Timestamp(1_000_000_000_000);
        let at = |text: &str| Since::parse(text).map(|since| since.from(now).0);
        assert_eq!(at("10s"), Ok(990_000_000_000));
        assert_eq!(at("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(at("1970-01-02T00:00"), Ok(86_400_000_000_000));
        assert_eq!(at("1970-01-02 00:00:01"), Ok(86_401_000_000_000));
        assert_eq!(at("1970-01-02T01:00:00+01:00"), Ok(86_400_000_000_000));
        for wrong in ["yesterday", "", "12:00", "-1h"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_and_levels() {
        assert_eq!(LineCount::parse("all"), Ok(LineCount::All));
        assert_eq!(LineCount::parse("0"), Ok(LineCount::Last(0)));
        assert!(LineCount::parse("-1").is_err() && LineCount::parse("+5").is_ok());
        assert_eq!(parse_level("WARNING"), Ok(Level::Warn));
        assert!(parse_level("loud").is_err() && parse_level("e").is_err());
    }
}
