//! Containers that would not end, and users that would have root believe them. Needs root.

mod bundle;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use bundle::{Bundle, said, text};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

/// A container that may make groups of its own does not escape its end by freezing one (version 1: on version 2 what is frozen
/// can be killed).
#[test]
fn a_container_that_has_frozen_itself_in_a_group_of_its_own_is_killed_and_deleted() {
    if !std::path::Path::new("/sys/fs/cgroup/freezer").exists() {
        testkit::skip("needs the freezer controller of version 1");
        return;
    }
    let script = "cd /sys/fs/cgroup/freezer && mkdir below && echo $$ >below/cgroup.procs && touch /ready && \
        echo FROZEN >below/freezer.state; exec sleep 1000";
    for words in [&["kill", "KILL"][..], &["kill", "--all", "KILL"], &["delete", "--force"]] {
        let Some(mut bundle) = Bundle::new(script) else { return };
        bundle.privileged();
        bundle.namespace("cgroup", None).mount("/sys", "sysfs", "sysfs", &["ro"]);
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
        let pid = bundle.start();
        let state = || fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while !(bundle.at("rootfs/ready").exists() && state().contains("refrigerator")) {
            assert!(Instant::now() < deadline, "never frozen: {}", state());
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut line = vec![words[0]];
        line.extend(words[1..].iter().filter(|word| word.starts_with('-')));
        line.push(&bundle.id);
        line.extend(words[1..].iter().filter(|word| !word.starts_with('-')));
        let output = bundle.verb(&line);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        if words[0] == "kill" {
            bundle.wait_for("stopped");
            bundle.delete();
        }
        assert_eq!(bundle.leftovers(), Vec::<String>::new(), "{words:?}");
    }
}

/// In a state root that others may write to, as `/tmp` is, a directory of theirs is no container: its hooks would be run.
#[test]
fn a_container_that_another_user_has_made_up_is_not_believed() {
    let Some(bundle) = Bundle::new("true") else { return };
    let (forged, proof) = (bundle.state_root().join("forged"), bundle.at("proof"));
    fs::create_dir_all(&forged).expect("mkdir");
    let record = json!({"id": "forged", "bundle": "/", "rootfs": "/", "created": "x", "owner": 0, "grouped": true,
        "group": {"version": "v1", "places": [], "driver": "fs", "rootless": false, "implied": false},
        "hooks": {"poststop": [{"path": "/bin/touch", "args": ["touch", proof]}]}});
    fs::write(forged.join("state.json"), record.to_string()).expect("state.json");
    let owned = Command::new("chown").args(["-R", "4242"]).arg(&forged).status();
    assert!(owned.expect("chown").success());
    for verb in [&["delete", "--force", "forged"][..], &["state", "forged"], &["delete", "forged"]] {
        let output = bundle.verb(verb);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(text(&output.stderr).contains("belongs to user 4242"), "{}", said(&output));
    }
    let list = bundle.verb(&["list", "--quiet"]);
    assert!(list.status.success() && list.stdout.is_empty(), "{}", said(&list));
    assert!(!proof.exists(), "its hook was run");
    fs::remove_dir_all(forged).expect("rm");
}
