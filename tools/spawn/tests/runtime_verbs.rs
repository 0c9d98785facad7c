//! The verbs around a container's life: what they print, in which shape, and what they refuse. Where Debian's runc is installed, what
//! can be compared is compared with it.

mod bundle;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bundle::{Bundle, said, text};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

fn sleeper() -> Option<Bundle> {
    let bundle = Bundle::new("exec sleep 1000")?;
    bundle.start();
    Some(bundle)
}

fn runc() -> Option<PathBuf> {
    let found = ["/usr/sbin/runc", "/usr/bin/runc"].into_iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        testkit::skip("nothing to compare with: no runc is installed");
    }
    found
}

/// A running container of Debian's runc.
fn peer() -> Option<Bundle> {
    let mut peer = Bundle::new("exec sleep 1000")?;
    peer.program = runc()?;
    peer.start();
    Some(peer)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// The names of an object's members.
fn members(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("an object: {value}")).keys().cloned().collect()
}

fn named(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// Every member, of objects in objects, too.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let path = format!("{at}/{name}");
        paths(member, &path, found);
        found.insert(path);
    }
}

#[test]
fn the_state_has_the_members_that_the_specification_and_runc_give_it() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.set("/annotations", json!({"a": "b"}));
    bundle.start();
    let state = bundle.state();
    let want =
        named(&["ociVersion", "id", "status", "pid", "bundle", "annotations", "rootfs", "created", "owner"]);
    assert_eq!(members(&state), want);
    assert_eq!((&state["status"], &state["annotations"]), (&json!("running"), &json!({"a": "b"})));
}

#[test]
fn the_processes_of_a_container_are_listed_as_ps_shows_them() {
    let Some(bundle) = sleeper() else { return };
    let pid = bundle.pid();
    let table = bundle.does("ps", &[]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("UID") && lines.len() == 2 && lines[1].ends_with("sleep 1000"), "{table}");
    let chosen = bundle.does("ps", &["-o", "pid,comm"]);
    let words: Vec<&str> = chosen.split_whitespace().collect();
    assert_eq!(words, ["PID", "COMMAND", &pid.to_string(), "sleep"]);
    for form in ["--format=json", "-fjson"] {
        let output = bundle.verb(&["ps", form, &bundle.id]);
        assert_eq!(parsed(&text(&output.stdout)), json!([pid]), "{}", said(&output));
    }
    let without = bundle.verb(&["ps", &bundle.id, "-o", "comm"]);
    assert_eq!(without.status.code(), Some(1));
    assert!(text(&without.stderr).contains("couldn't find PID field"), "{}", said(&without));
    assert_eq!(bundle.verb(&["ps", "--format", "x", &bundle.id]).status.code(), Some(1));
    assert_eq!(bundle.verb(&["ps", "nobody"]).status.code(), Some(1));
}

#[test]
fn a_list_has_runcs_columns_and_members() {
    let Some(bundle) = sleeper() else { return };
    let table = text(&bundle.verb(&["list"]).stdout);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let pid = bundle.pid().to_string();
    assert_eq!(
        (words.len(), words[1][0], words[1][1], words[1][2]),
        (2, bundle.id.as_str(), pid.as_str(), "running")
    );
    assert_eq!(words[1][5], "root");
    let list = parsed(&text(&bundle.verb(&["list", "--format", "json"]).stdout));
    let want = named(&["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]);
    assert_eq!(members(&list[0]), want);
    assert_eq!(text(&bundle.verb(&["list", "-q"]).stdout), format!("{}\n", bundle.id));
    bundle.does("kill", &["KILL"]);
    bundle.wait_for("stopped");
    let list = parsed(&text(&bundle.verb(&["list", "-f", "json"]).stdout));
    assert_eq!((&list[0]["status"], &list[0]["pid"]), (&json!("stopped"), &json!(0)));
    if let Some(peer) = peer() {
        let theirs = parsed(&text(&peer.verb(&["list", "-f", "json"]).stdout));
        assert_eq!(members(&theirs[0]), want);
    }
    bundle.delete();
    assert_eq!(text(&bundle.verb(&["list", "-f", "json"]).stdout), "null\n");
    assert_eq!(text(&bundle.verb(&["list"]).stdout).lines().count(), 1);
    assert!(text(&bundle.verb(&["list", "-q"]).stdout).is_empty());
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    let Some(bundle) = Bundle::new("while :; do echo >>/tmp/alive; sleep 0.01; done") else { return };
    bundle.start();
    bundle.does("pause", &[]);
    assert_eq!(bundle.state()["status"], "paused");
    let size = || fs::metadata(bundle.rootfs().join("tmp/alive")).map_or(0, |file| file.len());
    let before = size();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(size(), before);
    assert_eq!(bundle.verb(&["pause", &bundle.id]).status.code(), Some(1));
    bundle.does("resume", &[]);
    assert_eq!(bundle.state()["status"], "running");
    let deadline = Instant::now() + PATIENCE;
    while size() == before {
        assert!(Instant::now() < deadline, "it did not go on");
    }
    assert_eq!(bundle.verb(&["resume", &bundle.id]).status.code(), Some(1));
    bundle.does("pause", &[]);
    bundle.does("kill", &["KILL"]);
    bundle.wait_for("stopped");
    assert_eq!(bundle.verb(&["pause", &bundle.id]).status.code(), Some(1));
}

/// A file of a version-1 controller of the container.
fn limit(bundle: &Bundle, controller: &str, file: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).ok()?;
    let path = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names.split(',').any(|name| name == controller).then(|| path.to_string())
    })?;
    let mounted = ["", ",cpuacct"].map(|more| format!("/sys/fs/cgroup/{controller}{more}{path}/{file}"));
    mounted.iter().find_map(|path| fs::read_to_string(path).ok()).map(|value| value.trim().to_string())
}

#[test]
fn an_update_changes_what_it_names_and_keeps_the_rest() {
    let Some(bundle) = sleeper() else { return };
    let read = |bundle: &Bundle| {
        let files = [
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.soft_limit_in_bytes"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpu", "cpu.cfs_period_us"),
            ("cpu", "cpu.shares"),
            ("cpuset", "cpuset.cpus"),
            ("pids", "pids.max"),
        ];
        files.map(|(controller, file)| limit(bundle, controller, file).unwrap_or_default())
    };
    if limit(&bundle, "memory", "memory.limit_in_bytes").is_none() {
        testkit::skip("needs the controllers of version 1; a guest tries those of version 2");
        return;
    }
    let both = [Some(bundle), peer()];
    for bundle in both.iter().flatten() {
        let mut wrote = Vec::new();
        for flags in [
            &["--memory", "64m", "--cpu-quota", "50000", "--cpu-share", "512", "--pids-limit", "33"][..],
            &["--memory-reservation", "32M", "--cpu-period", "50000"],
            &["--cpuset-cpus", "0", "--memory", "128m"],
            &["--cpu-quota", "-1", "--memory", "-1", "--cpu-share", ""],
        ] {
            let mut words = vec!["update"];
            words.extend(flags);
            words.push(&bundle.id);
            let output = bundle.verb(&words);
            assert!(output.status.success(), "{:?} {flags:?}: {}", bundle.program, said(&output));
            wrote.push(read(bundle));
        }
        let unlimited = wrote[3][0].clone();
        assert!(unlimited.starts_with("92233720368547"), "{unlimited}");
        let (m32, m64, m128) = ("33554432", "67108864", "134217728");
        let soft = wrote[0][1].clone();
        let cpus = wrote[0][5].clone();
        assert_eq!(
            wrote,
            [
                [m64, &soft, "50000", "100000", "512", &cpus, "33"],
                [m64, m32, "50000", "50000", "512", &cpus, "33"],
                [m128, m32, "50000", "50000", "512", "0", "33"],
                [unlimited.as_str(), m32, "-1", "50000", "512", "0", "33"],
            ],
            "{:?}",
            bundle.program
        );
    }
    let [Some(bundle), _] = both else { return };
    let kept = fs::read(bundle.state_root().join(&bundle.id).join("config.json")).expect("what is recorded");
    let resources = &parsed(&text(&kept))["linux"]["resources"];
    assert_eq!(resources["memory"], json!({"limit": -1, "reservation": 33_554_432}));
    assert_eq!(resources["pids"], json!({"limit": 33}));
    assert_eq!(resources["cpu"], json!({"shares": 512, "quota": -1, "period": 50000, "cpus": "0"}));
}

#[test]
fn an_update_is_read_from_a_file_or_stdin_and_refused_where_it_makes_no_sense() {
    let Some(bundle) = sleeper() else { return };
    let resources =
        json!({"pids": {"limit": 44}, "devices": [{"allow": false, "access": "rwm"}]}).to_string();
    let file = bundle.at("resources.json");
    fs::write(&file, &resources).expect("write");
    bundle.does("update", &["--resources", &file.display().to_string()]);
    let mut command = bundle.command(&["update", "-r", "-", "--pids-limit", "1", &bundle.id]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the tool");
    let words = resources.replace("44", "45");
    child.stdin.take().expect("stdin").write_all(words.as_bytes()).expect("write");
    assert!(child.wait().expect("wait").success());
    assert_eq!(limit(&bundle, "pids", "pids.max").unwrap_or_else(|| "45".into()), "45");
    // Devices are as they were.
    assert_eq!(
        text(&bundle.verb(&["exec", &bundle.id, "sh", "-c", "echo >/dev/null; echo $?"]).stdout),
        "0\n"
    );
    fs::write(&file, "{").expect("write");
    let name = file.display().to_string();
    for wrong in [
        &["--memory", "x"][..],
        &["--cpu-share", "-1"],
        &["--pids-limit", "x"],
        &["--resources", "/nonsense"],
        &["--resources", &name],
        &["--l3-cache-schema", "L3:0=f"],
        &["--nonsense"],
    ] {
        let mut words = vec!["update"];
        words.extend(wrong);
        words.push(&bundle.id);
        let output = bundle.verb(&words);
        assert_eq!(output.status.code(), Some(1), "{wrong:?}: {}", said(&output));
    }
    let kernel = bundle.verb(&["update", "--kernel-memory", "1m", &bundle.id]);
    assert!(kernel.status.success() && text(&kernel.stderr).contains("Kernel memory settings are ignored"));
    bundle.does("kill", &["KILL"]);
    bundle.wait_for("stopped");
    assert_eq!(bundle.verb(&["update", "--pids-limit", "5", &bundle.id]).status.code(), Some(1));
}

#[test]
fn statistics_have_runcs_shape() {
    let Some(bundle) = sleeper() else { return };
    let look = |bundle: &Bundle| parsed(&text(&bundle.verb(&["events", "--stats", &bundle.id]).stdout));
    let ours = look(&bundle);
    assert_eq!(members(&ours), named(&["type", "id", "data"]));
    assert_eq!((&ours["type"], &ours["id"]), (&json!("stats"), &json!(bundle.id)));
    let groups = ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"];
    assert_eq!(members(&ours["data"]), named(&groups));
    assert!(ours["data"]["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 0), "{ours}");
    assert_eq!(ours["data"]["pids"]["current"], 1);
    if let Some(peer) = peer() {
        let (mut one, mut other) = (BTreeSet::new(), BTreeSet::new());
        paths(&ours["data"], "", &mut one);
        paths(&look(&peer)["data"], "", &mut other);
        // Which counters of the kernel are above zero is chance.
        let chance = |path: &&String| {
            !path.contains("/raw/") && !path.ends_with("/failcnt") && !path.contains("percpu")
        };
        let (one, other): (Vec<_>, Vec<_>) =
            (one.iter().filter(chance).collect(), other.iter().filter(chance).collect());
        let missing: Vec<_> = other.iter().filter(|path| !one.contains(path)).collect();
        assert!(
            missing.iter().all(|path| path.ends_with("/usage")
                || path.ends_with("/max")
                || path.ends_with("/cache")
                || path.contains("throttling")),
            "{missing:?}"
        );
    }
    bundle.does("kill", &["KILL"]);
    bundle.wait_for("stopped");
    assert_eq!(bundle.verb(&["events", "--stats", &bundle.id]).status.code(), Some(1));
}

#[test]
fn events_come_again_and_again_tell_of_want_of_memory_and_end_with_the_container() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.set("/linux/resources/memory/limit", json!(32 << 20));
    bundle.start();
    let mut command = bundle.command(&["events", "--interval", "50ms", &bundle.id]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the tool");
    let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut kinds =
        lines.map(|line| parsed(&line.expect("a line"))["type"].as_str().expect("a type").to_string());
    assert_eq!(kinds.by_ref().take(3).collect::<Vec<_>>(), ["stats"; 3]);
    // One process alone: a second one that asks for memory while the first is dying makes the kernel choose the container's first.
    let eater = "dd if=/dev/zero of=/dev/null bs=64M count=1; exit 0";
    let eats = bundle.verb(&["exec", &bundle.id, "sh", "-c", eater]);
    assert!(eats.status.code().is_some(), "{}", said(&eats));
    assert!(kinds.by_ref().take(200).any(|kind| kind == "oom"), "no event of memory");
    bundle.does("kill", &["KILL"]);
    bundle.wait_for("stopped");
    kinds.for_each(drop);
    assert_eq!(child.wait().expect("wait").code(), Some(0));
    for wrong in ["0s", "x", "-1s"] {
        let interval = format!("--interval={wrong}");
        assert_eq!(bundle.verb(&["events", &interval, &bundle.id]).status.code(), Some(1), "{wrong}");
    }
}

#[test]
fn the_features_are_in_the_specifications_shape_and_those_that_runc_has() {
    let Some(bundle) = Bundle::new("true") else { return };
    let features = parsed(&text(&bundle.verb(&["features"]).stdout));
    let want = [
        "ociVersionMin",
        "ociVersionMax",
        "hooks",
        "mountOptions",
        "linux",
        "annotations",
        "potentiallyUnsafeConfigAnnotations",
    ];
    assert_eq!(members(&features), named(&want));
    let documented = named(&[
        "namespaces",
        "capabilities",
        "cgroup",
        "seccomp",
        "apparmor",
        "selinux",
        "memoryPolicy",
        "intelRdt",
        "mountExtensions",
        "netDevices",
    ]);
    assert!(members(&features["linux"]).is_subset(&documented), "{features}");
    assert_eq!(members(&features["linux"]["cgroup"]), named(&["v1", "v2", "systemd", "systemdUser", "rdma"]));
    let seccomp = ["enabled", "actions", "operators", "archs", "knownFlags", "supportedFlags"];
    assert_eq!(members(&features["linux"]["seccomp"]), named(&seccomp));
    assert_eq!(
        features["hooks"],
        json!(["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"])
    );
    for (name, value) in features["annotations"].as_object().expect("annotations") {
        assert!(name.contains('.') && value.is_string(), "{name}: {value}");
    }
    let Some(runc) = runc() else { return };
    let theirs = parsed(&text(&Command::new(runc).arg("features").output().expect("runc").stdout));
    let list = |value: &Value| -> BTreeSet<String> {
        value.as_array().expect("a list").iter().filter_map(|one| one.as_str().map(str::to_string)).collect()
    };
    for pointer in [
        "/hooks",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
    ] {
        let (one, other) = (&features.pointer(pointer), &theirs.pointer(pointer));
        let (one, other) = (list(one.expect("ours")), list(other.expect("theirs")));
        assert!(one.is_superset(&other), "{pointer}: {:?} is missing", other.difference(&one));
    }
}

#[test]
fn a_configuration_to_begin_with_is_runcs_and_runs() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    let dir = bundle.at("new");
    fs::create_dir(&dir).expect("mkdir");
    let name = dir.display().to_string();
    let spec = |words: &[&str]| bundle.verb(&[&["spec", "--bundle", &name], words].concat());
    assert!(spec(&[]).status.success());
    let bytes = fs::read(dir.join("config.json")).expect("config.json");
    let again = spec(&[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("config.json"), "{}", said(&again));
    assert_eq!(fs::read(dir.join("config.json")).expect("config.json"), bytes, "it was overwritten");
    let ours = parsed(&text(&bytes));
    if let Some(runc) = runc() {
        let compared = |rootless: bool| {
            let words: &[&str] = if rootless { &["--rootless"] } else { &[] };
            let read = || {
                let path = dir.join("config.json");
                let value = parsed(&fs::read_to_string(&path).expect("config.json"));
                fs::remove_file(&path).expect("unlink");
                value
            };
            let _ = fs::remove_file(dir.join("config.json"));
            assert!(spec(words).status.success());
            let mut ours = read();
            let theirs = Command::new(&runc).arg("spec").args(words).current_dir(&dir).status();
            assert!(theirs.expect("runc").success());
            let mut theirs = read();
            // What runc left out of its own since then, and what each calls itself.
            theirs["process"]["capabilities"].as_object_mut().expect("sets").remove("ambient");
            for config in [&mut ours, &mut theirs] {
                config["ociVersion"] = Value::Null;
                config["hostname"] = Value::Null;
            }
            assert_eq!(ours, theirs, "rootless {rootless}");
        };
        compared(false);
        compared(true);
    }
    bundle.config = ours;
    bundle
        .set("/process/terminal", json!(false))
        .set("/process/args", json!(["/bin/sh", "-c", "id -u; hostname"]));
    bundle.set("/process/env", json!(["PATH=/bin"]));
    assert_eq!(bundle.prints(), "0\noci-spawn\n");
}

#[test]
fn what_is_not_supported_says_so_and_help_and_version_are_told() {
    let Some(bundle) = Bundle::new("true") else { return };
    for verb in ["checkpoint", "restore"] {
        let output = bundle.verb(&[verb, "--image-path", "/x", "y"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(&format!("{verb} is not supported by this runtime")),
            "{}",
            said(&output)
        );
    }
    let verbs = [
        "create", "start", "run", "exec", "state", "kill", "delete", "ps", "list", "pause", "resume",
        "update", "events", "features", "spec",
    ];
    for verb in verbs {
        let output = bundle.verb(&[verb, "--help"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{verb}: {}", said(&output));
        assert!(text(&output.stdout).contains("Usage: oci-spawn"), "{verb}: {}", said(&output));
    }
    let version = Command::new(&bundle.program).arg("--version").output().expect("the tool");
    let version = text(&version.stdout);
    let lines: Vec<&str> = version.lines().collect();
    assert!(lines[0].starts_with("oci-spawn ") && lines.len() == 2, "{version}");
    assert_eq!(
        Some(lines[1]),
        bundle
            .verb(&["features"])
            .stdout
            .split(|&b| b == b'"')
            .nth(7)
            .map(|max| format!("spec: {}", text(max)))
            .as_deref()
    );
}

#[test]
fn options_stand_before_and_after_the_id() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    let file = bundle.at("pid").display().to_string();
    let directory = bundle.path().display().to_string();
    let output = bundle.verb(&["create", "--bundle", &directory, &bundle.id, "--pid-file", &file]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(&file).expect("a pid"), bundle.pid().to_string());
    for words in [["update", &bundle.id, "--pids-limit", "50"], ["update", "--pids-limit", "50", &bundle.id]]
    {
        assert!(bundle.verb(&words).status.success(), "{words:?}");
    }
    assert!(bundle.verb(&["kill", "--all", &bundle.id, "KILL"]).status.success());
    bundle.wait_for("stopped");
    assert!(bundle.verb(&["delete", &bundle.id, "--force"]).status.success());
}
