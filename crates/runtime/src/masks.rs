//! Hidden and read-only paths (runtime-spec 1.2, "Masked Paths" and "Readonly Paths").

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags};
use sys::mount::{Change, Context, Extent, attach, clone_tree, set_attributes};
use sys::{Error, Result, Root};

use crate::mounts;

/// Hides each path that exists: a file behind the null device, a directory behind an empty read-only one.
pub(crate) fn mask(root: &Root, null: &OwnedFd, paths: &[PathBuf]) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(target) = existing(root, path)? else { continue };
        if !mounts::kind_of(&target)?.is_dir() {
            let cover = clone_tree(null.as_fd(), Extent::Mount)?;
            attach(cover.as_fd(), target.as_fd()).map_err(|e| about(e, path))?;
            continue;
        }
        // One empty file system serves all directories. Only what is attached can be cloned before Linux 6.15.
        let cover = match &empty {
            Some(first) => clone_tree(first.as_fd(), Extent::Mount)?,
            None => nothing()?,
        };
        attach(cover.as_fd(), target.as_fd()).map_err(|e| about(e, path))?;
        empty.get_or_insert(cover);
    }
    Ok(())
}

/// Makes each path that exists read-only, with what is mounted below it.
pub(crate) fn read_only(root: &Root, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let Some(target) = existing(root, path)? else { continue };
        let cover = clone_tree(target.as_fd(), Extent::Tree).map_err(|e| about(e, path))?;
        let change = Change { set: Attr::MOUNT_ATTR_RDONLY, ..Change::default() };
        set_attributes(cover.as_fd(), Extent::Tree, change).map_err(|e| about(e, path))?;
        attach(cover.as_fd(), target.as_fd()).map_err(|e| about(e, path))?;
    }
    Ok(())
}

/// Gives the root its propagation.
pub(crate) fn root_propagation(root: &Root, kind: MountPropagationFlags) -> Result<()> {
    set_attributes(root.as_fd(), Extent::Mount, Change { propagation: Some(kind), ..Change::default() })
}

/// Makes the root's own mount read-only; what is mounted inside keeps its own state.
pub(crate) fn read_only_root(root: &Root) -> Result<()> {
    let change = Change { set: Attr::MOUNT_ATTR_RDONLY, ..Change::default() };
    set_attributes(root.as_fd(), Extent::Mount, change)?;
    mounts::is_read_only(root.as_fd(), Path::new("/"))
}

fn nothing() -> Result<OwnedFd> {
    let context = Context::open("tmpfs")?;
    context.set("source", "tmpfs")?;
    context.set("size", "0k")?;
    context.set("mode", "755")?;
    context.mount(
        Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC,
    )
}

fn existing(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.open(path, OFlags::PATH, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

fn about(error: Error, path: &Path) -> Error {
    Error::new(error.call, format!("{path:?}, {}", error.args), error.errno)
}
