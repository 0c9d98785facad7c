//! What a tree takes on the disk.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use store::Container;
use sys::{Call, Root};

/// Bytes, counted two ways; a file with several names counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The sizes of all regular files.
    pub(crate) content: u64,
    /// What the file system has allocated for all there is, directories too (`st_blocks`).
    pub(crate) allocated: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.content += other.content;
        self.allocated += other.allocated;
    }
}

/// How often a tree is walked that changes under the walk.
const TRIES: u32 = 5;

/// Which files were counted already, by device and inode.
pub(crate) type Seen = HashSet<(u64, u64)>;

/// The sizes of the files that a container wrote.
///
/// # Errors
/// A failed call.
pub(crate) fn content(container: &Container) -> store::Result<u64> {
    Ok(of_container(container)?.content)
}

/// What a container's writable layer takes.
///
/// # Errors
/// A failed call.
pub(crate) fn of_container(container: &Container) -> store::Result<Usage> {
    let bundle = container.root()?;
    of(&bundle, "upper", &mut Seen::new())
        .map_err(|source| store::Error::Call { path: format!("containers/{}/upper", container.id()), source })
}

/// What the tree at `path` below `root` takes; nothing there is nothing. Mounts in it are not crossed.
///
/// # Errors
/// A failed call. What vanishes while it is looked at is none.
pub(crate) fn of(root: &Root, path: &str, seen: &mut Seen) -> sys::Result<Usage> {
    let stat = match root.lstat(path) {
        Ok(stat) => stat,
        Err(e) if e.errno == Errno::NOENT => return Ok(Usage::default()),
        Err(e) => return Err(e),
    };
    let mut tries = 0;
    loop {
        let (mut usage, mut with) = (Usage::default(), seen.clone());
        count(&stat, &mut with, &mut usage);
        let walked = if FileType::from_raw_mode(stat.st_mode).is_dir() {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            walk(root.open(path, flags, Mode::empty())?, &mut with, &mut usage)
        } else {
            Ok(())
        };
        tries += 1;
        match walked {
            // A container moves its directories while it is looked at.
            Err(e) if e.errno == Errno::STALE && tries < TRIES => {}
            walked => {
                *seen = with;
                return walked.map(|()| usage);
            }
        }
    }
}

fn count(stat: &Stat, seen: &mut Seen, usage: &mut Usage) {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !kind.is_dir() && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
        return;
    }
    // A block is 512 bytes whatever the file system's own are (inode(7)).
    usage.allocated += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
    if kind.is_file() {
        usage.content += u64::try_from(stat.st_size).unwrap_or_default();
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
    let mut levels = vec![Level { id: id(here.as_fd())?, todo: list(here.as_fd(), seen, usage)? }];
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
                    let todo = list(here.as_fd(), seen, usage)?;
                    levels.push(Level { id: inner_id, todo });
                }
            }
            Err(e) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn open(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> sys::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", || format!("{name:?}"))
}

fn id(dir: BorrowedFd<'_>) -> sys::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir).call("fstat", String::new)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Counts what is in a directory and returns the directories among it.
fn list(dir: BorrowedFd<'_>, seen: &mut Seen, usage: &mut Usage) -> sys::Result<Vec<CString>> {
    let mut inner = Vec::new();
    for entry in Dir::read_from(dir).call("getdents64", String::new)? {
        let entry = entry.call("getdents64", String::new)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                count(&stat, seen, usage);
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    inner.push(name.to_owned());
                }
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).call("fstatat", || format!("{name:?}")),
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
        store::remove_tree(&Root::open_ambient(dir.path()).expect("open"), "d").expect("removed");
    }
}
