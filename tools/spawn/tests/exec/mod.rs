//! What tests of `exec` share: a container that sleeps, processes in it, and what the caller has open.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bundle::{Bundle, said, text};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A bundle whose container sleeps and is running.
pub(crate) fn sleeper() -> Option<Bundle> {
    let bundle = Bundle::new("exec sleep 1000")?;
    bundle.start();
    Some(bundle)
}

/// `exec OPTIONS ID WORDS`.
pub(crate) fn exec(bundle: &Bundle, options: &[&str], words: &[&str]) -> Output {
    bundle.verb(&exec_words(bundle, options, words))
}

pub(crate) fn exec_words<'a>(bundle: &'a Bundle, options: &[&'a str], words: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec!["exec"];
    line.extend(options);
    line.push(&bundle.id);
    line.extend(words);
    line
}

/// What an exec that succeeds prints.
pub(crate) fn prints(bundle: &Bundle, options: &[&str], words: &[&str]) -> String {
    let output = exec(bundle, options, words);
    assert!(output.status.success() && output.stderr.is_empty(), "{options:?} {words:?}: {}", said(&output));
    text(&output.stdout)
}

/// `exec --process`: the container's process with these members in place of its own.
pub(crate) fn with_process(bundle: &Bundle, members: Value) -> Output {
    let mut process = bundle.config["process"].clone();
    for (name, value) in members.as_object().expect("members") {
        process[name] = value.clone();
    }
    let path = bundle.at("process.json");
    fs::write(&path, process.to_string()).expect("process.json");
    bundle.verb(&["exec", "--process", &path.display().to_string(), &bundle.id])
}

pub(crate) fn fields(status: &str, prefix: &str) -> Vec<String> {
    status.lines().filter(|line| line.starts_with(prefix)).map(str::to_string).collect()
}

/// Runs the tool with the host's /etc open as descriptor 9, and with 3 to 8, too.
pub(crate) fn with_open_host(bundle: &Bundle, words: &[&str]) -> Output {
    let tool = bundle.command(words);
    let mut shell = Command::new("/bin/bash");
    let opened = "exec 3</etc 4</etc 5</etc 6</etc 7</etc 8</etc 9</etc 10<&-; exec \"$@\"";
    shell.args(["-c", opened, "bash"]).arg(tool.get_program()).args(tool.get_args());
    shell.current_dir(bundle.path()).stdin(Stdio::null());
    bundle.output(shell)
}

/// The pid of the container's second process.
pub(crate) fn further(bundle: &Bundle) -> Option<u64> {
    let first = u64::from(bundle.pid());
    let pids: Vec<u64> =
        serde_json::from_str(&text(&bundle.verb(&["ps", "-f", "json", &bundle.id]).stdout)).ok()?;
    pids.into_iter().find(|&pid| pid != first)
}
