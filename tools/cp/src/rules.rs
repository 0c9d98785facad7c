//! Docker cp's rules: what a source and a destination mean together.
//!
//! A destination that is a directory takes the source under its name, or with `SRC/.` what is in it; one that does not
//! exist becomes the source, and then its parent has to exist.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::copy::Copier;
use crate::error::{Error, Result};
use crate::ignore::{RULES_BYTES, Rules};
use crate::place::{Ending, Place, split};

/// A source, opened as far as its parent, or wholly where it names what is in a directory.
pub(crate) enum Source {
    /// A name in a directory; never followed.
    Entry {
        parent: OwnedFd,
        name: OsString,
        /// What it is called at its destination: where a link was followed, as the link is.
        called: OsString,
        is_dir: bool,
    },
    /// What is in a directory.
    Contents(OwnedFd),
}

/// Where paths of one side start.
pub(crate) enum Side<'a> {
    /// The host's own root and working directory: the user's path is taken as it stands.
    Host,
    /// A container's root: links are resolved inside it.
    Container(&'a Root),
}

impl Side<'_> {
    fn open(&self, path: &Path, flags: OFlags) -> sys::Result<OwnedFd> {
        match self {
            Self::Host => rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
                .call("open", || format!("{path:?}")),
            Self::Container(root) => root.open(path, flags, Mode::empty()),
        }
    }

    /// Opens a source.
    pub(crate) fn source(&self, path: &Path) -> Result<Source> {
        const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
        let ending = Ending::of(path);
        let named = split(path).filter(|_| ending != Ending::Contents);
        let Some((parent, name)) = named else {
            return Ok(Source::Contents(self.open(path, DIRECTORY).map_err(Error::at(path))?));
        };
        let parent = self.open(parent, DIRECTORY).map_err(Error::at(path))?;
        let follow = if ending == Ending::Slash { OFlags::empty() } else { OFlags::NOFOLLOW };
        let seen = self.open(path, OFlags::PATH | follow).map_err(Error::at(path))?;
        let stat = rustix::fs::fstat(&seen).call("fstat", || format!("{path:?}")).map_err(Error::at(path))?;
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        let entry = rustix::fs::openat(
            &parent,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let same = entry
            .and_then(|fd| rustix::fs::fstat(&fd))
            .is_ok_and(|own| own.st_ino == stat.st_ino && own.st_dev == stat.st_dev);
        if !same && is_dir {
            // A link with a slash after it: what is in its directory.
            return Ok(Source::Contents(self.open(path, DIRECTORY).map_err(Error::at(path))?));
        }
        Ok(Source::Entry { parent, name: name.into(), called: name.into(), is_dir })
    }

    /// Opens a source; where it is a link itself, what that leads to under the link's name.
    pub(crate) fn followed(&self, path: &Path) -> Result<Source> {
        let Some((_, called)) = split(path) else { return self.source(path) };
        let led = match self {
            Self::Container(root) => Path::new("/").join(overlay::resolve(root, path)?),
            Self::Host => {
                let seen = self.open(path, OFlags::PATH).map_err(Error::at(path))?;
                let link = format!("/proc/self/fd/{}", seen.as_raw_fd());
                let real = rustix::fs::readlink(&*link, Vec::new()).call("readlink", || link.clone());
                PathBuf::from(OsString::from_vec(real.map_err(Error::at(path))?.into_bytes()))
            }
        };
        let mut source = self.source(&led)?;
        if let Source::Entry { called: name, .. } = &mut source {
            *name = called.into();
        }
        Ok(source)
    }
}

/// A destination below a root, which no symlink is left in.
pub(crate) struct Destination {
    /// Relative to the root.
    path: PathBuf,
    found: Option<FileType>,
    must_be_dir: bool,
    /// Several sources go to it: it has to be there, even for directories.
    several: bool,
}

impl Destination {
    /// Looks a container's path up.
    pub(crate) fn in_container(root: &Root, path: &Path, several: bool) -> Result<Self> {
        let resolved = overlay::resolve(root, path)?;
        Self::new(root, resolved, path, several)
    }

    /// Looks a host's path up, whose parent (or which itself, as a directory) `root` is; see [`host_root`].
    pub(crate) fn on_host(root: &Root, name: Option<&OsStr>, path: &Path, several: bool) -> Result<Self> {
        Self::new(root, name.map(PathBuf::from).unwrap_or_default(), path, several)
    }

    fn new(root: &Root, resolved: PathBuf, given: &Path, several: bool) -> Result<Self> {
        let found = if resolved.as_os_str().is_empty() {
            Some(FileType::Directory)
        } else {
            match root.lstat(&resolved) {
                Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
                Err(e) if e.errno == Errno::NOENT => None,
                Err(e) => return Err(Error::at(given)(e)),
            }
        };
        let must_be_dir = several || Ending::of(given) != Ending::Name;
        Ok(Self { path: resolved, found, must_be_dir, several })
    }

    /// Copies a source to it.
    pub(crate) fn take(&self, root: &Root, copier: &mut Copier<'_>, source: &Source) -> Result<()> {
        let is_dir = self.found.is_some_and(FileType::is_dir);
        match source {
            Source::Entry { parent, name, called, .. } if is_dir => {
                copier.copy(parent.as_fd(), name, &self.path.join(called))
            }
            Source::Entry { is_dir: true, .. } | Source::Contents(_) if self.found.is_some() && !is_dir => {
                Err(Error::NotADirectory(self.path.clone()))
            }
            Source::Entry { is_dir: source_is_dir, .. }
                if self.several || (self.must_be_dir && !source_is_dir) =>
            {
                match self.found {
                    Some(_) => Err(Error::NotADirectory(self.path.clone())),
                    None => Err(Error::Missing(self.path.clone())),
                }
            }
            Source::Entry { parent, name, .. } => copier.copy(parent.as_fd(), name, &self.path),
            Source::Contents(dir) => {
                if !is_dir {
                    self.make(root, copier)?;
                }
                copier.contents(dir, &self.path)
            }
        }
    }

    /// Makes the directory whose contents are copied.
    fn make(&self, root: &Root, copier: &Copier<'_>) -> Result<()> {
        let parent = root.parent(&self.path).map_err(Error::at(&self.path))?;
        let mode = Mode::from_raw_mode(0o755);
        let made = rustix::fs::mkdirat(&parent.dir, &*parent.name, mode)
            .call("mkdirat", || format!("{:?}", self.path));
        made.map_err(Error::at(&self.path))?;
        let dir = root.open_dir(&self.path).map_err(Error::at(&self.path))?;
        copier.own_directory(&dir).map_err(Error::at(&self.path))
    }
}

/// The directory that a host's destination is copied below, and its name there where it is none itself.
pub(crate) fn host_root(path: &Path) -> Result<(Root, Option<OsString>)> {
    let follows_to_dir =
        rustix::fs::stat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    if follows_to_dir {
        return Ok((Root::open_ambient(path).map_err(Error::at(path))?, None));
    }
    let (parent, name) = split(path).ok_or_else(|| Error::Missing(path.into()))?;
    Ok((Root::open_ambient(parent).map_err(Error::at(parent))?, Some(name.into())))
}

/// What a command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Files into a container.
    In,
    /// Files out of one.
    Out,
    /// An archive on stdin into a container.
    Unpack,
    /// An archive of a container's files on stdout.
    Pack,
}

/// What these sources and this destination ask for; `from` tells that another container or image has the sources.
///
/// # Errors
/// A text for the user.
pub(crate) fn way(sources: &[Place], dest: &Place, from: bool) -> std::result::Result<Way, String> {
    use Place::{Container, Host, Stream};
    let all = |is: fn(&Place) -> bool| sources.iter().all(is);
    let is_path = |place: &Place| matches!(place, Host(_));
    if from {
        if !all(is_path) {
            return Err("with --from, SRC is a path there, without a name or a colon".into());
        }
        return match dest {
            Container(..) => Ok(Way::In),
            Host(_) => Ok(Way::Out),
            Stream if sources.len() == 1 => Ok(Way::Pack),
            Stream => Err("an archive has one SRC".into()),
        };
    }
    match dest {
        Container(..) if sources == [Stream] => Ok(Way::Unpack),
        _ if sources.contains(&Stream) => {
            Err("an archive on stdin (-) is the only SRC, and goes into a container: oci-cp - NAME:DIR"
                .into())
        }
        Stream if all(is_path) => {
            Err("an archive on stdout (-) is of a container's files: oci-cp NAME:PATH -".into())
        }
        Stream if sources.len() != 1 => Err("an archive has one SRC".into()),
        Stream => Ok(Way::Pack),
        Container(..) if all(is_path) => Ok(Way::In),
        Host(_) if all(|place| matches!(place, Container(..))) => Ok(Way::Out),
        Container(..) => Err("from a container to a container: oci-cp --from NAME SRC :DST".into()),
        Host(_) => {
            Err("neither SRC nor DST is in a container: NAME:PATH is, or :PATH in that of the line".into())
        }
    }
}

/// Reads rules of what is left out.
pub(crate) fn read(file: impl Into<std::fs::File>, path: &Path) -> Result<Rules> {
    let mut text = Vec::new();
    let mut bounded = std::io::Read::take(file.into(), RULES_BYTES + 1);
    std::io::Read::read_to_end(&mut bounded, &mut text)
        .call("read", || format!("{path:?}"))
        .map_err(Error::at(path))?;
    if text.len() as u64 > RULES_BYTES {
        return Err(Error::Member(path.into(), "more than 1 MiB of rules"));
    }
    Rules::parse(&String::from_utf8_lossy(&text)).map_err(|e| Error::Rules(path.into(), e))
}

/// The rules that the file `.dockerignore` in a source has; none where there is none.
pub(crate) fn dockerignore(source: &Source, path: &Path) -> Result<Rules> {
    let path = path.join(".dockerignore");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match source {
        Source::Entry { parent, name, is_dir: true, .. } => {
            let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, dir, Mode::empty())
                .and_then(|dir| rustix::fs::openat(&dir, ".dockerignore", flags, Mode::empty()))
        }
        Source::Entry { .. } => return Ok(Rules::default()),
        Source::Contents(dir) => rustix::fs::openat(dir, ".dockerignore", flags, Mode::empty()),
    };
    match opened {
        Err(Errno::NOENT) => Ok(Rules::default()),
        other => read(other.call("open", || format!("{path:?}")).map_err(Error::at(&path))?, &path),
    }
}
