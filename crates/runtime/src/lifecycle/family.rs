//! Whose processes those in a container's control groups are: somebody else may have made groups below them.
//!
//! A pid namespace of the container's own tells: its processes are in it or in one that began there, and all of them end with
//! the first. Without one nothing tells, and all that is in the groups is the container's.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::process::Pid;

use crate::error::{Error, Result};
use crate::lifecycle::record::Record;

/// More pid namespaces than this are never nested (`MAX_PID_NS_LEVEL`).
const LEVELS: usize = 32;

/// True for a configuration with a new pid namespace.
pub(crate) fn is_whole(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let is_new = |kind| namespaces.into_iter().flatten().any(|one| one.typ() == kind && one.path().is_none());
    is_new(LinuxNamespaceType::Pid)
}

/// Signals all processes of a container. One whose first process has ended with its pid namespace has none.
pub(crate) fn signal(record: &Record, number: i32) -> Result<()> {
    let Some(init) = record.init.as_ref().filter(|_| record.pid_namespace) else {
        return Ok(record.group.kill(number)?);
    };
    let own = namespace(init.pid).as_ref().and_then(identity);
    // Looked at once its namespace was found by its number: that was its own as long as it lives.
    match (own, init.open()) {
        (Some(own), Some(_)) => Ok(record.group.kill_own(number, &|pid| is_within(pid, own))?),
        _ => Ok(()),
    }
}

/// The processes of a container without a control group, by its first one: those of its pid namespace and of namespaces that
/// began there.
///
/// # Errors
/// [`Error::NoFamily`] for one that has no pid namespace of its own; that of reading `/proc`.
#[allow(clippy::disallowed_methods, reason = "the host's procfs")]
pub fn members(init: u32) -> Result<Vec<Pid>> {
    let own = namespace(init).as_ref().and_then(identity);
    let Some(own) = own.filter(|own| namespace(std::process::id()).as_ref().and_then(identity) != Some(*own))
    else {
        return Err(Error::NoFamily);
    };
    let path = PathBuf::from("/proc");
    let listed = std::fs::read_dir(&path).map_err(|source| Error::File { path, source })?;
    let numbers = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter_map(Pid::from_raw).filter(|pid| is_within(*pid, own)).collect())
}

/// True for a process whose pid namespace is this one or began in it.
fn is_within(pid: Pid, own: (u64, u64)) -> bool {
    let mut at = namespace(pid.as_raw_nonzero().get().unsigned_abs());
    for _ in 0..LEVELS {
        let Some(file) = at else { return false };
        if identity(&file) == Some(own) {
            return true;
        }
        at = sys::process::parent_namespace(file.as_fd()).ok().map(File::from);
    }
    false
}

#[allow(clippy::disallowed_methods, reason = "the host's procfs")]
fn namespace(pid: u32) -> Option<File> {
    File::open(format!("/proc/{pid}/ns/pid")).ok()
}

fn identity(file: &File) -> Option<(u64, u64)> {
    rustix::fs::fstat(file).ok().map(|stat| (stat.st_dev, stat.st_ino))
}
