//! `kill`: signals to a container's processes.

use crate::error::{Error, Result};
use crate::lifecycle::directory::Directory;
use crate::lifecycle::family;
use crate::lifecycle::record::Status;

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// The container's first process.
    Init,
    /// All its processes.
    All,
}

/// Sends a signal by its number.
///
/// # Errors
/// [`Error::NotRunning`] for a container without a living process.
pub fn kill(directory: &Directory, number: i32, aim: Aim) -> Result<()> {
    let gone = || Error::NotRunning { id: directory.id().to_string() };
    let record = directory.record()?.filter(|record| record.grouped).ok_or_else(gone)?;
    // A rootless container may have no group: its init's end is that of its pid namespace.
    if aim == Aim::All && !record.group.is_none() {
        return family::signal(&record, number);
    }
    let status = directory.status(&record)?;
    let pidfd = record.init.as_ref().and_then(|init| init.open()).ok_or_else(gone)?;
    match sys::process::signal(&pidfd, number) {
        Err(error) if error.errno == rustix::io::Errno::SRCH => Err(gone()),
        answer => Ok(answer?),
    }?;
    // A frozen process dies once it is thawed (version 1; version 2 kills it at once).
    if number == SIGKILL {
        record.group.thaw_below();
        if status == Status::Paused {
            record.group.thaw()?;
        }
    }
    Ok(())
}

const SIGKILL: i32 = 9;
