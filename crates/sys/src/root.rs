//! [`Root`]: a directory that no path given to it can leave.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::{Call, Error, Result, walk};

/// How often `openat2` is asked again when the kernel saw a rename on the way (`EAGAIN`).
const RACE_RETRIES: usize = 128;

/// Set once `openat2` was refused (seccomp sandboxes answer `ENOSYS` or `EPERM`); the component walk serves from then on.
static OPENAT2_REFUSED: AtomicBool = AtomicBool::new(false);

/// A directory as the root of all resolution: `/`, `..` and symlinks in a path stay inside it, as in a chroot.
///
/// All methods take paths relative to this root; a leading `/` is ignored.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// The resolved directory a path's last component lies in, and that component, which is never followed.
#[derive(Debug)]
pub struct Parent {
    /// The directory.
    pub dir: OwnedFd,
    /// The last component: never empty, `.`, `..` and without a slash.
    pub name: OsString,
}

impl Root {
    /// Opens a directory of the host by its path: the only call here that trusts a path.
    ///
    /// # Errors
    /// The errno of `open(2)`; `ENOTDIR` where it is no directory.
    pub fn open_ambient(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).call("open", || quoted(path))?;
        Ok(Self { fd })
    }

    /// Takes a directory descriptor as a root.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Another descriptor of the same root.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().call("fcntl", || "F_DUPFD_CLOEXEC".into())?;
        Ok(Self { fd })
    }

    /// Gives the descriptor up.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens `path` inside the root, following symlinks inside it (not the last one where `flags` has `NOFOLLOW`).
    ///
    /// # Errors
    /// The errno of `openat2(2)`; `EXDEV` or `ELOOP` where a path cannot be confined.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        resolve(self.fd.as_fd(), path.as_ref(), flags, mode)
    }

    /// A directory inside the root as a root of its own.
    ///
    /// # Errors
    /// As [`Root::open`]; `ENOTDIR` where it is no directory.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        Ok(Self { fd: self.open(path, flags, Mode::empty())? })
    }

    /// Resolves all of `path` but its last component.
    ///
    /// # Errors
    /// `EINVAL` for a path that names the root itself or ends in `..`; otherwise as [`Root::open`].
    pub fn parent(&self, path: impl AsRef<Path>) -> Result<Parent> {
        let path = path.as_ref();
        let (parent, name) =
            parent_and_name(path).ok_or_else(|| Error::new("openat2", quoted(path), Errno::INVAL))?;
        let dir = self.open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Parent { dir, name: name.to_os_string() })
    }

    /// `lstat(2)` inside the root: the last component is not followed.
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn lstat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let fd = self.open(&path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        rustix::fs::statat(&fd, c"", AtFlags::EMPTY_PATH).call("fstat", || quoted(path.as_ref()))
    }

    /// Makes the directories of `path` that are missing, mode `mode`, and opens the last.
    ///
    /// Symlinks on the way are followed inside the root. Existing directories keep their mode.
    ///
    /// # Errors
    /// `ENOTDIR` where a component is something else; otherwise the errno of `mkdirat(2)`.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: Mode) -> Result<Self> {
        let mut at = std::path::PathBuf::new();
        for component in path.as_ref().components() {
            let std::path::Component::Normal(name) = component else {
                if component == std::path::Component::ParentDir {
                    return Err(Error::new("mkdirat", quoted(path.as_ref()), Errno::INVAL));
                }
                continue;
            };
            at.push(name);
            match self.open(&at, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
                Ok(_) => {}
                Err(e) if e.is_not_found() => {
                    let parent = self.parent(&at)?;
                    match rustix::fs::mkdirat(&parent.dir, &*parent.name, mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(Error::new("mkdirat", quoted(&at), errno)),
                    }
                }
                Err(e) => return Err(e),
            }
        }
        self.open_dir(at)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens `path` below `root` as a chroot would, by the kernel or by the component walk.
fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    if OPENAT2_REFUSED.load(Ordering::Relaxed) {
        return walk::open(root, path, flags, mode);
    }
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let inside = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    for _ in 0..RACE_RETRIES {
        match rustix::fs::openat2(root, inside, flags, mode, how) {
            Ok(fd) => return Ok(fd),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS) => break,
            Err(Errno::PERM) if refused(root) => break,
            Err(errno) => return Err(Error::new("openat2", quoted(path), errno)),
        }
    }
    if refused(root) {
        OPENAT2_REFUSED.store(true, Ordering::Relaxed);
        return walk::open(root, path, flags, mode);
    }
    Err(Error::new("openat2", quoted(path), Errno::AGAIN))
}

/// True where `openat2` is refused even for the root itself, which no file permission explains.
fn refused(root: BorrowedFd<'_>) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let answer = rustix::fs::openat2(root, c".", flags, Mode::empty(), ResolveFlags::IN_ROOT);
    matches!(answer, Err(Errno::NOSYS | Errno::PERM))
}

/// A path's parent, empty where it has none, and its last component, byte-wise; `None` where it names the root or ends in
/// `.` or `..`.
pub fn parent_and_name(path: &Path) -> Option<(&Path, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|&b| b != b'/')? + 1;
    let start = bytes[..end].iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let name = &bytes[start..end];
    if name == b"." || name == b".." {
        return None;
    }
    Some((Path::new(OsStr::from_bytes(&bytes[..start])), OsStr::from_bytes(name)))
}

/// A path for a message: quoted, control bytes escaped.
pub(crate) fn quoted(path: &Path) -> String {
    format!("{path:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// One table for both back ends: path, and whether it reaches the file `inside`, a directory, or fails.
    const CASES: &[(&str, Want)] = &[
        ("file", Want::File),
        ("/file", Want::File),
        ("../file", Want::File),
        ("../../../../file", Want::File),
        ("dir/../file", Want::File),
        ("abs-to-file", Want::File),
        ("up-to-file", Want::File),
        ("dir/up", Want::Dir),
        ("abs-dir/../../file", Want::File),
        ("chain1", Want::File),
        ("", Want::Dir),
        ("/", Want::Dir),
        ("..", Want::Dir),
        ("host-etc/passwd", Want::Fails(Errno::NOENT)),
        ("file/", Want::Fails(Errno::NOTDIR)),
        ("file/x", Want::Fails(Errno::NOTDIR)),
        ("loop", Want::Fails(Errno::LOOP)),
        ("missing", Want::Fails(Errno::NOENT)),
    ];

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Want {
        File,
        Dir,
        Fails(Errno),
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "inside").expect("write");
        std::fs::create_dir(at("dir")).expect("mkdir");
        for (link, target) in [
            ("abs-to-file", "/file"),
            ("up-to-file", "../../../file"),
            ("dir/up", ".."),
            ("abs-dir", "/dir"),
            ("chain1", "chain2"),
            ("chain2", "/dir/../file"),
            ("host-etc", "/etc"),
            ("loop", "loop"),
        ] {
            symlink(target, at(link)).expect("symlink");
        }
        dir
    }

    fn outcome(opened: Result<OwnedFd>) -> Want {
        match opened {
            Ok(fd) => {
                let mode = rustix::fs::fstat(&fd).expect("fstat").st_mode;
                if rustix::fs::FileType::from_raw_mode(mode).is_dir() { Want::Dir } else { Want::File }
            }
            Err(e) => Want::Fails(e.errno),
        }
    }

    #[test]
    fn both_back_ends_confine_every_path_alike() {
        let dir = tree();
        let root = Root::open_ambient(dir.path()).expect("open");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        for &(path, want) in CASES {
            assert_eq!(outcome(root.open(path, flags, Mode::empty())), want, "openat2 {path:?}");
            let walked = walk::open(root.as_fd(), Path::new(path), flags, Mode::empty());
            assert_eq!(outcome(walked), want, "walk {path:?}");
        }
    }

    #[test]
    fn a_last_symlink_is_not_followed_when_told() {
        let dir = tree();
        let root = Root::open_ambient(dir.path()).expect("open");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for open in [
            root.open("abs-to-file", flags, Mode::empty()),
            walk::open(root.as_fd(), Path::new("abs-to-file"), flags, Mode::empty()),
        ] {
            assert_eq!(outcome(open), Want::Fails(Errno::LOOP));
        }
    }

    #[test]
    fn a_parent_never_is_the_thing_itself() {
        let dir = tree();
        let root = Root::open_ambient(dir.path()).expect("open");
        for path in ["", "/", ".", "..", "dir/..", "dir/."] {
            assert_eq!(root.parent(path).expect_err(path).errno, Errno::INVAL, "{path:?}");
        }
        assert_eq!(root.parent("abs-dir/x/").expect("parent").name, "x");
    }

    #[test]
    fn missing_directories_are_made_inside() {
        let dir = tree();
        let root = Root::open_ambient(dir.path()).expect("open");
        root.create_dir_all("abs-dir/a/b", Mode::RWXU).expect("create");
        assert!(dir.path().join("dir/a/b").is_dir());
        assert_eq!(root.create_dir_all("file/a", Mode::RWXU).expect_err("a file").errno, Errno::NOTDIR);
    }
}
