//! A container's end: unmounted, its files removed, its name free.

use cgroup::Group;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use store::{Container, State};
use sys::Call;

use crate::error::About;
use crate::{Error, Result, live};

/// How long a killed process may take to be gone.
const KILLED_WITHIN_SECONDS: i64 = 10;

/// `SIGKILL`'s number (signal(7)).
const KILL: i32 = 9;

/// What to do about a container whose process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// Refuses to remove it.
    Refuse,
    /// Kills the process first.
    Kill,
}

/// Removes a container: unmounts its root, removes its files and frees its name. Other mounts inside are not crossed.
///
/// # Errors
/// [`Error::Running`], [`Error::Elsewhere`], a failed call.
pub fn remove(container: Container, running: Running) -> Result<()> {
    let lock = container.lock()?;
    let state = container.settled(&lock)?;
    if state.is_alive() {
        match running {
            Running::Refuse => return Err(Error::Running { name: container.name().into() }),
            Running::Kill => kill(&container, &state)?,
        }
    }
    end_group(&state)?;
    live::detach(&container, &state)?;
    container.remove()?;
    drop(lock);
    Ok(())
}

/// Removes its control group where a run has left it, with what lives in it.
fn end_group(state: &State) -> Result<()> {
    match Group::recorded(state.group.as_ref()) {
        Some(group) => Ok(group.end()?),
        None => Ok(()),
    }
}

/// Kills the container's process, which takes all others of its pid namespace along.
fn kill(container: &Container, state: &State) -> Result<()> {
    let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let Some(pid) = pid else { return Ok(()) };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => {
            return Err(errno).call("pidfd_open", || format!("{pid:?}")).about("killing a container");
        }
    };
    // The number may have been another's before it was opened.
    if !state.is_alive() {
        return Ok(());
    }
    match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => {
            return Err(errno).call("pidfd_send_signal", || "KILL".into()).about("killing a container");
        }
    }
    if let Some(group) =
        Group::recorded(state.group.as_ref()).filter(|group| group.is_frozen().unwrap_or(false))
    {
        // A frozen process of version 1 dies when it is thawed.
        group.kill(KILL)?;
    }
    let timeout = Timespec { tv_sec: KILLED_WITHIN_SECONDS, tv_nsec: 0 };
    let ended = rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
    match ended.call("poll", || "pidfd".into()).about("killing a container")? {
        0 => Err(Error::Running { name: container.name().into() }),
        _ => Ok(()),
    }
}
