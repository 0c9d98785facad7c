//! Making one thing at one name.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sys::Call;

use super::parents::shown;
use super::{At, Layer};
use crate::error::{Error, Result, escaped};
use crate::name::{Path, is_content_xattr};
use crate::tar::{Archive, Extent, Kind, Member, Source, Time};

/// How new files are opened.
const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// setuid, setgid and sticky.
const SPECIAL: u32 = 0o7000;

impl Layer<'_, '_> {
    /// A directory: made, or kept with new attributes where there is one.
    pub(super) fn directory(&mut self, at: &At, name: &[u8], path: &[u8], member: &Member) -> Result<()> {
        let write = |e| Error::write(&member.path, e);
        let id = match self.make_dir(at, name, &member.path) {
            Ok(made) => {
                let id = made.id;
                self.remember(path, made);
                id
            }
            Err(Error::Write { source, .. }) if source.errno == Errno::EXIST => {
                let stat = rustix::fs::statat(&at.fd, name, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.call("fstatat", || shown(name)).map_err(write)?;
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    let known = self.tree.dirs.by_inode(stat.st_ino);
                    known.ok_or_else(|| Error::member(&member.path, "another process changed the tree"))?
                } else {
                    self.remove(at, name).map_err(write)?;
                    let made = self.make_dir(at, name, &member.path)?;
                    self.hide_lower(made.id);
                    made.id
                }
            }
            Err(e) => return Err(e),
        };
        self.attribute(id, member)
    }

    /// Everything that is no directory.
    pub(super) fn entry<S: Source>(
        &mut self,
        at: &At,
        name: &[u8],
        member: &Member,
        archive: &mut Archive<S>,
    ) -> Result<()> {
        match member.kind {
            Kind::File => {
                let flags = Mode::from_raw_mode(member.mode & !SPECIAL);
                let open = || rustix::fs::openat(&at.fd, name, NEW, flags);
                let fd = self.make(at, name, member, "openat", open)?;
                write_data(&fd, member, archive)?;
                self.file_attributes(&fd, member)
            }
            Kind::HardLink => self.hard_link(at, name, member),
            Kind::Symlink => {
                if member.target.is_empty() || member.target.contains(&0) {
                    return Err(Error::member(&member.path, "a symlink without a target"));
                }
                let target = OsStr::from_bytes(&member.target);
                self.make(at, name, member, "symlinkat", || rustix::fs::symlinkat(target, &at.fd, name))?;
                self.attributes_by_name(at, name, member)
            }
            Kind::CharDevice => self.node(at, name, member, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(at, name, member, FileType::BlockDevice),
            Kind::Fifo => self.node(at, name, member, FileType::Fifo),
            Kind::Directory => Err(Error::member(&member.path, "a directory is no entry")),
        }
    }

    /// Makes something where there is nothing; what is there is removed first.
    fn make<T>(
        &mut self,
        at: &At,
        name: &[u8],
        member: &Member,
        call: &'static str,
        mut make: impl FnMut() -> rustix::io::Result<T>,
    ) -> Result<T> {
        let write = |e| Error::write(&member.path, e);
        match make() {
            Err(Errno::EXIST) => {
                self.remove(at, name).map_err(write)?;
                make().call(call, || shown(name)).map_err(write)
            }
            other => other.call(call, || shown(name)).map_err(write),
        }
    }

    fn node(&mut self, at: &At, name: &[u8], member: &Member, kind: FileType) -> Result<()> {
        let mode = Mode::from_raw_mode(member.mode);
        let device = rustix::fs::makedev(member.major, member.minor);
        self.make(at, name, member, "mknodat", || rustix::fs::mknodat(&at.fd, name, kind, mode, device))?;
        self.attributes_by_name(at, name, member)?;
        if member.mode & SPECIAL != 0 || !self.exact_modes {
            // Follows symlinks, which this name just was made not to be. chown took the special bits.
            rustix::fs::chmodat(&at.fd, name, mode, AtFlags::empty())
                .call("fchmodat", || shown(name))
                .map_err(|e| Error::write(&member.path, e))?;
        }
        Ok(())
    }

    /// Another name of something this layer made; nothing of what it is changes.
    fn hard_link(&mut self, at: &At, name: &[u8], member: &Member) -> Result<()> {
        let fault = |why| Error::member(&member.path, why);
        let write = |e| Error::write(&member.path, e);
        let missing = "a hard link to a name that the layer does not have";
        let target =
            Path::parse(&member.target).map_err(|_| fault("a hard link to a name no member can have"))?;
        if target.is_root() {
            return Err(fault("a hard link to a directory"));
        }
        let from = self.existing(target.parent(), &member.path)?.ok_or_else(|| fault(missing))?;
        let stat = match rustix::fs::statat(&from.fd, target.last(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(fault(missing)),
            Err(errno) => return Err(write(sys::Error::new("fstatat", shown(target.last()), errno))),
        };
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Err(fault("a hard link to a directory"));
        }
        if self.is_whiteout(&stat) || !self.tree.is_mine(from.id, target.last()) {
            return Err(fault(missing));
        }
        if let Ok(there) = rustix::fs::statat(&at.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            && there.st_ino == stat.st_ino
        {
            return Ok(());
        }
        let link = || rustix::fs::linkat(&from.fd, target.last(), &at.fd, name, AtFlags::empty());
        match self.make(at, name, member, "linkat", link) {
            // It was in what had to make room for it.
            Err(Error::Write { source, .. }) if source.errno == Errno::NOENT => Err(fault(missing)),
            other => other,
        }
    }

    fn is_own(&self, member: &Member) -> bool {
        self.tree.own.certain && (member.uid, member.gid) == (self.tree.own.uid, self.tree.own.gid)
    }

    /// Owner, mode, xattrs and times of a file just written, in the order that keeps them all.
    fn file_attributes(&self, fd: &OwnedFd, member: &Member) -> Result<()> {
        let write = |e| Error::write(&member.path, e);
        if !self.is_own(member) {
            let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
            rustix::fs::fchown(fd, Some(uid), Some(gid))
                .call("fchown", || format!("{}:{}", member.uid, member.gid))
                .map_err(write)?;
        }
        if member.mode & SPECIAL != 0 || !self.exact_modes {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(member.mode))
                .call("fchmod", || format!("{:04o}", member.mode))
                .map_err(write)?;
        }
        for (name, value) in member.xattrs.iter().filter(|(name, _)| is_content_xattr(name)) {
            set_xattr(fd, &member.path, name, value)?;
        }
        rustix::fs::futimens(fd, &times(member.mtime)).call("futimens", || "mtime".into()).map_err(write)
    }

    /// Owner, xattrs and times of what cannot be opened: symlinks, devices, pipes.
    fn attributes_by_name(&self, at: &At, name: &[u8], member: &Member) -> Result<()> {
        let write = |e| Error::write(&member.path, e);
        if !self.is_own(member) {
            let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
            rustix::fs::chownat(&at.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .call("fchownat", || format!("{}:{}", member.uid, member.gid))
                .map_err(write)?;
        }
        for (key, value) in member.xattrs.iter().filter(|(name, _)| is_content_xattr(name)) {
            // There is no lsetxattr below a descriptor before Linux 6.13; the last component is not followed.
            let mut by_fd = format!("/proc/self/fd/{}/", at.fd.as_raw_fd()).into_bytes();
            by_fd.extend_from_slice(name);
            let set = rustix::fs::lsetxattr(&*by_fd, &**key, value, XattrFlags::empty());
            xattr_result(set, &member.path, key, value)?;
        }
        rustix::fs::utimensat(&at.fd, name, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .call("utimensat", || shown(name))
            .map_err(write)
    }
}

/// Writes a file's data where it belongs.
pub(crate) fn write_data<S: Source>(fd: &OwnedFd, member: &Member, archive: &mut Archive<S>) -> Result<()> {
    let write = |e| Error::write(&member.path, e);
    match &member.sparse {
        None => copy(fd, member, archive, 0, member.size).map(|_| ()),
        Some(map) => {
            for &Extent { offset, length } in map {
                copy(fd, member, archive, offset, length)?;
            }
            rustix::fs::ftruncate(fd, member.size)
                .call("ftruncate", || member.size.to_string())
                .map_err(write)
        }
    }
}

/// Copies `length` bytes of the member's data to `offset` of the file.
fn copy<S: Source>(
    fd: &OwnedFd,
    member: &Member,
    archive: &mut Archive<S>,
    mut offset: u64,
    mut length: u64,
) -> Result<()> {
    while length > 0 {
        let bytes = archive.data()?;
        if bytes.is_empty() {
            return Err(Error::member(&member.path, "its data is shorter than its size"));
        }
        let part = &bytes[..bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
        let written = match rustix::io::pwrite(fd, part, offset) {
            Err(Errno::INTR) => continue,
            other => other.call("pwrite", || format!("{} bytes at {offset}", part.len())),
        };
        let written = written.map_err(|e| Error::write(&member.path, e))?;
        archive.consume(written);
        offset += written as u64;
        length -= written as u64;
    }
    Ok(())
}

/// Sets an xattr of a file or directory that is open.
pub(super) fn set_xattr(fd: impl AsFd, member: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
    xattr_result(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()), member, name, value)
}

fn xattr_result(set: rustix::io::Result<()>, member: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
    set.call("setxattr", || shown(name)).map_err(|source| Error::Xattr {
        member: escaped(member),
        xattr: escaped(name),
        bytes: value.len(),
        source,
    })
}

/// Access and modification time alike: the archive has one, and two runs give the same tree.
pub(super) fn times(time: Time) -> Timestamps {
    let at = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: at, last_modification: at }
}
