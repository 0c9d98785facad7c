//! What engines' users meet at the edges: few descriptors, many annotations, a pause before the start, a wrong command line.

mod bundle;

use std::fs;
use std::time::{Duration, Instant};

use bundle::{Bundle, said, text};
use serde_json::{Value, json};

#[test]
fn a_container_paused_before_its_start_is_paused_and_not_started() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.create();
    bundle.does("pause", &[]);
    assert_eq!(bundle.state()["status"], "paused");
    let output = bundle.verb(&["start", &bundle.id]);
    assert!(text(&output.stderr).contains("that is paused"), "{}", said(&output));
    bundle.does("resume", &[]);
    assert_eq!(bundle.state()["status"], "created");
    bundle.does("start", &[]);
    assert_eq!(bundle.state()["status"], "running");
}

#[test]
fn engines_find_a_wrong_command_line_in_the_log_and_the_version_behind_their_options() {
    let Some(bundle) = Bundle::new("true") else { return };
    let log = bundle.at("log.json").display().to_string();
    for wrong in ["a/b", "--nonsense"] {
        let words = ["--log", &log, "--log-format=json", "create", wrong];
        assert_eq!(bundle.verb(&words).status.code(), Some(1));
        let line = fs::read_to_string(&log).expect("a log");
        let line = serde_json::from_str::<Value>(line.lines().last().unwrap_or_default()).expect("JSON");
        assert!(
            line["level"] == "error" && line["msg"].as_str().is_some_and(|msg| msg.contains(wrong)),
            "{line}"
        );
    }
    let output = bundle.verb(&["--log", &log, "--log-format", "json", "--version"]);
    assert!(output.status.success() && text(&output.stdout).contains("\nspec: 1."), "{}", said(&output));
}

#[test]
fn hooks_hear_of_all_annotations_however_many_there_are() {
    let Some(mut bundle) = Bundle::new("wc -c </state") else { return };
    let pod = "x".repeat(300_000);
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat >/state"]}]);
    bundle.set("/annotations", json!({"pod": pod})).set("/hooks/startContainer", hook);
    let told: usize = bundle.prints().trim().parse().expect("a number");
    assert!(told > pod.len(), "{told}");
}

#[test]
fn no_tasks_at_all_is_no_limit_in_configurations_before_1_3() {
    let Some(mut bundle) = Bundle::new("(echo forked); true") else { return };
    bundle.set("/ociVersion", json!("1.0.2")).set("/linux/resources", json!({"pids": {"limit": 0}}));
    assert_eq!(bundle.prints(), "forked\n");
}

#[test]
fn a_container_may_have_few_descriptors() {
    let Some(mut bundle) = Bundle::new("ulimit -n; ulimit -Hn; exec sleep 1") else { return };
    for (soft, hard) in [(8, 8), (8, 100)] {
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]));
        assert_eq!(bundle.prints(), format!("{soft}\n{hard}\n"));
        bundle.start();
        let output = bundle.verb(&["exec", &bundle.id, "/bin/sh", "-c", "ulimit -n; ulimit -Hn"]);
        assert_eq!(text(&output.stdout), format!("{soft}\n{hard}\n"), "{}", said(&output));
        bundle.delete();
    }
}

#[test]
fn a_container_that_waits_for_its_start_is_ended_by_the_signals_that_end_runcs() {
    for own in [true, false] {
        let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
        let Some(mut peer) = Bundle::new("exec sleep 1000") else { return };
        let runc = ["/usr/sbin/runc", "/usr/bin/runc"].map(std::path::PathBuf::from);
        match runc.into_iter().find(|path| path.exists()) {
            Some(runc) => peer.program = runc,
            None => return testkit::skip("nothing to compare with: no runc is installed"),
        }
        if !own {
            bundle.without_namespace("pid");
            peer.without_namespace("pid");
        }
        for signal in ["1", "TERM", "QUIT", "SEGV", "31", "USR1", "PIPE", "28", "CHLD", "RTMIN+3"] {
            let ends = |container: &Bundle| {
                container.create();
                // runc knows real-time signals by their number alone.
                container.does("kill", &[if signal == "RTMIN+3" { "37" } else { signal }]);
                let deadline = Instant::now() + Duration::from_millis(400);
                while container.state()["status"] != "stopped" && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let ended = container.state()["status"] == "stopped";
                container.delete();
                ended
            };
            assert_eq!(ends(&bundle), ends(&peer), "{signal}, a pid namespace: {own}");
        }
    }
}

#[test]
fn flags_take_a_truth_and_empty_file_names_are_none() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    let words =
        ["--log", "", "--debug=false", "run", "-d=true", "--pid-file", "", "--console-socket=", &bundle.id];
    let output = bundle.verb(&words);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    let output = bundle.verb(&["delete", "--force=false", &bundle.id]);
    assert!(text(&output.stderr).contains("that is running"), "{}", said(&output));
    bundle.does("exec", &["/bin/true"]);
    bundle.does("delete", &["-f=1"]);
}

#[test]
fn what_another_runtime_has_put_below_a_containers_groups_outlives_it() {
    // It has made a group below its own, with a process of a pid namespace below its own.
    let nests = "unshare -p -f sh -c 'sleep 1000' & \
        for d in /sys/fs/cgroup/pids /sys/fs/cgroup; do \
          [ -e $d/cgroup.procs ] && mkdir $d/own && echo $! >$d/own/cgroup.procs && break; done; \
        echo made; wait";
    let Some(mut outer) = Bundle::new(nests) else { return };
    let Some(mut inner) = Bundle::new("exec sleep 1000") else { return };
    let path = format!("/{}", outer.id);
    outer.privileged().namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    outer.set("/linux/cgroupsPath", json!(path));
    inner.set("/linux/cgroupsPath", json!(format!("{path}/{}", inner.id)));
    for paused in [false, true] {
        outer.start();
        inner.start();
        if paused {
            outer.does("pause", &[]);
        }
        outer.does("kill", &["--all", "CONT"]);
        let output = outer.verb(&["delete", "--force", &outer.id]);
        let said = said(&output);
        assert!(
            !output.status.success() && said.contains("has groups of others below it, with 1 process"),
            "{said}"
        );
        assert_eq!(
            (&outer.state()["status"], &inner.state()["status"]),
            (&json!("stopped"), &json!("running"))
        );
        // Asked again it is no other way, and the other is not touched.
        outer.does("kill", &["--all", "KILL"]);
        assert!(!outer.verb(&["delete", &outer.id]).status.success());
        assert_eq!(inner.state()["status"], "running");
        inner.delete();
        outer.does("delete", &[]);
    }
}
