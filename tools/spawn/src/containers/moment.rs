//! A moment as `--since` and `--until` take it.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) SystemTime);

impl FromStr for Moment {
    type Err = String;

    /// RFC 3339, also cut short from behind and then in UTC; seconds since 1970; or how long ago, `1h30m`.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = seconds(text)
            .map(|since| UNIX_EPOCH + since)
            .or_else(|| ago(text).and_then(|before| SystemTime::now().checked_sub(before)))
            .or_else(|| descriptor::moment::parse(&completed(text)));
        found.map(Self).ok_or_else(|| {
            format!("{text:?} is no moment: 2026-01-02T03:04:05Z, 2026-01-02, seconds since 1970, or how long ago, as 1h30m")
        })
    }
}

/// Seconds with a fraction, exactly.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 || whole.len() > 11 {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, nanos))
}

/// A duration as Go writes it.
fn ago(text: &str) -> Option<Duration> {
    let mut left = text;
    let mut all = 0.0;
    while !left.is_empty() {
        let end = left.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = left.split_at(end);
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        all += number.parse::<f64>().ok()? * unit;
        left = rest;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(all).ok() }
}

/// RFC 3339 with what was left out: midnight, whole seconds, UTC.
fn completed(text: &str) -> String {
    const MIDNIGHT: &str = "T00:00:00";
    let date = "2026-01-02".len();
    let Some((day, rest)) = text.split_at_checked(date) else { return text.into() };
    let (time, zone) = rest.split_at(rest.find(['Z', '+', '-']).unwrap_or(rest.len()));
    let missing = MIDNIGHT.get(time.len()..).unwrap_or_default();
    format!("{day}{time}{missing}{}", if zone.is_empty() { "Z" } else { zone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_spelling() {
        let at = |seconds, nanos| Moment(UNIX_EPOCH + Duration::new(seconds, nanos));
        for (text, want) in [
            ("0", at(0, 0)),
            ("1136073600.000000001", at(1_136_073_600, 1)),
            ("1136073600.5", at(1_136_073_600, 500_000_000)),
            ("2006-01-01T00:00:00Z", at(1_136_073_600, 0)),
            ("2006-01-01T01:00:00+01:00", at(1_136_073_600, 0)),
            ("2006-01-01T00:00:00.25", at(1_136_073_600, 250_000_000)),
            ("2006-01-01T00:00", at(1_136_073_600, 0)),
            ("2006-01-01", at(1_136_073_600, 0)),
            ("2006-01-01Z", at(1_136_073_600, 0)),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        let Moment(hour) = "1h30m0.5s".parse().expect("a moment");
        let before = hour.elapsed().expect("it is past").as_secs();
        assert!((5400..5402).contains(&before), "{before}");
        for wrong in ["", "yesterday", "1x", "h", "12:00", "2006-13-01", "-5m"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}
