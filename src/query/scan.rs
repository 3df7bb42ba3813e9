//! Reading a query's text piece by piece: words, quotes, regular expressions. Knows where pieces end, not what
//! they mean.

use std::ops::Range;

use super::error::Wrong;

/// A position in a query's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// How an attempt to read a regular expression ended.
pub(super) enum RegexScan {
    /// The pattern's range and whether `i` follows the closing slash.
    Regex(Range<usize>, bool),
    /// It starts with a slash but is no expression: a path.
    Path,
}

impl<'a> Scanner<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes `text` if it is what follows.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    /// The end of the word that starts here: at white space, a parenthesis or a quote, unless escaped.
    ///
    /// # Errors
    /// A backslash that ends the query.
    pub(super) fn run_end(&self) -> Result<usize, Wrong> {
        let mut chars = self.rest().char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' if chars.next().is_none() => {
                    let at = self.at + i;
                    return Err(Wrong::new(at..at + 1, "nothing follows the backslash")
                        .expected("a character to take literally")
                        .hint("write `\\\\` for a backslash"));
                }
                '(' | ')' | '"' => return Ok(self.at + i),
                c if c.is_whitespace() => return Ok(self.at + i),
                _ => {}
            }
        }
        Ok(self.text.len())
    }

    /// Whether the word that follows is exactly `word`.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.rest().strip_prefix(word).is_some_and(|rest| {
            rest.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')' | '"'))
        })
    }

    /// Takes a quoted text; the position is on its opening quote. `\"` and `\\` are escapes, any other backslash
    /// is itself.
    ///
    /// # Errors
    /// It is not closed.
    pub(super) fn quoted(&mut self) -> Result<String, Wrong> {
        let open = self.at;
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' if matches!(chars.peek(), Some((_, '"' | '\\'))) => {
                    out.extend(chars.next().map(|(_, c)| c));
                }
                c => out.push(c),
            }
        }
        Err(Wrong::new(open..open + 1, "the quote is not closed")
            .expected("a closing `\"`")
            .hint("write `\\\"` for a quote inside quotes, or for one that is not meant to open any"))
    }

    /// Tries to take a regular expression; the position is on its opening slash and stays there for a path. The
    /// first slash that is not escaped closes it, and white space, `)` or the end must follow; else it is a path.
    ///
    /// # Errors
    /// What cannot be a path either, for its brackets, is an expression that is not closed.
    pub(super) fn regex(&mut self) -> Result<RegexScan, Wrong> {
        let open = self.at;
        let mut chars = self.rest().char_indices().skip(1);
        let mut close = None;
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => drop(chars.next()),
                '/' => {
                    close = Some(open + i);
                    break;
                }
                _ => {}
            }
        }
        if let Some(close) = close {
            let after = &self.text[close + 1..];
            let (flag, after) = match after.strip_prefix('i') {
                Some(after) => (true, after),
                None => (false, after),
            };
            let ends = after.chars().next().is_none_or(|c| c.is_whitespace() || c == ')');
            if ends && close > open + 1 {
                self.at = self.text.len() - after.len();
                return Ok(RegexScan::Regex(open + 1..close, flag));
            }
        }
        let word = self.rest().split(char::is_whitespace).next().unwrap_or_default();
        if word.contains(['(', '[', '{', '\\', '|', '^', '$']) {
            return Err(Wrong::new(open..open + 1, "the regular expression is not closed")
                .expected("`/` or `/i` at its end, then a space")
                .hint("write `\\/` for a slash inside it; quote a path with such characters"));
        }
        Ok(RegexScan::Path)
    }
}
