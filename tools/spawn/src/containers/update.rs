//! `update`: other limits for a container, recorded in its config.json; create.json is its identity and stays.

use cli::{Common, During, Failure, Stage};
use descriptor::Exit;
use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use store::Container;

use crate::containers::{Names, named, pause};
use crate::groups;
use crate::verbs::update::{drop_nulls, size};

/// The period of the processor limit that `--cpus` speaks of, microseconds (docker's).
const PERIOD: f64 = 100_000.0;

/// Docker's: a container needs that much to start at all.
const LEAST_MEMORY: i64 = 6 << 20;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is not named stays as it is. Sizes are bytes, or numbers with k, m, g, t; -1 is no limit.\n\
    A container that runs has them at once, one that does not from its next start on. A limit that the host cannot hold is exit 7."
)]
pub(crate) struct Args {
    /// Weight of the block devices' time, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,

    /// Processors, as in 1.5
    #[arg(long, value_name = "N", conflicts_with_all = ["cpu_period", "cpu_quota"])]
    cpus: Option<f64>,

    /// Period of the processor limit, microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,

    /// Processor time in a period, microseconds; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,

    /// Period of the realtime limit, microseconds
    #[arg(long, value_name = "N")]
    cpu_rt_period: Option<u64>,

    /// Realtime in a period, microseconds
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,

    /// Weight of the processors' time, 2 to 262144
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<u64>,

    /// The processors it may run on, as in 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// The memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// Memory
    #[arg(short, long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory: Option<crate::verbs::update::Given<i64>>,

    /// Memory that is left to it when the host has too little
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory_reservation: Option<crate::verbs::update::Given<i64>>,

    /// Memory and swap together
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory_swap: Option<crate::verbs::update::Given<i64>>,

    /// Processes and threads; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,

    #[command(flatten)]
    names: Names,
}

/// Changes the limits of each container.
pub(crate) fn update(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    let wanted = args.resources()?;
    args.names.each(common, stage, |stage, container| {
        one(container, &wanted)?;
        named::done(stage, container)
    })
}

fn one(container: &Container, wanted: &Value) -> Result<(), Failure> {
    let what = || format!("the limits of container {}", container.name());
    let wrong = |e: serde_json::Error| Failure::new(Exit::Content, what(), e);
    let lock = container.lock().during(what)?;
    let mut state = container.settled(&lock).during(what)?;
    let mut config = container.document("config.json").during(what)?.unwrap_or_else(|| json!({}));
    if state.is_alive() {
        let resources: LinuxResources = runtime::typed(wanted).map_err(wrong)?;
        groups::of_running(container, &mut state)?.update(&resources).during(what)?;
    }
    runtime::lifecycle::merge(&mut config["linux"]["resources"], wanted.clone());
    let bytes = serde_json::to_vec_pretty(&config).map_err(wrong)?;
    replace(container, &bytes)?;
    drop(lock);
    pause::note(container, "update");
    Ok(())
}

/// Writes config.json anew; the caller holds the container's lock.
fn replace(container: &Container, bytes: &[u8]) -> Result<(), Failure> {
    const NEW: &str = "config.json.new";
    let what = || format!("config.json of container {}", container.name());
    let failed = |e: sys::Error| Failure::new(Exit::Other, what(), e);
    let bundle = container.root().during(what)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW;
    let file = bundle.open(NEW, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let mut file = std::fs::File::from(file);
    let io = |e: std::io::Error| Failure::new(Exit::Other, what(), e);
    std::io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all()).map_err(io)?;
    rustix::fs::renameat(&bundle, NEW, &bundle, "config.json").map_err(|errno| io(errno.into()))
}

impl Args {
    /// What the options ask for, as `linux.resources` has it.
    fn resources(&self) -> Result<Value, Failure> {
        let usage = |why: &str| Failure::new(Exit::Usage, "update", why);
        if self.cpus.is_some_and(|cpus| !(cpus.is_finite() && (0.01..=8192.0).contains(&cpus))) {
            return Err(usage("--cpus: the least is 0.01"));
        }
        if self.memory.and_then(|given| given.0).is_some_and(|limit| (1..LEAST_MEMORY).contains(&limit)) {
            return Err(usage("--memory: the least is 6m"));
        }
        let quota = self.cpus.map(|cpus| (cpus * PERIOD) as i64).or(self.cpu_quota);
        let period = self.cpus.map(|_| PERIOD as u64).or(self.cpu_period);
        let mut resources = json!({
            "cpu": {
                "shares": self.cpu_shares,
                "quota": quota,
                "period": period,
                "realtimeRuntime": self.cpu_rt_runtime,
                "realtimePeriod": self.cpu_rt_period,
                "cpus": self.cpuset_cpus,
                "mems": self.cpuset_mems,
            },
            "memory": {
                "limit": self.memory.and_then(|given| given.0),
                "reservation": self.memory_reservation.and_then(|given| given.0),
                "swap": self.memory_swap.and_then(|given| given.0),
            },
            "blockIO": {"weight": self.blkio_weight.filter(|&weight| weight != 0)},
            "pids": {"limit": self.pids_limit.map(|limit| if limit == 0 { -1 } else { limit })},
        });
        drop_nulls(&mut resources);
        match resources.as_object().is_some_and(serde_json::Map::is_empty) {
            true => Err(usage("no limit is named").with_hint("oci-spawn update --help")),
            false => Ok(resources),
        }
    }
}
