//! What flows through oci-spawn: the container's streams, signals, time limits of a run.

use ocipipe_tests::Hub;
use std::time::Duration;
use testkit::needs;

#[test]
fn pass_sends_the_output_to_stderr_and_the_line_on() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&[]);
    let passed = hub.step(&line, "echo out; echo err >&2");
    assert_eq!(passed.line()["digest"], line.line()["digest"]);
    assert!(passed.stderr.contains("out\n") && passed.stderr.contains("err\n"), "{passed}");
    let always = hub.world.feed("oci-spawn", &["--pass=always", "--", "sh", "-c", "exit 5"], &line.stdout);
    assert_eq!(always.line()["exitCode"], 5, "{always}");
}

#[test]
fn stdin_is_dev_null_unless_asked_for_and_then_byte_exact() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&[]);
    let with_input = [line.stdout.as_slice(), b"first\nsecond \0 bytes"].concat();
    let closed = hub.world.feed("oci-spawn", &["--", "cat"], &line.stdout).ok();
    assert_eq!(closed.text(), "");
    let piped = hub.world.feed("oci-spawn", &["-i", "--", "cat"], &with_input).ok();
    assert_eq!(piped.stdout, b"first\nsecond \0 bytes");
    std::fs::write(hub.world.path("input"), "from a file").expect("a file");
    let filed =
        hub.world.feed("oci-spawn", &["--stdin", "input", "--stdout", "output", "--", "cat"], &line.stdout);
    assert_eq!(filed.ok().text(), "");
    assert_eq!(std::fs::read_to_string(hub.world.path("output")).expect("it was written"), "from a file");
}

#[test]
fn what_is_given_for_one_run_is_not_there_in_the_next() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    std::fs::create_dir(hub.world.path("volume")).expect("a folder");
    std::fs::write(hub.world.path("volume/f"), "of the host\n").expect("a file");
    let line = hub.container(&["-e", "KEPT=1"]);
    let volume = format!("{}:/mnt/v:ro", hub.world.name("volume"));
    let args = ["-e", "RUN=2", "-w", "/tmp", "-u", "1000", "-v", &volume, "--"];
    let show =
        ["sh", "-c", "echo $KEPT $RUN $PWD; id -u; cat /mnt/v/f; echo x 2>/dev/null >/mnt/v/new || echo ro"];
    let once = hub.world.feed("oci-spawn", &[args.as_slice(), &show].concat(), &line.stdout).ok();
    assert_eq!(once.text(), "1 2 /tmp\n1000\nof the host\nro\n");
    let again = hub.output(&line, "echo $KEPT $RUN $PWD; id -u; ls /mnt/v/f 2>/dev/null || echo none");
    assert_eq!(again, "1 /\n0\nnone\n");
}

#[test]
fn the_callers_environment_stays_outside() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let mut hub = Hub::busybox();
    hub.world.set("SECRET", "do not tell");
    let line = hub.container(&[]);
    let text = hub.output(&line, "env; tr '\\0' '\\n' </proc/1/environ");
    assert!(!text.contains("SECRET") && !text.contains("OCIPIPE"), "{text}");
    assert!(text.contains("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), "{text}");
}

#[test]
fn term_becomes_the_stop_signal_and_the_container_ends() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&["--name", "c"]);
    let mut command = hub.world.command("oci-spawn");
    command.args([
        "--",
        "sh",
        "-c",
        "trap 'echo stopped; exit 4' TERM; echo up; while :; do sleep 0.1; done",
    ]);
    let running = hub.world.start(command, Some(&line.stdout));
    std::thread::sleep(Duration::from_millis(700));
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let outcome = running.wait();
    assert_eq!((outcome.code, outcome.text().as_str()), (4, "up\nstopped\n"), "{outcome}");
    hub.world.assert_nothing_runs();
}

#[test]
fn orphans_of_a_container_end_with_it() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&["--name", "c"]);
    hub.output(&line, "sleep 1000 & (sleep 1000 &) ; true");
    hub.world.tool("oci-mount", &["--remove", "c"]).ok();
    hub.world.assert_nothing_left();
}

#[test]
fn no_zombies_pile_up_below_spawn() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&[]);
    let count = hub
        .output(&line, "for i in 1 2 3 4 5; do (true &); done; sleep 0.3; ps | grep -c '[Z]ombie' || true");
    assert_eq!(count, "0\n");
}
