//! The grammar: `a b` is `a AND b`; NOT binds first, then AND, then OR. One pass, recursion bounded by the depth
//! that parentheses may have.

use std::ops::Range;

use super::ast::{At, Expr, Leaf, Op, Operand, Test, is_plain_name};
use super::error::{Note, Wrong};
use super::scan::{RegexScan, Scanner};

/// Longest query, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Deepest nesting of parentheses and NOT.
pub const DEPTH_MAX: usize = 64;
/// Most conditions of one query.
pub const CONDITIONS_MAX: usize = 256;

/// A parsed query: its tree and what is odd about it.
pub(super) type Parsed = (Expr, Vec<Note>);

/// Parses a whole query.
pub(super) fn parse(text: &str) -> Result<Parsed, Wrong> {
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("the query is {} bytes long, the most is {TEXT_BYTES_MAX}", text.len());
        return Err(Wrong::new(TEXT_BYTES_MAX..text.len(), what));
    }
    let scan = Scanner { text, at: 0 };
    let mut parser = Parser { scan, depth: 0, conditions: 0, notes: Vec::new() };
    parser.scan.skip_space();
    if parser.scan.is_at_end() {
        return Err(Wrong::new(0..0, "the query is empty")
            .expected("a word, a \"phrase\", `field:value` or a /regular expression/")
            .hint("`*` matches every line"));
    }
    let expr = parser.or(None)?;
    if parser.scan.is_at_end() {
        return Ok((expr, parser.notes));
    }
    // Only a parenthesis stops the grammar before the end.
    let at = parser.scan.at;
    Err(Wrong::new(at..at + 1, "this parenthesis closes nothing")
        .expected("the end of the query")
        .hint("write `\\)` or quote the text to search for it"))
}

struct Parser<'a> {
    scan: Scanner<'a>,
    depth: usize,
    conditions: usize,
    notes: Vec<Note>,
}

/// The field that the conditions inside `field:( … )` are about.
type Group<'g> = Option<&'g str>;

impl Parser<'_> {
    fn or(&mut self, group: Group<'_>) -> Result<Expr, Wrong> {
        let mut parts = vec![self.and(group)?];
        while self.scan.is_word("OR") {
            self.scan.take("OR");
            self.operand_follows("OR")?;
            parts.push(self.and(group)?);
        }
        Ok(flat(parts, Expr::Or))
    }

    fn and(&mut self, group: Group<'_>) -> Result<Expr, Wrong> {
        let mut parts = vec![self.not(group)?];
        loop {
            self.scan.skip_space();
            if self.scan.is_at_end() || self.scan.peek() == Some(')') || self.scan.is_word("OR") {
                return Ok(flat(parts, Expr::And));
            }
            if self.scan.is_word("AND") {
                self.scan.take("AND");
                self.operand_follows("AND")?;
            }
            parts.push(self.not(group)?);
        }
    }

    fn not(&mut self, group: Group<'_>) -> Result<Expr, Wrong> {
        self.scan.skip_space();
        let start = self.scan.at;
        if self.scan.is_word("NOT") {
            self.scan.take("NOT");
            self.operand_follows("NOT")?;
            return self.nested(start, |parser| Ok(Expr::Not(Box::new(parser.not(group)?))));
        }
        let dashed = self.scan.rest().strip_prefix('-');
        let negates = |rest: &str| !rest.starts_with(|c: char| c.is_whitespace() || matches!(c, ')' | '-'));
        if dashed.is_some_and(|rest| !rest.is_empty() && negates(rest)) {
            self.scan.take("-");
            return self.nested(start, |parser| Ok(Expr::Not(Box::new(parser.not(group)?))));
        }
        self.primary(group)
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(
        &mut self,
        start: usize,
        parse: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        if self.depth == DEPTH_MAX {
            let what = format!("nested too deeply: {DEPTH_MAX} levels is the most");
            return Err(Wrong::new(start..start + 1, what));
        }
        self.depth += 1;
        let inner = parse(self)?;
        self.depth -= 1;
        Ok(inner)
    }

    /// Whether a condition follows an operator.
    fn operand_follows(&mut self, operator: &str) -> Result<(), Wrong> {
        let end = self.scan.at;
        self.scan.skip_space();
        let at = self.scan.at;
        let next = ["AND", "OR"].into_iter().find(|word| self.scan.is_word(word));
        if self.scan.is_at_end() || self.scan.peek() == Some(')') {
            return Err(Wrong::new(end..end, format!("nothing follows `{operator}`")).expected("a condition"));
        }
        match next {
            Some(next) => Err(Wrong::new(at..at + next.len(), format!("`{next}` follows `{operator}`"))
                .expected("a condition")
                .hint(format!("write \"{next}\" to search for the word"))),
            None => Ok(()),
        }
    }

    fn primary(&mut self, group: Group<'_>) -> Result<Expr, Wrong> {
        let start = self.scan.at;
        match self.scan.peek() {
            None => Err(Wrong::new(start..start, "the query ends too early").expected("a condition")),
            Some(')') => Err(Wrong::new(start..start + 1, "nothing stands before this parenthesis")
                .expected("a condition")),
            Some('(') => self.parenthesised(group),
            Some('"') => self.after_quote(group),
            Some(_) => self.word(group),
        }
    }

    fn parenthesised(&mut self, group: Group<'_>) -> Result<Expr, Wrong> {
        let open = self.scan.at;
        self.scan.take("(");
        let inner = self.nested(open, |parser| {
            parser.scan.skip_space();
            if parser.scan.is_at_end() {
                return Err(unclosed(open));
            }
            parser.or(group)
        })?;
        self.scan.skip_space();
        if self.scan.take(")") { Ok(inner) } else { Err(unclosed(open)) }
    }

    /// A phrase, or a field whose name stands in quotes.
    fn after_quote(&mut self, group: Group<'_>) -> Result<Expr, Wrong> {
        let start = self.scan.at;
        let mut ahead = self.scan;
        let name = ahead.quoted()?;
        if group.is_none() && ahead.take(":") {
            if name.is_empty() {
                return Err(Wrong::new(start..ahead.at, "the field's name is empty"));
            }
            self.scan = ahead;
            return self.field(&name, start);
        }
        let leaf = self.test(group, start)?;
        Ok(Expr::Leaf(leaf))
    }

    /// What starts with a word: a field, or a term.
    fn word(&mut self, group: Group<'_>) -> Result<Expr, Wrong> {
        let start = self.scan.at;
        let end = self.scan.run_end()?;
        let word = &self.scan.text[start..end];
        for operator in ["AND", "OR"] {
            if self.scan.is_word(operator) {
                return Err(Wrong::new(start..end, format!("nothing stands before `{operator}`"))
                    .expected("a condition")
                    .hint(format!("write \"{operator}\" to search for the word")));
            }
        }
        foreign_operator(word, start)?;
        if word == "*:*" || (word == "*" && group.is_none()) {
            self.scan.at = end;
            self.count(start..end)?;
            return Ok(Expr::All);
        }
        if let Some((name, colon)) = field_name(word, start)? {
            if group.is_some() {
                return Err(Wrong::new(start..colon + 1, "a field inside another field's parentheses")
                    .expected("a value")
                    .hint("quote the value if it holds a colon"));
            }
            self.scan.at = colon + 1;
            return self.field(name, start);
        }
        if group.is_none() {
            comparison_without_colon(word, start)?;
        }
        let leaf = self.test(group, start)?;
        self.note_lower_case(word, start);
        Ok(Expr::Leaf(leaf))
    }

    /// What follows `name:`.
    fn field(&mut self, name: &str, start: usize) -> Result<Expr, Wrong> {
        if self.scan.peek() == Some('(') {
            return self.parenthesised(Some(name));
        }
        let end = self.scan.at;
        if self.scan.peek().is_none_or(|c| c.is_whitespace() || c == ')') {
            let missing = Wrong::new(end..end, format!("the field `{name}` has no value"));
            let missing = missing.expected("a value directly after the colon");
            let spaced = !self.scan.rest().trim_start().is_empty() && self.scan.peek() != Some(')');
            return Err(missing.hint(if spaced {
                "leave out the space after the colon".to_owned()
            } else {
                format!("`{name}:*` finds lines that have the field")
            }));
        }
        Ok(Expr::Leaf(self.test(Some(name), start)?))
    }

    fn count(&mut self, span: Range<usize>) -> Result<(), Wrong> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            let what = format!("too many conditions: {CONDITIONS_MAX} is the most");
            return Err(Wrong::new(span, what).hint("a regular expression can hold many alternatives"));
        }
        Ok(())
    }

    /// One condition on `field`; the position is where its value starts.
    fn test(&mut self, field: Option<&str>, start: usize) -> Result<Leaf, Wrong> {
        let first = self.scan.peek();
        let test = match first {
            Some('"') => Test::Phrase(self.quoted_operand()?),
            Some('/') => match self.scan.regex()? {
                RegexScan::Regex(at, ignore_case) => {
                    let pattern = self.scan.text[at.clone()].to_owned();
                    Test::Regex { pattern, ignore_case, at: At(at) }
                }
                RegexScan::Path => Test::Text(self.bare_operand()?),
            },
            Some('[' | '{') if field.is_some() => self.between()?,
            Some('<' | '>') => self.compare(field, start)?,
            Some('=' | '!') if field.is_some() => return Err(self.equals_sign()),
            _ => {
                let operand = self.bare_operand()?;
                if field.is_some() && operand.text == "*" { Test::Present } else { Test::Text(operand) }
            }
        };
        let end = self.scan.at;
        self.count(start..end)?;
        self.piece_ends()?;
        Ok(Leaf { field: field.map(str::to_owned), test, at: At(start..end) })
    }

    /// Whether what follows a condition is apart from it.
    fn piece_ends(&self) -> Result<(), Wrong> {
        let at = self.scan.at;
        let Some(next) = self.scan.peek() else { return Ok(()) };
        if next.is_whitespace() || next == ')' {
            return Ok(());
        }
        let wrong = Wrong::new(at..at + next.len_utf8(), format!("`{next}` directly behind a condition"))
            .expected("a space, `)` or the end");
        Err(match next {
            '~' | '^' => wrong.hint("there is no fuzzy search and no ranking here"),
            ':' => wrong.hint("a field's name with other characters stands in quotes"),
            _ => wrong.hint(format!("quote the whole text to search for it, or write `\\{next}`")),
        })
    }

    fn quoted_operand(&mut self) -> Result<Operand, Wrong> {
        let start = self.scan.at;
        let text = self.scan.quoted()?;
        if text.is_empty() {
            return Err(Wrong::new(start..start + 2, "nothing between the quotes")
                .expected("text to search for")
                .hint("`NOT field:*` finds lines without a field, `field:/^$/` those where it is empty"));
        }
        Ok(Operand { text, quoted: true, at: At(start..self.scan.at) })
    }

    fn bare_operand(&mut self) -> Result<Operand, Wrong> {
        let (start, end) = (self.scan.at, self.scan.run_end()?);
        if let Some(sign) = fuzzy_or_boost(&self.scan.text[start..end]) {
            let what = "there is no fuzzy search and no ranking here";
            return Err(Wrong::new(start + sign..end, what).expected("a space, `)` or the end").hint(
                format!(
                    "leave it out, or quote the text to search for it: \"{}\"",
                    &self.scan.text[start..end]
                ),
            ));
        }
        self.scan.at = end;
        Ok(Operand { text: self.scan.text[start..end].to_owned(), quoted: false, at: At(start..end) })
    }

    fn compare(&mut self, field: Option<&str>, start: usize) -> Result<Test, Wrong> {
        let sign = self.scan.at;
        let ops = [(">=", Op::AtLeast), ("<=", Op::AtMost), (">", Op::Greater), ("<", Op::Less)];
        let op = ops.into_iter().find(|(text, _)| self.scan.take(text)).map_or(Op::Less, |(_, op)| op);
        let end = self.scan.at;
        if field.is_none() {
            return Err(Wrong::new(start..end, format!("`{}` compares no field", op.as_str()))
                .expected("`field:` before it")
                .hint(format!(
                    "write for example `status:{}500`; quote the text to search for it",
                    op.as_str()
                )));
        }
        if self.scan.peek().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')')) {
            return Err(Wrong::new(end..end, format!("nothing follows `{}`", op.as_str()))
                .expected("a number, a time, an address or a level directly behind it"));
        }
        let operand =
            if self.scan.peek() == Some('"') { self.quoted_operand()? } else { self.bare_operand()? };
        if operand.text.starts_with(['=', '<', '>']) && !operand.quoted {
            return Err(Wrong::new(sign..self.scan.at, "unknown comparison")
                .expected("`>`, `>=`, `<` or `<=` and a value"));
        }
        Ok(Test::Compare(op, operand))
    }

    /// `status:=500` and `status:!=500`.
    fn equals_sign(&self) -> Wrong {
        let at = self.scan.at;
        let negated = self.scan.rest().starts_with('!');
        let len = self.scan.rest().chars().take_while(|c| matches!(c, '=' | '!' | '~')).count();
        let wrong = Wrong::new(at..at + len, format!("`{}` is no comparison here", &self.scan.rest()[..len]));
        wrong.expected("`>`, `>=`, `<`, `<=` or a value").hint(if negated {
            "write `NOT field:value`; quote the value if it really starts with this character"
        } else {
            "leave it out; quote the value if it really starts with this character"
        })
    }

    fn between(&mut self) -> Result<Test, Wrong> {
        let open = self.scan.at;
        let low_included = self.scan.take("[");
        if !low_included {
            self.scan.take("{");
        }
        let low = self.bound(open)?;
        self.scan.skip_space();
        let at = self.scan.at;
        if !self.scan.is_word("TO") {
            let end = at + self.scan.rest().find(char::is_whitespace).unwrap_or(self.scan.rest().len());
            let wrong = Wrong::new(at..end, "the range has no `TO`").expected("`TO` and the other end");
            return Err(if self.scan.is_word("to") {
                wrong.hint("operators are upper case")
            } else {
                wrong.hint("a range is `[300 TO 400]`; quote text that holds brackets")
            });
        }
        self.scan.take("TO");
        let high = self.bound(open)?;
        self.scan.skip_space();
        let high_included = self.scan.take("]");
        if !high_included && !self.scan.take("}") {
            return Err(Wrong::new(open..self.scan.at, "the range is not closed").expected("`]` or `}`"));
        }
        Ok(Test::Between { low, low_included, high, high_included })
    }

    /// One end of a range; `None` is open.
    fn bound(&mut self, open: usize) -> Result<Option<Operand>, Wrong> {
        self.scan.skip_space();
        if self.scan.peek() == Some('"') {
            return self.quoted_operand().map(Some);
        }
        let start = self.scan.at;
        let rest = self.scan.rest();
        let len = rest.find(|c: char| c.is_whitespace() || matches!(c, ']' | '}')).unwrap_or(rest.len());
        let text = &rest[..len];
        if text.is_empty() || (text == "TO" && self.scan.is_word("TO")) {
            let end = if text.is_empty() { start } else { start + 2 };
            return Err(Wrong::new(open..end, "an end of the range is missing")
                .expected("a value, or `*` for an open end"));
        }
        self.scan.at = start + len;
        if text == "*" {
            return Ok(None);
        }
        Ok(Some(Operand { text: text.to_owned(), quoted: false, at: At(start..start + len) }))
    }

    /// `and`, `or` and `not` are words; perhaps that was not meant.
    fn note_lower_case(&mut self, word: &str, start: usize) {
        let followed = !self.scan.rest().trim_start().is_empty();
        let meant = match word {
            "and" | "or" => !self.scan.text[..start].trim_end().is_empty() && followed,
            "not" => followed,
            _ => false,
        };
        if meant {
            let message =
                format!("`{word}` is searched for as a word: the operator is `{}`", word.to_uppercase());
            self.notes.push(Note { span: start..start + word.len(), message });
        }
    }
}

fn unclosed(open: usize) -> Wrong {
    Wrong::new(open..open + 1, "the parenthesis is not closed")
        .expected("a closing `)`")
        .hint("write `\\(` or quote the text to search for it")
}

/// One part is itself; parts of the same kind are taken in, so that `a b c` has one level.
fn flat(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let is_and = matches!(join(Vec::new()), Expr::And(_));
    let mut all = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Expr::And(inner) if is_and => all.extend(inner),
            Expr::Or(inner) if !is_and => all.extend(inner),
            other => all.push(other),
        }
    }
    join(all)
}

/// Complains about operators of other languages at the start of `word`, which stands at `start`.
fn foreign_operator(word: &str, start: usize) -> Result<(), Wrong> {
    for (sign, hint) in [
        ("&&", "write `AND`, or nothing at all: `a b` is `a AND b`"),
        ("||", "write `OR`"),
        ("!", "write `NOT` or `-`"),
        ("+", "leave it out: every condition must hold anyway"),
        ("--", "quote the text to search for it"),
    ] {
        if word.starts_with(sign) {
            let wrong = Wrong::new(start..start + sign.len(), format!("`{sign}` is no operator here"));
            return Err(wrong.expected("a condition").hint(hint));
        }
    }
    Ok(())
}

/// The name of the field that `word`, which stands at `start`, begins with, and where its colon is.
fn field_name(word: &str, start: usize) -> Result<Option<(&str, usize)>, Wrong> {
    let Some(colon) = word.find(':') else { return Ok(None) };
    let (name, value) = (&word[..colon], &word[colon + 1..]);
    if name.is_empty() {
        return Err(Wrong::new(start..start + 1, "the field's name is missing")
            .expected("a name before the colon")
            .hint("write `\\:` or quote the text to search for it"));
    }
    if name.contains(['*', '?']) && is_plain_name(&name.replace(['*', '?'], "x")) {
        return Err(Wrong::new(start..start + colon, "a wildcard in a field's name")
            .expected("the name of one field")
            .hint("quote the name if it really holds such a character"));
    }
    // A URL or a path of some programming language is text.
    let is_text =
        value.starts_with("//") || (value.starts_with(':') && value.parse::<std::net::IpAddr>().is_err());
    Ok((is_plain_name(name) && !is_text).then_some((name, start + colon)))
}

/// Where the `~2` or `^4` of other languages stands behind a word.
fn fuzzy_or_boost(word: &str) -> Option<usize> {
    let sign = word.find(['~', '^']).filter(|at| *at > 0)?;
    let is_word = word[..sign].chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '*' | '?'));
    let rest = &word[sign + 1..];
    (is_word && rest.chars().all(|c| c.is_ascii_digit() || c == '.')).then_some(sign)
}

/// Complains about `status>=500` and `user=alice`; `word` stands at `start`.
fn comparison_without_colon(word: &str, start: usize) -> Result<(), Wrong> {
    let Some(sign) = word.find(['=', '<', '>', '!']) else { return Ok(()) };
    let (name, rest) = word.split_at(sign);
    let operators = ["==", "!=", "=~", "!~", ">=", "<=", "=", ">", "<"];
    let Some(operator) = operators.into_iter().find(|op| rest.starts_with(op)) else { return Ok(()) };
    if !is_plain_name(name) || name.ends_with('-') || rest.starts_with("=>") {
        return Ok(());
    }
    let value = &rest[operator.len()..];
    let value = if value.is_empty() { "value" } else { value };
    let right = match operator {
        "=" | "==" => format!("{name}:{value}"),
        "!=" => format!("NOT {name}:{value}"),
        "=~" => format!("{name}:/{value}/"),
        "!~" => format!("NOT {name}:/{value}/"),
        operator => format!("{name}:{operator}{value}"),
    };
    let span = start + sign..start + sign + operator.len();
    Err(Wrong::new(span, format!("`{operator}` behind a field's name"))
        .expected("`:`")
        .hint(format!("write `{right}`, or quote the text to search for it: \"{word}\"")))
}
