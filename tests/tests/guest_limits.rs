//! Limits of a pipeline's containers, and what is done to those that run, where there is nothing but cgroup v2.

/// Runs in the guest, on busybox alone; what it prints is what the test compares.
const WORK: &str = r#"
set -e
export OCIPIPE_STORE=/store
mkdir -p /made/bin /made/etc
cp /bin/busybox /made/bin/; for a in sh cat sleep id true; do ln -s busybox /made/bin/$a; done
oci-commit -q --rootfs /made --cmd sh --tag base:1 | oci-unpack -q >/tmp/line
run() { name=$1; shift; oci-inspect $name | oci-spawn -- "$@"; }
oci-mount --name mem </tmp/line >/dev/null
oci-spawn update -m 16m --memory-swap 16m mem >/dev/null
run mem sh -c 'x=x; while :; do x=$x$x; done' 2>/dev/null || echo memory $?
grep -o '"oomKilled":true' /store/containers/*/state.json
oci-mount --name pids </tmp/line >/dev/null
oci-spawn update --pids-limit 8 pids >/dev/null
run pids sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 3 & done; echo all' 2>&1 | tail -n 1 | grep -o "can't fork"
oci-mount --name cpu </tmp/line >/dev/null
oci-spawn update --cpus 0.2 cpu >/dev/null
run cpu sh -c 'while :; do :; done & sleep 10; kill $!; wait; times' 2>/dev/null | tail -n 1 >/tmp/times
awk '{ split($1, u, /[ms]/); split($2, s, /[ms]/); used = u[1]*60+u[2]+s[1]*60+s[2]; print (used > 1.6 && used < 2.3) ? "quota holds" : "quota: " $0 }' /tmp/times
oci-mount --name web </tmp/line | oci-spawn -d -- sleep 600 >/dev/null
oci-spawn exec web cat /proc/self/cgroup
oci-spawn pause web >/dev/null; cat /sys/fs/cgroup/ocipipe/*/cgroup.freeze
oci-spawn exec web true || echo exec $?
oci-spawn unpause web >/dev/null; oci-spawn exec web id -u
oci-inspect stats --no-stream --format json web | grep -c '"PIDs":"1"'
oci-spawn kill web >/dev/null; oci-spawn wait web
ls /sys/fs/cgroup/ocipipe | grep -c -- - || true
"#;

#[test]
fn limits_bite_on_a_host_of_version_2() {
    let Some(printed) = testkit::guest::printed(&[], WORK) else { return };
    let want = [
        "memory 137",
        "\"oomKilled\":true",
        "can't fork",
        "quota holds",
        "0::/",
        "1",
        "oci-spawn: container web: it is paused",
        "oci-spawn: hint: oci-spawn resume web",
        "exec 9",
        "0",
        "1",
        "137",
        "0",
    ];
    assert_eq!(printed, want);
}
