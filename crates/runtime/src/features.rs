//! What this runtime can do (runtime-spec 1.2, features.md).
//!
//! Nothing is listed by hand that the code could be asked: an option, a namespace or a member is a feature where planning a
//! container with it is not refused.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::hooks::HookKind;
use crate::lifecycle::SPECIFICATION;
use crate::options::Options;
use crate::{capability, plan};

/// The words of mount options that have a meaning of their own (runtime-spec 1.2, "Linux mount options", and runc's).
const OPTIONS: &[&str] = &[
    "acl",
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noacl",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// The document that `features` prints, without annotations.
pub fn features() -> Value {
    let by_systemd = asks_systemd();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": HookKind::ALL.map(HookKind::name),
        "mountOptions": OPTIONS.iter().filter(|word| is_option(word)).collect::<Vec<_>>(),
        "linux": {
            "namespaces": NAMESPACES.iter().filter(|kind| plan::makes(kind)).collect::<Vec<_>>(),
            "capabilities": capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>(),
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": by_systemd,
                "systemdUser": by_systemd,
                "rdma": true,
            },
            "seccomp": {
                "enabled": true,
                "actions": seccomp::ACTIONS,
                "operators": seccomp::OPERATORS,
                "archs": seccomp::ARCHITECTURES,
                "knownFlags": seccomp::FLAGS,
                "supportedFlags": seccomp::supported_flags(),
            },
            "apparmor": {"enabled": gives(&json!({"apparmorProfile": "x"}))},
            "selinux": {"enabled": gives(&json!({"selinuxLabel": "x"}))},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "mountExtensions": {"idmap": {"enabled": is_option("idmap")}},
            "netDevices": {"enabled": takes(&json!({"linux": {"netDevices": {"x": {}}}}))},
        },
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

/// The namespaces of the specification.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// True for a word that is no parameter handed through to a file system.
fn is_option(word: &str) -> bool {
    Options::knows(word)
}

/// True where a member of the process is understood.
fn gives(member: &Value) -> bool {
    let mut process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}});
    merge(&mut process, member);
    takes(&json!({"process": process}))
}

/// True where a member of the configuration is understood.
fn takes(member: &Value) -> bool {
    let mut config = json!({"ociVersion": SPECIFICATION});
    merge(&mut config, member);
    crate::typed::<Spec>(&config).is_ok()
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

fn asks_systemd() -> bool {
    let path = Some(std::path::Path::new("system.slice:a:b"));
    let request = cgroup::Request { id: "x", path, driver: cgroup::Driver::Systemd, rootless: false };
    !matches!(cgroup::Group::plan(&request), Err(cgroup::Error::NoGroup { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_refused_is_a_feature() {
        assert!(is_option("ro") && is_option("rbind") && !is_option("size=1k") && !is_option("nonsense"));
        assert!(takes(&json!({"hostname": "x"})) && !takes(&json!({"hostname": 1})));
        assert!(plan::makes("pid") && !plan::makes("nonsense"));
    }

    #[test]
    fn the_document_has_the_members_that_the_specification_types() {
        let features: oci_spec::runtime::Features = serde_json::from_value(features()).expect("its type");
        let linux = features.linux().as_ref().expect("Linux");
        assert_eq!(linux.seccomp().as_ref().and_then(|seccomp| *seccomp.enabled()), Some(true));
        assert_eq!(features.hooks().as_ref().map(Vec::len), Some(6));
    }
}
