//! What a monitor and who is attached say to each other: messages of a socket that keeps their bounds (`SOCK_SEQPACKET`), a
//! kind and its bytes.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use sys::{Call, Result, Root};

/// The socket's name in a bundle.
pub(crate) const SOCKET: &str = "attach";
/// The most bytes of a message beside its kind.
pub(crate) const MESSAGE_BYTES: usize = 16 << 10;

/// To the monitor: send me the output; to who is attached: you get it, and [`Hello`].
pub(crate) const ATTACH: u8 = b'a';
/// To the monitor: bytes for the container's stdin.
pub(crate) const INPUT: u8 = b'i';
/// To the monitor: there is no more input.
pub(crate) const END_OF_INPUT: u8 = b'e';
/// To the monitor: rows and columns of the terminal, two bytes each.
pub(crate) const RESIZE: u8 = b'r';
/// From the monitor: output.
pub(crate) const STDOUT: u8 = b'1';
/// From the monitor: output to stderr.
pub(crate) const STDERR: u8 = b'2';
/// From the monitor: the container has ended, with this status.
pub(crate) const EXIT: u8 = b'x';

/// How a container's streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    /// They are a terminal.
    pub(crate) terminal: bool,
    /// Its stdin takes input.
    pub(crate) input: bool,
}

impl Hello {
    pub(crate) fn to_bytes(self) -> [u8; 2] {
        [self.terminal.into(), self.input.into()]
    }

    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let &[terminal, input] = bytes else { return None };
        Some(Self { terminal: terminal != 0, input: input != 0 })
    }
}

/// Both ends of a connection.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .call("socketpair", || "AF_UNIX, SOCK_SEQPACKET".into())
}

/// Listens in a bundle, in place of a monitor that was killed.
pub(crate) fn listen(bundle: &Root) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .call("socket", || "AF_UNIX, SOCK_SEQPACKET".into())?;
    match rustix::fs::unlinkat(bundle, SOCKET, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).call("unlinkat", || SOCKET.into()),
    }
    rustix::net::bind(&socket, &address(bundle)?).call("bind", || SOCKET.into())?;
    rustix::net::listen(&socket, 8).call("listen", || SOCKET.into())?;
    Ok(socket)
}

/// Connects to who listens in a bundle.
pub(crate) fn connect(bundle: &Root) -> Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .call("socket", || "AF_UNIX, SOCK_SEQPACKET".into())?;
    rustix::net::connect(&socket, &address(bundle)?).call("connect", || SOCKET.into())?;
    Ok(socket)
}

/// The socket's address by the bundle's descriptor: paths of stores may be longer than an address.
fn address(bundle: &Root) -> Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{SOCKET}", bundle.as_fd().as_raw_fd());
    SocketAddrUnix::new(&path).call("sockaddr_un", || path)
}

/// Sends a message.
pub(crate) fn send(socket: impl AsFd, message: &[u8], flags: SendFlags) -> rustix::io::Result<()> {
    loop {
        match rustix::net::send(&socket, message, flags | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            answer => return answer.map(drop),
        }
    }
}

/// A message of this kind.
pub(crate) fn message(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(kind);
    message.extend_from_slice(bytes);
    message
}

/// Receives a message; an empty one is the other end's end.
pub(crate) fn receive(socket: impl AsFd, flags: RecvFlags) -> rustix::io::Result<Vec<u8>> {
    let mut bytes = [MaybeUninit::uninit(); 1 + MESSAGE_BYTES];
    loop {
        match rustix::net::recv(&socket, &mut bytes, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(Vec::new()),
            answer => return answer.map(|((got, _), _)| got.to_vec()),
        }
    }
}
