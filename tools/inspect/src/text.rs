//! Sizes, times and names as docker's tables have them.

use std::time::SystemTime;

use descriptor::moment;
use registry::Reference;

/// A moment that never was, as documents of docker write it.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Bytes of disk and of traffic: decimal units, three digits, no zeros at the end.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Bytes of memory: binary units, four digits, no zeros at the end.
pub(crate) fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// As Go's `%.3g` and `%.4g` have it for the numbers that remain.
fn scaled(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let before = match value {
        _ if unit == 0 => digits,
        value if value < 10.0 => 1,
        value if value < 100.0 => 2,
        value if value < 1000.0 => 3,
        _ => 4,
    };
    let decimals = digits.saturating_sub(before);
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

/// How long ago a moment was, without the word "ago"; none for what is no moment.
pub(crate) fn since(text: &str, now: SystemTime) -> Option<String> {
    let moment = moment::parse(text)?;
    Some(duration(now.duration_since(moment).unwrap_or_default().as_secs()))
}

/// As [`since`], with the word; `fallback` where it is no moment.
pub(crate) fn ago(text: &str, now: SystemTime, fallback: &str) -> String {
    since(text, now).map_or_else(|| fallback.into(), |since| format!("{since} ago"))
}

/// A time in the words of docker's tables.
fn duration(seconds: u64) -> String {
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..3600 => format!("{} minutes", seconds / 60),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A moment as docker's lists write it in JSON; the text itself where it is no moment.
pub(crate) fn created_at(text: &str) -> String {
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) if text.ends_with('Z') => format!("{day} {time} +0000 UTC"),
        _ => text.into(),
    }
}

/// A command as docker's lists have it: arguments, but not the program, in single quotes where a space is in them.
pub(crate) fn command(words: impl Iterator<Item = String>) -> String {
    let word = |(at, word): (usize, String)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word,
    };
    words.enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// A text in double quotes, as Go writes it: with escapes for quotes, backslashes and what is not to be printed.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A reference the way docker shows it: without `docker.io/library/`.
pub(crate) fn familiar(name: &str) -> &str {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    short.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(short)
}

/// The repository and the tag of a reference as docker's table has them.
pub(crate) fn repository_and_tag(name: Option<&str>) -> (String, String) {
    let none = || "<none>".to_string();
    let Some(name) = name else { return (none(), none()) };
    match name.parse::<Reference>() {
        Ok(parsed) => (familiar(&parsed.name()).into(), parsed.tag().map_or_else(none, String::from)),
        // A name of another tool's, "latest" say.
        Err(_) => (name.into(), none()),
    }
}

/// An id or a digest in a table: its first digits, or all of it.
pub(crate) fn shown_id(text: &str, whole: bool) -> String {
    if whole { text.into() } else { store::short(text).into() }
}

/// At most so many characters, the last one an ellipsis where some are left out.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    if most == 0 { kept } else { format!("{kept}\u{2026}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sizes_are_dockers() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_240, "1.24kB"),
            (1_200_000, "1.2MB"),
            (72_800_000, "72.8MB"),
            (120_000_000, "120MB"),
            (4_260_000_000, "4.26GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn memory_is_told_in_binary_units() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (1000 << 10, "1000KiB"),
            (12_910_592, "12.31MiB"),
            (8 << 30, "8GiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
    }

    #[test]
    fn times_are_dockers() {
        const DAY: u64 = 86_400;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (300, "5 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (2 * DAY, "2 days"),
            (14 * DAY, "2 weeks"),
            (61 * DAY, "2 months"),
            (731 * DAY, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(ago("1970-01-01T00:00:40Z", now, ""), "About a minute ago");
        assert_eq!(ago("1970-01-01T00:09:40Z", now, ""), "Less than a second ago", "a clock set back");
        assert_eq!(ago("nonsense", now, "N/A"), "N/A");
        assert_eq!(created_at("2026-01-02T03:04:05.123456789Z"), "2026-01-02 03:04:05 +0000 UTC");
    }

    #[test]
    fn names_are_short_where_docker_s_are() {
        for (name, want) in [
            ("docker.io/library/app:1", "app:1"),
            ("docker.io/user/app:1", "user/app:1"),
            ("localhost/app:1", "localhost/app:1"),
            ("registry.example:5000/library/app", "registry.example:5000/library/app"),
        ] {
            assert_eq!(familiar(name), want);
        }
        let pair = repository_and_tag(Some("docker.io/library/app:1"));
        assert_eq!((pair.0.as_str(), pair.1.as_str()), ("app", "1"));
        assert_eq!(repository_and_tag(None).0, "<none>");
    }

    #[test]
    fn commands_are_dockers() {
        let words = ["/a b", "-c", "echo \"x\"\n\u{1b}[1m", "é"].map(String::from);
        let text = command(words.into_iter());
        assert_eq!(quoted(&text), r#""/a b -c 'echo \"x\"\n\x1b[1m' é""#);
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(
            (cut("abc", 3), cut("abcd", 3), cut("ab", 0)),
            ("abc".into(), "ab\u{2026}".into(), "".into())
        );
    }
}
