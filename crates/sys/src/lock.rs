//! Locks freed by death: open file description locks (`fcntl(2)`, `F_OFD_SETLK`, Linux 3.15).
//!
//! They belong to the open file description, so the kernel frees them when its last descriptor is closed, also after
//! kill -9; no pid file can go stale. A forked child shares the description: who holds a lock and forks a long-lived
//! child must close the lock's descriptor there.

use std::fs::File;

use nix::fcntl::{FcntlArg, fcntl};

use crate::{Call, Error, Result};

/// How much a lock excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shared with other readers.
    Shared,
    /// Excludes everybody else.
    Exclusive,
}

/// A held lock on a whole file; dropping it closes the file and frees the lock.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits until the lock is had.
    ///
    /// # Errors
    /// `EINTR` is retried; anything else, `ENOLCK` say, is returned.
    pub fn wait(file: File, kind: Kind) -> Result<Self> {
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole(kind))) {
                Ok(_) => return Ok(Self { file }),
                Err(nix::Error::EINTR) => {}
                Err(e) => return Err(failed("F_OFD_SETLKW", kind, e)),
            }
        }
    }

    /// Takes the lock if nobody excludes it, else gives the file back.
    ///
    /// # Errors
    /// Any answer but "held by another".
    pub fn attempt(file: File, kind: Kind) -> Result<std::result::Result<Self, File>> {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(kind))) {
            Ok(_) => Ok(Ok(Self { file })),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(Err(file)),
            Err(e) => Err(failed("F_OFD_SETLK", kind, e)),
        }
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Asks whether another open file description holds an exclusive lock, without taking it (`F_OFD_GETLK`).
///
/// # Errors
/// The errno of `fcntl(2)`.
pub fn is_held(file: &File) -> Result<bool> {
    let mut probe = whole(Kind::Shared);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe)).map_err(|e| failed("F_OFD_GETLK", Kind::Shared, e))?;
    Ok(probe.l_type != libc::F_UNLCK as libc::c_short)
}

fn whole(kind: Kind) -> libc::flock {
    let l_type = match kind {
        Kind::Shared => libc::F_RDLCK,
        Kind::Exclusive => libc::F_WRLCK,
    };
    libc::flock {
        l_type: l_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn failed(command: &str, kind: Kind, errno: nix::Error) -> Error {
    let errno = rustix::io::Errno::from_raw_os_error(errno as i32);
    Err::<(), _>(errno).call("fcntl", || format!("{command}, {kind:?}")).expect_err("built from an error")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_handles() -> (File, File, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("lock");
        let first = File::create(&path).expect("create");
        let second = File::options().read(true).write(true).open(&path).expect("open");
        (first, second, dir)
    }

    #[test]
    fn an_exclusive_lock_excludes_a_second_holder_until_dropped() {
        let (first, second, _dir) = two_handles();
        let held = Lock::attempt(first, Kind::Exclusive).expect("fcntl").expect("free");
        let second = Lock::attempt(second, Kind::Exclusive).expect("fcntl").expect_err("held by the first");
        assert!(is_held(&second).expect("fcntl"));
        drop(held);
        assert!(!is_held(&second).expect("fcntl"));
        Lock::attempt(second, Kind::Exclusive).expect("fcntl").expect("free again");
    }
}
