//! Namespaces of a container: new ones, those of others, and user namespaces. Needs root.

mod bundle;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use bundle::{Bundle, said, text};
use serde_json::json;

/// A user namespace whose ids 0 to 65535 are 100000 and up outside.
fn with_users(script: &str) -> Option<Bundle> {
    let mut bundle = Bundle::new(script)?;
    bundle.namespace("user", None);
    bundle.namespace("cgroup", None);
    for map in ["uidMappings", "gidMappings"] {
        bundle.set(&format!("/linux/{map}"), json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]));
    }
    let owned = Command::new("chown").args(["-hR", "100000:100000"]).arg(bundle.rootfs()).status();
    assert!(owned.expect("chown").success());
    Some(bundle)
}

#[test]
fn root_of_a_user_namespace_is_another_user_outside() {
    let Some(mut bundle) =
        with_users("id -u; cat /proc/self/uid_map /proc/self/gid_map; cat /proc/self/setgroups")
    else {
        return;
    };
    let map = "         0     100000      65536\n";
    assert_eq!(bundle.prints(), format!("0\n{map}{map}allow\n"));
    bundle.script(
        "echo x > /made; echo y > /dev/null; head -c 3 /dev/zero | wc -c; ls -ln /dev/null | cut -c1-10",
    );
    assert_eq!(bundle.prints(), "3\ncrw-rw-rw-\n");
    let made = std::fs::metadata(bundle.at("rootfs/made")).expect("made");
    assert_eq!((made.uid(), made.gid()), (100_000, 100_000));
}

#[test]
fn a_user_of_a_user_namespace_has_the_groups_and_rights_of_the_configuration() {
    let Some(mut bundle) = with_users("id; grep CapEff /proc/self/status; cat /proc/self/oom_score_adj")
    else {
        return;
    };
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7]}));
    bundle.set("/process/oomScoreAdj", json!(100));
    let out = bundle.prints();
    assert!(out.starts_with("uid=1000(user) gid=1000(user) groups=5,7"), "{out}");
    assert!(out.contains("CapEff:\t0000000000000000\n100\n"), "{out}");
}

#[test]
fn a_bind_of_what_only_the_host_may_reach_works_in_a_user_namespace() {
    let Some(mut bundle) = with_users("cat /mnt/file; touch /mnt/x") else { return };
    let private = bundle.at("private/inner");
    std::fs::create_dir_all(&private).expect("mkdir");
    std::fs::write(private.join("file"), "seen\n").expect("write");
    std::fs::set_permissions(bundle.at("private"), PermissionsExt::from_mode(0o700)).expect("chmod");
    let source = private.display().to_string();
    bundle.mount("/mnt", "bind", &source, &["rbind", "rprivate"]);
    let output = bundle.run();
    // Readable by mode, writable for nobody but the host's root.
    assert_eq!(text(&output.stdout), "seen\n", "{}", said(&output));
    assert!(text(&output.stderr).contains("Permission denied"), "{}", said(&output));
}

#[test]
fn ids_of_a_mount_are_shown_as_its_own_maps_or_the_containers_say() {
    let Some(mut bundle) = with_users("ls -n /mapped/file /own/file; touch /mapped/new") else { return };
    let source = bundle.at("source");
    std::fs::create_dir(&source).expect("mkdir");
    std::fs::write(source.join("file"), "").expect("write");
    let path = source.display().to_string();
    bundle.mount("/mapped", "bind", &path, &["bind", "idmap"]);
    let own = json!([{"containerID": 0, "hostID": 100_007, "size": 1}]);
    let mount = json!({"destination": "/own", "type": "bind", "source": path, "options": ["bind"],
        "uidMappings": own, "gidMappings": own});
    bundle.set("/mounts/-", mount);
    let out = bundle.prints();
    let ids: Vec<Vec<&str>> =
        out.lines().map(|line| line.split_whitespace().skip(2).take(2).collect()).collect();
    assert_eq!(ids, [["0", "0"], ["7", "7"]], "{out}");
    assert_eq!(std::fs::metadata(source.join("new")).expect("new").uid(), 0);

    let mut plain = Bundle::new("true").expect("a bundle");
    plain.mount("/mapped", "bind", &path, &["bind", "idmap"]);
    assert!(plain.refuses().contains("idmap without maps"));
}

#[test]
fn a_user_namespace_without_maps_and_maps_without_one_are_refused() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    let map = json!([{"containerID": 0, "hostID": 0, "size": 10}]);
    bundle.set("/linux/uidMappings", map.clone());
    assert!(bundle.refuses().contains("no user namespace"));
    bundle.set("/linux/uidMappings", json!([])).namespace("user", None);
    assert!(bundle.refuses().contains("needs maps"));
    let high = json!([{"containerID": 1, "hostID": 0, "size": 10}]);
    bundle.set("/linux/uidMappings", high.clone()).set("/linux/gidMappings", high);
    assert!(bundle.refuses().contains("group 0 of the container is not mapped"));
}

#[test]
fn all_namespaces_of_another_container_are_joined_at_once() {
    for users in [false, true] {
        let script = "sleep 100";
        let Some(mut first) = (if users { with_users(script) } else { Bundle::new(script) }) else { return };
        first.namespace("time", None).namespace("cgroup", None);
        first.set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}));
        let pid = first.start();
        let links = "for n in user pid ipc uts net cgroup time; do readlink /proc/self/ns/$n; done";
        let Some(mut second) = (if users { with_users(links) } else { Bundle::new(links) }) else { return };
        for (kind, link) in [
            ("user", "user"),
            ("pid", "pid"),
            ("ipc", "ipc"),
            ("uts", "uts"),
            ("network", "net"),
            ("cgroup", "cgroup"),
            ("time", "time"),
        ] {
            if users || kind != "user" {
                second.namespace(kind, Some(&format!("/proc/{pid}/ns/{link}")));
            }
        }
        second.set("/linux/uidMappings", json!([])).set("/linux/gidMappings", json!([]));
        // The name is the other container's.
        second.config.as_object_mut().expect("an object").remove("hostname");
        let want = first_links(pid);
        assert_eq!(second.prints(), want, "with a user namespace: {users}");
    }
}

fn first_links(pid: u32) -> String {
    let kinds = ["user", "pid", "ipc", "uts", "net", "cgroup", "time"];
    let link = |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a link");
    kinds.iter().map(|kind| format!("{}\n", link(kind).display())).collect()
}

#[test]
fn a_new_user_namespace_joins_the_network_of_the_host_and_of_others() {
    let Some(other) = Bundle::new("sleep 100") else { return };
    let pid = other.start();
    let Some(mut bundle) = with_users("readlink /proc/self/ns/net; ls /sys/class/net") else { return };
    bundle.namespace("network", Some(&format!("/proc/{pid}/ns/net")));
    let net =
        |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a link").display().to_string();
    // sysfs of a network that another user namespace owns cannot be mounted: the host's is bound.
    let out = bundle.prints();
    assert!(out.starts_with(&net(&pid.to_string())), "{out}");
    bundle.without_namespace("network");
    assert!(bundle.prints().starts_with(&net("self")));
}

#[test]
fn the_clocks_of_a_time_namespace_are_ahead_by_its_offsets() {
    for users in [false, true] {
        let script = "cat /proc/uptime; cat /proc/self/timens_offsets";
        let Some(mut bundle) = (if users { with_users(script) } else { Bundle::new(script) }) else { return };
        bundle.namespace("time", None);
        bundle.set(
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 5_000_000, "nanosecs": 7}, "monotonic": {"secs": 3}}),
        );
        let out = bundle.prints();
        let uptime: f64 = out.split('.').next().expect("a number").parse().expect("seconds");
        assert!(uptime > 5_000_000.0, "{out}");
        assert!(out.contains("monotonic           3         0"), "{out}");
    }
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 1}}));
    assert!(bundle.refuses().contains("no time namespace"));
    bundle.namespace("time", None).set("/linux/timeOffsets", json!({"realtime": {"secs": 1}}));
    assert!(bundle.refuses().contains("\"realtime\""));
}

#[test]
fn a_namespace_listed_twice_and_one_that_is_not_there_are_refused() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.set("/linux/namespaces/-", json!({"type": "ipc"}));
    let why = bundle.refuses();
    assert!(why.contains("ipc") && (why.contains("twice") || why.contains("already exists")), "{why}");
    bundle.namespace("ipc", Some("/no/such"));
    assert!(bundle.refuses().contains("/no/such"));
    bundle.namespace("ipc", Some("/proc/self/ns/uts"));
    assert!(bundle.refuses().contains("join the ipc namespace"));
    bundle.namespace("ipc", None).without_namespace("mount");
    bundle.namespace("mount", Some("/proc/self/ns/mnt"));
    assert!(bundle.refuses().contains("own mount namespace"));
}

#[test]
fn the_mount_namespace_of_another_process_is_joined() {
    let Some(mut bundle) = Bundle::new("readlink /proc/self/ns/mnt") else { return };
    let words = ["-m", "--propagation", "private", "sleep", "100"];
    let mut holder = Command::new("unshare").args(words).spawn().expect("unshare");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let path = format!("/proc/{}/ns/mnt", holder.id());
    let want = std::fs::read_link(&path).expect("a link").display().to_string();
    bundle.namespace("mount", Some(&path));
    let out = bundle.prints();
    holder.kill().and_then(|()| holder.wait().map(drop)).expect("killed");
    assert_eq!(out.trim(), want);
}

/// C1, CVE-2016-9962: while a container's init still has the host's files, nobody in the namespaces that it joins looks into it,
/// though they may trace all that is in their user namespace.
#[test]
fn c1_who_is_in_a_joined_user_namespace_cannot_look_into_an_init_that_is_being_made() {
    testkit::needs!(Root, Program("strace"));
    // Looked for is the bundle's file, by the tool's working directory: whoever has become the command may be looked into.
    let watch = "cd /proc; echo ready; while :; do for p in [0-9]*; do read name <$p/comm && case $name in oci-spawn) \
        : >>/met; [ -e $p/cwd/config.json ] && echo $p >>/seen;; esac; done; done 2>/dev/null";
    let Some(mut other) = with_users(watch) else { return };
    other.open_to_all();
    other.privileged();
    let pid = other.start();
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.open_to_all();
    for kind in ["user", "pid"] {
        bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{kind}")));
    }
    // Where it becomes root of the user namespace it is held up: of the host's root until then.
    let tool = bundle.command(&["run", &bundle.id]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=setresgid,setresuid"]);
    traced.args(["-e", "inject=setresgid,setresuid:delay_enter=500000:when=1"]);
    traced.arg(tool.get_program()).args(tool.get_args()).current_dir(bundle.path()).stdin(Stdio::null());
    let output = bundle.output(traced);
    assert!(output.status.success(), "{}", said(&output));
    assert!(other.at("rootfs/met").exists(), "the control: it was there to be looked into");
    assert!(!other.at("rootfs/seen").exists(), "it was looked into");
}
