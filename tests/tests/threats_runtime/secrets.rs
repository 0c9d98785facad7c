//! c13: sockets that somebody else can reach (CVE-2020-15257). c14: the caller's environment (CVE-2021-21334,
//! CVE-2021-3602).

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use testkit::Bundle;

use crate::after;

/// Listening sockets of the unix family: flag 10000 is that of one that listens.
fn listening() -> Vec<String> {
    let all = std::fs::read_to_string("/proc/net/unix").expect("procfs");
    let lines = all.lines().skip(1).filter(|line| line.split_whitespace().nth(3) == Some("00010000"));
    lines.filter_map(|line| line.split_whitespace().nth(7)).map(str::to_owned).collect()
}

#[test]
fn c13_the_only_socket_is_one_that_its_owner_alone_reaches_and_it_goes_at_start() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.without_namespace("network");
    bundle.mounts().retain(|mount| mount["destination"] != "/sys");
    bundle.args(&["sleep", "100"]);
    let others = listening();
    bundle.create().ok();
    let mine = || {
        listening().into_iter().filter(|name| !others.contains(name) && name.contains("start.sock")).count()
    };
    let directory = bundle.states().join(bundle.id());
    for dir in [bundle.states(), directory.clone()] {
        let mode = std::fs::metadata(&dir).expect("a directory").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", dir.display());
    }
    assert!(directory.join("start.sock").exists());
    bundle.start().ok();
    assert!(!directory.join("start.sock").exists());
    // No process of the container's holds a socket, abstract or not.
    let sockets = std::fs::read_dir(format!("/proc/{}/fd", bundle.pid())).expect("procfs").flatten();
    let sockets = sockets.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    assert_eq!(sockets.filter(|link| link.to_string_lossy().starts_with("socket:")).count(), 0);
    assert_eq!(mine(), 0);
}

#[test]
fn c13_no_abstract_socket_is_made() {
    let Some(mut bundle) = Bundle::new() else { return };
    if !testkit::probe::all(&[testkit::probe::Need::Program("strace")]) {
        return;
    }
    bundle.args(&["true"]);
    bundle.write();
    let mut command = bundle.world().command("strace");
    command
        .args(["-f", "-qq", "-e", "trace=bind", "-o"])
        .arg(bundle.path("trace"))
        .args(["oci-spawn", "--root"]);
    command.arg(bundle.states()).args(["run", "-b"]).arg(bundle.dir()).arg(bundle.id());
    bundle.finish(command);
    let trace = std::fs::read_to_string(bundle.path("trace")).unwrap_or_default();
    assert!(!trace.contains("sun_path=@"), "{trace}");
}

#[test]
fn c14_no_secret_of_the_caller_is_in_the_container_in_exec_or_in_its_hooks() {
    let Some(mut bundle) = Bundle::new() else { return };
    let (dir, id) = (bundle.dir().display().to_string(), bundle.id().to_owned());
    let secret = "export SECRET=hunter2";
    let kept = bundle.root().join("hook").display().to_string();
    bundle.config["hooks"] = json!({
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", format!("cat /proc/self/environ >{kept}")]}],
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat /proc/self/environ >>/hook"]}],
    });
    // The shell looks at every process for as long as others are made.
    let script = "cat /proc/1/environ; echo; echo ready; while [ ! -e /stop ]; do cat /proc/[0-9]*/environ 2>/dev/null | grep -a hunter2 && echo FOUND >/found; done";
    bundle.sh(script);
    bundle.write();
    let mut command = bundle.world().command("sh");
    let out = bundle.path("out").display().to_string();
    command
        .args(["-c", &format!("{secret}; exec \"$@\" >{out}"), "sh", "oci-spawn", "--root"])
        .arg(bundle.states());
    command.args(["run", "-d", "-b", &dir, &id]);
    bundle.finish(command).ok();
    let said = || std::fs::read_to_string(bundle.path("out")).unwrap_or_default();
    bundle.until("it runs", || said().contains("ready"));
    for _ in 0..crate::rounds(30, 500) {
        let seen = after(&bundle, secret, &["exec", &id, "cat", "/proc/self/environ"]).ok();
        assert!(!seen.text().contains("hunter2"), "{seen}");
    }
    std::fs::write(bundle.root().join("stop"), "").expect("write");
    assert!(!said().contains("hunter2"), "{}", said());
    assert!(!bundle.root().join("found").exists(), "a process of the setup shows it");
    let hooks = std::fs::read(bundle.root().join("hook")).expect("the hooks ran");
    assert!(!String::from_utf8_lossy(&hooks).contains("hunter2"));
}
