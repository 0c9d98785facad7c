//! What a caller asks for.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::Spec;

/// A process to make.
#[derive(Debug)]
pub struct Request {
    /// The configuration, runtime-spec 1.2.
    pub spec: Spec,
    /// The directory that relative host paths of the configuration start from.
    pub bundle: PathBuf,
    /// Where the container's files are.
    pub root: RootSource,
    /// What the process reads and writes.
    pub stdio: Stdio,
    /// What happens to it when its parent dies.
    pub tie: Tie,
    /// What engines ask for.
    pub manner: Manner,
    /// Who keeps the process from devices that are not listed for it; its control group does where it has rules for them.
    pub guard: Guard,
    /// The control group to make and to run it in, as [`plan_group`](crate::plan_group) has planned it.
    pub group: Option<cgroup::Group>,
}

/// What stands between a process and a device that its configuration does not give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing else, so no node works but those of the listed devices.
    Mounts,
    /// A control group with the configuration's rules, or the kernel, which lets nobody make a node in a user namespace.
    Elsewhere,
}

/// How a container is made, beside what its configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// How many descriptors from number 3 on the command gets as they are (`--preserve-fds`, `LISTEN_FDS`).
    pub preserved: u32,
    /// A session keyring of its own (not with `--no-new-keyring`).
    pub keyring: bool,
    /// The root becomes the root by `pivot_root(2)`, else by moving it over `/` (`--no-pivot`).
    pub pivot: bool,
    /// A small first process of the runtime's own stands before the command: it forwards signals and reaps (`--init`).
    pub reaper: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { preserved: 0, keyring: true, pivot: true, reaper: false }
    }
}

/// Where the container's root file system comes from.
#[derive(Debug)]
pub enum RootSource {
    /// A directory of the host that holds the whole tree, an overlay mounted by another tool say.
    Mounted(PathBuf),
    /// A mount that is attached nowhere yet; it will be in the container's own mount namespace only.
    Detached {
        /// The mount.
        mount: OwnedFd,
        /// A directory of the host to attach it to for the moment before it becomes the root.
        at: PathBuf,
    },
}

/// The process's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// Three open files. Their owner and mode are never changed.
    Streams([OwnedFd; 3]),
    /// A new terminal in the container's own devpts.
    Terminal {
        /// Rows and columns; the configuration's where there are none.
        size: Option<(u16, u16)>,
    },
    /// A new terminal whose master goes to whoever is at the other end of this socket (`--console-socket`).
    Console(OwnedFd),
}

/// How a container's life hangs on the process that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// The container is killed when its parent dies, kill -9 included, whatever the container does to its own credentials.
    DiesWithParent,
    /// The container goes on.
    Outlives,
}
