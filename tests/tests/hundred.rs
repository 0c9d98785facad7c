//! A hundred containers of one image that run at once: made, asked, listed, stopped and removed, each step for all of them, four
//! at a time; and what one costs.

use std::path::PathBuf;
use std::time::Instant;

use ocipipe_tests::Hub;
use serde_json::Value;
use testkit::{leftovers, needs, tree};

/// How many.
const MANY: usize = 100;
/// The most private memory of a monitor as the tests build it, without its optimisation for size; docs/benchmarks.md has
/// what the build for use takes.
const MONITOR_KIB: u64 = 1536;
/// The most that a container takes on the disk before it writes anything, KiB.
const DISK_KIB: u64 = 160;

/// Runs a shell command for each of them, four at a time; `$1` is the number.
fn each(hub: &Hub, what: &str, command: &str) -> String {
    let script = format!("seq {MANY} | xargs -P 4 -n 1 sh -ec '{command}' sh");
    timed(hub, what, &script)
}

/// Runs a script, and says how long it took.
fn timed(hub: &Hub, what: &str, script: &str) -> String {
    let begin = Instant::now();
    let text = hub.world.bash(script).ok().text();
    eprintln!("{what}: {} ms", begin.elapsed().as_millis());
    text
}

/// A figure of proc_pid_smaps_rollup(5), KiB.
fn kib(pid: u64, figure: &str) -> u64 {
    let all = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = all.lines().find(|line| line.starts_with(figure)).expect("the figure");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// What the kernel charges a container's group with, bytes; none where there is no such group here.
fn charge(state: &Value) -> Option<u64> {
    let files = ["memory.usage_in_bytes", "memory.current"];
    let places = state["group"]["places"].as_array()?.iter();
    let dirs =
        places.filter_map(|place| Some(format!("{}/{}", place["mount"].as_str()?, place["path"].as_str()?)));
    let found = dirs.flat_map(|dir| files.map(|file| format!("{dir}/{file}")));
    found.filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok()).next()
}

fn mean(all: impl Iterator<Item = u64>) -> u64 {
    let (count, sum) = all.fold((0, 0), |(count, sum), one| (count + 1, sum + one));
    sum / std::cmp::max(count, 1)
}

/// Says what a container costs, and refuses too much.
fn check_costs(hub: &Hub, documents: &[Value], before: u64) {
    let pids = |who: &Value| who["pid"].as_u64().expect("a pid");
    let monitors: Vec<u64> = documents.iter().map(|one| pids(&one["state"]["monitor"])).collect();
    let private = mean(monitors.iter().map(|pid| kib(*pid, "Private_Dirty:") + kib(*pid, "Private_Clean:")));
    let dirty = mean(monitors.iter().map(|pid| kib(*pid, "Private_Dirty:")));
    let pss = mean(monitors.iter().map(|pid| kib(*pid, "Pss:")));
    let charged = mean(documents.iter().filter_map(|one| charge(&one["state"])));
    let disk = (tree::allocated(&hub.world.store()) - before) / MANY as u64 / 1024;
    eprintln!("a monitor: private {private} KiB, dirty {dirty} KiB, Pss {pss} KiB");
    eprintln!("a container's group: {} KiB; on the disk {disk} KiB", charged / 1024);
    assert!(private < MONITOR_KIB, "{private} KiB of a monitor's own");
    assert!(disk < DISK_KIB, "{disk} KiB on the disk");
}

#[test]
fn a_hundred_containers_run_at_once_and_leave_nothing() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let mut hub = Hub::busybox();
    let temporary = hub.world.path("tmp");
    std::fs::create_dir(&temporary).expect("a directory");
    hub.world.set("TMPDIR", &hub.world.name("tmp"));
    let line = hub.rootfs();
    std::fs::write(hub.world.path("line"), &line.stdout).expect("a file");
    let before = tree::allocated(&hub.world.store());
    let made = "oci-mount -q --name c$1 -h h$1 -- sleep 1000 <line | oci-spawn -q -d >line$1";
    each(&hub, "made and started", made);

    let said = each(&hub, "answered an exec", "oci-spawn exec c$1 sh -c \"echo \\$(hostname) \\$\\$\"");
    let mut hosts: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    hosts.sort_unstable();
    let mut wanted: Vec<String> = (1..=MANY).map(|n| format!("h{n}")).collect();
    wanted.sort_unstable();
    assert_eq!(hosts, wanted);
    let listed = timed(&hub, "listed", "oci-inspect containers --format '{{.State}}'");
    assert_eq!(listed, "running\n".repeat(MANY));

    let numbers: Vec<String> = (1..=MANY).map(|n| format!("c{n}")).collect();
    let names: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let documents = hub.world.tool("oci-inspect", &[&["--format", "json"], &names[..]].concat()).ok().text();
    let documents: Vec<Value> = serde_json::Deserializer::from_str(&documents)
        .into_iter::<Value>()
        .map(|one| one.expect("a document"))
        .collect();
    assert_eq!(documents.len(), MANY);
    check_costs(&hub, &documents, before);
    let instances: Vec<&str> = documents.iter().filter_map(|one| one["instance"].as_str()).collect();
    let groups = || -> Vec<PathBuf> {
        let all = leftovers::groups("-").into_iter();
        all.filter(|path| instances.iter().any(|one| path.to_string_lossy().ends_with(one))).collect()
    };
    assert!(groups().len() >= MANY, "{} control groups", groups().len());

    each(&hub, "stopped", "oci-spawn -q stop -t 0 c$1 >/dev/null");
    assert_eq!(hub.world.tool("oci-inspect", &["ps", "-q"]).ok().text(), "");
    let statuses = hub.world.tool("oci-spawn", &[&["wait"], &names[..]].concat()).ok().text();
    assert_eq!(statuses, "137\n".repeat(MANY));
    hub.world.assert_nothing_runs();
    assert_eq!(groups(), Vec::<PathBuf>::new());
    timed(&hub, "removed", "oci-inspect containers -a | oci-mount --remove");
    hub.world.assert_nothing_left();
    let staged = leftovers::entries(&hub.world.store().join("staging"));
    assert_eq!(staged, <[&str; 0]>::default());
    assert_eq!(leftovers::entries(&temporary), <[&str; 0]>::default());
    hub.world.assert_store_is_sound();
}
