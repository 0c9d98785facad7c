//! What a profile says of each system call, before numbers come in.
//!
//! Of the rules that hold for a call the strictest decides, in the kernel's own order of verdicts (seccomp(2)): a rule
//! with conditions is an exception from the one without, where it is stricter. libseccomp drops it there.

use crate::condition::Condition;
use crate::table::Row;

/// What the kernel does with a call, as a filter returns it (linux/seccomp.h, `SECCOMP_RET_*`).
pub(crate) type Verdict = u32;

/// Ends the process (Linux 4.14).
pub(crate) const KILL_PROCESS: Verdict = 0x8000_0000;
/// Answers `ENOSYS`.
pub(crate) const ENOSYS: Verdict = 0x0005_0000 | 38;

/// The order of verdicts: of two filters' the kernel takes the lower.
pub(crate) fn strictness(verdict: Verdict) -> i32 {
    (verdict & 0xffff_0000).cast_signed()
}

/// A rule that holds only where all its conditions do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) verdict: Verdict,
}

/// What a profile says of one system call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    /// Whether the profile names it at all.
    pub(crate) is_named: bool,
    /// The verdict whatever the arguments are; the default's where there is none.
    pub(crate) fixed: Option<Verdict>,
    /// Other verdicts for some arguments, the first that holds decides.
    pub(crate) guards: Vec<Guard>,
}

impl Call {
    /// Brings the guards into order and drops those that cannot decide.
    pub(crate) fn settle(&mut self, default: Verdict) {
        if let Some(fixed) = self.fixed {
            self.guards.retain(|guard| strictness(guard.verdict) < strictness(fixed));
        }
        self.guards.sort_by_key(|guard| strictness(guard.verdict));
        let rest = self.fixed.unwrap_or(default);
        while self.guards.last().is_some_and(|guard| guard.verdict == rest) {
            self.guards.pop();
        }
    }
}

/// A profile, by system call.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What happens to calls that no rule holds for.
    pub(crate) default: Verdict,
    /// What happens to calls that are newer than all that the profile names.
    pub(crate) newer: Verdict,
    calls: Vec<Call>,
}

impl Rules {
    pub(crate) fn new(default: Verdict, newer: Verdict) -> Self {
        Self { default, newer, calls: vec![Call::default(); Row::COUNT] }
    }

    pub(crate) fn call(&self, row: Row) -> &Call {
        &self.calls[row.place()]
    }

    pub(crate) fn call_mut(&mut self, row: Row) -> &mut Call {
        &mut self.calls[row.place()]
    }

    pub(crate) fn settle(&mut self) {
        let default = self.default;
        self.calls.iter_mut().for_each(|call| call.settle(default));
    }

    /// All calls that the profile names.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Row, &Call)> {
        Row::all().zip(&self.calls).filter(|(_, call)| call.is_named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: Verdict = 0x7fff_0000;
    const EPERM: Verdict = 0x0005_0001;

    fn guard(verdict: Verdict) -> Guard {
        Guard { conditions: Vec::new(), verdict }
    }

    fn settled(fixed: Option<Verdict>, guards: &[Verdict]) -> Vec<Verdict> {
        let guards = guards.iter().map(|verdict| guard(*verdict)).collect();
        let mut call = Call { is_named: true, fixed, guards };
        call.settle(EPERM);
        call.guards.iter().map(|guard| guard.verdict).collect()
    }

    #[test]
    fn the_strictest_rule_decides() {
        assert_eq!(settled(Some(ALLOW), &[EPERM]), [EPERM], "an exception from what is allowed");
        assert_eq!(settled(Some(EPERM), &[ALLOW]), [0; 0], "none from what is refused");
        assert_eq!(settled(Some(ENOSYS), &[EPERM]), [0; 0], "none of the same strictness");
        assert_eq!(settled(None, &[ALLOW, ENOSYS]), [ENOSYS, ALLOW]);
        assert_eq!(settled(None, &[ALLOW, EPERM, KILL_PROCESS]), [KILL_PROCESS, EPERM, ALLOW]);
        assert_eq!(settled(None, &[EPERM, KILL_PROCESS]), [KILL_PROCESS], "the default needs no rule");
    }
}
