//! Docker's flags of oci-mount: what each does inside the container.

use ocipipe_tests::Hub;
use serde_json::{Value, json};
use testkit::{Outcome, fixtures, needs};

/// A container of a busybox image, made with these flags, and what a shell in it prints.
fn output(hub: &Hub, flags: &[&str], script: &str) -> String {
    let line = hub.container(&[&["--rm"], flags].concat());
    hub.output(&line, script)
}

/// A container that cannot be made.
fn refused(hub: &Hub, flags: &[&str]) -> Outcome {
    let rootfs = hub.rootfs();
    hub.world.feed("oci-mount", flags, &rootfs.stdout)
}

#[test]
fn rights_are_those_of_the_flags() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let bounding = "awk '/CapBnd|NoNewPrivs|Seccomp:/ {print $2}' /proc/self/status";
    let shown = |flags: &[&str]| output(&hub, flags, bounding).replace('\n', " ");
    assert_eq!(shown(&[]), "00000000a80425fb 0 2 ");
    assert_eq!(shown(&["--cap-drop", "all", "--cap-add", "net_admin"]), "0000000000001000 0 2 ");
    assert_eq!(shown(&["--cap-drop", "CHOWN"]), "00000000a80425fa 0 2 ");
    assert_eq!(
        shown(&["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"]),
        "00000000a80425fb 1 0 "
    );
    let privileged = shown(&["--privileged"]);
    assert!(privileged.ends_with(" 0 0 ") && !privileged.starts_with("00000000a80425fb"), "{privileged}");
    assert_eq!(output(&hub, &["--group-add", "4321"], "id -G"), "0 4321\n");
}

#[test]
fn a_profile_of_ones_own_filters_calls() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let profile = hub.world.path("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
         "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
    std::fs::write(&profile, text).expect("write");
    let option = format!("seccomp={}", profile.display());
    let script = "mkdir /new 2>&1 || true";
    assert!(output(&hub, &["--security-opt", &option], script).contains("not supported"));
    assert_eq!(output(&hub, &["--security-opt", &option, "--cap-add", "SYS_ADMIN"], script), "");
    std::fs::write(&profile, "{}").expect("write");
    refused(&hub, &["--security-opt", &option]).fails(6).says("defaultAction");
    refused(&hub, &["--security-opt", "seccomp=/no/such/file"]).fails(3);
}

#[test]
fn limits_of_processes_and_parameters_are_set() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    assert_eq!(output(&hub, &["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn"), "100\n200\n");
    assert_eq!(output(&hub, &["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500\n");
    let sysctl = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shm_rmid_forced=1"];
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced";
    assert_eq!(output(&hub, &sysctl, script), "1\n1\n");
    refused(&hub, &["--sysctl", "net.ipv4.ip_forward=1", "--net", "host"]).fails(2).says("--net host");
    refused(&hub, &["--sysctl", "vm.swappiness=1"]).fails(2);
}

#[test]
fn limits_reach_the_control_group() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let flags = [
        "-m",
        "32m",
        "--memory-reservation",
        "16m",
        "--pids-limit",
        "77",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
    ];
    let line = hub.container(&[&["--name", "limited"], &flags[..], &["--", "sleep", "1000"]].concat());
    hub.world.feed("oci-spawn", &["-d"], &line.stdout).ok();
    let path = hub.world.store().join("containers").join(line.member("id")).join("state.json");
    let state: Value = serde_json::from_slice(&std::fs::read(path).expect("state.json")).expect("JSON");
    let places = state["group"]["places"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let found = |file: &str| {
        let paths =
            places.iter().map(|place| format!("{}/{}/{file}", text(&place["mount"]), text(&place["path"])));
        paths
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .next()
            .map(|value| value.trim().to_string())
    };
    let (bytes, half) = (Some("33554432".to_string()), Some("50000 100000".to_string()));
    let pair = found("cpu.cfs_quota_us").zip(found("cpu.cfs_period_us")).map(|(a, b)| format!("{a} {b}"));
    assert_eq!(found("memory.limit_in_bytes").or(found("memory.max")), bytes, "{state}");
    assert_eq!(found("pids.max").as_deref(), Some("77"), "{state}");
    assert_eq!(pair.or(found("cpu.max")), half, "{state}");
    let reserved = found("memory.soft_limit_in_bytes").or(found("memory.low"));
    assert_eq!(reserved.as_deref(), Some("16777216"), "{state}");
    if let Some(shares) = found("cpu.shares") {
        assert_eq!(shares, "512");
    }
    hub.world.tool("oci-mount", &["--remove", "--force", "limited"]).ok();
    // What docker's users see from inside.
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null || true";
    assert_eq!(output(&hub, &["-m", "32m"], script), "33554432\n");
}

#[test]
fn what_is_hidden_can_be_shown_and_more_hidden() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let script = "grep -c ' /proc/' /proc/self/mounts || true";
    assert_ne!(output(&hub, &[], script), "0\n");
    assert_eq!(output(&hub, &["--security-opt", "systempaths=unconfined"], script), "0\n");
    assert_eq!(output(&hub, &["--security-opt", "mask=/etc/passwd"], "wc -c </etc/passwd"), "0\n");
}

#[test]
fn names_are_found_as_the_flags_say() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let flags = ["-h", "box", "--domainname", "example.org", "--add-host", "db:10.0.0.1", "--dns", "9.9.9.9"];
    let script = "hostname; cat /proc/sys/kernel/domainname /etc/hostname /etc/hosts /etc/resolv.conf";
    let shown =
        output(&hub, &[&flags[..], &["--dns-search", "a.b", "--dns-option", "ndots:2"]].concat(), script);
    assert!(shown.starts_with("box\nexample.org\nbox\n127.0.0.1\tlocalhost\n"), "{shown}");
    for line in [
        "10.0.0.1\tdb\n",
        "127.0.1.1\tbox.example.org box\n",
        "search a.b\nnameserver 9.9.9.9\noptions ndots:2\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    let host = output(&hub, &["--net", "host", "--add-host", "gate:host-gateway"], "cat /etc/hosts");
    assert!(host.ends_with("127.0.0.1\tgate\n"), "{host}");
    refused(&hub, &["--uts", "host", "-h", "box"]).fails(2).says("conflicting options");
    refused(&hub, &["--add-host", "gate:host-gateway"]).fails(7);
}

#[test]
fn file_systems_in_memory_have_their_options_and_size() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let flags = [
        "--tmpfs",
        "/run/x:size=1m,mode=700,exec",
        "--shm-size",
        "8m",
        "--mount",
        "type=tmpfs,dst=/t,tmpfs-size=2m,ro",
    ];
    let script = "grep -E ' (/run/x|/t|/dev/shm) ' /proc/self/mounts | sort -k2";
    let shown = output(&hub, &flags, script);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].contains("/dev/shm tmpfs rw,nosuid,nodev,noexec") && lines[0].contains("size=8192k"),
        "{shown}"
    );
    assert!(lines[1].contains("/run/x tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=700"), "{shown}");
    assert!(
        lines[2].contains("/t tmpfs ro,nosuid,nodev,noexec") && lines[2].contains("size=2048k"),
        "{shown}"
    );
}

#[test]
fn volumes_begin_with_the_images_files_and_outlive_containers() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::of(&fixtures::busybox().set("Volumes", json!({"/etc": {}})));
    let first = hub.container(&["--name", "first", "-v", "data:/etc", "-v", "/anonymous"]);
    assert!(
        hub.output(&first, "head -1 /etc/os-release; echo 1 >/etc/mine; echo 2 >/anonymous/file")
            .starts_with("ID=")
    );
    // The other one has a file of that name in it by now: nothing is copied over it.
    assert_eq!(
        output(&hub, &["-v", "data:/etc:ro"], "cat /etc/mine; touch /etc/x 2>/dev/null || echo ro"),
        "1\nro\n"
    );
    assert_eq!(output(&hub, &["--volumes-from", "first:ro"], "cat /etc/mine /anonymous/file"), "1\n2\n");
    let empty = ["--mount", "type=volume,src=empty,dst=/etc,volume-nocopy"];
    assert_eq!(output(&hub, &empty, "ls /etc | grep -c os-release || true"), "0\n");
    // An image's VOLUME is a volume of the container's own, but a directory of a one-off's layer.
    let own = hub.container(&["--name", "own", "--read-only"]);
    assert_eq!(hub.output(&own, "touch /etc/written && grep -c ' /etc ' /proc/self/mounts"), "1\n");
    assert_eq!(output(&hub, &[], "grep -c ' /etc ' /proc/self/mounts || true"), "0\n");
    let tmpfs = output(&hub, &["--image-volume", "tmpfs"], "grep ' /etc ' /proc/self/mounts");
    assert!(tmpfs.starts_with("tmpfs /etc tmpfs"), "{tmpfs}");
    refused(&hub, &["-v", "data:/a", "--tmpfs", "/a"]).fails(2).says("duplicate mount point");
}

#[test]
fn a_path_in_a_volume_is_followed_inside_the_volume() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let secret = hub.world.path("secret");
    std::fs::create_dir(&secret).expect("mkdir");
    let script = format!("mkdir -p /v{0}; echo inside >/v{0}/file; ln -s {0} /v/link", secret.display());
    output(&hub, &["-v", "data:/v"], &script);
    std::fs::write(secret.join("file"), "outside").expect("write");
    let shown = |path: &str| {
        output(
            &hub,
            &["--mount", &format!("type=volume,src=data,dst=/x,volume-subpath={path}")],
            "cat /x/file",
        )
    };
    assert_eq!(shown("link"), "inside\n");
    let missing = hub.container(&["--rm", "--mount", "type=volume,src=data,dst=/x,volume-subpath=no/such"]);
    hub.world.feed("oci-spawn", &["--pass"], &missing.stdout).fails(3);
}

#[test]
fn devices_are_given_by_path_and_by_cdi_name() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let script = "stat -c '%t:%T %a' /dev/x; echo y >/dev/x";
    assert_eq!(output(&hub, &["--device", "/dev/null:/dev/x"], script), "1:3 666\n");
    // Outside /dev as well, whoever keeps the container from other devices: its mounts, or its control group.
    for limit in [&[][..], &["-m", "64m"]] {
        let flags = [limit, &["--device", "/dev/zero:/opt/zero"]].concat();
        assert_eq!(output(&hub, &flags, "head -c 3 /opt/zero | wc -c"), "3\n", "{limit:?}");
    }
    let dir = hub.world.path("cdi");
    std::fs::create_dir(&dir).expect("mkdir");
    let text = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/class", "devices": [{"name": "one", "containerEdits": {
        "env": ["GIVEN=1"], "deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null"}],
        "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/given", "options": ["ro"]}]}}]}"#;
    std::fs::write(dir.join("vendor.json"), text).expect("write");
    let place = dir.to_str().expect("UTF-8");
    let flags = ["--cdi-spec-dir", place, "--device", "vendor.com/class=one"];
    let shown = output(&hub, &flags, &format!("{script}; echo $GIVEN; test -s /given && echo mounted"));
    assert_eq!(shown, "1:3 666\n1\nmounted\n");
    // One that no container has of itself: the control group's rules must let it through, and no more than was given.
    let opened = "(: </dev/x) 2>/dev/null && echo read; (: >>/dev/x) 2>/dev/null && echo written; true";
    assert_eq!(output(&hub, &["--device", "/dev/loop-control:/dev/x"], opened), "read\nwritten\n");
    assert_eq!(output(&hub, &["--device", "/dev/loop-control:/dev/x:r"], opened), "read\n");
    let made = format!("mknod /dev/x c 10 237; {opened}");
    assert_eq!(output(&hub, &[], &made), "");
    assert_eq!(output(&hub, &["--device-cgroup-rule", "c 10:237 r"], &made), "read\n");
    assert_eq!(output(&hub, &["--privileged"], &made), "read\nwritten\n");
    refused(&hub, &["--cdi-spec-dir", place, "--device", "vendor.com/class=two"]).fails(3);
    refused(&hub, &["--device", "/etc/passwd"]).fails(2);
    refused(&hub, &["--device", "/dev/no-such"]).fails(3);
}

#[test]
fn another_containers_namespaces_are_shared_while_it_runs() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let other =
        hub.container(&["--name", "other", "-h", "theirs", "--ipc", "shareable", "--", "sleep", "1000"]);
    let flags = ["--net", "container:other", "--pid", "container:other", "--ipc", "container:other"];
    let sharer = hub.container(&[&["--name", "sharer"], &flags[..]].concat());
    hub.world.feed("oci-spawn", &["--pass"], &sharer.stdout).fails(9).says("other");
    hub.world
        .feed("oci-spawn", &["-d", "--", "sh", "-c", "echo shared >/dev/shm/file; sleep 1000"], &other.stdout)
        .ok();
    let script = "cat /etc/hostname; for n in 1 2 3 4 5 6 7 8 9; do test -s /dev/shm/file || sleep 1; done; cat /dev/shm/file; \
                  test $$ != 1 && tr '\\0' ' ' </proc/1/cmdline | grep -c 'sleep 1000'";
    assert_eq!(hub.output(&sharer, script), "theirs\nshared\n1\n");
    // What the other writes into its file is nobody's name.
    let forged = "echo 'evil\n6.6.6.6 host' >/etc/hostname";
    hub.world.tool("oci-spawn", &["exec", "other", "sh", "-c", forged]).ok();
    assert_eq!(output(&hub, &["--net", "container:other"], "hostname; echo $HOSTNAME"), "theirs\ntheirs\n");
    refused(&hub, &["--net", "container:nobody"]).fails(3);
    refused(&hub, &["--userns", "keep-id"]).fails(7);
    hub.world.tool("oci-mount", &["--remove", "--force", "other"]).ok();
}

#[test]
fn with_init_orphans_are_reaped_and_signals_and_the_status_pass_through() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = |name: &str| hub.container(&["--name", name, "--init"]);
    let shown = hub.output(
        &line("reaps"),
        "echo $$ $(cat /proc/1/comm); tr '\\0' ' ' </proc/1/cmdline; echo; (sh -c 'sleep 0.1 & ' ); sleep 1; ls -d /proc/[0-9]* | wc -l",
    );
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].ends_with(" oci-init") && !lines[0].starts_with("1 "), "{shown}");
    assert_eq!(lines[1].trim(), "oci-init", "nothing of the caller's command line is left");
    assert!(lines[2].parse::<u32>().is_ok_and(|count| count <= 4), "{shown}");
    let ended = |name: &str, script: &str| {
        hub.world.feed("oci-spawn", &["--", "sh", "-c", script], &line(name).stdout).code
    };
    assert_eq!(ended("status", "exit 42"), 42);
    assert_eq!(ended("signal", "kill -9 $$"), 137);
    assert_eq!(ended("forwarded", "trap 'exit 7' TERM; kill -TERM 1; sleep 5"), 7);
    let missing = hub.world.feed("oci-spawn", &["--", "/no/such"], &line("missing").stdout);
    missing.fails(127);
}

#[test]
fn the_id_is_written_to_a_file_that_was_not_there() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let file = hub.world.name("id");
    let line = hub.container(&["--cidfile", &file]);
    assert_eq!(std::fs::read_to_string(&file).expect("the id"), line.member("id"));
    refused(&hub, &["--cidfile", &file]).fails(9).says("container ID file found");
    let other = hub.world.name("other");
    refused(&hub, &["--cidfile", &other, "-u", "nobody-at-all"]).fails(3);
    assert!(!std::path::Path::new(&other).exists(), "a container that was not made leaves no file");
}
