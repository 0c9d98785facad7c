//! Being told when the kernel ends a process of the group for want of memory.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::Errno;
use sys::Call;

use crate::directory::{Directory, read_all};
use crate::error::About;
use crate::group::{Group, Version};
use crate::{Error, Result};

const WHAT: &str = "watching a cgroup for want of memory";

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The memory limit ended a process, or stopped one (`disableOOMKiller`).
    Oom,
    /// The group has no processes any more (version 2), or is gone.
    Ended,
    /// The time was over.
    Nothing,
}

/// A watch over a group's memory.
#[derive(Debug)]
pub struct Watch {
    files: Files,
    directory: PathBuf,
}

#[derive(Debug)]
enum Files {
    /// Version 1: an eventfd that the kernel counts up, and the file that it was registered with.
    Legacy { event: OwnedFd, _control: OwnedFd },
    /// Version 2: `memory.events` and `cgroup.events`, which wake a poll when they change, and what the first said last.
    Unified { memory: OwnedFd, group: OwnedFd, kills: u64 },
}

impl Group {
    /// Begins to watch.
    ///
    /// # Errors
    /// [`Error::NoGroup`] where no directory of the group counts memory; those of opening its files.
    pub fn watch(&self) -> Result<Watch> {
        let place = self.place("memory").ok_or_else(|| Error::NoGroup { what: WHAT.into() })?;
        let directory = Directory::open(&place.mount, &place.path).about(WHAT)?;
        let files = match self.version {
            Version::Legacy => legacy(&directory)?,
            Version::Unified => {
                let memory = directory.open_file("memory.events", OFlags::RDONLY).about(WHAT)?;
                let group = directory.open_file("cgroup.events", OFlags::RDONLY).about(WHAT)?;
                let kills = value(&again(&memory)?, "oom_kill");
                Files::Unified { memory, group, kills }
            }
        };
        Ok(Watch { files, directory: place.directory() })
    }
}

/// Registers an eventfd with `cgroup.event_control` (the kernel's cgroup-v1/memory.rst, section 9).
fn legacy(directory: &Directory) -> Result<Files> {
    use std::os::fd::AsRawFd;
    let event = eventfd(0, EventfdFlags::CLOEXEC).call("eventfd2", || "0, EFD_CLOEXEC".into()).about(WHAT)?;
    let control = directory.open_file("memory.oom_control", OFlags::RDONLY).about(WHAT)?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    directory.write("cgroup.event_control", &line).about(WHAT)?;
    Ok(Files::Legacy { event, _control: control })
}

impl Watch {
    /// Waits for something to be seen, for ever where no time is given.
    ///
    /// # Errors
    /// Those of `poll(2)` and of reading.
    pub fn wait(&mut self, time: Option<Duration>) -> Result<Notice> {
        let end = time.map(|time| Instant::now() + time);
        loop {
            if !self.ready(end)? {
                return Ok(Notice::Nothing);
            }
            if let Some(notice) = self.look()? {
                return Ok(notice);
            }
        }
    }

    /// False where the time was over first.
    fn ready(&self, end: Option<Instant>) -> Result<bool> {
        let mut list = match &self.files {
            Files::Legacy { event, .. } => vec![PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN)],
            Files::Unified { memory, group, .. } => {
                [memory, group].map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::PRI)).into()
            }
        };
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let wait = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut list, wait.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(errno).call("poll", || format!("{:?}", self.directory)).about(WHAT);
                }
            }
        }
    }

    /// What has changed; `None` where it is nothing of interest.
    fn look(&mut self) -> Result<Option<Notice>> {
        match &mut self.files {
            Files::Legacy { event, .. } => {
                let mut count = [0; 8];
                rustix::io::read(&*event, &mut count).call("read", || "eventfd".into()).about(WHAT)?;
                // the kernel also counts up when the group is removed
                let gone = rustix::fs::lstat(&self.directory).is_err();
                Ok(Some(if gone { Notice::Ended } else { Notice::Oom }))
            }
            Files::Unified { memory, group, kills } => {
                let (memory, group) = match (again(&memory), again(&group)) {
                    (Ok(memory), Ok(group)) => (memory, group),
                    (Err(error), _) | (_, Err(error)) if error.errno() == Some(Errno::NODEV) => {
                        return Ok(Some(Notice::Ended));
                    }
                    (Err(error), _) | (_, Err(error)) => return Err(error),
                };
                let now = value(&memory, "oom_kill");
                if std::mem::replace(kills, now) < now {
                    return Ok(Some(Notice::Oom));
                }
                Ok((value(&group, "populated") == 0).then_some(Notice::Ended))
            }
        }
    }
}

/// Reads a file from its start again, which also tells the kernel that this state of it was seen.
fn again(file: &impl AsFd) -> Result<String> {
    seek(file, SeekFrom::Start(0)).call("lseek", || "0, SEEK_SET".into()).about(WHAT)?;
    read_all(file).call("read", || "events".into()).about(WHAT)
}

/// The number after `key` in a flat keyed file; 0 where it is not there.
pub(crate) fn value(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}
