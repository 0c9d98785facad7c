//! What limits do to a container of the store, on the control groups of this host. Needs root.

#[allow(dead_code, reason = "each of these tests uses a part of it")]
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use descriptor::Status;
use serde_json::{Value, json};
use store::Container;
use world::{World, code, line, text, wait_for};

/// Changes the resources of a container's configuration.
fn limit(container: &Container, resources: Value) {
    let path = container.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    for (member, value) in resources.as_object().expect("an object") {
        config["linux"]["resources"][member] = value.clone();
    }
    fs::write(&path, config.to_string()).expect("write");
}

/// The group's directories of a container, in every hierarchy.
fn groups(container: &Container) -> Vec<PathBuf> {
    let name = format!("ocipipe/{}-{}", container.id(), container.instance());
    let all = fs::read_dir("/sys/fs/cgroup").expect("control groups").flatten();
    let all = all.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    all.map(|hierarchy| hierarchy.join(&name)).filter(|path| path.is_dir()).collect()
}

fn has(controller: &str) -> bool {
    let known = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let found = known.lines().any(|line| line.split(':').nth(1) == Some(controller))
        || unified.split_whitespace().any(|one| one == controller);
    if !found {
        testkit::skip(&format!("this host has no control group of {controller}"));
    }
    found
}

fn detached(world: &World, container: &Container, command: &[&str]) {
    let output = world.spawn(&line(container), &[&["-d", "--"], command].concat());
    assert_eq!(code(&output), 0, "{output:?}");
}

#[test]
fn a_memory_limit_ends_the_container_and_says_so() {
    let Some(world) = World::new() else { return };
    if !has("memory") {
        return;
    }
    let container = world.plain("a");
    limit(&container, json!({"memory": {"limit": 8 << 20, "swap": 8 << 20}}));
    let eat = ["sh", "-c", "x=x; while :; do x=$x$x; done"];
    let output = world.spawn(&line(&container), &[&["--"], &eat[..]].concat());
    assert_eq!(code(&output), 137, "{output:?}");
    let state = container.state().expect("state");
    assert!(state.oom_killed && state.group.is_none(), "{state:?}");
    assert_eq!(groups(&container), Vec::<PathBuf>::new());
    // In the background as well; and what ends well is not said to have been killed.
    detached(&world, &container, &eat);
    wait_for(&container, Status::Stopped);
    let state = container.settle().expect("state");
    assert_eq!((state.exit_code, state.oom_killed), (Some(137), true), "{state:?}");
    assert_eq!(code(&world.spawn(&line(&container), &["--", "echo"])), 0);
    assert!(!container.state().expect("state").oom_killed);
}

#[test]
fn a_limit_of_processes_stops_a_fork_bomb() {
    let Some(world) = World::new() else { return };
    if !has("pids") {
        return;
    }
    let container = world.plain("a");
    limit(&container, json!({"pids": {"limit": 16}}));
    let bomb = "b() { b | b & }; b; sleep 1; n=0; for p in /proc/[0-9]*; do n=$((n + 1)); done; echo $n";
    let output = world.spawn(&line(&container), &["--", "sh", "-c", bomb]);
    assert!(text(&output.stderr).contains("can't fork"), "{output:?}");
    let most = world.spawn(&line(&container), &["--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 9 & done; echo up; sleep 9 & sleep 9 & sleep 9 & sleep 9 & echo never"]);
    assert!(!text(&most.stdout).contains("never"), "{most:?}");
    assert_eq!(groups(&container), Vec::<PathBuf>::new());
}

#[test]
fn other_limits_are_in_the_files_of_the_group_while_it_runs() {
    let Some(world) = World::new() else { return };
    if !(has("cpuset") && has("cpu") && Path::new("/sys/fs/cgroup/cpu/cpu.shares").exists()) {
        return;
    }
    let container = world.plain("a");
    limit(&container, json!({"cpu": {"shares": 512, "cpus": "0"}, "memory": {"reservation": 4 << 20}}));
    detached(&world, &container, &["sleep", "60"]);
    let at = format!("ocipipe/{}-{}", container.id(), container.instance());
    for (file, want) in [
        (format!("cpu/{at}/cpu.shares"), "512"),
        (format!("cpuset/{at}/cpuset.cpus"), "0"),
        (format!("memory/{at}/memory.soft_limit_in_bytes"), "4194304"),
    ] {
        let found = fs::read_to_string(Path::new("/sys/fs/cgroup").join(&file)).expect("read");
        assert_eq!(found.trim(), want, "{file}");
    }
    assert!(container.state().expect("state").group.is_some());
    overlay::remove(container.clone(), overlay::Running::Kill).expect("remove");
    assert_eq!(groups(&container), Vec::<PathBuf>::new());
}

#[test]
fn a_limit_that_the_host_cannot_hold_is_refused_by_name() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    for (resources, name) in [
        (json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}), "hugepageLimits"),
        (json!({"hugepageLimits": [], "rdma": {"none0": {"hcaHandles": 1}}}), "rdma"),
    ] {
        limit(&container, resources);
        let output = world.spawn(&line(&container), &["--pass", "--", "echo", "hello"]);
        assert_eq!(code(&output), 7, "{name}: {output:?}");
        assert!(text(&output.stderr).contains(name), "{output:?}");
        assert!(!text(&output.stderr).contains("hello"));
        assert_eq!(groups(&container), Vec::<PathBuf>::new());
        assert!(container.state().expect("state").group.is_none());
    }
}

#[test]
fn kill_minus_9_of_a_foreground_oci_spawn_leaves_neither_process_nor_group() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    limit(&container, json!({"memory": {"limit": 64 << 20}}));
    let mut child = world.command(&["--", "sleep", "60"]).spawn().expect("the tool");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), &line(&container)).expect("write");
    wait_for(&container, Status::Running);
    assert!(!groups(&container).is_empty());
    child.kill().expect("kill");
    child.wait().expect("wait");
    gone(&container);
    wait_for(&container, Status::Stopped);
    assert_eq!(code(&world.spawn(&line(&container), &["--", "echo"])), 0);
    assert!(container.state().expect("state").group.is_none());
}

/// Waits until the container has no groups.
fn gone(container: &Container) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !groups(container).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", groups(container));
        std::thread::sleep(Duration::from_millis(10));
    }
}
