//! The processes of a group: which there are, and moving one in.

use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::directory::{Directory, write_once};
use crate::error::About;
use crate::group::{Group, Place};
use crate::tree::{Visit, walk};
use crate::{Error, Result, controllers};

/// The file that lists processes and takes one in.
const PROCS: &str = "cgroup.procs";

/// How often a process is moved that the kernel has not finished making (`EINVAL` while it is `TASK_NEW`), and how far apart.
const NEW_TASK_TRIES: usize = 5;
const NEW_TASK_PAUSE: Duration = Duration::from_millis(30);

impl Group {
    /// Moves a process, with all its threads, into the group.
    ///
    /// # Errors
    /// Those of writing `cgroup.procs`; [`Error::Kind`] where the directory cannot hold processes (version 2).
    pub fn adopt(&self, pid: Pid) -> Result<()> {
        match &self.unit {
            Some(unit) if self.pending.is_some() => self.start(unit, pid),
            _ => self.enter_all(pid),
        }
    }

    /// Moves a process into each directory.
    pub(crate) fn enter_all(&self, pid: Pid) -> Result<()> {
        for place in &self.places {
            match enter(place.open()?, pid) {
                Ok(()) => {}
                Err(_) if place.is_optional(self.version) => {}
                Err(error) if self.rootless && self.implied && error.is_permission() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The processes of the group, of those below it, too, where `recursive`, in the numbers of this process's pid namespace.
    ///
    /// # Errors
    /// [`Error::NoGroup`] where the container goes without; those of reading `cgroup.procs`. A directory that is gone is empty.
    pub fn processes(&self, recursive: bool) -> Result<Vec<Pid>> {
        let place = self.main()?;
        if recursive {
            return below(place);
        }
        match Directory::open(&place.mount, &place.path) {
            Ok(directory) => listed(&directory),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error).about("opening a cgroup"),
        }
    }
}

/// Writes the process's number into the directory's `cgroup.procs`.
pub(crate) fn enter(directory: &Directory, pid: Pid) -> Result<()> {
    let file = directory.open_file(PROCS, OFlags::WRONLY).about("entering a cgroup")?;
    let number = pid.as_raw_nonzero().to_string();
    let mut tries = NEW_TASK_TRIES;
    loop {
        tries -= 1;
        match write_once(&file, &number) {
            Ok(()) => return Ok(()),
            Err(Errno::INVAL) if tries > 0 => std::thread::sleep(NEW_TASK_PAUSE),
            Err(errno) => {
                let args = || format!("{:?}, {number:?}", directory.path().join(PROCS));
                let failed = sys::Error::new("write", args(), errno);
                return Err(controllers::why_not_entered(directory, failed));
            }
        }
    }
}

/// The processes of the place's directory and all below it.
pub(crate) fn below(place: &Place) -> Result<Vec<Pid>> {
    let top = match Directory::open(&place.mount, &place.path) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        top => top.about("opening a cgroup")?,
    };
    let mut all = All(Vec::new());
    walk(top, &mut all)?;
    Ok(all.0)
}

/// Collects the processes of every directory.
struct All(Vec<Pid>);

impl Visit for All {
    fn enter(&mut self, directory: &Directory) -> Result<()> {
        self.0.extend(listed(directory)?);
        Ok(())
    }
}

/// The processes of one directory; numbers of other pid namespaces read as 0 and are left out.
fn listed(directory: &Directory) -> Result<Vec<Pid>> {
    let text = match directory.read(PROCS) {
        Ok(text) => text,
        // gone meanwhile
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NODEV) => return Ok(Vec::new()),
        // a threaded directory has threads only; its domain lists the processes
        Err(error) if error.errno == Errno::OPNOTSUPP => return Ok(Vec::new()),
        Err(error) => return Err(error).about("listing a cgroup's processes"),
    };
    let number = |line: &str| {
        line.parse().map_err(|_| Error::Content {
            path: directory.path().join(PROCS),
            why: format!("{line:?} is no process number"),
        })
    };
    let numbers: Result<Vec<i32>> = text.lines().map(number).collect();
    Ok(numbers?.into_iter().filter_map(Pid::from_raw).collect())
}
