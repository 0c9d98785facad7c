//! What layers applied alone leave to be put right: the attributes of directories that a layer only implied.
//!
//! Applied one over the other, a layer leaves a directory that it does not name as it was; in a stack of trees the implied
//! one would show instead, with attributes of nobody's choosing. A topmost tree of directories gives them what they had.
//!
//! Two more things the kernel leaves to it (Linux 6.18, fs/overlayfs): whiteouts in a directory that a single layer has
//! are listed by readdir though nothing can be found under their names, until another layer has the directory too; and an
//! opaque root hides nothing.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use overlay::marks;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::error::{Result, escaped};
use crate::limits::XATTR_VALUE_BYTES;
use crate::name::is_content_xattr;
use crate::tar::Time;
use crate::tree::{Attributes, set_attributes};

/// One layer's tree in overlayfs form.
#[derive(Debug)]
pub struct LayerView<'a> {
    /// The tree.
    pub root: Root,
    /// Its implied directories, sorted, as [`crate::Unpacked`] has them.
    pub implied: &'a [Vec<u8>],
    /// Its directories with whiteouts, as [`crate::Unpacked`] has them.
    pub masking: &'a [Vec<u8>],
}

/// What a layer has at a path.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// A directory; whether lower layers are hidden in it, and whether by one of its ancestors already.
    Dir { hides: bool, hidden: bool },
    /// A whiteout or anything else: what lower layers have there is hidden.
    Other,
    /// Nothing; whether an ancestor hides the lower layers.
    Nothing { hidden: bool },
}

/// The merged view's directory at a path.
struct Merged {
    /// The layer whose attributes it has under flat application; none where all only implied it.
    layer: Option<usize>,
    /// True where the stack of trees shows an implied one instead.
    wrong: bool,
    /// True where a single layer makes it up, so that the kernel lists its whiteouts.
    lone: bool,
}

struct Stack<'a> {
    layers: &'a [LayerView<'a>],
    known: Vec<HashMap<Vec<u8>, Found>>,
}

/// Makes the tree of fixes for a stack of layers, the topmost first, in `dest`, an empty directory.
///
/// It always has the root's attributes; those are 0755 0:0 where no layer names the root.
///
/// # Errors
/// A failed call on a layer's tree or on `dest`.
pub fn fixes(layers: &[LayerView<'_>], dest: &Root) -> Result<()> {
    let mut stack = Stack { layers, known: layers.iter().map(|_| HashMap::new()).collect() };
    let implied: BTreeSet<&[u8]> =
        layers.iter().flat_map(|layer| layer.implied.iter().map(Vec::as_slice)).collect();
    let mut wanted: BTreeSet<&[u8]> = BTreeSet::from([&b""[..]]);
    for path in implied {
        if stack.merged(path)?.is_some_and(|merged| merged.wrong) {
            wanted.extend(with_ancestors(path));
        }
    }
    for path in layers.iter().flat_map(|layer| layer.masking) {
        if stack.merged(path)?.is_some_and(|merged| merged.lone) {
            wanted.extend(with_ancestors(path));
        }
    }
    hide_below_opaque_root(layers, dest)?;
    for path in wanted.iter().filter(|path| !path.is_empty()) {
        let parent = dest.parent(OsStr::from_bytes(path))?;
        rustix::fs::mkdirat(&parent.dir, &*parent.name, Mode::RWXU).call("mkdirat", || escaped(path))?;
    }
    // Children sort after their parents: the other way round, no mode is in the way of what is still to do.
    for path in wanted.iter().rev() {
        let attributes = match stack.merged(path)?.and_then(|merged| merged.layer) {
            Some(layer) => read_attributes(&layers[layer].root, path)?,
            None => Attributes::implied(),
        };
        let fd = dest.open(OsStr::from_bytes(path), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        set_attributes(&fd, &attributes, false, || path.to_vec())?;
    }
    Ok(())
}

impl Stack<'_> {
    /// The directory that all layers together have at `path`; none where they have none.
    fn merged(&mut self, path: &[u8]) -> Result<Option<Merged>> {
        let mut merged: Option<Merged> = None;
        let (mut settled, mut closed) = (false, false);
        for layer in 0..self.layers.len() {
            let (hides, hidden) = match self.look(layer, path)? {
                Found::Dir { hides, hidden } => (hides, hidden),
                Found::Nothing { hidden: false } => continue,
                Found::Other | Found::Nothing { hidden: true } => break,
            };
            let named =
                self.layers[layer].implied.binary_search_by(|have| have.as_slice().cmp(path)).is_err();
            let first = merged.is_none();
            let merged = merged.get_or_insert(Merged { layer: None, wrong: false, lone: true });
            merged.lone &= first || closed;
            closed |= hides;
            if named && !settled {
                settled = true;
                merged.layer = Some(layer);
                merged.wrong = !first;
            }
            // A mark of its own hides what is in the lower ones, not what they say about itself.
            if hidden || (hides && settled) {
                break;
            }
        }
        Ok(merged)
    }

    fn look(&mut self, layer: usize, path: &[u8]) -> Result<Found> {
        if let Some(&found) = self.known[layer].get(path) {
            return Ok(found);
        }
        // From the root down, so that no component is a symlink when the next one is opened.
        let mut hidden = false;
        let mut found = Found::Nothing { hidden };
        for at in with_ancestors(path) {
            found = match self.known[layer].get(at) {
                Some(&found) => found,
                None => open_dir(&self.layers[layer].root, at, hidden)?,
            };
            self.known[layer].insert(at.to_vec(), found);
            match found {
                Found::Dir { hides, .. } => hidden = hides,
                Found::Other | Found::Nothing { .. } => break,
            }
        }
        self.known[layer].insert(path.to_vec(), found);
        Ok(found)
    }
}

fn open_dir(root: &Root, path: &[u8], hidden: bool) -> Result<Found> {
    match root.open(OsStr::from_bytes(path), DIR, Mode::empty()) {
        Ok(fd) => Ok(Found::Dir { hides: hidden || marks::is_opaque(&fd)?, hidden }),
        Err(e) if e.is_not_found() => Ok(Found::Nothing { hidden }),
        Err(e) if matches!(e.errno, Errno::NOTDIR | Errno::LOOP) => Ok(Found::Other),
        Err(e) => Err(e.into()),
    }
}

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// The root, `a`, `a/b` and so on to the path itself.
fn with_ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| &path[..at]);
    let last = (!path.is_empty()).then_some(path);
    std::iter::once(&b""[..]).chain(slashes).chain(last)
}

fn read_attributes(root: &Root, path: &[u8]) -> Result<Attributes> {
    let fd = root.open(OsStr::from_bytes(path), DIR, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd).call("fstat", || escaped(path))?;
    let mtime = Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    let (uid, gid, mode) = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
    Ok(Attributes { mode, uid, gid, mtime, xattrs: read_xattrs(&fd).call("fgetxattr", || escaped(path))? })
}

/// All xattrs but the marks.
fn read_xattrs(fd: &OwnedFd) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // As large as the kernel lets lists and values be (XATTR_LIST_MAX, XATTR_SIZE_MAX).
    let mut list = vec![0; XATTR_VALUE_BYTES];
    let length = match rustix::fs::flistxattr(fd, &mut list[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let names = list[..length].split(|&b| b == 0).filter(|name| !name.is_empty() && is_content_xattr(name));
    let mut xattrs = Vec::new();
    for name in names {
        let mut value = vec![0; XATTR_VALUE_BYTES];
        let length = rustix::fs::fgetxattr(fd, name, &mut value[..])?;
        value.truncate(length);
        xattrs.push((name.to_vec(), value));
    }
    Ok(xattrs)
}

/// Whiteouts for what is only below a layer with an opaque root.
fn hide_below_opaque_root(layers: &[LayerView<'_>], dest: &Root) -> Result<()> {
    let Some(opaque) = first_opaque(layers)? else { return Ok(()) };
    let mut kept = BTreeSet::new();
    for layer in &layers[..=opaque] {
        kept.extend(names(&layer.root)?);
    }
    let mut hidden = BTreeSet::new();
    for layer in &layers[opaque + 1..] {
        hidden.extend(names(&layer.root)?);
    }
    for name in hidden.difference(&kept) {
        marks::make_whiteout(dest, OsStr::from_bytes(name))?;
    }
    Ok(())
}

fn first_opaque(layers: &[LayerView<'_>]) -> Result<Option<usize>> {
    for (at, layer) in layers.iter().enumerate() {
        if marks::is_opaque(&layer.root)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn names(root: &Root) -> Result<Vec<Vec<u8>>> {
    let list = rustix::fs::Dir::read_from(root).call("getdents64", || "a layer's root".into())?;
    let mut names = Vec::new();
    for entry in list {
        let entry = entry.call("getdents64", || "a layer's root".into())?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
