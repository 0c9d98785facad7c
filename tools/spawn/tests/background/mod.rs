//! What tests of containers in the background share, and those of who attaches.

mod attach;

use std::fs;
use std::process::{Command, Output};

use runtime::convert::Network;
use serde_json::Value;
use store::{Container, CreateDoc};

use crate::world::{World, code, line, text};

/// Runs a script in the background.
pub(crate) fn detached(world: &World, container: &Container, args: &[&str], script: &str) -> Output {
    let args: Vec<&str> = ["-d"].iter().chain(args).copied().chain(["--", "sh", "-c", script]).collect();
    let output = world.spawn(&line(container), &args);
    assert_eq!(code(&output), 0, "{output:?}");
    output
}

/// What the tool says without input; it must succeed.
pub(crate) fn out(world: &World, args: &[&str]) -> String {
    let output = world.spawn(b"", args);
    assert_eq!(code(&output), 0, "{args:?}: {output:?}");
    text(&output.stdout)
}

/// Sends a signal.
pub(crate) fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill").success());
}

/// A container whose own command is this script.
pub(crate) fn scripted(world: &World, name: &str, script: &str) -> Container {
    let doc = CreateDoc { stop_timeout: Some(1), ..CreateDoc::default() };
    let container = world.container(name, Network::Private, doc);
    let path = container.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    config["process"]["args"] = serde_json::json!(["sh", "-c", script]);
    fs::write(&path, config.to_string()).expect("write");
    container
}
