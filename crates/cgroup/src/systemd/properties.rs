//! Limits as properties of a unit (systemd.resource-control(5)), so that systemd, which owns the directory, writes them again when
//! it is reloaded. What it has no property for is written into the files alone.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use crate::convert::{swap_only, weight};
use crate::group::Version;
use crate::shared::some;
use crate::systemd::message::{Property, Value};
use crate::{Error, Result};

/// `CPUQuotaPeriodUSec=` where none is given: the kernel's.
const PERIOD_US: u64 = 100_000;
const SECOND_US: u64 = 1_000_000;
/// systemd rounds a quota up to whole percents of a processor.
const PERCENT_US: u64 = 10_000;
/// No limit.
const INFINITY: u64 = u64::MAX;

/// The properties that these resources are.
///
/// # Errors
/// [`Error::Value`] for a set of processors that is none.
pub(crate) fn properties(resources: &LinuxResources, version: Version) -> Result<Vec<Property>> {
    let mut list = Vec::new();
    if let Some(memory) = resources.memory() {
        of_memory(memory, version, &mut list)?;
    }
    if let Some(cpu) = resources.cpu() {
        of_cpu(cpu, version, &mut list)?;
    }
    if let Some(pids) = resources.pids() {
        let most = u64::try_from(pids.limit()).ok().filter(|&limit| limit > 0).unwrap_or(INFINITY);
        list.push(("TasksMax", Value::Number(most)));
    }
    Ok(list)
}

fn of_memory(memory: &LinuxMemory, version: Version, list: &mut Vec<Property>) -> Result<()> {
    let bytes = |limit: i64| Value::Number(u64::try_from(limit).unwrap_or(INFINITY));
    let (limit, swap) = (some(memory.limit()), some(memory.swap()));
    if let Some(limit) = limit {
        list.push((if version == Version::Unified { "MemoryMax" } else { "MemoryLimit" }, bytes(limit)));
    }
    if version == Version::Unified {
        if let Some(low) = some(memory.reservation()) {
            list.push(("MemoryLow", bytes(low)));
        }
        if let Some(swap) = swap_only(swap, limit)? {
            list.push(("MemorySwapMax", bytes(swap)));
        }
    }
    Ok(())
}

fn of_cpu(cpu: &LinuxCpu, version: Version, list: &mut Vec<Property>) -> Result<()> {
    if let Some(shares) = some(cpu.shares()) {
        list.push(match version {
            Version::Unified => ("CPUWeight", Value::Number(weight(shares))),
            Version::Legacy => ("CPUShares", Value::Number(shares)),
        });
    }
    let (quota, period) = (some(cpu.quota()), some(cpu.period()));
    if quota.is_some() || period.is_some() {
        let period = period.unwrap_or(PERIOD_US);
        list.push(("CPUQuotaPeriodUSec", Value::Number(period)));
        list.push(("CPUQuotaPerSecUSec", Value::Number(per_second(quota.unwrap_or(-1), period))));
    }
    if version == Version::Unified {
        for (name, given) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
            if let Some(text) = given.as_deref().filter(|text| !text.is_empty()) {
                list.push((name, Value::Bytes(mask(text, name)?)));
            }
        }
    }
    Ok(())
}

/// Microseconds of processor time in a second, in systemd's steps.
fn per_second(quota: i64, period: u64) -> u64 {
    match u64::try_from(quota) {
        Ok(quota @ 1..) if period > 0 => {
            (quota.saturating_mul(SECOND_US) / period).next_multiple_of(PERCENT_US)
        }
        _ => INFINITY,
    }
}

/// `0-2,5` as a mask of bits, the lowest first.
fn mask(list: &str, name: &str) -> Result<Vec<u8>> {
    /// More processors than any kernel is built for.
    const MOST: usize = 8192;
    let refused = || Error::Value { resource: format!("cpu ({name})"), why: format!("{list:?} is no list") };
    let mut bytes = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n < MOST).ok_or_else(refused);
        for one in number(first)?..=number(last)? {
            let at = one / 8;
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] |= 1 << (one % 8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_masks() {
        for (list, want) in
            [("0", Some(vec![1])), ("0-2,9", Some(vec![7, 2])), ("x", None), ("", None), ("9999", None)]
        {
            assert_eq!(mask(list, "AllowedCPUs").ok(), want, "{list:?}");
        }
    }

    #[test]
    fn a_quota_is_a_share_of_each_second_in_whole_percents() {
        assert_eq!(per_second(50_000, 100_000), 500_000);
        assert_eq!(per_second(-1, 100_000), INFINITY);
        assert_eq!(per_second(1_234, 100_000), 20_000);
    }

    #[test]
    fn limits_are_properties_of_their_version() {
        let resources: LinuxResources = serde_json::from_value(serde_json::json!({
            "memory": {"limit": 1000, "swap": 1500, "reservation": 10},
            "cpu": {"shares": 1024, "quota": 50000, "cpus": "0"},
            "pids": {"limit": 7},
        }))
        .expect("resources");
        let names = |version| {
            properties(&resources, version)
                .expect("properties")
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(Version::Unified),
            [
                "MemoryMax",
                "MemoryLow",
                "MemorySwapMax",
                "CPUWeight",
                "CPUQuotaPeriodUSec",
                "CPUQuotaPerSecUSec",
                "AllowedCPUs",
                "TasksMax"
            ]
        );
        assert_eq!(
            names(Version::Legacy),
            ["MemoryLimit", "CPUShares", "CPUQuotaPeriodUSec", "CPUQuotaPerSecUSec", "TasksMax"]
        );
    }
}
