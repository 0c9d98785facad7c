//! A store with one image in it, made by the store's own means, and the tools run on it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use store::{Claim, Form, LayerMeta, Store};

/// A store in a directory of its own.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

/// An image in the making: its configuration's `config`, and what its only layer holds.
pub struct Image<'a> {
    pub config: Value,
    pub fill: &'a dyn Fn(&Path),
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(Some(&dir.path().join("store"))).expect("a store");
        Self { dir, store }
    }

    /// Puts an image of one layer into the store and returns its rootfs line.
    pub fn image(&self, image: &Image<'_>) -> String {
        let unique = format!("{}{:p}", image.config, image.fill);
        let diff_id = descriptor::Digest::of(unique.as_bytes());
        let Ok(Claim::Mine(draft)) = self.store.claim_layer(Form::Identity, &diff_id) else {
            panic!("a fresh layer")
        };
        let inside = self.dir.path().join("fill");
        std::fs::create_dir(&inside).expect("mkdir");
        (image.fill)(&inside);
        let copied = Command::new("cp").arg("-a").arg(inside.join(".")).arg(fd_path(draft.root())).status();
        assert!(copied.expect("cp").success());
        std::fs::remove_dir_all(&inside).expect("rm");
        let meta = LayerMeta { diff_id, entries: 1, bytes: 1, implied: Vec::new(), masking: Vec::new() };
        draft.publish(&self.store, meta).expect("publish");
        self.line(&image.config, &[diff_id])
    }

    /// The rootfs line of an image of these layers.
    pub fn line(&self, config: &Value, diff_ids: &[descriptor::Digest]) -> String {
        let config = json!({"architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config_bytes = config.to_string().into_bytes();
        let config_digest = self.store.put_document(&config_bytes).expect("config");
        let layer = json!({"mediaType": descriptor::media::OCI_LAYER, "digest": diff_ids.first(), "size": 1});
        let manifest = json!({"schemaVersion": 2, "mediaType": descriptor::media::OCI_MANIFEST,
            "config": {"mediaType": descriptor::media::OCI_CONFIG, "digest": config_digest, "size": config_bytes.len()},
            "layers": vec![layer; diff_ids.len()]});
        let image = self.store.put_document(manifest.to_string().as_bytes()).expect("manifest");
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        let canonical = descriptor::canonical(&rootfs).expect("canonical");
        json!({"mediaType": descriptor::media::ROOTFS, "digest": descriptor::Digest::of(&canonical),
            "size": canonical.len(), "store": self.store.path(), "image": image, "config": config_digest,
            "chainID": store::chain_ids(diff_ids).pop(), "layers": diff_ids.len()})
        .to_string()
    }

    /// Runs a tool with a line on stdin.
    pub fn run(&self, tool: &str, args: &[&str], input: &str) -> Ran {
        let mut child = Command::new(tool)
            .arg("--store")
            .arg(self.store.path())
            .args(args)
            .env_remove("OCIPIPE_NET")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        // A tool that needs no input may be gone already.
        let _ = child.stdin.take().expect("stdin").write_all(format!("{input}\n").as_bytes());
        Ran::from(child.wait_with_output().expect("wait"))
    }

    pub fn containers(&self) -> Vec<String> {
        self.store.containers().expect("containers").iter().map(|c| c.name().to_string()).collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for container in self.store.containers().unwrap_or_default() {
            if let Err(e) = overlay::remove(container, overlay::Running::Kill) {
                eprintln!("cleaning up: {e}");
            }
        }
    }
}

/// How a tool ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Its only line, after success.
    pub fn line(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.stdout.matches('\n').count(), 1, "{self:?}");
        serde_json::from_str(&self.stdout).expect("JSON")
    }

    /// The error line, after a failure with this status.
    pub fn error(&self, code: i32) -> Value {
        assert_eq!(self.code, code, "{self:?}");
        let line: Value = serde_json::from_str(self.stdout.lines().next().unwrap_or_default()).expect("JSON");
        assert_eq!(line["mediaType"], descriptor::media::ERROR, "{self:?}");
        line
    }
}

fn fd_path(root: &sys::Root) -> PathBuf {
    use std::os::fd::{AsFd, AsRawFd};
    let link = format!("/proc/self/fd/{}", root.as_fd().as_raw_fd());
    std::fs::read_link(link).expect("readlink")
}

/// A small system: busybox and what a shell needs.
pub fn busybox(dir: &Path) {
    for name in ["bin", "etc", "tmp", "var", "usr"] {
        std::fs::create_dir(dir.join(name)).expect("mkdir");
    }
    testkit::copy_program("/bin/busybox", dir.join("bin/busybox"));
    for name in ["sh", "cat", "id", "ls", "echo", "touch", "stat", "grep", "hostname", "true", "mount", "env"]
    {
        symlink("busybox", dir.join("bin").join(name)).expect("symlink");
    }
    std::fs::write(dir.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
        .expect("write");
    std::fs::write(dir.join("etc/group"), "root:x:0:\napp:x:1000:\nextra:x:7:app\n").expect("write");
    std::fs::set_permissions(dir.join("tmp"), std::fs::Permissions::from_mode(0o1777)).expect("chmod");
}

/// Whether mounts can be made here; says so where not.
pub fn privileged() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        testkit::skip("mounting needs root");
    }
    root
}
