//! The plan of a further process of a container (`exec`): into what is there, instead of making it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, Uid};
use rustix::thread::{CpuSet, ThreadNameSpaceType};
use sys::Call;
use sys::process::Cloned;

use super::{Plan, files, process as parts, tuning};
use crate::channel::Point;
use crate::duties::Duties;
use crate::error::{Error, Result};
use crate::filter;
use crate::request::{Manner, Stdio, Tie};
use crate::step::{Action, Entry, RLIMITS, Step, TerminalPlan};

/// A plan, and what of it is the runtime's part.
#[derive(Debug)]
pub(crate) struct Further {
    pub(crate) plan: Plan,
    /// The descriptors that the steps need.
    pub(crate) keep: Vec<RawFd>,
    /// To be set from outside a user namespace, whose root may not raise them.
    pub(crate) limits: Vec<(Resource, Rlimit)>,
}

impl Further {
    /// Plans a process for the container that was made by `spec`, beside its process `init`.
    pub(crate) fn new(
        process: &Process,
        spec: &Spec,
        init: &Cloned,
        stdio: &Stdio,
        (manner, tie): (Manner, Tie),
    ) -> Result<Self> {
        if !process.cwd().is_absolute() {
            let why = "it must be an absolute path".into();
            return Err(Error::Invalid { member: "process.cwd".into(), why });
        }
        let command = parts::command(process, manner)?;
        let identity = parts::identity(process)?;
        let affinity = Affinity::of(process)?;
        let kinds = kinds(spec, init)?;
        let beforehand = kinds.difference(ThreadNameSpaceType::CONTROL_GROUP);
        let mut entries: Vec<Entry> = affinity.initial.map(Entry::Affinity).into_iter().collect();
        entries.push(Entry::JoinProcess(again(&init.pidfd)?, beforehand));
        let mut steps = Vec::with_capacity(24);
        let keep = enter(spec, init, (manner, kinds), &mut steps)?;
        if let Some(set) = affinity.last {
            steps.push(Step::new("set the processor affinity", Action::Affinity(set)));
        }
        steps.extend(terminal(process, stdio));
        // What of it has no effect was told when the container was created.
        let linux = spec.linux().clone().unwrap_or_default();
        tuning::tune(process, &linux, &mut Vec::new(), &mut steps)?;
        steps.push(Step::new("enter the working directory", Action::Cwd(process.cwd().clone(), false)));
        steps.push(Step::new("connect the standard streams", Action::Streams));
        steps.push(Step::new("find the home directory", Action::Home(identity.uid)));
        let limits = parts::rlimits(process)?;
        limit(&limits, kinds, &mut steps);
        let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
        steps.push(Step::new("limit capabilities", Action::Bounding(parts::capability_set(bounding)?)));
        steps.push(Step::new("become the user", Action::Identity(identity)));
        steps.push(Step::new("find the command", Action::FindCommand));
        steps.push(match tie {
            Tie::Outlives => Step::new("let go of the parent", Action::Untie),
            // Changing credentials forgets the signal (prctl(2), PR_SET_PDEATHSIG).
            Tie::DiesWithParent => Step::new("tie the process to its parent", Action::DieWithParent),
        });
        let filter = spec.linux().as_ref().map(filter::program).transpose()?.flatten();
        parts::give_up_rights(process, filter, true, &mut steps)?;
        Ok(Self {
            plan: Plan {
                flags: 0,
                entries,
                duties: Duties::default(),
                steps,
                command,
                root_mount: None,
                warnings: Vec::new(),
            },
            keep,
            limits,
        })
    }
}

/// From its birth to the container's root; the descriptors that these steps need.
fn enter(
    spec: &Spec,
    init: &Cloned,
    (manner, kinds): (Manner, ThreadNameSpaceType),
    steps: &mut Vec<Step>,
) -> Result<Vec<RawFd>> {
    let mut keep = Vec::new();
    steps.push(Step::new("tie the process to its parent", Action::DieWithParent));
    steps.push(Step::new("wait for the runtime", Action::Reach(Point::Born)));
    if kinds.contains(ThreadNameSpaceType::CONTROL_GROUP) {
        // Who is in the namespace may move nobody into the group from outside it.
        let init = again(&init.pidfd)?;
        keep.push(init.as_raw_fd());
        let action = Action::JoinProcess(init, ThreadNameSpaceType::CONTROL_GROUP);
        steps.push(Step::new("join the cgroup namespace", action));
    }
    steps.push(Step::new("start a session", Action::Session(manner.keyring)));
    if kinds.contains(ThreadNameSpaceType::USER) {
        steps.push(Step::new("become the user namespace's root", Action::RootOfUsers));
    }
    if apart(spec) {
        steps.push(Step::new("find the root", Action::Inside));
    } else {
        let root = root_of(init)?;
        keep.push(root.as_raw_fd());
        steps.push(Step::new("change the root", Action::InsideOf(root)));
    }
    Ok(keep)
}

/// True where the container has a mount namespace of its own.
fn apart(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|all| all.iter().any(|one| one.typ() == LinuxNamespaceType::Mount))
}

/// The root that init has changed into.
fn root_of(init: &Cloned) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", init.pid.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty()).call("open", || path)?;
    // Only while init lives is its number its own.
    sys::process::signal(&init.pidfd, 0)?;
    Ok(root)
}

/// Limits resources; a root of a user namespace waits for the runtime to have raised what it may not.
fn limit(limits: &[(Resource, Rlimit)], kinds: ThreadNameSpaceType, steps: &mut Vec<Step>) {
    if limits.is_empty() {
        return;
    }
    if kinds.contains(ThreadNameSpaceType::USER) {
        steps.push(Step::new("wait for resource limits", Action::Reach(Point::Ready)));
    }
    steps.push(Step::new(RLIMITS, Action::Rlimits(limits.to_vec())));
}

fn again(process: &OwnedFd) -> Result<OwnedFd> {
    Ok(process.try_clone().call("dup", || "pidfd".into())?)
}

fn terminal(process: &Process, stdio: &Stdio) -> Option<Step> {
    let given = match stdio {
        Stdio::Streams(_) => return None,
        Stdio::Terminal { size } => *size,
        Stdio::Console(_) => None,
    };
    let size = given.or(files::console_size(process));
    let uid = Uid::from_raw(process.user().uid());
    let plan = TerminalPlan { size, uid, console: false };
    Some(Step::new("allocate a terminal", Action::Terminal(plan)))
}

/// The namespaces to enter: those that the container was given, where they are not the caller's own.
///
/// What init itself has made later is not for init to lead the runtime into.
fn kinds(spec: &Spec, init: &Cloned) -> Result<ThreadNameSpaceType> {
    let pid = init.pid.as_raw_nonzero();
    let mut kinds = ThreadNameSpaceType::empty();
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    for namespace in namespaces.into_iter().flatten() {
        let (name, kind) = link(namespace.typ());
        if identity(&format!("/proc/{pid}/ns/{name}"))? != identity(&format!("/proc/self/ns/{name}"))? {
            kinds |= kind;
        }
    }
    // Only while init lives is its number its own.
    sys::process::signal(&init.pidfd, 0)?;
    Ok(kinds)
}

/// Which namespace it is, by the file that stands for it.
fn identity(path: &str) -> Result<(u64, u64)> {
    let stat = rustix::fs::stat(path).call("stat", || path.into())?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A namespace's name in `/proc/PID/ns`, and its flag.
fn link(kind: LinuxNamespaceType) -> (&'static str, ThreadNameSpaceType) {
    match kind {
        LinuxNamespaceType::Mount => ("mnt", ThreadNameSpaceType::MOUNT),
        LinuxNamespaceType::Cgroup => ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
        LinuxNamespaceType::Uts => ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        LinuxNamespaceType::Ipc => ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        LinuxNamespaceType::User => ("user", ThreadNameSpaceType::USER),
        LinuxNamespaceType::Pid => ("pid", ThreadNameSpaceType::PROCESS_ID),
        LinuxNamespaceType::Network => ("net", ThreadNameSpaceType::NETWORK),
        LinuxNamespaceType::Time => ("time", ThreadNameSpaceType::TIME),
    }
}

/// Whether each processor is in `process.execCPUAffinity.initial`, from the first on.
pub(crate) fn initial_affinity(process: &Process) -> Result<Option<Vec<bool>>> {
    let initial = Affinity::of(process)?.initial;
    Ok(initial.map(|set| (0..CpuSet::MAX_CPU).map(|cpu| set.is_set(cpu)).collect()))
}

/// `process.execCPUAffinity`.
struct Affinity {
    /// Before the process is in its control group.
    initial: Option<CpuSet>,
    /// Once it is there.
    last: Option<CpuSet>,
}

impl Affinity {
    fn of(process: &Process) -> Result<Self> {
        let Some(affinity) = process.exec_cpu_affinity() else {
            return Ok(Self { initial: None, last: None });
        };
        let set =
            |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(cpus).transpose();
        Ok(Self { initial: set(affinity.initial())?, last: set(affinity.cpu_affinity_final())? })
    }
}

/// A list of processors, `0-3,7`.
fn cpus(text: &str) -> Result<CpuSet> {
    let wrong = || Error::Invalid {
        member: "process.execCPUAffinity".into(),
        why: format!("{text:?} is no list of processors below {}", CpuSet::MAX_CPU),
    };
    let number =
        |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n < CpuSet::MAX_CPU).ok_or_else(wrong);
    let mut set = CpuSet::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_numbers_and_ranges_in_order() {
        let set = cpus("0-2,7").expect("a list");
        let found: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
        assert_eq!(found, [0, 1, 2, 7]);
        for bad in ["", "3-1", "a", "1,", "-1", "1024", "0-99999999999"] {
            assert!(cpus(bad).is_err(), "{bad:?}");
        }
    }
}
