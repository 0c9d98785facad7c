//! c05: devices and masks (CVE-2025-31133, CVE-2025-52565, CVE-2026-41579). c06: writes to procfs (CVE-2025-52881,
//! CVE-2019-16884).

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use testkit::{Bundle, Canary};

use crate::{control, rounds, trap};

/// Makes a path of the root a link to this.
fn link(bundle: &Bundle, name: &str, target: &Path) {
    let at = bundle.root().join(name);
    drop(std::fs::remove_dir(&at));
    symlink(target, at).expect("symlink");
}

fn without_dev(bundle: &mut Bundle) {
    bundle.mounts().retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
}

/// What an attack through a linked /dev leaves in an empty directory of the host, by another runtime.
fn devices_made_by(program: &str, version: &str) {
    let Some(mut bundle) = Bundle::new() else { return };
    let victim = bundle.path("victim");
    std::fs::create_dir(&victim).expect("mkdir");
    link(&bundle, "dev", &victim);
    without_dev(&mut bundle);
    let Some(said) = control(&bundle, program, version, ":") else { return };
    assert_ne!(std::fs::read_dir(&victim).expect("read").count(), 0, "{said}");
}

#[test]
fn c05_positive_control_runc_makes_devices_through_a_linked_dev() {
    devices_made_by("runc", "1.1.5");
}

#[test]
fn c05_positive_control_crun_makes_devices_through_a_linked_dev() {
    devices_made_by("crun", "1.8.1");
}

#[test]
fn c05_devices_are_never_made_through_a_linked_dev() {
    for with_mount in [false, true] {
        let Some((mut bundle, canary)) = trap() else { return };
        link(&bundle, "dev", canary.path());
        if !with_mount {
            without_dev(&mut bundle);
        }
        bundle.config["linux"]["devices"] =
            json!([{"type": "c", "path": "/dev/own", "major": 1, "minor": 3}]);
        bundle.sh("echo started");
        let said = bundle.run();
        canary.assert_alive();
        assert!(said.code == 0 || said.stderr.contains("/dev"), "{said}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn c05_null_console_pts_and_ptmx_that_are_links_are_replaced_not_followed() {
    testkit::needs!(Program("script"));
    for with_mount in [true, false] {
        let Some((mut bundle, canary)) = trap() else { return };
        for (name, target) in
            [("null", "f"), ("console", "new"), ("pts", "dir"), ("ptmx", "f"), ("shm", "dir"), ("tty", "f")]
        {
            symlink(canary.path().join(target), bundle.root().join("dev").join(name)).expect("symlink");
        }
        if !with_mount {
            without_dev(&mut bundle);
        }
        bundle.config["process"]["terminal"] = json!(true);
        bundle.sh("echo started");
        bundle.write();
        let states = bundle.states().display().to_string();
        let line = format!("oci-spawn --root {states} run -b {} {}", bundle.dir().display(), bundle.id());
        let mut command = bundle.world().command("script");
        command.args(["-qec", &line, "/dev/null"]);
        bundle.finish(command);
        canary.assert_alive();
        bundle.assert_nothing_left();
    }
}

#[test]
fn c05_a_null_device_that_is_another_file_masks_nothing() {
    let Some((mut bundle, canary)) = trap() else { return };
    let dev = bundle.path("dev");
    std::fs::create_dir(&dev).expect("mkdir");
    symlink(canary.path().join("f"), dev.join("null")).expect("symlink");
    std::fs::write(bundle.root().join("etc/target"), "secret").expect("write");
    without_dev(&mut bundle);
    bundle.mount("bind", &dev, "/dev", &["rbind"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/target"]);
    bundle.sh("echo pwned >/etc/target");
    bundle.run().fails(1).says("/dev/null");
    canary.assert_alive();
    assert_eq!(std::fs::read_to_string(bundle.root().join("etc/target")).expect("read"), "secret");
}

#[test]
fn c05_a_null_device_that_is_swapped_meanwhile_masks_or_refuses() {
    let Some((mut bundle, canary)) = trap() else { return };
    let dev = bundle.path("dev");
    std::fs::create_dir(&dev).expect("mkdir");
    // A real node and a link that take turns.
    let made = std::process::Command::new("mknod")
        .arg(dev.join("null"))
        .args(["c", "1", "3"])
        .status()
        .expect("mknod");
    assert!(made.success());
    symlink(canary.path().join("f"), dev.join("other")).expect("symlink");
    without_dev(&mut bundle);
    bundle.mount("bind", &dev, "/dev", &["rbind", "dev"]);
    std::fs::write(bundle.root().join("etc/target"), "secret").expect("write");
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/target"]);
    bundle.sh("cat /etc/target; echo pwned >>/etc/target; :");
    let count = rounds(100, 3_000);
    let mut started = 0;
    testkit::exchanging(&[(&dev.join("null"), &dev.join("other"))], || {
        for _ in 0..count {
            let said = bundle.run();
            started += usize::from(said.code == 0);
            assert!(!said.text().contains("secret") && !said.text().contains("canary"), "{said}");
        }
    });
    eprintln!("{started} of {count} started while /dev/null was swapped");
    canary.assert_alive();
    assert_eq!(std::fs::read_to_string(bundle.root().join("etc/target")).expect("read"), "secret");
}

/// A directory of the host that looks like a procfs.
fn fake_proc(bundle: &Bundle) -> Canary {
    let dir = bundle.path("fake");
    for name in
        ["self/attr/exec", "self/oom_score_adj", "1/oom_score_adj", "sys/net/ipv4/ip_forward", "self/uid_map"]
    {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(path, "fake").expect("write");
    }
    Canary::plant(&dir)
}

#[test]
fn c06_what_is_written_to_procfs_is_written_to_procfs_whatever_covers_proc() {
    for thread in [false, true] {
        let Some(mut bundle) = Bundle::new() else { return };
        let fake = fake_proc(&bundle);
        let source = fake.path().to_owned();
        if thread {
            // Beside the real one, which stays for the command.
            bundle.mount("bind", &source.join("self"), "/proc/self/attr", &["bind"]);
        } else {
            bundle.mounts().remove(0);
            bundle.mount("bind", &source, "/proc", &["bind"]);
        }
        bundle.config["linux"]["maskedPaths"] = json!([]);
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        bundle.config["process"]["oomScoreAdj"] = json!(321);
        bundle.args(&["sleep", "100"]);
        let said = bundle.create();
        fake.assert_alive();
        if said.code == 0 {
            let score =
                std::fs::read_to_string(format!("/proc/{}/oom_score_adj", bundle.pid())).expect("procfs");
            assert_eq!(score, "321\n");
        }
    }
}

#[test]
fn c06_a_file_of_procfs_bound_over_another_receives_nothing() {
    let Some(mut bundle) = Bundle::new() else { return };
    let place = "/proc/sys/net/ipv4/ip_default_ttl";
    let before = std::fs::read_to_string(place).expect("procfs");
    for target in ["/proc/self/oom_score_adj", "/proc/1/oom_score_adj", "/proc/thread-self/oom_score_adj"] {
        bundle.mounts().truncate(5);
        bundle.mount("bind", Path::new(place), target, &["bind"]);
        bundle.config["process"]["oomScoreAdj"] = json!(77);
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        bundle.args(&["sleep", "100"]);
        let said = bundle.create();
        assert_eq!(std::fs::read_to_string(place).expect("procfs"), before, "{said}");
        if said.code == 0 {
            let score =
                std::fs::read_to_string(format!("/proc/{}/oom_score_adj", bundle.pid())).expect("procfs");
            assert_eq!(score, "77\n", "{said}");
        }
        bundle.verb(&["delete", "--force", bundle.id()]).ok();
    }
}

#[test]
fn c06_a_proc_that_is_a_link_gets_no_sysctl() {
    let Some(mut bundle) = Bundle::new() else { return };
    let fake = fake_proc(&bundle);
    bundle.mounts().remove(0);
    link(&bundle, "proc", fake.path());
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    bundle.sh("echo started");
    bundle.run();
    fake.assert_alive();
}
