//! The positive control: archives of the tables that are known to lead other programs outside do so here, seen by the
//! same canary. Where one no longer does, the case proves less than it says.

use std::path::Path;
use std::process::Command;

use testkit::tarsmith::{Case, tables};
use testkit::{Canary, skip};

/// Python's tarfile as it is by default before 3.14.
const PYTHON: &str = "import sys, tarfile\n\
    old = {'filter': 'fully_trusted'} if hasattr(tarfile, 'fully_trusted_filter') else {}\n\
    tarfile.open(sys.argv[1]).extractall(sys.argv[2], **old)";

/// The command of a peer that unpacks `layer.tar` to `out`.
fn command(peer: &str, dir: &Path) -> Command {
    let words: &[&str] = match peer {
        "python3" => &["/usr/bin/python3", "-c", PYTHON, "layer.tar", "out"],
        "tar" => &["tar", "-xpf", "layer.tar", "-C", "out"],
        "busybox" => &["busybox", "tar", "-xpf", "layer.tar", "-C", "out"],
        other => panic!("unknown peer {other}"),
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir);
    command
}

/// What a peer changed outside with the case's layers.
fn led_outside(peer: &str, case: &Case) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let canary = Canary::plant(&dir.path().join("canary"));
    let prey = canary.path().to_str().expect("UTF-8").to_owned();
    std::fs::create_dir(dir.path().join("out")).expect("mkdir");
    let layers = case.layers(&[("canary", &prey)]).expect("a case's script");
    for layer in &layers {
        std::fs::write(dir.path().join("layer.tar"), layer).expect("a layer can be written");
        // Many say that something is wrong, having done it.
        let _ = command(peer, dir.path()).output().expect("the peer runs");
    }
    canary.changes()
}

fn is_there(peer: &str) -> bool {
    let program = match peer {
        "python3" => return Path::new("/usr/bin/python3").exists(),
        other => other,
    };
    testkit::probe::program(program).is_some()
}

#[test]
fn what_leads_others_outside_does_so_before_the_same_canary() {
    let tables = tables(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile"));
    let mut shown = 0;
    let mut proves_nothing = Vec::new();
    for (table, cases) in &tables {
        for (case, peer) in cases.iter().flat_map(|case| case.peers.iter().map(move |peer| (case, peer))) {
            if !is_there(peer) {
                skip(&format!("{table}, {}: needs {peer}", case.title));
            } else if led_outside(peer, case).is_empty() {
                proves_nothing.push(format!("{table}: {}: {peer}", case.title));
            } else {
                shown += 1;
            }
        }
    }
    assert!(proves_nothing.is_empty(), "{}", proves_nothing.join("\n"));
    assert!(shown > 0 || !is_there("python3"), "no case says whom it leads outside");
}
