//! The mount API by descriptors: `fsopen(2)`, `open_tree(2)`, `move_mount(2)` (Linux 5.2), `mount_setattr(2)` (5.12).
//!
//! Nothing here takes a mount target by path: targets are descriptors that [`crate::Root`] opened, so no symlink and no
//! rename can move a mount elsewhere. A context that the kernel refuses tells why in its log, which the error carries.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::root::quoted;
use crate::{Call, Error, Result};

/// `STATX_MNT_ID_UNIQUE` of Linux 6.8: an id that is never given twice in one boot.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
/// A context's log message is at most this long (fs/fs_context.c).
const LOG_LINE_BYTES: usize = 1024;
/// How many messages of a context's log are read: the kernel keeps eight.
const LOG_LINES: usize = 8;

/// A file system being configured (`fsopen(2)`).
#[derive(Debug)]
pub struct Context {
    fd: OwnedFd,
    kind: String,
}

impl Context {
    /// Opens a context of the file system type `kind`.
    ///
    /// # Errors
    /// `ENODEV` where the kernel lacks the type, `EPERM` without `CAP_SYS_ADMIN` in the user namespace of the mount namespace.
    pub fn open(kind: &str) -> Result<Self> {
        let fd =
            rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", || kind.to_string())?;
        Ok(Self { fd, kind: kind.to_string() })
    }

    /// Sets a parameter to a text.
    ///
    /// # Errors
    /// `EINVAL` where the type does not know the parameter or the value; the kernel's log is part of the error.
    pub fn set(&self, key: &str, value: impl AsRef<Path>) -> Result<()> {
        let value = value.as_ref();
        let done = rustix::mount::fsconfig_set_string(&self.fd, key, value);
        done.map_err(|errno| self.refused(&format!("{key}={}", value.display()), errno))
    }

    /// Sets a parameter that has no value.
    ///
    /// # Errors
    /// As [`Context::set`].
    pub fn flag(&self, key: &str) -> Result<()> {
        rustix::mount::fsconfig_set_flag(&self.fd, key).map_err(|errno| self.refused(key, errno))
    }

    /// Sets a parameter to an open file (overlay: Linux 6.13).
    ///
    /// # Errors
    /// As [`Context::set`].
    pub fn set_fd(&self, key: &str, value: BorrowedFd<'_>) -> Result<()> {
        rustix::mount::fsconfig_set_fd(&self.fd, key, value).map_err(|errno| self.refused(key, errno))
    }

    /// Creates the superblock and a mount of it that is attached nowhere.
    ///
    /// # Errors
    /// What the file system refuses, with the kernel's log.
    pub fn mount(self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        rustix::mount::fsconfig_create(&self.fd).map_err(|errno| self.refused("create", errno))?;
        let done = rustix::mount::fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
        done.map_err(|errno| self.refused("fsmount", errno))
    }

    /// The error of a step, with what the kernel wrote into the context's log.
    fn refused(&self, step: &str, errno: Errno) -> Error {
        let mut args = format!("{}, {step}", self.kind);
        for message in self.log() {
            args.push_str("; ");
            args.push_str(&message);
        }
        Error::new("fsconfig", args, errno)
    }

    /// The messages of the log; reading takes them out.
    fn log(&self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut line = [0_u8; LOG_LINE_BYTES];
        while messages.len() < LOG_LINES {
            match rustix::io::read(&self.fd, &mut line) {
                Ok(0) | Err(_) => break,
                // Messages are "e text", "w text" or "i text".
                Ok(n) => messages
                    .push(String::from_utf8_lossy(&line[..n]).trim_end()[..].chars().skip(2).collect()),
            }
        }
        messages
    }
}

/// Which part of a tree [`clone_tree`] and [`set_attributes`] mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The one mount.
    Mount,
    /// It and all mounts below.
    Tree,
}

/// A detached bind mount of what `what` is open on (`open_tree(2)`, `OPEN_TREE_CLONE`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` where the source lies in a foreign mount namespace.
pub fn clone_tree(what: BorrowedFd<'_>, extent: Extent) -> Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if extent == Extent::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(what, c"", flags).call("open_tree", || format!("{extent:?}, clone"))
}

/// Attaches a detached mount onto `target`, or moves an attached one there (`move_mount(2)`).
///
/// # Errors
/// `EINVAL` where the target's mount is not in the caller's namespace, `ENOTDIR` where one is a directory and the other not.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags).call("move_mount", String::new)
}

/// What [`set_attributes`] changes.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Attributes to set.
    pub set: MountAttrFlags,
    /// Attributes to clear.
    pub clear: MountAttrFlags,
    /// The propagation type, where it is to change.
    pub propagation: Option<MountPropagationFlags>,
}

impl Default for Change {
    fn default() -> Self {
        Self { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty(), propagation: None }
    }
}

/// `struct mount_attr` of mount_setattr(2), version 0.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_IDMAP` (Linux 5.12).
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// Shows the ids of the files below a detached mount as a user namespace maps them (`MOUNT_ATTR_IDMAP`).
///
/// # Errors
/// `EINVAL` where the file system cannot, `EPERM` where it is mapped already or the caller may not.
pub fn set_id_map(mount: BorrowedFd<'_>, extent: Extent, users: BorrowedFd<'_>) -> Result<()> {
    let attributes = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        userns_fd: u64::from(users.as_raw_fd().unsigned_abs()),
    };
    change(mount, extent, &attributes, || "MOUNT_ATTR_IDMAP".into())
}

/// Changes the attributes of the mount that `mount` is open on (`mount_setattr(2)`).
///
/// # Errors
/// `ENOSYS` before Linux 5.12, `EPERM` for attributes locked by a more privileged namespace.
pub fn set_attributes(mount: BorrowedFd<'_>, extent: Extent, change: Change) -> Result<()> {
    let attributes = MountAttr {
        set: u64::from(change.set.bits()),
        clear: u64::from(change.clear.bits()),
        propagation: change.propagation.map_or(0, |p| u64::from(p.bits())),
        userns_fd: 0,
    };
    self::change(mount, extent, &attributes, || format!("{change:?}"))
}

fn change(
    mount: BorrowedFd<'_>,
    extent: Extent,
    attributes: &MountAttr,
    text: impl FnOnce() -> String,
) -> Result<()> {
    let recursive = if extent == Extent::Tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the attributes live across the call and their size is passed along;
    // the kernel writes nothing back.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).call("mount_setattr", text) }
}

/// Makes the file system that `mount` is open on forget what it has cached of names that do not exist
/// (`fspick(2)` and a reconfiguration without a change, which shrinks its dentry cache).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` where `mount` is not the root of a mount.
pub fn forget_names(mount: BorrowedFd<'_>) -> Result<()> {
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let context = rustix::mount::fspick(mount, c"", flags).call("fspick", String::new)?;
    rustix::mount::fsconfig_reconfigure(&context).call("fsconfig", || "reconfigure".into())
}

/// Changes parameters of the file system that `mount` is open on (`fspick(2)`, `FSCONFIG_CMD_RECONFIGURE`).
///
/// # Errors
/// `EINVAL` where the type does not know a parameter or cannot change it, or `mount` is not the root of a mount.
pub fn reconfigure(mount: BorrowedFd<'_>, parameters: &[(String, Option<String>)]) -> Result<()> {
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let fd = rustix::mount::fspick(mount, c"", flags).call("fspick", String::new)?;
    let context = Context { fd, kind: "reconfigure".into() };
    for (key, value) in parameters {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.flag(key)?,
        }
    }
    rustix::mount::fsconfig_reconfigure(&context.fd).map_err(|errno| context.refused("reconfigure", errno))
}

/// The id of the mount that `fd` lies on: unique in this boot where the kernel can (6.8), else the reusable one.
///
/// # Errors
/// The errno of `statx(2)`; `EOPNOTSUPP` before Linux 5.8.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let unique = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    for (mask, bit) in [(unique, STATX_MNT_ID_UNIQUE), (StatxFlags::MNT_ID, StatxFlags::MNT_ID.bits())] {
        let answer =
            rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, mask).call("statx", || "mount id".into())?;
        if answer.stx_mask & bit != 0 {
            return Ok(answer.stx_mnt_id);
        }
    }
    Err(Error::new("statx", "mount id", Errno::OPNOTSUPP))
}

/// The mount namespace of a process, `None` for the caller, as the inode number of its `/proc` link.
///
/// # Errors
/// `ENOENT` where the process is gone or /proc is not mounted, `EACCES` where it is not the caller's to ask.
pub fn namespace(pid: Option<u32>) -> Result<u64> {
    let path = match pid {
        Some(pid) => PathBuf::from(format!("/proc/{pid}/ns/mnt")),
        None => PathBuf::from("/proc/thread-self/ns/mnt"),
    };
    rustix::fs::stat(&path).map(|s| s.st_ino).call("stat", || quoted(&path))
}

/// How an unmount treats a mount that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// Refuses with `EBUSY`.
    Refuse,
    /// Takes it out of the tree now; it goes when the last user does (`MNT_DETACH`).
    Detach,
}

/// Unmounts what is mounted on `name` in the directory `parent`, never following a link (`umount2(2)`).
///
/// # Errors
/// `EBUSY` where it is in use and may not be detached, `EINVAL` where nothing is mounted there.
pub fn unmount(parent: BorrowedFd<'_>, name: &str, busy: Busy) -> Result<()> {
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err(Error::new("umount2", format!("{name:?}"), Errno::INVAL));
    }
    // umount2 has no directory descriptor; the magic link is one.
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", parent.as_raw_fd()));
    let mut flags = UnmountFlags::NOFOLLOW;
    if busy == Busy::Detach {
        flags |= UnmountFlags::DETACH;
    }
    rustix::mount::unmount(&path, flags).call("umount2", || format!("{name:?}, {busy:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Root;
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsFd;

    /// A mount namespace of this thread's own, so that nothing here is seen outside.
    fn apart() -> bool {
        // Sound here: the thread shares no file system information that another test relies on.
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_err() {
            testkit::skip("a mount namespace needs CAP_SYS_ADMIN");
            return false;
        }
        let root = Root::open_ambient("/").expect("open /");
        let private = Change { propagation: Some(MountPropagationFlags::PRIVATE), ..Change::default() };
        set_attributes(root.as_fd(), Extent::Tree, private).expect("private");
        true
    }

    #[test]
    fn a_refused_context_carries_the_kernels_words() {
        if !apart() {
            return;
        }
        let context = Context::open("overlay").expect("fsopen");
        let refused = context.set("no_such_option", "1").expect_err("unknown option");
        assert!(refused.to_string().contains("Unknown parameter"), "{refused}");
    }

    #[test]
    fn a_detached_tmpfs_is_attached_told_apart_and_unmounted() {
        if !apart() {
            return;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("at")).expect("mkdir");
        let root = Root::open_ambient(dir.path()).expect("open");
        let context = Context::open("tmpfs").expect("fsopen");
        context.set("mode", "0700").expect("mode");
        let mount = context.mount(MountAttrFlags::MOUNT_ATTR_NODEV).expect("fsmount");
        let target = root.open("at", OFlags::PATH, Mode::empty()).expect("target");
        attach(mount.as_fd(), target.as_fd()).expect("attach");
        drop(target);
        let inside = root.open("at", OFlags::PATH, Mode::empty()).expect("inside");
        assert_eq!(mount_id(inside.as_fd()), mount_id(mount.as_fd()));
        assert_ne!(mount_id(inside.as_fd()), mount_id(root.as_fd()));
        drop(inside);

        assert_eq!(unmount(root.as_fd(), "at", Busy::Refuse).expect_err("in use").errno, Errno::BUSY);
        drop(mount);
        unmount(root.as_fd(), "at", Busy::Refuse).expect("unmount");
        assert_eq!(unmount(root.as_fd(), "at", Busy::Refuse).expect_err("nothing there").errno, Errno::INVAL);
        assert_eq!(unmount(root.as_fd(), "at/x", Busy::Detach).expect_err("a path").errno, Errno::INVAL);
    }

    #[test]
    fn a_clone_can_be_made_read_only_alone() {
        if !apart() {
            return;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Root::open_ambient(dir.path()).expect("open");
        let clone = Root::from_fd(clone_tree(root.as_fd(), Extent::Tree).expect("open_tree"));
        let change = Change { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..Change::default() };
        set_attributes(clone.as_fd(), Extent::Tree, change).expect("mount_setattr");
        let refused = clone.open("f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect_err("read-only");
        assert_eq!(refused.errno, Errno::ROFS);
        std::fs::write(dir.path().join("f"), "").expect("the original is writable");
    }
}
