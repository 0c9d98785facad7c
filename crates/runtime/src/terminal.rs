//! The container's terminal: allocated in its own devpts by descriptor, relayed to the caller's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Gid, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};
use sys::{Call, Error, Result, Root};

use crate::step::TerminalPlan;

/// The permission of a terminal's owner; its group, tty, may write (wall(1)).
const CONSOLE_MODE: Mode = Mode::from_raw_mode(0o620);

/// A pair of sockets for handing the master from the child to its parent.
pub(crate) fn sockets() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .call("socketpair", || "AF_UNIX".into())
}

/// In the child: a new terminal, controlling this session; its master goes to the parent.
///
/// The slave comes from the master itself (`TIOCGPTPEER`, Linux 4.13), never by a path that an image could have replaced.
pub(crate) fn allocate(root: &Root, socket: Option<BorrowedFd<'_>>, plan: &TerminalPlan) -> Result<OwnedFd> {
    let path = Path::new("dev/pts/ptmx");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master = root.open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&master).call("fstat", || format!("{path:?}"))?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || stat.st_rdev != makedev(5, 2) {
        return Err(Error::new("fstat", format!("{path:?} is no pty multiplexer"), Errno::NODEV));
    }
    sys::process::unlock_pty(&master)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, peer).call("ioctl", || "TIOCGPTPEER".into())?;
    if let Some((rows, columns)) = plan.size {
        resize(master.as_fd(), rows, columns)?;
    }
    // The terminal is ours to give away, unlike streams that came in; the group stays devpts's.
    rustix::fs::fchown(&slave, Some(plan.uid), None::<Gid>).call("fchown", || "terminal".into())?;
    sys::process::own_terminal(&slave)?;
    if plan.console {
        console(root, &slave)?;
    }
    let socket = socket.ok_or_else(|| Error::new("sendmsg", "no socket for the terminal", Errno::INVAL))?;
    send(socket, master.as_fd())?;
    Ok(slave)
}

/// Binds the terminal on a new file /dev/console, by descriptors.
fn console(root: &Root, slave: &OwnedFd) -> Result<()> {
    let dev = root.open_dir("dev")?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(&dev, c"console", flags, CONSOLE_MODE) {
        Ok(_) => {}
        // A configuration may have its own.
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(Error::new("openat", "\"/dev/console\"", errno)),
    }
    let target = dev.open("console", OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    let tree = sys::mount::clone_tree(slave.as_fd(), sys::mount::Extent::Mount)?;
    sys::mount::attach(tree.as_fd(), target.as_fd())
}

fn send(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [master];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let data = [std::io::IoSlice::new(b"t")];
    rustix::net::sendmsg(socket, &data, &mut ancillary, SendFlags::empty())
        .call("sendmsg", || "SCM_RIGHTS, terminal".into())
        .map(drop)
}

/// In the parent, once the child has executed its command: the master.
pub(crate) fn receive(socket: OwnedFd) -> Result<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8; 1];
    let mut data = [std::io::IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(&socket, &mut data, &mut ancillary, flags).call("recvmsg", || "terminal".into())?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(master) = fds.next()
        {
            return Ok(master);
        }
    }
    Err(Error::new("recvmsg", "no terminal came", Errno::NODATA))
}

/// Gives the terminal a size.
pub(crate) fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).call("ioctl", || format!("TIOCSWINSZ, {rows}x{columns}"))
}

/// The caller's terminal in raw mode; dropping it gives back the mode it had.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Opens the process's controlling terminal.
    ///
    /// # Errors
    /// `ENXIO` where it has none.
    pub fn open() -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(c"/dev/tty", flags, Mode::empty()).call("open", || "\"/dev/tty\"".into())
    }

    /// Makes the terminal raw: every key goes to the container.
    ///
    /// # Errors
    /// `ENOTTY` where it is none.
    pub fn new(terminal: OwnedFd) -> Result<Self> {
        let before = rustix::termios::tcgetattr(&terminal).call("ioctl", || "TCGETS".into())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)
            .call("ioctl", || "TCSETS".into())?;
        Ok(Self { terminal, before })
    }

    /// Rows and columns.
    pub fn size(&self) -> Option<(u16, u16)> {
        window_size(self.terminal.as_fd())
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

impl AsFd for RawTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

/// Rows and columns of a terminal, where it knows them.
pub fn window_size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
