//! Containers under a system call filter: it is there whoever the user is, and asks nothing of a profile that the command
//! does not need.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::bundle::{Bundle, DOCKERS, text};
use oci_spec::runtime::Capability;
use serde_json::{Value, json};
use testkit::Calls;

const EPERM: i64 = -1;

fn docker_default() -> Value {
    let held = DOCKERS.iter().map(|name| serde_json::from_value(json!(name)).expect("a capability"));
    let held: HashSet<Capability> = held.collect();
    serde_json::to_value(seccomp::docker_default(&held)).expect("JSON")
}

/// The program of these calls, in the container's /bin.
fn install(bundle: &Bundle, calls: Calls) {
    let path = bundle.root().join("bin/calls");
    fs::write(&path, calls.program()).expect("write");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
}

#[test]
fn the_filter_is_there_and_the_rights_are_no_others_with_it() {
    let Some(mut bundle) = Bundle::new() else { return };
    install(&bundle, Calls::new().call(41, &[0x1_0000_0026, 5, 0]).call(272, &[0x1000_0000]).call(110, &[]));
    let status = "grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status";
    for user in [0, 1000] {
        for no_new_privileges in [false, true] {
            let what = format!("user {user}, noNewPrivileges {no_new_privileges}");
            bundle.config["process"]["user"] = json!({"uid": user, "gid": user});
            bundle.config["process"]["noNewPrivileges"] = no_new_privileges.into();
            bundle.config["linux"].as_object_mut().expect("linux").remove("seccomp");
            let without = bundle.stdout(&["sh", "-c", status]);
            assert!(without.contains("Seccomp:\t0"), "{what}: {without}");
            bundle.config["linux"]["seccomp"] = docker_default();
            let with = bundle.stdout(&["sh", "-c", status]);
            let filtered =
                without.replace("Seccomp:\t0", "Seccomp:\t2").replace("filters:\t0", "filters:\t1");
            assert_eq!(with, filtered, "{what}");
            let output = bundle.run(&["calls"]);
            assert_eq!(Calls::results(&output.stdout), [EPERM, EPERM, 0], "{what}: {output:?}");
        }
    }
}

#[test]
fn a_profile_need_not_allow_what_the_setup_does() {
    let Some(mut bundle) = Bundle::new() else { return };
    install(&bundle, Calls::new().call(39, &[]));
    for (no_new_privileges, extra) in [(true, &[][..]), (false, &["capset", "prctl"])] {
        let names = [&["execve", "write", "exit_group", "getpid"], extra].concat();
        bundle.config["process"]["noNewPrivileges"] = no_new_privileges.into();
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]
        });
        let output = bundle.run(&["calls"]);
        assert_eq!(Calls::results(&output.stdout), [1], "{no_new_privileges}: {output:?}");
    }
}

#[test]
fn a_command_that_the_filter_keeps_from_running_is_told_of() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["process"]["noNewPrivileges"] = true.into();
    let names = ["write", "exit_group"];
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    });
    let output = bundle.run(&["echo", "started"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(126), &b""[..]));
    assert!(text(&output.stderr).contains("operation not permitted"), "{output:?}");
}

#[test]
fn a_profile_that_is_wrong_is_refused_before_a_process_exists() {
    let Some(mut bundle) = Bundle::new() else { return };
    for (profile, words) in [
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp.defaultAction is wrong"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultErrnoRet is wrong",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]}),
            "linux.seccomp.syscalls[0].names is wrong: there is none",
        ),
    ] {
        bundle.config["linux"]["seccomp"] = profile;
        let output = bundle.run(&["echo", "started"]);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(125), &b""[..]));
        assert!(text(&output.stderr).contains(words), "{output:?}");
    }
}
