//! `start`: the word that init waits for, and what it says to that.

use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::channel::Said;
use crate::error::{Error, Result};
use crate::hooks::{self, HookKind, Inherited};
use crate::lifecycle::delete::delete;
use crate::lifecycle::directory::Directory;
use crate::lifecycle::record::{Record, Status};

/// Lets a created container's command run; returns once it has been executed and the poststart hooks have run.
///
/// # Errors
/// [`Error::State`] for a container that does not wait; what kept the command from running. A hook that fails ends the
/// container and removes it (runtime-spec 1.3, "Lifecycle", 7 and 9).
pub fn start(directory: &Directory) -> Result<()> {
    let record = directory.record()?.ok_or_else(|| unborn(directory))?;
    let status = directory.status(&record)?;
    let pid = record.init.as_ref().map_or(0, |init| init.pid);
    let channel = match status {
        Status::Created => directory.connect(SocketFlags::empty())?,
        _ => None,
    };
    let Some(channel) = channel else {
        return Err(Error::State { id: record.id, status: status.word(), wanted: "start" });
    };
    let state = record.state(Status::Created, pid).to_string();
    match channel.go(state.as_bytes()) {
        // Killed since it was looked at.
        Err(error) if error.errno == Errno::PIPE => {
            let status = Status::Stopped.word();
            return Err(Error::State { id: record.id, status, wanted: "start" });
        }
        sent => sent?,
    }
    let said = channel.hear()?;
    directory.forget_socket();
    match said {
        Said::Failed(report) => {
            if report.is_of(HookKind::StartContainer) {
                // What the hook said is what is told; what cannot be removed stays recorded for `delete --force`.
                let _ = delete(directory, true);
            }
            Err(report.into_error("the container's command"))
        }
        _ => after(directory, &record, pid),
    }
}

/// Runs the hooks that follow the start; one that fails ends the container and removes it.
pub(crate) fn after(directory: &Directory, record: &Record, pid: u32) -> Result<()> {
    let kind = HookKind::Poststart;
    let hooks = kind.of(record.hooks.as_ref());
    let state = record.state(Status::Running, pid).to_string();
    hooks::run(kind, hooks, state.as_bytes(), Inherited::Runtime).map_err(|failure| {
        let _ = delete(directory, true);
        Error::Hook(failure)
    })
}

fn unborn(directory: &Directory) -> Error {
    Error::State { id: directory.id().to_string(), status: Status::Creating.word(), wanted: "start" }
}
