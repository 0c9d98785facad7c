//! Limits by docker's flags, as they bite: on the control groups of this host, whichever version they have. What the files of a
//! group say is in flags.rs; version 2 alone is in guest_limits.rs.

use std::path::{Path, PathBuf};

use ocipipe_tests::Hub;
use ocipipe_tests::traces::until;
use serde_json::{Value, json};
use testkit::{leftovers, needs};

/// Whether the host limits this; the rest of the test is skipped where it does not.
fn has(controller: &str) -> bool {
    let known = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let of_version_1 =
        |line: &str| line.split(':').nth(1).is_some_and(|all| all.split(',').any(|one| one == controller));
    let found = known.lines().any(of_version_1) || unified.split_whitespace().any(|one| one == controller);
    if !found {
        testkit::skip(&format!("this host has no control group of {controller}"));
    }
    found
}

/// A file of the group of a container that runs, in whichever hierarchy has it.
fn file(document: &Value, name: &str) -> Option<PathBuf> {
    let places = document["state"]["group"]["places"].as_array()?.iter();
    let paths = places.filter_map(|place| {
        Some(
            Path::new(place["mount"].as_str()?)
                .join(place["path"].as_str()?.trim_start_matches('/'))
                .join(name),
        )
    });
    paths.into_iter().find(|path| path.exists())
}

/// A number of a file with lines of a name and a number.
fn figure(path: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("the group is there");
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(key, _)| *key == name).and_then(|(_, number)| number.trim().parse().ok()).expect("a number")
}

#[test]
fn who_takes_more_memory_than_the_limit_is_killed_and_told_to_have_been() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    if !has("memory") {
        return;
    }
    let hub = Hub::busybox();
    let eat = "dd if=/dev/zero of=/dev/null bs=64M count=1";
    let words: Vec<&str> = ["--name", "eater", "-m", "16m", "--memory-swap", "16m", "--"]
        .into_iter()
        .chain(eat.split(' '))
        .collect();
    let made = hub.container(&words);
    let instance = made.member("instance");
    let killed = |hub: &Hub| {
        let (ours, docker) = (hub.document("eater"), hub.docker("eater"));
        let state = &docker["State"];
        assert_eq!(
            (&state["OOMKilled"], &state["ExitCode"], &state["Status"]),
            (&json!(true), &json!(137), &json!("exited"))
        );
        assert_eq!((&ours["state"]["oomKilled"], &ours["exitCode"]), (&json!(true), &json!(137)));
    };
    let foreground = hub.world.feed("oci-spawn", &[], &made.stdout);
    assert_eq!(foreground.code, 137, "{foreground}");
    killed(&hub);
    hub.world.tool("oci-spawn", &["start", "eater"]).ok();
    assert_eq!(hub.world.tool("oci-spawn", &["wait", "eater"]).ok().text(), "137\n");
    killed(&hub);
    let events = hub.world.tool("oci-inspect", &["events", "--filter", "event=oom"]).ok().text();
    assert_eq!(events.lines().count(), 2, "{events}");
    // What ends well below its limit is not said to have been killed.
    assert_eq!(
        hub.output(&made, "dd if=/dev/zero of=/dev/null bs=1M count=1 2>/dev/null; echo fine"),
        "fine\n"
    );
    assert_eq!(hub.docker("eater")["State"]["OOMKilled"], json!(false));
    assert_eq!(leftovers::groups(&instance), Vec::<PathBuf>::new());
    hub.remove(&["eater"]);
    hub.world.assert_nothing_left();
}

/// Periods of a tenth of a second in which the group wanted to run, and nanoseconds of processor time that it had.
fn used(document: &Value) -> (u64, u64, u64) {
    let stat = file(document, "cpu.stat").expect("statistics");
    let nanoseconds = match file(document, "cpuacct.usage") {
        Some(path) => {
            std::fs::read_to_string(path).expect("the group is there").trim().parse().expect("a number")
        }
        None => figure(&stat, "usage_usec") * 1000,
    };
    (figure(&stat, "nr_periods"), figure(&stat, "nr_throttled"), nanoseconds)
}

/// By the kernel's own counts: the clock says nothing on a machine that has more to do.
#[test]
fn a_quota_of_the_processor_holds_within_a_tenth() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    if !has("cpu") {
        return;
    }
    let hub = Hub::busybox();
    // Two of them want more than the quota on any machine that has a processor to give.
    let burn = "while :; do :; done & while :; do :; done";
    let made = hub.container(&["--name", "busy", "--cpus", "0.2", "--", "sh", "-c", burn]);
    hub.world.feed("oci-spawn", &["-d"], &made.stdout).ok();
    let document = hub.document("busy");
    let begin = until("limited", || used(&document), |(periods, ..)| *periods >= 2);
    let wanted = begin.0 + 30;
    let end = until("limited for long", || used(&document), |(periods, ..)| *periods >= wanted);
    let (periods, throttled) = (end.0 - begin.0, end.1 - begin.1);
    let each = (end.2 - begin.2) as f64 / 1e6 / periods as f64;
    eprintln!("{each:.2} ms in each of {periods} periods, of which {throttled} ended at the quota");
    assert!(each < 22.0, "{each:.2} ms of 20 in a period");
    // In a period in which others had the processors it may have had less.
    let least = 18.0 * throttled as f64 / periods as f64;
    assert!(each > least, "{each:.2} ms in a period, not {least:.2}");
    hub.remove(&["busy"]);
    hub.world.assert_nothing_left();
}

#[test]
fn a_limit_that_the_host_cannot_give_is_refused_by_its_name_and_nothing_runs() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let weighs = leftovers::groups("").iter().any(|dir| {
        ["io.weight", "io.bfq.weight", "blkio.weight", "blkio.bfq.weight"]
            .iter()
            .any(|file| dir.join(file).exists())
    });
    let realtime = Path::new("/proc/sys/kernel/sched_rt_runtime_us").exists()
        && Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    let cases = [
        (&["--blkio-weight", "500"][..], "blockIO.weight", weighs),
        (&["--cpu-rt-runtime", "1000", "--cpu-rt-period", "100000"], "realtime", realtime),
        (&["--cpuset-cpus", "4000"], "cpu.cpus", false),
    ];
    for (flags, name, given) in cases {
        if given {
            continue;
        }
        let made = hub.container(&[&["--name", "asked"], flags, &["--", "sh", "-c", "echo ran"]].concat());
        let passed = hub.world.feed("oci-spawn", &["--pass"], &made.stdout).fails(7);
        assert!(passed.stderr.contains(name) && !passed.stderr.contains("ran\n"), "{passed}");
        let started = hub.world.tool("oci-spawn", &["start", "asked"]).fails(7);
        assert!(started.stderr.contains(name), "{started}");
        assert_eq!(hub.docker("asked")["State"]["Status"], json!("created"));
        assert_eq!(leftovers::groups(&made.member("instance")), Vec::<PathBuf>::new());
        hub.remove(&["asked"]);
    }
    hub.world.assert_nothing_left();
}
