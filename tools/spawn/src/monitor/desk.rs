//! What a monitor does while its container runs: output to the log and to who is attached, their input to the container.
//!
//! Nothing grows: a fixed buffer is read into, an unfinished line is held up to 16 KiB, and each one attached has at most one
//! message waiting. While one waits no output is read, for two seconds at most; then its connection ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use runtime::Beside;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::monitor::client::Client;
use crate::monitor::journal::{Journal, Stream};
use crate::wire::{self, Hello};

/// What is still read of a stream once the container has ended: more than a pipe holds by default
/// (/proc/sys/fs/pipe-max-size). Who lives on without a pid namespace of the container's own may write for ever.
const LAST_WORDS_BYTES: usize = 4 << 20;

/// How many may be attached at once.
const CLIENTS: usize = 64;

/// The streams of a container that are not sent elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Where its input goes.
    pub(crate) input: Option<OwnedFd>,
    /// Where its output comes from.
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// Input and output are a terminal.
    pub(crate) terminal: bool,
}

/// The work.
#[derive(Debug)]
pub(crate) struct Desk {
    ends: Ends,
    journal: Option<Journal>,
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    /// Input that the container has not taken yet.
    pending: Vec<u8>,
    /// The input ends once that is taken.
    ends_input: bool,
    buffer: Vec<u8>,
}

/// Something that is polled.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Output(Stream),
    Input,
    Listener,
    Client(usize),
}

impl Desk {
    pub(crate) fn new(ends: Ends, journal: Option<Journal>) -> Self {
        for end in [&ends.input, &ends.stdout, &ends.stderr].into_iter().flatten() {
            // Best effort: a stream that can be opened can be told not to wait.
            let _ = rustix::io::ioctl_fionbio(end, true);
        }
        Self {
            ends,
            journal,
            listener: None,
            clients: Vec::new(),
            pending: Vec::new(),
            ends_input: false,
            buffer: vec![0; wire::MESSAGE_BYTES],
        }
    }

    /// From now on who connects there is attached.
    pub(crate) fn listen(&mut self, listener: Option<OwnedFd>) {
        self.listener = listener;
    }

    /// Attaches one from the first byte on.
    pub(crate) fn attach(&mut self, socket: OwnedFd) {
        let mut client = Client::new(socket);
        client.owns_input = true;
        self.clients.push(client);
        self.hear(self.clients.len() - 1);
    }

    /// Tells all that the container has ended.
    pub(crate) fn end(mut self, code: u8) {
        // Who connected at the last moment learns of it, too.
        self.accept();
        for client in &mut self.clients {
            client.flush_patiently();
            client.tell(&[wire::EXIT, code]);
            client.flush_patiently();
        }
    }

    fn slots(&self) -> Vec<(Slot, PollFlags)> {
        let mut slots = Vec::new();
        let is_full = self.clients.iter().any(Client::is_full);
        if !is_full {
            let outputs = [(Stream::Stdout, &self.ends.stdout), (Stream::Stderr, &self.ends.stderr)];
            let open = outputs.into_iter().filter(|(_, end)| end.is_some());
            slots.extend(open.map(|(stream, _)| (Slot::Output(stream), PollFlags::IN)));
        }
        if self.ends.input.is_some() && !self.pending.is_empty() {
            slots.push((Slot::Input, PollFlags::OUT));
        }
        if self.listener.is_some() && self.clients.len() < CLIENTS {
            slots.push((Slot::Listener, PollFlags::IN));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.pending.is_empty());
            flags.set(PollFlags::OUT, client.is_full());
            slots.push((Slot::Client(index), flags));
        }
        slots
    }

    fn end_of(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        let end = match slot {
            Slot::Output(stream) => self.output(stream).as_ref(),
            Slot::Input => self.ends.input.as_ref(),
            Slot::Listener => self.listener.as_ref(),
            Slot::Client(index) => self.clients.get(index).map(|client| &client.socket),
        };
        end.map(AsFd::as_fd)
    }

    fn output(&self, stream: Stream) -> &Option<OwnedFd> {
        match stream {
            Stream::Stdout => &self.ends.stdout,
            Stream::Stderr => &self.ends.stderr,
        }
    }

    /// Reads once, for the log and for who is attached; how many bytes, or none where there is nothing now.
    fn read(&mut self, stream: Stream) -> Option<usize> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.output(stream).as_ref().map_or(Ok(0), |end| rustix::io::read(end, &mut buffer[..]));
        let taken = match read {
            Ok(got) if got > 0 => {
                if let Some(journal) = &mut self.journal {
                    journal.take(stream, &buffer[..got]);
                }
                self.tell(stream, &buffer[..got]);
                Some(got)
            }
            Err(Errno::AGAIN) => None,
            Err(Errno::INTR) => Some(0),
            // A terminal whose other side is closed answers EIO.
            _ => {
                match stream {
                    Stream::Stdout => self.ends.stdout = None,
                    Stream::Stderr => self.ends.stderr = None,
                }
                None
            }
        };
        self.buffer = buffer;
        taken
    }

    fn tell(&mut self, stream: Stream, bytes: &[u8]) {
        if self.clients.iter().all(|client| !client.listens) {
            return;
        }
        let kind = if stream == Stream::Stdout { wire::STDOUT } else { wire::STDERR };
        let message = wire::message(kind, bytes);
        self.clients.iter_mut().filter(|client| client.listens).for_each(|client| client.tell(&message));
    }

    fn accept(&mut self) {
        while let Some(listener) = self.listener.as_ref().filter(|_| self.clients.len() < CLIENTS) {
            match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => self.clients.push(Client::new(socket)),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
            self.hear(self.clients.len() - 1);
        }
    }

    /// Takes what one attached says, until there is input to be handed on.
    fn hear(&mut self, index: usize) {
        while self.pending.is_empty() {
            let Some(message) = self.clients[index].hear() else { return };
            let Some((kind, bytes)) = message.split_first() else { return };
            let client = &mut self.clients[index];
            match *kind {
                wire::ATTACH => {
                    client.listens = true;
                    let hello = Hello { terminal: self.ends.terminal, input: self.ends.input.is_some() };
                    client.tell(&wire::message(wire::ATTACH, &hello.to_bytes()));
                }
                wire::INPUT if self.ends.input.is_some() => {
                    self.pending = bytes.to_vec();
                    self.feed();
                }
                wire::END_OF_INPUT if client.owns_input && !self.ends.terminal => {
                    self.ends_input = true;
                    self.feed();
                }
                wire::RESIZE => self.resize_to(bytes),
                _ => {}
            }
        }
    }

    /// Writes pending input as far as the container takes it.
    fn feed(&mut self) {
        let Some(input) = self.ends.input.as_ref().filter(|_| !self.pending.is_empty()) else {
            if self.ends_input {
                self.ends.input = None;
            }
            return;
        };
        match rustix::io::write(input, &self.pending) {
            Ok(written) => drop(self.pending.drain(..written)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // It has closed its stdin.
            Err(_) => {
                self.pending.clear();
                self.ends.input = None;
            }
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
            if self.ends_input {
                self.ends.input = None;
            }
        }
    }

    /// Lets go of who is gone; input that was theirs ends.
    fn forget(&mut self) {
        let owner = self.clients.iter().any(|client| client.gone && client.owns_input);
        self.clients.retain(|client| !client.gone);
        if owner && !self.ends.terminal {
            self.ends_input = true;
            self.feed();
        }
    }

    fn resize_to(&self, bytes: &[u8]) {
        let (Some(master), true) = (&self.ends.input, self.ends.terminal) else { return };
        let &[r0, r1, c0, c1] = bytes else { return };
        let (rows, columns) = (u16::from_ne_bytes([r0, r1]), u16::from_ne_bytes([c0, c1]));
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // A container that ended just now has no terminal to resize.
        let _ = rustix::termios::tcsetwinsize(master, size);
    }
}

impl Beside for Desk {
    fn wishes(&self) -> Vec<PollFd<'_>> {
        let slots = self.slots().into_iter();
        slots
            .filter_map(|(slot, flags)| self.end_of(slot).map(|end| PollFd::from_borrowed_fd(end, flags)))
            .collect()
    }

    fn deadline(&self) -> Option<Instant> {
        self.clients.iter().filter_map(Client::deadline).min()
    }

    fn step(&mut self, found: &[PollFlags]) -> runtime::Result<()> {
        for ((slot, _), found) in self.slots().into_iter().zip(found) {
            match slot {
                Slot::Client(index) => {
                    self.clients[index].flush();
                    if found.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                        self.hear(index);
                    }
                    let hung_up = found.intersects(PollFlags::HUP | PollFlags::ERR);
                    // With input pending nothing of it is read.
                    self.clients[index].gone |= hung_up && !self.pending.is_empty();
                }
                _ if found.is_empty() => {}
                Slot::Output(stream) => {
                    // The other stream may have filled somebody up since.
                    if !self.clients.iter().any(Client::is_full) {
                        self.read(stream);
                    }
                }
                Slot::Input => self.feed(),
                Slot::Listener => self.accept(),
            }
        }
        self.forget();
        Ok(())
    }

    fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut last = 0;
            while last < LAST_WORDS_BYTES {
                self.clients.iter_mut().for_each(Client::flush_patiently);
                let Some(taken) = self.read(stream) else { break };
                last += taken;
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.finish();
        }
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_writing_after_the_containers_end_keeps_no_monitor() {
        let endless = std::fs::File::open("/dev/zero").expect("open");
        let ends = Ends { stdout: Some(endless.into()), ..Ends::default() };
        let mut desk = Desk::new(ends, None);
        desk.drain();
        // What a pipe had is read to its end.
        let (read, write) = std::io::pipe().expect("a pipe");
        rustix::io::write(&write, b"last words").expect("write");
        let mut desk = Desk::new(Ends { stdout: Some(read.into()), ..Ends::default() }, None);
        desk.drain();
        assert_eq!(rustix::io::ioctl_fionread(desk.ends.stdout.as_ref().expect("open")), Ok(0));
    }
}
