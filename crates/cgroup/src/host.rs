//! Which hierarchies this host has, and where this process is in them. Read once.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::statfs;
use rustix::process::Pid;
use sys::Call;
use sys::mountinfo::Mounted;

use crate::error::About;
use crate::path::normal;
use crate::{Error, Result};

/// Where every host mounts them: version 2 itself, or a tmpfs with a directory for each hierarchy of version 1.
const TOP: &str = "/sys/fs/cgroup";

/// `f_type` of a version-2 file system (statfs(2)).
const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The controllers of version 1 that a container gets a group of, runc's set; any other hierarchy is someone else's.
const CONTROLLERS: [&str; 14] = [
    "cpuset",
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "pids",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "freezer",
    "rdma",
    "misc",
];

/// The named hierarchy that systemd keeps on a version-1 host.
const SYSTEMD: &str = "name=systemd";

/// What this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// One hierarchy of version 2, mounted here.
    Unified(PathBuf),
    /// Hierarchies of version 1; on a hybrid host one of version 2 (without controllers in its list) among them.
    Legacy(Vec<Hierarchy>),
}

/// A hierarchy of a version-1 or hybrid host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Its controllers, or its name as `name=systemd`; empty for version 2.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Which of its directories is mounted there.
    root: PathBuf,
}

/// A hierarchy as a container sees it below its `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The directory's name; empty for the place itself, on a host of version 2.
    pub directory: String,
    /// The controllers of version 1, or `name=systemd`; empty for version 2.
    pub controllers: Vec<String>,
}

/// The hierarchies of this host as a container is to be shown them: version 2 alone, or the directories of version 1 under the
/// names that they have here.
///
/// # Errors
/// [`Error::NoHierarchy`]; those of reading `/proc/self/mountinfo`.
pub fn hierarchies() -> Result<Vec<Shown>> {
    Ok(match Host::get()? {
        Host::Unified(_) => vec![Shown { directory: String::new(), controllers: Vec::new() }],
        Host::Legacy(hierarchies) => hierarchies.iter().filter_map(Hierarchy::shown).collect(),
    })
}

impl Host {
    /// This host, as it was when first asked.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`]; those of reading `/proc/self/mountinfo`.
    pub(crate) fn get() -> Result<&'static Self> {
        static HOST: OnceLock<Host> = OnceLock::new();
        if let Some(host) = HOST.get() {
            return Ok(host);
        }
        let host = Self::look()?;
        Ok(HOST.get_or_init(|| host))
    }

    fn look() -> Result<Self> {
        // The usual host of version 2 costs one call. This also sees what a mount namespace of its own has mounted over TOP.
        if statfs(TOP).is_ok_and(|found| found.f_type == CGROUP2_SUPER_MAGIC) {
            return Ok(Self::Unified(TOP.into()));
        }
        Self::parse(mountinfo()?)
    }

    /// The host that `/proc/self/mountinfo` (proc(5)) describes.
    fn parse(mountinfo: &str) -> Result<Self> {
        let mut found: Vec<Hierarchy> = mountinfo.lines().filter_map(hierarchy).collect();
        // Where one is mounted twice, the usual place is the one that others see, too.
        found.sort_by_key(|one| !one.mount.starts_with(TOP));
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for one in found {
            if hierarchies.iter().all(|other| other.controllers != one.controllers) {
                hierarchies.push(one);
            }
        }
        match hierarchies.as_slice() {
            [] => Err(Error::NoHierarchy),
            [only] if only.controllers.is_empty() => Ok(Self::Unified(only.mount.clone())),
            _ => Ok(Self::Legacy(hierarchies)),
        }
    }
}

impl Hierarchy {
    fn shown(&self) -> Option<Shown> {
        let directory = self.mount.file_name()?.to_str()?.to_string();
        Some(Shown { directory, controllers: self.controllers.clone() })
    }

    /// This process's own group below the mount, from the text of `/proc/self/cgroup`.
    ///
    /// Where the mount shows a part of the hierarchy only (a container without a cgroup namespace), the path is relative to that.
    pub(crate) fn own(&self, own: &str) -> Option<PathBuf> {
        let wanted = self.controllers.first().map_or("", String::as_str);
        below_root(&self.root, &own_path(own, wanted)?)
    }
}

/// The group of version 2 that the text of a `/proc/PID/cgroup` names, below the mount.
pub(crate) fn own_unified(own: &str, mount: &Path) -> Result<Option<PathBuf>> {
    let Some(path) = own_path(own, "") else { return Ok(None) };
    let root = mountinfo()?.lines().filter_map(hierarchy).rfind(|one| one.mount == mount);
    Ok(Some(root.and_then(|one| below_root(&one.root, &path)).unwrap_or_else(|| normal(&path))))
}

/// The group of version 2 that another process is in now, below the mount.
#[expect(clippy::disallowed_methods, reason = "the kernel's file about a process")]
pub(crate) fn unified_of(pid: Pid, mount: &Path) -> Result<Option<PathBuf>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).call("read", || path.clone());
    own_unified(&text.about("looking for a process's cgroup")?, mount)
}

/// The path of the line whose controllers have `wanted` among them (cgroups(7): `number:controllers:path`).
fn own_path(own: &str, wanted: &str) -> Option<PathBuf> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers.split(',').any(|one| one == wanted).then(|| PathBuf::from(path))
    })
}

fn below_root(root: &Path, path: &Path) -> Option<PathBuf> {
    path.strip_prefix(root).ok().map(normal)
}

/// A line of mountinfo as a hierarchy.
fn hierarchy(line: &str) -> Option<Hierarchy> {
    let found = sys::mountinfo::line(line, |kind| kind == "cgroup" || kind == "cgroup2")?;
    let Mounted { root, mount, kind, options } = found;
    if kind == "cgroup2" {
        return Some(Hierarchy { controllers: Vec::new(), mount, root });
    }
    let known = |option: &&str| CONTROLLERS.contains(option) || *option == SYSTEMD;
    let controllers: Vec<String> = options.split(',').filter(known).map(String::from).collect();
    (!controllers.is_empty()).then_some(Hierarchy { controllers, mount, root })
}

fn mountinfo() -> Result<&'static str> {
    static TEXT: OnceLock<String> = OnceLock::new();
    kept(&TEXT, "/proc/self/mountinfo")
}

/// The text of `/proc/self/cgroup`.
pub(crate) fn own() -> Result<&'static str> {
    static TEXT: OnceLock<String> = OnceLock::new();
    kept(&TEXT, "/proc/self/cgroup")
}

#[expect(clippy::disallowed_methods, reason = "the kernel's files about this process")]
fn kept(cell: &'static OnceLock<String>, path: &'static str) -> Result<&'static str> {
    if let Some(text) = cell.get() {
        return Ok(text);
    }
    let text =
        std::fs::read(path).call("read", || path.to_string()).about("looking for the cgroup hierarchies")?;
    Ok(cell.get_or_init(|| String::from_utf8_lossy(&text).into_owned()))
}

/// True where version 2 governs every container of this host.
pub fn is_unified() -> bool {
    matches!(Host::get(), Ok(Host::Unified(_)))
}

/// This process's group in one hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnGroup {
    /// The hierarchy's controllers, or its name as `name=systemd`.
    pub controllers: Vec<String>,
    /// The group's directory on this host.
    pub path: PathBuf,
}

/// The groups of version 1 that this process is in now; none on a host of version 2.
///
/// # Errors
/// [`Error::NoHierarchy`]; those of reading `/proc/self/cgroup`.
#[expect(clippy::disallowed_methods, reason = "the kernel's file about this process")]
pub fn own_groups() -> Result<Vec<OwnGroup>> {
    let Host::Legacy(hierarchies) = Host::get()? else { return Ok(Vec::new()) };
    // Not the text that is kept: this process may have been given another group since.
    let file = "/proc/self/cgroup";
    let text =
        std::fs::read_to_string(file).call("read", || file.into()).about("looking for the own cgroup")?;
    let own = |one: &Hierarchy| {
        let path = one.mount.join(one.own(&text)?);
        Some(OwnGroup { controllers: one.controllers.clone(), path })
    };
    Ok(hierarchies.iter().filter(|one| !one.controllers.is_empty()).filter_map(own).collect())
}

/// True where this process cannot be expected to own the hierarchies: no root, or root of a user namespace only.
#[expect(clippy::disallowed_methods, reason = "the kernel's file about this process")]
pub fn is_rootless() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole: Vec<&str> = map.split_whitespace().collect();
    !map.is_empty() && whole != ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/a /sys/fs/cgroup/mem\\040ory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,release_agent=/x,name=systemd
42 31 0:39 / /sys/fs/cgroup/other rw - cgroup other rw,name=other
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn a_hybrid_host_has_its_version_1_hierarchies_and_the_unified_one() {
        let Ok(Host::Legacy(found)) = Host::parse(HYBRID) else { panic!("version 1") };
        let shown: Vec<String> = found
            .iter()
            .map(|one| format!("{} {}", one.controllers.join(","), one.mount.display()))
            .collect();
        assert_eq!(
            shown,
            [
                "cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct",
                "memory /sys/fs/cgroup/mem ory",
                "name=systemd /sys/fs/cgroup/systemd",
                " /sys/fs/cgroup/unified"
            ]
        );
    }

    #[test]
    fn the_usual_place_wins_where_a_hierarchy_is_mounted_twice() {
        let twice = "1 1 0:1 / /mnt/x rw - cgroup c rw,memory\n2 1 0:1 / /sys/fs/cgroup/memory rw - cgroup c rw,memory\n";
        let Ok(Host::Legacy(found)) = Host::parse(twice) else { panic!("version 1") };
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].mount, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn a_host_of_version_2_elsewhere_is_one() {
        let line = "1 1 0:1 / /mnt/cg rw - cgroup2 none rw\n";
        assert_eq!(Host::parse(line).expect("a host"), Host::Unified("/mnt/cg".into()));
        assert!(matches!(Host::parse("1 1 0:1 / / rw - ext4 none rw\n"), Err(Error::NoHierarchy)));
    }

    #[test]
    fn ones_own_group_is_below_what_is_mounted() {
        let own = "4:cpu,cpuacct:/a/b\n3:memory:/docker/a/c\n1:name=systemd:/s\n0::/u:v\n";
        let Ok(Host::Legacy(found)) = Host::parse(HYBRID) else { panic!("version 1") };
        let paths: Vec<_> = found.iter().map(|one| one.own(own)).collect();
        let expected = ["a/b", "c", "s", "u:v"];
        assert_eq!(paths, expected.map(|path| Some(PathBuf::from(path))));
        assert_eq!(found[1].own("3:memory:/elsewhere\n"), None);
    }
}
