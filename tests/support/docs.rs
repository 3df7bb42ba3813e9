//! The documentation as tests read it: its pages, and the blocks of commands in them.

use std::path::Path;

/// A page of `docs/`.
pub fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// The `sh` blocks of a text, each with the `output` block behind it.
pub fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        let kind = line.trim_end();
        if !kind.starts_with("```") {
            continue;
        }
        let body: String = lines.by_ref().take_while(|line| line.trim_end() != "```").collect();
        match kind {
            "```sh" => blocks.push((body, String::new())),
            "```output" => blocks.last_mut().unwrap().1 = body,
            // What is shown only: parts of configurations, streams and pages.
            "```toml" | "```text" | "```nginx" | "```html" | "```python" => {}
            _ => panic!("unknown block {kind}"),
        }
    }
    blocks
}
