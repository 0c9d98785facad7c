//! Reading a log across its files, also while they grow and take each other's place.
//!
//! A log's files only ever get older names. They are opened from the youngest to the oldest, so one whose name changes
//! meanwhile is seen twice at worst, and never missed; files are told apart by inode.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use cli::Failure;
use descriptor::{Exit, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use store::{Container, Process};
use sys::{Result, Root};

use crate::monitor::{LOG, predecessor};

/// How often a log is looked at though nobody said that it changed, 5 times a second: where inotify(7) is exhausted.
const LOOKS_APART: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// An object is not longer: 16 KiB of which each byte takes six, and what is around it. What is longer is cut off.
const OBJECT_BYTES: u64 = 256 << 10;

/// Whether a log can still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The container runs, or its monitor writes its last words.
    Lives,
    /// Nobody writes it.
    Ended,
}

impl Followed {
    /// Of a container.
    pub(crate) fn of(container: &Container) -> Self {
        let Ok(state) = container.state() else { return Self::Ended };
        let runs = matches!(state.now(), Status::Running | Status::Paused);
        if runs || state.monitor.as_ref().is_some_and(Process::is_alive) { Self::Lives } else { Self::Ended }
    }
}

/// A log, open for reading.
#[derive(Debug)]
pub(crate) struct Reader {
    bundle: Root,
    /// The files that are not read to their end, the oldest first.
    files: VecDeque<BufReader<File>>,
    /// The inode of the youngest that was ever opened.
    youngest: Option<u64>,
    /// The beginning of an object whose end is not written yet.
    begun: Vec<u8>,
    /// What was said of the bundle since the last look; none where nobody can be asked.
    changes: Option<OwnedFd>,
}

impl Reader {
    /// Opens the log of a bundle; one without is empty.
    pub(crate) fn open(bundle: Root) -> Result<Self> {
        let changes = watch(&bundle).ok();
        let mut reader = Self { bundle, files: VecDeque::new(), youngest: None, begun: Vec::new(), changes };
        reader.refresh()?;
        Ok(reader)
    }

    /// Leaves out all but so many objects at the end.
    pub(crate) fn skip_to_last(&mut self, lines: u64) -> Result<()> {
        let mut skipped = 0;
        for file in &self.files {
            let clone = file.get_ref().try_clone().map_err(|e| unread(&e))?;
            skipped += newlines(clone)?;
        }
        for file in &mut self.files {
            use std::io::Seek;
            file.rewind().map_err(|e| unread(&e))?;
        }
        skipped = skipped.saturating_sub(lines);
        while skipped > 0 {
            let Some(file) = self.files.front_mut() else { return Ok(()) };
            match file.skip_until(b'\n').map_err(|e| unread(&e))? {
                0 if self.files.len() == 1 => return Ok(()),
                0 => drop(self.files.pop_front()),
                _ => skipped -= 1,
            }
        }
        Ok(())
    }

    /// Reads what there is; `take` gets each object and says whether to go on.
    pub(crate) fn read(
        &mut self,
        mut take: impl FnMut(&[u8]) -> std::result::Result<bool, Failure>,
    ) -> std::result::Result<(), Failure> {
        let failed = |why: String| Failure::new(Exit::Other, "reading the log", why);
        loop {
            let Some(file) = self.files.front_mut() else {
                self.refresh().map_err(|e| failed(e.to_string()))?;
                if self.files.is_empty() {
                    return Ok(());
                }
                continue;
            };
            let room = OBJECT_BYTES.saturating_sub(self.begun.len() as u64).max(1);
            let got =
                file.take(room).read_until(b'\n', &mut self.begun).map_err(|e| failed(e.to_string()))?;
            let is_whole = self.begun.last() == Some(&b'\n');
            if is_whole || self.begun.len() as u64 >= OBJECT_BYTES {
                let object = std::mem::take(&mut self.begun);
                if !take(&object)? {
                    return Ok(());
                }
            } else if got == 0 && !self.go_on().map_err(|e| failed(e.to_string()))? {
                return Ok(());
            }
        }
    }

    /// At the end of a file: goes on to the next one; false where there is none.
    fn go_on(&mut self) -> Result<bool> {
        if self.files.len() == 1 {
            self.refresh()?;
            if self.files.len() == 1 {
                return Ok(false);
            }
            // What was written to it between its end and its successor's beginning.
            let file = &mut self.files[0];
            if !file.fill_buf().map_err(|e| unread(&e))?.is_empty() {
                return Ok(true);
            }
        }
        self.files.pop_front();
        // An object is whole or not there: what is left of one that was cut off has no end.
        self.begun.clear();
        Ok(true)
    }

    /// Opens the files that are younger than the youngest known.
    fn refresh(&mut self) -> Result<()> {
        let mut found: Vec<(u64, File)> = Vec::new();
        let mut missing = 0;
        for number in 0.. {
            let name = if number == 0 { LOG.to_string() } else { predecessor(number) };
            match self.bundle.open(&name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())
            {
                Ok(file) => {
                    let file = File::from(file);
                    let inode = file.metadata().map_err(|e| unread(&e))?.ino();
                    if Some(inode) == self.youngest {
                        break;
                    }
                    if found.iter().all(|(known, _)| *known != inode) {
                        found.push((inode, file));
                    }
                    missing = 0;
                }
                // While names change one is nobody's.
                Err(error) if error.errno == Errno::NOENT && missing < 1 => missing += 1,
                Err(error) if error.errno == Errno::NOENT => break,
                Err(error) => return Err(error),
            }
        }
        if let Some((inode, _)) = found.first() {
            self.youngest = Some(*inode);
        }
        self.files.extend(found.into_iter().rev().map(|(_, file)| BufReader::new(file)));
        Ok(())
    }

    /// Waits until something may have changed.
    pub(crate) fn wait(&mut self) {
        let Some(changes) = &self.changes else {
            let _ = poll(&mut [], Some(&LOOKS_APART));
            return;
        };
        let _ = poll(&mut [PollFd::new(changes, PollFlags::IN)], Some(&LOOKS_APART));
        let mut events = [0; 4096];
        // One answer for many changes is enough: what there is will be read.
        while rustix::io::read(changes, &mut events).is_ok_and(|got| got > 0) {}
    }
}

/// Says when a file of the bundle changes: the log grows, or gets a successor; the state is replaced.
fn watch(bundle: &Root) -> rustix::io::Result<OwnedFd> {
    use std::os::fd::{AsFd, AsRawFd};
    let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let path = format!("/proc/self/fd/{}", bundle.as_fd().as_raw_fd());
    inotify::add_watch(&changes, path, WatchFlags::MODIFY | WatchFlags::MOVED_TO)?;
    Ok(changes)
}

fn newlines(mut file: File) -> Result<u64> {
    let mut buffer = [0; 64 << 10];
    let mut count = 0;
    loop {
        match file.read(&mut buffer).map_err(|e| unread(&e))? {
            0 => return Ok(count),
            got => count += buffer[..got].iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }
}

fn unread(error: &std::io::Error) -> sys::Error {
    sys::Error::new("read", "the log", Errno::from_io_error(error).unwrap_or(Errno::IO))
}
