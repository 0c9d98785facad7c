//! The state root, and a container's directory in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, mkdirat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sys::{Call, Root};

use crate::capability;
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::lifecycle::id::Id;
use crate::lifecycle::notify::{self, Notify};
use crate::lifecycle::record::{Record, Status};

/// The state root and what is in it are nobody else's to look into.
const PRIVATE: Mode = Mode::RWXU;
const FILE: Mode = Mode::from_raw_mode(0o600);
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
/// Where init waits for `start`.
const SOCKET: &str = "start.sock";
/// No document of ours or of a bundle is longer.
const DOCUMENT_BYTES: u64 = 16 << 20;
/// Most documents fit, so that they are read at once.
const USUAL_BYTES: usize = 32 << 10;
/// Starts and looks that may wait for init at once.
const BACKLOG: i32 = 64;

/// The containers of one state root.
#[derive(Debug)]
pub struct Runtimes {
    root: Root,
    path: PathBuf,
}

impl Runtimes {
    /// Opens the state root, making it where it is missing, with its missing parents.
    ///
    /// # Errors
    /// [`Error::Foreign`] where another user owns it; what the kernel says.
    #[allow(clippy::disallowed_methods, reason = "a directory of the host, as the caller names it")]
    pub fn open(path: &Path) -> Result<Self> {
        let root = match Root::open_ambient(path) {
            Err(error) if error.is_not_found() => {
                let made = std::os::unix::fs::DirBuilderExt::mode(
                    std::fs::DirBuilder::new().recursive(true),
                    PRIVATE.bits(),
                )
                .create(path);
                made.map_err(|source| Error::File { path: path.into(), source })?;
                Root::open_ambient(path)?
            }
            answer => answer?,
        };
        let owner = rustix::fs::fstat(&root).call("fstat", || format!("{path:?}"))?.st_uid;
        if owner != rustix::process::geteuid().as_raw() {
            return Err(Error::Foreign { path: path.into(), owner });
        }
        Ok(Self { root, path: path.into() })
    }

    /// Makes the directory of a new container, locked.
    ///
    /// # Errors
    /// [`Error::Exists`].
    pub fn make(&self, id: &Id) -> Result<Directory> {
        loop {
            match mkdirat(&self.root, id.as_str(), PRIVATE) {
                Err(Errno::EXIST) => return Err(Error::Exists { id: id.to_string() }),
                answer => answer.call("mkdirat", || format!("{:?}", self.path.join(id.as_str())))?,
            }
            match self.find(id).and_then(|found| Ok((found.is_begun()?, found))) {
                // Somebody deleted it before it was locked, as what a killed maker leaves.
                Err(Error::NoContainer { .. }) => {}
                Err(error) => {
                    let _ = unlinkat(&self.root, id.as_str(), AtFlags::REMOVEDIR);
                    return Err(error);
                }
                Ok((true, _)) => return Err(Error::Exists { id: id.to_string() }),
                Ok((false, found)) => return Ok(found),
            }
        }
    }

    /// The directory of a container, locked: no other command works on it meanwhile.
    ///
    /// # Errors
    /// [`Error::NoContainer`]; [`Error::Foreign`] for one of another user's.
    pub fn find(&self, id: &Id) -> Result<Directory> {
        let mut directory = self.look(id)?;
        directory.lock()?;
        Ok(directory)
    }

    /// The directory of a container, not locked.
    ///
    /// # Errors
    /// [`Error::NoContainer`]; [`Error::Foreign`] for one of another user's.
    pub fn look(&self, id: &Id) -> Result<Directory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = match self.root.open(id.as_str(), flags, Mode::empty()) {
            Err(error) if error.is_not_found() => return Err(Error::NoContainer { id: id.to_string() }),
            answer => answer?,
        };
        // In a state root where others may make directories, theirs are not ours to believe.
        let owner = rustix::fs::fstat(&fd).call("fstat", || id.to_string())?.st_uid;
        if owner != rustix::process::geteuid().as_raw() {
            return Err(Error::Foreign { path: self.path.join(id.as_str()), owner });
        }
        let parent = self.root.try_clone()?;
        Ok(Directory { root: Root::from_fd(fd), parent, id: id.clone() })
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = self.root.open(".", flags, Mode::empty())?;
        let mut ids = Vec::new();
        for entry in Dir::read_from(fd).call("getdents64", || format!("{:?}", self.path))? {
            let entry = entry.call("getdents64", || format!("{:?}", self.path))?;
            // What is no id is none of ours.
            ids.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<Id>().ok()));
        }
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }
}

/// A container's directory.
#[derive(Debug)]
pub struct Directory {
    root: Root,
    parent: Root,
    id: Id,
}

impl Directory {
    /// The container's id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The lock is the directory's own, freed by death. Init is a copy of this process and gives up its share of it.
    fn lock(&mut self) -> Result<()> {
        loop {
            match flock(&self.root, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                answer => break answer.call("flock", || format!("{:?}", self.id.as_str()))?,
            }
        }
        // Whoever had the lock before may have removed the container.
        let links = rustix::fs::fstat(&self.root).call("fstat", || self.id.to_string())?.st_nlink;
        if links == 0 { Err(Error::NoContainer { id: self.id.to_string() }) } else { Ok(()) }
    }

    /// True where it is another maker's, who was quicker after somebody had deleted ours: all begin with the configuration.
    fn is_begun(&self) -> Result<bool> {
        match statat(&self.root, CONFIG, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(sys::Error::new("newfstatat", CONFIG, errno).into()),
        }
    }

    /// The descriptor that holds the lock.
    pub(crate) fn number(&self) -> RawFd {
        self.root.as_fd().as_raw_fd()
    }

    /// What is recorded; none where the container's maker was killed before it recorded anything.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the record makes no sense.
    pub fn record(&self) -> Result<Option<Record>> {
        let Some(bytes) = self.read(STATE)? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes);
        record.map(Some).map_err(|e| Error::Invalid { member: STATE.into(), why: e.to_string() })
    }

    /// Records; who reads sees all of it or what was there before.
    pub(crate) fn set_record(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record)
            .map_err(|e| Error::Invalid { member: STATE.into(), why: e.to_string() })?;
        let new = "state.json.new";
        self.write(new, &bytes)?;
        renameat(&self.root, new, &self.root, STATE).call("renameat", || STATE.into())?;
        Ok(())
    }

    /// The configuration as it was when the container was created.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it makes no sense.
    pub fn config(&self) -> Result<Spec> {
        let bytes = self.read(CONFIG)?.ok_or(Error::Incomplete("copy of config.json"))?;
        let (mut spec, _) = parse(&bytes)?;
        capability::keep_grantable(&mut spec)?;
        Ok(spec)
    }

    /// Changes what is kept of the configuration; who reads sees all of it or what was there before.
    pub(crate) fn change_config(&self, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
        let wrong = |e: serde_json::Error| Error::Invalid { member: CONFIG.into(), why: e.to_string() };
        let bytes = self.read(CONFIG)?.ok_or(Error::Incomplete("copy of config.json"))?;
        let mut config = serde_json::from_slice(&bytes).map_err(wrong)?;
        change(&mut config);
        let new = "config.json.new";
        self.write(new, &serde_json::to_vec(&config).map_err(wrong)?)?;
        renameat(&self.root, new, &self.root, CONFIG).call("renameat", || CONFIG.into())?;
        Ok(())
    }

    pub(crate) fn set_config(&self, bytes: &[u8]) -> Result<()> {
        self.write(CONFIG, bytes)
    }

    /// How the container stands.
    ///
    /// # Errors
    /// Those of asking the control group.
    pub fn status(&self, record: &Record) -> Result<Status> {
        let Some(init) = &record.init else { return Ok(Status::Creating) };
        if init.open().is_none() {
            return Ok(Status::Stopped);
        }
        // First of all: an init that stands still hears nothing, whatever it waits for.
        if record.group.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if self.connect(SocketFlags::NONBLOCK)?.is_some() { Status::Created } else { Status::Running })
    }

    /// A socket on which init is to wait for `start`.
    pub(crate) fn listen(&self) -> Result<OwnedFd> {
        let socket = socket(SocketFlags::empty())?;
        rustix::net::bind(&socket, &self.address()?).call("bind", || SOCKET.into())?;
        rustix::net::listen(&socket, BACKLOG).call("listen", || SOCKET.into())?;
        Ok(socket)
    }

    /// A channel to init where it waits for `start`.
    pub(crate) fn connect(&self, flags: SocketFlags) -> Result<Option<Channel>> {
        let socket = socket(flags)?;
        match rustix::net::connect(&socket, &self.address()?) {
            Ok(()) => Ok(Some(Channel::from_fd(socket))),
            // More wait already than init has places: somebody listens.
            Err(Errno::AGAIN) => Ok(Some(Channel::from_fd(socket))),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(errno) => Err(sys::Error::new("connect", SOCKET, errno).into()),
        }
    }

    /// Init waits no more.
    pub(crate) fn forget_socket(&self) {
        let _ = unlinkat(&self.root, SOCKET, AtFlags::empty());
    }

    /// By descriptor: a socket's path may be 107 bytes long only.
    fn address(&self) -> Result<SocketAddrUnix> {
        let path = format!("/proc/self/fd/{}/{SOCKET}", self.number());
        Ok(SocketAddrUnix::new(path).call("bind", || SOCKET.into())?)
    }

    /// The place for a socket that tells of being ready; its path.
    #[allow(clippy::disallowed_methods, reason = "the state root, as the caller names it")]
    pub(crate) fn make_notify(&self, runtimes: &Runtimes) -> Result<PathBuf> {
        let all = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        mkdirat(&self.root, notify::DIRECTORY, all).call("mkdirat", || notify::DIRECTORY.into())?;
        let failed = |source| Error::File { path: runtimes.path.clone(), source };
        let root = std::fs::canonicalize(&runtimes.path).map_err(failed)?;
        Ok(root.join(self.id.as_str()).join(notify::DIRECTORY))
    }

    /// Makes that socket, with what is told going to `manager`; none where the container has no place for it.
    ///
    /// # Errors
    /// Those of the sockets.
    pub fn notify(&self, manager: &OsStr) -> Result<Option<Notify>> {
        Notify::new(&self.root, manager)
    }

    /// Removes the directory with what is in it.
    pub(crate) fn remove(&self) -> Result<()> {
        let again = self.root.open(".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        for entry in Dir::read_from(again).call("getdents64", || self.id.to_string())?.flatten() {
            let name = entry.file_name();
            if name.to_bytes() == notify::DIRECTORY.as_bytes() {
                let place = self.root.open_dir(notify::DIRECTORY)?;
                let _ = unlinkat(&place, notify::SOCKET, AtFlags::empty());
                unlinkat(&self.root, name, AtFlags::REMOVEDIR).call("unlinkat", || format!("{name:?}"))?;
            } else if !matches!(name.to_bytes(), b"." | b"..") {
                unlinkat(&self.root, name, AtFlags::empty()).call("unlinkat", || format!("{name:?}"))?;
            }
        }
        let gone = unlinkat(&self.parent, self.id.as_str(), AtFlags::REMOVEDIR);
        Ok(gone.call("unlinkat", || format!("{:?}", self.id.as_str()))?)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match self.root.open(name, flags, Mode::empty()) {
            Ok(file) => bounded(file, name).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let file = self.root.open(name, flags, FILE)?;
        Ok(File::from(file).write_all(bytes).call("write", || name.into())?)
    }
}

fn socket(flags: SocketFlags) -> Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    let made = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    Ok(made.call("socket", || "AF_UNIX, SOCK_SEQPACKET".into())?)
}

/// Reads a document that may not be endless.
///
/// # Errors
/// [`Error::Invalid`] for more than 16 MiB.
pub fn bounded(file: OwnedFd, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    File::from(file).take(DOCUMENT_BYTES + 1).read_to_end(&mut bytes).call("read", || name.into())?;
    if bytes.len() as u64 > DOCUMENT_BYTES {
        let why = format!("more than {DOCUMENT_BYTES} bytes");
        return Err(Error::Invalid { member: name.into(), why });
    }
    Ok(bytes)
}

/// Reads a configuration, without the capabilities that nobody knows; they are told of in warnings.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Spec, Vec<String>)> {
    let wrong = |e: serde_json::Error| Error::Invalid { member: CONFIG.into(), why: e.to_string() };
    match serde_json::from_slice(bytes) {
        Ok(spec) => Ok((spec, Vec::new())),
        Err(error) => {
            let mut value = serde_json::from_slice(bytes).map_err(wrong)?;
            let Some(warning) = capability::drop_unknown(&mut value) else { return Err(wrong(error)) };
            let spec = crate::typed(&value).map_err(wrong)?;
            Ok((spec, vec![warning]))
        }
    }
}
