//! c01: descriptors and working directories of the host (CVE-2024-21626, CVE-2016-9962, CVE-2015-3627).
//! c02: the runtime's own binary (CVE-2019-5736).

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;
use testkit::Bundle;

use crate::{after, control, trap};

/// A shell that holds directories of the host open, as an engine that forgot them would.
const LEAK: &str = "exec 7</etc 9</";

fn named(bundle: &Bundle) -> (String, String) {
    (bundle.dir().display().to_string(), bundle.id().to_owned())
}

/// Names through which a leaked descriptor could be the working directory.
fn places() -> Vec<String> {
    let mut places: Vec<String> = (3..64).map(|n| format!("/proc/self/fd/{n}")).collect();
    places.extend([
        "/w".into(),
        "/proc/self/cwd".into(),
        "/proc/1/root".into(),
        "/proc/self/fd/7/../..".into(),
    ]);
    places
}

#[test]
fn c01_a_working_directory_of_run_is_never_a_descriptor_of_the_host() {
    let Some(mut bundle) = Bundle::new() else { return };
    symlink("/proc/self/fd/7", bundle.root().join("w")).expect("symlink");
    let (dir, id) = named(&bundle);
    for place in places() {
        bundle.config["process"]["cwd"] = json!(place);
        bundle.sh("cat passwd; ls ../../../../root");
        bundle.write();
        let said = after(&bundle, LEAK, &["run", "-b", &dir, &id]);
        assert!(said.code == 1 && said.stdout.is_empty(), "{place}: {said}");
        assert!(said.stderr.contains("enter the working directory"), "{place}: {said}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn c01_a_working_directory_of_create_is_never_a_descriptor_of_the_host() {
    let Some(mut bundle) = Bundle::new() else { return };
    let (dir, id) = named(&bundle);
    for place in ["/proc/self/fd/7", "/proc/self/fd/9", "/proc/self/fd/4"] {
        bundle.config["process"]["cwd"] = json!(place);
        bundle.write();
        after(&bundle, LEAK, &["create", "-b", &dir, &id]).fails(1).says("enter the working directory");
        bundle.assert_nothing_left();
    }
}

#[test]
fn c01_a_working_directory_of_exec_is_never_a_descriptor_of_the_host() {
    let Some(mut bundle) = Bundle::new() else { return };
    symlink("/proc/self/fd/7", bundle.root().join("w")).expect("symlink");
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    let (_, id) = named(&bundle);
    for place in places() {
        if place == "/proc/1/root" || place == "/proc/self/cwd" {
            // Of a container that runs they are the container's own.
            let said = after(&bundle, LEAK, &["exec", "--cwd", &place, &id, "sh", "-c", "ls"]);
            assert!(
                said.code != 0 || said.text().contains("busybox") || said.text().contains("proc"),
                "{said}"
            );
            assert!(!said.text().contains("canary"), "{said}");
            continue;
        }
        let said =
            after(&bundle, LEAK, &["exec", "--cwd", &place, &id, "sh", "-c", "cat passwd; ls ../../../root"]);
        assert!(said.code != 0 && said.stdout.is_empty(), "{place}: {said}");
    }
}

#[test]
fn c01_no_descriptor_of_the_host_is_open_in_the_container() {
    let Some(mut bundle) = Bundle::new() else { return };
    let (dir, id) = named(&bundle);
    let list = "for fd in /proc/1/fd/*; do echo ${fd##*/}; done; :";
    bundle.sh(list);
    bundle.write();
    let open = |text: String| -> Vec<u32> {
        text.lines().filter_map(|n| n.parse().ok()).filter(|&n| n != 10).collect()
    };
    let said = after(&bundle, LEAK, &["run", "-b", &dir, &id]).ok();
    // The shell reads a directory while it expands the pattern.
    assert!(open(said.text()).iter().all(|&n| n <= 3), "{said}");
    let said = {
        bundle.sh("ls /proc/1/fd/7/ /proc/1/fd/9/ /proc/self/fd/7/ /proc/self/fd/9/");
        bundle.write();
        after(&bundle, LEAK, &["run", "-b", &dir, &id])
    };
    assert!(said.code != 0 && said.stdout.is_empty(), "{said}");
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    let said = after(&bundle, LEAK, &["exec", &id, "sh", "-c", "ls /proc/$$/fd; :"]).ok();
    assert_eq!(said.text(), "0\n1\n2\n", "{said}");
    // What is there while the process is made, seen by one that only looks.
    let said =
        after(&bundle, LEAK, &["exec", &id, "sh", "-c", "readlink /proc/$$/cwd; ls /proc/$$/cwd/"]).ok();
    assert!(said.text().starts_with("/\n"), "{said}");
}

#[test]
fn c01_hooks_in_the_container_have_no_descriptor_of_the_host() {
    let Some(mut bundle) = Bundle::new() else { return };
    let script = "ls -l /proc/$$/fd >/fds; :";
    bundle.config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    let (dir, id) = named(&bundle);
    bundle.write();
    after(&bundle, LEAK, &["run", "-b", &dir, &id]).ok();
    let seen = std::fs::read_to_string(bundle.root().join("fds")).expect("the hook ran");
    // The shell keeps its own stdout as 10 while it writes to the file.
    let count = seen.lines().filter(|line| line.contains(" -> ") && !line.contains(" 10 -> ")).count();
    assert_eq!(count, 3, "{seen}");
    assert!(!seen.contains("/etc") && !seen.contains(&dir), "{seen}");
}

#[test]
fn c01_positive_control_crun_hands_a_directory_of_the_host_on() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["process"]["cwd"] = json!("/proc/self/fd/9");
    bundle.args(&["cat", "passwd"]);
    let Some(said) = control(&bundle, "crun", "1.8.1", "exec 9</etc") else { return };
    assert!(said.text().contains("root:x:0:0"), "{said}");
}

/// The sha256 of the runtime's binary.
fn digest() -> String {
    testkit::digest(&std::fs::read(testkit::world::tools().join("oci-spawn")).expect("the tool"))
}

#[test]
fn c02_an_entrypoint_that_is_the_runtime_itself_reaches_nothing() {
    let Some((mut bundle, canary)) = trap() else { return };
    let before = digest();
    let script = bundle.root().join("tmp/script");
    std::fs::write(&script, "#!/proc/self/exe\n").expect("write");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    symlink("/proc/self/exe", bundle.root().join("tmp/link")).expect("symlink");
    bundle.args(&["sleep", "100"]);
    bundle.create().ok();
    bundle.start().ok();
    let id = bundle.id().to_owned();
    for program in ["/proc/self/exe", "/tmp/script", "/tmp/link", "/proc/thread-self/exe"] {
        let said = bundle.verb(&["exec", &id, program, "--version"]);
        assert!(said.code != 0 && !said.text().contains("oci-spawn"), "{program}: {said}");
    }
    bundle.verb(&["delete", "--force", &id]).ok();
    for program in ["/proc/self/exe", "/tmp/script", "/tmp/link"] {
        bundle.args(&[program, "--version"]);
        let said = bundle.run();
        assert!(said.code != 0 && !said.text().contains("oci-spawn"), "{program}: {said}");
    }
    assert_eq!(digest(), before);
    canary.assert_alive();
}

#[test]
fn c02_the_runtimes_binary_cannot_be_written_while_it_executes() {
    let Some(mut bundle) = Bundle::new() else { return };
    let before = digest();
    // Whatever process shows up is opened for writing through its exe, and held for when it is not busy.
    let script = "echo ready; while [ ! -e /stop ]; do for p in /proc/[0-9]*; do \
                  case $p in /proc/1|/proc/$$) continue;; esac; \
                  if (: 5<>$p/exe) 2>/dev/null; then readlink $p/exe >>/opened; fi; done; done";
    bundle.sh(script);
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for_output("ready");
    let id = bundle.id().to_owned();
    for _ in 0..crate::rounds(40, 1000) {
        bundle.verb(&["exec", &id, "true"]).ok();
    }
    std::fs::write(bundle.root().join("stop"), "").expect("write");
    bundle.wait_for("stopped");
    let opened = std::fs::read_to_string(bundle.root().join("opened")).unwrap_or_default();
    assert_eq!(opened, "", "opened for writing");
    assert_eq!(digest(), before);
}
