//! The tar reader: POSIX.1-2001 pax, ustar, GNU and V7 archives, read as Go's archive/tar reads them.
//!
//! Why not the tar crate: an invalid PAX record is skipped there, sparse maps are unbounded, and a header cannot be
//! told from the member it belongs to when they disagree. A layer that two readers take for different trees is an
//! attack (RUSTSEC-2025-0110, "TARmageddon"), so everything ambiguous is an error here.
//!
//! Invariants
//! - The PAX size always wins, for the member and for where the next header is.
//! - A wrong checksum, an invalid or repeated PAX record, an extension header without its member is an error.
//! - No header makes us take more memory than its limit ([`crate::limits`]).

mod archive;
mod header;
mod pax;
mod sparse;

pub(crate) use archive::{Archive, Source};

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// Another name of a member before it.
    HardLink,
    /// A symlink.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A point in time: seconds since 1970, and nanoseconds after those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// A stretch of a sparse file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A member as its headers describe it; its data is read from the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// As the archive has it.
    pub(crate) path: Vec<u8>,
    /// The link's target as the archive has it; empty where the member is no link.
    pub(crate) target: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Apparent size in bytes.
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Names and values in the archive's order.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where a sparse file's data goes.
    pub(crate) sparse: Option<Vec<Extent>>,
}
