//! Which devices a group may use: the rules of `linux.resources.devices` and what they mean.
//!
//! Meaning: of the rules that match a device, the last that names an access decides it; where none does, it is denied. Version 2
//! gets exactly that (`program`); version 1 where its list of exceptions can say it ([`Exceptions`]).

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::{Error, Result};

/// Accesses as bits, the kernel's own (`BPF_DEVCG_ACC_*`).
pub(crate) const MKNOD: u8 = 1;
pub(crate) const READ: u8 = 2;
pub(crate) const WRITE: u8 = 4;
pub(crate) const ALL: u8 = MKNOD | READ | WRITE;

/// Block or character device, by the kernel's numbers (`BPF_DEVCG_DEV_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Block = 1,
    Char = 2,
}

/// The devices that a rule is about; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) kind: Kind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    /// `None` is every device, with every access.
    pub(crate) pattern: Option<Pattern>,
    pub(crate) access: u8,
}

const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, pattern: Some(Pattern { kind, major, minor }), access }
}

/// What every container may have, after the configuration's rules, as runc: making any node, the devices that
/// config-linux.md, "Default Devices", gives to each, pseudo terminals, and TUN.
pub(crate) const DEFAULTS: [Rule; 11] = [
    allow(Kind::Char, None, None, MKNOD),
    allow(Kind::Block, None, None, MKNOD),
    allow(Kind::Char, Some(1), Some(3), ALL),    // null
    allow(Kind::Char, Some(1), Some(8), ALL),    // random
    allow(Kind::Char, Some(1), Some(7), ALL),    // full
    allow(Kind::Char, Some(5), Some(0), ALL),    // tty
    allow(Kind::Char, Some(1), Some(5), ALL),    // zero
    allow(Kind::Char, Some(1), Some(9), ALL),    // urandom
    allow(Kind::Char, Some(136), None, ALL),     // pts/*
    allow(Kind::Char, Some(5), Some(2), ALL),    // ptmx
    allow(Kind::Char, Some(10), Some(200), ALL), // net/tun
];

/// The configuration's rules and the defaults after them.
///
/// # Errors
/// [`Error::Value`] for a rule that is none.
pub(crate) fn rules(given: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = Vec::with_capacity(given.len() + DEFAULTS.len());
    for (index, one) in given.iter().enumerate() {
        let rule = rule(one);
        rules.push(rule.map_err(|why| Error::Value { resource: format!("devices[{index}]"), why })?);
    }
    rules.extend(DEFAULTS);
    Ok(rules)
}

fn rule(given: &LinuxDeviceCgroup) -> std::result::Result<Rule, String> {
    let kind = match given.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Kind::Block),
        LinuxDeviceType::C => Some(Kind::Char),
        other => return Err(format!("type {:?} is none of a, b and c", other.as_str())),
    };
    let text = given.access().as_deref().unwrap_or_default();
    let mut access = 0;
    for letter in text.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(format!("access {text:?} is not of the letters r, w and m")),
        };
    }
    if access == 0 {
        return Err("access is empty".into());
    }
    let number = |value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| format!("{value} is no device number")),
    };
    let (major, minor) = (number(given.major())?, number(given.minor())?);
    Ok(match kind {
        None => Rule { allow: given.allow(), pattern: None, access: ALL },
        Some(kind) => Rule { allow: given.allow(), pattern: Some(Pattern { kind, major, minor }), access },
    })
}

/// A version-1 group's rules: what holds for all devices, and the exceptions from that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exceptions {
    /// True where everything is allowed but the exceptions.
    pub(crate) allow: bool,
    pub(crate) list: Vec<(Pattern, u8)>,
}

impl Exceptions {
    /// What the rules, applied one after the other, leave.
    ///
    /// # Errors
    /// [`Error::Value`] where a rule takes a part out of a wider one: the kernel ignores that in silence, and the container
    /// would have what its configuration denies.
    pub(crate) fn of(rules: &[Rule]) -> Result<Self> {
        let mut state = Self::default();
        for rule in rules {
            let Some(pattern) = rule.pattern else {
                state = Self { allow: rule.allow, list: Vec::new() };
                continue;
            };
            if rule.allow == state.allow {
                state.take_back(pattern, rule.access)?;
            } else {
                state.add(pattern, rule.access);
            }
        }
        state.join();
        Ok(state)
    }

    /// The kernel allows an opening where one exception allows all of it, reading and writing, so that each has what wider ones
    /// allow of these, too. Making a node is asked for alone, and each exception is written as it was configured in that.
    fn join(&mut self) {
        if self.allow {
            return;
        }
        let all = self.list.clone();
        for (pattern, access) in &mut self.list {
            let wider = all.iter().filter(|(one, _)| one.covers(*pattern));
            *access = wider.fold(*access, |access, (_, more)| access | (more & (READ | WRITE)));
        }
    }

    /// The contents of `devices.list`, which shows what is allowed: one line `a *:* rwm` where that is all but exceptions that
    /// the kernel does not show.
    pub(crate) fn parse(list: &str) -> Option<Self> {
        let mut state = Self::default();
        for line in list.lines() {
            if line.starts_with('a') {
                state.allow = true;
                continue;
            }
            let (pattern, access) = parse_line(line)?;
            state.add(pattern, access);
        }
        Some(state)
    }

    pub(crate) fn add(&mut self, pattern: Pattern, access: u8) {
        match self.list.iter_mut().find(|(one, _)| *one == pattern) {
            Some((_, had)) => *had |= access,
            None => self.list.push((pattern, access)),
        }
    }

    /// The access to exactly this pattern that is an exception.
    pub(crate) fn access(&self, pattern: Pattern) -> u8 {
        self.list.iter().find(|(one, _)| *one == pattern).map_or(0, |(_, access)| *access)
    }

    fn take_back(&mut self, pattern: Pattern, access: u8) -> Result<()> {
        let wider = |(one, had): &&(Pattern, u8)| *one != pattern && one.covers(pattern) && had & access != 0;
        if let Some((wider, had)) = self.list.iter().find(wider) {
            let (rule, wider) = (Line(pattern, access), Line(*wider, *had));
            let why = format!("cgroup v1 cannot take \"{rule}\" out of \"{wider}\", which came before");
            return Err(Error::Value { resource: "devices".into(), why });
        }
        // What is narrower and came before is overruled, too: later rules win.
        for (_, had) in self.list.iter_mut().filter(|(one, _)| pattern.covers(*one)) {
            *had &= !access;
        }
        self.list.retain(|(_, had)| *had != 0);
        Ok(())
    }
}

impl Pattern {
    /// True where every device of `other` is one of this.
    fn covers(self, other: Self) -> bool {
        let wide = |this: Option<u32>, other| this.is_none() || this == other;
        self.kind == other.kind && wide(self.major, other.major) && wide(self.minor, other.minor)
    }
}

/// A pattern with its access as the kernel reads and writes it: `c 1:3 rwm`.
pub(crate) struct Line(pub(crate) Pattern, pub(crate) u8);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Pattern { kind, major, minor }, access) = self;
        let number = |value: &Option<u32>| value.map_or("*".to_string(), |value| value.to_string());
        let letter = if *kind == Kind::Block { 'b' } else { 'c' };
        write!(f, "{letter} {}:{} ", number(major), number(minor))?;
        let letters = [(READ, "r"), (WRITE, "w"), (MKNOD, "m")];
        letters.iter().filter(|(bit, _)| access & bit != 0).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

fn parse_line(line: &str) -> Option<(Pattern, u8)> {
    let mut fields = line.split(' ');
    let kind = match fields.next()? {
        "b" => Kind::Block,
        "c" => Kind::Char,
        _ => return None,
    };
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let (major, minor) = fields.next()?.split_once(':')?;
    let pattern = Pattern { kind, major: number(major)?, minor: number(minor)? };
    let letters = [('r', READ), ('w', WRITE), ('m', MKNOD)];
    let text = fields.next()?;
    let access =
        letters.iter().filter(|(letter, _)| text.contains(*letter)).fold(0, |all, (_, bit)| all | bit);
    Some((pattern, access))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the rules mean, one access at a time: the last that matches decides, and nothing is allowed by default.
    pub(crate) fn allowed(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let device = Pattern { kind, major: Some(major), minor: Some(minor) };
        let decides = |rule: &&Rule, bit| {
            rule.access & bit != 0 && rule.pattern.is_none_or(|pattern| pattern.covers(device))
        };
        let wanted = [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0);
        wanted
            .into_iter()
            .all(|bit| rules.iter().rfind(|rule| decides(rule, bit)).is_some_and(|rule| rule.allow))
    }

    /// What the kernel does with a version-1 list (its security/device_cgroup.c).
    fn by_exceptions(state: &Exceptions, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let device = Pattern { kind, major: Some(major), minor: Some(minor) };
        let mut of_device = state.list.iter().filter(|(pattern, _)| pattern.covers(device));
        match state.allow {
            true => of_device.all(|(_, denied)| denied & access == 0),
            false => of_device.any(|(_, allowed)| access & !allowed == 0),
        }
    }

    /// Few numbers, so that rules meet.
    pub(crate) fn any_rule(crossing: bool) -> impl Strategy<Value = Rule> {
        let number = || prop_oneof![Just(None), (0..3_u32).prop_map(Some), Just(Some(u32::MAX))];
        let kind = prop_oneof![Just(Kind::Block), Just(Kind::Char)];
        let pattern = (kind, number(), number()).prop_map(move |(kind, major, minor)| Pattern {
            kind,
            major,
            minor: minor.filter(|_| crossing || major.is_some()),
        });
        let some = (any::<bool>(), pattern, 1..=ALL);
        let some = some.prop_map(|(allow, pattern, access)| Rule { allow, pattern: Some(pattern), access });
        let all = any::<bool>().prop_map(|allow| Rule { allow, pattern: None, access: ALL });
        prop_oneof![9 => some, 1 => all]
    }

    pub(crate) fn any_device() -> impl Strategy<Value = (Kind, u32, u32)> {
        let number = || prop_oneof![0..4_u32, Just(u32::MAX)];
        (prop_oneof![Just(Kind::Block), Just(Kind::Char)], number(), number())
    }

    proptest! {
        #[test]
        fn what_version_1_can_say_means_what_the_rules_mean(
            rules in prop::collection::vec(any_rule(false), 0..12),
            (kind, major, minor) in any_device(),
            access in prop_oneof![Just(MKNOD), Just(READ), Just(WRITE), Just(READ | WRITE)],
        ) {
            if let Ok(state) = Exceptions::of(&rules) {
                let said = by_exceptions(&state, kind, major, minor, access);
                prop_assert_eq!(said, allowed(&rules, kind, major, minor, access), "{:?}", state);
            }
        }

        #[test]
        fn a_line_reads_back_as_it_was_written(rule in any_rule(true)) {
            if let Some(pattern) = rule.pattern {
                let line = Line(pattern, rule.access).to_string();
                prop_assert_eq!(parse_line(&line), Some((pattern, rule.access)), "{}", line);
            }
        }
    }

    fn given(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).expect("rules")
    }

    #[test]
    fn the_defaults_come_after_what_is_given() {
        let list = given(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"minor":-1,"access":"r"}]"#,
        );
        let rules = rules(&list).expect("rules");
        assert_eq!(rules[0], Rule { allow: false, pattern: None, access: ALL });
        assert_eq!(rules[1], allow(Kind::Block, Some(8), None, READ));
        assert_eq!(rules[2..], DEFAULTS);
        let state = Exceptions::of(&rules).expect("a list");
        let lines: Vec<String> =
            state.list.iter().map(|(pattern, access)| Line(*pattern, *access).to_string()).collect();
        assert_eq!(lines[..4], ["b 8:* r", "c *:* m", "b *:* m", "c 1:3 rwm"]);
    }

    #[test]
    fn what_two_rules_allow_together_is_allowed_at_once() {
        let rules = [allow(Kind::Char, Some(1), None, READ), allow(Kind::Char, Some(1), Some(11), WRITE)];
        let state = Exceptions::of(&rules).expect("a list");
        assert!(by_exceptions(&state, Kind::Char, 1, 11, READ | WRITE), "{state:?}");
        assert!(!by_exceptions(&state, Kind::Char, 1, 12, WRITE), "{state:?}");
    }

    #[test]
    fn a_rule_that_is_none_is_named() {
        for (json, why) in [
            (r#"[{"allow":true,"type":"c","major":1,"minor":3}]"#, "access is empty"),
            (r#"[{"allow":true,"type":"c","access":"rx"}]"#, "letters"),
            (r#"[{"allow":true,"type":"p","access":"r"}]"#, "type"),
            (r#"[{"allow":true,"type":"c","major":-2,"access":"r"}]"#, "-2"),
            (r#"[{"allow":true,"type":"c","major":4294967296,"access":"r"}]"#, "4294967296"),
        ] {
            let error = rules(&given(json)).expect_err(json).to_string();
            assert!(error.contains("devices[0]") && error.contains(why), "{json}: {error}");
        }
    }

    #[test]
    fn a_hole_in_a_wider_rule_is_refused_on_version_1() {
        let list = given(
            r#"[{"allow":true,"type":"c","major":1,"access":"rw"},{"allow":false,"type":"c","major":1,"minor":1,"access":"w"}]"#,
        );
        let error = Exceptions::of(&rules(&list).expect("rules")).expect_err("a hole").to_string();
        assert!(error.contains("c 1:1 w") && error.contains("c 1:* rw"), "{error}");
    }
}
