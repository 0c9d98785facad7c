//! What a running container uses of the machine, and which its processes are: by its control group, else one by one.

use std::time::Instant;

use cgroup::{Group, Stats};
use rustix::process::Pid;

use crate::error::Result;
use crate::lifecycle::members;

/// What a container has used until now, and uses.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// When it was looked at.
    pub at: Instant,
    /// Processor time until now, in nanoseconds.
    pub processor: u64,
    /// Bytes of memory, without the cache that the kernel would give back first, as docker counts them.
    pub memory: u64,
    /// The most bytes of memory that it may use; the machine's where nothing else is said.
    pub memory_limit: u64,
    /// Bytes received and sent by the interfaces of its network but the loopback one; none where it cannot be read.
    pub network: Option<[u64; 2]>,
    /// Bytes read from and written to block devices.
    pub blocks: [u64; 2],
    /// Its processes and threads.
    pub tasks: u64,
}

impl Usage {
    /// One look at the container whose first process is `init`.
    ///
    /// Without a group those that have ended count no more: nobody counted them.
    ///
    /// # Errors
    /// Those of reading the group, or of [`members`].
    pub fn of(group: Option<&Group>, init: u32) -> Result<Self> {
        let mut usage = match existing(group) {
            Some(group) => Self::of_group(&group.stats()?),
            None => Self::of_processes(&members(init)?),
        };
        usage.network = network(&text(&format!("/proc/{init}/net/dev")));
        let machine = number(&text("/proc/meminfo"), "MemTotal:") << 10;
        usage.memory_limit = match usage.memory_limit {
            0 => machine,
            limit => limit.min(machine.max(1)),
        };
        Ok(usage)
    }

    /// Processor time between an earlier look and this one, in percent of one processor.
    pub fn processor_percent(&self, earlier: &Self) -> Option<f64> {
        let used = self.processor.saturating_sub(earlier.processor);
        let passed = self.at.duration_since(earlier.at).as_nanos();
        (passed > 0).then(|| used as f64 * 100.0 / passed as f64)
    }

    fn of_group(stats: &Stats) -> Self {
        let raw = &stats.memory.raw;
        let cache = raw.get("total_inactive_file").or_else(|| raw.get("inactive_file")).copied().unwrap_or(0);
        let used = stats.memory.usage.usage;
        let of = |op: &str| {
            let all = stats.blkio.io_service_bytes_recursive.iter();
            all.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
        };
        Self {
            processor: stats.cpu.usage.total,
            memory: if cache < used { used - cache } else { used },
            memory_limit: stats.memory.usage.limit,
            blocks: [of("read"), of("write")],
            tasks: stats.pids.current,
            ..Self::none()
        }
    }

    fn of_processes(pids: &[Pid]) -> Self {
        let mut sum = Self::none();
        for pid in pids.iter().map(|pid| pid.as_raw_nonzero()) {
            let status = text(&format!("/proc/{pid}/status"));
            sum.memory += number(&status, "VmRSS:") << 10;
            sum.tasks += number(&status, "Threads:");
            // Nanoseconds on a processor (Documentation/scheduler/sched-stats.rst).
            let spent = text(&format!("/proc/{pid}/schedstat"));
            sum.processor += spent.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            let io = text(&format!("/proc/{pid}/io"));
            sum.blocks[0] += number(&io, "read_bytes:");
            sum.blocks[1] += number(&io, "write_bytes:");
        }
        sum
    }

    fn none() -> Self {
        let at = Instant::now();
        Self { at, processor: 0, memory: 0, memory_limit: 0, network: None, blocks: [0; 2], tasks: 0 }
    }
}

/// The processes of the container whose first one is `init`: those of its group, else of its pid namespace.
///
/// # Errors
/// Those of reading the group, or of [`members`].
pub fn processes_of(group: Option<&Group>, init: u32) -> Result<Vec<Pid>> {
    match existing(group) {
        Some(group) => Ok(group.processes(true)?),
        None => members(init),
    }
}

/// A rootless container may have been planned to go without.
fn existing(group: Option<&Group>) -> Option<&Group> {
    group.filter(|group| !group.is_none())
}

/// A file of the kernel; nothing where what it is about has ended.
#[allow(clippy::disallowed_methods, reason = "the host's procfs")]
fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The number after a key that begins a line; 0 where there is none.
fn number(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}

/// Received bytes come first, sent ones ninth (proc_pid_net(5)).
fn network(text: &str) -> Option<[u64; 2]> {
    let field = |counters: &str, at: usize| counters.split_whitespace().nth(at)?.parse::<u64>().ok();
    let interfaces = text.lines().filter_map(|line| line.split_once(':'));
    let mut all = interfaces.map(|(name, counters)| match name.trim() {
        "lo" => Some([0, 0]),
        _ => Some([field(counters, 0)?, field(counters, 8)?]),
    });
    let first = all.next()??;
    all.try_fold(first, |sum, one| one.map(|one| [sum[0] + one[0], sum[1] + one[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_processors_share_is_what_was_used_between_two_looks() {
        let begin = Instant::now();
        let look = |seconds: u64, processor: u64| Usage {
            at: begin + Duration::from_secs(seconds),
            processor,
            ..Usage::none()
        };
        assert_eq!(look(2, 3_000_000_000).processor_percent(&look(0, 0)), Some(150.0));
        assert_eq!(look(0, 1).processor_percent(&look(0, 0)), None);
        assert_eq!(look(1, 5).processor_percent(&look(0, 9)), Some(0.0), "groups that were made again");
    }

    #[test]
    fn cache_that_can_be_given_back_is_not_counted() {
        let mut stats = Stats::default();
        stats.memory.usage.usage = 100;
        assert_eq!(Usage::of_group(&stats).memory, 100);
        stats.memory.raw.insert("inactive_file".into(), 30);
        assert_eq!(Usage::of_group(&stats).memory, 70);
        stats.memory.raw.insert("total_inactive_file".into(), 40);
        assert_eq!(Usage::of_group(&stats).memory, 60);
    }

    #[test]
    fn traffic_is_that_of_all_interfaces_but_the_loopback_one() {
        let text = "Inter-|   Receive\n face |bytes packets\n    lo: 5 1 0 0 0 0 0 0 5 1\n  eth0: 100 2 0 0 0 0 0 0 40 1\n eth1:7 1 0 0 0 0 0 0 2 1\n";
        assert_eq!(network(text), Some([107, 42]));
        assert_eq!(network("    lo: 5 1 0 0 0 0 0 0 5 1\n"), Some([0, 0]));
        assert_eq!(network(""), None);
    }

    #[test]
    fn this_process_uses_memory_and_has_a_thread() {
        let me = rustix::process::getpid();
        let usage = Usage::of_processes(&[me]);
        assert!(usage.memory > 1 << 16 && usage.tasks >= 1 && usage.processor > 0, "{usage:?}");
    }
}
