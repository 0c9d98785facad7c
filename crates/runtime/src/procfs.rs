//! A procfs that is known to be one, and the only way its files are written.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::{Call, Error, Result};

/// No file that is read here is longer.
#[cfg(test)]
const FILE_BYTES: usize = 65_536;

/// A procfs, by a descriptor of its top.
///
/// What is mounted on a file of it, or in place of it, is refused: a write of a container's setup must never reach another
/// file than the one that it names.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// The host's own.
    pub(crate) fn of_host() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = rustix::fs::open(c"/proc", flags, Mode::empty()).call("open", || "\"/proc\"".into())?;
        is_procfs(&top, "/proc")?;
        Ok(Self(top))
    }

    /// A new one of this process's pid namespace, attached nowhere.
    pub(crate) fn private() -> Result<Self> {
        Ok(Self(sys::mount::Context::open("proc")?.mount(MountAttrFlags::empty())?))
    }

    /// One that was just mounted, by its descriptor.
    pub(crate) fn of_mount(mount: OwnedFd) -> Self {
        Self(mount)
    }

    /// Writes a file in one call.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.open(path, OFlags::WRONLY)?;
        let written =
            rustix::io::write(&file, text.as_bytes()).call("write", || format!("{path}, {text:?}"))?;
        if written == text.len() {
            Ok(())
        } else {
            Err(Error::new("write", format!("{path}, cut"), Errno::IO))
        }
    }

    /// Reads a short file.
    #[cfg(test)]
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        let file = self.open(path, OFlags::RDONLY)?;
        let mut bytes = vec![0; FILE_BYTES];
        let mut length = 0;
        while length < bytes.len() {
            match rustix::io::read(&file, &mut bytes[length..]).call("read", || path.into())? {
                0 => break,
                more => length += more,
            }
        }
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn open(&self, path: &str, access: OFlags) -> Result<OwnedFd> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file =
            rustix::fs::openat2(&self.0, path, flags, Mode::empty(), how).call("openat2", || path.into())?;
        is_procfs(&file, path)?;
        Ok(file)
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_procfs(file: &OwnedFd, path: &str) -> Result<()> {
    let kind = rustix::fs::fstatfs(file).call("fstatfs", || path.into())?.f_type;
    if kind == PROC_SUPER_MAGIC {
        Ok(())
    } else {
        Err(Error::new("fstatfs", format!("{path}: not procfs"), Errno::INVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_procfs_are_not_followed() {
        let procfs = Procfs::of_host().expect("procfs");
        assert!(procfs.read("self/status").expect("a file").contains("Pid:"));
        for path in ["self/root/etc/passwd", "../etc/passwd", "self/cwd"] {
            assert!(procfs.read(path).is_err(), "{path}");
        }
    }
}
