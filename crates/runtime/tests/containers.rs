//! Containers for real, from hand-made bundles over Debian's static busybox: statuses, confinement, death.
//!
//! They need root. Each bundle is run by the example `run_bundle`, as setup happens in a copy of a process with one thread.

mod bundle;
#[cfg(target_arch = "x86_64")]
mod filtered;
mod leaks;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use bundle::{Bundle, DOCKERS, container_of, host_mounts, kill, listing, text, wait_gone};
use serde_json::json;

#[test]
fn the_status_is_the_commands_own_or_says_why_there_was_none() {
    let Some(mut bundle) = Bundle::new() else { return };
    let at = |name: &str| bundle.root().join("tmp").join(name);
    fs::write(at("text"), "just text").expect("write");
    fs::set_permissions(at("text"), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::write(at("plain"), "#!/bin/sh").expect("write");
    fs::write(at("lost"), "#!/no/interpreter\n").expect("write");
    fs::set_permissions(at("lost"), fs::Permissions::from_mode(0o755)).expect("chmod");
    for (args, status, words) in [
        (&["sh", "-c", "exit 0"][..], 0, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["no-such-command"], 127, "not found in the container (PATH is /bin)"),
        (&["/no/such/file"], 127, "not found"),
        (&["/etc"], 126, "it is a directory"),
        (&["/tmp/text"], 126, "exec format error"),
        (&["/tmp/plain"], 126, "permission denied"),
        (&["/tmp/lost"], 126, "interpreter"),
        (&["/proc/self/exe"], 126, "link of /proc"),
    ] {
        let output = bundle.run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn a_container_killed_from_outside_is_137() {
    let Some(mut bundle) = Bundle::new() else { return };
    let mut parent = bundle.command(&["sleep", "100"]).spawn().expect("spawn");
    kill(container_of(&parent), "-9");
    assert_eq!(parent.wait().expect("wait").code(), Some(137));
}

#[test]
fn the_first_stop_signal_is_handed_on_and_patience_ends_in_kill() {
    let Some(mut bundle) = Bundle::new() else { return };
    // As pid 1 sleep has no handler, so the kernel drops SIGTERM; the example's patience is two seconds.
    let mut parent = bundle.command(&["sleep", "100"]).spawn().expect("spawn");
    let pid = container_of(&parent);
    kill(parent.id(), "-TERM");
    assert_eq!(parent.wait().expect("wait").code(), Some(137));
    assert!(wait_gone(pid));

    let script = "trap 'exit 42' TERM; sleep 100 & wait";
    let mut parent = bundle.command(&["sh", "-c", script]).spawn().expect("spawn");
    std::thread::sleep(Duration::from_millis(500));
    kill(parent.id(), "-TERM");
    assert_eq!(parent.wait().expect("wait").code(), Some(42));
}

#[test]
fn kill_9_of_the_parent_kills_the_container_whoever_it_has_become() {
    for (uid, args) in [
        (0, &["sleep", "100"][..]),
        (1000, &["sleep", "100"]),
        // Becoming another user makes the kernel forget PR_SET_PDEATHSIG.
        (0, &["su", "-s", "/bin/sh", "user", "-c", "exec sleep 100"]),
    ] {
        let Some(mut bundle) = Bundle::new() else { return };
        bundle.config["process"]["user"] = json!({"uid": uid, "gid": uid});
        fs::write(bundle.root().join("etc/passwd"), "user:x:1000:1000::/:/bin/sh\n").expect("write");
        let mut parent = bundle.command(args).spawn().expect("spawn");
        let pid = container_of(&parent);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let became = if args[0] == "su" { 1000 } else { uid };
        assert!(status.contains(&format!("Uid:\t{became}\t")), "{status}");
        parent.kill().expect("kill");
        parent.wait().expect("wait");
        assert!(wait_gone(pid), "{args:?} as {uid} survived");
    }
}

#[test]
fn capability_sets_are_exactly_the_configured_ones() {
    let Some(mut bundle) = Bundle::new() else { return };
    let two = json!(["CAP_KILL", "CAP_CHOWN"]);
    let kill = json!(["CAP_KILL"]);
    let all = format!("{:016x}", 0xa804_25fb_u64);
    let (both, one, none) = ("0000000000000021", "0000000000000020", "0000000000000000");
    let sets = |inh, prm, eff, bnd, amb| [inh, prm, eff, bnd, amb].map(str::to_string);
    for (uid, capabilities, want) in [
        (
            0,
            json!({"bounding": DOCKERS, "permitted": DOCKERS, "effective": DOCKERS}),
            sets(none, &all, &all, &all, none),
        ),
        (1000, json!({"bounding": DOCKERS}), sets(none, none, none, &all, none)),
        (0, json!({}), sets(none, none, none, none, none)),
        (0, json!({"bounding": two, "permitted": two, "effective": two}), sets(none, both, both, both, none)),
        (
            1000,
            json!({"bounding": two, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill}),
            sets(one, one, one, both, one),
        ),
    ] {
        bundle.config["process"]["capabilities"] = capabilities.clone();
        bundle.config["process"]["user"] = json!({"uid": uid, "gid": uid});
        let status = bundle.stdout(&["grep", "^Cap", "/proc/self/status"]);
        let found: Vec<&str> = status.split_whitespace().skip(1).step_by(2).collect();
        assert_eq!(found, want, "{uid} {capabilities}");
    }
    bundle.config["process"]["capabilities"] = json!({"bounding": ["CAP_NONSENSE"]});
    assert_eq!(bundle.run(&["echo"]).status.code(), Some(125));
}

#[test]
fn an_image_whose_dev_or_proc_is_a_link_changes_nothing_outside() {
    for (name, drop_mount) in [("dev", true), ("dev", false), ("proc", false), ("sys", false)] {
        let Some(mut bundle) = Bundle::new() else { return };
        let victim = tempfile::tempdir().expect("a temporary directory");
        fs::write(victim.path().join("null"), "canary").expect("write");
        fs::remove_dir(bundle.root().join(name)).expect("rmdir");
        symlink(victim.path(), bundle.root().join(name)).expect("symlink");
        if drop_mount {
            bundle
                .mounts()
                .retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
        }
        let before = listing(victim.path());
        let output = bundle.run(&["echo", "started"]);
        assert_eq!(listing(victim.path()), before, "{name}: {output:?}");
        // A link out of the root ends inside it, where its target does not exist.
        assert!(!output.status.success() || name == "dev", "{name}: {output:?}");
    }
}

#[test]
fn a_masking_null_device_that_is_a_link_is_noticed() {
    let Some(mut bundle) = Bundle::new() else { return };
    let dev = tempfile::tempdir().expect("a temporary directory");
    fs::write(bundle.root().join("etc/target"), "canary").expect("write");
    symlink("/etc/target", dev.path().join("null")).expect("symlink");
    bundle.mounts().retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
    bundle
        .mounts()
        .push(json!({"destination": "/dev", "type": "bind", "source": dev.path(), "options": ["rbind"]}));
    let output = bundle.run(&["echo", "started"]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(text(&output.stderr).contains("check /dev/null"), "{output:?}");
    assert_eq!(fs::read_to_string(bundle.root().join("etc/target")).expect("read"), "canary");
}

#[test]
fn the_environment_is_the_configured_one_and_nothing_else() {
    let Some(mut bundle) = Bundle::new() else { return };
    let mut command = bundle.command(&["cat", "/proc/1/environ"]);
    let output = command.env("SECRET", "1").output().expect("run");
    assert_eq!(output.stdout, b"PATH=/bin\0A=1\0");
}

#[test]
fn a_device_that_the_container_makes_opens_nothing() {
    let Some(mut bundle) = Bundle::new() else { return };
    let host = tempfile::tempdir().expect("a temporary directory");
    let null =
        json!({"destination": "/tmp/null", "type": "bind", "source": "/dev/null", "options": ["bind"]});
    let volume = json!({"destination": "/v", "type": "bind", "source": host.path(), "options": ["bind"]});
    bundle.mounts().extend([null, volume]);
    // 1:5 is the zero device, which the host would let anybody read.
    let script = "for d in / /dev/ /v/ /dev/shm/; do mknod ${d}own c 1 5 && head -c 1 ${d}own; done; \
                  head -c 3 /dev/zero | wc -c; cat /tmp/null; echo $?";
    bundle.mounts().push(json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": []}));
    let output = bundle.run(&["sh", "-c", script]);
    assert_eq!(text(&output.stdout), "3\n0\n", "{output:?}");
    assert_eq!(text(&output.stderr).matches("Permission denied").count(), 4, "{output:?}");
    // A privileged container's first rule allows all.
    bundle.config["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    let output = bundle.run(&["sh", "-c", "mknod /own2 c 1 5; head -c 3 /own2 | wc -c"]);
    assert_eq!(text(&output.stdout), "3\n", "{output:?}");
}

#[test]
fn hidden_and_read_only_paths_are_that() {
    let Some(mut bundle) = Bundle::new() else { return };
    let script = "cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/domainname; touch /sys/x; echo $?";
    let output = bundle.run(&["sh", "-c", script]);
    assert_eq!(text(&output.stdout), "0\n0\n1\n", "{output:?}");
    assert_eq!(text(&output.stderr).matches("Read-only file system").count(), 2, "{output:?}");
}

#[test]
fn a_read_only_root_takes_no_writes_and_its_mounts_do() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["root"]["readonly"] = json!(true);
    let output = bundle.run(&["sh", "-c", "touch /dev/x && touch /x"]);
    assert_eq!(text(&output.stderr), "touch: /x: Read-only file system\n");
}

#[test]
fn binds_land_where_they_should_and_read_only_ones_are() {
    let Some(mut bundle) = Bundle::new() else { return };
    let host = tempfile::tempdir().expect("a temporary directory");
    fs::write(host.path().join("file"), "from the host").expect("write");
    let outside = host.path().join("outside");
    fs::create_dir(&outside).expect("mkdir");
    symlink(&outside, bundle.root().join("mnt")).expect("symlink");
    bundle.mounts().extend([
        json!({"destination": "/a/b", "type": "bind", "source": host.path(), "options": ["rbind", "ro"]}),
        json!({"destination": "/a-file", "type": "bind", "source": host.path().join("file"), "options": ["bind"]}),
    ]);
    let output = bundle.run(&["sh", "-c", "cat /a/b/file /a-file; touch /a/b/x"]);
    assert_eq!(text(&output.stdout), "from the hostfrom the host");
    assert!(text(&output.stderr).contains("Read-only"), "{output:?}");
    // A destination through a link of the image stays inside the root.
    bundle
        .mounts()
        .push(json!({"destination": "/mnt/new", "type": "tmpfs", "source": "tmpfs", "options": []}));
    let output = bundle.run(&["grep", "tmpfs", "/proc/mounts"]);
    assert!(text(&output.stdout).contains(&format!("{}/new", outside.display())), "{output:?}");
    assert_eq!(fs::read_dir(&outside).expect("read").count(), 0);
    // The host's own mounts are as they were.
    assert!(
        !fs::read_to_string("/proc/self/mounts")
            .expect("mounts")
            .contains(&bundle.dir.path().display().to_string())
    );
}

#[test]
fn data_given_to_a_bind_means_nothing_and_mounts_are_listed_in_their_order() {
    let Some(mut bundle) = Bundle::new() else { return };
    let bind =
        |options: &[&str]| json!({"destination": "/b", "type": "bind", "source": "/etc", "options": options});
    bundle.mounts().push(json!({"destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": []}));
    bundle.mounts().push(bind(&["bind", "ro", "mode=755", "size=1k"]));
    let listed = bundle.stdout(&["cat", "/proc/self/mountinfo"]);
    let place = |at: &str| listed.find(at).unwrap_or_else(|| panic!("{at}: {listed}"));
    assert!(place(" / /a ") < place("/etc /b "), "{listed}");
    *bundle.mounts().last_mut().expect("a mount") = bind(&["bind", "nosiud"]);
    let refused = bundle.run(&["true"]);
    assert!(text(&refused.stderr).contains("unknown option \"nosiud\""), "{refused:?}");
}

#[test]
fn a_read_only_volume_is_read_only_with_all_that_is_mounted_below_it() {
    let Some(mut bundle) = Bundle::new() else { return };
    let host = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(host.path().join("sub")).expect("mkdir");
    let script = "touch /v/x /v/sub/x; ls /v/sub | wc -l";
    for (read_only, refused, made) in [(true, 2, "0\n"), (false, 0, "1\n")] {
        let volume = runtime::defaults::bind(host.path(), "/v".as_ref(), read_only);
        bundle.mounts().truncate(4);
        bundle.mounts().push(json!(volume));
        let run = bundle.command(&["sh", "-c", script]);
        let below = "mount -t tmpfs below $0/sub && exec \"$@\"";
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", below])
            .arg(host.path())
            .arg(run.get_program())
            .args(run.get_args())
            .output()
            .expect("run");
        assert_eq!(text(&output.stderr).matches("Read-only").count(), refused, "{output:?}");
        assert_eq!(text(&output.stdout), made, "{output:?}");
    }
}

#[test]
fn a_null_device_of_the_host_is_not_handed_to_the_container() {
    let Some(mut bundle) = Bundle::new() else { return };
    let script = "for n in 0 1 2; do stat -L -c %d:%i:%F /proc/1/fd/$n /dev/null; done > /out; \
                  cat <&0; echo x; echo x >&2; touch /proc/1/fd/0";
    let null = || fs::File::options().read(true).write(true).open("/dev/null").expect("open");
    let mut command = bundle.command(&["sh", "-c", script]);
    let status = command.stdin(null()).stdout(null()).stderr(null()).status().expect("run");
    assert_eq!(status.code(), Some(0));
    let seen = fs::read_to_string(bundle.root().join("out")).expect("read");
    let own = seen.lines().nth(1).expect("the container's own").to_string();
    // The host's is another one, and what else a stream is stays as it is.
    let host = fs::metadata("/dev/null").expect("stat");
    assert_ne!(own.split(':').next(), Some(host.dev().to_string().as_str()));
    assert!(seen.lines().filter(|line| **line == own).count() == 5, "{seen}");
    assert_eq!(bundle.stdout(&["echo", "out"]), "out\n");
}

#[test]
fn the_session_keyring_is_the_containers_own() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["linux"]["maskedPaths"] = json!([]);
    let rings = |keys: &str| -> Vec<String> {
        let sessions = keys.lines().filter(|line| line.contains("_ses:"));
        sessions.filter_map(|line| line.split(' ').next().map(str::to_string)).collect()
    };
    let Ok(keys) = fs::read_to_string("/proc/keys") else { return };
    let before = rings(&keys);
    let inside = rings(&bundle.stdout(&["cat", "/proc/keys"]));
    assert!(inside.iter().any(|ring| !before.contains(ring)), "{before:?} {inside:?}");
}

#[test]
fn a_mount_target_that_is_swapped_for_a_link_meanwhile_never_leads_outside() {
    let Some(mut bundle) = Bundle::new() else { return };
    let shared = tempfile::tempdir().expect("a temporary directory");
    let canary = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir_all(shared.path().join("a/b")).expect("mkdir");
    fs::create_dir(canary.path().join("b")).expect("mkdir");
    symlink(canary.path(), shared.path().join("link")).expect("symlink");
    bundle.mounts().extend([
        json!({"destination": "/v", "type": "bind", "source": shared.path(), "options": ["bind"]}),
        json!({"destination": "/v/a/b", "type": "tmpfs", "source": "tmpfs", "options": []}),
    ]);
    let mut command = bundle.command(&["sh", "-c", "echo x > /v/a/b/written; :"]);
    let before = listing(canary.path());
    let at = |name: &str| shared.path().join(name);
    let started = testkit::exchanging(&[(&at("a"), &at("link"))], || {
        (0..100).filter(|_| command.output().expect("run").status.success()).count()
    });
    eprintln!("{started} of 100 started while their target was swapped");
    assert_eq!(listing(canary.path()), before);
    for dir in [canary.path(), shared.path(), bundle.dir.path()] {
        assert_eq!(host_mounts(dir), 0, "{}", dir.display());
    }
}

#[test]
fn the_process_is_its_user_with_the_groups_that_were_listed_and_no_others() {
    let Some(mut bundle) = Bundle::new() else { return };
    for (listed, groups) in [(vec![5, 7], "5 7"), (vec![7, 1001, 5, 7], "5 7 7 1001"), (vec![], "")] {
        bundle.config["process"]["user"] =
            json!({"uid": 1000, "gid": 1001, "additionalGids": listed, "umask": 63});
        let out =
            bundle.stdout(&["sh", "-c", "id -u; id -g; grep Groups /proc/self/status; umask; hostname"]);
        assert_eq!(out.replace(" \n", "\n"), format!("1000\n1001\nGroups:\t{groups}\n0077\nbox\n"));
    }
}

#[test]
fn oom_score_adj_is_written_whatever_is_in_the_place_of_proc() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["process"]["oomScoreAdj"] = json!(321);
    // Nothing but a procfs can be mounted there: it is the image that has files of its own in its place.
    bundle.mounts().retain(|mount| mount["destination"] != "/proc");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    let own = bundle.root().join("proc/self/oom_score_adj");
    fs::create_dir_all(own.parent().expect("a parent")).expect("mkdir");
    fs::write(&own, "the image's").expect("write");
    let mut parent = bundle.command(&["sleep", "100"]).spawn().expect("spawn");
    let pid = container_of(&parent);
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("read");
    kill(pid, "-9");
    parent.wait().expect("wait");
    assert_eq!(score.trim(), "321");
    assert_eq!(fs::read_to_string(own).expect("read"), "the image's");
}

#[test]
fn a_resource_limit_that_cannot_be_raised_says_so() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]);
    assert_eq!(bundle.stdout(&["sh", "-c", "ulimit -n"]).trim(), "64");
    let capable = fs::read_to_string("/proc/self/status").expect("status");
    let bounding = capable.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("CapEff");
    if u64::from_str_radix(bounding, 16).expect("hex") & (1 << 24) != 0 {
        testkit::skip("CAP_SYS_RESOURCE is there, limits can be raised");
        return;
    }
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NPROC", "soft": 1, "hard": u64::MAX - 1}]);
    let output = bundle.run(&["echo"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("set resource limits: setrlimit(Nproc"), "{output:?}");
}

#[test]
fn what_cannot_be_given_is_refused_before_a_process_exists() {
    let Some(mut bundle) = Bundle::new() else { return };
    // Nobody hands the listener on for a process that is no engine's container.
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock",
        "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]
    });
    let output = bundle.run(&["echo", "started"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("SCMP_ACT_NOTIFY is not supported"), "{output:?}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn only_the_loopback_interface_is_there_and_it_is_up() {
    let Some(mut bundle) = Bundle::new() else { return };
    let out = bundle.stdout(&["sh", "-c", "cat /sys/class/net/lo/flags; ls /sys/class/net"]);
    // IFF_UP | IFF_LOOPBACK
    assert_eq!(out, "0x9\nlo\n");
}

#[test]
fn a_twentieth_start_leaves_what_the_first_left() {
    let Some(mut bundle) = Bundle::new() else { return };
    for _ in 0..20 {
        assert!(bundle.run(&["sh", "-c", "sleep 0 & exit 0"]).status.success());
    }
    assert_eq!(host_mounts(bundle.dir.path()), 0);
    // The watcher is reaped by the one who started it: nobody inherits it.
    let mut traced = Command::new("strace");
    let program = bundle.command(&["echo"]);
    traced.args(["-f", "-qq", "-e", "trace=waitid"]).arg(program.get_program()).args(program.get_args());
    match traced.output() {
        Ok(output) => assert_eq!(text(&output.stderr).matches("P_PIDFD").count(), 2, "{output:?}"),
        Err(e) => testkit::skip(&format!("strace: {e}")),
    }
    let mut parent = bundle.command(&["sleep", "100"]).stdout(Stdio::piped()).spawn().expect("spawn");
    let pid = container_of(&parent);
    kill(pid, "-9");
    let mut rest = String::new();
    // End of file: neither the watcher nor anything else holds the caller's pipe.
    parent.stdout.take().expect("piped").read_to_string(&mut rest).expect("read");
    parent.wait().expect("wait");
}
