//! Standing by a container's process: signals go in, its terminal's bytes both ways, its end comes out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sys::Call;

use crate::error::{Error, Result};
use crate::process::Started;
use crate::relay::Relay;

const SIGKILL: i32 = 9;
/// What a shell adds to a signal's number.
const SIGNALLED: i32 = 128;

/// Signals that ask for the container's end: they become its stop signal.
const STOPPING: &[Signal] = &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// Signals that are handed on as they are.
const FORWARDED: &[Signal] =
    &[Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCONT, Signal::SIGALRM];

/// How a container's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with a status.
    Exited(u8),
    /// By a signal.
    Signalled(i32),
}

impl Ended {
    /// The exit status as shells have it: the command's own, or 128 and the signal's number.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX),
        }
    }
}

/// What works while a container is waited for: it is asked what to poll for, and told what happened.
pub trait Beside {
    /// What to poll for.
    fn wishes(&self) -> Vec<PollFd<'_>>;

    /// When to be called though nothing happened.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Does what can be done without waiting; `found` is what happened, in the order of the wishes.
    ///
    /// # Errors
    /// Where there is no use in waiting any longer.
    fn step(&mut self, found: &[PollFlags]) -> Result<()>;

    /// After the container's end: what is left to do.
    fn drain(&mut self);

    /// The size of this process's terminal has changed; false where the container is to be told by the signal.
    fn resize(&self) -> bool {
        false
    }
}

/// Waits for a container, with this process's signals in hand.
#[derive(Debug)]
pub struct Supervisor {
    signals: SignalFd,
    /// What a request to stop becomes, and how long it may take; nothing where it is handed on as it is.
    stop: Option<(i32, Duration)>,
    /// When patience ends, once a stop was asked for.
    deadline: Option<Instant>,
}

impl Supervisor {
    /// Takes the signals over; to be made before the container, so that none is lost.
    ///
    /// # Errors
    /// The errno of `signalfd(2)`.
    pub fn new(stop_signal: i32, stop_timeout: Duration) -> Result<Self> {
        Self::with(Some((stop_signal, stop_timeout)))
    }

    /// The same for a supervisor that hands every signal on as it is.
    ///
    /// # Errors
    /// As [`Supervisor::new`].
    pub fn forwarding() -> Result<Self> {
        Self::with(None)
    }

    fn with(stop: Option<(i32, Duration)>) -> Result<Self> {
        let mut set = SigSet::empty();
        STOPPING.iter().chain(FORWARDED).for_each(|&signal| set.add(signal));
        set.add(Signal::SIGWINCH);
        let failed =
            |errno: nix::Error| sys::Error::new("signalfd", "", Errno::from_raw_os_error(errno as i32));
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { signals, stop, deadline: None })
    }

    /// Waits until the container's process has ended and takes its status; a relay moves bytes meanwhile.
    ///
    /// # Errors
    /// [`Error::Sys`] where the kernel refuses to wait; the container is not touched then.
    pub fn wait(&mut self, started: &Started, mut relay: Option<Relay>) -> Result<Ended> {
        self.wait_beside(started, relay.as_mut().map(|relay| relay as &mut dyn Beside))
    }

    /// As [`Supervisor::wait`], with anything that works meanwhile.
    ///
    /// # Errors
    /// As [`Supervisor::wait`], and what that work fails with.
    pub fn wait_beside(
        &mut self,
        started: &Started,
        mut beside: Option<&mut (dyn Beside + '_)>,
    ) -> Result<Ended> {
        loop {
            let ready = self.poll(started.pidfd.as_fd(), beside.as_deref())?;
            if ready.signal {
                self.signals(&started.pidfd, beside.as_deref())?;
            }
            if let (Some(beside), Some(found)) = (&mut beside, &ready.beside) {
                beside.step(found)?;
            }
            if ready.ended {
                if let Some(beside) = beside {
                    beside.drain();
                }
                return reap(&started.pidfd);
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.deadline = None;
                kill(&started.pidfd, SIGKILL)?;
            }
        }
    }

    fn poll(&self, container: BorrowedFd<'_>, beside: Option<&(dyn Beside + '_)>) -> Result<Ready> {
        let signals = self.signals.as_fd();
        let mut watched = vec![PollFd::new(&container, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        let own = watched.len();
        if let Some(beside) = beside {
            watched.extend(beside.wishes());
        }
        let deadlines = [self.deadline, beside.and_then(Beside::deadline)];
        let timeout = deadlines.into_iter().flatten().min().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready { ended: false, signal: false, beside: None }),
            Err(errno) => return Err(Error::Sys(sys::Error::new("poll", "container", errno))),
        }
        let happened: Vec<PollFlags> = watched.iter().map(PollFd::revents).collect();
        Ok(Ready {
            ended: !happened[0].is_empty(),
            signal: !happened[1].is_empty(),
            beside: Some(happened[own..].to_vec()),
        })
    }

    /// Hands each pending signal on: the first request to stop as the stop signal, a second one as SIGKILL.
    fn signals(&mut self, container: &OwnedFd, beside: Option<&(dyn Beside + '_)>) -> Result<()> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = info.ssi_signo.cast_signed();
            let Ok(signal) = Signal::try_from(number) else { continue };
            if signal == Signal::SIGWINCH {
                if !beside.is_some_and(Beside::resize) {
                    kill(container, number)?;
                }
            } else if let Some((stop, patience)) = self.stop.filter(|_| STOPPING.contains(&signal)) {
                self.stop(container, stop, patience)?;
            } else {
                kill(container, number)?;
            }
        }
        Ok(())
    }

    fn stop(&mut self, container: &OwnedFd, signal: i32, patience: Duration) -> Result<()> {
        if self.deadline.is_some() {
            return kill(container, SIGKILL);
        }
        self.deadline = Some(Instant::now() + patience);
        kill(container, signal)
    }
}

/// What a poll found.
#[derive(Debug)]
struct Ready {
    ended: bool,
    signal: bool,
    /// What became of the wishes of who works beside; none where the wait was interrupted.
    beside: Option<Vec<PollFlags>>,
}

/// Sends a signal; a process that has just ended needs none.
fn kill(container: &OwnedFd, number: i32) -> Result<()> {
    match sys::process::signal(container, number) {
        Err(error) if error.errno != Errno::SRCH => Err(error.into()),
        _ => Ok(()),
    }
}

fn reap(container: &OwnedFd) -> Result<Ended> {
    loop {
        let waited = match waitid(WaitId::PidFd(container.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => continue,
            answer => answer.call("waitid", || "P_PIDFD".into())?,
        };
        let Some(status) = waited else { continue };
        if let Some(code) = status.exit_status() {
            return Ok(Ended::Exited((code & 0xff) as u8));
        }
        if let Some(signal) = status.terminating_signal() {
            return Ok(Ended::Signalled(signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_the_shells() {
        assert_eq!(Ended::Exited(7).code(), 7);
        assert_eq!(Ended::Signalled(9).code(), 137);
        assert_eq!(Ended::Signalled(15).code(), 143);
    }
}
