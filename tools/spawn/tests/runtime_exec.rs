//! `exec`: a further process in a container is what was asked for and is where the container is.
//! Where Debian's runc is installed, what can be compared is compared with it.

mod bundle;
mod exec;

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bundle::{Bundle, said, text};
use exec::{PATIENCE, exec, exec_words, further, prints, sleeper, with_process};
use serde_json::json;

/// Debian's runc, in a container of the same configuration.
fn peer(ours: &Bundle) -> Option<Bundle> {
    let program =
        ["/usr/sbin/runc", "/usr/bin/runc"].into_iter().map(PathBuf::from).find(|path| path.exists());
    let Some(program) = program else {
        testkit::skip("nothing to compare with: no runc is installed");
        return None;
    };
    let mut peer = Bundle::new("")?;
    peer.config = ours.config.clone();
    peer.program = program;
    peer.start();
    Some(peer)
}

#[test]
fn an_exec_ends_as_its_command_does_and_with_255_where_there_was_none() {
    let Some(ours) = sleeper() else { return };
    fs::write(ours.rootfs().join("tmp/plain"), "text").expect("write");
    let table: &[(&[&str], &[&str], i32, &str)] = &[
        (&[], &["true"], 0, ""),
        (&[], &["sh", "-c", "exit 7"], 7, ""),
        (&[], &["sh", "-c", "kill -9 $$"], 137, ""),
        (&[], &["sh", "-c", "kill -TERM $$"], 143, ""),
        (&[], &["nonsense"], 255, "executable file not found in $PATH"),
        (&[], &["/nonsense"], 255, "no such file or directory"),
        (&[], &["/etc"], 255, "permission denied"),
        (&[], &["/tmp/plain"], 255, "permission denied"),
        (&[], &[], 255, ""),
        (&["--cwd", "/nonsense"], &["true"], 255, "o such file or directory"),
        (&["--cwd", "relative"], &["true"], 255, "absolute path"),
        (&["--user", "root"], &["true"], 255, ""),
        (&["--env", "WRONG"], &["true"], 255, "WRONG"),
        (&["--nonsense"], &["true"], 1, "nonsense"),
    ];
    let peer = peer(&ours);
    for (options, words, status, said_so) in table {
        for bundle in [Some(&ours), peer.as_ref()].into_iter().flatten() {
            if bundle.id != ours.id && words == &["/tmp/plain"] {
                // It is not in the peer's root.
                continue;
            }
            let output = exec(bundle, options, words);
            let all = said(&output);
            assert_eq!(
                output.status.code(),
                Some(*status),
                "{:?} {options:?} {words:?}: {all}",
                bundle.program
            );
            assert!(
                text(&output.stderr).contains(said_so),
                "{:?} {options:?} {words:?}: {all}",
                bundle.program
            );
        }
    }
    assert_eq!(further(&ours), None, "something is left of those that failed");
}

#[test]
fn an_exec_prints_what_runcs_prints() {
    let Some(ours) = sleeper() else { return };
    let Some(peer) = peer(&ours) else { return };
    // SigQ counts the signals of all that the user runs.
    let status = "grep -E '^(Name|State|Uid|Gid|Groups|Cap|NoNew|Seccomp|Sig[^IQ]|Umask)' /proc/self/status";
    let table: &[(&[&str], &str)] = &[
        (&[], "env"),
        (&[], "id; pwd; umask; hostname"),
        (&[], status),
        (&["-u", "1000"], status),
        (&["--user", "1000:5", "-g", "7", "-g", "8"], status),
        (&["--no-new-privs"], status),
        (&["--cap", "CAP_NET_RAW"], status),
        (&["-c", "CAP_NET_RAW", "-u", "1000"], status),
        (&["--cwd", "/tmp"], "pwd"),
        (&["-e", "A=1", "-e", "B=2=3", "-e", "PATH=/bin:/x"], "env"),
        (&["-u", "1000"], "env; id; touch /x 2>&1 || echo refused"),
        (
            &[],
            "cat /proc/self/limits; cat /proc/self/oom_score_adj; cat /proc/self/attr/current 2>&1 || true",
        ),
        (&[], "cut -d' ' -f 5-7 /proc/self/stat | wc -w; ls -l /dev /proc/1/ns | wc -l"),
    ];
    for (options, script) in table {
        let words = ["sh", "-c", script];
        let (one, other) = (prints(&ours, options, &words), prints(&peer, options, &words));
        assert_eq!(one, other, "{options:?} {script}");
    }
}

#[test]
fn an_exec_is_in_the_containers_namespaces_and_control_groups() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.namespace("cgroup", None);
    bundle.start();
    let script = "for n in /proc/1/ns/*; do [ $(readlink $n) = $(readlink /proc/self/ns/${n##*/}) ] || echo ${n##*/}; done; \
        cmp /proc/1/cgroup /proc/self/cgroup";
    let differ = prints(&bundle, &[], &["sh", "-c", script]);
    // What children would be in is told of nobody but the process itself.
    assert!(differ.lines().all(|name| name.ends_with("_for_children")), "{differ}");
    let host = fs::read_link("/proc/self/ns/mnt").expect("a link");
    let inside = prints(&bundle, &[], &["readlink", "/proc/self/ns/mnt"]);
    assert_ne!(host.display().to_string(), inside.trim());
    let outside = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).expect("its groups");
    assert!(outside.contains(&bundle.id), "{outside}");
}

#[test]
fn an_exec_has_the_containers_personality() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.start();
    assert_eq!(prints(&bundle, &[], &["uname", "-m"]), "i686\n");
}

#[test]
fn a_process_of_a_file_is_honoured_in_all_its_members() {
    let Some(bundle) = sleeper() else { return };
    let script = "id -u; id -G; pwd; umask; ulimit -n; ulimit -Hc; cat /proc/self/oom_score_adj; echo $A; \
        grep -E '^(NoNewPrivs|Cpus_allowed_list)' /proc/self/status";
    let output = with_process(
        &bundle,
        json!({
            "user": {"uid": 7, "gid": 8, "additionalGids": [9, 10], "umask": 0o77},
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin", "A=b"],
            "cwd": "/tmp",
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
            "oomScoreAdj": 321,
            "noNewPrivileges": true,
            "execCPUAffinity": {"initial": "0-1", "final": "0"},
        }),
    );
    let want = "7\n8 9 10\n/tmp\n0077\n100\n0\n321\nb\nNoNewPrivs:\t1\nCpus_allowed_list:\t0\n";
    assert_eq!(text(&output.stdout), want, "{}", said(&output));
    for (member, value) in [
        ("cwd", json!("relative")),
        ("args", json!([])),
        ("rlimits", json!([{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}])),
        ("user", json!({"uid": 4_294_967_295_u32, "gid": 0})),
        ("execCPUAffinity", json!({"final": "3-1"})),
        ("env", json!(["WRONG"])),
    ] {
        let output = with_process(&bundle, json!({"args": ["touch", "/made"], member: value}));
        assert_eq!(output.status.code(), Some(255), "{member}: {}", said(&output));
    }
    assert!(!bundle.rootfs().join("made").exists());
    assert_eq!(bundle.does("ps", &[]).lines().count(), 2, "something is left of those that failed");
}

#[test]
fn a_paused_container_is_given_a_process_only_where_that_may_wait() {
    let Some(bundle) = sleeper() else { return };
    bundle.does("pause", &[]);
    let refused = exec(&bundle, &[], &["true"]);
    assert_eq!(refused.status.code(), Some(255), "{}", said(&refused));
    assert!(text(&refused.stderr).contains("--ignore-paused"), "{}", said(&refused));
    let words = exec_words(&bundle, &["--ignore-paused"], &["touch", "/made"]);
    let mut waits = bundle.command(&words).spawn().expect("the tool");
    std::thread::sleep(Duration::from_millis(300));
    assert!(waits.try_wait().expect("wait").is_none(), "it did not wait");
    assert!(!bundle.rootfs().join("made").exists());
    bundle.does("resume", &[]);
    assert_eq!(waits.wait().expect("wait").code(), Some(0));
    assert!(bundle.rootfs().join("made").exists());
}

#[test]
fn a_created_container_can_be_given_a_process_and_a_stopped_one_cannot() {
    let Some(bundle) = Bundle::new("true") else { return };
    bundle.create();
    assert_eq!(prints(&bundle, &[], &["hostname"]), "box\n");
    assert_eq!(bundle.state()["status"], "created");
    bundle.does("start", &[]);
    bundle.wait_for("stopped");
    let output = exec(&bundle, &[], &["true"]);
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("cannot exec in a container that is stopped"), "{}", said(&output));
    let nobody = bundle.verb(&["exec", "nobody", "true"]);
    assert_eq!(nobody.status.code(), Some(255));
    assert!(text(&nobody.stderr).contains("does not exist"), "{}", said(&nobody));
    for id in ["..", "a/b", ""] {
        assert_eq!(bundle.verb(&["exec", id, "true"]).status.code(), Some(255), "{id:?}");
    }
}

#[test]
fn a_detached_exec_goes_on_and_its_pid_is_told() {
    let Some(bundle) = sleeper() else { return };
    let file = bundle.at("pid");
    let name = file.display().to_string();
    prints(&bundle, &["-d", "--pid-file", &name], &["sleep", "100"]);
    let pid: u64 = fs::read_to_string(&file).expect("a pid").parse().expect("a number");
    assert_eq!(further(&bundle), Some(pid));
    let command = fs::read(format!("/proc/{pid}/cmdline")).expect("its command");
    assert_eq!(text(&command), "sleep\x00100\0");
    // Where it cannot be told, it does not go on.
    let output = exec(&bundle, &["-d", "--pid-file", "/nonsense/pid"], &["sleep", "200"]);
    assert_eq!(output.status.code(), Some(255));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(bundle.does("ps", &[]).lines().count(), 3);
}

#[test]
fn what_an_exec_reads_and_writes_is_the_callers() {
    let Some(bundle) = sleeper() else { return };
    let words = exec_words(&bundle, &[], &["sh", "-c", "tr a-z A-Z; echo wrong >&2"]);
    let mut command = bundle.command(&words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tool");
    child.stdin.take().expect("stdin").write_all(b"words\n").expect("write");
    let output = child.wait_with_output().expect("wait");
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("WORDS\n".into(), "wrong\n".into()));
}

#[test]
fn signals_to_the_tool_reach_the_process() {
    let Some(bundle) = sleeper() else { return };
    let words = exec_words(
        &bundle,
        &[],
        &["sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"],
    );
    let mut command = bundle.command(&words);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the tool");
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(child.stdout.take().expect("stdout"));
    std::io::BufRead::read_line(&mut reader, &mut line).expect("a line");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).expect("kill");
    assert_eq!(child.wait().expect("wait").code(), Some(9));
}

/// The master of a terminal, as it comes through a console socket.
fn received(listener: &std::os::unix::net::UnixListener) -> fs::File {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let (connection, _) = listener.accept().expect("a connection");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0; 64];
    let mut data = [std::io::IoSliceMut::new(&mut word)];
    rustix::net::recvmsg(&connection, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC).expect("recvmsg");
    let mut messages = ancillary.drain();
    match messages.next() {
        Some(RecvAncillaryMessage::ScmRights(mut fds)) => fds.next().expect("a descriptor").into(),
        _ => panic!("no descriptor"),
    }
}

#[test]
fn a_detached_exec_with_a_terminal_has_one_of_the_containers() {
    let Some(bundle) = sleeper() else { return };
    let path = bundle.at("console");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    let name = path.display().to_string();
    let words = [
        "sh",
        "-c",
        "tty; ls -l /proc/self/fd/0 | tr -s ' ' | cut -d' ' -f 3; ps -o tty,comm | grep sleep; read x; echo got $x",
    ];
    let options = ["-d", "-t", "-u", "1000", "--console-socket", &name];
    prints(&bundle, &options, &words);
    let mut master = received(&listener);
    master.write_all(b"word\n").expect("write");
    let mut got = String::new();
    // The end of a terminal is an error.
    let _ = std::io::Read::read_to_string(&mut master, &mut got);
    assert!(got.contains("/dev/pts/0\r\n") && got.contains("got word"), "{got:?}");
    assert!(fs::read_dir("/dev/pts").is_ok_and(|host| host.count() > 0));
    for (options, why) in
        [(&["-d", "-t"][..], "needs --console-socket"), (&["--console-socket", &name], "detached")]
    {
        let output = exec(&bundle, options, &["true"]);
        assert_eq!(output.status.code(), Some(255), "{}", said(&output));
        assert!(text(&output.stderr).contains(why), "{}", said(&output));
    }
}

#[test]
fn a_descriptor_of_the_process_goes_to_who_asks_for_it() {
    let Some(bundle) = sleeper() else { return };
    let path = bundle.at("pidfd");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    let name = path.display().to_string();
    prints(&bundle, &["-d", "--pidfd-socket", &name], &["sleep", "100"]);
    let pidfd = received(&listener);
    let pid = further(&bundle).expect("a process");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd)));
    assert!(info.expect("fdinfo").lines().any(|line| line == format!("Pid:\t{pid}")));
}

#[test]
fn an_exec_goes_to_the_group_below_the_containers_that_is_named() {
    let Some(bundle) = sleeper() else { return };
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).expect("its groups");
    let Some(path) = groups.lines().find_map(|line| Some(line.split_once(":pids:")?.1.to_string())) else {
        testkit::skip("needs the pids controller of version 1");
        return;
    };
    let below = PathBuf::from(format!("/sys/fs/cgroup/pids{path}/below"));
    fs::create_dir(&below).expect("mkdir");
    let inside = prints(&bundle, &["--cgroup", "pids:below"], &["grep", ":pids:", "/proc/self/cgroup"]);
    assert!(inside.trim().ends_with("/below"), "{inside}");
    let outside = exec(&bundle, &["--cgroup", "pids:../.."], &["true"]);
    assert_eq!(outside.status.code(), Some(255), "{}", said(&outside));
    fs::remove_dir(&below).expect("rmdir");
}

#[test]
fn fifty_processes_are_given_to_a_container_at_once() {
    let Some(bundle) = sleeper() else { return };
    let children: Vec<_> = (0..50)
        .map(|number| {
            let script = format!("exit {number}");
            bundle.command(&exec_words(&bundle, &[], &["sh", "-c", &script])).spawn().expect("the tool")
        })
        .collect();
    for (number, mut child) in (0..).zip(children) {
        assert_eq!(child.wait().expect("wait").code(), Some(number));
    }
    assert_eq!(bundle.does("ps", &[]).lines().count(), 2);
}

#[test]
fn an_exec_lives_on_when_its_tool_is_killed() {
    let Some(bundle) = sleeper() else { return };
    let mut command = bundle.command(&exec_words(&bundle, &[], &["sleep", "100"]));
    let mut child = command.process_group(0).spawn().expect("the tool");
    let deadline = Instant::now() + PATIENCE;
    let comm = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    while further(&bundle).is_none_or(|pid| comm(pid) != "sleep\n") {
        assert!(Instant::now() < deadline);
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    std::thread::sleep(Duration::from_millis(100));
    // As with runc.
    assert!(further(&bundle).is_some());
}
