//! What can go wrong with a class of service.

use std::path::PathBuf;

use descriptor::{Classify, Exit};
use rustix::io::Errno;

/// A failed operation on resctrl.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no resctrl file system to be seen.
    #[error(
        "linux.intelRdt needs the resctrl file system, which is not mounted here (mount -t resctrl resctrl /sys/fs/resctrl)"
    )]
    NotMounted,
    /// The class that has to be there is not.
    #[error(
        "linux.intelRdt: the class {class:?} does not exist in {mount:?}, and no schema says how to make it"
    )]
    NoClass {
        /// `closID`.
        class: String,
        /// The file system.
        mount: PathBuf,
    },
    /// What was to be made is somebody else's.
    #[error("linux.intelRdt: {path:?} exists already")]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The class is set otherwise than the configuration says.
    #[error("linux.intelRdt: the class {class:?} has {found}, not {asked}")]
    Differs {
        /// `closID`.
        class: String,
        /// The part of the schema that was asked for.
        asked: String,
        /// What the class has.
        found: String,
    },
    /// A call failed.
    #[error("linux.intelRdt: {source}{}", said(.status))]
    Call {
        /// The call.
        source: sys::Error,
        /// What resctrl says of it (`info/last_cmd_status`); empty where it says nothing.
        status: String,
    },
}

fn said(status: &str) -> String {
    if status.is_empty() { String::new() } else { format!(" ({status})") }
}

impl From<sys::Error> for Error {
    fn from(source: sys::Error) -> Self {
        Self::Call { source, status: String::new() }
    }
}

impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::NotMounted => Exit::Privilege,
            Self::NoClass { .. } => Exit::NotFound,
            Self::Exists { .. } | Self::Differs { .. } => Exit::Conflict,
            Self::Call { source, .. } => match source.errno {
                // No class or monitoring group is left.
                Errno::NOSPC => Exit::Space,
                Errno::PERM | Errno::ACCESS | Errno::NOENT | Errno::ROFS | Errno::NODEV => Exit::Privilege,
                Errno::INVAL => Exit::Content,
                _ => Exit::Other,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotMounted => Some(
                "it needs a processor and a kernel with resource control (CONFIG_X86_CPU_RESCTRL)".into(),
            ),
            Self::Call { source, .. } if source.is_not_found() && source.args.contains("mon_groups") => {
                Some("this processor, or its kernel, does not monitor classes".into())
            }
            Self::Exists { .. } => Some("remove it with rmdir if nobody uses it".into()),
            _ => None,
        }
    }
}
