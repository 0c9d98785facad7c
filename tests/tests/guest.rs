//! Another kernel than this one: Debian's, in qemu, which is older and has nothing but cgroup v2.

use std::process::Command;

use testkit::needs;

/// Runs in the guest, on busybox alone; what it prints is what the test compares.
const WORK: &str = r#"
set -e
export OCIPIPE_STORE=/store
mkdir -p /made/bin /made/etc
cp /bin/busybox /made/bin/; ln -s busybox /made/bin/sh; ln -s busybox /made/bin/cat; ln -s busybox /made/bin/rm
oci-commit -q --rootfs /made --cmd sh --tag base:1 | oci-unpack -q >/tmp/line
echo in >/tmp/file
oci-mount --rm </tmp/line | oci-cp /tmp/file :/file | oci-spawn --pass -- sh -ec 'echo out >/new; rm /bin/rm' \
    | oci-commit -q --layer --tag next:1 | oci-unpack -q | oci-mount --rm | oci-spawn -- sh -c 'cat /file /new; [ -e /bin/rm ] || echo gone'
oci-mount --name kept </tmp/line | oci-spawn -- sh -c 'echo state >/state'
oci-inspect kept | oci-spawn -- cat /state
oci-inspect kept | oci-spawn -- sh -c 'exit 7' || echo status $?
oci-mount --remove kept
oci-inspect --check -q
grep -c overlay /proc/self/mountinfo || true
"#;

#[test]
fn the_pipeline_works_on_debians_kernel() {
    needs!(Root, Program("qemu-system-x86_64"), Program("mke2fs"), Program("busybox"));
    needs!(Package("linux-image-cloud-amd64"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = dir.path().join("work.sh");
    std::fs::write(&script, WORK).expect("a file");
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/guest");
    let bin = testkit::world::tools();
    let run = Command::new(guest).arg(&script).env("OCIPIPE_BIN", bin).output().expect("scripts/guest");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    let printed: Vec<&str> = out.lines().filter(|line| !line.is_empty() && !line.starts_with('[')).collect();
    assert_eq!(printed, ["in", "out", "gone", "state", "status 7", "0"], "{out}\n{err}");
}
