//! How the kernel is to treat the process: scheduling, priorities, memory, personality, labels.

use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};
use sys::tuning::Scheduling;

use super::invalid;
use crate::error::Result;
use crate::labels::{self, Module};
use crate::step::{Action, Step};

/// `PER_LINUX32` of personality(2).
const PER_LINUX32: u32 = 8;
/// Levels of a class of ioprio_set(2).
const IO_LEVELS: std::ops::RangeInclusive<i64> = 0..=7;
/// The kernel knows no node beyond (`CONFIG_NODES_SHIFT` is at most 10).
const NODES: usize = 1024;

/// What holds for a process of the container and all that it starts; set while it may still set it.
pub(super) fn tune(
    process: &Process,
    linux: &Linux,
    warnings: &mut Vec<String>,
    steps: &mut Vec<Step>,
) -> Result<()> {
    of_process(process, steps)?;
    if let Some(policy) = linux.memory_policy() {
        let (mode, nodes) = memory(policy)?;
        steps.push(Step::new("set the memory policy", Action::MemoryPolicy(mode, nodes)));
    }
    if let Some(personality) = linux.personality() {
        if let Some(flags) = personality.flags().as_ref().filter(|flags| !flags.is_empty()) {
            // The specification has none yet; runc says the same.
            warnings.push(format!("ignoring unsupported personality flags: {flags:?}"));
        }
        let domain = match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
        };
        steps.push(Step::new("set the personality", Action::Personality(domain)));
    }
    Ok(())
}

fn of_process(process: &Process, steps: &mut Vec<Step>) -> Result<()> {
    if let Some(scheduler) = process.scheduler() {
        steps.push(Step::new("set the scheduler", Action::Schedule(scheduling(scheduler)?)));
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = Some(priority.priority()).filter(|level| IO_LEVELS.contains(level));
        let level = level.and_then(|level| u16::try_from(level).ok());
        let level = level.ok_or_else(|| {
            invalid("process.ioPriority", format!("{} is not between 0 and 7", priority.priority()))
        })?;
        steps.push(Step::new("set the priority of input and output", Action::IoPriority(class, level)));
    }
    for (label, module, member) in [
        (process.apparmor_profile(), Module::Apparmor, "process.apparmorProfile"),
        (process.selinux_label(), Module::Selinux, "process.selinuxLabel"),
    ] {
        if let Some(label) = label.as_ref().filter(|label| !label.is_empty()) {
            labels::check(member, module)?;
            steps.push(Step::new(format!("set {member}"), Action::Label(module, label.clone())));
        }
    }
    Ok(())
}

/// Values that do not go with the policy are refused, as the kernel takes no notice of them (runc's checks).
fn scheduling(scheduler: &Scheduler) -> Result<Scheduling> {
    let wrong = |why: &str| Err(invalid("process.scheduler", why.to_string()));
    let policy = *scheduler.policy();
    let is = |list: &[LinuxSchedulerPolicy]| list.contains(&policy);
    use LinuxSchedulerPolicy::{
        SchedBatch, SchedDeadline, SchedFifo, SchedIdle, SchedIso, SchedOther, SchedRr,
    };
    let (nice, priority) = (scheduler.nice().unwrap_or(0), scheduler.priority().unwrap_or(0));
    let times =
        [*scheduler.runtime(), *scheduler.deadline(), *scheduler.period()].map(|time| time.unwrap_or(0));
    if is(&[SchedOther, SchedBatch]) && !(-20..=19).contains(&nice) {
        return wrong("nice is not between -20 and 19");
    }
    if priority != 0 && !is(&[SchedFifo, SchedRr]) {
        return wrong("priority is for SCHED_FIFO and SCHED_RR alone");
    }
    if times != [0; 3] && !is(&[SchedDeadline]) {
        return wrong("runtime, deadline and period are for SCHED_DEADLINE alone");
    }
    let number = match policy {
        SchedOther => 0,
        SchedFifo => 1,
        SchedRr => 2,
        SchedBatch => 3,
        SchedIso => 4,
        SchedIdle => 5,
        SchedDeadline => 6,
    };
    let flags = scheduler.flags().iter().flatten().fold(0, |all, flag| all | scheduler_flag(*flag));
    let Ok(priority) = u32::try_from(priority) else { return wrong("priority is negative") };
    let [runtime, deadline, period] = times;
    let mut wanted = Scheduling::default();
    (wanted.policy, wanted.flags, wanted.nice, wanted.priority) = (number, flags, nice, priority);
    (wanted.runtime, wanted.deadline, wanted.period) = (runtime, deadline, period);
    Ok(wanted)
}

fn scheduler_flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// The mode with its flags, and the nodes as set_mempolicy(2) takes them.
fn memory(policy: &LinuxMemoryPolicy) -> Result<(i32, Vec<u64>)> {
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    });
    let text = policy.nodes().as_deref().unwrap_or_default();
    let nodes = nodes(text).ok_or_else(|| {
        invalid("linux.memoryPolicy", format!("{text:?} is no list of nodes below {NODES}"))
    })?;
    Ok((mode | flags, nodes))
}

/// A list as `0-3,7`; bits in words.
fn nodes(text: &str) -> Option<Vec<u64>> {
    let mut words = Vec::new();
    if text.trim().is_empty() {
        return Some(words);
    }
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&node| node < NODES);
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        words.resize(words.len().max(last / 64 + 1), 0_u64);
        (first..=last).for_each(|node| words[node / 64] |= 1 << (node % 64));
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_nodes_are_bits() {
        for (text, want) in [
            ("", Some(vec![])),
            ("0", Some(vec![1])),
            ("0-2, 5", Some(vec![0b10_0111])),
            ("64", Some(vec![0, 1])),
            ("2-1", None),
            ("x", None),
            ("1024", None),
        ] {
            assert_eq!(nodes(text), want, "{text:?}");
        }
    }

    #[test]
    fn values_that_do_not_go_with_a_scheduler_are_refused() {
        let of = |value| scheduling(&serde_json::from_value(value).expect("a scheduler"));
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        let good = of(json(r#"{"policy": "SCHED_BATCH", "nice": 19, "flags": ["SCHED_RESET_ON_FORK"]}"#));
        let good = good.expect("right");
        assert_eq!((good.policy, good.nice, good.flags), (3, 19, 1));
        for bad in [
            r#"{"policy": "SCHED_OTHER", "nice": 20}"#,
            r#"{"policy": "SCHED_OTHER", "priority": 1}"#,
            r#"{"policy": "SCHED_FIFO", "runtime": 1}"#,
            r#"{"policy": "SCHED_RR", "priority": -1}"#,
        ] {
            assert!(of(json(bad)).is_err(), "{bad}");
        }
    }
}
