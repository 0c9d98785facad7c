//! What a docker user types, through the scripts: exit statuses and output as docker documents them; docs/docker.md has
//! what differs on purpose.
//!
//! A row is a command line for the shell, its exit status, and what it prints to stdout and to stderr. In these two
//! `*` stands for any text, `{id}` for 64 and `{short}` for 12 hexadecimal digits.

use ocipipe_tests::Hub;
use testkit::{Outcome, needs, world};

type Row = (&'static str, i32, &'static str, &'static str);

/// A container from its first run to its removal.
#[rustfmt::skip]
const LIFE: &[Row] = &[
    ("oci-run --rm $R echo hello", 0, "hello\n", "*"),
    ("oci-tag $R bb:1", 0, "", ""),
    ("oci-run -d --name web bb:1 sh -c 'echo out; echo err >&2; exec sleep 1000'", 0, "{id}\n", ""),
    ("oci-run -d --name web bb:1 true", 125, "", "*the name \"web\" is taken by container {id}\n*"),
    ("oci-ps", 0, "CONTAINER ID *IMAGE *COMMAND *CREATED *STATUS *NAMES\n{short} *bb:1 *\"sh -c 'echo out; ec…\" *Up *web\n", ""),
    ("oci-ps --no-trunc --format '{{.Image}} {{.Command}}'", 0, "bb:1 \"sh -c 'echo out; echo err >&2; exec sleep 1000'\"\n", ""),
    ("oci-ps -q", 0, "{short}\n", ""),
    ("oci-ps --no-trunc -q", 0, "{id}\n", ""),
    ("oci-ps --filter name=web --format '{{.Names}}: {{.Status}}'", 0, "web: Up *\n", ""),
    ("oci-ps --filter name=nosuch -q", 0, "", ""),
    ("oci-ps --filter nosuch=1", 2, "", "*nosuch*"),
    ("oci-logs web", 0, "out\n", "err\n"),
    ("oci-logs --tail 1 -t web 2>&1", 0, "20*T*Z err\n", ""),
    ("oci-logs nosuch", 3, "", "*nosuch*"),
    ("oci-exec web echo inside", 0, "inside\n", ""),
    ("oci-exec web sh -c 'exit 4'", 4, "", ""),
    ("oci-exec web nosuch", 127, "", "*nosuch*"),
    ("oci-exec web /etc", 126, "", "*/etc*"),
    ("oci-exec -w /tmp -e A=1 -u 1000:2000 web sh -c 'echo $A $(pwd) $(id -u) $(id -g)'", 0, "1 /tmp 1000 2000\n", ""),
    ("echo to-stdin | oci-exec -i web cat", 0, "to-stdin\n", ""),
    ("echo to-stdin | oci-exec web cat", 0, "", ""),
    ("oci-exec -d web touch /detached", 0, "", ""),
    ("sleep 0.5; oci-exec web ls /detached", 0, "/detached\n", ""),
    ("oci-exec nosuch true", 125, "", "*nosuch*"),
    ("oci-top web", 0, "*PID*CMD\n*sleep 1000*", ""),
    ("oci-top web -o pid,args", 0, "*PID COMMAND\n*sleep 1000*", ""),
    ("oci-stats --no-stream web", 0, "*CPU %*MEM USAGE / LIMIT*\n*web*%*", ""),
    ("oci-diff web", 0, "A /detached\n", ""),
    ("oci-pause web", 0, "web\n", ""),
    ("oci-ps --format '{{.Status}}'", 0, "Up * (Paused)\n", ""),
    ("oci-exec web true", 9, "", "*paused*"),
    ("oci-unpause web", 0, "web\n", ""),
    ("oci-rename web site", 0, "", ""),
    ("oci-inspect -f '{{.Name}} {{.State.Running}} {{.State.ExitCode}}' site", 0, "/site true 0\n", ""),
    ("oci-rm site", 9, "", "*running*"),
    ("oci-kill --signal CONT site", 0, "site\n", ""),
    ("oci-restart -t 0 site", 0, "site\n", ""),
    ("oci-exec site ls /detached", 0, "/detached\n", ""),
    ("oci-stop -t 0 site", 0, "site\n", ""),
    ("oci-stop site", 0, "site\n", ""),
    ("oci-wait site", 0, "137\n", ""),
    ("oci-ps -a --format '{{.Status}}'", 0, "Exited (137) *\n", ""),
    ("oci-exec site true", 9, "", "*site*"),
    ("oci-kill site", 9, "", "*site*"),
    ("oci-pause site", 9, "", "*site*"),
    ("oci-start site", 0, "site\n", ""),
    ("oci-kill site", 0, "site\n", ""),
    ("oci-rm -f site nosuch", 0, "site\n", "*nosuch*"),
    ("oci-run -d --name frozen bb:1 sh -c 'trap \"exit 7\" TERM; echo set; while :; do sleep 0.1; done'", 0, "{id}\n", ""),
    ("until oci-logs frozen | grep -q set; do sleep 0.1; done; oci-pause frozen", 0, "frozen\n", ""),
    ("oci-stop -t 60 frozen", 0, "frozen\n", ""),
    ("oci-wait frozen", 0, "7\n", ""),
    ("oci-rm frozen", 0, "frozen\n", ""),
    ("for n in 1 2 3 4 5 6; do oci-run -d --rm --name once$n bb:1 sleep 1000 >/dev/null; done", 0, "", ""),
    ("oci-stop -t 0 once1 once2 once3 && oci-kill once4 once5 once6", 0, "once1\nonce2\nonce3\nonce4\nonce5\nonce6\n", ""),
    ("oci-run -d --rm --name again bb:1 sleep 1000 >/dev/null; oci-restart -t 0 again; \
      oci-ps --filter name=again --format '{{.Names}}: {{.Status}}'", 0, "again\nagain: Up *\n", ""),
    ("oci-stop -t 0 again; while oci-ps -a -q --filter name=again | grep -q .; do sleep 0.1; done", 0, "again\n", ""),
    ("oci-run --name front bb:1 sleep 1000 & until oci-exec front true 2>/dev/null; do sleep 0.1; done; \
      oci-attach front; echo $?; oci-stop -t 0 front; wait", 0, "9\nfront\n", "*foreground*"),
    ("oci-rm front", 0, "front\n", ""),
    ("oci-create -i -t --name con bb:1 sh -c 'test -t 0 && echo a terminal; read x; echo got $x'", 0, "{id}\n", ""),
    ("echo typed | oci-start -ai con", 0, "*a terminal\r\n*got typed\r\n", ""),
    ("oci-inspect -f '{{.Config.Tty}} {{.Config.OpenStdin}}' con", 0, "true true\n", ""),
    ("oci-run -dit --name shell bb:1 sh && oci-restart -t 0 shell", 0, "{id}\nshell\n", ""),
    ("oci-exec shell ls -l /proc/1/fd/0", 0, "*/dev/pts/0\n", ""),
    ("oci-rm -f con shell", 0, "con\nshell\n", ""),
    ("oci-rm nosuch", 3, "", "*nosuch*"),
    ("oci-ps -aq", 0, "", ""),
];

/// What docker run takes.
#[rustfmt::skip]
const RUN: &[Row] = &[
    ("oci-pull -q $R | oci-push --tag bb:1 >/dev/null", 0, "", ""),
    ("oci-run --rm bb:1 sh -c 'exit 3'", 3, "", ""),
    ("oci-run --rm bb:1 sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'", 137, "", "*"),
    ("oci-run --rm bb:1 nosuch", 127, "", "*\"nosuch\" not found*"),
    ("oci-run --rm bb:1 /etc", 126, "", "*/etc*"),
    ("oci-run --rm -d bb:1 nosuch", 127, "", "*\"nosuch\" not found*"),
    ("oci-run", 125, "", "*no image*"),
    ("oci-run --bogus bb:1 true", 125, "", "*--bogus*"),
    ("oci-run --pull never nosuch:1 true", 125, "", "*nosuch:1*"),
    ("oci-run --rm --pull always $R echo again", 0, "again\n", "*"),
    ("oci-run --rm --platform linux/s390x $R true", 125, "", "*s390x*"),
    ("oci-run --rm -e A=1 -eB=2 --env C=3 --env=D=4 bb:1 sh -c 'echo $A$B$C$D'", 0, "1234\n", ""),
    ("oci-run --rm -w /tmp bb:1 pwd", 0, "/tmp\n", ""),
    ("oci-run --rm -u user bb:1 sh -c 'id -u; echo $HOME'", 0, "1000\n/home/user\n", ""),
    ("oci-run --rm -h box bb:1 hostname", 0, "box\n", ""),
    ("oci-run --rm --read-only bb:1 touch /x", 1, "", "*Read-only file system*"),
    ("oci-run --rm --entrypoint id bb:1 -u", 0, "0\n", ""),
    ("oci-run --rm -v $PWD:/mnt:ro bb:1 sh -c 'cat /mnt/note; touch /mnt/x'", 1, "a note\n", "*Read-only*"),
    ("oci-run --rm --network none bb:1 ls /sys/class/net", 0, "lo\n", ""),
    ("echo typed | oci-run --rm -i bb:1 cat", 0, "typed\n", ""),
    ("echo typed | oci-run --rm bb:1 cat", 0, "", ""),
    ("script -qec 'oci-run --rm -it bb:1 sh -c \"test -t 0 && echo a terminal\"' /dev/null </dev/null", 0, "*a terminal\r\n*", ""),
    ("oci-run -dit --name shell bb:1 sh", 0, "{id}\n", ""),
    ("oci-run --rm --tmpfs /t:size=1m bb:1 sh -c 'grep -c \" /t tmpfs\" /proc/mounts'", 0, "1\n", ""),
    ("oci-run --rm=true -m 64m --init=false bb:1 echo fine", 0, "fine\n", ""),
    ("oci-run --rm --cap-drop ALL bb:1 chown 5 /tmp", 1, "", "*not permitted*"),
    ("oci-run --name kept --cidfile cid bb:1 true && cat cid", 0, "{id}", ""),
    ("oci-run --rm --cidfile cid bb:1 true", 125, "", "*cid*"),
    ("oci-run --rm bb:1 sh -c 'cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range'", 0, "0\n0\t2147483647\n", ""),
    ("oci-run --rm --sysctl net.ipv4.ip_unprivileged_port_start=512 bb:1 cat /proc/sys/net/ipv4/ip_unprivileged_port_start", 0, "512\n", ""),
    ("oci-unpack bb:1 | oci-mount --rm | oci-spawn --net host -- sh -c 'test -e /sys/class/net/lo && echo fine'", 0, "fine\n", ""),
    ("oci-unpack bb:1 | oci-mount --rm --group-add 77 | oci-spawn -u 1000 -- id -G", 0, "1000 77 2000\n", ""),
    ("oci-run -d --pidfile pid --name pf bb:1 sleep 1000 && test $(cat pid) = $(oci-inspect -f '{{.State.Pid}}' pf)", 0, "{id}\n", ""),
    ("oci-run --rm --pidfile no/such/pid bb:1 true", 125, "", "*--pidfile*"),
    ("oci-run --rm --ipc container:pf bb:1 true", 125, "", "*not shareable*"),
    ("oci-rm --force pf", 0, "pf\n", ""),
    ("mkdir -p own/bin own/proc own/sys own/dev own/tmp && cp $(command -v busybox) own/bin", 0, "", ""),
    ("OCIPIPE_STORE=$PWD/mapped unshare -Urm sh -c 'oci-commit -q --rootfs own --tag own:1 </dev/null | oci-unpack -q \\
      | oci-mount --rm --device-cgroup-rule \"c 42:* rmw\" | oci-spawn -- /bin/busybox true'", 125, "", "*devices*may not use*"),
    ("oci-ps -a --format '{{.Names}} {{.Status}}' --filter name=kept", 0, "kept Exited (0) *\n", ""),
    ("oci-run -p 80:80 bb:1", 125, "", "*--net host*"),
    ("oci-run --restart always bb:1", 125, "", "*systemd*"),
    ("oci-run --health-cmd true bb:1", 125, "", "*supervises*"),
    ("oci-create --name later bb:1 sh -c 'echo started; exit 6'", 0, "{id}\n", ""),
    ("oci-create nosuch.invalid/x", 5, "", "*nosuch.invalid/x*"),
    ("oci-ps -a --filter status=created --format '{{.Names}} {{.Status}}'", 0, "later Created\n", ""),
    ("oci-start -a later", 6, "started\n", ""),
    ("oci-logs later", 0, "started\n", ""),
    ("oci-rm -f shell kept later", 0, "shell\nkept\nlater\n", ""),
];

/// Images, and what is copied.
#[rustfmt::skip]
const IMAGES: &[Row] = &[
    ("oci-pull -q $R | oci-push --tag bb:1 >/dev/null", 0, "", ""),
    ("oci-images bb", 0, "REPOSITORY *TAG *IMAGE ID *CREATED *SIZE\nbb *1 *{short} *B\n", ""),
    ("oci-images -q bb:1", 0, "{short}\n", ""),
    ("oci-images --format '{{.Repository}}:{{.Tag}}' bb", 0, "bb:1\n", ""),
    ("oci-images nosuch", 0, "REPOSITORY *\n", ""),
    ("oci-history bb:1", 0, "IMAGE *CREATED *CREATED BY *SIZE *COMMENT\n*", ""),
    ("oci-history nosuch", 3, "", "*nosuch*"),
    ("oci-tag nosuch other", 3, "", "*nosuch*"),
    ("oci-tag bb:1", 2, "", "*oci-tag IMAGE NAME*"),
    ("oci-create --name box bb:1 true", 0, "{id}\n", ""),
    ("oci-cp note box:/tmp/note", 0, "*\"name\":\"box\"*\n", ""),
    ("oci-cp box:/tmp/note back >/dev/null && cat back", 0, "a note\n", ""),
    ("oci-diff box", 0, "C /tmp\nA /tmp/note\n", ""),
    ("oci-commit box --layer --tag noted:1 | oci-inspect --field reference", 0, "docker.io/library/noted:1\n", "*"),
    ("oci-run --rm noted:1 cat /tmp/note", 0, "a note\n", ""),
    ("oci-export box | tar -xO tmp/note", 0, "a note\n", ""),
    ("oci-export -o files.tar nosuch", 3, "", "*nosuch*"),
    ("oci-export box | oci-import -c 'CMD [\"cat\",\"/tmp/note\"]' - flat:1", 0, "sha256:{id}\n", "*"),
    ("oci-run --rm flat:1", 0, "a note\n", ""),
    ("oci-export --output files.tar box && tar -xOf files.tar tmp/note", 0, "a note\n", ""),
    ("oci-import -c 'LABEL from=image' -c 'CMD [\"true\"]' files.tar flat:2", 0, "sha256:{id}\n", "*"),
    ("oci-run -d --rm --name runs bb:1 sleep 1000 && oci-export runs | tar -t | grep -c '^etc/os-release$' && oci-rm -f runs", 0, "{id}\n1\nruns\n", "*"),
    ("oci-import nosuch.tar", 1, "", "*nosuch.tar*"),
    ("oci-save -o images.tar noted:1 flat:1", 0, "", ""),
    ("oci-save nosuch", 3, "", "*nosuch*"),
    ("OCIPIPE_STORE=$PWD/second oci-load -i images.tar", 0, "Loaded image: noted:1\nLoaded image: flat:1\n", "*"),
    ("OCIPIPE_STORE=$PWD/second oci-run --rm noted:1 cat /tmp/note", 0, "a note\n", ""),
    ("echo nothing | oci-load", 6, "", "*oci-load: no OCI layout*"),
    ("oci-create --name labelled flat:2 && oci-ps -a --filter label=from=image --format '{{.Names}}' && oci-rm labelled", 0, "{id}\nlabelled\nlabelled\n", ""),
    ("oci-run --rm $(oci-images -q noted:1) cat /tmp/note", 0, "a note\n", ""),
    ("oci-tag $(oci-images -q noted:1) again:1 && oci-rmi again:1", 0, "Untagged: *again:1\n", ""),
    ("oci-push --image noted:1 $REGISTRY/test/noted:1 | oci-inspect --field reference", 0, "*test/noted:1\n", "*"),
    ("oci-rmi $(oci-images -q flat:1)", 0, "Untagged: docker.io/library/flat:1\n", ""),
    ("oci-rmi $(oci-images -q bb:1)", 9, "", "*several names*"),
    ("oci-rmi flat:1", 3, "", "*flat:1*"),
    ("oci-rmi $R", 0, "Untagged: *image:1\n", ""),
    ("oci-rmi bb:1", 9, "", "*box*"),
    ("oci-rmi $(oci-images -q --no-trunc bb:1)", 9, "", "*box*"),
    ("oci-rmi $(oci-images -q bb:1) -f", 0, "Untagged: *bb:1\n", ""),
    ("oci-inspect events --filter type=image --format '{{.Action}}' | sort -u | tr '\\n' ' '", 0, "delete pull push tag untag ", ""),
    ("oci-rm box", 0, "box\n", ""),
];

/// Volumes.
#[rustfmt::skip]
const VOLUMES: &[Row] = &[
    ("oci-pull -q $R | oci-push --tag bb:1 >/dev/null", 0, "", ""),
    ("oci-volume create data", 0, "data\n", ""),
    ("oci-volume create data", 0, "data\n", ""),
    ("oci-volume create --label a=b --label=c labelled", 0, "labelled\n", ""),
    ("oci-volume create", 0, "{id}\n", ""),
    ("oci-volume create -d nfs other", 2, "", "*"),
    ("oci-volume create -o type=nfs other", 7, "", "*-o*"),
    ("oci-volume create ../x", 2, "", "*../x*"),
    ("oci-volume ls", 0, "DRIVER *VOLUME NAME\n*local *data\n*", ""),
    ("oci-volume ls -q --filter label=a=b", 0, "labelled\n", ""),
    ("oci-volume inspect -f '{{.Name}} {{.Driver}} {{json .Labels}}' labelled", 0, "labelled local {\"a\":\"b\",\"c\":\"\"}\n", ""),
    ("oci-volume inspect data", 0, "[*\"Mountpoint\": \"*/volumes/data/_data\"*]\n", ""),
    ("oci-inspect data | grep -c 'inspect.volume.v1'", 0, "1\n", ""),
    ("oci-volume inspect nosuch", 3, "*", "*nosuch*"),
    ("oci-run --rm -v data:/d bb:1 sh -c 'echo kept >/d/file'", 0, "", ""),
    ("oci-run --rm -v data:/d:ro bb:1 cat /d/file", 0, "kept\n", ""),
    ("oci-run --rm -v fresh:/etc bb:1 true; oci-run --rm -v fresh:/x bb:1 ls /x/os-release", 0, "/x/os-release\n", ""),
    ("oci-create --name user -v data:/d -v /nameless bb:1 true", 0, "{id}\n", ""),
    ("oci-volume rm data", 9, "", "*user*"),
    ("oci-volume ls -q | grep -c .", 0, "5\n", ""),
    ("oci-rm -v user", 0, "user\n", ""),
    ("oci-volume ls -q | grep -c .", 0, "4\n", ""),
    ("oci-volume prune -f", 0, "volume {id}\n", "*freed*"),
    ("oci-volume rm data nosuch", 3, "data\n", "*nosuch*"),
    ("oci-volume rm -f nosuch", 0, "", "*nosuch*"),
    ("oci-volume prune -a -f", 0, "volume fresh\nvolume labelled\n", "*freed*"),
    ("oci-inspect events --filter volume=data --format '{{.Action}}'", 0, "create\nmount\nunmount\nmount\nunmount\ndestroy\n", ""),
];

#[test]
fn volumes_and_what_happens_to_them() {
    check(VOLUMES);
}

#[test]
fn a_containers_life() {
    check(LIFE);
}

#[test]
fn what_run_takes() {
    check(RUN);
}

#[test]
fn images_and_files() {
    check(IMAGES);
}

#[test]
fn every_script_says_what_it_is_and_which_command_of_dockers() {
    let world = testkit::World::new();
    let scripts = world::workspace().join("scripts");
    for entry in std::fs::read_dir(&scripts).expect("scripts/") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if !name.starts_with("oci-") {
            continue;
        }
        let said = world.tool(&scripts.join(&name).display().to_string(), &["-h"]).ok().text();
        assert!(said.lines().count() >= 2 && said.contains(&name), "{name}: {said}");
    }
}

/// Runs the rows one after the other in a world of their own, and tells all that differ.
fn check(rows: &[Row]) {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    std::fs::write(hub.world.path("note"), "a note\n").expect("a file");
    let scripts = world::workspace().join("scripts");
    let mut wrong = Vec::new();
    for (command, status, stdout, stderr) in rows {
        let outcome = hub.world.bash(&format!("PATH={}:$PATH\n{command}", scripts.display()));
        let Outcome { code, stderr: said, .. } = &outcome;
        if code != status || !fits(stdout, &outcome.text()) || !fits(stderr, said) {
            wrong.push(format!("$ {command}\nwanted {status}, {stdout:?}, {stderr:?}\n{outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    hub.world.assert_nothing_left();
}

/// Whether a text is as the pattern says.
fn fits(pattern: &str, text: &str) -> bool {
    let digits = |count: usize, rest: &str| {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        text.len() >= count && text.bytes().take(count).all(hex) && fits(rest, &text[count..])
    };
    if let Some(rest) = pattern.strip_prefix('*') {
        return (0..=text.len()).any(|at| text.is_char_boundary(at) && fits(rest, &text[at..]));
    }
    if let Some(rest) = pattern.strip_prefix("{id}") {
        return digits(64, rest);
    }
    if let Some(rest) = pattern.strip_prefix("{short}") {
        return digits(12, rest);
    }
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(p), Some(t)) if p == t => fits(&pattern[p.len_utf8()..], &text[t.len_utf8()..]),
        _ => false,
    }
}

#[test]
fn patterns_fit_what_they_say() {
    let id = "0123456789abcdef".repeat(4);
    for (pattern, text, want) in [
        ("", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abb", false),
        ("*", "", true),
        ("{id}\n", &format!("{id}\n"), true),
        ("{id}\n", "abc\n", false),
        ("{short} *x", "0123456789ab  x", true),
        ("{short}\n", "0123456789ag\n", false),
    ] {
        assert_eq!(fits(pattern, text), want, "{pattern:?} {text:?}");
    }
}
