//! What can go wrong with a layer, by what went wrong.

use std::io;
use std::os::unix::ffi::OsStrExt;

use descriptor::{Classify, Exit};
use rustix::io::Errno;

use crate::stream::Encoding;

/// The result of reading a layer.
pub type Result<T> = std::result::Result<T, Error>;

/// A layer that cannot be read or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source of the bytes failed, not their content.
    #[error("reading the layer: {0}")]
    Input(#[source] io::Error),
    /// The bytes are encoded in another way than the media type says.
    #[error("the media type says {declared}, the bytes are {found}")]
    Encoding {
        /// By the media type.
        declared: Encoding,
        /// By the first bytes.
        found: &'static str,
    },
    /// The compressed stream is broken.
    #[error("{encoding} stream after {decoded} decoded bytes: {source}")]
    Decode {
        /// The stream's format.
        encoding: Encoding,
        /// How many bytes had come out of it.
        decoded: u64,
        /// The decoder's own words.
        source: io::Error,
    },
    /// The archive's structure is broken.
    #[error("tar archive at byte {offset}: {why}")]
    Archive {
        /// Where in the decoded bytes.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A member asks for something that no layer may.
    #[error("member {member}: {why}")]
    Member {
        /// The member's name, escaped.
        member: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The kernel or the file system did not do what a member asks for.
    #[error("member {member}: {source}")]
    Write {
        /// The member's name, escaped.
        member: String,
        /// The call.
        source: sys::Error,
    },
    /// The file system does not take a member's xattr.
    #[error("member {member}: the file system refuses the xattr {xattr} of {bytes} bytes: {source}")]
    Xattr {
        /// The member's name, escaped.
        member: String,
        /// The xattr's name, escaped.
        xattr: String,
        /// The value's length.
        bytes: usize,
        /// The call.
        source: sys::Error,
    },
    /// More than a limit allows.
    #[error("the layer has more than {limit} {what}")]
    Limit {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A call on the tree itself, not on behalf of one member.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(#[source] io::Error),
}

impl Error {
    /// A member that asks for something no layer may.
    pub(crate) fn member(name: &[u8], why: &'static str) -> Self {
        Self::Member { member: escaped(name), why }
    }

    /// A call that failed on behalf of a member.
    pub(crate) fn write(name: &[u8], source: sys::Error) -> Self {
        Self::Write { member: escaped(name), source }
    }
}

impl Classify for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Input(e) => input(e),
            Self::Encoding { .. } | Self::Decode { .. } | Self::Archive { .. } => Exit::Content,
            Self::Member { .. } | Self::Limit { .. } => Exit::Content,
            Self::Write { source, .. } | Self::Sys(source) => errno(source.errno),
            Self::Xattr { source, .. } => match source.errno {
                Errno::INVAL => Exit::Content,
                Errno::NOTSUP | Errno::PERM | Errno::ACCESS => Exit::Privilege,
                // ENOSPC for one large xattr is ext4's limit, not a full disk.
                _ => Exit::Other,
            },
            Self::Thread(_) => Exit::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Xattr { .. } => Some("use a store on a file system that takes it".into()),
            Self::Write { source, .. } if errno(source.errno) == Exit::Privilege => {
                Some("owners other than one's own and device nodes need root".into())
            }
            _ => None,
        }
    }
}

/// The class of a refused call.
fn errno(errno: Errno) -> Exit {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Exit::Space,
        Errno::PERM | Errno::ACCESS | Errno::ROFS => Exit::Privilege,
        // A name or path that no file system here can hold, too many links or symlinks: the archive's own doing.
        Errno::NAMETOOLONG | Errno::LOOP | Errno::MLINK | Errno::FBIG => Exit::Content,
        _ => Exit::Other,
    }
}

/// The class of a failing source: the store's own error where it is one.
fn input(error: &io::Error) -> Exit {
    store::Error::inside(error).map_or(Exit::Other, Classify::exit)
}

/// How much of a name a message repeats, in bytes.
const SHOWN: usize = 300;

/// A name from an archive for a message: quoted, control bytes and what is no UTF-8 escaped, long ones cut.
pub(crate) fn escaped(name: &[u8]) -> String {
    let shown = &name[..name.len().min(SHOWN)];
    let rest = if shown.len() < name.len() { "..." } else { "" };
    format!("{:?}{rest}", std::ffi::OsStr::from_bytes(shown))
}
