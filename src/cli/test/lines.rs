//! Which lines were expected and did not come, and which came unexpected: the shortest edit between two lists.

/// A line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit<'a> {
    /// In both.
    Same(&'a [u8]),
    /// Expected, and not there.
    Missing(&'a [u8]),
    /// There, and not expected.
    Surplus(&'a [u8]),
}

/// Pairs of lines that are compared at most; longer lists are shown one after the other.
const PAIRS_MAX: usize = 4_000_000;

/// The comparison of two lists: by their longest common subsequence, between a common beginning and a common end.
pub(super) fn compare<'a>(expected: &'a [Vec<u8>], got: &'a [Vec<u8>]) -> Vec<Edit<'a>> {
    let start = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let (rest_a, rest_b) = (&expected[start..], &got[start..]);
    let end = rest_a.iter().rev().zip(rest_b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&rest_a[..rest_a.len() - end], &rest_b[..rest_b.len() - end]);
    let mut edits: Vec<Edit<'a>> = expected[..start].iter().map(|line| Edit::Same(line)).collect();
    if a.len().saturating_mul(b.len()) > PAIRS_MAX {
        edits.extend(a.iter().map(|line| Edit::Missing(line)));
        edits.extend(b.iter().map(|line| Edit::Surplus(line)));
    } else {
        middle(a, b, &mut edits);
    }
    edits.extend(expected[expected.len() - end..].iter().map(|line| Edit::Same(line)));
    edits
}

fn middle<'a>(a: &'a [Vec<u8>], b: &'a [Vec<u8>], edits: &mut Vec<Edit<'a>>) {
    // common[i][j]: how many lines a[i..] and b[j..] have in common.
    let width = b.len() + 1;
    let mut common = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            edits.push(Edit::Same(&a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            edits.push(Edit::Missing(&a[i]));
            i += 1;
        } else {
            edits.push(Edit::Surplus(&b[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(expected: &[&str], got: &[&str]) -> String {
        let owned = |lines: &[&str]| lines.iter().map(|l| l.as_bytes().to_vec()).collect::<Vec<_>>();
        let (a, b) = (owned(expected), owned(got));
        let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        let edit = |edit: &Edit<'_>| match edit {
            Edit::Same(l) => text(l),
            Edit::Missing(l) => format!("-{}", text(l)),
            Edit::Surplus(l) => format!("+{}", text(l)),
        };
        compare(&a, &b).iter().map(edit).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_common_stays() {
        assert_eq!(shown(&["a", "b", "c", "d"], &["a", "c", "x", "d"]), "a -b c +x d");
        assert_eq!(shown(&[], &["a"]), "+a");
        assert_eq!(shown(&["a", "b"], &["b", "a"]), "-a b +a");
        assert_eq!(shown(&["a"], &["a", "a"]), "a +a");
    }

    proptest! {
        #[test]
        fn both_lists_can_be_read_off(
            a in proptest::collection::vec("[abc]", 0..12), b in proptest::collection::vec("[abc]", 0..12),
        ) {
            let owned = |lines: &[String]| lines.iter().map(|l| l.clone().into_bytes()).collect::<Vec<_>>();
            let (a, b) = (owned(&a), owned(&b));
            let edits = compare(&a, &b);
            let side = |of: fn(&Edit<'_>) -> Option<Vec<u8>>| edits.iter().filter_map(of).collect::<Vec<_>>();
            let left = side(|e| match e { Edit::Same(l) | Edit::Missing(l) => Some(l.to_vec()), _ => None });
            let right = side(|e| match e { Edit::Same(l) | Edit::Surplus(l) => Some(l.to_vec()), _ => None });
            prop_assert_eq!((left, right), (a, b));
        }
    }
}
