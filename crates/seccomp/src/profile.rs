//! Reading a profile: actions to verdicts, rules to what they mean for each call.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use crate::condition::Condition;
use crate::error::{Result, invalid};
use crate::rules::{ENOSYS, Guard, Rules, Verdict, strictness};
use crate::table::Row;

/// The data that a verdict may carry (`SECCOMP_RET_DATA`).
const DATA: u32 = 0xffff;
const EPERM: u32 = 1;
const ALLOW: Verdict = 0x7fff_0000;
const NOTIFY: Verdict = 0x7fc0_0000;
const TRACE: Verdict = 0x7ff0_0000;
const ERRNO: Verdict = 0x0005_0000;

/// Reads the rules of a profile. The names that are no system call anywhere come second: as in runc they mean nothing.
///
/// # Errors
/// [`crate::Error::Invalid`] with the member that is wrong.
pub(crate) fn read(profile: &LinuxSeccomp) -> Result<(Rules, Vec<String>)> {
    let default = verdict(profile.default_action(), profile.default_errno_ret(), "defaultErrnoRet")?;
    if default == NOTIFY {
        return Err(invalid(
            "defaultAction",
            "SCMP_ACT_NOTIFY would have the filter's own set-up wait for an answer",
        ));
    }
    let mut rules = Rules::new(default, newer(default));
    let mut unknown = Vec::new();
    for (place, rule) in profile.syscalls().iter().flatten().enumerate() {
        add(&mut rules, rule, place, &mut unknown)?;
    }
    rules.settle();
    Ok((rules, unknown))
}

/// Whether a profile has a supervisor answer.
pub fn notifies(profile: &LinuxSeccomp) -> bool {
    let mut rules = profile.syscalls().iter().flatten();
    rules.any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify)
}

/// What a call gets that is newer than the profile: `ENOSYS`, so that a C library tries the older one, but where the
/// profile lets through what it does not name (runc, patchbpf).
fn newer(default: Verdict) -> Verdict {
    if strictness(default) >= strictness(TRACE) { default } else { ENOSYS }
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>, member: &str) -> Result<Verdict> {
    use LinuxSeccompAction as Act;
    let plain = match action {
        Act::ScmpActErrno => return Ok(ERRNO | data(errno, member)?),
        Act::ScmpActTrace => return Ok(TRACE | data(errno, member)?),
        Act::ScmpActKill | Act::ScmpActKillThread => 0,
        Act::ScmpActKillProcess => crate::rules::KILL_PROCESS,
        Act::ScmpActTrap => 0x0003_0000,
        Act::ScmpActNotify => NOTIFY,
        Act::ScmpActLog => 0x7ffc_0000,
        Act::ScmpActAllow => ALLOW,
    };
    // config-linux.md: "When the action doesn't support an errno, the runtime MUST print and error and fail."
    match errno {
        Some(_) => Err(invalid(member, format!("{action} has no errno"))),
        None => Ok(plain),
    }
}

fn data(errno: Option<u32>, member: &str) -> Result<u32> {
    match errno.unwrap_or(EPERM) {
        errno @ 0..=DATA => Ok(errno),
        errno => Err(invalid(member, format!("{errno} is more than {DATA}"))),
    }
}

fn add(rules: &mut Rules, rule: &LinuxSyscall, place: usize, unknown: &mut Vec<String>) -> Result<()> {
    let member = |name: &str| format!("syscalls[{place}].{name}");
    if rule.names().is_empty() {
        return Err(invalid(member("names"), "there is none"));
    }
    let verdict = verdict(rule.action(), rule.errno_ret(), &member("errnoRet"))?;
    let args = rule.args().as_deref().unwrap_or_default();
    if let Some(arg) = args.iter().find(|arg| arg.index() > 5) {
        return Err(invalid(member("args"), format!("there is no argument {}", arg.index())));
    }
    let tightens = strictness(verdict) <= strictness(rules.default);
    let cases = cases(args, tightens);
    for name in rule.names() {
        if name.is_empty() || (name == "write" && verdict == NOTIFY) {
            return Err(invalid(member("names"), refusal(name)));
        }
        let Some(row) = Row::find(name) else {
            unknown.push(name.clone());
            continue;
        };
        let default = rules.default;
        let call = rules.call_mut(row);
        call.is_named = true;
        if args.is_empty() {
            // As in libseccomp the first one stays, and as in runc the default is none.
            if verdict != default {
                call.fixed.get_or_insert(verdict);
            }
        } else {
            call.guards
                .extend(cases.iter().map(|conditions| Guard { conditions: conditions.clone(), verdict }));
        }
    }
    Ok(())
}

fn refusal(name: &str) -> &'static str {
    match name {
        "" => "one is empty",
        _ => "SCMP_ACT_NOTIFY for write: the filter's own set-up writes, and would wait for an answer",
    }
}

/// The lists of conditions of which one must hold, each as a whole.
///
/// A rule that has no argument twice is one list. One that has is read by runc as if each condition were a rule of its
/// own; so it is here where that forbids more. Where it would allow more, all must hold, but of the values that one
/// argument is to equal.
fn cases(args: &[LinuxSeccompArg], tightens: bool) -> Vec<Vec<Condition>> {
    let twice =
        args.iter().enumerate().any(|(place, arg)| args[..place].iter().any(|a| a.index() == arg.index()));
    if twice && tightens {
        return args.iter().map(|arg| vec![condition(arg)]).collect();
    }
    let mut cases = vec![Vec::new()];
    for (place, arg) in args.iter().enumerate() {
        let same = |other: &&LinuxSeccompArg| is_alternative(arg, other);
        if args[..place].iter().any(|earlier| same(&earlier)) {
            continue;
        }
        let values: Vec<Condition> =
            std::iter::once(arg).chain(args[place + 1..].iter().filter(same)).map(condition).collect();
        let with = |case: &Vec<Condition>| {
            let case = case.clone();
            values.iter().map(move |value| case.iter().copied().chain([*value]).collect()).collect::<Vec<_>>()
        };
        cases = cases.iter().flat_map(with).collect();
    }
    cases
}

fn is_alternative(one: &LinuxSeccompArg, other: &LinuxSeccompArg) -> bool {
    let equal = LinuxSeccompOperator::ScmpCmpEq;
    one.index() == other.index() && one.op() == equal && other.op() == equal
}

fn condition(arg: &LinuxSeccompArg) -> Condition {
    let second = arg.value_two().unwrap_or_default();
    Condition { index: arg.index(), operator: arg.op(), value: arg.value(), second }
}

#[cfg(test)]
mod tests {
    use crate::compile;
    use serde_json::json;

    #[test]
    fn what_is_wrong_in_a_profile_is_refused_by_its_name() {
        let rule = |rule| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        let arg = |index: u32| json!([{"index": index, "op": "SCMP_CMP_EQ", "value": 1}]);
        for (profile, words) in [
            (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "defaultAction is wrong"),
            (json!({"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}), "defaultErrnoRet is wrong"),
            (
                json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536}),
                "65536 is more than 65535",
            ),
            (
                rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1})),
                "SCMP_ACT_ALLOW has no errno",
            ),
            (
                rule(json!({"names": [], "action": "SCMP_ACT_ERRNO"})),
                "syscalls[0].names is wrong: there is none",
            ),
            (rule(json!({"names": ["read", ""], "action": "SCMP_ACT_ERRNO"})), "one is empty"),
            (
                rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": arg(6)})),
                "there is no argument 6",
            ),
            (
                rule(json!({"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"})),
                "SCMP_ACT_NOTIFY for write",
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
                "without SCMP_ACT_NOTIFY",
            ),
        ] {
            let profile = serde_json::from_value(profile).expect("a profile");
            let error = compile(&profile).expect_err("it is wrong").to_string();
            assert!(error.starts_with("linux.seccomp.") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn names_that_are_no_call_mean_nothing_and_are_told() {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["no_such_call", "read", "another"], "action": "SCMP_ACT_ERRNO"}
        ]});
        let program = compile(&serde_json::from_value(profile).expect("a profile")).expect("a program");
        assert_eq!(program.unknown(), ["no_such_call", "another"]);
    }

    #[test]
    fn a_profile_too_long_for_the_kernel_is_refused_with_both_numbers() {
        let rule = |value: u32| {
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": value}]})
        };
        let rules: Vec<_> = (0..3000).map(rule).collect();
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
        let error = compile(&serde_json::from_value(profile).expect("a profile")).expect_err("too long");
        assert!(matches!(error, crate::Error::TooLong { len: 6000.., limit: 4096 }), "{error}");
    }
}
