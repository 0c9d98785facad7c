//! A process that kills the container when its parent dies.
//!
//! `PR_SET_PDEATHSIG` does that too, but the kernel forgets it when the container's process changes its credentials: a
//! setuid entrypoint, or one that starts as root and becomes another user.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sys::Result;
use sys::process::{Cloned, Range, clone, close_range};

/// SIGKILL on every architecture.
const SIGKILL: i32 = 9;

/// A watcher; dropped, it is ended and reaped, as the process that inherits orphans may not do that.
#[derive(Debug)]
pub(crate) struct Watcher(Cloned);

impl Watcher {
    /// Starts the watcher; it ends with the container or with the parent, whichever ends first.
    pub(crate) fn start(container: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> Result<Self> {
        let cloned = clone(0, true, || match watch(container, parent) {
            Ok(()) => 0,
            Err(_) => 1,
        });
        cloned.map(Self)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = sys::process::signal(&self.0.pidfd, SIGKILL);
        let _ = waitid(WaitId::PidFd(self.0.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

fn watch(container: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> Result<()> {
    // What kills the parent's process group is not to kill this one.
    let _ = rustix::process::setsid();
    let _ = SigSet::all().thread_set_mask();
    let _ = rustix::thread::set_name(c"oci-spawn:watch");
    only([container, parent])?;
    let mut watched = [PollFd::new(&container, PollFlags::IN), PollFd::new(&parent, PollFlags::IN)];
    loop {
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(sys::Error::new("poll", "container, parent", errno)),
        }
        if !watched[0].revents().is_empty() {
            return Ok(());
        }
        if !watched[1].revents().is_empty() {
            return sys::process::signal(container, SIGKILL);
        }
    }
}

/// Closes every other descriptor: a pipe of the caller's must not be held open here.
fn only(keep: [BorrowedFd<'_>; 2]) -> Result<()> {
    let mut numbers = keep.map(|fd| fd.as_fd().as_raw_fd().unsigned_abs());
    numbers.sort_unstable();
    let mut first = 0;
    for number in numbers {
        if number > first {
            close_range(first, number - 1, Range::Close)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX, Range::Close)
}
