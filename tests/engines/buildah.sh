#!/usr/bin/env bash
# Images built with buildah: every RUN is the runtime's. RUNTIME and LAYOUT as in podman.sh; run in an empty directory.
# shellcheck disable=SC2086,SC2016 # options are words, and the container's shell expands
exec 2>log
here=$PWD
mkdir -p tmp context
export TMPDIR=$here/tmp
ulimit -n 1024 -u 1024

bah() { buildah --root "$here/root" --runroot "$here/run" --storage-driver overlay "$@"; }
say() {
    local words=$*
    words=${words//"$alone "/}
    echo "\$ ${words//$here/HERE}"
    "$@" || echo "= $?"
}
alone="--runtime $RUNTIME --isolation oci --network none"

# a path would become a name, and names have no capitals
ln -s "$LAYOUT" busybox
bah pull -q oci:busybox:1 >image && bah tag "$(cat image)" bb || exit 1

echo '== containerfile'
echo 'from the context' >context/file
cat >context/Containerfile <<'END'
FROM bb
ENV A=b
WORKDIR /place
COPY file file
RUN echo $A; pwd; id; cat file; umask; hostname | wc -l; echo "$0"
RUN ["cat", "/proc/self/cmdline"]
RUN grep -E "Cap|Seccomp:|NoNew" /proc/self/status; cut -d" " -f5,6 /proc/self/mountinfo | sort | uniq
RUN --mount=type=cache,target=/cache echo cached >/cache/x
RUN --mount=type=bind,source=file,target=/one cat /one
RUN --mount=type=tmpfs,target=/t touch /t/x && ls /t
RUN --mount=type=secret,id=key cat /run/secrets/key
RUN mkdir -p /srv && chown 1000:1000 /srv && chmod 2750 /srv && touch -d @1 /srv/old && ln -s old /srv/link
USER user
RUN id; touch /srv/made; touch /nobody 2>/dev/null || echo no right
USER 0
RUN echo "to stderr" >&2
RUN test -t 0 || echo no terminal; cat
RUN rm /place/file
END
echo secret >key
say bah build -q $alone --secret "id=key,src=$here/key" -t built context >&2
say bah build $alone --no-cache --secret "id=key,src=$here/key" -t built context 2>&1 | tr '\0' ' ' |
    sed -E '/^(Getting|Copying|Writing|Storing|Successfully|COMMIT|-->)/d; s/[0-9a-f]{64}/ID/; s/^[0-9a-f]{12}$/ID/'
say bah from --name made built
say bah run $alone made -- sh -c 'stat -c "%n %u %g %a %s" /srv /srv/*; ls /place /cache /one /t 2>&1'

echo '== failures'
fails() {
    printf 'FROM bb\nRUN %s\n' "$1" >failing
    bah build $alone -f failing -t failed . 2>&1 | grep -E '^(out|Error)' | sed 's/"[^"]*runc": //; s/"[^"]*oci-spawn": //; s/: exit status/, status/' | grep -oE '^out|status [0-9]*|No such file|not found' | sort -u
}
fails 'echo out; exit 3'
fails '["/no/such/program"]'
fails '["/etc/passwd"]'

echo '== run in a working container'
say bah from --name c bb
say bah run $alone c -- echo hello
say bah run $alone c -- sh -c 'exit 5'
say bah run $alone c -- sh -c 'kill -9 $PPID; kill -9 $$; echo here'
say bah run $alone --user user --workingdir /tmp --env X=y --hostname box c -- sh -c 'id; pwd; echo $X; hostname'
say bah run $alone --cap-add CAP_SYS_ADMIN c -- grep CapEff /proc/self/status
say bah run $alone -v "$here/context:/v:ro" c -- sh -c 'exec 2>&1; cat /v/file; touch /v/x'
echo 'over stdin' | say bah run $alone c -- cat
mkfifo keyboard && exec 9<>keyboard
script -qec "stty rows 33 cols 77; buildah --root $here/root --runroot $here/run --storage-driver overlay \
    run $alone -t c -- sh -c 'tty; test -t 1 && echo a terminal; : </dev/tty && echo controls'" /dev/null <&9 |
    tr -d '\r' | sed 's/\^@//g; s/\^D//g' | tr -d '\b'
say bah run $alone c -- sh -c 'echo kept >/kept'
say bah config --cmd 'cat /kept' c
say bah commit -q c kept >&2
say bah from --name d kept
say bah run $alone d -- cat /kept

bah rm -a >&2
bah rmi -af >&2
bah containers -q
