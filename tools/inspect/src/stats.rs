//! What containers use of the machine: docker's `stats`.

use std::time::Duration;

use cli::{During, Failure};
use runtime::Usage;
use serde_json::{Value, json};
use store::{Container, Store};

use crate::args::StatsArgs;
use crate::form::Format;
use crate::lists::{no_lines, tell};
use crate::live::Live;
use crate::output;
use crate::table::{Column, fixed, flexible};
use crate::text::{binary, shown_id, size};

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

/// Shows them again and again, or once.
pub(crate) fn stats(store: &Store, args: &StatsArgs) -> Result<(), Failure> {
    no_lines(&args.form)?;
    let mut before: Vec<(String, Option<Usage>)> = Vec::new();
    loop {
        let containers = wanted(store, args)?;
        let mut looks = Vec::new();
        let mut rows = Vec::new();
        for container in &containers {
            // What is gone by now has nothing to tell.
            let usage = Live::of(container).ok().flatten().and_then(|live| live.usage());
            let last = before.iter().find(|(id, _)| id == container.id()).and_then(|(_, usage)| *usage);
            rows.push(row(container, usage, last, args.form.no_trunc));
            looks.push((container.id().to_string(), usage));
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
        cli::answer(b"\x1b[2J\x1b[H")?;
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

fn row(container: &Container, usage: Option<Usage>, last: Option<Usage>, whole: bool) -> Value {
    let id = shown_id(container.id(), whole);
    let mut value = json!({
        "BlockIO": NOTHING, "CPUPerc": NOTHING, "Container": id, "ID": id, "MemPerc": NOTHING,
        "MemUsage": format!("{NOTHING} / {NOTHING}"), "Name": container.name(), "NetIO": NOTHING, "PIDs": NOTHING,
    });
    let Some(usage) = usage else { return value };
    let pair = |[one, other]: [u64; 2]| format!("{} / {}", size(one), size(other));
    // What the host's interfaces carry is not the container's.
    let own_network = container.create().is_ok_and(|create| create.network != "host");
    if let Some(network) = usage.network.filter(|_| own_network) {
        value["NetIO"] = json!(pair(network));
    }
    if let Some(percent) = last.and_then(|last| usage.processor_percent(&last)) {
        value["CPUPerc"] = json!(format!("{percent:.2}%"));
    }
    let share = usage.memory as f64 * 100.0 / usage.memory_limit.max(1) as f64;
    value["MemUsage"] = json!(format!("{} / {}", binary(usage.memory), binary(usage.memory_limit)));
    value["MemPerc"] = json!(format!("{share:.2}%"));
    value["BlockIO"] = json!(pair(usage.blocks));
    value["PIDs"] = json!(usage.tasks.to_string());
    value["CpuNanoseconds"] = json!(usage.processor);
    value["MemBytes"] = json!(usage.memory);
    value["MemLimitBytes"] = json!(usage.memory_limit);
    value["BlockReadBytes"] = json!(usage.blocks[0]);
    value["BlockWriteBytes"] = json!(usage.blocks[1]);
    value
}
