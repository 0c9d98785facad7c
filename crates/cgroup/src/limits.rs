//! From `linux.resources` to files, for either version: [`Group::update`].

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use crate::directory::Directory;
use crate::group::{Group, Version};
use crate::setting::{Setting, write_all};
use crate::{Error, Result, v1, v2};

impl Group {
    /// Writes these limits; what they leave out stays as it is.
    ///
    /// # Errors
    /// [`Error::NoGroup`], [`Error::NoController`], [`Error::NoFile`], [`Error::Limit`] and [`Error::Value`], each with the part of
    /// `linux.resources` that cannot be had. Limits written before the failure stay.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        if let Some(unit) = &self.unit {
            self.tell(unit, resources)?;
        }
        self.limit(resources, false).map(drop)
    }

    /// `new` is true for a group that was just made, whose values are the kernel's defaults; true where devices have rules now.
    pub(crate) fn limit(&self, resources: &LinuxResources, new: bool) -> Result<bool> {
        let settings = match self.version {
            Version::Legacy => v1::settings(resources, new)?,
            Version::Unified => v2::settings(resources, &self.now(resources, new)?)?,
        };
        if let (Some(first), true) = (settings.first(), self.is_none()) {
            return Err(Error::NoGroup { what: format!("linux.resources.{}", first.resource) });
        }
        if let (Some(memory), false) = (resources.memory(), new) {
            self.refuse_below_usage(memory)?;
        }
        write_all(&settings, |setting| self.directory_of(setting))?;
        self.devices(resources, new)
    }

    fn now(&self, resources: &LinuxResources, new: bool) -> Result<v2::Now> {
        match self.places.first() {
            Some(place) if !new => v2::Now::read(place.open()?, resources),
            _ => Ok(v2::Now::default()),
        }
    }

    fn directory_of(&self, setting: &Setting) -> Result<&Directory> {
        match self.place(&setting.controller) {
            Some(place) => place.open(),
            None => Err(Error::NoController {
                resource: setting.resource.to_string(),
                controller: setting.controller.to_string(),
                why: match self.rootless {
                    true => "this caller has no cgroup of".into(),
                    false => "no version-1 hierarchy of this host has".into(),
                },
            }),
        }
    }

    /// `memory.checkBeforeUpdate`: a limit that would be below what is in use is refused, where that can be read.
    fn refuse_below_usage(&self, memory: &LinuxMemory) -> Result<()> {
        let file = match self.version {
            Version::Legacy => "memory.usage_in_bytes",
            Version::Unified => "memory.current",
        };
        if memory.check_before_update() != Some(true) {
            return Ok(());
        }
        let Some(place) = self.place("memory") else { return Ok(()) };
        let text = place.open()?.read(file).unwrap_or_default();
        let Ok(usage) = text.trim().parse::<i64>() else { return Ok(()) };
        for (resource, limit) in [("memory.limit", memory.limit()), ("memory.swap", memory.swap())] {
            if let Some(limit) = limit.filter(|limit| *limit > 0 && *limit <= usage) {
                let why = format!("{limit} bytes is not above the {usage} bytes in use");
                return Err(Error::Value { resource: resource.into(), why });
            }
        }
        Ok(())
    }
}

/// A value that this version of cgroups has no file for.
pub(crate) fn inexpressible(resource: &str, version: &str) -> Error {
    Error::Version { resource: resource.into(), version: version.into() }
}
