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
}

/// How a container's life hangs on the process that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// The container is killed when its parent dies, kill -9 included, whatever the container does to its own credentials.
    DiesWithParent,
    /// The container goes on.
    Outlives,
}
