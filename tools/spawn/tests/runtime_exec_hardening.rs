//! `exec`: a further process in a container gets nothing of the host and no more rights than it was given (the classes of known
//! failures by their numbers).

mod bundle;
mod exec;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bundle::{Bundle, said, text};
use exec::{PATIENCE, exec, exec_words, fields, further, prints, sleeper, with_open_host, with_process};
use serde_json::{Value, json};

/// Says which descriptors the shell has; what it opened itself is gone by then.
const OPEN: &str = "for n in $(seq 0 99); do [ ! -L /proc/$$/fd/$n ] || echo $n; done | xargs";

/// C1: open files of the host, and working directories that lead to them (CVE-2024-21626).
#[test]
fn c1_an_exec_has_no_file_of_the_host_and_no_way_to_one() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    symlink("/proc/self/fd/7", bundle.rootfs().join("w")).expect("symlink");
    bundle.start();
    let list = with_open_host(&bundle, &exec_words(&bundle, &[], &["sh", "-c", OPEN]));
    assert_eq!(text(&list.stdout).trim(), "0 1 2", "{}", said(&list));
    let handed = ["--preserve-fds", "2"];
    let list = with_open_host(&bundle, &exec_words(&bundle, &handed, &["sh", "-c", OPEN]));
    assert_eq!(text(&list.stdout).trim(), "0 1 2 3 4", "{}", said(&list));
    for number in 3..=64 {
        let cwd = format!("/proc/self/fd/{number}");
        let output = with_open_host(&bundle, &exec_words(&bundle, &["--cwd", &cwd], &["cat", "shadow"]));
        assert_eq!(output.status.code(), Some(255), "{cwd}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{cwd}");
    }
    let output = with_open_host(&bundle, &exec_words(&bundle, &["--cwd", "/w"], &["cat", "shadow"]));
    assert_eq!(output.status.code(), Some(255), "{}", said(&output));
    let cwd = prints(
        &bundle,
        &[],
        &["sh", "-c", "pwd; readlink /proc/self/cwd; ls -di /proc/1/root/ /proc/self/cwd/"],
    );
    assert!(cwd.starts_with("/\n/\n"), "{cwd}");
    let inodes: Vec<&str> = cwd.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(inodes[0], inodes[1]);
}

#[test]
fn descriptors_to_preserve_that_are_not_open_are_refused_before_anything_is_made() {
    let Some(bundle) = sleeper() else { return };
    let output = with_open_host(&bundle, &exec_words(&bundle, &["--preserve-fds", "8"], &["touch", "/made"]));
    assert_eq!(output.status.code(), Some(255), "{}", said(&output));
    assert!(text(&output.stderr).contains("10, which is to be preserved, is not open"), "{}", said(&output));
    assert!(!bundle.rootfs().join("made").exists());
    let create = with_open_host(&bundle, &["create", "--preserve-fds", "8", "other"]);
    assert_eq!(create.status.code(), Some(1), "{}", said(&create));
    assert!(!bundle.state_root().join("other").exists());
}

/// C1, CVE-2016-9962: until it is what was asked for, nobody in the container looks into the process.
#[test]
fn c1_an_exec_cannot_be_looked_into_before_its_command_runs() {
    testkit::needs!(Root, Program("strace"));
    let Some(bundle) = sleeper() else { return };
    // The command's own execve is held up, when all else is done: a user's process by then.
    let tool = bundle.command(&exec_words(&bundle, &["-u", "1000"], &["sleep", "30"]));
    let mut traced = Command::new("strace");
    traced.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=execve",
        "-e",
        "inject=execve:delay_enter=4000000",
    ]);
    traced.arg(tool.get_program()).args(tool.get_args()).current_dir(bundle.path()).stdin(Stdio::null());
    let mut traced = traced.spawn().expect("strace");
    let deadline = Instant::now() + PATIENCE;
    let mut owner_before = None;
    let owner_after = loop {
        assert!(Instant::now() < deadline, "the command never ran");
        std::thread::sleep(Duration::from_millis(20));
        let Some(pid) = further(&bundle) else { continue };
        let uid = |status: &str| {
            fields(status, "Uid:").first().and_then(|l| l.split_whitespace().nth(1).map(str::to_string))
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let Ok(fd) = fs::metadata(format!("/proc/{pid}/fd")) else { continue };
        match (uid(&status).as_deref(), name.trim()) {
            // What proc(5) says of processes that are not dumpable: root's, and of nobody else's to read.
            (Some("1000"), "oci-spawn") => owner_before = Some(fd.uid()),
            (Some("1000"), "sleep") => break fd.uid(),
            _ => {}
        }
    };
    let _ = traced.kill();
    let _ = traced.wait();
    assert_eq!(owner_before, Some(0), "before its command runs");
    assert_eq!(owner_after, 1000, "the control: its command is everybody's like any other");
}

/// C8: exactly the capabilities of the process, whoever it is.
#[test]
fn c8_an_exec_has_exactly_the_capabilities_of_its_process() {
    let Some(bundle) = sleeper() else { return };
    let sets = |bounding: Value, permitted: Value, inheritable: Value, ambient: Value| {
        json!({"bounding": bounding, "permitted": permitted, "effective": permitted, "inheritable": inheritable,
            "ambient": ambient})
    };
    let (kill, raw) = (json!(["CAP_KILL"]), json!(["CAP_KILL", "CAP_NET_RAW"]));
    let none = json!([]);
    // Bounding, permitted, inheritable, ambient; of the effective ones see below.
    let table = [
        (json!({}), [0, 0, 0, 0]),
        (sets(none.clone(), none.clone(), none.clone(), none.clone()), [0, 0, 0, 0]),
        (sets(kill.clone(), none.clone(), none.clone(), none.clone()), [0x20, 0, 0, 0]),
        (sets(raw.clone(), kill.clone(), none.clone(), none.clone()), [0x2020, 0x20, 0, 0]),
        (sets(raw.clone(), raw.clone(), kill.clone(), none.clone()), [0x2020, 0x2020, 0x20, 0]),
        (sets(raw.clone(), raw.clone(), raw.clone(), kill.clone()), [0x2020, 0x2020, 0x2020, 0x20]),
    ];
    for uid in [0, 1000] {
        for (capabilities, [bounding, permitted, inheritable, ambient]) in &table {
            let output = with_process(
                &bundle,
                json!({
                    "capabilities": capabilities,
                    "user": {"uid": uid, "gid": 0},
                    "args": ["grep", "^Cap", "/proc/self/status"],
                }),
            );
            assert!(output.status.success(), "{capabilities}: {}", said(&output));
            // Executing as root raises what the bounding set allows, as another user what is ambient (capabilities(7)).
            let own: u64 = if uid == 0 { (bounding & 0x2020) | inheritable } else { *ambient };
            let own = if *bounding == 0 { 0 } else { own };
            let _ = permitted;
            let want = format!(
                "CapInh:\t{inheritable:016x}\nCapPrm:\t{own:016x}\nCapEff:\t{own:016x}\nCapBnd:\t{bounding:016x}\nCapAmb:\t{ambient:016x}\n"
            );
            assert_eq!(text(&output.stdout), want, "{uid} {capabilities}");
        }
    }
    let unknown = with_process(
        &bundle,
        json!({
            "capabilities": {"bounding": ["CAP_NONSENSE", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
            "args": ["grep", "^CapBnd", "/proc/self/status"],
        }),
    );
    assert!(
        text(&unknown.stderr)
            .contains("warning: ignoring unknown or unavailable capabilities: [CAP_NONSENSE]")
    );
    assert_eq!(text(&unknown.stdout), "CapBnd:\t0000000000000020\n", "{}", said(&unknown));
}

/// C9: users are numbers, read strictly, and nothing of the container says who they are.
#[test]
fn c9_a_user_is_a_number_and_never_a_name_of_the_containers() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    let passwd = "1000:x:0:0::/:/bin/sh\n99999999999:x:0:0::/:/bin/sh\nroot:x:0:0::/root:/bin/sh\n";
    fs::write(bundle.rootfs().join("etc/passwd"), passwd).expect("passwd");
    bundle.start();
    for (user, uid, gid) in [
        ("0", 0, 0),
        ("1", 1, 0),
        ("1:1", 1, 1),
        ("1000", 1000, 0),
        ("65534:65534", 65534, 65534),
        ("2147483648", 2_147_483_648_u32, 0),
        ("4294967294:4294967294", 4_294_967_294, 4_294_967_294_u32),
    ] {
        let got = prints(
            &bundle,
            &["--user", user],
            &["sh", "-c", "grep -E '^(Uid|Gid|Groups)' /proc/self/status"],
        );
        let want =
            format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\nGroups:\t \n");
        assert_eq!(got, want, "{user}");
    }
    for user in
        ["4294967295", "4294967296", "99999999999", "-1", "0x0", "1000:", ":5", "root", "1 ", "+1", "1:x"]
    {
        let output = exec(&bundle, &[&format!("--user={user}")], &["touch", "/made"]);
        assert_eq!(output.status.code(), Some(255), "{user}: {}", said(&output));
    }
    assert!(!bundle.rootfs().join("made").exists());
    for file in ["etc/passwd", "etc/group"] {
        let path = bundle.rootfs().join(file);
        fs::remove_file(&path).expect("unlink");
        // Whoever waited for a writer would wait for ever.
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
    }
    assert_eq!(prints(&bundle, &["-u", "5"], &["sh", "-c", "echo $HOME"]), "/\n");
}

/// C14: the environment is that of the process, and nothing of the caller's.
#[test]
fn c14_an_exec_has_nothing_of_the_callers_environment() {
    let Some(bundle) = sleeper() else { return };
    let mut command = bundle.command(&exec_words(&bundle, &[], &["env"]));
    command.env("SECRET", "1").env("NOTIFY_SOCKET", "/x").env("LISTEN_FDS", "1");
    assert_eq!(text(&bundle.output(command).stdout), "PATH=/bin\nHOME=/root\n");
    let mut command = bundle.command(&exec_words(&bundle, &["--detach"], &["sleep", "100"]));
    command.env("SECRET", "1");
    assert!(bundle.output(command).status.success());
    let pid = further(&bundle).expect("a process");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    assert_eq!(text(&environment), "PATH=/bin\0HOME=/root\0");
}

#[test]
fn the_filter_of_the_container_filters_an_exec() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 93}],
        }),
    );
    bundle.start();
    let got = prints(&bundle, &[], &["sh", "-c", "grep ^Seccomp: /proc/self/status; mkdir /x 2>&1; true"]);
    assert!(got.starts_with("Seccomp:\t2\nmkdir: ") && got.contains("rotocol not supported"), "{got}");
}

#[test]
fn the_hosts_null_device_keeps_its_owner_and_mode() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.privileged();
    bundle.start();
    // A node of its own for the host's, so that a failure does no harm.
    let null = bundle.at("null");
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o644));
    rustix::fs::mknodat(rustix::fs::CWD, &null, kind, mode, rustix::fs::makedev(1, 3)).expect("mknod");
    let look = || fs::metadata(&null).map(|null| (null.uid(), null.mode())).expect("the node");
    let before = look();
    let from_null = |options: &[&str], script: &str| {
        let mut command = bundle.command(&exec_words(&bundle, options, &["sh", "-c", script]));
        command.stdin(fs::File::open(&null).expect("the node"));
        let output = bundle.output(command);
        assert!(output.status.success(), "{}", said(&output));
        text(&output.stdout)
    };
    let script = "chown 5 /proc/self/fd/0; chmod 600 /proc/self/fd/0; stat -c %u:%a -L /proc/self/fd/0";
    assert_eq!(from_null(&[], script), "5:600\n");
    assert_eq!(look(), before);
    from_null(&["-u", "1000"], "true");
    assert_eq!(look(), before);
}

/// C2: the host's own program is no file that the container can write to, while it is in the container either.
#[test]
fn c2_the_program_is_not_to_be_written_to_by_way_of_an_exec() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.privileged();
    let script = "#!/proc/self/exe\n";
    let path = bundle.rootfs().join("tmp/again");
    fs::write(&path, script).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    bundle.start();
    let before = fs::read(&bundle.program).expect("the program");
    let watch = "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in *oci-spawn*) : >>$p/exe;; esac; done; \
        done 2>/dev/null";
    prints(&bundle, &["-d"], &["sh", "-c", watch]);
    for _ in 0..20 {
        let _ = exec(&bundle, &[], &["/tmp/again"]);
        let _ = exec(&bundle, &[], &["/proc/self/exe"]);
        prints(&bundle, &[], &["true"]);
    }
    assert!(fs::read(&bundle.program).expect("the program") == before, "the program was written to");
}
