//! What is mounted inside the root.

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount, Process, Spec};
use rustix::process::Uid;

use super::devices::device_nodes;
use super::invalid;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::request::Stdio;
use crate::step::{Action, MountPlan, Source, Step, TerminalPlan};

/// The container's own /dev where the configuration forgets it (docker's size).
pub(super) const OWN_DEV: &[&str] = &["nosuid", "strictatime", "mode=755", "size=65536k"];

/// Mounts, devices, the terminal, and what is hidden: all that is done with the host still in reach.
pub(super) fn file_systems(
    spec: &Spec,
    linux: &Linux,
    bundle: &Path,
    stdio: &Stdio,
    devices: bool,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let mounts = spec.mounts().clone().unwrap_or_default();
    let dev = mounts.iter().find(|mount| is_dev(mount.destination()));
    let own_dev = dev.is_none_or(|mount| mount.typ().as_deref() == Some("tmpfs"));
    if dev.is_none() {
        let words: Vec<String> = OWN_DEV.iter().map(ToString::to_string).collect();
        let what = Source::New { kind: "tmpfs".into(), source: "tmpfs".into() };
        let options = Options::parse(&words, "/dev")?;
        steps.push(mount_step(MountPlan { destination: "/dev".into(), what, options }));
    }
    for mount in &mounts {
        let mut plan = plan_mount(mount, linux, bundle)?;
        // /dev is sealed once its nodes are there; devpts holds nothing but terminals.
        if !devices && !is_dev(mount.destination()) && mount.typ().as_deref() != Some("devpts") {
            plan.options = plan.options.without_devices();
        }
        steps.push(mount_step(plan));
    }
    if own_dev {
        let nodes = device_nodes(linux)?;
        let paths = nodes.iter().map(|node| node.path.clone()).collect();
        steps.push(Step::new("make devices", Action::Devices(nodes)));
        if !devices {
            steps.push(Step::new("seal devices", Action::SealDevices(paths)));
        }
        steps.push(Step::new("link devices", Action::DeviceLinks));
    }
    steps.push(Step::new("check /dev/null", Action::Null));
    let process = spec.process().as_ref().ok_or(Error::Incomplete("process"))?;
    if let Stdio::Terminal { .. } | Stdio::Console(_) = stdio {
        let given = if let Stdio::Terminal { size } = stdio { *size } else { None };
        let size = given.or(console_size(process));
        let uid = Uid::from_raw(process.user().uid());
        steps.push(Step::new(
            "allocate a terminal",
            Action::Terminal(TerminalPlan { size, uid, console: true }),
        ));
    }
    Ok(())
}

pub(super) fn mount_step(plan: MountPlan) -> Step {
    Step::new(format!("mount {}", plan.destination.display()), Action::Mount(plan))
}

pub(super) fn is_dev(destination: &Path) -> bool {
    let mut names = destination.components().filter(|c| matches!(c, std::path::Component::Normal(_)));
    names.next().is_some_and(|first| first.as_os_str() == "dev") && names.next().is_none()
}

pub(super) fn plan_mount(mount: &Mount, linux: &Linux, bundle: &Path) -> Result<MountPlan> {
    let destination = mount.destination().clone();
    let words = mount.options().clone().unwrap_or_default();
    let mut options = Options::parse(&words, &destination.display().to_string())?;
    let kind = mount.typ().as_deref().unwrap_or("none");
    let bind = options.bind.or((kind == "bind").then_some(false));
    let source = mount.source().as_deref();
    let what = if let Some(recursive) = bind {
        let path = source.ok_or_else(|| invalid("mounts", format!("{destination:?} has no source")))?;
        // Of a bind the kernel takes no data and ignores what it is given (mount(2)), so `key=value` means nothing here, as
        // with runc; a bare word left over is a mistake that must not pass as done.
        if let Some((word, _)) = options.data.iter().find(|(_, value)| value.is_none()) {
            return Err(invalid("mounts", format!("{destination:?} has an unknown option {word:?}")));
        }
        Source::Bind { path: bundle.join(path), recursive }
    } else if kind == "cgroup" || kind == "cgroup2" {
        options.data.clear();
        cgroup_file_systems(kind, linux)
    } else {
        let source = source.map_or(kind.to_string(), |path| path.display().to_string());
        Source::New { kind: kind.to_string(), source }
    };
    Ok(MountPlan { destination, what, options })
}

/// Rows and columns, as configured.
pub(super) fn console_size(process: &Process) -> Option<(u16, u16)> {
    let narrow = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    process.console_size().map(|size| (narrow(size.height()), narrow(size.width())))
}

/// What a mount of cgroups shows: all that its cgroup namespace has, or without one the container's own groups, as runc does.
fn cgroup_file_systems(kind: &str, linux: &Linux) -> Source {
    let version_2 = || vec![cgroup::Shown { directory: String::new(), controllers: Vec::new() }];
    let shown = if kind == "cgroup2" { Ok(version_2()) } else { cgroup::hierarchies() };
    // A host without any has nothing to show but what a container's own mount brings.
    let hierarchies = shown.unwrap_or_else(|_| version_2());
    let mut namespaces = linux.namespaces().iter().flatten();
    let is_apart = namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup);
    let of_version_1: Vec<_> =
        hierarchies.iter().filter(|one| !one.controllers.is_empty()).cloned().collect();
    if is_apart || of_version_1.is_empty() {
        Source::Cgroups(hierarchies)
    } else {
        Source::OwnCgroups(of_version_1)
    }
}
