//! `linux.resources` in the files of version 2 (the kernel's admin-guide/cgroup-v2.rst).

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use crate::convert::{io_weight, swap_only, weight};
use crate::directory::Directory;
use crate::error::About;
use crate::limits::inexpressible;
use crate::setting::{Missing, Setting};
use crate::shared::{self, some};
use crate::{Error, Result};

/// What a group has already, of what one file holds two of or what a conversion needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Now {
    /// The first word of `cpu.max`.
    pub(crate) quota: Option<String>,
    /// `memory.max`; -1 is no limit.
    pub(crate) limit: Option<i64>,
}

impl Now {
    /// Reads what an update of these resources leaves as it is and yet must know.
    pub(crate) fn read(directory: &Directory, resources: &LinuxResources) -> Result<Self> {
        let what = "reading what a cgroup has now";
        let mut now = Self::default();
        let cpu = resources.cpu().as_ref();
        if cpu.is_some_and(|cpu| some(cpu.period()).is_some() && some(cpu.quota()).is_none()) {
            let text = directory.read("cpu.max").about(what)?;
            now.quota = text.split_whitespace().next().map(String::from);
        }
        let memory = resources.memory().as_ref();
        if memory.is_some_and(|memory| some(memory.swap()).is_some() && some(memory.limit()).is_none()) {
            let text = directory.read("memory.max").about(what)?;
            now.limit = if text.trim() == "max" { Some(-1) } else { text.trim().parse().ok() };
        }
        Ok(now)
    }
}

/// What is written for these resources, in order.
pub(crate) fn settings(resources: &LinuxResources, now: &Now) -> Result<Vec<Setting>> {
    let mut list = Vec::new();
    if let Some(pids) = resources.pids() {
        list.push(shared::pids(pids));
    }
    if let Some(memory) = resources.memory() {
        memory_settings(memory, now, &mut list)?;
    }
    if let Some(io) = resources.block_io() {
        io_settings(io, &mut list)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, now, &mut list)?;
        shared::cpuset(cpu, &mut list);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        shared::hugepages(limit, ".max", &mut list)?;
    }
    if let Some(network) = resources.network() {
        if some(network.class_id()).is_some() {
            return Err(inexpressible("network.classID", "v2"));
        }
        if network.priorities().as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(inexpressible("network.priorities", "v2"));
        }
    }
    shared::rdma(resources, &mut list)?;
    unified(resources, &mut list)?;
    Ok(list)
}

fn cpu_settings(cpu: &LinuxCpu, now: &Now, list: &mut Vec<Setting>) -> Result<()> {
    if some(cpu.realtime_period()).is_some() {
        return Err(inexpressible("cpu.realtimePeriod", "v2"));
    }
    if some(cpu.realtime_runtime()).is_some() {
        return Err(inexpressible("cpu.realtimeRuntime", "v2"));
    }
    if let Some(idle) = cpu.idle() {
        list.push(Setting::new("cpu.idle", "cpu.idle", idle));
    }
    if let Some(shares) = some(cpu.shares()) {
        list.push(Setting::new("cpu.shares", "cpu.weight", weight(shares)));
    }
    let knot = "bandwidth";
    if let Some(burst) = cpu.burst() {
        list.push(Setting::new("cpu.burst", "cpu.max.burst", burst).knot(knot));
    }
    let quota = some(cpu.quota()).map(|quota| if quota < 0 { "max".into() } else { quota.to_string() });
    match (quota, some(cpu.period())) {
        // the kernel keeps the period that there is
        (Some(quota), None) => list.push(Setting::new("cpu.quota", "cpu.max", quota).knot(knot)),
        (Some(quota), Some(period)) => {
            list.push(Setting::new("cpu.quota", "cpu.max", format!("{quota} {period}")).knot(knot));
        }
        (None, Some(period)) => {
            let quota = now.quota.as_deref().unwrap_or("max");
            list.push(Setting::new("cpu.period", "cpu.max", format!("{quota} {period}")).knot(knot));
        }
        (None, None) => {}
    }
    Ok(())
}

fn memory_settings(memory: &LinuxMemory, now: &Now, list: &mut Vec<Setting>) -> Result<()> {
    if some(memory.kernel_tcp()).is_some_and(|limit| limit > 0) {
        return Err(inexpressible("memory.kernelTCP", "v2"));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(inexpressible("memory.disableOOMKiller", "v2"));
    }
    if memory.use_hierarchy() == Some(false) {
        return Err(inexpressible("memory.useHierarchy", "v2"));
    }
    if shared::swappiness(memory)?.is_some() {
        return Err(inexpressible("memory.swappiness", "v2"));
    }
    let bytes = |value: i64| match value {
        -1 => "max".to_string(),
        value => value.to_string(),
    };
    let (limit, swap) = (some(memory.limit()), some(memory.swap()));
    if let Some(swap) = swap_only(swap, limit.or(now.limit))? {
        let missing = match swap {
            -1 => Missing::Fine,
            0 => Missing::FineWithoutSwap,
            _ => Missing::Fatal,
        };
        list.push(Setting::new("memory.swap", "memory.swap.max", bytes(swap)).missing(missing));
    }
    if let Some(limit) = limit {
        list.push(Setting::new("memory.limit", "memory.max", bytes(limit)));
    }
    if let Some(reservation) = some(memory.reservation()) {
        list.push(Setting::new("memory.reservation", "memory.low", bytes(reservation)));
    }
    Ok(())
}

fn io_settings(io: &LinuxBlockIo, list: &mut Vec<Setting>) -> Result<()> {
    if let Some(weight) = some(io.weight()) {
        let setting = Setting::new("blockIO.weight", "io.bfq.weight", weight);
        list.push(setting.or("io.weight", io_weight(weight)));
    }
    if some(io.leaf_weight()).is_some() {
        return Err(inexpressible("blockIO.leafWeight", "v2"));
    }
    for device in io.weight_device().iter().flatten() {
        if some(device.leaf_weight()).is_some() {
            return Err(inexpressible("blockIO.weightDevice.leafWeight", "v2"));
        }
        if let Some(weight) = some(device.weight()) {
            let name = format!("{}:{}", device.major(), device.minor());
            let resource = "blockIO.weightDevice";
            let setting = Setting::new(resource, "io.bfq.weight", format!("{name} {weight}"));
            list.push(setting.or("io.weight", format!("{name} {}", io_weight(weight))));
        }
    }
    let mut throttles = |devices: &Option<Vec<LinuxThrottleDevice>>, resource, key| {
        for one in devices.iter().flatten() {
            // 0 takes the limit away on version 1; version 2 refuses it and says "max"
            let rate = some(Some(one.rate())).map_or("max".into(), |rate| rate.to_string());
            let value = format!("{}:{} {key}={rate}", one.major(), one.minor());
            list.push(Setting::new(resource, "io.max", value));
        }
    };
    throttles(io.throttle_read_bps_device(), "blockIO.throttleReadBpsDevice", "rbps");
    throttles(io.throttle_write_bps_device(), "blockIO.throttleWriteBpsDevice", "wbps");
    throttles(io.throttle_read_iops_device(), "blockIO.throttleReadIOPSDevice", "riops");
    throttles(io.throttle_write_iops_device(), "blockIO.throttleWriteIOPSDevice", "wiops");
    Ok(())
}

/// Files by name, after all others, in the order of their names; values of several lines are written line by line.
fn unified(resources: &LinuxResources, list: &mut Vec<Setting>) -> Result<()> {
    let files: BTreeMap<&String, &String> = resources.unified().iter().flatten().collect();
    for (file, value) in files {
        let resource = format!("unified ({file:?})");
        let well_formed = file.split_once('.').is_some_and(|(controller, _)| !controller.is_empty());
        if file.contains('/') || !well_formed {
            let why = "not of the form CONTROLLER.PARAMETER, without a slash".into();
            return Err(Error::Value { resource, why });
        }
        list.push(Setting::new(resource, file.clone(), value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::tests::shown;

    fn written(json: &str) -> Vec<String> {
        shown(&settings(&serde_json::from_str(json).expect("resources"), &Now::default()).expect("settings"))
    }

    #[test]
    fn every_resource_has_its_file() {
        let json = r#"{
            "cpu":{"shares":1024,"quota":1000,"burst":10,"period":2000,"cpus":"0-1","mems":"0","idle":0},
            "memory":{"limit":100,"reservation":50,"swap":300,"kernel":1,"disableOOMKiller":false,"useHierarchy":true},
            "pids":{"limit":7},
            "blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":1000}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":2}],
                "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":3}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]},
            "hugepageLimits":[{"pageSize":"2MB","limit":9}],
            "rdma":{"a":{"hcaHandles":3}},
            "unified":{"memory.high":"5","io.max":"8:0 rbps=1\n8:16 rbps=2"}
        }"#;
        let expected = [
            "pids.max=7",
            "memory.swap.max=200",
            "memory.max=100",
            "memory.low=50",
            "io.bfq.weight=10|io.weight=1",
            "io.bfq.weight=8:0 1000|io.weight=8:0 10000",
            "io.max=8:0 rbps=1",
            "io.max=8:0 wbps=2",
            "io.max=8:0 riops=3",
            "io.max=8:0 wiops=max",
            "cpu.idle=0",
            "cpu.weight=100",
            "cpu.max.burst=10",
            "cpu.max=1000 2000",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "hugetlb.2MB.max=9",
            "hugetlb.2MB.rsvd.max=9",
            "rdma.max=a hca_handle=3",
            "io.max=8:0 rbps=1\n8:16 rbps=2",
            "memory.high=5",
        ];
        assert_eq!(written(json), expected);
    }

    #[test]
    fn what_is_not_set_costs_nothing_and_minus_one_is_no_limit() {
        assert_eq!(
            written(r#"{"cpu":{"shares":0},"memory":{"limit":0,"swap":0},"network":{}}"#),
            Vec::<String>::new()
        );
        assert_eq!(written(r#"{"memory":{"limit":-1}}"#), ["memory.swap.max=max", "memory.max=max"]);
        assert_eq!(written(r#"{"cpu":{"quota":-1}}"#), ["cpu.max=max"]);
        assert_eq!(written(r#"{"cpu":{"period":5000}}"#), ["cpu.max=max 5000"]);
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let now = Now { quota: Some("700".into()), limit: Some(100) };
        let of = |json: &str| {
            shown(&settings(&serde_json::from_str(json).expect("resources"), &now).expect("settings"))
        };
        assert_eq!(of(r#"{"cpu":{"period":5000}}"#), ["cpu.max=700 5000"]);
        assert_eq!(of(r#"{"cpu":{"quota":800}}"#), ["cpu.max=800"]);
        assert_eq!(of(r#"{"memory":{"swap":150}}"#), ["memory.swap.max=50"]);
    }

    #[test]
    fn what_version_2_cannot_say_is_refused() {
        for (json, resource) in [
            (r#"{"cpu":{"realtimeRuntime":1}}"#, "cpu.realtimeRuntime"),
            (r#"{"cpu":{"realtimePeriod":1}}"#, "cpu.realtimePeriod"),
            (r#"{"memory":{"swappiness":1}}"#, "memory.swappiness"),
            (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.disableOOMKiller"),
            (r#"{"memory":{"kernelTCP":1}}"#, "memory.kernelTCP"),
            (r#"{"memory":{"useHierarchy":false}}"#, "memory.useHierarchy"),
            (r#"{"memory":{"swap":1}}"#, "memory.swap"),
            (r#"{"blockIO":{"leafWeight":11}}"#, "blockIO.leafWeight"),
            (r#"{"network":{"classID":1}}"#, "network.classID"),
            (r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#, "network.priorities"),
            (r#"{"unified":{"../memory.max":"1"}}"#, "unified"),
            (r#"{"unified":{"memory":"1"}}"#, "unified"),
        ] {
            let error =
                settings(&serde_json::from_str(json).expect("resources"), &Now::default()).expect_err(json);
            assert!(error.to_string().contains(resource), "{json}: {error}");
        }
    }
}
