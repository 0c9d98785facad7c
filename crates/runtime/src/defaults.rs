//! Docker's defaults for a container: what it may do, what it sees, what is mounted.
//!
//! Source: moby, daemon/pkg/oci/defaults.go and caps/defaults.go, release 28. The runtime specification's own default
//! devices (config-linux.md, "Default Devices") are made by every runtime and so are not listed.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType,
    LinuxSeccomp, Mount,
};

/// The search path of an image that names none.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The fourteen capabilities that docker leaves to a container.
pub const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// The sets of a process of user `uid`: bounded by those given, held at once only by root, as execve(2) would.
/// Nothing is inheritable or ambient.
pub fn held(bounding: &HashSet<Capability>, uid: u32) -> LinuxCapabilities {
    let held = if uid == 0 { bounding.clone() } else { HashSet::new() };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(bounding.clone()))
        .set_effective(Some(held.clone()))
        .set_permitted(Some(held))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

/// All capabilities that Linux has, held at once; those that the caller cannot give are taken out later.
pub fn all_capabilities() -> LinuxCapabilities {
    let all: HashSet<Capability> =
        crate::capability::NAMES.iter().filter_map(|name| name.parse().ok()).collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(all.clone()))
        .set_effective(Some(all.clone()))
        .set_permitted(Some(all))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

/// True for the name of a capability with `CAP_` in front.
pub fn is_capability(name: &str) -> bool {
    name.starts_with("CAP_") && crate::capability::number(name).is_some()
}

/// A capability by its name with `CAP_` in front.
pub fn capability(name: &str) -> Option<Capability> {
    is_capability(name).then(|| serde_json::from_value(name.into()).ok()).flatten()
}

/// Those that this process could hand on, and that the kernel has.
pub fn own_capabilities() -> HashSet<Capability> {
    let own = rustix::thread::capabilities(None).map(|sets| sets.permitted.bits()).unwrap_or_default();
    let names = crate::capability::NAMES.iter().enumerate().filter(|(number, _)| own & (1 << number) != 0);
    names.filter_map(|(_, name)| capability(&format!("CAP_{name}"))).collect()
}

/// The filter of system calls that goes with the fourteen.
pub fn seccomp() -> LinuxSeccomp {
    seccomp::docker_default(&HashSet::from(CAPABILITIES))
}

/// Host facts that a container must not read: hidden by an empty file or directory.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// The masked paths; each processor's thermal counters are there only where the host has them.
#[allow(clippy::disallowed_methods, reason = "the host's sysfs")]
pub(crate) fn masked_paths() -> Vec<String> {
    let mut paths: Vec<String> = MASKED.iter().map(ToString::to_string).collect();
    for processor in 0..processors() {
        let path = format!("/sys/devices/system/cpu/cpu{processor}/thermal_throttle");
        if Path::new(&path).is_dir() {
            paths.push(path);
        }
    }
    paths
}

/// How many processors the host may have, from the kernel's range "0-N"; zero where it does not tell.
#[allow(clippy::disallowed_methods, reason = "the host's sysfs")]
fn processors() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit(['-', ',']).next().and_then(|n| n.parse::<usize>().ok());
    // The kernel's own limit (NR_CPUS) is 8192.
    last.map_or(0, |n| n.min(8191) + 1)
}

/// The paths that a container may read and not write.
pub(crate) fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(String::from).into()
}

/// The kernel's file systems: destination, type, source, options.
const MOUNTS: [(&str, &str, &str, &str); 7] = [
    ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
    ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=67108864"),
];

/// The mounts of every container, in order.
pub fn mounts() -> Vec<Mount> {
    let has_tty = has_group(TTY);
    let made = MOUNTS.iter().map(|&(destination, kind, source, options)| {
        let options = options.split(',').filter(|&option| has_tty || option != "gid=5");
        let mut mount = Mount::default();
        mount
            .set_destination(destination.into())
            .set_typ(Some(kind.into()))
            .set_source(Some(source.into()))
            .set_options(Some(options.map(String::from).collect()));
        mount
    });
    made.collect()
}

/// The group of terminals, which every distribution calls tty.
const TTY: u64 = 5;

/// Whether a group has a number in this process's user namespace: one of a single user has no other.
#[allow(clippy::disallowed_methods, reason = "the kernel's file about this process")]
fn has_group(group: u64) -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/gid_map") else { return true };
    let is_in = |line: &str| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers[..], [first, _, count] if (first..first.saturating_add(count)).contains(&group))
    };
    map.lines().any(is_in)
}

/// A bind mount of the host's `source`, which docker makes recursive and private.
///
/// A read-only one is so with all that is mounted below the source (`rro`), as docker's are since release 25.
pub fn bind(source: &Path, destination: &Path, read_only: bool) -> Mount {
    let access: &[&str] = if read_only { &["ro", "rro"] } else { &["rw"] };
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some("bind".into()))
        .set_source(Some(source.into()))
        .set_options(Some(["rbind", "rprivate"].iter().chain(access).map(ToString::to_string).collect()));
    mount
}

/// The devices a container may use, by number; everything else is denied first.
const DEVICES: [(i64, i64); 6] = [(1, 3), (1, 5), (1, 8), (1, 9), (5, 0), (5, 1)];

/// Whether runtimes can apply device rules here: crun raises `RLIMIT_MEMLOCK` to load the program that enforces them, and
/// refuses to run at all where it may not. (runc denies every device that is not listed, rules or none.)
fn device_rules_apply() -> bool {
    use rustix::process::{Resource, getrlimit};
    use rustix::thread::{CapabilitySet, capabilities};
    let privileged =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
    privileged || getrlimit(Resource::Memlock).maximum.is_none()
}

/// The device allow-list of the control group; none where no runtime could apply it.
pub fn device_rules() -> Vec<LinuxDeviceCgroup> {
    if device_rules_apply() { device_list() } else { Vec::new() }
}

/// The device allow-list, whoever could apply it.
pub fn device_list() -> Vec<LinuxDeviceCgroup> {
    let mut deny = LinuxDeviceCgroup::default();
    deny.set_allow(false).set_access(Some("rwm".into()));
    let mut rules = vec![deny];
    for (major, minor) in DEVICES {
        let mut allow = LinuxDeviceCgroup::default();
        allow
            .set_allow(true)
            .set_typ(Some(LinuxDeviceType::C))
            .set_major(Some(major))
            .set_minor(Some(minor))
            .set_access(Some("rwm".into()));
        rules.push(allow);
    }
    rules
}

/// The namespaces of a container: its own of each, save the network's where it shares the host's.
pub fn namespaces(own_network: bool) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let kinds = [Mount, Pid, Uts, Ipc, Cgroup].into_iter().chain(own_network.then_some(Network));
    let made = kinds.map(|kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace
    });
    made.collect()
}
