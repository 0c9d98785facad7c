//! A container of busybox, a directory of the host with something in it, and how to run the tool on both.

#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../../../mount/tests/support/mod.rs"]
pub(crate) mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use store::{Container, CreateDoc, Form};
use support::{Fixture, Image, Ran, busybox};

pub(crate) const CP: &str = env!("CARGO_BIN_EXE_oci-cp");

pub(crate) struct Box {
    pub(crate) fixture: Fixture,
    pub(crate) container: Container,
    pub(crate) host: PathBuf,
}

impl Box {
    /// A container of busybox and a directory of the host with something in it.
    pub(crate) fn new(doc: CreateDoc) -> Self {
        Self::of(doc, &busybox)
    }

    pub(crate) fn of(doc: CreateDoc, fill: &dyn Fn(&Path)) -> Self {
        let fixture = Fixture::new();
        let rootfs: Value =
            serde_json::from_str(&fixture.image(&Image { config: json!({}), fill })).expect("JSON");
        let layer = rootfs["chainID"].as_str().and_then(|id| id.parse().ok()).expect("one layer's diffID");
        let tree = fixture.store.layer(Form::Identity, &layer).expect("layer").expect("unpacked");
        let draft = fixture.store.draft_container(&CreateDoc { name: "box".into(), ..doc }).expect("draft");
        let plan = overlay::Plan::of(&fixture.store, [tree.path()]).expect("plan");
        draft.write("plan.json", &plan.to_bytes()).expect("plan.json");
        let container = draft.publish().expect("publish");
        let host = fixture.dir.path().join("host");
        std::fs::create_dir_all(host.join("src/sub")).expect("mkdir");
        std::fs::write(host.join("src/f"), "f").expect("write");
        std::fs::write(host.join("src/sub/g"), "g").expect("write");
        std::fs::write(host.join("file"), "file").expect("write");
        Self { fixture, container, host }
    }

    pub(crate) fn line(&self) -> String {
        descriptor::Line::Container(self.container.line().expect("line")).to_json().to_string()
    }

    /// Runs oci-cp; `@` in an argument stands for the host's directory.
    pub(crate) fn cp(&self, args: &[&str]) -> Ran {
        let host = self.host.to_str().expect("UTF-8");
        let args: Vec<String> = args.iter().map(|arg| arg.replace('@', host)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.fixture.run(CP, &args, &self.line())
    }

    /// Runs oci-cp with these bytes on stdin; what it writes may be an archive.
    pub(crate) fn pipe(&self, args: &[&str], input: &[u8]) -> std::process::Output {
        let host = self.host.to_str().expect("UTF-8");
        let mut child = Command::new(CP)
            .arg("--store")
            .arg(self.fixture.store.path())
            .args(args.iter().map(|arg| arg.replace('@', host)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        // A tool that refuses its command line does not read.
        let _ = child.stdin.take().expect("stdin").write_all(input);
        child.wait_with_output().expect("wait")
    }

    /// A path of what the container has written.
    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.container.path().join("upper").join(path)
    }

    pub(crate) fn upper_text(&self, path: &str) -> String {
        std::fs::read_to_string(self.upper(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }
}
