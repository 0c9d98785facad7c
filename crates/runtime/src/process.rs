//! The parent's side of making a container's process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use sys::Call;
use sys::process::Cloned;

use crate::error::Result;
use crate::newborn::{Newborn, Place};
use crate::plan::{Plan, Stops};
use crate::refuse;
use crate::request::{Request, Tie};
use crate::watcher::Watcher;

/// A container whose command runs.
#[derive(Debug)]
pub struct Started {
    /// Its process in this pid namespace.
    pub pid: u32,
    /// Its process, never another one.
    pub pidfd: OwnedFd,
    /// The master of its terminal, where it has one.
    pub terminal: Option<OwnedFd>,
    /// Goes after the container: this value is kept until then.
    pub(crate) _watcher: Option<Watcher>,
}

/// Makes the container's process; returns once its command has been executed.
///
/// A failure at any step leaves nothing: every mount and namespace goes with the process.
///
/// # Errors
/// The step that failed with its call, [`crate::Error::CommandNotFound`] and [`crate::Error::NotExecutable`] for the command, and
/// whatever of the configuration is wrong or not supported, before a process exists.
pub fn start(request: Request) -> Result<Started> {
    debug_assert!(
        sys::process::is_single_threaded(),
        "the setup runs in a copy of a process with one thread"
    );
    refuse::without_a_runtime(&request.spec)?;
    let tie = request.tie;
    let me = pidfd_open(getpid(), PidfdFlags::empty()).call("pidfd_open", || "self".into())?;
    // Until the watcher is there nobody kills what has become another user: the command waits for it.
    let stops = Stops { watched: tie == Tie::DiesWithParent, ..Stops::default() };
    let (plan, stdio) = Plan::new(request, stops)?;
    let init = Newborn::make(plan, stdio, Place::default())?;
    let watcher = match (init.pidfd(), tie) {
        (Some(pidfd), Tie::DiesWithParent) => Some(Watcher::start(pidfd, me.as_fd())?),
        _ => None,
    };
    init.attend(None, |_| Ok(Vec::new()))?;
    let (Cloned { pid, pidfd }, terminal) = init.release()?;
    Ok(Started { pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd, terminal, _watcher: watcher })
}
