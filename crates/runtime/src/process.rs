//! The parent's side of making a container's process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};
use sys::Call;
use sys::process::Cloned;

use crate::child::Child;
use crate::error::Result;
use crate::plan::Plan;
use crate::report::Report;
use crate::request::{Request, Stdio, Tie};
use crate::terminal;
use crate::watcher::Watcher;

/// A container whose command runs.
#[derive(Debug)]
pub struct Started {
    /// Its process in this pid namespace.
    pub pid: u32,
    /// Its process, never another one.
    pub pidfd: OwnedFd,
    /// The master of its terminal, where it has one.
    pub terminal: Option<OwnedFd>,
    /// Goes after the container: this value is kept until then.
    _watcher: Option<Watcher>,
}

/// Makes the container's process; returns once its command has been executed.
///
/// A failure at any step leaves nothing: every mount and namespace goes with the process.
///
/// # Errors
/// The step that failed with its call, [`crate::Error::CommandNotFound`] and [`crate::Error::NotExecutable`] for the command, and
/// whatever of the configuration is wrong or not supported, before a process exists.
pub fn start(request: Request) -> Result<Started> {
    debug_assert!(
        sys::process::is_single_threaded(),
        "the setup runs in a copy of a process with one thread"
    );
    let Request { spec, bundle, root, stdio, tie } = request;
    let plan = Plan::new(&spec, &bundle, root, &stdio, tie)?;
    let name = plan.command.name.clone();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).call("pipe2", || "O_CLOEXEC".into())?;
    let me = pidfd_open(getpid(), PidfdFlags::empty()).call("pidfd_open", || "self".into())?;
    let sockets = match stdio {
        Stdio::Terminal { .. } => Some(terminal::sockets()?),
        Stdio::Streams(_) => None,
    };
    let Plan { flags, steps, command } = plan;
    let mut prepared = Some((steps, command, write));
    let cloned = sys::process::clone(flags, true, || {
        let Some((steps, command, write)) = prepared.take() else { return crate::EXIT_TOOL };
        let mut child = Child::new(me.as_fd());
        match &stdio {
            Stdio::Streams([input, output, error]) => {
                child.streams = Some([input.as_fd(), output.as_fd(), error.as_fd()]);
            }
            Stdio::Terminal { .. } => {
                child.terminal_socket = sockets.as_ref().map(|(_, child)| child.as_fd())
            }
        }
        child.run(steps, command, write)
    })?;
    // The parent's copies: the report ends when the child's does, and the caller's files belong to the container now.
    drop((prepared, stdio));
    let mut unborn = Unborn(Some(cloned));
    let watcher = match (&unborn.0, tie) {
        (Some(cloned), Tie::DiesWithParent) => Some(Watcher::start(cloned.pidfd.as_fd(), me.as_fd())?),
        _ => None,
    };
    if let Some(report) = Report::receive(read)? {
        return Err(report.into_error(&name));
    }
    let master = sockets.map(|(parent, _)| terminal::receive(parent)).transpose()?;
    let Some(Cloned { pid, pidfd }) = unborn.0.take() else { unreachable!("taken only here") };
    Ok(Started { pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd, terminal: master, _watcher: watcher })
}

/// A child that goes away with its waiting parent's failure.
struct Unborn(Option<Cloned>);

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(cloned) = &self.0 {
            let _ = sys::process::signal(&cloned.pidfd, 9);
            let _ = waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}
