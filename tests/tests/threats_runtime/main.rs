//! What has gone wrong in runtimes, by class: each attack against this one, and, where a vulnerable one is at hand, against
//! that as well (the positive control: an attack is worth a test only if it works against something).
//!
//! The classes are numbered c01 to c19, from descriptors of the host (CVE-2024-21626) to what is deleted (CVE-2022-21658).
//! Those of filters (c10) are in crates/seccomp/tests and crates/runtime/tests; those of the pipeline's face, which has the
//! same setup, in crates/runtime/tests/containers.rs.

mod deleting;
mod descriptors;
mod devices;
mod input;
mod mounts;
mod rights;
mod secrets;

use testkit::{Bundle, Canary, Outcome};

/// A bundle and a canary beside it.
fn trap() -> Option<(Bundle, Canary)> {
    let bundle = Bundle::new()?;
    let canary = Canary::plant(&bundle.path("canary"));
    Some((bundle, canary))
}

/// Runs the bundle by another runtime that is known to be vulnerable, where it is here in that version.
///
/// `before` is a script that runs before it, in a mount namespace that goes with it.
fn control(bundle: &Bundle, program: &str, version: &str, before: &str) -> Option<Outcome> {
    let found = std::process::Command::new(program).arg("--version").output().ok();
    if !found.is_some_and(|output| String::from_utf8_lossy(&output.stdout).contains(version)) {
        testkit::skip(&format!("no positive control: {program} {version} is not here"));
        return None;
    }
    // Debian's crun refuses a hybrid cgroup host, so it is shown another one.
    let cgroups = if program == "crun" { "mount -t cgroup2 none /sys/fs/cgroup; " } else { "" };
    // Debian's crun knows no newer version of the specification.
    let mut config = bundle.config.clone();
    config["ociVersion"] = "1.0.2".into();
    std::fs::write(bundle.path("config.json"), config.to_string()).expect("config.json");
    let script = format!("{cgroups}{before}; exec {program} --root \"$2\" run -b \"$1\" \"$3\"");
    let mut command = bundle.world().command("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(bundle.dir()).arg(bundle.path("control"));
    command.arg(format!("control-{}", bundle.id()));
    Some(bundle.finish(command))
}

/// How often a race is run: so many times, and more in the full test.
fn rounds(usual: usize, full: usize) -> usize {
    if std::env::var_os("OCIPIPE_FULL").is_some() { full } else { usual }
}

/// Runs a verb of the runtime from a shell that did something before.
fn after(bundle: &Bundle, before: &str, words: &[&str]) -> Outcome {
    let mut command = bundle.world().command("sh");
    command.args(["-c", &format!("{before}; exec \"$@\""), "sh", "oci-spawn", "--root"]).arg(bundle.states());
    command.args(words);
    bundle.finish(command)
}
