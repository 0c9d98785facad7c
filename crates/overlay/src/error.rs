//! What can go wrong with a container's root.

use descriptor::{Classify, Exit};
use rustix::io::Errno;

/// The result of an operation on a container's root.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on a container's root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's part of it failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A system call failed.
    #[error("{what}: {source}")]
    Call {
        /// What was being done.
        what: &'static str,
        /// The call.
        source: sys::Error,
    },
    /// Its control group.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The caller may not mount.
    #[error("mounting an overlay needs CAP_SYS_ADMIN: {0}")]
    NotPrivileged(sys::Error),
    /// More layers than one mount takes.
    #[error("{found} layers: the kernel stacks {limit} in one mount")]
    TooManyLayers {
        /// How many there are.
        found: usize,
        /// The kernel's limit.
        limit: usize,
    },
    /// A plan that cannot be one.
    #[error("plan.json: {0}")]
    Plan(String),
    /// Something in the image stands in the way of a mount point.
    #[error("{path:?} in the image is {found}, where a {wanted} is to be mounted")]
    InTheWay {
        /// The path in the image.
        path: String,
        /// What it is.
        found: &'static str,
        /// What is needed.
        wanted: &'static str,
    },
    /// The container's process lives.
    #[error("container {name:?} is running")]
    Running {
        /// Its name.
        name: String,
    },
    /// The writable layer is mounted where we cannot use it.
    #[error("the root of container {name:?} is mounted in another mount namespace")]
    Elsewhere {
        /// The container's name.
        name: String,
    },
    /// Another tool works on it.
    #[error("container {name:?} is in use by another process")]
    InUse {
        /// The container's name.
        name: String,
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

impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Cgroup(error) => error.exit(),
            Self::Call { source, .. } => match source.errno {
                Errno::NOSPC | Errno::DQUOT => Exit::Space,
                Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::ROFS | Errno::NODEV => Exit::Privilege,
                _ => Exit::Other,
            },
            Self::NotPrivileged(_) | Self::TooManyLayers { .. } => Exit::Privilege,
            Self::Plan(_) | Self::InTheWay { .. } => Exit::Content,
            Self::Running { .. } | Self::Elsewhere { .. } | Self::InUse { .. } => Exit::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Cgroup(error) => error.hint(),
            Self::NotPrivileged(_) => {
                Some("run it as root, or in a user namespace: unshare --user --map-root-user --mount".into())
            }
            Self::TooManyLayers { .. } => Some("oci-commit without --layer makes one layer of them".into()),
            Self::Running { .. } => Some("end it first, or let --force kill it".into()),
            Self::Elsewhere { .. } => Some("end the processes of that namespace first".into()),
            _ => None,
        }
    }
}
