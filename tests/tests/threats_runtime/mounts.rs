//! c03: targets of mounts (CVE-2021-30465, CVE-2019-16884, CVE-2019-18837). c04: their sources and the stubs made for them
//! (CVE-2024-45310, CVE-2024-1753). c07: files and directories made for the container (CVE-2026-55686).

use std::os::unix::fs::symlink;

use serde_json::json;
use testkit::{Bundle, leftovers};

use crate::{rounds, trap};

/// What the host has mounted.
fn host() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").expect("procfs")
}

/// Mounts of the host below a bundle.
fn below(bundle: &Bundle) -> Vec<String> {
    leftovers::mounts(bundle.dir())
}

#[test]
fn c03_targets_that_are_links_of_the_image_lead_nowhere() {
    for name in ["proc", "sys", "dev", "mnt", "dev/shm"] {
        let Some((mut bundle, canary)) = trap() else { return };
        let at = bundle.root().join(name);
        drop(std::fs::remove_dir(&at));
        symlink(canary.path(), &at).expect("symlink");
        bundle.mount("tmpfs", "tmpfs".as_ref(), "/mnt/new", &[]);
        bundle.sh("echo started");
        let said = bundle.run();
        canary.assert_alive();
        assert!(below(&bundle).is_empty(), "{name}: {said}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn c03_proc_that_is_a_link_is_refused() {
    for target in ["/tmp", "/etc", "tmp"] {
        let Some(mut bundle) = Bundle::new() else { return };
        std::fs::remove_dir(bundle.root().join("proc")).expect("rmdir");
        symlink(target, bundle.root().join("proc")).expect("symlink");
        bundle.sh("echo started");
        let said = bundle.run();
        // Were procfs anywhere else, whoever looks at /proc would look at what the image put there.
        assert!(said.code != 0 || !bundle.root().join("tmp/self").exists(), "{said}");
    }
}

/// Starts containers while the target's parent is swapped for a link to the canary; how many started.
fn race(read_only: bool, count: usize) -> Option<usize> {
    let (mut bundle, canary) = trap()?;
    let shared = bundle.path("shared");
    std::fs::create_dir_all(shared.join("a/b")).expect("mkdir");
    symlink(canary.path(), shared.join("link")).expect("symlink");
    let volume = bundle.path("volume");
    std::fs::create_dir(&volume).expect("mkdir");
    bundle.mount("bind", &shared, "/v", &["bind"]);
    bundle.mount("bind", &volume, "/v/a/dir", if read_only { &["bind", "ro"] } else { &["bind"] });
    bundle.sh("grep -q ' /v/a/dir ' /proc/mounts && touch /v/a/dir/written; :");
    bundle.write();
    let before = host();
    let started = testkit::exchanging(&[(&shared.join("a"), &shared.join("link"))], || {
        (0..count).filter(|_| bundle.run().code == 0).count()
    });
    canary.assert_alive();
    assert!(below(&bundle).is_empty());
    let paths = |text: &str| -> Vec<String> {
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
        points
            .filter(|point| point.contains("ocipipe-") && point.contains(&bundle.dir().display().to_string()))
            .collect()
    };
    assert_eq!(paths(&host()), paths(&before));
    if read_only {
        assert_eq!(std::fs::read_dir(&volume).expect("read").count(), 0, "a read-only mount was written");
    }
    bundle.assert_nothing_left();
    Some(started)
}

#[test]
fn c03_a_target_that_is_swapped_meanwhile_never_leads_outside() {
    let count = rounds(150, 5_000);
    let Some(started) = race(false, count) else { return };
    eprintln!("{started} of {count} started while their target was swapped");
    assert!(started > 0);
}

#[test]
fn c03_a_read_only_mount_whose_target_is_swapped_is_read_only_all_the_same() {
    let count = rounds(150, 5_000);
    let Some(started) = race(true, count) else { return };
    eprintln!("{started} of {count} started while their target was swapped");
    assert!(started > 0);
}

#[test]
fn c03_a_read_only_root_is_read_only_and_stays_it() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["root"]["readonly"] = json!(true);
    let script = "touch /x; mount -o remount,rw / ; mount -o remount,rw,bind /; touch /x; ls /x";
    bundle.sh(script);
    let said = bundle.run();
    assert!(said.code != 0 && !bundle.root().join("x").exists(), "{said}");
}

#[test]
fn c04_no_stub_is_made_through_a_link_of_the_image() {
    let Some((mut bundle, canary)) = trap() else { return };
    symlink(canary.path(), bundle.root().join("v")).expect("symlink");
    let volume = bundle.path("volume");
    std::fs::create_dir(&volume).expect("mkdir");
    let file = bundle.path("file");
    std::fs::write(&file, "of the host").expect("write");
    for (source, destination) in
        [(&volume, "/v/new"), (&file, "/v/newfile"), (&volume, "/v/dir/deep/er"), (&file, "/v/../../../v/x")]
    {
        bundle.mounts().truncate(5);
        bundle.mount("bind", source, destination, &["bind"]);
        bundle.sh("echo started");
        let said = bundle.run();
        canary.assert_alive();
        assert!(below(&bundle).is_empty(), "{destination}: {said}");
    }
}

#[test]
fn c04_a_source_is_the_configurations_and_no_name_of_the_image() {
    let Some((mut bundle, canary)) = trap() else { return };
    std::fs::create_dir(bundle.path("data")).expect("mkdir");
    symlink(canary.path(), bundle.root().join("data")).expect("symlink");
    // Relative to the bundle, never to the root.
    bundle.mount("bind", "data".as_ref(), "/d", &["bind"]);
    assert_eq!(bundle.prints("ls /d | wc -l"), "0\n");
    canary.assert_alive();
}

#[test]
fn c07_a_working_directory_is_never_made_outside() {
    for (link, place) in [("s", "/s/new"), ("s", "/s"), ("s", "/s/dir/x/y"), ("s", "/tmp/../s/new")] {
        let Some((mut bundle, canary)) = trap() else { return };
        symlink(canary.path(), bundle.root().join(link)).expect("symlink");
        bundle.config["process"]["cwd"] = json!(place);
        bundle.sh("pwd; touch here");
        let said = bundle.run();
        canary.assert_alive();
        assert!(said.code == 0 || said.stderr.contains("working directory"), "{place}: {said}");
        bundle.args(&["sleep", "100"]);
        bundle.config["process"]["cwd"] = json!("/");
        bundle.create().ok();
        bundle.start().ok();
        bundle.verb(&["exec", "--cwd", place, bundle.id(), "sh", "-c", "pwd; touch here"]);
        canary.assert_alive();
    }
}
