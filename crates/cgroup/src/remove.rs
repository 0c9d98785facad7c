//! Removing a group: the directories below it first, as `rmdir(2)` takes empty ones only.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use rustix::process::Pid;
use sys::{Call, Parent, Root};

use crate::directory::Directory;
use crate::error::About;
use crate::group::{Group, Place};
use crate::tree::{Visit, walk};
use crate::{Error, Result, systemd};

/// A process that has just ended keeps its group busy until it is reaped: waits of 1, 2, 4 ... ms, one second in all.
const BUSY_TRIES: u32 = 10;

impl Group {
    /// Removes the group's directories and those below them. Those that are gone are fine.
    ///
    /// No process is ended; one that lives in the group makes this fail.
    ///
    /// # Errors
    /// That of the first `rmdir(2)` that failed, `EBUSY` after one second; the other directories are removed all the same.
    pub fn remove(&self) -> Result<()> {
        // Without a systemd to ask, the directories go all the same, and that tells what is wrong.
        let stopped = self.unit.as_ref().map(systemd::stop);
        let mut outcome = Ok(());
        for place in &self.places {
            let removed = remove_place(place);
            // One that the container could have gone without may be out of reach, and is not forgotten for other reasons.
            let is_excused =
                place.is_optional(self.version) && removed.as_ref().is_err_and(Error::is_permission);
            if outcome.is_ok() && !is_excused {
                outcome = removed;
            }
        }
        match stopped {
            Some(Err(error)) if outcome.is_ok() && self.exists() => Err(error),
            _ => outcome,
        }
    }
}

impl Group {
    /// Makes sure that no process lives in the groups below this one, which are others' then, and are to be left as they are.
    ///
    /// # Errors
    /// [`Error::HasOthers`]; those of listing.
    pub fn has_no_others(&self) -> Result<()> {
        // One of the group's own that ends between two lists is in the other alone; what is below is there at a second look.
        let others = self.below()?;
        if others.is_empty() {
            return Ok(());
        }
        let again = self.below()?;
        match others.iter().filter(|pid| again.contains(pid)).count() {
            0 => Ok(()),
            processes => Err(Error::HasOthers { path: self.main()?.directory(), processes }),
        }
    }

    /// The processes of the groups below, and those born in the group itself between the two lists.
    fn below(&self) -> Result<Vec<Pid>> {
        let own = self.processes(false)?;
        Ok(self.processes(true)?.into_iter().filter(|pid| !own.contains(pid)).collect())
    }

    /// Removes what there is of a group that may never have been this container's: those of its directories that hold
    /// neither processes nor other directories. The others are somebody else's, and stay.
    ///
    /// # Errors
    /// That of the first `rmdir(2)` that failed for another reason.
    pub fn abandon(&self) -> Result<()> {
        let what = "removing a cgroup";
        for place in &self.places {
            let found = Root::open_ambient(&place.mount).and_then(|root| root.parent(&place.path));
            let parent = match found {
                Err(error) if error.is_not_found() => continue,
                found => found.about(what)?,
            };
            match remove_one(&parent) {
                Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => {}
                Err(_) if place.is_optional(self.version) => {}
                Err(errno) => {
                    return Err(errno).call("rmdir", || format!("{:?}", place.directory())).about(what);
                }
            }
        }
        Ok(())
    }
}

fn remove_place(place: &Place) -> Result<()> {
    let what = "removing a cgroup";
    let found = Root::open_ambient(&place.mount).and_then(|root| root.parent(&place.path));
    let parent = match found {
        Err(error) if error.is_not_found() => return Ok(()),
        found => found.about(what)?,
    };
    if matches!(remove_one(&parent), Ok(()) | Err(Errno::NOENT)) {
        return Ok(());
    }
    let directory = match Directory::open(&place.mount, &place.path) {
        Err(error) if error.is_not_found() => return Ok(()),
        found => found.about(what)?,
    };
    walk(directory, &mut Removal)?;
    remove_busy(parent.dir.as_fd(), &parent.name)
        .call("rmdir", || format!("{:?}", place.directory()))
        .about(what)
}

fn remove_one(parent: &Parent) -> std::result::Result<(), Errno> {
    unlinkat(&parent.dir, &parent.name, AtFlags::REMOVEDIR)
}

/// Removes each directory when those below it are gone.
struct Removal;

impl Visit for Removal {
    fn leave(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        remove_busy(parent, name).call("rmdir", || format!("{name:?}")).about("removing a cgroup")
    }
}

/// Removes an empty directory, waiting a while for its last processes to be gone.
fn remove_busy(parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<(), Errno> {
    for attempt in 0..=BUSY_TRIES {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if attempt < BUSY_TRIES => {
                std::thread::sleep(Duration::from_millis(1 << attempt));
            }
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::BUSY)
}
