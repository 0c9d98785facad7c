//! runtime.md, "Lifecycle" and "Errors"; the order and the places of hooks are in hooks.rs.

use serde_json::json;
use testkit::Bundle;

use crate::{cases, refuses};

/// A hook that runs a script of the host's shell.
fn hook(script: &str) -> serde_json::Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// A failing hook of this kind ends what it belongs to: an error, nothing of the container left, the last hooks run.
fn fails_at(kind: &'static str) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        let after = bundle.path("poststop").display().to_string();
        let second = bundle.path("second").display().to_string();
        let inside = kind == "startContainer";
        let (failing, next) = if inside {
            (hook("echo broken >&2; exit 3"), hook("touch /second"))
        } else {
            (hook("echo broken >&2; exit 3"), hook(&format!("touch {second}")))
        };
        bundle.config["hooks"] = json!({kind: [failing, next], "poststop": [hook(&format!("cat >{after}"))]});
        bundle.sh("echo ran >/ran; sleep 100");
        let at_start = matches!(kind, "startContainer" | "poststart");
        if at_start {
            bundle.create().ok();
        }
        let said = if at_start { bundle.start() } else { bundle.create() }.fails(1);
        assert!(said.stderr.contains(kind) && said.stderr.contains("broken"), "{said}");
        bundle.assert_nothing_left();
        let state = std::fs::read_to_string(bundle.path("poststop")).expect("the poststop hook ran");
        assert!(state.contains("\"stopped\""), "{state}");
        assert!(!bundle.path("second").exists() && !bundle.root().join("second").exists(), "hooks went on");
        if kind != "poststart" {
            assert!(!bundle.root().join("ran").exists(), "the command ran");
        }
    }
}

cases! {
    "runtime.md, Lifecycle 2" {
        what_the_configuration_asks_for_is_there_when_created: "the environment is created according to config.json: it is there once create has returned" => |mut bundle| {
            let volume = tempfile::tempdir().expect("a temporary directory");
            bundle.mount("bind", volume.path(), "/v", &["bind"]);
            bundle.create().ok();
            let at = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", bundle.pid())).expect("procfs");
            assert!(at("mountinfo").lines().any(|line| line.split(' ').nth(4) == Some("/v")));
            assert_eq!(std::fs::read_to_string(format!("/proc/{}/root/proc/sys/kernel/ostype", bundle.pid())).expect("proc"), "Linux\n");
            assert!(!bundle.groups().is_empty(), "no control group");
            for kind in ["mnt", "net", "uts", "pid", "ipc", "cgroup"] {
                let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("ns");
                assert_ne!(link(&bundle.pid().to_string()), link("self"), "{kind}");
            }
        };
        an_environment_that_cannot_be_created_is_an_error: "an environment that cannot be created is an error" => |mut bundle| {
            bundle.mount("bind", &bundle.path("missing"), "/v", &["bind"]);
            refuses(&bundle, "missing");
        };
        the_program_does_not_run_before_start: "the user's program does not run at create" => |mut bundle| {
            bundle.sh("echo ran >/ran");
            bundle.create().ok();
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(!bundle.root().join("ran").exists());
            bundle.start().ok();
            bundle.wait_for("stopped");
            assert!(bundle.root().join("ran").exists());
        };
        a_configuration_changed_after_create_changes_nothing: "updates to config.json after create do not affect the container" => |mut bundle| {
            let (old, new) = (bundle.path("old").display().to_string(), bundle.path("new").display().to_string());
            bundle.config["hooks"] = json!({"poststart": [hook(&format!("touch {old}"))]});
            bundle.sh("echo old");
            bundle.create().ok();
            bundle.config["hooks"] = json!({"poststart": [hook(&format!("touch {new}"))], "poststop": [hook(&format!("touch {new}"))]});
            bundle.sh("echo new");
            bundle.write();
            bundle.start().ok();
            bundle.wait_for("stopped");
            bundle.delete().ok();
            assert_eq!(bundle.output(), "old\n");
            assert!(bundle.path("old").exists() && !bundle.path("new").exists());
        };
    }
    "runtime.md, Lifecycle 3" {
        prestart_hooks_are_invoked: "prestart hooks are invoked by create" => invoked("prestart", "created");
        a_failing_prestart_hook_undoes_the_container: "a failing prestart hook is an error; the container is stopped and destroyed, poststop hooks run" => fails_at("prestart");
    }
    "runtime.md, Lifecycle 4" {
        create_runtime_hooks_are_invoked: "createRuntime hooks are invoked by create" => invoked("createRuntime", "created");
        a_failing_create_runtime_hook_undoes_the_container: "a failing createRuntime hook is an error; the container is stopped and destroyed, poststop hooks run" => fails_at("createRuntime");
    }
    "runtime.md, Lifecycle 5" {
        create_container_hooks_are_invoked: "createContainer hooks are invoked by create" => invoked("createContainer", "created");
        a_failing_create_container_hook_undoes_the_container: "a failing createContainer hook is an error; the container is stopped and destroyed, poststop hooks run" => fails_at("createContainer");
    }
    "runtime.md, Lifecycle 7" {
        start_container_hooks_are_invoked: "startContainer hooks are invoked by start" => invoked("startContainer", "running");
        a_failing_start_container_hook_destroys_the_container: "a failing startContainer hook is an error; the container is stopped and destroyed, poststop hooks run" => fails_at("startContainer");
    }
    "runtime.md, Lifecycle 8" {
        start_runs_the_program: "the user's program runs as `process` specifies" => |mut bundle| {
            bundle.config["process"]["env"] = json!(["PATH=/bin", "ONE=1"]);
            bundle.config["process"]["cwd"] = json!("/tmp");
            bundle.sh("echo $0 $ONE; pwd");
            bundle.create().ok();
            bundle.start().ok();
            bundle.wait_for("stopped");
            assert_eq!(bundle.output(), "sh 1\n/tmp\n");
        };
    }
    "runtime.md, Lifecycle 9" {
        poststart_hooks_are_invoked: "poststart hooks are invoked by start" => invoked("poststart", "running");
        a_failing_poststart_hook_destroys_the_container: "a failing poststart hook is an error; the container is stopped and destroyed, poststop hooks run" => fails_at("poststart");
    }
    "runtime.md, Lifecycle 12" {
        delete_undoes_what_create_did: "the container is destroyed by undoing the steps of create" => |mut bundle| {
            bundle.sh("exit 0");
            bundle.create().ok();
            bundle.start().ok();
            bundle.wait_for("stopped");
            bundle.delete().ok();
            bundle.assert_nothing_left();
        };
    }
    "runtime.md, Lifecycle 13" {
        poststop_hooks_are_invoked: "poststop hooks are invoked by delete" => invoked("poststop", "deleted");
        a_failing_poststop_hook_is_a_warning: "a failing poststop hook is a warning: the remaining hooks and the lifecycle continue" => |mut bundle| {
            let second = bundle.path("second").display().to_string();
            bundle.config["hooks"] = json!({"poststop": [hook("echo broken >&2; exit 3"), hook(&format!("touch {second}"))]});
            bundle.create().ok();
            bundle.start().ok();
            bundle.wait_for("stopped");
            let said = bundle.delete().ok();
            assert!(said.stderr.contains("warning") && said.stderr.contains("broken"), "{said}");
            assert!(bundle.path("second").exists(), "the hooks did not go on");
            bundle.assert_nothing_left();
        };
    }
    "runtime.md, Errors" {
        an_error_leaves_the_environment_as_it_was: "an error leaves the state of the environment as if the operation had not been attempted" => |mut bundle| {
            let volume = tempfile::tempdir().expect("a temporary directory");
            bundle.mount("bind", volume.path(), "/v", &["bind"]);
            bundle.config["linux"]["resources"] = json!({"pids": {"limit": 10}});
            // Found when all the mounts are there already.
            bundle.config["process"]["cwd"] = json!("/bin/sh");
            refuses(&bundle, "enter the working directory");
        };
    }
}

/// The hook of this kind has run once the container has this status.
fn invoked(kind: &'static str, when: &'static str) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        // Below the root, which both the host and the container can write.
        let inside = kind == "startContainer";
        let mark = if inside { "/mark".to_owned() } else { bundle.root().join("mark").display().to_string() };
        bundle.config["hooks"] = json!({kind: [hook(&format!("echo x >>{mark}"))]});
        bundle.sh("exit 0");
        let count =
            || std::fs::read_to_string(bundle.root().join("mark")).unwrap_or_default().lines().count();
        bundle.create().ok();
        assert_eq!(count(), usize::from(when == "created"));
        bundle.start().ok();
        assert_eq!(count(), usize::from(when != "deleted"));
        bundle.wait_for("stopped");
        bundle.delete().ok();
        assert_eq!(count(), 1);
    }
}
