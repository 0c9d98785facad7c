//! Containers whose runtime is killed or signalled, whose machine was started anew, or whose pid is somebody else's.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::bundle::Bundle;

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the runtime")
}

fn run(bundle: &Bundle) -> Child {
    bundle.write();
    let mut command = bundle.command(&["run", "-b"]);
    command.arg(bundle.dir()).arg(bundle.id());
    start(command)
}

fn wait_for(bundle: &Bundle, status: &str) {
    bundle.until(status, || bundle.verb(&["state", bundle.id()]).text().contains(&format!("\"{status}\"")));
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it can be signalled");
}

fn change_record(bundle: &Bundle, change: impl FnOnce(&mut Value)) {
    let path = bundle.states().join(bundle.id()).join("state.json");
    let mut record = serde_json::from_slice(&std::fs::read(&path).expect("a record")).expect("JSON");
    change(&mut record);
    std::fs::write(path, record.to_string()).expect("a record");
}

#[test]
fn a_foreground_run_that_is_killed_leaves_its_container_running_as_runc_does() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["sleep", "1000"]);
    let mut child = run(&bundle);
    wait_for(&bundle, "running");
    child.kill().expect("it can be killed");
    child.wait().expect("it is awaited");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(bundle.status(), "running");
    bundle.delete().fails(1).says("running");
    bundle.verb(&["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_foreground_run_hands_signals_on_and_ends_as_its_container() {
    for (sent, name, status) in [(Signal::TERM, "TERM", 43), (Signal::INT, "INT", 42)] {
        let Some(mut bundle) = Bundle::new() else { return };
        bundle.sh("trap 'exit 43' TERM; trap 'exit 42' INT; touch /tmp/up; while :; do sleep 0.05; done");
        let mut child = run(&bundle);
        bundle.until("it traps", || bundle.root().join("tmp/up").exists());
        signal(&child, sent);
        let ended = child.wait().expect("it is awaited");
        assert_eq!(ended.code(), Some(status), "{name}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_start_that_is_killed_at_any_moment_leaves_a_container_that_can_be_deleted() {
    for moment in (0..20).map(|step| Duration::from_micros(250 * step)) {
        let Some(mut bundle) = Bundle::new() else { return };
        bundle.args(&["sleep", "1000"]);
        bundle.create().ok();
        let mut child = start(bundle.command(&["start", bundle.id()]));
        std::thread::sleep(moment);
        child.kill().expect("it can be killed");
        child.wait().expect("it is awaited");
        bundle.until("settled", || ["created", "running"].contains(&bundle.status().as_str()));
        if bundle.status() == "created" {
            // Nobody heard a word: it may be said again.
            let again = bundle.start();
            assert!(again.code == 0 || bundle.status() == "running", "{again}");
        }
        bundle.verb(&["delete", "--force", bundle.id()]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_foreground_exec_that_is_killed_takes_nothing_of_the_container_along() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["sleep", "1000"]);
    bundle.create().ok();
    bundle.start().ok();
    let mut child = start(bundle.command(&["exec", bundle.id(), "sh", "-c", "touch /tmp/up; sleep 1000"]));
    bundle.until("it is executed", || bundle.root().join("tmp/up").exists());
    child.kill().expect("it can be killed");
    child.wait().expect("it is awaited");
    assert_eq!(bundle.status(), "running");
    bundle.verb(&["exec", bundle.id(), "true"]).ok();
    bundle.verb(&["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_container_that_is_being_created_says_so_and_is_not_deleted_without_force() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["sleep", "1000"]);
    let hook = format!(
        "cat >/dev/null; touch {0}/hooked; while [ ! -e {0}/go ]; do sleep 0.02; done",
        bundle.dir().display()
    );
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    bundle.write();
    let mut command = bundle.command(&["create", "-b"]);
    command.arg(bundle.dir()).arg(bundle.id());
    let mut child = start(command);
    bundle.until("the hook runs", || bundle.path("hooked").exists());
    assert!(["creating", "created"].contains(&bundle.status().as_str()), "{}", bundle.state());
    std::fs::write(bundle.path("go"), "").expect("a file");
    assert!(child.wait().expect("it is awaited").success());
    assert_eq!(bundle.status(), "created");
    bundle.verb(&["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_container_of_another_boot_or_with_a_foreign_pid_is_stopped_and_can_be_deleted() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 3] = [
        ("boot", |record| record["init"]["boot"] = json!("00000000-0000-0000-0000-000000000000")),
        ("start time", |record| record["init"]["started"] = json!(1)),
        ("pid", |record| record["init"]["pid"] = json!(std::process::id())),
    ];
    for (name, change) in changes {
        let Some(mut bundle) = Bundle::new() else { return };
        bundle.args(&["true"]);
        bundle.create().ok();
        bundle.start().ok();
        wait_for(&bundle, "stopped");
        // The pid lives, and is another process's: ours.
        change_record(&bundle, |record| {
            record["init"]["pid"] = json!(std::process::id());
            change(record);
        });
        assert_eq!(bundle.status(), "stopped", "{name}");
        bundle.kill("KILL").fails(1).says("not running");
        bundle.delete().ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_container_whose_groups_are_gone_with_the_boot_is_deleted() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["true"]);
    bundle.create().ok();
    bundle.start().ok();
    wait_for(&bundle, "stopped");
    let mut groups = bundle.groups();
    groups.sort();
    for group in groups.iter().rev() {
        std::fs::remove_dir(group).expect("an empty group");
    }
    change_record(&bundle, |record| record["init"]["boot"] = json!("another"));
    assert_eq!(bundle.status(), "stopped");
    bundle.delete().ok();
    bundle.assert_nothing_left();
}

#[test]
fn what_a_container_says_after_its_maker_was_killed_is_not_lost() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.sh("while [ ! -e /tmp/go ]; do sleep 0.02; done; echo still here");
    bundle.write();
    let mut command = bundle.command(&["run", "-b"]);
    command.arg(bundle.dir()).arg(bundle.id()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the runtime");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    wait_for(&bundle, "running");
    child.kill().expect("it can be killed");
    child.wait().expect("it is awaited");
    std::fs::write(bundle.root().join("tmp/go"), "").expect("a file");
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "still here\n");
    wait_for(&bundle, "stopped");
    bundle.delete().ok();
    bundle.assert_nothing_left();
}
