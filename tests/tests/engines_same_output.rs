//! Container engines with oci-spawn below them: what a script of an engine's commands prints is what it prints with runc.
//!
//! The scripts lie in `tests/engines`; each sees the runtime in `$RUNTIME`, images in `$LAYOUT` and `$PAUSE`, and prints a transcript.

use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::{World, fixtures, leftovers, needs, probe, world};

/// How long what belongs to an engine that has ended may take to vanish.
const SETTLING: Duration = Duration::from_secs(10);

#[test]
fn podman_does_with_oci_spawn_what_it_does_with_runc() {
    needs!(Root, Overlay, Program("busybox"), Program("podman"), Program("conmon"), Program("runc"));
    needs!(Program("catatonit"), Program("script"));
    compare(
        "podman.sh",
        &["hello", "refused: bb no-such-program = 127", "refused: bb /etc/passwd = 126", "exited 7"],
    );
}

#[test]
fn podman_of_a_user_does_with_oci_spawn_what_it_does_with_runc() {
    needs!(Root, Overlay, Program("busybox"), Program("podman"), Program("conmon"), Program("runc"));
    needs!(Program("catatonit"), Program("script"), Program("newuidmap"));
    compare("podman-rootless.sh", &["true", "uid=4242(ocipipe) gid=4242(ocipipe)", "root may", "ready"]);
}

#[test]
fn buildah_builds_with_oci_spawn_what_it_builds_with_runc() {
    needs!(Root, Overlay, Program("busybox"), Program("buildah"), Program("runc"), Program("script"));
    compare("buildah.sh", &["from the context", "secret", "hello", "over stdin", "kept"]);
}

#[test]
fn containerd_does_with_oci_spawn_what_it_does_with_runc() {
    needs!(Root, Overlay, Program("busybox"), Program("containerd"), Program("ctr"), Program("runc"));
    needs!(Program("containerd-shim-runc-v2"), Program("script"));
    compare("containerd.sh", &["hello", "from exec", "life PID PAUSED", "the same pid", "33 77"]);
}

#[test]
fn a_runtime_class_of_oci_spawn_does_what_one_of_runc_does() {
    needs!(Root, Overlay, Program("busybox"), Program("containerd"), Program("ctr"), Program("runc"));
    needs!(Program("containerd-shim-runc-v2"), Python("grpc"));
    compare("cri.py", &["inside: exit 0", "killed: exit 137 killed", "life: exit 7", "33554432 25000"]);
}

#[test]
fn the_configurations_of_the_documentation_are_understood() {
    needs!(Root, Program("containerd"), Program("podman"));
    let mut world = World::new();
    let tool = world::tools().join("oci-spawn").display().to_string();
    let page = std::fs::read_to_string(world::workspace().join("docs/engines.md")).expect("the page");
    let page = page.replace("/usr/local/bin/oci-spawn", &tool);
    std::fs::write(world.path("config.toml"), block(&page, "version = 2")).expect("a file");
    let dump = world.tool("containerd", &["-c", "config.toml", "config", "dump"]).ok().text();
    assert!(dump.contains(&format!("BinaryName = \"{tool}\"")), "{dump}");
    std::fs::write(world.path("containers.conf"), block(&page, "[engine]")).expect("a file");
    world.set("CONTAINERS_CONF", &world.name("containers.conf"));
    let podman = "ulimit -n 1024 -u 1024; podman --root root --runroot run --tmpdir libpod --cgroup-manager cgroupfs \
        info -f '{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}'";
    assert_eq!(world.bash(podman).ok().text(), format!("oci-spawn {tool}\n"));
}

/// The code block of a page that starts with this line.
fn block<'a>(page: &'a str, first: &str) -> &'a str {
    let start =
        page.find(&format!("```toml\n{first}\n")).expect("the page has the block") + "```toml\n".len();
    let length = page[start..].find("```").expect("a block ends");
    &page[start..start + length]
}

/// Runs a script with runc and with oci-spawn; both transcripts hold these lines, and are the same.
fn compare(script: &str, lines: &[&str]) {
    let runc = probe::program("runc").expect("runc was asked for");
    let peer = transcript(script, &runc);
    for line in lines {
        assert!(peer.lines().any(|found| found.starts_with(line)), "runc: no line {line:?} in:\n{peer}");
    }
    let ours = transcript(script, &world::tools().join("oci-spawn"));
    if peer != ours {
        panic!("{script}: - with runc, + with oci-spawn\n{}", difference(&peer, &ours));
    }
}

/// What a script prints with a runtime, without what differs from run to run; nothing is left of it.
fn transcript(script: &str, runtime: &Path) -> String {
    let mut world = World::new();
    fixtures::busybox().write(&world.path("layout"), "1");
    fixtures::busybox().set("Cmd", json!(["sleep", "100000"])).write(&world.path("pause"), "1");
    world.set("RUNTIME", &runtime.display().to_string());
    world.set("LAYOUT", &world.name("layout"));
    world.set("PAUSE", &world.name("pause"));
    let script = world::workspace().join("tests/engines").join(script);
    let outcome = world.run(world.command(&script.display().to_string()), None);
    let log = std::fs::read_to_string(world.path("log")).unwrap_or_default();
    assert_eq!(outcome.code, 0, "{outcome}\nlog: {log}");
    assert_nothing_left(&world, &log);
    let name = world.dir().file_name().expect("a directory has a name").to_string_lossy().into_owned();
    let text = outcome.text().replace(&world.dir().display().to_string(), "HERE").replace(&name, "NAME");
    let text = text.replace(&runtime.display().to_string(), "RUNTIME");
    let text = as_strict_as_runc(text);
    eprintln!("{text}\nlog: {log}"); // shown where the test fails
    text
}

/// Says less of mounts where oci-spawn is stricter on purpose: what masks a directory is `nosuid`, `nodev` and `noexec` too, and
/// the directory above the cgroup hierarchies is as read-only as the configuration asks, which runc forgets.
fn as_strict_as_runc(mut text: String) -> String {
    for masked in ["/proc/acpi", "/proc/scsi", "/sys/dev", "/sys/dev/block", "/sys/firmware"] {
        let ours = format!("{masked} ro,nosuid,nodev,noexec,relatime\n");
        text = text.replace(&ours, &format!("{masked} ro,relatime\n"));
    }
    text.replace(
        "/sys/fs/cgroup ro,nosuid,nodev,noexec,relatime\n",
        "/sys/fs/cgroup rw,nosuid,nodev,noexec,relatime\n",
    )
}

/// Panics if mounts, processes, cgroups or runtime state of this world are left.
fn assert_nothing_left(world: &World, log: &str) {
    let until = Instant::now() + SETTLING;
    loop {
        let mut left = leftovers::mounts(world.dir());
        left.extend(leftovers::processes(world.dir()));
        left.extend(cgroups(world));
        left.extend(states(world));
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left behind:\n{}\nlog: {log}", left.join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// cgroups that carry the world's name.
fn cgroups(world: &World) -> Vec<String> {
    let name = world.dir().file_name().expect("a directory has a name").to_string_lossy().into_owned();
    let mut find = Command::new("find");
    find.args(["/sys/fs/cgroup", "-type", "d", "-path", &format!("*{name}*")]);
    let found = find.output().expect("find runs").stdout;
    String::from_utf8_lossy(&found).lines().map(|line| format!("cgroup {line}")).collect()
}

/// Containers that a runtime still keeps a state of and whose bundle lies in the world.
fn states(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["/run/oci-spawn", "/run/runc"] {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let file: PathBuf = entry.path().join("state.json");
            let state = std::fs::read_to_string(&file).unwrap_or_default();
            if state.contains(&world.dir().display().to_string()) {
                found.push(format!("state {}", file.display()));
            }
        }
    }
    found
}

/// The difference of two texts, with some lines around.
fn difference(before: &str, after: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("runc"), before).expect("a file");
    std::fs::write(dir.path().join("oci-spawn"), after).expect("a file");
    let mut diff = Command::new("diff");
    diff.args(["-U3", "runc", "oci-spawn"]).current_dir(dir.path());
    String::from_utf8_lossy(&diff.output().expect("diff runs").stdout).into_owned()
}
