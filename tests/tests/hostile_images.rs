//! Images whose trees are traps for the one who mounts and starts them: nothing outside is read, made or changed.

use ocipipe_tests::Hub;
use serde_json::json;
use testkit::tar::{self, Member};
use testkit::{Canary, Image, Packing, fixtures, needs};

/// A canary, and a hub whose image has these members above the small system.
fn trap(members: impl Fn(&str) -> Vec<Member>, change: impl Fn(Image, &str) -> Image) -> (Canary, Hub) {
    let outside = tempfile::Builder::new().prefix("canary-").tempdir().expect("a temporary directory").keep();
    let canary = Canary::plant(&outside.join("canary"));
    let away = canary.path().display().to_string();
    let image = fixtures::busybox().layer(tar::archive(&members(&away)), Packing::Gzip);
    (canary, Hub::of(&change(image, &away)))
}

/// Runs a command in the trap; whatever the status, the canary lives and nothing is left.
fn spring(canary: &Canary, hub: &Hub, mount: &str, command: &str) -> testkit::Outcome {
    let script = format!("oci-pull $R | oci-unpack | oci-mount --rm {mount} | oci-spawn -- {command}");
    let outcome = hub.world.sh(&script);
    canary.assert_alive();
    hub.world.assert_nothing_left();
    outcome
}

/// Ends with the canary taken away.
fn bury(canary: &Canary) {
    let parent = canary.path().parent().expect("the canary has a cage");
    std::fs::remove_dir_all(parent).expect("the cage can be removed");
}

#[test]
fn mount_points_that_are_links_lead_nowhere() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    for name in ["proc", "sys", "dev", "mnt"] {
        let (canary, hub) = trap(|away| vec![tar::symlink(name, away)], |image, _| image);
        std::fs::create_dir(hub.world.path("volume")).expect("a folder");
        let volume = format!("-v {}:/mnt/new", hub.world.name("volume"));
        let outcome = spring(&canary, &hub, &volume, "cat /etc/os-release");
        assert!(outcome.code != 0 || outcome.text() == fixtures::OS_RELEASE, "{name}: {outcome}");
        bury(&canary);
    }
}

#[test]
fn devices_that_are_links_are_replaced_not_followed() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let members = |away: &str| {
        vec![
            tar::dir("dev"),
            tar::symlink("dev/null", format!("{away}/f")),
            tar::symlink("dev/console", format!("{away}/new")),
            tar::symlink("dev/pts", format!("{away}/dir")),
            tar::symlink("dev/shm", away),
        ]
    };
    let (canary, hub) = trap(members, |image, _| image);
    let outcome = spring(&canary, &hub, "", "stat -c %t:%T /dev/null").ok();
    assert_eq!(outcome.text(), "1:3\n");
    bury(&canary);
}

#[test]
fn helper_files_and_the_working_directory_stay_inside() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let members = |away: &str| {
        vec![
            tar::symlink("etc/hosts", format!("{away}/f")),
            tar::symlink("etc/resolv.conf", format!("{away}/new")),
            tar::symlink("etc/hostname", format!("{away}/new2")),
            tar::symlink("etc/mtab", format!("{away}/mtab")),
            tar::symlink("s", away),
        ]
    };
    let (canary, hub) = trap(members, |image, _| image.set("WorkingDir", json!("/s/made/here")));
    spring(&canary, &hub, "--net host --hostname x", "pwd");
    spring(&canary, &hub, "--net private", "pwd");
    bury(&canary);
}

#[test]
fn volumes_of_the_image_touch_nothing_outside() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let volumes = |image: Image, away: &str| {
        let up = format!("/../../../../..{away}");
        image.set("Volumes", json!({"/v": {}, up: {}, "/s/inner": {}}))
    };
    let (canary, hub) = trap(|away| vec![tar::symlink("s", away), tar::symlink("v", away)], volumes);
    spring(&canary, &hub, "", "true");
    bury(&canary);
}

#[test]
fn users_are_read_from_the_image_alone() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let cases: Vec<Vec<Member>> = vec![
        vec![tar::symlink("etc/passwd", "/../../../../../../etc/shadow")],
        vec![tar::fifo("etc/passwd"), tar::fifo("etc/group")],
        vec![tar::dir("etc/passwd")],
        vec![tar::file("etc/passwd", "x".repeat(4 << 20))],
        vec![tar::file("etc/passwd", "1000:x:0:0::/:/bin/sh\nbig:x:99999999999:0::/:/bin/sh\n")],
    ];
    for members in cases {
        let (canary, hub) = trap(|_| members.clone(), |image, _| image);
        let by_name = spring(&canary, &hub, "-u big", "id -u");
        assert_ne!(by_name.code, 0, "{members:.200?}: {by_name}");
        assert_eq!(by_name.text(), "");
        let by_number = spring(&canary, &hub, "-u 1000", "id -u");
        assert!(by_number.code != 0 || by_number.text() == "1000\n", "{by_number}");
        bury(&canary);
    }
}

#[test]
fn a_working_directory_in_proc_reaches_no_descriptor_of_the_host() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let (canary, hub) = trap(|_| vec![tar::symlink("w", "/proc/self/fd/9")], |image, _| image);
    let places = (3..12).map(|fd| format!("/proc/self/fd/{fd}")).chain(["/w".to_owned()]);
    for place in places {
        let script = format!(
            "oci-pull $R | oci-unpack | oci-mount --rm -w {place} \
             | oci-spawn -- sh -c 'ls /proc/self/fd | wc -l; pwd -P; cat ./canary/f ../canary/f 2>/dev/null' 9<{}",
            canary.path().parent().expect("a cage").display()
        );
        let outcome = hub.world.sh(&script);
        assert!(!outcome.text().contains("canary"), "{place}: {outcome}");
        canary.assert_alive();
    }
    let inherited = hub.world.sh(
        "oci-pull $R | oci-unpack | oci-mount --rm | oci-spawn -- sh -c 'ls /proc/self/fd' 9</etc 7>leak 5<&0",
    );
    assert_eq!(inherited.ok().text(), "0\n1\n2\n3\n", "the fourth is ls's own");
    bury(&canary);
}

#[test]
fn labels_of_an_image_do_not_change_the_configuration() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"), Program("jq"));
    let labels = json!({
        "run.oci.keep_original_groups": "1", "org.systemd.property.ExecStart": "x",
        "io.podman.annotations.privileged": "TRUE", "io.containers.seccomp.profile": "unconfined",
        "cdi.k8s.io/x": "vendor.com/device=all", "run.oci.handler": "krun"
    });
    let configs = [json!({}), labels].map(|labels| {
        let hub = Hub::of(&fixtures::busybox().set("Labels", labels));
        let line = hub.container(&["--name", "c", "--hostname", "h"]);
        let path = std::path::Path::new(&line.member("bundle")).join("config.json");
        let bytes = std::fs::read(path).expect("a bundle has its configuration");
        let mut config: serde_json::Value = serde_json::from_slice(&bytes).expect("it is JSON");
        config.as_object_mut().expect("an object").remove("annotations");
        config["root"]["path"] = json!("");
        config
            .to_string()
            .replace(&hub.world.store().display().to_string(), "STORE")
            .replace(&line.member("id"), "ID")
    });
    assert_eq!(configs[0], configs[1]);
}

#[test]
fn a_hostile_container_cannot_lead_commit_or_cp_outside() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let (canary, hub) = trap(|_| vec![tar::dir("d")], |image, _| image);
    let away = canary.path().display().to_string();
    let line = hub.container(&[]);
    hub.step(
        &line,
        &format!("rm -r /d; ln -s {away} /d; mkfifo /pipe; ln -s {away}/f /file; mknod /dev0 c 0 0 || true"),
    );
    hub.world.feed("oci-commit", &["--layer", "--tag", "x:1"], &line.stdout).ok();
    let flat = hub.world.feed("oci-commit", &["--tag", "x:2"], &line.stdout).ok();
    hub.world.feed("oci-unpack", &["--to", &hub.world.name("flat")], &flat.stdout).ok();
    assert_eq!(
        std::fs::read_link(hub.world.path("flat/file")).expect("a link stays one").display().to_string(),
        format!("{away}/f")
    );
    hub.world.feed("oci-cp", &[":/d", "out"], &line.stdout);
    let out = std::fs::symlink_metadata(hub.world.path("out"));
    assert!(!out.is_ok_and(|meta| meta.is_dir()), "a link was followed on the host");
    canary.assert_alive();
    bury(&canary);
}
