//! The counters of version 2, under the names of version 1 that the format has.

use crate::Result;
use crate::directory::Directory;
use crate::error::About;
use crate::flat::{device, keyed, number, parse, pressure, text};
use crate::group::Group;
use crate::hugepages;
use crate::stats::{BlockIo, BlockIoEntry, Cpu, Hugetlb, Memory, MemoryEntry, Pids, Stats};

const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

pub(crate) fn read(group: &Group) -> Result<Stats> {
    let directory = group.main()?.open()?;
    let mut stats = Stats {
        cpu: cpu(directory)?,
        memory: memory(directory)?,
        pids: pids(directory)?,
        blkio: blkio(directory)?,
        rdma: hugepages::rdma(directory)?,
        ..Stats::default()
    };
    for size in hugepages::sizes() {
        let usage = |middle: &str| number(directory, &format!("hugetlb.{size}{middle}.current"));
        let usage = match usage(".rsvd")? {
            None => usage("")?,
            reserved => reserved,
        };
        let Some(usage) = usage else { continue };
        let events = keyed(directory, &format!("hugetlb.{size}.events"))?;
        let failcnt = events.get("max").copied().unwrap_or(0);
        stats.hugetlb.insert(size, Hugetlb { usage, max: 0, failcnt });
    }
    Ok(stats)
}

fn cpu(directory: &Directory) -> Result<Cpu> {
    let stat = keyed(directory, "cpu.stat")?;
    let count = |key: &str| stat.get(key).copied().unwrap_or(0);
    let time = |key: &str| count(key).saturating_mul(NANOSECONDS_PER_MICROSECOND);
    let mut cpu = Cpu { psi: pressure(directory, "cpu.pressure")?, ..Cpu::default() };
    cpu.usage.total = time("usage_usec");
    cpu.usage.user = time("user_usec");
    cpu.usage.kernel = time("system_usec");
    cpu.throttling.periods = count("nr_periods");
    cpu.throttling.throttled_periods = count("nr_throttled");
    cpu.throttling.throttled_time = time("throttled_usec");
    Ok(cpu)
}

fn memory(directory: &Directory) -> Result<Memory> {
    let raw = keyed(directory, "memory.stat")?;
    let entry = |name: &str| -> Result<MemoryEntry> {
        let value = |file: &str| number(directory, &format!("{name}.{file}")).map(Option::unwrap_or_default);
        Ok(MemoryEntry { limit: value("max")?, usage: value("current")?, max: value("peak")?, failcnt: 0 })
    };
    let mut usage = entry("memory")?;
    usage.failcnt = keyed(directory, "memory.events")?.get("max").copied().unwrap_or(0);
    let mut swap = entry("memory.swap")?;
    // The format means memory and swap together. Their peaks need not have been at the same time.
    swap.usage = swap.usage.saturating_add(usage.usage);
    swap.limit = swap.limit.saturating_add(usage.limit);
    swap.max = 0;
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        psi: pressure(directory, "memory.pressure")?,
        ..Memory::default()
    })
}

/// Where the controller is not given to the group, its processes are counted.
fn pids(directory: &Directory) -> Result<Pids> {
    let Some(current) = number(directory, "pids.current")? else {
        let file = if directory.read("cgroup.procs").is_ok() { "cgroup.procs" } else { "cgroup.threads" };
        let list = directory.read(file).about("counting a cgroup's processes")?;
        return Ok(Pids { current: list.lines().count() as u64, limit: 0 });
    };
    let limit = number(directory, "pids.max")?.filter(|limit| *limit != u64::MAX);
    Ok(Pids { current, limit: limit.unwrap_or(0) })
}

fn blkio(directory: &Directory) -> Result<BlockIo> {
    let mut io = BlockIo { psi: pressure(directory, "io.pressure")?, ..BlockIo::default() };
    fill(&text(directory, "io.stat")?.unwrap_or_default(), &mut io);
    Ok(io)
}

/// Lines of `major:minor key=value ...`.
fn fill(text: &str, io: &mut BlockIo) {
    for line in text.lines() {
        let mut fields = line.split(' ');
        let Some((major, minor)) = fields.next().and_then(device) else { continue };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut io.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut io.io_service_bytes_recursive, "Write"),
                "rios" => (&mut io.io_serviced_recursive, "Read"),
                "wios" => (&mut io.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let value = parse(value).unwrap_or(0);
            list.push(BlockIoEntry { major, minor, op: op.into(), value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_is_shown_under_the_names_of_version_1() {
        let mut io = BlockIo::default();
        fill("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\nnonsense\n", &mut io);
        let shown = |list: &[BlockIoEntry]| -> Vec<String> {
            list.iter().map(|one| format!("{}:{} {} {}", one.major, one.minor, one.op, one.value)).collect()
        };
        assert_eq!(shown(&io.io_service_bytes_recursive), ["8:0 Read 1", "8:0 Write 2"]);
        assert_eq!(shown(&io.io_serviced_recursive), ["8:0 Read 3", "8:0 Write 4"]);
    }
}
