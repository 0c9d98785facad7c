//! Attaching to containers that run in the background: by pipes, by a terminal, several at once.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::background::{detached, kill, out, scripted};
use crate::world::{World, code, text};
use descriptor::Status;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};

/// The tool with pipes to it.
fn piped(world: &World, args: &[&str]) -> Child {
    let mut command = world.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool")
}
#[test]
fn start_attached_loses_nothing_of_what_is_said_and_gives_the_status() {
    let Some(world) = World::new() else { return };
    scripted(&world, "a", "echo first; echo second >&2; exit 11");
    for _ in 0..10 {
        let output = world.spawn(b"", &["start", "-a", "a"]);
        let said = (text(&output.stdout), text(&output.stderr), code(&output));
        assert_eq!(said, ("first\n".into(), "second\n".into(), 11));
    }
    scripted(&world, "cat", "cat; echo end");
    let output = world.spawn(b"typed\n", &["start", "-ai", "cat"]);
    assert_eq!((text(&output.stdout), code(&output)), ("typed\nend\n".into(), 0), "{output:?}");
    assert_eq!(out(&world, &["logs", "cat"]), "typed\nend\n");
    // Its input ends with who gave it, however that one ends.
    let mut killed = piped(&world, &["start", "-ai", "cat"]);
    killed.stdin.as_mut().expect("piped").write_all(b"more\n").expect("write");
    while !out(&world, &["logs", "cat"]).contains("more") {}
    killed.kill().expect("kill");
    killed.wait().expect("wait");
    assert_eq!(out(&world, &["wait", "cat"]), "0\n");
}

#[test]
fn who_is_attached_hears_all_though_more_is_said_than_was_typed() {
    let Some(world) = World::new() else { return };
    scripted(&world, "a", "while read l; do echo $l$l$l$l$l$l$l$l$l$l$l$l$l$l$l$l; done; echo end; exit 3");
    let line = "0123456789012345678901234567890123456789\n";
    let file = world.dir.path().join("typed");
    std::fs::write(&file, line.repeat(20_000)).expect("write");
    let mut command = world.command(&["start", "-ai", "a"]);
    let output = command.stdin(File::open(&file).expect("open")).output().expect("the tool");
    let said = (code(&output), output.stdout.len(), text(&output.stderr));
    assert_eq!(said, (3, 20_000 * (40 * 16 + 1) + 4, String::new()));
}

#[test]
fn several_attach_to_one_container_and_its_input_stays_open() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    detached(&world, &a, &["-i"], "while read x; do echo got $x; [ $x = end ] && exit 5; done; exit 6");
    let watcher = piped(&world, &["attach", "--no-stdin", "a"]);
    std::thread::sleep(Duration::from_millis(500));
    let mut first = piped(&world, &["attach", "a"]);
    first.stdin.take().expect("piped").write_all(b"one\n").expect("write");
    while !out(&world, &["logs", "a"]).contains("got one") {}
    // The first one's input has ended; the container's has not.
    let mut second = piped(&world, &["attach", "a"]);
    std::thread::sleep(Duration::from_millis(500));
    second.stdin.take().expect("piped").write_all(b"end\n").expect("write");
    for (child, want) in
        [(watcher, "got one\ngot end\n"), (first, "got one\ngot end\n"), (second, "got end\n")]
    {
        let output = child.wait_with_output().expect("wait");
        assert_eq!((text(&output.stdout).as_str(), code(&output)), (want, 5), "{output:?}");
    }
    let late = world.spawn(b"", &["attach", "a"]);
    assert_eq!(code(&late), 9, "{late:?}");
}

#[test]
fn who_does_not_read_what_it_is_attached_to_holds_the_container_up_for_a_moment_only() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    detached(
        &world,
        &a,
        &["-i"],
        "read x; i=0; x=0123456789012345678901234567890123456789; x=$x$x$x$x$x; while [ $i -lt 20000 ]; do echo $x; i=$((i+1)); done; exit 4",
    );
    let mut stopped = piped(&world, &["attach", "a"]);
    std::thread::sleep(Duration::from_millis(500));
    kill(stopped.id(), "-STOP");
    let mut go = piped(&world, &["attach", "a"]);
    go.stdin.take().expect("piped").write_all(b"go\n").expect("write");
    let output = go.wait_with_output().expect("wait");
    assert_eq!((code(&output), output.stdout.len()), (4, 20_000 * 201));
    assert_eq!(out(&world, &["logs", "a"]).len(), 20_000 * 201);
    kill(stopped.id(), "-CONT");
    drop(stopped.stdin.take());
    assert_eq!(code(&stopped.wait_with_output().expect("wait")), 1);
}

#[test]
fn signals_to_who_is_attached_are_the_containers() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    detached(&world, &a, &[], "trap 'exit 21' USR1; echo ready; while :; do sleep 0.05; done");
    let unproxied = piped(&world, &["attach", "--sig-proxy=false", "a"]);
    let child = piped(&world, &["attach", "a"]);
    std::thread::sleep(Duration::from_millis(500));
    kill(unproxied.id(), "-TERM");
    let left = unproxied.wait_with_output().expect("wait");
    assert_eq!(left.status.code(), None, "{left:?}");
    kill(child.id(), "-USR1");
    assert_eq!(code(&child.wait_with_output().expect("wait")), 21);
}

/// A terminal: its master, and what a program sees.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).expect("a terminal");
    rustix::pty::unlockpt(&master).expect("unlock");
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its other side");
    (File::from(master), slave)
}

fn resize(master: &File, ws_row: u16, ws_col: u16) {
    let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size).expect("resize");
}

/// The tool on a terminal.
fn on_terminal(world: &World, slave: &OwnedFd, args: &[&str]) -> Child {
    let end = || Stdio::from(slave.try_clone().expect("dup"));
    world.command(args).stdin(end()).stdout(end()).stderr(Stdio::piped()).spawn().expect("the tool")
}

/// Reads from a terminal until this was said.
fn until(mut master: &File, wanted: &str) {
    let mut said = String::new();
    let mut bytes = [0; 1024];
    while !said.contains(wanted) {
        let got = master.read(&mut bytes).expect("read");
        said.push_str(&text(&bytes[..got]));
    }
}

#[test]
fn a_terminal_is_attached_resized_left_with_keys_and_come_back_to() {
    let Some(world) = World::new() else { return };
    let a = world.plain("a");
    let script =
        "echo ready; while read x; do echo got $x; [ $x = size ] && stty size; [ $x = end ] && exit 9; done";
    detached(&world, &a, &["-i", "-t"], script);
    let (mut master, slave) = terminal();
    resize(&master, 33, 77);
    let echoes = || {
        let modes = rustix::termios::tcgetattr(&slave).expect("its modes").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    };
    assert!(echoes());
    let attached = on_terminal(&world, &slave, &["attach", "a"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while echoes() {
        assert!(Instant::now() < deadline, "never raw");
    }
    // The size is told right after; what is typed comes behind it.
    std::thread::sleep(Duration::from_millis(200));
    master.write_all(b"size\n").expect("type");
    until(&master, "33 77");
    resize(&master, 20, 50);
    kill(attached.id(), "-WINCH");
    std::thread::sleep(Duration::from_millis(200));
    master.write_all(b"size\n").expect("type");
    until(&master, "20 50");
    // A key of the sequence that the rest does not follow is the container's.
    master.write_all(&[16]).expect("type");
    master.write_all(b"\n").expect("type");
    until(&master, "got");
    master.write_all(&[16, 17]).expect("type");
    let left = attached.wait_with_output().expect("wait");
    assert!(code(&left) == 0 && text(&left.stderr).contains("left to itself"), "{left:?}");
    assert!(echoes(), "the terminal is as it was");
    assert_eq!(a.line().expect("a line").status, Status::Running);

    let again = on_terminal(&world, &slave, &["attach", "--detach-keys", "x", "a"]);
    while echoes() {}
    master.write_all(b"size\n").expect("type");
    until(&master, "20 50");
    master.write_all(b"end\n").expect("type");
    until(&master, "got end");
    assert_eq!(code(&again.wait_with_output().expect("wait")), 9);
    assert!(echoes());
    assert!(out(&world, &["logs", "a"]).contains("33 77\r\n"));
}
