//! "Did you mean": the closest of the known names to a misspelt one, or nothing when none is close.

/// The name among `known` that `given` most likely means: the same but for case and separators, or an edit
/// distance (with swaps of neighbours counted once) of at most a third of its length.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // An edit distance is quadratic; a name longer than any option's is nobody's misspelling.
    if given.len() > 128 {
        return None;
    }
    let wanted = normal(given);
    known
        .into_iter()
        .filter_map(|name| {
            let candidate = normal(name);
            let allowed = (wanted.len().max(candidate.len()) / 3).clamp(1, 4);
            let distance = distance(&wanted, &candidate);
            // A short name is near to nearly everything: two letters must share at least one.
            (distance <= allowed && distance < candidate.len()).then_some((distance, name))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn normal(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_found_and_far_ones_are_not() {
        const KNOWN: [&str; 7] =
            ["path", "exclude", "start_at", "max_line_size", "poll_interval", "tls", "beginning"];
        for (given, expected) in [
            ("pth", Some("path")),
            ("paht", Some("path")),
            ("exclud", Some("exclude")),
            ("startat", Some("start_at")),
            ("MaxLineSize", Some("max_line_size")),
            ("max-line-sise", Some("max_line_size")),
            ("begining", Some("beginning")),
            ("xyz", None),
            ("colour", None),
            ("", None),
            ("listen", None),
        ] {
            assert_eq!(nearest(given, KNOWN), expected, "{given}");
        }
        assert_eq!(nearest(&"p".repeat(10_000), KNOWN), None);
    }

    #[test]
    fn the_distance_counts_a_swap_once() {
        let d = |a: &str, b: &str| distance(&normal(a), &normal(b));
        for (a, b, n) in
            [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3), ("ca", "abc", 3)]
        {
            assert_eq!(d(a, b), n, "{a} {b}");
        }
    }
}
