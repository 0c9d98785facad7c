//! Mounting inside the container: everything by descriptor, every target resolved inside the root by the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags};
use sys::mount::{Busy, Change, Context, Extent, attach, clone_tree, mount_id, set_attributes};
use sys::{Error, Result, Root};

use crate::options::Options;
use crate::request::RootSource;
use crate::step::{MountPlan, RootPlan, Source};
use crate::{cgroups, copyup};

/// Directories that mounts need and an image lacks.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);
/// Files that bind mounts of files need.
const FILE: Mode = Mode::from_raw_mode(0o644);
/// Where a process finds what its descriptors are open on.
const DESCRIPTORS: &str = "/proc/self/fd";
/// File systems that show the kernel: where an image has a link at their place, nothing may be mounted at its target.
const KERNEL_KINDS: &[&str] = &["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// Brings the root into this mount namespace as a mount of its own and opens it.
///
/// It lies on its own directory, where hooks look for it. Where this process may not go there, or where what is mounted there
/// would be mounted on the host, too, it lies over `/` until it is pivoted.
pub(crate) fn root(plan: RootPlan) -> Result<Root> {
    let RootPlan { source, devices, shared } = plan;
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
    let target = match Root::open_ambient(&at) {
        Ok(there) if !shared => there,
        Err(error) if error.errno != Errno::ACCESS => return Err(error),
        _ => {
            let top = Root::open_ambient("/")?;
            let private = Change { propagation: Some(MountPropagationFlags::PRIVATE), ..Change::default() };
            set_attributes(top.as_fd(), Extent::Mount, private)?;
            top
        }
    };
    attach(tree.as_fd(), target.as_fd()).map_err(|e| onto(e, &at))?;
    // Attached to a shared mount it has become one of its peers (mount_namespaces(7)).
    let private = Change { propagation: Some(MountPropagationFlags::PRIVATE), ..Change::default() };
    set_attributes(tree.as_fd(), Extent::Tree, private)?;
    // The detached tree's descriptor lies on the mount itself, wherever it is attached; reopened, since it is O_PATH.
    let tree = Root::from_fd(tree);
    match tree.open_dir("/") {
        // Its directory is another user's, who lets nobody list it.
        Err(error) if error.errno == Errno::ACCESS => Ok(tree),
        answer => answer,
    }
}

/// Mounts one thing and gives back a descriptor of the mount.
pub(crate) fn mount(root: &Root, plan: MountPlan) -> Result<OwnedFd> {
    let MountPlan { destination, what, options } = plan;
    let at = Destination { path: &destination, options: &options };
    match what {
        Source::Bind { path, recursive, tree } => {
            let tree = match tree {
                Some(tree) => tree,
                None => match of_descriptor(&path) {
                    Some((tree, place)) => within(root, &tree, place, recursive)?,
                    None => source(&path, recursive)?,
                },
            };
            bind(root, &at, tree)
        }
        Source::New { kind, source } => {
            let target = directory(root, &destination, KERNEL_KINDS.contains(&kind.as_str()))?;
            let mounted = match (new(&kind, &source, &options, &target), host_path(&kind)) {
                (Err(error), Some(host)) if error.errno == Errno::PERM => {
                    // It belongs to a namespace that another user namespace owns; the host shows the same.
                    let tree = self::source(Path::new(host), true)?;
                    set(&tree, Extent::Mount, options.set, options.clear)?;
                    tree
                }
                (answer, _) => answer?,
            };
            if options.copy_up {
                copyup::copy(&target, &mounted)?;
            }
            place(root, mounted, &target, &at)
        }
        Source::Remount => remount(root, &at),
        Source::Cgroups(hierarchies) => cgroups::mount(root, &at, &hierarchies, None),
        Source::OwnCgroups(hierarchies) => cgroups::mount(root, &at, &hierarchies, Some(&cgroups::own()?)),
    }
}

/// Where something is mounted, and how.
pub(crate) struct Destination<'a> {
    pub(crate) path: &'a Path,
    pub(crate) options: &'a Options,
}

/// File systems of a namespace that may be another user namespace's, and where the host has its own.
fn host_path(kind: &str) -> Option<&'static str> {
    match kind {
        "sysfs" => Some("/sys"),
        "mqueue" => Some("/dev/mqueue"),
        _ => None,
    }
}

/// The tree of the host that is bound, attached nowhere.
///
/// # Errors
/// `ENOENT` where there is none; `EPERM` where the caller may not take trees.
pub(crate) fn source(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::new("open", format!("{path:?}"), errno))?;
    let extent = if recursive { Extent::Tree } else { Extent::Mount };
    match clone_tree(source.as_fd(), extent) {
        // A mount that is attached nowhere yet, by a descriptor of the caller's, is no one else's.
        Err(error) if error.errno == Errno::INVAL && path.starts_with(DESCRIPTORS) => Ok(source),
        answer => answer.map_err(|e| onto(e, path)),
    }
}

/// A place inside what a descriptor of the caller's is open on: `/proc/self/fd/N/place`.
fn of_descriptor(path: &Path) -> Option<(PathBuf, &Path)> {
    let mut place = path.strip_prefix(DESCRIPTORS).ok()?.components();
    let tree = Path::new(DESCRIPTORS).join(place.next()?);
    Some((tree, place.as_path())).filter(|(_, place)| !place.as_os_str().is_empty())
}

/// A place inside a tree that only the caller has; links are followed inside that tree.
///
/// The kernel takes trees of what is attached in this mount namespace alone, so a mount that is attached nowhere lies over the
/// container's root meanwhile.
fn within(root: &Root, tree: &Path, place: &Path, recursive: bool) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(tree, flags, Mode::empty())
        .map_err(|errno| Error::new("open", format!("{tree:?}"), errno))?;
    let top = Root::from_fd(top);
    let there = top.open(place, OFlags::PATH, Mode::empty())?;
    let extent = if recursive { Extent::Tree } else { Extent::Mount };
    match clone_tree(there.as_fd(), extent) {
        Err(error) if error.errno == Errno::INVAL => {}
        answer => return answer.map_err(|e| onto(e, place)),
    }
    attach(top.as_fd(), root.as_fd()).map_err(|e| onto(e, tree))?;
    let taken = clone_tree(there.as_fd(), extent).map_err(|e| onto(e, place));
    sys::mount::unmount(top.as_fd(), ".", Busy::Detach)?;
    taken
}

/// Changes the mount that is at the destination already.
fn remount(root: &Root, at: &Destination<'_>) -> Result<OwnedFd> {
    let there = root.open(at.path, OFlags::PATH, Mode::empty())?;
    if !at.options.data.is_empty() {
        sys::mount::reconfigure(there.as_fd(), &at.options.data).map_err(|e| onto(e, at.path))?;
    }
    set(&there, Extent::Mount, at.options.set, at.options.clear).map_err(|e| onto(e, at.path))?;
    set(&there, Extent::Tree, at.options.set_tree, at.options.clear_tree).map_err(|e| onto(e, at.path))?;
    if at.options.is_read_only() {
        is_read_only(there.as_fd(), at.path)?;
    }
    Ok(there)
}

/// Makes sure that nothing can be written through a mount that was made read-only.
pub(crate) fn is_read_only(mount: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let answer =
        rustix::fs::fstatvfs(mount).map_err(|errno| Error::new("fstatvfs", format!("{path:?}"), errno))?;
    if answer.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    Err(Error::new("fstatvfs", format!("{path:?} is not read-only"), Errno::STALE))
}

/// A new file system, attached nowhere yet.
fn new(kind: &str, source: &str, options: &Options, target: &OwnedFd) -> Result<OwnedFd> {
    let context = Context::open(kind)?;
    context.set("source", source)?;
    if kind == "tmpfs" && !options.data.iter().any(|(key, _)| key == "mode") {
        // It looks as what it covers does, as with runc.
        let mode = mode_of(target)?;
        context.set("mode", format!("{mode:o}"))?;
    }
    for (key, value) in &options.data {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.flag(key)?,
        }
    }
    context.mount(options.set)
}

fn bind(root: &Root, at: &Destination<'_>, tree: OwnedFd) -> Result<OwnedFd> {
    let kind = kind_of(&tree)?;
    let is_directory = kind.is_dir();
    let target = if is_directory { directory(root, at.path, false)? } else { file(root, at.path)? };
    let mut options = at.options.clone();
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        // A device that was asked for by name.
        options.set.remove(Attr::MOUNT_ATTR_NODEV);
        options.set_tree.remove(Attr::MOUNT_ATTR_NODEV);
    }
    set(&tree, Extent::Mount, options.set, options.clear)?;
    place(root, tree, &target, &Destination { path: at.path, options: &options })
}

/// Gives a detached mount its propagation and the attributes of its tree, attaches it, and makes sure that it is found
/// at its destination: a rename by another container that shares a volume could have moved the target.
pub(crate) fn place(
    root: &Root,
    mounted: OwnedFd,
    target: &OwnedFd,
    at: &Destination<'_>,
) -> Result<OwnedFd> {
    let options = at.options;
    not_in_procfs(root, target, at.path)?;
    set(&mounted, Extent::Tree, options.set_tree, options.clear_tree)?;
    attach(mounted.as_fd(), target.as_fd()).map_err(|e| onto(e, at.path))?;
    let recursive = options.propagation.contains(MountPropagationFlags::REC);
    let extent = if recursive { Extent::Tree } else { Extent::Mount };
    let kind = options.propagation.difference(MountPropagationFlags::REC);
    let propagate = |kind| {
        set_attributes(mounted.as_fd(), extent, Change { propagation: Some(kind), ..Change::default() })
    };
    if kind == MountPropagationFlags::SHARED && !options.shares_with_host {
        propagate(MountPropagationFlags::DOWNSTREAM)?;
    }
    propagate(kind)?;
    let found = root.open(at.path, OFlags::PATH, Mode::empty())?;
    if mount_id(found.as_fd())? != mount_id(mounted.as_fd())? {
        let what = format!("{:?} is not what was mounted there", at.path);
        return Err(Error::new("move_mount", what, Errno::STALE));
    }
    if options.is_read_only() {
        is_read_only(mounted.as_fd(), at.path)?;
    }
    Ok(mounted)
}

/// What may be mounted inside procfs: files that tell of the machine (runc's list).
const IN_PROCFS: &[&str] = &[
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

/// Whatever else is mounted over a file of procfs could be taken for that file.
fn not_in_procfs(root: &Root, target: &OwnedFd, path: &Path) -> Result<()> {
    let kind = rustix::fs::fstatfs(target)
        .map_err(|errno| Error::new("fstatfs", format!("{path:?}"), errno))?
        .f_type;
    if kind != rustix::fs::PROC_SUPER_MAGIC {
        return Ok(());
    }
    let real = inside(root, path)?;
    if IN_PROCFS.iter().any(|allowed| real == Path::new(allowed)) {
        return Ok(());
    }
    Err(Error::new(
        "move_mount",
        format!("{path:?} is inside /proc, where nothing may be mounted"),
        Errno::PERM,
    ))
}

fn mode_of(target: &OwnedFd) -> Result<u32> {
    let stat = rustix::fs::fstat(target)
        .map_err(|errno| Error::new("fstat", target.as_raw_fd().to_string(), errno))?;
    Ok(stat.st_mode & 0o7777)
}

pub(crate) fn set(mount: &OwnedFd, extent: Extent, set: Attr, clear: Attr) -> Result<()> {
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

/// The kind of file that a descriptor is open on.
pub(crate) fn kind_of(fd: &OwnedFd) -> Result<FileType> {
    let stat =
        rustix::fs::fstat(fd).map_err(|errno| Error::new("fstat", fd.as_raw_fd().to_string(), errno))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Adds the path that an error is about.
pub(crate) fn onto(error: Error, path: &Path) -> Error {
    let Error { call, args, errno } = error;
    Error::new(call, format!("{path:?}{}{args}", if args.is_empty() { "" } else { ", " }), errno)
}
