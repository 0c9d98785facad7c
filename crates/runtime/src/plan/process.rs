//! Who the process is, what it may do and what it runs.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process};
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::invalid;
use crate::error::{Error, Result};
use crate::request::Manner;
use crate::step::{Action, Command, Identity, RLIMITS, Rights, Step};
use crate::{exec, filter};

/// From the runtime to the process's user, who keeps the permitted capabilities for what is still to do.
pub(super) fn become_user(process: &Process, new_users: bool, steps: &mut Vec<Step>) -> Result<()> {
    // In another user namespace the runtime has done it.
    if let Some(score) = process.oom_score_adj().filter(|_| !new_users) {
        steps.push(Step::new("set oomScoreAdj", Action::OomScoreAdj(score)));
    }
    if !process.cwd().is_absolute() {
        return Err(invalid("process.cwd", format!("{:?} is not absolute", process.cwd())));
    }
    steps.push(Step::new("enter the working directory", Action::Cwd(process.cwd().clone(), true)));
    steps.push(Step::new("connect the standard streams", Action::Streams));
    let limits = rlimits(process)?;
    if !limits.is_empty() {
        steps.push(Step::new(RLIMITS, Action::Rlimits(limits)));
    }
    let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
    steps.push(Step::new("limit capabilities", Action::Bounding(capability_set(bounding)?)));
    steps.push(Step::new("become the user", Action::Identity(identity(process)?)));
    Ok(())
}

/// So many descriptors leave the setup enough; a limit below waits until nothing is left to be opened.
const ENOUGH: u64 = 64;

/// The resource limits, each once; a few descriptors only are [`scarce`].
pub(super) fn rlimits(process: &Process) -> Result<Vec<(Resource, Rlimit)>> {
    let mut limits = all_rlimits(process)?;
    limits.retain_mut(|(resource, limit)| {
        // The hard limit may be one that takes a right to set, which is gone at the end.
        !is_scarce(*resource, limit) || {
            limit.current = Some(ENOUGH);
            limit.maximum.is_none_or(|hard| hard >= ENOUGH)
        }
    });
    Ok(limits)
}

/// The limit of descriptors where the rest of the setup would not have enough of them.
fn scarce(process: &Process) -> Result<Option<Step>> {
    let mut limits = all_rlimits(process)?;
    limits.retain(|(resource, limit)| is_scarce(*resource, limit));
    Ok(if limits.is_empty() { None } else { Some(Step::new(RLIMITS, Action::LastRlimits(limits))) })
}

fn is_scarce(resource: Resource, limit: &Rlimit) -> bool {
    resource == Resource::Nofile && limit.current.is_some_and(|soft| soft < ENOUGH)
}

fn all_rlimits(process: &Process) -> Result<Vec<(Resource, Rlimit)>> {
    let list = process.rlimits().as_deref().unwrap_or_default();
    for (at, one) in list.iter().enumerate() {
        if list[..at].iter().any(|other| other.typ() == one.typ()) {
            return Err(invalid("process.rlimits", format!("{} is listed twice", one.typ())));
        }
    }
    Ok(list.iter().map(rlimit).collect())
}

/// Down to the process's own rights; with `at_exec` what a filter forbids may no longer be needed then.
pub(super) fn give_up_rights(
    process: &Process,
    filter: Option<seccomp::Program>,
    at_exec: bool,
    steps: &mut Vec<Step>,
) -> Result<()> {
    steps.extend(scarce(process)?);
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

pub(super) fn filter_step(action: Action) -> Step {
    Step::new(filter::STEP, action)
}

pub(super) fn rights(process: &Process) -> Result<Rights> {
    // None where there is no word of them: the type's default is docker's old choice, not nothing.
    let set = |pick: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
        capability_set(process.capabilities().as_ref().and_then(|sets| pick(sets).as_ref()))
    };
    let sets = CapabilitySets {
        effective: set(LinuxCapabilities::effective)?,
        permitted: set(LinuxCapabilities::permitted)?,
        inheritable: set(LinuxCapabilities::inheritable)?,
    };
    // The kernel raises those alone that are permitted and inheritable (capabilities(7)); the others cannot be granted.
    let ambient = set(LinuxCapabilities::ambient)? & sets.permitted & sets.inheritable;
    Ok(Rights { sets, ambient })
}

pub(super) fn identity(process: &Process) -> Result<Identity> {
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

pub(super) fn capability_set(names: Option<&Capabilities>) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for name in names.into_iter().flatten() {
        let number = crate::capability::number(&name.to_string());
        let number = number.ok_or_else(|| invalid("process.capabilities", format!("{name} is unknown")))?;
        set |= CapabilitySet::from_bits_retain(1 << number);
    }
    Ok(set)
}

pub(super) fn rlimit(limit: &PosixRlimit) -> (Resource, Rlimit) {
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

/// The entries, each variable once: the last one given counts, as with runc, whatever a program makes of two.
fn last_of_each(env: &[String]) -> impl Iterator<Item = &String> {
    let name = |entry: &String| entry.split('=').next().map(str::to_string);
    let last: HashMap<_, _> = env.iter().enumerate().map(|(at, entry)| (name(entry), at)).collect();
    env.iter()
        .enumerate()
        .filter(move |(at, entry)| last.get(&name(entry)) == Some(at))
        .map(|(_, entry)| entry)
}

pub(super) fn command(process: &Process, manner: Manner) -> Result<Command> {
    let words = process.args().clone().unwrap_or_default();
    let name = words.first().cloned().ok_or(Error::Incomplete("process.args"))?;
    let text = |word: &String| {
        CString::new(word.as_str()).map_err(|_| invalid("process", format!("a zero byte in {word:?}")))
    };
    let args = words.iter().map(text).collect::<Result<_>>()?;
    let env = process.env().clone().unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(exec::DEFAULT_PATH);
    let path =
        path.split(':').map(|directory| PathBuf::from(if directory.is_empty() { "." } else { directory }));
    let preserved = i32::try_from(manner.preserved).unwrap_or(i32::MAX / 2);
    if let Some(entry) = env.iter().find(|entry| !entry.contains('=')) {
        return Err(invalid("process.env", format!("{entry:?} is no KEY=VALUE")));
    }
    let env = last_of_each(&env).map(text).collect::<Result<_>>()?;
    Ok(Command { name, args, env, path: path.collect(), preserved, reaper: manner.reaper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn process(value: serde_json::Value) -> Process {
        serde_json::from_value(value).expect("a process")
    }

    #[test]
    fn of_a_variable_that_is_given_twice_the_last_counts() {
        let one = process(json!({"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0},
            "env": ["A=1", "PATH=/a", "B=2", "A=3=4", "PATH=/b"]}));
        let command = command(&one, Manner::default()).expect("a command");
        assert_eq!(command.env, [c"B=2", c"A=3=4", c"PATH=/b"].map(CString::from));
        assert_eq!(command.path, [PathBuf::from("/b")]);
    }

    #[test]
    fn a_process_without_a_word_of_capabilities_has_none() {
        let one = process(json!({"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}}));
        let Rights { sets, ambient } = rights(&one).expect("rights");
        assert!((sets.permitted | sets.effective | sets.inheritable | ambient).is_empty());
    }
}
