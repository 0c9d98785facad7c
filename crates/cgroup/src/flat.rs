//! The kernel's formats: single values, flat keyed and nested keyed files, lists of numbers.

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::directory::Directory;
use crate::error::About;
use crate::stats::{Pressure, PressureLine};
use crate::{Error, Result};

const WHAT: &str = "reading what a cgroup has used";

/// A file's text; `None` where the kernel has no such file, or does not count (pressure stall information turned off).
pub(crate) fn text(directory: &Directory, file: &str) -> Result<Option<String>> {
    match directory.read(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error).about(WHAT),
    }
}

/// A single number; `max` is the greatest.
pub(crate) fn number(directory: &Directory, file: &str) -> Result<Option<u64>> {
    let Some(text) = text(directory, file)? else { return Ok(None) };
    parse(text.trim()).map(Some).ok_or_else(|| malformed(directory, file, &text))
}

/// A number as the kernel prints it: decimal, `max`, or negative for an unset one.
pub(crate) fn parse(text: &str) -> Option<u64> {
    match text {
        "max" => Some(u64::MAX),
        text if text.starts_with('-') => text.parse::<i64>().ok().map(|_| 0),
        text => text.parse().ok(),
    }
}

/// `key value` lines. A line of another form is left out: newer kernels have more to say.
pub(crate) fn keyed(directory: &Directory, file: &str) -> Result<BTreeMap<String, u64>> {
    let text = text(directory, file)?.unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_string(), parse(value)?))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// Numbers between white space.
pub(crate) fn numbers(directory: &Directory, file: &str) -> Result<Vec<u64>> {
    let text = text(directory, file)?.unwrap_or_default();
    text.split_whitespace().map(|one| one.parse().map_err(|_| malformed(directory, file, &text))).collect()
}

/// A list of ranges: `0-2,5`.
pub(crate) fn ranges(directory: &Directory, file: &str) -> Result<Vec<u16>> {
    let text = text(directory, file)?.unwrap_or_default();
    range_list(text.trim()).ok_or_else(|| malformed(directory, file, &text))
}

fn range_list(text: &str) -> Option<Vec<u16>> {
    let mut list = Vec::new();
    for one in text.split(',').filter(|one| !one.is_empty()) {
        let (from, to) = one.split_once('-').unwrap_or((one, one));
        list.extend(from.parse::<u16>().ok()?..=to.parse::<u16>().ok()?);
    }
    Some(list)
}

/// `major:minor`.
pub(crate) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A pressure file (the kernel's accounting/psi.rst); `None` where the kernel keeps none.
pub(crate) fn pressure(directory: &Directory, file: &str) -> Result<Option<Pressure>> {
    let Some(text) = text(directory, file)? else { return Ok(None) };
    parse_pressure(&text).map(Some).ok_or_else(|| malformed(directory, file, &text))
}

fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (name, fields) = line.split_once(' ')?;
        let mut values = PressureLine::default();
        for field in fields.split(' ') {
            match field.split_once('=')? {
                ("avg10", value) => values.avg10 = value.parse().ok()?,
                ("avg60", value) => values.avg60 = value.parse().ok()?,
                ("avg300", value) => values.avg300 = value.parse().ok()?,
                ("total", value) => values.total = value.parse().ok()?,
                _ => {}
            }
        }
        match name {
            "some" => pressure.some = values,
            "full" => pressure.full = values,
            _ => {}
        }
    }
    Some(pressure)
}

fn malformed(directory: &Directory, file: &str, text: &str) -> Error {
    let line = text.lines().next().unwrap_or_default();
    Error::Content { path: directory.path().join(file), why: format!("{line:?} is not as documented") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("max", Some(u64::MAX)),
            ("-1", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ranges_are_read_out() {
        for (text, expected) in [("", Some(vec![])), ("0-2,5", Some(vec![0, 1, 2, 5])), ("3", Some(vec![3]))]
        {
            assert_eq!(range_list(text), expected, "{text:?}");
        }
        assert_eq!(range_list("a-b"), None);
        assert_eq!(range_list("0-65536"), None);
    }

    #[test]
    fn pressure_has_two_lines_or_one() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = parse_pressure(text).expect("pressure");
        assert_eq!((pressure.some.avg10, pressure.some.avg300, pressure.some.total), (1.5, 0.25, 12));
        assert_eq!(pressure.full.total, 7);
        assert!(parse_pressure("some avg10=x").is_none());
    }
}
