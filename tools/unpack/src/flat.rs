//! All layers one over the other into a directory of the user's.
//!
//! The tree grows in a private directory beside the wanted one and takes its name when all digests were right.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use cli::{During, Failure, Stage};
use descriptor::{Classify, Exit};
use layer::{Flat, Options};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use store::{Image, Store};
use sys::{Call, Root};

use crate::job::{Job, Outcome};
use crate::layers::empty;

/// Flattens an image into `dir`.
pub(crate) fn unpack(
    store: &Store,
    stage: &Stage,
    image: &Image,
    dir: &Path,
    options: &Options,
) -> Result<(), Failure> {
    let what = || format!("{}", dir.display());
    let jobs = Job::of(image)?;
    let staging = Staging::beside(dir).map_err(|fault| fault.about(dir))?;
    let progress = stage.progress();
    loop {
        if flatten(store, &jobs, &staging.root, &progress, options)? {
            break;
        }
        empty(&staging.root).during(what)?;
    }
    staging.publish().map_err(|fault| fault.about(dir))?;
    stage.note(&format!("{} layers in {}", jobs.len(), dir.display()));
    Ok(())
}

/// Applies all layers; false where a blob was started over by its writer and all has to begin again.
fn flatten(
    store: &Store,
    jobs: &[Job],
    root: &Root,
    progress: &cli::Progress,
    options: &Options,
) -> Result<bool, Failure> {
    let never = AtomicBool::new(false);
    let mut flat = Flat::new(root).during(|| "the new tree".into())?;
    for job in jobs {
        let task = progress.task(&job.blob.digest.hex()[..12], job.blob.size);
        let apply = |input: &mut dyn std::io::Read| flat.apply(input, job.encoding, options);
        match job.read(store, Some(&task), &never, apply)? {
            Outcome::Done(_) => task.finish("applied"),
            Outcome::Again => return Ok(false),
        }
    }
    flat.finish().during(|| "the new tree".into())?;
    Ok(true)
}

/// Why the directory cannot be had.
#[derive(Debug)]
enum Fault {
    /// It holds something.
    Taken,
    /// It has no name of its own: `/` or `..`.
    Nameless,
    /// A call.
    Call(sys::Error),
}

impl From<sys::Error> for Fault {
    fn from(error: sys::Error) -> Self {
        Self::Call(error)
    }
}

impl Fault {
    fn about(self, dir: &Path) -> Failure {
        let what = format!("{}", dir.display());
        match self {
            Self::Taken => Failure::new(Exit::Conflict, what, "is there and not empty")
                .with_hint("--to takes a directory that does not exist or is empty"),
            Self::Nameless => Failure::usage(what, "names no new directory"),
            Self::Call(e) => {
                let exit = layer::Error::from(e.clone()).exit();
                Failure::new(exit, what, e)
            }
        }
    }
}

/// A private directory that becomes the wanted one, or goes when it is dropped.
struct Staging {
    parent: OwnedFd,
    name: OsString,
    wanted: OsString,
    root: Root,
    published: bool,
}

impl Staging {
    fn beside(dir: &Path) -> Result<Self, Fault> {
        let wanted = dir.file_name().ok_or(Fault::Nameless)?.to_os_string();
        let above = match dir.parent() {
            Some(above) if !above.as_os_str().is_empty() => above.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let list = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(CWD, &above, list, Mode::empty())
            .call("open", || above.display().to_string())?;
        if !is_free(&parent, &wanted)? {
            return Err(Fault::Taken);
        }
        let mut name = OsString::from(".");
        name.push(&wanted);
        name.push(format!(".oci-unpack-{}", std::process::id()));
        // A name left by a killed process of the same number: nobody else's, and in the way.
        store::remove_tree(&Root::from_fd(dup(&parent)?), &name).map_err(|e| match e {
            store::Error::Call { source, .. } => Fault::Call(source),
            _ => Fault::Taken,
        })?;
        rustix::fs::mkdirat(&parent, &name, Mode::RWXU).call("mkdir", || format!("{name:?}"))?;
        let fd = rustix::fs::openat(&parent, &name, list | OFlags::NOFOLLOW, Mode::empty())
            .call("open", || format!("{name:?}"))?;
        Ok(Self { parent, name, wanted, root: Root::from_fd(fd), published: false })
    }

    /// Gives the tree its name once all of it is on the disk; an empty directory of that name gives way.
    fn publish(mut self) -> Result<(), Fault> {
        rustix::fs::syncfs(&self.root).call("syncfs", String::new)?;
        match rustix::fs::renameat(&self.parent, &self.name, &self.parent, &self.wanted) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => return Err(Fault::Taken),
            renamed => renamed.call("rename", || format!("{:?}, {:?}", self.name, self.wanted))?,
        }
        self.published = true;
        rustix::fs::fsync(&self.parent).call("fsync", || "the directory above".into())?;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if let Ok(parent) = dup(&self.parent) {
            // What cannot be removed stays under its telling name; the failure that led here is what the user hears.
            let _ = store::remove_tree(&Root::from_fd(parent), &self.name);
        }
    }
}

fn dup(fd: &OwnedFd) -> sys::Result<OwnedFd> {
    fd.try_clone().call("fcntl", || "F_DUPFD_CLOEXEC".into())
}

/// True where nothing has the name, or an empty directory.
fn is_free(parent: impl AsFd, name: &OsStr) -> sys::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Ok(fd) => {
            let entries = rustix::fs::Dir::new(fd).call("getdents64", String::new)?;
            Ok(entries.flatten().all(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
        }
        Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let there = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
            Ok(there.is_err())
        }
        Err(errno) => Err(sys::Error::new("open", format!("{name:?}"), errno)),
    }
}
