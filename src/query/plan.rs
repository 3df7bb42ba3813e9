//! From the tree to what is carried out: conditions with everything compiled, in an order in which cheap ones spare
//! the dear ones their work. What a query means, and what is wrong with its values, is decided here.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use regex_syntax::hir::Hir;

use super::ast::{At, Expr, Leaf, Op, Operand, Test};
use super::error::Wrong;
use super::fields::Name;
use super::finder::Finder;
use super::literal::{Between, Bound, Equal, Number, address};
use super::patterns::Program;
use super::patterns::pattern::{self, Limits};
use super::phrase::{NoPhrase, Phrase, WILDCARD_CHARS_MAX, WORDS_MAX};
use super::search::Search;
use super::time::{self, Moment};
use crate::batch::Level;

/// Most memory of all programs of a query, and of what each search builds on the way, in bytes: subscribers bring
/// queries of their own.
const PROGRAMS_BYTES_MAX: usize = 1 << 20;
const SEARCH_BYTES_MAX: usize = 256 << 10;
/// Most regular expressions of a query.
pub const REGEXES_MAX: usize = 8;
/// Most programs that find words whose case folds beyond ASCII.
const WORD_PROGRAMS_MAX: usize = 8;

/// A query ready to run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) root: Node,
    pub(super) conditions: Vec<Condition>,
    /// To be cloned by each matcher, since searching changes their caches.
    pub(super) programs: Vec<Program>,
    /// How many of them are regular expressions of the query; others find words.
    regexes: usize,
}

/// What is carried out; parts stand in the order of their cost.
#[derive(Debug, Clone)]
pub(super) enum Node {
    All,
    /// A condition, by its index.
    Test(usize),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

/// One condition, compiled.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// The raw line has it.
    Line(Search),
    /// The severity is one of those whose bits are set.
    Level(u8),
    /// The event's time.
    Time(Between),
    /// A value of the field.
    Field(Place, Check),
}

/// Where values come from.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// The label of the stream that the row came from.
    Source,
    /// The pipeline that received the row.
    Pipeline,
    /// The field `message`, or the raw line where it has none.
    Message,
    /// A field of the line.
    Named(Name),
}

/// What a value has to be.
#[derive(Debug, Clone)]
pub(super) enum Check {
    /// There, and not null.
    Present,
    /// Equal as a number or an address; where it is none, the search decides.
    Is(Equal, Option<Search>),
    Has(Search),
    Between(Between),
}

/// Compiles a tree.
pub(super) fn compile(expr: &Expr) -> Result<Plan, Wrong> {
    let mut plan = Plan { root: Node::All, conditions: Vec::new(), programs: Vec::new(), regexes: 0 };
    plan.root = plan.node(expr)?;
    let Plan { root, conditions, .. } = &mut plan;
    order(root, conditions);
    Ok(plan)
}

/// What a condition costs a row, roughly, in tens of nanoseconds.
fn cost(node: &Node, conditions: &[Condition]) -> u32 {
    match node {
        Node::All => 0,
        Node::Test(index) => match &conditions[*index] {
            Condition::Line(Search::Exact(_) | Search::Words(_, Some(_))) => 1,
            Condition::Line(Search::Regex(_)) => 3,
            Condition::Level(_) => 5,
            Condition::Time(_) => 6,
            Condition::Field(Place::Source | Place::Pipeline, _) => 1,
            Condition::Field(_, Check::Present | Check::Between(_)) => 8,
            Condition::Field(..) => 10,
            Condition::Line(Search::Words(_, None)) => 30,
        },
        // Nearly every row is without, so that this rules out little.
        Node::Not(inner) => 2 + cost(inner, conditions),
        Node::And(parts) => parts.iter().map(|part| cost(part, conditions)).min().unwrap_or(0),
        Node::Or(parts) => parts.iter().map(|part| cost(part, conditions)).sum(),
    }
}

fn order(node: &mut Node, conditions: &[Condition]) {
    match node {
        Node::All | Node::Test(_) => {}
        Node::Not(inner) => order(inner, conditions),
        Node::And(parts) | Node::Or(parts) => {
            parts.iter_mut().for_each(|part| order(part, conditions));
            parts.sort_by_key(|part| cost(part, conditions));
        }
    }
}

impl Plan {
    /// As deep as the query is nested, which its parser bounds.
    fn node(&mut self, expr: &Expr) -> Result<Node, Wrong> {
        let mut each =
            |parts: &[Expr]| parts.iter().map(|part| self.node(part)).collect::<Result<Vec<_>, _>>();
        Ok(match expr {
            Expr::All => Node::All,
            Expr::Not(inner) => Node::Not(Box::new(self.node(inner)?)),
            Expr::And(parts) => Node::And(each(parts)?),
            Expr::Or(parts) => Node::Or(each(parts)?),
            Expr::Leaf(leaf) => {
                let condition = self.condition(leaf)?;
                self.conditions.push(condition);
                Node::Test(self.conditions.len() - 1)
            }
        })
    }

    fn condition(&mut self, leaf: &Leaf) -> Result<Condition, Wrong> {
        let Some(field) = &leaf.field else {
            return self.search(&leaf.test, &leaf.at).map(Condition::Line);
        };
        let place = match field.as_str() {
            "level" => return self.level(&leaf.test).map(Condition::Level),
            "timestamp" => return timestamp(&leaf.test).map(Condition::Time),
            "source" => Place::Source,
            "pipeline" => Place::Pipeline,
            "message" => Place::Message,
            // The name of the line's own key, even where it has a meaning of its own.
            name => Place::Named(Name::new(name.strip_prefix('.').unwrap_or(name))),
        };
        let check = match &leaf.test {
            Test::Present => Check::Present,
            Test::Compare(op, operand) => {
                let (low, high) = ends(*op, operand);
                Check::Between(between(low, high)?)
            }
            Test::Between { low, low_included, high, high_included } => {
                let end = |operand: &'_ Option<Operand>, included| operand.clone().map(|o| (o, included));
                let (low, high) = (end(low, *low_included), end(high, *high_included));
                let ends = (low.as_ref().map(|(o, i)| (o, *i)), high.as_ref().map(|(o, i)| (o, *i)));
                match ends {
                    (None, None) => Check::Present,
                    (low, high) => Check::Between(between(low, high)?),
                }
            }
            Test::Text(operand) | Test::Phrase(operand) => match equal(operand)? {
                Some(equal @ Equal::Network(_)) => Check::Is(equal, None),
                Some(equal) => Check::Is(equal, Some(self.search(&leaf.test, &leaf.at)?)),
                None => Check::Has(self.search(&leaf.test, &leaf.at)?),
            },
            Test::Regex { .. } => Check::Has(self.search(&leaf.test, &leaf.at)?),
        };
        Ok(Condition::Field(place, check))
    }

    /// What text is searched for.
    fn search(&mut self, test: &Test, at: &At) -> Result<Search, Wrong> {
        let (phrase, operand) = match test {
            Test::Text(operand) => (Phrase::bare(&operand.text), operand),
            Test::Phrase(operand) => (Phrase::quoted(&operand.text), operand),
            Test::Regex { pattern, ignore_case, at } => {
                return self.regex(pattern, *ignore_case, &at.0).map(Search::Regex);
            }
            // The grammar allows these on fields only, where they are no search.
            _ => return Err(Wrong::new(at.0.clone(), "a comparison without a field").expected("`field:`")),
        };
        let span = operand.at.0.clone();
        match phrase {
            // Beyond that, words are found more slowly.
            Ok(phrase) => {
                Search::words(phrase, |hir| match self.programs.len() < self.regexes + WORD_PROGRAMS_MAX {
                    true => self.program(hir, &span).map(Some),
                    false => Ok(None),
                })
            }
            Err(NoPhrase::NoWords) if operand.quoted => {
                Ok(Search::Exact(Finder::exact(operand.text.as_bytes())))
            }
            Err(NoPhrase::NoWords) => {
                let what = format!("nothing to search for: `{}` has no letters or digits", operand.text);
                Err(Wrong::new(span, what)
                    .expected("a word")
                    .hint(format!("quote it to search for these characters: \"{}\"", operand.text)))
            }
            Err(NoPhrase::TooManyWords) => {
                Err(Wrong::new(span, format!("too many words next to each other: {WORDS_MAX} is the most")))
            }
            Err(NoPhrase::TooLong) => {
                let what = format!(
                    "too long for a word with wildcards: {WILDCARD_CHARS_MAX} characters is the most"
                );
                Err(Wrong::new(span, what))
            }
        }
    }

    fn regex(&mut self, text: &str, ignore_case: bool, at: &Range<usize>) -> Result<usize, Wrong> {
        let hir = pattern::parse(text, ignore_case).map_err(|refusal| {
            let span = refusal.span.map_or(at.clone(), |span| at.start + span.start..at.start + span.end);
            let wrong = Wrong::new(span, format!("invalid regular expression: {}", refusal.why));
            if refusal.why.contains("look-around") || refusal.why.contains("backreference") {
                wrong.hint("combine conditions with AND and NOT instead")
            } else {
                wrong
            }
        })?;
        if self.regexes >= REGEXES_MAX {
            let what = format!("too many regular expressions: {REGEXES_MAX} is the most");
            return Err(Wrong::new(at.clone(), what).hint("one expression can hold alternatives: /a|b/"));
        }
        let program = self.program(hir, at)?;
        self.regexes += 1;
        Ok(program)
    }

    fn program(&mut self, hir: Hir, at: &Range<usize>) -> Result<usize, Wrong> {
        let used: usize = self.programs.iter().map(Program::memory_usage).sum();
        let limits = Limits { program: PROGRAMS_BYTES_MAX, search: SEARCH_BYTES_MAX };
        let large = || {
            let what = format!(
                "the regular expressions are too large: more than {} KiB once compiled",
                PROGRAMS_BYTES_MAX >> 10
            );
            Wrong::new(at.clone(), what).hint(
                "use smaller counted repetitions; `(?-u:\\w)` is a fraction of `\\w`, which knows every alphabet",
            )
        };
        let program = Program::new(vec![hir], limits).map_err(|_| large())?;
        if used + program.memory_usage() > PROGRAMS_BYTES_MAX {
            return Err(large());
        }
        self.programs.push(program);
        Ok(self.programs.len() - 1)
    }

    /// The levels that pass, a bit each.
    fn level(&mut self, test: &Test) -> Result<u8, Wrong> {
        let where_ = |keep: &dyn Fn(Level) -> bool| {
            Level::ALL.into_iter().filter(|l| keep(*l)).fold(0, |bits, l| bits | 1 << l as u8)
        };
        match test {
            Test::Present => Ok(where_(&|_| true)),
            Test::Compare(op, operand) => {
                let bound = level_of(operand)?;
                Ok(where_(&|l| match op {
                    Op::Less => l < bound,
                    Op::AtMost => l <= bound,
                    Op::Greater => l > bound,
                    Op::AtLeast => l >= bound,
                }))
            }
            Test::Between { low, low_included, high, high_included } => {
                let low = low.as_ref().map(level_of).transpose()?;
                let high = high.as_ref().map(level_of).transpose()?;
                Ok(where_(&|l| {
                    low.is_none_or(|low| l > low || (*low_included && l == low))
                        && high.is_none_or(|high| l < high || (*high_included && l == high))
                }))
            }
            Test::Text(operand) | Test::Phrase(operand)
                if operand.quoted || !operand.text.contains(['*', '?']) =>
            {
                Ok(1 << level_of(operand)? as u8)
            }
            Test::Text(_) | Test::Phrase(_) | Test::Regex { .. } => {
                let (first, regexes, at) = (self.programs.len(), self.regexes, test_at(test));
                let search = self.search(test, &at)?;
                let names = Level::ALL.map(|l| search.is_in(l.as_str().as_bytes(), &mut self.programs));
                // It has served its purpose.
                self.programs.truncate(first);
                self.regexes = regexes;
                match where_(&|l| names[l as usize]) {
                    0 => Err(Wrong::new(at.0, "no level matches").expected(level_names())),
                    bits => Ok(bits),
                }
            }
        }
    }
}

fn test_at(test: &Test) -> At {
    match test {
        Test::Text(operand) | Test::Phrase(operand) | Test::Compare(_, operand) => operand.at.clone(),
        Test::Regex { at, .. } => at.clone(),
        Test::Between { .. } | Test::Present => At::default(),
    }
}

fn level_names() -> String {
    let names: Vec<&str> = Level::ALL.iter().map(|level| level.as_str()).collect();
    names.join(", ")
}

fn level_of(operand: &Operand) -> Result<Level, Wrong> {
    let word = operand.text.as_bytes();
    Level::parse(word).or_else(|| Level::from_number(word)).ok_or_else(|| {
        let wrong = Wrong::new(operand.at.0.clone(), format!("unknown level: `{}`", operand.text));
        let wrong = wrong.expected(level_names());
        if operand.text.contains(',') {
            let several: Vec<&str> = operand.text.split(',').map(str::trim).collect();
            return wrong.hint(format!("several: `level:({})`", several.join(" OR ")));
        }
        wrong.hint("`.level:` looks at the line's own key, whatever it holds")
    })
}

/// What `timestamp:` allows.
fn timestamp(test: &Test) -> Result<Between, Wrong> {
    let moment = |operand: &Operand| {
        Moment::parse(&operand.text, true).ok_or_else(|| {
            let wrong = Wrong::new(operand.at.0.clone(), format!("not a time: `{}`", operand.text));
            wrong.expected(time::EXPECTED)
        })
    };
    let bound = |at, included| Some(Bound { at, included });
    Ok(match test {
        Test::Present => Between::Times(None, None),
        Test::Text(operand) | Test::Phrase(operand) => {
            let at = moment(operand)?;
            Between::Times(bound(at, true), bound(at, true))
        }
        Test::Compare(op, operand) => {
            let at = moment(operand)?;
            match op {
                Op::Less => Between::Times(None, bound(at, false)),
                Op::AtMost => Between::Times(None, bound(at, true)),
                Op::Greater => Between::Times(bound(at, false), None),
                Op::AtLeast => Between::Times(bound(at, true), None),
            }
        }
        Test::Between { low, low_included, high, high_included } => {
            let end = |operand: &Option<Operand>, included| {
                let at = operand.as_ref().map(moment).transpose()?;
                Ok(at.and_then(|at| bound(at, included)))
            };
            Between::Times(end(low, *low_included)?, end(high, *high_included)?)
        }
        Test::Regex { at, .. } => {
            let wrong = Wrong::new(at.0.clone(), "a regular expression on the time");
            return Err(wrong.expected(time::EXPECTED).hint("leave out `timestamp:` to search the raw line"));
        }
    })
}

/// An end of a range as it is written, and whether it belongs to the range.
type End<'a> = Option<(&'a Operand, bool)>;

fn ends(op: Op, operand: &Operand) -> (End<'_>, End<'_>) {
    match op {
        Op::Less => (None, Some((operand, false))),
        Op::AtMost => (None, Some((operand, true))),
        Op::Greater => (Some((operand, false)), None),
        Op::AtLeast => (Some((operand, true)), None),
    }
}

/// A value to compare with.
enum Literal {
    Number(Number),
    Address(IpAddr),
    Time(Moment),
}

fn literal(operand: &Operand) -> Result<Literal, Wrong> {
    let text = &operand.text;
    let found = (Number::parse(text.as_bytes()).map(Literal::Number))
        .or_else(|| text.parse::<IpAddr>().ok().map(|ip| Literal::Address(ip.to_canonical())))
        .or_else(|| Moment::parse(text, false).map(Literal::Time));
    found.ok_or_else(|| {
        let wrong = Wrong::new(operand.at.0.clone(), format!("nothing to compare with: `{text}`"))
            .expected("a number, an address or a time such as `now-15m`");
        match Level::parse(text.as_bytes()) {
            Some(_) => wrong.hint("the severity's field is `level`"),
            None => wrong,
        }
    })
}

fn between(low: End<'_>, high: End<'_>) -> Result<Between, Wrong> {
    let read = |end: End<'_>| end.map(|(operand, included)| Ok((literal(operand)?, included))).transpose();
    let (first, second) = (read(low)?, read(high)?);
    Ok(match (first, second) {
        (Some((Literal::Number(at), included)), None) => Between::Numbers(Some(Bound { at, included }), None),
        (None, Some((Literal::Number(at), included))) => Between::Numbers(None, Some(Bound { at, included })),
        (Some((Literal::Number(a), i)), Some((Literal::Number(b), j))) => {
            Between::Numbers(Some(Bound { at: a, included: i }), Some(Bound { at: b, included: j }))
        }
        (Some((Literal::Address(at), included)), None) => {
            Between::Addresses(Some(Bound { at, included }), None)
        }
        (None, Some((Literal::Address(at), included))) => {
            Between::Addresses(None, Some(Bound { at, included }))
        }
        (Some((Literal::Address(a), i)), Some((Literal::Address(b), j))) => {
            Between::Addresses(Some(Bound { at: a, included: i }), Some(Bound { at: b, included: j }))
        }
        (Some((Literal::Time(at), included)), None) => Between::Times(Some(Bound { at, included }), None),
        (None, Some((Literal::Time(at), included))) => Between::Times(None, Some(Bound { at, included })),
        (Some((Literal::Time(a), i)), Some((Literal::Time(b), j))) => {
            Between::Times(Some(Bound { at: a, included: i }), Some(Bound { at: b, included: j }))
        }
        _ => {
            let start = low.map_or(0, |(operand, _)| operand.at.0.start);
            let end = high.map_or(start, |(operand, _)| operand.at.0.end);
            return Err(Wrong::new(start..end, "the ends of the range are of different kinds")
                .expected("two numbers, two addresses or two times"));
        }
    })
}

/// A number, an address or a network that the text of a value is; `None` for other text.
fn equal(operand: &Operand) -> Result<Option<Equal>, Wrong> {
    let text = operand.text.as_str();
    if let Some(number) = Number::parse(text.as_bytes()) {
        return Ok(Some(Equal::Number(number)));
    }
    let Some((ip, prefix)) = text.split_once('/') else {
        return Ok(text.parse::<IpAddr>().ok().and_then(|_| address(text.as_bytes())).map(Equal::Address));
    };
    let is_prefix = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    let start = operand.at.0.start + usize::from(operand.quoted);
    match ip.parse::<IpAddr>() {
        Ok(ip) if is_prefix => {
            let most = if ip.is_ipv4() { 32 } else { 128 };
            let net = prefix.parse::<u8>().ok().and_then(|prefix| IpNet::new(ip, prefix).ok());
            net.map(|net| Some(Equal::Network(net))).ok_or_else(|| {
                let at = start + text.len() - prefix.len();
                Wrong::new(at..at + prefix.len(), format!("invalid network: a prefix of {prefix} bits"))
                    .expected(format!("0 to {most}"))
            })
        }
        Err(_) if is_prefix && looks_like_ipv4(ip) => {
            Err(Wrong::new(start..start + ip.len(), format!("invalid network: `{ip}` is no address"))
                .expected("four numbers from 0 to 255 with dots between them"))
        }
        _ => Ok(None),
    }
}

fn looks_like_ipv4(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 4 && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}
