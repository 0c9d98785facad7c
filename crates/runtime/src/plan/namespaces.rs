//! Which namespaces the process is in, and how it comes there.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType as Kind, LinuxTimeOffset};
use rustix::mount::MountPropagationFlags as Propagation;
use rustix::thread::LinkNameSpaceType as Link;

use super::invalid;
use crate::duties::Offset;
use crate::error::{Error, Result};
use crate::idmap::IdMaps;
use crate::step::{Action, Entry, Step};

const MEMBER: &str = "linux.namespaces";

/// The user namespace.
#[derive(Debug)]
pub(super) enum Users {
    /// The caller's.
    Callers,
    /// A new one.
    New(IdMaps),
    /// One that exists.
    Joined(File),
}

/// How the process comes into its namespaces.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// New ones, as clone flags.
    pub(super) flags: u64,
    /// Those that exist and must be entered before the process is made.
    pub(super) entries: Vec<Entry>,
    /// Those that exist and that it enters itself.
    pub(super) joins: Vec<Step>,
    /// Its user namespace.
    pub(super) users: Users,
    /// A time namespace of its own.
    pub(super) new_time: bool,
    /// Those that are not the caller's, as clone flags.
    pub(super) own: u64,
    /// The clocks of that.
    pub(super) offsets: Vec<Offset>,
}

impl Namespaces {
    /// What the configuration asks for.
    pub(super) fn of(linux: &Linux) -> Result<Self> {
        let listed = listed(linux)?;
        let has = |kind: Kind| listed.contains_key(&number(kind));
        if !has(Kind::Mount) {
            without_mounts(linux, has(Kind::User))?;
        }
        let users = users(linux, listed.get(&number(Kind::User)).copied())?;
        let offsets = offsets(linux, listed.get(&number(Kind::Time)).copied())?;
        let mut found = Self {
            flags: 0,
            entries: Vec::new(),
            joins: Vec::new(),
            users,
            new_time: false,
            own: 0,
            offsets,
        };
        // What another user namespace owns must be entered with the rights of before.
        let early = !matches!(found.users, Users::Callers);
        for namespace in linux.namespaces().iter().flatten() {
            found.add(namespace, early)?;
        }
        Ok(found)
    }

    fn add(&mut self, namespace: &LinuxNamespace, early: bool) -> Result<()> {
        let kind = namespace.typ();
        let Some(path) = namespace.path() else {
            self.own |= number(kind);
            match kind {
                Kind::Time => self.new_time = true,
                kind => self.flags |= number(kind),
            }
            return Ok(());
        };
        let file = open(path)?;
        let is_callers = is_callers(&file, kind);
        if !is_callers {
            self.own |= number(kind);
        }
        if kind == Kind::Mount && is_callers {
            return Err(invalid(MEMBER, format!("{path:?} is the caller's own mount namespace")));
        }
        let link = match kind {
            Kind::Network => Link::Network,
            Kind::Ipc => Link::InterProcessCommunication,
            Kind::Uts => Link::HostNameAndNISDomainName,
            Kind::Cgroup => Link::ControlGroup,
            Kind::Pid => Link::ProcessID,
            Kind::User => Link::User,
            Kind::Mount => Link::Mount,
            Kind::Time => Link::Time,
        };
        // A pid namespace holds the children of who joins it.
        if (early && kind != Kind::Time) || kind == Kind::Pid {
            self.entries.push(Entry::Join(file, link));
        } else {
            self.joins.push(Step::new(format!("join the {kind} namespace"), Action::Join(file, link)));
        }
        Ok(())
    }

    /// True where the process is in another user namespace than its runtime.
    pub(super) fn has_users(&self) -> bool {
        !matches!(self.users, Users::Callers)
    }

    /// True where the process is in the caller's mount namespace: what it mounts is the host's, too.
    pub(super) fn shares_mounts(&self) -> bool {
        !self.is_own(Kind::Mount)
    }

    /// True for a new namespace of this kind.
    pub(super) fn is_new(&self, kind: Kind) -> bool {
        self.flags & number(kind) != 0
    }

    /// True for one that is new, or that exists and is not the caller's.
    pub(super) fn is_own(&self, kind: Kind) -> bool {
        self.own & number(kind) != 0
    }

    /// Takes a kind from those that the process is born into, to be made later.
    pub(super) fn postpone(&mut self, kind: Kind) -> bool {
        let asked = self.is_new(kind);
        self.flags &= !number(kind);
        asked
    }

    /// A time namespace of its own begins with the children of who makes it, once its clocks are set.
    pub(super) fn before_birth_is_over(&self) -> Option<Step> {
        // libc's flag fits clone3 and unshare alone.
        let time = CloneFlags::from_bits_retain(CLONE_NEWTIME);
        self.new_time.then(|| Step::new("make a time namespace", Action::Unshare(time)))
    }
}

#[allow(clippy::disallowed_methods, reason = "a namespace of the host, as the configuration names it")]
fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::File { path: path.into(), source })
}

const CLONE_NEWTIME: i32 = 0x80;

/// What cannot be had among the host's mounts.
fn without_mounts(linux: &Linux, users: bool) -> Result<()> {
    if users {
        // Only the host's root may mount there.
        return Err(Error::Unsupported("a user namespace without a mount namespace".into()));
    }
    if root_propagation(linux)?.is_some() {
        let why = "there is no mount namespace of the container's own".into();
        return Err(invalid("linux.rootfsPropagation", why));
    }
    Ok(())
}

fn number(kind: Kind) -> u64 {
    kind as u64
}

/// Each kind once.
fn listed(linux: &Linux) -> Result<HashMap<u64, &LinuxNamespace>> {
    let mut listed = HashMap::new();
    for namespace in linux.namespaces().iter().flatten() {
        if listed.insert(number(namespace.typ()), namespace).is_some() {
            return Err(invalid(MEMBER, format!("{} is listed twice", namespace.typ())));
        }
    }
    Ok(listed)
}

fn users(linux: &Linux, namespace: Option<&LinuxNamespace>) -> Result<Users> {
    let (uids, gids) = (linux.uid_mappings().as_ref(), linux.gid_mappings().as_ref());
    let mapped = uids.is_some_and(|list| !list.is_empty()) || gids.is_some_and(|list| !list.is_empty());
    match namespace {
        None if mapped => {
            Err(invalid("linux.uidMappings", "there is no user namespace in linux.namespaces".into()))
        }
        None => Ok(Users::Callers),
        Some(namespace) => {
            if let Some(path) = namespace.path() {
                return Ok(Users::Joined(open(path)?));
            }
            let maps = IdMaps::new(uids, gids, "linux.uidMappings")?;
            if !maps.has_root() {
                return Err(invalid(
                    "linux.uidMappings",
                    "user or group 0 of the container is not mapped".into(),
                ));
            }
            Ok(Users::New(maps))
        }
    }
}

fn offsets(linux: &Linux, namespace: Option<&LinuxNamespace>) -> Result<Vec<Offset>> {
    let Some(given) = linux.time_offsets().as_ref().filter(|map| !map.is_empty()) else {
        return Ok(Vec::new());
    };
    let wrong = |why: &str| Err(invalid("linux.timeOffsets", why.into()));
    match namespace {
        None => return wrong("there is no time namespace in linux.namespaces"),
        Some(namespace) if namespace.path().is_some() => return wrong("the time namespace is not a new one"),
        Some(_) => {}
    }
    let mut offsets: Vec<Offset> = Vec::new();
    for (clock, offset) in given {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return wrong(&format!("{clock:?} is no clock of a time namespace"));
        }
        offsets.push(one_offset(clock, offset));
    }
    Ok(offsets)
}

fn one_offset(clock: &str, offset: &LinuxTimeOffset) -> Offset {
    Offset {
        clock: clock.into(),
        seconds: offset.secs().unwrap_or(0),
        nanoseconds: offset.nanosecs().unwrap_or(0),
    }
}

/// True where a namespace is the one that this process is in, or where that cannot be told.
fn is_callers(file: &File, kind: Kind) -> bool {
    let name = match kind {
        Kind::Mount => "mnt",
        Kind::Cgroup => "cgroup",
        Kind::Uts => "uts",
        Kind::Ipc => "ipc",
        Kind::User => "user",
        Kind::Pid => "pid",
        Kind::Network => "net",
        Kind::Time => "time",
    };
    let own = rustix::fs::stat(format!("/proc/thread-self/ns/{name}"));
    match (rustix::fs::fstat(file), own) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => true,
    }
}

/// The network namespace that exists and is entered.
pub(super) fn network(linux: &Linux) -> Result<Option<File>> {
    let mut all = linux.namespaces().iter().flatten();
    let path = all.find(|one| one.typ() == Kind::Network).and_then(|one| one.path().as_ref());
    path.map(|path| open(path)).transpose()
}

/// How mounts pass between the host and the container while it is made (runtime-spec 1.2, "Rootfs Mount Propagation").
pub(super) fn propagation_towards_host(linux: &Linux) -> Result<Propagation> {
    Ok(match root_propagation(linux)? {
        // Mounts of the host may still come in until the root is pivoted; none of ours goes out.
        None | Some(Propagation::DOWNSTREAM) => Propagation::DOWNSTREAM | Propagation::REC,
        Some(Propagation::SHARED) => Propagation::SHARED | Propagation::REC,
        Some(_) => Propagation::PRIVATE | Propagation::REC,
    })
}

/// What the container's root becomes in the end, where the configuration tells.
pub(super) fn root_propagation(linux: &Linux) -> Result<Option<Propagation>> {
    Ok(Some(match linux.rootfs_propagation().as_deref() {
        None | Some("") => return Ok(None),
        Some("rslave" | "slave") => Propagation::DOWNSTREAM,
        Some("rprivate" | "private") => Propagation::PRIVATE,
        Some("rshared" | "shared") => Propagation::SHARED,
        Some("runbindable" | "unbindable") => Propagation::UNBINDABLE,
        Some(other) => {
            return Err(invalid("linux.rootfsPropagation", format!("{other:?} is no kind of propagation")));
        }
    }))
}

/// True where a container can have a namespace of this type of its own.
pub(crate) fn makes(kind: &str) -> bool {
    let mut linux = serde_json::json!({"namespaces": [{"type": "mount"}]});
    match kind {
        "mount" => {}
        "user" => {
            let all = serde_json::json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            linux = serde_json::json!({
                "namespaces": [{"type": "mount"}, {"type": kind}], "uidMappings": all, "gidMappings": all,
            });
        }
        kind => linux["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": kind}]),
    }
    crate::typed::<Linux>(&linux).is_ok_and(|linux| Namespaces::of(&linux).is_ok())
}
