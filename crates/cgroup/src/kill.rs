//! A signal for every process of a group.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sys::Call;

use crate::Result;
use crate::error::About;
use crate::group::{Group, Version};

/// `SIGKILL`'s number (signal(7)).
pub(crate) const KILL: i32 = 9;

/// A group that forks faster than it is signalled is asked for its processes this often.
const ROUNDS: usize = 10;

impl Group {
    /// Sends the signal, by its number, to every process of the group and of those below it.
    ///
    /// `SIGKILL` ends all at once by `cgroup.kill` (version 2, Linux 5.14). Otherwise the group is frozen meanwhile, so that none
    /// escapes by forking; where it cannot be frozen, the processes are asked for again until no new ones appear.
    ///
    /// # Errors
    /// [`crate::Error::NoGroup`]; those of freezing by [`Group::thaw`], listing and `kill(2)`. A group that is gone has no
    /// processes.
    pub fn kill(&self, signal: i32) -> Result<()> {
        self.kill_those(signal, None)
    }

    /// The same for those processes alone that `belong`: others, whose groups somebody has made below this one, are let be.
    ///
    /// # Errors
    /// As [`Group::kill`].
    pub fn kill_own(&self, signal: i32, belong: &dyn Fn(Pid) -> bool) -> Result<()> {
        self.kill_those(signal, Some(belong))
    }

    fn kill_those(&self, signal: i32, belong: Option<&dyn Fn(Pid) -> bool>) -> Result<()> {
        let place = self.main()?;
        if !self.exists() {
            return Ok(());
        }
        // Without others all end at once; who joins them meanwhile is killed, too.
        let alone = match belong {
            None => true,
            Some(belong) => self.processes(true)?.into_iter().all(belong),
        };
        if signal == KILL && self.version == Version::Unified && alone {
            match place.open()?.write("cgroup.kill", "1") {
                Err(error) if error.errno == Errno::NODEV => return Ok(()),
                Ok(()) => return Ok(()),
                // before Linux 5.14, or in thread mode
                Err(error) if matches!(error.errno, Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error).about("killing a cgroup's processes"),
            }
        }
        let was_frozen = self.is_frozen()?;
        let frozen = was_frozen || self.freeze().is_ok();
        let belong = belong.unwrap_or(&|_| true);
        let sent = if frozen { self.signal_once(signal, belong) } else { self.signal_all(signal, belong) };
        if signal == KILL {
            // While the group stands still nobody freezes them again.
            self.thaw_below();
        }
        // A frozen process of version 1 gets its signal when it is thawed, SIGKILL included.
        if frozen && (!was_frozen || signal == KILL) {
            match self.thaw() {
                Err(error) if error.is_gone() => {}
                thawed => thawed?,
            }
        }
        sent
    }

    fn signal_all(&self, signal: i32, belong: &dyn Fn(Pid) -> bool) -> Result<()> {
        let mut known: Vec<Pid> = Vec::new();
        for _ in 0..ROUNDS {
            let now = self.processes(true)?;
            if now.iter().all(|pid| known.contains(pid)) {
                break;
            }
            for pid in now.iter().filter(|pid| !known.contains(pid) && belong(**pid)) {
                send(*pid, signal)?;
            }
            known.extend(now);
        }
        Ok(())
    }

    fn signal_once(&self, signal: i32, belong: &dyn Fn(Pid) -> bool) -> Result<()> {
        let own = self.processes(true)?.into_iter().filter(|pid| belong(*pid));
        own.into_iter().try_for_each(|pid| send(pid, signal))
    }
}

/// By a pidfd, which takes every signal number, real-time ones, too.
fn send(pid: Pid, signal: i32) -> Result<()> {
    let what = "signalling a cgroup's process";
    let opened = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened.call("pidfd_open", || pid.to_string()).about(what)?,
    };
    match sys::process::signal(opened, signal) {
        Err(error) if error.errno == Errno::SRCH => Ok(()),
        sent => sent.about(what),
    }
}
