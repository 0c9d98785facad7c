//! `pause`, `resume`, `update`, `ps`, `events`: what is done to a container through its control group.

use oci_spec::runtime::LinuxResources;

use crate::error::{Error, Result};
use crate::lifecycle::directory::Directory;
use crate::lifecycle::record::{Record, Status};

/// Stops all processes of a container where they are.
///
/// # Errors
/// [`Error::State`] unless it is running or created; [`Error::Cgroup`].
pub fn pause(directory: &Directory) -> Result<()> {
    let record = in_state(directory, &[Status::Running, Status::Created], "pause")?;
    Ok(record.group.freeze()?)
}

/// Lets the processes of a paused container go on.
///
/// # Errors
/// [`Error::State`] unless it is paused; [`Error::Cgroup`].
pub fn resume(directory: &Directory) -> Result<()> {
    let record = in_state(directory, &[Status::Paused], "resume")?;
    Ok(record.group.thaw()?)
}

/// Changes the limits that `resources` names.
///
/// # Errors
/// [`Error::State`] for a container that has no process; [`Error::Cgroup`].
pub fn update(directory: &Directory, resources: &LinuxResources) -> Result<()> {
    let record = alive(directory, "update")?;
    Ok(record.group.update(resources)?)
}

/// The processes of a container, in the numbers of this process's pid namespace, the groups below its own included.
///
/// # Errors
/// [`Error::NoContainer`]; [`Error::Cgroup`] where a rootless container has no group.
pub fn processes(directory: &Directory) -> Result<Vec<u32>> {
    let pids = recorded(directory)?.group.processes(true)?;
    Ok(pids.into_iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect())
}

/// What a container has used, as `events --stats` shows it.
///
/// # Errors
/// [`Error::State`] for a container that has no process; [`Error::Cgroup`].
pub fn stats(directory: &Directory) -> Result<cgroup::Stats> {
    Ok(alive(directory, "events")?.group.stats()?)
}

/// A watch for processes that the kernel ends for want of memory, as `events` reports them.
///
/// # Errors
/// [`Error::State`] for a container that has no process; [`Error::Cgroup`].
pub fn watch(directory: &Directory) -> Result<cgroup::Watch> {
    Ok(alive(directory, "events")?.group.watch()?)
}

fn alive(directory: &Directory, wanted: &'static str) -> Result<Record> {
    in_state(directory, &[Status::Created, Status::Running, Status::Paused], wanted)
}

fn in_state(directory: &Directory, states: &[Status], wanted: &'static str) -> Result<Record> {
    let record = recorded(directory)?;
    let status = directory.status(&record)?;
    match states.contains(&status) {
        true => Ok(record),
        false => Err(Error::State { id: record.id, status: status.word(), wanted }),
    }
}

fn recorded(directory: &Directory) -> Result<Record> {
    directory.record()?.ok_or_else(|| Error::NoContainer { id: directory.id().to_string() })
}
