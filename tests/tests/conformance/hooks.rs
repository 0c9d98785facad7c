//! config.md, "POSIX-platform Hooks": where each kind is found, where it runs, when, and what it is given.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testkit::Bundle;

use crate::{cases, refuses};

/// The kinds in the order of a container's life.
const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// Lives a whole life.
fn live(bundle: &Bundle) {
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for("stopped");
    bundle.delete().ok();
}

/// What the host or the container wrote to `/log` of the root.
fn log(bundle: &Bundle) -> String {
    std::fs::read_to_string(bundle.root().join("log")).unwrap_or_default()
}

/// Where a hook of this kind finds `/log` of the root.
fn log_of(bundle: &Bundle, kind: &str) -> String {
    if kind == "startContainer" { "/log".into() } else { bundle.root().join("log").display().to_string() }
}

/// Writes an executable script that is named alike in the root and on the host, and says which of both it is.
fn two_faced(bundle: &Bundle) -> String {
    let name = bundle.path("face");
    let inside = bundle.root().join(name.strip_prefix("/").expect("absolute"));
    std::fs::create_dir_all(inside.parent().expect("a parent")).expect("mkdir");
    let outside = bundle.root().join("log").display().to_string();
    for (path, word, log) in [(&name, "host", outside.as_str()), (&inside, "container", "/log")] {
        std::fs::write(path, format!("#!/bin/sh\necho {word} >>{log}\n")).expect("write");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    name.display().to_string()
}

/// The path of a hook of this kind is found there.
fn resolves(kind: &'static str, place: &'static str) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        let path = two_faced(&bundle);
        bundle.config["hooks"] = json!({kind: [{"path": path}]});
        live(&bundle);
        assert_eq!(log(&bundle), format!("{place}\n"));
    }
}

/// A hook of this kind is in the namespaces of the runtime, or of the container.
fn executes(kind: &'static str, place: &'static str) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        let log_file = log_of(&bundle, kind);
        let script = format!("for n in mnt uts ipc net pid; do readlink /proc/self/ns/$n; done >{log_file}");
        bundle.config["hooks"] = json!({kind: [hook(&script)]});
        bundle.create().ok();
        let of = |pid: &str| -> String {
            let links = ["mnt", "uts", "ipc", "net", "pid"]
                .map(|kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")));
            links.map(|link| format!("{}\n", link.expect("a namespace").display())).concat()
        };
        let inside = of(&bundle.pid().to_string());
        bundle.start().ok();
        bundle.wait_for("stopped");
        bundle.delete().ok();
        let wanted = if place == "runtime" { of("self") } else { inside };
        assert_eq!(log(&bundle), wanted);
    }
}

/// A hook of this kind has run when this much of the others has been done.
fn comes_when(kind: &'static str, script: &'static str, wanted: &'static str) -> impl FnOnce(Bundle) {
    move |mut bundle| {
        let script = script
            .replace("ROOT", &bundle.root().display().to_string())
            .replace("LOG", &log_of(&bundle, kind));
        bundle.config["hooks"] =
            json!({kind: [hook(&script.replace("STATES", &bundle.states().display().to_string()))]});
        bundle.sh("echo program >>/log");
        live(&bundle);
        assert_eq!(log(&bundle), wanted);
    }
}

cases! {
    "config.md, POSIX-platform Hooks" {
        a_hooks_path_is_absolute: "`path` is absolute" => |mut bundle| {
            for kind in ["prestart", "createRuntime", "createContainer"] {
                bundle.config["hooks"] = json!({kind: [{"path": "bin/true"}]});
                refuses(&bundle, "absolute");
            }
        };
        a_hooks_timeout_is_above_zero: "`timeout` is greater than zero" => |mut bundle| {
            for seconds in [0, -1] {
                bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/true", "timeout": seconds}]});
                refuses(&bundle, "timeout");
            }
        };
        a_hook_that_exceeds_its_timeout_is_aborted: "a hook is aborted after `timeout` seconds" => |mut bundle| {
            bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]});
            let begun = std::time::Instant::now();
            refuses(&bundle, "1 s");
            assert!(begun.elapsed() < std::time::Duration::from_secs(30));
        };
        a_hook_has_the_arguments_and_environment_given: "`args` and `env` have the semantics of argv and environ" => |mut bundle| {
            let out = bundle.path("out").display().to_string();
            let script = format!("echo $0 $1 >{out}; tr '\\0' '\\n' </proc/self/environ >>{out}");
            bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script, "zero", "one"], "env": ["A=b=c", "PATH=/bin:/usr/bin"]}]});
            bundle.create().ok();
            assert_eq!(std::fs::read_to_string(bundle.path("out")).expect("out"), "zero one\nA=b=c\nPATH=/bin:/usr/bin\n");
        };
        hooks_are_called_in_the_listed_order: "hooks are called in the listed order, the kinds in that of the lifecycle" => |mut bundle| {
            let mut hooks = json!({});
            for kind in KINDS.iter().rev() {
                let log = log_of(&bundle, kind);
                let rows: Vec<Value> = (1..=3).map(|n| hook(&format!("echo {kind} {n} >>{log}"))).collect();
                hooks[*kind] = json!(rows);
            }
            bundle.config["hooks"] = hooks;
            live(&bundle);
            let wanted: String = KINDS.iter().flat_map(|kind| (1..=3).map(move |n| format!("{kind} {n}\n"))).collect();
            assert_eq!(log(&bundle), wanted);
        };
        hooks_get_the_state_on_stdin: "the state of the container is passed to hooks over stdin" => |mut bundle| {
            bundle.config["annotations"] = json!({"com.example": "x"});
            let mut hooks = json!({});
            for kind in KINDS {
                let log = log_of(&bundle, kind);
                hooks[kind] = json!([hook(&format!("cat >>{log}; echo >>{log}"))]);
            }
            bundle.config["hooks"] = hooks;
            bundle.create().ok();
            let pid = bundle.pid();
            bundle.start().ok();
            bundle.wait_for("stopped");
            bundle.delete().ok();
            let states: Vec<Value> = log(&bundle).lines().map(|line| serde_json::from_str(line).expect("a state")).collect();
            assert_eq!(states.len(), KINDS.len(), "{states:?}");
            let statuses = ["created", "created", "created", "created", "running", "stopped"];
            for (state, status) in states.iter().zip(statuses) {
                assert_eq!((&state["status"], &state["id"]), (&json!(status), &json!(bundle.id())), "{state}");
                assert_eq!((&state["bundle"], &state["annotations"]["com.example"]), (&json!(bundle.dir()), &json!("x")), "{state}");
                assert!(state["ociVersion"].is_string(), "{state}");
                assert_eq!(state["pid"].as_u64(), Some(if status == "stopped" { 0 } else { pid.into() }), "{state}");
            }
        };
    }
    "config.md, Prestart" {
        prestart_hooks_run_within_create_before_the_pivot: "prestart hooks are called by create, after the environment has been created and before `pivot_root`" => |mut bundle| {
            let out = bundle.path("out").display().to_string();
            let root = bundle.root().display().to_string();
            // The root is still a mount among the host's in init's namespace, with /proc mounted in it.
            let script = format!("pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); grep -c ' {root}/proc ' /proc/$pid/mountinfo >{out}");
            bundle.config["hooks"] = json!({"prestart": [hook(&script)]});
            bundle.create().ok();
            assert_eq!(std::fs::read_to_string(bundle.path("out")).expect("out"), "1\n");
        };
        prestart_hooks_come_before_create_runtime_hooks: "prestart hooks are called before createRuntime hooks" => |mut bundle| {
            let log_file = log_of(&bundle, "prestart");
            bundle.config["hooks"] = json!({
                "createRuntime": [hook(&format!("echo createRuntime >>{log_file}"))],
                "prestart": [hook(&format!("sleep 0.1; echo prestart >>{log_file}"))],
            });
            bundle.create().ok();
            assert_eq!(log(&bundle), "prestart\ncreateRuntime\n");
        };
        prestart_paths_are_the_runtimes: "the path of prestart hooks resolves in the runtime namespace" => resolves("prestart", "host");
        prestart_hooks_are_in_the_runtimes_namespaces: "prestart hooks are executed in the runtime namespace" => executes("prestart", "runtime");
    }
    "config.md, CreateRuntime Hooks" {
        create_runtime_hooks_run_within_create_before_the_pivot: "createRuntime hooks are called by create, after the environment has been created and before `pivot_root`" => |mut bundle| {
            let out = bundle.path("out").display().to_string();
            let root = bundle.root().display().to_string();
            let script = format!("pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); grep -c ' {root}/proc ' /proc/$pid/mountinfo >{out}");
            bundle.config["hooks"] = json!({"createRuntime": [hook(&script)]});
            bundle.create().ok();
            assert_eq!(std::fs::read_to_string(bundle.path("out")).expect("out"), "1\n");
        };
        create_runtime_paths_are_the_runtimes: "the path of createRuntime hooks resolves in the runtime namespace" => resolves("createRuntime", "host");
        create_runtime_hooks_are_in_the_runtimes_namespaces: "createRuntime hooks are executed in the runtime namespace" => executes("createRuntime", "runtime");
    }
    "config.md, CreateContainer Hooks" {
        create_container_hooks_run_within_create_before_the_pivot: "createContainer hooks are called by create, after the environment has been created and before `pivot_root`" => comes_when(
            "createContainer", "cat /proc/1/comm >/dev/null; grep -c ' ROOT/proc ' /proc/self/mountinfo >LOG", "1\nprogram\n");
        create_container_hooks_come_after_create_runtime_hooks: "createContainer hooks are called after createRuntime hooks" => |mut bundle| {
            let log_file = log_of(&bundle, "createContainer");
            bundle.config["hooks"] = json!({
                "createContainer": [hook(&format!("echo createContainer >>{log_file}"))],
                "createRuntime": [hook(&format!("sleep 0.1; echo createRuntime >>{log_file}"))],
            });
            bundle.create().ok();
            assert_eq!(log(&bundle), "createRuntime\ncreateContainer\n");
        };
        create_container_paths_are_the_runtimes: "the path of createContainer hooks resolves in the runtime namespace" => resolves("createContainer", "host");
        create_container_hooks_are_in_the_containers_namespaces: "createContainer hooks are executed in the container namespace" => executes("createContainer", "container");
    }
    "config.md, StartContainer Hooks" {
        start_container_hooks_run_within_start_before_the_program: "startContainer hooks are called by start, before the program is executed" => comes_when(
            "startContainer", "sleep 0.1; echo hook >>LOG", "hook\nprogram\n");
        start_container_paths_are_the_containers: "the path of startContainer hooks resolves in the container namespace" => resolves("startContainer", "container");
        start_container_hooks_are_in_the_containers_namespaces: "startContainer hooks are executed in the container namespace" => executes("startContainer", "container");
    }
    "config.md, Poststart" {
        poststart_hooks_run_once_the_program_does: "poststart hooks are called after the program is executed and before start returns" => |mut bundle| {
            let out = bundle.path("out").display().to_string();
            let script = format!("pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); sleep 0.1; tr '\\0' ' ' </proc/$pid/cmdline >{out}");
            bundle.config["hooks"] = json!({"poststart": [hook(&script)]});
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            bundle.start().ok();
            assert_eq!(std::fs::read_to_string(bundle.path("out")).expect("out"), "sleep 100 ");
        };
        poststart_paths_are_the_runtimes: "the path of poststart hooks resolves in the runtime namespace" => resolves("poststart", "host");
        poststart_hooks_are_in_the_runtimes_namespaces: "poststart hooks are executed in the runtime namespace" => executes("poststart", "runtime");
    }
    "config.md, Poststop" {
        poststop_hooks_run_once_the_container_is_deleted: "poststop hooks are called after the container is deleted and before delete returns" => comes_when(
            "poststop", "sleep 0.1; ls STATES | wc -l >>LOG", "program\n0\n");
        poststop_paths_are_the_runtimes: "the path of poststop hooks resolves in the runtime namespace" => resolves("poststop", "host");
        poststop_hooks_are_in_the_runtimes_namespaces: "poststop hooks are executed in the runtime namespace" => executes("poststop", "runtime");
    }
}
