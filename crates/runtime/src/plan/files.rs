//! What is mounted inside the root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount, Process, Spec};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags as Propagation;
use rustix::process::Uid;
use sys::mount::Extent;

use super::devices::device_nodes;
use super::invalid;
use super::namespaces::{Namespaces, Users, propagation_towards_host};
use crate::error::{Error, Result};
use crate::idmap::IdMaps;
use crate::labels::{self, Module};
use crate::mounts::source;
use crate::options::{OF_SUPERBLOCKS, Options};
use crate::request::{RootSource, Stdio};
use crate::rootmount::RootMount;
use crate::step::{Action, MountPlan, RootPlan, Source, Step, TerminalPlan};

/// The container's own /dev where the configuration forgets it (docker's size).
const OWN_DEV: &[&str] = &["nosuid", "strictatime", "mode=755", "size=65536k"];

/// What the file systems of a container are planned from.
pub(super) struct Files<'a> {
    pub(super) spec: &'a Spec,
    pub(super) linux: &'a Linux,
    pub(super) bundle: &'a Path,
    pub(super) namespaces: &'a Namespaces,
    /// False: no device node works but those of /dev that are listed.
    pub(super) devices: bool,
    pub(super) warnings: &'a mut Vec<String>,
}

impl Files<'_> {
    /// The root and what is mounted in it, devices and the terminal: all that is done with the host still in reach.
    ///
    /// Gives back where the root is mounted among the host's mounts, where the container has none of its own.
    pub(super) fn steps(
        &mut self,
        root: RootSource,
        stdio: &Stdio,
        steps: &mut Vec<Step>,
    ) -> Result<Option<RootMount>> {
        let propagation = propagation_towards_host(self.linux)?;
        let root = self.root(root)?;
        let mut on_host = None;
        if self.namespaces.shares_mounts() {
            on_host = Some(RootMount::of(&root)?);
        } else {
            steps.push(Step::new("cut mount propagation", Action::Propagation(propagation)));
        }
        let root = RootPlan {
            source: root,
            devices: self.devices,
            shared: propagation.contains(Propagation::SHARED),
        };
        steps.push(Step::new("mount the root", Action::Root(root)));
        if self.linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()) {
            labels::check("linux.mountLabel", Module::Selinux)?;
        }
        let mounts = self.spec.mounts().clone().unwrap_or_default();
        let dev = mounts.iter().find(|mount| is_dev(mount.destination()));
        if dev.is_none() {
            let what = Source::New { kind: "tmpfs".into(), source: "tmpfs".into() };
            let options = Options::parse(OWN_DEV);
            steps.push(mount_step(MountPlan { destination: "/dev".into(), what, options }));
        }
        for mount in &mounts {
            let mut plan = self.mount(mount)?;
            // /dev is sealed once its nodes are there; devpts holds nothing but terminals.
            if !self.devices && !is_dev(mount.destination()) && mount.typ().as_deref() != Some("devpts") {
                plan.options = plan.options.without_devices();
            }
            steps.push(mount_step(plan));
        }
        // One of the host's is left as it is, as with runc.
        if dev.is_none_or(|mount| !is_bind(mount)) {
            let nodes = device_nodes(self.linux)?;
            let mut paths: Vec<PathBuf> = nodes.iter().map(|node| node.path.clone()).collect();
            steps.push(Step::new("make devices", Action::Devices(nodes)));
            // In a user namespace no file system of the container's own gives devices.
            if !self.namespaces.has_users() && !self.devices {
                steps.push(Step::new("seal devices", Action::SealDevices(paths)));
            } else if !self.namespaces.has_users() {
                paths.retain(|path| !path.starts_with("/dev"));
                steps.push(Step::new("let devices work", Action::FreeDevices(paths)));
            }
            steps.push(Step::new("link devices", Action::DeviceLinks));
        }
        steps.push(Step::new("check /dev/null", Action::Null));
        self.terminal(stdio, steps)?;
        Ok(on_host)
    }

    fn terminal(&self, stdio: &Stdio, steps: &mut Vec<Step>) -> Result<()> {
        let process = self.spec.process().as_ref().ok_or(Error::Incomplete("process"))?;
        if let Stdio::Terminal { .. } | Stdio::Console(_) = stdio {
            let given = if let Stdio::Terminal { size } = stdio { *size } else { None };
            let size = given.or(console_size(process));
            let uid = Uid::from_raw(process.user().uid());
            let plan = TerminalPlan { size, uid, console: true };
            steps.push(Step::new("allocate a terminal", Action::Terminal(plan)));
        }
        Ok(())
    }

    /// The root's tree, taken while this process may still go where it lies.
    fn root(&self, root: RootSource) -> Result<RootSource> {
        Ok(match root {
            RootSource::Mounted(at) => match self.tree(&at, true)? {
                Some(mount) => RootSource::Detached { mount, at },
                None => RootSource::Mounted(at),
            },
            detached => detached,
        })
    }

    /// A tree of the host; none where only init, in its own namespaces, can take it.
    fn tree(&self, path: &Path, recursive: bool) -> Result<Option<OwnedFd>> {
        let is_joined = |kind| {
            self.linux.namespaces().iter().flatten().any(|one| one.typ() == kind && one.path().is_some())
        };
        if is_joined(LinuxNamespaceType::Mount) {
            return Ok(None);
        }
        match source(path, recursive) {
            Ok(tree) => Ok(Some(tree)),
            Err(error) if error.call == "open_tree" && error.errno == Errno::PERM => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn mount(&mut self, mount: &Mount) -> Result<MountPlan> {
        let destination = self.destination(mount.destination())?;
        let words = mount.options().as_deref().unwrap_or_default();
        let mut options = Options::parse(words);
        let kind = mount.typ().as_deref().unwrap_or("none");
        options.shares_with_host = propagation_towards_host(self.linux)?.contains(Propagation::SHARED)
            && !self.namespaces.has_users();
        let what = if options.remount {
            Source::Remount
        } else if is_bind(mount) {
            self.bind(mount, &destination, &mut options)?
        } else if kind == "cgroup" || kind == "cgroup2" {
            options.data.clear();
            cgroup_file_systems(kind, self.linux)
        } else {
            let source = mount.source().as_ref().map_or(kind.to_string(), |path| path.display().to_string());
            Source::New { kind: kind.to_string(), source }
        };
        let is_new = matches!(what, Source::New { .. });
        // Labels of what the kernel shows are the kernel's.
        let label = self.linux.mount_label().as_ref().filter(|label| !label.is_empty());
        if let (true, Some(label)) = (is_new && !matches!(kind, "proc" | "sysfs"), label) {
            options.data.push(("context".into(), Some(label.clone())));
        }
        if options.copy_up && !(is_new && kind == "tmpfs") {
            return Err(invalid("mounts", format!("tmpcopyup of {destination:?} is for a tmpfs alone")));
        }
        if is_new || matches!(what, Source::Cgroups(_) | Source::OwnCgroups(_)) {
            if options.id_map.is_some() || mount.uid_mappings().is_some() {
                let why = format!("{destination:?}: ids are mapped for bind mounts alone");
                return Err(invalid("mounts", why));
            }
            if destination == Path::new("/proc") && kind != "proc" {
                return Err(invalid("mounts", format!("a {kind} cannot be mounted on /proc")));
            }
        }
        Ok(MountPlan { destination, what, options })
    }

    /// Absolute, and without `..`; a relative one is taken from the root, as runc does.
    fn destination(&mut self, path: &Path) -> Result<PathBuf> {
        if path.as_os_str().is_empty() {
            return Err(invalid("mounts", "a mount has no destination".into()));
        }
        if path.is_relative() {
            self.warnings.push(format!("the mount destination {path:?} is not absolute"));
        }
        let mut clean = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => {
                    clean.pop();
                }
                _ => {}
            }
        }
        if clean == Path::new("/") {
            return Err(invalid("mounts", format!("{path:?} is the root itself")));
        }
        Ok(clean)
    }

    fn bind(&mut self, mount: &Mount, destination: &Path, options: &mut Options) -> Result<Source> {
        let source = mount.source().as_ref().filter(|path| !path.as_os_str().is_empty());
        let source = source.ok_or_else(|| invalid("mounts", format!("{destination:?} has no source")))?;
        let recursive = options.bind == Some(true);
        // Of a bind the kernel takes no data and ignores what it is given (mount(2)), so `key=value` means nothing here, as
        // with runc; a bare word left over is a mistake that must not pass as done.
        for (word, value) in std::mem::take(&mut options.data) {
            if value.is_none() && OF_SUPERBLOCKS.contains(&word.as_str()) {
                self.warnings.push(format!("option {word} of {destination:?} has no effect on a bind mount"));
            } else if value.is_none() {
                return Err(invalid("mounts", format!("{destination:?} has an unknown option {word:?}")));
            }
        }
        let path = self.bundle.join(source);
        // Taken early only where init could not: the kernel lists mounts in the order in which they were made.
        let is_mapped =
            options.id_map.is_some() || mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
        let is_early = is_mapped || self.namespaces.has_users();
        let tree = if is_early { self.tree(&path, recursive)? } else { None };
        if destination == Path::new("/proc") {
            self.is_procfs(&path)?;
        }
        self.map_ids(mount, destination, options, tree.as_ref())?;
        Ok(Source::Bind { path, recursive, tree })
    }

    /// Only a procfs can be in the place of /proc: what the runtime and programs write there must arrive.
    fn is_procfs(&self, path: &Path) -> Result<()> {
        let kind = rustix::fs::statfs(path)
            .map_err(|errno| sys::Error::new("statfs", format!("{path:?}"), errno))?;
        if kind.f_type == rustix::fs::PROC_SUPER_MAGIC {
            return Ok(());
        }
        Err(invalid("mounts", format!("{path:?} is no procfs and cannot be mounted on /proc")))
    }

    /// Shows the ids of a bind mount as its own maps say, or as the container's.
    fn map_ids(
        &self,
        mount: &Mount,
        destination: &Path,
        options: &Options,
        tree: Option<&OwnedFd>,
    ) -> Result<()> {
        let own = mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
        if options.id_map.is_none() && !own {
            return Ok(());
        }
        let Some(tree) = tree else {
            let why = format!("{destination:?}: only root of the host may map the ids of a mount");
            return Err(invalid("mounts", why));
        };
        let users = if own {
            let member = "mounts.uidMappings";
            IdMaps::new(mount.uid_mappings().as_ref(), mount.gid_mappings().as_ref(), member)?.namespace()
        } else {
            self.containers_users(destination)?
        };
        let extent = if options.id_map == Some(true) { Extent::Tree } else { Extent::Mount };
        let mapped = users.and_then(|users| sys::mount::set_id_map(tree.as_fd(), extent, users.as_fd()));
        mapped.map_err(|source| Error::Step { step: format!("map ids of {}", destination.display()), source })
    }

    fn containers_users(&self, destination: &Path) -> Result<sys::Result<OwnedFd>> {
        match &self.namespaces.users {
            Users::New(maps) => Ok(maps.namespace()),
            Users::Joined(file) => {
                Ok(sys::Call::call(file.try_clone(), "dup", || "user namespace".into()).map(OwnedFd::from))
            }
            Users::Callers => {
                let why = format!("{destination:?} has idmap without maps, and there is no user namespace");
                Err(invalid("mounts", why))
            }
        }
    }
}

fn is_bind(mount: &Mount) -> bool {
    let words = mount.options().iter().flatten();
    mount.typ().as_deref() == Some("bind") || words.into_iter().any(|word| word == "bind" || word == "rbind")
}

fn mount_step(plan: MountPlan) -> Step {
    Step::new(format!("mount {}", plan.destination.display()), Action::Mount(plan))
}

fn is_dev(destination: &Path) -> bool {
    let mut names = destination.components().filter(|c| matches!(c, Component::Normal(_)));
    names.next().is_some_and(|first| first.as_os_str() == "dev") && names.next().is_none()
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
