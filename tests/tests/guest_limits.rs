//! Limits of a pipeline's containers, and what is done to those that run, where there is nothing but cgroup v2.

/// Runs in the guest, on busybox alone; what it prints is what the test compares.
const WORK: &str = r#"
set -e
export OCIPIPE_STORE=/store
mkdir -p /made/bin /made/etc
cp /bin/busybox /made/bin/; for a in sh cat sleep id true dd mknod; do ln -s busybox /made/bin/$a; done
oci-commit -q --rootfs /made --cmd sh --tag base:1 | oci-unpack -q >/tmp/line
make() { oci-mount -q --name "$@" </tmp/line >/dev/null; }
run() { name=$1; shift; oci-inspect $name | oci-spawn "$@"; }

# One process takes it all: with two the kernel may end either.
make mem -m 16m --memory-swap 16m -- dd if=/dev/zero of=/dev/null bs=64M count=1
run mem 2>/dev/null || echo memory $?
oci-inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' mem
oci-inspect events --filter event=oom | grep -c ' container oom '

make pids --pids-limit 8 -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 3 & done; echo all'
run pids 2>&1 | tail -n 1 | grep -o "can't fork"

# By the kernel's own counts: an emulated machine's clock says little.
make cpu --cpus 0.2 -- sh -c 'while :; do :; done & while :; do :; done'
run cpu -d >/dev/null
group=/sys/fs/cgroup/ocipipe/$(oci-inspect --field id cpu)-$(oci-inspect --field instance cpu)
periods() { sed -n 's/^nr_periods //p' $group/cpu.stat; }
until [ $(periods) -ge 2 ]; do sleep 0.1; done
cat $group/cpu.stat >/tmp/begin
enough=$(($(periods) + 30))
until [ $(periods) -ge $enough ]; do sleep 0.1; done
cat $group/cpu.stat >/tmp/end
awk 'NR == FNR { was[$1] = $2; next } { is[$1] = $2 - was[$1] } END {
    each = is["usage_usec"] / is["nr_periods"]; least = 18000 * is["nr_throttled"] / is["nr_periods"]
    print (each < 22000 && each > least) ? "quota holds" : "quota: " each " in each of " is["nr_periods"] ", " is["nr_throttled"] " at the quota" }' /tmp/begin /tmp/end
oci-mount --remove --force cpu

# Rules for devices: this one is in no container of itself. A node that the container makes works in /dev alone.
opened='(: <$x) 2>/dev/null && echo -n read; (: >>$x) 2>/dev/null && echo -n written; echo .'
for rule in '' 'c 1:11 r' 'c 1:11 w' 'c 1:* rw' 'a *:* rwm'; do
    oci-mount -q --rm --cap-add SYSLOG ${rule:+--device-cgroup-rule "$rule"} </tmp/line | oci-spawn -e x=/dev/x -- sh -c "mknod /dev/x c 1 11; $opened"
done
oci-mount -q --rm --cap-add SYSLOG --device /dev/kmsg:/x:r </tmp/line | oci-spawn -e x=/x -- sh -c "$opened"

# What this host does not have: 7, and its name.
refused() { make no $1 -- true; oci-spawn start no 2>&1 >/dev/null | grep -o -m 1 -e "$2"; oci-spawn start no >/dev/null 2>&1 || echo $?; oci-mount --remove no; }
refused '--cpu-rt-runtime 1000' cpu.realtimeRuntime
refused '--memory-swappiness 10' memory.swappiness
refused '--cpuset-cpus 4000' cpu.cpus

make web
run web -d -- sleep 600 >/dev/null
oci-spawn exec web cat /proc/self/cgroup
oci-spawn pause web >/dev/null; cat /sys/fs/cgroup/ocipipe/*/cgroup.freeze
oci-spawn exec web true || echo exec $?
oci-spawn unpause web >/dev/null; oci-spawn exec web id -u
oci-inspect stats --no-stream --format json web | grep -c '"PIDs":"1"'
oci-spawn kill web >/dev/null; oci-spawn wait web
ls /sys/fs/cgroup/ocipipe | grep -c -- - || true
"#;

const PRINTED: &[&str] = &[
    "memory 137",
    "true 137",
    "1",
    "can't fork",
    "quota holds",
    ".",
    "read.",
    "written.",
    "readwritten.",
    "readwritten.",
    "read.",
    "cpu.realtimeRuntime",
    "7",
    "memory.swappiness",
    "7",
    "cpu.cpus",
    "7",
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

#[test]
fn limits_bite_on_a_host_of_version_2() {
    let Some(printed) = testkit::guest::printed(&[], WORK) else { return };
    assert_eq!(printed, PRINTED);
}
