//! What happened in the store: `events`, one JSON object a line, and `events.1`, the file before it.
//!
//! - A line is appended by one write of at most 4,096 bytes, so lines of many writers never mix.
//! - A writer holds the file's lock, shared, and has looked that the file still has its name. Who finds it full renames it
//!   under the exclusive lock. So nothing is written to a file after it was replaced, and a follower that reads it to its
//!   end has missed nothing.
//! - Noting is best effort: it fails nobody, waits for nobody longer than a tenth of a second, and syncs nothing. Lines that
//!   a power cut tore are passed over.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use descriptor::moment;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{OFlags, Stat, inotify};
use serde::{Deserialize, Serialize};
use sys::Call;
use sys::lock::{Kind, Lock};

use crate::files::About;
use crate::{Result, Store, files};

/// The file that is written.
const CURRENT: &str = "events";
/// The one before it.
const BEFORE: &str = "events.1";
/// The most bytes of a line: what a pipe takes in one piece, as for all lines of this project.
const LINE_LIMIT: usize = 4096;
/// A file of this many bytes, some five thousand events, is put aside as soon as nobody is writing; it never gets twice as
/// long.
pub const FILE_LIMIT: u64 = 1 << 20;
/// How often a writer looks again that somebody else keeps from writing, a tenth of a second in all, and the first pause;
/// each is twice the one before.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_micros(100);
/// The longest time between two looks of a follower, whatever inotify says.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The same where there is no inotify.
const LOOK_AGAIN_BLIND: Duration = Duration::from_millis(50);
/// How much a follower reads at once.
const BUFFER: usize = 64 << 10;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// What this version does not know.
    #[serde(other)]
    Other,
}

/// Something that happened, by docker's names for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// What it happened to.
    pub kind: Subject,
    /// What happened: create, start, die, ...
    pub action: String,
    /// The container's id, the image's digest, the volume's name.
    pub id: String,
    /// The container's name, the image's reference.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What else there is to say: `exitCode`, `signal`, `image`, labels, ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event of this moment.
    pub fn new(
        kind: Subject,
        action: impl Into<String>,
        id: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            time: moment::now(),
            kind,
            action: action.into(),
            id: id.into(),
            name: name.into(),
            attributes: BTreeMap::new(),
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.attributes.insert(key.into(), value.to_string());
        self
    }

    /// Adds attributes, labels say.
    #[must_use]
    pub fn with_all(mut self, all: &BTreeMap<String, String>) -> Self {
        self.attributes.extend(all.iter().map(|(key, value)| (key.clone(), value.clone())));
        self
    }

    /// When it happened; none where the text is no moment.
    pub fn moment(&self) -> Option<SystemTime> {
        moment::parse(&self.time)
    }

    /// The line; the largest attributes are left out of one that is too long. None where that does not help.
    fn to_line(&self) -> Option<Vec<u8>> {
        let mut event = self.clone();
        loop {
            let mut line = serde_json::to_vec(&event).ok()?;
            line.push(b'\n');
            if line.len() <= LINE_LIMIT {
                return Some(line);
            }
            let size = |(key, value): &(&String, &String)| key.len() + value.len();
            let largest = event.attributes.iter().max_by_key(size).map(|(key, _)| key.clone())?;
            event.attributes.remove(&largest);
        }
    }
}

/// Which events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// None before this moment.
    pub since: Option<SystemTime>,
    /// None after this one.
    pub until: Option<SystemTime>,
}

impl Span {
    fn has(&self, event: &Event) -> bool {
        let Some(moment) = event.moment() else { return true };
        self.since.is_none_or(|since| since <= moment) && self.until.is_none_or(|until| moment <= until)
    }
}

impl Store {
    /// Notes what happened. It is of no consequence for the caller whether that succeeds.
    pub fn note(&self, event: &Event) {
        if let Some(line) = event.to_line() {
            let _ = self.append(&line);
        }
    }

    /// The events that are still known, in the order they were noted in.
    ///
    /// # Errors
    /// A failed call.
    pub fn events(&self, since: Option<SystemTime>, until: Option<SystemTime>) -> Result<Vec<Event>> {
        let mut reader = self.follow_events(Some(since.unwrap_or(SystemTime::UNIX_EPOCH)))?;
        let span = Span { since, until };
        let mut all = Vec::new();
        while let Some(event) = reader.next(Some(Duration::ZERO))? {
            all.extend(span.has(&event).then_some(event));
        }
        Ok(all)
    }

    /// Follows the events: those known since a moment, or from now on where none is given.
    ///
    /// # Errors
    /// A failed call.
    pub fn follow_events(&self, since: Option<SystemTime>) -> Result<EventFollower> {
        let mut follower = EventFollower {
            store: self.clone(),
            span: Span { since, until: None },
            watch: watch(self),
            file: None,
            bytes: Vec::new(),
            ready: VecDeque::new(),
        };
        match since {
            Some(_) => follower.begin()?,
            None => follower.file = follower.open_at_end()?,
        }
        Ok(follower)
    }

    fn append(&self, line: &[u8]) -> Result<()> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND;
        for n in 0..TRIES {
            let Some((file, stat)) = files::open_regular_with(self.dir(), CURRENT, flags)? else { continue };
            let size = stat.st_size.unsigned_abs() + line.len() as u64;
            if size > FILE_LIMIT && self.rotate()? {
                continue;
            }
            if size > 2 * FILE_LIMIT {
                // Others write all the time, one of them stopped in the middle of it.
                std::thread::sleep(PAUSE * 2_u32.pow(n));
                continue;
            }
            let Ok(lock) = Lock::attempt(file, Kind::Shared).about(CURRENT)? else {
                std::thread::sleep(PAUSE * 2_u32.pow(n));
                continue;
            };
            if files::is_named(self.dir(), CURRENT, &stat)? {
                return write(lock.file(), line);
            }
        }
        // Who holds the lock hangs: a line that a follower may miss is better than none.
        match files::open_regular_with(self.dir(), CURRENT, flags)? {
            Some((file, _)) => write(&file, line),
            None => Ok(()),
        }
    }

    /// Puts the full file aside unless somebody is writing; false where somebody is.
    fn rotate(&self) -> Result<bool> {
        let Some((file, stat)) = files::open_regular_with(self.dir(), CURRENT, OFlags::RDWR)? else {
            return Ok(true);
        };
        let Ok(_lock) = Lock::attempt(file, Kind::Exclusive).about(CURRENT)? else { return Ok(false) };
        // Another did it since.
        if files::is_named(self.dir(), CURRENT, &stat)? {
            files::rename(self.dir(), CURRENT, self.dir(), BEFORE)?;
        }
        Ok(true)
    }
}

fn write(mut file: &File, line: &[u8]) -> Result<()> {
    file.write_all(line).call("write", || format!("{} bytes", line.len())).about(CURRENT)
}

/// Watches the store's directory; none where the kernel or a limit does not allow it, and then time is enough.
fn watch(store: &Store) -> Option<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, store.path(), what).ok()?;
    Some(watch)
}

/// A reader of the events that goes on with those to come.
#[derive(Debug)]
pub struct EventFollower {
    store: Store,
    span: Span,
    watch: Option<OwnedFd>,
    /// None until there is a first event.
    file: Option<(File, Stat)>,
    /// The beginning of a line whose end was not read yet.
    bytes: Vec<u8>,
    ready: VecDeque<Event>,
}

impl EventFollower {
    /// The next event, waited for; none after `timeout` without one.
    ///
    /// # Errors
    /// A failed call.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let begin = Instant::now();
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.read()? {
                continue;
            }
            let left = timeout.map(|timeout| timeout.saturating_sub(begin.elapsed()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.wait(left);
        }
    }

    /// Opens the oldest file that is there.
    fn begin(&mut self) -> Result<()> {
        loop {
            let current = files::open_regular(self.store.dir(), CURRENT)?;
            let before = files::open_regular(self.store.dir(), BEFORE)?;
            // Both the same: rotated between the two looks.
            if let (Some((_, one)), Some((_, other))) = (&current, &before)
                && files::inode(one) == files::inode(other)
            {
                continue;
            }
            self.file = before.or(current);
            return Ok(());
        }
    }

    fn open_at_end(&self) -> Result<Option<(File, Stat)>> {
        let current = files::open_regular(self.store.dir(), CURRENT)?;
        // Just put aside, and nothing happened since.
        let opened =
            current.map_or_else(|| files::open_regular(self.store.dir(), BEFORE), |one| Ok(Some(one)))?;
        if let Some((file, _)) = &opened {
            rustix::fs::seek(file, rustix::fs::SeekFrom::End(0)).call("lseek", String::new).about(CURRENT)?;
        }
        Ok(opened)
    }

    /// Reads what has come; false where there is nothing new.
    fn read(&mut self) -> Result<bool> {
        let Some((file, stat)) = &self.file else {
            self.begin()?;
            return Ok(self.file.is_some());
        };
        // Looked at before the end is reached: nothing is written to a file that lost its name.
        let is_current = files::is_named(self.store.dir(), CURRENT, stat)?;
        let mut chunk = vec![0; BUFFER];
        let mut file = file;
        match file.read(&mut chunk).call("read", String::new).about(CURRENT)? {
            0 if is_current => Ok(false),
            0 => self.advance(),
            count => {
                self.bytes.extend_from_slice(&chunk[..count]);
                self.split();
                Ok(true)
            }
        }
    }

    /// Goes on to the file after one that was replaced; false where there is none yet.
    fn advance(&mut self) -> Result<bool> {
        let ours = self.file.as_ref().map(|(_, stat)| files::inode(stat));
        let is_next = |opened: &(File, Stat)| Some(files::inode(&opened.1)) != ours;
        // Where two files were filled meanwhile, the one before the current is not ours either.
        let next = match files::open_regular(self.store.dir(), BEFORE)?.filter(is_next) {
            Some(before) => Some(before),
            None => files::open_regular(self.store.dir(), CURRENT)?.filter(is_next),
        };
        let Some(next) = next else { return Ok(false) };
        self.file = Some(next);
        self.bytes.clear();
        Ok(true)
    }

    fn split(&mut self) {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            if let Ok(event) = serde_json::from_slice::<Event>(&line)
                && self.span.has(&event)
            {
                self.ready.push_back(event);
            }
        }
        if self.bytes.len() > LINE_LIMIT {
            // No line of ours.
            self.bytes.clear();
        }
    }

    fn wait(&self, left: Option<Duration>) {
        let Some(watch) = &self.watch else {
            std::thread::sleep(left.unwrap_or(LOOK_AGAIN_BLIND).min(LOOK_AGAIN_BLIND));
            return;
        };
        let time = left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
        let timeout = Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos().into() };
        // Whatever it answers, a look follows.
        let _ = rustix::event::poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout));
        let mut buffer = [0_u8; 4096];
        while rustix::io::read(watch, &mut buffer).is_ok_and(|count| count > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_never_too_long_for_one_write() {
        let labels = (0..100).map(|n| (format!("key-{n}"), "v".repeat(n * 2))).collect();
        let event = Event::new(Subject::Container, "create", "a".repeat(64), "web").with_all(&labels);
        let line = event.to_line().expect("a line");
        assert!(line.len() <= LINE_LIMIT && line.len() > LINE_LIMIT / 2, "{}", line.len());
        let read: Event = serde_json::from_slice(&line).expect("JSON");
        assert_eq!((read.action.as_str(), read.name.as_str()), ("create", "web"));
        assert!(read.attributes.contains_key("key-1") && !read.attributes.contains_key("key-99"));
        let hopeless = Event::new(Subject::Image, "tag", "x", "n".repeat(5000));
        assert_eq!(hopeless.to_line(), None);
    }

    #[test]
    fn an_event_of_a_later_version_is_read() {
        let event: Event = serde_json::from_str(
            r#"{"time":"2026-01-01T00:00:00Z","kind":"network","action":"connect","id":"x","more":1}"#,
        )
        .expect("an event");
        assert_eq!(event.kind, Subject::Other);
    }
}
