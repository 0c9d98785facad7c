//! What a container has of others, known only when it starts: namespaces of a container that runs, and paths inside volumes.
//!
//! The configuration names each by a path below the store's `containers` that nobody has, so that a runtime that does not know
//! of them starts nothing. Here a descriptor takes the path's place.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cli::{During, Failure};
use descriptor::Exit;
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};
use store::{Container, CreateDoc, Store};
use sys::mount::{Extent, clone_tree};

/// The processes' shared memory, which goes with the IPC namespace.
const SHM: &str = "ns/shm";

/// Opens it all and puts it into the configuration; the descriptors are kept until the container's process has what it needs.
pub(crate) fn open(container: &Container, doc: &CreateDoc, spec: &mut Spec) -> Result<Vec<OwnedFd>, Failure> {
    let modes = doc.namespaces.values().chain([&doc.network]);
    let joins = modes.clone().any(|mode| mode.starts_with("container:"));
    let inside = doc.mounts.iter().any(|mount| mount.options.iter().any(|word| word.starts_with("subpath=")));
    if !joins && !inside {
        return Ok(Vec::new());
    }
    let store = container.store();
    let containers = store.path().join("containers");
    let mut kept = Vec::new();
    if let Some(linux) = spec.linux_mut() {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        for namespace in &mut namespaces {
            let Some((id, rest)) = namespace.path().as_ref().and_then(|path| place(path, &containers)) else {
                continue;
            };
            let process = process_of(store, &id)?;
            namespace.set_path(Some(through(&process).join(rest)));
            kept.push(process);
        }
        linux.set_namespaces(Some(namespaces));
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let Some((id, rest)) = mount.source().as_ref().and_then(|path| place(path, &containers)) else {
            continue;
        };
        let opened = if rest == Path::new(SHM) {
            shared_memory(&process_of(store, &id)?, &id)?
        } else if id == container.id() && rest.starts_with("volumes") {
            in_volume(store, &rest)?
        } else {
            continue;
        };
        mount.set_source(Some(through(&opened)));
        kept.push(opened);
    }
    Ok(kept)
}

/// The container that a path below `containers` is about, and the rest of the path.
fn place(path: &Path, containers: &Path) -> Option<(String, PathBuf)> {
    let inside = path.strip_prefix(containers).ok()?;
    let mut parts = inside.components();
    let id = parts.next()?.as_os_str().to_str()?.to_string();
    Some((id, parts.as_path().into()))
}

fn through(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// The directory in /proc of another container's process, which stays that process's.
fn process_of(store: &Store, id: &str) -> Result<OwnedFd, Failure> {
    let other =
        store.container(id).during(|| format!("the container whose namespace this one shares, {id}"))?;
    let what = || format!("container {}, whose namespace this one shares", other.name());
    let idle = || {
        Failure::new(Exit::Conflict, what(), "it is not running")
            .with_hint(format!("oci-spawn start {}", other.name()))
    };
    let pid = other.settle().during(what)?.pid.ok_or_else(idle)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).map_err(|_| idle())?;
    // Opened before it was looked at, so that no successor of the number is taken for it.
    if other.state().during(what)?.is_alive() { Ok(directory) } else { Err(idle()) }
}

/// A path in a volume, every link of which is followed inside the volume; attached nowhere.
fn in_volume(store: &Store, rest: &Path) -> Result<OwnedFd, Failure> {
    let mut parts = rest.components().skip(1);
    let name = parts.next().and_then(|name| name.as_os_str().to_str()).unwrap_or_default().to_string();
    let path: PathBuf = parts.collect();
    let what = || format!("volume {name:?}, {path:?} in it");
    let root = store.volume(&name).and_then(|volume| volume.root()).during(what)?;
    let there = root.open(&path, OFlags::PATH, Mode::empty()).map_err(|e| {
        let exit = if e.is_not_found() { Exit::NotFound } else { Exit::Other };
        Failure::new(exit, what(), e)
    })?;
    // Taken here: it cannot be from the container's mount namespace.
    clone_tree(there.as_fd(), Extent::Tree).map_err(|e| Failure::new(Exit::Other, what(), e))
}

/// The other container's /dev/shm, taken in its own mount namespace and attached nowhere.
fn shared_memory(process: &OwnedFd, id: &str) -> Result<OwnedFd, Failure> {
    let what = || format!("/dev/shm of container {id}");
    runtime::tree_of(process.as_fd(), Path::new("/dev/shm")).during(what)
}
