//! `events`: what a container uses, once or again and again, and when it has run out of memory.

use std::time::{Duration, Instant};

use cgroup::Notice;
use runtime::Error;
use runtime::lifecycle::{self, Directory, Id};
use serde_json::json;

use crate::verbs::print;
use crate::verbs::{Global, Result};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Each line is one JSON object with type (stats or oom), id and data.")]
pub(crate) struct Args {
    /// How long to wait between two looks: a number with h, m, s, ms, us or ns, or several
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    interval: Duration,

    /// Look once
    #[arg(long)]
    stats: bool,

    /// The container's id
    #[arg(value_name = "ID")]
    id: Id,
}

/// Prints them, until the container has ended.
pub(crate) fn events(global: &Global, args: &Args) -> Result<u8> {
    let directory = global.runtimes()?.look(&args.id)?;
    if args.stats {
        stats(&directory)?;
        return Ok(0);
    }
    let mut watch = lifecycle::watch(&directory)?;
    let mut next = Instant::now() + args.interval;
    loop {
        match watch.wait(Some(next.saturating_duration_since(Instant::now())))? {
            Notice::Oom => print::line(json!({"type": "oom", "id": directory.id().as_str()}))?,
            Notice::Ended => return Ok(0),
            Notice::Nothing => match stats(&directory) {
                Err(Error::State { .. } | Error::NoContainer { .. }) => return Ok(0),
                answer => {
                    answer?;
                    next = Instant::now() + args.interval;
                }
            },
        }
    }
}

fn stats(directory: &Directory) -> Result<()> {
    let stats = lifecycle::stats(directory)?;
    print::line(json!({"type": "stats", "id": directory.id().as_str(), "data": stats}))
}

/// A time as Go writes it: `5s`, `1m30s`, `1.5h`, `100ms`.
fn interval(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{text:?} is no time above 0, as in 5s or 1m30s");
    let mut rest = text;
    let mut nanoseconds = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        nanoseconds += number * unit;
        rest = &rest[letters..];
    }
    let time = Duration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| wrong())?;
    if time.is_zero() { Err(wrong()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_go() {
        for (text, want) in
            [("5s", 5_000), ("100ms", 100), ("1m30s", 90_000), ("1.5h", 5_400_000), ("2m", 120_000)]
        {
            assert_eq!(interval(text), Ok(Duration::from_millis(want)), "{text}");
        }
        for bad in ["", "5", "s", "0s", "-1s", "5x", "1s2", "1e400h", "9999999999999999h"] {
            assert!(interval(bad).is_err(), "{bad:?}");
        }
    }
}
