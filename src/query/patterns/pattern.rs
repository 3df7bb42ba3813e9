//! From a pattern's text to a regex that can run over many lines at once: no match spans two lines, and anchors
//! mean the ends of a line. Compiled in two steps, syntax (regex-syntax's HIR) and program (regex-automata's meta
//! engine, whose searches take time linear in the text whatever the pattern).

use std::ops::Range;

use regex_automata::meta;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Capture, Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange};
use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

/// Longest pattern, in bytes.
pub(super) const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of groups.
const NEST_MAX: u32 = 100;

/// The syntax of one pattern, ready for line-wise search; or why it cannot be used, in the words of the parser.
///
/// - Every `\n` is taken out of character classes, so `\s`, `[^a]` and `(?s).` never reach into the next line. A
///   pattern that demands a `\n` is refused, since it could not match any line.
/// - `^` and `\A` are the start of a line, `$` and `\z` its end. A `\r` before the line's end belongs to the line,
///   yet `foo$` finds `foo\r`: the end of a line may take one `\r` with it.
pub(in crate::query) fn parse(pattern: &str, ignore_case: bool) -> Result<Hir, Refusal> {
    if pattern.len() > PATTERN_BYTES_MAX {
        let why = format!("it is {} bytes long, the most is {PATTERN_BYTES_MAX}", pattern.len());
        return Err(Refusal { why, span: None });
    }
    let mut parser = ParserBuilder::new();
    parser.utf8(false).multi_line(true).nest_limit(NEST_MAX).case_insensitive(ignore_case);
    let refused = |why: String, span: &regex_syntax::ast::Span| {
        let span = Some(span.start.offset..span.end.offset);
        Refusal { why, span }
    };
    let hir = parser.build().parse(pattern).map_err(|e| match e {
        regex_syntax::Error::Parse(e) => refused(e.kind().to_string(), e.span()),
        regex_syntax::Error::Translate(e) => refused(e.kind().to_string(), e.span()),
        e => Refusal { why: e.to_string(), span: None },
    })?;
    by_line(&hir).map_err(|why| Refusal { why, span: None })
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::query) struct Refusal {
    /// In the words of the parser.
    pub(in crate::query) why: String,
    /// Which bytes of the pattern, if not all.
    pub(in crate::query) span: Option<Range<usize>>,
}

impl Refusal {
    /// The reason with the place in words.
    pub(super) fn located(self) -> String {
        match self.span {
            Some(span) => format!("{}, at byte {}", self.why, span.start),
            None => self.why,
        }
    }
}

/// Bounds of a program, in bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::query) struct Limits {
    /// The compiled program.
    pub(in crate::query) program: usize,
    /// States that a search builds on the way.
    pub(in crate::query) search: usize,
}

/// The bounds for the patterns of a component, of which a configuration has few.
pub(super) const COMPONENT: Limits = Limits { program: 8 << 20, search: 2 << 20 };

/// One program that matches where any of `patterns` does.
pub(in crate::query) fn compile(patterns: Vec<Hir>, limits: Limits) -> Result<meta::Regex, String> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .which_captures(regex_automata::nfa::thompson::WhichCaptures::Implicit)
        .nfa_size_limit(Some(limits.program))
        .hybrid_cache_capacity(limits.search);
    meta::Builder::new().configure(config).build_from_hir(&Hir::alternation(patterns)).map_err(|e| {
        match e.size_limit() {
            Some(limit) => {
                format!("compiled, it would need more than {limit} bytes; use smaller counted repetitions")
            }
            None => e.to_string(),
        }
    })
}

/// Whether the program may run over many lines at once. These three look at whole characters around them, and next
/// to bytes that are no UTF-8 the engine's answer depends on what stands up to four bytes before.
pub(in crate::query) fn is_local(hir: &Hir) -> bool {
    let looks = hir.properties().look_set();
    ![Look::WordUnicodeNegate, Look::WordStartHalfUnicode, Look::WordEndHalfUnicode]
        .into_iter()
        .any(|look| looks.contains(look))
}

/// The same pattern, confined to a line. The recursion is as deep as the nesting, which the parser bounds.
fn by_line(hir: &Hir) -> Result<Hir, String> {
    let each = |hirs: &[Hir]| hirs.iter().map(by_line).collect::<Result<Vec<_>, _>>();
    Ok(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) if literal.0.contains(&b'\n') => {
            return Err(
                "it demands a line break (\\n), which no line holds, so it can never match".to_owned()
            );
        }
        HirKind::Literal(literal) => Hir::literal(literal.0.clone()),
        HirKind::Class(Class::Unicode(class)) => {
            let mut class = class.clone();
            class.difference(&ClassUnicode::new([ClassUnicodeRange::new('\n', '\n')]));
            Hir::class(Class::Unicode(class))
        }
        HirKind::Class(Class::Bytes(class)) => {
            let mut class = class.clone();
            class.difference(&ClassBytes::new([ClassBytesRange::new(b'\n', b'\n')]));
            Hir::class(Class::Bytes(class))
        }
        HirKind::Look(Look::Start | Look::StartLF | Look::StartCRLF) => Hir::look(Look::StartLF),
        HirKind::Look(Look::End | Look::EndLF | Look::EndCRLF) => line_end(),
        HirKind::Look(look) => Hir::look(*look),
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { sub: Box::new(by_line(&repetition.sub)?), ..repetition.clone() })
        }
        // Nobody asks for groups, and without them the faster engines apply.
        HirKind::Capture(Capture { sub, .. }) => by_line(sub)?,
        HirKind::Concat(parts) => Hir::concat(each(parts)?),
        HirKind::Alternation(parts) => Hir::alternation(each(parts)?),
    })
}

/// `\r?` and then the end of the line.
fn line_end() -> Hir {
    let cr = Hir::literal(*b"\r");
    let optional = Hir::repetition(Repetition { min: 0, max: Some(1), greedy: true, sub: Box::new(cr) });
    Hir::concat(vec![optional, Hir::look(Look::EndLF)])
}
