//! The filter of a container's system calls: loading it in init, and handing its listener to who answers.

use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxSeccomp, Spec};
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use rustix::thread::CapabilitySet;
use seccomp::{Program, notify};
use sys::{Call, Error as Failed};

use crate::channel::Channel;
use crate::error::{Error, Result};

/// The step's name.
pub(crate) const STEP: &str = "load the seccomp filter";

/// The program of a configuration's profile.
pub(crate) fn program(linux: &Linux) -> Result<Option<Program>> {
    let Some(profile) = linux.seccomp() else { return Ok(None) };
    let program = seccomp::compile(profile)?;
    if program.wants_listener() && profile.listener_path().is_none() {
        let why = "SCMP_ACT_NOTIFY needs it".into();
        return Err(Error::Invalid { member: "linux.seccomp.listenerPath".into(), why });
    }
    Ok(Some(program))
}

/// In init: filters this process, and has the runtime take a copy of the filter's listener.
pub(crate) fn load(program: &Program, channel: &Channel) -> sys::Result<()> {
    match program.load() {
        Ok(None) => Ok(()),
        Ok(Some(listener)) => channel.offer(listener.as_fd()),
        Err(seccomp::Error::Load(error)) => Err(error),
        Err(other) => Err(Failed::new("seccomp", other.to_string(), Errno::INVAL)),
    }
}

/// In init: becoming another user took the effective capabilities, and filtering without no_new_privs needs one. Without
/// it the kernel says so.
pub(crate) fn raise_privilege() -> sys::Result<()> {
    let mut sets = rustix::thread::capabilities(None).call("capget", String::new)?;
    let needed = CapabilitySet::SYS_ADMIN;
    if sets.effective.contains(needed) || !sets.permitted.contains(needed) {
        return Ok(());
    }
    sets.effective |= needed;
    rustix::thread::set_capabilities(None, sets).call("capset", || "CAP_SYS_ADMIN".into())
}

/// Who answers a filter's notifications.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    path: PathBuf,
    metadata: Option<String>,
}

impl Supervisor {
    /// Who a configuration names.
    pub(crate) fn of(spec: &Spec) -> Option<Self> {
        let profile: &LinuxSeccomp = spec.linux().as_ref()?.seccomp().as_ref()?;
        let path = profile.listener_path().clone()?;
        Some(Self { path, metadata: profile.listener_metadata().clone() })
    }

    /// Hands over the listener that has this number in the process, with what the container is.
    pub(crate) fn take(
        &self,
        process: BorrowedFd<'_>,
        number: RawFd,
        pid: u32,
        state: serde_json::Value,
    ) -> Result<()> {
        let listener = pidfd_getfd(process, number, PidfdGetfdFlags::empty())
            .call("pidfd_getfd", || format!("{number}, the listener of the filter"))?;
        let wrong = |error: serde_json::Error| Error::Lost(format!("its state makes no sense: {error}"));
        let state = crate::typed(&state).map_err(wrong)?;
        let document = notify::process_state(state, pid.cast_signed(), self.metadata.as_deref());
        let socket = notify::connect(&self.path)?;
        Ok(notify::send(socket.as_fd(), &self.path, &document, listener)?)
    }
}
