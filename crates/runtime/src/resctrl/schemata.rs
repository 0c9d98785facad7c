//! Lines of `schemata`: `NAME:DOMAIN=VALUE;DOMAIN=VALUE`.

use std::collections::BTreeMap;

/// A resource's name and one of its domains.
type Part<'a> = (&'a str, &'a str);

/// What the lines set, the last for each part; none where one makes no sense.
fn parts(text: &str) -> Option<BTreeMap<Part<'_>, &str>> {
    let mut parts = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, domains) = line.split_once(':')?;
        for domain in domains.split(';').filter(|domain| !domain.trim().is_empty()) {
            let (id, value) = domain.split_once('=')?;
            parts.insert((name.trim(), id.trim()), value.trim());
        }
    }
    Some(parts)
}

/// The first part that was asked for and is not so: what was asked for, and what is there instead.
///
/// Values are compared as numbers: the kernel writes masks without leading zeros, and rounds bandwidths up to a multiple of
/// `granularity` where it knows one.
pub(super) fn difference(asked: &str, found: &str, granularity: Option<u64>) -> Option<(String, String)> {
    let (Some(asked_parts), Some(found_parts)) = (parts(asked), parts(found)) else {
        return Some((format!("{asked:?}"), format!("{found:?}")));
    };
    asked_parts.iter().find_map(|(part @ (name, id), value)| {
        let written = |value: &str| format!("{name}:{id}={value}");
        let Some(has) = found_parts.get(part) else {
            return Some((written(value), format!("no {name}:{id}")));
        };
        (!same(name, value, has, granularity)).then(|| (written(value), written(has)))
    })
}

fn same(name: &str, asked: &str, found: &str, granularity: Option<u64>) -> bool {
    if is_bandwidth(name) {
        let (Ok(asked), Ok(found)) = (asked.parse::<u64>(), found.parse::<u64>()) else {
            return asked == found;
        };
        let rounded = granularity.and_then(|step| asked.checked_next_multiple_of(step));
        return asked == found || rounded == Some(found);
    }
    let mask = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
    match (mask(asked), mask(found)) {
        (Ok(asked), Ok(found)) => asked == found,
        _ => asked == found,
    }
}

/// Memory bandwidth is a number, all else a mask (Linux, Documentation/filesystems/resctrl.rst).
fn is_bandwidth(name: &str) -> bool {
    matches!(name, "MB" | "SMBA")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_matches_whatever_way_the_same_is_written() {
        let found = "    L3:0=7ff;1=1f\n    MB:0= 20;1=100\n";
        for same in
            ["L3:0=7ff", "L3:1=01F;0=0x7ff", "MB:0=20", "MB:0=11;1=91", "L3:0=7ff\nMB:1=100", "L3:0=7ff;", ""]
        {
            assert_eq!(difference(same, found, Some(10)), None, "{same:?}");
        }
        for (other, asked, has) in [
            ("L3:0=7fe", "L3:0=7fe", "L3:0=7ff"),
            ("L3:0=7ff;2=1", "L3:2=1", "no L3:2"),
            ("L2:0=f", "L2:0=f", "no L2:0"),
            ("MB:0=21", "MB:0=21", "MB:0=20"),
            ("nonsense", "\"nonsense\"", "\"    L3:0=7ff;1=1f\\n    MB:0= 20;1=100\\n\""),
        ] {
            assert_eq!(difference(other, found, Some(10)), Some((asked.into(), has.into())), "{other:?}");
        }
    }

    #[test]
    fn bandwidth_is_rounded_only_where_the_kernel_rounds_it() {
        assert!(difference("MB:0=11", "MB:0=20", None).is_some());
        assert!(difference("MB:0=11", "MB:0=20", Some(0)).is_some());
    }
}
