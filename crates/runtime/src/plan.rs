//! From a configuration to the list of steps: everything is decided and checked here, before a process exists.

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{
    Capabilities, Hooks, Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType, Mount, PosixRlimit,
    PosixRlimitType, Process, Spec,
};
use rustix::fs::{FileType, makedev};
use rustix::mount::MountPropagationFlags as Propagation;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType};

use crate::channel::Point;
use crate::error::{Error, Result};
use crate::hooks::HookKind;
use crate::options::Options;
use crate::request::{Manner, Request, Stdio, Tie};
use crate::step::{
    Action, Command, DeviceNode, Entry, Hierarchy, Identity, MountPlan, RLIMITS, Rights, Source, Step,
    TerminalPlan,
};
use crate::{cgroups, devices, exec, filter, refuse};

/// The container's own /dev where the configuration forgets it (docker's size).
const OWN_DEV: &[&str] = &["nosuid", "strictatime", "mode=755", "size=65536k"];

/// What the parent needs to make the process.
#[derive(Debug)]
pub(crate) struct Plan {
    /// New namespaces, as clone flags.
    pub(crate) flags: u64,
    /// Namespaces that must be entered before the process exists.
    pub(crate) entries: Vec<Entry>,
    pub(crate) steps: Vec<Step>,
    pub(crate) command: Command,
}

/// Where the setup waits for its runtime.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stops {
    /// At birth, for what only the runtime can do to the process.
    pub(crate) born: bool,
    /// When all is done, for the runtime to record it.
    pub(crate) ready: bool,
    /// For `start`.
    pub(crate) start: bool,
}

impl Plan {
    /// Plans the setup.
    pub(crate) fn new(request: Request, stops: Stops) -> Result<(Self, Stdio)> {
        let Request { spec, bundle, root, stdio, tie, manner } = request;
        refuse::unsupported(&spec)?;
        let process = spec.process().as_ref().ok_or(Error::Incomplete("process"))?;
        let linux = spec.linux().clone().unwrap_or_default();
        let command = command(process, manner)?;
        let Namespaces { mut flags, entries, joins } = namespaces(&linux)?;
        let mut steps = Vec::with_capacity(48);
        steps.push(Step::new("tie the container to its parent", Action::DieWithParent));
        if stops.born {
            steps.push(Step::new("wait for the runtime", Action::Reach(Point::Born)));
            if flags & CLONE_NEWCGROUP != 0 {
                // Its root is the control group that the process is in when it is made.
                flags &= !CLONE_NEWCGROUP;
                steps
                    .push(Step::new("make a cgroup namespace", Action::Unshare(CloneFlags::CLONE_NEWCGROUP)));
            }
        }
        steps.push(Step::new("start a session", Action::Session(manner.keyring)));
        steps.extend(joins);
        let propagation = root_propagation(&linux)?;
        steps.push(Step::new("cut mount propagation", Action::Propagation(propagation)));
        steps.push(Step::new("mount the root", Action::Root(root, all_devices(&linux))));
        file_systems(&spec, &linux, &bundle, &stdio, &mut steps)?;
        hooks_before_the_pivot(spec.hooks().as_ref(), &mut steps);
        confine(&spec, &linux, flags, manner, &mut steps);
        become_user(process, &mut steps)?;
        stop(tie, stops, &mut steps);
        if tie == Tie::DiesWithParent {
            // Changing credentials forgets the signal (prctl(2), PR_SET_PDEATHSIG); giving up rights does not.
            steps.push(Step::new("tie the container to its parent", Action::DieWithParent));
        }
        // What they execute is the container's: it gets the container's rights.
        let start = HookKind::StartContainer.of(spec.hooks().as_ref());
        give_up_rights(process, filter::program(&linux)?, start.is_empty(), &mut steps)?;
        if !start.is_empty() {
            let action = Action::Hooks(HookKind::StartContainer, start.to_vec());
            steps.push(Step::new("run startContainer hooks", action));
        }
        Ok((Self { flags, entries, steps, command }, stdio))
    }
}

/// The runtime's own hooks and the container's, both while the host is in reach.
fn hooks_before_the_pivot(hooks: Option<&Hooks>, steps: &mut Vec<Step>) {
    let kinds = [HookKind::Prestart, HookKind::CreateRuntime, HookKind::CreateContainer];
    if kinds.iter().all(|kind| kind.of(hooks).is_empty()) {
        return;
    }
    // The container's hooks get the state that comes with the word to go on.
    steps.push(Step::new("wait for the runtime's hooks", Action::Reach(Point::Mounted)));
    let own = HookKind::CreateContainer.of(hooks);
    if !own.is_empty() {
        let action = Action::Hooks(HookKind::CreateContainer, own.to_vec());
        steps.push(Step::new("run createContainer hooks", action));
    }
}

/// Lets the runtime record that all is done, and waits for `start`.
fn stop(tie: Tie, stops: Stops, steps: &mut Vec<Step>) {
    if stops.ready {
        steps.push(Step::new("find the command", Action::FindCommand));
    }
    if tie == Tie::Outlives {
        // Before the runtime may end: from here on its death shows at the channel alone.
        steps.push(Step::new("let go of the parent", Action::Untie));
    }
    if stops.ready {
        steps.push(Step::new("wait to be recorded", Action::Reach(Point::Ready)));
    }
    if stops.start {
        steps.push(Step::new("wait for start", Action::AwaitStart));
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
    if let Stdio::Terminal { .. } | Stdio::Console(_) = stdio {
        let given = if let Stdio::Terminal { size } = stdio { *size } else { None };
        let narrow = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let own = process.console_size().map(|size| (narrow(size.height()), narrow(size.width())));
        let size = given.or(own);
        let uid = Uid::from_raw(process.user().uid());
        steps.push(Step::new("allocate a terminal", Action::Terminal(TerminalPlan { size, uid })));
    }
    Ok(())
}

/// What the container may see and change: paths, names, the network's loopback; ends with the host out of reach.
fn confine(spec: &Spec, linux: &Linux, flags: u64, manner: Manner, steps: &mut Vec<Step>) {
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
    let pivot = if manner.pivot { Action::Pivot } else { Action::MoveRoot };
    steps.push(Step::new("pivot the root", pivot));
    if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        steps.push(Step::new("make the root read-only", Action::ReadOnlyRoot));
    }
}

/// From the runtime to the process's user, who keeps the permitted capabilities for what is still to do.
fn become_user(process: &Process, steps: &mut Vec<Step>) -> Result<()> {
    if let Some(score) = process.oom_score_adj() {
        steps.push(Step::new("set oomScoreAdj", Action::OomScoreAdj(score)));
    }
    steps.push(Step::new("enter the working directory", Action::Cwd(process.cwd().clone())));
    steps.push(Step::new("connect the standard streams", Action::Streams));
    if let Some(limits) = process.rlimits() {
        let limits = limits.iter().map(rlimit).collect();
        steps.push(Step::new(RLIMITS, Action::Rlimits(limits)));
    }
    let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
    steps.push(Step::new("limit capabilities", Action::Bounding(capability_set(bounding)?)));
    steps.push(Step::new("become the user", Action::Identity(identity(process)?)));
    Ok(())
}

/// Down to the process's own rights; with `at_exec` what a filter forbids may no longer be needed then.
fn give_up_rights(
    process: &Process,
    filter: Option<seccomp::Program>,
    at_exec: bool,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let rights = rights(process)?;
    let set_capabilities = Step::new("set capabilities", Action::Capabilities(rights.clone()));
    if process.no_new_privileges() == Some(true) {
        steps.push(Step::new("forbid new privileges", Action::NoNewPrivileges));
        steps.push(set_capabilities);
        steps.extend(filter.map(|program| filter_step(Action::FilterAtExec(program, None))));
        return Ok(());
    }
    // Whoever may gain privileges must be privileged to be filtered.
    match filter {
        Some(program) if at_exec => steps.push(filter_step(Action::FilterAtExec(program, Some(rights)))),
        filter => {
            steps.extend(filter.map(|program| filter_step(Action::Filter(program))));
            steps.push(set_capabilities);
        }
    }
    Ok(())
}

fn filter_step(action: Action) -> Step {
    Step::new(filter::STEP, action)
}

fn rights(process: &Process) -> Result<Rights> {
    let capabilities = process.capabilities().clone().unwrap_or_default();
    let set = |names: &Option<Capabilities>| capability_set(names.as_ref());
    let sets = CapabilitySets {
        effective: set(capabilities.effective())?,
        permitted: set(capabilities.permitted())?,
        inheritable: set(capabilities.inheritable())?,
    };
    // The kernel raises those alone that are permitted and inheritable (capabilities(7)); the others cannot be granted.
    let ambient = set(capabilities.ambient())? & sets.permitted & sets.inheritable;
    Ok(Rights { sets, ambient })
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

const CLONE_NEWCGROUP: u64 = LinuxNamespaceType::Cgroup as u64;

/// How the process comes into its namespaces.
struct Namespaces {
    /// New ones, as clone flags.
    flags: u64,
    /// Those that exist and must be entered before the process is made.
    entries: Vec<Entry>,
    /// Those that exist and that it enters itself.
    joins: Vec<Step>,
}

fn namespaces(linux: &Linux) -> Result<Namespaces> {
    let (mut flags, mut entries, mut joins) = (0, Vec::new(), Vec::new());
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
            LinuxNamespaceType::Pid => LinkNameSpaceType::ProcessID,
            other => return Err(Error::Unsupported(format!("joining a {other} namespace"))),
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "a namespace of the host, as the configuration names it"
        )]
        let file = File::open(path).map_err(|source| Error::File { path: path.clone(), source })?;
        if kind == LinuxNamespaceType::Pid {
            // It is the children of who joins that are in it.
            entries.push(Entry::Join(file, link));
        } else {
            joins.push(Step::new(format!("join the {kind} namespace"), Action::Join(file, link)));
        }
    }
    if flags & LinuxNamespaceType::Mount as u64 == 0 {
        return Err(Error::Unsupported("a container without a mount namespace".into()));
    }
    Ok(Namespaces { flags, entries, joins })
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

fn command(process: &Process, manner: Manner) -> Result<Command> {
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
    let preserved = i32::try_from(manner.preserved).unwrap_or(i32::MAX / 2);
    let env = env.iter().map(text).collect::<Result<_>>()?;
    Ok(Command { name, args, env, path: path.collect(), preserved })
}

fn invalid(member: &str, why: String) -> Error {
    Error::Invalid { member: member.into(), why }
}
