//! `update`: other limits for a container that lives.

use std::io::Read;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxIntelRdt, LinuxResources};
use runtime::Error;
use runtime::lifecycle::{self, Id};
use serde_json::{Value, json};

use crate::verbs::log;
use crate::verbs::{Global, Result};

/// No document of limits is longer.
const DOCUMENT_BYTES: u64 = 16 << 20;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is not named stays as it is. Sizes are bytes, or numbers with k, m, g, t; -1 is no limit."
)]
pub(crate) struct Args {
    /// A file with linux.resources as the specification writes them, or - for stdin; other options are ignored then
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// Weight of the block devices' time, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,

    /// Period of the processor limit, microseconds
    #[arg(long, value_name = "N", value_parser = unsigned)]
    cpu_period: Option<Given<u64>>,

    /// Processor time in a period, microseconds; -1 is no limit
    #[arg(long, value_name = "N", value_parser = signed, allow_negative_numbers = true)]
    cpu_quota: Option<Given<i64>>,

    /// Processor time that may be saved up, microseconds
    #[arg(long, value_name = "N", value_parser = unsigned)]
    cpu_burst: Option<Given<u64>>,

    /// Weight of the processors' time, 2 to 262144
    #[arg(long, value_name = "N", value_parser = unsigned)]
    cpu_share: Option<Given<u64>>,

    /// Period of the realtime limit, microseconds
    #[arg(long, value_name = "N", value_parser = unsigned)]
    cpu_rt_period: Option<Given<u64>>,

    /// Realtime in a period, microseconds
    #[arg(long, value_name = "N", value_parser = signed, allow_negative_numbers = true)]
    cpu_rt_runtime: Option<Given<i64>>,

    /// The processors it may run on, as in 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// The memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// 1: it runs only where nothing else wants to
    #[arg(long, value_name = "0|1", value_parser = signed, allow_negative_numbers = true)]
    cpu_idle: Option<Given<i64>>,

    /// Ignored: no kernel has it any more
    #[arg(long, value_name = "SIZE", hide = true, allow_negative_numbers = true)]
    kernel_memory: Option<String>,

    /// Ignored as well
    #[arg(long, value_name = "SIZE", hide = true, allow_negative_numbers = true)]
    kernel_memory_tcp: Option<String>,

    /// Memory
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory: Option<Given<i64>>,

    /// Memory that is left to it when the host has too little
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory_reservation: Option<Given<i64>>,

    /// Memory and swap together
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    memory_swap: Option<Given<i64>>,

    /// Processes and threads; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,

    /// Lines of the Intel RDT L3 cache schema
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,

    /// Lines of the Intel RDT memory bandwidth schema
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,

    /// The container's id
    #[arg(value_name = "ID")]
    pub(super) id: Id,
}

/// A value; none of an empty text, which engines write for "not set".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given<T>(pub(crate) Option<T>);

fn given<T>(option: Option<Given<T>>) -> Option<T> {
    option.and_then(|given| given.0)
}

/// Changes them.
pub(crate) fn update(global: &Global, args: &Args) -> Result<u8> {
    let directory = global.runtimes()?.find(&args.id)?;
    let mut resources = match &args.resources {
        Some(path) => read(path)?,
        None => args.resources()?,
    };
    let kernel = resources.memory().as_ref().is_some_and(|memory| memory.kernel().is_some());
    if kernel || args.kernel_memory.is_some() || args.kernel_memory_tcp.is_some() {
        log::warnings(global, &["Kernel memory settings are ignored and will be removed".into()]);
    }
    // Engines hand over what the container was made with; who may use which device is not changed by this, as with runc.
    resources.set_devices(None);
    lifecycle::update(&directory, &resources, args.class()?.as_ref())?;
    Ok(0)
}

/// linux.resources of a file, or of stdin.
fn read(path: &PathBuf) -> Result<LinuxResources> {
    let failed = |source| Error::File { path: path.clone(), source };
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    }
    serde_json::from_slice(&bytes).map_err(wrong)
}

fn wrong(error: serde_json::Error) -> Error {
    Error::Invalid { member: "linux.resources".into(), why: error.to_string() }
}

impl Args {
    /// The lines of its class of service; none where none is to be changed.
    fn class(&self) -> Result<Option<LinuxIntelRdt>> {
        let mut class =
            json!({"l3CacheSchema": text(&self.l3_cache_schema), "memBwSchema": text(&self.mem_bw_schema)});
        drop_nulls(&mut class);
        if class.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok(None);
        }
        runtime::typed(&class).map(Some).map_err(wrong)
    }

    /// What the options ask for.
    fn resources(&self) -> Result<LinuxResources> {
        let mut resources = json!({
            "cpu": {
                "shares": given(self.cpu_share),
                "quota": given(self.cpu_quota),
                "burst": given(self.cpu_burst),
                "period": given(self.cpu_period),
                "realtimeRuntime": given(self.cpu_rt_runtime),
                "realtimePeriod": given(self.cpu_rt_period),
                "cpus": text(&self.cpuset_cpus),
                "mems": text(&self.cpuset_mems),
                "idle": given(self.cpu_idle),
            },
            "memory": {
                "limit": given(self.memory),
                "reservation": given(self.memory_reservation),
                "swap": given(self.memory_swap),
            },
            "blockIO": {"weight": self.blkio_weight.filter(|&weight| weight != 0)},
        });
        if let Some(limit) = self.pids_limit {
            resources["pids"] = json!({"limit": limit});
        }
        drop_nulls(&mut resources);
        runtime::typed(&resources).map_err(wrong)
    }
}

/// Engines write an empty text for "not set".
fn text(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

/// Takes out what was not asked for.
pub(crate) fn drop_nulls(value: &mut Value) {
    if let Some(members) = value.as_object_mut() {
        members.values_mut().for_each(drop_nulls);
        members.retain(|_, member| {
            !member.is_null() && member.as_object().is_none_or(|object| !object.is_empty())
        });
    }
}

fn unsigned(text: &str) -> std::result::Result<Given<u64>, String> {
    number(text)
}

fn signed(text: &str) -> std::result::Result<Given<i64>, String> {
    number(text)
}

fn number<T: std::str::FromStr>(text: &str) -> std::result::Result<Given<T>, String> {
    if text.is_empty() {
        return Ok(Given(None));
    }
    text.parse().map(|number| Given(Some(number))).map_err(|_| format!("{text:?} is no number"))
}

/// A size as docker writes it: `1.5g`, `100 MiB`, `1024`; all units are powers of 1024.
pub(crate) fn size(text: &str) -> std::result::Result<Given<i64>, String> {
    match text {
        "" => Ok(Given(None)),
        "-1" => Ok(Given(Some(-1))),
        text => {
            let bytes = cli::units::bytes(text).ok().and_then(|bytes| i64::try_from(bytes).ok());
            bytes
                .map(|bytes| Given(Some(bytes)))
                .ok_or_else(|| format!("{text:?} is no size, as in 512m or 1.5g"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn sizes_are_those_of_docker() {
        for (text, want) in [
            ("", None),
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("10k", Some(10 << 10)),
            ("10kB", Some(10 << 10)),
            ("10 KiB", Some(10 << 10)),
            ("1.5g", Some(3 << 29)),
            ("2T", Some(2 << 40)),
            ("7b", Some(7)),
        ] {
            assert_eq!(size(text), Ok(Given(want)), "{text:?}");
        }
        for bad in ["-2", "x", "1x", "1..5m", "1i", "1mm", "99999p", "m"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn options_are_the_resources_that_they_name_and_no_others() {
        let words = [
            "x",
            "--memory",
            "100m",
            "--memory-swap",
            "-1",
            "--cpu-quota=-1",
            "--cpu-period",
            "",
            "c",
            "--pids-limit",
            "-1",
            "--cpuset-cpus",
            "0-1",
            "--blkio-weight",
            "0",
        ];
        let resources = Line::parse_from(words).args.resources().expect("resources");
        let want = json!({"memory": {"limit": 100 << 20, "swap": -1}, "cpu": {"quota": -1, "cpus": "0-1"},
            "pids": {"limit": -1}});
        assert_eq!(serde_json::to_value(resources).expect("JSON"), want);
        let class = |words: &[&str]| {
            let class = Line::parse_from([&["x", "c"], words].concat()).args.class().expect("lines");
            class.map(|class| serde_json::to_value(class).expect("JSON"))
        };
        assert_eq!(class(&["--l3-cache-schema", "L3:0=f"]), Some(json!({"l3CacheSchema": "L3:0=f"})));
        assert_eq!(
            class(&["--l3-cache-schema", "", "--mem-bw-schema", "MB:0=9"]),
            Some(json!({"memBwSchema": "MB:0=9"}))
        );
        assert_eq!(class(&["--mem-bw-schema", ""]), None);
    }
}
