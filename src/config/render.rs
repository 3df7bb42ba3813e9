//! Diagnostics for people (the source line with a caret under the place), for programs (JSON) and for GitHub
//! (workflow annotations).

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::origin::{Origin, SourceKind};

/// Lines wider than this are cut around the caret, in columns.
const WIDTH: usize = 140;

/// The most findings that are quoted; nobody reads more at once, and each takes a pass over its file.
const SHOWN_MAX: usize = 100;

impl Diagnostics {
    /// Every finding with the quoted source, and a count at the end; with colours for a terminal on request.
    pub fn render_human(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(WIDTH);
        let mut out = String::new();
        for finding in self.in_order().into_iter().take(SHOWN_MAX) {
            out.push_str(&self.human(finding, &renderer));
            out.push_str("\n\n");
        }
        if let more @ 1.. = self.items().len().saturating_sub(SHOWN_MAX) {
            out.push_str(&format!("{more} more not shown\n\n"));
        }
        let errors = self.error_count();
        let warnings = self.items().len() - errors;
        let counts = [(errors, "error"), (warnings, "warning")];
        let counts: Vec<String> = counts
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }))
            .collect();
        if !counts.is_empty() {
            out.push_str(&counts.join(", "));
            out.push('\n');
        }
        out
    }

    fn human(&self, finding: &Diagnostic, renderer: &Renderer) -> String {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(finding.message.as_str()));
        for (texts, name, numbered) in self.quotes(finding) {
            let mut snippet = Snippet::source(texts.0).line_numbering(numbered);
            if numbered {
                snippet = snippet.path(name);
            }
            for (kind, span, label) in texts.1 {
                let annotation = kind.span(span);
                snippet = snippet.annotation(match label {
                    Some(label) => annotation.label(label),
                    None => annotation,
                });
            }
            group = group.element(snippet);
        }
        if let Some(path) = &finding.path {
            group = group.element(Level::NOTE.with_name("option").message(path.to_string()));
        }
        if let Some(hint) = &finding.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        renderer.render(&[group])
    }

    /// The places of a finding, those in the same text together: (text, annotations), name, line numbers.
    #[expect(clippy::type_complexity, reason = "the pieces go straight into the renderer")]
    fn quotes<'a>(
        &self,
        finding: &'a Diagnostic,
    ) -> Vec<((String, Vec<(AnnotationKind, std::ops::Range<usize>, Option<&'a str>)>), String, bool)> {
        let primary = (AnnotationKind::Primary, &finding.origin, finding.label.as_deref());
        let others = finding.secondary.iter();
        let others = others.map(|(origin, label)| (AnnotationKind::Context, origin, Some(label.as_str())));
        let mut quotes: Vec<(&std::sync::Arc<super::Source>, Vec<_>)> = Vec::new();
        for (kind, origin, label) in std::iter::once(primary).chain(others) {
            let Some(source) = origin.source() else { continue };
            let place = (kind, origin.span(), label);
            match quotes.iter_mut().find(|(s, _)| std::sync::Arc::ptr_eq(s, source)) {
                Some((_, places)) => places.push(place),
                None => quotes.push((source, vec![place])),
            }
        }
        let whole = quotes.into_iter().map(|(source, places)| {
            let name = match source.kind {
                SourceKind::File => source.name.clone(),
                SourceKind::Variable => format!("variable {}", source.name),
                SourceKind::Flag => format!("flag {}", source.name),
            };
            ((self.shown_text(source), places), name, source.kind == SourceKind::File)
        });
        whole.collect()
    }

    /// An array of findings: severity, message, path, origin, label, related places, hint.
    pub fn render_json(&self) -> Value {
        let place = |origin: &Origin| {
            let Some(source) = origin.source() else { return Value::Null };
            match source.kind {
                SourceKind::File => {
                    let span = origin.span();
                    let ((line, column), (end_line, end_column)) =
                        (source.line_column(span.start), source.line_column(span.end));
                    json!({
                        "file": source.name, "line": line, "column": column,
                        "end_line": end_line, "end_column": end_column,
                    })
                }
                SourceKind::Variable => json!({ "variable": source.name }),
                SourceKind::Flag => json!({ "flag": source.name }),
            }
        };
        let item = |d: &Diagnostic| {
            let related = d.secondary.iter().map(|(o, label)| json!({ "origin": place(o), "label": label }));
            json!({
                "severity": d.severity.as_str(),
                "message": d.message,
                "path": d.path.as_ref().map(|p| p.as_str()),
                "origin": place(&d.origin),
                "label": d.label,
                "related": related.collect::<Vec<_>>(),
                "hint": d.hint,
            })
        };
        self.in_order().into_iter().map(item).collect()
    }

    /// One workflow command per finding, which GitHub shows at the line:
    /// `::error file=pipelines.toml,line=3,col=5::message`.
    pub fn render_github(&self) -> String {
        let mut out = String::new();
        for finding in self.in_order() {
            let mut message = finding.message.clone();
            if finding.origin.file_position().is_none() && finding.origin.source().is_some() {
                message = format!("{}: {message}", finding.origin);
            }
            if let Some(path) = &finding.path {
                message = format!("{message} (option: {path})");
            }
            if let Some(hint) = &finding.hint {
                message = format!("{message}\nhint: {hint}");
            }
            let place = finding.origin.file_position().map_or_else(String::new, |(file, line, column)| {
                let file = escape(file).replace(':', "%3A").replace(',', "%2C");
                format!(" file={file},line={line},col={column}")
            });
            out.push_str(&format!("::{}{place}::{}\n", finding.severity.as_str(), escape(&message)));
        }
        out
    }
}

/// Escapes data of a workflow command, as the toolkit of GitHub's runner does.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Path, Source};

    fn sample() -> Diagnostics {
        let file = Source::file("p.toml", "a = 1\npth = \"x\"\nsecret = \"hunter2\" # x\nname = 2\n");
        let variable = Source::variable("WEIR_LOGGING_LEVEL", "loud");
        let flag = Source::flag("--logging.level", "loud");
        let mut diags = Diagnostics::new();
        diags
            .error(&file.at(6..9), "unknown option `pth`")
            .hint("did you mean `path`?")
            .label("not an option");
        diags
            .error(&file.at(46..47), "twice")
            .also(&file.at(4..5), "first here")
            .path(&Path::root().key("name"));
        diags.error(&variable.whole(), "unknown level");
        diags.error(&flag.whole(), "unknown level").also(&variable.whole(), "and here");
        diags.mask(&file.at(25..34));
        diags.warning(&file.at(16..22), "careful, 100%");
        diags.error(&Origin::Default, "nowhere").hint("none");
        diags
    }

    #[test]
    fn people_get_the_line_and_a_caret() {
        insta::assert_snapshot!(sample().render_human(false));
        assert!(sample().render_human(true).contains('\u{1b}'));
    }

    #[test]
    fn programs_get_json() {
        let json = sample().render_json();
        assert_eq!(json.as_array().unwrap().len(), 6);
        assert_eq!(
            json[2],
            json!({
                "severity": "error", "message": "twice", "path": "name", "label": null, "hint": null,
                "origin": {"file": "p.toml", "line": 4, "column": 8, "end_line": 4, "end_column": 9},
                "related": [{"label": "first here", "origin":
                    {"file": "p.toml", "line": 1, "column": 5, "end_line": 1, "end_column": 6}}],
            })
        );
        assert_eq!(json[4]["origin"], json!({"flag": "--logging.level"}));
        assert_eq!(json[5]["origin"], Value::Null);
    }

    #[test]
    fn github_gets_workflow_commands() {
        assert_eq!(
            sample().render_github(),
            "::error file=p.toml,line=2,col=1::unknown option `pth`%0Ahint: did you mean `path`?\n\
             ::warning file=p.toml,line=3,col=1::careful, 100%25\n\
             ::error file=p.toml,line=4,col=8::twice (option: name)\n\
             ::error::WEIR_LOGGING_LEVEL: unknown level\n\
             ::error::--logging.level: unknown level\n\
             ::error::nowhere%0Ahint: none\n"
        );
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let mut diags = Diagnostics::new();
        for i in 0..SHOWN_MAX + 5 {
            diags.error(&Origin::Default, format!("number {i}"));
        }
        assert!(diags.render_human(false).ends_with("error: number 99\n\n5 more not shown\n\n105 errors\n"));
    }

    #[test]
    fn nothing_to_say_is_nothing() {
        assert_eq!(Diagnostics::new().render_human(false), "");
        assert_eq!(Diagnostics::new().render_github(), "");
    }

    proptest::proptest! {
        #[test]
        fn any_span_of_any_text_renders(text in "(\\PC|\n|\r|\t){0,40}", start in 0usize..60, len in 0usize..20) {
            let file = Source::file("f", text);
            let mut diags = Diagnostics::new();
            diags.error(&file.at(start..start + len), "m").label("l").also(&file.at(len..start), "s");
            diags.mask(&file.at(start..start + 3));
            proptest::prop_assert!(diags.render_human(false).starts_with("error: m"));
        }
    }
}
