//! What goes through a runtime as a descriptor: those that the caller hands to the container, and the container's own
//! process for who asked for it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use runtime::Error;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use sys::Call;

use crate::verbs::Result;

/// The first descriptor beyond the standard ones.
const FIRST: u32 = 3;

/// What a service manager has opened for this process (sd_listen_fds(3)).
#[derive(Debug, Default)]
pub(crate) struct Listening {
    /// How many sockets, from number 3 on.
    pub(crate) count: u32,
    /// What the container is told of them.
    pub(crate) environment: Vec<String>,
}

/// Looks whether there are any, and for this process.
pub(crate) fn listening() -> Listening {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Listening::default();
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    if count == 0 {
        return Listening::default();
    }
    let mut environment = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".into()];
    environment.extend(std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}")));
    Listening { count, environment }
}

/// Makes sure that the caller has opened what it wants to be handed on. To be called before anything else is opened, which
/// could stand in its place.
pub(crate) fn preserved(listening: u32, preserved: u32) -> Result<u32> {
    let all = listening.checked_add(preserved).filter(|&all| all <= i32::MAX.unsigned_abs() - FIRST);
    let all = all.ok_or_else(|| sys::Error::new("fcntl", "--preserve-fds, too many", Errno::BADF))?;
    for number in FIRST..FIRST + all {
        if !sys::process::is_open(number.cast_signed()) {
            let what = format!("{number}, which is to be preserved, is not open");
            return Err(sys::Error::new("fcntl", what, Errno::BADF).into());
        }
    }
    Ok(all)
}

/// Connects to who takes a process's descriptor.
pub(crate) fn connect(path: &PathBuf) -> Result<OwnedFd> {
    let text = || format!("{path:?}");
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .call("socket", text)?;
    let address = SocketAddrUnix::new(path).call("connect", text)?;
    rustix::net::connect(&socket, &address).call("connect", text)?;
    Ok(socket)
}

/// Sends it, with the word that runc sends beside it: what kind of process it is.
pub(crate) fn send(socket: &OwnedFd, kind: &str, pidfd: &OwnedFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [pidfd.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(kind.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)
        .call("sendmsg", || "SCM_RIGHTS, pidfd".into())
        .map(drop)
        .map_err(Error::from)
}
