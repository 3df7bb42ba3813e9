//! What is wrong with a configuration: a list of findings, each with the exact text it is about. Everything
//! that reads configuration adds to the list and goes on, so that one run reports all there is.

use std::ops::Range;
use std::sync::Arc;

use super::nearest::nearest;
use super::origin::{Origin, Source, SourceKind};
use super::path::Path;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but likely does not do what was meant.
    Warning,
}

impl Severity {
    /// "error" or "warning".
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One finding. Messages are lower case without a full stop, "what: why".
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and why.
    pub message: String,
    /// The text it is about.
    pub origin: Origin,
    /// What to say under the caret.
    pub label: Option<String>,
    /// Other places that matter, with what to say there.
    pub secondary: Vec<(Origin, String)>,
    /// The option's full path.
    pub path: Option<Path>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether it is about a file that is not there, rather than about what is in it.
    pub no_input: bool,
    /// Whether the option's value could not be made out, so that whatever else is said of it only follows.
    pub unread: bool,
}

impl Diagnostic {
    /// Says `label` under the caret.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// Names the option.
    pub fn path(&mut self, path: &Path) -> &mut Diagnostic {
        self.path = (!path.is_root()).then(|| path.clone());
        self
    }

    /// Says what to do.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Says that it is about a file that is not there or cannot be read.
    pub fn no_input(&mut self) -> &mut Diagnostic {
        self.no_input = true;
        self
    }

    /// Says that the option's value could not be made out, see [`Diagnostics::drop_consequences`].
    pub fn unread(&mut self) -> &mut Diagnostic {
        self.unread = true;
        self
    }

    /// Points at another place.
    pub fn also(&mut self, origin: &Origin, label: impl Into<String>) -> &mut Diagnostic {
        self.secondary.push((origin.clone(), label.into()));
        self
    }

    /// Suggests the nearest of `known` to `given`, or else lists them all.
    pub fn choices<'a>(
        &mut self,
        given: &str,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) -> &mut Diagnostic {
        let all: Vec<String> = known.clone().into_iter().map(|name| format!("`{name}`")).collect();
        if let Some(name) = nearest(given, known) {
            self.hint = Some(format!("did you mean `{name}`?"));
        }
        if !all.is_empty() {
            self.label = Some(format!("expected {}", join_or(&all)));
        }
        self
    }
}

/// "a", "a or b", "a, b or c".
pub fn join_or(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// All findings so far, in the order they were made.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    masks: Vec<(Arc<Source>, Range<usize>)>,
    incomplete: Vec<Arc<Source>>,
}

impl Diagnostics {
    /// No findings.
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Adds an error about `origin`; say more through what it returns.
    pub fn error(&mut self, origin: &Origin, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, origin, message.into())
    }

    /// Adds a warning about `origin`; say more through what it returns.
    pub fn warning(&mut self, origin: &Origin, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, origin, message.into())
    }

    fn add(&mut self, severity: Severity, origin: &Origin, message: String) -> &mut Diagnostic {
        let origin = origin.clone();
        let at = self.items.len();
        self.items.push(Diagnostic {
            severity,
            message,
            origin,
            label: None,
            secondary: vec![],
            path: None,
            hint: None,
            no_input: false,
            unread: false,
        });
        &mut self.items[at]
    }

    /// Says what to do about the last finding.
    pub fn hint_last(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.items.last_mut() {
            last.hint(hint);
        }
    }

    /// Never quotes this text: it is a secret. Renderers show stars in its place.
    pub fn mask(&mut self, origin: &Origin) {
        if let Some(source) = origin.source() {
            self.masks.push((Arc::clone(source), origin.span()));
        }
    }

    /// Says that a text could not be understood in whole, so that nothing is known to be missing from it.
    pub fn incomplete(&mut self, source: &Arc<Source>) {
        self.incomplete.push(Arc::clone(source));
    }

    /// Whether the text at `origin` could not be understood in whole.
    pub fn is_incomplete(&self, origin: &Origin) -> bool {
        origin.source().is_some_and(|source| self.incomplete.iter().any(|s| Arc::ptr_eq(s, source)))
    }

    /// The source's text as it may be shown: secrets replaced by as many stars, so that offsets stay true.
    pub fn shown_text(&self, source: &Arc<Source>) -> String {
        let mut bytes = source.text.clone().into_bytes();
        for (_, span) in self.masks.iter().filter(|(s, _)| Arc::ptr_eq(s, source)) {
            for byte in &mut bytes[span.clone()] {
                *byte = if *byte == b'\n' { b'\n' } else { b'*' };
            }
        }
        // Masks start and end at character boundaries, so what is left is whole characters.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|d| d.severity == Severity::Error)
    }

    /// How many findings are errors.
    pub fn error_count(&self) -> usize {
        self.items.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// The process's exit code: 0 without errors, 66 (no input) if only files are missing, else 78
    /// (configuration).
    pub fn exit_code(&self) -> u8 {
        let errors = || self.items.iter().filter(|d| d.severity == Severity::Error);
        match errors().count() {
            0 => 0,
            _ if errors().all(|d| d.no_input) => 66,
            _ => 78,
        }
    }

    /// All findings.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// All findings as they are shown: file by file from top to bottom, then variables, then flags.
    pub fn in_order(&self) -> Vec<&Diagnostic> {
        let mut sources: Vec<*const Source> = Vec::new();
        let mut keyed: Vec<_> = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let key = item.origin.source().map_or((3, 0, 0), |source| {
                let rank = match source.kind {
                    SourceKind::File => 0,
                    SourceKind::Variable => 1,
                    SourceKind::Flag => 2,
                };
                let known = sources.iter().position(|s| *s == Arc::as_ptr(source));
                let nth = known.unwrap_or_else(|| {
                    sources.push(Arc::as_ptr(source));
                    sources.len() - 1
                });
                (rank, nth, item.origin.span().start)
            });
            keyed.push((key, item));
        }
        keyed.sort_by_key(|(key, _)| *key);
        keyed.into_iter().map(|(_, item)| item).collect()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Keeps only the findings that `keep` says yes to.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.items.retain(keep);
    }

    /// Leaves out what was said of values that could not be made out.
    pub fn drop_consequences(&mut self) {
        let unread = self.items.iter().filter(|d| d.unread).filter_map(|d| d.path.clone());
        let unread: Vec<Path> = unread.collect();
        self.retain(|d| d.unread || d.path.as_ref().is_none_or(|path| !unread.contains(path)));
    }

    /// Takes over the findings, and the secrets, of another list.
    pub fn append(&mut self, other: Diagnostics) {
        self.items.extend(other.items);
        self.masks.extend(other.masks);
        self.incomplete.extend(other.incomplete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_a_sentence() {
        let list = |names: &[&str]| join_or(&names.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(list(&[]), "");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a or b");
        assert_eq!(list(&["a", "b", "c"]), "a, b or c");
    }

    #[test]
    fn secrets_become_stars_of_the_same_length() {
        let mut diags = Diagnostics::new();
        let source = Source::file("a", "k = \"né\"\nx = 1");
        diags.mask(&source.at(4..9));
        assert_eq!(diags.shown_text(&source), "k = *****\nx = 1");
    }

    #[test]
    fn findings_are_shown_in_the_order_of_the_text() {
        let (a, b) = (Source::file("a", "xyz"), Source::file("b", "xyz"));
        let mut diags = Diagnostics::new();
        for (i, origin) in [
            Source::flag("--x", "v").whole(),
            Origin::Default,
            a.at(2..3),
            b.at(0..1),
            Source::variable("X", "v").whole(),
            a.at(1..2),
            b.at(0..2),
        ]
        .iter()
        .enumerate()
        {
            diags.error(origin, i.to_string());
        }
        let shown: String = diags.in_order().iter().map(|d| d.message.as_str()).collect();
        assert_eq!(shown, "5236401");
    }

    #[test]
    fn warnings_are_not_errors() {
        let mut diags = Diagnostics::new();
        diags.warning(&Origin::Default, "w");
        assert!(!diags.has_errors() && !diags.is_empty());
        diags.error(&Origin::Default, "e").hint("h").path(&Path::root());
        assert_eq!(
            (diags.has_errors(), diags.error_count(), diags.items()[1].path.is_none()),
            (true, 1, true)
        );
    }
}
