//! What can go wrong with a control group.

use std::path::PathBuf;

use descriptor::{Classify, Exit};
use rustix::io::Errno;

/// The result of an operation on a control group.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on a control group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No hierarchy is mounted at all.
    #[error("this host has no cgroup hierarchy mounted")]
    NoHierarchy,
    /// The container has no group, and something needs one.
    #[error("the container has no cgroup, which {what} needs")]
    NoGroup {
        /// What was asked for.
        what: String,
    },
    /// No directory of the group is governed by this controller.
    #[error("linux.resources.{resource} needs the cgroup controller {controller:?}, which {why}")]
    NoController {
        /// The part of `linux.resources`.
        resource: String,
        /// The controller.
        controller: String,
        /// Why it is not there.
        why: String,
    },
    /// The kernel lacks the file.
    #[error("linux.resources.{resource}: {path:?}: this kernel has no such file")]
    NoFile {
        /// The part of `linux.resources`.
        resource: String,
        /// The file.
        path: PathBuf,
    },
    /// The kernel refused a value.
    #[error("linux.resources.{resource}: {value:?} is refused by {path:?}: {source}")]
    Limit {
        /// The part of `linux.resources`.
        resource: String,
        /// What was written.
        value: String,
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: sys::Error,
    },
    /// A limit that this host's version of cgroups does not have.
    #[error("linux.resources.{resource}: cgroup {version} cannot express it")]
    Version {
        /// The part of `linux.resources`.
        resource: String,
        /// The version, v1 or v2.
        version: String,
    },
    /// A value that cannot be meant.
    #[error("linux.resources.{resource}: {why}")]
    Value {
        /// The part of `linux.resources`.
        resource: String,
        /// What is wrong with it.
        why: String,
    },
    /// A path that cannot be one.
    #[error("cgroup path {path:?}: {why}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The group that is to be made is in use.
    #[error("cgroup {path:?} is not empty: {processes} process(es) found")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// How many processes there are.
        processes: usize,
    },
    /// A group that is to be removed has others' groups below it.
    #[error("cgroup {path:?} has groups of others below it, with {processes} process(es)")]
    HasOthers {
        /// The directory.
        path: PathBuf,
        /// How many processes there are.
        processes: usize,
    },
    /// The group that is to be used is frozen, and so would be what enters it.
    #[error("cgroup {path:?} is frozen")]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// Version 2: the directory cannot hold what is asked for.
    #[error("cgroup {path:?} is {kind:?}: {why} (cgroups(7), thread mode and \"no internal processes\")")]
    Kind {
        /// The directory.
        path: PathBuf,
        /// The contents of `cgroup.type`.
        kind: String,
        /// What this prevents.
        why: &'static str,
    },
    /// The kernel did not do in time what it was asked to.
    #[error("cgroup {path:?} did not get {state} within {seconds} s")]
    Late {
        /// The directory.
        path: PathBuf,
        /// The state that was waited for.
        state: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A file of the kernel that does not read as documented.
    #[error("{path:?}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// systemd cannot be reached, or refused.
    #[error("systemd: {what}: {why}")]
    Systemd {
        /// What was asked for.
        what: String,
        /// The error's D-Bus name; empty where the refusal was not systemd's.
        name: String,
        /// What it said.
        why: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Call {
        /// What was being done.
        what: &'static str,
        /// The call.
        source: sys::Error,
    },
}

/// Says what was being done when a call failed.
pub(crate) trait About<T> {
    fn about(self, what: &'static str) -> Result<T>;
}

impl<T> About<T> for sys::Result<T> {
    fn about(self, what: &'static str) -> Result<T> {
        self.map_err(|source| Error::Call { what, source })
    }
}

impl Error {
    /// True where the group is another container's, which was made at the same time: of a unit of systemd, this is known last.
    pub fn is_others(&self) -> bool {
        matches!(self, Self::Systemd { name, .. } if name.ends_with(".UnitExists"))
    }

    /// The kernel's answer, where one was the reason.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Limit { source, .. } | Self::Call { source, .. } => Some(source.errno),
            _ => None,
        }
    }

    /// True where the directory, or what it was of, is gone.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::NODEV))
    }

    /// True where a limit gives out what the host, or the groups above, may not have: the same value is good elsewhere.
    fn is_of_the_host(&self) -> bool {
        let given_out = ["cpu.cpus", "cpu.mems", "cpu.realtimeRuntime", "cpu.realtimePeriod"];
        matches!(self, Self::Limit { resource, .. } if given_out.contains(&resource.as_str()))
    }

    /// True where the caller's rights were the reason.
    pub(crate) fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(Errno::PERM | Errno::ACCESS | Errno::ROFS))
    }
}

impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::NoHierarchy | Self::NoGroup { .. } | Self::NoController { .. } => Exit::Privilege,
            Self::NoFile { .. } | Self::Version { .. } => Exit::Privilege,
            _ if self.is_others() => Exit::Conflict,
            Self::Systemd { .. } => Exit::Other,
            Self::Limit { source, .. } | Self::Call { source, .. } => match source.errno {
                Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::ROFS | Errno::NODEV => Exit::Privilege,
                Errno::INVAL | Errno::RANGE | Errno::NOSPC if self.is_of_the_host() => Exit::Privilege,
                Errno::NOSPC | Errno::DQUOT => Exit::Space,
                Errno::INVAL | Errno::RANGE if matches!(self, Self::Limit { .. }) => Exit::Content,
                _ => Exit::Other,
            },
            Self::Value { .. } | Self::Path { .. } => Exit::Content,
            Self::InUse { .. } | Self::HasOthers { .. } | Self::Frozen { .. } | Self::Kind { .. } => {
                Exit::Conflict
            }
            Self::Late { .. } | Self::Content { .. } => Exit::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoHierarchy => Some("mount one: mount -t cgroup2 none /sys/fs/cgroup".into()),
            Self::NoGroup { .. } | Self::NoController { .. } => Some(
                "run it as root, or where the controllers are delegated: systemd-run --user --scope -p Delegate=yes ..."
                    .into(),
            ),
            Self::Limit { resource, .. } if self.is_of_the_host() => Some(if resource.contains("realtime") {
                "no group has more than those above it: cpu.rt_runtime_us there".into()
            } else {
                "what the host has is in /sys/devices/system/cpu/online and /sys/devices/system/node/online".into()
            }),
            Self::HasOthers { .. } => Some("end what runs in them, and delete again".into()),
            Self::InUse { .. } => Some("end its processes, or choose another linux.cgroupsPath".into()),
            Self::Kind { .. } => {
                Some("choose a linux.cgroupsPath below a cgroup that has no processes of its own".into())
            }
            _ => None,
        }
    }
}
