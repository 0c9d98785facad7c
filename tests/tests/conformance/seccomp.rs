//! config-linux.md, "Seccomp" and "The Container Process State".

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::{Value, json};
use testkit::Bundle;

use crate::{cases, prints, refused, refuses, set};

/// Allows all but what these rules say.
fn all_but(rules: Value) -> impl Fn(&mut Value) {
    set("linux.seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
}

/// What arrives at the listener of a container whose mkdir is for an agent to decide.
struct Agent {
    listener: UnixListener,
}

impl Agent {
    fn new(bundle: &mut Bundle, more: &Value) -> Self {
        let path = bundle.path("agent");
        let listener = UnixListener::bind(&path).expect("a socket");
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
        for (key, value) in more.as_object().expect("an object") {
            bundle.config["linux"]["seccomp"][key] = value.clone();
        }
        Self { listener }
    }

    /// The state, the descriptors that came with its first message and with the others, and the connection.
    fn receive(&self) -> (Value, usize, usize, UnixStream) {
        let (mut stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a timeout");
        let mut text = Vec::new();
        let first = message(&stream, &mut text);
        let mut later = 0;
        loop {
            if let Ok(state) = serde_json::from_slice(&text) {
                let mut rest = Vec::new();
                assert_eq!(stream.read_to_end(&mut rest).expect("the end"), 0, "more than one state");
                return (state, first.len(), later, stream);
            }
            let before = text.len();
            later += message(&stream, &mut text).len();
            assert!(text.len() > before, "no JSON: {:?}", String::from_utf8_lossy(&text));
        }
    }
}

fn message(stream: &UnixStream, text: &mut Vec<u8>) -> Vec<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = vec![0; 65_536];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let read =
        recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
    text.extend_from_slice(&bytes[..read.expect("a message").bytes]);
    let rights = ancillary.drain().filter_map(|one| match one {
        RecvAncillaryMessage::ScmRights(files) => Some(files.collect::<Vec<_>>()),
        _ => None,
    });
    rights.flatten().collect()
}

/// Creates and starts in the background, as both may wait for the agent.
fn lives(bundle: &Bundle, during: impl FnOnce()) {
    bundle.write();
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            let created = bundle.create();
            if created.code == 0 { bundle.start() } else { created }
        });
        during();
        made.join().expect("the thread").ok();
    });
}

cases! {
    "config-linux.md, Seccomp" {
        an_errno_that_the_default_action_cannot_give_is_refused: "`defaultErrnoRet` with an action that has none is an error" => |mut bundle| {
            for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"] {
                bundle.config["linux"]["seccomp"] = json!({"defaultAction": action, "defaultErrnoRet": 1});
                refuses(&bundle, "rrno");
            }
        };
        a_default_errno_is_returned: "`defaultErrnoRet` is what the default action returns; the default is EPERM" => |mut bundle| {
            // All but mkdir is allowed by name, which the table of the runtime's own docker profile would be; the other way
            // round here: the rule's own errno is the same code.
            for (errno, words) in [(json!(13), "Permission denied"), (json!(38), "Function not implemented"), (Value::Null, "Operation not permitted")] {
                let mut rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
                if !errno.is_null() {
                    rule["errnoRet"] = errno;
                }
                all_but(json!([rule]))(&mut bundle.config);
                let said = bundle.prints("mkdir /x 2>&1; :");
                assert!(said.contains(words), "{said}");
            }
        };
        a_default_action_is_required: "`defaultAction` is required" => refused(set("linux.seccomp", json!({"syscalls": []})), "defaultAction");
        a_rule_needs_a_name: "`names` has at least one entry" => refused(all_but(json!([{"names": [], "action": "SCMP_ACT_ERRNO"}])), "names");
        a_rule_needs_an_action: "`action` is required" => refused(all_but(json!([{"names": ["mkdir"]}])), "action");
        an_errno_that_an_action_cannot_give_is_refused: "`errnoRet` with an action that has none is an error" => refused(
            all_but(json!([{"names": ["mkdir"], "action": "SCMP_ACT_KILL", "errnoRet": 1}])), "rrno");
        an_argument_needs_its_members: "`index`, `value` and `op` are required" => |mut bundle| {
            for arg in [json!({"value": 1, "op": "SCMP_CMP_EQ"}), json!({"index": 0, "op": "SCMP_CMP_EQ"}), json!({"index": 0, "value": 1})] {
                all_but(json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [arg]}]))(&mut bundle.config);
                refuses(&bundle, "");
            }
        };
        arguments_are_compared: "`op` compares the argument with `value` and `valueTwo`" => |mut bundle| {
            // kill(pid, signal): signal 0 asks only.
            for (op, value, two, signals) in [
                ("SCMP_CMP_EQ", 10, 0, "y"), ("SCMP_CMP_NE", 10, 0, "n"), ("SCMP_CMP_LT", 10, 0, "n"), ("SCMP_CMP_LE", 10, 0, "y"),
                ("SCMP_CMP_GE", 10, 0, "y"), ("SCMP_CMP_GT", 10, 0, "n"), ("SCMP_CMP_MASKED_EQ", 8, 8, "y"), ("SCMP_CMP_MASKED_EQ", 4, 4, "n"),
            ] {
                let arg = json!({"index": 1, "value": value, "valueTwo": two, "op": op});
                all_but(json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [arg]}]))(&mut bundle.config);
                let denied = bundle.prints("trap '' USR1; kill -USR1 $$ 2>/dev/null && echo n || echo y");
                assert_eq!(denied.trim(), signals, "{op}");
            }
        };
        a_program_is_killed_where_the_rule_says_so: "SCMP_ACT_KILL_PROCESS kills" => |mut bundle| {
            all_but(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]))(&mut bundle.config);
            assert_eq!(bundle.prints("mkdir /x; echo $?"), "159\n");
        };
        the_agents_socket_is_a_stream: "the socket of `listenerPath` is AF_UNIX and SOCK_STREAM" => |mut bundle| {
            let agent = Agent::new(&mut bundle, &json!({}));
            lives(&bundle, || { agent.receive(); });
        };
        one_state_per_connection: "exactly one container process state is sent per connection, which is then closed" => |mut bundle| {
            let agent = Agent::new(&mut bundle, &json!({}));
            // `receive` wants the end of the stream after one state.
            lives(&bundle, || { agent.receive(); });
            agent.listener.set_nonblocking(true).expect("a flag");
            assert!(agent.listener.accept().is_err(), "a second connection");
        };
        an_agent_that_is_not_there_is_an_error: "a state that cannot be sent is an error" => |mut bundle| {
            drop(Agent::new(&mut bundle, &json!({})));
            bundle.sh("echo ran >/ran");
            let created = bundle.create();
            let said = if created.code == 0 { bundle.start() } else { created };
            assert_ne!(said.code, 0, "{said}");
            assert!(said.stderr.contains("agent") || said.stderr.contains("listener"), "{said}");
            assert!(!bundle.root().join("ran").exists());
        };
        metadata_without_a_listener_is_refused: "`listenerMetadata` is not set without `listenerPath`" => refused(
            set("linux.seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"})), "listener");
        a_listener_that_nothing_notifies_is_ignored: "without SCMP_ACT_NOTIFY `listenerPath` is ignored" => prints(
            set("linux.seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/such/agent"})), "echo runs", "runs\n");
    }
    "config-linux.md, The Container Process State" {
        the_state_is_json_and_the_descriptor_a_right: "the state is sent as JSON, and file descriptors by SCM_RIGHTS" => |mut bundle| {
            let agent = Agent::new(&mut bundle, &json!({"listenerMetadata": "opaque"}));
            bundle.args(&["sleep", "100"]);
            lives(&bundle, || {
                let (state, rights, _, _) = agent.receive();
                assert_eq!(state["fds"], json!(["seccompFd"]), "{state}");
                assert_eq!(rights, 1);
                assert_eq!(state["metadata"], "opaque");
            });
        };
        descriptors_come_with_the_first_message: "descriptors are sent only in the first sendmsg" => |mut bundle| {
            // A state longer than one message may be.
            let agent = Agent::new(&mut bundle, &json!({"listenerMetadata": "x".repeat(300_000)}));
            lives(&bundle, || {
                let (state, first, later, _) = agent.receive();
                assert_eq!((first, later), (1, 0));
                assert_eq!(state["metadata"].as_str().map(str::len), Some(300_000));
            });
        };
        the_process_state_has_its_members: "`ociVersion`, `pid` and `state` are there, `pid` as the runtime sees it" => |mut bundle| {
            let agent = Agent::new(&mut bundle, &json!({}));
            bundle.args(&["sleep", "100"]);
            let mut seen = json!({});
            lives(&bundle, || seen = agent.receive().0);
            assert_eq!(seen["pid"], json!(bundle.pid()), "{seen}");
            assert!(seen["ociVersion"].is_string(), "{seen}");
            let state = &seen["state"];
            assert_eq!((&state["id"], &state["bundle"]), (&json!(bundle.id()), &json!(bundle.dir())), "{seen}");
            assert!(state["status"].is_string() && state["ociVersion"].is_string(), "{seen}");
        };
    }
}
