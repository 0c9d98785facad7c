//! What trees of the store take on the disk.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::files::{About, found, inode, stat};
use crate::remove::names;
use crate::{Cache, Container, Result, Store, Volume};

/// The unit of `st_blocks`, whatever the file system's own is (inode(7)).
const BLOCK: u64 = 512;
/// How often a tree is walked that changes under the walk.
const TRIES: u32 = 5;

/// Bytes, counted two ways; a file with several names counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sizes of all regular files.
    pub content: u64,
    /// What the file system has allocated for all there is, directories too (`st_blocks`).
    pub allocated: u64,
}

/// Which files were counted already, by device and inode.
pub type Seen = HashSet<(u64, u64)>;

impl Store {
    /// What the tree at a path below the store takes; nothing there is nothing. Mounts in it are not crossed, and what
    /// was `seen` before is not counted again.
    ///
    /// # Errors
    /// A failed call. What vanishes while it is looked at is none.
    pub fn usage(&self, path: &str, seen: &mut Seen) -> Result<Usage> {
        of(self.dir(), path, seen).about(path)
    }
}

impl Container {
    /// What it wrote: its writable layer.
    ///
    /// # Errors
    /// As [`Store::usage`].
    pub fn written(&self) -> Result<Usage> {
        self.store().usage(&format!("containers/{}/upper", self.id()), &mut Seen::new())
    }

    /// The bytes on the disk that go with it: its writable layer and its files, not its image's.
    ///
    /// # Errors
    /// As [`Store::usage`].
    pub fn allocated(&self) -> Result<u64> {
        let usage = self.store().usage(&format!("containers/{}", self.id()), &mut Seen::new());
        usage.map(|usage| usage.allocated)
    }
}

impl Volume {
    /// The bytes on the disk that go with it.
    ///
    /// # Errors
    /// As [`Store::usage`].
    pub fn allocated(&self) -> Result<u64> {
        let usage = self.store().usage(&format!("volumes/{}", self.name()), &mut Seen::new());
        usage.map(|usage| usage.allocated)
    }
}

impl Cache {
    /// The bytes on the disk that go with it.
    ///
    /// # Errors
    /// As [`Store::usage`].
    pub fn allocated(&self) -> Result<u64> {
        let usage = self.store().usage(&self.relative(), &mut Seen::new());
        usage.map(|usage| usage.allocated)
    }
}

fn of(root: &Root, path: &str, seen: &mut Seen) -> sys::Result<Usage> {
    let Some(top) = found(root.lstat(path))? else { return Ok(Usage::default()) };
    let mut tries = 0;
    loop {
        let (mut usage, mut with) = (Usage::default(), seen.clone());
        count(&top, &mut with, &mut usage);
        let walked = if FileType::from_raw_mode(top.st_mode).is_dir() {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            walk(root.open(path, flags, Mode::empty())?, &mut with, &mut usage)
        } else {
            Ok(())
        };
        tries += 1;
        match walked {
            // A container moves its directories while it is looked at.
            Err(e) if e.errno == Errno::STALE && tries < TRIES => continue,
            // One that never rests hides no other: what was met until then is what it takes.
            Err(e) if e.errno == Errno::STALE => {}
            walked => walked?,
        }
        *seen = with;
        return Ok(usage);
    }
}

fn count(stat: &Stat, seen: &mut Seen, usage: &mut Usage) {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !kind.is_dir() && stat.st_nlink > 1 && !seen.insert(inode(stat)) {
        return;
    }
    let allocated = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(BLOCK);
    usage.allocated = usage.allocated.saturating_add(allocated);
    if kind.is_file() {
        // A container's files may have holes of any size.
        usage.content = usage.content.saturating_add(u64::try_from(stat.st_size).unwrap_or_default());
    }
}

/// A directory under way: which one it is, and what in it is still to be entered.
struct Level {
    id: (u64, u64),
    todo: Vec<CString>,
}

/// Walks with one open directory, however deep: the way back is `..`, and has to lead to where the walk came from.
fn walk(top: OwnedFd, seen: &mut Seen, usage: &mut Usage) -> sys::Result<()> {
    let mut here = top;
    let id_of_top = id(here.as_fd())?;
    let mut levels = vec![Level { id: id_of_top, todo: list(here.as_fd(), id_of_top.0, seen, usage)? }];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.todo.pop() else {
            levels.pop();
            let Some(above) = levels.last() else { break };
            here = open(here.as_fd(), c"..")?;
            if id(here.as_fd())? != above.id {
                return Err(sys::Error::new("openat", "..: a directory was moved meanwhile", Errno::STALE));
            }
            continue;
        };
        let device = level.id.0;
        match open(here.as_fd(), &name) {
            Ok(inner) => {
                let inner_id = id(inner.as_fd())?;
                if inner_id.0 == device {
                    here = inner;
                    let todo = list(here.as_fd(), device, seen, usage)?;
                    levels.push(Level { id: inner_id, todo });
                }
            }
            Err(e) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn open(dir: BorrowedFd<'_>, name: &CStr) -> sys::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", || format!("{name:?}"))
}

fn id(dir: BorrowedFd<'_>) -> sys::Result<(u64, u64)> {
    stat(dir).map(|stat| inode(&stat))
}

/// Counts what is in a directory and returns the directories among it, those of another device aside.
fn list(dir: BorrowedFd<'_>, device: u64, seen: &mut Seen, usage: &mut Usage) -> sys::Result<Vec<CString>> {
    let mut inner = Vec::new();
    for name in names(dir)? {
        let looked = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW);
        let Some(stat) = found(looked.call("fstatat", || format!("{name:?}")))? else { continue };
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        if is_dir && stat.st_dev != device {
            continue;
        }
        count(&stat, seen, usage);
        if is_dir {
            inner.push(name);
        }
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(dir: &std::path::Path) -> Usage {
        of(&Root::open_ambient(dir).expect("open"), ".", &mut Seen::new()).expect("counted")
    }

    #[test]
    fn files_with_two_names_and_holes_are_counted_as_the_disk_has_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("d")).expect("mkdir");
        std::fs::write(dir.path().join("d/a"), vec![7; 100_000]).expect("write");
        let once = usage(dir.path());
        assert_eq!(once.content, 100_000);
        std::fs::hard_link(dir.path().join("d/a"), dir.path().join("b")).expect("link");
        assert_eq!(usage(dir.path()), once);
        std::fs::File::create(dir.path().join("hole")).and_then(|f| f.set_len(1 << 30)).expect("a hole");
        let holes = usage(dir.path());
        assert_eq!(holes.content, 100_000 + (1 << 30));
        assert!(holes.allocated < once.allocated + 100_000, "{holes:?}");
    }

    #[test]
    fn a_tree_deeper_than_descriptors_reach_is_counted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut here = Root::open_ambient(dir.path()).expect("open").into_fd();
        for _ in 0..1200 {
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o700)).expect("mkdir");
            here = open(here.as_fd(), c"d").expect("open");
        }
        let file =
            rustix::fs::openat(&here, "f", OFlags::WRONLY | OFlags::CREATE, Mode::from_raw_mode(0o600));
        rustix::io::write(file.expect("create"), b"12345").expect("write");
        assert_eq!(usage(dir.path()).content, 5);
        crate::remove_tree(&Root::open_ambient(dir.path()).expect("open"), "d").expect("removed");
    }
}
