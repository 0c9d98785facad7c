//! What a program decides is what its profile says, for any profile and any call: the programs are run by a small
//! interpreter and compared with the profile read by hand.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Op, LinuxSyscall};
use proptest::prelude::*;
use seccomp::{Instruction, Machine, compile_for};
use serde_json::{Value, json};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ARM: u32 = 0x4000_0028;
const AARCH64: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;

/// A system call as the filter sees it.
#[derive(Debug, Clone, Copy)]
struct Data {
    number: u32,
    audit: u32,
    args: [u64; 6],
}

/// Runs a program as the kernel would.
fn interpret(program: &[Instruction], data: &Data) -> u32 {
    let mut words = vec![data.number, data.audit, 0, 0];
    words.extend(data.args.iter().flat_map(|arg| [*arg as u32, (arg >> 32) as u32]));
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let step = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { step.jt } else { step.jf });
        match step.code {
            0x20 => accumulator = words[step.k as usize / 4],
            0x54 => accumulator &= step.k,
            0x05 => at += step.k as usize,
            0x15 => jump(accumulator == step.k),
            0x25 => jump(accumulator > step.k),
            0x35 => jump(accumulator >= step.k),
            0x06 => return step.k,
            code => panic!("no such instruction: {code:#x}"),
        }
    }
}

/// A call that the properties use: its name, its numbers on x86-64, x86, x32, ARM, AArch64, and its arguments' bits.
struct Known {
    name: &'static str,
    numbers: [Option<u32>; 5],
    bits: [u32; 3],
}

const fn known(name: &'static str, numbers: [u32; 5], bits: [u32; 3]) -> Known {
    let mut all = [None; 5];
    let mut place = 0;
    while place < 5 {
        if numbers[place] != u32::MAX {
            all[place] = Some(numbers[place]);
        }
        place += 1;
    }
    Known { name, numbers: all, bits }
}

const NO: u32 = u32::MAX;
const KNOWN: [Known; 11] = [
    known("read", [0, 3, 0, 3, 63], [32, 64, 64]),
    known("socket", [41, 359, 41, 281, 198], [32, 32, 32]),
    known("ioctl", [16, 54, 514, 54, 29], [32, 32, 64]),
    known("chmod", [90, 15, 90, 15, NO], [64, 16, 64]),
    known("clone", [56, 120, 56, 120, 220], [32, 64, 64]),
    known("mprotect", [10, 125, 10, 125, 226], [64, 64, 64]),
    known("setresuid", [117, 164, 117, 164, 147], [32, 32, 32]),
    known("socketcall", [NO, 102, NO, NO, NO], [32, 64, 64]),
    known("bind", [49, 361, 49, 282, 200], [32, 64, 32]),
    known("mseal", [462, 462, 462, 462, 462], [64, 64, 64]),
    known("execve", [59, 11, 520, 11, 221], [64, 64, 64]),
];

/// The kernel's order, strictest first.
fn strictness(verdict: u32) -> i32 {
    (verdict & 0xffff_0000) as i32
}

fn verdict(action: &str, errno: Option<u32>) -> u32 {
    match action {
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => panic!("{other}"),
    }
}

fn of_rule(rule: &LinuxSyscall) -> u32 {
    verdict(&rule.action().to_string(), rule.errno_ret())
}

/// Whether a comparison holds for what the kernel reads of an argument: of a value that is a negative number of more bits,
/// for the argument as such a number.
fn holds(arg: &LinuxSeccompArg, given: u64, bits: u32) -> bool {
    let read = if bits == 64 { given } else { given & ((1 << bits) - 1) };
    let extended = |to: u32| {
        let ones = if to == 64 { u64::MAX } else { (1 << to) - 1 };
        let sign = bits < 64 && read >> (bits - 1) == 1;
        if sign { (read | (u64::MAX << bits)) & ones } else { read }
    };
    let forms: Vec<u64> = match bits {
        64 => vec![read],
        32 => vec![read, extended(64)],
        _ => vec![read, extended(32), extended(64)],
    };
    let value = arg.value();
    let masked = arg.value_two().unwrap_or(0) & value;
    let negative = |form: &u64, of: u64| of == *form;
    // Which form the profile's author had in mind shows in the value's upper bits.
    let least = |width: u32| {
        if width == 64 { u64::MAX << (bits - 1) } else { (u64::MAX << (bits - 1)) & 0xffff_ffff }
    };
    let form = if bits == 64 {
        read
    } else if value >= least(64) {
        extended(64)
    } else if bits == 16 && (least(32)..=0xffff_ffff).contains(&value) {
        extended(32)
    } else {
        read
    };
    match arg.op() {
        Op::ScmpCmpNe => form != value,
        Op::ScmpCmpEq => form == value,
        Op::ScmpCmpLt => form < value,
        Op::ScmpCmpLe => form <= value,
        Op::ScmpCmpGt => form > value,
        Op::ScmpCmpGe => form >= value,
        Op::ScmpCmpMaskedEq => forms.iter().any(|form| negative(&(form & value), masked)),
    }
}

/// Whether a rule's conditions hold, as docs/seccomp.md words it.
fn rule_holds(rule: &LinuxSyscall, data: &Data, bits: &dyn Fn(usize) -> u32, tightens: bool) -> bool {
    let args = rule.args().as_deref().unwrap_or_default();
    let one = |arg: &LinuxSeccompArg| holds(arg, data.args[arg.index()], bits(arg.index()));
    let twice = |arg: &LinuxSeccompArg| args.iter().filter(|other| other.index() == arg.index()).count() > 1;
    if tightens && args.iter().any(twice) {
        return args.iter().any(one);
    }
    args.iter().all(|arg| {
        let is_value = |other: &&LinuxSeccompArg| other.index() == arg.index() && other.op() == Op::ScmpCmpEq;
        if is_value(&arg) { args.iter().filter(is_value).any(one) } else { one(arg) }
    })
}

/// What the rules say of a name, with its arguments.
fn of_name(profile: &LinuxSeccomp, name: &str, data: &Data, bits: &dyn Fn(usize) -> u32) -> u32 {
    let default = verdict(&profile.default_action().to_string(), profile.default_errno_ret());
    let rules = || profile.syscalls().iter().flatten().filter(|rule| rule.names().iter().any(|n| n == name));
    let plain = |rule: &&LinuxSyscall| rule.args().as_ref().is_none_or(Vec::is_empty);
    let fixed = rules().filter(plain).map(of_rule).find(|verdict| *verdict != default);
    let mut guards: Vec<&LinuxSyscall> = rules().filter(|rule| !plain(rule)).collect();
    guards.sort_by_key(|rule| strictness(of_rule(rule)));
    for rule in guards {
        let own = of_rule(rule);
        if fixed.is_some_and(|fixed| strictness(own) >= strictness(fixed)) {
            continue;
        }
        if rule_holds(rule, data, bits, strictness(own) <= strictness(default)) {
            return own;
        }
    }
    fixed.unwrap_or(default)
}

/// What can be said of a call behind socketcall, whose arguments are out of reach.
fn behind(profile: &LinuxSeccomp, name: &str) -> Option<u32> {
    let default = verdict(&profile.default_action().to_string(), profile.default_errno_ret());
    let rules = || profile.syscalls().iter().flatten().filter(|rule| rule.names().iter().any(|n| n == name));
    let plain = |rule: &&LinuxSyscall| rule.args().as_ref().is_none_or(Vec::is_empty);
    let fixed = rules().filter(plain).map(of_rule).find(|verdict| *verdict != default);
    let rest = fixed.unwrap_or(default);
    let strictest =
        rules().filter(|rule| !plain(rule)).map(of_rule).min_by_key(|verdict| strictness(*verdict));
    strictest.filter(|verdict| strictness(*verdict) < strictness(rest)).or(fixed)
}

fn decide(profile: &LinuxSeccomp, machine: Machine, data: &Data) -> u32 {
    let listed = |name: &str| {
        profile.architectures().iter().flatten().any(|arch| arch.to_string() == format!("SCMP_ARCH_{name}"))
    };
    let default = verdict(&profile.default_action().to_string(), profile.default_errno_ret());
    let x32 = data.number & X32_BIT != 0 && data.number != u32::MAX;
    let column = match (machine, data.audit) {
        (Machine::X86_64, X86_64) if !x32 => 0,
        (Machine::X86_64, I386) if listed("X86") => 1,
        (Machine::X86_64, X86_64) if listed("X32") => 2,
        (Machine::Aarch64, ARM) if listed("ARM") => 3,
        (Machine::Aarch64, AARCH64) => 4,
        _ => return 0x8000_0000,
    };
    let narrow = column == 1 || column == 3;
    let number = if column == 2 { data.number & !X32_BIT } else { data.number };
    if column == 0 && data.number == u32::MAX && listed("X32") {
        return decide(profile, machine, &Data { number: X32_BIT | 0x3fff_fffe, ..*data });
    }
    let named = |known: &&Known| {
        let mux = column == 1
            && known.name == "socketcall"
            && ["socket", "bind"].iter().any(|name| behind(profile, name).is_some());
        mux || profile.syscalls().iter().flatten().any(|rule| rule.names().iter().any(|n| n == known.name))
    };
    let newest = KNOWN.iter().filter(named).filter_map(|known| known.numbers[column]).max();
    let Some(known) = KNOWN.iter().find(|known| known.numbers[column] == Some(number)) else {
        let stub = strictness(default) < strictness(0x7ff0_0000);
        return if stub && newest.is_some_and(|newest| number > newest) { 0x0005_0026 } else { default };
    };
    let stub = strictness(default) < strictness(0x7ff0_0000);
    if stub && newest.is_some_and(|newest| number > newest) {
        return 0x0005_0026;
    }
    let bits = |index: usize| {
        let short = narrow && known.name == "setresuid";
        let own = known.bits.get(index).copied().unwrap_or(64);
        if short {
            16
        } else if narrow {
            own.min(32)
        } else {
            own
        }
    };
    let own = of_name(profile, known.name, data, &bits);
    if column == 1 && known.name == "socketcall" {
        let behind_it = match data.args[0] as u32 {
            1 => behind(profile, "socket"),
            2 => behind(profile, "bind"),
            _ => None,
        };
        let rules = || {
            profile.syscalls().iter().flatten().filter(|rule| rule.names().iter().any(|n| n == "socketcall"))
        };
        let plain = |rule: &&LinuxSyscall| rule.args().as_ref().is_none_or(Vec::is_empty);
        let fixed = rules().filter(plain).map(of_rule).find(|verdict| *verdict != default);
        let Some(behind_it) = behind_it else { return own };
        // A rule with a condition: nothing beside a plain rule as strict, and of several the strictest.
        if fixed.is_some_and(|fixed| strictness(behind_it) >= strictness(fixed)) {
            return own;
        }
        let own_guard_decides = rules().any(|rule| {
            !plain(&rule)
                && strictness(of_rule(rule)) <= strictness(behind_it)
                && fixed.is_none_or(|fixed| strictness(of_rule(rule)) < strictness(fixed))
                && rule_holds(rule, data, &bits, strictness(of_rule(rule)) <= strictness(default))
        });
        return if own_guard_decides { own } else { behind_it };
    }
    own
}

fn values() -> impl Strategy<Value = u64> {
    let some = [
        0,
        1,
        2,
        9,
        38,
        39,
        40,
        0x1000,
        0x7fff,
        0x8000,
        0xffff,
        0x1_0000,
        0x1_0026,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_8000,
        0xffff_fff0,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0026,
        0x1_0000_0028,
        0xffff_ffff_7fff_ffff,
        0xffff_ffff_8000_0000,
        0xffff_ffff_ffff_8000,
        u64::MAX - 1,
        u64::MAX,
    ];
    prop_oneof![6 => proptest::sample::select(some.to_vec()), 1 => any::<u64>()]
}

fn actions() -> impl Strategy<Value = (&'static str, Option<u32>)> {
    let plain = ["KILL_PROCESS", "KILL_THREAD", "KILL", "TRAP", "LOG", "ALLOW"].map(|name| (name, None));
    let errno =
        [("ERRNO", None), ("ERRNO", Some(38)), ("ERRNO", Some(22)), ("TRACE", None), ("TRACE", Some(7))];
    let all: Vec<_> = plain.into_iter().chain(errno).collect();
    proptest::sample::select(all)
}

fn arguments() -> impl Strategy<Value = Vec<Value>> {
    let ops = vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let one = (0_usize..3, proptest::sample::select(ops), values(), values()).prop_map(|(index, op, value, second)| {
        json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": second})
    });
    proptest::collection::vec(one, 0..4)
}

fn profiles() -> impl Strategy<Value = LinuxSeccomp> {
    let names: Vec<&str> = KNOWN.iter().map(|known| known.name).chain(["unheard_of"]).collect();
    let rule = (proptest::collection::vec(proptest::sample::select(names), 1..3), actions(), arguments())
        .prop_map(|(names, (action, errno), args)| {
            let mut rule = json!({"names": names, "action": format!("SCMP_ACT_{action}"), "args": args});
            if let Some(errno) = errno {
                rule["errnoRet"] = errno.into();
            }
            rule
        });
    let arches = proptest::sample::subsequence(vec!["X86_64", "X86", "X32", "ARM", "AARCH64"], 0..=5);
    (actions(), arches, proptest::collection::vec(rule, 0..7)).prop_map(|((action, errno), arches, rules)| {
        let arches: Vec<String> = arches.iter().map(|name| format!("SCMP_ARCH_{name}")).collect();
        let mut profile = json!({
            "defaultAction": format!("SCMP_ACT_{action}"), "architectures": arches, "syscalls": rules
        });
        if let Some(errno) = errno {
            profile["defaultErrnoRet"] = errno.into();
        }
        serde_json::from_value(profile).expect("a profile")
    })
}

fn calls() -> impl Strategy<Value = Data> {
    let numbers: Vec<u32> = KNOWN.iter().flat_map(|known| known.numbers.into_iter().flatten()).collect();
    let some = numbers.iter().flat_map(|number| [*number, *number + 1, number | X32_BIT]);
    let some: Vec<u32> = some.chain([u32::MAX, X32_BIT, X32_BIT + 600, 600, 0xf_0005]).collect();
    let audits = vec![X86_64, X86_64, I386, ARM, AARCH64, 0x8000_0015];
    (proptest::sample::select(some), proptest::sample::select(audits), [values(), values(), values()])
        .prop_map(|(number, audit, [a, b, c])| Data { number, audit, args: [a, b, c, 0, 0, 0] })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_program_decides_what_its_profile_says(profile in profiles(), calls in proptest::collection::vec(calls(), 40)) {
        for machine in [Machine::X86_64, Machine::Aarch64] {
            let program = compile_for(&profile, machine).expect("a program");
            for data in &calls {
                let (got, want) = (interpret(program.instructions(), data), decide(&profile, machine, data));
                prop_assert_eq!(got, want, "{:?} {:?}: {:#x} for {:#x}", machine, data, got, want);
            }
        }
    }
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL_PROCESS: u32 = 0x8000_0000;

fn decided(profile: &Value, audit: u32, number: u32, args: [u64; 3]) -> u32 {
    let profile: LinuxSeccomp = serde_json::from_value(profile.clone()).expect("a profile");
    let program = compile_for(&profile, Machine::X86_64).expect("a program");
    let args = [args[0], args[1], args[2], 0, 0, 0];
    interpret(program.instructions(), &Data { number, audit, args })
}

fn socket_rule(action: &str, op: &str, value: u64) -> Value {
    let arg = json!({"index": 0, "op": format!("SCMP_CMP_{op}"), "value": value});
    json!({"names": ["socket"], "action": format!("SCMP_ACT_{action}"), "args": [arg]})
}

#[test]
fn the_upper_half_of_an_int_passes_no_rule_and_escapes_none() {
    let denied = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [socket_rule("ERRNO", "EQ", 38)]});
    let allowed = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        socket_rule("ALLOW", "LT", 38), socket_rule("ALLOW", "EQ", 39), socket_rule("ALLOW", "GT", 40)
    ]});
    for profile in [&denied, &allowed] {
        for (family, want) in [
            (38, EPERM),
            (0x1_0000_0026, EPERM),
            (0xffff_ffff_0000_0026, EPERM),
            (2, ALLOW),
            (0x1_0000_0002, ALLOW),
            (0xffff_ffff, ALLOW),
        ] {
            assert_eq!(decided(profile, X86_64, 41, [family, 1, 0]), want, "{family:#x} {profile}");
        }
    }
    assert_eq!(decided(&allowed, X86_64, 41, [0x1_0000_0028, 1, 0]), EPERM);
    let not_vsock = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [socket_rule("ALLOW", "NE", 40)]});
    assert_eq!(decided(&not_vsock, X86_64, 41, [0x1_0000_0028, 1, 0]), EPERM);
}

#[test]
fn what_cannot_be_compared_behind_socketcall_is_refused() {
    let profile = |default: &str, rules: &[Value]| json!({"defaultAction": format!("SCMP_ACT_{default}"), "architectures": ["SCMP_ARCH_X86"], "syscalls": rules});
    let allow = |name: &str| json!({"names": [name], "action": "SCMP_ACT_ALLOW"});
    let refuse = |name: &str| json!({"names": [name], "action": "SCMP_ACT_ERRNO"});
    let alg = || socket_rule("ERRNO", "EQ", 38);
    for (profile, want, why) in [
        (profile("ALLOW", &[alg()]), EPERM, "a refusal that depends on the family is one of every family"),
        (
            profile("ERRNO", &[socket_rule("ALLOW", "LT", 38)]),
            EPERM,
            "a permission that depends on it is none",
        ),
        (profile("ERRNO", &[allow("socket")]), ALLOW, "one that does not is one here too"),
        (profile("ERRNO", &[allow("socketcall")]), ALLOW, "as is that of socketcall itself"),
        (
            profile("ERRNO", &[allow("socketcall"), socket_rule("ALLOW", "LT", 38)]),
            ALLOW,
            "whatever socket has",
        ),
        (profile("LOG", &[allow("socketcall"), refuse("socket")]), EPERM, "but for a refusal"),
        (profile("LOG", &[allow("socketcall"), alg()]), EPERM, "also one that depends on the family"),
    ] {
        assert_eq!(decided(&profile, I386, 102, [1, 0x1000, 0]), want, "{why}: {profile}");
    }
    let refused = profile("ALLOW", &[alg()]);
    assert_eq!(decided(&refused, I386, 102, [2, 0x1000, 0]), ALLOW, "bind is another call");
    assert_eq!(decided(&refused, I386, 102, [0x7_0000_0001, 0x1000, 0]), EPERM, "the upper half is not read");
    let ipc = profile("ALLOW", &[json!({"names": ["shmget"], "action": "SCMP_ACT_ERRNO"})]);
    assert_eq!(decided(&ipc, I386, 117, [23, 0, 0]), EPERM);
    assert_eq!(decided(&ipc, I386, 117, [0x1_0017, 0, 0]), EPERM, "with a version in the upper half");
    assert_eq!(decided(&ipc, I386, 117, [21, 0, 0]), ALLOW);
}

#[test]
fn calls_of_another_abi_or_newer_than_the_profile() {
    let own = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "mseal"], "action": "SCMP_ACT_ALLOW"}]});
    let mut with_x32 = own.clone();
    with_x32["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]);
    for (profile, audit, number, want) in [
        (&own, X86_64, 0, ALLOW),
        (&own, X86_64, 1, EPERM),
        (&own, X86_64, 463, ENOSYS),
        (&own, X86_64, X32_BIT, KILL_PROCESS),
        (&own, X86_64, X32_BIT | 463, KILL_PROCESS),
        (&own, X86_64, u32::MAX, ENOSYS),
        (&own, I386, 3, KILL_PROCESS),
        (&own, AARCH64, 63, KILL_PROCESS),
        (&with_x32, X86_64, X32_BIT, ALLOW),
        (&with_x32, X86_64, X32_BIT | 1, EPERM),
        (&with_x32, X86_64, X32_BIT | 463, ENOSYS),
    ] {
        assert_eq!(decided(profile, audit, number, [0; 3]), want, "{audit:#x} {number:#x}");
    }
    for default in ["ALLOW", "LOG", "TRACE"] {
        let mut lenient = own.clone();
        lenient["defaultAction"] = format!("SCMP_ACT_{default}").into();
        assert_eq!(decided(&lenient, X86_64, 463, [0; 3]), verdict(&format!("SCMP_ACT_{default}"), None));
    }
}

#[test]
fn an_argument_named_twice_never_allows_more_than_all_its_conditions() {
    let rule = |action: &str, args: &[(&str, u64)]| {
        let args = args
            .iter()
            .map(|(op, value)| json!({"index": 0, "op": format!("SCMP_CMP_{op}"), "value": value}));
        let args: Vec<Value> = args.collect();
        json!({"names": ["socket"], "action": format!("SCMP_ACT_{action}"), "args": args})
    };
    let profile = |default: &str, rule: Value| json!({"defaultAction": format!("SCMP_ACT_{default}"), "syscalls": [rule]});
    let neither = profile("ERRNO", rule("ALLOW", &[("NE", 38), ("NE", 40)]));
    let either = profile("ERRNO", rule("ALLOW", &[("EQ", 1), ("EQ", 2)]));
    let between = profile("ERRNO", rule("ALLOW", &[("GE", 1), ("LE", 10)]));
    let outside = profile("ALLOW", rule("ERRNO", &[("LT", 1), ("GT", 10)]));
    for (profile, family, want) in [
        (&neither, 38, EPERM),
        (&neither, 40, EPERM),
        (&neither, 2, ALLOW),
        (&either, 1, ALLOW),
        (&either, 2, ALLOW),
        (&either, 3, EPERM),
        (&between, 5, ALLOW),
        (&between, 11, EPERM),
        (&between, 0, EPERM),
        (&outside, 0, EPERM),
        (&outside, 11, EPERM),
        (&outside, 5, ALLOW),
    ] {
        assert_eq!(decided(profile, X86_64, 41, [family, 0, 0]), want, "{family} {profile}");
    }
}
