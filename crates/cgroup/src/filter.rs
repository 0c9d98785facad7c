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
        Ok(state)
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
