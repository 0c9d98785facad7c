//! A group's directory, held open, and its files.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use sys::{Call, Result, Root};

/// A directory of a cgroup hierarchy.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens `path` below the hierarchy mounted at `mount`.
    pub(crate) fn open(mount: &Path, path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = Root::open_ambient(mount)?.open(path, flags, Mode::empty())?;
        Ok(Self { fd, path: mount.join(path) })
    }

    /// Takes an open directory and its path for messages.
    pub(crate) fn new(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Its path on the host.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens a file of it.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(&self.fd, name, flags, Mode::empty()).call("openat", || self.shown(name))
    }

    /// Reads a file of it whole.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        read_all(&file).call("read", || self.shown(name))
    }

    /// Writes a file of it by one call, as the kernel wants it.
    pub(crate) fn write(&self, name: &str, value: &str) -> Result<()> {
        let file = self.open_file(name, OFlags::WRONLY)?;
        write_once(&file, value).call("write", || format!("{}, {value:?}", self.shown(name)))
    }

    fn shown(&self, name: &str) -> String {
        format!("{:?}", self.path.join(name))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Writes `value` by one `write(2)`: each is a command of its own to the kernel.
pub(crate) fn write_once(file: impl AsFd, value: &str) -> std::result::Result<(), Errno> {
    loop {
        match rustix::io::write(&file, value.as_bytes()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reads from where the descriptor stands to the end; bytes that are no text are replaced.
pub(crate) fn read_all(file: impl AsFd) -> std::result::Result<String, Errno> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
