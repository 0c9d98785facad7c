//! `NOTIFY_SOCKET`: a container tells its manager that it is ready, through its runtime (sd_notify(3)).
//!
//! The container gets a socket of its own, never the manager's: of what it says only that it is ready goes on.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use sys::{Call, Root};

use crate::error::{Error, Result};

/// The directory with the socket, in the container's own.
pub(crate) const DIRECTORY: &str = "notify";
/// The socket in it.
pub(crate) const SOCKET: &str = "notify.sock";
/// Where the container finds the directory (runc's place).
const INSIDE: &str = "/run/notify";
/// No message is longer: systemd's own bound.
const MESSAGE_BYTES: usize = 4096;
/// How long the manager may take to say that it has read all (runc's bound).
const BARRIER: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Lets the container find its socket: a mount, and the variable that names it.
pub(crate) fn add(spec: &mut Spec, directory: &Path) -> Result<()> {
    let wrong = |e: serde_json::Error| Error::Invalid { member: "mounts".into(), why: e.to_string() };
    let mount: Mount = crate::typed(&serde_json::json!({
        "destination": INSIDE,
        "type": "bind",
        "source": directory,
        "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
    }))
    .map_err(wrong)?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    add_environment(spec, [format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}")]);
    Ok(())
}

/// Adds variables to the process's environment.
pub(crate) fn add_environment(spec: &mut Spec, more: impl IntoIterator<Item = String>) {
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(more);
        process.set_env(Some(env));
    }
}

/// A container's socket, and whom its word is for.
#[derive(Debug)]
pub struct Notify {
    socket: OwnedFd,
    manager: OwnedFd,
}

impl Notify {
    /// Makes the socket in the container's directory; none where the container was made without a place for it.
    pub(crate) fn new(directory: &Root, manager: &OsStr) -> Result<Option<Self>> {
        let place = match directory.open_dir(DIRECTORY) {
            Err(error) if error.is_not_found() => return Ok(None),
            place => place?,
        };
        let socket = datagrams()?;
        use std::os::fd::AsRawFd;
        // By descriptor: a socket's path may be 107 bytes long only.
        let path = format!("/proc/self/fd/{}/{SOCKET}", place.as_fd().as_raw_fd());
        let address = SocketAddrUnix::new(path).call("bind", || SOCKET.into())?;
        match rustix::fs::unlinkat(&place, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(sys::Error::new("unlinkat", SOCKET, errno).into()),
        }
        rustix::net::bind(&socket, &address).call("bind", || SOCKET.into())?;
        // Whatever user the container's process is.
        let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        rustix::fs::chmodat(&place, SOCKET, all, AtFlags::empty()).call("fchmodat", || SOCKET.into())?;
        let address = address_of(manager).call("connect", || format!("{manager:?}"))?;
        let host = datagrams()?;
        rustix::net::connect(&host, &address).call("connect", || format!("{manager:?}"))?;
        Ok(Some(Self { socket, manager: host }))
    }

    /// Waits until the container is ready, or has ended, and tells the manager; `main` is who it is to watch from then on.
    ///
    /// # Errors
    /// Those of the sockets.
    pub fn forward(&self, container: &OwnedFd, main: u32) -> Result<()> {
        let mut message = [0; MESSAGE_BYTES];
        loop {
            let mut watched =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(container, PollFlags::IN)];
            match poll(&mut watched, None) {
                Err(Errno::INTR) => continue,
                answer => answer.call("poll", || SOCKET.into())?,
            };
            if watched[0].revents().is_empty() {
                return Ok(());
            }
            let (length, _) = rustix::net::recv(&self.socket, &mut message, RecvFlags::DONTWAIT)
                .call("recv", || SOCKET.into())?;
            let mut lines = message[..length.min(MESSAGE_BYTES)].split(|&byte| byte == b'\n');
            if let Some(ready) = lines.find(|line| line.starts_with(b"READY=")) {
                return self.tell(ready, main);
            }
        }
    }

    fn tell(&self, ready: &[u8], main: u32) -> Result<()> {
        for text in [[ready, b"\n"].concat(), format!("MAINPID={main}\n").into_bytes()] {
            let failed = || String::from_utf8_lossy(&text).trim().to_string();
            rustix::net::send(&self.manager, &text, SendFlags::NOSIGNAL).call("send", failed)?;
        }
        self.barrier()
    }

    /// Waits until the manager has read what was said, as it may ask who said so: it closes the pipe then.
    fn barrier(&self) -> Result<()> {
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", || "O_CLOEXEC".into())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [write.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(
            &self.manager,
            &[IoSlice::new(b"BARRIER=1")],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .call("sendmsg", || "BARRIER=1".into())?;
        drop(write);
        let mut watched = [PollFd::new(&read, PollFlags::IN)];
        // A manager that knows nothing of barriers has been told all the same.
        poll(&mut watched, Some(&BARRIER)).call("poll", || "BARRIER=1".into())?;
        Ok(())
    }
}

fn datagrams() -> Result<OwnedFd> {
    let made = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    Ok(made.call("socket", || "AF_UNIX, SOCK_DGRAM".into())?)
}

/// A path, or after `@` a name that is none.
fn address_of(name: &OsStr) -> rustix::io::Result<SocketAddrUnix> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name),
        None => SocketAddrUnix::new(name),
    }
}
