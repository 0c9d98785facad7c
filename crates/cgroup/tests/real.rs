//! Control groups on the kernel that runs the tests, of whichever version it has. As root.
//!
//! On a host of version 1 `tests/guest.rs` runs this same program in a guest of version 2.
#![allow(missing_docs, clippy::disallowed_methods)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cgroup::{Driver, Error, Group, Request, Version};
use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;
use testkit::needs;

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;

/// A group of a test's own, removed with all its processes at the end.
struct Made {
    group: Group,
    name: PathBuf,
}

fn plan(path: &Path) -> Group {
    let request = Request { id: "unused", path: Some(path), driver: Driver::Fs, rootless: false };
    Group::plan(&request).expect("a plan")
}

fn name() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("/ocipipe-test-{}-{number}", std::process::id()))
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).expect("resources")
}

fn made(json: &str) -> Made {
    let name = name();
    let mut made = Made { group: plan(&name), name };
    made.group.make(&resources(json)).expect("a group");
    made
}

impl Made {
    fn update(&self, json: &str) -> cgroup::Result<()> {
        self.group.update(&resources(json))
    }

    /// A file's contents by its name on version 1 or on version 2.
    fn read(&self, v1: &str, v2: &str) -> String {
        let (controller, file) = match self.group.version() {
            Version::Legacy => (v1.split('.').next().unwrap_or_default(), v1),
            Version::Unified => ("", v2),
        };
        let fits = |place: &&cgroup::Place| {
            controller.is_empty() || place.controllers.iter().any(|one| one == controller)
        };
        let place = self.group.places().iter().find(fits).expect("a place");
        std::fs::read_to_string(place.directory().join(file)).expect(file).trim().to_string()
    }

    fn v1(&self) -> bool {
        self.group.version() == Version::Legacy
    }

    /// Runs a shell script inside and returns its status.
    fn run(&self, script: &str) -> ExitStatus {
        let mut held = self.start(script);
        held.go();
        held.0.wait().expect("wait")
    }

    fn start(&self, script: &str) -> Held {
        let child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let held = Held(child);
        self.group.adopt(held.pid()).expect("adopted");
        held
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        drop(self.group.kill(9));
        self.group.remove().expect("removed");
        for place in self.group.places() {
            assert!(!place.directory().exists(), "{:?} is left", place.directory());
        }
    }
}

/// A process in a group that waits to be told to go on.
struct Held(Child);

impl Held {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn go(&mut self) {
        self.0.stdin.take().expect("a pipe").write_all(b"\n").expect("write");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_plan_makes_nothing_and_names_every_directory() {
    needs!(Root);
    let name = name();
    let group = plan(&name);
    assert!(!group.is_none() && !group.exists());
    for place in group.places() {
        assert_eq!(place.path, name.strip_prefix("/").expect("absolute"));
        assert!(!place.directory().exists());
    }
    let record = serde_json::to_string(&group).expect("a record");
    let read: Group = serde_json::from_str(&record).expect("a group");
    read.remove().expect("what was never made is gone");
    assert!(read.processes(true).expect("processes").is_empty());
    read.kill(9).expect("nobody to kill");
}

#[test]
fn paths_that_climb_stay_in_the_hierarchy() {
    needs!(Root);
    let name = name();
    let climbing = PathBuf::from(format!("/../../..{}", name.display()));
    let mut group = plan(&climbing);
    group.make(&LinuxResources::default()).expect("made");
    for place in group.places() {
        assert_eq!(place.directory(), place.mount.join(name.strip_prefix("/").expect("absolute")));
        assert!(place.directory().is_dir(), "{:?}", place.directory());
    }
    group.remove().expect("removed");
}

#[test]
fn a_process_enters_and_is_listed_with_those_below() {
    needs!(Root);
    let made = made("{}");
    let held = made.start("exit 0");
    assert_eq!(made.group.processes(false).expect("processes"), [held.pid()]);
    let place = &made.group.places()[0];
    let devices = |place: &&cgroup::Place| place.controllers.iter().any(|one| one == "devices");
    let place = made.group.places().iter().find(devices).unwrap_or(place);
    let below = place.directory().join("below");
    std::fs::create_dir(&below).expect("mkdir");
    std::fs::write(below.join("cgroup.procs"), held.pid().to_string()).expect("moved");
    assert!(made.group.processes(false).expect("processes").is_empty());
    assert_eq!(made.group.processes(true).expect("processes"), [held.pid()]);
}

#[test]
fn a_group_with_processes_is_not_taken_for_a_new_container() {
    needs!(Root);
    let made = made("{}");
    let held = made.start("exit 0");
    let error = plan(&made.name).make(&LinuxResources::default()).expect_err("in use");
    assert!(matches!(error, Error::InUse { processes: 1, .. }), "{error}");
    drop(held);
    plan(&made.name).make(&LinuxResources::default()).expect("an empty one may be");
}

#[test]
fn what_fails_half_way_leaves_nothing() {
    needs!(Root);
    let name = name().join("a/b");
    let json = r#"{"pids":{"limit":5},"cpu":{"cpus":"9999"}}"#;
    let mut group = plan(&name);
    let error = group.make(&resources(json)).expect_err("no such processor");
    assert!(matches!(&error, Error::Limit { resource, .. } if resource == "cpu.cpus"), "{error}");
    for place in plan(&name).places() {
        let top = place.mount.join(place.path.iter().next().expect("a name"));
        assert!(!top.exists(), "{top:?} is left");
    }
}

#[test]
fn limits_read_back_as_they_were_given() {
    needs!(Root);
    let made = made(
        r#"{"memory":{"limit":33554432,"reservation":16777216,"swap":67108864},"pids":{"limit":17},
            "cpu":{"shares":2048,"quota":50000,"period":200000,"burst":1000,"cpus":"0","mems":"0"}}"#,
    );
    assert_eq!(made.read("memory.limit_in_bytes", "memory.max"), "33554432");
    assert_eq!(made.read("memory.soft_limit_in_bytes", "memory.low"), "16777216");
    let swap = if made.v1() { "67108864" } else { "33554432" };
    assert_eq!(made.read("memory.memsw.limit_in_bytes", "memory.swap.max"), swap);
    assert_eq!(made.read("pids.max", "pids.max"), "17");
    assert_eq!(made.read("cpu.shares", "cpu.weight"), if made.v1() { "2048" } else { "174" });
    assert_eq!(made.read("cpu.cfs_quota_us", "cpu.max"), if made.v1() { "50000" } else { "50000 200000" });
    assert_eq!(made.read("cpu.cfs_burst_us", "cpu.max.burst"), "1000");
    assert_eq!(made.read("cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(made.read("cpuset.mems", "cpuset.mems"), "0");
}

#[test]
fn memory_limits_are_raised_and_lowered_together_and_taken_away() {
    needs!(Root);
    let made = made(r#"{"memory":{"limit":33554432,"swap":33554432}}"#);
    for limit in [64 * MIB, 16 * MIB, 128 * MIB] {
        made.update(&format!(r#"{{"memory":{{"limit":{limit},"swap":{}}}}}"#, limit * 2)).expect("updated");
        assert_eq!(made.read("memory.limit_in_bytes", "memory.max"), limit.to_string());
        let swap = if made.v1() { limit * 2 } else { limit };
        assert_eq!(made.read("memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
    }
    made.update(r#"{"memory":{"limit":-1}}"#).expect("taken away");
    let most = if made.v1() { "9223372036854771712" } else { "max" };
    assert_eq!(made.read("memory.limit_in_bytes", "memory.max"), most);
    assert_eq!(made.read("memory.memsw.limit_in_bytes", "memory.swap.max"), most);
}

#[test]
fn bandwidth_is_changed_where_old_and_new_values_exclude_each_other() {
    needs!(Root);
    let made = made(r#"{"cpu":{"quota":10000,"period":10000}}"#);
    made.update(r#"{"cpu":{"quota":900000,"period":900000,"burst":900000}}"#).expect("raised");
    made.update(r#"{"cpu":{"quota":5000,"period":5000,"burst":0}}"#).expect("lowered");
    assert_eq!(made.read("cpu.cfs_quota_us", "cpu.max"), if made.v1() { "5000" } else { "5000 5000" });
    made.update(r#"{"cpu":{"quota":-1}}"#).expect("taken away");
    assert_eq!(made.read("cpu.cfs_quota_us", "cpu.max"), if made.v1() { "-1" } else { "max 100000" });
}

#[test]
fn the_memory_limit_kills_what_goes_beyond_it() {
    needs!(Root);
    let made = made(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let status = made.run("tail -c 60000000 /dev/zero");
    let code = status.code().unwrap_or(128 + 9);
    assert_eq!(code, 128 + 9, "{status}");
}

#[test]
fn the_process_limit_stops_forks() {
    needs!(Root);
    let made = made(r#"{"pids":{"limit":2}}"#);
    assert!(made.run("(exit 0) && exit 0").success(), "one more fits");
    assert!(!made.run("sleep 9 & sleep 9 & sleep 9 & wait; exit 0").success(), "three more do not");
}

#[test]
fn devices_are_denied_but_for_those_given_and_the_defaults() {
    needs!(Root);
    let made = made(
        r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]}"#,
    );
    let opens = |redirect: &str| made.run(&format!("exec 3{redirect}")).success();
    assert!(opens("</dev/null") && opens(">/dev/zero"), "the defaults");
    assert!(opens(">/dev/kmsg"), "the one given");
    assert!(!opens("</dev/kmsg"), "not for reading");
    made.update(r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#)
        .expect("updated");
    assert!(opens("</dev/kmsg"), "given now");
    assert!(!opens(">/dev/kmsg"), "taken away");
    made.update(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#).expect("updated");
    assert!(opens("<>/dev/kmsg"), "everything");
    made.update(r#"{"devices":[]}"#).expect("updated");
    assert!(!opens("</dev/kmsg") && opens("</dev/null"), "the defaults alone");
}

#[test]
fn a_container_without_rules_has_the_default_devices_only() {
    needs!(Root);
    let made = made("{}");
    assert!(made.run("exec 3</dev/null").success());
    assert!(!made.run("exec 3</dev/kmsg").success());
}

#[test]
fn a_frozen_group_stands_still_until_it_is_thawed() {
    needs!(Root);
    let made = made("{}");
    let mut held = made.start("exit 7");
    assert!(!made.group.is_frozen().expect("state"));
    made.group.freeze().expect("frozen");
    assert!(made.group.is_frozen().expect("state"));
    held.go();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(held.0.try_wait().expect("wait").is_none(), "it stands still");
    made.group.thaw().expect("thawed");
    assert!(!made.group.is_frozen().expect("state"));
    assert_eq!(held.0.wait().expect("wait").code(), Some(7));
}

#[test]
fn a_signal_reaches_every_process_of_a_group_frozen_or_not() {
    needs!(Root);
    for frozen in [false, true] {
        let made = made("{}");
        let mut held = made.start("sleep 60 & sleep 60 & wait");
        held.go();
        while made.group.processes(true).expect("processes").len() < 3 {
            std::thread::yield_now();
        }
        if frozen {
            made.group.freeze().expect("frozen");
        }
        made.group.kill(9).expect("killed");
        let status = held.0.wait().expect("wait");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
    let made = made("{}");
    let mut held = made.start("exit 0");
    made.group.kill(15).expect("signalled");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&held.0.wait().expect("wait")), Some(15));
}

#[test]
fn what_the_kernel_lacks_is_an_error_that_names_it() {
    needs!(Root);
    let made = made("{}");
    let cases = [
        (r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#, "hugetlb"),
        (r#"{"rdma":{"mlx5_9":{"hcaHandles":1}}}"#, "rdma"),
        (r#"{"blockIO":{"leafWeight":100}}"#, "leafWeight"),
        (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness"),
        (r#"{"unified":{"memory/high":"1"}}"#, "unified"),
        (r#"{"unified":{"memory.nosuch":"1"}}"#, "unified"),
        (r#"{"cpu":{"mems":"99"}}"#, "cpuset.mems"),
    ];
    for (json, name) in cases {
        let error = made.update(json).expect_err(json).to_string();
        assert!(error.contains(name), "{json}: {error}");
    }
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_when_asked_to_check() {
    needs!(Root);
    let made = made(r#"{"memory":{"limit":67108864}}"#);
    let mut held = made.start("tail -c 30000000 /dev/zero");
    held.go();
    while made.read("memory.usage_in_bytes", "memory.current").parse::<i64>().expect("a number") < 20 * MIB {
        std::thread::yield_now();
    }
    let error = made.update(r#"{"memory":{"limit":8388608,"checkBeforeUpdate":true}}"#).expect_err("refused");
    assert!(matches!(&error, Error::Value { resource, .. } if resource == "memory.limit"), "{error}");
}
