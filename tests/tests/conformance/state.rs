//! runtime.md, "State".

use serde_json::{Value, json};

use crate::cases;

/// The members that schema/state-schema.json of the specification demands, of the types that it demands.
fn adheres(state: &Value, statuses: &[&str]) {
    let text = |name: &str| state[name].as_str().unwrap_or_else(|| panic!("{name} is no text: {state}"));
    let version: Vec<u32> = text("ociVersion").split('.').filter_map(|n| n.parse().ok()).collect();
    assert!(version.len() == 3 && version[0] == 1, "{state}");
    assert!(!text("id").is_empty() && !text("bundle").is_empty(), "{state}");
    assert!(statuses.contains(&text("status")), "{state}");
    assert!(state["pid"].is_null() || state["pid"].is_u64(), "{state}");
    let annotations = state["annotations"].as_object();
    assert!(annotations.is_none_or(|all| all.values().all(Value::is_string)), "{state}");
}

cases! {
    "runtime.md, State" {
        state_has_the_members_of_the_schema_at_every_status: "the state adheres to schema/state-schema.json: `ociVersion`, `id`, `status`, `pid`, `bundle`, `annotations`" => |mut bundle| {
            bundle.config["annotations"] = json!({"com.example.key": "value", "org.empty": ""});
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            adheres(&bundle.state(), &["created"]);
            assert_eq!(bundle.state()["annotations"]["com.example.key"], "value");
            bundle.start().ok();
            adheres(&bundle.state(), &["running"]);
            bundle.kill("KILL").ok();
            bundle.wait_for("stopped");
            adheres(&bundle.state(), &["stopped"]);
        };
        the_id_in_the_state_is_the_containers: "`id` is the container's ID" => |bundle| {
            bundle.create().ok();
            assert_eq!(bundle.state()["id"], bundle.id());
        };
        an_id_is_unique: "`id` is unique across all containers on this host" => |mut bundle| {
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            let before = bundle.state();
            let said = bundle.create().fails(1);
            assert!(said.stderr.contains("exist"), "{said}");
            assert_eq!(bundle.state(), before);
        };
        the_status_is_one_of_the_lifes: "`status` is `created` after create, `running` while the program runs, `stopped` once it has exited" => |mut bundle| {
            bundle.sh("until [ -e /go ]; do usleep 1000; done");
            bundle.create().ok();
            assert_eq!(bundle.status(), "created");
            bundle.start().ok();
            assert_eq!(bundle.status(), "running");
            std::fs::write(bundle.root().join("go"), "").expect("write");
            bundle.wait_for("stopped");
        };
        the_status_in_hooks_is_that_of_their_time: "`status` is `creating` while the environment is being created and `created` from then on, where the first hooks are" => |mut bundle| {
            let out = bundle.path("state").display().to_string();
            bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", format!("cat >{out}")]}]});
            bundle.create().ok();
            let state: Value = serde_json::from_str(&std::fs::read_to_string(bundle.path("state")).expect("state")).expect("JSON");
            adheres(&state, &["created"]);
        };
        other_statuses_are_states_not_defined_there: "additional values of `status` represent states that the specification does not define" => |mut bundle| {
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            bundle.start().ok();
            bundle.verb(&["pause", bundle.id()]).ok();
            assert_eq!(bundle.status(), "paused");
            bundle.verb(&["resume", bundle.id()]).ok();
            assert_eq!(bundle.status(), "running");
        };
        the_pid_is_the_containers_process: "`pid` is there when created or running, and is the container process as the runtime sees it" => |mut bundle| {
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            let pid = bundle.pid();
            bundle.start().ok();
            assert_eq!(bundle.pid(), pid);
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("cmdline");
            assert_eq!(words, "sleep\u{0}100\u{0}");
        };
        the_bundle_is_an_absolute_path: "`bundle` is the absolute path to the bundle, however it was given" => |bundle| {
            bundle.write();
            let parent = bundle.dir().parent().expect("a parent").to_owned();
            let name = bundle.dir().file_name().expect("a name").to_owned();
            let mut command = bundle.command(&["create", "-b"]);
            command.arg(name).arg(bundle.id()).current_dir(parent);
            bundle.finish(command).ok();
            assert_eq!(bundle.state()["bundle"], json!(bundle.dir()));
        };
    }
}
