//! Control groups on the kernel that runs the tests, of whichever version it has. As root.
//!
//! On a host of version 1 `version2` runs this same program in a guest of version 2.
#![allow(missing_docs, clippy::disallowed_methods)]

mod groups;
mod limits;
mod processes;
mod rootless;
mod version2;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cgroup::{Driver, Error, Group, Inside, Notice, Request, Version};
use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;
use testkit::needs;

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;

/// A group of a test's own, removed with all its processes at the end.
struct Made {
    group: Group,
    name: PathBuf,
}

fn plan(path: &Path) -> Group {
    let request = Request { id: "unused", path: Some(path), driver: Driver::Fs, rootless: false };
    Group::plan(&request).expect("a plan")
}

fn name() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("/ocipipe-test-{}-{number}", std::process::id()))
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).expect("resources")
}

fn made(json: &str) -> Made {
    let name = name();
    let mut made = Made { group: plan(&name), name };
    made.group.make(&resources(json)).expect("a group");
    made
}

fn made_at(name: PathBuf) -> Made {
    let mut made = Made { group: plan(&name), name };
    made.group.make(&LinuxResources::default()).expect("a group");
    made
}

impl Made {
    fn update(&self, json: &str) -> cgroup::Result<()> {
        self.group.update(&resources(json))
    }

    /// A file's contents by its name on version 1 or on version 2.
    fn read(&self, v1: &str, v2: &str) -> String {
        let (controller, file) = match self.group.version() {
            Version::Legacy => (v1.split('.').next().unwrap_or_default(), v1),
            Version::Unified => ("", v2),
        };
        let fits = |place: &&cgroup::Place| {
            controller.is_empty() || place.controllers.iter().any(|one| one == controller)
        };
        let place = self.group.places().iter().find(fits).expect("a place");
        std::fs::read_to_string(place.directory().join(file)).expect(file).trim().to_string()
    }

    fn v1(&self) -> bool {
        self.group.version() == Version::Legacy
    }

    /// Runs a shell script inside and returns its status.
    fn run(&self, script: &str) -> ExitStatus {
        let mut held = self.start(script);
        held.go();
        held.0.wait().expect("wait")
    }

    fn start(&self, script: &str) -> Held {
        let child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let held = Held(child);
        self.group.adopt(held.pid()).expect("adopted");
        held
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        drop(self.group.kill(9));
        self.group.remove().expect("removed");
        for place in self.group.places() {
            assert!(!place.directory().exists(), "{:?} is left", place.directory());
        }
    }
}

/// A process in a group that waits to be told to go on.
struct Held(Child);

impl Held {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn go(&mut self) {
        self.0.stdin.take().expect("a pipe").write_all(b"\n").expect("write");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
