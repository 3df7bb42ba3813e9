//! What an answer means for the rows that were sent: taken, to be tried again, refused because of some of them,
//! or refused whatever they are.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};

use crate::base::clock;

/// What to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rows are the receiver's now.
    Taken,
    /// It may pass: the same request is sent again after a pause.
    Later,
    /// As [`Verdict::Later`], and the receiver is overloaded: fewer requests at a time.
    Overloaded,
    /// Some rows are not wanted, or there are too many at once: halves find out which.
    Rows,
    /// Nothing about the rows: somebody must mend an address, a credential or an option. Tried again slowly.
    Setup,
}

impl Verdict {
    /// The verdict of a status code (RFC 9110, section 15). Redirects are not followed: where logs go is what the
    /// configuration says.
    pub fn of(status: StatusCode) -> Verdict {
        match status.as_u16() {
            200..=299 => Verdict::Taken,
            429 | 503 => Verdict::Overloaded,
            408 | 425 => Verdict::Later,
            // What is wrong is the place, the way in or the manner; other rows would fare no better.
            300..=399 | 401..=407 | 410 | 411 | 414 | 415 | 417 | 421 | 426 | 428 | 431 | 501 | 505 | 511 => {
                Verdict::Setup
            }
            400..=499 => Verdict::Rows,
            _ => Verdict::Later,
        }
    }
}

/// How long the receiver asks to be left alone: `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3).
/// A date that has passed is zero; what cannot be read is `None`.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at_nanos = http_date_seconds(text)?.saturating_mul(1_000_000_000);
    Some(Duration::from_nanos(u64::try_from(at_nanos.saturating_sub(clock::unix_nanos())).unwrap_or(0)))
}

/// Seconds since the Unix epoch of a date in one of the three forms of RFC 9110, section 5.6.7.
fn http_date_seconds(text: &str) -> Option<i64> {
    const FORMS: [&str; 3] =
        ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let time = FORMS.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        let of = |code| Verdict::of(StatusCode::from_u16(code).unwrap());
        for (verdict, codes) in [
            (Verdict::Taken, &[200, 201, 202, 204, 206][..]),
            (Verdict::Later, &[408, 425, 500, 502, 504, 507, 520, 599]),
            (Verdict::Overloaded, &[429, 503]),
            (Verdict::Rows, &[400, 409, 412, 413, 416, 418, 422]),
            (Verdict::Setup, &[301, 302, 307, 308, 401, 403, 404, 405, 407, 410, 415, 501, 505]),
        ] {
            for code in codes {
                assert_eq!(of(*code), verdict, "{code}");
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "it has passed");
        for bad in ["", "-1", "soon", "1.5", "Sun, 32 Nov 1994 08:49:37 GMT"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        for form in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(http_date_seconds(form), Some(784_111_777), "{form}");
        }
        let in_an_hour = jiff::Timestamp::from_second(clock::unix_nanos() / 1_000_000_000 + 3600).unwrap();
        let text =
            in_an_hour.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let wait = of(&text).unwrap();
        assert!(wait > Duration::from_secs(3590) && wait <= Duration::from_secs(3600), "{wait:?}");
    }
}
