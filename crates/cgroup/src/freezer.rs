//! Freezing and thawing: `cgroup.freeze` of version 2 (Linux 5.2), the freezer controller of version 1.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use sys::Call;

use crate::directory::{Directory, read_all};
use crate::error::About;
use crate::group::{Group, Place, Version};
use crate::tree::{Visit, walk};
use crate::{Error, Result};

/// How long a group may take to freeze: a process in an uninterruptible call does so only when that returns.
const PATIENCE: Duration = Duration::from_secs(10);

/// Version 1: how often the state is asked for again, between two thaws, while new processes keep the group `FREEZING`; runc's
/// figures, found by trying. It gives up after a thousand, a third of a second: on a busy disk a write takes longer.
const RETRIES_BEFORE_THAW: usize = 50;
const RETRIES_BEFORE_PAUSE: usize = 25;

const STATE: &str = "freezer.state";

impl Group {
    /// Stops every process of the group where it is, those to come, too, and waits until all stand still.
    ///
    /// # Errors
    /// [`Error::NoGroup`] and [`Error::NoController`] where there is nothing to freeze by; [`Error::Late`], with the group thawed
    /// again.
    pub fn freeze(&self) -> Result<()> {
        let directory = self.freezer()?;
        let frozen = match self.version {
            Version::Unified => freeze_unified(directory),
            Version::Legacy => freeze_legacy(directory),
        };
        if frozen.is_err() {
            // A group left half-frozen would be stuck.
            let _ = self.thaw();
        }
        frozen
    }

    /// Lets the processes of the group go on.
    ///
    /// # Errors
    /// As [`Group::freeze`]; those of writing.
    pub fn thaw(&self) -> Result<()> {
        let (file, value) = match self.version {
            Version::Unified => ("cgroup.freeze", "0"),
            Version::Legacy => (STATE, "THAWED"),
        };
        self.freezer()?.write(file, value).about("thawing a cgroup")
    }

    /// Thaws the groups below this one, which the container may have frozen itself, so that what is killed in them ends.
    ///
    /// Version 1 alone: on version 2 a frozen process can be killed. What cannot be thawed is left, as its processes show.
    pub fn thaw_below(&self) {
        let place = self.place("freezer").filter(|_| self.version == Version::Legacy);
        let top = place.and_then(|place| Directory::open(&place.mount, &place.path).ok());
        if let Some(top) = top {
            let _ = walk(top, &mut Thaw { top: true });
        }
    }

    /// True where the group itself was frozen (not merely one above it); false without a group or a freezer.
    ///
    /// # Errors
    /// Those of reading the state.
    pub fn is_frozen(&self) -> Result<bool> {
        match self.place("freezer") {
            Some(place) if self.exists() => is_frozen(place, self.version),
            _ => Ok(false),
        }
    }

    fn freezer(&self) -> Result<&Directory> {
        match self.place("freezer") {
            Some(place) => place.open(),
            None if self.is_none() => Err(Error::NoGroup { what: "freezing".into() }),
            None => Err(Error::NoGroup { what: "freezing, by the freezer controller,".into() }),
        }
    }
}

/// Thaws every directory but the first.
struct Thaw {
    top: bool,
}

impl Visit for Thaw {
    fn enter(&mut self, directory: &Directory) -> Result<()> {
        if !std::mem::take(&mut self.top) {
            let _ = directory.write(STATE, "THAWED");
        }
        Ok(())
    }
}

/// True where this place was frozen.
pub(crate) fn is_frozen(place: &Place, version: Version) -> Result<bool> {
    let what = "reading whether a cgroup is frozen";
    let (file, frozen) = match version {
        Version::Unified => ("cgroup.freeze", "1"),
        Version::Legacy => ("freezer.self_freezing", "1"),
    };
    if version == Version::Legacy && !place.controllers.iter().any(|one| one == "freezer") {
        return Ok(false);
    }
    let directory = match place.open() {
        // One of a group that is half made, or half removed.
        Err(error) if error.is_gone() => return Ok(false),
        directory => directory?,
    };
    match directory.read(file) {
        Ok(text) => Ok(text.trim() == frozen),
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NODEV) => Ok(false),
        Err(error) => Err(error).about(what),
    }
}

fn late(directory: &Directory) -> Error {
    Error::Late { path: directory.path().into(), state: "frozen", seconds: PATIENCE.as_secs() }
}

/// The kernel wakes a poll of `cgroup.events` (`POLLPRI`) when `frozen` in it changes.
fn freeze_unified(directory: &Directory) -> Result<()> {
    let what = "freezing a cgroup";
    directory.write("cgroup.freeze", "1").about(what)?;
    let events = directory.open_file("cgroup.events", OFlags::RDONLY).about(what)?;
    let shown = || format!("{:?}", directory.path().join("cgroup.events"));
    let end = Instant::now() + PATIENCE;
    loop {
        rustix::fs::seek(&events, rustix::fs::SeekFrom::Start(0)).call("lseek", shown).about(what)?;
        let text = read_all(&events).call("read", shown).about(what)?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late(directory));
        }
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)], Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call("poll", shown).about(what),
        }
    }
}

/// `FREEZING` is to be asked again: the freezer misses processes that appear meanwhile.
fn freeze_legacy(directory: &Directory) -> Result<()> {
    let what = "freezing a cgroup";
    let end = Instant::now() + PATIENCE;
    for attempt in 1_usize.. {
        if attempt % RETRIES_BEFORE_THAW == 0 {
            directory.write(STATE, "THAWED").about(what)?;
            std::thread::sleep(Duration::from_millis(10));
        }
        directory.write(STATE, "FROZEN").about(what)?;
        if attempt % RETRIES_BEFORE_PAUSE == 0 {
            std::thread::sleep(Duration::from_micros(10));
        }
        match directory.read(STATE).about(what)?.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" if Instant::now() < end => {}
            "FREEZING" => break,
            other => {
                let why = format!("{other:?} is no state of a group that was just frozen");
                return Err(Error::Content { path: directory.path().join(STATE), why });
            }
        }
    }
    Err(late(directory))
}
