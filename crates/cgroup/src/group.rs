//! [`Group`]: which directories a container has, in which hierarchies.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::directory::Directory;
use crate::error::About;
use crate::host::{self, Host};
use crate::path::{below, normal};
use crate::systemd::{self, Unit};
use crate::{Error, Result};

/// Who makes the directories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// We do, in the cgroup file systems.
    #[default]
    Fs,
    /// systemd does, asked over D-Bus.
    Systemd,
}

/// Which version of cgroups governs a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Version 1, with a directory in the unified hierarchy of a hybrid host, too.
    #[serde(rename = "v1")]
    Legacy,
    /// Version 2.
    #[serde(rename = "v2")]
    Unified,
}

/// What a container's group is planned from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container's id: the group's name where no path is given.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub path: Option<&'a Path>,
    /// Who makes it.
    pub driver: Driver,
    /// The caller may not expect to be allowed to ([`crate::is_rootless`]).
    pub rootless: bool,
}

/// A container's control group: a directory in the hierarchy of version 2, or one in each of version 1.
///
/// Written into the container's state as it is planned; whoever reads it there can use and remove the group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    pub(crate) version: Version,
    /// Empty where a rootless container goes without.
    pub(crate) places: Vec<Place>,
    pub(crate) driver: Driver,
    /// What a caller without rights may lack is let go.
    pub(crate) rootless: bool,
    /// No path was asked for, so that a rootless container may go without a group.
    pub(crate) implied: bool,
    /// The unit of systemd that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Unit>,
    /// What [`Group::make`] was asked for, where systemd makes the directories later.
    #[serde(skip)]
    pub(crate) pending: Option<LinuxResources>,
    /// Rules for devices are in force.
    #[serde(default)]
    pub(crate) guarded: bool,
}

/// A directory of a group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// The controllers of its hierarchy, or `name=systemd`; empty in a hierarchy of version 2.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The directory, below the mount.
    pub path: PathBuf,
    #[serde(skip)]
    open: OnceLock<Arc<Directory>>,
}

impl Place {
    /// A directory of a hierarchy with these controllers.
    pub(crate) fn new(controllers: &[String], mount: &Path, path: PathBuf) -> Self {
        Self { controllers: controllers.to_vec(), mount: mount.into(), path, open: OnceLock::new() }
    }

    /// Its path on the host.
    pub fn directory(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    /// True in hierarchies that limit nothing and that runc, too, goes without where it cannot have them.
    pub(crate) fn is_optional(&self, version: Version) -> bool {
        let named = |one: &String| one.starts_with("name=") || one == "misc";
        version == Version::Legacy && self.controllers.iter().all(named)
    }

    /// Its directory, opened when first asked for.
    pub(crate) fn open(&self) -> Result<&Directory> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let found = Directory::open(&self.mount, &self.path).about("opening a cgroup")?;
        Ok(self.open.get_or_init(|| Arc::new(found)))
    }

    /// Keeps an open directory for what comes next.
    pub(crate) fn keep(&mut self, directory: Directory) {
        self.open = OnceLock::from(Arc::new(directory));
    }

    /// Gives the open directory up.
    pub(crate) fn take(&mut self) -> Option<Directory> {
        self.open.take().and_then(|shared| Arc::try_unwrap(shared).ok())
    }
}

impl Group {
    /// Says which directories the container's group will have. Nothing is made.
    ///
    /// An absolute `cgroupsPath` is below the top of each hierarchy. A relative one, and the id where there is none, is below
    /// this process's own group on version 1, and below the parent of that on version 2, where a group with processes cannot
    /// have limited children: as runc. `..` never leads above the top.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`]; [`Error::Path`] where the path names the top of a hierarchy, or no unit of systemd's.
    pub fn plan(request: &Request<'_>) -> Result<Self> {
        let given = request.path.filter(|path| !path.as_os_str().is_empty());
        if request.driver == Driver::Systemd {
            let (unit, version, places) = systemd::plan(request)?;
            let (driver, rootless) = (request.driver, request.rootless);
            let implied = given.is_none();
            return Ok(Self {
                version,
                places,
                driver,
                rootless,
                implied,
                unit: Some(unit),
                pending: None,
                guarded: false,
            });
        }
        let inner = below(given.unwrap_or(Path::new(request.id)))?;
        let absolute = given.is_some_and(Path::is_absolute);
        let (version, places) = match Host::get() {
            Ok(Host::Unified(mount)) => (Version::Unified, vec![unified(mount, inner, absolute)?]),
            Ok(Host::Legacy(hierarchies)) => (Version::Legacy, legacy(hierarchies, &inner, absolute)?),
            Err(Error::NoHierarchy) if request.rootless && given.is_none() => (Version::Unified, Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(Self {
            version,
            places,
            driver: request.driver,
            rootless: request.rootless,
            implied: given.is_none(),
            unit: None,
            pending: None,
            guarded: false,
        })
    }

    /// The group that a container's state records; none where it records none, or another program's.
    pub fn recorded(record: Option<&serde_json::Value>) -> Option<Self> {
        record.and_then(|value| Self::deserialize(value).ok())
    }

    /// Which version of cgroups it is of.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Who makes it.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Its directories: none where a rootless container goes without.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// True where the container goes without a group.
    pub fn is_none(&self) -> bool {
        self.places.is_empty()
    }

    /// True where its directory is there.
    pub fn exists(&self) -> bool {
        self.main().is_ok_and(|place| Directory::open(&place.mount, &place.path).is_ok())
    }

    /// The directory that speaks for all: the one of version 2, or the one that holds the devices' rules, as in runc.
    pub(crate) fn main(&self) -> Result<&Place> {
        let named = ["devices", "pids", "memory"];
        let devices = named.iter().find_map(|name| self.place(name));
        devices.or(self.places.first()).ok_or_else(|| Error::NoGroup { what: "this operation".into() })
    }

    /// The directory that this controller governs.
    pub(crate) fn place(&self, controller: &str) -> Option<&Place> {
        match self.version {
            Version::Unified => self.places.first(),
            Version::Legacy => {
                self.places.iter().find(|place| place.controllers.iter().any(|one| one == controller))
            }
        }
    }
}

fn unified(mount: &Path, inner: PathBuf, absolute: bool) -> Result<Place> {
    let path = match absolute {
        true => inner,
        false => {
            let own = host::own_unified(host::own()?, mount)?.unwrap_or_default();
            own.parent().map(normal).unwrap_or_default().join(inner)
        }
    };
    Ok(Place::new(&[], mount, path))
}

fn legacy(hierarchies: &[host::Hierarchy], inner: &Path, absolute: bool) -> Result<Vec<Place>> {
    let own = if absolute { "" } else { host::own()? };
    let place = |one: &host::Hierarchy| {
        let above = one.own(own).unwrap_or_default();
        Place::new(&one.controllers, &one.mount, above.join(inner))
    };
    Ok(hierarchies.iter().map(place).collect())
}
