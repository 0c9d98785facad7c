//! How a container's root is stacked, as its bundle records it (`plan.json`).
//!
//! Paths are relative to the store, so a store can be moved. They are opened through the store's [`sys::Root`].

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use store::{Container, Store};
use sys::{Call, Root};

use crate::error::About;
use crate::stack::{Stack, Writable, is_unknown};
use crate::{Error, Metadata, Result};

/// No plan is longer: five hundred paths of about a hundred bytes each, and room.
const PLAN_LIMIT_BYTES: u64 = 256 * 1024;

/// A mount plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The image's directories, top first: fixes, then the layers. The container's own `init` lies above them.
    pub image: Vec<String>,
}

impl Plan {
    /// The plan of an image's directories, top first, each a path below the store.
    ///
    /// A layer that an image has twice is stacked once, where it is topmost: the kernel takes no directory twice, and
    /// whatever the lower one gave or hid, the upper one gives and hides again.
    ///
    /// # Errors
    /// [`Error::TooManyLayers`]; [`Error::Plan`] for a path outside the store or one that is not UTF-8.
    pub fn of<P: AsRef<std::path::Path>>(store: &Store, trees: impl IntoIterator<Item = P>) -> Result<Self> {
        let relative = |tree: P| {
            let tree = tree.as_ref();
            let inside = tree.strip_prefix(store.path()).ok().and_then(|path| path.to_str());
            inside.map(String::from).ok_or_else(|| Error::Plan(format!("{tree:?} is not in the store")))
        };
        let mut image: Vec<String> = Vec::new();
        for tree in trees {
            let tree = relative(tree)?;
            if !image.contains(&tree) {
                image.push(tree);
            }
        }
        Self { image }.checked()
    }

    /// Reads a plan from the bytes of `plan.json`.
    ///
    /// # Errors
    /// [`Error::Plan`], [`Error::TooManyLayers`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let plan: Self = serde_json::from_slice(bytes).map_err(|e| Error::Plan(e.to_string()))?;
        plan.checked()
    }

    /// Reads a container's plan.
    ///
    /// # Errors
    /// [`Error::Plan`] where it has none or it cannot be read, a failed call.
    pub fn of_container(container: &Container) -> Result<Self> {
        let bundle = container.root()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = bundle.open("plan.json", flags, Mode::empty()).about("plan.json")?;
        let mut bytes = Vec::new();
        let read = std::fs::File::from(file).take(PLAN_LIMIT_BYTES).read_to_end(&mut bytes);
        read.call("read", || "plan.json".into()).about("plan.json")?;
        Self::from_bytes(&bytes)
    }

    /// The bytes of `plan.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::json!({ "image": self.image }).to_string().into_bytes()
    }

    /// The image's directories and, over them, the `init` of the container at `container`: nothing of them can be written.
    ///
    /// # Errors
    /// A directory that is missing, what the kernel says of the mount.
    pub fn view(&self, store: &Store, container: &str) -> Result<Root> {
        let init = format!("{container}/init");
        // Without a writable layer the kernel wants two directories, and not the same one twice.
        if self.image.is_empty() {
            return store.dir().open_dir(init).about("opening a layer's directory");
        }
        let mut lowers = vec![directory(store, &init)?];
        for tree in &self.image {
            lowers.push(directory(store, tree)?);
        }
        let view = Root::from_fd(mount(store, &Stack { lowers, writable: None }, container)?);
        readable(&view)
    }

    /// The image's directories alone, without any container: nothing of them can be written.
    ///
    /// # Errors
    /// As [`Plan::view`].
    pub fn view_alone(&self, store: &Store) -> Result<Root> {
        let mut lowers = Vec::with_capacity(self.image.len());
        for tree in &self.image {
            lowers.push(directory(store, tree)?);
        }
        match <[OwnedFd; 1]>::try_from(lowers) {
            // The kernel stacks no single directory; what such a layer deletes is not there anyway.
            Ok([tree]) => readable(&Root::from_fd(tree)),
            Err(lowers) => {
                let stack = Stack { lowers, writable: None };
                // An old kernel's mount needs an empty directory for a moment.
                let place = format!("view-{}", std::process::id());
                let staging = store.dir().open_dir("staging").about("the store's staging directory")?;
                let made = rustix::fs::mkdirat(&staging, &*place, Mode::RWXU);
                made.call("mkdirat", || place.clone()).about("a directory to mount on for a moment")?;
                let mounted = mount_at(store, &stack, "staging", &place);
                let _ = rustix::fs::unlinkat(&staging, &*place, rustix::fs::AtFlags::REMOVEDIR);
                readable(&Root::from_fd(mounted?))
            }
        }
    }

    /// The looks of the image's root directory, which are those of the uppermost tree; the view's are `own`'s.
    ///
    /// # Errors
    /// A failed call.
    pub fn root_metadata(&self, store: &Store) -> Result<Metadata> {
        let Some(top) = self.image.first() else { return Ok(Metadata::plain()) };
        Metadata::of(&store.dir().open_dir(top).about("opening a layer's directory")?)
    }

    /// Opens all directories of the container at `container` (`containers/<id>`).
    ///
    /// # Errors
    /// A directory that is missing.
    fn stack(&self, store: &Store, container: &str) -> Result<Stack> {
        let mut lowers = vec![directory(store, &format!("{container}/init"))?];
        for tree in &self.image {
            lowers.push(directory(store, tree)?);
        }
        let upper = directory(store, &format!("{container}/upper"))?;
        let work = directory(store, &format!("{container}/work"))?;
        Ok(Stack { lowers, writable: Some(Writable { upper, work }) })
    }

    /// Mounts the container at `container` (`containers/<id>`), writable, attached nowhere.
    ///
    /// The caller holds the container's lock and has seen that its writable layer is mounted nowhere else.
    ///
    /// # Errors
    /// [`Error::NotPrivileged`], a directory that is missing, what the kernel says of the mount.
    pub fn mount_detached(&self, store: &Store, container: &str) -> Result<OwnedFd> {
        let stack = self.stack(store, container)?;
        mount(store, &stack, container)
    }

    /// One for the container's own.
    fn checked(self) -> Result<Self> {
        let limit = crate::stack::LOWERS_LIMIT - 1;
        if self.image.len() > limit {
            return Err(Error::TooManyLayers { found: self.image.len(), limit });
        }
        Ok(self)
    }
}

/// Mounts by the newest means the kernel has; an old one needs the container's `rootfs` for a moment.
fn mount(store: &Store, stack: &Stack, container: &str) -> Result<OwnedFd> {
    mount_at(store, stack, container, "rootfs")
}

fn mount_at(store: &Store, stack: &Stack, dir: &str, place: &str) -> Result<OwnedFd> {
    let refused = match stack.mount() {
        Err(Error::Call { what, source }) if is_unknown(source.errno) => Error::Call { what, source },
        other => return other,
    };
    let parent = store.dir().open_dir(dir).about("a directory to mount on for a moment")?;
    // A new kernel that refuses this too has said why already.
    stack.mount_through(parent.as_fd(), place).map_err(|_| refused)
}

/// The root of a mount for reading too: fsmount(2) gives descriptors that only name it.
pub(crate) fn readable(root: &Root) -> Result<Root> {
    root.open_dir(".").about("the root of an overlay")
}

fn directory(store: &Store, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    store.dir().open(path, flags, Mode::empty()).about("opening a layer's directory")
}
