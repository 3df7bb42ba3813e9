//! What of a stream is history: everything up to the newest event that there was when it greeted. Positions in one
//! stream are `<epoch>-<sequence>`, in several `<epoch>-<name>:<sequence>,…`.

use serde_json::Value;

/// How far a stream's history goes, and whether it has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct History {
    newest: String,
    over: bool,
}

impl History {
    /// What a `hello` says; `None` where it does not say how far history goes, as those of older versions.
    pub(super) fn of_hello(data: &[u8]) -> Option<History> {
        let about: Value = serde_json::from_slice(data).ok()?;
        let id = |key: &str| about.get(key)?.as_str();
        let newest = id("newest")?.to_owned();
        let over = is_at_least(id("next")?, &newest, 1)?;
        Some(History { newest, over })
    }

    /// Takes note of where the stream stands: events up to this id have come or were passed over.
    pub(super) fn reach(&mut self, position: &str) {
        self.over = self.over || is_at_least(position, &self.newest, 0).unwrap_or(false);
    }

    /// Whether all of it has come.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

/// Whether `position` is `more` or further behind `newest`, in every stream; `None` where that makes no sense.
fn is_at_least(position: &str, newest: &str, more: u64) -> Option<bool> {
    let (epoch, newest) = newest.split_once('-')?;
    let position = position.strip_prefix(epoch)?.strip_prefix('-')?;
    let sequence = |name: &str| {
        let part = position.split(',').find_map(|part| {
            let (of, sequence) = named(part);
            (of == name).then_some(sequence)
        });
        part?.parse::<u64>().ok()
    };
    let mut all = true;
    for part in newest.split(',') {
        let (name, newest) = named(part);
        all &= sequence(name)? >= newest.parse::<u64>().ok()?.checked_add(more)?;
    }
    Some(all)
}

fn named(part: &str) -> (&str, &str) {
    part.split_once(':').unwrap_or(("", part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(hello: &str) -> Option<History> {
        History::of_hello(hello.as_bytes())
    }

    #[test]
    fn it_is_over_with_its_newest_event_and_not_before() {
        let mut one = history(r#"{"pipeline":"app","next":"e-8","newest":"e-10"}"#).unwrap();
        for (position, over) in
            [("e-9", false), ("f-10", false), ("e-", false), ("e-10", true), ("e-1", true)]
        {
            one.reach(position);
            assert_eq!(one.is_over(), over, "{position}");
        }
        let mut passed = history(r#"{"next":"e-8","newest":"e-10"}"#).unwrap();
        passed.reach("e-12");
        assert!(passed.is_over());
        let mut many = history(r#"{"next":"e-a:1,b-c:5","newest":"e-a:2,b-c:4"}"#).unwrap();
        for (position, over) in
            [("e-a:9,b-c:3", false), ("e-b-c:4", false), ("e-b-c:4,a:1", false), ("e-b-c:4,a:2", true)]
        {
            many.reach(position);
            assert_eq!(many.is_over(), over, "{position}");
        }
    }

    #[test]
    fn without_any_it_is_over_at_once_and_older_servers_do_not_say() {
        for (hello, over) in [
            (r#"{"next":"e-1","newest":"e-0"}"#, Some(true)),
            (r#"{"next":"e-11","newest":"e-10"}"#, Some(true)),
            (r#"{"next":"e-10","newest":"e-10"}"#, Some(false)),
            (r#"{"next":"e-a:3,b:1","newest":"e-a:2,b:0"}"#, Some(true)),
            (r#"{"next":"e-a:3,b:1","newest":"e-a:2,b:1"}"#, Some(false)),
            (r#"{"pipeline":"app","next":"e-8"}"#, None),
            (r#"{"next":"e-8","newest":7}"#, None),
            (r#"{"next":"e-8","newest":"nonsense"}"#, None),
            (r#"{"next":"f-8","newest":"e-7"}"#, None),
            ("no object", None),
        ] {
            assert_eq!(history(hello).map(|one| one.is_over()), over, "{hello}");
        }
    }
}
