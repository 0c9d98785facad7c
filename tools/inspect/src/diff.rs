//! What a container changed of its image: docker's `diff`.
//!
//! The writable layer alone is walked; of the image only those names are looked at that the container touched, and the
//! directories that it replaced.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cli::{During, Failure};
use descriptor::Exit;
use overlay::{Plan, marks};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde_json::json;
use store::{Container, Store};
use sys::{Call, Root};

use crate::args::DiffArgs;
use crate::form::Format;
use crate::output;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Changed,
    Added,
    Deleted,
}

impl Kind {
    /// Docker's letter.
    fn letter(self) -> &'static str {
        match self {
            Self::Changed => "C",
            Self::Added => "A",
            Self::Deleted => "D",
        }
    }
}

/// How deep directories may lie, and the stack for that.
const DEPTH_LIMIT: usize = 4_000;
const STACK_BYTES: usize = 64 << 20;
/// The most bytes of a path that is looked up at once: the kernel takes 4,095.
const PART_BYTES: usize = 3_000;

/// A path of the container, absolute, and what happened to it.
type Change = (Kind, PathBuf);

/// Shows them, a directory before what is in it.
pub(crate) fn diff(store: &Store, args: &DiffArgs) -> Result<(), Failure> {
    if !matches!(args.format, None | Some(Format::Table | Format::Json)) {
        return Err(Failure::usage("--format", "changes are table or json"));
    }
    let what = || format!("container {:?}", args.name);
    let container = store.container(&args.name).during(what)?;
    let changes = changes(&container)?;
    if args.format == Some(Format::Json) {
        let row = |(kind, path): &Change| json!({"Kind": kind.letter(), "Path": path.to_string_lossy()});
        let text: String = changes.iter().map(|change| format!("{}\n", row(change))).collect::<String>();
        return cli::answer(descriptor::printable(text).as_bytes());
    }
    let mut bytes = Vec::new();
    for (kind, path) in &changes {
        let name = path.as_os_str().as_bytes();
        bytes.extend_from_slice(kind.letter().as_bytes());
        bytes.push(b' ');
        match output::to_a_person() {
            true => bytes.extend_from_slice(cli::escaped(&String::from_utf8_lossy(name)).as_bytes()),
            false => bytes.extend_from_slice(name),
        }
        bytes.push(b'\n');
    }
    cli::answer(&bytes)
}

fn changes(container: &Container) -> Result<Vec<Change>, Failure> {
    let what = || format!("container {}", container.name());
    let store = container.store();
    let bundle = container.root().during(what)?;
    let plan = Plan::of_container(container).during(what)?;
    let failed = |e: sys::Error| Failure::new(Exit::Other, what(), e);
    let mut lowers = vec![bundle.open_dir("init").map_err(failed)?];
    for tree in &plan.image {
        lowers.push(store.dir().open_dir(tree).map_err(failed)?);
    }
    let walk = Walk { upper: bundle.open_dir("upper").map_err(failed)?, lowers };
    let below: Vec<usize> = (0..walk.lowers.len()).collect();
    let all = || walk.directory(Path::new(""), &below, false);
    let walked = std::thread::scope(|scope| {
        let walker = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, all);
        walker.map(|walker| walker.join())
    });
    match walked {
        Ok(Ok(changes)) => changes.map_err(failed),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(e) => Err(Failure::new(Exit::Other, what(), e)),
    }
}

/// The writable layer over the trees below, the uppermost first.
struct Walk {
    upper: Root,
    lowers: Vec<Root>,
}

impl Walk {
    /// What happened in a directory that both have. `below` are the trees that show it; where it is `hidden`, nothing of
    /// them shows through any more.
    fn directory(&self, path: &Path, below: &[usize], hidden: bool) -> sys::Result<Vec<Change>> {
        if path.components().count() > DEPTH_LIMIT {
            let shown = format!("directories nested deeper than {DEPTH_LIMIT}");
            return Err(sys::Error::new("open", shown, Errno::NAMETOOLONG));
        }
        let dir = open_dir(&self.upper, path)?;
        let hidden = hidden || marks::is_opaque(dir.as_fd())?;
        let mut names = names(&dir)?;
        if hidden {
            names.extend(self.names_below(path, below)?);
        }
        let stat = |name: Vec<u8>| {
            let upper = marks::stat(dir.as_fd(), OsStr::from_bytes(&name));
            upper.map(|upper| (name, upper))
        };
        let entries = names.into_iter().map(stat).collect::<sys::Result<Vec<_>>>()?;
        // One open directory a tree, whatever the depth.
        drop(dir);
        let mut all = Vec::new();
        for (name, upper) in entries {
            self.entry(path.join(OsStr::from_bytes(&name)), upper, below, hidden, &mut all)?;
        }
        Ok(all)
    }

    fn entry(
        &self,
        path: PathBuf,
        upper: Option<Stat>,
        below: &[usize],
        hidden: bool,
        all: &mut Vec<Change>,
    ) -> sys::Result<()> {
        let (showing, lower) = self.showing(&path, below)?;
        let shown = Path::new("/").join(&path);
        let Some(upper) = upper.filter(|stat| !marks::is_whiteout(stat)) else {
            all.extend(lower.map(|_| (Kind::Deleted, shown)));
            return Ok(());
        };
        let Some(lower) = lower else {
            all.push((Kind::Added, shown));
            if is_dir(&upper) {
                all.extend(self.directory(&path, &[], false)?);
            }
            return Ok(());
        };
        if !is_dir(&upper) {
            all.push((Kind::Changed, shown));
            return Ok(());
        }
        if !is_dir(&lower) {
            all.push((Kind::Changed, shown));
            all.extend(self.directory(&path, &[], false)?);
            return Ok(());
        }
        let inside = self.directory(&path, &showing, hidden)?;
        if !inside.is_empty() || looks(&upper) != looks(&lower) {
            all.push((Kind::Changed, shown));
        }
        all.extend(inside);
        Ok(())
    }

    /// The trees whose directory shows at a path, and what is seen there of them all.
    fn showing(&self, path: &Path, below: &[usize]) -> sys::Result<(Vec<usize>, Option<Stat>)> {
        let mut showing = Vec::new();
        let mut first = None;
        for &tree in below {
            let stat = match lstat(&self.lowers[tree], path) {
                Ok(stat) => stat,
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e),
            };
            if marks::is_whiteout(&stat) {
                break;
            }
            first.get_or_insert(stat);
            if !is_dir(&stat) {
                break;
            }
            showing.push(tree);
            if marks::is_opaque(open_dir(&self.lowers[tree], path)?.as_fd())? {
                break;
            }
        }
        Ok((showing, first))
    }

    fn names_below(&self, path: &Path, below: &[usize]) -> sys::Result<BTreeSet<Vec<u8>>> {
        let mut all = BTreeSet::new();
        for &tree in below {
            all.extend(names(&open_dir(&self.lowers[tree], path)?)?);
        }
        Ok(all)
    }
}

/// Opens a directory, one that is too far away for one call by way of others. None of them is a link: each was looked at.
fn open_dir(root: &Root, path: &Path) -> sys::Result<Root> {
    let mut dir: Option<Root> = None;
    let mut part = PathBuf::new();
    for name in path.components() {
        part.push(name);
        if part.as_os_str().len() > PART_BYTES {
            dir = Some(dir.as_ref().unwrap_or(root).open_dir(&part)?);
            part = PathBuf::new();
        }
    }
    let rest = if part.as_os_str().is_empty() { Path::new(".") } else { &part };
    dir.as_ref().unwrap_or(root).open_dir(rest)
}

fn lstat(root: &Root, path: &Path) -> sys::Result<Stat> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if path.as_os_str().len() > PART_BYTES => {
            open_dir(root, parent)?.lstat(Path::new(name))
        }
        _ => root.lstat(path),
    }
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

/// What makes a directory another one, though the same is in it.
fn looks(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode, stat.st_uid, stat.st_gid)
}

fn names(dir: &Root) -> sys::Result<BTreeSet<Vec<u8>>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir.as_fd(), c".", flags, Mode::empty()).call("openat", || ".".into())?;
    let mut all = BTreeSet::new();
    for entry in Dir::read_from(fd).call("getdents64", String::new)? {
        let entry = entry.call("getdents64", String::new)?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            all.insert(name.to_vec());
        }
    }
    Ok(all)
}
