//! Containers of one image: isolation, identity, names, steps.

use ocipipe_tests::{Hub, config, diff_ids};
use testkit::{Outcome, needs, tar};

#[test]
fn a_write_in_one_container_is_seen_in_no_other_nor_in_the_layer() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let [one, two, three] = ["one", "two", "three"].map(|name| hub.container(&["--name", name]));
    let layers = testkit::tree::read(&hub.world.store().join("layers"));
    hub.step(&one, "echo 1 >/written; echo 1 >/etc/os-release; rm /etc/group");
    hub.step(&two, "echo 2 >/written");
    assert_eq!(hub.output(&one, "cat /written /etc/os-release"), "1\n1\n");
    assert_eq!(hub.output(&two, "cat /written; head -1 /etc/os-release"), "2\nID=testkit\n");
    assert_eq!(hub.output(&three, "ls /written 2>/dev/null || cat /etc/group | wc -l"), "3\n");
    let after = testkit::tree::read(&hub.world.store().join("layers"));
    let difference = testkit::tree::difference(&layers, &after, &testkit::tree::Ignore::nothing());
    assert!(difference.is_empty(), "{difference:?}");

    hub.world.tool("oci-mount", &["--remove", "one"]).ok();
    assert_eq!(hub.world.containers(), ["three", "two"]);
    let again = hub.container(&["--name", "one"]);
    assert_eq!(hub.output(&again, "ls /written 2>/dev/null || echo new"), "new\n");
    for name in ["one", "two", "three"] {
        hub.world.tool("oci-mount", &["--remove", name]).ok();
    }
    hub.world.assert_nothing_left();
}

#[test]
fn the_same_configuration_gives_the_same_id_and_another_name_another_one() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let first = hub.container(&["--name", "web", "-e", "A=1"]);
    hub.world.feed("oci-mount", &["--remove"], &first.stdout).ok();
    let second = hub.container(&["--name", "web", "-e", "A=1"]);
    assert_eq!(first.member("id"), second.member("id"));
    assert_ne!(first.member("instance"), second.member("instance"), "each creation is one of its own");
    let named = hub.container(&["--name", "other", "-e", "A=1"]);
    let told = hub.container(&["--name", "told", "-e", "A=2"]);
    assert_ne!(second.member("id"), named.member("id"));
    assert_ne!(named.member("id"), told.member("id"));
    let digest = second.member("digest");
    assert!(digest.ends_with(&second.member("id")), "the id is the digest's hex: {digest}");
}

#[test]
fn a_taken_name_is_refused_with_the_holders_id_and_replace_takes_it_over() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let holder = hub.container(&["--name", "web"]);
    let rootfs = hub.rootfs();
    let refused = hub.world.feed("oci-mount", &["--name", "web", "-e", "X=1"], &rootfs.stdout).fails(9);
    let id = holder.member("id");
    assert!(refused.stderr.contains(&id[..12]), "{refused}");
    refused.error_line();
    assert_eq!(hub.world.containers(), ["web"]);
    let taken =
        hub.world.feed("oci-mount", &["--replace", "--name", "web", "-e", "X=1"], &rootfs.stdout).ok();
    assert_ne!(taken.member("id"), id);
    let old = hub.world.feed("oci-spawn", &["--", "true"], &holder.stdout);
    assert_ne!(old.code, 0, "the line of a container that is gone: {old}");
}

#[test]
fn a_chain_of_true_steps_commits_an_empty_diff() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    std::fs::create_dir(hub.world.path("volume")).expect("a folder");
    let volume = format!("{}:/mnt/volume", hub.world.name("volume"));
    let line = hub.container(&["--net", "host", "-v", &volume]);
    for _ in 0..3 {
        hub.world.feed("oci-spawn", &["--pass", "--net", "host", "--", "true"], &line.stdout).ok();
    }
    let image = hub.world.feed("oci-commit", &["--layer", "--tag", "empty:1"], &line.stdout).ok();
    let config = config(&hub.world.store(), &image.member("digest"));
    let ids = diff_ids(&config);
    assert_eq!(ids[0], hub.image.diff_ids[0]);
    let empty = testkit::digest(&tar::archive(&[]));
    assert!(ids.len() == 1 || ids[1..] == [empty], "an empty tar or no layer at all: {config}");
}

#[test]
fn commit_says_what_was_changed_and_nothing_of_ours() {
    needs!(Root, Overlay, Program("docker-registry"), Program("umoci"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&["--hostname", "named"]);
    hub.step(&line, "echo x >/new; rm /etc/group; ln /new /hard; ln -s new /soft; chmod 4755 /new; mkdir /d");
    let image = hub.world.feed("oci-commit", &["--layer", "--tag", "changed:1"], &line.stdout).ok();
    let manifest = ocipipe_tests::document(&hub.world.store(), &image.member("digest"));
    let layer = manifest["layers"][1]["digest"].as_str().expect("the new layer").to_owned();
    let blob = testkit::image::blob(&hub.world.store(), &layer);
    let list =
        hub.world.sh(&format!("tar -tf {} | sed 's,^\\./,,; s,/$,,' | sort", blob.display())).ok().text();
    let names: Vec<&str> = list.lines().filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ["d", "etc", "etc/.wh.group", "hard", "new", "soft"], "{list}");
}

#[test]
fn the_user_and_its_groups_come_from_the_image() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let show = "id -u; id -g; id -G; pwd; echo $HOME";
    let cases: [(&[&str], &str); 4] = [
        (&[], "0\n0\n0\n/\n/root\n"),
        (&["-u", "user"], "1000\n1000\n1000 2000\n/\n/home/user\n"),
        (&["-u", "1000:2000", "-w", "/home/user"], "1000\n2000\n2000\n/home/user\n/home/user\n"),
        (&["-u", "4294967294"], "4294967294\n0\n0\n/\n/\n"),
    ];
    for (args, wanted) in cases {
        let line = hub.container(args);
        assert_eq!(hub.output(&line, show), wanted, "{args:?}");
    }
    for bad in ["4294967295", "-1", "99999999999", "nobody-here"] {
        let rootfs = hub.rootfs();
        let line = hub.world.feed("oci-mount", &[&format!("--user={bad}")], &rootfs.stdout);
        let outcome = if line.code == 0 { run(&hub, &line) } else { line };
        assert_ne!(outcome.code, 0, "{bad}: {outcome}");
        assert!(outcome.stdout.is_empty() || outcome.code != 0, "{bad}: {outcome}");
    }
}

fn run(hub: &Hub, line: &Outcome) -> Outcome {
    hub.world.feed("oci-spawn", &["--", "id", "-u"], &line.stdout)
}

#[test]
fn a_container_sees_its_own_processes_hostname_mounts_and_dockers_capabilities() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&["--hostname", "inside", "--read-only"]);
    assert_eq!(hub.output(&line, "hostname; echo $$"), "inside\n1\n");
    let caps = hub.output(&line, "grep Cap /proc/self/status | tr -d '\\t'");
    let dockers = "00000000a80425fb";
    let none = "0000000000000000";
    let wanted =
        format!("CapInh:{none}\nCapPrm:{dockers}\nCapEff:{dockers}\nCapBnd:{dockers}\nCapAmb:{none}\n");
    assert_eq!(caps, wanted);
    assert_eq!(hub.output(&line, "touch /x 2>/dev/null || echo read-only"), "read-only\n");
    let kinds =
        hub.output(&line, "stat -c '%F %t:%T' /dev/null /dev/zero; ls -d /dev/shm /dev/pts /dev/mqueue");
    assert!(kinds.starts_with("character special file 1:3\ncharacter special file 1:5\n"), "{kinds}");
    assert_eq!(hub.output(&line, "ls /sys/class/net 2>/dev/null; ls -l /proc/self/fd | wc -l"), "lo\n5\n");
    let masked = hub
        .output(&line, "cat /proc/kcore | wc -c; echo x 2>/dev/null >/proc/sys/kernel/hostname || echo ro");
    assert_eq!(masked, "0\nro\n");
}

/// An upper half that the kernel drops, the old gates, and the ways round by newer calls.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_container_is_filtered_as_dockers_are_through_every_gate() {
    const EPERM: i64 = -1;
    const ENOSYS: i64 = -38;
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let mut calls = testkit::Calls::new();
    let (alg, clone3) = (calls.words(&[38, 5, 0]), calls.words(&[0; 22]));
    let calls = calls
        .call(41, &[38, 5, 0])
        .call(41, &[0x1_0000_0026, 5, 0])
        .int80(359, &[0x1_0000_0026, 5, 0])
        .int80(102, &[1, alg])
        .call(0x4000_0029, &[38, 5, 0])
        .call(435, &[clone3, 88])
        .call(56, &[0x1000_0011, 0])
        .call(321, &[])
        .call(250, &[])
        .call(425, &[1, 0])
        .call(41, &[1, 1, 0]);
    let folder = hub.world.path("probe");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("calls"), calls.program()).expect("a program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.join("calls"), mode).expect("chmod");
    let line = hub.container(&["-v", &format!("{}:/probe", hub.world.name("probe"))]);
    let output = hub.world.feed("oci-spawn", &["--", "/probe/calls"], &line.stdout).ok();
    let results = testkit::Calls::results(&output.stdout);
    let refused = [EPERM, EPERM, EPERM, EPERM, EPERM, ENOSYS, EPERM, EPERM, EPERM, EPERM];
    assert_eq!(results[..10], refused, "{results:?}");
    assert!(results[10] >= 0, "a socket of another family: {results:?}");
}

#[test]
fn detached_containers_run_on_and_are_one_of_a_kind() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&["--name", "server", "--", "sleep", "1000"]);
    let started = hub.world.feed("oci-spawn", &["-d"], &line.stdout).ok().line();
    assert_eq!(started["status"], "running");
    hub.world.feed("oci-spawn", &["--", "true"], &line.stdout).fails(9);
    hub.world.tool("oci-mount", &["--remove", "server"]).fails(9);
    assert_eq!(hub.world.containers(), ["server"]);
    hub.world.tool("oci-mount", &["--force", "--remove", "server"]).ok();
    hub.world.assert_nothing_left();
}

#[test]
fn cp_goes_in_and_out_and_stays_inside() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let canary = testkit::Canary::plant(&hub.world.path("canary"));
    std::fs::create_dir_all(hub.world.path("src/deep")).expect("a folder");
    std::fs::write(hub.world.path("src/deep/file"), "content").expect("a file");
    let line = hub.container(&[]);
    let passed = hub.world.feed(
        "oci-cp",
        &["--chown", "1000:1000", "--chmod", "0640", "src", ":/home/src"],
        &line.stdout,
    );
    assert_eq!(passed.ok().line(), line.line(), "the line is passed on");
    assert_eq!(hub.output(&line, "stat -c '%u:%g %a' /home/src/deep/file"), "1000:1000 640\n");
    hub.world.feed("oci-cp", &[":/home/src/deep/file", "out"], &line.stdout).ok();
    assert_eq!(std::fs::read_to_string(hub.world.path("out")).expect("copied out"), "content");

    let away = canary.path().display();
    hub.step(&line, &format!("ln -s {away} /away; ln -s {away}/f /file; ln -s ../../../../../..{away} /up"));
    for target in [":/away/new", ":/away/f", ":/file", ":/up/new", ":/../../../canary"] {
        hub.world.feed("oci-cp", &["src/deep/file", target], &line.stdout);
        canary.assert_alive();
    }
    hub.world.feed("oci-cp", &[":/away/f", "stolen"], &line.stdout);
    let stolen = std::fs::read_to_string(hub.world.path("stolen")).unwrap_or_default();
    assert!(!stolen.contains("canary"), "a link in the container was followed on the host");
    hub.world.feed("oci-cp", &["no-such-file", ":/x"], &line.stdout).fails(3).error_line();
}
