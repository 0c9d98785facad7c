//! A group of no more than what is needed, and its end: for who makes containers without being an engine.

use oci_spec::runtime::LinuxResources;

use crate::error::About;
use crate::group::{Driver, Group, Version};
use crate::{Result, v1};

/// `SIGKILL`'s number (signal(7)).
const KILL: i32 = 9;

impl Group {
    /// No group at all, for a container that goes without.
    pub fn none() -> Self {
        Self {
            version: if crate::is_unified() { Version::Unified } else { Version::Legacy },
            places: Vec::new(),
            driver: Driver::Fs,
            rootless: true,
            implied: true,
            unit: None,
            pending: None,
            guarded: false,
        }
    }

    /// The same plan without rules for devices (version 1), for processes that are kept from them otherwise.
    #[must_use]
    pub fn without_devices(mut self) -> Self {
        if self.version == Version::Legacy {
            self.places.retain(|place| place.controllers.iter().all(|one| one != "devices"));
        }
        self
    }

    /// The same plan for a container that goes without whatever the caller may not make and no limit needs, and without a group
    /// where that is all of it.
    #[must_use]
    pub fn lenient(mut self) -> Self {
        (self.rootless, self.implied) = (true, true);
        self
    }

    /// Leaves out the hierarchies of version 1 that are neither among these controllers nor needed for these limits: each
    /// costs a directory and a move.
    ///
    /// # Errors
    /// [`crate::Error::Value`] for limits that cannot be meant.
    pub fn trim(&mut self, resources: &LinuxResources, controllers: &[&str]) -> Result<()> {
        if self.version == Version::Unified {
            return Ok(());
        }
        let settings = v1::settings(resources, true)?;
        let wanted = |one: &String| {
            controllers.contains(&one.as_str()) || settings.iter().any(|setting| setting.controller == **one)
        };
        self.places.retain(|place| place.controllers.iter().any(wanted));
        Ok(())
    }

    /// True once [`Group::make`] has set rules for devices: without the right to, a lenient group has none.
    pub fn has_device_rules(&self) -> bool {
        self.guarded
    }

    /// Ends what is left in the group, and removes it. One that is gone is fine.
    ///
    /// # Errors
    /// Those of [`Group::kill`] and [`Group::remove`].
    pub fn end(&self) -> Result<()> {
        if self.is_none() {
            return Ok(());
        }
        if !self.processes(true)?.is_empty() {
            self.kill(KILL)?;
        }
        self.remove()
    }

    /// How many processes of the group the kernel has ended for want of memory; none where nobody counts.
    ///
    /// # Errors
    /// Those of reading.
    pub fn oom_kills(&self) -> Result<u64> {
        let what = "reading how many processes want of memory has ended";
        let (Some(place), true) = (self.place("memory"), self.exists()) else { return Ok(0) };
        let file = match self.version {
            Version::Unified => "memory.events",
            // Counted since Linux 4.13.
            Version::Legacy => "memory.oom_control",
        };
        match place.open()?.read(file) {
            Ok(text) => Ok(crate::watch::value(&text, "oom_kill")),
            // Not delegated.
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error).about(what),
        }
    }
}
