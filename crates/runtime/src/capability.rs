//! Capability names and numbers (capabilities(7), linux/capability.h), and which of them a process can be given.

use std::collections::BTreeSet;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxNamespaceType, Spec};
use rustix::thread::CapabilitySet;
use serde_json::Value;
use sys::Call;

use crate::error::{Error, Result};

/// The names without `CAP_`, by number.
pub(crate) const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability, named with or without `CAP_`.
pub(crate) fn number(name: &str) -> Option<u32> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    let position = NAMES.iter().position(|known| *known == name)?;
    u32::try_from(position).ok()
}

/// The members of `process.capabilities`.
const SETS: [&str; 5] = ["bounding", "effective", "inheritable", "permitted", "ambient"];

/// Takes the capabilities that nobody knows out of a configuration; the warning names them.
///
/// They "MUST be logged as a warning", and the runtime "SHOULD NOT fail" (runtime-spec 1.2, "Linux Process").
pub(crate) fn drop_unknown(config: &mut Value) -> Option<String> {
    let mut unknown = BTreeSet::new();
    for set in SETS {
        let Some(Value::Array(names)) = config.pointer_mut(&format!("/process/capabilities/{set}")) else {
            continue;
        };
        names.retain(|name| {
            let is_known = name.as_str().is_none_or(|name| number(name).is_some());
            if !is_known {
                unknown.extend(name.as_str().map(str::to_string));
            }
            is_known
        });
    }
    ignored(&unknown)
}

/// Takes out of a configuration the capabilities that this runtime has not got itself, and the ambient ones that are not
/// both permitted and inheritable, as prctl(2) asks; the warnings name them, but for what is merely not inheritable. In a user namespace of its own a process has all.
///
/// # Errors
/// [`Error::Invalid`] for inheritable ones beyond the bounding set: the kernel refuses them whoever asks (capset(2)).
pub(crate) fn keep_grantable(spec: &mut Spec) -> Result<Vec<String>> {
    let spaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
    let own = if spaces.iter().any(|space| space.typ() == LinuxNamespaceType::User) {
        CapabilitySet::all()
    } else {
        rustix::thread::capabilities(None).call("capget", String::new)?.permitted
    };
    let Some(process) = spec.process_mut() else { return Ok(Vec::new()) };
    let Some(mut wanted) = process.capabilities().clone() else { return Ok(Vec::new()) };
    let warnings = grantable(&mut wanted, own)?;
    process.set_capabilities(Some(wanted));
    Ok(warnings)
}

fn grantable(wanted: &mut LinuxCapabilities, own: CapabilitySet) -> Result<Vec<String>> {
    let mut dropped = BTreeSet::new();
    let mut keep = |names: &Option<Capabilities>, allowed: &dyn Fn(Capability) -> bool| {
        names.as_ref().map(|names| {
            let (kept, rest): (Capabilities, Capabilities) = names.iter().partition(|name| allowed(**name));
            dropped.extend(rest.iter().map(full_name));
            kept
        })
    };
    let has = |name: Capability| {
        number(&name.to_string()).is_some_and(|bit| own.contains(CapabilitySet::from_bits_retain(1 << bit)))
    };
    let bounding = keep(wanted.bounding(), &has);
    let permitted = keep(wanted.permitted(), &has);
    let effective = keep(wanted.effective(), &has);
    let inheritable = keep(wanted.inheritable(), &has);
    let is_in = |set: &Option<Capabilities>, name| set.as_ref().is_some_and(|names| names.contains(&name));
    let mut ambient = keep(wanted.ambient(), &|name| is_in(&permitted, name));
    // buildah asks for ambient ones in every container and for no inheritable one: a warning each time would tell nobody anything.
    if let Some(ambient) = &mut ambient {
        ambient.retain(|name| is_in(&inheritable, *name));
    }
    if let Some(name) = inheritable.iter().flatten().find(|name| !is_in(&bounding, **name)) {
        let why = format!("{} is not in the bounding set: operation not permitted", full_name(name));
        return Err(Error::Invalid { member: "process.capabilities.inheritable".into(), why });
    }
    wanted.set_bounding(bounding).set_permitted(permitted).set_effective(effective);
    wanted.set_inheritable(inheritable).set_ambient(ambient);
    Ok(ignored(&dropped).into_iter().collect())
}

fn full_name(name: &Capability) -> String {
    let name = name.to_string();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// In runc's words, which callers may look for.
fn ignored(names: &BTreeSet<String>) -> Option<String> {
    let list: Vec<_> = names.iter().map(String::as_str).collect();
    let words = || format!("ignoring unknown or unavailable capabilities: [{}]", list.join(" "));
    (!names.is_empty()).then(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_capabilities_are_taken_out_of_every_set_and_named_once() {
        let mut config = json!({"process": {"capabilities": {
            "bounding": ["CAP_KILL", "TEST_CAP"], "ambient": ["TEST_CAP", "CAP_NEW"], "effective": []
        }}});
        let warning = drop_unknown(&mut config).expect("a warning");
        assert_eq!(warning, "ignoring unknown or unavailable capabilities: [CAP_NEW TEST_CAP]");
        assert_eq!(
            config["process"]["capabilities"],
            json!({"bounding": ["CAP_KILL"], "ambient": [], "effective": []})
        );
        assert_eq!(drop_unknown(&mut json!({"process": {"capabilities": {"bounding": ["CAP_KILL"]}}})), None);
        assert_eq!(drop_unknown(&mut json!({})), None);
    }

    #[test]
    fn what_cannot_be_granted_is_a_warning_and_what_contradicts_itself_an_error() {
        let sets = |value| serde_json::from_value::<LinuxCapabilities>(value).expect("capabilities");
        let kill = CapabilitySet::KILL | CapabilitySet::CHOWN;
        let mut wanted = sets(json!({
            "bounding": ["CAP_KILL", "CAP_BPF"], "permitted": ["CAP_KILL", "CAP_BPF"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]
        }));
        let warnings = grantable(&mut wanted, kill).expect("no error");
        assert_eq!(warnings, ["ignoring unknown or unavailable capabilities: [CAP_BPF CAP_CHOWN]"]);
        let only = Some(Capabilities::from([Capability::Kill]));
        assert_eq!([wanted.bounding(), wanted.permitted(), wanted.ambient()], [&only; 3]);
        let mut wanted = sets(json!({
            "bounding": [], "permitted": [], "effective": [], "inheritable": ["CAP_KILL"], "ambient": []
        }));
        let error = grantable(&mut wanted, kill).expect_err("a contradiction").to_string();
        assert!(error.contains("CAP_KILL is not in the bounding set"), "{error}");
    }

    #[test]
    fn names_have_the_kernels_numbers() {
        for (name, want) in
            [("CAP_CHOWN", 0), ("SYS_ADMIN", 21), ("CAP_SETFCAP", 31), ("CHECKPOINT_RESTORE", 40)]
        {
            assert_eq!(number(name), Some(want), "{name}");
        }
        assert_eq!(number("CAP_NONSENSE"), None);
    }
}
