//! Which namespaces the process is in, and how it comes there.

use std::fs::File;

use oci_spec::runtime::{Linux, LinuxNamespaceType};
use rustix::mount::MountPropagationFlags as Propagation;
use rustix::thread::LinkNameSpaceType;

use crate::error::{Error, Result};
use crate::step::{Action, Entry, Step};

pub(super) const CLONE_NEWNET: u64 = 0x4000_0000;

pub(super) const CLONE_NEWCGROUP: u64 = LinuxNamespaceType::Cgroup as u64;

/// How the process comes into its namespaces.
pub(super) struct Namespaces {
    /// New ones, as clone flags.
    pub(super) flags: u64,
    /// Those that exist and must be entered before the process is made.
    pub(super) entries: Vec<Entry>,
    /// Those that exist and that it enters itself.
    pub(super) joins: Vec<Step>,
}

pub(super) fn namespaces(linux: &Linux) -> Result<Namespaces> {
    let (mut flags, mut entries, mut joins) = (0, Vec::new(), Vec::new());
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ();
        let Some(path) = namespace.path() else {
            if matches!(kind, LinuxNamespaceType::User | LinuxNamespaceType::Time) {
                return Err(Error::Unsupported(format!("a new {kind} namespace")));
            }
            flags |= kind as u64;
            continue;
        };
        let link = match kind {
            LinuxNamespaceType::Network => LinkNameSpaceType::Network,
            LinuxNamespaceType::Ipc => LinkNameSpaceType::InterProcessCommunication,
            LinuxNamespaceType::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            LinuxNamespaceType::Cgroup => LinkNameSpaceType::ControlGroup,
            LinuxNamespaceType::Pid => LinkNameSpaceType::ProcessID,
            other => return Err(Error::Unsupported(format!("joining a {other} namespace"))),
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "a namespace of the host, as the configuration names it"
        )]
        let file = File::open(path).map_err(|source| Error::File { path: path.clone(), source })?;
        if kind == LinuxNamespaceType::Pid {
            // It is the children of who joins that are in it.
            entries.push(Entry::Join(file, link));
        } else {
            joins.push(Step::new(format!("join the {kind} namespace"), Action::Join(file, link)));
        }
    }
    if flags & LinuxNamespaceType::Mount as u64 == 0 {
        return Err(Error::Unsupported("a container without a mount namespace".into()));
    }
    Ok(Namespaces { flags, entries, joins })
}

pub(super) fn root_propagation(linux: &Linux) -> Result<Propagation> {
    match linux.rootfs_propagation().as_deref() {
        // Mounts of the host may still come in until the root is pivoted; none of ours goes out.
        None | Some("" | "rslave" | "slave") => Ok(Propagation::DOWNSTREAM | Propagation::REC),
        Some("rprivate" | "private") => Ok(Propagation::PRIVATE | Propagation::REC),
        Some(other) => Err(Error::Unsupported(format!("linux.rootfsPropagation {other:?}"))),
    }
}

/// True where a container can have a namespace of this type of its own.
pub(crate) fn makes(kind: &str) -> bool {
    let all = [serde_json::json!({"containerID": 0, "hostID": 0, "size": 1})];
    let linux = serde_json::json!({
        "namespaces": [{"type": "mount"}, {"type": kind}],
        "uidMappings": all,
        "gidMappings": all,
    });
    serde_json::from_value::<Linux>(linux).is_ok_and(|linux| namespaces(&linux).is_ok())
}
