//! What can go wrong while copying.

use std::path::PathBuf;

use descriptor::{Classify, Exit};
use rustix::io::Errno;

use crate::copy::DEPTH;

/// The result of copying.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such source, or no directory for the destination.
    #[error("{0:?} does not exist")]
    Missing(PathBuf),
    /// A call failed.
    #[error("{path:?}: {source}")]
    Call {
        /// What it was about.
        path: PathBuf,
        /// The call.
        source: sys::Error,
    },
    /// A directory is wanted.
    #[error("{0:?} is no directory")]
    NotADirectory(PathBuf),
    /// Deeper than anything is copied.
    #[error("more than {DEPTH} directories one in the other")]
    TooDeep,
    /// A directory stands where something else is to be.
    #[error("{0:?} is a directory")]
    IsADirectory(PathBuf),
    /// The container's root could not be looked into.
    #[error(transparent)]
    Root(#[from] overlay::Error),
    /// An owner that the container does not know.
    #[error(transparent)]
    Owner(#[from] runtime::users::UserError),
    /// An archive on stdin that is broken or hostile, or whose members could not be written.
    #[error(transparent)]
    Archive(#[from] layer::Error),
    /// A member asks for something that nothing copied into a container may.
    #[error("member {0:?}: {1}")]
    Member(PathBuf, &'static str),
    /// Rules that cannot be read.
    #[error("{0:?}: {1}")]
    Rules(PathBuf, #[source] crate::ignore::RuleError),
    /// Packing an archive failed.
    #[error(transparent)]
    Pack(#[from] layer::PackError),
    /// The sources are in the container itself.
    #[error("--from {0:?} is the container that is copied into: it copies by itself (oci-spawn exec ... cp)")]
    Same(String),
    /// The source was exchanged for something else meanwhile.
    #[error("{0:?} changed while it was copied")]
    Changed(PathBuf),
}

impl Error {
    /// Names the path of a failed call.
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(sys::Error) -> Self {
        let path = path.into();
        move |source| match source.errno {
            Errno::NOENT => Self::Missing(path),
            Errno::NOTDIR => Self::NotADirectory(path),
            Errno::ISDIR => Self::IsADirectory(path),
            _ => Self::Call { path, source },
        }
    }
}

impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Missing(_) => Exit::NotFound,
            Self::Call { source, .. } => match source.errno {
                Errno::NOSPC | Errno::DQUOT => Exit::Space,
                Errno::PERM | Errno::ACCESS | Errno::ROFS => Exit::Privilege,
                _ => Exit::Other,
            },
            Self::NotADirectory(_) | Self::IsADirectory(_) | Self::Changed(_) => Exit::Other,
            Self::Member(..) | Self::TooDeep => Exit::Content,
            Self::Rules(..) | Self::Same(_) => Exit::Usage,
            Self::Archive(error) => error.exit(),
            Self::Pack(error) => error.exit(),
            Self::Root(error) => error.exit(),
            Self::Owner(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(error) => error.hint(),
            Self::Root(error) => error.hint(),
            Self::Owner(error) => error.hint(),
            _ => None,
        }
    }
}
