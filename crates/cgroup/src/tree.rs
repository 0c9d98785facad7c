//! Walking a directory and all below it, with one descriptor at a time.
//!
//! A container that may make groups can nest them deeper than this process may have files open, so nothing here recurses.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use sys::Call;

use crate::Result;
use crate::directory::Directory;
use crate::error::About;

const WHAT: &str = "walking a cgroup";
const OPEN: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is done on the way.
pub(crate) trait Visit {
    /// On the way down, at the top, too.
    fn enter(&mut self, _directory: &Directory) -> Result<()> {
        Ok(())
    }

    /// On the way up, below the top: `name` in `parent` has been walked.
    fn leave(&mut self, _parent: BorrowedFd<'_>, _name: &OsStr) -> Result<()> {
        Ok(())
    }
}

/// Walks `top` and all below it. Directories that go meanwhile are passed over.
pub(crate) fn walk(top: Directory, visit: &mut impl Visit) -> Result<()> {
    visit.enter(&top)?;
    let mut todo = vec![children(&top)?];
    let mut names: Vec<OsString> = Vec::new();
    let mut here = top;
    while let Some(below) = todo.last_mut() {
        if let Some(name) = below.pop() {
            let Some(child) = open(&here, &name)? else { continue };
            visit.enter(&child)?;
            todo.push(children(&child)?);
            names.push(name);
            here = child;
            continue;
        }
        todo.pop();
        let Some(name) = names.pop() else { break };
        // A directory of these file systems never changes its parent.
        let Some(parent) = open(&here, OsStr::new(".."))? else { break };
        visit.leave(parent.as_fd(), &name)?;
        here = parent;
    }
    Ok(())
}

/// The names of the directories right below this one.
fn children(directory: &Directory) -> Result<Vec<OsString>> {
    let shown = || format!("{:?}", directory.path());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match openat(directory, ".", flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        answer => answer.call("openat", shown).about(WHAT)?,
    };
    let mut found = Vec::new();
    for entry in Dir::new(opened).call("fdopendir", shown).about(WHAT)? {
        let entry = match entry {
            Err(Errno::NOENT) => break,
            entry => entry.call("getdents64", shown).about(WHAT)?,
        };
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && !matches!(name, b"." | b"..") {
            found.push(OsStr::from_bytes(name).to_os_string());
        }
    }
    Ok(found)
}

/// The directory of this name, or above; `None` where it is gone.
fn open(directory: &Directory, name: &OsStr) -> Result<Option<Directory>> {
    let path = match name == ".." {
        true => directory.path().parent().unwrap_or(directory.path()).to_path_buf(),
        false => directory.path().join(name),
    };
    match openat(directory, name, OPEN, Mode::empty()) {
        Ok(fd) => Ok(Some(Directory::new(fd, path))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno).call("openat", || format!("{path:?}")).about(WHAT),
    }
}
