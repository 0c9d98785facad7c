//! Containers in their control groups, as engines configure them, on the hierarchies of this host.

use std::path::Path;

use serde_json::json;
use testkit::bundle::Bundle;

const LIMIT: &str = "50331648";

/// The files that tell the limits, of either version, in the directory that a hierarchy is mounted at.
const TELL: &str = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null; cat pids/pids.max pids.max 2>/dev/null; true";

/// Whether this host has hierarchies of version 1, whose mounts a container without a cgroup namespace sees its group at.
fn is_legacy() -> bool {
    Path::new("/sys/fs/cgroup/memory").is_dir()
}

fn limited(runtime: &str) -> Option<Bundle> {
    let mut bundle = Bundle::of(runtime)?;
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 50_331_648}, "pids": {"limit": 23}, "devices": [{"allow": false, "access": "rwm"}]});
    bundle.mounts().retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    bundle.mount("cgroup", Path::new("cgroup"), "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    bundle.without_namespace("cgroup");
    Some(bundle)
}

fn id_path(bundle: &Bundle, prefix: &str) -> String {
    format!("{prefix}{}", bundle.id())
}

#[test]
fn a_container_sees_its_own_limits_with_a_cgroup_namespace_and_without() {
    for runtime in ["oci-spawn", "runc"] {
        if runtime == "runc" && !testkit::probe::all(&[testkit::probe::Need::Program("runc")]) {
            return;
        }
        let Some(mut bundle) = limited(runtime) else { return };
        if is_legacy() {
            assert_eq!(bundle.prints(TELL), format!("{LIMIT}\n23\n"), "{runtime}, its own group");
            bundle.assert_nothing_left();
        }
        bundle.namespaces().push(json!({"type": "cgroup"}));
        assert_eq!(bundle.prints(TELL), format!("{LIMIT}\n23\n"), "{runtime}, the namespace's root");
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_container_cannot_write_to_a_read_only_view_of_its_groups() {
    let Some(mut bundle) = limited("oci-spawn") else { return };
    let script = "mkdir $(find /sys/fs/cgroup -type d | head -n 3)/x 2>&1 | grep -c 'Read-only'; \
                  find /sys/fs/cgroup -name cgroup.procs | head -n 1 | xargs -I @ sh -c 'echo 0 >@' 2>&1 | grep -c 'Read-only'";
    bundle.sh(script);
    let printed = bundle.run().text();
    assert!(printed.lines().count() == 2 && printed.lines().all(|count| count != "0"), "{printed}");
    bundle.assert_nothing_left();
}

#[test]
fn a_cgroups_path_that_climbs_stays_below_the_hierarchy() {
    for prefix in ["/../../../", "../../", "/a/../../../"] {
        let Some(mut bundle) = limited("oci-spawn") else { return };
        let path = id_path(&bundle, prefix);
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        bundle.args(&["sleep", "60"]);
        bundle.create().ok();
        let groups = bundle.groups();
        assert!(!groups.is_empty(), "{path}");
        for group in &groups {
            assert!(group.ends_with(bundle.id()), "{group:?}");
            assert!(group.starts_with("/sys/fs/cgroup"), "{group:?}");
        }
        bundle.verb(&["delete", "--force", bundle.id()]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn the_top_of_the_hierarchy_is_no_group_for_a_container() {
    let Some(mut bundle) = limited("oci-spawn") else { return };
    bundle.config["linux"]["cgroupsPath"] = json!("/..");
    bundle.args(&["true"]);
    let outcome = bundle.run();
    assert!(outcome.code != 0 && outcome.stderr.contains("top of the hierarchy"), "{outcome}");
    bundle.assert_nothing_left();
}

#[test]
fn a_limit_that_cannot_be_had_leaves_nothing_and_is_named() {
    let Some(mut bundle) = limited("oci-spawn") else { return };
    bundle.config["linux"]["resources"]["cpu"] = json!({"cpus": "9999"});
    bundle.args(&["true"]);
    let outcome = bundle.run();
    assert!(outcome.code != 0 && outcome.stderr.contains("linux.resources.cpu.cpus"), "{outcome}");
    bundle.assert_nothing_left();
}
