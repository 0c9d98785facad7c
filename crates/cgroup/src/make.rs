//! Making a group's directories, and undoing it where that fails half-way.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::directory::Directory;
use crate::error::About;
use crate::group::{Group, Place, Version};
use crate::{Error, Result, controllers, cpuset};

/// What others may do in a new group's directory, as runc makes it.
const MODE: Mode = Mode::from_bits_retain(0o755);

impl Group {
    /// Makes the directories and writes the limits.
    ///
    /// A rootless container that asked for no path goes without each directory that it may not have, and without a group where
    /// that is all of them.
    ///
    /// # Errors
    /// Those of making a directory; [`Error::InUse`] and [`Error::Frozen`] where it is there with processes in it or is frozen;
    /// those of [`Group::update`]. What was made is removed then.
    pub fn make(&mut self, resources: &LinuxResources) -> Result<()> {
        if self.unit.is_some() {
            // Made around the process that is adopted. One that is there already would be stopped for it; what is opened here is
            // not kept, as systemd may remake it.
            for place in self.places.clone().iter().filter(|place| place.open().is_ok()) {
                refuse_in_use(place, self.version)?;
            }
            self.pending = Some(resources.clone());
            return Ok(());
        }
        let mut undo = Undo::default();
        let mut kept = Vec::with_capacity(self.places.len());
        for mut place in std::mem::take(&mut self.places) {
            let before = undo.made.len();
            match make_place(&mut place, self.version, resources, &mut undo, true) {
                Ok(()) => kept.push(place),
                // Gone without: what was made of it already goes, too.
                Err(_) if place.is_optional(self.version) => undo.back_to(before),
                Err(error) if self.rootless && self.implied && error.is_permission() => undo.back_to(before),
                Err(error) => return Err(error),
            }
        }
        self.places = kept;
        self.guarded = self.limit(resources, true)?;
        undo.keep();
        Ok(())
    }

    /// The directory to clone the container's process into (`CLONE_INTO_CGROUP`, Linux 5.7); `None` on version 1 and without a
    /// group, where [`Group::adopt`] moves it afterwards.
    ///
    /// # Errors
    /// Those of opening the directory.
    pub fn birthplace(&mut self) -> Result<Option<OwnedFd>> {
        if self.version == Version::Legacy || self.unit.is_some() {
            return Ok(None);
        }
        let Some(place) = self.places.first_mut() else { return Ok(None) };
        place.open()?;
        Ok(place.take().map(Directory::into_fd))
    }

    /// Closes what is held open since [`Group::make`].
    pub fn release(&mut self) {
        for place in &mut self.places {
            place.take();
        }
    }
}

/// Makes a place's directory; with `alone` nobody else may be in it.
pub(crate) fn make_place(
    place: &mut Place,
    version: Version,
    resources: &LinuxResources,
    undo: &mut Undo,
    alone: bool,
) -> Result<()> {
    let root = Root::open_ambient(&place.mount).about("opening a cgroup hierarchy")?;
    let (directory, new) = make_directory(&root, place, undo)?;
    place.keep(directory);
    if !new && alone {
        refuse_in_use(place, version)?;
    }
    if version == Version::Unified {
        return controllers::enable(&root, place, resources);
    }
    if place.controllers.iter().any(|one| one == "cpuset") {
        return cpuset::inherit(place, resources);
    }
    Ok(())
}

/// Makes the directory and those above it; also says whether it is new.
fn make_directory(root: &Root, place: &Place, undo: &mut Undo) -> Result<(Directory, bool)> {
    let what = "making a cgroup";
    let parent = match root.parent(&place.path) {
        Err(error) if error.is_not_found() => {
            let above = place.path.parent().unwrap_or(Path::new(""));
            make_above(root, &place.mount, above, undo)?;
            root.parent(&place.path)
        }
        found => found,
    };
    let parent = parent.about(what)?;
    let new = make_one(parent.dir.as_fd(), Path::new(&parent.name), &place.mount, &place.path, undo)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&parent.dir, &parent.name, flags, Mode::empty())
        .call("openat", || format!("{:?}", place.directory()))
        .about(what)?;
    Ok((Directory::new(fd, place.directory()), new))
}

/// Makes every missing directory of `path`.
fn make_above(root: &Root, mount: &Path, path: &Path, undo: &mut Undo) -> Result<()> {
    let mut at = PathBuf::new();
    for name in path {
        at.push(name);
        let parent = root.parent(&at).about("making a cgroup")?;
        make_one(parent.dir.as_fd(), Path::new(&parent.name), mount, &at, undo)?;
    }
    Ok(())
}

/// Makes one directory; false where it was there.
fn make_one(
    parent: std::os::fd::BorrowedFd<'_>,
    name: &Path,
    mount: &Path,
    path: &Path,
    undo: &mut Undo,
) -> Result<bool> {
    match mkdirat(parent, name, MODE) {
        Ok(()) => {
            undo.made.push((mount.into(), path.into()));
            Ok(true)
        }
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => {
            Err(errno).call("mkdirat", || format!("{:?}, 0755", mount.join(path))).about("making a cgroup")
        }
    }
}

/// A group that was there before may be used only where nobody else does, as runc.
fn refuse_in_use(place: &Place, version: Version) -> Result<()> {
    let holds_all = version == Version::Unified || place.controllers.iter().any(|one| one == "devices");
    if holds_all {
        let processes = crate::procs::below(place)?.len();
        if processes > 0 {
            return Err(Error::InUse { path: place.directory(), processes });
        }
    }
    if crate::freezer::is_frozen(place, version)? {
        return Err(Error::Frozen { path: place.directory() });
    }
    Ok(())
}

/// The directories made so far: removed when dropped, the last first, unless it was emptied.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    made: Vec<(PathBuf, PathBuf)>,
}

impl Undo {
    /// What was made stays.
    pub(crate) fn keep(mut self) {
        self.made.clear();
    }

    /// Leaves the first `count` directories only.
    fn back_to(&mut self, count: usize) {
        for (mount, path) in self.made.drain(count..).rev() {
            // What cannot be removed is in use by someone who came after us.
            let parent = Root::open_ambient(mount).and_then(|root| root.parent(path));
            let _ = parent.map(|parent| unlinkat(&parent.dir, &parent.name, AtFlags::REMOVEDIR));
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.back_to(0);
    }
}
