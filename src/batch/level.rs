//! Severity of a line, on one scale of seven for every dialect: syslog's eight, log4j's six, pino's numbers,
//! glog's letters. Spellings are packed into one machine word so that a candidate costs a few comparisons.

use std::fmt;

/// Severity, least first, so that `level >= Level::Warn` reads as it should.
///
/// Syslog's `emerg`, `alert` and `crit` (0, 1, 2) are all [`Level::Fatal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// The finest detail: `trace`, `verbose`, `finest`, Android's `V`.
    Trace,
    /// For developers: `debug`, `fine`.
    Debug,
    /// Normal operation: `info`, `information`, MySQL's `Note`, Postgres' `LOG`.
    Info,
    /// Normal but significant (syslog 5).
    Notice,
    /// Something may be wrong: `warn`, `warning`.
    Warn,
    /// Something failed: `error`, `err`, Java's `SEVERE`.
    Error,
    /// The program or the system cannot go on: `fatal`, `critical`, `alert`, `emerg`, `panic`.
    Fatal,
}

/// Up to eight bytes of a spelling in one word, lower case; bytes that are not ASCII letters never match one.
const fn pack(word: &[u8]) -> u64 {
    let mut packed = 0u64;
    let mut i = 0;
    while i < word.len() && i < 8 {
        packed = packed << 8 | word[i].to_ascii_lowercase() as u64;
        i += 1;
    }
    packed
}

macro_rules! spellings {
    ($packed:expr, $($level:ident: $($word:literal)+;)+) => {
        $(if $($packed == const { pack($word) } ||)+ false { return Some(Level::$level); })+
    };
}

impl Level {
    /// All levels, least first; the index is the discriminant.
    pub const ALL: [Level; 7] =
        [Level::Trace, Level::Debug, Level::Info, Level::Notice, Level::Warn, Level::Error, Level::Fatal];

    /// The level whose discriminant is `n`, 0 to 6.
    pub fn from_u8(n: u8) -> Option<Level> {
        Level::ALL.get(usize::from(n)).copied()
    }

    /// The one name used in output, lower case: "trace" to "fatal".
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Notice => "notice",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }

    /// Reads a word in any usual spelling and any case ("WARNING", "crit", "E"); `None` for any other word.
    pub fn parse(word: &[u8]) -> Option<Level> {
        if word.len() > 8 {
            let long: [(&[u8], Level); 3] = [
                (b"information", Level::Info),
                (b"emergency", Level::Fatal),
                (b"informational", Level::Info),
            ];
            return long.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|&(_, level)| level);
        }
        // A leading NUL would vanish in the packing.
        if !word.first()?.is_ascii_alphabetic() {
            return None;
        }
        let packed = pack(word);
        spellings! { packed,
            Info: b"info" b"inf" b"i" b"note";
            Warn: b"warn" b"warning" b"wrn" b"w";
            Error: b"error" b"err" b"e" b"severe";
            Debug: b"debug" b"dbg" b"d" b"fine";
            Trace: b"trace" b"trc" b"t" b"verbose" b"v" b"vrb" b"finer" b"finest" b"silly";
            Notice: b"notice" b"n";
            Fatal: b"fatal" b"ftl" b"f" b"critical" b"crit" b"c" b"alert" b"a" b"emerg" b"panic" b"dpanic" b"pnc";
        }
        None
    }

    /// The level of a syslog severity or a whole priority; only the low three bits count (RFC 5424, 6.2.1).
    pub const fn from_syslog(priority: u8) -> Level {
        match priority & 7 {
            0..=2 => Level::Fatal,
            3 => Level::Error,
            4 => Level::Warn,
            5 => Level::Notice,
            6 => Level::Info,
            _ => Level::Debug,
        }
    }

    /// The level of a number under a level key: 0 to 7 as in syslog (GELF), 10 to 99 as in pino and bunyan
    /// (10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal; between them, the lower). `None` for the
    /// rest.
    pub fn from_number(text: &[u8]) -> Option<Level> {
        match *text {
            [d @ b'0'..=b'7'] => Some(Level::from_syslog(d - b'0')),
            [tens @ b'1'..=b'9', b'0'..=b'9'] => Some(match tens {
                b'1' => Level::Trace,
                b'2' => Level::Debug,
                b'3' => Level::Info,
                b'4' => Level::Warn,
                b'5' => Level::Error,
                _ => Level::Fatal,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_in_every_case() {
        let table: [(&str, Level); 7] = [
            ("trace trc verbose vrb finest finer silly t v", Level::Trace),
            ("debug dbg fine d", Level::Debug),
            ("info inf information informational note i", Level::Info),
            ("notice n", Level::Notice),
            ("warn warning wrn w", Level::Warn),
            ("error err severe e", Level::Error),
            ("fatal ftl crit critical alert emerg emergency panic dpanic pnc f c a", Level::Fatal),
        ];
        for (words, level) in table {
            for word in words.split(' ') {
                assert_eq!(Level::parse(word.as_bytes()), Some(level), "{word}");
                assert_eq!(Level::parse(word.to_uppercase().as_bytes()), Some(level), "{word} upper");
            }
        }
        for word in ["", "errors", "infox", "warnings", "x", "\0info", "informationa", "in fo", "emergencyx"]
        {
            assert_eq!(Level::parse(word.as_bytes()), None, "{word:?}");
        }
    }

    #[test]
    fn ordered_named_and_indexed() {
        for (i, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!(level as usize, i);
            assert_eq!(Level::from_u8(i as u8), Some(level));
            assert_eq!(Level::parse(level.as_str().as_bytes()), Some(level));
        }
        assert!(Level::Trace < Level::Debug && Level::Notice < Level::Warn && Level::Error < Level::Fatal);
    }

    #[test]
    fn numbers_by_scale() {
        let of = |text: &str| Level::from_number(text.as_bytes());
        assert_eq!(of("3"), Some(Level::Error));
        assert_eq!(of("7"), Some(Level::Debug));
        assert_eq!(of("30"), Some(Level::Info));
        assert_eq!(of("35"), Some(Level::Info));
        assert_eq!(of("60"), Some(Level::Fatal));
        assert_eq!(of("8"), None);
        assert_eq!(of("100"), None);
        assert_eq!(of("-1"), None);
        assert_eq!(of(""), None);
    }
}
