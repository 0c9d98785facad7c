#!/usr/bin/env bash
# What people do with podman, as a transcript: the same whichever runtime is below.
#   RUNTIME  the OCI runtime's path        LAYOUT  a layout with the busybox image, tagged 1
# Run in an empty directory of its own. What podman says on stderr goes to ./log, except where it is looked at.
# shellcheck disable=SC2086,SC2016 # options are words, and the container's shell expands
exec 2>log
here=$PWD
parent=/ocipipe-$(basename "$here")
mkdir -p tmp volume
export TMPDIR=$here/tmp
# a limit on processes that podman may raise to is one it fails on without CAP_SYS_RESOURCE
ulimit -n 1024 -u 1024

pod() {
    podman --root "$here/root" --runroot "$here/run" --tmpdir "$here/libpod" --runtime "$RUNTIME" \
        --cgroup-manager cgroupfs --events-backend none "$@"
}
# A command, what it prints, and its status unless that is 0.
options="--cgroup-parent $parent --log-driver k8s-file"
alone="--network none $options"
say() {
    local words=$*
    echo "\$ ${words//"$alone "/}"
    "$@" || echo "= $?"
}
run() { say pod run $alone "$@"; }
once() { run --rm "$@"; }
# What podman made of an error of the runtime.
refused() {
    pod run --rm $alone "$@" 2>error >&2
    echo "refused: $* = $?"
    cat error >>log
    grep -oE 'OCI (runtime|permission).*' error
}
# Waits for a word in a container's log.
until_log() { for _ in $(seq 200); do pod logs "$1" | grep -q "$2" && return; sleep 0.05; done; echo "no $2 from $1"; }
# Nobody types, but the terminal has no end either.
mkfifo keyboard && exec 9<>keyboard
# A command on a terminal of 33 lines and 77 columns.
on_terminal() { script -qec "stty rows 33 cols 77; $*" /dev/null <&9 | tr -d '\r' | sed 's/\^@//g; s/\^D//g' | tr -d '\b'; }

# a path would become a name, and names have no capitals
ln -s "$LAYOUT" busybox
pod pull -q oci:busybox:1 >image && pod tag "$(cat image)" bb || exit 1

echo '== run'
once bb echo hello
once bb sh -c 'echo out; echo err >&2; exit 3' 2>error
cat error
once -i bb cat <<<'over stdin'
once -e A=b -w /home/user -u 1000:2000 --hostname box bb sh -c 'echo $A; pwd; id; hostname; umask'
once -u user bb id
once --group-add 3000 bb id
refused bb /no/such/program
refused bb no-such-program
refused bb /etc/passwd
refused -w /etc/passwd bb true
refused -v /no/such/source:/x bb true

echo '== confinement'
inside='grep -E "Cap|NoNewPrivs|Seccomp:|Groups" /proc/self/status; ls -ln /dev | sed "s/ [A-Z][a-z][a-z] .*:.. / /; s/self.fd.*/FD/"; ls -l /proc/self/fd/ 2>&1 | grep -c " -> "
    cat /proc/self/oom_score_adj; ulimit -n; cut -d" " -f5,6 /proc/self/mountinfo | sort | uniq'
once bb sh -c "$inside"
once --cap-drop all --cap-add chown --security-opt no-new-privileges bb sh -c 'grep -E "Cap|NoNew" /proc/self/status'
once --privileged bb sh -c 'grep -E "Cap|Seccomp:" /proc/self/status; echo 1 >/proc/sys/net/ipv4/ip_forward && echo writes'
once bb sh -c 'exec 2>&1; echo 1 >/proc/sys/net/ipv4/ip_forward; cat /proc/kcore; ls /proc/acpi; mount -t tmpfs x /tmp'
once --security-opt seccomp=unconfined bb grep Seccomp: /proc/self/status
once --ulimit nofile=100:200 --ulimit nproc=64 bb sh -c 'ulimit -Sn; ulimit -Hn; grep processes /proc/self/limits'
once --oom-score-adj 77 bb cat /proc/self/oom_score_adj
once --sysctl net.ipv4.ip_default_ttl=33 bb cat /proc/sys/net/ipv4/ip_default_ttl
once --device /dev/zero:/dev/naught:r bb sh -c 'exec 2>&1; head -c 2 /dev/naught | od -An -tx1; echo x >/dev/naught'
once --shm-size 1m bb sh -c 'grep " /dev/shm " /proc/mounts | grep -o size=.*'
once --pid host --uts host --ipc host bb sh -c '[ $$ != 1 ] && echo in the pid namespace of the host'

echo '== resources'
controllers='cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes pids/pids.max \
    cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus'
once --memory 64m --memory-reservation 32m --pids-limit 50 --cpu-shares 512 --cpus 0.5 --cpuset-cpus 0 bb sh -c "$controllers"
once --pids-limit 4 bb sh -c 'exec 2>&1; for i in 1 2 3 4 5 6; do sleep 0.5 & done; wait'
once --memory 16m --memory-swap 16m bb sh -c 'dd if=/dev/zero of=/dev/null bs=64M count=1'

echo '== files'
once --read-only bb sh -c 'exec 2>&1; touch /x; touch /tmp/x && touch /run/x && echo tmp and run'
once --read-only --read-only-tmpfs=false bb touch /tmp/x 2>&1
once -v "$here/volume:/v" bb sh -c 'echo kept >/v/file'
say cat volume/file
once -v "$here/volume:/v:ro" bb sh -c 'exec 2>&1; cat /v/file; touch /v/x'
once -v named:/v bb sh -c 'echo named >/v/file'
once -v named:/v:nosuid,noexec bb sh -c 'cat /v/file; grep " /v " /proc/mounts | grep -o nosuid,nodev,noexec'
once --tmpfs /t:size=1m,mode=700 bb sh -c 'ls -ld /t | cut -c1-10; grep " /t " /proc/mounts | grep -o size=.*'
once --mount "type=bind,src=$here/volume/file,dst=/one/file,ro" bb cat /one/file
once --uidmap 0:100000:5000 --gidmap 0:100000:5000 -u 7 bb sh -c 'id; cat /proc/self/uid_map'

echo '== life'
run -d --name life bb sh -c 'trap "echo stopping; exit 7" TERM; echo ready; while :; do sleep 0.1; done' | sed -E 's/^[0-9a-f]{64}$/ID/'
until_log life ready
say pod exec life echo from exec
say pod exec -u user -w /tmp -e B=c life sh -c 'id; pwd; echo $B; cat /proc/self/cgroup | sed "s/libpod-[0-9a-f]*/libpod-ID/" | sort'
say pod exec -i life cat <<<'into exec'
say pod exec life sh -c 'exit 9'
say pod exec life no-such-program
say pod exec life /etc/passwd
say pod exec -d life sh -c 'echo detached >/tmp/file' >&2
for _ in $(seq 100); do pod exec life cat /tmp/file && break; sleep 0.05; done
say pod exec --privileged life grep CapEff /proc/self/status
say pod top life pid args | head -n 3
say pod pause life
say pod ps -a --format '{{.Names}} {{.State}}'
say pod unpause life
say pod update --memory 32m life >&2
cat /sys/fs/cgroup/memory$parent/libpod-*/memory.limit_in_bytes
say pod kill -s USR1 no-such-container
say pod stop life
say pod logs life
say pod inspect -f '{{.State.Status}} {{.State.ExitCode}}' life
say pod start life | sed 's/life/started/'
say pod restart -t 1 life
say pod kill life
say pod wait life
say pod rm life
say pod ps -a --format '{{.Names}}'
run -d --name deaf bb sleep 1000 >&2
say pod stop -t 1 deaf
say pod inspect -f '{{.State.ExitCode}}' deaf
say pod rm -f deaf

echo '== create, then start'
say pod create --name later $alone bb sh -c 'echo later' >&2
say pod start -a later
say pod inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' later
say pod commit -q -c CMD='["cat","/etc/os-release"]' later again >&2
once again
say pod rm later

echo '== terminal'
on_terminal "$(declare -f pod); here=$here RUNTIME=$RUNTIME; pod run --rm -it $alone bb sh -c '
    tty; for i in 1 2 3 4 5 6 7 8 9; do [ \"\$(busybox stty size 2>&1)\" = \"33 77\" ] && break; sleep 0.1; done
    busybox stty size; test -t 0 && test -t 1 && test -t 2 && echo a terminal; ls -l /dev/console | cut -c1-10
    : </dev/tty && echo controls'"
run -dt --name typed bb sh >&2
on_terminal "$(declare -f pod); here=$here RUNTIME=$RUNTIME; pod exec -it typed sh -c 'tty; test -t 1 && echo a terminal; : </dev/tty && echo controls; exit 5'; echo \"= \$?\""
echo typed >&9
on_terminal "$(declare -f pod); here=$here RUNTIME=$RUNTIME; pod run --rm -it $alone bb sh -c '
    read -r word; echo got \$word'" | grep -o 'got typed'
say pod rm -f -t 0 typed

echo '== hooks'
mkdir hooks
for stage in prestart poststart poststop; do
    cat >hooks/$stage.json <<END
{"version": "1.0.0", "when": {"always": true}, "stages": ["$stage"],
 "hook": {"path": "/bin/sh", "args": ["sh", "-c", "{ echo $stage; cat; echo; } >>$here/$stage"]}}
END
done
pod --hooks-dir "$here/hooks" run --rm $alone --annotation k=v bb echo with hooks
for _ in $(seq 100); do [ -s poststop ] && break; sleep 0.05; done
# what runc calls the state at prestart and poststart is not what the specification does
grep -oE '^[a-z]+|"k": ?"v"' prestart poststart | tr -d ' '
grep -oE '^[a-z]+|"status": ?"[a-z]+"|"k": ?"v"' poststop | tr -d ' '
rm hooks/*
cat >hooks/failing.json <<END
{"version": "1.0.0", "when": {"always": true}, "stages": ["prestart"], "hook": {"path": "/bin/false"}}
END
pod --hooks-dir "$here/hooks" run --rm $alone bb echo not seen
echo "= $?"

echo '== init, health'
once --init bb sh -c 'ps -o args | head -n 4'
run -d --name health --health-cmd 'test -e /tmp/well' --health-interval disable bb sleep 1000 >&2
say pod healthcheck run health
say pod exec health touch /tmp/well
say pod healthcheck run health
say pod inspect -f '{{.State.Health.Status}}' health
say pod stats --no-stream --format '{{.Name}} {{.PIDs}}' health
say pod rm -f -t 0 health

echo '== pods and shared namespaces'
run -d --name first bb sleep 1000 >&2
once --pid container:first --ipc container:first bb sh -c 'ps -o args | grep -cx "sleep 1000"'
say pod run --rm --network container:first $options bb sh -c 'ls /sys/class/net; ip -o link | wc -l'
say pod rm -f -t 0 first

echo '== what is left'
pod rm -fa -t 0 >&2
pod unmount -fa >&2
pod ps -aq
for _ in $(seq 100); do pgrep -f "conmon.*$here" >&2 || break; sleep 0.05; done
find /sys/fs/cgroup -type d -path "*$parent*libpod-*" | sed 's/libpod-[0-9a-f]*/libpod-ID/'
# others make and remove groups while find walks: what it says of that is no failure
for _ in $(seq 100); do
    find /sys/fs/cgroup -depth -type d -path "*$parent*" -exec rmdir {} +
    [ -z "$(find /sys/fs/cgroup -type d -path "*$parent*")" ] && break
    sleep 0.05
done
exit 0
