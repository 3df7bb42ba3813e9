//! The TOML blocks of a Markdown text (CommonMark 0.31, 4.5: fenced code blocks), each as a source of its own in
//! which everything else is blank: what is found in it has the line and column of the Markdown file.

use std::sync::Arc;

use crate::config::Source;

/// A block whose info string begins with `toml`.
#[derive(Debug)]
pub(super) struct Fence {
    /// The block's text at its place.
    pub(super) source: Arc<Source>,
    /// Whether it says `ignore`, as in "toml,ignore".
    pub(super) is_ignored: bool,
}

/// A block that has begun.
struct Open {
    mark: char,
    count: usize,
    /// Its info string, if it is TOML.
    words: Option<Vec<String>>,
    blanked: Vec<u8>,
}

/// Most blocks of one file: each is as long as the file.
const FENCES_MAX: usize = 1000;

/// All TOML blocks, in order. One that is not closed ends with the text.
pub(super) fn fences(name: &str, text: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut open: Option<Open> = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        // A block may stand in a list or a quotation.
        let body = line.trim_end().trim_start_matches([' ', '\t', '>']);
        match &mut open {
            None => {
                if let Some((mark, count)) = fence_of(body) {
                    let words = words(&body[count..]);
                    let is_toml = words.first().is_some_and(|word| word.eq_ignore_ascii_case("toml"));
                    let (words, blanked) = (is_toml.then_some(words), blank(&text[..offset]));
                    open = Some(Open { mark, count, words, blanked });
                }
            }
            Some(Open { mark, count, words, blanked }) => {
                let closes =
                    fence_of(body).is_some_and(|(m, n)| m == *mark && n >= *count && body.len() == n);
                if closes {
                    fences.extend(words.take().map(|words| fence(name, std::mem::take(blanked), &words)));
                    open = None;
                } else if words.is_some() {
                    let quoted = line.len() - line.trim_start_matches([' ', '\t', '>']).len();
                    blanked.extend(line[..quoted].bytes().map(|b| if b == b'>' { b' ' } else { b }));
                    blanked.extend_from_slice(&text.as_bytes()[start + quoted..offset]);
                }
            }
        }
        if fences.len() == FENCES_MAX {
            return fences;
        }
    }
    if let Some(Open { words: Some(words), blanked, .. }) = open {
        fences.push(fence(name, blanked, &words));
    }
    fences
}

/// Three or more of the same mark at the beginning.
fn fence_of(body: &str) -> Option<(char, usize)> {
    let mark = body.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let count = body.chars().take_while(|c| *c == mark).count();
    // An info string after backticks holds none: else it is code within a line.
    let inline = mark == '`' && body[count..].contains('`');
    (count >= 3 && !inline).then_some((mark, count))
}

fn words(info: &str) -> Vec<String> {
    let words = info.split([',', ' ', '\t', '{', '}']).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// As many bytes and lines, with nothing on them.
fn blank(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| if byte == b'\n' { b'\n' } else { b' ' }).collect()
}

fn fence(name: &str, text: Vec<u8>, words: &[String]) -> Fence {
    let is_ignored = words.iter().any(|word| word == "ignore");
    Fence { source: Source::file(name, String::from_utf8_lossy(&text).into_owned()), is_ignored }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_places() {
        let text = "# é\n```sh\na = 1\n```\n```toml\na = 1\n```\n- x\n  ~~~TOML,ignore\n  b = 2\n  ```\n  ~~~\n> ````toml {title=\"x\"}\n> c = 3\n> ```\n> ````\nuse ```toml``` here\n```toml\nd = 4\n";
        let found = fences("f.md", text);
        let shown: Vec<_> = found
            .iter()
            .map(|fence| {
                let at = fence.source.text.find(" = ").unwrap() - 1;
                let (line, column) = fence.source.line_column(at);
                (line, column, fence.source.text.trim().to_owned(), fence.is_ignored)
            })
            .collect();
        let block = |line, column, text: &str, ignored| (line, column, text.to_owned(), ignored);
        assert_eq!(
            shown,
            [
                block(6, 1, "a = 1", false),
                block(10, 3, "b = 2\n  ```", true),
                block(14, 3, "c = 3\n  ```", false),
                block(19, 1, "d = 4", false),
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[`~> toml\nx=é,]{0,80}") {
            for fence in fences("f.md", &text) {
                proptest::prop_assert!(fence.source.text.len() <= text.len());
            }
        }
    }
}
