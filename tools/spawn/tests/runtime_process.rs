//! What config.json says of the process and of the kernel's parameters. Needs root.

mod bundle;

use std::process::Command;

use bundle::{Bundle, said, text};
use serde_json::json;

/// A member of the process's `/proc/PID/sched`, `stat` and the like: these scripts read them from inside.
fn stat_field(out: &str, field: usize) -> String {
    let (_, rest) = out.rsplit_once(')').expect("a stat line");
    rest.split_whitespace().nth(field - 3).expect("a field").to_string()
}

#[test]
fn a_scheduler_is_set_with_its_values_and_refused_where_they_do_not_go_with_it() {
    let Some(mut bundle) = Bundle::new("cat /proc/self/stat") else { return };
    bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 7}));
    let out = bundle.prints();
    assert_eq!((stat_field(&out, 41).as_str(), stat_field(&out, 19).as_str()), ("3", "7"), "{out}");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/stat"]));
    bundle.set("/process/scheduler", json!({"policy": "SCHED_IDLE", "flags": ["SCHED_RESET_ON_FORK"]}));
    assert_eq!(stat_field(&bundle.prints(), 41), "5");
    // A control group of version 1 may have no real time to give.
    bundle.set("/process/scheduler", json!({"policy": "SCHED_RR", "priority": 10}));
    let output = bundle.run();
    if output.status.success() {
        let out = text(&output.stdout);
        assert_eq!((stat_field(&out, 41).as_str(), stat_field(&out, 40).as_str()), ("2", "10"), "{out}");
    } else {
        assert!(text(&output.stderr).contains("set the scheduler: sched_setattr"), "{}", said(&output));
    }
    bundle.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 10}));
    assert!(bundle.refuses().contains("process.scheduler"));
    bundle.set("/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 1000}));
    assert!(bundle.refuses().contains("set the scheduler: sched_setattr"));
}

#[test]
fn the_priority_of_input_and_output_is_set() {
    let Some(mut bundle) = Bundle::new("ionice -p 1") else { return };
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    assert!(bundle.prints().contains("best-effort: prio 6"));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    assert!(bundle.prints().contains("idle"));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}));
    assert!(bundle.refuses().contains("process.ioPriority"));
}

#[test]
fn the_personality_is_set() {
    let Some(mut bundle) = Bundle::new("uname -m") else { return };
    assert_eq!(bundle.prints(), "x86_64\n");
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    assert_eq!(bundle.prints(), "i686\n");
    bundle.set("/linux/personality", json!({"domain": "LINUX32", "flags": ["X"]}));
    let output = bundle.run();
    assert!(
        output.status.success() && text(&output.stderr).contains("personality flags"),
        "{}",
        said(&output)
    );
}

#[test]
fn the_memory_policy_is_set() {
    let Some(mut bundle) = Bundle::new("head -1 /proc/self/numa_maps") else { return };
    bundle.set(
        "/linux/memoryPolicy",
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
    );
    assert!(bundle.prints().contains("bind=static:0"));
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "900"}));
    assert!(bundle.refuses().contains("set the memory policy: set_mempolicy"));
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "3-1"}));
    assert!(bundle.refuses().contains("linux.memoryPolicy"));
}

#[test]
fn labels_of_modules_that_the_kernel_does_not_run_are_refused() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    if std::path::Path::new("/sys/module/apparmor/parameters/enabled").exists() {
        testkit::skip("this kernel has AppArmor");
        return;
    }
    for (member, name) in [
        ("/process/apparmorProfile", "AppArmor"),
        ("/process/selinuxLabel", "SELinux"),
        ("/linux/mountLabel", "SELinux"),
    ] {
        bundle.set(member, json!("some_label"));
        let why = bundle.refuses();
        assert!(why.contains(&member[1..].replace('/', ".")) && why.contains(name), "{why}");
        bundle.set(member, json!(""));
    }
    bundle.prints();
}

#[test]
fn a_resource_limit_listed_twice_and_a_relative_working_directory_are_refused() {
    let Some(mut bundle) = Bundle::new("ulimit -n; ulimit -f") else { return };
    let limit = |kind: &str, n: u32| json!({"type": kind, "soft": n, "hard": n});
    bundle.set("/process/rlimits", json!([limit("RLIMIT_NOFILE", 77), limit("RLIMIT_FSIZE", 512)]));
    assert_eq!(bundle.prints(), "77\n1\n");
    bundle.set("/process/rlimits", json!([limit("RLIMIT_NOFILE", 77), limit("RLIMIT_NOFILE", 78)]));
    assert!(bundle.refuses().contains("RLIMIT_NOFILE is listed twice"));
    bundle.set("/process/rlimits", json!([])).set("/process/cwd", json!("tmp"));
    assert!(bundle.refuses().contains("process.cwd"));
}

#[test]
fn a_missing_working_directory_is_made_inside_the_root() {
    let Some(mut bundle) = Bundle::new("pwd; cd /; ls -d /new/a/b") else { return };
    let outside = bundle.at("outside");
    std::fs::create_dir(&outside).expect("mkdir");
    bundle.set("/process/cwd", json!("/new/a/b"));
    assert_eq!(bundle.prints(), "/new/a/b\n/new/a/b\n");
    // A link that leads out of an image leads nowhere from inside.
    std::os::unix::fs::symlink(&outside, bundle.at("rootfs/out")).expect("symlink");
    bundle.script("pwd").set("/process/cwd", json!("/out/made"));
    bundle.run();
    assert_eq!(std::fs::read_dir(&outside).expect("readable").count(), 0);
}

#[test]
fn kernel_parameters_are_the_containers_own_or_refused() {
    let Some(mut bundle) = Bundle::new(
        "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni /proc/sys/kernel/domainname \
         /proc/sys/fs/mqueue/msg_max",
    ) else {
        return;
    };
    let host = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("a parameter");
    let before = host();
    bundle.set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_default_ttl": "77", "kernel/shmmni": "123", "kernel.domainname": "d", "fs.mqueue.msg_max": "12"}),
    );
    // Where they are read-only for the container they are set all the same.
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]));
    assert_eq!(bundle.prints(), "77\n123\nd\n12\n");
    assert_eq!(host(), before);
    for (name, why) in [
        ("kernel.panic", "in no namespace"),
        ("kernel.hostname", "hostname is for"),
        ("net.ipv4.no_such", "set kernel parameters: openat2"),
        ("net.ipv4.../../kernel.panic", "no kernel parameter"),
    ] {
        bundle.set("/linux/sysctl", json!({name: "1"}));
        let said = bundle.refuses();
        assert!(said.contains(why), "{name}: {said}");
    }
    for (name, kind) in
        [("net.ipv4.ip_default_ttl", "network"), ("kernel.shmmni", "ipc"), ("kernel.domainname", "uts")]
    {
        bundle.set("/linux/sysctl", json!({name: "1"}));
        let link = if kind == "network" { "net" } else { kind };
        for path in [None, Some(format!("/proc/self/ns/{link}"))] {
            bundle.without_namespace(kind);
            if let Some(path) = path {
                bundle.namespace(kind, Some(&path));
            }
            let said = bundle.refuses();
            assert!(said.contains("for the host") || said.contains("would be the host's"), "{name}: {said}");
        }
        bundle.namespace(kind, None);
    }
    assert_eq!(host(), before);
}

#[test]
fn a_host_name_needs_a_namespace_of_its_own() {
    let Some(mut bundle) = Bundle::new("hostname") else { return };
    bundle.without_namespace("uts");
    assert!(bundle.refuses().contains("hostname is wrong"));
    bundle.set("/hostname", json!("")).set("/domainname", json!("d"));
    assert!(bundle.refuses().contains("domainname is wrong"));
}

#[test]
fn network_devices_come_with_their_addresses_and_their_new_name() {
    for users in [false, true] {
        let Some(mut bundle) = Bundle::new("ip -o addr; ip -o link") else { return };
        if users {
            let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
            bundle
                .namespace("user", None)
                .set("/linux/uidMappings", map.clone())
                .set("/linux/gidMappings", map);
        }
        let (here, there) = (format!("ta{}", std::process::id()), format!("tb{}", std::process::id()));
        let ip = |words: &str| {
            let status = Command::new("ip").args(words.split(' ')).status();
            assert!(status.expect("ip").success(), "{words}");
        };
        ip(&format!("link add {here} type veth peer name {there}"));
        ip(&format!("addr add 10.99.7.3/24 dev {here}"));
        ip(&format!("-6 addr add fd00:99::3/64 dev {here} nodad"));
        bundle.set("/linux/netDevices", json!({here.clone(): {"name": "inside0"}}));
        let out = bundle.prints();
        assert!(out.contains("inside0    inet 10.99.7.3/24") && out.contains("inet6 fd00:99::3/64"), "{out}");
        assert!(!std::path::Path::new(&format!("/sys/class/net/{here}")).exists());
    }
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.set("/linux/netDevices", json!({"no-such0": {}}));
    assert!(bundle.refuses().contains("no-such0"));
    bundle.set("/linux/netDevices", json!({"lo": {"name": "a/b"}}));
    assert!(bundle.refuses().contains("no name of an interface"));
    bundle.set("/linux/netDevices", json!({"lo": {}})).without_namespace("network");
    assert!(bundle.refuses().contains("network namespace"));
}
