//! What is done to containers of the store that run: further processes, pauses, signals, limits. Needs root.

#[allow(dead_code, reason = "each of these tests uses a part of it")]
mod world;

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use descriptor::Status;
use runtime::convert::Network;
use store::{Container, CreateDoc};
use world::{World, code, line, text, wait_for};

/// A container that sleeps: in the background, or under a tool in the foreground, which is given back.
fn sleeping(
    world: &World,
    name: &str,
    detached: bool,
    options: &[&str],
) -> (Container, Option<std::process::Child>) {
    let container = world.container(name, Network::Private, CreateDoc::default());
    let sleep = ["--", "sh", "-c", "echo up >/up; exec sleep 600"];
    if detached {
        let output = world.spawn(&line(&container), &[&["-d"], options, &sleep[..]].concat());
        assert_eq!(code(&output), 0, "{output:?}");
        return (container, None);
    }
    let mut child =
        world.command(&[options, &sleep[..]].concat()).stdout(Stdio::null()).spawn().expect("the tool");
    child.stdin.take().expect("piped").write_all(&line(&container)).expect("write");
    wait_for(&container, Status::Running);
    (container, Some(child))
}

fn end(world: &World, container: &Container, child: Option<std::process::Child>) {
    let output = world.spawn(b"", &["kill", container.name()]);
    assert_eq!(code(&output), 0, "{output:?}");
    if let Some(mut child) = child {
        assert_eq!(child.wait().expect("wait").code(), Some(137));
    }
    // Ended is not yet written down.
    until(|| container.state().expect("state").exit_code.is_some());
    assert!(container.state().expect("state").group.is_none());
}

#[test]
fn a_further_process_is_in_the_container_as_its_user_with_its_environment() {
    let Some(world) = World::new() else { return };
    for (name, detached, options) in
        [("back", true, &["-e", "X=run"][..]), ("front", false, &[]), ("hosts", true, &["--net", "host"])]
    {
        let (container, child) = sleeping(&world, name, detached, options);
        let script =
            "cat /up; id -u; pwd; echo $A $HOME $PATH; echo $$; ls -l /proc/1/exe >/dev/null && echo same";
        let words = ["exec", "-e", "A=1", "-u", "user", "-w", "/tmp", name, "--", "sh", "-c", script];
        let output = world.spawn(b"", &words);
        let printed = text(&output.stdout);
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(
            (code(&output), &lines[..4]),
            (0, &["up", "1000", "/tmp", "1 /home /bin"][..]),
            "{output:?}"
        );
        // The line on stdin names it as well, and the words need no `--`.
        let output = world.spawn(&line(&container), &["exec", "--", "id", "-u"]);
        assert_eq!((code(&output), text(&output.stdout)), (0, "0\n".into()), "{output:?}");
        let output = world.spawn(b"from stdin", &["exec", "-i", name, "cat"]);
        assert_eq!((code(&output), text(&output.stdout)), (0, "from stdin".into()), "{output:?}");
        for (command, want) in [("no-such", 127), ("/etc", 126)] {
            assert_eq!(code(&world.spawn(b"", &["exec", name, command])), want);
        }
        assert_eq!(code(&world.spawn(b"", &["exec", name, "sh", "-c", "exit 7"])), 7);
        assert_eq!(code(&world.spawn(b"", &["exec", name, "sh", "-c", "kill -9 $$"])), 137);
        let networks = ["self", &container.state().expect("state").pid.expect("runs").to_string()]
            .map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).expect("link"));
        assert_eq!(networks[0] == networks[1], name == "hosts");
        let output = world.spawn(b"", &["exec", name, "sh", "-c", "ls -l /proc/self/ns/net /proc/1/ns/net"]);
        let found = text(&output.stdout);
        let numbers: Vec<&str> = found.lines().filter_map(|line| line.split("-> ").nth(1)).collect();
        assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{found}");
        end(&world, &container, child);
        let output = world.spawn(b"", &["exec", name, "id"]);
        assert_eq!(code(&output), 9, "{output:?}");
    }
}

#[test]
fn a_further_process_in_the_foreground_dies_with_its_tool_and_one_in_the_background_does_not() {
    let Some(world) = World::new() else { return };
    let (container, child) = sleeping(&world, "a", true, &[]);
    let running = |seconds: &str| {
        let output = world.spawn(b"", &["top", "a", "-eo", "pid,args"]);
        assert_eq!(code(&output), 0, "{output:?}");
        text(&output.stdout).contains(&format!("sleep {seconds}"))
    };
    let mut tool = world.command(&["exec", "-u", "user", "a", "sleep", "611"]).spawn().expect("the tool");
    let output = world.spawn(b"", &["exec", "-d", "a", "sleep", "622"]);
    assert_eq!(code(&output), 0, "{output:?}");
    until(|| running("611") && running("622"));
    tool.kill().expect("kill");
    tool.wait().expect("wait");
    until(|| !running("611"));
    assert!(running("622"));
    end(&world, &container, child);
}

fn until(mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed_stopped_or_killed() {
    let Some(world) = World::new() else { return };
    for detached in [true, false] {
        let name = if detached { "back" } else { "front" };
        let (container, child) = sleeping(&world, name, detached, &[]);
        assert_eq!(code(&world.spawn(b"", &["resume", name])), 9);
        assert_eq!(code(&world.spawn(&line(&container), &["pause"])), 0);
        assert_eq!(container.state().expect("state").now(), Status::Paused);
        assert_eq!(code(&world.spawn(b"", &["pause", name])), 9);
        assert_eq!(code(&world.spawn(b"", &["exec", name, "id"])), 9);
        for start in [&["start", name][..], &["start", "-a", name]] {
            let output = world.spawn(b"", start);
            assert!(code(&output) == 9 && text(&output.stderr).contains("resume"), "{output:?}");
        }
        assert_eq!(code(&world.spawn(b"", &["unpause", name])), 0);
        assert_eq!(code(&world.spawn(b"", &["exec", name, "id"])), 0);
        assert_eq!(code(&world.spawn(b"", &["pause", name])), 0);
        end(&world, &container, child);
        assert_eq!(code(&world.spawn(b"", &["kill", name])), 9);
        assert_eq!(code(&world.spawn(b"", &["pause", name])), 9);
    }
    let (container, _) = sleeping(&world, "third", true, &[]);
    assert_eq!(code(&world.spawn(b"", &["pause", "third"])), 0);
    let output = world.spawn(b"", &["stop", "-t", "1", "third"]);
    assert_eq!(code(&output), 0, "{output:?}");
    wait_for(&container, Status::Stopped);
}

#[test]
fn limits_are_changed_at_once_and_for_the_next_start() {
    let Some(world) = World::new() else { return };
    for detached in [true, false] {
        let name = if detached { "back" } else { "front" };
        let (container, child) = sleeping(&world, name, detached, &[]);
        let created = fs::read(container.path().join("create.json")).expect("read");
        let output = world.spawn(b"", &["update", "--pids-limit", "77", "-m", "64m", name]);
        assert_eq!(code(&output), 0, "{output:?}");
        let at = format!("ocipipe/{}-{}", container.id(), container.instance());
        let files = [format!("/sys/fs/cgroup/pids/{at}/pids.max"), format!("/sys/fs/cgroup/{at}/pids.max")];
        let found = files.iter().find_map(|file| fs::read_to_string(file).ok());
        assert_eq!(found.as_deref(), Some("77\n"), "{files:?}");
        end(&world, &container, child);
        let config = container.document("config.json").expect("read").expect("there");
        assert_eq!(config["linux"]["resources"]["pids"]["limit"], 77);
        assert_eq!(config["linux"]["resources"]["memory"]["limit"], 64 << 20);
        assert_eq!(fs::read(container.path().join("create.json")).expect("read"), created);
        let output = world.spawn(b"", &["update", "--cpus", "0.5", name]);
        assert_eq!(code(&output), 0, "{output:?}");
        let config = container.document("config.json").expect("read").expect("there");
        assert_eq!(config["linux"]["resources"]["cpu"]["quota"], 50_000);
        assert_eq!(code(&world.spawn(b"", &["update", name])), 2);
    }
}
