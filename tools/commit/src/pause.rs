//! A container stands still while its files are read: frozen through its control group, and thawed whatever happens.
//!
//! Invariants
//! - A guardian, a process of its own, thaws the container once this process lets go of it or has ended, by whatever signal.
//!   It is there before anything is frozen, and it alone thaws.
//! - Who is paused by somebody else stays paused, also where that happens meanwhile: the state says so.
//! - One commit at a time has a container stand still; another waits for it.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use cgroup::Group;
use cli::{During, Failure, Stage};
use descriptor::{Exit, Status};
use nix::sys::signal::SigSet;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::WaitOptions;
use store::Container;
use sys::lock::Lock;
use sys::process::{Cloned, Range};
use sys::{Call, Root};

/// What keeps a container's files as they are.
#[derive(Debug)]
pub(crate) enum Held {
    /// Nothing runs, and nobody starts or removes it.
    Stopped { _lock: Lock },
    /// It stands still.
    Frozen(Box<Frozen>),
    /// Somebody has paused it, or nothing keeps it.
    No,
}

/// A container that stands still until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen {
    name: String,
    group: Group,
    guardian: Guardian,
}

impl Held {
    /// Keeps a container as it is; one that runs stands still if `pause` is true.
    pub(crate) fn of(
        container: &Container,
        upper: &Root,
        pause: bool,
        stage: &Stage,
    ) -> Result<Self, Failure> {
        let what = || format!("container {}", container.name());
        let lock = container.lock().during(what)?;
        let state = container.settled(&lock).during(what)?;
        if !state.is_alive() {
            return Ok(Self::Stopped { _lock: lock });
        }
        // Its end has to be recorded, however long this takes.
        drop(lock);
        let torn = "files that change meanwhile may be torn";
        if !pause {
            stage.note(&format!("the container runs on while it is committed: {torn}"));
            return Ok(Self::No);
        }
        let turn = turn(upper).map_err(|e| Failure::new(Exit::Other, what(), e))?;
        let lock = container.lock().during(what)?;
        let state = container.settled(&lock).during(what)?;
        if !state.is_alive() {
            return Ok(Self::Stopped { _lock: lock });
        }
        if state.now() == Status::Paused {
            return Ok(Self::No);
        }
        let Some(group) = Group::recorded(state.group.as_ref()).filter(|group| !group.is_none()) else {
            let name = container.name();
            stage.warn(&format!(
                "the container cannot be paused, as it has no control group, and runs on while it is committed: {torn} \
                 (oci-spawn pause {name} makes it one)"
            ));
            return Ok(Self::No);
        };
        drop(lock);
        Self::freeze(container, group, turn)
    }

    fn freeze(container: &Container, group: Group, turn: OwnedFd) -> Result<Self, Failure> {
        let what = || format!("pausing container {}", container.name());
        let guardian =
            Guardian::of(container, &group, turn).map_err(|e| Failure::new(Exit::Other, what(), e))?;
        let lock = container.lock().during(what)?;
        let state = container.settled(&lock).during(what)?;
        if !state.is_alive() {
            // The guardian wants the lock for a moment.
            drop(lock);
            drop(guardian);
            return Ok(Self::Stopped { _lock: container.lock().during(what)? });
        }
        if state.now() == Status::Paused {
            return Ok(Self::No);
        }
        let hint = "--no-pause commits it as it runs";
        group.freeze().during(what).map_err(|failure| failure.with_hint(hint))?;
        Ok(Self::Frozen(Box::new(Frozen { name: container.name().into(), group, guardian })))
    }

    /// Lets a container that stands still go on.
    ///
    /// # Errors
    /// Where it could not be thawed.
    pub(crate) fn end(self, stage: &Stage) -> Result<(), Failure> {
        let Self::Frozen(frozen) = self else { return Ok(()) };
        let Frozen { name, group, mut guardian } = *frozen;
        if !group.is_frozen().unwrap_or(true) && group.exists() {
            stage.warn("somebody let the container go on while it was committed: files may be torn");
        }
        match guardian.end() {
            Some(0) => Ok(()),
            _ => Err(Failure::new(Exit::Other, format!("container {name}"), "it could not be thawed")
                .with_hint(format!("oci-spawn pause {name}; oci-spawn resume {name}"))),
        }
    }
}

/// Waits until no other commit has the container stand still. The lock is the open directory's (flock(2)), so the guardian
/// has it too.
fn turn(upper: &Root) -> sys::Result<OwnedFd> {
    let dir = upper.open(".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    loop {
        match rustix::fs::flock(&dir, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            locked => return locked.call("flock", || "upper".into()).map(|()| dir),
        }
    }
}

/// The process that thaws.
#[derive(Debug)]
struct Guardian {
    process: Cloned,
    /// Whose end it waits for: of all its copies, so also ours, whenever this process ends.
    life: Option<OwnedFd>,
}

impl Guardian {
    fn of(container: &Container, group: &Group, turn: OwnedFd) -> sys::Result<Self> {
        let (watched, life) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", String::new)?;
        let (heard, ready) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", String::new)?;
        let number = life.as_raw_fd().unsigned_abs();
        let process = sys::process::clone(0, true, || {
            // Its own copy would keep it from seeing the end of ours.
            let alone = SigSet::all().thread_set_mask().is_ok()
                && sys::process::close_range(number, number, Range::Close).is_ok();
            if !alone {
                return 1;
            }
            detach();
            let _ = rustix::io::write(&ready, b".");
            wait_for_end(&watched);
            u8::from(thaw(container, group).is_err())
        })?;
        drop((turn, ready));
        let guardian = Self { process, life: Some(life) };
        // What ends this process's group must not end it, too: not before it is out of that is anything frozen.
        loop {
            match rustix::io::read(&heard, &mut [0; 1]) {
                Ok(1..) => return Ok(guardian),
                Err(Errno::INTR) => {}
                Ok(0) => return Err(sys::Error::new("read", "the guardian's word", Errno::CHILD)),
                Err(errno) => return Err(sys::Error::new("read", "the guardian's word", errno)),
            }
        }
    }

    /// Has it thaw, and gives its exit status.
    fn end(&mut self) -> Option<i32> {
        self.life.take()?;
        loop {
            match rustix::process::waitpid(Some(self.process.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return status.exit_status(),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.end();
    }
}

/// Nobody who reads our output waits for the guardian, and no terminal's signal reaches it.
fn detach() {
    let _ = rustix::process::setsid();
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Until no writer is left.
fn wait_for_end(watched: &OwnedFd) {
    loop {
        match rustix::io::read(watched, &mut [0; 1]) {
            Ok(1..) | Err(Errno::INTR) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn thaw(container: &Container, group: &Group) -> Result<(), cgroup::Error> {
    // One that is gone stands still no more. The lock keeps who pauses it now from being undone.
    let Ok(_lock) = container.lock() else { return Ok(()) };
    if container.state().is_ok_and(|state| state.now() == Status::Paused) || !group.exists() {
        return Ok(());
    }
    group.thaw()
}
