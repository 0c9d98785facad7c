//! Taking things out of the tree: what stands in the way, what a whiteout names, what an opaque mark hides.

use std::os::fd::{AsFd, OwnedFd};

use overlay::marks;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sys::Call;

use super::dirs::{DirId, inode};
use super::parents::shown;
use super::{At, Form, Layer};
use crate::error::{Error, Result};

/// How directories are opened to be listed.
const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Layer<'_, '_> {
    /// True for a mark of ours; a flat tree has none.
    pub(super) fn is_whiteout(&self, stat: &Stat) -> bool {
        self.tree.form == Form::Overlay && marks::is_whiteout(stat)
    }

    /// Removes what stands at `name`, whatever it is and holds; what it was, if there was anything.
    pub(super) fn remove(&mut self, at: &At, name: &[u8]) -> sys::Result<Option<Stat>> {
        let stat = match rustix::fs::statat(&at.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(sys::Error::new("fstatat", shown(name), errno)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.cache.clear();
                self.remove_dir(&at.fd, name)?;
            }
            kind => {
                if kind.is_symlink() {
                    self.cache.clear();
                }
                rustix::fs::unlinkat(&at.fd, name, AtFlags::empty()).call("unlinkat", || shown(name))?;
            }
        }
        Ok(Some(stat))
    }

    /// Removes a directory with all it holds, one descriptor at a time however deep it is.
    fn remove_dir(&mut self, parent: impl AsFd, name: &[u8]) -> sys::Result<()> {
        let mut names = vec![name.to_vec()];
        let mut dir = open(&parent, name)?;
        while !names.is_empty() {
            if let Some(child) = remove_files(&dir)? {
                dir = open(&dir, &child)?;
                names.push(child);
                continue;
            }
            self.tree.dirs.forget(inode(&dir)?);
            let up = rustix::fs::openat(&dir, c"..", LIST, Mode::empty()).call("openat", || "..".into())?;
            if let Some(name) = names.pop() {
                rustix::fs::unlinkat(&up, &name, AtFlags::REMOVEDIR).call("unlinkat", || shown(&name))?;
            }
            dir = up;
        }
        Ok(())
    }

    /// A directory that hides all that lower layers have in it; what this layer has there stays, before or after.
    pub(super) fn make_opaque(&mut self, at: &At, member: &[u8]) -> Result<()> {
        if self.tree.form == Form::Overlay {
            self.tree.dirs.get_mut(at.id).opaque = true;
            return Ok(());
        }
        if self.tree.all_mine() {
            return Ok(());
        }
        let mut todo = vec![at.id];
        while let Some(id) = todo.pop() {
            let kept = self.clear_lower(id).map_err(|e| Error::write(member, e))?;
            todo.extend(kept);
        }
        Ok(())
    }

    /// Removes from one directory what this layer did not make; the directories it went through are kept, and given back.
    fn clear_lower(&mut self, id: DirId) -> sys::Result<Vec<DirId>> {
        let fd = self.open_dir(id)?;
        let layer = self.tree.layer;
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        for entry in entries(&fd)? {
            let (name, kind) = entry?;
            if !kind.is_dir() {
                if !self.tree.is_mine(id, &name) {
                    gone.push(name);
                }
                continue;
            }
            let child = inode(open(&fd, &name)?)?;
            match self.tree.dirs.by_inode(child) {
                Some(child) if self.tree.dirs.get(child).touched_in == layer => kept.push(child),
                _ => gone.push(name),
            }
        }
        let at = At { id, fd: std::rc::Rc::new(fd) };
        for name in gone {
            self.remove(&at, &name)?;
        }
        for &child in &kept {
            let dir = self.tree.dirs.get_mut(child);
            if dir.attributed_in != layer {
                // Only implied here, and what it was below is hidden now.
                dir.attributes = None;
            }
        }
        Ok(kept)
    }

    /// Opens a directory by its names, however long its path is.
    fn open_dir(&self, id: DirId) -> sys::Result<OwnedFd> {
        let mut fd = self.tree.root.open("", LIST, Mode::empty())?;
        for name in self.tree.dirs.names(id) {
            fd = open(&fd, name)?;
        }
        Ok(fd)
    }
}

/// Opens a directory in another.
pub(super) fn open(dir: impl AsFd, name: &[u8]) -> sys::Result<OwnedFd> {
    rustix::fs::openat(dir, name, LIST, Mode::empty()).call("openat", || shown(name))
}

/// Unlinks what is no directory; the first directory met, if there is one.
fn remove_files(dir: &OwnedFd) -> sys::Result<Option<Vec<u8>>> {
    for entry in entries(dir)? {
        let (name, kind) = entry?;
        if kind.is_dir() {
            return Ok(Some(name));
        }
        rustix::fs::unlinkat(dir, &name, AtFlags::empty()).call("unlinkat", || shown(&name))?;
    }
    Ok(None)
}

/// Names and types in a directory, without `.` and `..`; read through a description of its own.
fn entries(dir: &OwnedFd) -> sys::Result<impl Iterator<Item = sys::Result<(Vec<u8>, FileType)>>> {
    let listing = Dir::read_from(dir).call("openat", || "a directory to list".into())?;
    let base = dir.try_clone().call("fcntl", || "F_DUPFD_CLOEXEC".into())?;
    Ok(listing.filter_map(move |entry| {
        let entry = match entry.call("getdents64", String::new) {
            Ok(entry) => entry,
            Err(e) => return Some(Err(e)),
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            return None;
        }
        if entry.file_type() != FileType::Unknown {
            return Some(Ok((name.to_vec(), entry.file_type())));
        }
        let stat = rustix::fs::statat(&base, name, AtFlags::SYMLINK_NOFOLLOW).call("fstatat", || shown(name));
        Some(stat.map(|stat| (name.to_vec(), FileType::from_raw_mode(stat.st_mode))))
    }))
}
