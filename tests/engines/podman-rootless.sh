#!/usr/bin/env bash
# podman of a user without rights, with --userns keep-id. RUNTIME and LAYOUT as in podman.sh; started by root in an empty
# directory: the user and what belongs to it exist in a mount namespace of their own only.
# shellcheck disable=SC2086,SC2016 # options are words, and the container's shell expands
exec 2>>log
if [ "${1-}" = "" ]; then
    mkdir -p etc mine/home mine/run mine/tmp mine/bin mine/layout
    chmod 700 mine/run
    { cat /etc/passwd; echo "ocipipe:x:4242:4242::/mnt/home:/bin/sh"; } >etc/passwd
    { cat /etc/group; echo "ocipipe:x:4242:"; } >etc/group
    echo ocipipe:1000000:65536 | tee etc/subuid >etc/subgid
    cp -r "$LAYOUT/." mine/layout
    cp "$0" mine/script
    cp "$RUNTIME" "mine/bin/${RUNTIME##*/}"
    chown -R 4242:4242 mine
    # what is mounted in there and what runs goes with the first process of the namespaces
    exec unshare --mount --pid --fork --kill-child --mount-proc bash "$0" namespaces
fi
if [ "$1" = namespaces ]; then
    for file in passwd group subuid subgid; do
        [ -e "/etc/$file" ] || touch "/etc/$file"
        mount --bind "etc/$file" "/etc/$file"
    done
    mount --bind mine /mnt
    cd /mnt || exit 1
    # podman looks for the pid of its pause process in there
    setpriv --reuid 4242 --regid 4242 --clear-groups env -i "PATH=$PATH:/usr/sbin" "RUNTIME=/mnt/bin/${RUNTIME##*/}" \
        HOME=/mnt/home USER=ocipipe XDG_RUNTIME_DIR=/mnt/run TMPDIR=/mnt/tmp LC_ALL=C bash /mnt/script user 2>>/mnt/tmp/log
    cat /mnt/tmp/log >&2
    exit
fi

ulimit -n 1024 -u 1024
# the way of a configuration file: a name, its paths, and that it can write its log as JSON
name=${RUNTIME##*/}
export CONTAINERS_CONF=/mnt/home/containers.conf
cat >$CONTAINERS_CONF <<END
[engine]
runtime = "$name"
runtime_supports_json = ["$name"]
cgroup_manager = "cgroupfs"
events_logger = "none"
[engine.runtimes]
$name = ["$RUNTIME"]
END
say() {
    echo "\$ $*"
    "$@" || echo "= $?"
}
once() { say podman run --rm --network none "$@"; }
podman pull -q oci:/mnt/layout:1 >image && podman tag "$(cat image)" bb || exit 1
say podman info -f '{{.Host.OCIRuntime.Path}} {{.Host.Security.Rootless}}' >&2
podman info -f '{{.Host.Security.Rootless}}'

once bb sh -c 'id; cat /proc/self/uid_map; ls -ld /root | cut -c1-40; hostname >&2'
once -u user bb id
once --userns keep-id bb sh -c 'id; pwd; cat /proc/self/uid_map /proc/self/gid_map; grep -E "Cap(Eff|Bnd)|Groups" /proc/self/status'
mkdir -p volume
once --userns keep-id -v /mnt/volume:/v bb sh -c 'echo mine >/v/file; stat -c "%u %g" /v/file'
say stat -c '%u %g' volume/file
once --userns keep-id -u 0 bb sh -c 'id; touch /x && echo root may'
once --userns keep-id --read-only --cap-drop all bb sh -c 'exec 2>&1; touch /x; cut -d" " -f5,6 /proc/self/mountinfo | sort | uniq'
once --userns keep-id --init bb ps -o args
once --userns nomap bb id
once -v /mnt/volume:/v:ro bb touch /v/x 2>&1
once bb no-such-program
podman run --rm --network none bb no-such-program 2>&1 | grep -oE 'OCI (runtime|permission).*'

say podman run -d --name life --userns keep-id --network none bb sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done' | sed -E 's/^[0-9a-f]{64}$/ID/'
for _ in $(seq 200); do podman logs life | grep -q ready && break; sleep 0.05; done
say podman exec life sh -c 'id; echo $HOME'
say podman exec -u 0 life id
mkfifo keyboard && exec 9<>keyboard
say script -qec 'podman exec -it life sh -c tty' /dev/null <&9 | tr -d '\r' | sed 's/\^@//g'
say podman stop life
say podman logs life
say podman inspect -f '{{.State.ExitCode}}' life
say podman rm life
podman rm -fa -t 0 >&2
podman unmount -a >&2
podman ps -aq
