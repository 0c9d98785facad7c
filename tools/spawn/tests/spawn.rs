//! The tool itself on containers of a private store, over Debian's static busybox. Needs root.

mod world;

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use descriptor::Status;
use runtime::convert::Network;
use serde_json::{Value, json};
use store::CreateDoc;
use world::{World, code, line, text, wait, wait_for};

#[test]
fn a_last_stage_prints_the_containers_output_and_nothing_else() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let output = world.spawn(&line(&container), &[]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr), code(&output)),
        ("default\n".into(), String::new(), 0)
    );
    let output = world.spawn(&line(&container), &["--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr), code(&output)),
        ("out\n".into(), "err\n".into(), 7)
    );
    assert_eq!(container.state().expect("state").exit_code, Some(7));
    for (command, status) in [("no-such", 127), ("/etc", 126)] {
        let output = world.spawn(&line(&container), &["--", command]);
        assert_eq!((text(&output.stdout), code(&output)), (String::new(), status), "{output:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn what_a_container_wrote_is_there_the_next_time_and_in_no_other() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.plain("a"), world.plain("b"));
    assert_eq!(code(&world.spawn(&line(&a), &["--", "touch", "/mark"])), 0);
    assert_eq!(code(&world.spawn(&line(&a), &["--", "ls", "/mark"])), 0);
    assert_ne!(code(&world.spawn(&line(&b), &["--", "ls", "/mark"])), 0);
}

#[test]
fn pass_sends_output_to_stderr_and_hands_the_line_on_after_success_only() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let output = world.spawn(&line(&container), &["--pass", "--", "echo", "hello"]);
    assert_eq!((code(&output), text(&output.stderr)), (0, "hello\n".into()));
    let passed: Value = serde_json::from_slice(&output.stdout).expect("one line");
    assert_eq!((passed["name"].as_str(), passed["status"].as_str()), (Some("a"), Some("stopped")));

    let output = world.spawn(&line(&container), &["--pass", "--", "sh", "-c", "exit 7"]);
    assert_eq!(code(&output), 7);
    let error: Value = serde_json::from_slice(&output.stdout).expect("an error line");
    assert_eq!((error["tool"].as_str(), error["exit"].as_u64()), (Some("oci-spawn"), Some(7)));

    let output = world.spawn(&line(&container), &["--pass=always", "--", "sh", "-c", "exit 7"]);
    assert_eq!(code(&output), 7);
    let passed: Value = serde_json::from_slice(&output.stdout).expect("one line");
    assert_eq!((passed["name"].as_str(), passed["exitCode"].as_u64()), (Some("a"), Some(7)));
}

#[test]
fn options_of_a_run_hold_for_it_alone() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let before = fs::read(container.path().join("config.json")).expect("read");
    let file = world.dir.path().join("env");
    fs::write(&file, "# comment\nFROM_FILE=f\n\nCALLERS\n").expect("write");
    let mut command = world.command(&["-e", "A=1", "--env-file"]);
    command.arg(&file).args(["-e", "GONE", "-u", "user", "-w", "/work", "--", "sh", "-c", "id -u; pwd; env"]);
    let mut child =
        command.env("CALLERS", "c").env("SECRET", "s").stdout(Stdio::piped()).spawn().expect("the tool");
    child.stdin.take().expect("piped").write_all(&line(&container)).expect("write");
    let output = child.wait_with_output().expect("wait");
    let out = text(&output.stdout);
    for want in ["1000\n", "/work\n", "A=1\n", "FROM_FILE=f\n", "CALLERS=c\n", "HOME=/home\n", "PATH=/bin\n"]
    {
        assert!(out.contains(want), "{want:?} in {out} {output:?}");
    }
    assert!(!out.contains("SECRET") && !out.contains("GONE"), "{out}");
    assert_eq!(fs::read(container.path().join("config.json")).expect("read"), before);
    assert_eq!(
        text(&world.spawn(&line(&container), &["--", "sh", "-c", "id -u; echo $A; echo $HOME"]).stdout),
        "0\n\n/root\n"
    );
    // Neither the run nor its working directory wrote into the writable layer.
    assert_eq!(fs::read_dir(container.path().join("upper")).expect("read").count(), 0);
}

#[test]
fn a_volume_appears_in_a_live_mount_and_leaves_the_writable_layer_alone() {
    let Some(world) = World::new() else { return };
    let host = world.dir.path().join("host");
    fs::create_dir(&host).expect("mkdir");
    fs::write(host.join("file"), "from the host").expect("write");
    for mounted in [false, true] {
        let container = world.plain(if mounted { "mounted" } else { "planned" });
        if mounted {
            assert!(overlay::attach(&container).expect("attach"), "mounted by the host");
            // The live mount notes that the target is absent.
            assert!(!container.path().join("rootfs/srv/deep").exists());
        }
        let volume = format!("{}:/srv/deep/er:ro", host.display());
        let file = format!("{}:/etc/one-file", host.join("file").display());
        let script = "cat /srv/deep/er/file /etc/one-file; touch /srv/deep/er/x";
        let output = world.spawn(&line(&container), &["-v", &volume, "-v", &file, "--", "sh", "-c", script]);
        assert_eq!(text(&output.stdout), "from the hostfrom the host", "{output:?}");
        assert!(text(&output.stderr).contains("Read-only"), "{output:?}");
        assert_eq!(fs::read_dir(container.path().join("upper")).expect("read").count(), 0);
        // A second run with the same volume finds its targets made.
        let output = world.spawn(&line(&container), &["-v", &volume, "--", "cat", "/srv/deep/er/file"]);
        assert_eq!(code(&output), 0, "{output:?}");
        overlay::remove(container, overlay::Running::Refuse).expect("remove");
    }
}

#[test]
fn proxies_pass_only_to_a_container_with_a_network() {
    let Some(world) = World::new() else { return };
    let container = world.container("a", Network::Private, CreateDoc::default());
    for (args, want) in [
        (&["--net", "host"][..], "http://p\nhttp://q\n"),
        (&["--net", "host", "--no-http-proxy"], "\n\n"),
        (&["--net", "private"], "\n\n"),
        (&[], "\n\n"),
    ] {
        let script = ["--", "sh", "-c", "echo $HTTP_PROXY; echo $https_proxy"];
        let mut command = world.command(args);
        command.args(script).env("HTTP_PROXY", "http://p").env("https_proxy", "http://q");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the tool");
        child.stdin.take().expect("piped").write_all(&line(&container)).expect("write");
        assert_eq!(text(&child.wait_with_output().expect("wait").stdout), want, "{args:?}");
    }
}

#[test]
fn a_container_made_without_proxies_gets_none_whatever_its_network() {
    let Some(world) = World::new() else { return };
    let doc = CreateDoc { http_proxy: Some(false), ..CreateDoc::default() };
    let container = world.container("a", Network::Host, doc);
    let mut command = world.command(&["--", "sh", "-c", "echo $HTTP_PROXY"]);
    let mut child = command.env("HTTP_PROXY", "http://p").stdout(Stdio::piped()).spawn().expect("the tool");
    child.stdin.take().expect("piped").write_all(&line(&container)).expect("write");
    assert_eq!(text(&child.wait_with_output().expect("wait").stdout), "\n");
}

#[test]
fn interactive_takes_one_line_and_leaves_every_other_byte_to_the_container() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let mut input = line(&container);
    let rest: Vec<u8> = (0..=255_u8).cycle().take(100_000).collect();
    input.extend(&rest);
    let output = world.spawn(&input, &["-i", "--", "cat"]);
    assert_eq!(output.stdout, rest);
    let output = world.spawn(&line(&container), &["--", "cat"]);
    assert_eq!((output.stdout, output.status.code()), (Vec::new(), Some(0)));
}

#[test]
fn streams_go_where_they_are_sent() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let at = |name: &str| world.dir.path().join(name).display().to_string();
    fs::write(at("in"), "input").expect("write");
    let (input, out, err) = (at("in"), at("out"), at("err"));
    let args = [
        "--pass",
        "--stdin",
        &input,
        "--stdout",
        &out,
        "--stderr",
        &err,
        "--",
        "sh",
        "-c",
        "cat; echo e >&2",
    ];
    let output = world.spawn(&line(&container), &args);
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
    assert_eq!(fs::read_to_string(at("out")).expect("read"), "input");
    assert_eq!(fs::read_to_string(at("err")).expect("read"), "e\n");
}

#[test]
fn a_detached_container_outlives_the_tool_and_holds_nothing_of_its_caller() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let begin = Instant::now();
    let output = world.spawn(&line(&container), &["-d", "--", "sh", "-c", "echo logged; sleep 3; exit 5"]);
    assert!(begin.elapsed() < Duration::from_secs(3), "the caller's pipe is held open");
    assert_eq!(code(&output), 0, "{output:?}");
    let started: Value = serde_json::from_slice(&output.stdout).expect("one line");
    assert_eq!(started["status"].as_str(), Some("running"));
    let again = world.spawn(&line(&container), &["--", "echo"]);
    assert_eq!(code(&again), 9, "{again:?}");
    assert!(text(&again.stderr).contains("runs already"), "{again:?}");
    wait_for(&container, Status::Stopped);
    // The monitor records the end a moment after it.
    let deadline = Instant::now() + Duration::from_secs(10);
    while container.state().expect("state").exit_code.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(container.state().expect("state").exit_code, Some(5));
    assert_eq!(text(&world.spawn(b"", &["logs", "a"]).stdout), "logged\n");
    let failed = world.spawn(&line(&container), &["-d", "--", "no-such"]);
    assert_eq!(code(&failed), 127, "{failed:?}");
    let error: Value = serde_json::from_slice(&failed.stdout).expect("an error line");
    assert_eq!(error["exit"].as_u64(), Some(127));
}

#[test]
fn a_pid_of_another_start_or_boot_is_not_believed() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let mut state = container.state().expect("state");
    state.set_running(std::process::id());
    container.set_state(&state).expect("set");
    assert_eq!(code(&world.spawn(&line(&container), &["--", "echo"])), 9);
    state.start_time = state.start_time.map(|time| time + 1);
    container.set_state(&state).expect("set");
    assert_eq!(code(&world.spawn(&line(&container), &["--", "echo"])), 0);
}

#[test]
fn a_one_off_is_gone_when_its_journey_ends() {
    let Some(world) = World::new() else { return };
    for (name, keep, script, args, stays) in [
        ("ends", false, "exit 0", &[][..], false),
        ("fails", false, "exit 7", &[], false),
        ("kept", true, "exit 7", &[], true),
        ("kept-but-fine", true, "exit 0", &[], false),
        ("passed", false, "exit 0", &["--pass"], true),
        ("passed-failing", false, "exit 7", &["--pass"], false),
        ("passed-always", false, "exit 7", &["--pass=always"], true),
    ] {
        let container = world.one_off(name, keep);
        let args: Vec<&str> = args.iter().copied().chain(["--", "sh", "-c", script]).collect();
        let output = world.spawn(&line(&container), &args);
        assert_eq!(world.exists(name), stays, "{name}: {output:?}");
        assert_eq!(text(&output.stderr).contains("kept"), name == "kept", "{output:?}");
    }
    for n in 0..20 {
        // However soon it ends and is gone: the line speaks of its start.
        let output = world.spawn(&line(&world.one_off(&format!("short-{n}"), false)), &["-d", "--", "echo"]);
        let started: Value = serde_json::from_slice(&output.stdout).expect("one line");
        assert_eq!((code(&output), started["status"].as_str()), (0, Some("running")), "{output:?}");
    }
    let container = world.one_off("background", false);
    world.spawn(&line(&container), &["-d", "--", "sh", "-c", "exit 0"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.exists("background") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!world.exists("background"));
}

#[test]
fn a_stage_before_that_failed_is_named_and_its_line_travels() {
    let Some(world) = World::new() else { return };
    let error = b"{\"mediaType\":\"application/vnd.ocipipe.error.v1+json\",\"tool\":\"oci-pull\",\"exit\":3,\"what\":\"no-such\",\"why\":\"unknown\"}\n";
    let output = world.spawn(error, &["--", "echo"]);
    assert_eq!((code(&output), output.stdout.len()), (125, 0), "{output:?}");
    assert!(text(&output.stderr).contains("oci-pull: no-such: unknown"), "{output:?}");
    let output = world.spawn(error, &["--pass", "--", "echo"]);
    assert_eq!((code(&output), text(&output.stderr)), (3, String::new()));
    let travelled: Value = serde_json::from_slice(&output.stdout).expect("one line");
    assert_eq!(travelled["tool"], "oci-pull");
    assert_eq!(code(&world.spawn(b"", &["--", "echo"])), 10);
    assert_eq!(code(&world.spawn(b"not a line\n", &["--", "echo"])), 2);
}

#[test]
fn forged_lines_are_refused() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let good: Value = serde_json::from_slice(&line(&container)).expect("JSON");
    let other = tempfile::tempdir().expect("a temporary directory");
    for (member, value, status) in [
        ("store", json!(other.path()), 9),
        ("instance", json!("0123456789abcdef"), 9),
        ("digest", json!(format!("sha256:{}", "0".repeat(64))), 125),
    ] {
        let mut forged = good.clone();
        forged[member] = value;
        let output = world.spawn(format!("{forged}\n").as_bytes(), &["--", "echo", "ran"]);
        assert_eq!((code(&output), output.stdout.len()), (status, 0), "{member}: {output:?}");
    }
    // Paths in a line are hints: nothing follows them.
    let mut forged = good.clone();
    forged["bundle"] = json!("/etc");
    forged["rootfs"] = json!("/");
    let output = world.spawn(format!("{forged}\n").as_bytes(), &["--", "ls", "/"]);
    assert_eq!((code(&output), text(&output.stdout).contains("boot")), (0, false));
}

#[test]
fn usage_is_exit_2() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    for args in [
        &["web"][..],
        &["-d", "--pass"],
        &["-i", "--stdin", "x"],
        &["--net", "moon"],
        &["-v", "x"],
        &["--nonsense"],
    ] {
        let output = world.spawn(&line(&container), args);
        assert_eq!(code(&output), 2, "{args:?}: {output:?}");
        let lines = args.contains(&"--pass");
        assert_eq!(!output.stdout.is_empty(), lines, "{args:?}: {output:?}");
    }
    let output = world.spawn(&line(&container), &["--nonsense", "--log-format", "json"]);
    let message: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
    assert_eq!(message["exit"], 2);
}

#[test]
fn one_offs_of_lines_that_no_run_takes_are_removed() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.one_off("a", false), world.one_off("b", true));
    let output = world.spawn(&[line(&a), line(&b)].concat(), &["--", "echo", "ran"]);
    assert_eq!((code(&output), output.stdout.len()), (2, 0), "{output:?}");
    assert_eq!((world.exists("a"), world.exists("b")), (false, true), "{output:?}");
    assert!(text(&output.stderr).contains("b is kept"), "{output:?}");

    let error = b"{\"mediaType\":\"application/vnd.ocipipe.error.v1+json\",\"tool\":\"oci-cp\",\"exit\":3,\"what\":\"x\",\"why\":\"y\"}\n";
    let before_an_error = world.one_off("c", false);
    let output = world.spawn(&[&line(&before_an_error)[..], error].concat(), &["--pass", "--", "echo"]);
    assert_eq!((code(&output), world.exists("c")), (3, false), "{output:?}");
}

#[test]
fn a_failure_of_a_last_stage_is_125_whatever_it_is_of() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    for args in [&["-v", "/no/where:/x"][..], &["-u", "nobody-known"], &["--stdin", "/no/where"]] {
        let output = world.spawn(&line(&container), args);
        assert_eq!((code(&output), output.stdout.len()), (125, 0), "{args:?}: {output:?}");
    }
}

#[test]
fn signals_become_the_stop_signal_and_kill_9_takes_the_container_along() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    let start = |args: &[&str]| {
        let mut child = world.command(args).stdout(Stdio::null()).spawn().expect("the tool");
        child.stdin.take().expect("piped").write_all(&line(&container)).expect("write");
        wait_for(&container, Status::Running);
        child
    };
    let signal = |child: &Child, name: &str| {
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill").success());
    };
    let trap = ["--", "sh", "-c", "trap 'exit 42' TERM; while :; do sleep 1 & wait; done"];
    let child = start(&trap);
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    assert_eq!(wait(child), 42);

    let child = start(&["--stop-timeout", "60", "--", "sleep", "100"]);
    signal(&child, "-TERM");
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-TERM");
    assert_eq!(wait(child), 137);

    let child = start(&["--stop-timeout", "1", "--", "sleep", "100"]);
    signal(&child, "-TERM");
    assert_eq!(wait(child), 137);

    let child = start(&["--", "sleep", "100"]);
    signal(&child, "-9");
    wait(child);
    wait_for(&container, Status::Stopped);
    assert_eq!(code(&world.spawn(&line(&container), &["--", "echo"])), 0, "it starts again");
}

#[test]
fn the_tools_own_file_cannot_be_written_through_its_process() {
    let Some(world) = World::new() else { return };
    let container = world.plain("a");
    // A copy, as the file is busy while another test runs it.
    let copy = world.dir.path().join("copy");
    testkit::copy_program(env!("CARGO_BIN_EXE_oci-spawn"), &copy);
    let mut command = Command::new(&copy);
    command.env("OCIPIPE_STORE", world.store.path()).args(["--", "sleep", "100"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the tool");
    child.stdin.take().expect("piped").write_all(&line(&container)).expect("write");
    wait_for(&container, Status::Running);
    let name = fs::read_to_string(format!("/proc/{}/comm", child.id())).expect("read");
    let held = fs::File::open(format!("/proc/{}/exe", child.id())).expect("open");
    child.kill().expect("kill");
    wait(child);
    wait_for(&container, Status::Stopped);
    // The attack is to hold the file while it runs and to write once it is not busy any more.
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let mut refused = std::io::ErrorKind::ExecutableFileBusy;
    let deadline = Instant::now() + Duration::from_secs(10);
    while refused == std::io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        let opened = fs::OpenOptions::new().write(true).open(&again);
        refused = opened.expect_err("never writable").kind();
    }
    assert_eq!(refused, std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(name.trim(), "oci-spawn");
}

#[test]
fn a_terminal_is_the_containers_own() {
    let Some(world) = World::new() else { return };
    if Command::new("script").arg("--version").output().is_err() {
        testkit::skip("needs script(1)");
        return;
    }
    let container = world.plain("a");
    fs::write(world.dir.path().join("line"), line(&container)).expect("write");
    let tool = env!("CARGO_BIN_EXE_oci-spawn");
    let inner = format!(
        "stty rows 33 cols 77; {tool} --store {} -t -- sh -c 'stty size; ls -l /proc/self/fd/0 /dev/console; read x; echo got $x; exit 6' < {}",
        world.store.path().display(),
        world.dir.path().join("line").display()
    );
    let mut child = Command::new("script")
        .args(["-qec", &inner, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script");
    let mut stdin = child.stdin.take().expect("piped");
    std::thread::sleep(Duration::from_secs(1));
    stdin.write_all(b"typed\n").expect("write");
    let mut out = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("read");
    assert_eq!(wait(child), 6, "{out}");
    for want in ["33 77", "/dev/pts/0", "got typed"] {
        assert!(out.contains(want), "{want} in {out:?}");
    }
}
