//! systemd as the maker of control groups: this host's systemd boots as the init of a guest with cgroup v2 alone.

use testkit::needs;

/// Runs in the guest as a service; what it prints is what the test compares.
const WORK: &str = r#"
cg=/sys/fs/cgroup
mkdir -p /b/rootfs/bin /b/rootfs/proc /b/rootfs/dev /b/rootfs/sys
cp /bin/busybox /b/rootfs/bin/; ln -s busybox /b/rootfs/bin/sh; ln -s busybox /b/rootfs/bin/sleep
config() { # cgroupsPath, resources
cat >/b/config.json <<END
{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["sleep", "1000"], "env": ["PATH=/bin"]},
 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
 "linux": {"cgroupsPath": "$1", "resources": $2, "namespaces": [{"type": "mount"}, {"type": "pid"}]}}
END
}
run="oci-spawn --systemd-cgroup"
# Whether the command was done before the 30 s that a lost answer, or an init that ignores SIGTERM, costs.
in_time() { begun=$(cut -d. -f1 /proc/uptime); "$@"; [ $(($(cut -d. -f1 /proc/uptime) - begun)) -lt 25 ] && echo in time; }

config test-a.slice:x:y '{"memory": {"limit": 67108864, "swap": 67108864}, "pids": {"limit": 20}, "cpu": {"shares": 1024, "quota": 50000, "period": 100000}}'
$run create -b /b --pid-file /pid c1 && echo created
at=$cg/test.slice/test-a.slice/x-y.scope
cat $at/memory.max $at/memory.swap.max $at/pids.max $at/cpu.max
[ "$(cat $at/cgroup.procs)" = "$(cat /pid)" ] && echo inside
export SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 TERM=dumb
systemctl show -p Slice -p MemoryMax -p TasksMax -p Delegate x-y.scope
$run start c1 && echo started
$run create -b /b c0 2>&1 | grep -c 'is not empty'
$run state c1 | grep -o running
systemctl daemon-reload; cat $at/memory.max $at/pids.max
$run kill c1 KILL; sleep 1
in_time $run delete c1
[ -e $at ] || echo gone
systemctl is-failed x-y.scope

for n in 1 2 3 4; do $run create -b /b both$n >/dev/null 2>/both$n && echo >/made$n & done; wait $(jobs -p)
ls /made? | wc -l
cat $(ls $at/cgroup.procs) | wc -l
for n in 1 2 3 4; do [ ! -e /made$n ] || $run state both$n | grep -c '"status": *"created"'; $run delete --force both$n 2>/dev/null; done
[ -e $at ] || echo gone

config '' '{}'
$run create -b /b c2 && ls -d $cg/system.slice/oci-spawn-c2.scope
$run delete --force c2; [ -e $cg/system.slice/oci-spawn-c2.scope ] || echo gone

config a.slice:x:z '{"hugepageLimits": [{"pageSize": "3KB", "limit": 1}]}'
in_time $run create -b /b c3 2>&1 | grep -o -e hugepageLimits -e 'in time' | uniq
[ -e $cg/a.slice/x-z.scope ] || echo nothing left
config /a/b '{}'
$run create -b /b c4 2>&1 | grep -c 'slice:prefix:name'
ls /run/oci-spawn
"#;

const PRINTED: &[&str] = &[
    "created",
    "67108864",
    "0",
    "20",
    "50000 100000",
    "inside",
    "Slice=test-a.slice",
    "Delegate=yes",
    "MemoryMax=67108864",
    "TasksMax=20",
    "started",
    "1",
    "running",
    "67108864",
    "20",
    "in time",
    "gone",
    "inactive",
    "1",
    "1",
    "1",
    "gone",
    "/sys/fs/cgroup/system.slice/oci-spawn-c2.scope",
    "gone",
    "hugepageLimits",
    "in time",
    "nothing left",
    "1",
];

#[test]
fn systemd_makes_keeps_and_removes_the_groups() {
    needs!(Program("systemctl"));
    let Some(mut printed) = testkit::guest::printed(&["--systemd"], WORK) else { return };
    assert_eq!(printed.len(), PRINTED.len(), "{printed:?}");
    // systemctl show has an order of its own.
    let mut wanted = PRINTED.to_vec();
    printed[6..10].sort_unstable();
    wanted[6..10].sort_unstable();
    assert_eq!(printed, wanted);
}
