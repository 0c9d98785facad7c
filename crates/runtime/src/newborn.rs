//! Making init, and answering it until it is on its own.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};
use rustix::thread::LinkNameSpaceType;
use sys::process::{Birth, Cloned};
use sys::{Call, Error as Failed};

use crate::channel::{Channel, Point, Said};
use crate::child::{self, Child, FIRST};
use crate::duties::Duties;
use crate::error::{Error, Result};
use crate::idmap::CLONE_NEWUSER;
use crate::joining;
use crate::plan::Plan;
use crate::report::Report;
use crate::request::Stdio;
use crate::step::Entry;
use crate::terminal;

const SIGKILL: i32 = 9;

/// An init that is not on its own yet; dropped, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Newborn {
    cloned: Option<Cloned>,
    channel: Channel,
    /// Where the master of its terminal comes out.
    terminal: Option<OwnedFd>,
    /// The command's name.
    command: String,
    /// What is done at its birth.
    duties: Duties,
}

/// What init has beside its plan.
#[derive(Debug, Default)]
pub(crate) struct Place<'a> {
    /// The version-2 control group that it is born into.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Where it waits for `start`.
    pub(crate) listener: Option<OwnedFd>,
    /// A descriptor that it must not keep: with it, it would hold a lock of the runtime's.
    pub(crate) forget: Option<RawFd>,
    /// What it needs beside streams, channel and preserved descriptors; where this is given, it has no other from birth.
    pub(crate) keep: Option<Vec<RawFd>>,
}

impl Newborn {
    /// Makes the process; it begins its steps at once.
    pub(crate) fn make(plan: Plan, stdio: Stdio, place: Place<'_>) -> Result<Self> {
        let Plan { flags, entries, duties, steps, command, .. } = plan;
        let (own, theirs) = Channel::pair()?;
        let me = pidfd_open(getpid(), PidfdFlags::empty()).call("pidfd_open", || "self".into())?;
        let (inner, outer) = match &stdio {
            Stdio::Terminal { .. } => {
                let (outer, inner) = terminal::sockets()?;
                (Some(inner), Some(outer))
            }
            _ => (None, None),
        };
        let name = command.name.clone();
        let kept = place.keep.map(|mut kept| {
            kept.extend(0..FIRST + command.preserved);
            kept.extend([theirs.as_fd().as_raw_fd(), me.as_raw_fd()]);
            kept.extend(inner.as_ref().map(AsRawFd::as_raw_fd));
            match &stdio {
                Stdio::Streams(streams) => kept.extend(streams.iter().map(AsRawFd::as_raw_fd)),
                Stdio::Console(socket) => kept.push(socket.as_raw_fd()),
                Stdio::Terminal { .. } => {}
            }
            kept
        });
        let mut prepared = Some((steps, command, theirs, place.listener));
        let born = || {
            let Some((steps, command, channel, listener)) = prepared.take() else { return crate::EXIT_TOOL };
            if let Some(number) = place.forget {
                let number = number.unsigned_abs();
                // With the lock in its hands for good nobody could start or delete it.
                if let Err(error) = sys::process::close_range(number, number, sys::process::Range::Close) {
                    channel.report(&Report::step("let go of the container's directory", &error));
                    return crate::EXIT_TOOL;
                }
            }
            if kept.as_ref().is_some_and(|kept| sys::process::close_all_but(kept.clone()).is_err()) {
                return crate::EXIT_TOOL;
            }
            let mut child = Child::new(me.as_fd(), channel, listener, command);
            match &stdio {
                Stdio::Streams([input, output, error]) => {
                    child.streams = Some([input.as_fd(), output.as_fd(), error.as_fd()]);
                }
                Stdio::Terminal { .. } => child.terminal_socket = inner.as_ref().map(AsFd::as_fd),
                Stdio::Console(socket) => child.terminal_socket = Some(socket.as_fd()),
            }
            child.run(steps)
        };
        let birth = Birth { namespaces: flags, cgroup: place.cgroup, ..Birth::default() };
        let cloned = if entries.is_empty() {
            sys::process::clone_with(birth, born)?
        } else {
            through(entries, birth, kept.as_deref(), born)?
        };
        // The runtime's copies go: the channel ends when init's does, and the caller's files belong to it now.
        drop((prepared, stdio));
        Ok(Self { cloned: Some(cloned), channel: own, terminal: outer, command: name, duties })
    }

    /// Its pid in this pid namespace.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.cloned.as_ref().map(|cloned| cloned.pid)
    }

    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.cloned.as_ref().map(|cloned| cloned.pidfd.as_fd())
    }

    /// Answers init at each point with what `part` gives, until it has left `last`, or has executed its command.
    pub(crate) fn attend(
        &self,
        last: Option<Point>,
        mut part: impl FnMut(Point) -> Result<Vec<u8>>,
    ) -> Result<()> {
        loop {
            match self.channel.hear()? {
                Said::Reached(point) => {
                    if let (Point::Born, Some(pid)) = (point, self.pid()) {
                        self.duties.perform(pid)?;
                    }
                    let with = part(point)?;
                    match self.channel.go(&with) {
                        // It has ended meanwhile; what it may have said of that comes next.
                        Err(error) if error.errno == Errno::PIPE => continue,
                        sent => sent?,
                    }
                    if last == Some(point) {
                        return Ok(());
                    }
                }
                Said::Failed(report) => return Err(report.into_error(&self.command)),
                Said::Nothing if last.is_none() => return Ok(()),
                Said::Nothing => return Err(Error::Lost("it was killed".into())),
            }
        }
    }

    /// Init is on its own: its process, and the master of its terminal.
    pub(crate) fn release(mut self) -> Result<(Cloned, Option<OwnedFd>)> {
        let master = self.terminal.take().map(terminal::receive).transpose()?;
        let Some(cloned) = self.cloned.take() else { unreachable!("taken only here") };
        Ok((cloned, master))
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(cloned) = &self.cloned {
            let _ = sys::process::signal(&cloned.pidfd, SIGKILL);
            let _ = waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// Makes init from a process that has entered what only its children can be in; init is this process's child all the same.
fn through(
    entries: Vec<Entry>,
    birth: Birth<'_>,
    kept: Option<&[RawFd]>,
    mut born: impl FnMut() -> u8,
) -> Result<Cloned> {
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", || "O_CLOEXEC".into())?;
    let between = sys::process::clone(0, true, || {
        let hidden = kept.map_or(Ok(()), |kept| {
            // It runs in the container's namespaces for a moment, with files of the host.
            let mut kept = kept.to_vec();
            kept.push(write.as_raw_fd());
            kept.extend(birth.cgroup.map(|directory| directory.as_raw_fd()));
            kept.extend(entries.iter().filter_map(Entry::number));
            sys::process::close_all_but(kept)
        });
        // Who is in a joined namespace already may have rights over all that is in it: init is born out of its sight. Only
        // where it is the first in a user namespace must who maps its ids, who may be no root, reach it.
        let hide = || if birth.namespaces & CLONE_NEWUSER == 0 { child::hide() } else { Ok(()) };
        let made = hidden
            .and_then(|()| hide())
            .and_then(|()| enter(&entries))
            // Another user namespace may have undone that (fs.suid_dumpable, proc(5)).
            .and_then(|()| hide())
            .and_then(|()| sys::process::clone_with(Birth { sibling: true, ..birth }, &mut born));
        let (pid, errno) = match made {
            Ok(cloned) => (cloned.pid.as_raw_nonzero().get(), 0),
            Err(error) => (0, error.errno.raw_os_error()),
        };
        let packet = [pid.to_ne_bytes(), errno.to_ne_bytes()].concat();
        u8::from(rustix::io::write(&write, &packet).is_err())
    })?;
    drop(write);
    let mut packet = [0; 8];
    let read = rustix::io::read(&read, &mut packet).call("read", || "init's pid".into());
    let waited = waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED);
    waited.call("waitid", || "the process that enters namespaces".into())?;
    if read? != packet.len() {
        return Err(Error::Lost("the process that enters namespaces was killed".into()));
    }
    let number = |at: usize| i32::from_ne_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let Some(pid) = Pid::from_raw(number(0)) else {
        let errno = rustix::io::Errno::from_raw_os_error(number(4));
        let source = Failed::new("clone3", "in the namespaces to enter", errno);
        return Err(Error::Step { step: "enter namespaces".into(), source });
    };
    // A child of this process that has not been waited for: the number is still its own.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).call("pidfd_open", || format!("{pid:?}"))?;
    Ok(Cloned { pid, pidfd })
}

/// Joins them all: those that this process has the right to first, the user namespace, and with its rights the others.
fn enter(entries: &[Entry]) -> sys::Result<()> {
    let join = |entry: &Entry| match entry {
        Entry::Join(file, kind) => joining::namespace(file.as_fd(), *kind),
        Entry::Affinity(set) => joining::processors(set),
        Entry::JoinProcess(process, kinds) => joining::namespaces_of(process.as_fd(), *kinds),
    };
    let is_users = |entry: &&Entry| matches!(entry, Entry::Join(_, LinkNameSpaceType::User));
    let Some(users) = entries.iter().find(is_users) else { return entries.iter().try_for_each(join) };
    let mut later = Vec::new();
    for entry in entries.iter().filter(|entry| !is_users(entry)) {
        match join(entry) {
            Err(error) if error.errno == Errno::PERM => later.push(entry),
            answer => answer?,
        }
    }
    join(users)?;
    later.into_iter().try_for_each(join)
}
