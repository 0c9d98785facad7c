//! A container's class of service and its monitoring group in the resctrl file system (runtime-spec 1.3, config-linux.md,
//! "IntelRdt"; Linux, Documentation/filesystems/resctrl.rst).
//!
//! Invariants
//! - What is there is looked at, recorded and made under the file system's lock, as the kernel's document asks of all its users.
//! - A directory is recorded as the container's before it is made, and only as such it is removed; one that was there before
//!   is used or refused, never taken over.
//! - Nothing is created but by the kernel: a file that resctrl has not made is an error.
//!
//! Deliberately not here: what a class uses (`events` shows nothing of it).

mod error;
mod schemata;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIntelRdt, Spec};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use sys::{Call, Root};

pub use error::Error;

/// The result of an operation on resctrl.
pub type Result<T> = std::result::Result<T, Error>;

/// Names at the top that are no classes.
const KERNELS: [&str; 3] = ["info", "mon_groups", "mon_data"];
/// Where a class has its monitoring groups.
const MONITORING: &str = "mon_groups";
/// What resctrl says of the last call that failed.
const STATUS: &str = "info/last_cmd_status";
/// No file of resctrl that is read here is longer: a line for each resource, a few bytes for each domain.
const LONGEST_BYTES: u64 = 1 << 20;

/// A container's place in resctrl, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Where the file system is mounted.
    mount: PathBuf,
    /// Its class's directory below that; none for the default class.
    class: Option<String>,
    /// The configuration names the class: others use it, too.
    named: bool,
    /// The name of its monitoring group.
    monitoring: Option<String>,
    /// The class's directory is this container's.
    #[serde(default)]
    owns_class: bool,
    /// The monitoring group is this container's.
    #[serde(default)]
    owns_monitoring: bool,
}

/// The right to change what is in the file system; ends when it is dropped, or with the process.
#[derive(Debug)]
pub(crate) struct Locked(Root);

/// Where resctrl is mounted, whole, in this process's mount namespace.
///
/// # Errors
/// [`Error::NotMounted`]; [`Error::Call`] for a `/proc` that cannot be read.
pub(crate) fn mounted() -> Result<PathBuf> {
    let path = "/proc/self/mountinfo";
    #[allow(clippy::disallowed_methods, reason = "the kernel's file about this process")]
    let text = std::fs::read(path).call("read", || path.into())?;
    // A mount point may have any name.
    let text = String::from_utf8_lossy(&text);
    find(&text).ok_or(Error::NotMounted)
}

/// The last one is on top of what was mounted at the same place before.
fn find(mountinfo: &str) -> Option<PathBuf> {
    let mut mounts =
        mountinfo.lines().rev().filter_map(|line| sys::mountinfo::line(line, |kind| kind == "resctrl"));
    mounts.find(|one| one.root == Path::new("/")).map(|one| one.mount)
}

/// `enableCMT` and `enableMBM` of runtime-spec 1.1 and 1.2 ask for what a monitoring group gives; 1.3 has one word for both.
pub(crate) fn take_older_words(config: &[u8], spec: &mut Spec) {
    let Some(mut linux) = spec.linux().clone() else { return };
    let Some(mut class) = linux.intel_rdt().clone() else { return };
    let config: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    let asks = |word| config["linux"]["intelRdt"][word] == true;
    if asks("enableCMT") || asks("enableMBM") {
        class.set_enable_monitoring(Some(true));
        linux.set_intel_rdt(Some(class));
        spec.set_linux(Some(linux));
    }
}

impl Group {
    /// The place that a configuration asks for; nothing is looked at yet.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for what can name no class, and for lines that are none.
    pub(crate) fn plan(config: &LinuxIntelRdt, id: &str, mount: PathBuf) -> crate::Result<Self> {
        lines_are_lines(config)?;
        let named = config.clos_id().as_deref().filter(|class| !class.is_empty());
        let class = match named {
            Some("/") => None,
            Some(class) => Some(class),
            None => Some(id),
        };
        if let Some(class) = class {
            let member = if named.is_some() { "linux.intelRdt.closID" } else { "id" };
            is_a_class(class).map_err(|why| crate::Error::Invalid {
                member: member.into(),
                why: format!("{class:?} {why}"),
            })?;
        }
        let monitoring = config.enable_monitoring().unwrap_or_default().then(|| id.to_string());
        Ok(Self {
            mount,
            class: class.map(String::from),
            named: named.is_some(),
            monitoring,
            owns_class: false,
            owns_monitoring: false,
        })
    }

    /// Looks at what is there and says what will be the container's: to be recorded before [`make`](Self::make).
    ///
    /// # Errors
    /// What the specification's rules refuse: [`Error::NoClass`], [`Error::Differs`], [`Error::Exists`].
    pub(crate) fn claim(&mut self, config: &LinuxIntelRdt) -> Result<Locked> {
        let root = self.lock()?;
        if !is_there(&root, Path::new("tasks"))? {
            return Err(Error::NotMounted);
        }
        let class = self.class_path();
        let exists = is_there(&root, &class)?;
        match exists {
            true if !self.named => return Err(Error::Exists { path: self.mount.join(class) }),
            true => self.matches(&root, config)?,
            false if self.named && !has_schema(config) => {
                let class = self.class_name();
                return Err(Error::NoClass { class, mount: self.mount.clone() });
            }
            false => {}
        }
        if let Some(group) = self.monitoring_path()
            && exists
            && is_there(&root, &group)?
        {
            return Err(Error::Exists { path: self.mount.join(group) });
        }
        self.owns_class = !exists;
        self.owns_monitoring = self.monitoring.is_some();
        Ok(Locked(root))
    }

    /// Makes what was claimed, and sets the class up.
    ///
    /// # Errors
    /// [`Error::Call`] with what resctrl says of it; what exists by then is for [`remove`](Self::remove).
    pub(crate) fn make(&mut self, locked: Locked, config: &LinuxIntelRdt) -> Result<()> {
        let Locked(root) = locked;
        if self.owns_class {
            let made = mkdir(&root, &self.class_path());
            // It is another's who takes no locks.
            self.owns_class = made.as_ref().is_err_and(|error| !is_exist(error)) || made.is_ok();
            made?;
        }
        self.set(&root, &[config.l3_cache_schema().as_deref(), config.mem_bw_schema().as_deref()])?;
        // A write of its own: resctrl refuses to be told twice of a domain in one.
        let schemata: Vec<_> = config.schemata().iter().flatten().map(|line| Some(line.as_str())).collect();
        self.set(&root, &schemata)?;
        if let Some(group) = self.monitoring_path() {
            let made = mkdir(&root, &group);
            self.owns_monitoring = made.as_ref().is_err_and(|error| !is_exist(error)) || made.is_ok();
            made?;
        }
        Ok(())
    }

    /// Moves a process that has one thread into the class and the monitoring group.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub(crate) fn adopt(&self, pid: Pid) -> Result<()> {
        let root = Root::open_ambient(&self.mount)?;
        let pid = pid.as_raw_nonzero().to_string();
        write(&root, &self.class_path().join("tasks"), &pid)?;
        self.monitoring_path().map_or(Ok(()), |group| write(&root, &group.join("tasks"), &pid))
    }

    /// The container is made: from now on a class that its configuration names is nobody's to remove, whoever made it.
    pub(crate) fn settle(&mut self) {
        self.owns_class &= !self.named;
    }

    /// Removes what is the container's.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub(crate) fn remove(&self) -> Result<()> {
        if !self.owns_class && !self.owns_monitoring {
            return Ok(());
        }
        let root = match self.lock() {
            // With the file system all classes have gone.
            Err(Error::Call { source, .. }) if source.is_not_found() => return Ok(()),
            answer => answer?,
        };
        if let Some(group) = self.monitoring_path().filter(|_| self.owns_monitoring) {
            rmdir(&root, &group)?;
        }
        let class = self.class_path();
        // Another container may have come into a class with a name; without its directory it would lose its limits.
        if self.owns_class && !(self.named && is_in_use(&root, &class)?) {
            rmdir(&root, &class)?;
        }
        Ok(())
    }

    /// Sets other lines.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for what is no line of its kind; [`Error::Call`].
    pub(crate) fn update(&self, changes: &LinuxIntelRdt) -> crate::Result<()> {
        lines_are_lines(changes)?;
        let root = self.lock()?;
        Ok(self.set(&root, &[changes.l3_cache_schema().as_deref(), changes.mem_bw_schema().as_deref()])?)
    }

    fn lock(&self) -> Result<Root> {
        let root = Root::open_ambient(&self.mount)?;
        loop {
            match flock(root.as_fd(), FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                answer => break answer.call("flock", || format!("{:?}", self.mount))?,
            }
        }
        Ok(root)
    }

    fn class_path(&self) -> PathBuf {
        PathBuf::from(self.class.as_deref().unwrap_or("."))
    }

    fn class_name(&self) -> String {
        self.class.clone().unwrap_or_else(|| "/".into())
    }

    fn monitoring_path(&self) -> Option<PathBuf> {
        self.monitoring.as_ref().map(|name| self.class_path().join(MONITORING).join(name))
    }

    /// A class that is there already has to be as the configuration says.
    fn matches(&self, root: &Root, config: &LinuxIntelRdt) -> Result<()> {
        let asked = joined(&[config.l3_cache_schema().as_deref(), config.mem_bw_schema().as_deref()]);
        if asked.is_empty() {
            // Not a class of whoever has mounted something else here.
            return is_there(root, &self.class_path().join("tasks"))?
                .then_some(())
                .ok_or_else(|| Error::NoClass { class: self.class_name(), mount: self.mount.clone() });
        }
        let found = read(root, &self.class_path().join("schemata"))?;
        let granularity = read(root, Path::new("info/MB/bandwidth_gran")).ok();
        let granularity = granularity.and_then(|text| text.trim().parse().ok());
        match schemata::difference(&asked, &found, granularity) {
            None => Ok(()),
            Some((asked, found)) => Err(Error::Differs { class: self.class_name(), asked, found }),
        }
    }

    /// Writes lines to the class's schemata, all at once, where there are any.
    fn set(&self, root: &Root, lines: &[Option<&str>]) -> Result<()> {
        let text = joined(lines);
        if text.is_empty() { Ok(()) } else { write(root, &self.class_path().join("schemata"), &text) }
    }
}

/// The lines that are there, each with its end.
fn joined(lines: &[Option<&str>]) -> String {
    let lines = lines.iter().flatten().filter(|line| !line.is_empty());
    lines.map(|line| format!("{}\n", line.trim_end_matches('\n'))).collect()
}

fn has_schema(config: &LinuxIntelRdt) -> bool {
    let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    set(config.l3_cache_schema())
        || set(config.mem_bw_schema())
        || config.schemata().iter().flatten().any(|line| !line.is_empty())
}

fn is_a_class(name: &str) -> std::result::Result<(), &'static str> {
    match name {
        "." | ".." => Err("is no name of a class"),
        _ if name.contains(['/', '\n', '\0']) => Err("is no name of a class: it has a slash, newline or NUL"),
        _ if KERNELS.contains(&name) => Err("is a directory of resctrl itself"),
        _ => Ok(()),
    }
}

/// "MUST start with MB:", "MUST NOT contain newlines"; an L3 cache schema only should not, and has two lines with CDP.
fn lines_are_lines(config: &LinuxIntelRdt) -> crate::Result<()> {
    let wrong = |member: &str, why: String| {
        Err(crate::Error::Invalid { member: format!("linux.intelRdt.{member}"), why })
    };
    let bandwidth = config.mem_bw_schema().as_deref().filter(|text| !text.is_empty());
    if let Some(text) = bandwidth.filter(|text| !text.starts_with("MB:") || text.contains('\n')) {
        return wrong("memBwSchema", format!("{text:?} is no line that starts with MB:"));
    }
    match config.schemata().iter().flatten().find(|line| line.contains('\n')) {
        Some(line) => wrong("schemata", format!("{line:?} is more than one line")),
        None => Ok(()),
    }
}

fn is_exist(error: &Error) -> bool {
    matches!(error, Error::Exists { .. })
}

fn is_there(root: &Root, path: &Path) -> Result<bool> {
    match root.open(path, OFlags::PATH, Mode::empty()) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// True where tasks or further monitoring groups are in the class.
fn is_in_use(root: &Root, class: &Path) -> Result<bool> {
    let gone = |error: &Error| matches!(error, Error::Call { source, .. } if source.is_not_found());
    match read(root, &class.join("tasks")) {
        Err(error) if gone(&error) => return Ok(false),
        Err(error) => return Err(error),
        Ok(tasks) if !tasks.trim().is_empty() => return Ok(true),
        Ok(_) => {}
    }
    let Ok(groups) = root.open(class.join(MONITORING), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    else {
        return Ok(false);
    };
    let entries = rustix::fs::Dir::read_from(groups).call("getdents64", || MONITORING.into())?;
    let is_group = |entry: rustix::fs::DirEntry| {
        let name = entry.file_name().to_bytes();
        name != b"." && name != b".." && entry.file_type() == rustix::fs::FileType::Directory
    };
    Ok(entries.filter_map(std::result::Result::ok).any(is_group))
}

/// Makes a directory; the kernel fills it.
fn mkdir(root: &Root, path: &Path) -> Result<()> {
    let made = root.parent(path).and_then(|parent| {
        rustix::fs::mkdirat(&parent.dir, &*parent.name, Mode::from_raw_mode(0o755))
            .call("mkdirat", || format!("{path:?}"))
    });
    #[cfg(test)]
    let made = made.inspect(|()| tests::fill(root, path));
    made.map_err(|source| match source.errno {
        Errno::EXIST => Error::Exists { path: path.into() },
        _ => told(root, source),
    })
}

/// Removes a directory of resctrl; its files go with it.
fn rmdir(root: &Root, path: &Path) -> Result<()> {
    #[cfg(test)]
    tests::empty(root, path);
    let removed = root.parent(path).and_then(|parent| {
        rustix::fs::unlinkat(&parent.dir, &*parent.name, AtFlags::REMOVEDIR)
            .call("unlinkat", || format!("{path:?}"))
    });
    match removed {
        Err(error) if error.is_not_found() => Ok(()),
        answer => answer.map_err(|source| told(root, source)),
    }
}

/// One write, which the kernel takes whole or refuses.
fn write(root: &Root, path: &Path, text: &str) -> Result<()> {
    let about = || format!("{path:?}, {text:?}");
    let failed = |source: sys::Error| told(root, source);
    let file = root.open(path, OFlags::WRONLY | OFlags::TRUNC, Mode::empty()).map_err(failed)?;
    let written = rustix::io::write(&file, text.as_bytes()).call("write", about).map_err(failed)?;
    if written == text.len() { Ok(()) } else { Err(sys::Error::new("write", about(), Errno::IO).into()) }
}

fn read(root: &Root, path: &Path) -> Result<String> {
    let file = std::fs::File::from(root.open(path, OFlags::RDONLY, Mode::empty())?);
    let mut text = String::new();
    file.take(LONGEST_BYTES).read_to_string(&mut text).call("read", || format!("{path:?}"))?;
    Ok(text)
}

/// A failed call with what resctrl says of it.
fn told(root: &Root, source: sys::Error) -> Error {
    let status = read(root, Path::new(STATUS)).unwrap_or_default();
    let status = status.trim();
    let status = if status == "ok" { "" } else { status };
    Error::Call { source, status: status.to_string() }
}
