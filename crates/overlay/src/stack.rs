//! Directories stacked into one view by the kernel: overlay mounts that are attached nowhere.
//!
//! Always with `userxattr` (Linux 5.11), so root and rootless read the same marks, and with `redirect_dir=nofollow`
//! and `metacopy=off`, so that no mark a layer might carry points anywhere. Documentation/filesystems/overlayfs.rst.
//!
//! Always `nodev`: a device node in a layer, or one that a container makes, opens nothing of the host. The devices a
//! container may use lie on its own `/dev`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};
use sys::Call;
use sys::mount::{Busy, Context, Extent};

use crate::error::About;
use crate::{Error, Result};

/// The most lowers of one mount: `OVL_MAX_STACK` of fs/overlayfs.
pub(crate) const LOWERS_LIMIT: usize = 500;

/// The directories of a mount, opened.
#[derive(Debug)]
pub(crate) struct Stack {
    /// The read-only directories, top first.
    pub(crate) lowers: Vec<OwnedFd>,
    /// The writable layer and the kernel's working directory beside it; without them the view is read-only.
    pub(crate) writable: Option<Writable>,
}

/// The writable side of a mount.
#[derive(Debug)]
pub(crate) struct Writable {
    /// Takes all changes.
    pub(crate) upper: OwnedFd,
    /// The kernel's own; on the same file system.
    pub(crate) work: OwnedFd,
}

/// How directories are named to the kernel, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// By descriptor: Linux 6.13.
    Descriptor,
    /// One `lowerdir+` each, by a path through /proc/self/fd: Linux 6.5.
    Path,
}

impl Stack {
    /// Mounts the stack, attached nowhere.
    ///
    /// # Errors
    /// [`Error::NotPrivileged`], [`Error::TooManyLayers`], or what the kernel says.
    pub(crate) fn mount(&self) -> Result<OwnedFd> {
        if self.lowers.len() > LOWERS_LIMIT {
            return Err(Error::TooManyLayers { found: self.lowers.len(), limit: LOWERS_LIMIT });
        }
        let by_descriptor = self.mount_as(Naming::Descriptor);
        let done = match by_descriptor {
            Err(e) if is_unknown(e.errno) => self.mount_as(Naming::Path),
            other => other,
        };
        done.map_err(|source| match source.errno {
            Errno::PERM | Errno::ACCESS => Error::NotPrivileged(source),
            _ => Error::Call { what: "mounting an overlay", source },
        })
    }

    fn mount_as(&self, naming: Naming) -> sys::Result<OwnedFd> {
        let context = Context::open("overlay")?;
        let set = |key: &str, fd: &OwnedFd| match naming {
            Naming::Descriptor => context.set_fd(key, fd.as_fd()),
            Naming::Path => context.set(key, through_proc(fd)),
        };
        context.set("source", "overlay")?;
        for lower in &self.lowers {
            set("lowerdir+", lower)?;
        }
        if let Some(writable) = &self.writable {
            set("upperdir", &writable.upper)?;
            set("workdir", &writable.work)?;
        }
        context.flag("userxattr")?;
        for (key, value) in OPTIONS {
            context.set(key, value)?;
        }
        context.mount(MountAttrFlags::MOUNT_ATTR_NODEV)
    }

    /// Mounts the stack by `mount(2)`, for kernels before 6.5: they take all lowers in one value, and `fsconfig(2)` takes
    /// 256 bytes a value.
    ///
    /// That call needs a place: `place` in `parent`, an empty directory that is used for a moment.
    ///
    /// # Errors
    /// As [`Stack::mount`]; the options have to fit into a page (about 200 lowers).
    pub(crate) fn mount_through(&self, parent: BorrowedFd<'_>, place: &str) -> Result<OwnedFd> {
        let lowers: Vec<String> =
            self.lowers.iter().map(|fd| through_proc(fd).display().to_string()).collect();
        let mut options = format!("userxattr,lowerdir={}", lowers.join(":"));
        if let Some(Writable { upper, work }) = &self.writable {
            options.push_str(&format!(
                ",upperdir={},workdir={}",
                through_proc(upper).display(),
                through_proc(work).display()
            ));
        }
        for (key, value) in OPTIONS {
            options.push_str(&format!(",{key}={value}"));
        }
        let options =
            std::ffi::CString::new(options).map_err(|_| Error::Plan("a NUL byte in a path".into()))?;
        let target = format!("/proc/self/fd/{}/{place}", parent.as_raw_fd());
        let mounted = rustix::mount::mount("overlay", &*target, "overlay", MountFlags::NODEV, &*options);
        mounted
            .call("mount", || format!("overlay, {} lowers", self.lowers.len()))
            .about("mounting an overlay")?;
        let detached = rustix::fs::openat(
            parent,
            place,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .call("open", || place.to_string())
        .and_then(|at| sys::mount::clone_tree(at.as_fd(), Extent::Mount));
        sys::mount::unmount(parent, place, Busy::Detach).about("taking an overlay from its first place")?;
        detached.about("mounting an overlay")
    }
}

/// Whether an errno may mean that the kernel does not know this way of naming directories.
///
/// Linux 6.5 to 6.12 says `EINVAL` to a descriptor. Older ones, whose overlayfs does not read parameters one by one, say
/// `EOPNOTSUPP` to a descriptor at once, and `EINVAL` to `lowerdir+` only when all is to be mounted.
pub(crate) fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::OPNOTSUPP)
}

/// The options of every mount. `xino=off`: inode numbers as the layers have them, no warnings on 32-bit inodes.
const OPTIONS: [(&str, &str); 4] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "off")];

fn through_proc(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};
    use sys::Root;

    fn writable(dir: &Root) -> Writable {
        let made = |name| dir.create_dir_all(name, Mode::RWXU).expect("mkdir").into_fd();
        Writable { upper: made("upper"), work: made("work") }
    }

    fn lower(dir: &std::path::Path, name: &str, file: &str) -> OwnedFd {
        std::fs::create_dir_all(dir.join(name)).expect("mkdir");
        std::fs::write(dir.join(name).join(file), name).expect("write");
        Root::open_ambient(dir.join(name)).expect("open").into_fd()
    }

    fn privileged() -> bool {
        let may = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok();
        if !may {
            testkit::skip("mounting needs CAP_SYS_ADMIN");
            return false;
        }
        let root = Root::open_ambient("/").expect("open /");
        let private = sys::mount::Change {
            propagation: Some(rustix::mount::MountPropagationFlags::PRIVATE),
            ..Default::default()
        };
        sys::mount::set_attributes(root.as_fd(), Extent::Tree, private).expect("private");
        true
    }

    #[test]
    fn every_way_of_mounting_gives_the_same_view() {
        if !privileged() {
            return;
        }
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = Root::open_ambient(temporary.path()).expect("open");
        dir.create_dir_all("at", Mode::RWXU).expect("mkdir");
        let ways: [fn(&Stack, &Root) -> OwnedFd; 3] = [
            |stack, _| stack.mount_as(Naming::Descriptor).expect("by descriptor"),
            |stack, _| stack.mount_as(Naming::Path).expect("by path"),
            |stack, dir| stack.mount_through(dir.as_fd(), "at").expect("by mount(2)"),
        ];
        for (number, way) in ways.into_iter().enumerate() {
            let lowers = vec![
                lower(temporary.path(), "top", "same"),
                lower(temporary.path(), "bottom", "same"),
                lower(temporary.path(), "deepest", "deep"),
            ];
            let stack = Stack { lowers, writable: Some(writable(&dir)) };
            let view = Root::from_fd(way(&stack, &dir));
            let read = |name: &str| {
                let file = view.open(name, OFlags::RDONLY, Mode::empty()).expect("open");
                std::io::read_to_string(std::fs::File::from(file)).expect("read")
            };
            assert_eq!((read("same"), read("deep")), ("top".into(), "deepest".into()));
            let name = format!("written{number}");
            view.open(&name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("write");
            assert!(temporary.path().join("upper").join(&name).exists());
            assert!(!temporary.path().join("at").join(&name).exists(), "nothing stays attached");
        }
    }

    #[test]
    fn a_device_node_in_a_layer_opens_nothing() {
        if !privileged() {
            return;
        }
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = Root::open_ambient(temporary.path()).expect("open");
        let lowers = vec![lower(temporary.path(), "layer", "file")];
        let (character, null) = (rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        rustix::fs::mknodat(&lowers[0], "null", character, Mode::RWXU, null).expect("mknod");
        rustix::fs::openat(&lowers[0], "null", OFlags::RDONLY, Mode::empty())
            .expect("the layer itself allows it");
        let stack = Stack { lowers, writable: Some(writable(&dir)) };
        let view = Root::from_fd(stack.mount().expect("mount"));
        let refused = view.open("null", OFlags::RDONLY, Mode::empty()).expect_err("nodev");
        assert_eq!(refused.errno, Errno::ACCESS);
    }

    #[test]
    fn five_hundred_layers_are_stacked_and_one_more_is_refused_by_number() {
        if !privileged() {
            return;
        }
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = Root::open_ambient(temporary.path()).expect("open");
        let mut lowers: Vec<_> =
            (0..LOWERS_LIMIT).map(|n| lower(temporary.path(), &format!("l{n}"), &format!("f{n}"))).collect();
        lowers.push(lower(temporary.path(), "one-more", "f"));
        let mut stack = Stack { lowers, writable: Some(writable(&dir)) };
        assert!(matches!(stack.mount(), Err(Error::TooManyLayers { found: 501, limit: 500 })));
        stack.lowers.pop();
        let view = Root::from_fd(stack.mount().expect("500 lowers"));
        view.lstat("f499").expect("the lowest shows through");
    }
}
