//! What `create` and `run` share: the options that make a container of a bundle.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use runtime::lifecycle::{self, Creation, Id};
use runtime::{Error, Manner, Started, Stdio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sys::Call;

use crate::verbs::options::{Given, given};
use crate::verbs::{Global, Result, handover, pid_file};

/// A new container.
#[derive(Debug, clap::Args)]
pub(crate) struct Bundle {
    /// The container's id
    #[arg(value_name = "ID")]
    pub(crate) id: Id,

    /// The directory of config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,

    /// A socket that takes the master of the container's terminal
    #[arg(long, value_name = "SOCKET", value_parser = given(), default_value = "", hide_default_value = true)]
    pub(crate) console_socket: Given,

    /// A file to write the pid of the container's first process to
    #[arg(long, value_name = "FILE", value_parser = given(), default_value = "", hide_default_value = true)]
    pub(crate) pid_file: Given,

    /// Move the root over / instead of pivoting, for roots on a ramdisk
    #[arg(long)]
    pub(crate) no_pivot: bool,

    /// Leave the container in the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,

    /// A socket that takes a descriptor of the container's first process
    #[arg(long, value_name = "SOCKET", value_parser = given(), default_value = "", hide_default_value = true)]
    pub(crate) pidfd_socket: Given,

    /// How many descriptors from number 3 on the container gets, beside those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) preserve_fds: u32,
}

impl Bundle {
    /// Makes sure of the descriptors to hand on, before anything else is opened, and opens the bundle.
    pub(crate) fn open(&self, detached: bool) -> Result<Opened> {
        let listening = handover::listening();
        let preserved = handover::preserved(listening.count, self.preserve_fds)?;
        let mut bundle = lifecycle::Bundle::open(&self.bundle)?;
        bundle.add_environment(listening.environment);
        check_console(bundle.wants_terminal(), detached, self.console_socket.as_ref())?;
        let takes = self.pidfd_socket.as_ref().map(handover::connect).transpose()?;
        Ok(Opened { bundle, preserved, takes })
    }

    /// What is to be made, with these streams.
    pub(crate) fn creation(&self, global: &Global, opened: Opened, stdio: Stdio) -> Creation {
        Creation {
            id: self.id.clone(),
            bundle: opened.bundle,
            stdio,
            manager: manager(),
            manner: Manner {
                preserved: opened.preserved,
                keyring: !self.no_new_keyring,
                pivot: !self.no_pivot,
                reaper: false,
            },
            driver: global.driver(),
            rootless: global.is_rootless(),
        }
    }

    /// Tells who asked for it which process it is.
    pub(crate) fn tell(&self, takes: Option<&OwnedFd>, started: &Started) -> Result<()> {
        if let Some(socket) = takes {
            handover::send(socket, "standard", &started.pidfd)?;
        }
        pid_file::write(self.pid_file.as_deref(), started.pid)
    }
}

/// A bundle, and what the caller hands over beside it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) bundle: lifecycle::Bundle,
    /// How many descriptors go on.
    pub(crate) preserved: u32,
    /// Who takes the process's own.
    pub(crate) takes: Option<OwnedFd>,
}

/// The socket of the service manager that waits for the container.
pub(crate) fn manager() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
}

/// Who lets a terminal be made says where its other end goes, and who says that has one made (runc's rule).
pub(crate) fn check_console(terminal: bool, detached: bool, socket: Option<&PathBuf>) -> Result<()> {
    let why = match (terminal && detached, socket) {
        (true, None) => "a detached process with a terminal needs --console-socket",
        (false, Some(_)) => "--console-socket is for a detached process with a terminal",
        _ => return Ok(()),
    };
    Err(Error::Invalid { member: "process.terminal".into(), why: why.into() })
}

/// Copies of this process's own streams.
pub(crate) fn streams() -> Result<Stdio> {
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    Ok(Stdio::Streams([copy(&input)?, copy(&output)?, copy(&error)?]))
}

pub(crate) fn copy(stream: impl AsFd) -> Result<OwnedFd> {
    Ok(stream.as_fd().try_clone_to_owned().call("dup", || "a standard stream".into())?)
}

/// A connection to who takes the terminal's master.
pub(crate) fn console(path: &std::path::Path) -> Result<Stdio> {
    let text = || format!("{path:?}");
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .call("socket", text)?;
    let address = SocketAddrUnix::new(path).call("connect", text)?;
    rustix::net::connect(&socket, &address).call("connect", text)?;
    Ok(Stdio::Console(socket))
}
