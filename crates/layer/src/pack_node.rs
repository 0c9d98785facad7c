//! One entry of a tree as the kernel holds it: opened once with `O_PATH`, everything else asked of that descriptor.
//!
//! Invariants: nothing is followed, no device, FIFO or socket is ever opened for reading, and what is read
//! is the object whose type was seen: it is reached again through its descriptor, never through its name.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use overlay::marks;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags};
use rustix::io::Errno;
use sys::Call;

/// Room for one `getdents64` call.
const DIRENTS: usize = 32 * 1024;
/// What belongs to this host and not to the files: its policy's labels and its machine's signatures.
const HOST_XATTRS: [&[u8]; 2] = [b"security.selinux", b"security.evm"];

/// Which object, on this host, for as long as it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId {
    dev: (u32, u32),
    ino: u64,
}

/// What `statx(2)` says of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) links: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) id: FileId,
    pub(crate) mount: u64,
}

/// An entry held open by `O_PATH`.
#[derive(Debug)]
pub(crate) struct Node {
    fd: OwnedFd,
    pub(crate) meta: Meta,
}

/// The extended attributes of an entry, sorted by name.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

impl Node {
    /// Opens the entry `name` of a directory, whatever it is.
    pub(crate) fn open(dir: BorrowedFd<'_>, name: &CStr) -> sys::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", || format!("{name:?}"))?;
        Self::from_fd(fd)
    }

    /// Takes a descriptor, of `O_PATH` or not.
    pub(crate) fn from_fd(fd: OwnedFd) -> sys::Result<Self> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let s = rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH, mask)
            .call("statx", || "AT_EMPTY_PATH".into())?;
        let mode = u32::from(s.stx_mode);
        let meta = Meta {
            kind: FileType::from_raw_mode(mode),
            mode: mode & 0o7777,
            uid: s.stx_uid,
            gid: s.stx_gid,
            size: s.stx_size,
            links: s.stx_nlink,
            mtime: (s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
            device: (s.stx_rdev_major, s.stx_rdev_minor),
            id: FileId { dev: (s.stx_dev_major, s.stx_dev_minor), ino: s.stx_ino },
            mount: s.stx_mnt_id,
        };
        Ok(Self { fd, meta })
    }

    /// Another descriptor of the same entry.
    pub(crate) fn try_clone(&self) -> sys::Result<Self> {
        let fd = self.fd.try_clone().call("fcntl", || "F_DUPFD_CLOEXEC".into())?;
        Ok(Self { fd, meta: self.meta })
    }

    /// True for overlayfs's mark of a deleted name: the character device 0:0.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.meta.kind == FileType::CharacterDevice && self.meta.device == (0, 0)
    }

    /// True for overlayfs's mark of a directory that hides those below it.
    pub(crate) fn is_opaque(&self) -> sys::Result<bool> {
        let name = CString::new(marks::OPAQUE).unwrap_or_default();
        Ok(self.xattr(&name)?.is_some_and(|value| value == marks::OPAQUE_VALUE))
    }

    /// Opens the same object for reading: through the descriptor's own link, so that no rename can put another there.
    pub(crate) fn reopen(&self) -> sys::Result<OwnedFd> {
        let path = self.link();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = match rustix::fs::openat(CWD, &path, flags | OFlags::NOATIME, Mode::empty()) {
            // O_NOATIME is for owners; others leave their mark on the access time.
            Err(Errno::PERM) => rustix::fs::openat(CWD, &path, flags, Mode::empty()),
            other => other,
        };
        opened.call("open", || path.to_string_lossy().into_owned())
    }

    /// The data of a regular file.
    pub(crate) fn data(&self) -> sys::Result<File> {
        Ok(File::from(self.reopen()?))
    }

    /// Where a symlink points.
    pub(crate) fn target(&self) -> sys::Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.fd, c"", Vec::new()).call("readlinkat", String::new)?;
        Ok(target.into_bytes())
    }

    /// The attributes that a layer carries, sorted; see [`is_kept`].
    pub(crate) fn xattrs(&self) -> sys::Result<Xattrs> {
        let mut kept = BTreeMap::new();
        for name in self.xattr_names()?.split(|&b| b == 0).filter(|name| is_kept(name)) {
            let Ok(c_name) = CString::new(name) else { continue };
            if let Some(value) = self.xattr(&c_name)? {
                kept.insert(name.to_vec(), value);
            }
        }
        Ok(kept)
    }

    /// All names, each with its NUL. Asked through /proc, as `O_PATH` descriptors refuse `flistxattr(2)`.
    fn xattr_names(&self) -> sys::Result<Vec<u8>> {
        let path = self.link();
        let args = || path.to_string_lossy().into_owned();
        let mut names = vec![0; 256];
        loop {
            match rustix::fs::listxattr(&path, &mut names[..]) {
                Ok(n) => {
                    names.truncate(n);
                    return Ok(names);
                }
                Err(Errno::RANGE) if names.len() < XATTR_MOST => names.resize(XATTR_MOST, 0),
                Err(Errno::NOTSUP) => return Ok(Vec::new()),
                Err(errno) => return Err(sys::Error::new("listxattr", args(), errno)),
            }
        }
    }

    /// One attribute; `None` where there is none (any more).
    fn xattr(&self, name: &CStr) -> sys::Result<Option<Vec<u8>>> {
        let path = self.link();
        let mut value = vec![0; 256];
        loop {
            match rustix::fs::getxattr(&path, name, &mut value[..]) {
                Ok(n) => {
                    value.truncate(n);
                    return Ok(Some(value));
                }
                Err(Errno::RANGE) if value.len() < XATTR_MOST => value.resize(XATTR_MOST, 0),
                Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
                Err(errno) => return Err(sys::Error::new("getxattr", format!("{name:?}"), errno)),
            }
        }
    }

    /// The kernel's own link to this very object (proc(5), /proc/self/fd).
    fn link(&self) -> CString {
        CString::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).unwrap_or_default()
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The most bytes of one attribute's value and of all names (xattr(7): `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const XATTR_MOST: usize = 65_536;

/// Whether a layer carries an attribute: all but overlayfs's marks and what belongs to this host.
fn is_kept(name: &[u8]) -> bool {
    !name.is_empty() && !marks::is_reserved(name) && !HOST_XATTRS.contains(&name)
}

/// The names in a directory but `.` and `..`, in the order the file system has them.
pub(crate) fn names(dir: BorrowedFd<'_>) -> sys::Result<Vec<CString>> {
    let mut buffer = [const { MaybeUninit::uninit() }; DIRENTS];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.call("getdents64", String::new)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
