//! Loading a system call filter: `seccomp(2)`.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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
    // Waiting means nothing without a listener, and is refused then.
    let flags = if flags & WAIT_KILLABLE_RECV != 0 { flags | NEW_LISTENER } else { flags };
    // SAFETY: there is no program at the null pointer, so that no filter is set; known flags answer EFAULT.
    let answer = unsafe { libc::syscall(call, operation, flags, std::ptr::null::<libc::sock_fprog>()) };
    answer < 0 && last() == Errno::FAULT
}

/// A call that waits for a supervisor's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Names the call in [`answer`].
    pub id: u64,
    /// The thread that made it, as the supervisor's pid namespace numbers it.
    pub pid: u32,
    /// The number of the call.
    pub number: i32,
    /// `AUDIT_ARCH_*` of the ABI it came through.
    pub audit: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What a supervisor answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The call's result.
    Value(i64),
    /// The call fails.
    Errno(Errno),
    /// The kernel does the call (Linux 5.5). Its arguments in memory may change until then: no decision of security.
    Continue,
}

/// Waits for a call at a listener ([`NEW_LISTENER`]).
///
/// # Errors
/// The errno of `ioctl(2)`: `ENOENT` where the call was interrupted before it could be received.
pub fn receive(listener: impl AsFd) -> Result<Notification> {
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: all-zero is a valid seccomp_notif, and the one the kernel asks for.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one seccomp_notif.
    let done = unsafe { libc::ioctl(fd, RECEIVE, std::ptr::from_mut(&mut raw)) };
    if done < 0 {
        return Err(Error::new("ioctl", format!("{fd}, SECCOMP_IOCTL_NOTIF_RECV"), last()));
    }
    Ok(Notification {
        id: raw.id,
        pid: raw.pid,
        number: raw.data.nr,
        audit: raw.data.arch,
        args: raw.data.args,
    })
}

/// Answers a call that [`receive`] told of.
///
/// # Errors
/// The errno of `ioctl(2)`: `ENOENT` where its thread has gone.
pub fn answer(listener: impl AsFd, id: u64, answer: Answer) -> Result<()> {
    let fd = listener.as_fd().as_raw_fd();
    let (val, error, flags) = match answer {
        Answer::Value(value) => (value, 0, 0),
        Answer::Errno(errno) => (0, -errno.raw_os_error(), 0),
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let raw = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the kernel reads one seccomp_notif_resp.
    let done = unsafe { libc::ioctl(fd, ANSWER, std::ptr::from_ref(&raw)) };
    if done < 0 {
        return Err(Error::new("ioctl", format!("{fd}, SECCOMP_IOCTL_NOTIF_SEND"), last()));
    }
    Ok(())
}

/// `SECCOMP_IOCTL_NOTIF_RECV`: `_IOWR('!', 0, struct seccomp_notif)`.
const RECEIVE: libc::Ioctl = request(0, std::mem::size_of::<libc::seccomp_notif>());
/// `SECCOMP_IOCTL_NOTIF_SEND`: `_IOWR('!', 1, struct seccomp_notif_resp)`.
const ANSWER: libc::Ioctl = request(1, std::mem::size_of::<libc::seccomp_notif_resp>());

const fn request(number: u32, size: usize) -> libc::Ioctl {
    ((3 << 30) | ((size as u32) << 16) | ((b'!' as u32) << 8) | number) as libc::Ioctl
}

fn last() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(raw)
}
