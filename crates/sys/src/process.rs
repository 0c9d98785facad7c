//! Making processes: `clone3`, `execveat`, `close_range`, signal dispositions, and who a process is.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::{Error, Result};

/// A process made by [`clone`]: its id in this pid namespace and a descriptor that names it without reuse.
#[derive(Debug)]
pub struct Cloned {
    /// The process id as this process sees it.
    pub pid: Pid,
    /// The process itself (`CLONE_PIDFD`, Linux 5.2).
    pub pidfd: OwnedFd,
}

/// How [`clone_with`] makes a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Birth<'a> {
    /// New namespaces (`CLONE_NEW*`).
    pub namespaces: u64,
    /// It sends no signal when it ends: wait for it with `__WCLONE` or not at all.
    pub silent: bool,
    /// It becomes a child of this process's parent (`CLONE_PARENT`).
    pub sibling: bool,
    /// The version-2 control group that it is born into (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Runs `child` in a new process with its own copy of this one's memory, in the namespaces named by `flags`
/// (`CLONE_NEW*`), and ends it with the status that `child` returns.
///
/// The caller should have one thread: only the calling thread exists in the child, so a lock that another thread
/// held at that moment, the allocator's say, stays locked there.
///
/// `reaped` false makes a process that sends no signal when it ends; wait for it with `__WCLONE` or not at all.
///
/// # Errors
/// The errno of `clone3(2)`: `EPERM` without `CAP_SYS_ADMIN` where namespaces are asked for, `ENOSPC` where their number is
/// limited.
pub fn clone(flags: u64, reaped: bool, child: impl FnOnce() -> u8) -> Result<Cloned> {
    clone_with(Birth { namespaces: flags, silent: !reaped, ..Birth::default() }, child)
}

/// As [`clone`], with all that a birth can have.
///
/// # Errors
/// As [`clone`]; with a control group also `EBUSY` where it may not hold processes, `EOPNOTSUPP` where it is threaded.
pub fn clone_with(birth: Birth<'_>, child: impl FnOnce() -> u8) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args: every field is an integer.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = birth.namespaces | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // With CLONE_PARENT the signal is that of the process beside which the new one stands.
    args.exit_signal = if birth.silent || birth.sibling { 0 } else { libc::SIGCHLD as u64 };
    if birth.sibling {
        args.flags |= libc::CLONE_PARENT as u64;
    }
    if let Some(cgroup) = birth.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    let size = std::mem::size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM the child has its own memory and goes on here as after fork(2); `args` and `pidfd` live
    // through the call.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), size) };
    match answer {
        0 => {
            let status = child();
            end(status)
        }
        pid if pid > 0 => {
            // SAFETY: the kernel stored a descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let text = || flags_text(birth.namespaces);
            Ok(Cloned { pid: pid.ok_or_else(|| failed("clone3", text(), Errno::RANGE))?, pidfd })
        }
        _ => Err(failed("clone3", flags_text(args.flags), last())),
    }
}

/// Of `linux/sched.h`; libc has it as a signed number that overflows.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ends this process at once: no destructors, no exit handlers of a copied parent.
pub fn end(status: u8) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Replaces this process by the program in `file`.
///
/// Returns only on failure: `EACCES` without execute permission, `ENOEXEC` for a file that is no program, `ENOENT` where
/// its interpreter is missing.
pub fn exec_fd(file: impl AsFd, args: &Pointers, env: &Pointers) -> Error {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: both arrays end in a null pointer and their strings live as long as they.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd,
            c"".as_ptr(),
            args.raw.as_ptr(),
            env.raw.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    failed("execveat", format!("fd {fd}, AT_EMPTY_PATH"), last())
}

/// Replaces this process by the program at `path`, which the kernel resolves itself.
///
/// For interpreted programs, whose interpreter gets the path as its argument. Returns only on failure.
pub fn exec_path(path: &CStr, args: &Pointers, env: &Pointers) -> Error {
    // SAFETY: both arrays end in a null pointer and their strings live as long as they.
    unsafe { libc::execve(path.as_ptr(), args.raw.as_ptr(), env.raw.as_ptr()) };
    failed("execve", format!("{path:?}"), last())
}

/// A null-terminated array of C strings, as `execve(2)` takes it.
#[derive(Debug)]
pub struct Pointers {
    raw: Vec<*const libc::c_char>,
    _strings: Vec<std::ffi::CString>,
}

impl Pointers {
    /// The array of these strings.
    pub fn new(strings: Vec<std::ffi::CString>) -> Self {
        // A CString's bytes stay where they are when it moves, so the pointers stay good.
        let mut raw: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        raw.push(std::ptr::null());
        Self { raw, _strings: strings }
    }
}

/// What [`close_range`] does to the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// They are closed now.
    Close,
    /// They are closed at the next exec (Linux 5.11).
    AtExec,
}

/// Closes all descriptors from `first` to `last`, both included.
///
/// # Errors
/// The errno of `close_range(2)` (Linux 5.9).
pub fn close_range(first: u32, last_fd: u32, how: Range) -> Result<()> {
    let flags = match how {
        Range::Close => 0,
        Range::AtExec => libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: takes integers only; descriptors owned by Rust values are the caller's concern, who is about to exec or
    // to end.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last_fd, flags) };
    if answer == 0 {
        Ok(())
    } else {
        Err(failed("close_range", format!("{first}, {last_fd}, {flags}"), last()))
    }
}

/// Closes every descriptor whose number is not among these.
///
/// # Errors
/// As [`close_range`].
pub fn close_all_but(mut kept: Vec<RawFd>) -> Result<()> {
    kept.sort_unstable();
    kept.dedup();
    let mut first = 0;
    for number in kept.into_iter().map(RawFd::unsigned_abs) {
        if number > first {
            close_range(first, number - 1, Range::Close)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX, Range::Close)
}

/// Moves `fd` to the number `to` (0, 1 or 2), which stays open across exec.
///
/// # Errors
/// The errno of `dup2(2)` or `fcntl(2)`.
pub fn set_standard(fd: impl AsFd, to: RawFd) -> Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: dup2 on the same number changes nothing, so close-on-exec must be cleared by hand.
    let answer = if raw == to {
        // SAFETY: F_SETFD takes an integer.
        unsafe { libc::fcntl(raw, libc::F_SETFD, 0) }
    } else {
        // SAFETY: takes integers; what `to` named is meant to be replaced.
        unsafe { libc::dup2(raw, to) }
    };
    if answer >= 0 { Ok(()) } else { Err(failed("dup2", format!("{raw}, {to}"), last())) }
}

/// Leaves the descriptor with this number open across exec.
///
/// # Errors
/// `EBADF` where no file has the number.
pub fn keep_at_exec(number: RawFd) -> Result<()> {
    // SAFETY: F_SETFD takes an integer.
    let answer = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    if answer == 0 { Ok(()) } else { Err(failed("fcntl", format!("{number}, F_SETFD, 0"), last())) }
}

/// True where a file has this number.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument and changes nothing.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// A descriptor of our own of the open file that has this number, as the caller handed it to this process.
///
/// # Errors
/// `EBADF` where no file has the number.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: takes integers and makes a new descriptor.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(failed("fcntl", format!("{number}, F_DUPFD_CLOEXEC"), last()));
    }
    // SAFETY: the kernel just made this number ours.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Moves `fd` to the number `to`, close-on-exec; whatever had that number is closed.
///
/// # Errors
/// The errno of `dup3(2)`, with the descriptor given back.
pub fn move_to(fd: OwnedFd, to: RawFd) -> std::result::Result<OwnedFd, (Error, OwnedFd)> {
    let raw = fd.as_raw_fd();
    if raw == to {
        return Ok(fd);
    }
    // SAFETY: takes integers; what `to` named is meant to be replaced.
    let answer = unsafe { libc::dup3(raw, to, libc::O_CLOEXEC) };
    if answer < 0 {
        return Err((failed("dup3", format!("{raw}, {to}"), last()), fd));
    }
    // SAFETY: the kernel just made this number ours.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// Lets this process be ended as one that is no first process of a pid namespace: whoever waits as such is sent nothing that
/// it has no handler for (pid_namespaces(7)).
///
/// The signals that end a program of Go end this one with 128 and their number, the others of which it would die do nothing,
/// wherever it is: so a container of runc's waits. Undone by [`default_signals`] and by exec.
pub fn end_by_signals() {
    for signal in ENDING {
        handle(signal, ends as extern "C" fn(libc::c_int));
    }
    for signal in ENDURED.into_iter().chain(REAL_TIME) {
        handle(signal, passes as extern "C" fn(libc::c_int));
    }
}

/// Signals that end a program of Go that says nothing of them (os/signal).
const ENDING: [libc::c_int; 12] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGTERM,
    libc::SIGSTKFLT,
    libc::SIGSYS,
];

/// Signals whose default action ends a process (signal(7)), and that such a program ignores.
const ENDURED: [libc::c_int; 10] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
];

/// As those; libc keeps the first for itself and refuses them.
const REAL_TIME: std::ops::RangeInclusive<libc::c_int> = 34..=64;

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: all zero is a sigaction with no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: both handlers call nothing that a signal handler may not; signals that cannot be handled answer EINVAL.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

extern "C" fn ends(signal: libc::c_int) {
    // SAFETY: _exit(2) may be called by a signal handler (signal-safety(7)).
    unsafe { libc::_exit(128 + signal) }
}

extern "C" fn passes(_signal: libc::c_int) {}

/// Gives every signal its default action again and unblocks all, as a new program expects.
pub fn default_signals() {
    // The kernel's own sigaction, all zero: the default action. libc's would leave out the two signals that it has for itself,
    // and who made this process may have ignored them.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        let (new, old) = (default.as_ptr(), std::ptr::null_mut::<u64>());
        // SAFETY: the kernel reads at most as much as the array has, and the default action runs no code of ours; signals that
        // cannot be changed answer EINVAL, which is right.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, 8_usize) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// True where this process has one thread, so that a clone of it can do anything; also where that cannot be told.
pub fn is_single_threaded() -> bool {
    // The directory has a link from itself, one from above, and one from each thread's (proc(5)).
    std::fs::metadata("/proc/self/task").map_or(true, |tasks| tasks.nlink() <= 3)
}

/// Makes the terminal the controlling one of this session and gives it this size.
///
/// # Errors
/// The errno of `ioctl(2)`.
pub fn own_terminal(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(&terminal)
        .map_err(|errno| failed("ioctl", format!("{}, TIOCSCTTY", terminal.as_fd().as_raw_fd()), errno))
}

/// Unlocks the slave of a pty master by the descriptor alone (`TIOCSPTLCK`).
///
/// # Errors
/// The errno of `ioctl(2)`.
pub fn unlock_pty(master: impl AsFd) -> Result<()> {
    let unlocked: libc::c_int = 0;
    let fd = master.as_fd().as_raw_fd();
    // SAFETY: TIOCSPTLCK reads one int.
    let answer = unsafe { libc::ioctl(fd, libc::TIOCSPTLCK, std::ptr::from_ref(&unlocked)) };
    if answer == 0 { Ok(()) } else { Err(failed("ioctl", format!("{fd}, TIOCSPTLCK"), last())) }
}

/// Sends a signal by its number, real-time ones too, to the process that `pidfd` names.
///
/// # Errors
/// The errno of `pidfd_send_signal(2)` (Linux 5.1): `ESRCH` where it has ended.
pub fn signal(pidfd: impl AsFd, number: i32) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means that of kill(2).
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, info, 0) };
    if answer == 0 { Ok(()) } else { Err(failed("pidfd_send_signal", format!("{fd}, {number}"), last())) }
}

/// The pid namespace that another one began in (`NS_GET_PARENT`, Linux 4.9).
///
/// # Errors
/// `EPERM` where that is out of this process's sight.
pub fn parent_namespace(namespace: impl AsFd) -> Result<OwnedFd> {
    let fd = namespace.as_fd().as_raw_fd();
    // SAFETY: takes no argument and makes a new descriptor.
    let parent = unsafe { libc::ioctl(fd, NS_GET_PARENT) };
    if parent < 0 {
        return Err(failed("ioctl", format!("{fd}, NS_GET_PARENT"), last()));
    }
    // SAFETY: the kernel just made this number ours.
    Ok(unsafe { OwnedFd::from_raw_fd(parent) })
}

/// `_IO(0xb7, 2)` of `linux/nsfs.h`.
const NS_GET_PARENT: libc::Ioctl = 0xb702;

/// Leaves the session keyring that came from the caller for a new, empty one without a name (keyrings(7)).
///
/// A kernel without keyrings, or a sandbox that forbids them, gives what runs here no way to the caller's either.
///
/// # Errors
/// The errno of `keyctl(2)`: `EDQUOT` where the user has too many keys.
pub fn new_session_keyring() -> Result<()> {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name is allowed and asks for an anonymous keyring.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    if answer >= 0 {
        return Ok(());
    }
    match last() {
        Errno::NOSYS | Errno::PERM | Errno::ACCESS => Ok(()),
        errno => Err(failed("keyctl", "KEYCTL_JOIN_SESSION_KEYRING".into(), errno)),
    }
}

fn last() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(raw)
}

fn failed(call: &'static str, args: String, errno: Errno) -> Error {
    Error::new(call, args, errno)
}

/// The namespaces in clone flags, by name.
fn flags_text(flags: u64) -> String {
    let names = [
        (libc::CLONE_NEWUSER, "CLONE_NEWUSER"),
        (libc::CLONE_NEWPID, "CLONE_NEWPID"),
        (libc::CLONE_NEWNS, "CLONE_NEWNS"),
        (libc::CLONE_NEWUTS, "CLONE_NEWUTS"),
        (libc::CLONE_NEWIPC, "CLONE_NEWIPC"),
        (libc::CLONE_NEWNET, "CLONE_NEWNET"),
        (libc::CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
        (libc::CLONE_PARENT, "CLONE_PARENT"),
    ];
    let set = names.iter().filter(|(bit, _)| flags & (*bit as u32 as u64) != 0);
    let mut names: Vec<&str> = set.map(|(_, name)| *name).collect();
    if flags & CLONE_INTO_CGROUP != 0 {
        names.push("CLONE_INTO_CGROUP");
    }
    names.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    fn status(cloned: &Cloned) -> Option<i32> {
        let waited = waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED).expect("waitid");
        waited.and_then(|status| status.exit_status())
    }

    #[test]
    fn a_clone_ends_with_the_status_of_its_closure() {
        let cloned = clone(0, true, || 42).expect("clone3");
        assert_eq!(status(&cloned), Some(42));
    }

    #[test]
    fn exec_by_descriptor_runs_the_program_with_these_arguments() {
        let file = std::fs::File::open("/bin/sh").expect("sh");
        let args = Pointers::new(vec![c"sh".into(), c"-c".into(), c"exit $N".into()]);
        let env = Pointers::new(vec![c"N=5".into()]);
        let cloned = clone(0, true, || {
            exec_fd(&file, &args, &env);
            99
        });
        assert_eq!(status(&cloned.expect("clone3")), Some(5));
    }

    #[test]
    fn a_new_session_keyring_has_none_of_the_callers_keys() {
        let (kind, name) = (c"user".as_ptr(), c"ocipipe-test".as_ptr());
        let session = libc::KEY_SPEC_SESSION_KEYRING;
        // SAFETY: constant strings that the kernel only reads.
        let add = || unsafe { libc::syscall(libc::SYS_add_key, kind, name, kind, 4_usize, session) };
        // SAFETY: as above.
        let find = || unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SEARCH, session, kind, name, 0) };
        if add() < 0 {
            testkit::skip("this kernel or sandbox has no keyrings");
            return;
        }
        let cloned = clone(0, true, || {
            let had = find() > 0;
            let left = new_session_keyring().is_ok() && find() < 0;
            u8::from(!had) + 2 * u8::from(!left)
        });
        assert_eq!(status(&cloned.expect("clone3")), Some(0));
    }

    #[test]
    fn exec_of_a_text_file_is_no_program() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, b"just text").expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(file.path(), mode).expect("chmod");
        let readable = std::fs::File::open(file.path()).expect("open");
        drop(file.into_file());
        let error = exec_fd(&readable, &Pointers::new(vec![c"x".into()]), &Pointers::new(Vec::new()));
        assert!(matches!(error.errno, Errno::NOEXEC | Errno::ACCESS | Errno::NOENT), "{error}");
    }
}
