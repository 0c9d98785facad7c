//! `wait`: until a container has ended, and what it ended with.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cli::{Common, During, Failure, Stage};
use descriptor::Exit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use store::state::UNSEEN;
use store::{Container, Error, State};

use crate::containers::{Names, named};
use crate::wire;

/// How long who stands by a container may take to write down its end; if it does not, nobody does.
const RECORDED_WITHIN: Duration = Duration::from_secs(2);
/// How long apart that is looked for.
const PAUSE: Duration = Duration::from_millis(5);

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,
}

/// Prints each container's exit status once it has ended; one that never ran has 0.
pub(crate) fn wait(common: &Common, args: &Args, stage: &mut Stage) -> Result<u8, Failure> {
    stage.keep_errors_home();
    args.names.each(common, stage, |_, container| {
        let state = container.settle().during(|| format!("container {}", container.name()))?;
        let code = match Alive::of(&state) {
            Some(alive) => match told(container, &state) {
                Some(code) => code,
                None => {
                    alive.ended(None)?;
                    recorded(container)?
                }
            },
            None if state.started_at.is_none() => 0,
            None => recorded(container)?,
        };
        named::print(code)
    })
}

/// What the container's monitor says once it has ended: a one-off is gone by then. None where nobody stands by it any more.
fn told(container: &Container, state: &State) -> Option<u8> {
    state.monitor.as_ref()?;
    let socket = wire::connect(&container.root().ok()?).ok()?;
    match wire::receive(&socket, RecvFlags::empty()).ok()?[..] {
        [wire::EXIT, code] => Some(code),
        _ => None,
    }
}

/// A container's process that lives, and never another one.
#[derive(Debug)]
pub(crate) struct Alive {
    process: OwnedFd,
}

impl Alive {
    /// The process of a state; none where it has ended.
    pub(crate) fn of(state: &State) -> Option<Self> {
        let pid = i32::try_from(state.pid?).ok().and_then(Pid::from_raw)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number may have been another's before it was opened.
        state.is_alive().then_some(Self { process })
    }

    /// The descriptor that stands for it.
    pub(crate) fn into_pidfd(self) -> OwnedFd {
        self.process
    }

    /// Waits for its end; false where it goes on for longer than that.
    pub(crate) fn ended(&self, within: Option<Duration>) -> Result<bool, Failure> {
        let deadline = within.map(|within| Instant::now() + within);
        loop {
            let timeout = deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
            });
            match poll(&mut [PollFd::new(&self.process, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let why = std::io::Error::from(errno);
                    return Err(Failure::new(Exit::Other, "waiting for the container", why));
                }
            }
        }
    }

    /// Sends it a signal; one that has just ended needs none.
    pub(crate) fn signal(&self, number: i32) -> Result<(), Failure> {
        match sys::process::signal(&self.process, number) {
            Err(error) if error.errno != Errno::SRCH => {
                Err(Failure::new(Exit::Other, format!("signal {number}"), error))
            }
            _ => Ok(()),
        }
    }
}

/// The exit status that was written down for a container whose process has ended; one that is gone by then ended well enough
/// for its maker.
pub(crate) fn recorded(container: &Container) -> Result<u8, Failure> {
    let deadline = Instant::now() + RECORDED_WITHIN;
    loop {
        let state = match container.state() {
            Err(Error::NoContainer(_) | Error::Document { .. } | Error::OtherInstance { .. }) => {
                return Ok(0);
            }
            state => state.during(|| format!("container {}", container.name()))?,
        };
        if let Some(code) = state.exit_code {
            return Ok(code);
        }
        let watched = state.monitor.as_ref().is_none_or(store::Process::is_alive);
        if !watched || Instant::now() >= deadline {
            return Ok(UNSEEN);
        }
        std::thread::sleep(PAUSE);
    }
}
