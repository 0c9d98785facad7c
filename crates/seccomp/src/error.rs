//! What is wrong with a profile, or kept a filter from being set.

use std::path::PathBuf;

use descriptor::{Classify, Exit};
use rustix::io::Errno;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A member of the profile has a value that cannot be right.
    #[error("linux.seccomp.{member} is wrong: {why}")]
    Invalid {
        /// The member in the specification's words.
        member: String,
        /// What is wrong with it.
        why: String,
    },
    /// The machine has no table of system calls here.
    #[error("system call filters are not supported on {0}")]
    Machine(&'static str),
    /// The program is longer than the kernel takes.
    #[error("the system call filter has {len} instructions, and the kernel takes {limit}")]
    TooLong {
        /// What the profile needs.
        len: usize,
        /// `BPF_MAXINSNS`.
        limit: usize,
    },
    /// The kernel does not know a flag.
    #[error("this kernel does not know {0}")]
    Flag(&'static str),
    /// The kernel refused the filter.
    #[error(transparent)]
    Load(#[from] sys::Error),
    /// The supervisor of the filter cannot be reached.
    #[error("linux.seccomp.listenerPath {path:?}: {call}: {}", errno_text(*errno))]
    Listener {
        /// The socket.
        path: PathBuf,
        /// The call that failed.
        call: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

fn errno_text(errno: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno.raw_os_error())
}

pub(crate) fn invalid(member: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Invalid { member: member.into(), why: why.into() }
}

impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Invalid { .. } | Self::TooLong { .. } => Exit::Content,
            Self::Machine(_) | Self::Flag(_) => Exit::Privilege,
            Self::Load(error) => match error.errno {
                Errno::ACCESS | Errno::PERM | Errno::NOSYS | Errno::INVAL => Exit::Privilege,
                _ => Exit::Other,
            },
            Self::Listener { .. } => Exit::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Load(error) if error.errno == Errno::ACCESS => {
                Some("a filter needs CAP_SYS_ADMIN or process.noNewPrivileges".into())
            }
            _ => None,
        }
    }
}
