//! How the kernel treats a process: its scheduling, the priority of its reads and writes, where its memory lies, and which
//! system it says it is.

use rustix::io::Errno;

use crate::{Error, Result};

/// `struct sched_attr` of sched_setattr(2), with utilisation clamps (Linux 5.3).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduling {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
    clamp_min: u32,
    clamp_max: u32,
}

/// Sets this thread's scheduling (`sched_setattr(2)`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE`, `EINVAL` for values that contradict the policy, `EBUSY` where deadlines cannot be kept.
pub fn schedule(mut how: Scheduling) -> Result<()> {
    how.size = u32::try_from(size_of::<Scheduling>()).unwrap_or(u32::MAX);
    // SAFETY: the structure lives across the call, which reads as much of it as its first member says.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&how), 0) };
    done(answer, "sched_setattr", || format!("{how:?}"))
}

/// Sets the priority of this thread's reads and writes (`ioprio_set(2)`): a class, 1 to 3, and a level in it, 0 to 7.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` or `CAP_SYS_NICE` for the real-time class.
pub fn io_priority(class: u16, level: u16) -> Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = (libc::c_long::from(class) << CLASS_SHIFT) | libc::c_long::from(level);
    // SAFETY: takes integers only.
    let answer = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    done(answer, "ioprio_set", || format!("class {class}, level {level}"))
}

/// Sets where this thread's memory comes from (`set_mempolicy(2)`): a mode with its flags, and the nodes.
///
/// # Errors
/// `ENOSYS` where the kernel is not built for several nodes, `EINVAL` for nodes that are not there or do not go with the mode.
pub fn memory_policy(mode: i32, nodes: &[u64]) -> Result<()> {
    // The kernel counts one bit less than it is told.
    let bits = nodes.len() * 64 + 1;
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    let bits = if nodes.is_empty() { 0 } else { bits };
    // SAFETY: the mask has the bits that are told and lives across the call.
    let answer = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    done(answer, "set_mempolicy", || format!("mode {mode:#x}, nodes {nodes:x?}"))
}

/// Sets this process's execution domain (`personality(2)`).
///
/// # Errors
/// `EINVAL` where the kernel refuses it.
pub fn personality(domain: u32) -> Result<()> {
    // SAFETY: takes an integer only.
    let answer = unsafe { libc::personality(libc::c_ulong::from(domain)) };
    done(libc::c_long::from(answer), "personality", || format!("{domain:#x}"))
}

fn done(answer: libc::c_long, call: &'static str, args: impl FnOnce() -> String) -> Result<()> {
    if answer >= 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Error::new(call, args(), Errno::from_raw_os_error(errno)))
}
