//! Sizes and numbers as docker's flags spell them.

/// A number of bytes as `512`, `512b`, `64k`, `1.5g`, `2 GiB`: powers of 1024, in either case (docker's `RAMInBytes`).
///
/// # Errors
/// What is wrong with the text, in words.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("invalid size: {text:?}");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let power = match suffix.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(suffix.as_str(), "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    if !matches!(suffix.trim_start_matches(|c: char| "kmgtp".contains(c)), "" | "b" | "ib") {
        return Err(wrong());
    }
    scaled(number, 1_u64 << (10 * power)).ok_or_else(wrong)
}

/// A decimal number with at most nine digits after its point, in units of 1e-9 (docker's `--cpus`).
///
/// # Errors
/// What is wrong with the text, in words.
pub fn nano(text: &str) -> Result<u64, String> {
    const DIGITS: usize = 9;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    if fraction.len() > DIGITS {
        return Err(format!("{text:?} is too precise: {DIGITS} digits after the point at most"));
    }
    scaled(text, 1_000_000_000).ok_or_else(|| format!("{text:?} is no decimal number"))
}

/// `text`, digits with or without a point among them, times `unit`, rounded down.
fn scaled(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Eighteen digits are as many as there is room for; more are less than a byte anyway.
    let fraction = &fraction[..fraction.len().min(18)];
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = part * u128::from(unit) / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, want) in [
            ("0", Some(0)),
            ("32", Some(32)),
            ("32b", Some(32)),
            ("32B", Some(32)),
            ("32k", Some(32 << 10)),
            ("32KB", Some(32 << 10)),
            ("32kib", Some(32 << 10)),
            ("32Mb", Some(32 << 20)),
            ("1.5g", Some(3 << 29)),
            ("32 MiB", Some(32 << 20)),
            ("2T", Some(2 << 40)),
            ("1p", Some(1 << 50)),
            (".5m", Some(1 << 19)),
            ("", None),
            ("hello", None),
            ("-32", None),
            ("32bk", None),
            ("32i", None),
            ("32mm", None),
            ("32 m b", None),
            (" 32", None),
            ("1.2.3", None),
            ("99999999999p", None),
        ] {
            assert_eq!(bytes(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn processors_are_counted_in_billionths() {
        for (text, want) in [
            ("1.5", Some(1_500_000_000)),
            (".5", Some(500_000_000)),
            ("2", Some(2_000_000_000)),
            ("0.000000001", Some(1)),
            ("0.0000000001", None),
            ("1/2", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(nano(text).ok(), want, "{text:?}");
        }
    }
}
