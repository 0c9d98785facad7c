//! c17: ids that are paths. c18: checkpoints (CVE-2026-115520). c19: what is deleted (CVE-2024-23652, CVE-2022-21658).

use std::os::unix::fs::symlink;

use testkit::{Bundle, Canary};

use crate::trap;

#[test]
fn c17_an_id_that_is_no_plain_name_is_refused_by_every_verb() {
    let Some(bundle) = Bundle::new() else { return };
    bundle.write();
    std::fs::create_dir(bundle.states()).expect("mkdir");
    let canary = Canary::plant(&bundle.path("canary"));
    std::fs::write(bundle.path("canary-state"), "").expect("write");
    let long = "x".repeat(300);
    for id in ["..", ".", "../canary", "a/b", "", &long, "a\tb", "/etc", "canary/../x", "\u{202e}x"] {
        for verb in [
            "create", "run", "start", "state", "kill", "delete", "exec", "ps", "pause", "resume", "update",
            "events",
        ] {
            let mut command = bundle.command(&[verb]);
            match verb {
                "create" | "run" => command.arg("-b").arg(bundle.dir()),
                "delete" => command.arg("--force"),
                _ => &mut command,
            };
            command.arg("--").arg(id);
            if verb == "exec" {
                command.arg("true");
            }
            let said = bundle.finish(command);
            assert_ne!(said.code, 0, "{verb} {id:?}: {said}");
        }
    }
    assert_eq!(std::fs::read_dir(bundle.states()).expect("read").count(), 0);
    canary.assert_alive();
}

#[test]
fn c18_checkpoint_and_restore_are_refused() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    let id = bundle.id().to_owned();
    for words in [
        &["checkpoint", &id][..],
        &["checkpoint", "--image-path", "/tmp/x", &id],
        &["restore", "--image-path", "/tmp/x", "other"],
    ] {
        bundle.verb(words).fails(1).says("not supported");
    }
    assert_eq!(bundle.status(), "running");
}

#[test]
fn c19_a_bundle_that_has_become_a_link_is_not_followed_by_delete() {
    let Some((mut bundle, canary)) = trap() else { return };
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    std::fs::rename(bundle.root(), bundle.path("moved")).expect("rename");
    symlink(canary.path(), bundle.root()).expect("symlink");
    bundle.verb(&["delete", "--force", bundle.id()]).ok();
    canary.assert_alive();
    assert!(bundle.path("moved/bin/busybox").exists());
    bundle.assert_nothing_left();
}

#[test]
fn c19_a_volume_left_mounted_in_the_root_survives() {
    let Some(mut bundle) = Bundle::new() else { return };
    let canary = Canary::plant(&bundle.path("volume"));
    bundle.args(&["sleep", "100"]);
    let point = bundle.root().join("mnt");
    let mut command = bundle.world().command("mount");
    command.arg("--bind").arg(canary.path()).arg(&point);
    bundle.finish(command).ok();
    bundle.create().ok();
    bundle.verb(&["delete", "--force", bundle.id()]).ok();
    let left = testkit::leftovers::mounts(bundle.dir());
    let mut command = bundle.world().command("umount");
    command.arg(&point);
    bundle.finish(command).ok();
    canary.assert_alive();
    assert_eq!(left.len(), 1, "who mounted it keeps it: {left:?}");
}

#[test]
fn c19_a_state_directory_with_links_in_it_is_removed_and_their_targets_are_not() {
    let Some((bundle, canary)) = trap() else { return };
    bundle.create().ok();
    let directory = bundle.states().join(bundle.id());
    symlink(canary.path(), directory.join("link")).expect("symlink");
    symlink(canary.path().join("f"), directory.join("file")).expect("symlink");
    bundle.verb(&["delete", "--force", bundle.id()]).ok();
    canary.assert_alive();
    bundle.assert_nothing_left();
}

#[test]
fn c19_a_state_that_is_a_link_is_no_container() {
    let Some((bundle, canary)) = trap() else { return };
    bundle.create().ok();
    symlink(bundle.states().join(bundle.id()), bundle.states().join("linked")).expect("symlink");
    symlink(canary.path(), bundle.states().join("other")).expect("symlink");
    for id in ["linked", "other"] {
        for verb in ["state", "start", "kill", "delete"] {
            let said = bundle.verb(&[verb, id]);
            assert_ne!(said.code, 0, "{said}");
        }
        bundle.verb(&["delete", "--force", id]);
    }
    canary.assert_alive();
    assert_eq!(bundle.status(), "created");
    for id in ["linked", "other"] {
        std::fs::remove_file(bundle.states().join(id)).expect("unlink");
    }
}

#[test]
fn c19_a_state_root_of_somebody_else_is_refused() {
    let Some(bundle) = Bundle::new() else { return };
    std::fs::create_dir(bundle.states()).expect("mkdir");
    std::os::unix::fs::chown(bundle.states(), Some(1000), Some(1000)).expect("chown");
    bundle.create().fails(1).says("1000");
    std::os::unix::fs::chown(bundle.states(), Some(0), Some(0)).expect("chown");
}
