//! A process that kills the container when its parent dies.
//!
//! `PR_SET_PDEATHSIG` does that too, but the kernel forgets it when the container's process changes its credentials: a
//! setuid entrypoint, or one that starts as root and becomes another user.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use cgroup::Group;
use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sys::Result;
use sys::process::{Cloned, Range, clone, close_range};

/// SIGKILL on every architecture.
const SIGKILL: i32 = 9;
/// How long a killed container may take to be gone.
const PATIENCE_SECONDS: i64 = 10;

/// A watcher; dropped, it is ended and reaped, as the process that inherits orphans may not do that.
#[derive(Debug)]
pub(crate) struct Watcher(Cloned);

impl Watcher {
    /// Starts the watcher. After the parent's death it ends the container, and removes its control group.
    pub(crate) fn start(
        container: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        group: Option<&Group>,
    ) -> Result<Self> {
        let cloned = clone(0, true, || match watch(container, parent, group) {
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

fn watch(container: BorrowedFd<'_>, parent: BorrowedFd<'_>, group: Option<&Group>) -> Result<()> {
    // What kills the parent's process group is not to kill this one.
    let _ = rustix::process::setsid();
    let _ = SigSet::all().thread_set_mask();
    let _ = rustix::thread::set_name(c"oci-spawn:watch");
    only([container, parent])?;
    let mut watched = vec![PollFd::new(&parent, PollFlags::IN), PollFd::new(&container, PollFlags::IN)];
    loop {
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(sys::Error::new("poll", "container, parent", errno)),
        }
        if !watched[0].revents().is_empty() {
            let killed = sys::process::signal(container, SIGKILL);
            return group.map_or(killed, |group| {
                end(container, group);
                Ok(())
            });
        }
        if watched.get(1).is_some_and(|container| !container.revents().is_empty()) {
            if group.is_none() {
                return Ok(());
            }
            // The group is the parent's to remove, as long as there is one: it ends this process then.
            watched.truncate(1);
        }
    }
}

/// Removes the group once the container is gone; what cannot be removed is recorded, and goes with the next start.
fn end(container: BorrowedFd<'_>, group: &Group) {
    let mut group = group.clone();
    // Those descriptors are closed here.
    group.release();
    // A frozen process dies when it is thawed.
    let _ = group.kill(SIGKILL);
    let time = Timespec { tv_sec: PATIENCE_SECONDS, tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(&container, PollFlags::IN)], Some(&time));
    let _ = group.end();
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
