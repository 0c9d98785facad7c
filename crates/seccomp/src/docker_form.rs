//! Docker's form of a profile: rules that hold for some capabilities, machines and kernels, made into a filter for one container.
//!
//! Source: moby, profiles/seccomp/seccomp.go and seccomp_linux.go, release 28.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxSeccomp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::abi::Machine;
use crate::error::{Result, invalid};

/// A profile as it stands in a file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Value,
    default_errno_ret: Option<Value>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<Family>,
    #[serde(default)]
    flags: Vec<String>,
    listener_path: Option<Value>,
    listener_metadata: Option<Value>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

/// An architecture and those whose calls its kernel takes, too.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: Value,
    errno_ret: Option<Value>,
    #[serde(default)]
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Option<When>,
    #[serde(default)]
    excludes: Option<When>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct When {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Where a rule is to hold.
struct Place<'a> {
    capabilities: &'a HashSet<Capability>,
    arch: &'a str,
    kernel: (u32, u32),
}

/// Makes sure that a profile can become a filter.
///
/// # Errors
/// As [`from_docker`] and [`crate::compile`].
pub fn check_profile(profile: &Value) -> Result<()> {
    crate::compile(&from_docker(profile, &HashSet::new())?).map(|_| ())
}

/// The profile of a file, docker's form or the runtime specification's, for a container whose bounding set is `capabilities`.
///
/// # Errors
/// [`crate::Error::Invalid`] with what is wrong, [`crate::Error::Machine`] where this machine's calls are not known.
pub fn from_docker(profile: &Value, capabilities: &HashSet<Capability>) -> Result<LinuxSeccomp> {
    let machine = Machine::native()?;
    let (own, arch) = match machine {
        Machine::X86_64 => ("SCMP_ARCH_X86_64", "amd64"),
        Machine::Aarch64 => ("SCMP_ARCH_AARCH64", "arm64"),
    };
    let read: Profile = Profile::deserialize(profile).map_err(|e| invalid("profile", e.to_string()))?;
    let place = Place { capabilities, arch, kernel: crate::docker::kernel() };
    if !read.architectures.is_empty() && !read.arch_map.is_empty() {
        return Err(invalid("archMap", "architectures are listed as well"));
    }
    let mut architectures = read.architectures;
    for family in read.arch_map.into_iter().filter(|family| family.architecture == own) {
        architectures.push(family.architecture);
        architectures.extend(family.sub_architectures.unwrap_or_default());
    }
    let mut rules = Vec::new();
    for (at, rule) in read.syscalls.into_iter().enumerate() {
        rules.extend(one(rule, at, &place)?);
    }
    let mut made = json!({"defaultAction": read.default_action, "syscalls": rules});
    for (member, value) in [
        ("defaultErrnoRet", read.default_errno_ret),
        ("listenerPath", read.listener_path),
        ("listenerMetadata", read.listener_metadata),
        ("architectures", (!architectures.is_empty()).then(|| json!(architectures))),
        ("flags", (!read.flags.is_empty()).then(|| json!(read.flags))),
    ] {
        if let Some(value) = value {
            made[member] = value;
        }
    }
    serde_json::from_value(made).map_err(|e| invalid("profile", e.to_string()))
}

/// The runtime's form of a rule; none where it does not hold here.
fn one(rule: Rule, at: usize, place: &Place<'_>) -> Result<Option<Value>> {
    let member = || format!("syscalls[{at}]");
    let names = match (rule.name, rule.names.unwrap_or_default()) {
        (Some(name), names) if names.is_empty() && !name.is_empty() => vec![name],
        (None | Some(_), names) if names.is_empty() => return Err(invalid(member(), "it names no call")),
        (Some(name), _) if !name.is_empty() => return Err(invalid(member(), "it has name and names")),
        (_, names) => names,
    };
    let (includes, excludes) = (rule.includes.unwrap_or_default(), rule.excludes.unwrap_or_default());
    let wrong = |why: String| invalid(member(), why);
    let all = includes.every(place).map_err(wrong)?;
    let none = !excludes.any(place).map_err(wrong)?;
    if !all || !none {
        return Ok(None);
    }
    let mut made = json!({"names": names, "action": rule.action});
    if let Some(errno) = rule.errno_ret {
        made["errnoRet"] = errno;
    }
    if let Some(args) = rule.args.filter(|args| !args.is_empty()) {
        made["args"] = json!(args);
    }
    Ok(Some(made))
}

impl When {
    /// True where all that is said holds.
    fn every(&self, place: &Place<'_>) -> std::result::Result<bool, String> {
        let arches = self.arches.as_deref().unwrap_or_default();
        let caps = self.caps.as_deref().unwrap_or_default();
        let kernel = self.kernel()?.is_none_or(|least| place.kernel >= least);
        Ok(kernel && (arches.is_empty() || place.is_among(arches)) && caps.iter().all(|name| place.has(name)))
    }

    /// True where anything that is said holds.
    fn any(&self, place: &Place<'_>) -> std::result::Result<bool, String> {
        let kernel = self.kernel()?.is_some_and(|least| place.kernel >= least);
        let caps = self.caps.iter().flatten().any(|name| place.has(name));
        Ok(kernel || caps || place.is_among(self.arches.as_deref().unwrap_or_default()))
    }

    fn kernel(&self) -> std::result::Result<Option<(u32, u32)>, String> {
        let Some(text) = &self.min_kernel else { return Ok(None) };
        let parsed =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        parsed.map(Some).ok_or_else(|| format!("minKernel {text:?} is no version"))
    }
}

impl Place<'_> {
    fn is_among(&self, arches: &[String]) -> bool {
        arches.iter().any(|arch| arch == self.arch)
    }

    fn has(&self, name: &str) -> bool {
        let known = serde_json::from_value::<Capability>(name.into());
        known.is_ok_and(|capability| self.capabilities.contains(&capability))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &Value, capabilities: &[Capability]) -> Vec<String> {
        let made = from_docker(profile, &capabilities.iter().copied().collect()).expect("a profile");
        made.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_hold_for_capabilities_machines_and_kernels() {
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
            {"name": "write", "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["umount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["old"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "2.6"}},
            {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            {"names": ["here"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "arm64"]}},
        ]});
        assert_eq!(names(&profile, &[]), ["read", "write", "umount", "old", "here"]);
        assert_eq!(names(&profile, &[Capability::SysAdmin]), ["read", "write", "mount", "old", "here"]);
        let made = from_docker(&profile, &HashSet::new()).expect("a profile");
        assert!(made.architectures().as_ref().is_some_and(|list| !list.is_empty()));
        assert_eq!(made.default_errno_ret(), Some(1));
    }

    #[test]
    fn what_is_no_profile_is_refused_with_its_place() {
        for (profile, place) in [
            (json!({}), "defaultAction"),
            (json!([]), "profile"),
            (json!({"defaultAction": "SCMP_ACT_NONSENSE"}), "profile"),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}),
                "syscalls[0]",
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "x"}]}),
                "archMap",
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
                [{"name": "read", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}]}),
                "syscalls[0]",
            ),
        ] {
            let error = check_profile(&profile).expect_err("no profile").to_string();
            assert!(error.contains(place), "{error}");
        }
    }
}
