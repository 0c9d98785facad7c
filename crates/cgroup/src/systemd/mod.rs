//! The systemd driver: a container's group is a scope that systemd makes, owns and removes.
//!
//! A scope begins with a process in it, so it is made when the container's process is adopted; what `make` was asked for is kept
//! until then. The directory is delegated (systemd.resource-control(5), `Delegate=`): limits are properties where systemd has one
//! and are written into the files as well, which rounds nothing.

mod bus;
mod message;
mod properties;
mod unit;

use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;

use crate::group::{Group, Place, Request, Version};
use crate::host::Host;
use crate::make::{Undo, make_place};
use crate::path::normal;
use crate::systemd::bus::Bus;
use crate::systemd::message::{Property, Value};
pub(crate) use crate::systemd::unit::Unit;
use crate::{Error, Result};

/// The unit and the directories that a request asks for.
pub(crate) fn plan(request: &Request<'_>) -> Result<(Unit, Version, Vec<Place>)> {
    let given = request.path.filter(|path| !path.as_os_str().is_empty());
    let unit = Unit::of(given, request.id, request.rootless)?;
    // A user's units are below that user's manager.
    let top = if unit.user { Bus::connect(true)?.control_group()? } else { String::new() };
    let path = normal(top.as_ref()).join(unit.directory());
    let (version, places) = match Host::get()? {
        Host::Unified(mount) => (Version::Unified, vec![Place::new(&[], mount, path)]),
        Host::Legacy(all) => {
            let place = |one: &crate::host::Hierarchy| Place::new(&one.controllers, &one.mount, path.clone());
            (Version::Legacy, all.iter().map(place).collect())
        }
    };
    Ok((unit, version, places))
}

impl Group {
    /// Lets systemd make the unit with this process in it, and writes the limits that were asked for. Where they cannot be
    /// written the unit goes, and the process with it.
    pub(crate) fn start(&self, unit: &Unit, pid: Pid) -> Result<()> {
        let resources = self.pending.clone().unwrap_or_default();
        let mut properties = fixed(unit, pid);
        properties.extend(properties::properties(&resources, self.version)?);
        let mut bus = Bus::connect(unit.user)?;
        match bus.start(&unit.name, &properties) {
            // One that failed before us and that nobody has looked at. One that runs is somebody else's: two containers of one
            // unit may be made at the same time, and the second is refused.
            Err(Error::Systemd { name, .. }) if name.ends_with(".UnitExists") => {
                bus.forget_failed(&unit.name);
                bus.start(&unit.name, &properties)?;
            }
            answer => answer?,
        }
        self.complete(&resources, pid).inspect_err(|_| {
            // An init ignores the SIGTERM that systemd would begin with, and systemd would wait for it.
            let _ = self.kill(crate::kill::KILL);
            let _ = bus.stop(&unit.name);
        })
    }

    /// What systemd leaves to us: the hierarchies of version 1 that it does not use, and the files.
    fn complete(&self, resources: &LinuxResources, pid: Pid) -> Result<()> {
        let mut undo = Undo::default();
        if self.version == Version::Legacy {
            for place in &self.places {
                make_place(&mut place.clone(), self.version, resources, &mut undo, false)?;
            }
        }
        self.enter_all(pid)?;
        self.limit(resources, true)?;
        undo.keep();
        Ok(())
    }

    /// Tells systemd of changed limits.
    pub(crate) fn tell(&self, unit: &Unit, resources: &LinuxResources) -> Result<()> {
        let properties = properties::properties(resources, self.version)?;
        if properties.is_empty() { Ok(()) } else { Bus::connect(unit.user)?.set(&unit.name, &properties) }
    }
}

/// Has the unit stopped; where there is no systemd any more, its directories are removed all the same.
pub(crate) fn stop(unit: &Unit) -> Result<()> {
    Bus::connect(unit.user).and_then(|mut bus| bus.stop(&unit.name))
}

/// What every unit of ours has, as runc's.
fn fixed(unit: &Unit, pid: Pid) -> Vec<Property> {
    let mut list = vec![("Description", Value::Text(format!("oci-spawn container {}", unit.name)))];
    if !unit.is_slice() {
        // A slice holds no processes and is in the slice that its name says.
        list.push(("Slice", Value::Text(unit.slice.clone())));
        list.push(("Delegate", Value::Flag(true)));
        list.push(("PIDs", Value::Numbers(vec![pid.as_raw_nonzero().get().unsigned_abs()])));
    }
    for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        list.push((accounting, Value::Flag(true)));
    }
    // Without this a scope needs sysinit.target, and is stopped before what it needs at shutdown.
    list.push(("DefaultDependencies", Value::Flag(false)));
    list
}
