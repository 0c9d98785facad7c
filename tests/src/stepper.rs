//! Runs a command system call by system call, and kills it or makes a call fail at the one that is asked for.
//!
//! By ptrace(2), without its unsafe half: the command is a stopped shell until it is seized, and then executes the program.
//! All calls count, the dynamic loader's too, in the order in which the one process enters them.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Stops, so that it can be seized, and becomes the command.
const STOPPED: &str = "kill -STOP $$; exec \"$@\"";
/// A command that takes longer hangs.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Which process is stepped through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The command's own.
    Runtime,
    /// The first one that it makes; until that waits in `accept(2)` or executes something.
    Init,
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the legal twin.
    None,
    /// The process is killed and the call not made.
    Kill,
    /// The call is not made and answers this.
    Fail(Errno),
}

/// A fault and its place.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The process.
    pub whom: Whom,
    /// The call, from 1.
    pub number: usize,
    /// What happens.
    pub fault: Fault,
}

/// How a stepped command ended.
#[derive(Debug)]
pub struct Stepped {
    /// The command's end.
    pub status: ExitStatus,
    /// How many calls the process made until the fault, or in all.
    pub calls: usize,
    /// The number of the system call that the fault met; none if the process made fewer.
    pub met: Option<u64>,
    /// All of stderr.
    pub stderr: String,
}

impl Stepped {
    /// The exit status; 128 + n after signal n.
    pub fn code(&self) -> i32 {
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
    }
}

/// Runs a command made with a cleared environment to its end, with a fault at a point. Its streams go to files.
pub fn run(command: &Command, point: Point, errors: &std::path::Path) -> Stepped {
    let mut child = start(command, errors);
    let runtime = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let stepped = match point.whom {
        Whom::Runtime => step(runtime, point),
        Whom::Init => first_child(runtime).map(|init| step(init, point)).unwrap_or_default(),
    };
    let own = stepped.status.filter(|_| point.whom == Whom::Runtime);
    let status = own.unwrap_or_else(|| end(&mut child));
    let stderr = std::fs::read(errors).unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    Stepped { status, calls: stepped.calls, met: stepped.met, stderr }
}

/// The command, seized, with its program just executed.
fn start(command: &Command, errors: &std::path::Path) -> Child {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", STOPPED, "sh"]).arg(command.get_program());
    copy(command, &mut shell, errors);
    let child = shell.spawn().expect("a shell");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("a child can be awaited");
    assert!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{stopped:?}");
    ptrace::seize(pid, options()).expect("a child can be seized");
    kill(pid, Signal::SIGCONT).expect("a child can be continued");
    loop {
        match wait(pid) {
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => return child,
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).expect("it is stopped"),
            WaitStatus::PtraceEvent(..) => ptrace::cont(pid, None).expect("it is stopped"),
            other => panic!("the command was not executed: {other:?}"),
        }
    }
}

fn copy(from: &Command, to: &mut Command, errors: &std::path::Path) {
    let errors = File::create(errors).expect("a file for stderr");
    to.args(from.get_args()).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    for (name, value) in from.get_envs() {
        to.env(name, value.unwrap_or_default());
    }
    if let Some(directory) = from.get_current_dir() {
        to.current_dir(directory);
    }
}

fn options() -> Options {
    Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
}

/// The first process that the command makes, stopped before its first call; the command runs on by itself.
fn first_child(runtime: Pid) -> Option<Pid> {
    loop {
        ptrace::cont(runtime, None).ok()?;
        match wait(runtime) {
            WaitStatus::PtraceEvent(_, _, event) if is_birth(event) => {
                let child = ptrace::getevent(runtime).expect("a new process");
                let child = Pid::from_raw(i32::try_from(child).expect("a pid"));
                wait(child);
                ptrace::detach(runtime, None).expect("it is stopped");
                return Some(child);
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return None,
            _ => {}
        }
    }
}

#[derive(Default)]
struct Steps {
    calls: usize,
    met: Option<u64>,
    /// Where the process has ended under our hands.
    status: Option<ExitStatus>,
}

/// Steps through a stopped process up to the point, or to its end or its first `accept(2)`; it runs on by itself after that.
fn step(pid: Pid, point: Point) -> Steps {
    let mut steps = Steps::default();
    let mut signal = None;
    loop {
        if ptrace::syscall(pid, signal.take()).is_err() {
            // Killed by somebody else meanwhile.
            steps.status = gone(wait(pid));
            return steps;
        }
        match wait(pid) {
            WaitStatus::PtraceSyscall(_) if is_entry(pid) => {
                let call = ptrace::getregs(pid).map(|registers| registers.orig_rax).unwrap_or(u64::MAX);
                if point.whom == Whom::Init && call == libc::SYS_accept4.unsigned_abs() {
                    ptrace::detach(pid, None).expect("it is stopped");
                    return steps;
                }
                steps.calls += 1;
                if steps.calls == point.number && point.fault != Fault::None {
                    steps.met = Some(call);
                    steps.status = inflict(pid, point.fault);
                    return steps;
                }
            }
            WaitStatus::PtraceEvent(_, _, event)
                if event == Event::PTRACE_EVENT_EXEC as i32 && point.whom == Whom::Init =>
            {
                ptrace::detach(pid, None).expect("it is stopped");
                return steps;
            }
            WaitStatus::PtraceEvent(_, _, event) if is_birth(event) => {
                // Only the one process is stepped through.
                let child = ptrace::getevent(pid).expect("a new process");
                let child = Pid::from_raw(i32::try_from(child).expect("a pid"));
                wait(child);
                let _ = ptrace::detach(child, None);
            }
            WaitStatus::Stopped(_, other) => signal = Some(other),
            end @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {
                steps.status = gone(end);
                return steps;
            }
            _ => {}
        }
    }
}

/// Does it to a process that stands before a call.
fn inflict(pid: Pid, fault: Fault) -> Option<ExitStatus> {
    let errno = match fault {
        Fault::None => return None,
        Fault::Kill => {
            kill(pid, Signal::SIGKILL).expect("it is ours");
            loop {
                let status = wait(pid);
                if let Some(status) = gone(status) {
                    return Some(status);
                }
            }
        }
        Fault::Fail(errno) => errno,
    };
    let mut registers = ptrace::getregs(pid).expect("it is stopped");
    // No call has this number: the kernel makes none.
    registers.orig_rax = u64::MAX;
    ptrace::setregs(pid, registers).expect("it is stopped");
    ptrace::syscall(pid, None).expect("it is stopped");
    let status = wait(pid);
    if !matches!(status, WaitStatus::PtraceSyscall(_)) {
        return gone(status);
    }
    let mut registers = ptrace::getregs(pid).expect("it is stopped");
    registers.rax = (-i64::from(errno as i32)).cast_unsigned();
    ptrace::setregs(pid, registers).expect("it is stopped");
    ptrace::detach(pid, None).expect("it is stopped");
    None
}

fn is_entry(pid: Pid) -> bool {
    ptrace::syscall_info(pid).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
}

fn is_birth(event: i32) -> bool {
    let births = [Event::PTRACE_EVENT_CLONE, Event::PTRACE_EVENT_FORK, Event::PTRACE_EVENT_VFORK];
    births.into_iter().any(|birth| birth as i32 == event)
}

fn wait(pid: Pid) -> WaitStatus {
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            answer => return answer.expect("it is traced"),
        }
    }
}

fn gone(status: WaitStatus) -> Option<ExitStatus> {
    match status {
        WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw(code << 8)),
        WaitStatus::Signaled(_, signal, _) => Some(ExitStatus::from_raw(signal as i32)),
        _ => None,
    }
}

fn end(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + TOO_LONG;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be awaited") {
            return status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            panic!("a stepped command hangs");
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
