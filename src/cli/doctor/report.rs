//! What `weir doctor` has found: a list of checks, each with a verdict, its cause and its cure, for people and as
//! JSON.

use serde_json::{Value, json};

use super::cures::{Fault, Proxy, cures};
use crate::cli::terminal::Terminal;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
    /// Not looked at, because it was not asked for or another check failed.
    Skipped,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Debug)]
pub(super) struct Finding {
    /// Its name, which stays: `buffering`.
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) message: String,
    /// Why that breaks a stream.
    pub(super) cause: Option<String>,
    /// What to do, where that is no proxy's business.
    pub(super) hint: Option<String>,
    /// What to look up for the proxies.
    pub(super) fault: Option<Fault>,
}

impl Finding {
    pub(super) fn new(check: &'static str, verdict: Verdict, message: impl Into<String>) -> Finding {
        Finding { check, verdict, message: message.into(), cause: None, hint: None, fault: None }
    }

    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Ok, message)
    }

    pub(super) fn warn(check: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Warn, message)
    }

    pub(super) fn fail(check: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Fail, message)
    }

    pub(super) fn skipped(check: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Skipped, message)
    }

    pub(super) fn cause(mut self, text: impl Into<String>) -> Finding {
        self.cause = Some(text.into());
        self
    }

    pub(super) fn hint(mut self, text: impl Into<String>) -> Finding {
        self.hint = Some(text.into());
        self
    }

    pub(super) fn fault(mut self, fault: Fault) -> Finding {
        self.fault = Some(fault);
        self
    }
}

/// All checks of a run.
#[derive(Debug)]
pub(super) struct Report {
    /// What was looked at.
    pub(super) about: String,
    /// What stands in between, as far as it says so.
    pub(super) proxies: Vec<Proxy>,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    pub(super) fn has_failed(&self) -> bool {
        self.count(Verdict::Fail) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// The checklist.
    pub(super) fn human(&self, terminal: Terminal) -> String {
        let paint = |code: &str, text: &str| {
            if terminal.color_stdout { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let names: Vec<&str> = self.proxies.iter().map(|proxy| proxy.name()).collect();
        let through =
            if names.is_empty() { String::new() } else { format!(", through {}", names.join(", ")) };
        let mut out = format!("{}{through}\n\n", shown(&self.about));
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for finding in &self.findings {
            let verdict = match finding.verdict {
                Verdict::Ok => paint("32", "ok  "),
                Verdict::Warn => paint("33", "warn"),
                Verdict::Fail => paint("1;31", "FAIL"),
                Verdict::Skipped => paint("2", "-   "),
            };
            out.push_str(&format!("  {verdict}  {:<width$}  {}\n", finding.check, shown(&finding.message)));
            let more = |name: &str, text: &str| {
                format!("        {:<width$}  {} {}\n", "", paint("1;36", name), shown(text))
            };
            if let Some(cause) = &finding.cause {
                out.push_str(&more("cause:", cause));
            }
            if let Some(hint) = &finding.hint {
                out.push_str(&more("cure:", hint));
            }
            for (proxy, lines) in self.cures(finding) {
                out.push_str(&more("cure", &format!("for {}:", proxy.name())));
                lines.iter().for_each(|line| out.push_str(&format!("        {:<width$}    {line}\n", "")));
            }
        }
        let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        let (failed, warned) = (self.count(Verdict::Fail), self.count(Verdict::Warn));
        let warnings = count(warned, "warning", "warnings");
        let verdict = match (failed, warned) {
            (0, 0) => paint("32", "all is well"),
            (0, _) => paint("33", &warnings),
            (_, 0) => paint("1;31", &count(failed, "failure", "failures")),
            _ => paint("1;31", &format!("{}, {warnings}", count(failed, "failure", "failures"))),
        };
        out.push_str(&format!("\n{verdict}\n"));
        out
    }

    /// For the proxies that are there; for all that are known where none says so.
    fn cures(&self, finding: &Finding) -> Vec<(Proxy, &'static [&'static str])> {
        let sick = matches!(finding.verdict, Verdict::Warn | Verdict::Fail);
        let Some(fault) = finding.fault.filter(|_| sick) else { return Vec::new() };
        let here = |proxy: &Proxy| cures(*proxy, fault).map(|lines| (*proxy, lines));
        let seen: Vec<_> = self.proxies.iter().filter_map(here).collect();
        if seen.is_empty() { Proxy::KNOWN.iter().filter_map(here).collect() } else { seen }
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            let cures = self.cures(finding).into_iter();
            let cures: serde_json::Map<String, Value> =
                cures.map(|(proxy, lines)| (proxy.name().to_owned(), lines.join("\n").into())).collect();
            json!({
                "check": finding.check,
                "verdict": finding.verdict.as_str(),
                "message": finding.message,
                "cause": finding.cause,
                "hint": finding.hint,
                "cures": cures,
            })
        };
        json!({
            "about": self.about,
            "ok": !self.has_failed(),
            "failures": self.count(Verdict::Fail),
            "warnings": self.count(Verdict::Warn),
            "proxies": self.proxies.iter().map(|proxy| proxy.name()).collect::<Vec<_>>(),
            "checks": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

/// What others have said, made harmless.
fn shown(text: &str) -> String {
    let mut out = Vec::new();
    crate::codec::terminal::harmless_into(&mut out, text.as_bytes(), false);
    String::from_utf8_lossy(&out).into_owned()
}
