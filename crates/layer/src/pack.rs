//! From trees to a layer's tar archive (image-spec v1.1, layer.md).
//!
//! Packed are what a container changed ([`pack_upper`]), alone or with layers below it ([`pack_changes`]), what a container's
//! whole tree shows ([`pack_merged`]), and an ordinary directory ([`pack_plain`]). The archive depends on the trees alone: sorted entries,
//! numeric owners only, no access times, nothing of this host.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags};
use sys::{Call, Root};

use crate::merge::{Marks, Step, WHITEOUT, Walk};
use crate::pack_error::{PackError, shown};
use crate::pack_node::{FileId, Node, Xattrs};
use crate::pack_sparse;
use crate::tarwrite::{Copied, CopyError, Kind, Member, TarWriter};

/// How much of a file is read at once.
const READ: usize = 256 * 1024;
/// What makes a directory of a layer opaque (image-spec, layer.md, "Opaque Whiteout").
const OPAQUE: &[u8] = b".wh..wh..opq";

/// How to pack.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackOptions {
    /// `SOURCE_DATE_EPOCH`: newer modification times become this one; older ones stay.
    pub epoch: Option<i64>,
}

/// What was packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Members of the archive.
    pub entries: u64,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Bytes of the archive that came from the uppermost tree.
    pub top_bytes: u64,
}

/// What a layer lacks of the tree, or has otherwise: told, and never silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Sockets exist while a process listens; no archive holds them.
    Socket(String),
    /// The entry was gone when its turn came.
    Vanished(String),
    /// Something is mounted there; what is below it was left out.
    MountPoint(String),
    /// The file became shorter while it was read; zeros stand for the rest.
    Shrunk(String),
    /// The file became longer while it was read; the layer has its first part.
    Grown(String),
    /// A PAX record's key cannot hold the name of this attribute.
    Xattr(String, String),
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{path}: a socket, left out"),
            Self::Vanished(path) => write!(f, "{path}: vanished while it was being packed"),
            Self::MountPoint(path) => write!(f, "{path}: something is mounted there, left out"),
            Self::Shrunk(path) => write!(f, "{path}: became shorter while it was read; filled up with zeros"),
            Self::Grown(path) => {
                write!(f, "{path}: became longer while it was read; the layer has its first part")
            }
            Self::Xattr(path, name) => {
                write!(f, "{path}: an archive cannot hold the attribute {name}, left out")
            }
        }
    }
}

/// Packs what the writable layer of an overlay changes.
///
/// Overlayfs's marks become the layer's. The root itself is a member only where its metadata differ from those
/// of `base`, the root of the tree below. No change gives an archive without members.
///
/// # Errors
/// A system call that failed, with the entry; a name that no layer can hold; a failing output.
pub fn pack_upper(
    upper: &Root,
    base: Option<&Root>,
    options: PackOptions,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
) -> Result<Packed, PackError> {
    let root_is_told = match base {
        Some(base) => Look::of_root(upper)? != Look::of_root(base)?,
        None => true,
    };
    Packer::new(options, out, warn).run(&[upper], Marks::Shown, root_is_told)
}

/// Packs what a stack of trees in overlay form, the uppermost first, changes together of what lies below them: several
/// layers as one. The root is always a member.
///
/// # Errors
/// As [`pack_upper`].
pub fn pack_changes(
    trees: &[&Root],
    options: PackOptions,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
) -> Result<Packed, PackError> {
    Packer::new(options, out, warn).run(trees, Marks::Shown, true)
}

/// Packs what a stack of trees in overlay form shows as one, the uppermost first.
///
/// # Errors
/// As [`pack_upper`].
pub fn pack_merged(
    trees: &[&Root],
    options: PackOptions,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
) -> Result<Packed, PackError> {
    Packer::new(options, out, warn).run(trees, Marks::Applied, true)
}

/// Packs an ordinary directory. Mounts in it are not entered.
///
/// # Errors
/// As [`pack_upper`]; also where the tree holds a character device 0:0, which no layer can.
pub fn pack_plain(
    tree: &Root,
    options: PackOptions,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
) -> Result<Packed, PackError> {
    Packer::new(options, out, warn).run(&[tree], Marks::None, true)
}

/// Packs an ordinary directory under another name, an empty one for none. The archive is no layer: names and devices that
/// mark deletions in layers are what they are. Mounts in it are not entered.
///
/// # Errors
/// As [`pack_upper`].
pub fn pack_under(
    tree: &Root,
    name: &OsStr,
    options: PackOptions,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
) -> Result<Packed, PackError> {
    let mut packer = Packer::new(options, out, warn);
    packer.prefix = name.as_bytes().to_vec();
    packer.run(&[tree], Marks::Meaningless, true)
}

/// Packs the entry `name` of a directory, which is no directory itself, under the name `called`.
///
/// # Errors
/// As [`pack_upper`].
pub fn pack_named(
    dir: &Root,
    name: &OsStr,
    called: &OsStr,
    options: PackOptions,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
) -> Result<Packed, PackError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", || format!("{name:?}"));
    let node = opened.and_then(Node::from_fd);
    let node = node.map_err(|source| PackError::Tree { path: shown(name.as_bytes()), source })?;
    let mut packer = Packer::new(options, out, warn);
    packer.entry(called.as_bytes(), &node, 0)?;
    packer.finish()
}

/// What of a directory a layer would hold.
#[derive(PartialEq)]
struct Look {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    xattrs: Xattrs,
}

impl Look {
    fn of_root(root: &Root) -> Result<Self, PackError> {
        let look = || {
            let node = Node::from_fd(root.try_clone()?.into_fd())?;
            let m = node.meta;
            Ok(Self { mode: m.mode, owner: (m.uid, m.gid), mtime: m.mtime, xattrs: node.xattrs()? })
        };
        look().map_err(|source| PackError::Tree { path: "/".into(), source })
    }
}

/// One archive under way.
struct Packer<'a> {
    tar: TarWriter<&'a mut dyn Write>,
    warn: &'a mut dyn FnMut(Warning),
    options: PackOptions,
    /// Before every name.
    prefix: Vec<u8>,
    /// The first name of every object with several, until all of them were seen.
    links: HashMap<FileId, FirstName>,
    buffer: Vec<u8>,
    packed: Packed,
}

struct FirstName {
    path: Vec<u8>,
    to_come: u32,
}

impl<'a> Packer<'a> {
    fn new(options: PackOptions, out: &'a mut dyn Write, warn: &'a mut dyn FnMut(Warning)) -> Self {
        Self {
            tar: TarWriter::new(out),
            warn,
            options,
            prefix: Vec::new(),
            links: HashMap::new(),
            buffer: vec![0; READ],
            packed: Packed::default(),
        }
    }

    fn run(mut self, trees: &[&Root], marks: Marks, root_is_told: bool) -> Result<Packed, PackError> {
        let mut walk = Walk::new(trees, marks);
        while let Some(step) = walk.next()? {
            let path = &*self.named(walk.path());
            match step {
                Step::Entry { .. } if path.is_empty() && !root_is_told => {}
                Step::Entry { node, tree } => self.entry(path, &node, tree)?,
                Step::Whiteout => self.mark(&whiteout_of(path))?,
                Step::Opaque => self.mark(&join(path, OPAQUE))?,
                Step::MountPoint { node, tree } => {
                    (self.warn)(Warning::MountPoint(shown(path)));
                    if node.meta.kind == FileType::Directory {
                        self.entry(path, &node, tree)?;
                    }
                }
                Step::Vanished => (self.warn)(Warning::Vanished(shown(path))),
            }
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Packed, PackError> {
        self.packed.bytes = self.tar.finish().map_err(PackError::Write)?;
        Ok(self.packed)
    }

    /// A path of the tree as the archive has it.
    fn named(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() { self.prefix.clone() } else { join(&self.prefix, path) }
    }

    fn entry(&mut self, path: &[u8], node: &Node, tree: usize) -> Result<(), PackError> {
        if node.meta.kind == FileType::Socket {
            (self.warn)(Warning::Socket(shown(path)));
            return Ok(());
        }
        let failed = |source| PackError::Tree { path: shown(path), source };
        let before = self.tar.written();
        let mut member = Member {
            path: path.to_vec(),
            kind: kind(node).map_err(failed)?,
            mode: node.meta.mode,
            uid: node.meta.uid,
            gid: node.meta.gid,
            mtime: self.clamp(node.meta.mtime),
            xattrs: node.xattrs().map_err(failed)?,
        };
        self.drop_unwritable(&mut member);
        if let Some(target) = self.first_name(path, node) {
            member.kind = Kind::HardLink { target };
            member.xattrs.clear();
        }
        if matches!(member.kind, Kind::File { size: 1.. }) {
            self.file(member, node)?;
        } else {
            self.tar.member(&member).map_err(PackError::Write)?;
        }
        self.packed.entries += 1;
        if tree == 0 {
            self.packed.top_bytes += self.tar.written() - before;
        }
        Ok(())
    }

    fn file(&mut self, mut member: Member, node: &Node) -> Result<(), PackError> {
        let read = |path: &[u8], source| PackError::Read { path: shown(path), source };
        let data = node.data().map_err(|source| PackError::Tree { path: shown(&member.path), source })?;
        let size = node.meta.size;
        let extents =
            pack_sparse::extents(&data, size, &mut self.buffer).map_err(|e| read(&member.path, e))?;
        let copied = match extents {
            None => self.tar.file(&member, data, &mut self.buffer),
            Some(extents) => {
                member.kind = Kind::Sparse { size, extents };
                self.tar.sparse(&member, &data, &mut self.buffer)
            }
        };
        match copied {
            Ok(Copied::Whole) => {}
            Ok(Copied::Padded) => (self.warn)(Warning::Shrunk(shown(&member.path))),
            Ok(Copied::Cut) => (self.warn)(Warning::Grown(shown(&member.path))),
            Err(CopyError::Read(source)) => return Err(read(&member.path, source)),
            Err(CopyError::Write(source)) => return Err(PackError::Write(source)),
        }
        Ok(())
    }

    /// An empty file whose name is a deletion. It has no time of its own, so that two runs agree.
    fn mark(&mut self, path: &[u8]) -> Result<(), PackError> {
        let before = self.tar.written();
        let member = Member {
            path: path.to_vec(),
            kind: Kind::File { size: 0 },
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Xattrs::new(),
        };
        self.tar.member(&member).map_err(PackError::Write)?;
        self.packed.entries += 1;
        self.packed.top_bytes += self.tar.written() - before;
        Ok(())
    }

    /// The name under which this object is in the archive already, if it has several.
    fn first_name(&mut self, path: &[u8], node: &Node) -> Option<Vec<u8>> {
        if node.meta.links < 2 || node.meta.kind == FileType::Directory {
            return None;
        }
        if let Some(first) = self.links.get_mut(&node.meta.id) {
            first.to_come = first.to_come.saturating_sub(1);
            if first.to_come > 0 {
                return Some(first.path.clone());
            }
            return self.links.remove(&node.meta.id).map(|first| first.path);
        }
        self.links.insert(node.meta.id, FirstName { path: path.to_vec(), to_come: node.meta.links - 1 });
        None
    }

    /// A record's key ends at its first `=` (pax, "Extended Header"), so a name with one cannot be written.
    fn drop_unwritable(&mut self, member: &mut Member) {
        let path = &member.path;
        member.xattrs.retain(|name, _| {
            let fits = !name.contains(&b'=');
            if !fits {
                (self.warn)(Warning::Xattr(shown(path), shown(name)));
            }
            fits
        });
    }

    fn clamp(&self, mtime: (i64, u32)) -> (i64, u32) {
        match self.options.epoch {
            Some(epoch) if mtime > (epoch, 0) => (epoch, 0),
            _ => mtime,
        }
    }
}

fn kind(node: &Node) -> sys::Result<Kind> {
    let (major, minor) = node.meta.device;
    Ok(match node.meta.kind {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink { target: node.target()? },
        FileType::CharacterDevice => Kind::Char { major, minor },
        FileType::BlockDevice => Kind::Block { major, minor },
        FileType::Fifo => Kind::Fifo,
        _ => Kind::File { size: node.meta.size },
    })
}

/// `a/b` is deleted by `a/.wh.b`.
fn whiteout_of(path: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    [&path[..name], WHITEOUT, &path[name..]].concat()
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}
