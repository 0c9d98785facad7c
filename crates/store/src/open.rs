//! Where the store is, whose it is, and how it comes to be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::{Call, Root};

use crate::files::{About, Durable, PRIVATE_DIR, found};
use crate::leases::Held;
use crate::staging::Staged;
use crate::{Error, Result, files, staging};

/// The layout this version writes.
const LAYOUT: u64 = 1;
/// The directories of a store.
const DIRECTORIES: [&str; 11] = [
    "blobs",
    "blobs/sha256",
    "ingest",
    "staging",
    "layers",
    "fixes",
    "containers",
    "volumes",
    "names",
    "refs",
    "leases",
];
/// What may lie in a directory that is made a store: a layout of another program, or one of ours half-made.
const FOREIGN: [&str; 4] = ["oci-layout", "index.json", "blobs", "manifest.json"];
/// The most bytes `store.json` has: a few numbers and an id map of the kernel's 340 lines at most.
const STORE_JSON_LIMIT: u64 = 64 << 10;
/// image-spec v1.1, image-layout.md, "oci-layout file".
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// An index without images.
pub(crate) const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// A store. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    dir: Root,
    /// Leases on what this process has put here.
    kept: Held,
}

/// `store.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    layout: u64,
    /// The effective uid that made it, as the parent user namespace sees it.
    owner: u32,
    /// `/proc/self/uid_map` of the process that made it.
    uid_map: String,
}

impl Store {
    /// Opens the store at `path`, or the caller's own where none is given, and makes it where there is none.
    ///
    /// An empty path is none, as an empty `$OCIPIPE_STORE` gives it.
    ///
    /// Without a path: /var/lib/ocipipe for root of the initial user namespace, else `$XDG_DATA_HOME/ocipipe`.
    ///
    /// # Errors
    /// [`Error::ForeignOwner`] where it is another's and was not named, [`Error::NotAStore`],
    /// [`Error::LayoutVersion`], or a failed call.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let named = path.is_some();
        let uid_map = read_proc("/proc/self/uid_map");
        let owner = outside(rustix::process::geteuid().as_raw(), &uid_map);
        let path = match path {
            Some(path) => path.to_path_buf(),
            None => default_path(&uid_map)?,
        };
        let dir = open_or_make(&path)?;
        let ours = Record { layout: LAYOUT, owner, uid_map };
        let record = match read_record(&dir)? {
            Some(record) => record,
            None => make(&dir, &path, ours.owner, &ours)?,
        };
        if record.layout != LAYOUT {
            return Err(Error::LayoutVersion { path, found: record.layout, known: LAYOUT });
        }
        if record.owner != owner && !named {
            return Err(Error::ForeignOwner { path, owner: record.owner, ours: owner });
        }
        keep_private(&dir)?;
        let store =
            Self { inner: Arc::new(Inner { path: real_path(&dir, &path), dir, kept: Held::default() }) };
        staging::sweep(&store)?;
        Ok(store)
    }

    /// The store's absolute path, without symlinks.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether a tool that is told nothing finds this store, by `$OCIPIPE_STORE` or by default.
    pub fn is_found_unnamed(&self) -> bool {
        let variable = std::env::var_os("OCIPIPE_STORE").filter(|path| !path.is_empty());
        let found =
            variable.map(PathBuf::from).or_else(|| default_path(&read_proc("/proc/self/uid_map")).ok());
        found.is_some_and(|path| path == self.path())
    }

    /// The store's directory.
    pub fn dir(&self) -> &Root {
        &self.inner.dir
    }

    pub(crate) fn kept(&self) -> &Held {
        &self.inner.kept
    }

    /// Refuses a line's `store` that is not this one; it is a hint and used for nothing else.
    ///
    /// # Errors
    /// [`Error::OtherStore`].
    pub fn owns(&self, line_store: Option<&Path>) -> Result<()> {
        match line_store {
            Some(theirs) if theirs != self.path() => {
                Err(Error::OtherStore { theirs: theirs.into(), ours: self.path().into() })
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn read_proc(path: &str) -> String {
    let Ok(fd) = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return String::new();
    };
    let mut text = String::new();
    let read = std::io::Read::read_to_string(&mut std::fs::File::from(fd), &mut text);
    if read.is_ok() { text } else { String::new() }
}

/// True in the initial user namespace, whose map is the identity of all ids (user_namespaces(7)).
fn is_initial(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// `uid` as the parent user namespace sees it.
fn outside(uid: u32, uid_map: &str) -> u32 {
    for line in uid_map.lines() {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (Some(Some(inside)), Some(Some(outside)), Some(Some(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            continue;
        };
        if uid >= inside && uid - inside < count {
            return outside.saturating_add(uid - inside);
        }
    }
    uid
}

fn default_path(uid_map: &str) -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() && is_initial(uid_map) {
        return Ok("/var/lib/ocipipe".into());
    }
    // The specification ignores a relative one (XDG Base Directory, "Basics").
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("ocipipe"))
        .ok_or(Error::NoPlace)
}

fn open_or_make(path: &Path) -> Result<Root> {
    if let Some(dir) = found(Root::open_ambient(path)).about(path)? {
        return Ok(dir);
    }
    let mut missing = vec![path];
    for parent in path.ancestors().skip(1) {
        if parent.as_os_str().is_empty() || rustix::fs::stat(parent).is_ok() {
            break;
        }
        missing.push(parent);
    }
    for dir in missing.into_iter().rev() {
        match rustix::fs::mkdirat(CWD, dir, PRIVATE_DIR) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).call("mkdir", || format!("{dir:?}")).about(dir),
        }
    }
    Root::open_ambient(path).about(path)
}

fn read_record(dir: &Root) -> Result<Option<Record>> {
    let Some(bytes) = files::read_bounded(dir, "store.json", STORE_JSON_LIMIT)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::document("store.json", e))
}

/// Makes a store of an empty directory, of a plain OCI layout, or of what a dead process began; several may at once.
fn make(dir: &Root, path: &Path, owner: u32, record: &Record) -> Result<Record> {
    for entry in files::names_in(dir, "")? {
        let known = FOREIGN.contains(&&*entry) || DIRECTORIES.contains(&&*entry) || entry == "store.json";
        if !known {
            return Err(Error::NotAStore { path: path.into(), entry });
        }
    }
    let stat = files::stat(dir).about(path)?;
    let ours = rustix::process::geteuid().as_raw();
    if stat.st_uid != ours {
        return Err(Error::ForeignOwner { path: path.into(), owner: stat.st_uid, ours: owner });
    }
    keep_private(dir)?;
    for name in DIRECTORIES {
        files::make_dir(dir, name)?;
    }
    let json = serde_json::to_vec(record).map_err(|e| Error::document("store.json", e))?;
    // store.json last: where it stands, all else does.
    for (name, bytes) in [("oci-layout", OCI_LAYOUT), ("index.json", EMPTY_INDEX), ("store.json", &json[..])]
    {
        let mut staged = Staged::file(dir)?;
        staged.write(bytes)?;
        staged.publish_new(name, Durable::Yes)?;
    }
    let made = read_record(dir)?;
    made.ok_or_else(|| {
        Error::document("store.json", crate::DocumentFault::Rule("vanished while it was made".into()))
    })
}

/// Takes the permissions of others away, whatever the umask and whoever made the directory.
fn keep_private(dir: &Root) -> Result<()> {
    let stat = files::stat(dir).about("")?;
    if stat.st_mode & 0o7777 == PRIVATE_DIR.as_raw_mode() {
        return Ok(());
    }
    rustix::fs::fchmod(dir, PRIVATE_DIR).call("fchmod", || "0700".into()).about("")
}

/// The path by which the kernel knows the directory.
fn real_path(dir: &Root, path: &Path) -> PathBuf {
    use std::os::fd::{AsFd, AsRawFd};
    let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let real = rustix::fs::readlink(link, Vec::new()).ok().and_then(|target| {
        let target = PathBuf::from(std::ffi::OsString::from(target.into_string().ok()?));
        target.is_absolute().then_some(target)
    });
    real.or_else(|| std::path::absolute(path).ok()).unwrap_or_else(|| path.into())
}
