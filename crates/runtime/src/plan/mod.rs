//! From a configuration to the list of steps: everything is decided and checked here, before a process exists.

mod confine;
mod devices;
mod files;
mod further;
mod namespaces;
mod process;

use nix::sched::CloneFlags;
use oci_spec::runtime::Hooks;
use rustix::process::Uid;

use crate::channel::Point;
use crate::error::{Error, Result};
use crate::hooks::HookKind;
use crate::request::{Guard, Request, Stdio, Tie};
use crate::step::{Action, Command, Entry, Step};
use crate::{filter, refuse};
use confine::confine;
use devices::all_devices;
use files::file_systems;
pub(crate) use further::{Further, initial_affinity};
pub(crate) use namespaces::makes;
use namespaces::{CLONE_NEWCGROUP, Namespaces, namespaces, root_propagation};
use process::{become_user, command, give_up_rights};

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
        let Request { spec, bundle, root, stdio, tie, manner, guard } = request;
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
        let devices = guard == Guard::Elsewhere || all_devices(&linux);
        steps.push(Step::new("mount the root", Action::Root(root, devices)));
        file_systems(&spec, &linux, &bundle, &stdio, devices, &mut steps)?;
        hooks_before_the_pivot(spec.hooks().as_ref(), &mut steps);
        confine(&spec, &linux, flags, manner, &mut steps);
        if stops.ready {
            let uid = Uid::from_raw(process.user().uid());
            steps.push(Step::new("find the home directory", Action::Home(uid)));
        }
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

fn invalid(member: &str, why: String) -> Error {
    Error::Invalid { member: member.into(), why }
}
