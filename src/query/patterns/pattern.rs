//! From a pattern's text to a regex that can run over many lines at once: no match spans two lines, and anchors
//! mean the ends of a line. Compiled in two steps, syntax (regex-syntax's HIR) and program (regex-automata's meta
//! engine, whose searches take time linear in the text whatever the pattern).

use regex_automata::meta;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Capture, Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange};
use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

/// Longest pattern, in bytes.
pub(super) const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of groups.
const NEST_MAX: u32 = 100;
/// Largest compiled program, in bytes.
const PROGRAM_BYTES_MAX: usize = 8 << 20;
/// Most memory for states that a search builds on the way, in bytes, per matcher.
const SEARCH_BYTES_MAX: usize = 2 << 20;

/// The syntax of one pattern, ready for line-wise search; or why it cannot be used, in the words of the parser.
///
/// - Every `\n` is taken out of character classes, so `\s`, `[^a]` and `(?s).` never reach into the next line. A
///   pattern that demands a `\n` is refused, since it could not match any line.
/// - `^` and `\A` are the start of a line, `$` and `\z` its end. A `\r` before the line's end belongs to the line,
///   yet `foo$` finds `foo\r`: the end of a line may take one `\r` with it.
pub(super) fn parse(pattern: &str) -> Result<Hir, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("it is {} bytes long, the most is {PATTERN_BYTES_MAX}", pattern.len()));
    }
    let mut parser = ParserBuilder::new().utf8(false).multi_line(true).nest_limit(NEST_MAX).build();
    let hir = parser.parse(pattern).map_err(|e| match e {
        regex_syntax::Error::Parse(e) => located(&e.kind().to_string(), e.span().start.offset),
        regex_syntax::Error::Translate(e) => located(&e.kind().to_string(), e.span().start.offset),
        e => e.to_string(),
    })?;
    by_line(&hir)
}

fn located(why: &str, offset: usize) -> String {
    format!("{why}, at byte {offset}")
}

/// One program that matches where any of `patterns` does.
pub(super) fn compile(patterns: Vec<Hir>) -> Result<meta::Regex, String> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .which_captures(regex_automata::nfa::thompson::WhichCaptures::Implicit)
        .nfa_size_limit(Some(PROGRAM_BYTES_MAX))
        .hybrid_cache_capacity(SEARCH_BYTES_MAX);
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
pub(super) fn is_local(hir: &Hir) -> bool {
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
