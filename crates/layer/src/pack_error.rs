//! What can go wrong on the way from a tree to a layer.

use std::io;

use descriptor::{Classify, Exit};

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A system call on the tree failed.
    #[error("{path}: {source}")]
    Tree {
        /// The entry's path inside the tree, escaped.
        path: String,
        /// The call.
        source: sys::Error,
    },
    /// The data of a file could not be read.
    #[error("{path}: read: {source}")]
    Read {
        /// The file's path inside the tree, escaped.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// A directory was replaced while it was being packed.
    #[error("{path}: replaced by something else while it was being packed")]
    Changed {
        /// The directory's path inside the tree, escaped.
        path: String,
    },
    /// A name that means a whiteout in every layer (image-spec, layer.md).
    #[error("{path}: names that begin with .wh. mark deletions in a layer, so no layer can hold this file")]
    Reserved {
        /// The entry's path inside the tree, escaped.
        path: String,
    },
    /// A device that means a deletion in overlayfs, in a tree that is no overlay.
    #[error("{path}: a character device 0:0 marks a deletion in overlayfs, so no layer can hold it")]
    Whiteout {
        /// The entry's path inside the tree, escaped.
        path: String,
    },
    /// The tree goes beyond what a layer may have, so no layer made of it could be unpacked.
    #[error("{path}: no layer has more {what} than {limit}")]
    Limit {
        /// The entry's path inside the tree, escaped; of a long one the beginning.
        path: String,
        /// What there is too much of.
        what: &'static str,
        /// The most.
        limit: usize,
    },
    /// The archive could not be written to where it goes.
    #[error("writing the layer: {0}")]
    Write(io::Error),
    /// The flag's value is none of the known compressions.
    #[error("{0:?} is no compression; use gzip, gzip:1 to gzip:9, zstd, zstd:1 to zstd:19, or none")]
    Compression(String),
}

/// How much of a path that is too long a message repeats, in bytes.
const SHOWN: usize = 300;

impl PackError {
    /// A limit that the entry at `path` is beyond.
    pub(crate) fn limit(path: &[u8], what: &'static str, limit: usize) -> Self {
        let rest = if path.len() > SHOWN { "..." } else { "" };
        Self::Limit { path: shown(&path[..path.len().min(SHOWN)]) + rest, what, limit }
    }
}

impl Classify for PackError {
    fn exit(&self) -> Exit {
        match self {
            Self::Tree { source, .. } => errno_exit(Some(source.errno.raw_os_error())),
            Self::Read { source, .. } => errno_exit(source.raw_os_error()),
            // The output may be a blob of the store, whose own errors travel inside.
            Self::Write(source) => {
                store::Error::inside(source).map_or_else(|| errno_exit(source.raw_os_error()), Classify::exit)
            }
            Self::Changed { .. } => Exit::Conflict,
            Self::Reserved { .. } | Self::Whiteout { .. } | Self::Limit { .. } => Exit::Content,
            Self::Compression(_) => Exit::Usage,
        }
    }
}

/// The exit status of an errno: space and privilege have their own.
fn errno_exit(errno: Option<i32>) -> Exit {
    use rustix::io::Errno;
    match errno.map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => Exit::Space,
        Some(Errno::ACCESS | Errno::PERM) => Exit::Privilege,
        _ => Exit::Other,
    }
}

/// A path of the tree as it is shown: quoted, control bytes escaped.
pub(crate) fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return "/".into();
    }
    format!("\"{}\"", path.escape_ascii())
}
