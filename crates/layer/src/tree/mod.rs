//! The tree writer: members of a layer become files below one directory.
//!
//! Invariants
//! - Every call names one component below a directory descriptor. Parents are resolved by [`sys::Root`], or one component
//!   at a time without following anything; symlinks that the layer made are followed inside the root.
//! - What stands at a name is removed, then made anew with `O_EXCL`: nothing is written, chowned or chmodded through what
//!   was there before.
//! - The tree is private to the writer until it is published: nobody else moves anything in it.
//! - The order is chown, chmod, xattrs, times, as each takes back a part of what a later one set.
//!
//! Layers are applied in stream order, whiteouts included, as docker, containerd and containers-storage do.

mod dirs;
mod finish;
mod parents;
mod place;

pub(crate) use place::write_data;
mod remove;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use overlay::marks;
use rustix::fs::Mode;
use sys::{Call, Root};

use crate::error::{Error, Result};
use crate::limits::{DEFERRED_XATTR_BYTES, DEPTH};
use crate::name::{Meaning, is_content_xattr};
use crate::tar::{Archive, Kind, Member, Source};
pub(crate) use dirs::Attributes;
use dirs::{DirId, Dirs, ROOT};
pub(crate) use finish::set_attributes;
use parents::Cache;

/// What a tree's marks mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One layer alone, with the marks of overlayfs for what it takes away.
    Overlay,
    /// Layers one over the other, what they take away being gone.
    Flat,
}

/// A tree that is being written.
pub(crate) struct Tree<'r> {
    root: &'r Root,
    form: Form,
    /// The layer being applied, counted from 1.
    layer: u32,
    /// Levels of directories that the layer being applied may make.
    depth: u16,
    dirs: Dirs,
    /// Flat form: what of the tree, besides directories, this layer made. Names are kept as keyed hashes: a collision,
    /// which no archive can aim at, lets a bad hard link through and nothing worse.
    mine: HashSet<u64>,
    keys: RandomState,
    own: Owner,
    deferred_xattrs: usize,
}

/// Who new files belong to by themselves.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
    /// A file system that gives files their directory's group (`bsdgroups`) makes the gid above uncertain.
    certain: bool,
}

/// A directory to work in.
#[derive(Clone)]
struct At {
    id: DirId,
    fd: Rc<OwnedFd>,
}

/// One layer's run over a tree, on the thread that applies it.
pub(crate) struct Layer<'t, 'r> {
    tree: &'t mut Tree<'r>,
    cache: Cache,
    /// True where this thread's umask takes nothing away.
    exact_modes: bool,
}

impl<'r> Tree<'r> {
    /// Starts a tree in an empty directory that nobody else writes to.
    pub(crate) fn new(root: &'r Root, form: Form) -> Result<Self> {
        rustix::fs::fchmod(root, Mode::RWXU).call("fchmod", || "the tree's root, 0700".into())?;
        // Would reach everything made below.
        let _ = rustix::fs::fremovexattr(root, "system.posix_acl_default");
        let stat = rustix::fs::fstat(root).call("fstat", || "the tree's root".into())?;
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(Self {
            root,
            form,
            layer: 0,
            depth: 0,
            dirs: Dirs::new(root)?,
            mine: HashSet::new(),
            keys: RandomState::new(),
            own: Owner { uid, gid, certain: stat.st_gid == gid },
            deferred_xattrs: 0,
        })
    }

    /// Begins the next layer; the calling thread gets a umask of its own, so it should be one made for this.
    pub(crate) fn layer(&mut self, depth: u16) -> Layer<'_, 'r> {
        self.layer += 1;
        self.depth = depth.min(DEPTH);
        self.mine.clear();
        Layer { tree: self, cache: Cache::default(), exact_modes: sys::umask::clear_for_thread().is_ok() }
    }

    /// True while all there is was made by the layer being applied.
    fn all_mine(&self) -> bool {
        self.form == Form::Overlay || self.layer == 1
    }

    fn key(&self, dir: DirId, name: &[u8]) -> u64 {
        self.keys.hash_one((dir, name))
    }

    /// True where the layer being applied made what stands at `name` and is no directory.
    fn is_mine(&self, dir: DirId, name: &[u8]) -> bool {
        self.all_mine() || self.mine.contains(&self.key(dir, name))
    }

    /// Remembers that the layer being applied made `name`.
    fn set_mine(&mut self, dir: DirId, name: &[u8]) {
        if self.form == Form::Flat {
            self.mine.insert(self.key(dir, name));
        }
    }
}

impl<'r> Layer<'_, 'r> {
    /// Applies a member; its data is read from the archive.
    pub(crate) fn apply<S: Source>(&mut self, member: &Member, archive: &mut Archive<S>) -> Result<()> {
        match Meaning::of(member).map_err(|why| Error::member(&member.path, why))? {
            Meaning::Nothing => Ok(()),
            Meaning::Root => self.attribute(ROOT, member),
            Meaning::Opaque(dir) => {
                let at = self.parent(dir.as_bytes(), &member.path)?;
                self.make_opaque(&at, &member.path)
            }
            Meaning::Whiteout(path) => {
                let at = self.parent(path.parent(), &member.path)?;
                self.whiteout(&at, path.last()).map_err(|e| Error::write(&member.path, e))
            }
            Meaning::Entry(path) => {
                let at = self.parent(path.parent(), &member.path)?;
                if member.kind == Kind::Directory {
                    return self.directory(&at, path.last(), path.as_bytes(), member);
                }
                self.entry(&at, path.last(), member, archive)?;
                self.tree.set_mine(at.id, path.last());
                Ok(())
            }
        }
    }

    /// Keeps the attributes that a directory gets at the end.
    fn attribute(&mut self, id: DirId, member: &Member) -> Result<()> {
        let mut attributes = Attributes::of(member);
        attributes.xattrs.retain(|(name, _)| is_content_xattr(name));
        let layer = self.tree.layer;
        let dir = self.tree.dirs.get_mut(id);
        let before = dir.attributes.as_deref().map_or(0, Attributes::xattr_bytes);
        let bytes = self.tree.deferred_xattrs - before + attributes.xattr_bytes();
        if bytes > DEFERRED_XATTR_BYTES {
            return Err(Error::Limit {
                what: "bytes of directory xattrs",
                limit: DEFERRED_XATTR_BYTES as u64,
            });
        }
        dir.attributes = Some(Box::new(attributes));
        dir.attributed_in = layer;
        dir.touched_in = layer;
        self.tree.deferred_xattrs = bytes;
        Ok(())
    }

    /// Takes away what lower layers have at `name`, and what this layer put there before.
    fn whiteout(&mut self, at: &At, name: &[u8]) -> sys::Result<()> {
        self.remove(at, name)?;
        match self.tree.form {
            Form::Overlay => {
                self.tree.dirs.get_mut(at.id).masking = true;
                marks::make_whiteout(&at.fd, OsStr::from_bytes(name))
            }
            Form::Flat => Ok(()),
        }
    }
}
