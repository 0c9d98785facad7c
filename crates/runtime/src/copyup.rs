//! `tmpcopyup`: what a tmpfs is to cover is copied into it first.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use sys::{Call, Result};

/// Copied at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Copies what is in one directory into another: files, directories and links with owner, mode and times; what else there is
/// (devices, sockets) stays behind, as with runc.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let from = reopened(from.as_fd(), c".")?;
    let to = reopened(to.as_fd(), c".")?;
    directory(&from, &to)
}

/// As `tmpcopyup`, and the other directory gets the owner, mode and times of the first.
///
/// # Errors
/// The call that failed.
pub fn copy_directory(from: &OwnedFd, to: impl AsFd) -> Result<()> {
    let from = reopened(from.as_fd(), c".")?;
    let to = reopened(to.as_fd(), c".")?;
    directory(&from, &to)?;
    let stat = rustix::fs::fstat(&from).call("fstat", || "a directory".into())?;
    attributes(&to, &stat)
}

fn reopened(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).call("openat", || format!("{name:?}"))
}

/// As deep as names nest; a tree that is deeper ends the copy by the number of open files.
fn directory(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(from).call("getdents64", || "tmpcopyup".into())? {
        let entry = entry.call("getdents64", || "tmpcopyup".into())?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let text = || format!("tmpcopyup, {name:?}");
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).call("fstatat", text)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU).call("mkdirat", text)?;
                let below = reopened(to.as_fd(), name)?;
                directory(&reopened(from.as_fd(), name)?, &below)?;
                attributes(&below, &stat)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let source = rustix::fs::openat(from, name, flags, Mode::empty()).call("openat", text)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let made = rustix::fs::openat(to, name, flags, Mode::RUSR).call("openat", text)?;
                content(&source, &made)?;
                attributes(&made, &stat)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new()).call("readlinkat", text)?;
                rustix::fs::symlinkat(&*target, to, name).call("symlinkat", text)?;
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                    .call("fchownat", text)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn content(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    loop {
        let copied =
            rustix::fs::sendfile(to, from, None, CHUNK_BYTES).call("sendfile", || "tmpcopyup".into())?;
        if copied == 0 {
            return Ok(());
        }
    }
}

/// Owner before mode: a change of owner clears set-user-id.
fn attributes(file: &OwnedFd, stat: &Stat) -> Result<()> {
    let text = || "tmpcopyup".to_string();
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(file, Some(uid), Some(gid)).call("fchown", text)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(stat.st_mode & 0o7777)).call("fchmod", text)?;
    let moment = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: moment(stat.st_atime, stat.st_atime_nsec),
        last_modification: moment(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(file, &times).call("utimensat", text)
}
