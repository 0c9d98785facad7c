//! The end of a tree: directories get their attributes, deepest first.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use overlay::marks;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use sys::Call;

use super::dirs::{Attributes, Dir, DirId, ROOT};
use super::place::{set_xattr, times};
use super::{Form, Tree, remove};
use crate::error::{Error, Result};
use crate::limits::NOTED_PATH_BYTES;

/// Levels of which the directories above are kept open; beyond it they are found again through `..`.
const KEPT_OPEN: usize = 64;

impl Tree<'_> {
    /// Gives all directories their attributes; the tree is not written to after this.
    pub(crate) fn finish(self) -> Result<()> {
        let mut children: HashMap<DirId, Vec<DirId>> = HashMap::new();
        for (id, dir) in self.dirs.iter().filter(|&(id, _)| id != ROOT) {
            children.entry(dir.parent).or_default().push(id);
        }
        let list = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut fd = self.root.open("", list, Mode::empty())?;
        let mut id = ROOT;
        let mut above: Vec<(DirId, Option<OwnedFd>)> = Vec::new();
        loop {
            if let Some(child) = children.get_mut(&id).and_then(Vec::pop) {
                let down = remove::open(&fd, &self.dirs.get(child).name)?;
                let up = std::mem::replace(&mut fd, down);
                above.push((id, (above.len() < KEPT_OPEN).then_some(up)));
                id = child;
                continue;
            }
            children.remove(&id);
            let Some((parent, kept)) = above.pop() else {
                return self.set(id, &fd);
            };
            let up = match kept {
                Some(up) => up,
                None => remove::open(&fd, b"..")?,
            };
            self.set(id, &fd)?;
            (id, fd) = (parent, up);
        }
    }

    /// The paths of directories that no member named; the empty path is the root's.
    ///
    /// A directory made anew where the layer had taken another one away is none of them: nothing below matters to it.
    ///
    /// # Errors
    /// [`Error::Limit`] where they are more than memory should be given for.
    pub(crate) fn implied(&self) -> Result<Vec<Vec<u8>>> {
        self.paths(|dir| dir.attributes.is_none() && !dir.fresh)
    }

    /// The paths of directories that whiteouts were made in.
    ///
    /// # Errors
    /// As [`Tree::implied`].
    pub(crate) fn masking(&self) -> Result<Vec<Vec<u8>>> {
        self.paths(|dir| dir.masking)
    }

    fn paths(&self, wanted: impl Fn(&Dir) -> bool) -> Result<Vec<Vec<u8>>> {
        let (mut paths, mut bytes) = (Vec::new(), 0);
        for (id, _) in self.dirs.iter().filter(|(_, dir)| wanted(dir)) {
            let path = self.dirs.path(id);
            bytes += path.len();
            if bytes > NOTED_PATH_BYTES {
                let limit = NOTED_PATH_BYTES as u64;
                return Err(Error::Limit {
                    what: "bytes of paths that no member names, or that hold whiteouts",
                    limit,
                });
            }
            paths.push(path);
        }
        paths.sort_unstable();
        Ok(paths)
    }

    fn set(&self, id: DirId, fd: &OwnedFd) -> Result<()> {
        let dir = self.dirs.get(id);
        let implied = Attributes::implied();
        let attributes = dir.attributes.as_deref().unwrap_or(&implied);
        let own = self.own.certain && (attributes.uid, attributes.gid) == (self.own.uid, self.own.gid);
        set_attributes(fd, attributes, own && id != ROOT, || self.dirs.path(id))?;
        // The kernel stacks the roots of all layers whatever they say: what an opaque root hides is hidden one level below,
        // and by the stack's fixes.
        let by_root = dir.parent == ROOT && self.dirs.get(ROOT).opaque;
        if (dir.opaque || by_root) && self.form == Form::Overlay {
            marks::make_opaque(fd)?;
        }
        Ok(())
    }
}

/// Owner, mode, xattrs and times of an open directory, in the order that keeps them all.
pub(crate) fn set_attributes(
    fd: &OwnedFd,
    attributes: &Attributes,
    own: bool,
    path: impl Fn() -> Vec<u8>,
) -> Result<()> {
    let write = |e| Error::write(&path(), e);
    let Attributes { mode, uid, gid, mtime, xattrs } = attributes;
    if !own {
        rustix::fs::fchown(fd, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))
            .call("fchown", || format!("{uid}:{gid}"))
            .map_err(write)?;
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(*mode))
        .call("fchmod", || format!("{mode:04o}"))
        .map_err(write)?;
    for (name, value) in xattrs {
        set_xattr(fd, &path(), name, value)?;
    }
    rustix::fs::futimens(fd, &times(*mtime)).call("futimens", || "mtime".into()).map_err(write)
}
