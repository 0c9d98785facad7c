//! Mounting inside the container: everything by descriptor, every target resolved inside the root by the kernel.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use cgroup::{OwnGroup, Shown};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags};
use sys::mount::{Change, Context, Extent, attach, clone_tree, mount_id, set_attributes};
use sys::{Error, Result, Root};

use crate::options::Options;
use crate::request::RootSource;
use crate::step::{MountPlan, Source};

/// Directories that mounts need and an image lacks.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);
/// Files that bind mounts of files need.
const FILE: Mode = Mode::from_raw_mode(0o644);
/// File systems that show the kernel: where an image has a link at their place, nothing may be mounted at its target.
const KERNEL_KINDS: &[&str] = &["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// Brings the root into this mount namespace as a mount of its own and opens it.
pub(crate) fn root(source: RootSource, devices: bool) -> Result<Root> {
    let (tree, at) = match source {
        RootSource::Mounted(path) => {
            let there = Root::open_ambient(&path)?;
            (clone_tree(there.as_fd(), Extent::Tree)?, path)
        }
        RootSource::Detached { mount, at } => (mount, at),
    };
    let nodev = if devices { Attr::empty() } else { Attr::MOUNT_ATTR_NODEV };
    let private =
        Change { set: nodev, propagation: Some(MountPropagationFlags::PRIVATE), ..Change::default() };
    set_attributes(tree.as_fd(), Extent::Tree, private)?;
    let target = Root::open_ambient(&at)?;
    attach(tree.as_fd(), target.as_fd()).map_err(|e| onto(e, &at))?;
    // The detached tree's descriptor lies on the mount itself, wherever it is attached; reopened, since it is O_PATH.
    Root::from_fd(tree).open_dir("/")
}

/// Mounts one thing and gives back a descriptor of the mount.
pub(crate) fn mount(root: &Root, plan: &MountPlan) -> Result<OwnedFd> {
    match &plan.what {
        Source::Bind { path, recursive } => bind(root, plan, path, *recursive),
        Source::New { kind, source } => {
            let mounted = new(kind, source, &plan.options)?;
            let target = directory(root, &plan.destination, KERNEL_KINDS.contains(&kind.as_str()))?;
            place(root, mounted, &target, plan)
        }
        Source::Cgroups(hierarchies) => cgroups(root, plan, hierarchies, None),
        Source::OwnCgroups(hierarchies) => {
            let own = cgroup::own_groups().map_err(|error| match error {
                cgroup::Error::Call { source, .. } => source,
                other => Error::new("cgroup", other.to_string(), Errno::NODEV),
            })?;
            cgroups(root, plan, hierarchies, Some(&own))
        }
    }
}

/// A new file system, attached nowhere yet.
fn new(kind: &str, source: &str, options: &Options) -> Result<OwnedFd> {
    let context = Context::open(kind)?;
    context.set("source", source)?;
    for (key, value) in &options.data {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.flag(key)?,
        }
    }
    context.mount(options.set)
}

fn bind(root: &Root, plan: &MountPlan, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::new("open", format!("{path:?}"), errno))?;
    let extent = if recursive { Extent::Tree } else { Extent::Mount };
    let tree = clone_tree(source.as_fd(), extent).map_err(|e| onto(e, path))?;
    let kind = kind_of(&tree)?;
    let is_directory = kind.is_dir();
    let target = if is_directory {
        directory(root, &plan.destination, false)?
    } else {
        file(root, &plan.destination)?
    };
    let mut attributes = plan.options.set;
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        // A device that was asked for by name.
        attributes.remove(Attr::MOUNT_ATTR_NODEV);
    }
    set(&tree, extent, attributes & Attr::MOUNT_ATTR_NODEV, Attr::empty())?;
    set(&tree, Extent::Mount, attributes, plan.options.clear)?;
    place(root, tree, &target, plan)
}

/// Gives a detached mount its propagation and the attributes of its tree, attaches it, and makes sure that it is found
/// at its destination: a rename by another container that shares a volume could have moved the target.
fn place(root: &Root, mounted: OwnedFd, target: &OwnedFd, plan: &MountPlan) -> Result<OwnedFd> {
    let options = &plan.options;
    set(&mounted, Extent::Tree, options.set_tree, options.clear_tree)?;
    attach(mounted.as_fd(), target.as_fd()).map_err(|e| onto(e, &plan.destination))?;
    let recursive = options.propagation.contains(MountPropagationFlags::REC);
    let extent = if recursive { Extent::Tree } else { Extent::Mount };
    let kind = options.propagation.difference(MountPropagationFlags::REC);
    set_attributes(mounted.as_fd(), extent, Change { propagation: Some(kind), ..Change::default() })?;
    let found = root.open(&plan.destination, OFlags::PATH, Mode::empty())?;
    if mount_id(found.as_fd())? != mount_id(mounted.as_fd())? {
        let what = format!("{:?} is not what was mounted there", plan.destination);
        return Err(Error::new("move_mount", what, Errno::STALE));
    }
    Ok(mounted)
}

fn set(mount: &OwnedFd, extent: Extent, set: Attr, clear: Attr) -> Result<()> {
    if set.is_empty() && clear.is_empty() {
        return Ok(());
    }
    set_attributes(mount.as_fd(), extent, Change { set, clear, ..Change::default() })
}

/// The directory at `path` inside the root, made where it is missing.
///
/// With `strict` a link in its place is refused, so that procfs and the like are where every program looks for them.
pub(crate) fn directory(root: &Root, path: &Path, strict: bool) -> Result<OwnedFd> {
    plain(path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | if strict { OFlags::NOFOLLOW } else { OFlags::empty() };
    match root.open(path, flags, Mode::empty()) {
        Err(e) if e.is_not_found() => {
            root.create_dir_all(inside(root, path)?, DIRECTORY)?;
            root.open(path, flags, Mode::empty())
        }
        Err(e) if strict && matches!(e.errno, Errno::NOTDIR | Errno::LOOP) => Err(Error::new(
            "openat2",
            format!("{path:?} must be mounted on ordinary directory, and the image has something else there"),
            e.errno,
        )),
        answer => answer,
    }
}

/// Where a path leads inside the root, free of links, so that what is missing of it can be made.
fn inside(root: &Root, path: &Path) -> Result<PathBuf> {
    overlay::resolve(root, path).map_err(|error| match error {
        overlay::Error::Call { source, .. } => source,
        other => Error::new("openat2", format!("{path:?}: {other}"), Errno::INVAL),
    })
}

/// The file at `path` inside the root, made empty where it is missing.
fn file(root: &Root, path: &Path) -> Result<OwnedFd> {
    plain(path)?;
    match root.open(path, OFlags::PATH, Mode::empty()) {
        Err(e) if e.is_not_found() => {
            let path = inside(root, path)?;
            if let Some(parent) = path.parent() {
                root.create_dir_all(parent, DIRECTORY)?;
            }
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY;
            root.open(&path, flags, FILE)?;
            root.open(&path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
        }
        answer => answer,
    }
}

/// Destinations are the configuration's own; `..` in one is a mistake that would surprise.
fn plain(path: &Path) -> Result<()> {
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(Error::new("openat2", format!("{path:?} has .. in it"), Errno::INVAL));
    }
    Ok(())
}

/// One cgroup file system, or a small one with a directory for each of version 1: with those that exist, or all anew.
fn cgroups(
    root: &Root,
    plan: &MountPlan,
    hierarchies: &[Shown],
    own: Option<&[OwnGroup]>,
) -> Result<OwnedFd> {
    let target = directory(root, &plan.destination, true)?;
    let attributes = plan.options.set;
    if let [only] = hierarchies
        && only.directory.is_empty()
    {
        let mounted = hierarchy(only, attributes)?;
        return place(root, mounted, &target, plan);
    }
    let context = Context::open("tmpfs")?;
    context.set("source", "cgroup")?;
    context.set("mode", "755")?;
    let base = context.mount(attributes.difference(Attr::MOUNT_ATTR_RDONLY))?;
    let base = place(root, base, &target, plan)?;
    let inside = Root::from_fd(base);
    for one in hierarchies {
        let below = directory(&inside, Path::new(&one.directory), true)?;
        let mounted = match own {
            Some(own) => own_group(one, own, &plan.options)?,
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
    set(&base, Extent::Mount, attributes & Attr::MOUNT_ATTR_RDONLY, Attr::empty())?;
    Ok(base)
}

/// The directory of the own group in a hierarchy, with all that is asked of the mount; none where the host has not mounted it.
fn own_group(one: &Shown, own: &[OwnGroup], options: &Options) -> Result<Option<OwnedFd>> {
    let Some(group) = own.iter().find(|group| group.controllers == one.controllers) else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(&group.path, flags, Mode::empty())
        .map_err(|errno| Error::new("open", format!("{:?}", group.path), errno))?;
    let tree = clone_tree(directory.as_fd(), Extent::Mount).map_err(|e| onto(e, &group.path))?;
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

/// The kind of file that a descriptor is open on.
pub(crate) fn kind_of(fd: &OwnedFd) -> Result<FileType> {
    let stat =
        rustix::fs::fstat(fd).map_err(|errno| Error::new("fstat", fd.as_raw_fd().to_string(), errno))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Adds the path that an error is about.
fn onto(error: Error, path: &Path) -> Error {
    let Error { call, args, errno } = error;
    Error::new(call, format!("{path:?}{}{args}", if args.is_empty() { "" } else { ", " }), errno)
}
