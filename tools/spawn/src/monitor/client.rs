//! Who is attached, as the monitor sees it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::wire;

/// How long one that takes nothing may hold the container's output up; then it goes on without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    /// It wants the output, not the end alone.
    pub(crate) listens: bool,
    /// The container's stdin ends with this one's.
    pub(crate) owns_input: bool,
    /// A message that it has no room for yet, and since when.
    waiting: Option<(Vec<u8>, Instant)>,
    pub(crate) gone: bool,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, listens: false, owns_input: false, waiting: None, gone: false }
    }

    /// It has no room: no output is read until it has.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.is_some()
    }

    /// When there is no more patience with it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|(_, since)| *since + PATIENCE)
    }

    /// Sends it a message, or keeps that until there is room; one message at most is kept.
    pub(crate) fn tell(&mut self, message: &[u8]) {
        if self.gone {
            return;
        }
        match wire::send(&self.socket, message, SendFlags::DONTWAIT) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::NOBUFS) => self.waiting = Some((message.to_vec(), Instant::now())),
            Err(_) => self.gone = true,
        }
    }

    /// Sends what waits, if there is room; gives the connection up where that took too long.
    pub(crate) fn flush(&mut self) {
        let Some((message, since)) = self.waiting.take() else { return };
        self.tell(&message);
        let Some(waiting) = &mut self.waiting else { return };
        waiting.1 = since;
        if since.elapsed() >= PATIENCE {
            self.gone = true;
            self.waiting = None;
        }
    }

    /// The same, waiting for room.
    pub(crate) fn flush_patiently(&mut self) {
        while let Some(deadline) = self.deadline().filter(|_| !self.gone) {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&left));
            self.flush();
        }
    }

    /// The next message that came; none where there is none now.
    pub(crate) fn hear(&mut self) -> Option<Vec<u8>> {
        match wire::receive(&self.socket, RecvFlags::DONTWAIT) {
            Ok(message) if !message.is_empty() => Some(message),
            Err(Errno::AGAIN) => None,
            _ => {
                self.gone = true;
                None
            }
        }
    }
}
