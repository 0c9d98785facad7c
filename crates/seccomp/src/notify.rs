//! Handing a filter's listener to the supervisor that the profile names (runtime-spec, config-linux.md, "The Container
//! Process State").

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{ContainerProcessState, SECCOMP_FD_NAME, State};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect as connect_to, send as send_rest, sendmsg, socket_with,
};

use crate::error::{Error, Result};

/// Connects to the supervisor's socket, a stream, at a path of the host.
///
/// # Errors
/// [`Error::Listener`]: `ENOENT` where nobody has made the socket, `ECONNREFUSED` where nobody listens any more.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let failed = |call| move |errno| Error::Listener { path: path.into(), call, errno };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(failed("socket"))?;
    let address = SocketAddrUnix::new(path).map_err(failed("connect"))?;
    connect_to(&socket, &address).map_err(failed("connect"))?;
    Ok(socket)
}

/// The document that goes with the listener: the process `pid`, as the runtime sees it, of the container in `state`.
pub fn process_state(state: State, pid: i32, metadata: Option<&str>) -> ContainerProcessState {
    let mut document = ContainerProcessState::default();
    document
        .set_version(state.version().clone())
        .set_fds(vec![SECCOMP_FD_NAME.into()])
        .set_pid(pid)
        .set_metadata(metadata.map(String::from))
        .set_state(state);
    document
}

/// Sends the document with the listener to the supervisor at the other end of `socket`; `path` is its name for messages.
///
/// # Errors
/// [`Error::Listener`]: `EPIPE` where the supervisor has gone.
pub fn send(
    socket: BorrowedFd<'_>,
    path: &Path,
    document: &ContainerProcessState,
    listener: impl AsFd,
) -> Result<()> {
    let failed = |errno| Error::Listener { path: path.into(), call: "sendmsg", errno };
    let bytes = serde_json::to_vec(document).map_err(|_| failed(Errno::INVAL))?;
    let fds = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(&fds));
    let mut sent =
        sendmsg(socket, &[IoSlice::new(&bytes)], &mut rights, SendFlags::NOSIGNAL).map_err(failed)?;
    while sent < bytes.len() {
        sent += send_rest(socket, &bytes[sent..], SendFlags::NOSIGNAL).map_err(failed)?;
    }
    Ok(())
}
