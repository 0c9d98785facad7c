//! What is known of the tree's directories while it is written: who is whose parent, and the attributes to come.
//!
//! Directories get mode, times and xattrs at the end: until then they must be writable, and neither a setgid bit nor a
//! default ACL may reach what is made inside.

use std::collections::HashMap;
use std::os::fd::AsFd;

use sys::Call;

use crate::tar::{Member, Time};

/// A directory of the tree.
pub(crate) type DirId = usize;

/// The root's id.
pub(crate) const ROOT: DirId = 0;

/// The attributes that a directory will have.
#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// Those of a directory that no layer names.
    pub(crate) fn implied() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() }
    }

    /// Those a member asks for.
    pub(crate) fn of(member: &Member) -> Self {
        let Member { mode, uid, gid, mtime, .. } = *member;
        Self { mode, uid, gid, mtime, xattrs: member.xattrs.clone() }
    }

    pub(crate) fn xattr_bytes(&self) -> usize {
        self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// One directory.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) parent: DirId,
    pub(crate) name: Box<[u8]>,
    pub(crate) depth: u16,
    /// What a member asked for; none while the directory is only implied by what lies in it.
    pub(crate) attributes: Option<Box<Attributes>>,
    /// The layer that gave the attributes, and the last one that went through it.
    pub(crate) attributed_in: u32,
    pub(crate) touched_in: u32,
    /// Nothing of the lower layers shows through (overlay form).
    pub(crate) opaque: bool,
    /// Made where the same layer had something else: what lower layers have of that name is gone for good.
    pub(crate) fresh: bool,
    /// A whiteout was made in it (overlay form).
    pub(crate) masking: bool,
}

/// All directories, by id and by inode number.
#[derive(Debug)]
pub(crate) struct Dirs {
    dirs: Vec<Option<Dir>>,
    by_inode: HashMap<u64, DirId>,
}

impl Dirs {
    /// Knows the root.
    pub(crate) fn new(root: impl AsFd) -> sys::Result<Self> {
        let inode = inode(root)?;
        let root = Dir {
            parent: ROOT,
            name: Box::default(),
            depth: 0,
            attributes: None,
            attributed_in: 0,
            touched_in: 0,
            opaque: false,
            fresh: false,
            masking: false,
        };
        Ok(Self { dirs: vec![Some(root)], by_inode: HashMap::from([(inode, ROOT)]) })
    }

    /// Takes in a directory just made.
    pub(crate) fn add(&mut self, parent: DirId, name: &[u8], inode: u64, layer: u32) -> DirId {
        let depth = self.get(parent).depth + 1;
        let id = self.dirs.len();
        self.dirs.push(Some(Dir {
            parent,
            name: name.into(),
            depth,
            attributes: None,
            attributed_in: layer,
            touched_in: layer,
            opaque: false,
            fresh: false,
            masking: false,
        }));
        self.by_inode.insert(inode, id);
        id
    }

    /// How many there are and were.
    pub(crate) fn count(&self) -> usize {
        self.dirs.len()
    }

    pub(crate) fn by_inode(&self, inode: u64) -> Option<DirId> {
        self.by_inode.get(&inode).copied()
    }

    /// Forgets a directory that is gone.
    pub(crate) fn forget(&mut self, inode: u64) {
        if let Some(id) = self.by_inode.remove(&inode) {
            self.dirs[id] = None;
        }
    }

    pub(crate) fn get(&self, id: DirId) -> &Dir {
        self.dirs[id].as_ref().expect("ids are only kept of directories that are there")
    }

    pub(crate) fn get_mut(&mut self, id: DirId) -> &mut Dir {
        self.dirs[id].as_mut().expect("ids are only kept of directories that are there")
    }

    /// All that are there, in the order they were made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DirId, &Dir)> {
        self.dirs.iter().enumerate().filter_map(|(id, dir)| Some((id, dir.as_ref()?)))
    }

    /// The names from the root down to a directory.
    pub(crate) fn names(&self, id: DirId) -> Vec<&[u8]> {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let dir = self.get(at);
            names.push(&*dir.name);
            at = dir.parent;
        }
        names.reverse();
        names
    }

    /// The path of a directory.
    pub(crate) fn path(&self, id: DirId) -> Vec<u8> {
        self.names(id).join(&b'/')
    }
}

/// The inode number behind a descriptor: what tells directories of one file system apart.
pub(crate) fn inode(fd: impl AsFd) -> sys::Result<u64> {
    Ok(rustix::fs::fstat(fd).call("fstat", || "a directory of the tree".into())?.st_ino)
}
