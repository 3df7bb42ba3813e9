//! Event ids. An id is `<epoch>-<seq>`: the epoch names one run of the process, the sequence counts the events of
//! one stream from 1. On `/_stream` an id holds the last sequence of every stream: `<epoch>-<name>:<seq>,…`.

use std::fmt;
use std::sync::Arc;

use crate::base::clock;

/// Names one run of the process in event ids, so that an id of an earlier run is never taken for one of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// The epoch of a run that starts now: its start in milliseconds, in base 36.
    pub fn now() -> Epoch {
        Epoch::from_millis(clock::unix_nanos().unsigned_abs() / 1_000_000)
    }

    /// The epoch of a run that started then.
    pub fn from_millis(mut millis: u64) -> Epoch {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut text = Vec::new();
        while millis > 0 || text.is_empty() {
            text.push(char::from(DIGITS[(millis % 36) as usize]));
            millis /= 36;
        }
        Epoch(text.into_iter().rev().collect::<String>().into())
    }

    /// The epoch's text: digits and lower-case letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of one event.
    pub fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.0)
    }

    /// The sequence in an id of this epoch; `None` for anything else.
    pub fn parse(&self, id: &str) -> Option<u64> {
        sequence(self.rest(id)?)
    }

    /// The id of a position in several streams: the last sequence delivered of each.
    pub fn composite<'a>(&self, positions: impl Iterator<Item = (&'a str, u64)>) -> String {
        let parts: Vec<String> = positions.map(|(name, seq)| format!("{name}:{seq}")).collect();
        format!("{}-{}", self.0, parts.join(","))
    }

    /// The position of the stream `name` in a composite id of this epoch.
    pub fn parse_composite(&self, id: &str, name: &str) -> Option<u64> {
        let mut parts = self.rest(id)?.split(',').filter_map(|part| part.split_once(':'));
        sequence(parts.find(|(n, _)| *n == name)?.1)
    }

    fn rest<'a>(&self, id: &'a str) -> Option<&'a str> {
        id.strip_prefix(&*self.0)?.strip_prefix('-')
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number as an id writes it: digits only, so that `+5` and `05` are not taken for ids.
fn sequence(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_others_do_not() {
        let epoch = Epoch::from_millis(1_795_000_000_000);
        assert_eq!(epoch.parse(&epoch.id(42)), Some(42));
        for wrong in
            ["", "42", "zzz-42", "-", &format!("{epoch}-"), &format!("{epoch}-+4"), &format!("{epoch}-04")]
        {
            assert_eq!(epoch.parse(wrong), None, "{wrong}");
        }
        let id = epoch.composite([("a", 7), ("b-c", 0)].into_iter());
        assert_eq!(id, format!("{epoch}-a:7,b-c:0"));
        assert_eq!((epoch.parse_composite(&id, "a"), epoch.parse_composite(&id, "b-c")), (Some(7), Some(0)));
        assert_eq!((epoch.parse_composite(&id, "c"), epoch.parse(&id)), (None, None));
        assert_eq!(Epoch::from_millis(0).as_str(), "0");
    }
}
