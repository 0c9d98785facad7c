//! How this crate touches files: private, confined, never blocking, replaced whole.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::{Error, Result};

/// Directories of the store: only the owner may look inside (CVE-2021-41091: a traversable store serves setuid files).
pub(crate) const PRIVATE_DIR: Mode = Mode::RWXU;
/// Files of the store.
pub(crate) const PRIVATE_FILE: Mode = Mode::from_raw_mode(0o600);

/// Says which path of the store a failed call was about.
pub(crate) trait About<T> {
    /// Keeps `path`, relative to the store, beside the failed call.
    fn about(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> About<T> for sys::Result<T> {
    fn about(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Call { path: path.as_ref().display().to_string(), source })
    }
}

/// `None` for "no such file or directory".
pub(crate) fn found<T>(result: sys::Result<T>) -> sys::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens a regular file for reading: never through a link, never blocking on a FIFO.
pub(crate) fn open_regular(root: &Root, path: impl AsRef<Path>) -> Result<Option<(File, Stat)>> {
    open_regular_with(root, path, OFlags::RDONLY)
}

/// As [`open_regular`] with further flags.
pub(crate) fn open_regular_with(
    root: &Root,
    path: impl AsRef<Path>,
    flags: OFlags,
) -> Result<Option<(File, Stat)>> {
    let path = path.as_ref();
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let wrong = |found| Err(wrong_kind(path, found));
    // openat2 refuses a mode without O_CREAT.
    let mode = if flags.contains(OFlags::CREATE) { PRIVATE_FILE } else { Mode::empty() };
    match root.open(path, flags, mode) {
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) if e.errno == Errno::LOOP => wrong("a symlink"),
        Err(e) if e.errno == Errno::ISDIR => wrong("a directory"),
        // A socket, or a FIFO opened for writing without a reader (open(2)).
        Err(e) if e.errno == Errno::NXIO => wrong("a socket, device or FIFO"),
        Err(e) => Err(e).about(path),
        Ok(fd) => {
            let stat = stat(&fd).about(path)?;
            must_be_regular(&stat, path)?;
            Ok(Some((File::from(fd), stat)))
        }
    }
}

/// Refuses what is no regular file.
pub(crate) fn must_be_regular(stat: &Stat, path: impl AsRef<Path>) -> Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        kind => Err(wrong_kind(path.as_ref(), kind_name(kind))),
    }
}

fn wrong_kind(path: &Path, found: &'static str) -> Error {
    Error::WrongKind { path: path.display().to_string(), found, wanted: "regular file" }
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

/// `fstat(2)`.
pub(crate) fn stat(fd: impl AsFd) -> sys::Result<Stat> {
    rustix::fs::fstat(fd).call("fstat", String::new)
}

/// Device and inode.
pub(crate) fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Whether `path` still names the inode of `stat`.
pub(crate) fn is_named(root: &Root, path: impl AsRef<Path>, stat: &Stat) -> Result<bool> {
    let path = path.as_ref();
    let there = found(lstat(root, path)).about(path)?;
    Ok(there.is_some_and(|there| inode(&there) == inode(stat)))
}

/// `lstat` of a fixed path below the root, in one call where the path has no symlinks to confine.
pub(crate) fn lstat(root: &Root, path: impl AsRef<Path>) -> sys::Result<Stat> {
    root.lstat(path)
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_bounded(root: &Root, path: impl AsRef<Path>, limit: u64) -> Result<Option<Vec<u8>>> {
    let path = path.as_ref();
    let Some((file, stat)) = open_regular(root, path)? else { return Ok(None) };
    let too_large = || Error::TooLarge { what: path.display().to_string(), limit };
    if stat.st_size as u64 > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(stat.st_size as usize);
    file.take(limit + 1).read_to_end(&mut bytes).call("read", String::new).about(path)?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(Some(bytes))
}

/// Whether a file's bytes must be on the disk before it gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// Survives a power cut.
    Yes,
    /// May be empty after one; its reader copes.
    No,
}

/// Replaces a file whole: readers see the old one or the new one.
///
/// The caller holds the lock under which `path` is written, so the side file has a fixed name and is no leak.
pub(crate) fn replace(root: &Root, path: &str, bytes: &[u8], durable: Durable) -> Result<()> {
    let side = format!("{path}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = File::from(root.open(&side, flags, PRIVATE_FILE).about(&side)?);
    file.write_all(bytes).call("write", || format!("{} bytes", bytes.len())).about(&side)?;
    if durable == Durable::Yes {
        sync(&file, &side)?;
    }
    rename(root, &side, root, path)?;
    if durable == Durable::Yes { sync_parent(root, path) } else { Ok(()) }
}

/// Writes a new file into a directory that nobody else sees yet.
pub(crate) fn create(root: &Root, name: &str, bytes: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = File::from(root.open(name, flags, PRIVATE_FILE).about(name)?);
    file.write_all(bytes).call("write", || format!("{} bytes", bytes.len())).about(name)
}

/// Makes the regular files directly in a directory durable, and the directory.
pub(crate) fn sync_files(root: &Root) -> Result<()> {
    for name in names_in(root, "")? {
        match open_regular(root, &name) {
            Ok(Some((file, _))) => sync(&file, &name)?,
            Ok(None) | Err(Error::WrongKind { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    sync(root, "")
}

/// `rename(2)` within the store, replacing what is there.
pub(crate) fn rename(from: &Root, source: &str, to: &Root, target: &str) -> Result<()> {
    rustix::fs::renameat(from, source, to, target)
        .call("rename", || format!("{source:?}, {target:?}"))
        .about(target)
}

/// Renames where nothing is yet; false where something is.
pub(crate) fn rename_new(from: &Root, source: &str, to: &Root, target: &str) -> Result<bool> {
    match rustix::fs::renameat_with(from, source, to, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(errno).call("renameat2", || format!("{source:?}, {target:?}")).about(target),
    }
}

/// `unlink(2)`; a file that is gone already is no failure.
pub(crate) fn unlink(root: &Root, path: &str) -> Result<()> {
    let gone = rustix::fs::unlinkat(root, path, AtFlags::empty()).call("unlink", || format!("{path:?}"));
    found(gone).about(path).map(|_| ())
}

/// Makes a directory of the owner's alone, whatever the umask; one that is there stays.
pub(crate) fn make_dir(root: &Root, path: &str) -> Result<()> {
    match rustix::fs::mkdirat(root, path, PRIVATE_DIR) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).call("mkdir", || format!("{path:?}")).about(path),
    }
}

/// `fsync(2)`. Its failure is final: the kernel may have dropped the pages, so nothing is retried.
pub(crate) fn sync(fd: impl AsFd, path: &str) -> Result<()> {
    rustix::fs::fsync(fd).call("fsync", String::new).about(path)
}

/// Makes the directory entries beside `path` durable.
pub(crate) fn sync_parent(root: &Root, path: &str) -> Result<()> {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let dir = root.open_dir(parent).about(parent)?;
    sync(&dir, parent)
}

/// The names in a directory, without `.` and `..`; none where it does not exist.
pub(crate) fn names_in(root: &Root, path: &str) -> Result<Vec<String>> {
    let Some(dir) = found(root.open_dir(path)).about(path)? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(dir.into_fd()).call("getdents64", String::new).about(path)? {
        let entry = entry.call("getdents64", String::new).about(path)?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) => names.push(name.to_string()),
            Err(_) => names.push(entry.file_name().to_string_lossy().into_owned()),
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// How many bytes are written before their way to the disk is started.
const WINDOW: u64 = 4 << 20;

/// Sends a growing file's bytes to the disk while more come, so that the fsync at its end waits for little.
#[derive(Debug, Default)]
pub(crate) struct Writeback {
    started: u64,
}

impl Writeback {
    /// Takes note that the file was written up to `end`.
    pub(crate) fn wrote(&mut self, file: impl AsFd, end: u64) {
        if end < self.started + WINDOW {
            return;
        }
        // Only a head start: where it fails the fsync does all, and says what went wrong.
        let _ = sys::start_writeback(file, self.started, end - self.started);
        self.started = end;
    }
}

/// Random hexadecimal digits: names that no two processes choose.
pub(crate) fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0_u8; bytes];
    let mut filled = 0;
    while filled < bytes {
        match rustix::rand::getrandom(&mut random[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call("getrandom", || bytes.to_string()).about("staging"),
        }
    }
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
