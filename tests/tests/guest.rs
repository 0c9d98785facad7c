//! Another kernel than this one: Debian's, in qemu, which is older and has nothing but cgroup v2.

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
    let Some(printed) = testkit::guest::printed(&[], WORK) else { return };
    assert_eq!(printed, ["in", "out", "gone", "state", "status 7", "0"]);
}
