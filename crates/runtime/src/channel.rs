//! What a container's init and its runtime say to each other: packets on a socket that exec closes.
//!
//! At a named point init says that it has come there and waits for a word; whatever it says else is a report of what
//! failed. The end of the packets, without a report, means that the command was executed. A runtime that dies ends them
//! the other way, and init ends too.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use sys::{Call, Error, Result};

use crate::report::Report;

/// No packet is longer; texts in reports are cut to fit.
const PACKET_BYTES: usize = 65_536;
/// The word that lets init go on, with the last of what comes with it.
const GO: &[u8] = b"go";
/// What begins a packet with a part of that: the state has all annotations in it, and some engines hand on all of a pod's.
const PART: &[u8] = b"++";
/// No part is longer.
const PART_BYTES: usize = 32_768;

/// A point of the setup at which init waits for its runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// It exists: its id mappings and control groups are the runtime's to arrange.
    Born,
    /// Its file systems are mounted and the host is still in reach: the place of the hooks before `pivot_root(2)`.
    Mounted,
    /// Nothing is left to do but what `start` does.
    Ready,
    /// Its system calls are filtered, and who is to answer some of them needs the descriptor that has this number in it.
    Listening(RawFd),
}

/// What begins the packet of a listener.
const LISTENING: &[u8] = b"listening ";

impl Point {
    const ALL: [Self; 3] = [Self::Born, Self::Mounted, Self::Ready];

    fn word(self) -> &'static [u8] {
        match self {
            Self::Born => b"born",
            Self::Mounted => b"mounted",
            Self::Ready => b"ready",
            Self::Listening(_) => LISTENING,
        }
    }

    /// The point that a packet names.
    fn of(packet: &[u8]) -> Option<Self> {
        if let Some(number) = packet.strip_prefix(LISTENING) {
            return std::str::from_utf8(number).ok()?.parse().ok().map(Self::Listening);
        }
        Self::ALL.iter().find(|point| point.word() == packet).copied()
    }
}

/// What init said.
#[derive(Debug)]
pub(crate) enum Said {
    /// It waits at a point.
    Reached(Point),
    /// Something failed; init has ended or is about to.
    Failed(Report),
    /// The socket was closed: the command runs, or init is dead.
    Nothing,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Two ends joined to each other.
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .call("socketpair", || "AF_UNIX, SOCK_SEQPACKET".into())?;
        Ok((Self(one), Self(other)))
    }

    pub(crate) fn from_fd(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// In init: waits at a point until the runtime has done its part; what came with its word.
    pub(crate) fn reach(&self, point: Point) -> Result<Vec<u8>> {
        self.send(point.word())?;
        self.may_go()?.ok_or_else(|| Error::new("recv", "the runtime has died", Errno::SRCH))
    }

    /// In init, whose calls are filtered already: tells of the filter's listener, and waits until the runtime has a copy.
    ///
    /// Of what a filter may ask others about, write(2) is not one; and whoever is asked about read(2) has the listener then.
    pub(crate) fn offer(&self, listener: BorrowedFd<'_>) -> Result<()> {
        let mut packet = LISTENING.to_vec();
        packet.extend(listener.as_raw_fd().to_string().bytes());
        rustix::io::write(&self.0, &packet).call("write", || "listener".into())?;
        let mut answer = [0; 16];
        let length = rustix::io::read(&self.0, &mut answer).call("read", || "listener".into())?;
        if answer.get(..length) == Some(GO) {
            return Ok(());
        }
        Err(Error::new("read", "the runtime has died", Errno::SRCH))
    }

    /// In init: what came with the word to go on; none where the other end is gone.
    pub(crate) fn may_go(&self) -> Result<Option<Vec<u8>>> {
        let mut packet = vec![0; PACKET_BYTES];
        let mut all = Vec::new();
        loop {
            let length = self.receive(&mut packet)?;
            let packet = &packet[..length];
            if let Some(last) = packet.strip_prefix(GO) {
                all.extend_from_slice(last);
                return Ok(Some(all));
            }
            let Some(part) = packet.strip_prefix(PART) else { return Ok(None) };
            all.extend_from_slice(part);
        }
    }

    /// Gives the socket another number, close-on-exec; whatever had that number is closed.
    pub(crate) fn move_to(&mut self, number: RawFd) -> Result<()> {
        if self.0.as_raw_fd() != number {
            let copy = self.0.try_clone().call("dup", || "channel".into())?;
            self.0 = sys::process::move_to(copy, number).map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// In init: tells what failed; there is nobody left to tell where that fails.
    pub(crate) fn report(&self, report: &Report) {
        if let Ok(mut bytes) = serde_json::to_vec(report) {
            if bytes.len() > PACKET_BYTES {
                bytes = serde_json::to_vec(&report.shortened()).unwrap_or_default();
            }
            // A filter that is loaded may leave this process no other way to speak.
            if self.send(&bytes).is_err() {
                let _ = rustix::io::write(&self.0, &bytes);
            }
        }
    }

    /// In the runtime: lets init go on.
    ///
    /// `with` is the container's state where hooks follow, else nothing.
    pub(crate) fn go(&self, with: &[u8]) -> Result<()> {
        let mut rest = with;
        while rest.len() > PART_BYTES {
            let (part, after) = rest.split_at(PART_BYTES);
            self.send(&[PART, part].concat())?;
            rest = after;
        }
        if rest.is_empty() { self.send(GO) } else { self.send(&[GO, rest].concat()) }
    }

    /// In the runtime: what init says next.
    pub(crate) fn hear(&self) -> Result<Said> {
        let mut packet = vec![0; PACKET_BYTES];
        let length = match self.receive(&mut packet) {
            // Init died with packets of ours unread.
            Err(error) if error.errno == Errno::CONNRESET => 0,
            answer => answer?,
        };
        let packet = &packet[..length];
        if packet.is_empty() {
            return Ok(Said::Nothing);
        }
        if let Some(point) = Point::of(packet) {
            return Ok(Said::Reached(point));
        }
        let report = serde_json::from_slice(packet);
        report
            .map(Said::Failed)
            .map_err(|_| Error::new("recv", "a report that makes no sense", Errno::BADMSG))
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        let text = || format!("{} bytes", packet.len());
        // Init died, and with it packets of ours that it had not read: it is gone all the same.
        let gone = |errno| if errno == Errno::CONNRESET { Errno::PIPE } else { errno };
        rustix::net::send(&self.0, packet, SendFlags::NOSIGNAL).map_err(gone).call("send", text).map(drop)
    }

    fn receive(&self, packet: &mut [u8]) -> Result<usize> {
        loop {
            match rustix::net::recv(&self.0, &mut *packet, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                answer => return answer.map(|(length, _)| length).call("recv", || "channel".into()),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_goes_on_when_its_runtime_says_so_and_not_when_it_dies() {
        let (runtime, init) = Channel::pair().expect("a pair");
        runtime.go(b"{}").expect("sent");
        assert_eq!(init.reach(Point::Mounted).expect("the word was there"), b"{}");
        assert!(matches!(runtime.hear(), Ok(Said::Reached(Point::Mounted))));
        drop(runtime);
        assert_eq!(init.reach(Point::Ready).expect_err("nobody there").errno, Errno::PIPE);
    }

    #[test]
    fn a_state_of_any_length_comes_with_the_word() {
        for length in [0, 1, PART_BYTES, PART_BYTES + 1, PACKET_BYTES, 3 << 20] {
            let (runtime, init) = Channel::pair().expect("a pair");
            let state = vec![b'x'; length];
            let copy = state.clone();
            let sender = std::thread::spawn(move || runtime.go(&copy));
            assert_eq!(init.may_go().expect("a word").map(|all| all.len()), Some(length));
            sender.join().expect("a thread").expect("sent");
        }
    }

    #[test]
    fn a_failed_step_arrives_with_call_arguments_and_errno() {
        let (runtime, init) = Channel::pair().expect("a pair");
        let sent = Error::new("move_mount", "\"/proc\"", Errno::LOOP);
        init.report(&Report::step("mount /proc", &sent));
        let Ok(Said::Failed(report)) = runtime.hear() else { panic!("a report") };
        let error = report.into_error("sh");
        assert!(
            matches!(&error, crate::Error::Step { step, source } if step == "mount /proc" && *source == sent)
        );
    }

    #[test]
    fn a_report_too_long_for_a_packet_is_cut() {
        let (runtime, init) = Channel::pair().expect("a pair");
        init.report(&Report::step("mount", &Error::new("open", "x".repeat(1 << 20), Errno::NOENT)));
        let Ok(Said::Failed(Report::Step { step, args, .. })) = runtime.hear() else { panic!("a report") };
        assert_eq!(step, "mount");
        assert!(args.len() < PACKET_BYTES && args.ends_with("..."), "{}", args.len());
    }

    #[test]
    fn a_closed_channel_says_nothing() {
        let (runtime, init) = Channel::pair().expect("a pair");
        drop(init);
        assert!(matches!(runtime.hear(), Ok(Said::Nothing)));
    }
}
