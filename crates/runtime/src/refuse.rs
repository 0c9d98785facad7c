//! What the configuration may ask for and this runtime cannot give: refused by name, never dropped.

use oci_spec::runtime::{Hooks, LinuxNamespaceType, Spec};

use crate::error::{Error, Result};
use crate::group;

/// Refuses what belongs to a life that only the runtime's own verbs give.
///
/// Without a control group limits are refused, too. The device list is not among them: what it forbids cannot be opened anyway
/// (see `all_devices` of the plan).
pub(crate) fn without_a_runtime(spec: &Spec, has_group: bool) -> Result<()> {
    let hooks = spec.hooks().as_ref().is_some_and(|hooks| *hooks != Hooks::default());
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let notifies = profile.is_some_and(seccomp::notifies);
    let class = spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some());
    let all = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let among_hosts = all.is_none_or(|all| all.iter().all(|one| one.typ() != LinuxNamespaceType::Mount));
    let members = [
        (among_hosts, "linux.namespaces without a mount namespace"),
        (hooks, "hooks"),
        (notifies, "SCMP_ACT_NOTIFY"),
        (class, "linux.intelRdt"),
    ];
    let asked = first(&members).or_else(|| resources.filter(|_| !has_group).and_then(group::limits));
    asked.map_or(Ok(()), |member| Err(Error::Unsupported(member.into())))
}

fn first(asked: &[(bool, &'static str)]) -> Option<&'static str> {
    asked.iter().find(|(is_asked, _)| *is_asked).map(|(_, member)| *member)
}
