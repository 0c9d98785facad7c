//! `linux.resources` in the files of version 1 (the kernel's admin-guide/cgroup-v1).

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice,
};

use crate::limits::inexpressible;
use crate::setting::{Missing, Setting};
use crate::shared::{self, some};
use crate::{Error, Result};

/// The bounds that the kernel otherwise moves a value to without a word (`MIN_SHARES` and `MAX_SHARES` of its scheduler).
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// What is written for these resources, in order; `new` is true for a group whose values are the kernel's defaults.
pub(crate) fn settings(resources: &LinuxResources, new: bool) -> Result<Vec<Setting>> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(inexpressible("unified", "v1"));
    }
    let mut list = Vec::new();
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, &mut list)?;
        shared::cpuset(cpu, &mut list);
    }
    if let Some(memory) = resources.memory() {
        memory_settings(memory, new, &mut list)?;
    }
    if let Some(pids) = resources.pids() {
        list.push(shared::pids(pids));
    }
    if let Some(io) = resources.block_io() {
        io_settings(io, &mut list);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        shared::hugepages(limit, ".limit_in_bytes", &mut list)?;
    }
    if let Some(network) = resources.network() {
        network_settings(network, &mut list);
    }
    shared::rdma(resources, &mut list)?;
    Ok(list)
}

fn cpu_settings(cpu: &LinuxCpu, list: &mut Vec<Setting>) -> Result<()> {
    if let Some(shares) = some(cpu.shares()) {
        if !SHARES.contains(&shares) {
            let (least, most) = (SHARES.start(), SHARES.end());
            let why = format!("{shares} is not in {least} to {most}");
            return Err(Error::Value { resource: "cpu.shares".into(), why });
        }
        list.push(Setting::new("cpu.shares", "cpu.shares", shares));
    }
    let knot = "bandwidth";
    if let Some(period) = some(cpu.period()) {
        list.push(Setting::new("cpu.period", "cpu.cfs_period_us", period).knot(knot));
    }
    if let Some(burst) = cpu.burst() {
        list.push(Setting::new("cpu.burst", "cpu.cfs_burst_us", burst).knot(knot));
    }
    if let Some(quota) = some(cpu.quota()) {
        list.push(Setting::new("cpu.quota", "cpu.cfs_quota_us", quota).knot(knot));
    }
    if let Some(idle) = cpu.idle() {
        list.push(Setting::new("cpu.idle", "cpu.idle", idle));
    }
    let knot = "realtime";
    if let Some(period) = some(cpu.realtime_period()) {
        list.push(Setting::new("cpu.realtimePeriod", "cpu.rt_period_us", period).knot(knot));
    }
    if let Some(runtime) = some(cpu.realtime_runtime()) {
        list.push(Setting::new("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime).knot(knot));
    }
    Ok(())
}

fn memory_settings(memory: &LinuxMemory, new: bool, list: &mut Vec<Setting>) -> Result<()> {
    if let Some(hierarchy) = memory.use_hierarchy() {
        let value = u8::from(hierarchy);
        list.push(Setting::new("memory.useHierarchy", "memory.use_hierarchy", value));
    }
    // A limit above memory and swap together is refused, and so is the reverse: which goes first depends on what is there.
    let knot = "memory";
    let (limit, swap) = (some(memory.limit()), some(memory.swap()));
    if let Some(limit) = limit {
        list.push(Setting::new("memory.limit", "memory.limit_in_bytes", limit).knot(knot));
    }
    // Unlimited memory with a limit of memory and swap would be no such thing.
    let swap = swap.or(limit.filter(|limit| *limit == -1 && !new));
    if let Some(swap) = swap {
        let missing = if swap == -1 { Missing::Fine } else { Missing::Fatal };
        let setting = Setting::new("memory.swap", "memory.memsw.limit_in_bytes", swap);
        list.push(setting.missing(missing).knot(knot));
    }
    if let Some(reservation) = some(memory.reservation()) {
        list.push(Setting::new("memory.reservation", "memory.soft_limit_in_bytes", reservation));
    }
    // memory.kernel is ignored: no kernel since 5.16 has the limit, and the specification calls it "not recommended".
    if let Some(limit) = some(memory.kernel_tcp()) {
        list.push(Setting::new("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", limit));
    }
    match memory.disable_oom_killer() {
        Some(true) => list.push(Setting::new("memory.disableOOMKiller", "memory.oom_control", 1)),
        Some(false) if !new => list.push(Setting::new("memory.disableOOMKiller", "memory.oom_control", 0)),
        _ => {}
    }
    if let Some(swappiness) = shared::swappiness(memory)? {
        list.push(Setting::new("memory.swappiness", "memory.swappiness", swappiness));
    }
    Ok(())
}

fn io_settings(io: &LinuxBlockIo, list: &mut Vec<Setting>) {
    if let Some(weight) = some(io.weight()) {
        let setting = Setting::new("blockIO.weight", "blkio.weight", weight);
        list.push(setting.or("blkio.bfq.weight", weight));
    }
    if let Some(weight) = some(io.leaf_weight()) {
        list.push(Setting::new("blockIO.leafWeight", "blkio.leaf_weight", weight));
    }
    for device in io.weight_device().iter().flatten() {
        let name = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = some(device.weight()) {
            let value = format!("{name} {weight}");
            let setting = Setting::new("blockIO.weightDevice", "blkio.weight_device", &value);
            list.push(setting.or("blkio.bfq.weight_device", value));
        }
        if let Some(weight) = some(device.leaf_weight()) {
            let value = format!("{name} {weight}");
            list.push(Setting::new("blockIO.weightDevice", "blkio.leaf_weight_device", value));
        }
    }
    let mut throttles = |devices: &Option<Vec<LinuxThrottleDevice>>, resource, file: &'static str| {
        for one in devices.iter().flatten() {
            let value = format!("{}:{} {}", one.major(), one.minor(), one.rate());
            list.push(Setting::new(resource, file, value));
        }
    };
    throttles(
        io.throttle_read_bps_device(),
        "blockIO.throttleReadBpsDevice",
        "blkio.throttle.read_bps_device",
    );
    throttles(
        io.throttle_write_bps_device(),
        "blockIO.throttleWriteBpsDevice",
        "blkio.throttle.write_bps_device",
    );
    throttles(
        io.throttle_read_iops_device(),
        "blockIO.throttleReadIOPSDevice",
        "blkio.throttle.read_iops_device",
    );
    throttles(
        io.throttle_write_iops_device(),
        "blockIO.throttleWriteIOPSDevice",
        "blkio.throttle.write_iops_device",
    );
}

fn network_settings(network: &LinuxNetwork, list: &mut Vec<Setting>) {
    if let Some(class) = some(network.class_id()) {
        list.push(Setting::new("network.classID", "net_cls.classid", class));
    }
    for one in network.priorities().iter().flatten() {
        let value = format!("{} {}", one.name(), one.priority());
        list.push(Setting::new("network.priorities", "net_prio.ifpriomap", value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::tests::shown;

    fn written(json: &str, new: bool) -> Vec<String> {
        shown(&settings(&serde_json::from_str(json).expect("resources"), new).expect("settings"))
    }

    #[test]
    fn every_resource_has_its_file() {
        let json = r#"{
            "cpu":{"shares":512,"quota":1000,"burst":10,"period":2000,"realtimeRuntime":5,"realtimePeriod":6,"cpus":"0-1","mems":"0","idle":1},
            "memory":{"limit":100,"reservation":50,"swap":200,"kernel":1,"kernelTCP":2,"swappiness":30,"disableOOMKiller":true,"useHierarchy":true},
            "pids":{"limit":7},
            "blockIO":{"weight":10,"leafWeight":11,"weightDevice":[{"major":8,"minor":0,"weight":12,"leafWeight":13}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":2}],
                "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":3}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":4}]},
            "hugepageLimits":[{"pageSize":"2MB","limit":9}],
            "network":{"classID":1048577,"priorities":[{"name":"eth0","priority":3}]},
            "rdma":{"b":{"hcaObjects":2},"a":{"hcaHandles":3,"hcaObjects":4}}
        }"#;
        let expected = [
            "cpu.shares=512",
            "cpu.cfs_period_us=2000",
            "cpu.cfs_burst_us=10",
            "cpu.cfs_quota_us=1000",
            "cpu.idle=1",
            "cpu.rt_period_us=6",
            "cpu.rt_runtime_us=5",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "memory.use_hierarchy=1",
            "memory.limit_in_bytes=100",
            "memory.memsw.limit_in_bytes=200",
            "memory.soft_limit_in_bytes=50",
            "memory.kmem.tcp.limit_in_bytes=2",
            "memory.oom_control=1",
            "memory.swappiness=30",
            "pids.max=7",
            "blkio.weight=10|blkio.bfq.weight=10",
            "blkio.leaf_weight=11",
            "blkio.weight_device=8:0 12|blkio.bfq.weight_device=8:0 12",
            "blkio.leaf_weight_device=8:0 13",
            "blkio.throttle.read_bps_device=8:0 1",
            "blkio.throttle.write_bps_device=8:0 2",
            "blkio.throttle.read_iops_device=8:0 3",
            "blkio.throttle.write_iops_device=8:0 4",
            "hugetlb.2MB.limit_in_bytes=9",
            "hugetlb.2MB.rsvd.limit_in_bytes=9",
            "net_cls.classid=1048577",
            "net_prio.ifpriomap=eth0 3",
            "rdma.max=a hca_handle=3 hca_object=4",
            "rdma.max=b hca_object=2",
        ];
        assert_eq!(written(json, true), expected);
    }

    #[test]
    fn what_is_not_set_costs_nothing() {
        for json in [
            "{}",
            r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""},"memory":{"limit":0,"swap":0,"disableOOMKiller":false},
                "blockIO":{"weight":0},"network":{},"hugepageLimits":[],"rdma":{},"unified":{}}"#,
            r#"{"memory":{"swappiness":18446744073709551615}}"#,
        ] {
            assert_eq!(written(json, true), Vec::<String>::new(), "{json}");
        }
    }

    #[test]
    fn unlimited_memory_takes_swap_with_it() {
        assert_eq!(written(r#"{"memory":{"limit":-1}}"#, true), ["memory.limit_in_bytes=-1"]);
        assert_eq!(
            written(r#"{"memory":{"limit":-1}}"#, false),
            ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]
        );
        assert_eq!(written(r#"{"pids":{"limit":-1}}"#, true), ["pids.max=max"]);
        assert_eq!(written(r#"{"pids":{"limit":0}}"#, true), ["pids.max=1"]);
    }

    #[test]
    fn what_the_kernel_would_move_or_cannot_have_is_refused() {
        for (json, resource) in [
            (r#"{"cpu":{"shares":1}}"#, "cpu.shares"),
            (r#"{"cpu":{"shares":262145}}"#, "cpu.shares"),
            (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness"),
            (r#"{"unified":{"memory.max":"1"}}"#, "unified"),
            (r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#, "hugepageLimits"),
            (r#"{"rdma":{"a b":{}}}"#, "rdma"),
        ] {
            let error = settings(&serde_json::from_str(json).expect("resources"), true).expect_err(json);
            assert!(error.to_string().contains(resource), "{json}: {error}");
        }
    }
}
