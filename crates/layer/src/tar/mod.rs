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
pub enum Kind {
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
pub struct Time {
    /// Since 1970.
    pub seconds: i64,
    /// After those.
    pub nanoseconds: u32,
}

/// A stretch of a sparse file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// A member as its headers describe it; its data is read from the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As the archive has it.
    pub path: Vec<u8>,
    /// The link's target as the archive has it; empty where the member is no link.
    pub target: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// Apparent size in bytes.
    pub size: u64,
    /// When its content was changed.
    pub mtime: Time,
    /// A device's major number.
    pub major: u32,
    /// A device's minor number.
    pub minor: u32,
    /// Names and values in the archive's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where a sparse file's data goes.
    pub sparse: Option<Vec<Extent>>,
}
