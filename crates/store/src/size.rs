//! How many bytes of the disk a tree takes.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use sys::Call;

use crate::files::{About, found};
use crate::{Container, Result, Store, Volume, files, remove};

/// The unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

impl Container {
    /// The bytes on the disk that go with it: its writable layer and its files, not its image's.
    ///
    /// # Errors
    /// A failed call.
    pub fn allocated(&self) -> Result<u64> {
        allocated(self.store(), &format!("containers/{}", self.id()))
    }
}

impl Volume {
    /// The bytes on the disk that go with it.
    ///
    /// # Errors
    /// A failed call.
    pub fn allocated(&self) -> Result<u64> {
        allocated(self.store(), &format!("volumes/{}", self.name()))
    }
}

/// What is allocated for all of a tree, what is linked several times once; mounts are not entered, nothing there is nothing.
fn allocated(store: &Store, path: &str) -> Result<u64> {
    let Some(top) = found(store.dir().open_dir(path)).about(path)? else { return Ok(0) };
    let stat = files::stat(&top).about(path)?;
    let mut count = Count { device: stat.st_dev, linked: BTreeSet::new(), bytes: blocks(&stat) };
    count.add(top.as_fd()).about(path)?;
    Ok(count.bytes)
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK
}

struct Count {
    device: u64,
    linked: BTreeSet<u64>,
    bytes: u64,
}

impl Count {
    fn add(&mut self, dir: BorrowedFd<'_>) -> sys::Result<()> {
        for name in remove::names(dir)? {
            let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW);
            let Some(stat) = found(stat.call("fstatat", || format!("{name:?}")))? else { continue };
            let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
            let is_counted = !is_dir && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino);
            if stat.st_dev != self.device || is_counted {
                continue;
            }
            self.bytes += blocks(&stat);
            if is_dir {
                let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let child = rustix::fs::openat(dir, &name, flags, Mode::empty());
                if let Some(child) = found(child.call("openat", || format!("{name:?}")))? {
                    self.add(child.as_fd())?;
                }
            }
        }
        Ok(())
    }
}
