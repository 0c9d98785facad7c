//! c08: capabilities (CVE-2022-29162, CVE-2025-27612). c09: users (CVE-2024-40635, CVE-2026-30892, CVE-2022-2995).
//! c11: control groups (CVE-2023-25809). c12: words of the image that would loosen the sandbox (CVE-2024-3154,
//! CVE-2026-94603).

use serde_json::json;
use testkit::Bundle;
use testkit::bundle::DOCKERS;

const NONE: u64 = 0;
const DOCKER: u64 = 0xa804_25fb;

/// The five sets as a shell in the container sees them.
fn sets(text: &str) -> Vec<u64> {
    let words = text.lines().filter(|line| line.starts_with("Cap"));
    words.filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()).collect()
}

#[test]
fn c08_capability_sets_of_run_and_exec_are_exactly_the_configured_ones() {
    let Some(mut bundle) = Bundle::new() else { return };
    let two = json!(["CAP_KILL", "CAP_CHOWN"]);
    let kill = json!(["CAP_KILL"]);
    for (uid, capabilities, want) in [
        (
            0,
            json!({"bounding": DOCKERS, "permitted": DOCKERS, "effective": DOCKERS}),
            [NONE, DOCKER, DOCKER, DOCKER, NONE],
        ),
        (
            1000,
            json!({"bounding": DOCKERS, "permitted": DOCKERS, "effective": DOCKERS}),
            [NONE, NONE, NONE, DOCKER, NONE],
        ),
        (0, json!({}), [NONE; 5]),
        (1000, json!({}), [NONE; 5]),
        (0, json!({"bounding": two, "permitted": two, "effective": kill}), [NONE, 0x21, 0x21, 0x21, NONE]),
        (
            1000,
            json!({"bounding": two, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill}),
            [0x20, 0x20, 0x20, 0x21, 0x20],
        ),
    ] {
        bundle.config["process"]["user"] = json!({"uid": uid, "gid": uid});
        bundle.config["process"]["capabilities"] = capabilities.clone();
        let seen = bundle.prints("cat /proc/self/status");
        assert_eq!(sets(&seen), want, "run {uid} {capabilities}");
        bundle.args(&["sleep", "100"]);
        bundle.create().ok();
        bundle.start().ok();
        let id = bundle.id().to_owned();
        let seen = bundle.verb(&["exec", &id, "cat", "/proc/self/status"]).ok().text();
        assert_eq!(sets(&seen), want, "exec {uid} {capabilities}");
        bundle.verb(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn c08_a_file_with_inheritable_capabilities_gives_none() {
    testkit::needs!(Program("setcap"));
    let Some(mut bundle) = Bundle::new() else { return };
    let file = bundle.root().join("bin/capable");
    testkit::copy_program("/bin/busybox", &file);
    std::os::unix::fs::symlink("capable", bundle.root().join("bin/x")).expect("symlink");
    let mut command = bundle.world().command("setcap");
    command.arg("cap_net_raw,cap_sys_admin+ei").arg(&file);
    bundle.finish(command).ok();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    // busybox under a name that it does not have does what its first argument says.
    bundle.args(&["/bin/capable", "cat", "/proc/self/status"]);
    let said = bundle.run();
    assert!(said.code != 0 || sets(&said.text())[..3] == [NONE, NONE, NONE], "{said}");
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    let id = bundle.id().to_owned();
    let said = bundle.verb(&["exec", "-u", "1000:1000", &id, "/bin/capable", "cat", "/proc/self/status"]);
    assert!(said.code != 0 || sets(&said.text())[..3] == [NONE, NONE, NONE], "{said}");
}

#[test]
fn c09_a_number_is_never_taken_for_a_name_and_never_becomes_root() {
    let Some(mut bundle) = Bundle::new() else { return };
    // Names that are numbers, each of root.
    let passwd: String = ["1000", "4294967296", "99999999999", "-1", "0x0", "2147483648", "root"]
        .map(|name| format!("{name}:x:0:0::/:/bin/sh\n"))
        .concat();
    std::fs::write(bundle.root().join("etc/passwd"), passwd).expect("write");
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    let id = bundle.id().to_owned();
    for (user, wanted) in [
        ("0", Some("0")),
        ("1", Some("1")),
        ("1:1", Some("1")),
        ("1000", Some("1000")),
        ("65534", Some("65534")),
        ("2147483647", Some("2147483647")),
        ("2147483648", Some("2147483648")),
        ("4294967294", Some("4294967294")),
        ("4294967295", None),
        ("4294967296", None),
        ("99999999999", None),
        ("-1", None),
        ("0x0", None),
        ("1000:", None),
        (":5", None),
        ("1:-1", None),
        ("1:4294967295", None),
        ("", None),
    ] {
        let said = bundle.verb(&["exec", &format!("--user={user}"), &id, "id", "-u"]);
        match wanted {
            Some(uid) if said.code == 0 => assert_eq!(said.text(), format!("{uid}\n"), "{user}"),
            _ => assert!(
                said.code != 0 || (user != "0" && said.text() != "0\n") || user.is_empty(),
                "{user}: {said}"
            ),
        }
    }
}

#[test]
fn c09_ids_that_are_none_are_refused_in_every_configuration() {
    let Some(mut bundle) = Bundle::new() else { return };
    for user in [
        json!({"uid": 4_294_967_295_u32, "gid": 0}),
        json!({"uid": 0, "gid": 4_294_967_295_u32}),
        json!({"uid": 0, "gid": 0, "additionalGids": [4_294_967_295_u32]}),
        json!({"uid": 4_294_967_296_u64, "gid": 0}),
    ] {
        bundle.config["process"]["user"] = user.clone();
        bundle.create().fails(1);
        bundle.assert_nothing_left();
    }
    bundle.config["process"]["user"] = json!({"uid": 0, "gid": 0});
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    let id = bundle.id().to_owned();
    for user in [
        json!({"uid": 4_294_967_295_u32, "gid": 0}),
        json!({"uid": 0, "gid": 0, "additionalGids": [4_294_967_295_u32]}),
    ] {
        let file = bundle.path("process.json");
        std::fs::write(&file, json!({"cwd": "/", "args": ["id", "-u"], "user": user}).to_string())
            .expect("write");
        let said = bundle.verb(&["exec", "-p", &file.display().to_string(), &id]);
        assert!(said.code != 0 && said.stdout.is_empty(), "{user}: {said}");
    }
}

#[test]
fn c09_the_groups_are_the_listed_ones_and_none_of_the_callers() {
    let Some(mut bundle) = Bundle::new() else { return };
    for (listed, groups) in [(json!([5, 7]), "5 7"), (json!([]), ""), (json!([7, 1001]), "7 1001")] {
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": listed});
        let seen = bundle.prints("grep Groups /proc/self/status | cut -f2");
        assert_eq!(seen.trim(), groups);
        bundle.args(&["sleep", "100"]);
        bundle.create().ok();
        bundle.start().ok();
        let id = bundle.id().to_owned();
        let seen =
            bundle.verb(&["exec", &id, "sh", "-c", "grep Groups /proc/self/status | cut -f2"]).ok().text();
        assert_eq!(seen.trim(), groups, "exec");
        bundle.verb(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn c11_a_cgroups_path_leads_nowhere_else() {
    let Some(mut bundle) = Bundle::new() else { return };
    for path in ["/../../outside", "../../outside", "/..", "/a/../../..", "a/./../../x"] {
        let path = format!("{path}/{}", bundle.id());
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        let said = bundle.create();
        if said.code == 0 {
            let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).expect("procfs");
            assert!(!groups.contains(".."), "{path}: {groups}");
        }
        bundle.verb(&["delete", "--force", bundle.id()]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn c11_control_groups_are_not_writable_and_exec_is_in_the_same() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.mounts().push(json!({"type": "cgroup", "source": "cgroup", "destination": "/sys/fs/cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}));
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    let id = bundle.id().to_owned();
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/own 2>/dev/null && echo made $d; \
                  echo 1 2>/dev/null >$d/cgroup.procs && echo wrote $d; done; cat /proc/self/cgroup";
    let said = bundle.verb(&["exec", &id, "sh", "-c", script]).ok();
    assert!(!said.text().contains("made ") && !said.text().contains("wrote "), "{said}");
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).expect("procfs");
    let pid = bundle.path("exec.pid");
    bundle.verb(&["exec", "-d", "--pid-file", &pid.display().to_string(), &id, "sleep", "50"]).ok();
    let pid = std::fs::read_to_string(pid).expect("a pid");
    let seen = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).expect("procfs");
    assert_eq!(seen, own);
}

#[test]
fn c12_annotations_change_nothing() {
    let Some(mut bundle) = Bundle::new() else { return };
    let script = "cut -d' ' -f4- /proc/self/mountinfo | sed 's/t[0-9]*-[0-9]*//g'; grep -E 'Cap|NoNew|Seccomp|Uid|Gid|Groups' /proc/self/status; ls /dev; hostname";
    let before = bundle.prints(script);
    bundle.config["annotations"] = json!({
        "run.oci.keep_original_groups": "1", "run.oci.hooks.stdout": "/tmp/x", "run.oci.handler": "krun",
        "run.oci.mount_context_type": "rootcontext", "run.oci.delegate-cgroup": "/x", "run.oci.seccomp_fail_unknown_syscall": "1",
        "org.systemd.property.TimeoutStopUSec": "uint64 1", "org.systemd.property.DeviceAllow": "[]",
        "io.podman.annotations.privileged": "TRUE", "io.containers.seccomp.profile": "unconfined",
        "io.kubernetes.cri-o.Devices": "/dev/kmsg", "cdi.k8s.io/x": "vendor.com/class=all", "io.kubernetes.cri-o.userns-mode": "host",
    });
    assert_eq!(bundle.prints(script), before);
}

#[test]
fn c12_sysctls_carry_nothing_else() {
    let Some(mut bundle) = Bundle::new() else { return };
    for (name, value) in [
        ("net.ipv4.ip_forward", "1+kernel.core_pattern=x"),
        ("net.ipv4.ip_forward=1\nkernel.panic", "1"),
        ("../../etc/x", "1"),
        ("net/../kernel/panic", "1"),
        ("net.ipv4/../../kernel.panic", "1"),
    ] {
        let panic = std::fs::read_to_string("/proc/sys/kernel/panic").expect("procfs");
        bundle.config["linux"]["sysctl"] = json!({name: value});
        bundle.create().fails(1);
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/panic").expect("procfs"), panic);
        bundle.assert_nothing_left();
    }
}
