//! Limits as the runtime specification has them.

use std::collections::BTreeMap;

use cli::Failure;
use descriptor::Exit;
use oci_spec::runtime::{LinuxResources, PosixRlimit};
use runtime::convert::Confinement;
use rustix::fs::{FileType, major, minor};
use serde_json::{Map, Value, json};
use store::CreateDoc;

/// The period that `--cpus` is measured in, in microseconds (docker's).
const PERIOD: u64 = 100_000;

/// Limits by the name of their flag.
type Limits = BTreeMap<String, String>;

pub(super) fn fill(doc: &CreateDoc, confinement: &mut Confinement) -> Result<(), Failure> {
    let rules = confinement.resources.devices().clone();
    confinement.resources = resources(&doc.limits)?;
    confinement.resources.set_devices(rules);
    confinement.rlimits = rlimits(&doc.ulimits)?;
    confinement.oom_score_adj = number(&doc.limits, "oom-score-adj")?;
    Ok(())
}

/// The value of a limit, where there is one.
fn number<T: std::str::FromStr>(limits: &Limits, name: &str) -> Result<Option<T>, Failure> {
    let wrong =
        |text: &String| Failure::new(Exit::Content, "create.json", format!("limits.{name}: {text:?}"));
    limits.get(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

fn resources(limits: &Limits) -> Result<LinuxResources, Failure> {
    let mut all = Map::new();
    for (member, values) in [
        ("memory", memory(limits)?),
        ("cpu", cpu(limits)?),
        ("pids", pids(limits)?),
        ("blockIO", io(limits)?),
    ] {
        let given = values.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        let values: Map<_, _> = given.collect();
        if !values.is_empty() {
            all.insert(member.into(), values.into());
        }
    }
    serde_json::from_value(all.into()).map_err(|e| Failure::new(Exit::Other, "limits", e))
}

/// Members of the specification, and the values of those that are given.
type Members = Vec<(&'static str, Option<Value>)>;

fn whole(limits: &Limits, name: &str) -> Result<Option<Value>, Failure> {
    Ok(number::<i64>(limits, name)?.map(Value::from))
}

fn memory(limits: &Limits) -> Result<Members, Failure> {
    Ok(vec![
        ("limit", whole(limits, "memory")?),
        ("swap", swap(limits)?),
        ("reservation", whole(limits, "memory-reservation")?),
        ("swappiness", whole(limits, "memory-swappiness")?),
        ("disableOOMKiller", limits.contains_key("oom-kill-disable").then_some(Value::Bool(true))),
    ])
}

fn cpu(limits: &Limits) -> Result<Members, Failure> {
    let text = |name: &str| limits.get(name).cloned().map(Value::from);
    let (mut period, mut quota) = (whole(limits, "cpu-period")?, whole(limits, "cpu-quota")?);
    if let Some(cpus) = limits.get("cpus") {
        let nano = cli::units::nano(cpus).map_err(|why| Failure::new(Exit::Content, "create.json", why))?;
        period = Some(PERIOD.into());
        // Billionths of a processor times microseconds.
        quota = Some((nano / (1_000_000_000 / PERIOD)).into());
    }
    Ok(vec![
        ("shares", whole(limits, "cpu-shares")?),
        ("period", period),
        ("quota", quota),
        ("realtimePeriod", whole(limits, "cpu-rt-period")?),
        ("realtimeRuntime", whole(limits, "cpu-rt-runtime")?),
        ("cpus", text("cpuset-cpus")),
        ("mems", text("cpuset-mems")),
    ])
}

fn pids(limits: &Limits) -> Result<Members, Failure> {
    Ok(vec![("limit", whole(limits, "pids-limit")?)])
}

fn io(limits: &Limits) -> Result<Members, Failure> {
    Ok(vec![
        ("weight", whole(limits, "blkio-weight")?),
        ("weightDevice", devices(limits, "blkio-weight-device", "weight")?),
        ("throttleReadBpsDevice", devices(limits, "device-read-bps", "rate")?),
        ("throttleWriteBpsDevice", devices(limits, "device-write-bps", "rate")?),
        ("throttleReadIOPSDevice", devices(limits, "device-read-iops", "rate")?),
        ("throttleWriteIOPSDevice", devices(limits, "device-write-iops", "rate")?),
    ])
}

/// Docker's default is as much swap as memory, where the kernel counts swap at all.
fn swap(limits: &Limits) -> Result<Option<Value>, Failure> {
    if let Some(swap) = number::<i64>(limits, "memory-swap")? {
        return Ok(Some(swap.into()));
    }
    let memory = number::<i64>(limits, "memory")?;
    Ok(memory.filter(|_| runtime::swap_is_counted()).map(|bytes| bytes.saturating_mul(2).into()))
}

/// The devices of a list, by their numbers.
fn devices(limits: &Limits, name: &str, value: &str) -> Result<Option<Value>, Failure> {
    let Some(list) = limits.get(name) else { return Ok(None) };
    let mut all = Vec::new();
    for word in list.split(',') {
        let what = || format!("--{name} {word}");
        let (path, number) = word.rsplit_once(':').unwrap_or((word, "0"));
        let stat = rustix::fs::stat(path).map_err(|e| match e {
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => Failure::new(Exit::NotFound, what(), e),
            e => Failure::new(Exit::Other, what(), e),
        })?;
        if !FileType::from_raw_mode(stat.st_mode).is_block_device() {
            return Err(Failure::usage(what(), "it is no block device"));
        }
        let number: u64 = number.parse().map_err(|e| Failure::new(Exit::Content, what(), e))?;
        all.push(json!({"major": major(stat.st_rdev), "minor": minor(stat.st_rdev), value: number}));
    }
    Ok(Some(all.into()))
}

fn rlimits(limits: &Limits) -> Result<Vec<PosixRlimit>, Failure> {
    let one = |(name, value): (&String, &String)| {
        let wrong = || Failure::new(Exit::Content, "create.json", format!("ulimits.{name}: {value:?}"));
        let (soft, hard) = value.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| match text {
            "-1" => Ok(u64::MAX),
            text => text.parse::<u64>().map_err(|_| wrong()),
        };
        let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
        serde_json::from_value(json!({"type": kind, "soft": number(soft)?, "hard": number(hard)?}))
            .map_err(|_| wrong())
    };
    limits.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(list: &[(&str, &str)]) -> Limits {
        list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn limits_become_the_specifications() {
        let made = resources(&limits(&[
            ("memory", "1024"),
            ("memory-swap", "-1"),
            ("cpus", "1.5"),
            ("cpu-shares", "7"),
            ("cpuset-cpus", "0-1"),
            ("pids-limit", "9"),
            ("blkio-weight", "10"),
            ("oom-kill-disable", "true"),
        ]));
        let made = serde_json::to_value(made.expect("resources")).expect("JSON");
        assert_eq!(made["memory"], json!({"limit": 1024, "swap": -1, "disableOOMKiller": true}));
        assert_eq!(made["cpu"], json!({"shares": 7, "period": 100_000, "quota": 150_000, "cpus": "0-1"}));
        assert_eq!((&made["pids"]["limit"], &made["blockIO"]["weight"]), (&json!(9), &json!(10)));
        assert_eq!(resources(&Limits::new()).expect("none"), LinuxResources::default());
    }

    #[test]
    fn limits_of_processes_have_the_kernels_names() {
        let made = rlimits(&limits(&[("nofile", "10:20"), ("core", "-1:-1")])).expect("limits");
        assert_eq!((made[1].soft(), made[1].hard()), (10, 20));
        assert_eq!((made[0].typ().to_string().as_str(), made[0].hard()), ("RLIMIT_CORE", u64::MAX));
    }

    #[test]
    fn only_block_devices_are_throttled() {
        let failed = |path: &str| {
            let name = format!("{path}:5");
            resources(&limits(&[("device-read-bps", &name)])).expect_err(path).exit()
        };
        assert_eq!((failed("/dev/null"), failed("/dev/no-such-device")), (2, 3));
    }
}
