//! The store's containers by name: started, stopped, waited for; what they say is kept. Needs root.

mod background;
mod world;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use background::{detached, kill, out, scripted};
use descriptor::Status;
use runtime::convert::Network;
use serde_json::Value;
use store::{Container, CreateDoc};
use world::{World, code, line, text, wait_for};

/// Waits until the monitor has written everything down.
fn ended(container: &Container) {
    wait_for(container, Status::Stopped);
    let deadline = Instant::now() + Duration::from_secs(20);
    while container.state().is_ok_and(|state| state.monitor.is_some()) {
        assert!(Instant::now() < deadline, "never recorded: {:?}", container.state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn objects(container: &Container, name: &str) -> Vec<Value> {
    let log = fs::read_to_string(container.path().join(name)).expect("a log");
    log.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

#[test]
fn a_stopped_container_starts_again_on_its_writable_layer() {
    let Some(world) = World::new() else { return };
    let a = scripted(
        &world,
        "a",
        "trap 'exit 3' TERM; echo x >>/count; wc -l </count; while :; do sleep 0.05; done",
    );
    for (n, name) in ["a", a.id(), &a.id()[..12], &a.id()[..4]].into_iter().enumerate() {
        let started: Value = serde_json::from_str(&out(&world, &["start", name])).expect("its line");
        assert_eq!((started["name"].as_str(), started["status"].as_str()), (Some("a"), Some("running")));
        // One that runs is started already.
        out(&world, &["start", "a"]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while out(&world, &["logs", "-n", "1", "a"]) != format!("{}\n", n + 1) {
            assert!(Instant::now() < deadline, "{}", out(&world, &["logs", "a"]));
        }
        let stopped: Value = serde_json::from_str(&out(&world, &["stop", "a"])).expect("its line");
        assert_eq!((stopped["status"].as_str(), stopped["exitCode"].as_u64()), (Some("stopped"), Some(3)));
        out(&world, &["stop", "a"]);
    }
    out(&world, &["restart", "a"]);
    let state = a.state().expect("state");
    assert!(state.is_alive() && state.monitor.is_some() && state.finished_at.is_none(), "{state:?}");
    out(&world, &["restart", "a"]);
    assert_ne!(a.state().expect("state").pid, state.pid);
    out(&world, &["stop", "-t", "0", "a"]);
    assert_eq!(out(&world, &["wait", "a"]), "137\n");
}

#[test]
fn of_several_who_start_a_container_at_once_all_succeed_and_it_runs_once() {
    let Some(world) = World::new() else { return };
    let a = scripted(&world, "a", "echo x >>/count; sleep 60");
    for round in 1..4 {
        let start = |_| world.command(&["start", "a"]).stdout(Stdio::null()).spawn().expect("the tool");
        let mut tools: Vec<_> = (0..6).map(start).collect();
        assert!(tools.iter_mut().all(|tool| tool.wait().expect("wait").success()));
        let count = || text(&world.spawn(b"", &["exec", "a", "wc", "-l", "/count"]).stdout);
        let deadline = Instant::now() + Duration::from_secs(10);
        while count() != format!("{round} /count\n") {
            assert!(Instant::now() < deadline, "{}", count());
        }
        out(&world, &["stop", "-t", "0", "a"]);
        ended(&a);
    }
}

#[test]
fn several_containers_are_handled_in_order_and_the_first_failure_is_the_status() {
    let Some(world) = World::new() else { return };
    let (a, b) = (scripted(&world, "a", "exit 4"), scripted(&world, "b", "exit 5"));
    let started = out(&world, &["start", "a", "b"]);
    let waited = world.spawn(started.as_bytes(), &["wait"]);
    assert_eq!((code(&waited), text(&waited.stdout)), (0, "4\n5\n".into()), "{waited:?}");
    let mixed = world.spawn(b"", &["wait", "a", "nobody", "b"]);
    assert_eq!((code(&mixed), text(&mixed.stdout)), (3, "4\n5\n".into()), "{mixed:?}");
    let mut both = line(&a);
    both.extend(line(&b));
    assert_eq!(code(&world.spawn(&both, &["stop"])), 0);
    world.plain("never-ran");
    assert_eq!(out(&world, &["wait", "never-ran"]), "0\n");
}

#[test]
fn a_container_that_does_not_heed_its_stop_signal_is_killed_in_time() {
    let Some(world) = World::new() else { return };
    let doc =
        CreateDoc { stop_signal: Some("SIGUSR1".into()), stop_timeout: Some(1), ..CreateDoc::default() };
    let a = world.container("a", Network::Private, doc);
    let heeds = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    for (script, args, status, most) in [
        (heeds, &["stop", "-t", "60", "a"][..], "9\n", 5),
        ("trap '' USR1 TERM; echo ready; while :; do sleep 0.05; done", &["stop", "a"], "137\n", 8),
        (
            "trap 'exit 8' INT; echo ready; while :; do sleep 0.05; done",
            &["stop", "-s", "INT", "a"],
            "8\n",
            5,
        ),
    ] {
        detached(&world, &a, &[], script);
        while !out(&world, &["logs", "-n", "1", "a"]).contains("ready") {}
        let begin = Instant::now();
        out(&world, args);
        assert!(begin.elapsed() < Duration::from_secs(most), "{:?}", begin.elapsed());
        assert_eq!(out(&world, &["wait", "a"]), status);
        fs::remove_file(a.path().join("log")).expect("remove");
    }
}

#[test]
fn a_run_in_the_background_holds_nothing_of_its_caller_and_outlives_it() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    let tool = env!("CARGO_BIN_EXE_oci-spawn");
    fs::write(world.dir.path().join("line"), line(&a)).expect("write");
    let script = format!(
        "x=$({tool} --store {} -d -- sleep 30 <{}); echo \"$x\"; kill -9 $$",
        world.store.path().display(),
        world.dir.path().join("line").display()
    );
    let begin = Instant::now();
    let output = Command::new("sh").args(["-c", &script]).output().expect("sh");
    assert!(begin.elapsed() < Duration::from_secs(20), "the caller's pipe is held open");
    assert!(text(&output.stdout).contains("running"), "{output:?}");
    let state = a.state().expect("state");
    let monitor = state.monitor.clone().expect("a monitor");
    assert!(state.is_alive() && monitor.is_alive());
    // No terminal of the caller's can hang up on it.
    let its = rustix::process::Pid::from_raw(monitor.pid.cast_signed());
    assert_eq!(rustix::process::getsid(its).ok(), its, "a session of its own");
    for entry in fs::read_dir(format!("/proc/{}/fd", monitor.pid)).expect("its descriptors") {
        let to = fs::read_link(entry.expect("an entry").path()).unwrap_or_default();
        let to = to.to_string_lossy().into_owned();
        let own = ["/dev/null", "pipe:", "socket:", "anon_inode:"].iter().any(|own| to.starts_with(own))
            || to.contains("/containers/")
            || to.ends_with("/store");
        assert!(own && !to.ends_with("/lock"), "{to}");
    }
    assert!(a.try_lock().expect("lock").is_some(), "no lock is held while it runs");
    out(&world, &["stop", "-t", "0", "a"]);
    ended(&a);
    let deadline = Instant::now() + Duration::from_secs(10);
    while monitor.is_alive() {
        assert!(Instant::now() < deadline, "the monitor stays");
    }
}

#[test]
fn the_log_keeps_both_streams_apart_with_times() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    detached(&world, &a, &[], "echo one; sleep 0.3; echo two >&2; sleep 0.3; printf three");
    ended(&a);
    let both = world.spawn(b"", &["logs", "a"]);
    assert_eq!((text(&both.stdout), text(&both.stderr)), ("one\nthree".into(), "two\n".into()));
    let log = objects(&a, "log");
    let members: Vec<_> = log.iter().map(|o| (o["log"].as_str(), o["stream"].as_str())).collect();
    assert_eq!(
        members,
        [(Some("one\n"), Some("stdout")), (Some("two\n"), Some("stderr")), (Some("three"), Some("stdout"))]
    );
    let times: Vec<&str> = log.iter().map(|o| o["time"].as_str().expect("a time")).collect();
    assert!(
        times.is_sorted() && times.iter().all(|time| time.len() == 30 && time.ends_with('Z')),
        "{times:?}"
    );
    assert_eq!(out(&world, &["logs", "-t", "--tail", "1", "a"]), format!("{} three", times[2]));
    assert_eq!(out(&world, &["logs", "--since", times[1], "a"]), "three");
    assert_eq!(out(&world, &["logs", "--until", times[1], "a"]), "one\n");
    assert_eq!(out(&world, &["logs", "--tail", "0", "a"]), "");
    assert_eq!(code(&world.spawn(b"", &["logs", "--since", "yesterday", "a"])), 2);
    // A further run goes on where this one ended.
    detached(&world, &a, &[], "echo four");
    ended(&a);
    assert_eq!(out(&world, &["logs", "a"]), "one\nthreefour\n");
}

#[test]
fn nothing_of_ten_megabytes_is_lost_and_long_lines_are_cut_between_characters() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    detached(
        &world,
        &a,
        &[],
        "i=0; x=0123456789012345678901234567890123456789; x=$x$x$x$x$x; while [ $i -lt 50000 ]; do echo $i$x; i=$((i+1)); done",
    );
    wait_for(&a, Status::Stopped);
    ended(&a);
    let x = "0123456789".repeat(20);
    let want: String = (0..50_000).map(|n| format!("{n}{x}\n")).collect();
    assert!(out(&world, &["logs", "a"]) == want, "10 MB as they were said");

    let b = world.plain("b");
    let text = format!("{}{}\n", "x".repeat(16_383), "\u{20ac}".repeat(20_000));
    fs::write(world.dir.path().join("text"), &text).expect("write");
    let volume = format!("{}:/text:ro", world.dir.path().join("text").display());
    detached(&world, &b, &["-v", &volume], "cat /text");
    ended(&b);
    assert!(out(&world, &["logs", "b"]) == text);
    let log = objects(&b, "log");
    assert!(
        log.len() > 4 && log.iter().all(|o| o["log"].as_str().expect("text").len() <= 16_384),
        "{}",
        log.len()
    );
    assert!(!text.contains('\u{fffd}') && log[0]["log"].as_str() == Some(&"x".repeat(16_383)));
}

/// Follows a log; makes a file named N once N lines that end a score have come.
fn follow(world: &World, name: &str, go: &std::path::Path) -> Output {
    let mut tool = world.command(&["logs", "-f", name]).stdout(Stdio::piped()).spawn().expect("the tool");
    let mut said = BufReader::new(tool.stdout.take().expect("piped"));
    let mut stdout = Vec::new();
    for n in 1.. {
        if said.read_until(b'\n', &mut stdout).expect("read") == 0 {
            break;
        }
        if n % 20 == 0 {
            fs::write(go.join(n.to_string()), "").expect("write");
        }
    }
    Output { status: tool.wait().expect("wait"), stdout, stderr: Vec::new() }
}

#[test]
fn a_log_is_followed_across_its_files_until_the_container_ends() {
    let Some(world) = World::new() else { return };
    for (files, kept) in [("1", 1), ("3", 3)] {
        let a = world.plain(&format!("a{files}"));
        let opt = format!("max-file={files}");
        // It goes on once who follows has all that there is, else a file may be gone before it is read.
        let go = world.dir.path().join(format!("go{files}"));
        fs::create_dir(&go).expect("mkdir");
        let volume = format!("{}:/go:ro", go.display());
        let script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); [ $((i % 20)) = 0 ] && while [ ! -e /go/$i ]; do sleep 0.01; done; done; exit 7";
        detached(&world, &a, &["-v", &volume, "--log-opt", "max-size=2k", "--log-opt", &opt], script);
        let follow = follow(&world, a.name(), &go);
        let want: String = (0..400).map(|n| format!("line {n}\n")).collect();
        assert!(text(&follow.stdout) == want, "{files}: {}", text(&follow.stdout).lines().count());
        assert_eq!(code(&follow), 0, "{follow:?}");
        ended(&a);
        let names = fs::read_dir(a.path()).expect("read").map(|e| e.expect("an entry").file_name());
        let logs: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.starts_with("log"))
            .collect();
        assert_eq!(logs.len(), kept, "{logs:?}");
        for name in logs {
            let size = fs::metadata(a.path().join(&name)).expect("metadata").len();
            assert!(size <= 2048 + 128, "{name}: {size}");
        }
        let last = out(&world, &["logs", "--tail", "2", a.name()]);
        assert_eq!(last, "line 398\nline 399\n");
    }
    assert_eq!(code(&world.spawn(&line(&world.plain("b")), &["-d", "--log-opt", "max-file=2"])), 2);
}

#[test]
fn an_object_that_was_cut_off_is_gone_with_the_next_run() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    detached(&world, &a, &[], "echo one");
    ended(&a);
    // As a monitor leaves it that was killed, or cut off from power, while it wrote.
    let path = a.path().join("log");
    let whole = fs::read_to_string(&path).expect("a log");
    fs::write(&path, format!("{whole}{{\"log\":\"{}", "x".repeat(9000))).expect("write");
    detached(&world, &a, &[], "echo two");
    ended(&a);
    let said: Vec<String> =
        objects(&a, "log").iter().map(|o| o["log"].as_str().unwrap_or("").into()).collect();
    assert_eq!(said, ["one\n", "two\n"]);
    fs::write(&path, "no newline").expect("write");
    detached(&world, &a, &[], "echo three");
    ended(&a);
    assert_eq!(out(&world, &["logs", "a"]), "three\n");
}

#[test]
fn a_container_in_the_foreground_has_the_time_to_stop_that_it_was_made_with() {
    let Some(world) = World::new() else { return };
    let doc = CreateDoc { stop_timeout: Some(1), ..CreateDoc::default() };
    let a = world.container("a", Network::Private, doc);
    for (args, least, most) in [(&["--stop-timeout", "3"][..], 3, 9), (&[], 1, 8)] {
        let script = ["--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"];
        let mut child =
            world.command(&[args, &script].concat()).stdout(Stdio::piped()).spawn().expect("the tool");
        child.stdin.take().expect("piped").write_all(&line(&a)).expect("write");
        let mut ready = [0; 5];
        child.stdout.take().expect("piped").read_exact(&mut ready).expect("read");
        let begin = Instant::now();
        kill(child.id(), "-TERM");
        assert_eq!(child.wait().expect("wait").code(), Some(137));
        let took = begin.elapsed().as_secs();
        assert!((least..most).contains(&took), "{took}");
    }
}

#[test]
fn without_a_log_nothing_is_kept_and_a_stream_sent_elsewhere_is_not_in_it() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    detached(&world, &a, &["--log-driver", "none"], "echo hidden");
    ended(&a);
    assert!(!a.path().join("log").exists());
    let file = world.dir.path().join("out");
    detached(&world, &a, &["--stdout", &file.display().to_string()], "echo to the file; echo to the log >&2");
    ended(&a);
    assert_eq!(fs::read_to_string(&file).expect("read"), "to the file\n");
    let logs = world.spawn(b"", &["logs", "a"]);
    assert_eq!((text(&logs.stdout), text(&logs.stderr)), (String::new(), "to the log\n".into()));
}

#[test]
fn a_container_outlives_its_killed_monitor_and_does_not_hang_on_its_output() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    detached(
        &world,
        &a,
        &[],
        "trap '' PIPE; echo before; while ! echo more 2>/dev/null || [ ! -e /go ]; do sleep 0.05; [ -e /go ] && break; done; exit 6",
    );
    while out(&world, &["logs", "a"]).is_empty() {}
    let monitor = a.state().expect("state").monitor.expect("a monitor");
    kill(monitor.pid, "-9");
    let deadline = Instant::now() + Duration::from_secs(10);
    while monitor.is_alive() && Instant::now() < deadline {}
    let state = a.state().expect("state");
    assert!(state.is_alive(), "{state:?}");
    assert_eq!(a.line().expect("a line").status, Status::Running);
    let attach = world.spawn(b"", &["attach", "a"]);
    assert_eq!(code(&attach), 9, "{attach:?}");
    out(&world, &["stop", "-t", "0", "a"]);
    assert_eq!(a.line().expect("a line").status, Status::Stopped);
    // Nobody saw what it ended with.
    assert_eq!(out(&world, &["wait", "a"]), "255\n");
    detached(&world, &a, &[], "exit 0");
    assert_eq!(out(&world, &["wait", "a"]), "0\n");
}

#[test]
fn wait_knows_the_status_of_a_one_off_that_is_gone() {
    let Some(world) = World::new() else { return };
    let a = world.one_off("a", false);
    detached(&world, &a, &[], "sleep 0.5; exit 12");
    assert_eq!(out(&world, &["wait", "a"]), "12\n");
    assert!(!world.exists("a"));
}

/// A figure of a process's memory, KiB (proc_pid_smaps_rollup(5)).
fn kib(pid: u32, figure: &str) -> u64 {
    let all = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = all.lines().find(|line| line.starts_with(figure)).expect("the figure");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_monitor_is_small_and_stays_so() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    let script = "x=0123456789012345678901234567890123456789; x=$x$x$x$x$x; i=0; while [ $i -lt 5000 ]; do echo $x; i=$((i+1)); done; sleep 60";
    detached(&world, &a, &[], script);
    let monitor = a.state().expect("state").monitor.expect("a monitor");
    let begin = kib(monitor.pid, "Private_Dirty:");
    while out(&world, &["logs", "a"]).len() < 5000 * 201 {}
    let (dirty, pss) = (kib(monitor.pid, "Private_Dirty:"), kib(monitor.pid, "Pss:"));
    eprintln!("monitor: Private_Dirty {begin} KiB at first, {dirty} KiB later, Pss {pss} KiB");
    assert!(begin < 1024 && dirty < 1024, "{begin} KiB at first, {dirty} KiB later");
    out(&world, &["stop", "-t", "0", "a"]);
}

#[test]
fn what_happens_to_a_container_is_noted_in_order() {
    let Some(world) = World::new() else { return };
    let a = scripted(&world, "a", "while :; do sleep 0.05; done");
    out(&world, &["start", "a"]);
    out(&world, &["restart", "-t", "0", "a"]);
    out(&world, &["stop", "-s", "KILL", "a"]);
    let events = world.store.events(None, None).expect("events");
    let actions: Vec<&str> = events.iter().map(|event| &*event.action).collect();
    let run = ["start", "die", "stop"];
    let want: Vec<&str> =
        ["create"].iter().chain(&run).chain(&["start", "restart", "die", "stop"]).copied().collect();
    assert_eq!(actions, want);
    let die = events.iter().find(|event| event.action == "die").expect("its end");
    assert_eq!((die.attributes.get("exitCode").map(String::as_str), &*die.id), (Some("137"), a.id()));
}

#[test]
fn why_a_container_did_not_start_is_kept_until_it_does() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    assert_eq!(code(&world.spawn(&line(&a), &["-d", "--", "no-such"])), 127);
    let error = a.state().expect("state").error.expect("a reason");
    assert!(error.contains("no-such"), "{error}");
    detached(&world, &a, &[], "exit 0");
    assert_eq!(a.state().expect("state").error, None);
}

/// Gives a container a program whose first thread ends while another one goes on, deaf to SIGTERM; false where it cannot be made.
fn headless(container: &Container) -> bool {
    let source = container.path().join("headless.c");
    let program = "#include <pthread.h>\n#include <signal.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
        static void *on(void *a) { for (;;) pause(); }\n\
        int main(void) { pthread_t t; signal(SIGTERM, SIG_IGN); pthread_create(&t, 0, on, 0); syscall(SYS_exit, 0); }";
    fs::write(&source, program).expect("write");
    let output = container.path().join("upper/headless");
    let made = Command::new("cc").args(["-static", "-pthread", "-o"]).arg(output).arg(source).status();
    let made = made.is_ok_and(|status| status.success());
    if !made {
        testkit::skip("needs cc and a static libc");
    }
    made
}

#[test]
fn a_container_that_looks_like_a_zombie_while_a_thread_of_it_runs_is_not_let_go() {
    let Some(world) = World::new() else { return };
    let a = scripted(&world, "a", "exec /headless");
    if !headless(&a) {
        return;
    }
    out(&world, &["start", "a"]);
    let pid = a.state().expect("state").pid.expect("a pid");
    let deadline = Instant::now() + Duration::from_secs(20);
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while !stat().contains("(headless) Z") {
        assert!(Instant::now() < deadline, "{}", stat());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(a.state().expect("state").now(), Status::Running);
    assert_eq!(code(&world.spawn(b"", &["kill", "-s", "TERM", "a"])), 0);
    out(&world, &["stop", "-t", "0", "a"]);
    assert!(!stat().contains("headless"), "it lives on: {}", stat());
    assert_eq!(out(&world, &["wait", "a"]), "137\n");
}

#[test]
fn a_failure_that_quotes_a_long_command_leaves_a_container_that_can_be_read_and_removed() {
    let Some(world) = World::new() else { return };
    let (a, other) = (world.plain("a"), world.plain("b"));
    let refused = world.spawn(&line(&a), &["-d", "--", &"\u{1b}".repeat(40_000)]);
    assert_ne!(code(&refused), 0, "{refused:?}");
    let error = a.state().expect("a state that can be read").error.expect("a reason");
    assert!(error.contains("starting") && error.len() <= 4096, "{} bytes", error.len());
    let names: Vec<String> =
        world.store.containers().expect("a list").iter().map(|one| one.name().to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    overlay::remove(a, overlay::Running::Refuse).expect("removed");
    assert_eq!(code(&world.spawn(&line(&other), &["--", "echo"])), 0);
}
