#!/usr/bin/env bash
# What is done with containerd through ctr: RUNTIME is the shim's runc. RUNTIME and LAYOUT as in podman.sh; run in an empty directory.
# shellcheck disable=SC2086,SC2016 # options are words, and the container's shell expands
exec 2>log
here=$PWD
parent=/ocipipe-$(basename "$here")
mkdir -p tmp volume
export TMPDIR=$here/tmp
cat >config.toml <<END
version = 2
root = "$here/root"
state = "$here/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "$here/sock"
[ttrpc]
address = "$here/ttrpc"
END
containerd -c config.toml >containerd.log 2>&1 &
daemon=$!
# a namespace of containerd is also the parent of its containers' cgroups
ctr() { command ctr -a "$here/sock" -n "${parent#/}" "$@"; }
say() {
    local words=$*
    words=${words//"--runc-binary $RUNTIME --runc-root $here/runc "/}
    echo "\$ ${words//$here/HERE}"
    "$@" || echo "= $?"
}
for _ in $(seq 200); do ctr version >/dev/null && break; sleep 0.05; done
tar -C "$LAYOUT" -cf image.tar .
ctr image import --base-name bb image.tar >&2 || exit 1
bb=bb:1
run() { say ctr run --runc-binary "$RUNTIME" --runc-root "$here/runc" "$@"; }
once() { run --rm "$@"; }
until_state() { for _ in $(seq 200); do ctr task ls | grep -q "^$1 .*$2" && return; sleep 0.05; done; echo "$1 is not $2"; }

echo '== run'
once $bb a echo hello
once $bb a sh -c 'echo out; echo err >&2; exit 3' 2>error
cat error
once --env A=b --cwd /home/user $bb a sh -c 'exec 2>&1; echo $A; pwd; id; umask; mount -t tmpfs x /tmp; ls -ld /tmp'
once $bb a sh -c 'echo $0; grep -E "Cap|Seccomp:|NoNew|Groups" /proc/self/status; ls /dev; cut -d" " -f5,6 /proc/self/mountinfo | sort | uniq; ulimit -n'
once --seccomp $bb a grep Seccomp: /proc/self/status
once --privileged $bb a grep -E 'Cap|Seccomp:' /proc/self/status
once --read-only $bb a touch /x 2>&1
once --mount "type=bind,src=$here/volume,dst=/v,options=rbind:rw" $bb a sh -c 'echo kept >/v/file'
say cat volume/file
once --net-host $bb a sh -c 'ls /sys/class/net | grep -c lo'
once --cgroup "$parent/where" $bb a sh -c 'sed "s/.*://" /proc/self/cgroup | uniq'
once --device /dev/null --rootfs-propagation shared $bb a true
refused() {
    ctr run --rm --runc-binary "$RUNTIME" --runc-root "$here/runc" "$@" 2>error >&2
    echo "refused: $* = $?"
    cat error >>log
    grep -oE 'executable file not found in \$PATH|no such file or directory|permission denied' error
    ctr container ls -q
}
refused $bb a no-such-program
refused $bb a /no/such/program
refused $bb a /etc/passwd
refused --mount type=bind,src=/no/such/source,dst=/v,options=rbind $bb a true

echo '== life'
run -d --memory-limit 33554432 --cpus 0.5 --cgroup "$parent/life" --pid-file "$here/pid" $bb life sh -c 'trap "exit 7" TERM; while :; do sleep 0.1; done'
say ctr task ls | sed -E 's/ +/ /g; s/[0-9]+/PID/'
[ "$(ctr task ls | awk '/^life/ {print $2}')" = "$(cat pid)" ] && echo the same pid
cat /sys/fs/cgroup/memory$parent/life/memory.limit_in_bytes /sys/fs/cgroup/cpu$parent/life/cpu.{shares,cfs_quota_us}
say ctr task exec --exec-id e1 life echo from exec
say ctr task exec --exec-id e2 --user 1000 --cwd /tmp life sh -c 'id; pwd; sed "s/.*://" /proc/self/cgroup | uniq'
say ctr task exec --exec-id e3 life sh -c 'exit 9'
say ctr task exec --exec-id e4 life no-such-program 2>&1 | grep -oE '^\$.*|^=.*|executable file not found in \$PATH'
say ctr task exec --exec-id e5 --detach life sh -c 'echo $$ >/dev/shm/pid; exec sleep 1000'
for _ in $(seq 100); do ctr task exec --exec-id e6 life test -s /dev/shm/pid && break; sleep 0.05; done
say ctr task ps life | sed -E 's/[0-9]+/PID/; s/exec_id:.*(e5).*/\1/' | grep -c PID
say ctr task kill --exec-id e5 -s KILL life
say ctr task pause life
ctr task ls | sed -E 's/ +/ /g; s/[0-9]+/PID/'
say ctr task resume life
ctr task ls | sed -E 's/ +/ /g; s/[0-9]+/PID/'
say ctr task metrics --format json life | grep -oE '"(usage_usec|limit|current|pids)"' | sort -u >&2
say ctr container info life | grep -c '"ociVersion"'
say ctr task delete life 2>&1 | grep -oE '^\$.*|^=.*|must be stopped.*'
say ctr task kill -s TERM life
until_state life STOPPED
say ctr task kill -s TERM life 2>&1 | grep -oE '^\$.*|^=.*|already finished|not found'
say ctr task delete life
say ctr container delete life
run -d $bb forced sleep 1000
say ctr task delete -f forced
say ctr container delete forced
run -d $bb twice sleep 1000
run -d $bb twice sleep 1000 2>&1 | grep -oE '^\$.*|^=.*|already exists'
say ctr task kill -a -s KILL twice
until_state twice STOPPED
say ctr task start twice 2>&1 | grep -oE '^\$.*|^=.*|already exists'
say ctr task rm twice
say ctr container rm twice

echo '== a shim that is killed'
# containerd lets the runtime delete what such a shim leaves
run -d --cgroup "$parent/orphan" $bb orphan sleep 1000
pkill -KILL -f "containerd-shim-runc-v2.*-id orphan -address $here/"
for _ in $(seq 200); do [ -z "$(ctr task ls -q)" ] && break; sleep 0.05; done
say ctr task ls -q
say ctr container rm orphan

echo '== terminal'
mkfifo keyboard && exec 9<>keyboard
on_terminal() { script -qec "stty rows 33 cols 77; $*" /dev/null <&9 | tr -d '\r' | sed 's/\^@//g; s/\^D//g' | tr -d '\b' | grep -v ERRO; }
on_terminal "ctr -a $here/sock -n ${parent#/} run --rm -t --runc-binary $RUNTIME --runc-root $here/runc $bb a sh -c 'tty; test -t 1 && echo a terminal; : </dev/tty && echo controls
    for i in 1 2 3 4 5 6 7 8 9; do [ \"\$(busybox stty size 2>&1)\" = \"33 77\" ] && break; sleep 0.1; done; busybox stty size; exit 6' 2>error; echo = \$?"
run -d $bb host sleep 1000
on_terminal "ctr -a $here/sock -n ${parent#/} task exec -t --exec-id t host sh -c 'tty; test -t 1 && echo a terminal'"
say ctr task delete -f host
say ctr container rm host

echo '== what is left'
ctr task ls -q
ctr container ls -q
kill $daemon
wait $daemon
find runc -mindepth 2
pgrep -fa "shim.*$here"
find /sys/fs/cgroup -mindepth 2 -type d -path "*${parent}/*"
# others make and remove groups while find walks: what it says of that is no failure
for _ in $(seq 100); do
    find /sys/fs/cgroup -depth -type d -path "*$parent*" -exec rmdir {} +
    [ -z "$(find /sys/fs/cgroup -type d -path "*$parent*")" ] && break
    sleep 0.05
done
exit 0
