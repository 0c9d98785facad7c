//! The parent's side of making a container's process.

use std::os::fd::{AsFd, OwnedFd};

use cgroup::Group;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use sys::Call;
use sys::process::Cloned;

use crate::error::Result;
use crate::newborn::{Newborn, Place};
use crate::plan::{Plan, Stops};
use crate::request::{Guard, Request, Tie};
use crate::watcher::Watcher;
use crate::{group, refuse};

/// A container whose command runs.
#[derive(Debug)]
pub struct Started {
    /// Its process in this pid namespace.
    pub pid: u32,
    /// Its process, never another one.
    pub pidfd: OwnedFd,
    /// The master of its terminal, where it has one.
    pub terminal: Option<OwnedFd>,
    /// Its control group, where it was made with one.
    pub group: Option<Group>,
    /// Goes after the container: this value is kept until then.
    pub(crate) _watcher: Option<Watcher>,
}

/// Makes the container's process, in a control group where the request has one; returns once its command has been executed.
///
/// A failure at any step leaves nothing: every mount and namespace goes with the process, and the group after it.
///
/// # Errors
/// The step that failed with its call, [`crate::Error::CommandNotFound`] and [`crate::Error::NotExecutable`] for the command, and
/// whatever of the configuration is wrong or not supported, before a process exists.
pub fn start(request: Request) -> Result<Started> {
    debug_assert!(
        sys::process::is_single_threaded(),
        "the setup runs in a copy of a process with one thread"
    );
    let mut request = request;
    refuse::without_a_runtime(&request.spec, request.group.is_some())?;
    let Some(mut group) = request.group.take() else { return born(request, None) };
    group::make(&mut group, &request.spec)?;
    if let Err(error) = group::holds_rules(&group, &request.spec) {
        // That is what is told.
        let _ = group.end();
        return Err(error);
    }
    if group.is_none() {
        return born(request, None);
    }
    let made = group.clone();
    let started = born(request, Some(group));
    if started.is_err() {
        // The error that led here is what is told.
        let _ = made.end();
    }
    started
}

/// Makes the process in this group.
fn born(mut request: Request, mut group: Option<Group>) -> Result<Started> {
    if group.as_ref().is_some_and(Group::has_device_rules) {
        request.guard = Guard::Elsewhere;
    }
    let tie = request.tie;
    let me = pidfd_open(getpid(), PidfdFlags::empty()).call("pidfd_open", || "self".into())?;
    // Until the watcher is there nobody kills what has become another user: the command waits for it.
    let stops = Stops { born: group.is_some(), watched: tie == Tie::DiesWithParent, ..Stops::default() };
    let birthplace = group.as_mut().map(Group::birthplace).transpose()?.flatten();
    let (plan, stdio) = Plan::new(request, stops)?;
    let place = Place { cgroup: birthplace.as_ref().map(AsFd::as_fd), ..Place::default() };
    let init = Newborn::make(plan, stdio, place)?;
    let watcher = match (init.pidfd(), tie) {
        (Some(pidfd), Tie::DiesWithParent) => Some(Watcher::start(pidfd, me.as_fd(), group.as_ref())?),
        _ => None,
    };
    if let Some(group) = &mut group {
        group::house(group, birthplace.as_ref(), &init)?;
        group.release();
    }
    init.attend(None, |_| Ok(Vec::new()))?;
    let (Cloned { pid, pidfd }, terminal) = init.release()?;
    Ok(Started { pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd, terminal, group, _watcher: watcher })
}
