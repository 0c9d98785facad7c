//! The root of a container without a mount namespace of its own: among the host's mounts, and taken away from there.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::Root;
use sys::mount::Busy;

use crate::error::{Error, Result};
use crate::request::RootSource;

/// A mount that no other will be taken for: all that the container mounts is below it, and goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootMount {
    /// The mount namespace's inode.
    namespace: u64,
    /// The mount's unique id (statx(2), `STATX_MNT_ID_UNIQUE`, Linux 6.8), or what serves as one.
    id: u64,
    /// The boot's id.
    boot: String,
}

impl RootMount {
    /// The mount that a root will be, before it is attached anywhere.
    pub(crate) fn of(root: &RootSource) -> Result<Self> {
        let RootSource::Detached { mount, at } = root else {
            // Nobody but who may mount on the host can mount its root there.
            let why = "a container without a mount namespace, for who may not mount on the host";
            return Err(Error::Unsupported(why.into()));
        };
        if is_top(at) {
            let why = "without a mount namespace it cannot be the host's own root".into();
            return Err(Error::Invalid { member: "root.path".into(), why });
        }
        Ok(Self {
            namespace: sys::mount::namespace(None)?,
            id: sys::mount::mount_id(mount.as_fd())?,
            boot: sys::identity::boot_id().unwrap_or_default(),
        })
    }

    /// Detaches it with all that is mounted below; nothing where it is not there (any more).
    ///
    /// # Errors
    /// A failed call, or that it is in another mount namespace than this process.
    pub(crate) fn remove(&self, rootfs: &Path) -> Result<()> {
        if Some(&self.boot) != sys::identity::boot_id().as_ref() {
            return Ok(());
        }
        if self.namespace != sys::mount::namespace(None)? {
            let what = format!("{} in another mount namespace", rootfs.display());
            return Err(sys::Error::new("umount2", what, Errno::XDEV).into());
        }
        let path = match real(rootfs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            answer => answer.map_err(|source| Error::File { path: rootfs.into(), source })?,
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
        else {
            return Ok(());
        };
        let there = Root::open_ambient(&path)?;
        if sys::mount::mount_id(there.as_fd())? != self.id {
            return Ok(());
        }
        drop(there);
        let parent = Root::open_ambient(parent)?;
        Ok(sys::mount::unmount(parent.as_fd(), name, Busy::Detach)?)
    }
}

fn is_top(path: &Path) -> bool {
    real(path).is_ok_and(|path| path == Path::new("/"))
}

#[allow(clippy::disallowed_methods, reason = "the bundle's root on the host, as its maker named it")]
fn real(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}
