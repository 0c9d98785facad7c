//! A guest of another kernel with cgroup v2 alone (`scripts/guest`): what a script prints there.

use std::process::Command;

use crate::world;

/// Runs a script in a guest, with `options` of `scripts/guest` before it; the lines it prints, without the kernel's own and
/// empty ones. `None` where the machine cannot boot one: the test is skipped then.
///
/// # Panics
/// Where the script or the guest fails, with all that was printed.
pub fn printed(options: &[&str], script: &str) -> Option<Vec<String>> {
    use crate::probe::Need::{Package, Program, Root};
    let needs = [Root, Program("qemu-system-x86_64"), Program("mke2fs"), Program("busybox")];
    if !crate::probe::all(&needs) || !crate::probe::all(&[Package("linux-image-cloud-amd64")]) {
        return None;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("work.sh");
    std::fs::write(&file, script).expect("a file");
    let mut guest = Command::new(world::workspace().join("scripts/guest"));
    let run =
        guest.args(options).arg(&file).env("OCIPIPE_BIN", world::tools()).output().expect("scripts/guest");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    eprintln!("{out}\n{err}");
    let own = |line: &&str| !line.is_empty() && !line.starts_with('[');
    Some(out.lines().filter(own).map(str::to_owned).collect())
}
