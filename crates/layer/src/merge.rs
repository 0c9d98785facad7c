//! A stack of trees walked as one, in user space: what overlayfs would show, without mounting it.
//!
//! Invariants
//! - Every entry is reached from the descriptor of the directory it lies in, and never followed.
//! - Entries come in one order: a directory, then what is in it, names sorted by their bytes.
//! - No more than [`OPEN_DIRS`] directories are held besides those of the deepest level; those given back are found
//!   again, from below or by their names, and must be the same objects.
//! - What is to be a layer is no deeper than a layer may be ([`DEPTH`]), and its names no longer.
//! - Mounts are not crossed: what lies below a mount point belongs to somebody else.

use std::ffi::CString;
use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::io::Errno;
use sys::Root;

use crate::limits::{DEPTH, NAME_BYTES};
use crate::pack_error::{PackError, shown};
use crate::pack_node::{FileId, Node, names};

/// How many directories stay open while deeper ones are walked; well below the usual limit of 1,024 descriptors.
const OPEN_DIRS: usize = 400;
/// What a deletion's name begins with in a layer (image-spec, layer.md, "Whiteouts").
pub(crate) const WHITEOUT: &[u8] = b".wh.";

/// What overlayfs's marks in the trees mean for the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// There can be none: the tree is an ordinary directory.
    None,
    /// There are none, whatever a name or a device looks like: the archive is no layer.
    Meaningless,
    /// They are steps of their own: the trees together are told as their difference to those below them.
    Shown,
    /// They hide what lies below: the trees are shown as the one they make.
    Applied,
}

/// What the walk comes by.
#[derive(Debug)]
pub(crate) enum Step {
    /// An entry, and which tree it comes from.
    Entry { node: Node, tree: usize },
    /// The name is deleted from the trees below.
    Whiteout,
    /// The directory of the step before hides those below it.
    Opaque,
    /// A mount point; its contents are not walked.
    MountPoint { node: Node, tree: usize },
    /// The entry was gone when its turn came.
    Vanished,
}

/// The walk; see the module.
pub(crate) struct Walk<'a> {
    trees: &'a [&'a Root],
    mounts: Vec<u64>,
    marks: Marks,
    stack: Vec<Level>,
    /// The path of the last step.
    path: Vec<u8>,
    /// Directories held by all levels together.
    held: usize,
    /// So many levels, counted from the root, hold none.
    bare: usize,
    started: bool,
}

/// One directory under way, in all trees that have it.
struct Level {
    dirs: Vec<Dir>,
    /// What is still to come, last first: a name, and the index in `dirs` of the directory that has it.
    todo: Vec<(CString, usize)>,
    /// How much of the path names this directory.
    path_len: usize,
    opaque: bool,
}

struct Dir {
    tree: usize,
    id: FileId,
    /// Given back while deep below; see [`Walk::restore`].
    node: Option<Node>,
}

impl<'a> Walk<'a> {
    /// Begins at the roots of `trees`, the uppermost first.
    pub(crate) fn new(trees: &'a [&'a Root], marks: Marks) -> Self {
        Self {
            trees,
            mounts: Vec::new(),
            marks,
            stack: Vec::new(),
            path: Vec::new(),
            held: 0,
            bare: 0,
            started: false,
        }
    }

    /// The path of the last step, relative, empty for the root.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The next step; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, PackError> {
        if !self.started {
            return self.start().map(Some);
        }
        loop {
            let Some(level) = self.stack.last_mut() else { return Ok(None) };
            self.path.truncate(level.path_len);
            if std::mem::take(&mut level.opaque) {
                return Ok(Some(Step::Opaque));
            }
            let Some((name, first)) = level.todo.pop() else {
                self.leave()?;
                continue;
            };
            let mut holders = vec![first];
            while level.todo.last().is_some_and(|(next, _)| *next == name) {
                holders.extend(level.todo.pop().map(|(_, dir)| dir));
            }
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            if let Some(step) = self.visit(&name, &holders)? {
                return Ok(Some(step));
            }
        }
    }

    /// The roots of all trees are one directory.
    fn start(&mut self) -> Result<Step, PackError> {
        self.started = true;
        let mut nodes = Vec::new();
        let mut opaque = false;
        for (tree, root) in self.trees.iter().enumerate() {
            let fd = root
                .as_fd()
                .try_clone_to_owned()
                .map_err(|source| PackError::Read { path: "/".into(), source })?;
            let node = Node::from_fd(fd).map_err(|e| self.failed(e))?;
            self.mounts.push(node.meta.mount);
            opaque = self.marked() && node.is_opaque().map_err(|e| self.failed(e))?;
            nodes.push((tree, node));
            if opaque {
                break;
            }
        }
        // The mark on a writable layer's root hides nothing: overlayfs takes no heed of it there.
        let told = opaque && self.marks == Marks::Shown && self.trees.len() > 1;
        self.descend(nodes, told)
    }

    /// One name, and the directories that have it, the uppermost first.
    fn visit(&mut self, name: &CString, holders: &[usize]) -> Result<Option<Step>, PackError> {
        if self.marks != Marks::Meaningless && name.to_bytes().starts_with(WHITEOUT) {
            return Err(PackError::Reserved { path: shown(&self.path) });
        }
        if self.marks != Marks::Meaningless {
            self.check_limits()?;
        }
        let Some((tree, node)) = self.open(holders[0], name)? else { return Ok(Some(Step::Vanished)) };
        if node.meta.mount != self.mounts[tree] {
            return Ok(Some(Step::MountPoint { node, tree }));
        }
        if node.is_whiteout() && self.marks != Marks::Meaningless {
            return match self.marks {
                Marks::None | Marks::Meaningless => Err(PackError::Whiteout { path: shown(&self.path) }),
                Marks::Shown => Ok(Some(Step::Whiteout)),
                Marks::Applied => Ok(None),
            };
        }
        if node.meta.kind != FileType::Directory {
            return Ok(Some(Step::Entry { node, tree }));
        }
        let mut opaque = self.marked() && node.is_opaque().map_err(|e| self.failed(e))?;
        let mut nodes = vec![(tree, node)];
        if !opaque {
            opaque = self.below(name, &holders[1..], &mut nodes)?;
        }
        self.descend(nodes, opaque && self.marks == Marks::Shown).map(Some)
    }

    /// Refuses what no layer made of this could be unpacked with. A directory's name has a slash more there.
    fn check_limits(&self) -> Result<(), PackError> {
        if self.stack.len() > usize::from(DEPTH) {
            return Err(PackError::limit(&self.path, "levels of directories", DEPTH.into()));
        }
        if self.path.len() >= NAME_BYTES {
            return Err(PackError::limit(&self.path, "bytes of a name", NAME_BYTES - 1));
        }
        Ok(())
    }

    /// Whether the trees can have marks.
    fn marked(&self) -> bool {
        !matches!(self.marks, Marks::None | Marks::Meaningless)
    }

    /// The directories below that show through: down to the first that is none, or that hides the rest. True where there is
    /// such a one: trees below all of these have nothing to show there either.
    fn below(
        &self,
        name: &CString,
        holders: &[usize],
        nodes: &mut Vec<(usize, Node)>,
    ) -> Result<bool, PackError> {
        for &holder in holders {
            let Some((tree, node)) = self.open(holder, name)? else { continue };
            if node.meta.kind != FileType::Directory || node.meta.mount != self.mounts[tree] {
                return Ok(true);
            }
            let opaque = node.is_opaque().map_err(|e| self.failed(e))?;
            nodes.push((tree, node));
            if opaque {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens `name` in a directory of the present level; `None` where it is gone.
    fn open(&self, holder: usize, name: &CString) -> Result<Option<(usize, Node)>, PackError> {
        let level = self.stack.last().expect("invariant: a name is visited inside a level");
        let dir = &level.dirs[holder];
        let parent = dir.node.as_ref().expect("invariant: the deepest level holds its directories");
        match Node::open(parent.as_fd(), name) {
            Ok(node) => Ok(Some((dir.tree, node))),
            Err(e) if e.errno == Errno::NOENT => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Enters a directory and gives it as a step; the first node is what it looks like.
    fn descend(&mut self, nodes: Vec<(usize, Node)>, opaque: bool) -> Result<Step, PackError> {
        let mut todo = Vec::new();
        for (index, (_, node)) in nodes.iter().enumerate() {
            let listed = node.reopen().and_then(|dir| names(dir.as_fd())).map_err(|e| self.failed(e))?;
            todo.extend(listed.into_iter().map(|name| (name, index)));
        }
        todo.sort_unstable_by(|a, b| b.cmp(a));
        let seen = nodes[0].1.try_clone().map_err(|e| self.failed(e))?;
        let tree = nodes[0].0;
        self.held += nodes.len();
        let dirs = nodes.into_iter().map(|(tree, node)| Dir { tree, id: node.meta.id, node: Some(node) });
        self.stack.push(Level { dirs: dirs.collect(), todo, path_len: self.path.len(), opaque });
        self.give_back();
        Ok(Step::Entry { node: seen, tree })
    }

    /// Closes directories of the levels above while too many are held.
    fn give_back(&mut self) {
        let above = self.stack.len() - 1;
        while self.held > OPEN_DIRS && self.bare < above {
            let level = &mut self.stack[self.bare];
            self.held -= level.dirs.iter_mut().filter_map(|dir| dir.node.take()).count();
            self.bare += 1;
        }
    }

    /// Leaves the deepest level; the one above needs its directories again.
    fn leave(&mut self) -> Result<(), PackError> {
        let Some(left) = self.stack.pop() else { return Ok(()) };
        self.held -= left.dirs.iter().filter(|dir| dir.node.is_some()).count();
        self.restore(&left)
    }

    /// Finds the directories of the deepest level again, and makes sure that they are the same: from the level that was
    /// `left`, a step up each, as the way from the root would be as long as the tree is deep; from the root where there is no
    /// other way.
    fn restore(&mut self, left: &Level) -> Result<(), PackError> {
        let Some(level) = self.stack.last_mut() else { return Ok(()) };
        let path = &self.path[..level.path_len];
        for dir in level.dirs.iter_mut().filter(|dir| dir.node.is_none()) {
            let failed = |source| PackError::Tree { path: shown(path), source };
            let below = left.dirs.iter().find(|below| below.tree == dir.tree);
            let above = below.and_then(|below| Node::open(below.node.as_ref()?.as_fd(), c"..").ok());
            let node = match above {
                Some(node) => node,
                None => find(self.trees[dir.tree], path).map_err(failed)?,
            };
            if node.meta.id != dir.id {
                return Err(PackError::Changed { path: shown(path) });
            }
            dir.node = Some(node);
            self.held += 1;
        }
        self.bare = self.bare.min(self.stack.len() - 1);
        Ok(())
    }

    fn failed(&self, source: sys::Error) -> PackError {
        PackError::Tree { path: shown(&self.path), source }
    }
}

/// Walks down `path` one name at a time, following nothing.
fn find(root: &Root, path: &[u8]) -> sys::Result<Node> {
    let mut node = None;
    for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
        let name = CString::new(name).map_err(|_| sys::Error::new("openat", shown(path), Errno::INVAL))?;
        let parent = node.as_ref().map_or(root.as_fd(), Node::as_fd);
        node = Some(Node::open(parent, &name)?);
    }
    match node {
        Some(node) => Ok(node),
        None => Node::from_fd(root.try_clone()?.into_fd()),
    }
}
