//! The container's view of the control groups.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cgroup::{OwnGroup, Shown};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags};
use sys::mount::{Change, Context, Extent, attach, set_attributes};
use sys::{Error, Result, Root};

use crate::mounts::{self, Destination, directory, onto, place, set};
use crate::options::Options;

/// One cgroup file system, or a small one with a directory for each of version 1: with those that exist, or all anew.
pub(crate) fn mount(
    root: &Root,
    at: &Destination<'_>,
    hierarchies: &[Shown],
    own: Option<&[OwnGroup]>,
) -> Result<OwnedFd> {
    let target = directory(root, at.path, true)?;
    let attributes = at.options.set;
    if let [only] = hierarchies
        && only.directory.is_empty()
    {
        let mounted = match hierarchy(only, attributes) {
            // In a user namespace whose cgroup namespace is another's the process sees its own part of the host's.
            Err(error) if matches!(error.errno, Errno::PERM | Errno::BUSY) => {
                self::own_group(only, &self::own()?, at.options)?.ok_or(error)?
            }
            answer => answer?,
        };
        return place(root, mounted, &target, at);
    }
    let context = Context::open("tmpfs")?;
    context.set("source", "cgroup")?;
    context.set("mode", "755")?;
    let base = context.mount(attributes.difference(Attr::MOUNT_ATTR_RDONLY))?;
    // Read-only once its directories are there.
    let mut options = at.options.clone();
    options.set.remove(Attr::MOUNT_ATTR_RDONLY);
    options.set_tree.remove(Attr::MOUNT_ATTR_RDONLY);
    let base = place(root, base, &target, &Destination { path: at.path, options: &options })?;
    let inside = Root::from_fd(base);
    for one in hierarchies {
        let below = directory(&inside, Path::new(&one.directory), true)?;
        let mounted = match own {
            Some(own) => own_group(one, own, at.options)?,
            // A hierarchy that this namespace may not mount is left out: its directory stays empty.
            None => hierarchy(one, attributes).ok(),
        };
        if let Some(mounted) = mounted {
            attach(mounted.as_fd(), below.as_fd()).map_err(|e| onto(e, Path::new(&one.directory)))?;
        }
        for name in one.controllers.iter().filter(|name| **name != one.directory && !name.contains('=')) {
            rustix::fs::symlinkat(&*one.directory, &inside, &**name)
                .map_err(|errno| Error::new("symlinkat", format!("{name:?}"), errno))?;
        }
    }
    let base = inside.into_fd();
    let read_only = attributes & Attr::MOUNT_ATTR_RDONLY;
    set(&base, Extent::Mount, read_only, Attr::empty())?;
    set(&base, Extent::Tree, at.options.set_tree, at.options.clear_tree)?;
    if at.options.is_read_only() {
        mounts::is_read_only(base.as_fd(), at.path)?;
    }
    Ok(base)
}

/// The groups that this process is in, where the host has them.
pub(crate) fn own() -> Result<Vec<OwnGroup>> {
    cgroup::own_groups().map_err(|error| match error {
        cgroup::Error::Call { source, .. } => source,
        other => Error::new("cgroup", other.to_string(), Errno::NODEV),
    })
}

/// The directory of the own group in a hierarchy, with all that is asked of the mount; none where the host has not mounted it.
fn own_group(one: &Shown, own: &[OwnGroup], options: &Options) -> Result<Option<OwnedFd>> {
    let Some(group) = own.iter().find(|group| group.controllers == one.controllers) else { return Ok(None) };
    let tree = mounts::source(&group.path, false)?;
    let change =
        Change { set: options.set, clear: options.clear, propagation: Some(MountPropagationFlags::PRIVATE) };
    set_attributes(tree.as_fd(), Extent::Mount, change)?;
    Ok(Some(tree))
}

fn hierarchy(one: &Shown, attributes: Attr) -> Result<OwnedFd> {
    if one.controllers.is_empty() {
        let context = Context::open("cgroup2")?;
        context.set("source", "cgroup")?;
        return context.mount(attributes);
    }
    let context = Context::open("cgroup")?;
    context.set("source", "cgroup")?;
    for controller in &one.controllers {
        match controller.split_once('=') {
            Some((key, value)) => {
                context.flag("none")?;
                context.set(key, value)?;
            }
            None => context.flag(controller)?,
        }
    }
    context.mount(attributes)
}

/// True where the kernel counts swap for control groups, so that it can be limited.
#[allow(clippy::disallowed_methods, reason = "the host's cgroup file systems")]
pub fn swap_is_counted() -> bool {
    let groups = cgroup::own_groups().unwrap_or_default();
    groups.iter().any(|group| {
        let has = |name: &str| group.path.join(name).exists();
        if group.controllers.iter().any(|name| name == "memory") {
            return has("memory.memsw.limit_in_bytes");
        }
        // The root of version 2 shows no limits at all.
        group.controllers.is_empty() && cgroup::is_unified() && (has("memory.swap.max") || !has("memory.max"))
    })
}
