//! Secrets of a run: files in memory, in the container's own mount namespace and nowhere else.
//!
//! Invariants
//! - What is in one never reaches a disk: it lies in a tmpfs that is not swapped where the kernel knows how (Linux 6.4).
//! - No message, line, state or configuration has it, and no memory of a process that lives as long as the container.
//! - Its file is read-only, and gone when the container's last process is.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use cli::{During, Failure};
use descriptor::Exit;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::MountAttrFlags;
use sys::Call;
use sys::mount::Context;

/// The most bytes of a secret (docker build's limit, 500 KiB).
const SECRET_BYTES: u64 = 500 << 10;
/// The name of the file inside its tmpfs.
pub(crate) const NAME: &str = "secret";

/// Where the caller has a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The environment variable of this name, else the file of this name (docker build's `--secret id=NAME`).
    Named(String),
}

/// How its file looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looks {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
}

/// A secret that was read: a file system in memory that has it, attached nowhere.
#[derive(Debug, Clone)]
pub(crate) struct Secret {
    dir: Arc<OwnedFd>,
}

impl Secret {
    /// Reads a secret; none where there is none and none is required.
    ///
    /// # Errors
    /// Exit 3 where it is missing, 2 where it is too long, 7 where there can be no tmpfs.
    pub(crate) fn read(origin: &Origin, looks: Looks, required: bool) -> Result<Option<Self>, Failure> {
        let what = || match origin {
            Origin::File(path) => format!("the secret {}", path.display()),
            Origin::Variable(name) | Origin::Named(name) => format!("the secret {name:?}"),
        };
        let failed = |e: std::io::Error| Failure::new(Exit::Other, what(), e);
        let Some(mut source) = origin.open().map_err(failed)? else {
            if !required {
                return Ok(None);
            }
            let why = match origin {
                Origin::File(_) => "no such file",
                Origin::Variable(_) => "no such environment variable",
                Origin::Named(_) => "no environment variable and no file of this name",
            };
            return Err(Failure::new(Exit::NotFound, what(), why)
                .with_hint("src=FILE or env=VARIABLE says where it is"));
        };
        let (dir, mut file) = in_memory(looks).map_err(runtime::Error::from).during(what)?;
        if source.copy(&mut file).map_err(failed)? > SECRET_BYTES {
            return Err(Failure::usage(what(), "it is longer than 500 KiB"));
        }
        Ok(Some(Self { dir: Arc::new(dir) }))
    }

    /// A further file system in memory that has it, for one run.
    ///
    /// # Errors
    /// A failed call.
    pub(crate) fn for_a_run(&self, looks: Looks) -> Result<OwnedFd, Failure> {
        let what = || "a secret".to_string();
        let failed = |e: std::io::Error| Failure::new(Exit::Other, what(), e);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let source = rustix::fs::openat(&self.dir, NAME, flags, Mode::empty());
        let source = source.map_err(|errno| failed(errno.into()))?;
        let (dir, mut file) = in_memory(looks).map_err(runtime::Error::from).during(what)?;
        std::io::copy(&mut File::from(source), &mut file).map_err(failed)?;
        Ok(dir)
    }
}

/// What is read.
enum Source {
    File(File),
    Variable(std::ffi::OsString),
}

impl Source {
    /// Copies as much of it as says whether it is too long.
    fn copy(&mut self, to: &mut File) -> std::io::Result<u64> {
        match self {
            // By the kernel where it can, not through this process's memory.
            Self::File(file) => std::io::copy(&mut file.take(SECRET_BYTES + 1), to),
            Self::Variable(text) => {
                to.write_all(text.as_bytes())?;
                Ok(text.len() as u64)
            }
        }
    }
}

impl Origin {
    fn open(&self) -> std::io::Result<Option<Source>> {
        let variable = |name: &str| std::env::var_os(name).map(Source::Variable);
        match self {
            Self::Variable(name) => Ok(variable(name)),
            Self::Named(name) => match variable(name) {
                Some(source) => Ok(Some(source)),
                None => Self::File(name.into()).open(),
            },
            Self::File(path) => match File::open(path) {
                Ok(file) => Ok(Some(Source::File(file))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            },
        }
    }
}

/// A tmpfs of its own that is attached nowhere, and the empty file in it.
fn in_memory(looks: Looks) -> sys::Result<(OwnedFd, File)> {
    let context = Context::open("tmpfs")?;
    context.set("source", "tmpfs")?;
    context.set("mode", "0700")?;
    context.set("size", (SECRET_BYTES * 2).to_string())?;
    // An older kernel, or a user namespace, does not know it.
    let _ = context.flag("noswap");
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dir = context.mount(attributes)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(dir.as_fd(), NAME, flags, Mode::RUSR | Mode::WUSR).call("open", || NAME.into())?;
    let (uid, gid) = looks.owner;
    rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .call("fchown", || format!("{uid}:{gid}"))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(looks.mode))
        .call("fchmod", || format!("{:o}", looks.mode))?;
    Ok((dir, file.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_its_looks_its_bounds_and_is_missed() {
        if !rustix::process::geteuid().is_root() {
            testkit::skip("a tmpfs needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("s");
        let looks = Looks { mode: 0o440, owner: (1000, 7) };
        let read = |required| Secret::read(&Origin::File(file.clone()), looks, required);
        std::fs::write(&file, "hunter2").expect("write");
        let secret = read(true).expect("read").expect("there");
        for _ in 0..2 {
            let run = secret.for_a_run(looks).expect("a tmpfs");
            let stat = rustix::fs::statat(&run, NAME, rustix::fs::AtFlags::empty()).expect("stat");
            assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid, stat.st_size), (0o440, 1000, 7, 7));
        }
        std::fs::write(&file, vec![0; SECRET_BYTES as usize]).expect("write");
        assert!(read(true).expect("as long as it may be").is_some());
        std::fs::write(&file, vec![0; SECRET_BYTES as usize + 1]).expect("write");
        assert_eq!(read(true).expect_err("too long").exit(), Exit::Usage.code());
        std::fs::remove_file(&file).expect("rm");
        assert_eq!(read(true).expect_err("missing").exit(), Exit::NotFound.code());
        assert!(read(false).expect("not required").is_none());
    }
}
