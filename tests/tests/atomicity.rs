//! A setup that fails at any step takes all before it back, and names the step; `create` in places that are not tidy.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::bundle::Bundle;

/// A change of the configuration or of the command line that makes one step fail, and words that the message must have.
struct Case {
    name: &'static str,
    change: fn(&mut Bundle),
    options: &'static [&'static str],
    says: &'static [&'static str],
}

const NONE: &[&str] = &[];

fn hook(bundle: &mut Bundle, kind: &str) {
    // Something of the hook's lives on in the container's groups, or beside them.
    let script = "echo wrong here >&2; exit 3";
    bundle.config["hooks"] = json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
}

fn resource(bundle: &mut Bundle, value: Value) {
    bundle.config["linux"]["resources"] = value;
}

const CASES: &[Case] = &[
    Case {
        name: "a mount without a source",
        change: |bundle| bundle.mount("bind", &PathBuf::from("/nonexistent/here"), "/mnt", &["bind"]),
        options: NONE,
        says: &["mount /mnt", "/nonexistent/here"],
    },
    Case {
        name: "a file system that nobody has",
        change: |bundle| bundle.mount("nonesuch", &PathBuf::from("x"), "/mnt", &[]),
        options: NONE,
        says: &["mount /mnt", "nonesuch"],
    },
    Case {
        name: "an option that the file system refuses",
        change: |bundle| bundle.mount("tmpfs", &PathBuf::from("x"), "/mnt", &["size=lots"]),
        options: NONE,
        says: &["mount /mnt", "size"],
    },
    Case {
        name: "a device that is none",
        change: |bundle| {
            bundle.config["linux"]["devices"] =
                json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]);
        },
        options: NONE,
        says: &["/dev/x"],
    },
    Case {
        name: "a root that is not there",
        change: |bundle| bundle.config["root"]["path"] = json!("nowhere"),
        options: NONE,
        says: &["nowhere"],
    },
    Case {
        name: "prestart hooks",
        change: |bundle| hook(bundle, "prestart"),
        options: NONE,
        says: &["prestart", "wrong here"],
    },
    Case {
        name: "createRuntime hooks",
        change: |bundle| hook(bundle, "createRuntime"),
        options: NONE,
        says: &["createRuntime", "wrong here"],
    },
    Case {
        name: "createContainer hooks",
        change: |bundle| hook(bundle, "createContainer"),
        options: NONE,
        says: &["createContainer", "wrong here"],
    },
    Case {
        name: "a hook that is not there",
        change: |bundle| bundle.config["hooks"] = json!({"createRuntime": [{"path": "/nonexistent/hook"}]}),
        options: NONE,
        says: &["createRuntime", "/nonexistent/hook"],
    },
    Case {
        name: "a limit that the kernel refuses",
        change: |bundle| resource(bundle, json!({"cpu": {"quota": 1, "period": 100_000}})),
        options: NONE,
        says: &["cpu"],
    },
    Case {
        name: "processors that nobody has",
        change: |bundle| resource(bundle, json!({"cpu": {"cpus": "4000"}})),
        options: NONE,
        says: &["cpuset"],
    },
    Case {
        name: "a command that is not there",
        change: |bundle| bundle.args(&["no-such-command"]),
        options: NONE,
        says: &["no-such-command"],
    },
    Case {
        name: "a working directory that is a file",
        change: |bundle| bundle.config["process"]["cwd"] = json!("/bin/busybox"),
        options: NONE,
        says: &["working directory", "/bin/busybox"],
    },
    Case {
        name: "a resource limit that nobody may have",
        change: |bundle| {
            bundle.config["process"]["rlimits"] =
                json!([{"type": "RLIMIT_NOFILE", "hard": 4_000_000_000u64, "soft": 10}]);
        },
        options: NONE,
        says: &["resource limits"],
    },
    Case {
        name: "a namespace that is not there",
        change: |bundle| bundle.join_namespace("network", "/nonexistent/ns"),
        options: NONE,
        says: &["/nonexistent/ns"],
    },
    Case {
        name: "a namespace of another kind",
        change: |bundle| bundle.join_namespace("network", "/proc/self/ns/uts"),
        options: NONE,
        says: &["join the net namespace"],
    },
    Case {
        name: "a console socket that nobody listens at",
        change: |bundle| bundle.config["process"]["terminal"] = json!(true),
        options: &["--console-socket", "/nonexistent/socket"],
        says: &["/nonexistent/socket"],
    },
    Case {
        name: "a pid file in a folder that is not there",
        change: |_| {},
        options: &["--pid-file", "/nonexistent/pid"],
        says: &["/nonexistent/pid"],
    },
    Case {
        name: "a pid file that is a folder",
        change: |_| {},
        options: &["--pid-file", "/tmp"],
        says: &["/tmp"],
    },
];

#[test]
fn a_setup_that_fails_at_any_step_names_it_and_leaves_nothing() {
    for case in CASES {
        let Some(mut bundle) = Bundle::new() else { return };
        bundle.args(&["sleep", "1000"]);
        (case.change)(&mut bundle);
        let outcome = bundle.create_with(case.options);
        assert_eq!(outcome.code, 1, "{}: {outcome}", case.name);
        assert_eq!(
            outcome.stderr.lines().filter(|line| line.contains("error")).count(),
            1,
            "{}: {outcome}",
            case.name
        );
        for words in case.says {
            assert!(outcome.stderr.contains(words), "{}: {words:?} in {outcome}", case.name);
        }
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_log_that_cannot_be_written_is_told_of_and_stops_nothing() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["no-such-command"]);
    bundle.write();
    let mut command = bundle.command(&["--log", "/nonexistent/log", "create", "-b"]);
    command.arg(bundle.dir()).arg(bundle.id());
    let outcome = bundle.finish(command);
    assert_eq!(outcome.code, 1, "{outcome}");
    let outcome = outcome.says("no-such-command");
    assert!(outcome.stderr.contains("/nonexistent/log"), "{outcome}");
    bundle.assert_nothing_left();
}

#[test]
fn a_group_that_another_container_is_in_is_refused_and_its_processes_live() {
    let (Some(mut first), Some(mut second)) = (Bundle::new(), Bundle::new()) else { return };
    let path = json!(format!("/{}", first.id()));
    for bundle in [&mut first, &mut second] {
        bundle.args(&["sleep", "1000"]);
        bundle.config["linux"]["cgroupsPath"] = path.clone();
    }
    first.create().ok();
    first.start().ok();
    second.create().fails(1).says("cgroup");
    second.verb(&["delete", "--force", second.id()]).ok();
    second.assert_nothing_left();
    assert_eq!(first.status(), "running");
    // A maker that was killed before it could see that: what it recorded names the group, and is not a right to it.
    let ours = std::fs::read_to_string(first.states().join(first.id()).join("state.json")).expect("a record");
    let mut record: Value = serde_json::from_str(&ours).expect("JSON");
    record["id"] = json!(second.id());
    record["grouped"] = json!(false);
    record.as_object_mut().expect("an object").remove("init");
    let place = second.states().join(second.id());
    std::fs::create_dir_all(&place).expect("a folder");
    std::fs::write(place.join("state.json"), record.to_string()).expect("a record");
    second.verb(&["delete", "--force", second.id()]).ok();
    assert_eq!(first.status(), "running");
    first.verb(&["delete", "--force", first.id()]).ok();
    first.assert_nothing_left();
}

/// A way to call the runtime: a shell's words before it, its options, and whether it works.
fn called(bundle: &Bundle, before: &str, words: &[&str]) -> testkit::Outcome {
    let runtime = bundle.command(&[]);
    let mut command = bundle.world().command("/bin/bash");
    command
        .args(["-c", &format!("{before}\nexec \"$@\""), "bash"])
        .arg(testkit::world::tools().join("oci-spawn"));
    command.args(runtime.get_args()).args(words).process_group(0);
    bundle.finish(command)
}

#[test]
fn containers_are_created_from_untidy_places() {
    for (name, before) in [
        ("a umask of nothing", "umask 000"),
        ("a umask of all", "umask 077"),
        ("no standard input", "exec <&-"),
        ("no standard output", "exec >&-"),
        ("no standard streams", "exec <&- >&- 2>&-"),
        ("a directory that is gone", "mkdir gone; cd gone; rmdir ../gone"),
        ("few descriptors", "ulimit -n 40"),
        ("a huge environment", "for i in $(seq 1000); do export V$i=$(printf %0500d $i); done"),
        ("no PATH", "unset PATH"),
        ("no HOME", "unset HOME"),
        ("no environment", "for name in $(compgen -e); do unset $name; done"),
        ("ignored signals", "trap '' TERM INT HUP CHLD PIPE"),
    ] {
        let Some(mut bundle) = Bundle::new() else { return };
        bundle.sh("sleep 1000");
        bundle.write();
        let dir = bundle.dir().display().to_string();
        let outcome = called(&bundle, before, &["create", "-b", &dir, bundle.id()]);
        assert_eq!(outcome.code, 0, "{name}: {outcome}");
        let outcome = called(&bundle, before, &["start", bundle.id()]);
        assert_eq!(outcome.code, 0, "{name}: {outcome}");
        assert_eq!(bundle.status(), "running", "{name}");
        let mode = std::fs::metadata(bundle.states().join(bundle.id())).expect("its state");
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o700, "{name}");
        let outcome = called(&bundle, before, &["delete", "--force", bundle.id()]);
        assert_eq!(outcome.code, 0, "{name}: {outcome}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn bundles_and_state_roots_have_any_name() {
    let long = "x".repeat(220);
    for name in ["with blank", "with\nnewline", "ünï", "--root", &long] {
        let Some(mut bundle) = Bundle::new() else { return };
        bundle.sh("sleep 1000");
        bundle.write();
        let place = bundle.path(&format!("d/{name}"));
        std::fs::create_dir_all(place.join("up")).expect("folders");
        std::fs::rename(bundle.path("config.json"), place.join("config.json")).expect("moved");
        std::fs::rename(bundle.root(), place.join("rootfs")).expect("moved");
        std::os::unix::fs::symlink("roots", place.join("link")).expect("a link");
        std::fs::create_dir(place.join("roots")).expect("a folder");
        // Relative to the bundle, through a link, and by descriptor.
        for (root, dir) in [("up/../state", "."), ("link", "up/.."), ("/proc/self/fd/7", "/proc/self/fd/8")] {
            let before = format!(
                "cd -- {}; exec 7<roots 8<.; runtime=$1; shift 3; set -- \"$runtime\" \"$@\"",
                quoted(&place.display().to_string())
            );
            let id = bundle.id().to_owned();
            let verb = |words: &[&str]| {
                let all: Vec<&str> = ["--root", root].iter().chain(words).copied().collect();
                called(&bundle, &before, &all)
            };
            let outcome = verb(&["create", "-b", dir, &id]);
            assert_eq!(outcome.code, 0, "{name:?}, {root}: {outcome}");
            assert_eq!(verb(&["start", &id]).code, 0, "{name:?}, {root}");
            assert!(verb(&["state", &id]).text().contains("\"running\""), "{name:?}, {root}");
            assert_eq!(verb(&["delete", "--force", &id]).code, 0, "{name:?}, {root}");
            bundle.assert_nothing_left();
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn two_state_roots_may_each_have_a_container_of_one_id() {
    let (Some(mut first), Some(mut second)) = (Bundle::new(), Bundle::new()) else { return };
    for (number, bundle) in [&mut first, &mut second].into_iter().enumerate() {
        bundle.args(&["sleep", "1000"]);
        bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}-{number}", bundle.id()));
        bundle.write();
        let mut command = bundle.command(&["run", "-d", "-b"]);
        command.arg(bundle.dir()).arg("same");
        let outcome = bundle.finish(command);
        assert_eq!(outcome.code, 0, "{outcome}");
    }
    first.verb(&["delete", "--force", "same"]).ok();
    assert!(second.verb(&["state", "same"]).ok().text().contains("\"running\""));
    second.verb(&["delete", "--force", "same"]).ok();
    first.assert_nothing_left();
    second.assert_nothing_left();
}
