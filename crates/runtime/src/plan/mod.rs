//! From a configuration to the list of steps: everything is decided and checked here, before a process exists.

mod confine;
mod devices;
mod files;
mod further;
mod namespaces;
mod process;
mod sysctl;
mod tuning;

use std::fs::File;

use nix::sched::CloneFlags;
use oci_spec::runtime::{Hooks, Linux, LinuxNamespaceType, Process};
use rustix::process::Uid;
use seccomp::Program;

use crate::channel::Point;
use crate::duties::Duties;
use crate::error::{Error, Result};
use crate::filter;
use crate::hooks::HookKind;
use crate::request::{Guard, Request, Stdio, Tie};
use crate::rootmount::RootMount;
use crate::step::{Action, Command, Entry, Step};
use confine::confine;
use devices::all_devices;
use files::Files;
pub(crate) use further::{Further, initial_affinity};
pub(crate) use namespaces::makes;
use namespaces::{Namespaces, Users, network};
use process::{become_user, command, give_up_rights};
use tuning::tune;

/// What the parent needs to make the process.
#[derive(Debug)]
pub(crate) struct Plan {
    /// New namespaces, as clone flags.
    pub(crate) flags: u64,
    /// Namespaces that must be entered before the process exists.
    pub(crate) entries: Vec<Entry>,
    /// What the runtime does at its birth.
    pub(crate) duties: Duties,
    pub(crate) steps: Vec<Step>,
    pub(crate) command: Command,
    /// Where the root is mounted among the host's mounts; to be recorded before the process exists.
    pub(crate) root_mount: Option<RootMount>,
    /// What is done otherwise than the configuration says, and nothing is lost by.
    pub(crate) warnings: Vec<String>,
}

/// Where the setup waits for its runtime.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stops {
    /// At birth, for what only the runtime can do to the process.
    pub(crate) born: bool,
    /// When all is done, for the runtime to record it.
    pub(crate) ready: bool,
    /// There too, until somebody watches over the process.
    pub(crate) watched: bool,
    /// For `start`.
    pub(crate) start: bool,
}

impl Plan {
    /// Plans the setup.
    pub(crate) fn new(request: Request, stops: Stops) -> Result<(Self, Stdio)> {
        let Request { spec, bundle, root, stdio, tie, manner, guard, group: _ } = request;
        let process = spec.process().as_ref().ok_or(Error::Incomplete("process"))?;
        let linux = spec.linux().clone().ok_or(Error::Incomplete("linux"))?;
        let command = command(process, manner)?;
        let mut namespaces = Namespaces::of(&linux)?;
        let mut warnings = Vec::new();
        let (devices, interfaces) = net_devices(&linux, &namespaces)?;
        let duties = duties(&mut namespaces, process, devices);
        let mut steps = Vec::with_capacity(48);
        let later = begin(&mut namespaces, stops.born, !duties.is_empty(), &mut steps);
        steps.push(Step::new("start a session", Action::Session(manner.keyring)));
        if manner.reaper {
            steps.push(Step::new("disguise the first process", Action::Disguise));
        }
        steps.append(&mut namespaces.joins);
        let devices = guard == Guard::Elsewhere || all_devices(&linux);
        let mut files = Files {
            spec: &spec,
            linux: &linux,
            bundle: &bundle,
            namespaces: &namespaces,
            devices,
            warnings: &mut warnings,
        };
        let root_mount = files.steps(root, &stdio, &mut steps)?;
        if later {
            wait_before_groups_are_shown(&mut steps);
        }
        hooks_before_the_pivot(spec.hooks().as_ref(), &mut steps);
        confine(&spec, &linux, &namespaces, manner, &mut steps)?;
        if stops.ready {
            let uid = Uid::from_raw(process.user().uid());
            steps.push(Step::new("find the home directory", Action::Home(uid)));
        }
        if !interfaces.is_empty() {
            steps.push(Step::new("set up network devices", Action::NetDevices(interfaces)));
        }
        tune(process, &linux, &mut warnings, &mut steps)?;
        become_user(process, namespaces.has_users(), &mut steps)?;
        let mut filter = filter::program(&linux)?;
        if stops.start {
            // Before a filter could forbid it.
            steps.push(Step::new("heed signals", Action::HeedSignals));
            filter_with_supervisor(process, &mut filter, &mut steps);
        }
        stop(tie, stops, &mut steps);
        if tie == Tie::DiesWithParent {
            // Changing credentials forgets the signal (prctl(2), PR_SET_PDEATHSIG); giving up rights does not.
            steps.push(Step::new("tie the container to its parent", Action::DieWithParent));
        }
        // What they execute is the container's: it gets the container's rights.
        let start = HookKind::StartContainer.of(spec.hooks().as_ref());
        give_up_rights(process, filter, start.is_empty(), &mut steps)?;
        if !start.is_empty() {
            let action = Action::Hooks(HookKind::StartContainer, start.to_vec());
            steps.push(Step::new(HookKind::StartContainer.step(), action));
        }
        let Namespaces { flags, entries, .. } = namespaces;
        Ok((Self { flags, entries, duties, steps, command, root_mount, warnings }, stdio))
    }
}

/// Interfaces of the host: how they are handed over, and what init gives them back then.
#[allow(clippy::type_complexity, reason = "two lists of one use")]
fn net_devices(
    linux: &Linux,
    namespaces: &Namespaces,
) -> Result<(Vec<(u32, String, Option<File>)>, Vec<(String, Vec<Vec<u8>>)>)> {
    let (mut moves, mut interfaces) = (Vec::new(), Vec::new());
    for (host, device) in linux.net_devices().iter().flatten() {
        if !namespaces.is_own(LinuxNamespaceType::Network) {
            let why = "there is no network namespace of the container's own".into();
            return Err(invalid("linux.netDevices", why));
        }
        let name = device.name().as_ref().filter(|name| !name.is_empty()).unwrap_or(host);
        for name in [host, name] {
            let plain = |c: char| !c.is_whitespace() && !matches!(c, '/' | ':' | '%' | '\0');
            if name.is_empty()
                || name.len() > INTERFACE_BYTES
                || !name.chars().all(plain)
                || matches!(name.as_str(), "." | "..")
            {
                return Err(invalid("linux.netDevices", format!("{name:?} is no name of an interface")));
            }
        }
        let link = sys::link::find(host)
            .map_err(|source| Error::Step { step: format!("find the network device {host}"), source })?;
        moves.push((link.index, name.clone(), network(linux)?));
        interfaces.push((name.clone(), link.addresses));
    }
    Ok((moves, interfaces))
}

/// The longest name of an interface (`IFNAMSIZ`, netdevice(7)).
const INTERFACE_BYTES: usize = 15;

/// What the runtime is to do at the birth.
fn duties(
    namespaces: &mut Namespaces,
    process: &Process,
    net_devices: Vec<(u32, String, Option<File>)>,
) -> Duties {
    Duties {
        maps: match &namespaces.users {
            Users::New(maps) => Some(maps.clone()),
            Users::Callers | Users::Joined(_) => None,
        },
        offsets: std::mem::take(&mut namespaces.offsets),
        net_devices,
        oom_score_adj: process.oom_score_adj().filter(|_| namespaces.has_users()),
    }
}

/// From the birth to where the process is who it is to be in its namespaces; true where it has still to wait for the runtime.
fn begin(namespaces: &mut Namespaces, waits: bool, has_duties: bool, steps: &mut Vec<Step>) -> bool {
    let tie = || Step::new("tie the container to its parent", Action::DieWithParent);
    steps.push(tie());
    let cgroups = (waits || has_duties) && namespaces.postpone(LinuxNamespaceType::Cgroup);
    steps.extend(namespaces.before_birth_is_over());
    let now = cgroups || has_duties || namespaces.new_time || namespaces.has_users();
    if now && (waits || has_duties) {
        steps.push(Step::new("wait for the runtime", Action::Reach(Point::Born)));
    }
    if namespaces.new_time {
        steps.push(Step::new("enter the time namespace", Action::EnterTime));
    }
    if namespaces.has_users() {
        steps.push(Step::new("become root of the user namespace", Action::RootOfUsers));
        // Changing credentials forgets the signal (prctl(2), PR_SET_PDEATHSIG).
        steps.push(tie());
    }
    if cgroups {
        // Its root is the control group that the process is in when it is made.
        let flag = CloneFlags::CLONE_NEWCGROUP;
        steps.push(Step::new("make a cgroup namespace", Action::Unshare(flag)));
    }
    waits && !now
}

/// What shows the process's groups is the first to depend on the runtime's part: both work at the same time until then.
fn wait_before_groups_are_shown(steps: &mut Vec<Step>) {
    let shows_groups = |step: &Step| matches!(&step.action, Action::Mount(plan) if plan.what.shows_groups());
    let at = steps.iter().position(shows_groups).unwrap_or(steps.len());
    steps.insert(at, Step::new("wait for the runtime", Action::Reach(Point::Born)));
}

/// A filter whose supervisor is to be asked is loaded before the wait for `start`: the supervisor hears of it at `create`, as
/// with runc.
fn filter_with_supervisor(process: &Process, filter: &mut Option<Program>, steps: &mut Vec<Step>) {
    let Some(program) = filter.take_if(|program| program.wants_listener()) else { return };
    if process.no_new_privileges() == Some(true) {
        steps.push(Step::new("forbid new privileges", Action::NoNewPrivileges));
    }
    steps.push(process::filter_step(Action::Filter(program)));
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
        steps.push(Step::new(HookKind::CreateContainer.step(), action));
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
    if stops.ready || stops.watched {
        steps.push(Step::new("wait to be recorded", Action::Reach(Point::Ready)));
    }
    if stops.start {
        steps.push(Step::new("wait for start", Action::AwaitStart));
    }
}

fn invalid(member: &str, why: String) -> Error {
    Error::Invalid { member: member.into(), why }
}
