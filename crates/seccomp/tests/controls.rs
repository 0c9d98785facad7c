//! The holes that this crate closes are open elsewhere: the positive controls of `kernel.rs`, with Debian's runc and its
//! libseccomp.
#![cfg(target_arch = "x86_64")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::{Calls, needs};

const EPERM: i64 = -1;

/// A bundle whose process is the program alone, under this profile.
fn bundle(directory: &Path, calls: Calls, profile: &Value) {
    let root = directory.join("rootfs");
    std::fs::create_dir_all(root.join("proc")).expect("a root");
    std::fs::write(root.join("calls"), calls.program()).expect("write");
    std::fs::set_permissions(root.join("calls"), PermissionsExt::from_mode(0o755)).expect("chmod");
    let namespaces = ["mount", "pid", "uts", "ipc"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["/calls"], "cwd": "/", "noNewPrivileges": true,
            "capabilities": {"bounding": []}
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": namespaces, "seccomp": profile}
    });
    std::fs::write(directory.join("config.json"), config.to_string()).expect("write");
}

#[test]
fn an_upper_half_takes_an_int_past_runcs_filter() {
    needs!(Root, Program("runc"));
    let directory = tempfile::tempdir().expect("a directory");
    let family = |value: u64| json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"});
    let refused = |value| json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [family(value)]});
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused(38), refused(40)]});
    let families = [38, 0x1_0000_0026, 40, 0x1_0000_0028];
    let calls = families.iter().fold(Calls::new(), |calls, family| calls.call(41, &[*family, 1, 0]));
    bundle(directory.path(), calls, &profile);
    let state = directory.path().join("state");
    let id = format!("ocipipe-control-{}", std::process::id());
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(state).args(["run", "-b"]).arg(directory.path()).arg(id);
    let output = runc.output().expect("runc");
    let results = Calls::results(&output.stdout);
    assert!(results.len() == 4, "{output:?}");
    assert_eq!((results[0], results[2]), (EPERM, EPERM), "the plain numbers are refused");
    assert!(results[1] != EPERM && results[3] != EPERM, "the others are not: {results:?}");
}
