//! From a configuration to the list of steps: everything is decided and checked here, before a process exists.

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType, Mount, PosixRlimit,
    PosixRlimitType, Process, Spec,
};
use rustix::fs::{FileType, makedev};
use rustix::mount::MountPropagationFlags as Propagation;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::request::{RootSource, Stdio, Tie};
use crate::step::{
    Action, Command, DeviceNode, Hierarchy, Identity, MountPlan, RLIMITS, Source, Step, TerminalPlan,
};
use crate::{cgroups, devices, exec, refuse};

/// The container's own /dev where the configuration forgets it (docker's size).
const OWN_DEV: &[&str] = &["nosuid", "strictatime", "mode=755", "size=65536k"];

/// What the parent needs to make the process.
#[derive(Debug)]
pub(crate) struct Plan {
    /// New namespaces, as clone flags.
    pub(crate) flags: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) command: Command,
}

impl Plan {
    /// Plans the setup.
    pub(crate) fn new(spec: &Spec, bundle: &Path, root: RootSource, stdio: &Stdio, tie: Tie) -> Result<Self> {
        refuse::unsupported(spec)?;
        let process = spec.process().as_ref().ok_or(Error::Incomplete("process"))?;
        let linux = spec.linux().clone().unwrap_or_default();
        let command = command(process)?;
        let (flags, joins) = namespaces(&linux)?;
        let mut steps = Vec::with_capacity(48);
        if tie == Tie::DiesWithParent {
            steps.push(Step::new("tie the container to its parent", Action::DieWithParent));
        }
        steps.push(Step::new("start a session", Action::Session));
        steps.extend(joins);
        let propagation = root_propagation(&linux)?;
        steps.push(Step::new("cut mount propagation", Action::Propagation(propagation)));
        steps.push(Step::new("mount the root", Action::Root(root, all_devices(&linux))));
        file_systems(spec, &linux, bundle, stdio, &mut steps)?;
        confine(spec, &linux, flags, &mut steps);
        become_process(process, tie, &mut steps)?;
        Ok(Self { flags, steps, command })
    }
}

/// Mounts, devices, the terminal, and what is hidden: all that is done with the host still in reach.
fn file_systems(
    spec: &Spec,
    linux: &Linux,
    bundle: &Path,
    stdio: &Stdio,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let mounts = spec.mounts().clone().unwrap_or_default();
    let dev = mounts.iter().find(|mount| is_dev(mount.destination()));
    let own_dev = dev.is_none_or(|mount| mount.typ().as_deref() == Some("tmpfs"));
    if dev.is_none() {
        let words: Vec<String> = OWN_DEV.iter().map(ToString::to_string).collect();
        let what = Source::New { kind: "tmpfs".into(), source: "tmpfs".into() };
        let options = Options::parse(&words, "/dev")?;
        steps.push(mount_step(MountPlan { destination: "/dev".into(), what, options }));
    }
    let devices = all_devices(linux);
    for mount in &mounts {
        let mut plan = plan_mount(mount, bundle)?;
        // /dev is sealed once its nodes are there; devpts holds nothing but terminals.
        if !devices && !is_dev(mount.destination()) && mount.typ().as_deref() != Some("devpts") {
            plan.options = plan.options.without_devices();
        }
        steps.push(mount_step(plan));
    }
    if own_dev {
        let nodes = device_nodes(linux)?;
        let paths = nodes.iter().map(|node| node.path.clone()).collect();
        steps.push(Step::new("make devices", Action::Devices(nodes)));
        if !devices {
            steps.push(Step::new("seal devices", Action::SealDevices(paths)));
        }
        steps.push(Step::new("link devices", Action::DeviceLinks));
    }
    steps.push(Step::new("check /dev/null", Action::Null));
    let process = spec.process().as_ref().ok_or(Error::Incomplete("process"))?;
    if let Stdio::Terminal { size: given } = stdio {
        let narrow = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let own = process.console_size().map(|size| (narrow(size.height()), narrow(size.width())));
        let size = given.or(own);
        let uid = Uid::from_raw(process.user().uid());
        steps.push(Step::new("allocate a terminal", Action::Terminal(TerminalPlan { size, uid })));
    }
    Ok(())
}

/// What the container may see and change: paths, names, the network's loopback; ends with the host out of reach.
fn confine(spec: &Spec, linux: &Linux, flags: u64, steps: &mut Vec<Step>) {
    steps.push(Step::new("hold procfs", Action::Procfs));
    let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect::<Vec<_>>();
    steps.push(Step::new("make paths read-only", Action::ReadOnly(paths(linux.readonly_paths()))));
    steps.push(Step::new("mask paths", Action::Mask(paths(linux.masked_paths()))));
    if flags & CLONE_NEWNET != 0 {
        steps.push(Step::new("bring the loopback interface up", Action::Loopback));
    }
    if let Some(name) = spec.hostname() {
        steps.push(Step::new("set the host name", Action::Hostname(name.clone())));
    }
    if let Some(name) = spec.domainname() {
        steps.push(Step::new("set the domain name", Action::Domainname(name.clone())));
    }
    steps.push(Step::new("pivot the root", Action::Pivot));
    if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        steps.push(Step::new("make the root read-only", Action::ReadOnlyRoot));
    }
}

/// From the runtime's rights to the process's own.
fn become_process(process: &Process, tie: Tie, steps: &mut Vec<Step>) -> Result<()> {
    if let Some(score) = process.oom_score_adj() {
        steps.push(Step::new("set oomScoreAdj", Action::OomScoreAdj(score)));
    }
    steps.push(Step::new("enter the working directory", Action::Cwd(process.cwd().clone())));
    steps.push(Step::new("connect the standard streams", Action::Streams));
    if let Some(limits) = process.rlimits() {
        let limits = limits.iter().map(rlimit).collect();
        steps.push(Step::new(RLIMITS, Action::Rlimits(limits)));
    }
    let capabilities = process.capabilities().clone().unwrap_or_default();
    let set = |names: &Option<Capabilities>| capability_set(names.as_ref());
    steps.push(Step::new("limit capabilities", Action::Bounding(set(capabilities.bounding())?)));
    steps.push(Step::new("become the user", Action::Identity(identity(process)?)));
    if process.no_new_privileges() == Some(true) {
        steps.push(Step::new("forbid new privileges", Action::NoNewPrivileges));
    }
    let sets = CapabilitySets {
        effective: set(capabilities.effective())?,
        permitted: set(capabilities.permitted())?,
        inheritable: set(capabilities.inheritable())?,
    };
    let ambient = set(capabilities.ambient())?;
    steps.push(Step::new("set capabilities", Action::Capabilities { sets, ambient }));
    if tie == Tie::DiesWithParent {
        // Changing credentials forgets the signal (prctl(2), PR_SET_PDEATHSIG).
        steps.push(Step::new("tie the container to its parent", Action::DieWithParent));
    }
    Ok(())
}

fn mount_step(plan: MountPlan) -> Step {
    Step::new(format!("mount {}", plan.destination.display()), Action::Mount(plan))
}

fn is_dev(destination: &Path) -> bool {
    let mut names = destination.components().filter(|c| matches!(c, std::path::Component::Normal(_)));
    names.next().is_some_and(|first| first.as_os_str() == "dev") && names.next().is_none()
}

fn plan_mount(mount: &Mount, bundle: &Path) -> Result<MountPlan> {
    let destination = mount.destination().clone();
    let words = mount.options().clone().unwrap_or_default();
    let mut options = Options::parse(&words, &destination.display().to_string())?;
    let kind = mount.typ().as_deref().unwrap_or("none");
    let bind = options.bind.or((kind == "bind").then_some(false));
    let source = mount.source().as_deref();
    let what = if let Some(recursive) = bind {
        let path = source.ok_or_else(|| invalid("mounts", format!("{destination:?} has no source")))?;
        // Of a bind the kernel takes no data and ignores what it is given (mount(2)), so `key=value` means nothing here, as
        // with runc; a bare word left over is a mistake that must not pass as done.
        if let Some((word, _)) = options.data.iter().find(|(_, value)| value.is_none()) {
            return Err(invalid("mounts", format!("{destination:?} has an unknown option {word:?}")));
        }
        Source::Bind { path: bundle.join(path), recursive }
    } else if kind == "cgroup" || kind == "cgroup2" {
        options.data.clear();
        let hierarchies =
            if kind == "cgroup2" { vec![Hierarchy::version_2()] } else { cgroups::hierarchies() };
        Source::Cgroups(hierarchies)
    } else {
        let source = source.map_or(kind.to_string(), |path| path.display().to_string());
        Source::New { kind: kind.to_string(), source }
    };
    Ok(MountPlan { destination, what, options })
}

/// True for a container that may use any device, a privileged one: its first rule allows all.
///
/// Others get the devices that are listed, and no node elsewhere works (`nodev`). This needs no device cgroup, whose place
/// it takes: a container of root that may make nodes could otherwise read the host's disks.
fn all_devices(linux: &Linux) -> bool {
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
    rules.and_then(|rules| rules.first()).is_some_and(|first| {
        let any = first.typ().is_none_or(|kind| kind == LinuxDeviceType::A);
        first.allow() && any && first.major().is_none() && first.minor().is_none()
    })
}

fn root_propagation(linux: &Linux) -> Result<Propagation> {
    match linux.rootfs_propagation().as_deref() {
        // Mounts of the host may still come in until the root is pivoted; none of ours goes out.
        None | Some("" | "rslave" | "slave") => Ok(Propagation::DOWNSTREAM | Propagation::REC),
        Some("rprivate" | "private") => Ok(Propagation::PRIVATE | Propagation::REC),
        Some(other) => Err(Error::Unsupported(format!("linux.rootfsPropagation {other:?}"))),
    }
}

const CLONE_NEWNET: u64 = 0x4000_0000;

/// The new namespaces as clone flags, and a step for each that exists.
fn namespaces(linux: &Linux) -> Result<(u64, Vec<Step>)> {
    let (mut flags, mut joins) = (0, Vec::new());
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ();
        let Some(path) = namespace.path() else {
            if matches!(kind, LinuxNamespaceType::User | LinuxNamespaceType::Time) {
                return Err(Error::Unsupported(format!("a new {kind} namespace")));
            }
            flags |= kind as u64;
            continue;
        };
        let link = match kind {
            LinuxNamespaceType::Network => LinkNameSpaceType::Network,
            LinuxNamespaceType::Ipc => LinkNameSpaceType::InterProcessCommunication,
            LinuxNamespaceType::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            LinuxNamespaceType::Cgroup => LinkNameSpaceType::ControlGroup,
            other => return Err(Error::Unsupported(format!("joining a {other} namespace"))),
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "a namespace of the host, as the configuration names it"
        )]
        let file = File::open(path).map_err(|source| Error::File { path: path.clone(), source })?;
        joins.push(Step::new(format!("join the {kind} namespace"), Action::Join(file, link)));
    }
    if flags & LinuxNamespaceType::Mount as u64 == 0 {
        return Err(Error::Unsupported("a container without a mount namespace".into()));
    }
    Ok((flags, joins))
}

fn device_nodes(linux: &Linux) -> Result<Vec<DeviceNode>> {
    let character = FileType::CharacterDevice;
    let mut nodes: Vec<DeviceNode> = devices::DEFAULT
        .iter()
        .map(|&(name, major, minor)| DeviceNode {
            path: Path::new("/dev").join(name),
            kind: character,
            device: makedev(major, minor),
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for device in linux.devices().iter().flatten() {
        let node = device_node(device)?;
        nodes.retain(|one| one.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

fn device_node(device: &LinuxDevice) -> Result<DeviceNode> {
    let path = device.path();
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => {
            return Err(invalid("linux.devices", format!("{path:?} has no type of its own")));
        }
    };
    if !path.starts_with("/dev") {
        return Err(Error::Unsupported(format!("device {path:?} outside /dev")));
    }
    let number = |n: i64| {
        u32::try_from(n).map_err(|_| invalid("linux.devices", format!("{path:?}: {n} is no device number")))
    };
    Ok(DeviceNode {
        path: path.clone(),
        kind,
        device: makedev(number(device.major())?, number(device.minor())?),
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

fn identity(process: &Process) -> Result<Identity> {
    let user = process.user();
    // The highest id means "no change" to the kernel.
    for id in [user.uid(), user.gid()] {
        if id == u32::MAX {
            return Err(invalid("process.user", format!("{id} is no id")));
        }
    }
    let groups = user.additional_gids().iter().flatten().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    Ok(Identity { uid, gid, groups, umask: user.umask() })
}

fn capability_set(names: Option<&Capabilities>) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for name in names.into_iter().flatten() {
        let number = crate::capability::number(&name.to_string());
        let number = number.ok_or_else(|| invalid("process.capabilities", format!("{name} is unknown")))?;
        set |= CapabilitySet::from_bits_retain(1 << number);
    }
    Ok(set)
}

fn rlimit(limit: &PosixRlimit) -> (Resource, Rlimit) {
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    };
    // RLIM_INFINITY is the highest number.
    let value = |n: u64| (n != u64::MAX).then_some(n);
    (resource, Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) })
}

fn command(process: &Process) -> Result<Command> {
    let words = process.args().clone().unwrap_or_default();
    let name = words.first().cloned().ok_or(Error::Incomplete("process.args"))?;
    let text = |word: &String| {
        CString::new(word.as_str()).map_err(|_| invalid("process", format!("a zero byte in {word:?}")))
    };
    let args = words.iter().map(text).collect::<Result<_>>()?;
    let env = process.env().clone().unwrap_or_default();
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(exec::DEFAULT_PATH);
    let path =
        path.split(':').map(|directory| PathBuf::from(if directory.is_empty() { "." } else { directory }));
    Ok(Command { name, args, path: path.collect(), env: env.iter().map(text).collect::<Result<_>>()? })
}

fn invalid(member: &str, why: String) -> Error {
    Error::Invalid { member: member.into(), why }
}
