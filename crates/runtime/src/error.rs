//! What goes wrong between a configuration and a running process, and the exit status of each.

use std::path::PathBuf;

use descriptor::{Classify, Exit};
use rustix::io::Errno;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// The exit status of a runtime that failed itself (docker, podman, POSIX shells for the next two).
pub const EXIT_TOOL: u8 = 125;
/// The exit status for a command that exists but cannot be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The exit status for a command that does not exist.
pub const EXIT_NOT_FOUND: u8 = 127;

/// Why no process came to be, or why it was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call of the runtime itself failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// A step of the container's setup failed; nothing was executed.
    #[error("{step}: {source}")]
    Step {
        /// The step's name.
        step: String,
        /// The call that failed in it.
        source: sys::Error,
    },
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] crate::hooks::HookFailure),
    /// The command is in no directory of the container's PATH, or the named file does not exist in its root.
    #[error("{command:?} not found in the container ({searched})")]
    CommandNotFound {
        /// The command as configured.
        command: String,
        /// Where it was looked for.
        searched: String,
    },
    /// The command is there but the kernel refuses to execute it.
    #[error("{command:?} cannot be executed: {why}")]
    NotExecutable {
        /// The command as configured.
        command: String,
        /// What the kernel said, in words.
        why: String,
    },
    /// The child ended before it could tell what was wrong.
    #[error("the container's process ended during its setup ({0})")]
    Lost(String),
    /// The configuration has no process or no arguments.
    #[error("the configuration has no {0}")]
    Incomplete(&'static str),
    /// A member of the configuration has a value that cannot be right.
    #[error("the configuration's {member} is wrong: {why}")]
    Invalid {
        /// The member in the runtime specification's words.
        member: String,
        /// What is wrong with it.
        why: String,
    },
    /// A member of the configuration asks for what this runtime cannot give yet; dropping it in silence would be worse.
    #[error("the configuration's {0} is not supported")]
    Unsupported(String),
    /// A verb of other runtimes.
    #[error("{0} is not supported by this runtime")]
    Verb(String),
    /// A word that is no container id.
    #[error("invalid container ID format: {0:?}")]
    Id(String),
    /// The id is taken.
    #[error("container with given ID already exists: {id}")]
    Exists {
        /// The id.
        id: String,
    },
    /// There is no such container under this state root.
    #[error("container does not exist: {id:?}")]
    NoContainer {
        /// The id.
        id: String,
    },
    /// The container's init has ended.
    #[error("container not running: {id:?}")]
    NotRunning {
        /// The id.
        id: String,
    },
    /// The container's state does not allow it.
    #[error("cannot {wanted} container {id:?} that is {status}")]
    State {
        /// The id.
        id: String,
        /// How it stands.
        status: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The container cannot be given processes.
    #[error("cannot exec in a container {why}")]
    Exec {
        /// How it stands.
        why: &'static str,
    },
    /// The state root is another user's.
    #[error("{path:?} belongs to user {owner}")]
    Foreign {
        /// The state root, or a directory in it.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
    },
    /// The system call filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// A control group.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// A class of service.
    #[error(transparent)]
    Resctrl(#[from] crate::resctrl::Error),
    /// Nothing tells which processes are the container's.
    #[error(
        "it has neither a control group nor a pid namespace of its own, so nothing tells which processes are its"
    )]
    NoFamily,
    /// A limit needs a control group that cannot be had.
    #[error("{limit} needs a control group: {source}")]
    Limits {
        /// The limit, as the configuration names it.
        limit: &'static str,
        /// Why there is none.
        source: Box<cgroup::Error>,
    },
    /// A file of the host could not be read or written.
    #[error("{path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl Error {
    /// The status that a runtime ends with after this error.
    pub fn status(&self) -> u8 {
        match self {
            Self::CommandNotFound { .. } => EXIT_NOT_FOUND,
            Self::NotExecutable { .. } => EXIT_NOT_EXECUTABLE,
            _ => EXIT_TOOL,
        }
    }

    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Sys(source) | Self::Step { source, .. } => Some(source.errno),
            _ => None,
        }
    }
}

impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::CommandNotFound { .. } | Self::NotExecutable { .. } => Exit::NotFound,
            Self::Incomplete(_) | Self::Invalid { .. } => Exit::Content,
            Self::Unsupported(_) | Self::Verb(_) => Exit::Privilege,
            Self::Sys(_) | Self::Step { .. } => match self.errno() {
                Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::NODEV) => Exit::Privilege,
                Some(Errno::NOSPC | Errno::DQUOT) => Exit::Space,
                _ => Exit::Other,
            },
            Self::Id(_) => Exit::Usage,
            Self::NoContainer { .. } => Exit::NotFound,
            Self::Exists { .. }
            | Self::NotRunning { .. }
            | Self::State { .. }
            | Self::Exec { .. }
            | Self::Foreign { .. } => Exit::Conflict,
            Self::Cgroup(error) => error.exit(),
            Self::Resctrl(error) => error.exit(),
            Self::Limits { .. } | Self::NoFamily => Exit::Privilege,
            Self::Seccomp(error) => error.exit(),
            Self::Lost(_) | Self::Hook(_) | Self::File { .. } => Exit::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Cgroup(source) => source.hint(),
            Self::Limits { source, .. } => source.hint(),
            Self::Step { step, source } if step == crate::step::RLIMITS && source.errno == Errno::PERM => {
                Some("raising a hard limit needs CAP_SYS_RESOURCE, which this caller lacks".into())
            }
            Self::Sys(source) if source.call == "clone3" && source.errno == Errno::PERM => {
                Some("new namespaces need root, or CAP_SYS_ADMIN".into())
            }
            Self::NotExecutable { why, .. } if why.starts_with("exec format error") => {
                Some("it is built for another architecture, or a script without a #! line".into())
            }
            Self::Resctrl(error) => error.hint(),
            _ => None,
        }
    }
}
