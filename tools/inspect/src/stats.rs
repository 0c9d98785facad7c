//! What containers use of the machine: docker's `stats`.

use std::time::{Duration, Instant};

use cgroup::Stats;
use cli::{During, Failure};
use serde_json::{Value, json};
use store::{Container, Store};

use crate::args::StatsArgs;
use crate::form::Format;
use crate::lists::{no_lines, tell};
use crate::live::Live;
use crate::output;
use crate::table::{Column, fixed, flexible};
use crate::text::{short, size};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Where nothing is known.
const NOTHING: &str = "--";
const COLUMNS: [(Column, &str); 8] = [
    (fixed("CONTAINER ID"), "ID"),
    (flexible("NAME", 8), "Name"),
    (fixed("CPU %"), "CPUPerc"),
    (fixed("MEM USAGE / LIMIT"), "MemUsage"),
    (fixed("MEM %"), "MemPerc"),
    (fixed("NET I/O"), "NetIO"),
    (fixed("BLOCK I/O"), "BlockIO"),
    (fixed("PIDS"), "PIDs"),
];

/// One look at a container.
#[derive(Default)]
struct Look {
    at: Option<Instant>,
    stats: Option<Stats>,
    /// Received and sent, in bytes.
    network: Option<(u64, u64)>,
}

/// Shows them again and again, or once.
pub(crate) fn stats(store: &Store, args: &StatsArgs) -> Result<(), Failure> {
    no_lines(&args.form)?;
    let memory = memory();
    let mut before: Vec<(String, Look)> = Vec::new();
    loop {
        let containers = wanted(store, args)?;
        let mut looks = Vec::new();
        let mut rows = Vec::new();
        for container in &containers {
            let look = look(container);
            let last = before.iter().find(|(id, _)| id == container.id()).map(|(_, look)| look);
            rows.push(row(container, &look, last, memory, args.form.no_trunc));
            looks.push((container.id().to_string(), look));
        }
        // The processor's share needs two looks.
        let is_first = before.is_empty() && !containers.is_empty();
        before = looks;
        if !is_first {
            show(&rows, args)?;
            if args.no_stream {
                return Ok(());
            }
        }
        std::thread::sleep(INTERVAL);
    }
}

fn show(rows: &[Value], args: &StatsArgs) -> Result<(), Failure> {
    let is_table = !matches!(args.form.format, Some(Format::Json | Format::Template(_)));
    if output::to_a_person() && is_table && !args.no_stream {
        // From the upper left corner of an empty screen.
        output::write(b"\x1b[2J\x1b[H")?;
    }
    tell(rows, &args.form, &COLUMNS)
}

/// Those that are named, or all that run, or all.
fn wanted(store: &Store, args: &StatsArgs) -> Result<Vec<Container>, Failure> {
    if !args.names.is_empty() {
        let named =
            args.names.iter().map(|name| store.container(name).during(|| format!("container {name:?}")));
        return named.collect();
    }
    let mut all = store.containers().during(|| "containers".into())?;
    if !args.all {
        all.retain(|one| matches!(Live::of(one), Ok(Some(_))));
    }
    Ok(all)
}

/// What is gone by now has nothing to tell.
fn look(container: &Container) -> Look {
    let Ok(Some(live)) = Live::of(container) else { return Look::default() };
    let own_network = container.create().is_ok_and(|create| create.network != "host");
    Look {
        at: Some(Instant::now()),
        stats: live.group.as_ref().and_then(|group| group.stats().ok()),
        network: own_network.then(|| network(live.pid)).flatten(),
    }
}

fn row(container: &Container, look: &Look, last: Option<&Look>, memory: u64, whole: bool) -> Value {
    let id = if whole { container.id().to_string() } else { short(container.id()) };
    let net = look.network.map(|(received, sent)| format!("{} / {}", size(received), size(sent)));
    let mut value = json!({
        "BlockIO": NOTHING, "CPUPerc": NOTHING, "Container": id, "ID": id, "MemPerc": NOTHING,
        "MemUsage": format!("{NOTHING} / {NOTHING}"), "Name": container.name(),
        "NetIO": net.unwrap_or_else(|| NOTHING.into()), "PIDs": NOTHING,
    });
    let Some(stats) = &look.stats else { return value };
    let used = memory_used(stats);
    let limit = match stats.memory.usage.limit {
        0 => memory,
        limit => limit.min(memory.max(1)),
    };
    let (read, written) = block(stats);
    let cpu = last.and_then(|last| share(look, last));
    value["CPUPerc"] = json!(cpu.map_or_else(|| NOTHING.into(), |share| format!("{share:.2}%")));
    value["MemUsage"] = json!(format!("{} / {}", binary(used), binary(limit)));
    value["MemPerc"] = json!(format!("{:.2}%", used as f64 * 100.0 / limit.max(1) as f64));
    value["BlockIO"] = json!(format!("{} / {}", size(read), size(written)));
    value["PIDs"] = json!(stats.pids.current.to_string());
    value["CpuNanoseconds"] = json!(stats.cpu.usage.total);
    value["MemBytes"] = json!(used);
    value["MemLimitBytes"] = json!(limit);
    value["BlockReadBytes"] = json!(read);
    value["BlockWriteBytes"] = json!(written);
    value
}

/// Processor time between two looks in percent of one processor.
fn share(now: &Look, last: &Look) -> Option<f64> {
    let (now_stats, last_stats) = (now.stats.as_ref()?, last.stats.as_ref()?);
    let used = now_stats.cpu.usage.total.saturating_sub(last_stats.cpu.usage.total);
    let passed = now.at?.duration_since(last.at?).as_nanos();
    (passed > 0).then(|| used as f64 * 100.0 / passed as f64)
}

/// Without the cache that the kernel would give back first, as docker counts it.
fn memory_used(stats: &Stats) -> u64 {
    let raw = &stats.memory.raw;
    let cache = raw.get("total_inactive_file").or_else(|| raw.get("inactive_file")).copied().unwrap_or(0);
    let usage = stats.memory.usage.usage;
    if cache < usage { usage - cache } else { usage }
}

/// Bytes read from and written to block devices.
fn block(stats: &Stats) -> (u64, u64) {
    let of = |op: &str| {
        let all = stats.blkio.io_service_bytes_recursive.iter();
        all.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
    };
    (of("read"), of("write"))
}

/// Bytes received and sent by the interfaces of a process's network but the loopback.
fn network(pid: u32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let interfaces = text.lines().filter_map(|line| line.split_once(':'));
    let others = interfaces.filter(|(name, _)| name.trim() != "lo");
    let field = |fields: &str, at: usize| fields.split_whitespace().nth(at)?.parse::<u64>().ok();
    // Received bytes come first, sent ones ninth (proc_pid_net(5)).
    others.map(|(_, fields)| Some((field(fields, 0)?, field(fields, 8)?))).try_fold((0, 0), |sum, one| {
        let (received, sent) = one?;
        Some((sum.0 + received, sum.1 + sent))
    })
}

/// The machine's memory in bytes.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// Memory in binary units with four digits, as docker has it.
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        value if value < 10.0 => 3,
        value if value < 100.0 => 2,
        value if value < 1000.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_binary_units() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (12_910_592, "12.31MiB"), (8 << 30, "8GiB")]
        {
            assert_eq!(binary(bytes), text);
        }
    }

    #[test]
    fn a_processors_share_is_what_was_used_between_two_looks() {
        let begin = Instant::now();
        let look = |seconds: u64, used: u64| {
            let mut stats = Stats::default();
            stats.cpu.usage.total = used;
            Look { at: Some(begin + Duration::from_secs(seconds)), stats: Some(stats), network: None }
        };
        assert_eq!(share(&look(2, 3_000_000_000), &look(0, 0)), Some(150.0));
        assert_eq!(share(&look(0, 1), &look(0, 0)), None);
        assert_eq!(share(&look(1, 5), &look(0, 9)), Some(0.0), "groups that were made again");
        assert_eq!(share(&look(1, 5), &Look::default()), None);
    }

    #[test]
    fn cache_that_can_be_given_back_is_not_counted() {
        let mut stats = Stats::default();
        stats.memory.usage.usage = 100;
        assert_eq!(memory_used(&stats), 100);
        stats.memory.raw.insert("inactive_file".into(), 30);
        assert_eq!(memory_used(&stats), 70);
        stats.memory.raw.insert("total_inactive_file".into(), 40);
        assert_eq!(memory_used(&stats), 60);
    }
}
