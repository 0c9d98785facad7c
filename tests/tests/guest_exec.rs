//! Further processes of a container, and changed limits, where there is nothing but cgroup v2: in a guest.

/// Runs in the guest; what it prints is what the test compares.
const WORK: &str = r#"
mkdir -p /made/rootfs/bin /made/rootfs/proc /made/rootfs/sys /made/rootfs/dev
cp /bin/busybox /made/rootfs/bin/
for name in sh sleep cat true; do ln -s busybox /made/rootfs/bin/$name; done
cd /made
oci-spawn spec
sed -i 's/"terminal": true/"terminal": false/; s/^\t\t\t"sh"$/"sleep", "1000"/' config.json
run() { oci-spawn --root /run/made "$@"; }
run run -d a </dev/null >/dev/null 2>&1
echo run $?
group=/sys/fs/cgroup/a
run exec a cat /proc/self/cgroup
run exec a sh -c 'exit 5'; echo status $?
run update --memory 50M --pids-limit 20 --cpu-quota 20000 a
run update --cpu-period 50000 a
cat $group/memory.max $group/pids.max $group/cpu.max
run pause a
run exec a true 2>/dev/null; echo paused $?
(sleep 1; run resume a) &
run exec --ignore-paused a sh -c 'echo resumed'
mkdir $group/below $group/inner
run exec --cgroup below a sh -c 'read group </proc/self/cgroup; echo given $group'
# The container gives its controllers away: only groups below its own may hold processes then.
for process in $(cat $group/cgroup.procs); do echo $process >$group/inner/cgroup.procs; done
echo +pids >$group/cgroup.subtree_control
run exec a sh -c 'echo beside'; cat $group/cgroup.procs
run exec --cgroup nonsense a true 2>/dev/null; echo nowhere $?
run delete -f a; echo deleted $?
[ -e $group ] || echo gone
"#;

#[test]
fn processes_are_born_in_their_group_on_version_2() {
    let Some(printed) = testkit::guest::printed(&[], WORK) else { return };
    let want = [
        "run 0",
        // The root of its cgroup namespace is the group that it was born into.
        "0::/",
        "status 5",
        "52428800",
        "20",
        "20000 50000",
        "paused 255",
        "resumed",
        "given 0::/below",
        "beside",
        "nowhere 255",
        "deleted 0",
        "gone",
    ];
    assert_eq!(printed, want);
}
