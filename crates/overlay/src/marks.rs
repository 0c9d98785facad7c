//! The marks of overlayfs in a tree: whiteouts and opaque directories, made and recognised.
//!
//! Always in the `user.overlay.*` name space (mount option `userxattr`, Linux 5.11), for root too, so that one tree
//! serves everybody. Kernel documentation: `Documentation/filesystems/overlayfs.rst`, "whiteouts and opaque directories".

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, Stat, XattrFlags};
use rustix::io::Errno;
use sys::Call;

/// The xattr that marks an opaque directory: nothing of the lower layers shows through it.
pub const OPAQUE: &str = "user.overlay.opaque";

/// The value of [`OPAQUE`] that says so; `x` marks a directory with whiteouts in xattr form, which we never make.
pub const OPAQUE_VALUE: &[u8] = b"y";

/// The prefixes of all xattrs that overlayfs reads or writes; content never sets them.
const RESERVED: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];

/// True for an xattr that belongs to overlayfs, not to the content.
pub fn is_reserved(xattr: &[u8]) -> bool {
    RESERVED.iter().any(|prefix| xattr.starts_with(prefix))
}

/// True for a whiteout: a character device 0:0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0
}

/// Makes a whiteout of `name` in `dir`, where nothing of that name may exist.
///
/// Root of a user namespace may do this too (Linux 5.8).
///
/// # Errors
/// The errno of `mknodat(2)`.
pub fn make_whiteout(dir: impl AsFd, name: &OsStr) -> sys::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
        .call("mknodat", || format!("{name:?}, whiteout"))
}

/// Marks a directory opaque.
///
/// # Errors
/// The errno of `fsetxattr(2)`; `EOPNOTSUPP` where the file system has no user xattrs.
pub fn make_opaque(dir: impl AsFd) -> sys::Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE, OPAQUE_VALUE, XattrFlags::empty())
        .call("fsetxattr", || format!("{OPAQUE}=y"))
}

/// True where the directory behind a readable descriptor is opaque.
///
/// # Errors
/// The errno of `fgetxattr(2)`; a missing xattr or a file system without them is no error.
pub fn is_opaque(dir: impl AsFd) -> sys::Result<bool> {
    let mut value = [0; 2];
    match rustix::fs::fgetxattr(dir, OPAQUE, &mut value) {
        Ok(length) => Ok(&value[..length] == OPAQUE_VALUE),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(sys::Error::new("fgetxattr", OPAQUE, errno)),
    }
}

/// What stands at `name` in `dir`, not followed; `None` where there is nothing.
///
/// # Errors
/// The errno of `fstatat(2)` but `ENOENT`.
pub fn stat(dir: impl AsFd, name: &OsStr) -> sys::Result<Option<Stat>> {
    let raw = dir.as_fd().as_raw_fd();
    match rustix::fs::statat(dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(sys::Error::new("fstatat", format!("{raw}, {name:?}"), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::Root;

    #[test]
    fn whiteouts_and_opaque_directories_are_recognised() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Root::open_ambient(dir.path()).expect("open");
        assert!(stat(&root, OsStr::new("gone")).expect("stat").is_none());
        make_whiteout(&root, OsStr::new("gone")).expect("mknod");
        let made = stat(&root, OsStr::new("gone")).expect("stat").expect("there");
        assert!(is_whiteout(&made));
        assert!(!is_whiteout(&stat(&root, OsStr::new(".")).expect("stat").expect("there")));
        assert!(!is_opaque(&root).expect("get"));
        make_opaque(&root).expect("set");
        assert!(is_opaque(&root).expect("get"));
    }

    #[test]
    fn only_overlay_xattrs_are_reserved() {
        for name in ["user.overlay.opaque", "trusted.overlay.redirect", "user.overlay.x"] {
            assert!(is_reserved(name.as_bytes()), "{name}");
        }
        for name in ["user.overlayx", "security.capability", "trusted.md5sum"] {
            assert!(!is_reserved(name.as_bytes()), "{name}");
        }
    }
}
