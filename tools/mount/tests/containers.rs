//! oci-mount as a whole: containers made, seen by other runtimes, removed.

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Fixture, Image, busybox, privileged};

const MOUNT: &str = env!("CARGO_BIN_EXE_oci-mount");

fn small(fixture: &Fixture) -> String {
    fixture.image(&Image { config: json!({"Cmd": ["/bin/sh"], "Env": ["A=image"]}), fill: &busybox })
}

fn path(line: &Value, member: &str) -> PathBuf {
    line[member].as_str().expect(member).into()
}

fn config(line: &Value) -> Value {
    let text = std::fs::read_to_string(path(line, "bundle").join("config.json")).expect("config.json");
    serde_json::from_str(&text).expect("JSON")
}

fn upper_is_empty(line: &Value) -> bool {
    std::fs::read_dir(path(line, "bundle").join("upper")).expect("upper").count() == 0
}

#[test]
fn three_containers_of_one_image_are_independent() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let rootfs = small(&fixture);
    let lines: Vec<Value> =
        ["a", "b", "c"].map(|name| fixture.run(MOUNT, &["--name", name], &rootfs).line()).into();
    for line in &lines {
        assert_eq!((&line["mounted"], &line["status"]), (&json!(true), &json!("created")));
        assert!(path(line, "rootfs").join("bin/busybox").exists());
        assert!(upper_is_empty(line), "nothing of ours is in the writable layer");
        let mode = std::fs::metadata(path(line, "rootfs")).expect("stat").mode();
        assert_eq!(mode & 0o7777, 0o755, "the root directory looks as the image's");
    }
    std::fs::write(path(&lines[0], "rootfs").join("etc/mine"), "a").expect("write");
    assert!(path(&lines[0], "bundle").join("upper/etc/mine").exists());
    for other in &lines[1..] {
        assert!(!path(other, "rootfs").join("etc/mine").exists());
    }
    let gone = fixture.run(MOUNT, &["--remove", "a", "b"], "");
    assert_eq!((gone.code, gone.stdout.as_str()), (0, ""));
    assert_eq!(fixture.containers(), ["c"]);
    assert!(!path(&lines[0], "bundle").exists());
    assert_eq!(fixture.run(MOUNT, &["--remove"], &lines[2].to_string()).code, 0);
    assert!(fixture.containers().is_empty());
}

#[test]
fn the_id_is_the_configurations_and_a_taken_name_is_refused() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let rootfs = small(&fixture);
    let first = fixture.run(MOUNT, &["--name", "web", "-e", "B=1"], &rootfs).line();
    let refused = fixture.run(MOUNT, &["--name", "web"], &rootfs).error(9);
    let holder = first["id"].as_str().expect("id");
    assert!(refused["why"].as_str().expect("why").contains(holder), "{refused}");
    let again = fixture.run(MOUNT, &["--name", "web", "-e", "B=1", "--replace"], &rootfs).line();
    assert_eq!(again["id"], first["id"]);
    assert_ne!(again["instance"], first["instance"]);
    // What cannot be made takes nobody's name.
    fixture.run(MOUNT, &["--name", "web", "--replace", "--force", "-u", "nobody"], &rootfs).error(3);
    assert_eq!(fixture.store.container("web").expect("kept").id(), holder);
    let other = fixture.run(MOUNT, &["--name", "other", "-e", "B=1"], &rootfs).line();
    assert_ne!(other["id"], first["id"]);
    // The first line speaks of a container that is gone.
    assert_eq!(fixture.run(MOUNT, &["--remove"], &first.to_string()).code, 9);
    let unnamed = fixture.run(MOUNT, &[], &rootfs).line();
    assert!(unnamed["name"].as_str().expect("name").contains('-'));
}

#[test]
fn choices_reach_the_configuration() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let rootfs = small(&fixture);
    std::fs::write(fixture.dir.path().join("env"), "# no\n\nF=file\nA=file\n").expect("write");
    let file = fixture.dir.path().join("env");
    let host = fixture.dir.path().join("shared");
    std::fs::create_dir(&host).expect("mkdir");
    let volume = format!("{}:/mnt/in:ro", host.display());
    let args = [
        "--name",
        "x",
        "--env-file",
        file.to_str().expect("UTF-8"),
        "-e",
        "E=option",
        "-w",
        "/srv/here",
        "-u",
        "app",
        "-v",
        &volume,
        "--hostname",
        "box",
        "-l",
        "k=v",
        "--read-only",
        "--",
        "echo",
        "hi",
    ];
    let line = fixture.run(MOUNT, &args, &rootfs).line();
    let config = config(&line);
    assert_eq!(config["process"]["args"], json!(["echo", "hi"]));
    assert_eq!(config["process"]["cwd"], "/srv/here");
    assert_eq!(config["process"]["user"], json!({"uid": 1000, "gid": 1000, "additionalGids": [7, 1000]}));
    let env: Vec<&str> =
        config["process"]["env"].as_array().expect("env").iter().filter_map(Value::as_str).collect();
    assert!(
        ["A=file", "F=file", "E=option", "HOSTNAME=box"].iter().all(|want| env.contains(want)),
        "{env:?}"
    );
    assert_eq!(config["annotations"]["org.ocipipe.label.k"], "v");
    assert_eq!((&config["root"]["readonly"], &config["hostname"]), (&json!(true), &json!("box")));
    assert!(path(&line, "rootfs").join("mnt/in").is_dir() && path(&line, "rootfs").join("srv/here").is_dir());
    assert!(path(&line, "bundle").join("init/mnt/in").is_dir() && upper_is_empty(&line));
    let create = std::fs::read_to_string(path(&line, "bundle").join("create.json")).expect("create.json");
    assert!(!create.contains("rootfs") && !create.contains(line["instance"].as_str().expect("instance")));
}

#[test]
fn bad_input_makes_nothing() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let rootfs = small(&fixture);
    let changed = |member: &str, value: Value| {
        let mut line: Value = serde_json::from_str(&rootfs).expect("JSON");
        line[member] = value;
        line.to_string()
    };
    let unknown = format!("sha256:{}", "0".repeat(64));
    for (args, input, code) in [
        (&["-u", "nobody"][..], rootfs.clone(), 3),
        (&["-u", "4294967295"], rootfs.clone(), 2),
        (&["-v", "/no/such/place:/x"], rootfs.clone(), 3),
        (&["--name", "../x"], rootfs.clone(), 2),
        (&["--name", ""], rootfs.clone(), 2),
        (&["--name", "start"], rootfs.clone(), 2),
        (&["--name", "images"], rootfs.clone(), 2),
        (&["--name", &"0".repeat(64)], rootfs.clone(), 2),
        (&[], changed("store", json!("/elsewhere")), 9),
        (&[], changed("digest", json!(unknown)), 6),
        (&[], changed("image", json!(unknown)), 3),
        (&[], "no line".into(), 2),
        (&["--name", "x"], format!("{rootfs}\n{rootfs}"), 2),
        (&["-v", "/etc:/bin/busybox"], rootfs.clone(), 6),
    ] {
        fixture.run(MOUNT, args, &input).error(code);
        assert!(fixture.containers().is_empty(), "{args:?}");
    }
    assert_eq!(std::fs::read_dir(fixture.store.path().join("staging")).expect("staging").count(), 0);
}

#[test]
fn a_layer_that_an_image_has_twice_is_stacked_once() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let first: Value = serde_json::from_str(&small(&fixture)).expect("JSON");
    let layer: descriptor::Digest =
        first["chainID"].as_str().and_then(|id| id.parse().ok()).expect("a diffID");
    let rootfs = fixture.line(&json!({"Cmd": ["/bin/sh"]}), &[layer, layer, layer]);
    let line = fixture.run(MOUNT, &[], &rootfs).line();
    assert!(path(&line, "rootfs").join("bin/busybox").exists());
}

#[test]
fn without_the_privilege_to_mount_the_missing_capability_is_named() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let rootfs = small(&fixture);
    std::fs::write(fixture.dir.path().join("line"), &rootfs).expect("write");
    let script = format!(
        "setpriv --bounding-set -sys_admin --inh-caps -sys_admin {MOUNT} --store {} < {}",
        fixture.store.path().display(),
        fixture.dir.path().join("line").display()
    );
    let ran: support::Ran = Command::new("sh").args(["-c", &script]).output().expect("sh").into();
    assert!(ran.stderr.contains("CAP_SYS_ADMIN") && ran.stderr.contains("hint"), "{ran:?}");
    assert_eq!(ran.code, 7);
    assert!(fixture.containers().is_empty());
}

#[test]
fn a_mount_that_would_not_last_is_not_made() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    std::fs::write(fixture.dir.path().join("line"), small(&fixture)).expect("write");
    let script = |before: &str| {
        let line = fixture.dir.path().join("line");
        format!("{before} {MOUNT} --store {} < {}", fixture.store.path().display(), line.display())
    };
    let ran =
        |script: &str| support::Ran::from(Command::new("sh").args(["-c", script]).output().expect("sh"));
    // Its parent is outside of the namespace.
    let line = ran(&script("unshare -m")).line();
    assert_eq!(line["mounted"], false);
    assert!(!path(&line, "rootfs").join("bin").exists());
    // Its parent is inside, and stays.
    let line = ran(&format!("unshare -m sh -c '{}; :'", script(""))).line();
    assert_eq!(line["mounted"], true);
}

#[test]
fn an_error_line_passes_through_in_silence() {
    let fixture = Fixture::new();
    let line = json!({"mediaType": descriptor::media::ERROR, "tool": "oci-pull", "exit": 5, "what": "a", "why": "b"});
    let ran = fixture.run(MOUNT, &[], &line.to_string());
    assert_eq!((ran.code, ran.stderr.as_str()), (5, ""));
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).expect("JSON"), line);
}

#[test]
fn a_one_off_without_a_reader_is_removed() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let rootfs = small(&fixture);
    let script = |reader: &str, options: &str| {
        let line = format!(
            "printf '%s\\n' '{rootfs}' | {MOUNT} --store {} --rm {options} | {reader}",
            fixture.store.path().display()
        );
        assert!(Command::new("bash").args(["-c", &line]).status().expect("bash").success());
        // The pipe's reader ends the pipeline; the mount tool may still be removing.
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    script("true", "--name gone");
    assert!(fixture.containers().is_empty());
    script("true", "--keep-on-failure --name kept");
    assert_eq!(fixture.containers(), ["kept"]);
    script("cat > /dev/null", "--name taken");
    assert_eq!(fixture.containers(), ["kept", "taken"]);
}

#[test]
fn hostile_images_reach_nothing_outside() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let canary = fixture.dir.path().join("canary");
    std::fs::create_dir(&canary).expect("mkdir");
    let to = canary.clone();
    let fill = move |dir: &Path| {
        busybox(dir);
        for (link, target) in [
            ("proc", to.as_path()),
            ("sys", Path::new("/tmp")),
            ("mnt", &to),
            ("etc/hosts", &to.join("hosts")),
        ] {
            std::os::unix::fs::symlink(target, dir.join(link)).expect("symlink");
        }
        std::os::unix::fs::symlink("../run/resolv.conf", dir.join("etc/resolv.conf")).expect("symlink");
    };
    let volumes = json!({"/mnt/new": {}, "/../../canary": {}, "mnt": {}});
    let config = json!({"Cmd": ["/bin/sh"], "WorkingDir": "/mnt/work", "Volumes": volumes});
    let rootfs = fixture.image(&Image { config, fill: &fill });
    // Volumes that are directories of the layer are made inside the root, and those of their own when the container starts.
    let line = fixture.run(MOUNT, &["--net", "host", "--image-volume", "layer"], &rootfs).line();
    let own = fixture.run(MOUNT, &["--net", "host"], &rootfs).line();
    assert_eq!(std::fs::read_dir(&canary).expect("canary").count(), 0);
    // A place that climbs is none for a volume.
    assert_eq!(std::fs::read_dir(fixture.store.path().join("volumes")).expect("volumes").count(), 2);
    assert!(upper_is_empty(&own));
    let root = path(&line, "rootfs");
    assert!(root.join("proc").symlink_metadata().expect("proc").is_dir());
    assert!(root.join("run/resolv.conf").is_file());
    let inside = root.join(canary.strip_prefix("/").expect("absolute"));
    assert!(inside.join("new").is_dir() && inside.join("work").is_dir() && inside.join("hosts").is_file());
    assert!(upper_is_empty(&line));
}

#[test]
fn labels_change_no_other_part_of_the_configuration() {
    if !privileged() {
        return;
    }
    let fixture = Fixture::new();
    let labels = json!({"run.oci.handler": "krun", "org.systemd.property.X": "1", "cdi.k8s.io/x": "y"});
    let with =
        fixture.image(&Image { config: json!({"Cmd": ["/bin/sh"], "Labels": labels}), fill: &busybox });
    let without = small(&fixture);
    let plain = |rootfs: &str| {
        let line = fixture.run(MOUNT, &["--hostname", "h", "-e", "A=image"], rootfs).line();
        let text = config(&line).to_string().replace(line["id"].as_str().expect("id"), "ID");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        let annotations = config["annotations"].as_object_mut().expect("annotations");
        annotations.retain(|key, _| !key.starts_with("org.ocipipe.label."));
        config
    };
    assert_eq!(plain(&with), plain(&without));
}

/// crun 1.8.1 runs only where cgroup2 alone is mounted.
fn in_other_runtime(runtime: &str, bundle: &Path, command: &str) -> support::Ran {
    let edit =
        format!("jq '.process.args=[\"/bin/sh\",\"-c\",\"{command}\"]' config.json > c && mv c config.json");
    let prepare = if runtime == "crun" { "mount -t cgroup2 none /sys/fs/cgroup && " } else { "" };
    let script = format!("{prepare}cd {} && {edit} && {runtime} run -b . ocipipe-test-$$", bundle.display());
    let ran = Command::new("unshare").args(["-m", "sh", "-c", &script]).output();
    ran.expect("unshare").into()
}

#[test]
fn crun_and_runc_run_the_bundle_as_it_is() {
    if !privileged() {
        return;
    }
    for runtime in ["runc", "crun"] {
        if Command::new(runtime).arg("--version").output().is_err() {
            testkit::skip(&format!("{runtime} is not installed"));
            continue;
        }
        let fixture = Fixture::new();
        let rootfs = small(&fixture);
        for (name, args) in [("p", &["--net", "private"][..]), ("h", &["--net", "host", "-u", "app"])] {
            let args: Vec<&str> = ["--name", name, "--hostname", "box"].iter().chain(args).copied().collect();
            let line = fixture.run(MOUNT, &args, &rootfs).line();
            let command = "hostname; cat /etc/hostname; id -u; echo $A; touch /tmp/written";
            let ran = in_other_runtime(runtime, &path(&line, "bundle"), command);
            let uid = if name == "h" { "1000" } else { "0" };
            assert_eq!(ran.stdout, format!("box\nbox\n{uid}\nimage\n"), "{runtime}: {ran:?}");
            assert!(path(&line, "bundle").join("upper/tmp/written").exists(), "{runtime}");
        }
    }
}
