//! A runtime bundle over Debian's static busybox, and a runtime's verbs on it as an engine calls them.
//!
//! Every command writes to files, not pipes: a container that was created keeps its maker's streams.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Outcome, World};
use crate::{leftovers, probe};

/// Commands of busybox that tests use.
const APPLETS: &[&str] = &[
    "ash", "awk", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dmesg", "echo", "env", "false",
    "find", "getopt", "grep", "head", "hostname", "id", "ifconfig", "ip", "kill", "ln", "ls", "mkdir",
    "mkfifo", "mknod", "mount", "mv", "nc", "nproc", "od", "printenv", "ps", "pwd", "readlink", "realpath",
    "rm", "rmdir", "sed", "seq", "sh", "sleep", "sort", "stat", "stty", "su", "sync", "tail", "test",
    "touch", "tr", "true", "tty", "umount", "uname", "unlink", "usleep", "wc", "xargs", "yes",
];

/// The capabilities that docker gives.
pub const DOCKERS: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A verb that takes longer hangs.
const TOO_LONG: Duration = Duration::from_secs(120);
/// How long what ends or begins by itself may take.
const SETTLING: Duration = Duration::from_secs(20);

/// A bundle, a state root of its own and an id that no other test has.
///
/// Dropping it deletes the container by force, and ends and unmounts whatever was left.
pub struct Bundle {
    /// config.json as the next `create` or `run` writes it.
    pub config: Value,
    world: World,
    id: String,
    runtime: PathBuf,
}

impl Bundle {
    /// A bundle for this workspace's runtime; none, with the reason printed, where such tests cannot run.
    pub fn new() -> Option<Self> {
        Self::of("oci-spawn")
    }

    /// A bundle for a runtime with runc's command line; none where that cannot run here.
    pub fn of(runtime: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !probe::all(&[probe::Need::Root, probe::Need::Program("busybox")]) {
            return None;
        }
        let world = World::new();
        let id = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bundle = Self { config: config(), world, id, runtime: runtime.into() };
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bundle.world.dir(), open).expect("chmod of a private directory");
        fill(&bundle.root());
        Some(bundle)
    }

    /// The world that it is in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The bundle's directory.
    pub fn dir(&self) -> &Path {
        self.world.dir()
    }

    /// A path in the bundle's directory, outside the root file system.
    pub fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    /// Its root file system.
    pub fn root(&self) -> PathBuf {
        self.world.path("rootfs")
    }

    /// The runtime's state root.
    pub fn states(&self) -> PathBuf {
        self.world.path("states")
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The configuration's mounts.
    pub fn mounts(&mut self) -> &mut Vec<Value> {
        self.config["mounts"].as_array_mut().expect("mounts is an array")
    }

    /// Adds a mount.
    pub fn mount(&mut self, kind: &str, source: &Path, destination: &str, options: &[&str]) {
        let mount = json!({"type": kind, "source": source, "destination": destination, "options": options});
        self.mounts().push(mount);
    }

    /// The configuration's namespaces.
    pub fn namespaces(&mut self) -> &mut Vec<Value> {
        self.config["linux"]["namespaces"].as_array_mut().expect("namespaces is an array")
    }

    /// Removes a kind of namespace from the configuration.
    pub fn without_namespace(&mut self, kind: &str) {
        self.namespaces().retain(|one| one["type"] != kind);
    }

    /// Makes the namespace of a kind one that exists.
    pub fn join_namespace(&mut self, kind: &str, path: &str) {
        self.without_namespace(kind);
        self.namespaces().push(json!({"type": kind, "path": path}));
    }

    /// The container's command becomes this.
    pub fn args(&mut self, args: &[&str]) {
        self.config["process"]["args"] = json!(args);
    }

    /// The container's command becomes a shell with this script.
    pub fn sh(&mut self, script: &str) {
        self.args(&["sh", "-c", script]);
    }

    /// Writes config.json.
    pub fn write(&self) {
        std::fs::write(self.path("config.json"), self.config.to_string()).expect("config.json");
    }

    /// The runtime with these words; nothing on stdin.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.world.command(&self.runtime.display().to_string());
        command.arg("--root").arg(self.states()).args(words).stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end; what it leaves running may go on writing.
    pub fn verb(&self, words: &[&str]) -> Outcome {
        self.finish(self.command(words))
    }

    /// Runs a command to its end with its streams in files.
    pub fn finish(&self, mut command: Command) -> Outcome {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let file = || tempfile::NamedTempFile::new_in(self.dir()).expect("a file for a stream");
        let (out, err) = (file(), file());
        command.stdout(out.reopen().expect("the file")).stderr(err.reopen().expect("the file"));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let until = Instant::now() + TOO_LONG;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be awaited") {
                break status;
            }
            if Instant::now() > until {
                let group = rustix::process::Pid::from_child(&child);
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                panic!("{shown} hangs; stderr: {:?}", std::fs::read_to_string(err.path()));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let read = |file: &tempfile::NamedTempFile| std::fs::read(file.path()).unwrap_or_default();
        let said = String::from_utf8_lossy(&read(&err)).into_owned();
        let outcome = Outcome::new(shown, status, read(&out), said);
        assert!(!outcome.stderr.contains("panicked at"), "{outcome}");
        outcome
    }

    /// `create` with these options; the container's stdout and stderr are the files that [`output`](Self::output) reads.
    pub fn create_with(&self, options: &[&str]) -> Outcome {
        self.write();
        let mut command = self.command(&["create"]);
        command.args(options).arg("-b").arg(self.dir()).arg(&self.id);
        let out = std::fs::File::create(self.path("output")).expect("a file");
        let shown = format!("create {}", self.id);
        let err = std::fs::File::create(self.path("errors")).expect("a file");
        let mut child = command.stdout(out).stderr(err).spawn().expect("the runtime");
        let until = Instant::now() + TOO_LONG;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be awaited") {
                break status;
            }
            assert!(Instant::now() < until, "{shown} hangs");
            std::thread::sleep(Duration::from_millis(1));
        };
        let said = std::fs::read_to_string(self.path("errors")).unwrap_or_default();
        let outcome = Outcome::new(shown, status, Vec::new(), said);
        assert!(!outcome.stderr.contains("panicked at"), "{outcome}");
        outcome
    }

    /// `create`.
    pub fn create(&self) -> Outcome {
        self.create_with(&[])
    }

    /// `start`.
    pub fn start(&self) -> Outcome {
        self.verb(&["start", &self.id])
    }

    /// `run` in the foreground: the container's own output and status.
    pub fn run(&self) -> Outcome {
        self.write();
        let mut command = self.command(&["run", "-b"]);
        command.arg(self.dir()).arg(&self.id);
        self.finish(command)
    }

    /// What a shell in the container prints; it must succeed.
    pub fn prints(&mut self, script: &str) -> String {
        self.sh(script);
        self.run().ok().text()
    }

    /// `kill` with a signal.
    pub fn kill(&self, signal: &str) -> Outcome {
        self.verb(&["kill", &self.id, signal])
    }

    /// `delete`.
    pub fn delete(&self) -> Outcome {
        self.verb(&["delete", &self.id])
    }

    /// `state`, which must succeed.
    pub fn state(&self) -> Value {
        let outcome = self.verb(&["state", &self.id]).ok();
        serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
    }

    /// The status of the container.
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// The container's first process.
    pub fn pid(&self) -> u32 {
        let state = self.state();
        let pid = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0);
        pid.unwrap_or_else(|| panic!("no pid: {state}"))
    }

    /// Waits until the container has this status.
    pub fn wait_for(&self, status: &str) {
        self.until(status, || self.status() == status);
    }

    /// Waits until the container has printed this.
    pub fn wait_for_output(&self, text: &str) {
        self.until(text, || self.output().contains(text));
    }

    /// What the created container has printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.path("output")).unwrap_or_default()
    }

    /// What the created container, and its maker, have said on stderr.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.path("errors")).unwrap_or_default()
    }

    /// Waits until something holds.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + SETTLING;
        while !holds() {
            assert!(Instant::now() < until, "never: {what}; output {:?}, {:?}", self.output(), self.errors());
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Control groups that bear the container's id, on any hierarchy.
    pub fn groups(&self) -> Vec<PathBuf> {
        leftovers::groups(&self.id)
    }

    /// Panics unless nothing of the container is there: no state, control group, mount or process.
    pub fn assert_nothing_left(&self) {
        let until = Instant::now() + SETTLING;
        loop {
            let mut left: Vec<String> =
                leftovers::entries(&self.states()).iter().map(|name| format!("state {name}")).collect();
            left.extend(self.groups().iter().map(|path| format!("control group {}", path.display())));
            left.extend(leftovers::mounts(self.dir()));
            left.extend(leftovers::processes(self.dir()));
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left behind:\n{}", left.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if !leftovers::entries(&self.states()).is_empty() {
            let mut command = self.command(&["delete", "--force", &self.id]);
            drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
        }
        for group in self.groups().iter().rev() {
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// A root file system of busybox.
fn fill(root: &Path) {
    for name in ["bin", "proc", "sys", "dev", "tmp", "etc", "mnt"] {
        std::fs::create_dir_all(root.join(name)).expect("mkdir");
    }
    let busybox = probe::program("busybox").expect("looked for before");
    probe::copy_program(busybox, root.join("bin/busybox"));
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("symlink");
    }
}

/// A configuration as runc's `spec` writes it, in its own namespaces, with docker's capabilities.
pub fn config() -> Value {
    let kinds = ["mount", "network", "uts", "pid", "ipc", "cgroup"];
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    json!({
        "ociVersion": "1.2.1",
        "root": {"path": "rootfs"},
        "hostname": "box",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/bin", "A=1"],
            "cwd": "/",
            "capabilities": {"bounding": DOCKERS, "permitted": DOCKERS, "effective": DOCKERS},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/bus"],
        },
    })
}
