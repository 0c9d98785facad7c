//! `stats`: what containers use, once or again and again.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use cli::{Common, During, Failure, Stage};
use descriptor::Exit;
use serde_json::json;
use store::{Container, State};

use crate::containers::named;
use crate::groups;

/// Between two looks, whose difference is the processor time (docker's).
const INTERVAL: Duration = Duration::from_secs(1);
const NANOSECONDS: f64 = 1e9;
/// Home, and clear what is below (ECMA-48).
const TOP_OF_SCREEN: &str = "\u{1b}[H\u{1b}[J";

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look once
    #[arg(long)]
    no_stream: bool,

    /// How they are shown: a table, or one JSON object a line
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,

    /// Names, ids, or digits that only one id begins with [default: all that run]
    #[arg(value_name = "CONTAINER")]
    names: Vec<String>,
}

/// How they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines for people.
    Table,
    /// JSON lines.
    Json,
}

/// What a container has used until now, and uses.
#[derive(Debug, Clone, Default)]
struct Look {
    at: Option<Instant>,
    cpu: u64,
    memory: u64,
    memory_limit: u64,
    network: [u64; 2],
    blocks: [u64; 2],
    pids: u64,
}

/// Prints them, for ever unless a single look is asked for.
pub(crate) fn stats(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    stage.keep_errors_home();
    let store = named::open(common)?;
    let mut before: Vec<(String, Look)> = Vec::new();
    loop {
        let containers = match args.names.is_empty() {
            true => store.containers().during(|| "containers".into())?,
            false => args.names.iter().map(|name| named::find(&store, name)).collect::<Result<_, _>>()?,
        };
        let mut now = Vec::new();
        for container in containers {
            let state = container.state().during(|| format!("container {}", container.name()))?;
            if state.is_alive() {
                let look = look(&state)?;
                now.push((container, look));
            } else if !args.names.is_empty() {
                let what = format!("container {}", container.name());
                return Err(Failure::new(Exit::Conflict, what, "it is not running"));
            }
        }
        if !before.is_empty() || now.is_empty() {
            print(args.format, &now, &before)?;
            if args.no_stream {
                return Ok(0);
            }
        }
        before = now.into_iter().map(|(container, look)| (container.id().to_string(), look)).collect();
        std::thread::sleep(INTERVAL);
    }
}

fn look(state: &State) -> Result<Look, Failure> {
    let what = || "what the container uses".to_string();
    let pid = state.pid.unwrap_or_default();
    let mut look = match groups::noted(state).filter(|group| !group.is_none()) {
        Some(group) => of_group(&group.stats().during(what)?),
        None => of_processes(state)?,
    };
    look.network = network(&text(&format!("/proc/{pid}/net/dev")));
    let host = kilobytes(&text("/proc/meminfo"), "MemTotal:") << 10;
    look.memory_limit = if look.memory_limit == 0 { host } else { look.memory_limit.min(host) };
    look.at = Some(Instant::now());
    Ok(look)
}

/// By its control group. Memory is without what the kernel can take back at once, as docker counts.
fn of_group(stats: &cgroup::Stats) -> Look {
    let raw = &stats.memory.raw;
    let idle = raw.get("total_inactive_file").or(raw.get("inactive_file")).copied().unwrap_or(0);
    let sum = |op: &str| {
        let entries = stats.blkio.io_service_bytes_recursive.iter();
        entries.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
    };
    Look {
        at: None,
        cpu: stats.cpu.usage.total,
        memory: stats.memory.usage.usage.saturating_sub(idle),
        memory_limit: stats.memory.usage.limit,
        network: [0; 2],
        blocks: [sum("read"), sum("write")],
        pids: stats.pids.current,
    }
}

/// By its processes that live: without a group nobody counts those that have ended.
fn of_processes(state: &State) -> Result<Look, Failure> {
    let mut look = Look::default();
    for pid in groups::processes(state)? {
        let pid = pid.as_raw_nonzero();
        let status = text(&format!("/proc/{pid}/status"));
        look.memory += kilobytes(&status, "VmRSS:") << 10;
        look.pids += kilobytes(&status, "Threads:");
        // Nanoseconds on a processor (Documentation/scheduler/sched-stats.rst).
        let spent = text(&format!("/proc/{pid}/schedstat"));
        look.cpu += spent.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let io = text(&format!("/proc/{pid}/io"));
        for (sum, key) in look.blocks.iter_mut().zip(["read_bytes:", "write_bytes:"]) {
            *sum += kilobytes(&io, key);
        }
    }
    Ok(look)
}

/// A file of the kernel; nothing where what it is about has ended.
fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The number after a key that begins a line.
fn kilobytes(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}

/// Bytes received and sent by all interfaces but the loopback one (proc(5), `net/dev`).
fn network(text: &str) -> [u64; 2] {
    let mut sums = [0, 0];
    for (name, counters) in text.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() != "lo" {
            let numbers: Vec<u64> = counters.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            sums[0] += numbers.first().copied().unwrap_or(0);
            sums[1] += numbers.get(8).copied().unwrap_or(0);
        }
    }
    sums
}

fn print(format: Format, now: &[(Container, Look)], before: &[(String, Look)]) -> Result<(), Failure> {
    if format == Format::Table {
        let begin = if std::io::stdout().is_terminal() { TOP_OF_SCREEN } else { "" };
        let title = row([
            "CONTAINER ID",
            "NAME",
            "CPU %",
            "MEM USAGE / LIMIT",
            "MEM %",
            "NET I/O",
            "BLOCK I/O",
            "PIDS",
        ]);
        named::print(format!("{begin}{title}"))?;
    }
    for (container, look) in now {
        let earlier = before.iter().find(|(id, _)| id == container.id()).map(|(_, look)| look);
        let id = container.id().get(..12).unwrap_or(container.id());
        let cpu = format!("{:.2}%", earlier.map_or(0.0, |earlier| percent(earlier, look)));
        let usage = format!("{} / {}", binary(look.memory), binary(look.memory_limit));
        let share = format!("{:.2}%", 100.0 * look.memory as f64 / look.memory_limit.max(1) as f64);
        let [network, blocks] =
            [look.network, look.blocks].map(|[one, other]| format!("{} / {}", decimal(one), decimal(other)));
        let pids = look.pids.to_string();
        named::print(match format {
            Format::Table => row([id, container.name(), &cpu, &usage, &share, &network, &blocks, &pids]),
            Format::Json => json!({"BlockIO": blocks, "CPUPerc": cpu, "Container": container.name(), "ID": id,
                "MemPerc": share, "MemUsage": usage, "Name": container.name(), "NetIO": network, "PIDs": pids})
            .to_string(),
        })?;
    }
    Ok(())
}

fn row([id, name, cpu, usage, share, network, blocks, pids]: [&str; 8]) -> String {
    format!("{id:<14} {name:<20} {cpu:<9} {usage:<23} {share:<8} {network:<19} {blocks:<19} {pids}")
}

/// Processor time in the time between, of one processor.
fn percent(before: &Look, now: &Look) -> f64 {
    let (Some(from), Some(to)) = (before.at, now.at) else { return 0.0 };
    let wall = to.duration_since(from).as_secs_f64();
    100.0 * now.cpu.saturating_sub(before.cpu) as f64 / NANOSECONDS / wall.max(f64::EPSILON)
}

/// Bytes as docker shows memory: `1.5MiB`.
fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Bytes as docker shows traffic: `1.5MB`.
fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB"])
}

fn scaled(bytes: u64, base: f64, units: &[&str]) -> String {
    let mut number = bytes as f64;
    let mut unit = 0;
    while number >= base && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    // Four digits that mean something, and no zeros behind the point, as docker.
    let digits = if number >= 1000.0 {
        0
    } else if number >= 100.0 {
        1
    } else if number >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{number:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_docker_shows_them() {
        for (bytes, memory, traffic) in [
            (0, "0B", "0B"),
            (1000, "1000B", "1kB"),
            (1536, "1.5KiB", "1.536kB"),
            (15 << 20, "15MiB", "15.73MB"),
        ] {
            assert_eq!((binary(bytes), decimal(bytes)), (memory.to_string(), traffic.to_string()));
        }
    }

    #[test]
    fn traffic_is_that_of_all_interfaces_but_the_loopback_one() {
        let text = "Inter-|   Receive\n face |bytes packets\n    lo: 5 1 0 0 0 0 0 0 5 1\n  eth0: 100 2 0 0 0 0 0 0 40 1\n eth1:7 1 0 0 0 0 0 0 2 1\n";
        assert_eq!(network(text), [107, 42]);
    }
}
