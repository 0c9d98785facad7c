//! A small first process in front of a container's command (`--init`): it forwards signals and reaps what is left behind.
//!
//! It is this program's own memory in a process that has given up all rights and files, so the image needs no program for
//! it, whatever libraries it has or lacks. What the memory says of the caller is wiped where programs could read it, and the
//! rest nobody without CAP_SYS_PTRACE can look into: the process is not dumpable, and never executes anything.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus};
use sys::process::{Cloned, Range};
use sys::{Call, Error, Result};

/// What the process is called.
const NAME: &[u8] = b"oci-init";
/// The fields of proc(5)'s stat, counted from the state: where arguments and environment begin and end.
const ARGUMENTS: [usize; 2] = [45, 46];
const ENVIRONMENT: [usize; 2] = [47, 48];
/// A stat line is shorter.
const STAT_BYTES: u64 = 8192;
/// Added to the number of the signal that ended the command.
const BY_SIGNAL: i32 = 128;
/// What a terminal sends to who is in its background: nothing for the command.
const OF_TERMINALS: [u32; 2] = [21, 22];
const SIGCHLD: u32 = 17;

/// Wipes the words that started this program, and its environment, from this process's memory, which `/proc/1/cmdline` shows to
/// everybody in the container.
#[allow(clippy::disallowed_methods, reason = "the host's procfs, before the container's root is entered")]
pub(crate) fn disguise() -> Result<()> {
    let _ = rustix::thread::set_name(c"oci-init");
    let failed = |call: &'static str, e: &std::io::Error| {
        let errno = e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        Error::new(call, "/proc/self", errno)
    };
    let mut stat = String::new();
    let read = File::open("/proc/self/stat").and_then(|file| file.take(STAT_BYTES).read_to_string(&mut stat));
    read.map_err(|e| failed("read", &e))?;
    // A name may have anything in it but ends before the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let memory = OpenOptions::new().write(true).open("/proc/self/mem").map_err(|e| failed("open", &e))?;
    for (ends, text) in [(ARGUMENTS, NAME), (ENVIRONMENT, &[][..])] {
        let [start, end] = ends.map(|at| fields.get(at).and_then(|field| field.parse::<u64>().ok()));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(Error::new("read", "/proc/self/stat", Errno::INVAL));
        };
        let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        let mut bytes = vec![0; length];
        let fits = text.len().min(length.saturating_sub(1));
        bytes[..fits].copy_from_slice(&text[..fits]);
        memory.write_all_at(&bytes, start).map_err(|e| failed("write", &e))?;
    }
    Ok(())
}

/// Makes another process that runs `command`, stands by it and ends as it does; what comes back is why that could not be.
pub(crate) fn stand_by(command: impl FnOnce() -> u8) -> Error {
    match started(command) {
        Ok((child, signals)) => sys::process::end(attend(&child, &signals)),
        Err(error) => error,
    }
}

fn started(command: impl FnOnce() -> u8) -> Result<(Cloned, SignalFd)> {
    let failed = |errno: nix::Error| Error::new("signalfd", "", Errno::from_raw_os_error(errno as i32));
    // What comes before the descriptor is there waits for it.
    let all = SigSet::all();
    all.thread_set_mask().map_err(failed)?;
    // Where it is not the first of its namespace, what the command leaves behind comes here all the same.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .call("prctl", || "PR_SET_CHILD_SUBREAPER".into())?;
    let child = sys::process::clone(0, true, || {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        // The terminal's own signals go to the command alone: they would come twice.
        let group = rustix::process::setpgid(None, None);
        if group.is_ok() && rustix::termios::isatty(rustix::stdio::stdin()) {
            let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
        }
        command()
    })?;
    // The channel among them: its end tells that the command runs.
    let number = child.pidfd.as_raw_fd().unsigned_abs();
    if number > 0 {
        sys::process::close_range(0, number - 1, Range::Close)?;
    }
    sys::process::close_range(number + 1, u32::MAX, Range::Close)?;
    let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    Ok((child, signals))
}

/// Forwards and reaps until the command has ended; its status.
fn attend(child: &Cloned, signals: &SignalFd) -> u8 {
    loop {
        // One that ended before its signal could be read is found, too.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == child.pid {
                return code(status);
            }
        }
        match signals.read_signal() {
            Ok(Some(signal)) if signal.ssi_signo == SIGCHLD || OF_TERMINALS.contains(&signal.ssi_signo) => {}
            Ok(Some(signal)) => {
                let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
                // It has ended: the next look tells.
                let _ = sys::process::signal(&child.pidfd, number);
            }
            Ok(None) | Err(_) => {}
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    let signal = status.terminating_signal().map(|signal| BY_SIGNAL + signal);
    let code = status.exit_status().or(signal).unwrap_or(BY_SIGNAL);
    u8::try_from(code).unwrap_or(u8::MAX)
}
