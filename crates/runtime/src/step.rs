//! The steps of a container's setup: data, made by the plan, run by the child in order.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;
use oci_spec::runtime::Hook;
use rustix::mount::MountPropagationFlags;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, CpuSet, LinkNameSpaceType, ThreadNameSpaceType};

use sys::tuning::Scheduling;

use crate::channel::Point;
use crate::hooks::HookKind;
use crate::labels::Module;
use crate::options::Options;
use crate::request::RootSource;

/// The name of the step that sets resource limits: its failure has a hint of its own.
pub(crate) const RLIMITS: &str = "set resource limits";

/// One step: what messages call it, and what it does.
#[derive(Debug)]
pub(crate) struct Step {
    /// The step's name, as a message continues "oci-spawn: ".
    pub(crate) name: String,
    /// What to do.
    pub(crate) action: Action,
}

impl Step {
    pub(crate) fn new(name: impl Into<String>, action: Action) -> Self {
        Self { name: name.into(), action }
    }
}

/// What is entered before init exists, in a process between the runtime and it.
#[derive(Debug)]
pub(crate) enum Entry {
    /// An existing namespace that holds the children of who joins it.
    Join(File, LinkNameSpaceType),
    /// The processors that this process, and what it makes, may run on.
    Affinity(CpuSet),
    /// The namespaces of these kinds that a process is in.
    JoinProcess(OwnedFd, ThreadNameSpaceType),
}

impl Entry {
    /// The descriptor that it is entered by.
    pub(crate) fn number(&self) -> Option<RawFd> {
        match self {
            Self::Join(file, _) => Some(file.as_raw_fd()),
            Self::JoinProcess(process, _) => Some(process.as_raw_fd()),
            Self::Affinity(_) => None,
        }
    }
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Asks the kernel to kill this process with its parent, and makes sure that the parent lived then.
    DieWithParent,
    /// Forgets the parent's death again: from here on this process outlives it.
    Untie,
    /// Waits at a point for the runtime's part.
    Reach(Point),
    /// Lets signals end this process while it waits.
    HeedSignals,
    /// Waits for `start`.
    AwaitStart,
    /// Runs hooks in the container's namespaces, with the state that came with the last word to go on.
    Hooks(HookKind, Vec<Hook>),
    /// Makes sure that the command can be executed.
    FindCommand,
    /// A session of its own, with true also a session keyring; unreadable to others while the host is still in reach.
    Session(bool),
    /// Its memory tells nothing of the caller.
    Disguise,
    /// Makes new namespaces that can only be made once the process is where it belongs.
    Unshare(CloneFlags),
    /// Enters the time namespace that this process has made for its children.
    EnterTime,
    /// Enters an existing namespace.
    Join(File, LinkNameSpaceType),
    /// Enters namespaces that a process is in.
    JoinProcess(OwnedFd, ThreadNameSpaceType),
    /// Becomes the root of a user namespace just entered, where that has one.
    RootOfUsers,
    /// Takes this mount namespace's root for the container's: it is inside already.
    Inside,
    /// Changes into the root of the container's first process, which has no mount namespace of its own.
    InsideOf(OwnedFd),
    /// Limits the processors that it may run on.
    Affinity(CpuSet),
    /// Adds the user's home directory to an environment that names none, as runc does.
    Home(Uid),
    /// Cuts the propagation of mounts towards the host.
    Propagation(MountPropagationFlags),
    /// Changes into the root where it cannot be pivoted, as its mounts are the host's.
    Chroot,
    /// Brings the root file system into this mount namespace.
    Root(RootPlan),
    /// Mounts one thing inside the root.
    Mount(MountPlan),
    /// Makes device nodes.
    Devices(Vec<DeviceNode>),
    /// Leaves the devices that exist in /dev as the only ones that work there.
    SealDevices(Vec<PathBuf>),
    /// These nodes work wherever they are, a root without devices say.
    FreeDevices(Vec<PathBuf>),
    /// Makes the customary links of /dev.
    DeviceLinks,
    /// Opens the container's /dev/null and makes sure of it.
    Null,
    /// Allocates the terminal in the container's devpts and makes it the console.
    Terminal(TerminalPlan),
    /// Gives the process its three streams.
    Streams,
    /// Holds a procfs that nothing in the container can have replaced.
    Procfs,
    /// Hides paths.
    Mask(Vec<PathBuf>),
    /// Makes paths read-only.
    ReadOnly(Vec<PathBuf>),
    /// Gives the root its propagation, once it is the root.
    RootPropagation(MountPropagationFlags),
    /// Makes the root's own mount read-only.
    ReadOnlyRoot,
    /// Brings lo up.
    Loopback,
    /// Sets the host name.
    Hostname(String),
    /// Sets the NIS domain name.
    Domainname(String),
    /// Sets the process's standing with the out-of-memory killer.
    OomScoreAdj(i32),
    /// Makes the root the root, and lets go of the host's.
    Pivot,
    /// The same where the root file system cannot be pivoted, a ramdisk (`--no-pivot`).
    MoveRoot,
    /// Writes kernel parameters: paths below /proc, and values.
    Sysctls(Vec<(String, String)>),
    /// Gives network interfaces that came from the host their addresses and brings them up.
    NetDevices(Vec<(String, Vec<Vec<u8>>)>),
    /// Sets how the process is scheduled.
    Schedule(Scheduling),
    /// Sets the class and level of its input and output.
    IoPriority(u16, u16),
    /// Sets where its memory comes from.
    MemoryPolicy(i32, Vec<u64>),
    /// Sets which system it says it is.
    Personality(u32),
    /// Gives the command a label.
    Label(Module, String),
    /// Enters the working directory; with true it is made where it is missing.
    Cwd(PathBuf, bool),
    /// Limits resources.
    Rlimits(Vec<(Resource, Rlimit)>),
    /// Sets resource limits once no descriptor but those of the command is open.
    LastRlimits(Vec<(Resource, Rlimit)>),
    /// Drops all capabilities but these from the bounding set.
    Bounding(CapabilitySet),
    /// Becomes the user.
    Identity(Identity),
    /// Sets the other capability sets: exactly these.
    Capabilities(Rights),
    /// Filters the system calls of all that follows.
    Filter(seccomp::Program),
    /// Filters the system calls of the command alone, when nothing is left to do but to set these capabilities and to
    /// execute it.
    FilterAtExec(seccomp::Program, Option<Rights>),
    /// Forbids gaining privileges by exec.
    NoNewPrivileges,
}

/// The root file system.
#[derive(Debug)]
pub(crate) struct RootPlan {
    pub(crate) source: RootSource,
    /// False: no device node in it works.
    pub(crate) devices: bool,
    /// The mounts of this namespace are also the host's, so that no mount of the container may come among them.
    pub(crate) shared: bool,
}

/// What the process may do.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    /// Effective, permitted, inheritable.
    pub(crate) sets: CapabilitySets,
    pub(crate) ambient: CapabilitySet,
}

/// Who the process is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// Supplementary groups, exactly those of the configuration. Whoever writes one from an image's user lists the primary
    /// among them (`users::resolve`): a process must not escape a group's denial by leaving it out.
    pub(crate) groups: Vec<Gid>,
    pub(crate) umask: Option<u32>,
}

/// A mount inside the container.
#[derive(Debug)]
pub(crate) struct MountPlan {
    pub(crate) destination: PathBuf,
    pub(crate) what: Source,
    pub(crate) options: Options,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file or directory of the host: its path, and the tree that was found there before the process was made, where the
    /// runtime had the right to take it.
    Bind { path: PathBuf, recursive: bool, tree: Option<OwnedFd> },
    /// Nothing new: what is mounted there already is changed.
    Remount,
    /// A new file system.
    New { kind: String, source: String },
    /// The cgroup hierarchies: one file system of version 2, or a directory with one for each of version 1.
    Cgroups(Vec<cgroup::Shown>),
    /// The process's own groups of version 1 where the host has them, for a container without a cgroup namespace: in a new
    /// mount it would see those of the whole host.
    OwnCgroups(Vec<cgroup::Shown>),
}

impl Source {
    /// True for what depends on the control groups that the process is in.
    pub(crate) fn shows_groups(&self) -> bool {
        matches!(self, Self::Cgroups(_) | Self::OwnCgroups(_))
    }
}

/// A device node.
#[derive(Debug, Clone)]
pub(crate) struct DeviceNode {
    pub(crate) path: PathBuf,
    pub(crate) kind: rustix::fs::FileType,
    pub(crate) device: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// The directories of the configured PATH.
    pub(crate) path: Vec<PathBuf>,
    /// How many descriptors beyond the standard ones it gets.
    pub(crate) preserved: i32,
    /// A first process of the runtime's own stands before it.
    pub(crate) reaper: bool,
}

/// The container's terminal.
#[derive(Debug)]
pub(crate) struct TerminalPlan {
    /// Rows and columns, where the configuration tells.
    pub(crate) size: Option<(u16, u16)>,
    /// Who owns it.
    pub(crate) uid: Uid,
    /// It becomes /dev/console, too.
    pub(crate) console: bool,
}
