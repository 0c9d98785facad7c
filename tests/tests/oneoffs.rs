//! A one-off goes with whoever holds it, also when that is killed.

use ocipipe_tests::Hub;
use testkit::needs;

/// Who holds the container when the signal comes, the shell that gets it there, and the signal.
const HOLDERS: [(&str, &str, &str); 5] = [
    ("oci-mount whose line nobody took", MOUNT, "TERM"),
    ("oci-mount whose line nobody took", MOUNT, "KILL"),
    ("oci-cp whose line nobody took", CP, "TERM"),
    ("oci-cp whose line nobody took", CP, "KILL"),
    ("oci-spawn whose container runs", SPAWN, "KILL"),
];
const MOUNT: &str = "oci-mount --rm <rootfs >pipe & holder=$!; exec 3<pipe";
const CP: &str = "oci-mount --rm <rootfs >line; oci-cp rootfs :/file <line >pipe & holder=$!; exec 3<pipe";
const SPAWN: &str = "oci-mount --rm -- sleep 1000 <rootfs >line; oci-spawn <line & holder=$!";

/// Waits until the container is held, kills the holder, and waits until the container is gone.
const KILLED: &str = "
    for i in $(seq 100); do [ -n \"$(oci-inspect containers -a)\" ] && break; sleep 0.05; done
    sleep 0.5
    kill -$SIGNAL $holder
    wait $holder 2>/dev/null
    for i in $(seq 100); do [ -z \"$(oci-inspect containers -a)\" ] && break; sleep 0.05; done
    oci-inspect containers -a";

#[test]
fn a_killed_holder_leaves_no_one_off() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let mut hub = Hub::busybox();
    std::fs::write(hub.world.path("rootfs"), hub.rootfs().stdout).expect("a file");
    for (who, holds, signal) in HOLDERS {
        hub.world.set("SIGNAL", signal);
        let left = hub.world.bash(&format!("rm -f pipe; mkfifo pipe; {holds}; {KILLED}"));
        assert_eq!(left.text(), "", "{who}, SIG{signal}");
        hub.world.assert_nothing_left();
    }
}
