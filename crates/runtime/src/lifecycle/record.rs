//! What is recorded of a container (state.json), and what is true of it now.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::Hooks;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, Result};
use crate::lifecycle::directory::Directory;
use crate::resctrl;
use crate::rootmount::RootMount;

/// The version of the runtime specification that this runtime follows.
pub const SPECIFICATION: &str = "1.3.0";

/// How a container stands (runtime-spec 1.2, "State"; paused as runc and crun have it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being made, or its maker was killed.
    Creating,
    /// It waits for `start`.
    Created,
    /// Its command runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A process that is not taken for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid in the pid namespace of the runtime that made it.
    pub pid: u32,
    /// Clock ticks since boot.
    pub started: u64,
    /// The boot's id.
    pub boot: String,
}

impl Process {
    /// The process that has this pid now; none where it has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: sys::identity::start_time(pid)?, boot: sys::identity::boot_id()? })
    }

    /// A descriptor of it; none where it has ended, a zombie included.
    pub fn open(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at once the descriptor holds whoever has the number.
        let same = sys::identity::start_time(self.pid) == Some(self.started)
            && sys::identity::boot_id().as_ref() == Some(&self.boot);
        same.then_some(pidfd)
    }
}

/// state.json.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The container's id.
    pub id: String,
    /// Its bundle's absolute path.
    pub bundle: PathBuf,
    /// Its root's absolute path.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The user id that created it.
    pub owner: u32,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// Its hooks: the last ones are run when the bundle may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Its control groups.
    pub group: cgroup::Group,
    /// The groups are its own: until they are made they may be somebody else's, whose processes are not to be killed.
    #[serde(default)]
    pub grouped: bool,
    /// It has a pid namespace of its own, with whose first process all others end.
    #[serde(default)]
    pub pid_namespace: bool,
    /// Its class of service, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<resctrl::Group>,
    /// Its processes have session keyrings of their own.
    #[serde(default)]
    pub keyring: bool,
    /// Its root among the host's mounts, where it has no mount namespace of its own; recorded before it is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_mount: Option<RootMount>,
    /// Its first process, once it is there for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Process>,
}

impl Record {
    /// Takes its root away from the host's mounts.
    pub(crate) fn unmount(&self) -> Result<()> {
        self.root_mount.as_ref().map_or(Ok(()), |mount| mount.remove(&self.rootfs))
    }

    /// The state as the specification writes it, for `state` and for hooks; `pid` where the process is not recorded yet.
    pub(crate) fn state(&self, status: Status, pid: u32) -> serde_json::Value {
        json!({
            "ociVersion": SPECIFICATION,
            "id": self.id,
            "status": status.word(),
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        })
    }
}

/// A container's state as `state` prints it: the specification's members, and runc's.
///
/// # Errors
/// Those of reading the record and of asking the control group.
pub fn state(directory: &Directory) -> Result<serde_json::Value> {
    let Some(record) = directory.record()? else {
        return Err(Error::NoContainer { id: directory.id().to_string() });
    };
    let status = directory.status(&record)?;
    let pid = match status {
        Status::Created | Status::Running | Status::Paused => record.init.as_ref().map_or(0, |init| init.pid),
        Status::Creating | Status::Stopped => 0,
    };
    let mut state = record.state(status, pid);
    for (key, value) in
        [("rootfs", json!(record.rootfs)), ("created", json!(record.created)), ("owner", json!(record.owner))]
    {
        state[key] = value;
    }
    Ok(state)
}
