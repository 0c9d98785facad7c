//! An archive's members into a container: every name is resolved inside its root, and nothing else is believed.
//!
//! Invariants
//! - Members lie below the destination; `..` is refused, a leading slash means nothing.
//! - Nothing goes through a symlink that the archive itself brought. Those of the container are followed, inside its root.
//! - A file appears under its name whole, by rename.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use layer::{Kind, Limits, Member, Members};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::copy::{Copier, Place};
use crate::error::{Error, Result};

/// Directories one in the other, each of which is open meanwhile; descriptors are 1,024 by default.
const DEPTH: usize = 400;
/// Bytes of the names of symlinks that are kept in memory.
const LINK_BYTES: usize = 64 << 20;

/// How an archive's members look in the container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looks {
    /// In place of the archive's owners.
    pub(crate) owner: Option<(u32, u32)>,
    /// In place of the archive's permissions.
    pub(crate) mode: Option<u32>,
    /// Device nodes are made.
    pub(crate) devices: bool,
}

/// An archive under way.
pub(crate) struct Untar<'a> {
    copier: &'a Copier<'a>,
    root: &'a Root,
    /// The destination, free of symlinks.
    base: &'a Path,
    top: Place,
    looks: Looks,
    warn: &'a dyn Fn(&str),
    /// The directory under way and those above it, the destination's excluded.
    levels: Vec<Level>,
    links: HashSet<Vec<u8>>,
    link_bytes: usize,
}

/// A directory that members are put into.
struct Level {
    /// As the archive has it.
    path: Vec<u8>,
    place: Place,
    /// What it will look like once all is in it.
    member: Option<Member>,
}

impl<'a> Untar<'a> {
    /// Into the directory `base` of a container.
    ///
    /// # Errors
    /// Where it is none.
    pub(crate) fn new(
        copier: &'a Copier<'a>,
        root: &'a Root,
        base: &'a Path,
        looks: Looks,
        warn: &'a dyn Fn(&str),
    ) -> Result<Self> {
        let top = copier.place(base)?;
        let (levels, links) = (Vec::new(), HashSet::new());
        Ok(Self { copier, root, base, top, looks, warn, levels, links, link_bytes: 0 })
    }

    /// Puts all members into place; returns how many there were, also of an archive that breaks off.
    pub(crate) fn run(mut self, input: impl Read) -> (u64, Result<()>) {
        let mut count = 0;
        let done = self.all(input, &mut count);
        // Directories get their looks whatever happened to the rest.
        let left = self.leave(0);
        (count, done.and(left))
    }

    fn all(&mut self, input: impl Read, count: &mut u64) -> Result<()> {
        let mut members = Members::new(input, &Limits::default())?;
        while let Some((path, member)) = members.next_member()? {
            self.member(&path, member, &mut members)?;
            *count += 1;
        }
        Ok(members.drain()?)
    }

    fn member(&mut self, path: &[u8], member: Member, members: &mut Members<'_>) -> Result<()> {
        if path.is_empty() {
            // The destination itself keeps its looks.
            return match member.kind {
                Kind::Directory => Ok(()),
                _ => Err(Error::Member(self.base.into(), "a member without a name")),
            };
        }
        let (parent, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if member.kind == Kind::Directory {
            self.enter(path)?;
            if let Some(level) = self.levels.last_mut()
                && level.path == path
                && level.place.path.file_name() == Some(OsStr::from_bytes(name))
            {
                level.member = Some(member);
            }
            return Ok(());
        }
        self.enter(parent)?;
        if self.links.remove(path) {
            self.link_bytes -= path.len();
        }
        let place = self.here();
        let mut is_link = member.kind == Kind::Symlink;
        match member.kind {
            Kind::File => self.file(place, name, &member, members)?,
            // Another name of a symlink is one.
            Kind::HardLink => is_link = self.hard_link(place, name, &members.link_target(&member)?)?,
            Kind::Symlink => self.symlink(place, name, &member)?,
            _ => self.special(place, name, &member)?,
        }
        if is_link {
            self.link_bytes += path.len();
            if self.link_bytes > LINK_BYTES {
                return Err(Error::Member(lossy(path), "too many symlinks"));
            }
            self.links.insert(path.to_vec());
        }
        Ok(())
    }

    /// The directory under way.
    fn here(&self) -> &Place {
        self.levels.last().map_or(&self.top, |level| &level.place)
    }

    /// Goes to a directory of the archive, making what is missing on the way.
    fn enter(&mut self, path: &[u8]) -> Result<()> {
        let same = |level: &Level| {
            path == level.path || (path.starts_with(&level.path) && path.get(level.path.len()) == Some(&b'/'))
        };
        let kept = self.levels.iter().take_while(|level| same(level)).count();
        self.leave(kept)?;
        let mut at = self.levels.last().map_or(0, |level| level.path.len() + 1);
        while at < path.len() {
            let end = path[at..].iter().position(|&b| b == b'/').map_or(path.len(), |slash| at + slash);
            let here = &path[..end];
            if self.links.contains(here) {
                return Err(Error::Member(lossy(path), "it goes through a symlink of the same archive"));
            }
            if self.levels.len() == DEPTH {
                return Err(Error::Member(lossy(path), "more than 400 directories one in the other"));
            }
            let name = OsStr::from_bytes(&path[at..end]);
            let (place, fresh) = self.copier.make_directory(self.here(), name)?;
            if fresh {
                let (uid, gid) = self.looks.owner.unwrap_or((0, 0));
                own(&place.dir, uid, gid).map_err(Error::at(&place.path))?;
                set_mode(&place.dir, 0o755).map_err(Error::at(&place.path))?;
            }
            self.levels.push(Level { path: here.to_vec(), place, member: None });
            at = end + 1;
        }
        Ok(())
    }

    /// Leaves directories until so many are open, and gives each its looks.
    fn leave(&mut self, kept: usize) -> Result<()> {
        let mut result = Ok(());
        while self.levels.len() > kept {
            let Some(level) = self.levels.pop() else { break };
            if let Some(member) = &level.member {
                result =
                    result.and(self.give(&level.place.dir, member).map_err(Error::at(&level.place.path)));
            }
        }
        result
    }

    fn file(&self, place: &Place, name: &[u8], member: &Member, members: &mut Members<'_>) -> Result<()> {
        let mut broken = None;
        let published = self.copier.publish(place, OsStr::from_bytes(name), |temporary| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&place.dir, temporary, flags, Mode::RUSR | Mode::WUSR)?;
            if let Err(error) = members.write(member, &file) {
                broken = Some(error);
                return Err(Errno::IO);
            }
            self.give(&file, member).map_err(|e| e.errno)
        });
        match broken {
            Some(error) => Err(error.into()),
            None => published,
        }
    }

    /// Makes another name of what is there; whether that is a symlink.
    fn hard_link(&self, place: &Place, name: &[u8], target: &[u8]) -> Result<bool> {
        let missing = || Error::Member(lossy(target), "a hard link to it, which is not there");
        let target = self.base.join(OsStr::from_bytes(target));
        let from = match self.root.parent(&target) {
            Err(e) if e.is_not_found() => return Err(missing()),
            other => other.map_err(Error::at(&target))?,
        };
        let stat = match rustix::fs::statat(&from.dir, &*from.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(missing()),
            other => other.call("fstatat", || format!("{target:?}")).map_err(Error::at(&target))?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_dir() {
            return Err(Error::Member(target, "a hard link to a directory"));
        }
        self.copier.publish(place, OsStr::from_bytes(name), |temporary| {
            rustix::fs::linkat(&from.dir, &*from.name, &place.dir, temporary, AtFlags::empty())
        })?;
        Ok(kind.is_symlink())
    }

    fn symlink(&self, place: &Place, name: &[u8], member: &Member) -> Result<()> {
        if member.target.is_empty() || member.target.contains(&0) {
            return Err(Error::Member(lossy(&member.path), "a symlink without a target"));
        }
        self.copier.publish(place, OsStr::from_bytes(name), |temporary| {
            rustix::fs::symlinkat(OsStr::from_bytes(&member.target), &place.dir, temporary)?;
            self.give_by_name(place, temporary, member)
        })
    }

    fn special(&self, place: &Place, name: &[u8], member: &Member) -> Result<()> {
        let kind = match member.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind != FileType::Fifo && !self.looks.devices {
            let path = lossy(&member.path);
            (self.warn)(&format!("{path:?}: a device node of an archive is left out (--archive makes it)"));
            return Ok(());
        }
        let device = rustix::fs::makedev(member.major, member.minor);
        let mode = self.looks.mode.unwrap_or(member.mode) & 0o777;
        self.copier.publish(place, OsStr::from_bytes(name), |temporary| {
            rustix::fs::mknodat(&place.dir, temporary, kind, Mode::from_raw_mode(mode), device)?;
            self.give_by_name(place, temporary, member)
        })
    }

    fn owner(&self, member: &Member) -> (u32, u32) {
        self.looks.owner.unwrap_or((member.uid, member.gid))
    }

    /// Owner, permissions, xattrs and times, in the order that keeps them all.
    fn give(&self, to: &OwnedFd, member: &Member) -> sys::Result<()> {
        let (uid, gid) = self.owner(member);
        own(to, uid, gid)?;
        set_mode(to, self.looks.mode.unwrap_or(member.mode))?;
        for (name, value) in member.xattrs.iter().filter(|(name, _)| crate::metadata::goes_in(name)) {
            let set = rustix::fs::fsetxattr(to, &**name, value, XattrFlags::empty());
            set.call("fsetxattr", || name.escape_ascii().to_string())?;
        }
        rustix::fs::futimens(to, &times(member)).call("futimens", String::new)
    }

    fn give_by_name(&self, place: &Place, name: &OsStr, member: &Member) -> rustix::io::Result<()> {
        let (uid, gid) = self.owner(member);
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&place.dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::utimensat(&place.dir, name, &times(member), AtFlags::SYMLINK_NOFOLLOW)
    }
}

fn own(to: impl AsFd, uid: u32, gid: u32) -> sys::Result<()> {
    rustix::fs::fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .call("fchown", || format!("{uid}:{gid}"))
}

fn set_mode(to: impl AsFd, mode: u32) -> sys::Result<()> {
    rustix::fs::fchmod(to, Mode::from_raw_mode(mode)).call("fchmod", || format!("{mode:o}"))
}

fn times(member: &Member) -> Timestamps {
    let at = Timespec { tv_sec: member.mtime.seconds, tv_nsec: member.mtime.nanoseconds.into() };
    Timestamps { last_access: at, last_modification: at }
}

/// A name of the archive for a message.
fn lossy(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}
