//! Device nodes: made in the container's own /dev and believed only after `fstat(2)`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, StatVfsMountFlags, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::mount::{Change, Extent, attach, clone_tree, set_attributes};
use sys::{Call, Error, Parent, Result, Root};

use crate::mounts;
use crate::step::DeviceNode;

/// The nodes that every container has (runtime-spec 1.2, "Default Devices"): name, major, minor.
pub(crate) const DEFAULT: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The links that every container has ("Dev symbolic links"): name and target.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Docker's further link, on kernels that have its target.
const CORE: (&str, &str) = ("core", "/proc/kcore");

/// Makes one node and checks that it is what was asked for.
///
/// Where this process may make none, in a user namespace, the host's own node of that name is bound, once it is known to be
/// the one that was asked for.
pub(crate) fn make(root: &Root, node: &DeviceNode) -> Result<()> {
    let path = &node.path;
    if let Some(parent) = path.parent() {
        mounts::directory(root, parent, false)?;
    }
    let parent = root.parent(path)?;
    let mode = Mode::from_raw_mode(node.mode);
    match rustix::fs::mknodat(&parent.dir, &*parent.name, node.kind, mode, node.device) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(Errno::PERM) if node.kind != FileType::Fifo => return bind(&parent, node),
        Err(errno) => return Err(Error::new("mknodat", format!("{path:?}"), errno)),
    }
    let made = at(&parent, path)?;
    check(&made, path, node.kind, node.device)?;
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    rustix::fs::chownat(&made, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        .call("fchownat", || format!("{path:?}"))
}

/// Binds the host's node onto a new file.
fn bind(parent: &Parent, node: &DeviceNode) -> Result<()> {
    let path = &node.path;
    let host = mounts::source(path, false)?;
    check(&host, path, node.kind, node.device)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent.dir, &*parent.name, flags, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Error::new("openat", format!("{path:?}"), errno)),
    }
    let target = at(parent, path)?;
    attach(host.as_fd(), target.as_fd())?;
    check(&at(parent, path)?, path, node.kind, node.device)
}

fn at(parent: &Parent, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent.dir, &*parent.name, flags, Mode::empty())
        .call("openat", || format!("{path:?}"))
}

/// Binds each node on itself, where it works, and then lets no other node of /dev work: one that the container makes opens
/// nothing.
pub(crate) fn seal(root: &Root, nodes: &[PathBuf]) -> Result<()> {
    for path in nodes {
        bind_on_itself(&root.open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?)?;
    }
    let dev = root.open("dev", OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    let change = Change { set: MountAttrFlags::MOUNT_ATTR_NODEV, ..Change::default() };
    set_attributes(dev.as_fd(), Extent::Mount, change)
}

/// Binds those nodes on themselves, where they work, that lie on a mount which lets none work: the root of a container of ours.
pub(crate) fn free(root: &Root, nodes: &[PathBuf]) -> Result<()> {
    for path in nodes {
        let node = root.open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let mount = rustix::fs::fstatvfs(&node).call("fstatvfs", || format!("{path:?}"))?;
        if mount.f_flag.contains(StatVfsMountFlags::NODEV) {
            bind_on_itself(&node)?;
        }
    }
    Ok(())
}

fn bind_on_itself(node: &OwnedFd) -> Result<()> {
    let bind = clone_tree(node.as_fd(), Extent::Mount)?;
    // Outside /dev it would have inherited the root's.
    let works = Change { clear: MountAttrFlags::MOUNT_ATTR_NODEV, ..Change::default() };
    set_attributes(bind.as_fd(), Extent::Mount, works)?;
    attach(bind.as_fd(), node.as_fd())
}

/// Makes the customary links; the container's /dev is new, so nothing stands in their place.
pub(crate) fn links(root: &Root) -> Result<()> {
    let dev = root.open_dir("dev")?;
    let core = rustix::fs::access(CORE.1, rustix::fs::Access::EXISTS).is_ok().then_some(&CORE);
    for (name, target) in LINKS.iter().chain(core) {
        match rustix::fs::symlinkat(*target, &dev, *name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::new("symlinkat", format!("\"/dev/{name}\""), errno)),
        }
    }
    Ok(())
}

/// The container's /dev/null, made sure to be the kernel's null device and no link to anything.
pub(crate) fn null(root: &Root) -> Result<OwnedFd> {
    let path = Path::new("dev/null");
    let null = root.open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    check(&null, path, FileType::CharacterDevice, makedev(1, 3))?;
    Ok(null)
}

/// The container's null device in place of a stream that is one, opened for the same; `None` for any other stream.
pub(crate) fn null_again(root: &Root, stream: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let stat = rustix::fs::fstat(stream).call("fstat", || "a standard stream".into())?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || stat.st_rdev != makedev(1, 3) {
        return Ok(None);
    }
    let access = rustix::fs::fcntl_getfl(stream).call("fcntl", || "F_GETFL".into())? & OFlags::ACCMODE;
    let path = Path::new("dev/null");
    let null = root.open(path, access | OFlags::NOFOLLOW | OFlags::NOCTTY, Mode::empty())?;
    check(&null, path, FileType::CharacterDevice, makedev(1, 3))?;
    Ok(Some(null))
}

fn check(node: &OwnedFd, path: &Path, kind: FileType, device: u64) -> Result<()> {
    let stat = rustix::fs::fstat(node).call("fstat", || format!("{path:?}"))?;
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    if FileType::from_raw_mode(stat.st_mode) != kind || (is_device && stat.st_rdev != device) {
        return Err(Error::new("fstat", format!("{path:?} is another kind of file"), Errno::NODEV));
    }
    Ok(())
}
