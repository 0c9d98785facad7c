//! A tree of another process's mount namespace.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdGetfdFlags, WaitId, WaitIdOptions, pidfd_getfd, waitid};
use rustix::thread::LinkNameSpaceType;
use sys::mount::{Extent, clone_tree};
use sys::{Call, Error as Failed, Root};

use crate::error::{Error, Result};
use crate::joining;

/// Takes the mount at `path` of the process whose directory in /proc this is: a descriptor of it, attached nowhere.
///
/// Only who is in a mount namespace can take what is mounted there, so a process goes there for a moment and its descriptor is
/// fetched. The path is looked up in that process's root and cannot lead out of it.
///
/// # Errors
/// The call that failed, `EPERM` for who may not enter.
pub fn tree_of(process: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let open = |name: &'static std::ffi::CStr, flags| {
        rustix::fs::openat(process, name, flags, Mode::empty()).call("openat", || format!("{name:?}"))
    };
    let namespace = open(c"ns/mnt", flags)?;
    let root = Root::from_fd(open(c"root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?);
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", String::new);
    let ((told, tell), (wait, go)) = (pipe()?, pipe()?);
    let gone = sys::process::clone(0, true, || {
        let number = go.as_raw_fd().unsigned_abs();
        let _ = sys::process::close_range(number, number, sys::process::Range::Close);
        let taken = joining::namespace(namespace.as_fd(), LinkNameSpaceType::Mount)
            .and_then(|()| root.open(path, OFlags::PATH, Mode::empty()))
            .and_then(|there| clone_tree(there.as_fd(), Extent::Mount));
        let (fd, errno) = match &taken {
            Ok(tree) => (tree.as_raw_fd(), 0),
            Err(error) => (-1, error.errno.raw_os_error()),
        };
        let packet = [fd.to_ne_bytes(), errno.to_ne_bytes()].concat();
        let written = rustix::io::write(&tell, &packet);
        // Until it has been fetched.
        let _ = rustix::io::read(&wait, &mut [0]);
        u8::from(written.is_err())
    })?;
    drop(tell);
    let mut packet = [0; 8];
    let read = rustix::io::read(&told, &mut packet).call("read", || "the process in the namespace".into())?;
    let number = |at: usize| i32::from_ne_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let fetched = if read == packet.len() && number(0) >= 0 {
        pidfd_getfd(&gone.pidfd, number(0), PidfdGetfdFlags::empty())
            .call("pidfd_getfd", || format!("{path:?}"))
    } else {
        let errno = rustix::io::Errno::from_raw_os_error(number(4));
        Err(Failed::new("open_tree", format!("{path:?} of another mount namespace"), errno))
    };
    drop(go);
    let waited = waitid(WaitId::PidFd(gone.pidfd.as_fd()), WaitIdOptions::EXITED);
    waited.call("waitid", || "the process in the namespace".into())?;
    fetched.map_err(Error::from)
}
