//! How the kernel treats a process: its scheduling, the priority of its reads and writes, where its memory lies and how much of it
//! there is, and which system it says it is.

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

/// Gives back memory that a process which is going to wait for long has no use for: what its heap has freed, and the pages of its
/// stack that were deeper than this call. Best effort.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer, and does to the heap what free(3) does.
    unsafe {
        libc::malloc_trim(0)
    };
    // What is called from here has frames of its own below this one.
    const FRAMES: usize = 32 << 10;
    const PAGE: usize = 4 << 10;
    let here = 0_u8;
    let address = std::ptr::from_ref(&here).addr();
    let Some(stack) = stack().filter(|stack| stack.contains(&address)) else { return };
    let end = address.saturating_sub(FRAMES) / PAGE * PAGE;
    if stack.start < end {
        let start = std::ptr::with_exposed_provenance_mut(stack.start);
        // SAFETY: the range is mapped, and part of this thread's stack below all frames that live: its contents are dead.
        unsafe { libc::madvise(start, end - stack.start, libc::MADV_DONTNEED) };
    }
}

/// The addresses of the first thread's stack (proc_pid_maps(5)).
fn stack() -> Option<std::ops::Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[stack]"))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses some stack, and says what the process has of it afterwards (`Anonymous` of `[stack]`, proc_pid_smaps(5)), KiB.
    #[inline(never)]
    fn deep(depth: usize) -> u8 {
        let frame = std::hint::black_box([1_u8; 4096]);
        if depth == 0 { frame[0] } else { deep(depth - 1).wrapping_add(frame[1]) }
    }

    fn anonymous() -> Option<u64> {
        let all = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let (_, own) = all.split_once("[stack]")?;
        let line = own.lines().find(|line| line.starts_with("Anonymous:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Tests have threads of their own; a copy of the process has one, on the same stack only where the tests' main thread
    /// made it. So this looks at the range alone, and that the call does no harm to what lives.
    #[test]
    fn what_lives_is_untouched() {
        let lives: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        std::hint::black_box(deep(100));
        let before = anonymous();
        give_memory_back();
        assert!(stack().is_some_and(|range| !range.is_empty()) && before.is_some());
        assert!(lives.iter().enumerate().all(|(n, byte)| *byte == n as u8));
        assert_eq!(deep(10), deep(10));
    }
}
