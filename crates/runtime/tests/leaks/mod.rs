//! Descriptors of the host that a container could come by, and attacks that an old runtime shows to be real.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::bundle::{Bundle, text};

/// Runs with descriptor 9 open on the host's /etc in the parent.
fn run_with_leak(bundle: &mut Bundle, args: &[&str]) -> Output {
    let program = bundle.command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9</etc; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
    shell.stdin(Stdio::null()).output().expect("sh")
}

#[test]
fn no_descriptor_of_the_parent_is_open_in_the_container() {
    let Some(mut bundle) = Bundle::new() else { return };
    // The shell holds no descriptor of its own while it expands the pattern, but the one of the directory it reads.
    let output =
        run_with_leak(&mut bundle, &["sh", "-c", "for fd in /proc/1/fd/*; do readlink $fd; done | wc -l"]);
    assert_eq!(text(&output.stdout).trim(), "3", "{output:?}");
    let output = run_with_leak(&mut bundle, &["sh", "-c", "ls /proc/1/fd/9/passwd"]);
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn a_working_directory_that_is_a_descriptor_of_the_host_is_refused() {
    let Some(mut bundle) = Bundle::new() else { return };
    symlink("/proc/self/fd/7", bundle.root().join("w")).expect("symlink");
    let mut places: Vec<String> = (3..64).map(|n| format!("/proc/self/fd/{n}")).collect();
    places.extend(["/w".into(), "/proc/self/cwd".into(), "/proc/1/root".into()]);
    for place in places {
        bundle.config["process"]["cwd"] = json!(place);
        let output = run_with_leak(&mut bundle, &["sh", "-c", "ls ../../../etc; readlink /proc/self/cwd"]);
        assert_eq!(output.status.code(), Some(125), "{place}: {output:?}");
        assert!(text(&output.stderr).contains("enter the working directory"), "{place}: {output:?}");
    }
}

/// Runs the bundle by another runtime that is known to be vulnerable, where it is here in that version.
///
/// An attack is worth a test only if it works against something. Mounts and cgroups go with the namespace.
fn control(bundle: &mut Bundle, program: &str, version: &str, args: &[&str], before: &str) -> Option<Output> {
    let found = Command::new(program).arg("--version").output().ok();
    if !found.is_some_and(|output| text(&output.stdout).contains(version)) {
        testkit::skip(&format!("no positive control: {program} {version} is not here"));
        return None;
    }
    bundle.command(args);
    let script =
        format!("{before}; cd \"$1\" && exec {program} run control-{program}-{}", std::process::id());
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(bundle.dir.path()).stdin(Stdio::null());
    Some(command.output().expect("unshare"))
}

#[test]
fn the_attack_through_a_linked_dev_works_against_an_old_runtime() {
    let Some(mut bundle) = Bundle::new() else { return };
    let victim = tempfile::tempdir().expect("a temporary directory");
    fs::remove_dir(bundle.root().join("dev")).expect("rmdir");
    symlink(victim.path(), bundle.root().join("dev")).expect("symlink");
    bundle.mounts().retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
    let Some(output) = control(&mut bundle, "runc", "1.1.5", &["echo"], ":") else { return };
    assert_ne!(fs::read_dir(victim.path()).expect("read").count(), 0, "{output:?}");
}

#[test]
fn the_attack_through_a_leaked_descriptor_works_against_an_old_runtime() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["process"]["cwd"] = json!("/proc/self/fd/9");
    // Debian's crun refuses a hybrid cgroup host, so it is shown another one.
    let before = "mount -t cgroup2 none /sys/fs/cgroup; exec 9</etc";
    let Some(output) = control(&mut bundle, "crun", "1.8.1", &["cat", "passwd"], before) else { return };
    assert!(text(&output.stdout).contains("root:x:0:0"), "{output:?}");
}
