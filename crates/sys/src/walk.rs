//! Resolution without `openat2`: one component at a time, `O_NOFOLLOW`, symlinks expanded by hand.
//!
//! For sandboxes whose seccomp profile predates Linux 5.6. A directory that another process moves out of the root
//! during the walk can be left through `..`; ours never is, as `..` is taken from the walk's own stack.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::root::quoted;
use crate::{Call, Error, Result};

/// The kernel's own limit of symlinks in one resolution (`MAXSYMLINKS`, path_resolution(7)).
const SYMLINKS: usize = 40;

/// Opens `path` below `root` by the rules of `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let failed = |errno| Error::new("openat", quoted(path), errno);
    let mut todo = Components::of(path.as_os_str());
    let mut stack: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.next() {
        let here = stack.last().map_or(root, AsFd::as_fd);
        if name == ".." {
            stack.pop();
            continue;
        }
        let last = todo.is_done();
        if let Some(target) = link_target(here, &name) {
            if last && flags.contains(OFlags::NOFOLLOW) && !todo.must_be_dir {
                return rustix::fs::openat(here, &*name, flags, mode).map_err(failed);
            }
            links += 1;
            if links > SYMLINKS {
                return Err(failed(Errno::LOOP));
            }
            if target.as_bytes().starts_with(b"/") {
                stack.clear();
            }
            todo.prepend(&target);
            continue;
        }
        if last && !todo.must_be_dir {
            return rustix::fs::openat(here, &*name, flags | OFlags::NOFOLLOW, mode).map_err(failed);
        }
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        stack.push(rustix::fs::openat(here, &*name, step, Mode::empty()).map_err(failed)?);
    }
    let here = stack.last().map_or(root, AsFd::as_fd);
    rustix::fs::openat(here, c".", flags - OFlags::NOFOLLOW, mode).call("openat", || quoted(path))
}

fn link_target(dir: BorrowedFd<'_>, name: &OsStr) -> Option<OsString> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new()).ok()?;
    Some(OsString::from_vec(target.into_bytes()))
}

/// The components still to resolve, last first.
struct Components {
    rest: Vec<OsString>,
    /// A trailing slash or dot: what the path names must be a directory.
    must_be_dir: bool,
}

impl Components {
    fn of(path: &OsStr) -> Self {
        let mut all = Self { rest: Vec::new(), must_be_dir: false };
        all.prepend(path);
        all
    }

    fn prepend(&mut self, path: &OsStr) {
        let bytes = path.as_bytes();
        if self.rest.is_empty() {
            self.must_be_dir |= bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        }
        let names = bytes.split(|&b| b == b'/').rev().filter(|c| !c.is_empty() && *c != b".");
        self.rest.extend(names.map(|c| OsStr::from_bytes(c).to_os_string()));
    }

    fn next(&mut self) -> Option<OsString> {
        self.rest.pop()
    }

    fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}
