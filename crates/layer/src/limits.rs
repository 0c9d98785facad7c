//! What a layer may ask of us, each a named number with its reason.

use crate::error::{Error, Result};

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

/// Decoded bytes of one layer, and bytes of its files with their holes: 1 TiB, beyond every real layer.
pub const BYTES: u64 = 1 << 40;

/// Members of one layer: ten million, beyond every real layer.
pub const ENTRIES: u64 = 10_000_000;

/// Decoded bytes for each byte of the blob: gzip's own most, reached by nothing but equal bytes, is 1,032.
pub const RATIO: u64 = 1000;

/// Decoded bytes up to which the ratio is not looked at: a file of zeros is small in an archive and nobody's attack.
pub const RATIO_FROM: u64 = 1 << 30;

/// Levels of directories: as many as a name of `PATH_MAX` bytes can spell, so only chains of symlinks lead deeper.
pub const DEPTH: u16 = 2048;

/// The limits that an operator may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Decoded bytes of one layer, the archive with everything after its end; and bytes of its files, holes included.
    pub bytes: u64,
    /// Members of one layer.
    pub entries: u64,
    /// Decoded bytes for each byte of the blob.
    pub ratio: u64,
    /// Decoded bytes up to which the ratio is not looked at.
    pub ratio_from: u64,
    /// Levels of directories below the tree's root; at most [`DEPTH`].
    pub depth: u16,
}

impl Default for Limits {
    /// The constants of this module.
    fn default() -> Self {
        Self { bytes: BYTES, entries: ENTRIES, ratio: RATIO, ratio_from: RATIO_FROM, depth: DEPTH }
    }
}

impl Limits {
    /// Fails where `decoded` bytes are too many, or too many for the `read` bytes of the blob they came from.
    pub(crate) fn check(&self, decoded: u64, read: u64) -> Result<()> {
        if decoded > self.bytes {
            return Err(Error::Limit { what: "decoded bytes", limit: self.bytes });
        }
        if decoded > self.ratio_from && decoded > read.saturating_mul(self.ratio) {
            return Err(Error::Limit { what: "decoded bytes for each byte of the blob", limit: self.ratio });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_counts_from_a_size_on() {
        let limits = Limits { bytes: 1000, ratio: 10, ratio_from: 100, ..Limits::default() };
        for (decoded, read, allowed) in [
            (100, 1, true),
            (101, 1, false),
            (101, 11, true),
            (111, 11, false),
            (1000, 100, true),
            (1001, 1000, false),
        ] {
            assert_eq!(limits.check(decoded, read).is_ok(), allowed, "{decoded} of {read}");
        }
    }
}
