//! What a layer may ask of us, each a named number with its reason.

/// Bytes of one PAX or GNU long-name header: Go's archive/tar and containers-storage use the same (CVE-2017-14992, CVE-2022-2879).
pub(crate) const EXTENSION_BYTES: u64 = 1 << 20;

/// Bytes of a member's name or link target: `PATH_MAX` (limits.h) with its terminator.
pub(crate) const NAME_BYTES: usize = 4096;

/// Bytes of an xattr's name: `XATTR_NAME_MAX` (linux/limits.h).
pub(crate) const XATTR_NAME_BYTES: usize = 255;

/// Bytes of an xattr's value: `XATTR_SIZE_MAX` (linux/limits.h).
pub(crate) const XATTR_VALUE_BYTES: usize = 65536;

/// Xattrs of one member: far above any real file, far below what makes a file slow to copy.
pub(crate) const XATTRS: usize = 1024;

/// Extents of one sparse file (CVE-2025-58183, CVE-2026-32288): 64 Ki of them are 1 MiB of memory.
pub(crate) const SPARSE_EXTENTS: usize = 65536;

/// Bytes of directory xattrs kept until the end, where directories get their attributes.
pub(crate) const DEFERRED_XATTR_BYTES: usize = 16 << 20;

/// Bytes of the paths that are noted of a layer's directories: names beside a deep path would be some kilobytes each, and
/// compress to nothing.
pub(crate) const NOTED_PATH_BYTES: usize = 16 << 20;

/// Directories of one layer, each of which is known until the end.
pub(crate) const DIRECTORIES: usize = 2_000_000;

/// The largest window a zstd frame may ask for, as a power of two: 128 MiB, `zstd --long`'s default.
pub(crate) const ZSTD_WINDOW_LOG: u32 = 27;

/// The limits that an operator may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Decoded bytes of one layer: the archive with everything after its end.
    pub bytes: u64,
    /// Members of one layer.
    pub entries: u64,
}

impl Default for Limits {
    /// 1 TiB and ten million members: beyond every real layer, and an end to a hostile one.
    fn default() -> Self {
        Self { bytes: 1 << 40, entries: 10_000_000 }
    }
}
