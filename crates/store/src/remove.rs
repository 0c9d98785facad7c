//! Removing a tree without ever leaving it: by directory descriptors, following no link, crossing no mount.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::Result;
use crate::files::{About, PRIVATE_DIR, found};

/// How many directories are held open at once; deeper ones are first moved up to the top of the tree.
const DEPTH: usize = 64;

/// Removes `path` below `root`, whatever it is, with all that is in it; nothing there is no failure.
///
/// Mounts are not crossed: a tree with something mounted in it is an error (`EXDEV` or `EBUSY`) and the mounted files stay.
///
/// # Errors
/// The call that failed; parts may be gone by then.
pub fn remove_tree(root: &Root, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let Some(parent) = found(root.parent(path)).about(path)? else { return Ok(()) };
    remove_entry(parent.dir.as_fd(), &parent.name).about(path)
}

fn remove_entry(parent: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // A directory answers EISDIR on Linux (unlink(2)); EPERM is POSIX's.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno).call("unlink", || format!("{name:?}")),
    }
    let Some(top) = found(open_inside(parent, name))? else { return Ok(()) };
    let mut tree = Tree { top: top.as_fd(), moved: 0 };
    loop {
        tree.empty(top.as_fd(), 0)?;
        let gone = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
        match gone {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // What was too deep now lies at the top.
            Err(Errno::NOTEMPTY) if tree.moved > 0 => tree.moved = 0,
            Err(errno) => return Err(errno).call("rmdir", || format!("{name:?}")),
        }
    }
}

struct Tree<'a> {
    top: BorrowedFd<'a>,
    moved: u64,
}

impl Tree<'_> {
    /// Removes all that is in `dir`.
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> sys::Result<()> {
        for name in names(dir)? {
            let name = OsStr::from_bytes(name.as_bytes());
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno).call("unlink", || format!("{name:?}")),
            }
            if depth == DEPTH {
                self.move_up(dir, name)?;
                continue;
            }
            let Some(child) = found(open_inside(dir, name))? else { continue };
            self.empty(child.as_fd(), depth + 1)?;
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).call("rmdir", || format!("{name:?}"))?;
        }
        Ok(())
    }

    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
        loop {
            let target = format!(".deep-{}", self.moved);
            self.moved += 1;
            match rustix::fs::renameat_with(dir, name, self.top, &target, rustix::fs::RenameFlags::NOREPLACE)
            {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno).call("renameat2", || format!("{name:?}, {target:?}")),
            }
        }
    }
}

/// The names in a directory, byte for byte, without `.` and `..`.
pub(crate) fn names(dir: BorrowedFd<'_>) -> sys::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).call("getdents64", String::new)? {
        let entry = entry.call("getdents64", String::new)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory entry that is on the same mount and no link; opens up one whose owner locked himself out.
fn open_inside(dir: BorrowedFd<'_>, name: &OsStr) -> sys::Result<OwnedFd> {
    match open_once(dir, name) {
        Err(e) if e.errno == Errno::ACCESS => {
            // Not followed: chmod of a symlink itself fails (fchmodat2, Linux 6.6), and open_once refuses one.
            let opened = rustix::fs::chmodat(dir, name, PRIVATE_DIR, AtFlags::SYMLINK_NOFOLLOW);
            opened.call("fchmodat", || format!("{name:?}"))?;
            open_once(dir, name)
        }
        other => other,
    }
}

fn open_once(dir: BorrowedFd<'_>, name: &OsStr) -> sys::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match rustix::fs::openat2(dir, name, flags, Mode::empty(), how) {
        Ok(fd) => Ok(fd),
        // A sandbox without openat2: the device is compared instead.
        Err(Errno::NOSYS) => {
            let fd =
                rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", || format!("{name:?}"))?;
            let device =
                |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).call("fstat", String::new).map(|s| s.st_dev);
            if device(fd.as_fd())? == device(dir)? {
                Ok(fd)
            } else {
                Err(sys::Error::new("openat", format!("{name:?}"), Errno::XDEV))
            }
        }
        Err(errno) => Err(errno).call("openat2", || format!("{name:?}")),
    }
}
