//! From a member's path to the directory it goes into, making what is missing.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sys::Call;

use super::dirs::{DirId, ROOT, inode};
use super::{At, Form, Layer};
use crate::error::{Error, Result};
use crate::limits::DIRECTORIES;

/// Directories kept open: archives go through a tree directory by directory, so few are enough.
const OPEN_DIRS: usize = 16;

/// The kernel's own limit of symlinks in one resolution (`MAXSYMLINKS`, path_resolution(7)).
const SYMLINKS: usize = 40;

/// How directories are opened to work in: no permission on the directory itself is needed.
const DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directories used last, by the path they were asked for under.
///
/// Making a thing never changes where another path leads; removing a directory or a symlink does, and empties this.
#[derive(Default)]
pub(super) struct Cache {
    recent: Vec<(Vec<u8>, At)>,
}

impl Cache {
    fn get(&mut self, path: &[u8]) -> Option<At> {
        let found = self.recent.iter().rposition(|(have, _)| have == path)?;
        self.recent[found..].rotate_left(1);
        self.recent.last().map(|(_, at)| at.clone())
    }

    fn put(&mut self, path: &[u8], at: At) {
        if self.recent.len() == OPEN_DIRS {
            self.recent.remove(0);
        }
        self.recent.push((path.to_vec(), at));
    }

    pub(super) fn clear(&mut self) {
        self.recent.clear();
    }
}

/// What one step from a directory leads to.
enum Step {
    Dir(At),
    Link(Vec<u8>),
    Missing,
    /// Something else that this layer made.
    Mine,
    /// Something else that is only in a lower layer, or was taken away by this one.
    Gone,
}

impl Layer<'_, '_> {
    /// The directory `path`, with what is missing of it implied; `member` is who asks.
    pub(super) fn parent(&mut self, path: &[u8], member: &[u8]) -> Result<At> {
        if let Some(at) = self.cache.get(path) {
            return Ok(at);
        }
        let resolved = self.resolve(path).map_err(|e| Error::write(member, e))?;
        let at = match resolved {
            Some(at) => at,
            None => match self.walk(path, true, member)? {
                Some(at) => at,
                None => return Err(Error::member(member, "a directory on its path cannot be made")),
            },
        };
        self.cache.put(path, at.clone());
        Ok(at)
    }

    /// The directory `path` of this layer if it is there; nothing is made.
    pub(super) fn existing(&mut self, path: &[u8], member: &[u8]) -> Result<Option<At>> {
        if let Some(at) = self.cache.get(path) {
            return Ok(Some(at));
        }
        match self.resolve(path).map_err(|e| Error::write(member, e))? {
            Some(at) => Ok(Some(at)),
            None => self.walk(path, false, member),
        }
    }

    /// Remembers a directory just made under the path it was made by.
    pub(super) fn remember(&mut self, path: &[u8], at: At) {
        self.cache.put(path, at);
    }

    /// Asks the kernel: right while everything there was made by this layer.
    fn resolve(&self, path: &[u8]) -> sys::Result<Option<At>> {
        if !self.tree.all_mine() {
            return Ok(None);
        }
        match self.tree.root.open(OsStr::from_bytes(path), DIR, Mode::empty()) {
            Ok(fd) => self.known(fd),
            Err(e) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn known(&self, fd: OwnedFd) -> sys::Result<Option<At>> {
        let id = self.tree.dirs.by_inode(inode(&fd)?);
        Ok(id.map(|id| At { id, fd: Rc::new(fd) }))
    }

    /// Goes one component at a time, following nothing but this layer's own symlinks; makes what is missing if told to.
    ///
    /// What only a lower layer has in the way is as if it were not there: each layer is applied alone.
    fn walk(&mut self, path: &[u8], make: bool, member: &[u8]) -> Result<Option<At>> {
        let write = |e| Error::write(member, e);
        let mut at = self.root().map_err(write)?;
        let mut todo: Vec<Vec<u8>> = Vec::new();
        push_components(&mut todo, path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                at = self.up(&at).map_err(write)?;
                continue;
            }
            at = match self.step(&at, &name).map_err(write)? {
                Step::Dir(next) => next,
                Step::Link(target) => {
                    links += 1;
                    if links > SYMLINKS || target.len() + todo.iter().map(Vec::len).sum::<usize>() > 1 << 16 {
                        return Err(Error::member(member, "too many symlinks on its path"));
                    }
                    push_components(&mut todo, &target);
                    if target.starts_with(b"/") { self.root().map_err(write)? } else { at }
                }
                Step::Missing | Step::Gone if !make => return Ok(None),
                Step::Missing => self.make_dir(&at, &name, member)?,
                Step::Gone => {
                    self.remove(&at, &name).map_err(write)?;
                    let next = self.make_dir(&at, &name, member)?;
                    self.hide_lower(next.id);
                    next
                }
                Step::Mine if !make => return Ok(None),
                Step::Mine => return Err(Error::member(member, "what is to hold it is no directory")),
            };
        }
        Ok(Some(at))
    }

    fn root(&mut self) -> sys::Result<At> {
        let fd = self.tree.root.open("", DIR, Mode::empty())?;
        self.touch(ROOT);
        Ok(At { id: ROOT, fd: Rc::new(fd) })
    }

    fn up(&mut self, at: &At) -> sys::Result<At> {
        if at.id == ROOT {
            return Ok(at.clone());
        }
        let fd = rustix::fs::openat(&at.fd, c"..", DIR, Mode::empty()).call("openat", || "..".into())?;
        Ok(At { id: self.tree.dirs.get(at.id).parent, fd: Rc::new(fd) })
    }

    fn step(&mut self, at: &At, name: &[u8]) -> sys::Result<Step> {
        match rustix::fs::openat(&at.fd, name, DIR | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => {
                let Some(next) = self.known(fd)? else {
                    return Err(sys::Error::new("openat", shown(name), Errno::STALE));
                };
                self.touch(next.id);
                return Ok(Step::Dir(next));
            }
            Err(Errno::NOENT) => return Ok(Step::Missing),
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(sys::Error::new("openat", shown(name), errno)),
        }
        let stat =
            rustix::fs::statat(&at.fd, name, AtFlags::SYMLINK_NOFOLLOW).call("fstatat", || shown(name))?;
        if !self.tree.is_mine(at.id, name) || self.is_whiteout(&stat) {
            return Ok(Step::Gone);
        }
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            return Ok(Step::Mine);
        }
        let target = rustix::fs::readlinkat(&at.fd, name, Vec::new()).call("readlinkat", || shown(name))?;
        Ok(Step::Link(target.into_bytes()))
    }

    /// Makes a directory where there is nothing and knows it, without attributes.
    pub(super) fn make_dir(&mut self, at: &At, name: &[u8], member: &[u8]) -> Result<At> {
        let made = || {
            rustix::fs::mkdirat(&at.fd, name, Mode::RWXU).call("mkdirat", || shown(name))?;
            let flags = DIR | OFlags::NOFOLLOW;
            let fd = rustix::fs::openat(&at.fd, name, flags, Mode::empty()).call("openat", || shown(name))?;
            let inode = inode(&fd)?;
            Ok((fd, inode))
        };
        if self.tree.dirs.count() >= DIRECTORIES {
            return Err(Error::Limit { what: "directories", limit: DIRECTORIES as u64 });
        }
        let depth = self.tree.depth;
        if self.tree.dirs.get(at.id).depth >= depth {
            return Err(Error::Limit { what: "levels of directories", limit: depth.into() });
        }
        let (fd, inode) = made().map_err(|e| Error::write(member, e))?;
        let layer = self.tree.layer;
        let id = self.tree.dirs.add(at.id, name, inode, layer);
        Ok(At { id, fd: Rc::new(fd) })
    }

    /// A directory made where this layer had something else hides what lower layers have of that name.
    pub(super) fn hide_lower(&mut self, id: DirId) {
        let opaque = self.tree.form == Form::Overlay;
        let dir = self.tree.dirs.get_mut(id);
        dir.fresh = true;
        dir.opaque = opaque;
    }

    /// Remembers that this layer has something in the directory.
    pub(super) fn touch(&mut self, id: DirId) {
        let layer = self.tree.layer;
        self.tree.dirs.get_mut(id).touched_in = layer;
    }
}

/// A component for a message.
pub(super) fn shown(name: &[u8]) -> String {
    crate::error::escaped(name)
}

/// Puts a path's components on the stack of what is to do, the first one on top.
fn push_components(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    let components = path.split(|&b| b == b'/').rev();
    todo.extend(components.filter(|c| !c.is_empty() && *c != b".").map(<[u8]>::to_vec));
}
