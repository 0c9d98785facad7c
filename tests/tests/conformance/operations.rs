//! runtime.md, "Operations".

use serde_json::json;

use crate::{cases, refuses};

/// The verb without its arguments is an error that says something.
fn needs_an_id(verb: &'static str) -> impl FnOnce(testkit::Bundle) {
    move |bundle| {
        bundle.verb(&[verb]).fails(1);
        bundle.verb(&[verb, ""]).fails(1);
        bundle.verb(&[verb, "no-such-container"]).fails(1).says("no-such-container");
        bundle.assert_nothing_left();
    }
}

cases! {
    "runtime.md, Operations" {
        a_container_is_operated_on_by_any_later_call: "the one who created a container can use the operations on it" => |mut bundle| {
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            bundle.state();
            bundle.start().ok();
            bundle.kill("KILL").ok();
            bundle.wait_for("stopped");
            bundle.delete().ok();
        };
    }
    "runtime.md, Query State" {
        state_wants_an_id: "state without an ID is an error" => |bundle| {
            bundle.verb(&["state"]).fails(1);
        };
        state_of_a_container_that_is_not_there_is_an_error: "state of a container that does not exist is an error" => |bundle| {
            bundle.verb(&["state", "no-such-container"]).fails(1).says("no-such-container");
        };
        state_returns_the_state: "state returns the state" => |bundle| {
            bundle.create().ok();
            let state = bundle.state();
            for member in ["ociVersion", "id", "status", "pid", "bundle"] {
                assert!(!state[member].is_null(), "{member}: {state}");
            }
        };
    }
    "runtime.md, Create" {
        create_wants_an_id: "create without an ID is an error" => |bundle| {
            bundle.write();
            let mut command = bundle.command(&["create", "-b"]);
            command.arg(bundle.dir());
            bundle.finish(command).fails(1);
        };
        create_wants_a_bundle: "create without a bundle is an error" => |bundle| {
            let elsewhere = tempfile::tempdir().expect("a temporary directory");
            let mut command = bundle.command(&["create", bundle.id()]);
            command.current_dir(elsewhere.path());
            bundle.finish(command).fails(1).says("config.json");
            let mut command = bundle.command(&["create", "-b", "/no/such/bundle", bundle.id()]);
            command.current_dir(elsewhere.path());
            bundle.finish(command).fails(1);
            bundle.assert_nothing_left();
        };
        an_id_in_use_is_refused: "an ID that is not unique is an error and no container is created" => |mut bundle| {
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            let (before, groups) = (bundle.state(), bundle.groups());
            bundle.create().fails(1).says(bundle.id());
            assert_eq!((bundle.state(), bundle.groups()), (before, groups));
        };
        an_id_that_is_no_name_is_refused: "an ID that is not valid is an error and no container is created" => |bundle| {
            bundle.write();
            for id in ["", ".", "..", "../x", "a/b", "a b", "a\nb", "ü", &"x".repeat(1025)] {
                let mut command = bundle.command(&["create", "-b"]);
                command.arg(bundle.dir()).arg(id);
                bundle.finish(command).fails(1);
            }
            bundle.assert_nothing_left();
        };
        create_creates_a_container: "create creates a new container" => |bundle| {
            bundle.create().ok();
            assert_eq!(bundle.status(), "created");
            assert_ne!(bundle.pid(), 0);
        };
        create_applies_all_but_the_process: "all properties but `process` are applied by create" => |mut bundle| {
            bundle.config["hostname"] = json!("applied");
            bundle.config["root"]["readonly"] = json!(true);
            bundle.create().ok();
            let pid = bundle.pid().to_string();
            let enter = |words: &[&str]| {
                let mut command = bundle.world().command("nsenter");
                command.args(["-t", &pid, "-u", "-m"]).args(words);
                bundle.finish(command)
            };
            assert_eq!(enter(&["/bin/hostname"]).ok().text(), "applied\n");
            assert!(enter(&["/bin/touch", "/x"]).stderr.contains("Read-only"));
        };
        args_are_not_applied_before_start: "`process.args` is not applied before start" => |mut bundle| {
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            let words = || std::fs::read_to_string(format!("/proc/{}/cmdline", bundle.pid())).expect("cmdline");
            assert!(!words().contains("sleep"), "{}", words());
            bundle.start().ok();
            assert_eq!(words(), "sleep\u{0}100\u{0}");
        };
        a_property_that_cannot_be_applied_is_refused: "a property that cannot be applied is an error and no container is created" => |mut bundle| {
            bundle.config["linux"]["sysctl"] = json!({"net.ipv4.no_such_thing": "1"});
            refuses(&bundle, "no_such_thing");
        };
    }
    "runtime.md, Start" {
        start_wants_an_id: "start without an ID is an error" => needs_an_id("start");
        only_a_created_container_is_started: "start of a container that is not created has no effect and is an error" => |mut bundle| {
            bundle.sh("echo x >>/runs; until [ -e /go ]; do usleep 1000; done");
            bundle.create().ok();
            bundle.start().ok();
            bundle.until("it runs", || bundle.root().join("runs").exists());
            let before = bundle.state();
            bundle.start().fails(1).says("running");
            assert_eq!(bundle.state(), before);
            std::fs::write(bundle.root().join("go"), "").expect("write");
            bundle.wait_for("stopped");
            bundle.start().fails(1).says("stopped");
            assert_eq!(std::fs::read_to_string(bundle.root().join("runs")).expect("runs"), "x\n");
        };
        start_runs_what_process_says: "start runs the program that `process` specifies" => |mut bundle| {
            bundle.args(&["echo", "a", "b c"]);
            bundle.create().ok();
            bundle.start().ok();
            bundle.wait_for("stopped");
            assert_eq!(bundle.output(), "a b c\n");
        };
        no_container_starts_without_a_process: "without `process` start is an error" => |mut bundle| {
            bundle.config.as_object_mut().expect("an object").remove("process");
            // Said by create already, as runc says it, so that there is nothing to start.
            bundle.create().fails(1).says("process");
            bundle.start().fails(1);
            bundle.assert_nothing_left();
        };
    }
    "runtime.md, Kill" {
        kill_wants_an_id: "kill without an ID is an error" => needs_an_id("kill");
        a_stopped_container_is_not_killed: "kill of a container that is neither created nor running has no effect and is an error" => |mut bundle| {
            bundle.sh("exit 0");
            bundle.create().ok();
            bundle.start().ok();
            bundle.wait_for("stopped");
            bundle.kill("KILL").fails(1);
            assert_eq!(bundle.status(), "stopped");
        };
        kill_sends_the_signal: "kill sends the signal to the container's process, created or running" => |mut bundle| {
            bundle.sh("trap 'echo usr1' USR1; trap 'echo term; exit' TERM; echo ready; while :; do usleep 1000; done");
            bundle.create().ok();
            bundle.start().ok();
            bundle.wait_for_output("ready");
            for (name, word) in [("USR1", "usr1"), ("SIGUSR1", "usr1\nusr1"), ("10", "usr1\nusr1\nusr1")] {
                bundle.kill(name).ok();
                bundle.wait_for_output(word);
            }
            bundle.verb(&["kill", bundle.id()]).ok();
            bundle.wait_for("stopped");
            assert!(bundle.output().ends_with("term\n"), "{}", bundle.output());
        };
        a_created_container_can_be_killed: "kill works on a created container" => |bundle| {
            bundle.create().ok();
            bundle.kill("KILL").ok();
            bundle.wait_for("stopped");
        };
    }
    "runtime.md, Delete" {
        delete_wants_an_id: "delete without an ID is an error" => needs_an_id("delete");
        a_running_container_is_not_deleted: "delete of a container that is not stopped has no effect and is an error (one that was never started is deleted all the same, as runc does and containerd needs)" => |mut bundle| {
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            bundle.start().ok();
            let before = bundle.state();
            bundle.delete().fails(1).says("running");
            assert_eq!(bundle.state(), before);
        };
        delete_deletes_what_create_made: "delete deletes the resources that create made" => |mut bundle| {
            bundle.config["linux"]["resources"] = json!({"pids": {"limit": 10}});
            bundle.create().ok();
            assert!(!bundle.groups().is_empty());
            bundle.kill("KILL").ok();
            bundle.wait_for("stopped");
            bundle.delete().ok();
            bundle.assert_nothing_left();
        };
        delete_deletes_nothing_else: "what the container did not create is not deleted" => |mut bundle| {
            let volume = tempfile::tempdir().expect("a temporary directory");
            std::fs::write(volume.path().join("file"), "kept").expect("write");
            bundle.mount("bind", volume.path(), "/v", &["rbind"]);
            let mut other = std::process::Command::new("unshare").args(["-n", "sleep", "100"]).spawn().expect("unshare");
            let path = format!("/proc/{}/ns/net", other.id());
            let own = std::fs::read_link("/proc/self/ns/net").expect("ns");
            bundle.until("a namespace", || std::fs::read_link(&path).is_ok_and(|link| link != own));
            bundle.join_namespace("network", &path);
            bundle.create().ok();
            bundle.kill("KILL").ok();
            bundle.wait_for("stopped");
            bundle.delete().ok();
            assert!(other.try_wait().expect("wait").is_none(), "the namespace's process is gone");
            other.kill().expect("kill");
            other.wait().expect("wait");
            assert_eq!(std::fs::read_to_string(volume.path().join("file")).expect("read"), "kept");
            assert!(bundle.root().join("bin/busybox").exists() && bundle.path("config.json").exists());
        };
        the_id_of_a_deleted_container_is_free: "the ID of a deleted container may be used again" => |bundle| {
            for _ in 0..2 {
                bundle.create().ok();
                bundle.verb(&["delete", "--force", bundle.id()]).ok();
            }
        };
    }
}
