//! What the specification demands of a configuration by the letter and its types do not: members that are REQUIRED, values
//! that are invalid (runtime-spec 1.3, "Valid values"). Looked at once, before anything of a container exists.

use std::path::Path;

use oci_spec::runtime::{Linux, Process, Spec};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Result};
use crate::hooks::HookKind;

/// The members that must be there where their parents are; the types of the configuration give them defaults.
#[derive(Deserialize)]
struct Required {
    #[serde(rename = "root")]
    _root: Option<Root>,
    #[serde(rename = "process")]
    _process: Option<Part>,
    #[serde(rename = "linux")]
    _linux: Option<LinuxPart>,
}

#[derive(Deserialize)]
struct Root {
    #[serde(rename = "path")]
    _path: IgnoredAny,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "user")]
    _user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    #[serde(rename = "uid")]
    _uid: IgnoredAny,
    #[serde(rename = "gid")]
    _gid: IgnoredAny,
}

#[derive(Deserialize)]
struct LinuxPart {
    devices: Option<Vec<Device>>,
    #[serde(rename = "resources")]
    _resources: Option<Resources>,
    #[serde(rename = "uidMappings")]
    _uids: Option<Vec<Mapping>>,
    #[serde(rename = "gidMappings")]
    _gids: Option<Vec<Mapping>>,
}

#[derive(Deserialize)]
struct Mapping {
    #[serde(rename = "containerID")]
    _inside: IgnoredAny,
    #[serde(rename = "hostID")]
    _outside: IgnoredAny,
    #[serde(rename = "size")]
    _size: IgnoredAny,
}

#[derive(Deserialize)]
struct Device {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    major: Option<IgnoredAny>,
    minor: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(rename = "devices")]
    _devices: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "allow")]
    _allow: IgnoredAny,
}

/// Refuses a configuration that lacks a member, by its text.
///
/// # Errors
/// [`Error::Invalid`] with the member.
pub(crate) fn required(bytes: &[u8]) -> Result<()> {
    let lacking: Required =
        serde_json::from_slice(bytes).map_err(|e| invalid("config.json", e.to_string()))?;
    let devices = lacking._linux.and_then(|linux| linux.devices).unwrap_or_default();
    match devices.iter().find(|one| one.kind != "p" && (one.major.is_none() || one.minor.is_none())) {
        Some(one) => Err(invalid("linux.devices", format!("{:?} has no major and minor", one.path))),
        None => Ok(()),
    }
}

/// Refuses values that mean nothing.
///
/// # Errors
/// [`Error::Invalid`] with the member.
pub(crate) fn valid(spec: &Spec) -> Result<()> {
    if spec.annotations().as_ref().is_some_and(|all| all.contains_key("")) {
        return Err(invalid("annotations", "a key is empty".into()));
    }
    hooks(spec)?;
    if let Some(of) = spec.process() {
        process(of)?;
    }
    let none = Linux::default();
    linux(spec.linux().as_ref().unwrap_or(&none))
}

fn hooks(spec: &Spec) -> Result<()> {
    for kind in HookKind::ALL {
        for hook in kind.of(spec.hooks().as_ref()) {
            let member = format!("hooks.{}", kind.name());
            if !hook.path().is_absolute() {
                return Err(invalid(&member, format!("the path {:?} is not absolute", hook.path())));
            }
            if let Some(seconds) = hook.timeout().filter(|&seconds| seconds <= 0) {
                return Err(invalid(
                    &member,
                    format!("the timeout {seconds} is no number of seconds above 0"),
                ));
            }
        }
    }
    Ok(())
}

/// Refuses a user whose ids are none; a further process may bring one of its own.
///
/// # Errors
/// [`Error::Invalid`] with the member.
pub(crate) fn user(process: &Process) -> Result<()> {
    // To the kernel the highest id means "no change".
    for (member, id) in
        [("process.user.uid", process.user().uid()), ("process.user.gid", process.user().gid())]
    {
        if id == u32::MAX {
            return Err(invalid(member, format!("{id} is no id")));
        }
    }
    if process.user().additional_gids().iter().flatten().any(|&gid| gid == u32::MAX) {
        return Err(invalid("process.user.additionalGids", format!("{} is no id", u32::MAX)));
    }
    Ok(())
}

fn process(process: &Process) -> Result<()> {
    absolute("process.cwd", process.cwd())?;
    user(process)
}

fn linux(linux: &Linux) -> Result<()> {
    for namespace in linux.namespaces().iter().flatten() {
        if let Some(path) = namespace.path() {
            absolute("linux.namespaces", path)?;
        }
    }
    for (member, paths) in
        [("linux.maskedPaths", linux.masked_paths()), ("linux.readonlyPaths", linux.readonly_paths())]
    {
        paths.iter().flatten().try_for_each(|path| absolute(member, Path::new(path)))?;
    }
    let orphan = linux
        .seccomp()
        .as_ref()
        .is_some_and(|one| one.listener_metadata().is_some() && one.listener_path().is_none());
    if orphan {
        return Err(invalid("linux.seccomp.listenerMetadata", "there is no listenerPath".into()));
    }
    Ok(())
}

fn absolute(member: &str, path: &Path) -> Result<()> {
    if path.is_absolute() { Ok(()) } else { Err(invalid(member, format!("{path:?} is not absolute"))) }
}

fn invalid(member: &str, why: String) -> Error {
    Error::Invalid { member: member.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn checked(value: &Value) -> Result<()> {
        required(value.to_string().as_bytes())?;
        valid(&serde_json::from_value(value.clone()).expect("a configuration"))
    }

    fn config() -> Value {
        json!({
            "ociVersion": "1.2.0", "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh"]},
            "linux": {"namespaces": [{"type": "uts"}, {"type": "mount"}]},
        })
    }

    #[test]
    fn each_demand_is_named_when_it_is_not_met() {
        checked(&config()).expect("a good one");
        for (place, value, words) in [
            ("/root", json!({}), "`path`"),
            ("/process/user", json!({"uid": 0}), "`gid`"),
            ("/process/user/uid", json!(u32::MAX), "process.user.uid"),
            ("/process/user/additionalGids", json!([u32::MAX]), "additionalGids"),
            ("/process/cwd", json!("tmp"), "process.cwd"),
            ("/annotations", json!({"": "x"}), "annotations"),
            ("/hooks", json!({"poststop": [{"path": "x"}]}), "hooks.poststop"),
            ("/hooks", json!({"poststart": [{"path": "/x", "timeout": 0}]}), "hooks.poststart"),
            ("/linux/namespaces", json!([{"type": "network", "path": "x"}]), "linux.namespaces"),
            ("/linux/maskedPaths", json!(["x"]), "linux.maskedPaths"),
            ("/linux/readonlyPaths", json!(["x"]), "linux.readonlyPaths"),
            ("/linux/devices", json!([{"type": "c", "path": "/dev/x", "major": 1}]), "/dev/x"),
            ("/linux/uidMappings", json!([{"containerID": 0, "size": 1}]), "`hostID`"),
            ("/linux/gidMappings", json!([{"containerID": 0, "hostID": 1}]), "`size`"),
            ("/linux/resources", json!({"devices": [{"access": "r"}]}), "`allow`"),
            (
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
                "listenerMetadata",
            ),
        ] {
            let mut config = config();
            let (parent, name) = place.rsplit_once('/').expect("a path");
            config.pointer_mut(parent).expect("a parent")[name] = value;
            let error = checked(&config).expect_err(place).to_string();
            assert!(error.contains(words), "{place}: {error}");
        }
    }
}
