//! Trees copied by directory descriptors: nothing is reached by a path that content could bend.
//!
//! Invariants
//! - The source is walked without following links; what a name led to is looked at on the descriptor that is read.
//! - The destination is written through descriptors of directories below its root; a file appears under its name
//!   whole, by rename.
//! - Going out of a container nothing gains power: no device, no setuid bit, no file capability.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::error::{Error, Result};
use crate::ignore::Rules;
use crate::metadata;

/// Directories one in the other: each takes some of the stack, and three descriptors, which are 1,024 by default.
pub(crate) const DEPTH: usize = 300;

/// Which way a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Into a container.
    In,
    /// Out of one.
    Out,
}

/// How what is copied looks at its destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) direction: Direction,
    pub(crate) owner: (u32, u32),
    /// The source's owner and group in place of `owner`.
    pub(crate) keeps_owner: bool,
    /// In place of the source's permissions.
    pub(crate) mode: Option<u32>,
}

impl Look {
    /// Who owns what is copied.
    pub(crate) fn owner_of(&self, source: &Stat) -> (u32, u32) {
        if self.keeps_owner { (source.st_uid, source.st_gid) } else { self.owner }
    }
}

/// A copy under way.
pub(crate) struct Copier<'a> {
    dest: &'a Root,
    look: Look,
    /// Inodes of the source that have several names, and where the first was copied to.
    links: HashMap<(u64, u64), PathBuf>,
    /// A directory that is never copied: the store, which the destination lies in.
    skipped: Option<(u64, u64)>,
    /// The mount that the source is on, where others are not entered.
    mount: Option<u64>,
    /// The source is in a container, whose mounts are not entered.
    out_of_container: bool,
    /// What is left out, by the path below the source.
    rules: Rules,
    inner: PathBuf,
    /// How many directories are under way.
    depth: usize,
    warn: &'a dyn Fn(&str),
}

/// A directory of the destination and its path below the root.
pub(crate) struct Place {
    pub(crate) dir: OwnedFd,
    pub(crate) path: PathBuf,
}

impl<'a> Copier<'a> {
    /// A copy to somewhere below `dest`.
    pub(crate) fn new(dest: &'a Root, look: Look, warn: &'a dyn Fn(&str)) -> Self {
        let (links, rules, inner) = (HashMap::new(), Rules::default(), PathBuf::new());
        let out_of_container = look.direction == Direction::Out;
        Self { dest, look, links, skipped: None, mount: None, out_of_container, rules, inner, depth: 0, warn }
    }

    /// Never copies this directory, wherever it turns up in the source.
    pub(crate) fn skip(mut self, dir: &Root) -> Self {
        self.skipped = rustix::fs::fstat(dir).ok().map(|stat| (stat.st_dev, stat.st_ino));
        self
    }

    /// The source is in another container.
    pub(crate) fn out_of_container(mut self) -> Self {
        self.out_of_container = true;
        self
    }

    /// Leaves out what these rules say of the paths below the next source.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Copies `name` in the directory `source` to `to`, a path below the root that is free of symlinks; its parent exists.
    pub(crate) fn copy(&mut self, source: BorrowedFd<'_>, name: &OsStr, to: &Path) -> Result<()> {
        if self.out_of_container {
            self.mount = sys::mount::mount_id(source).ok();
        }
        let parent = to.parent().unwrap_or(Path::new(""));
        let Some(to_name) = to.file_name() else {
            return Err(Error::IsADirectory("/".into()));
        };
        let place = self.place(parent)?;
        self.entry(source, name, &place, to_name)
    }

    /// Copies what is in the directory `source` into the existing directory `to`.
    pub(crate) fn contents(&mut self, source: &OwnedFd, to: &Path) -> Result<()> {
        if self.out_of_container {
            self.mount = sys::mount::mount_id(source.as_fd()).ok();
        }
        let place = self.place(to)?;
        self.children(source.as_fd(), &place)
    }

    /// Gives a directory that was made for the copy, and that no source describes, its owner and permissions.
    pub(crate) fn own_directory(&self, dir: &Root) -> sys::Result<()> {
        let (uid, gid) = self.look.owner;
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::fchown(dir, owner.0, owner.1).call("fchown", || format!("{uid}:{gid}"))?;
        let mode = Mode::from_raw_mode(self.look.mode.unwrap_or(0o755));
        rustix::fs::fchmod(dir, mode).call("fchmod", || format!("{mode:?}"))
    }

    /// Opens a directory of the destination.
    pub(crate) fn place(&self, path: &Path) -> Result<Place> {
        let dir = self.dest.open_dir(path).map_err(Error::at(path))?.into_fd();
        Ok(Place { dir, path: path.into() })
    }

    fn entry(&mut self, from: BorrowedFd<'_>, name: &OsStr, place: &Place, to: &OsStr) -> Result<()> {
        let path = place.path.join(to);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let seen = rustix::fs::openat(from, name, flags, Mode::empty()).call("open", || format!("{name:?}"));
        let seen = seen.map_err(Error::at(name))?;
        let stat = rustix::fs::fstat(&seen).call("fstat", || format!("{name:?}")).map_err(Error::at(name))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_dir() {
            return self.directory(&seen, &stat, place, to);
        }
        let inode = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 && self.linked(inode, place, to)? {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.file(from, name, &stat, place, to)?,
            FileType::Symlink => self.symlink(&seen, &stat, place, to)?,
            FileType::Socket => {
                (self.warn)(&format!("{path:?}: a socket is not copied"));
                return Ok(());
            }
            FileType::CharacterDevice | FileType::BlockDevice if self.look.direction == Direction::Out => {
                (self.warn)(&format!("{path:?}: a device does not leave the container"));
                return Ok(());
            }
            // A layer's mark of a deleted name, where its tree is looked at alone.
            FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(()),
            _ => self.special(kind, &stat, place, to)?,
        }
        if stat.st_nlink > 1 {
            self.links.insert(inode, path);
        }
        Ok(())
    }

    fn directory(&mut self, seen: &OwnedFd, stat: &Stat, place: &Place, to: &OsStr) -> Result<()> {
        let path = place.path.join(to);
        if self.skipped == Some((stat.st_dev, stat.st_ino)) {
            (self.warn)(&format!("{path:?}: the store is not copied into itself"));
            return Ok(());
        }
        let (inside, fresh) = self.make_directory(place, to)?;
        let foreign = self.mount.is_some_and(|mount| sys::mount::mount_id(seen.as_fd()) != Ok(mount));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let source = rustix::fs::openat(seen, c".", flags, Mode::empty()).call("open", || format!("{to:?}"));
        let source = source.map_err(Error::at(&path))?;
        if foreign {
            (self.warn)(&format!("{path:?}: what is mounted there is not copied"));
        } else {
            self.children(source.as_fd(), &inside)?;
        }
        if fresh {
            metadata::give(&inside.dir, &source, stat, self.look).map_err(Error::at(&path))?;
        }
        Ok(())
    }

    fn children(&mut self, source: BorrowedFd<'_>, place: &Place) -> Result<()> {
        if self.depth == DEPTH {
            return Err(Error::TooDeep);
        }
        self.depth += 1;
        for name in names(source).map_err(Error::at(&place.path))? {
            self.inner.push(&name);
            if self.is_wanted(source, &name, self.depth)? {
                self.entry(source, &name, place, &name)?;
            }
            self.inner.pop();
        }
        self.depth -= 1;
        Ok(())
    }

    /// Whether the rules let an entry through: a directory also where they do so with something in it.
    fn is_wanted(&mut self, dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<bool> {
        if !self.rules.leaves_out(&self.inner) {
            return Ok(true);
        }
        if !self.rules.has_exceptions() {
            return Ok(false);
        }
        if depth == DEPTH {
            return Err(Error::TooDeep);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(false),
            other => other.call("open", || format!("{name:?}")).map_err(Error::at(name))?,
        };
        for name in names(inside.as_fd()).map_err(Error::at(name))? {
            self.inner.push(&name);
            let wanted = self.is_wanted(inside.as_fd(), &name, depth + 1)?;
            self.inner.pop();
            if wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directory `name` in `place`, and whether it was made now: one that was there keeps its looks.
    pub(crate) fn make_directory(&self, place: &Place, name: &OsStr) -> Result<(Place, bool)> {
        let path = place.path.join(name);
        let open = |fresh| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(&place.dir, name, flags, Mode::empty())
                .call("open", || format!("{name:?}"));
            dir.map(|dir| (Place { dir, path: path.clone() }, fresh))
        };
        match rustix::fs::mkdirat(&place.dir, name, Mode::RWXU) {
            Ok(()) => return open(true).map_err(Error::at(&path)),
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Error::at(&path)(sys::Error::new("mkdirat", format!("{name:?}"), errno)));
            }
        }
        match open(false) {
            // lib -> usr/lib: the container's own links are followed inside it, the host's never.
            Err(e)
                if matches!(e.errno, Errno::NOTDIR | Errno::LOOP) && self.look.direction == Direction::In =>
            {
                Ok((self.place(&overlay::resolve(self.dest, &path)?)?, false))
            }
            Err(e) if e.errno == Errno::LOOP => Err(Error::NotADirectory(path)),
            opened => opened.map_err(Error::at(&path)),
        }
    }

    /// Makes another name of an inode that was copied already; false where it was not.
    fn linked(&self, inode: (u64, u64), place: &Place, to: &OsStr) -> Result<bool> {
        let Some(first) = self.links.get(&inode) else { return Ok(false) };
        let (Some(parent), Some(name)) = (first.parent(), first.file_name()) else { return Ok(false) };
        let parent = self.place(parent)?;
        self.publish(place, to, |temporary| {
            rustix::fs::linkat(&parent.dir, name, &place.dir, temporary, AtFlags::empty())
        })?;
        Ok(true)
    }

    fn file(&self, from: BorrowedFd<'_>, name: &OsStr, seen: &Stat, place: &Place, to: &OsStr) -> Result<()> {
        let path = place.path.join(to);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let source =
            rustix::fs::openat(from, name, flags, Mode::empty()).call("open", || format!("{name:?}"));
        let source = source.map_err(Error::at(name))?;
        let stat =
            rustix::fs::fstat(&source).call("fstat", || format!("{name:?}")).map_err(Error::at(name))?;
        if (stat.st_dev, stat.st_ino) != (seen.st_dev, seen.st_ino) {
            return Err(Error::Changed(name.into()));
        }
        let mut written = None;
        self.publish(place, to, |temporary| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            written = Some(rustix::fs::openat(&place.dir, temporary, flags, Mode::RUSR | Mode::WUSR)?);
            let Some(file) = &written else { return Ok(()) };
            crate::data::copy(&source, file, stat.st_size as u64)?;
            metadata::give(file, &source, &stat, self.look).map_err(|e| e.errno)
        })
        .map_err(|e| match e {
            Error::Missing(_) => Error::Missing(path),
            other => other,
        })
    }

    fn symlink(&self, seen: &OwnedFd, stat: &Stat, place: &Place, to: &OsStr) -> Result<()> {
        let target = rustix::fs::readlinkat(seen, c"", Vec::new()).call("readlink", || format!("{to:?}"));
        let target = target.map_err(Error::at(to))?;
        self.publish(place, to, |temporary| {
            rustix::fs::symlinkat(&*target, &place.dir, temporary)?;
            self.own(place, temporary, stat)?;
            rustix::fs::utimensat(&place.dir, temporary, &metadata::times(stat), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    fn special(&self, kind: FileType, stat: &Stat, place: &Place, to: &OsStr) -> Result<()> {
        let mode = Mode::from_raw_mode(self.look.mode.unwrap_or(stat.st_mode) & 0o777);
        self.publish(place, to, |temporary| {
            rustix::fs::mknodat(&place.dir, temporary, kind, mode, stat.st_rdev)?;
            self.own(place, temporary, stat)?;
            rustix::fs::utimensat(&place.dir, temporary, &metadata::times(stat), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    fn own(&self, place: &Place, name: &OsStr, stat: &Stat) -> rustix::io::Result<()> {
        let (uid, gid) = self.look.owner_of(stat);
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&place.dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Makes something under a name of its own and renames it to `to`, over anything but a directory.
    pub(crate) fn publish(
        &self,
        place: &Place,
        to: &OsStr,
        make: impl FnOnce(&OsStr) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let temporary = OsString::from(format!(".oci-cp-{}-{}", std::process::id(), self.links.len()));
        // A leftover of a process of the same number that was killed.
        let _ = rustix::fs::unlinkat(&place.dir, &*temporary, AtFlags::empty());
        let made = make(&temporary).and_then(|()| {
            rustix::fs::renameat_with(&place.dir, &*temporary, &place.dir, to, RenameFlags::empty())
        });
        // rename(2) of two names of one inode does nothing and leaves both; after any other success this finds nothing.
        let _ = rustix::fs::unlinkat(&place.dir, &*temporary, AtFlags::empty());
        made.call("copy", || format!("{to:?}")).map_err(Error::at(place.path.join(to)))
    }
}

/// The names in a directory, sorted.
fn names(dir: BorrowedFd<'_>) -> sys::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).call("getdents64", String::new)? {
        let entry = entry.call("getdents64", String::new)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_os_string());
        }
    }
    names.sort();
    Ok(names)
}
