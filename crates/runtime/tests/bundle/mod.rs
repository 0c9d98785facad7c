//! A bundle over Debian's static busybox, and how to run it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
pub(crate) use testkit::bundle::DOCKERS;

/// Commands of busybox that the tests use.
pub(crate) const APPLETS: [&str; 19] = [
    "sh", "ls", "cat", "id", "env", "sleep", "echo", "mount", "hostname", "grep", "readlink", "touch",
    "kill", "wc", "pwd", "su", "mknod", "head", "stat",
];

/// A bundle over busybox.
pub(crate) struct Bundle {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Value,
}

impl Bundle {
    /// None, with the reason printed, where these tests cannot run.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
            testkit::skip("needs root and /bin/busybox (Debian's busybox-static)");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("rootfs");
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).expect("mkdir");
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        testkit::copy_program("/bin/busybox", root.join("bin/busybox"));
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("symlink");
        }
        Some(Self { dir, config: config() })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub(crate) fn mounts(&mut self) -> &mut Vec<Value> {
        self.config["mounts"].as_array_mut().expect("mounts")
    }

    /// The command that runs the bundle with these arguments.
    pub(crate) fn command(&mut self, args: &[&str]) -> Command {
        self.config["process"]["args"] = json!(args);
        fs::write(self.dir.path().join("config.json"), self.config.to_string()).expect("write");
        let mut command = Command::new(example());
        command.arg(self.dir.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&mut self, args: &[&str]) -> Output {
        self.command(args).output().expect("the example runs")
    }

    /// Runs and wants success.
    pub(crate) fn stdout(&mut self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

pub(crate) fn example() -> PathBuf {
    let mut path = std::env::current_exe().expect("own path");
    path.pop();
    path.pop();
    path.join("examples/run_bundle")
}

pub(crate) fn config() -> Value {
    let kinds = ["mount", "network", "uts", "pid", "ipc", "cgroup"];
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    json!({
        "ociVersion": "1.0.2",
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
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/bus"],
        },
    })
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The only child of a process that is a container's first process, once there is one.
pub(crate) fn container_of(parent: &Child) -> u32 {
    let path = format!("/proc/{0}/task/{0}/children", parent.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let children = fs::read_to_string(&path).unwrap_or_default();
        for pid in children.split_whitespace() {
            if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sleep")) {
                return pid.parse().expect("a pid");
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no container below {}", parent.id());
}

pub(crate) fn wait_gone(pid: u32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

pub(crate) fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill").success());
}

/// Names and kinds below a directory, to see that nothing changed.
pub(crate) fn listing(dir: &Path) -> String {
    let output =
        Command::new("find").arg(dir).args(["-printf", "%p %y %m %s %T@ %l\n"]).output().expect("find");
    text(&output.stdout)
}

/// How many mounts of the host lie below a directory.
pub(crate) fn host_mounts(dir: &Path) -> usize {
    let all = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    all.lines().filter(|line| line.contains(&dir.display().to_string())).count()
}
