//! The counters of version 1.

use crate::Result;
use crate::directory::Directory;
use crate::flat::{device, keyed, number, numbers, parse, ranges, text};
use crate::group::Group;
use crate::hugepages;
use crate::stats::{BlockIo, BlockIoEntry, CpuSet, Hugetlb, MemoryEntry, Stats};

/// `USER_HZ`, which `cpuacct.stat` counts in: 100 on every architecture that Linux has today (times(2)).
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

pub(crate) fn read(group: &Group) -> Result<Stats> {
    let mut stats = Stats::default();
    let on = |controller: &str| group.place(controller).map(|place| place.open()).transpose();
    if let Some(directory) = on("cpu")? {
        let stat = keyed(directory, "cpu.stat")?;
        let value = |key: &str| stat.get(key).copied().unwrap_or(0);
        stats.cpu.throttling.periods = value("nr_periods");
        stats.cpu.throttling.throttled_periods = value("nr_throttled");
        stats.cpu.throttling.throttled_time = value("throttled_time");
    }
    if let Some(directory) = on("cpuacct")? {
        usage(directory, &mut stats)?;
    }
    if let Some(directory) = on("cpuset")? {
        stats.cpuset = cpuset(directory)?;
    }
    if let Some(directory) = on("memory")? {
        memory(directory, &mut stats)?;
    }
    if let Some(directory) = on("pids")? {
        stats.pids.current = number(directory, "pids.current")?.unwrap_or(0);
        let limit = number(directory, "pids.max")?;
        stats.pids.limit = limit.filter(|limit| *limit != u64::MAX).unwrap_or(0);
    }
    if let Some(directory) = on("blkio")? {
        stats.blkio = blkio(directory)?;
    }
    if let Some(directory) = on("hugetlb")? {
        for size in hugepages::sizes() {
            let reserved = format!("hugetlb.{size}.rsvd");
            let of = |prefix: &str, name: &str| number(directory, &format!("{prefix}.{name}"));
            let (prefix, usage) = match of(&reserved, "usage_in_bytes")? {
                Some(usage) => (reserved, usage),
                None => (
                    format!("hugetlb.{size}"),
                    of(&format!("hugetlb.{size}"), "usage_in_bytes")?.unwrap_or(0),
                ),
            };
            let max = of(&prefix, "max_usage_in_bytes")?.unwrap_or(0);
            let failcnt = of(&prefix, "failcnt")?.unwrap_or(0);
            stats.hugetlb.insert(size, Hugetlb { usage, max, failcnt });
        }
    }
    if let Some(directory) = on("rdma")? {
        stats.rdma = hugepages::rdma(directory)?;
    }
    Ok(stats)
}

fn usage(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let ticks = keyed(directory, "cpuacct.stat")?;
    let time = |key: &str| ticks.get(key).copied().unwrap_or(0).saturating_mul(NANOSECONDS_PER_TICK);
    let usage = &mut stats.cpu.usage;
    usage.user = time("user");
    usage.kernel = time("system");
    usage.total = number(directory, "cpuacct.usage")?.unwrap_or(0);
    usage.percpu = numbers(directory, "cpuacct.usage_percpu")?;
    // a heading, then a line of processor, user and system for each
    for line in text(directory, "cpuacct.usage_all")?.unwrap_or_default().lines().skip(1) {
        let mut fields = line.split(' ').skip(1).map_while(parse);
        usage.percpu_user.extend(fields.next());
        usage.percpu_kernel.extend(fields.next());
    }
    Ok(())
}

fn cpuset(directory: &Directory) -> Result<CpuSet> {
    let value = |file: &str| number(directory, file).map(|value| value.unwrap_or(0));
    let level = text(directory, "cpuset.sched_relax_domain_level")?.unwrap_or_default();
    Ok(CpuSet {
        cpus: ranges(directory, "cpuset.cpus")?,
        cpu_exclusive: value("cpuset.cpu_exclusive")?,
        mems: ranges(directory, "cpuset.mems")?,
        mem_hardwall: value("cpuset.mem_hardwall")?,
        mem_exclusive: value("cpuset.mem_exclusive")?,
        memory_migrate: value("cpuset.memory_migrate")?,
        memory_spread_page: value("cpuset.memory_spread_page")?,
        memory_spread_slab: value("cpuset.memory_spread_slab")?,
        memory_pressure: value("cpuset.memory_pressure")?,
        sched_load_balance: value("cpuset.sched_load_balance")?,
        sched_relax_domain_level: level.trim().parse().unwrap_or(0),
    })
}

fn memory(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let entry = |name: &str| -> Result<MemoryEntry> {
        let value =
            |file: &str| number(directory, &format!("memory.{name}{file}")).map(Option::unwrap_or_default);
        Ok(MemoryEntry {
            limit: value("limit_in_bytes")?,
            usage: value("usage_in_bytes")?,
            max: value("max_usage_in_bytes")?,
            failcnt: value("failcnt")?,
        })
    };
    stats.memory.raw = keyed(directory, "memory.stat")?;
    stats.memory.cache = stats.memory.raw.get("cache").copied().unwrap_or(0);
    stats.memory.usage = entry("")?;
    stats.memory.swap = entry("memsw.")?;
    stats.memory.kernel = entry("kmem.")?;
    stats.memory.kernel_tcp = entry("kmem.tcp.")?;
    Ok(())
}

/// Each scheduler has counters of its own; the throttling layer counts where none does. The first that has any is right.
fn blkio(directory: &Directory) -> Result<BlockIo> {
    let entries = |file: &str| -> Result<Vec<BlockIoEntry>> {
        Ok(text(directory, file)?.unwrap_or_default().lines().filter_map(entry).collect())
    };
    for prefix in ["blkio.bfq.", "blkio."] {
        let of = |name: &str| entries(&format!("{prefix}{name}_recursive"));
        let io = BlockIo {
            io_service_bytes_recursive: of("io_service_bytes")?,
            io_serviced_recursive: of("io_serviced")?,
            io_queued_recursive: of("io_queued")?,
            io_service_time_recursive: of("io_service_time")?,
            io_wait_time_recursive: of("io_wait_time")?,
            io_merged_recursive: of("io_merged")?,
            io_time_recursive: of("time")?,
            sectors_recursive: of("sectors")?,
            psi: None,
        };
        if !io.io_serviced_recursive.is_empty() {
            return Ok(io);
        }
    }
    for suffix in ["_recursive", ""] {
        let io_serviced_recursive = entries(&format!("blkio.throttle.io_serviced{suffix}"))?;
        let io_service_bytes_recursive = entries(&format!("blkio.throttle.io_service_bytes{suffix}"))?;
        if !io_serviced_recursive.is_empty() {
            return Ok(BlockIo { io_serviced_recursive, io_service_bytes_recursive, ..BlockIo::default() });
        }
    }
    Ok(BlockIo::default())
}

/// `8:0 Read 1024`, or `8:0 1024`; the total over all devices is none.
fn entry(line: &str) -> Option<BlockIoEntry> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (name, op, value) = match fields[..] {
        [name, op, value] => (name, op, value),
        [name, value] => (name, "", value),
        _ => return None,
    };
    let (major, minor) = device(name)?;
    Some(BlockIoEntry { major, minor, op: op.into(), value: parse(value)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_counter_is_read_and_the_total_is_not() {
        let read = BlockIoEntry { major: 8, minor: 16, op: "Read".into(), value: 4096 };
        assert_eq!(entry("8:16 Read 4096"), Some(read));
        assert_eq!(entry("8:0 7").map(|one| (one.op, one.value)), Some((String::new(), 7)));
        assert_eq!(entry("Total 4096"), None);
        assert_eq!(entry(""), None);
    }
}
