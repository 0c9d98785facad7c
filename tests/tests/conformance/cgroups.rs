//! config-linux.md, "Control groups".

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::Bundle;

use crate::{cases, refuses};

/// A controller's hierarchy of version 1; none, and the test skipped, where there is none.
fn version_1(controller: &str) -> Option<PathBuf> {
    let path = Path::new("/sys/fs/cgroup").join(controller);
    if path.join("cgroup.procs").exists() {
        return Some(path);
    }
    testkit::skip(&format!("no version-1 hierarchy of {controller} here"));
    None
}

/// True with the test skipped where no controller of version 2 is to be had: the guest's tests have them.
fn no_version_2() -> bool {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let none = controllers.split_whitespace().next().is_none();
    if none {
        testkit::skip("no control groups of version 2 alone here");
    }
    none
}

/// With these resources the files of the container's group of version 1 hold that.
fn sets(
    resources: Value,
    files: &'static [(&'static str, &'static str, &'static str)],
) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        bundle.config["linux"]["resources"] = resources;
        bundle.args(&["sleep", "100"]);
        for (controller, file, wanted) in files {
            let Some(_) = version_1(controller) else { return };
            if bundle.groups().is_empty() {
                bundle.create().ok();
            }
            let groups = bundle.groups();
            let group =
                groups.iter().find(|path| path.starts_with(Path::new("/sys/fs/cgroup").join(controller)));
            let group = group.unwrap_or_else(|| panic!("no group of {controller}: {groups:?}"));
            if !group.join(file).exists() {
                testkit::skip(&format!("this kernel has no {file}"));
                continue;
            }
            let text = std::fs::read_to_string(group.join(file)).expect("a file of the group");
            assert_eq!(text.trim(), *wanted, "{file}");
            let procs = std::fs::read_to_string(group.join("cgroup.procs")).expect("procs");
            assert!(procs.lines().any(|pid| pid == bundle.pid().to_string()), "{procs}");
        }
    }
}

cases! {
    "config-linux.md, Control groups" {
        a_group_that_is_not_fit_is_refused: "where the container's control group is checked and not fit, that is an error" => |mut bundle| {
            let Some(pids) = version_1("freezer") else { return };
            let path = format!("/conformance/{}", bundle.id());
            let group = pids.join(&path[1..]);
            std::fs::create_dir_all(&group).expect("mkdir");
            std::fs::write(group.join("freezer.state"), "FROZEN").expect("write");
            bundle.config["linux"]["cgroupsPath"] = json!(path);
            let said = bundle.create().fails(1);
            std::fs::write(group.join("freezer.state"), "THAWED").expect("write");
            assert!(said.stderr.contains("frozen"), "{said}");
        };
    }
    "config-linux.md, Cgroups Path" {
        an_absolute_path_is_below_the_mount_point: "an absolute `cgroupsPath` is relative to the cgroups mount point" => |mut bundle| {
            let Some(pids) = version_1("pids") else { return };
            let path = format!("/conformance/{}", bundle.id());
            bundle.config["linux"]["cgroupsPath"] = json!(path);
            bundle.create().ok();
            let procs = std::fs::read_to_string(pids.join(&path[1..]).join("cgroup.procs")).expect("the group");
            assert_eq!(procs.trim(), bundle.pid().to_string());
        };
        the_same_path_is_the_same_place: "the same `cgroupsPath` is always the same place" => |mut bundle| {
            let mut places = Vec::new();
            for path in [format!("/conformance/{}", bundle.id()), format!("relative/{}", bundle.id())] {
                bundle.config["linux"]["cgroupsPath"] = json!(path);
                for _ in 0..2 {
                    bundle.create().ok();
                    places.push(bundle.groups());
                    bundle.verb(&["delete", "--force", bundle.id()]).ok();
                }
            }
            assert!(!places[0].is_empty() && places[0] == places[1] && places[2] == places[3], "{places:?}");
        };
        an_invalid_path_is_refused: "a `cgroupsPath` that is considered invalid is an error" => |mut bundle| {
            for path in ["/../../outside", "a/../../../outside", "/conformance/\u{0}x"] {
                bundle.config["linux"]["cgroupsPath"] = json!(path);
                let said = bundle.create();
                // Either an error, or a place below the mount point all the same.
                if said.code == 0 {
                    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).expect("cgroup");
                    assert!(!cgroup.contains(".."), "{cgroup}");
                    bundle.verb(&["delete", "--force", bundle.id()]).ok();
                }
                bundle.assert_nothing_left();
            }
        };
    }
    "config-linux.md, Allowed Device list" {
        device_rules_hold_in_the_listed_order: "device rules are applied in the listed order" => |mut bundle| {
            let Some(_) = version_1("devices") else { return };
            // The full device, under a name of its own: what is always there is always allowed.
            let node = json!([{"type": "c", "path": "/dev/mem2", "major": 1, "minor": 1}]);
            bundle.config["linux"]["devices"] = node;
            let one = |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": 10, "minor": 229, "access": access});
            let all = json!({"allow": false, "access": "rwm"});
            let list = |bundle: &mut Bundle, rules: Value| {
                bundle.config["linux"]["resources"] = json!({"devices": rules});
                bundle.create().ok();
                let group = bundle.groups().into_iter().find(|path| path.starts_with("/sys/fs/cgroup/devices")).expect("a group");
                let list = std::fs::read_to_string(group.join("devices.list")).expect("devices.list");
                bundle.verb(&["delete", "--force", bundle.id()]).ok();
                list
            };
            let allowed = list(&mut bundle, json!([all, one(true, "rwm")]));
            assert!(allowed.contains("c 10:229 rwm"), "{allowed}");
            let denied = list(&mut bundle, json!([all, one(true, "rwm"), one(false, "rwm")]));
            assert!(!denied.contains("c 10:229"), "{denied}");
            let part = list(&mut bundle, json!([all, one(true, "rwm"), one(false, "w")]));
            assert!(part.contains("c 10:229 rm"), "{part}");
        };
        a_rule_needs_its_word: "`allow` is required" => |mut bundle| {
            bundle.config["linux"]["resources"] = json!({"devices": [{"access": "rwm"}]});
            refuses(&bundle, "allow");
        };
    }
    "config-linux.md, Memory" {
        memory_limits_are_set: "`limit`, `reservation` and `swap` are set" => sets(
            json!({"memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728}}),
            &[("memory", "memory.limit_in_bytes", "67108864"), ("memory", "memory.soft_limit_in_bytes", "33554432"),
              ("memory", "memory.memsw.limit_in_bytes", "134217728")]);
        swappiness_and_oom_killer_are_set: "`swappiness` and `disableOOMKiller` are set" => |mut bundle| {
            let Some(_) = version_1("memory") else { return };
            bundle.config["linux"]["resources"] = json!({"memory": {"limit": 67_108_864, "swappiness": 13, "disableOOMKiller": true}});
            bundle.create().ok();
            let group = bundle.groups().into_iter().find(|path| path.starts_with("/sys/fs/cgroup/memory")).expect("a group");
            let read = |name: &str| std::fs::read_to_string(group.join(name)).expect("a file of the group");
            assert_eq!(read("memory.swappiness"), "13\n");
            assert!(read("memory.oom_control").starts_with("oom_kill_disable 1"), "{}", read("memory.oom_control"));
        };
        a_limit_below_the_usage_is_refused: "with `checkBeforeUpdate` a limit below the usage is rejected" => |mut bundle| {
            if no_version_2() {
                return;
            }
            bundle.config["linux"]["resources"] = json!({"memory": {"limit": 134_217_728}});
            bundle.sh("dd if=/dev/zero of=/dev/shm/x bs=1M count=32 2>/dev/null; echo ready; sleep 100");
            bundle.create().ok();
            bundle.start().ok();
            bundle.wait_for_output("ready");
            let file = bundle.path("resources.json");
            std::fs::write(&file, json!({"memory": {"limit": 8_388_608, "checkBeforeUpdate": true}}).to_string()).expect("write");
            bundle.verb(&["update", "-r", &file.display().to_string(), bundle.id()]).fails(1);
            assert_eq!(bundle.status(), "running");
        };
    }
    "config-linux.md, CPU" {
        cpu_shares_quota_and_period_are_set: "`shares`, `quota` and `period` are set" => sets(
            json!({"cpu": {"shares": 512, "quota": 50_000, "period": 200_000}}),
            &[("cpu", "cpu.shares", "512"), ("cpu", "cpu.cfs_quota_us", "50000"), ("cpu", "cpu.cfs_period_us", "200000")]);
        cpu_burst_and_idle_are_set: "`burst` and `idle` are set" => sets(
            json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 10_000, "idle": 1}}),
            &[("cpu", "cpu.cfs_burst_us", "10000"), ("cpu", "cpu.idle", "1")]);
        cpus_and_memory_nodes_are_set: "`cpus` and `mems` are set" => sets(
            json!({"cpu": {"cpus": "0", "mems": "0"}}), &[("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0")]);
        a_burst_above_the_quota_is_refused: "`burst` is no larger than `quota`" => |mut bundle| {
            bundle.config["linux"]["resources"] = json!({"cpu": {"quota": 10_000, "period": 100_000, "burst": 90_000}});
            refuses(&bundle, "linux.resources.cpu");
        };
    }
    "config-linux.md, Block IO" {
        throttles_are_set: "bytes and operations per second of a device are limited" => |mut bundle| {
            let Some(_) = version_1("blkio") else { return };
            let disk = std::fs::read_to_string("/sys/block/vda/dev").unwrap_or_default();
            let Some((major, minor)) = disk.trim().split_once(':').map(|(a, b)| (a.parse::<u32>().expect("a number"), b.parse::<u32>().expect("a number"))) else {
                testkit::skip("no disk vda");
                return;
            };
            let rate = |rate: u32| json!([{"major": major, "minor": minor, "rate": rate}]);
            bundle.config["linux"]["resources"] = json!({"blockIO": {"throttleReadBpsDevice": rate(1_000_000), "throttleWriteBpsDevice": rate(2_000_000), "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400)}});
            bundle.create().ok();
            let group = bundle.groups().into_iter().find(|path| path.starts_with("/sys/fs/cgroup/blkio")).expect("a group");
            for (file, wanted) in [("read_bps", 1_000_000), ("write_bps", 2_000_000), ("read_iops", 300), ("write_iops", 400)] {
                let text = std::fs::read_to_string(group.join(format!("blkio.throttle.{file}_device"))).expect("a file of the group");
                assert_eq!(text.trim(), format!("{major}:{minor} {wanted}"), "{file}");
            }
        };
        a_weight_is_set_or_refused: "`weight` is set, or an error where the kernel cannot" => sets_or_refuses(json!({"blockIO": {"weight": 500}}), "blkio", "weight");
    }
    "config-linux.md, Huge page limits" {
        huge_pages_are_limited_or_refused: "`hugepageLimits` are set, or an error where the kernel cannot" => sets_or_refuses(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}), "hugetlb", "hugetlb");
        a_page_size_that_is_none_is_refused: "a `pageSize` without a control file is an error" => |mut bundle| {
            bundle.config["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]});
            refuses(&bundle, "3MB");
        };
    }
    "config-linux.md, Network" {
        network_classes_are_set_or_refused: "`classID` and `priorities` are set, or an error where the kernel cannot" => sets_or_refuses(
            json!({"network": {"classID": 1_048_577}}), "net_cls", "net_cls");
    }
    "config-linux.md, PIDs" {
        the_number_of_tasks_is_limited: "`pids.limit` is set" => sets(json!({"pids": {"limit": 23}}), &[("pids", "pids.max", "23")]);
    }
    "config-linux.md, RDMA" {
        rdma_is_limited_or_refused: "`rdma` is set, or an error where the kernel cannot" => sets_or_refuses(json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}), "rdma", "rdma");
    }
    "config-linux.md, Unified" {
        a_controller_that_is_not_there_is_refused: "a controller that is not present or cannot be enabled is an error" => |mut bundle| {
            bundle.config["linux"]["resources"] = json!({"unified": {"nonsense.max": "1"}});
            refuses(&bundle, "unified");
        };
        unified_files_are_written: "the needed controllers are enabled, and what the runtime does not know is written all the same" => |mut bundle| {
            if no_version_2() {
                return;
            }
            bundle.config["linux"]["resources"] = json!({"unified": {"pids.max": "19", "memory.high": "67108864"}});
            bundle.create().ok();
            let group = bundle.groups().pop().expect("a group");
            assert_eq!(std::fs::read_to_string(group.join("pids.max")).expect("pids.max"), "19\n");
            assert_eq!(std::fs::read_to_string(group.join("memory.high")).expect("memory.high"), "67108864\n");
        };
    }
}

/// With the controller the container is made, without it the error names it.
fn sets_or_refuses(resources: Value, controller: &'static str, word: &'static str) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        bundle.config["linux"]["resources"] = resources;
        let said = bundle.create();
        if said.code == 0 {
            let known = std::fs::read_to_string("/proc/self/cgroup").expect("cgroup");
            let there = known.lines().any(|line| {
                line.split(':')
                    .nth(1)
                    .is_some_and(|names| names.split(',').any(|name| name == controller || name.is_empty()))
            });
            assert!(there, "{controller} is not there and nothing was said");
        } else {
            assert!(said.stderr.contains(word), "{said}");
            bundle.assert_nothing_left();
        }
    }
}
