//! Loading a system call filter: `seccomp(2)`.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::{Error, Result};

/// All threads of the process get the filter (Linux 3.17).
pub const TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
/// What the filter decides, but for allowing, is logged (Linux 4.14).
pub const LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// No mitigation of speculative store bypass (Linux 4.17).
pub const SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// The call returns the descriptor that notifications are read from (Linux 5.0).
pub const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
/// A thread that cannot have the filter is told as `ESRCH`, which [`TSYNC`] needs beside [`NEW_LISTENER`] (Linux 5.7).
pub const TSYNC_ESRCH: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
/// Only a fatal signal wakes a thread whose notification was received (Linux 5.19).
pub const WAIT_KILLABLE_RECV: u32 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;

/// One instruction of classic BPF (linux/filter.h, `struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip where a comparison holds.
    pub jt: u8,
    /// How many to skip where it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Filters the system calls of this thread, of all threads with [`TSYNC`], from now on and across exec.
///
/// Answers the listener, close-on-exec, where [`NEW_LISTENER`] is among the flags.
///
/// # Errors
/// The errno of `seccomp(2)`: `EACCES` without `CAP_SYS_ADMIN` and without no_new_privs, `EINVAL` for a flag the kernel
/// does not know or a program it refuses, `EBUSY` where another filter has a listener, `ESRCH` where a thread cannot have
/// the filter, `ENOMEM` where all filters together are too long.
pub fn set_filter(flags: u32, program: &[Instruction]) -> Result<Option<OwnedFd>> {
    let failed =
        |errno| Error::new("seccomp", format!("SET_MODE_FILTER, {flags:#x}, {} steps", program.len()), errno);
    let len = u16::try_from(program.len()).map_err(|_| failed(Errno::INVAL))?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    let (call, operation) = (libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: an Instruction has the layout of a sock_filter; the kernel reads `len` of them and writes none.
    let answer = unsafe { libc::syscall(call, operation, flags, std::ptr::from_ref(&filter)) };
    match answer {
        0.. if flags & NEW_LISTENER != 0 => {
            let raw = i32::try_from(answer).map_err(|_| failed(Errno::RANGE))?;
            // SAFETY: with this flag a positive answer is a new descriptor, which nobody else owns.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }))
        }
        0 => Ok(None),
        // With TSYNC alone the answer is the thread that could not have it.
        1.. => Err(failed(Errno::SRCH)),
        _ => Err(failed(last())),
    }
}

/// Whether the kernel knows these flags of [`set_filter`].
pub fn knows_flags(flags: u32) -> bool {
    let (call, operation) = (libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: there is no program at the null pointer, so that no filter is set; known flags answer EFAULT.
    let answer = unsafe { libc::syscall(call, operation, flags, std::ptr::null::<libc::sock_fprog>()) };
    answer < 0 && last() == Errno::FAULT
}

fn last() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(raw)
}
