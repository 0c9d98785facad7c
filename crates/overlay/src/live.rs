//! A container's root where it can be reached: mounted at `rootfs`, in its running process, or for the moment only.
//!
//! A mount is recorded before it is attached, by its namespace and an id that no other mount gets in this boot. So a
//! record may name a mount that never came or that somebody undid, which shows, but no mount is ever unrecorded.
//!
//! Each root gets a private bind mount of its own directory first: what is mounted on that does not propagate to the
//! peers of the host's mounts. One such mount for all containers would keep directories from being renamed in and out.

use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use store::state::boot_id;
use store::{Container, MountId, State};
use sys::Root;
use sys::lock::Lock;
use sys::mount::{Busy, Change, Extent};

use crate::error::About;
use crate::{Error, Plan, Result};

/// How often and how long apart an unmount is tried before the mount is detached from under its users.
const UNMOUNT_TRIES: u32 = 25;
const UNMOUNT_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// Our bind, the overlay, and what somebody else may have mounted over them.
const MOUNTS_LIMIT: u32 = 16;

/// Where a container's root is mounted.
#[derive(Debug)]
pub enum Mounted {
    /// Nowhere.
    Nowhere,
    /// At the bundle's `rootfs`, in our mount namespace; this is its root.
    Here(Root),
    /// In another mount namespace that lives.
    Elsewhere,
}

/// Looks where the container's root is mounted; the caller holds its lock and has read its state under it.
///
/// # Errors
/// A failed call.
pub fn mounted(container: &Container, state: &State) -> Result<Mounted> {
    let Some(record) = &state.mount else { return Ok(Mounted::Nowhere) };
    if Some(&record.boot_id) != boot_id().as_ref() {
        return Ok(Mounted::Nowhere);
    }
    if record.namespace != sys::mount::namespace(None).about("our mount namespace")? {
        return Ok(if lives(record.namespace) { Mounted::Elsewhere } else { Mounted::Nowhere });
    }
    let root = rootfs(container)?;
    let id = sys::mount::mount_id(root.as_fd()).about("the container's root")?;
    Ok(if id == record.id { Mounted::Here(root) } else { Mounted::Nowhere })
}

/// Mounts the container's root at the bundle's `rootfs` where that lasts; returns whether it is mounted there.
///
/// It does not last in a mount namespace that ends with this process, nor without the privilege to mount.
///
/// # Errors
/// [`Error::Elsewhere`], [`Error::Running`] where it runs without being mounted here, a failed call.
pub fn attach(container: &Container) -> Result<bool> {
    let lock = container.lock()?;
    let mut state = container.settled(&lock)?;
    match mounted(container, &state)? {
        Mounted::Here(_) => return Ok(true),
        Mounted::Elsewhere => return Err(Error::Elsewhere { name: container.name().into() }),
        Mounted::Nowhere if state.is_alive() => return Err(Error::Running { name: container.name().into() }),
        Mounted::Nowhere => {}
    }
    if !lasts() {
        return Ok(false);
    }
    let mount = match detached(container) {
        Ok(mount) => mount,
        Err(Error::NotPrivileged(_)) => return Ok(false),
        Err(e) => return Err(e),
    };
    let record = MountId {
        namespace: sys::mount::namespace(None).about("our mount namespace")?,
        id: sys::mount::mount_id(mount.as_fd()).about("the container's root")?,
        boot_id: boot_id().unwrap_or_default(),
    };
    state.mount = Some(record);
    container.set_state(&state)?;
    place(container, &mount)?;
    Ok(true)
}

/// Attaches `mount` to the bundle's `rootfs`, over a private bind of that directory.
fn place(container: &Container, mount: &OwnedFd) -> Result<()> {
    let bundle = container.root()?;
    let what = "attaching the container's root";
    let target = bundle.open("rootfs", OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
    let target = target.about(what)?;
    let bind = sys::mount::clone_tree(target.as_fd(), Extent::Mount).about(what)?;
    sys::mount::attach(bind.as_fd(), target.as_fd()).about(what)?;
    let private = Change { propagation: Some(MountPropagationFlags::PRIVATE), ..Change::default() };
    let attached = sys::mount::set_attributes(bind.as_fd(), Extent::Mount, private)
        .and_then(|()| sys::mount::attach(mount.as_fd(), bind.as_fd()));
    if attached.is_err() {
        let _ = sys::mount::unmount(bundle.as_fd(), "rootfs", Busy::Detach);
    }
    attached.about(what)
}

/// Undoes whatever is mounted at the bundle's `rootfs`; the caller holds the container's lock.
///
/// # Errors
/// [`Error::Elsewhere`], a failed call.
pub(crate) fn detach(container: &Container, state: &State) -> Result<()> {
    if let Mounted::Elsewhere = mounted(container, state)? {
        return Err(Error::Elsewhere { name: container.name().into() });
    }
    let bundle = container.root()?;
    for _ in 0..MOUNTS_LIMIT {
        let own = sys::mount::mount_id(bundle.as_fd()).about("the container's directory")?;
        let on_top = sys::mount::mount_id(rootfs(container)?.as_fd()).about("the container's root")?;
        if own == on_top {
            return Ok(());
        }
        unmount(&bundle)?;
    }
    Ok(())
}

/// Unmounts one mount: in order if its users leave it soon, else from under them.
fn unmount(bundle: &Root) -> Result<()> {
    for _ in 0..UNMOUNT_TRIES {
        match sys::mount::unmount(bundle.as_fd(), "rootfs", Busy::Refuse) {
            Err(e) if e.errno == Errno::BUSY => std::thread::sleep(UNMOUNT_PAUSE),
            other => return other.about("unmounting the container's root"),
        }
    }
    sys::mount::unmount(bundle.as_fd(), "rootfs", Busy::Detach).about("unmounting the container's root")
}

/// A container's root for as long as this value lives.
#[derive(Debug)]
pub struct OpenRoot {
    root: Root,
    /// Keeps others from starting, mounting or removing it; a running container's has to stay free.
    _lock: Option<Lock>,
}

impl Deref for OpenRoot {
    type Target = Root;

    fn deref(&self) -> &Root {
        &self.root
    }
}

/// Opens a container's root: its running process's, else where it is mounted, else mounted for the moment.
///
/// # Errors
/// [`Error::Elsewhere`], [`Error::NotPrivileged`], a failed call.
pub fn open_root(container: &Container) -> Result<OpenRoot> {
    let lock = container.lock()?;
    let state = container.settled(&lock)?;
    if let Some(root) = running_root(&state)? {
        return Ok(OpenRoot { root, _lock: None });
    }
    let root = match mounted(container, &state)? {
        Mounted::Here(root) => root,
        Mounted::Elsewhere => return Err(Error::Elsewhere { name: container.name().into() }),
        Mounted::Nowhere => crate::plan::readable(&Root::from_fd(detached(container)?))?,
    };
    Ok(OpenRoot { root, _lock: Some(lock) })
}

/// The root that the container's process sees, its volumes included.
fn running_root(state: &State) -> Result<Option<Root>> {
    let (Some(pid), true) = (state.pid, state.is_alive()) else { return Ok(None) };
    let opened = Root::open_ambient(format!("/proc/{pid}/root"));
    // Whose root that was is known only if the process still is the one.
    match opened {
        Ok(root) if state.is_alive() => Ok(Some(root)),
        Err(source) if state.is_alive() => Err(Error::Call { what: "the running container's root", source }),
        _ => Ok(None),
    }
}

/// The container's root mounted by its plan, attached nowhere.
fn detached(container: &Container) -> Result<OwnedFd> {
    let relative = format!("containers/{}", container.id());
    Plan::of_container(container)?.mount_detached(container.store(), &relative)
}

fn rootfs(container: &Container) -> Result<Root> {
    // From the store's own directory: a descriptor of the bundle may be older than the mount.
    container
        .store()
        .dir()
        .open_dir(format!("containers/{}/rootfs", container.id()))
        .about("the container's root")
}

/// Whether a mount made now outlives this process: our mount namespace is our parent's too.
fn lasts() -> bool {
    let Some(parent) = rustix::process::getppid() else { return false };
    let parent =
        u32::try_from(parent.as_raw_nonzero().get()).ok().and_then(|p| sys::mount::namespace(Some(p)).ok());
    parent.is_some() && parent == sys::mount::namespace(None).ok()
}

/// Whether any process is in a mount namespace.
fn lives(namespace: u64) -> bool {
    let Ok(proc) =
        rustix::fs::open(c"/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return true;
    };
    let Ok(entries) = rustix::fs::Dir::read_from(&proc) else { return true };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse::<u32>().ok());
    pids.map(|pid| sys::mount::namespace(Some(pid))).any(|found| found == Ok(namespace))
}
