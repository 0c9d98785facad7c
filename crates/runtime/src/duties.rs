//! What the runtime does to init at its birth, where only the runtime can.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::process::Pid;
use sys::link::Target;

use crate::error::{Error, Result};
use crate::idmap::IdMaps;
use crate::procfs::Procfs;

/// The clock of a time namespace and how far it is ahead of the host's (time_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offset {
    /// `monotonic` or `boottime`.
    pub(crate) clock: String,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What is to be done while init waits at [`Point::Born`](crate::channel::Point::Born).
#[derive(Debug, Default)]
pub(crate) struct Duties {
    /// The ids of its user namespace.
    pub(crate) maps: Option<IdMaps>,
    /// The clocks of its time namespace.
    pub(crate) offsets: Vec<Offset>,
    /// Network interfaces of the host that become its own: their number, their name there, and the namespace where it is
    /// not new.
    pub(crate) net_devices: Vec<(u32, String, Option<File>)>,
    /// Its standing with the out-of-memory killer: in a user namespace of its own it may not write that itself.
    pub(crate) oom_score_adj: Option<i32>,
}

impl Duties {
    /// True where init need not wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.maps.is_none()
            && self.offsets.is_empty()
            && self.oom_score_adj.is_none()
            && self.net_devices.is_empty()
    }

    /// Does it.
    pub(crate) fn perform(&self, pid: Pid) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        let procfs = Procfs::of_host()?;
        let step = |name: &str| {
            let step = name.to_string();
            |source| Error::Step { step, source }
        };
        if let Some(maps) = &self.maps {
            maps.write(&procfs, pid).map_err(step("map ids"))?;
        }
        if !self.offsets.is_empty() {
            let lines = self.offsets.iter().map(|o| format!("{} {} {}\n", o.clock, o.seconds, o.nanoseconds));
            let text: String = lines.collect();
            procfs.write(&format!("{pid}/timens_offsets"), &text).map_err(step("set the clocks"))?;
        }
        for (index, name, namespace) in &self.net_devices {
            let target = match namespace {
                Some(file) => Target::Namespace(file.as_fd()),
                None => Target::Process(pid),
            };
            let failed = step(&format!("hand over a network device as {name}"));
            sys::link::hand_over(*index, target, name).map_err(failed)?;
        }
        if let Some(score) = self.oom_score_adj {
            let path = format!("{pid}/oom_score_adj");
            procfs.write(&path, &score.to_string()).map_err(step("set oomScoreAdj"))?;
        }
        Ok(())
    }
}
