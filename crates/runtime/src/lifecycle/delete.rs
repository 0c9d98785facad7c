//! `delete`: all that a container had, given back.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result};
use crate::hooks;
use crate::lifecycle::directory::Directory;
use crate::lifecycle::family;
use crate::lifecycle::record::{Record, Status};

const SIGKILL: i32 = 9;
/// How long a killed init may take to be gone: its memory may be swapped out.
const PATIENCE: Duration = Duration::from_secs(10);
/// When a killed init is usually gone.
const SOON: Duration = Duration::from_millis(500);

/// Removes a stopped container; with `force` one in any state, after killing it.
///
/// A container that was created and never started is killed, too, as runc does.
///
/// Gives back the warnings of hooks that failed after its end: they change nothing more (runtime-spec 1.2, "Lifecycle", 13).
///
/// # Errors
/// [`Error::State`] for a running one; a process or group that does not go.
pub fn delete(directory: &Directory, force: bool) -> Result<Vec<String>> {
    let Some(record) = directory.record()? else {
        // Its maker was killed before it made anything else.
        directory.remove()?;
        return Ok(Vec::new());
    };
    let status = directory.status(&record)?;
    if !force && matches!(status, Status::Running | Status::Paused | Status::Creating) {
        return Err(Error::State { id: record.id, status: status.word(), wanted: "delete" });
    }
    if record.grouped {
        end(&record)?;
        if record.pid_namespace && !record.group.is_none() {
            record.group.has_no_others()?;
        }
        record.group.remove()?;
    } else {
        record.group.abandon()?;
    }
    if let Some(class) = &record.resctrl {
        class.remove()?;
    }
    record.unmount()?;
    directory.remove()?;
    Ok(after(&record))
}

/// Runs the hooks of a container that is no more; what they failed with.
pub(crate) fn after(record: &Record) -> Vec<String> {
    let state = record.state(Status::Stopped, 0).to_string();
    let failed = hooks::poststop(record.hooks.as_ref(), state.as_bytes());
    failed.iter().map(ToString::to_string).collect()
}

/// Kills what lives of it.
fn end(record: &Record) -> Result<()> {
    if let Some(pidfd) = record.init.as_ref().and_then(|init| init.open()) {
        match sys::process::signal(&pidfd, SIGKILL) {
            Err(error) if error.errno != rustix::io::Errno::SRCH => return Err(error.into()),
            _ => {}
        }
        // On version 1 a frozen process dies when it is thawed.
        if record.group.is_frozen()? {
            family::signal(record, SIGKILL)?;
        }
        // It may have frozen itself in a group below its own; what is left is killed with all groups thawed.
        if !ends_within(&pidfd, SOON)? && !record.group.is_none() {
            family::signal(record, SIGKILL)?;
        }
        if !ends_within(&pidfd, PATIENCE)? {
            return Err(Error::Lost(format!("it was killed and lives on after {PATIENCE:?}")));
        }
    }
    if record.group.is_none() {
        return Ok(());
    }
    // Init's pid namespace has ended with it: what lives in groups below is somebody else's. Processes of one that is not its
    // own live on, and are few.
    let left = record.group.processes(!record.pid_namespace)?;
    if !left.is_empty() {
        record.group.kill_own(SIGKILL, &|pid| !record.pid_namespace || left.contains(&pid))?;
    }
    Ok(())
}

fn ends_within(pidfd: &OwnedFd, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(count) => return Ok(count > 0),
            Err(errno) => return Err(sys::Error::new("poll", "init", errno).into()),
        }
    }
}
