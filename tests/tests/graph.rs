//! The crate graph is the one that ARCHITECTURE.md draws.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

const CRATES: [&str; 11] = [
    "cgroup",
    "cli",
    "descriptor",
    "layer",
    "overlay",
    "registry",
    "runtime",
    "seccomp",
    "store",
    "sys",
    "testkit",
];

/// What a crate of ours may depend on among ours.
fn allowed(name: &str) -> &'static [&'static str] {
    match name {
        "descriptor" | "sys" | "testkit" => &[],
        "cli" => &["descriptor"],
        "cgroup" | "seccomp" | "store" => &["descriptor", "sys"],
        "registry" => &["cli", "descriptor", "store", "sys"],
        "overlay" => &["cgroup", "cli", "descriptor", "store", "sys"],
        "layer" => &["cli", "descriptor", "overlay", "store", "sys"],
        "runtime" => &["cgroup", "cli", "descriptor", "overlay", "seccomp", "store", "sys"],
        // a tool: any crate but what only tests need, never a tool
        _ => &[
            "cgroup",
            "cli",
            "descriptor",
            "layer",
            "overlay",
            "registry",
            "runtime",
            "seccomp",
            "store",
            "sys",
        ],
    }
}

/// (package, dependency, kind) for every edge between packages of the workspace.
fn edges() -> Vec<(String, String, String)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(testkit::world::workspace())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(|package| text(&package["name"])).collect();
    let mut edges = Vec::new();
    for package in packages {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if ours.contains(&text(&dependency["name"])) {
                edges.push((text(&package["name"]), text(&dependency["name"]), text(&dependency["kind"])));
            }
        }
    }
    edges
}

#[test]
fn no_crate_depends_on_one_that_the_graph_does_not_give_it() {
    let edges = edges();
    assert!(edges.len() > 20, "the workspace was read: {edges:?}");
    for (package, dependency, kind) in edges {
        let for_tests = kind == "dev" && dependency == "testkit";
        let fine =
            for_tests || package == "ocipipe-tests" || allowed(&package).contains(&dependency.as_str());
        assert!(fine, "{package} depends on {dependency}, which the graph does not have");
    }
}

#[test]
fn the_graph_names_every_crate() {
    let found = std::fs::read_dir(testkit::world::workspace().join("crates")).expect("crates/");
    let mut names: Vec<String> =
        found.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, CRATES);
}

#[test]
fn only_sys_may_be_unsafe() {
    let crates = CRATES.iter().map(|name| format!("crates/{name}"));
    let tools = std::fs::read_dir(testkit::world::workspace().join("tools")).expect("tools/").flatten();
    let tools = tools.map(|entry| format!("tools/{}", entry.file_name().to_string_lossy()));
    for dir in crates.filter(|dir| dir != "crates/sys").chain(tools) {
        let manifest = testkit::world::workspace().join(&dir).join("Cargo.toml");
        let text = std::fs::read_to_string(manifest).expect("a manifest");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{dir} inherits the lints, which forbid unsafe code"
        );
    }
}
