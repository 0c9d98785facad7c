//! A container's control group: planned, made with init in it, ended. What both faces do alike, and the plan of a pipeline's.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use cgroup::{Driver, Group, Request};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources, Spec};
use rustix::io::Errno;

use crate::defaults;
use crate::error::{Error, Result};
use crate::lifecycle::{ends_with_the_first, meant, members};
use crate::newborn::Newborn;
use crate::request::Tie;

/// How often a container is looked at for processes that are not in its new group yet.
const ROUNDS: usize = 20;

/// Where the groups of pipelines' containers are, below the top of each hierarchy.
const PARENT: &str = "ocipipe";

/// The hierarchies of version 1 that each container has a group in: to be frozen, counted, limited later on, and
/// kept from devices. What limits need beside these comes on top.
const ALWAYS: [&str; 8] = ["freezer", "pids", "memory", "cpuacct", "cpu", "cpuset", "blkio", "devices"];

/// Plans the control group of a container that no engine gave one. Nothing is made: whoever records it first can remove it
/// later, whatever happens.
///
/// It is `linux.cgroupsPath`, else `/ocipipe/NAME`, and without the rights of root one below the caller's own group. What the
/// caller may not make and no limit needs is gone without; none on a host without control groups.
///
/// On version 1 a container that dies with its parent has one only where limits, rules for devices or a path ask for it, or where
/// no pid namespace of its own ends all its processes with the first: to move a process into one waits until every processor has
/// been through the scheduler, some milliseconds. [`Group`] can be made later, too.
///
/// # Errors
/// [`Error::Cgroup`]; [`Error::Limits`] where a limit is asked for that nothing here can hold.
pub fn plan_group(spec: &Spec, name: &str, tie: Tie) -> Result<Option<Group>> {
    let resources = resources(spec);
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let given = given.filter(|path| !path.as_os_str().is_empty());
    let is_asked = given.is_some() || limits(&resources).is_some() || needs_rules(spec, &resources);
    if !is_asked && ends_with_the_first(spec) && tie == Tie::DiesWithParent && !cgroup::is_unified() {
        return Ok(None);
    }
    let rootless = cgroup::is_rootless();
    let own = PathBuf::from("/").join(PARENT).join(name);
    let path = given.or((!rootless).then_some(own.as_path()));
    let id = format!("{PARENT}/{name}");
    let request = Request { id: &id, path, driver: Driver::Fs, rootless };
    let mut group = match Group::plan(&request) {
        Err(cgroup::Error::NoHierarchy) if !is_asked => return Ok(None),
        planned => planned.map_err(|error| explained(&resources, error))?,
    };
    if given.is_none() {
        group = group.lenient();
    }
    group.trim(&resources, &ALWAYS)?;
    Ok(if group.is_none() && !is_asked { None } else { Some(group) })
}

/// Makes a group around a container that runs without one.
///
/// # Errors
/// Those of [`plan_group`] and [`members`]; [`Error::Lost`] where it makes processes faster than they can be moved.
pub fn gather(group: &mut Group, spec: &Spec, init: u32) -> Result<()> {
    make(group, spec)?;
    let moved = adopt_all(group, init);
    if moved.is_err() {
        // Nothing is ended here: what is in it already keeps it.
        let _ = group.remove();
    }
    moved
}

fn adopt_all(group: &Group, init: u32) -> Result<()> {
    for _ in 0..ROUNDS {
        let there = group.processes(true)?;
        let mut missing = members(init)?;
        missing.retain(|pid| !there.contains(pid));
        if missing.is_empty() {
            return Ok(());
        }
        for pid in missing {
            match group.adopt(pid) {
                // It has ended meanwhile.
                Err(error) if error.errno() == Some(Errno::SRCH) => {}
                adopted => adopted?,
            }
        }
    }
    Err(Error::Lost("it makes processes faster than they can be moved into a control group".into()))
}

/// Makes the group, with the limits of the configuration.
pub(crate) fn make(group: &mut Group, spec: &Spec) -> Result<()> {
    let resources = resources(spec);
    group.make(&resources).map_err(|error| explained(&resources, error))
}

/// Refuses rules for devices that were asked for and that the group does not hold: who may not set them goes without the usual
/// ones, which mounts keep as well, but not without others.
///
/// # Errors
/// [`Error::Limits`].
pub(crate) fn holds_rules(group: &Group, spec: &Spec) -> Result<()> {
    if group.has_device_rules() || !needs_rules(spec, &resources(spec)) {
        return Ok(());
    }
    let source = cgroup::Error::NoController {
        resource: "devices".into(),
        controller: "devices".into(),
        why: "this caller may not use".into(),
    };
    Err(Error::Limits { limit: "linux.resources.devices", source: Box::new(source) })
}

/// Puts init into its group, unless it was born there. Init goes on meanwhile, to where it waits for the runtime.
pub(crate) fn house(group: &Group, birthplace: Option<&OwnedFd>, init: &Newborn) -> Result<()> {
    match (birthplace, init.pid()) {
        (None, Some(pid)) => Ok(group.adopt(pid)?),
        _ => Ok(()),
    }
}

/// The limits as the configuration's version means them.
fn resources(spec: &Spec) -> LinuxResources {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    meant(spec.version(), resources.unwrap_or_default())
}

/// The first limit that is asked for.
pub(crate) fn limits(resources: &LinuxResources) -> Option<&'static str> {
    let memory = resources.memory().as_ref().is_some_and(|memory| *memory != Default::default());
    let cpu = resources.cpu().as_ref().is_some_and(|cpu| *cpu != Default::default());
    let io = resources.block_io().as_ref().is_some_and(|io| *io != Default::default());
    let network = resources.network().as_ref().is_some_and(|net| *net != Default::default());
    let asked = [
        (memory, "linux.resources.memory"),
        (cpu, "linux.resources.cpu"),
        (resources.pids().as_ref().is_some_and(|pids| pids.limit() > 0), "linux.resources.pids"),
        (io, "linux.resources.blockIO"),
        (
            resources.hugepage_limits().as_ref().is_some_and(|all| !all.is_empty()),
            "linux.resources.hugepageLimits",
        ),
        (network, "linux.resources.network"),
        (resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()), "linux.resources.rdma"),
        (resources.unified().as_ref().is_some_and(|keys| !keys.is_empty()), "linux.resources.unified"),
    ];
    asked.into_iter().find_map(|(is_asked, member)| is_asked.then_some(member))
}

/// True for rules that only a group can hold: mounts keep a container from devices and give it its own, whole, no more.
fn needs_rules(spec: &Spec, resources: &LinuxResources) -> bool {
    let usual = defaults::device_list();
    let nodes = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let has_node = |rule: &LinuxDeviceCgroup| {
        nodes.iter().any(|node| (Some(node.major()), Some(node.minor())) == (rule.major(), rule.minor()))
    };
    let is_held = |rule: &LinuxDeviceCgroup| {
        let is_whole =
            rule.access().as_ref().is_some_and(|access| "rwm".chars().all(|one| access.contains(one)));
        let is_any = rule.typ().is_none_or(|kind| kind == LinuxDeviceType::A);
        usual.contains(rule) || (is_whole && (is_any || (rule.allow() && has_node(rule))))
    };
    !resources.devices().iter().flatten().all(is_held)
}

/// A group that cannot be had, with the limit that needs it where its own error does not tell.
fn explained(resources: &LinuxResources, source: cgroup::Error) -> Error {
    match (limits(resources), &source) {
        (
            Some(limit),
            cgroup::Error::NoHierarchy | cgroup::Error::Call { .. } | cgroup::Error::Kind { .. },
        ) => Error::Limits { limit, source: Box::new(source) },
        _ => Error::Cgroup(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(namespaces: serde_json::Value) -> Spec {
        let linux = serde_json::json!({"namespaces": namespaces});
        serde_json::from_value(serde_json::json!({"ociVersion": "1.2.0", "linux": linux}))
            .expect("a configuration")
    }

    #[test]
    fn where_no_pid_namespace_ends_all_processes_a_group_does() {
        let own = spec(serde_json::json!([{"type": "mount"}, {"type": "pid"}]));
        let shared = spec(serde_json::json!([{"type": "mount"}]));
        let joined = spec(serde_json::json!([{"type": "mount"}, {"type": "pid", "path": "/proc/1/ns/pid"}]));
        let planned = |spec: &Spec, tie| plan_group(spec, "x", tie).expect("a plan").is_some();
        // Where the host has any at all.
        let possible = planned(&own, Tie::Outlives);
        assert_eq!(
            (planned(&shared, Tie::DiesWithParent), planned(&joined, Tie::DiesWithParent)),
            (possible, possible)
        );
        assert_eq!(planned(&own, Tie::DiesWithParent), possible && cgroup::is_unified());
    }
}
