//! Where a further process of a container goes: the container's group, or one below it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::directory::Directory;
use crate::error::About;
use crate::group::{Group, Place, Version};
use crate::procs::enter;
use crate::{Error, Result, host, path};

/// `exec --cgroup`: a path below the container's group, or paths by controller (version 1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    all: PathBuf,
    by_controller: Vec<(String, PathBuf)>,
}

impl Inside {
    /// Reads runc's spelling: one `PATH`, or any number of `CONTROLLER[,CONTROLLER...]:PATH`.
    ///
    /// # Errors
    /// [`Error::Path`] for a path that leaves the group, an empty or repeated controller, or both spellings at once.
    pub fn parse<T: AsRef<str>>(arguments: &[T]) -> Result<Self> {
        let mut inside = Self::default();
        for argument in arguments.iter().map(AsRef::as_ref) {
            let refused = |why| Err(Error::Path { path: argument.into(), why });
            let Some((controllers, below)) = argument.split_once(':') else {
                if arguments.len() > 1 {
                    return refused("one path without a controller, or several with one each");
                }
                inside.all = path::sub(Path::new(argument))?;
                continue;
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return refused("a controller's name is missing before the colon");
                }
                if inside.by_controller.iter().any(|(known, _)| known == controller) {
                    return refused("a controller is named more than once");
                }
                inside.by_controller.push((controller.into(), path::sub(Path::new(below))?));
            }
        }
        Ok(inside)
    }

    /// The path below the group's directory `place`.
    fn at(&self, place: &Place) -> &Path {
        let named = |(controller, _): &&(String, PathBuf)| {
            let plain = |one: &String| one.strip_prefix("name=").unwrap_or(one) == controller;
            place.controllers.iter().any(plain)
        };
        self.by_controller.iter().find(named).map_or(&self.all, |(_, below)| below)
    }

    fn is_none(&self) -> bool {
        self.all.as_os_str().is_empty() && self.by_controller.is_empty()
    }
}

impl Group {
    /// The directory to clone a further process into (`CLONE_INTO_CGROUP`); `None` where [`Group::adopt_at`] is to move it.
    ///
    /// `EBUSY` from `clone3(2)` says that the container has given controllers to groups below its own, as systemd in it does:
    /// then the process belongs beside the container's own, [`Group::birthplace_beside`], unless a path was asked for.
    ///
    /// # Errors
    /// [`Error::Path`] for controllers on version 2; those of opening the directory.
    pub fn birthplace_at(&self, inside: &Inside) -> Result<Option<OwnedFd>> {
        if self.version == Version::Legacy {
            return Ok(None);
        }
        let Some(place) = self.places.first() else { return self.nowhere(inside).map(|()| None) };
        if let Some((controller, _)) = inside.by_controller.first() {
            let why = "cgroup v2 has one path for all controllers";
            return Err(Error::Path { path: controller.into(), why });
        }
        open_below(place, inside.at(place)).map(|directory| Some(directory.into_fd()))
    }

    /// Version 2: the directory that the container's process `init` is in now, which may be one below the group's own.
    ///
    /// # Errors
    /// [`Error::Path`] where it is not in the group any more; those of reading `/proc/PID/cgroup`.
    pub fn birthplace_beside(&self, init: Pid) -> Result<Option<OwnedFd>> {
        let (Version::Unified, Some(place)) = (self.version, self.places.first()) else { return Ok(None) };
        let now = host::unified_of(init, &place.mount)?.unwrap_or_default();
        let Ok(below) = now.strip_prefix(&place.path) else {
            return Err(Error::Path {
                path: now,
                why: "is where the container's process is, outside its cgroup",
            });
        };
        open_below(place, below).map(|directory| Some(directory.into_fd()))
    }

    /// Moves a further process into the group, or below it.
    ///
    /// # Errors
    /// As [`Group::adopt`]; [`Error::Path`] for a controller that the group has no directory of.
    pub fn adopt_at(&self, pid: Pid, inside: &Inside) -> Result<()> {
        self.nowhere(inside)?;
        for (controller, below) in &inside.by_controller {
            let plain = |one: &String| one.strip_prefix("name=").unwrap_or(one) == controller;
            if self.version == Version::Unified
                || !self.places.iter().any(|place| place.controllers.iter().any(plain))
            {
                let path = format!("{controller}:{}", below.display()).into();
                return Err(Error::Path { path, why: "the container has no cgroup of this controller" });
            }
        }
        if inside.is_none() {
            return self.adopt(pid);
        }
        for place in &self.places {
            let below = inside.at(place);
            let entered = open_below(place, below).and_then(|directory| enter(&directory, pid));
            match entered {
                Err(_) if place.is_optional(self.version) => {}
                entered => entered?,
            }
        }
        Ok(())
    }

    fn nowhere(&self, inside: &Inside) -> Result<()> {
        match self.is_none() && !inside.is_none() {
            true => Err(Error::NoGroup { what: "exec --cgroup".into() }),
            false => Ok(()),
        }
    }
}

fn open_below(place: &Place, below: &Path) -> Result<Directory> {
    Directory::open(&place.mount, &place.path.join(below)).about("opening a cgroup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runcs_spellings_are_read() {
        assert!(Inside::parse::<&str>(&[]).expect("nothing").is_none());
        assert_eq!(Inside::parse(&["a/b"]).expect("a path").all, Path::new("a/b"));
        let both = Inside::parse(&["cpu,memory:x", "systemd:/y"]).expect("controllers");
        let place = |name: &str| Place::new(&[name.to_string()], Path::new("/"), "c".into());
        let found = ["cpu", "memory", "name=systemd", "pids"].map(|name| both.at(&place(name)).to_path_buf());
        assert_eq!(found, ["x", "x", "y", ""].map(PathBuf::from));
    }

    #[test]
    fn what_would_leave_the_group_is_refused() {
        for bad in [&["../x"][..], &["cpu:/../x"], &[":x"], &["cpu,:x"], &["cpu:x", "cpu:y"], &["x", "y"]] {
            assert!(matches!(Inside::parse(bad), Err(Error::Path { .. })), "{bad:?}");
        }
    }
}
