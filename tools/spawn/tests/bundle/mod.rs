//! A bundle over Debian's static busybox with a state root of its own, and the tool's verbs on it as an engine calls them.
//!
//! Dropped, it deletes its containers and makes sure that nothing is left of them: no mount, process, control group or
//! state.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where control groups may be.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A bundle and its containers.
pub(crate) struct Bundle {
    dir: tempfile::TempDir,
    /// The container's id where none is given.
    pub(crate) id: String,
    /// What config.json will be; written before each verb.
    pub(crate) config: Value,
    /// The program, ours unless a peer's is to be compared.
    pub(crate) program: PathBuf,
}

impl Bundle {
    /// A bundle whose process is `sh -c SCRIPT` in pid, mount, ipc, uts and network namespaces of its own; none, with the
    /// reason printed, where these tests cannot run.
    pub(crate) fn new(script: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
            testkit::skip("needs root and /bin/busybox (Debian's busybox-static)");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        rootfs(&dir.path().join("rootfs"));
        let id = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let program = PathBuf::from(env!("CARGO_BIN_EXE_oci-spawn"));
        Some(Self { dir, id, config: config(script), program })
    }

    /// Where config.json and rootfs are.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path below the bundle.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The container's root file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.at("rootfs")
    }

    /// The state root.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.at("state")
    }

    /// Lets everybody pass through the bundle's directory, as users of a user namespace must.
    pub(crate) fn open_to_all(&self) {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    /// Sets a member by its JSON pointer, making the objects on the way; `/-` at the end appends to a list.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut at = &mut self.config;
        for name in pointer.split('/').skip(1) {
            if at.is_null() && name == "-" {
                *at = json!([]);
            }
            at = if at.is_array() {
                let list = at.as_array_mut().expect("a list");
                let index = name.parse().unwrap_or(list.len());
                if index == list.len() {
                    list.push(Value::Null);
                }
                &mut list[index]
            } else {
                &mut at[name]
            };
        }
        *at = value;
        self
    }

    /// Another script for the process.
    pub(crate) fn script(&mut self, script: &str) -> &mut Self {
        self.set("/process/args", json!(["/bin/sh", "-c", script]))
    }

    /// One more mount.
    pub(crate) fn mount(
        &mut self,
        destination: &str,
        kind: &str,
        source: &str,
        options: &[&str],
    ) -> &mut Self {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.set("/mounts/-", mount)
    }

    /// A namespace of this type: new, or by its path; one that is there already is replaced.
    pub(crate) fn namespace(&mut self, kind: &str, path: Option<&str>) -> &mut Self {
        self.without_namespace(kind);
        let namespace = match path {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({"type": kind}),
        };
        self.set("/linux/namespaces/-", namespace)
    }

    /// No namespace of this type.
    pub(crate) fn without_namespace(&mut self, kind: &str) -> &mut Self {
        let list = self.config["linux"]["namespaces"].as_array_mut().expect("a list");
        list.retain(|one| one["type"] != kind);
        self
    }

    /// All capabilities in all sets but inheritable and ambient.
    pub(crate) fn privileged(&mut self) -> &mut Self {
        let all = &runtime::features()["linux"]["capabilities"];
        self.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}))
    }

    /// Writes config.json as it stands.
    pub(crate) fn write(&self) {
        fs::write(self.at("config.json"), self.config.to_string()).expect("config.json");
    }

    /// The tool with `--root` and these words, in the bundle's directory; config.json is written first.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.write();
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.state_root()).args(words).current_dir(self.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs the tool to its end and gives what it said.
    ///
    /// Its output goes to files: a container in the background keeps what it was given, and a pipe would wait for it.
    pub(crate) fn verb(&self, words: &[&str]) -> Output {
        self.output(self.command(words))
    }

    /// Runs a command to its end, as [`Bundle::verb`].
    pub(crate) fn output(&self, mut command: Command) -> Output {
        let file = || tempfile::tempfile_in(self.path()).expect("a file");
        let (out, err) = (file(), file());
        command.stdout(out.try_clone().expect("dup")).stderr(err.try_clone().expect("dup"));
        let status = command.status().expect("the tool");
        Output { status, stdout: content(out), stderr: content(err) }
    }

    /// `run ID`.
    pub(crate) fn run(&self) -> Output {
        self.verb(&["run", &self.id])
    }

    /// `run ID`, which must end with 0 and an empty stderr; what the container printed.
    pub(crate) fn prints(&self) -> String {
        let output = self.run();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
        text(&output.stdout)
    }

    /// `run ID`, which must fail before the command runs; what the runtime said.
    pub(crate) fn refuses(&self) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{}", said(&output));
        assert!(!self.state_root().join(&self.id).exists(), "a state is left");
        text(&output.stderr)
    }

    /// A verb on the container, which must succeed.
    pub(crate) fn does(&self, verb: &str, more: &[&str]) -> String {
        let mut words = vec![verb, &self.id];
        words.extend(more);
        let output = self.verb(&words);
        assert!(output.status.success(), "{verb}: {}", said(&output));
        text(&output.stdout)
    }

    /// `create ID`: its pid.
    pub(crate) fn create(&self) -> u32 {
        self.does("create", &[]);
        self.pid()
    }

    /// `create ID` and `start ID`: its pid.
    pub(crate) fn start(&self) -> u32 {
        let pid = self.create();
        self.does("start", &[]);
        pid
    }

    /// What `state ID` prints.
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.does("state", &[])).expect("JSON")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.state()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
    }

    /// Waits until the container has this status.
    pub(crate) fn wait_for(&self, status: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.state()["status"] != status {
            assert!(Instant::now() < deadline, "never {status}: {}", self.state());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `delete --force ID`.
    pub(crate) fn delete(&self) {
        self.does("delete", &["--force"]);
    }

    /// What is left of the containers of this bundle, one line each.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = testkit::leftovers::mounts(self.path());
        let states = fs::read_dir(self.state_root()).into_iter().flatten().flatten();
        left.extend(states.map(|entry| format!("state {}", entry.path().display())));
        let mut find = Command::new("find");
        find.args([CGROUPS, "-type", "d", "-name"]).arg(format!("*{}*", self.id));
        let found = find.output().map(|output| text(&output.stdout)).unwrap_or_default();
        left.extend(found.lines().map(|line| format!("control group {line}")));
        left.extend(testkit::leftovers::processes(self.path()));
        left
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.state_root()).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let _ = self.verb(&["delete", "--force", &id]);
        }
        let left = self.leftovers();
        testkit::leftovers::clear(self.path());
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}

/// A root of busybox under all its names, with the directories that mounts want and two users.
fn rootfs(path: &Path) {
    for name in ["bin", "proc", "sys", "dev", "tmp", "etc", "root", "home"] {
        fs::create_dir_all(path.join(name)).expect("mkdir");
    }
    testkit::copy_program("/bin/busybox", path.join("bin/busybox"));
    let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox");
    for applet in text(&list.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", path.join("bin").join(applet)).expect("symlink");
    }
    let mut passwd = fs::File::create(path.join("etc/passwd")).expect("passwd");
    passwd.write_all(b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n").expect("write");
    fs::write(path.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("group");
}

fn config(script: &str) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
            ],
        },
    })
}

fn content(mut file: fs::File) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read");
    bytes
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All that a command said, for a failed assertion.
pub(crate) fn said(output: &Output) -> String {
    format!("{}\nstdout: {}\nstderr: {}", output.status, text(&output.stdout), text(&output.stderr))
}
