//! Bytes between the caller's terminal and the container's: two fixed buffers, so nothing grows when a side is slow.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::Winsize;

use crate::error::{Error, Result};
use crate::supervise::Beside;
use crate::terminal::{RawTerminal, window_size};

/// A pipe takes this much at once without blocking when it is ready at all (`PIPE_BUF`, pipe(7)).
const CHUNK_BYTES: usize = 4096;
/// How many of these are still moved once the container has ended, some megabytes: who lives on without a pid namespace of the
/// container's own may write for ever.
const LAST_CHUNKS: usize = 1024;

/// A relay between two terminals.
#[derive(Debug)]
pub struct Relay {
    keyboard: RawTerminal,
    output: OwnedFd,
    master: OwnedFd,
    towards: Buffer,
    back: Buffer,
    /// The keyboard has hung up.
    deaf: bool,
    /// The container's side has closed its terminal.
    closed: bool,
    /// Nobody reads the output any more.
    unread: bool,
}

impl Relay {
    /// A relay from `keyboard` to the container's `master`, and from there to `output`.
    pub fn new(keyboard: RawTerminal, output: OwnedFd, master: OwnedFd) -> Self {
        let relay = Self {
            keyboard,
            output,
            master,
            towards: Buffer::default(),
            back: Buffer::default(),
            deaf: false,
            closed: false,
            unread: false,
        };
        relay.fit();
        relay
    }

    /// Tells the container's terminal the size of the caller's.
    fn fit(&self) {
        if let Some((ws_row, ws_col)) = window_size(self.keyboard.as_fd()) {
            let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
            // A container that ended just now has no terminal to resize.
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// Writes to the output; when its reader is gone the bytes are dropped and the container goes on.
    fn write_back(&mut self) -> Result<()> {
        if self.unread || !self.back.empty_into(self.output.as_fd())? {
            self.unread = true;
            self.back.clear();
        }
        Ok(())
    }
}

impl Beside for Relay {
    fn resize(&self) -> bool {
        self.fit();
        true
    }

    /// The keyboard, the master, the output.
    fn wishes(&self) -> Vec<PollFd<'_>> {
        let when = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let keyboard = when(self.towards.is_empty() && !self.deaf, PollFlags::IN);
        let master = when(self.back.is_empty() && !self.closed, PollFlags::IN)
            | when(!self.towards.is_empty() && !self.closed, PollFlags::OUT);
        let output = when(!self.back.is_empty(), PollFlags::OUT);
        // A descriptor with no wishes still reports hang-ups, which would make poll spin: it watches the output instead.
        let quiet = self.output.as_fd();
        let or_quiet = |fd, flags: PollFlags| {
            let fd = if flags.is_empty() { quiet } else { fd };
            PollFd::from_borrowed_fd(fd, flags)
        };
        vec![
            or_quiet(self.keyboard.as_fd(), keyboard),
            or_quiet(self.master.as_fd(), master),
            PollFd::from_borrowed_fd(quiet, output),
        ]
    }

    fn step(&mut self, ready: &[PollFlags]) -> Result<()> {
        let &[keyboard, master, output] = ready else { unreachable!("as many as there were wishes") };
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        if self.towards.is_empty() && !self.deaf && keyboard.intersects(readable) {
            self.deaf = !self.towards.fill(self.keyboard.as_fd())?;
        }
        if !self.towards.is_empty() && !self.closed && master.contains(PollFlags::OUT) {
            self.closed = !self.towards.empty_into(self.master.as_fd())?;
        }
        if self.back.is_empty() && !self.closed && master.intersects(readable) {
            self.closed = !self.back.fill(self.master.as_fd())?;
        }
        if !self.back.is_empty() && !output.is_empty() {
            self.write_back()?;
        }
        Ok(())
    }

    fn drain(&mut self) {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        for _ in 0..LAST_CHUNKS {
            if !self.back.is_empty() && self.write_back().is_err() {
                return;
            }
            let mut watched = [PollFd::new(&self.master, PollFlags::IN)];
            let ready = poll(&mut watched, Some(&at_once)).unwrap_or(0);
            if ready == 0 || !self.back.fill(self.master.as_fd()).unwrap_or(false) {
                return;
            }
        }
    }
}

/// Bytes on their way.
#[derive(Debug)]
struct Buffer {
    bytes: [u8; CHUNK_BYTES],
    start: usize,
    end: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: [0; CHUNK_BYTES], start: 0, end: 0 }
    }
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Reads once; false at the end of the input. A terminal whose other side is closed answers `EIO`.
    fn fill(&mut self, from: BorrowedFd<'_>) -> Result<bool> {
        match rustix::io::read(from, &mut self.bytes) {
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(read) => {
                (self.start, self.end) = (0, read);
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(errno) => Err(Error::Sys(sys::Error::new("read", "terminal", errno))),
        }
    }

    /// Writes once; false where nobody reads any more.
    fn empty_into(&mut self, to: BorrowedFd<'_>) -> Result<bool> {
        match rustix::io::write(to, &self.bytes[self.start..self.end]) {
            Ok(written) => {
                self.start += written;
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(Errno::PIPE | Errno::IO) => Ok(false),
            Err(errno) => Err(Error::Sys(sys::Error::new("write", "terminal", errno))),
        }
    }
}
