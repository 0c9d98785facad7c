//! Going where somebody else is: into namespaces, onto processors. Done before init exists, or by init itself.

use std::os::fd::BorrowedFd;

use rustix::thread::{CpuSet, LinkNameSpaceType, ThreadNameSpaceType};
use sys::{Call, Result};

/// Enters one namespace, by a descriptor of it.
pub(crate) fn namespace(file: BorrowedFd<'_>, kind: LinkNameSpaceType) -> Result<()> {
    rustix::thread::move_into_link_name_space(file, Some(kind)).call("setns", || format!("{kind:?}"))
}

/// Enters the namespaces of these kinds that a process is in, by a descriptor of the process (Linux 5.8).
pub(crate) fn namespaces_of(process: BorrowedFd<'_>, kinds: ThreadNameSpaceType) -> Result<()> {
    rustix::thread::move_into_thread_name_spaces(process, kinds).call("setns", || format!("{kinds:?}"))
}

/// Runs on these processors alone.
pub(crate) fn processors(set: &CpuSet) -> Result<()> {
    rustix::thread::sched_setaffinity(None, set)
        .call("sched_setaffinity", || format!("{} processors", set.count()))
}
