//! What the configuration may ask for and this runtime cannot give: refused by name, never dropped.

use oci_spec::runtime::{Hooks, LinuxNamespaceType, LinuxResources, Spec};

use crate::error::{Error, Result};

/// Refuses what belongs to a life that only the runtime's own verbs give.
pub(crate) fn without_a_runtime(spec: &Spec) -> Result<()> {
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
    let asked = first(&members).or_else(|| resources.and_then(of_resources));
    asked.map_or(Ok(()), |member| Err(Error::Unsupported(member.into())))
}

/// The device list is not among these: what it forbids cannot be opened anyway (see `all_devices` of the plan).
fn of_resources(resources: &LinuxResources) -> Option<&'static str> {
    let memory = resources.memory().as_ref().is_some_and(|memory| *memory != Default::default());
    let cpu = resources.cpu().as_ref().is_some_and(|cpu| *cpu != Default::default());
    first(&[
        (memory, "linux.resources.memory"),
        (cpu, "linux.resources.cpu"),
        (resources.pids().as_ref().is_some_and(|pids| pids.limit() > 0), "linux.resources.pids"),
        (
            resources.block_io().as_ref().is_some_and(|io| *io != Default::default()),
            "linux.resources.blockIO",
        ),
        (
            resources.hugepage_limits().as_ref().is_some_and(|l| !l.is_empty()),
            "linux.resources.hugepageLimits",
        ),
        (
            resources.network().as_ref().is_some_and(|net| *net != Default::default()),
            "linux.resources.network",
        ),
        (resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()), "linux.resources.rdma"),
        (resources.unified().as_ref().is_some_and(|keys| !keys.is_empty()), "linux.resources.unified"),
    ])
}

fn first(asked: &[(bool, &'static str)]) -> Option<&'static str> {
    asked.iter().find(|(is_asked, _)| *is_asked).map(|(_, member)| *member)
}
