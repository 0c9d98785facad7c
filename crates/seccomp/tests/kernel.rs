//! Filters in a real kernel: what a program gets that makes calls by their numbers, through every gate there is.
#![cfg(target_arch = "x86_64")]

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use oci_spec::runtime::{Capability, ContainerProcessState, LinuxSeccomp, State};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{PidfdGetfdFlags, WaitId, WaitIdOptions, pidfd_getfd, waitid};
use seccomp::{Program, compile, docker_default, notify};
use serde_json::{Value, json};
use sys::process::{Cloned, Pointers, clone, exec_fd, set_standard};
use sys::seccomp::{Answer, answer, receive};
use testkit::{Calls, calls::TRAPPED, needs};

const EPERM: i64 = -1;
const ENOSYS: i64 = -38;
const SIGSYS: i32 = 31;
const X32: u64 = 0x4000_0000;
const GETPPID: u64 = 110;

/// How a process ended: its status, or the signal as a negative number.
fn end(cloned: &Cloned) -> i32 {
    let waited =
        waitid(WaitId::PidFd(cloned.pidfd.as_fd()), WaitIdOptions::EXITED).expect("waitid").expect("an end");
    waited.exit_status().or(waited.terminating_signal().map(|signal| -signal)).expect("an end")
}

/// A program's file, and what it is executed with.
struct Executable(File, Pointers, Pointers);

impl Executable {
    fn new(calls: Calls) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("calls");
        std::fs::write(&path, calls.program()).expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("chmod");
        let file = File::open(&path).expect("open");
        Self(file, Pointers::new(vec![c"calls".into()]), Pointers::new(Vec::new()))
    }

    /// Another test's process may have the file open for writing, until it executes something.
    fn execute(&self) -> u8 {
        while exec_fd(&self.0, &self.1, &self.2).errno == Errno::TXTBSY {
            std::thread::yield_now();
        }
        98
    }
}

/// Makes the calls under the program: how the process ended, and what they answered.
fn run(program: &Program, calls: Calls) -> (i32, Vec<i64>) {
    let executable = Executable::new(calls);
    let (mut output, input) = std::io::pipe().expect("pipe");
    let child = clone(0, true, || match set_standard(&input, 1).is_ok() && program.load().is_ok() {
        true => executable.execute(),
        false => 99,
    });
    drop(input);
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).expect("read");
    (end(&child.expect("clone3")), Calls::results(&bytes))
}

fn program(profile: Value) -> Program {
    let profile: LinuxSeccomp = serde_json::from_value(profile).expect("a profile");
    compile(&profile).expect("a program")
}

fn docker(capabilities: &[Capability]) -> Program {
    let capabilities: HashSet<Capability> = capabilities.iter().copied().collect();
    compile(&docker_default(&capabilities)).expect("a program")
}

#[test]
fn dockers_profile_is_not_passed_by_other_widths_gates_or_flags() {
    needs!(Root);
    let mut calls = Calls::new();
    let alg = calls.words(&[38, 5, 0]);
    let inet = calls.words(&[2, 1, 0]);
    let clone3 = calls.words(&[0; 22]);
    let new_user = 0x1000_0000 | 17;
    type Gate = fn(Calls, u64, &[u64]) -> Calls;
    let cases: Vec<(&str, Gate, u64, Vec<u64>, i64)> = vec![
        ("an AF_ALG socket", Calls::call, 41, vec![38, 5, 0], EPERM),
        ("the same with an upper half", Calls::call, 41, vec![0x1_0000_0026, 5, 0], EPERM),
        ("an AF_VSOCK socket with an upper half", Calls::call, 41, vec![0x1_0000_0028, 1, 0], EPERM),
        ("by x86's socket", Calls::int80, 359, vec![38, 5, 0], EPERM),
        ("by x86's socket with an upper half", Calls::int80, 359, vec![0x1_0000_0026, 5, 0], EPERM),
        ("by socketcall", Calls::int80, 102, vec![1, alg], EPERM),
        ("by socketcall with an upper half", Calls::int80, 102, vec![0x1_0000_0001, alg], EPERM),
        ("any socket by socketcall", Calls::int80, 102, vec![1, inet], EPERM),
        ("by socketpair behind socketcall, which no such family has", Calls::int80, 102, vec![8, alg], -22),
        ("by x32", Calls::call, X32 | 41, vec![38, 5, 0], EPERM),
        ("getppid by x32, of which this kernel may have none", Calls::call, X32 | 110, vec![], ENOSYS),
        ("clone3", Calls::call, 435, vec![clone3, 88], ENOSYS),
        ("a user namespace", Calls::call, 56, vec![new_user, 0], EPERM),
        ("the same with an upper half", Calls::call, 56, vec![0x1_0000_0000 | new_user, 0], EPERM),
        ("the same by x86's clone", Calls::int80, 120, vec![new_user, 0], EPERM),
        ("unshare", Calls::call, 272, vec![0x1000_0000], EPERM),
        ("setns", Calls::call, 308, vec![0, 0], EPERM),
        ("bpf", Calls::call, 321, vec![0, 0, 0], EPERM),
        ("keyctl", Calls::call, 250, vec![0], EPERM),
        ("add_key", Calls::call, 248, vec![], EPERM),
        ("io_uring_setup", Calls::call, 425, vec![1, 0], EPERM),
        ("userfaultfd", Calls::call, 323, vec![0], EPERM),
        ("mount", Calls::call, 165, vec![], EPERM),
        ("a personality", Calls::call, 135, vec![0x004_0000], EPERM),
        (
            "the same with an upper half of one that is allowed",
            Calls::call,
            135,
            vec![0xffff_ffff_0004_0000],
            EPERM,
        ),
        ("a call newer than the profile", Calls::call, 999, vec![], ENOSYS),
        ("syscall(-1)", Calls::call, u64::MAX, vec![], ENOSYS),
    ];
    for (_, gate, number, args, _) in &cases {
        calls = gate(calls, *number, args);
    }
    let (status, results) = run(&docker(&[Capability::SysChroot, Capability::NetRaw]), calls);
    assert_eq!((status, results.len()), (0, cases.len()));
    for ((what, _, number, args, want), got) in cases.iter().zip(results) {
        let socketpair = *number == 102 && args[0] == 8 && got != EPERM;
        assert!(got == *want || socketpair, "{what}: {number:#x}{args:x?} answered {got}");
    }
}

#[test]
fn dockers_profile_lets_ordinary_calls_through_every_gate() {
    needs!(Root);
    let mut calls = Calls::new();
    let bound = calls.words(&[99, 0, 0]);
    let clone3 = calls.words(&[0; 22]);
    let calls = calls
        .call(41, &[2, 1, 0])
        .call(41, &[0x1_0000_0002, 1, 0])
        .int80(359, &[2, 1, 0])
        .call(GETPPID, &[])
        .int80(64, &[])
        .call(135, &[0xffff_ffff])
        .int80(102, &[2, bound]);
    let (status, results) = run(&docker(&[]), calls);
    assert_eq!(status, 0);
    assert!(results[..5].iter().all(|result| *result > 0) && results[5] == 0, "{results:?}");
    assert_eq!(results[6], -9, "bind of no descriptor, behind socketcall");
    let administrators = Calls::new().call(272, &[0]).call(435, &[clone3, 8]);
    let (_, results) = run(&docker(&[Capability::SysAdmin]), administrators);
    assert_eq!(results, [0, -22], "unshare of nothing, and clone3 of nothing");
}

#[test]
fn each_action_does_what_it_says() {
    needs!(Root);
    let of = |action: &str, errno: Option<u32>| {
        let mut rule = json!({"names": ["getppid"], "action": format!("SCMP_ACT_{action}")});
        if let Some(errno) = errno {
            rule["errnoRet"] = errno.into();
        }
        let default = if action == "ALLOW" { "SCMP_ACT_LOG" } else { "SCMP_ACT_ALLOW" };
        program(json!({"defaultAction": default, "syscalls": [rule]}))
    };
    for (action, errno, want) in [
        ("ERRNO", None, Ok(-1)),
        ("ERRNO", Some(22), Ok(-22)),
        ("ERRNO", Some(0), Ok(0)),
        ("TRACE", None, Ok(ENOSYS)),
        ("TRAP", None, Err(TRAPPED)),
        ("KILL", None, Err(-SIGSYS)),
        ("KILL_THREAD", None, Err(-SIGSYS)),
        ("KILL_PROCESS", None, Err(-SIGSYS)),
        ("LOG", None, Ok(i64::from(std::process::id()))),
        ("ALLOW", None, Ok(i64::from(std::process::id()))),
    ] {
        let (status, results) = run(&of(action, errno), Calls::new().survive_trap().call(GETPPID, &[]));
        match want {
            Ok(result) => assert_eq!((status, results.last()), (0, Some(&result)), "{action}"),
            Err(end) => assert_eq!((status, results.len()), (end, 0), "{action}"),
        }
    }
}

#[test]
fn a_call_through_a_gate_that_the_profile_does_not_name_kills() {
    needs!(Root);
    let own = || program(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}));
    assert_eq!(run(&own(), Calls::new().call(GETPPID, &[])).0, 0);
    assert_eq!(run(&own(), Calls::new().int80(64, &[])).0, -SIGSYS, "int 0x80");
    assert_eq!(run(&own(), Calls::new().call(X32 | GETPPID, &[])).0, -SIGSYS, "x32");
}

#[test]
fn a_filter_without_privilege_says_what_it_takes() {
    needs!(Root);
    let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    let child = clone(0, true, || {
        let none = rustix::thread::CapabilitySet::empty();
        let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
        if rustix::thread::set_capabilities(None, sets).is_err() {
            return 90;
        }
        let refused =
            matches!(program.load(), Err(seccomp::Error::Load(error)) if error.errno == Errno::ACCESS);
        let willing = rustix::thread::set_no_new_privs(true).is_ok() && program.load().is_ok();
        u8::from(!refused) + 2 * u8::from(!willing)
    });
    assert_eq!(end(&child.expect("clone3")), 0);
}

/// Reads the mode of each thread's filter from procfs.
fn modes() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks").flatten();
    let status = tasks.map(|task| std::fs::read_to_string(task.path().join("status")).expect("status"));
    let mode =
        |status: String| status.lines().find_map(|line| line.strip_prefix("Seccomp:\t").map(String::from));
    status.filter_map(mode).collect()
}

#[test]
fn tsync_filters_all_threads_and_nothing_else_does() {
    needs!(Root);
    const AGAIN: &str = "OCIPIPE_TEST_FLAGS";
    // A process of its own, whose threads, the harness's and the test's, can be filtered for good.
    let Ok(flags) = std::env::var(AGAIN) else {
        for (flags, all) in [("[]", false), (r#"["SECCOMP_FILTER_FLAG_TSYNC"]"#, true)] {
            let itself = std::env::current_exe().expect("this program");
            let name = "tsync_filters_all_threads_and_nothing_else_does";
            let output = std::process::Command::new(itself)
                .args(["--exact", name, "--nocapture"])
                .env(AGAIN, flags)
                .output();
            let output = output.expect("run");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let modes = text.lines().find_map(|line| line.split_once("modes ")).expect("modes").1;
            assert_eq!(modes.contains('0'), !all, "{flags}: {text}");
            assert!(modes.contains('2') && modes.len() > 1, "{flags}: {text}");
        }
        return;
    };
    let flags: Value = serde_json::from_str(&flags).expect("flags");
    program(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags})).load().expect("load");
    println!("\nmodes {}", modes().concat());
}

#[test]
fn flags_are_given_to_the_kernel() {
    needs!(Root);
    let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}
    ], "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}));
    assert_eq!(seccomp::supported_flags(), seccomp::FLAGS, "of a kernel since 5.19");
    let child = clone(0, true, || u8::from(!matches!(program.load(), Ok(Some(_)))));
    assert_eq!(end(&child.expect("clone3")), 0);
}

/// A process under a filter with a listener, and that listener.
fn watched(program: &Program, executable: &Executable, output: OwnedFd) -> (Cloned, OwnedFd) {
    let (mut numbers, number) = std::io::pipe().expect("pipe");
    let (mut go, mut gone) = std::io::pipe().expect("pipe");
    let child = clone(0, true, || {
        let Ok(Some(listener)) = program.load() else { return 99 };
        let raw = std::os::fd::AsRawFd::as_raw_fd(&listener).to_le_bytes();
        let told = (&number).write_all(&raw).is_ok() && go.read_exact(&mut [0]).is_ok();
        if told && set_standard(&output, 1).is_ok() { executable.execute() } else { 97 }
    });
    let child = child.expect("clone3");
    let mut raw = [0; 4];
    numbers.read_exact(&mut raw).expect("a number");
    let listener =
        pidfd_getfd(&child.pidfd, i32::from_le_bytes(raw), PidfdGetfdFlags::empty()).expect("pidfd_getfd");
    gone.write_all(&[1]).expect("go");
    (child, listener)
}

/// Receives what a runtime sends to a supervisor.
fn accept(listener: &UnixListener) -> (ContainerProcessState, OwnedFd) {
    let (stream, _) = listener.accept().expect("accept");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 4096];
    let message =
        recvmsg(&stream, &mut [std::io::IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty());
    bytes.truncate(message.expect("recvmsg").bytes);
    (&stream).read_to_end(&mut bytes).expect("the rest");
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (serde_json::from_slice(&bytes).expect("a document"), rights.expect("a descriptor"))
}

#[test]
fn a_supervisor_at_the_listeners_socket_answers_calls() {
    needs!(Root);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("agent.sock");
    let agent = UnixListener::bind(&path).expect("bind");
    let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "syscalls": [
        {"names": ["getppid", "uname", "mkdir"], "action": "SCMP_ACT_NOTIFY"}
    ]}));
    assert!(program.wants_listener());
    let (mut output, input) = std::io::pipe().expect("pipe");
    let executable = Executable::new(Calls::new().call(GETPPID, &[]).call(63, &[0]).call(83, &[1, 2, 3]));
    let (child, listener) = watched(&program, &executable, input.into());

    let mut state = State::default();
    state.set_version("1.2.0".into()).set_id("c".into()).set_bundle("/b".into()).set_pid(Some(7));
    let metadata = "m".repeat(100_000);
    let document = notify::process_state(state.clone(), 8, Some(&metadata));
    let supervisor = std::thread::spawn(move || accept(&agent));
    let socket = notify::connect(&path).expect("connect");
    notify::send(socket.as_fd(), &path, &document, &listener).expect("send");
    drop((socket, listener));
    let (told, listener) = supervisor.join().expect("the supervisor");
    assert_eq!((told.pid(), told.fds().as_slice()), (&8, &["seccompFd".to_owned()][..]));
    assert_eq!((told.metadata().as_ref(), told.state()), (Some(&metadata), &state));

    for (number, reply) in
        [(110, Answer::Value(4242)), (63, Answer::Continue), (83, Answer::Errno(Errno::XDEV))]
    {
        let asked = receive(&listener).expect("a notification");
        assert_eq!((asked.number, asked.audit), (number, 0xc000_003e));
        assert!(number != 83 || asked.args[..3] == [1, 2, 3], "{asked:?}");
        answer(&listener, asked.id, reply).expect("an answer");
    }
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).expect("read");
    assert_eq!(end(&child), 0);
    assert_eq!(Calls::results(&bytes), [4242, -14, -18]);
}

#[test]
fn a_supervisor_that_is_not_there_is_named() {
    let path = Path::new("/no/such/agent.sock");
    let error = notify::connect(path).expect_err("nobody listens");
    assert_eq!(
        error.to_string(),
        r#"linux.seccomp.listenerPath "/no/such/agent.sock": connect: No such file or directory (os error 2)"#
    );
}
