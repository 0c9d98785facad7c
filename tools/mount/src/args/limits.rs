//! What the container may use of the machine.

use std::collections::BTreeMap;

use cli::Failure;
use cli::units;
use store::CreateDoc;

/// Docker's: a container needs that much to start at all.
const LEAST_MEMORY: u64 = 6 << 20;
/// Docker's bounds of a weight.
const WEIGHT: std::ops::RangeInclusive<u64> = 10..=1000;
/// The kernel's bounds of a quota's period in microseconds (sched_cfs(7)), and its least quota.
const PERIOD: std::ops::RangeInclusive<u64> = 1000..=1_000_000;
const LEAST_QUOTA: i64 = 1000;
/// The kernel's bounds (proc(5)).
const OOM_SCORES: std::ops::RangeInclusive<i64> = -1000..=1000;
/// Names of limits of a process, as docker's `--ulimit` has them.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Limits.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// The most memory (b, k, m, g)
    #[arg(short, long, value_name = "BYTES", value_parser = units::bytes)]
    memory: Option<u64>,

    /// The most memory and swap together; -1 for any [default: twice --memory]
    #[arg(long, value_name = "BYTES", value_parser = swap, allow_hyphen_values = true)]
    memory_swap: Option<i64>,

    /// What is left to the container where memory is short
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    memory_reservation: Option<u64>,

    /// How readily its memory is swapped (0 to 100)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(-1..=100), allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,

    /// No process is killed where memory is out (control groups of version 1)
    #[arg(long)]
    oom_kill_disable: bool,

    /// How readily its processes are killed where memory is out (-1000 to 1000)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(OOM_SCORES), allow_hyphen_values = true)]
    oom_score_adj: Option<i64>,

    /// How many processors' time
    #[arg(long, value_name = "N", value_parser = units::nano, conflicts_with_all = ["cpu_period", "cpu_quota"])]
    cpus: Option<u64>,

    /// Its share of processors' time where that is short, relative to others
    #[arg(short = 'c', long, value_name = "N")]
    cpu_shares: Option<u64>,

    /// The period of --cpu-quota, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,

    /// The processors' time in each period, in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,

    /// The period of --cpu-rt-runtime, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,

    /// The real-time scheduler's time in each period, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_rt_runtime: Option<u64>,

    /// The processors it runs on (0-2,4)
    #[arg(long, value_name = "CPUS", value_parser = numbers)]
    cpuset_cpus: Option<String>,

    /// The memory nodes it uses (0-2,4)
    #[arg(long, value_name = "NODES", value_parser = numbers)]
    cpuset_mems: Option<String>,

    /// The most processes and threads; -1 for any
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,

    /// Its share of block devices' time, relative to others (10 to 1000; 0 for none of its own)
    #[arg(long, value_name = "N", value_parser = weight)]
    blkio_weight: Option<u64>,

    /// The same for one device
    #[arg(long, value_name = "DEVICE:N", value_parser = weighed)]
    blkio_weight_device: Vec<(String, u64)>,

    /// The most bytes a second from a device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = rated)]
    device_read_bps: Vec<(String, u64)>,

    /// The most bytes a second to a device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = rated)]
    device_write_bps: Vec<(String, u64)>,

    /// The most reads a second from a device
    #[arg(long, value_name = "DEVICE:N", value_parser = counted)]
    device_read_iops: Vec<(String, u64)>,

    /// The most writes a second to a device
    #[arg(long, value_name = "DEVICE:N", value_parser = counted)]
    device_write_iops: Vec<(String, u64)>,

    /// The size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    shm_size: Option<u64>,

    /// A limit of each process (nofile=1024:2048)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<(String, String)>,
}

impl Limits {
    /// Writes them down, each in the one way to say it: bytes and microseconds as plain numbers, nothing that means no limit.
    pub(crate) fn record(&self, doc: &mut CreateDoc) -> Result<(), Failure> {
        self.check()?;
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                doc.limits.insert(name.into(), value);
            }
        };
        let some = |value: Option<u64>| value.filter(|&n| n > 0).map(|n| n.to_string());
        put("memory", some(self.memory));
        put("memory-swap", self.memory_swap.filter(|&n| n != 0).map(|n| n.to_string()));
        put("memory-reservation", some(self.memory_reservation));
        put("memory-swappiness", self.memory_swappiness.filter(|&n| n >= 0).map(|n| n.to_string()));
        put("oom-kill-disable", self.oom_kill_disable.then(|| "true".into()));
        put("oom-score-adj", self.oom_score_adj.filter(|&n| n != 0).map(|n| n.to_string()));
        put("cpus", self.cpus.filter(|&n| n > 0).map(decimal));
        put("cpu-shares", some(self.cpu_shares));
        put("cpu-period", some(self.cpu_period));
        put("cpu-quota", self.cpu_quota.filter(|&n| n > 0).map(|n| n.to_string()));
        put("cpu-rt-period", some(self.cpu_rt_period));
        put("cpu-rt-runtime", some(self.cpu_rt_runtime));
        put("cpuset-cpus", self.cpuset_cpus.clone().filter(|set| !set.is_empty()));
        put("cpuset-mems", self.cpuset_mems.clone().filter(|set| !set.is_empty()));
        put("pids-limit", self.pids_limit.filter(|&n| n > 0).map(|n| n.to_string()));
        put("blkio-weight", some(self.blkio_weight));
        put("shm-size", some(self.shm_size));
        for (name, list) in [
            ("blkio-weight-device", &self.blkio_weight_device),
            ("device-read-bps", &self.device_read_bps),
            ("device-write-bps", &self.device_write_bps),
            ("device-read-iops", &self.device_read_iops),
            ("device-write-iops", &self.device_write_iops),
        ] {
            put(name, joined(list));
        }
        doc.ulimits.extend(self.ulimit.iter().cloned());
        Ok(())
    }

    /// What docker's daemon refuses.
    fn check(&self) -> Result<(), Failure> {
        let refuse = |flag: &str, why: String| Err(Failure::usage(flag, why));
        let memory = self.memory.unwrap_or(0);
        if memory > 0 && memory < LEAST_MEMORY {
            return refuse("--memory", format!("{memory} bytes; the least is {LEAST_MEMORY} (6m)"));
        }
        match self.memory_swap {
            Some(swap) if swap > 0 && memory == 0 => {
                return refuse("--memory-swap", "it needs --memory".into());
            }
            Some(swap) if swap > 0 && swap.unsigned_abs() < memory => {
                return refuse(
                    "--memory-swap",
                    "it is memory and swap together, not less than --memory".into(),
                );
            }
            _ => {}
        }
        if memory > 0 && self.memory_reservation.is_some_and(|reserved| reserved > memory) {
            return refuse("--memory-reservation", "it is more than --memory".into());
        }
        if let Some(period) = self.cpu_period.filter(|&n| n > 0 && !PERIOD.contains(&n)) {
            let why = format!("{period} is not in {} to {}", PERIOD.start(), PERIOD.end());
            return refuse("--cpu-period", why);
        }
        if let Some(quota) = self.cpu_quota.filter(|&n| n > 0 && n < LEAST_QUOTA) {
            return refuse("--cpu-quota", format!("{quota}; the least is {LEAST_QUOTA}"));
        }
        Ok(())
    }
}

/// Billionths as a decimal number, without zeros at its end.
fn decimal(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Each device once, the last word counts; none where nothing is limited.
fn joined(list: &[(String, u64)]) -> Option<String> {
    let each: BTreeMap<_, _> = list.iter().cloned().collect();
    let words: Vec<_> =
        each.iter().filter(|(_, n)| **n > 0).map(|(device, n)| format!("{device}:{n}")).collect();
    (!words.is_empty()).then(|| words.join(","))
}

fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    i64::try_from(units::bytes(text)?).map_err(|_| format!("invalid size: {text:?}"))
}

fn weight(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Ok(0),
        Ok(n) if WEIGHT.contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not in {} to {}", WEIGHT.start(), WEIGHT.end())),
    }
}

fn weighed(text: &str) -> Result<(String, u64), String> {
    let (device, value) = device(text)?;
    Ok((device, weight(value)?))
}

fn rated(text: &str) -> Result<(String, u64), String> {
    let (device, value) = device(text)?;
    Ok((device, units::bytes(value)?))
}

fn counted(text: &str) -> Result<(String, u64), String> {
    let (device, value) = device(text)?;
    Ok((device, value.parse().map_err(|_| format!("{value:?} is no number"))?))
}

/// A device's path, and what stands after its colon.
fn device(text: &str) -> Result<(String, &str), String> {
    let (path, value) = text.split_once(':').ok_or_else(|| format!("bad format: {text:?}"))?;
    if !path.starts_with("/dev/") || path.contains([',', '\n']) {
        return Err(format!("bad format for device path: {path:?}"));
    }
    Ok((path.into(), value))
}

/// A list as `0-3,7`, in ascending ranges.
fn numbers(text: &str) -> Result<String, String> {
    /// The kernel knows no more processors (`NR_CPUS`).
    const MOST: u32 = 8192;
    let wrong = || format!("{text:?} is no list of numbers and ranges");
    let mut all = std::collections::BTreeSet::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|&n| n < MOST).ok_or_else(wrong);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        all.extend(first..=last);
    }
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for n in all {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    let words: Vec<_> = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    Ok(words.join(","))
}

/// A name, and `SOFT:HARD` with -1 for no limit.
fn ulimit(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}; it is one of {}", ULIMITS.join(", ")));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Ok(n) if n >= -1 => Ok(n),
        _ => Err(format!("invalid ulimit value: {text:?}")),
    };
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok((name.into(), format!("{soft}:{hard}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Only {
        /// The group's opposite.
        #[arg(long)]
        remove: bool,
        #[command(flatten)]
        limits: Limits,
    }

    fn doc(words: &str) -> Result<CreateDoc, String> {
        let only =
            Only::try_parse_from(format!("x {words}").split_whitespace()).map_err(|e| e.to_string())?;
        let mut doc = CreateDoc::default();
        only.limits.record(&mut doc).map_err(|e| e.to_string())?;
        Ok(doc)
    }

    #[test]
    fn the_same_limit_is_written_down_in_one_way() {
        for (one, other) in [
            ("-m 512m", "--memory 0.5g"),
            ("--cpus 1.50", "--cpus 1.5"),
            ("--cpuset-cpus 2,0-1", "--cpuset-cpus 0-2"),
            ("-c 0 --pids-limit -1 -m 0 --cpus 0 --memory-swap 0 --blkio-weight 0", ""),
            ("--ulimit nofile=10", "--ulimit nofile=10:10"),
            (
                "--device-read-bps /dev/b:1k --device-read-bps /dev/a:1",
                "--device-read-bps /dev/a:1 --device-read-bps /dev/b:1024",
            ),
        ] {
            assert_eq!(doc(one).expect(one), doc(other).expect(other));
        }
        let limits = doc("-m 6m --memory-swap -1 --cpus .5 --shm-size 1g").expect("limits").limits;
        let want =
            [("cpus", "0.5"), ("memory", "6291456"), ("memory-swap", "-1"), ("shm-size", "1073741824")];
        assert_eq!(limits, want.map(|(name, value)| (name.to_string(), value.to_string())).into());
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        for words in [
            "-m 5m",
            "-m x",
            "--memory-swap 1g",
            "-m 1g --memory-swap 512m",
            "-m 1g --memory-reservation 2g",
            "--memory-swappiness 101",
            "--cpus 1 --cpu-quota 5000",
            "--cpus -1",
            "--cpu-period 10",
            "--cpu-quota 10",
            "--cpuset-cpus 3-1",
            "--cpuset-cpus a",
            "--blkio-weight 9",
            "--blkio-weight-device /dev/sda",
            "--blkio-weight-device sda:100",
            "--device-read-bps /dev/sda:x",
            "--device-write-iops /dev/sda:1m",
            "--oom-score-adj 1001",
            "--ulimit nofile",
            "--ulimit as=1",
            "--ulimit nofile=20:10",
            "--ulimit nofile=-1:10",
        ] {
            doc(words).expect_err(words);
        }
    }
}
