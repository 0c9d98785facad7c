//! Mount points that an image lacks, made in the container's `init` lower and never in its writable layer.
//!
//! Invariants
//! - Symlinks of the image are resolved inside the image: `/etc/resolv.conf -> /run/x` makes `run/x` in `init`.
//! - A directory of the image that has to exist in `init` as well, as a parent, has the image's owner, mode, times
//!   and xattrs there, so that it looks the same in the container.
//! - The kernel's own mount points are directories of ours where the image has anything else there: a symlink at
//!   /proc would otherwise be followed by the runtime.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use sys::{Call, Root};

use crate::error::About;
use crate::{Error, Result, marks};

/// As many links as the kernel follows in one resolution (`MAXSYMLINKS`, path_resolution(7)).
const SYMLINKS_LIMIT: usize = 40;
/// The kernel's limits of a list of xattr names and of one value (xattr(7)).
const XATTR_BYTES: usize = 65_536;
/// The mode of directories that nobody described.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// The mode of files that something is mounted over.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// What has to exist in a container before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The path in the container.
    pub path: PathBuf,
    /// What has to be there.
    pub kind: Kind,
}

/// What has to be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory of the kernel's (/proc): anything else there is hidden, a symlink is not followed.
    Kernel,
    /// A directory to mount on.
    Directory,
    /// A file to mount on.
    File,
    /// A directory that nothing is mounted on: a working directory, a volume.
    Plain,
}

/// Owner, mode, times and xattrs of a directory.
#[derive(Debug, Clone)]
pub struct Metadata {
    mode: Mode,
    uid: u32,
    gid: u32,
    times: [(i64, i64); 2],
    xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Something to make in `init`; a parent always comes before what lies in it.
#[derive(Debug)]
struct Step {
    path: PathBuf,
    make: Make,
}

#[derive(Debug)]
enum Make {
    /// A directory of the image, here too.
    Copy(Metadata),
    Directory,
    File,
}

/// What has to be made so that all points exist.
#[derive(Debug, Default)]
pub struct Missing {
    steps: Vec<Step>,
    /// The steps' paths: an image may name as many volumes as its configuration has room for.
    made: HashSet<PathBuf>,
    /// Where mounts will lie; what is inside them is not ours to make.
    covered: Vec<PathBuf>,
}

impl Missing {
    /// Finds what `view`, the image as it will be seen, lacks of `points`, which are in the order of mounting.
    ///
    /// # Errors
    /// [`Error::InTheWay`] where the image has a file for a directory or the other way round.
    pub fn find(view: &Root, points: &[Point]) -> Result<Self> {
        let mut missing = Self::default();
        for point in points {
            let path = match point.kind {
                Kind::Kernel => plain(&point.path),
                _ => resolve(view, &point.path)?,
            };
            if path.as_os_str().is_empty()
                || missing.covered.iter().any(|mount| path.starts_with(mount) && path != *mount)
            {
                continue;
            }
            missing.add(view, &path, point.kind)?;
            if point.kind != Kind::Plain {
                missing.covered.push(path);
            }
        }
        Ok(missing)
    }

    /// True where nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What is to be made, parents first; false with what can be seen and is to be in `init` as well.
    pub fn paths(&self) -> impl Iterator<Item = (&Path, bool)> {
        self.steps.iter().map(|step| (step.path.as_path(), !matches!(step.make, Make::Copy(_))))
    }

    /// Makes it all in `init`. Directories that are there already get the image's metadata again.
    ///
    /// Where `init` is part of a live mount, [`sys::mount::forget_names`] makes that mount look again.
    ///
    /// # Errors
    /// The call that failed.
    pub fn make(&self, init: &Root) -> Result<()> {
        for step in &self.steps {
            let parent = init.parent(&step.path).about("making a mount point")?;
            let named = || format!("{:?}", step.path);
            match step.make {
                Make::File => {
                    let flags =
                        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let fd =
                        rustix::fs::openat(&parent.dir, &*parent.name, flags, FILE_MODE).call("open", named);
                    chmod(&fd.about("making a mount point")?, FILE_MODE)?;
                }
                Make::Directory | Make::Copy(_) => {
                    let made = rustix::fs::mkdirat(&parent.dir, &*parent.name, DIRECTORY_MODE);
                    if made == Err(Errno::EXIST) {
                        continue;
                    }
                    made.call("mkdirat", named).about("making a mount point")?;
                    chmod(&init.open_dir(&step.path).about("making a mount point")?, DIRECTORY_MODE)?;
                }
            }
        }
        // Times last, and deepest first: making what is inside changes them.
        for step in self.steps.iter().rev() {
            if let Make::Copy(metadata) = &step.make {
                metadata.apply(&init.open_dir(&step.path).about("making a mount point")?)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, view: &Root, path: &Path, kind: Kind) -> Result<()> {
        let found = file_type(view, path)?;
        let wanted = if kind == Kind::File { "file" } else { "directory" };
        match (found, kind) {
            (Some(found), Kind::File) if !found.is_dir() => return Ok(()),
            (Some(found), Kind::Directory | Kind::Plain | Kind::Kernel) if found.is_dir() => return Ok(()),
            (None, _) | (Some(_), Kind::Kernel) => {}
            (Some(found), _) => return Err(in_the_way(path, found, wanted)),
        }
        let parents: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev() {
            if self.has(parent) {
                continue;
            }
            let make = match file_type(view, parent)? {
                Some(found) if found.is_dir() => {
                    Make::Copy(Metadata::of(&view.open_dir(parent).about("the image")?)?)
                }
                Some(found) => return Err(in_the_way(parent, found, "directory")),
                None => Make::Directory,
            };
            self.push(parent, make);
        }
        if !self.has(path) {
            let make = if kind == Kind::File { Make::File } else { Make::Directory };
            self.push(path, make);
        }
        Ok(())
    }

    fn has(&self, path: &Path) -> bool {
        self.made.contains(path)
    }

    fn push(&mut self, path: &Path, make: Make) {
        self.made.insert(path.into());
        self.steps.push(Step { path: path.into(), make });
    }
}

/// The names of a path, taken as they stand.
fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter_map(|c| if let std::path::Component::Normal(n) = c { Some(n) } else { None })
        .collect()
}

/// Where `path` leads in `view`: relative to it, free of symlinks, existing or not.
///
/// # Errors
/// `ELOOP`, and what the kernel says of reading the image.
pub fn resolve(view: &Root, path: &Path) -> Result<PathBuf> {
    let mut done = PathBuf::new();
    let mut todo = names(path);
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        done.push(&name);
        if !file_type(view, &done)?.is_some_and(FileType::is_symlink) {
            continue;
        }
        links += 1;
        if links > SYMLINKS_LIMIT {
            let source = sys::Error::new("readlink", format!("{path:?}"), Errno::LOOP);
            return Err(Error::Call { what: "a mount point", source });
        }
        let link = view
            .open(&done, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
            .about("a symlink of the image")?;
        let target = rustix::fs::readlinkat(&link, c"", Vec::new()).call("readlink", || format!("{done:?}"));
        let target = PathBuf::from(OsString::from_vec(target.about("a symlink of the image")?.into_bytes()));
        done.pop();
        if target.has_root() {
            done.clear();
        }
        todo.extend(names(&target));
    }
    Ok(done)
}

/// The names of a path, last first; `..` is one of them.
fn names(path: &Path) -> Vec<OsString> {
    let bytes = path.as_os_str().as_bytes();
    let names = bytes.split(|&b| b == b'/').rev().filter(|name| !name.is_empty() && *name != b".");
    names.map(|name| OsStr::from_bytes(name).to_os_string()).collect()
}

/// What is at `path`, not following; `None` where nothing is, or where its parent is no directory.
fn file_type(view: &Root, path: &Path) -> Result<Option<FileType>> {
    match view.lstat(path) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(e) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(source) => Err(Error::Call { what: "looking into the image", source }),
    }
}

fn in_the_way(path: &Path, found: FileType, wanted: &'static str) -> Error {
    let found = match found {
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        FileType::Symlink => "a symlink",
        _ => "a special file",
    };
    Error::InTheWay { path: format!("/{}", path.display()), found, wanted }
}

fn chmod(fd: impl std::os::fd::AsFd, mode: Mode) -> Result<()> {
    // The umask has no say.
    rustix::fs::fchmod(fd, mode).call("fchmod", || format!("{mode:?}")).about("making a mount point")
}

impl Metadata {
    /// Those of a directory that nobody described: root's, 0755, of the epoch.
    pub fn plain() -> Self {
        Self { mode: DIRECTORY_MODE, uid: 0, gid: 0, times: [(0, 0); 2], xattrs: Vec::new() }
    }

    /// Reads a directory's.
    ///
    /// # Errors
    /// The call that failed.
    pub fn of(dir: &Root) -> Result<Self> {
        let stat = rustix::fs::statat(dir, c"", AtFlags::EMPTY_PATH)
            .call("fstat", String::new)
            .about("a directory")?;
        Ok(Self {
            mode: Mode::from_raw_mode(stat.st_mode & 0o7777),
            uid: stat.st_uid,
            gid: stat.st_gid,
            times: [(stat.st_atime, stat.st_atime_nsec as i64), (stat.st_mtime, stat.st_mtime_nsec as i64)],
            xattrs: xattrs(dir).about("a directory's xattrs")?,
        })
    }

    /// Gives them to another directory.
    ///
    /// # Errors
    /// The call that failed; an xattr that the file system or our privileges do not take is left out.
    pub fn apply(&self, dir: &Root) -> Result<()> {
        let owner = (rustix::process::Uid::from_raw(self.uid), rustix::process::Gid::from_raw(self.gid));
        rustix::fs::fchown(dir, Some(owner.0), Some(owner.1))
            .call("fchown", || format!("{owner:?}"))
            .about("an owner")?;
        chmod(dir, self.mode)?;
        for (name, value) in &self.xattrs {
            match rustix::fs::fsetxattr(dir, &**name, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno).call("fsetxattr", || format!("{name:?}")).about("an xattr"),
            }
        }
        let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps { last_access: time(self.times[0]), last_modification: time(self.times[1]) };
        rustix::fs::futimens(dir, &times).call("futimens", String::new).about("times")
    }
}

/// All xattrs that are content.
fn xattrs(dir: &Root) -> sys::Result<Vec<(OsString, Vec<u8>)>> {
    let mut list = vec![0_u8; XATTR_BYTES];
    let length = match rustix::fs::flistxattr(dir, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno).call("flistxattr", String::new),
    };
    let mut found = Vec::new();
    let mut value = vec![0_u8; XATTR_BYTES];
    for name in list[..length].split(|&b| b == 0).filter(|name| !name.is_empty() && !marks::is_reserved(name))
    {
        let name = OsStr::from_bytes(name);
        match rustix::fs::fgetxattr(dir, name, &mut value[..]) {
            Ok(length) => found.push((name.to_os_string(), value[..length].to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno).call("fgetxattr", || format!("{name:?}")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    struct Trees {
        dir: tempfile::TempDir,
        image: Root,
        init: Root,
    }

    fn trees() -> Trees {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["image/etc", "image/var/lib", "image/usr", "init", "canary"] {
            std::fs::create_dir_all(dir.path().join(name)).expect("mkdir");
        }
        let open = |name| Root::open_ambient(dir.path().join(name)).expect("open");
        Trees { image: open("image"), init: open("init"), dir }
    }

    impl Trees {
        fn make(&self, points: &[(&str, Kind)]) -> Result<Vec<String>> {
            let points: Vec<_> =
                points.iter().map(|&(path, kind)| Point { path: path.into(), kind }).collect();
            let missing = Missing::find(&self.image, &points)?;
            missing.make(&self.init)?;
            Ok(missing.steps.iter().map(|step| step.path.display().to_string()).collect())
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }
    }

    #[test]
    fn only_what_is_missing_is_made() {
        let t = trees();
        let made = t.make(&[("/var", Kind::Plain), ("/etc/hosts", Kind::File), ("/srv/a/b", Kind::Plain)]);
        assert_eq!(made.expect("make"), ["etc", "etc/hosts", "srv", "srv/a", "srv/a/b"]);
        assert!(t.at("init/etc/hosts").is_file() && t.at("init/srv/a/b").is_dir());
        assert!(!t.at("image/etc/hosts").exists());
    }

    #[test]
    fn many_volumes_cost_each_the_same() {
        let t = trees();
        let points = |count: usize| -> Vec<_> {
            let point = |n| Point { path: format!("/v{n}").into(), kind: Kind::Plain };
            (0..count).map(point).collect()
        };
        let time = |count| {
            let start = std::time::Instant::now();
            Missing::find(&t.image, &points(count)).expect("find");
            start.elapsed()
        };
        // A look at every other one would make it eight times as long each, whenever that is tried; others use the machine, too.
        let tries: Vec<_> = (0..10)
            .map(|_| (time(2_000), time(16_000)))
            .take_while(|&(few, many)| many >= few * 32)
            .collect();
        assert!(tries.len() < 10, "{tries:?}");
    }

    #[test]
    fn parents_look_like_the_images() {
        let t = trees();
        std::fs::set_permissions(t.at("image/etc"), std::fs::Permissions::from_mode(0o2751)).expect("chmod");
        rustix::fs::chown(t.at("image/etc"), Some(rustix::process::Uid::from_raw(12)), None).expect("chown");
        std::fs::set_permissions(t.at("image/etc"), std::fs::Permissions::from_mode(0o2751)).expect("chmod");
        let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, t.at("image/etc"), &times, AtFlags::empty())
            .expect("utimensat");
        t.make(&[("/etc/hosts", Kind::File), ("/etc/hostname", Kind::File)]).expect("make");
        let got = std::fs::metadata(t.at("init/etc")).expect("stat");
        assert_eq!(
            (got.mode() & 0o7777, got.uid(), got.mtime(), got.mtime_nsec()),
            (0o2751, 12, 1_000_000_000, 123_456_789)
        );
    }

    #[test]
    fn symlinks_are_resolved_inside_the_image() {
        let t = trees();
        let canary = t.at("canary");
        symlink(&canary, t.at("image/mnt")).expect("symlink");
        symlink("../../../run/x/resolv.conf", t.at("image/etc/resolv.conf")).expect("symlink");
        symlink("/etc/loop2", t.at("image/etc/loop")).expect("symlink");
        symlink("loop", t.at("image/etc/loop2")).expect("symlink");
        let made = t.make(&[("/mnt/new", Kind::Directory), ("/etc/resolv.conf", Kind::File)]).expect("make");
        assert_eq!(std::fs::read_dir(&canary).expect("read").count(), 0);
        assert!(made.contains(&"run/x/resolv.conf".to_string()), "{made:?}");
        assert!(
            made.contains(&format!("{}/new", canary.display()).trim_start_matches('/').to_string()),
            "{made:?}"
        );
        t.make(&[("/etc/loop", Kind::File)]).expect_err("a loop");
    }

    #[test]
    fn the_kernels_directories_hide_what_an_image_puts_there() {
        let t = trees();
        symlink(t.at("canary"), t.at("image/proc")).expect("symlink");
        std::fs::write(t.at("image/sys"), "a file").expect("write");
        std::fs::create_dir(t.at("image/dev")).expect("mkdir");
        let points = [
            ("/proc", Kind::Kernel),
            ("/sys", Kind::Kernel),
            ("/dev", Kind::Kernel),
            ("/dev/pts", Kind::Kernel),
        ];
        assert_eq!(t.make(&points).expect("make"), ["proc", "sys"]);
        let proc = std::fs::symlink_metadata(t.at("init/proc")).expect("stat");
        assert!(proc.is_dir());
    }

    #[test]
    fn what_is_inside_a_mount_is_not_made() {
        let t = trees();
        let made = t.make(&[
            ("/data", Kind::Directory),
            ("/data/sub", Kind::Directory),
            ("/data/work", Kind::Plain),
        ]);
        assert_eq!(made.expect("make"), ["data"]);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let t = trees();
        std::fs::write(t.at("image/etc/file"), "").expect("write");
        for (path, kind) in
            [("/etc/file/x", Kind::Plain), ("/etc/file", Kind::Directory), ("/etc", Kind::File)]
        {
            let refused = t.make(&[(path, kind)]).expect_err(path);
            assert!(matches!(refused, Error::InTheWay { .. }), "{path}: {refused}");
        }
    }

    #[test]
    fn names_of_any_bytes_stay_inside() {
        let t = trees();
        assert_eq!(resolve(&t.image, Path::new("/../../canary/f")).expect("resolve"), Path::new("canary/f"));
        assert_eq!(
            resolve(&t.image, Path::new("etc//./../var/missing/../x")).expect("resolve"),
            Path::new("var/x")
        );
    }
}
