//! Moments as documents write them (RFC 3339, in UTC).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};

/// Now, with nanoseconds.
pub fn now() -> String {
    of(SystemTime::now())
}

/// A moment, with nanoseconds.
pub fn of(moment: SystemTime) -> String {
    DateTime::<Utc>::from(moment).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// The moment so many seconds after 1970, or before; none outside the years that chrono counts.
pub fn of_seconds(seconds: i64) -> Option<String> {
    DateTime::from_timestamp(seconds, 0).map(|moment| moment.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Reads a moment; none where it is no RFC 3339 or before 1970.
pub fn parse(text: &str) -> Option<SystemTime> {
    let moment = DateTime::parse_from_rfc3339(text).ok()?;
    let seconds = u64::try_from(moment.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, moment.timestamp_subsec_nanos().min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(of_seconds(seconds).as_deref(), Some(want));
        }
        assert_eq!(of_seconds(i64::MAX), None);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let text = now();
        assert_eq!(text.len(), "2026-01-02T03:04:05.123456789Z".len(), "{text}");
        let moment = parse(&text).expect("a moment");
        assert!(moment.elapsed().is_ok_and(|elapsed| elapsed < Duration::from_secs(60)));
        assert_eq!(parse("2000-02-29T01:00:00+01:00"), Some(UNIX_EPOCH + Duration::from_secs(951_782_400)));
        assert_eq!((parse("yesterday"), parse("1969-12-31T23:59:59Z")), (None, None));
    }
}
