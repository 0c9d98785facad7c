//! Filters through the runtime's verbs: a supervisor answers, and what Debian's runc lets through is refused.
#![cfg(target_arch = "x86_64")]

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use sys::seccomp::{Answer, answer, receive};
use testkit::{Bundle, Calls, needs};

const EPERM: i64 = -1;
/// A call that neither runtime makes.
const SCHED_GET_PRIORITY_MAX: i32 = 146;

/// The program of these calls becomes the container's command.
fn install(bundle: &mut Bundle, calls: Calls) {
    let path = bundle.root().join("bin/calls");
    std::fs::write(&path, calls.program()).expect("write");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
    bundle.args(&["calls"]);
}

/// What a runtime sends, whole: it is short. Not to its end, as Debian's runc keeps the socket while the container runs.
fn accept(agent: &UnixListener) -> (Value, OwnedFd) {
    let (stream, _) = agent.accept().expect("accept");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 4096];
    let read =
        recvmsg(&stream, &mut [std::io::IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty());
    bytes.truncate(read.expect("recvmsg").bytes);
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (serde_json::from_slice(&bytes).expect("a document"), rights.expect("a descriptor"))
}

/// Answers one call with 4242, once, and has the kernel do all that comes before; what it was told, and the caller's pid.
fn supervise(agent: UnixListener) -> JoinHandle<(Value, u32)> {
    std::thread::spawn(move || {
        let (document, listener) = accept(&agent);
        loop {
            let asked = receive(&listener).expect("a notification");
            let reply =
                if asked.number == SCHED_GET_PRIORITY_MAX { Answer::Value(4242) } else { Answer::Continue };
            answer(&listener, asked.id, reply).expect("an answer");
            if asked.number == SCHED_GET_PRIORITY_MAX {
                return (document, asked.pid);
            }
        }
    })
}

#[test]
fn the_named_supervisor_answers_the_containers_calls() {
    needs!(Root, Program("runc"));
    let own = ["sched_get_priority_max", "read", "recvfrom", "sendmsg"];
    for (runtime, names) in [("oci-spawn", &own[..]), ("runc", &own[..])] {
        for no_new_privileges in [false, true] {
            for verb in ["run", "start"] {
                let what = format!("{runtime} {verb}, noNewPrivileges {no_new_privileges}");
                let Some(mut bundle) = Bundle::of(runtime) else { return };
                let path = bundle.path("agent.sock");
                let agent = UnixListener::bind(&path).expect("bind");
                bundle.config["process"]["noNewPrivileges"] = no_new_privileges.into();
                bundle.config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "m",
                    "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}]
                });
                install(&mut bundle, Calls::new().call(146, &[]).call(39, &[]));
                let supervisor = supervise(agent);
                let output = if verb == "run" {
                    bundle.run().ok().stdout
                } else {
                    bundle.create().ok();
                    bundle.start().ok();
                    bundle.wait_for("stopped");
                    std::fs::read(bundle.path("output")).expect("the output")
                };
                assert_eq!(Calls::results(&output), [4242, 1], "{what}");
                let (document, caller) = supervisor.join().expect("a supervisor");
                assert_eq!(
                    (&document["fds"], &document["metadata"]),
                    (&json!(["seccompFd"]), &json!("m")),
                    "{what}"
                );
                assert_eq!(document["state"]["id"], bundle.id(), "{what}");
                let directory = bundle.dir().canonicalize().expect("a directory");
                assert_eq!(document["state"]["bundle"], json!(directory), "{what}");
                assert_eq!(
                    (&document["pid"], &document["state"]["pid"]),
                    (&json!(caller), &json!(caller)),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn a_supervisor_that_is_not_there_keeps_the_command_from_running() {
    for verb in ["run", "start"] {
        let Some(mut bundle) = Bundle::new() else { return };
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/such/agent.sock",
            "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]
        });
        install(&mut bundle, Calls::new().call(39, &[]));
        let refused = match verb {
            "run" => bundle.run(),
            _ => bundle.create(),
        };
        assert!(refused.code != 0 && refused.stdout.is_empty(), "{verb}: {refused}");
        assert!(
            refused.stderr.contains(r#"listenerPath "/no/such/agent.sock": connect: no such file"#),
            "{refused}"
        );
        assert_eq!(bundle.output(), "", "{verb}");
    }
}

#[test]
fn integers_are_compared_as_the_kernel_reads_them_and_not_so_by_runc() {
    needs!(Root, Program("runc"));
    for (runtime, is_refused) in [("oci-spawn", true), ("runc", false)] {
        let Some(mut bundle) = Bundle::of(runtime) else { return };
        let alg = json!({"index": 0, "value": 38, "op": "SCMP_CMP_EQ"});
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [alg]}]
        });
        install(&mut bundle, Calls::new().call(41, &[38, 5, 0]).call(41, &[0x1_0000_0026, 5, 0]));
        let results = Calls::results(&bundle.run().ok().stdout);
        assert_eq!((results[0], results[1] == EPERM), (EPERM, is_refused), "{runtime}: {results:?}");
    }
}
