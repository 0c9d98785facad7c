//! What goes through a runtime: a container's word to the service manager, open sockets to the container, a descriptor of its process.

mod bundle;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bundle::{Bundle, said, text};

const PATIENCE: Duration = Duration::from_secs(20);

/// A service manager's socket, and what it was told, without descriptors.
fn told(socket: &UnixDatagram, count: usize) -> Vec<String> {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut bytes = [0; 4096];
    (0..count)
        .map(|_| {
            let length = socket.recv(&mut bytes).expect("a message");
            text(&bytes[..length])
        })
        .collect()
}

/// Sends a datagram to the socket that `NOTIFY_SOCKET` names, by /dev/null and a pipe's worth of busybox: it has no such tool, so
/// the program is made here.
fn notifier(bundle: &Bundle) -> bool {
    let source = bundle.at("notify.c");
    let program = "#include <sys/socket.h>\n#include <sys/un.h>\n#include <string.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
        int main(int c, char **v) { struct sockaddr_un a = {.sun_family = AF_UNIX}; strcpy(a.sun_path, getenv(\"NOTIFY_SOCKET\"));\n\
        int s = socket(AF_UNIX, SOCK_DGRAM, 0); usleep(200000);\n\
        if (sendto(s, v[1], strlen(v[1]), 0, (void *)&a, sizeof a) < 0) return 8; sleep(atoi(v[2])); return 4; }";
    fs::write(&source, program).expect("write");
    let output = bundle.rootfs().join("bin/notify");
    let made = Command::new("cc").args(["-static", "-o"]).arg(output).arg(source).status();
    let made = made.is_ok_and(|status| status.success());
    if !made {
        testkit::skip("needs cc and a static libc");
    }
    made
}

#[test]
fn a_service_manager_hears_that_a_container_is_ready_and_nothing_else() {
    let Some(mut bundle) = Bundle::new("exec notify 'STATUS=x\nREADY=1\nMAINPID=1' 1000") else { return };
    if !notifier(&bundle) {
        return;
    }
    let path = bundle.at("manager");
    let manager = UnixDatagram::bind(&path).expect("bind");
    let with = |words: &[&str]| {
        let mut command = bundle.command(words);
        command.env("NOTIFY_SOCKET", &path);
        command
    };
    let answers = std::thread::scope(|scope| {
        let heard = scope.spawn(|| told(&manager, 3));
        assert!(bundle.output(with(&["create", &bundle.id])).status.success());
        let begun = Instant::now();
        let started = bundle.output(with(&["start", &bundle.id]));
        assert!(started.status.success(), "{}", said(&started));
        assert!(begun.elapsed() >= Duration::from_millis(200), "it did not wait");
        heard.join().expect("told")
    });
    let pid = bundle.pid();
    assert_eq!(answers, ["READY=1\n", &format!("MAINPID={pid}\n"), "BARRIER=1"]);
    let inside = text(&bundle.verb(&["exec", &bundle.id, "sh", "-c", "ls /run/notify; tr '\\0' '\\n' </proc/1/environ | grep NOTIFY; echo $NOTIFY_SOCKET; grep notify /proc/mounts | cut -d' ' -f 2,4 | cut -d, -f 1-4"]).stdout);
    assert_eq!(
        inside,
        "notify.sock\nNOTIFY_SOCKET=/run/notify/notify.sock\n\n/run/notify ro,nosuid,nodev,noexec\n"
    );
    bundle.delete();
    assert!(bundle.leftovers().is_empty());
    // In the foreground it is the tool that the manager watches; and the container's end is no word of its being ready.
    bundle.script("exec notify READY=1 1");
    let mut child = {
        let mut command = bundle.command(&["run", &bundle.id]);
        command.env("NOTIFY_SOCKET", &path).spawn().expect("the tool")
    };
    assert_eq!(told(&manager, 3), ["READY=1\n", &format!("MAINPID={}\n", child.id()), "BARRIER=1"]);
    assert_eq!(child.wait().expect("wait").code(), Some(4));
    bundle.script("exec notify STOPPING=1 0");
    let mut command = bundle.command(&["run", "--detach", &bundle.id]);
    command.env("NOTIFY_SOCKET", &path);
    assert!(bundle.output(command).status.success());
    manager.set_nonblocking(true).expect("nonblocking");
    assert!(manager.recv(&mut [0; 64]).is_err(), "it was told something");
}

#[test]
fn sockets_that_a_service_manager_opened_are_handed_on() {
    let Some(bundle) =
        Bundle::new("echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; cat <&4; ls /proc/self/fd | xargs")
    else {
        return;
    };
    bundle.write();
    fs::write(bundle.at("four"), "four\n").expect("write");
    let run = |words: &str, pid: &str, preserve: &[&str]| {
        let script = format!(
            "exec 3</dev/null 4<{} 5</dev/null 6<&-; export LISTEN_PID={pid} {words}; exec \"$@\"",
            bundle.at("four").display()
        );
        let tool = bundle.command(&[&["run"], preserve, &[bundle.id.as_str()]].concat());
        let mut shell = Command::new("/bin/bash");
        shell.args(["-c", &script, "bash"]).arg(tool.get_program()).args(tool.get_args());
        shell.current_dir(bundle.path()).stdin(Stdio::null());
        bundle.output(shell)
    };
    let handed = run("LISTEN_FDS=2 LISTEN_FDNAMES=a:b", "$$", &[]);
    assert_eq!(text(&handed.stdout), "2 1 a:b\nfour\n0 1 2 3 4 5\n", "{}", said(&handed));
    let more = run("LISTEN_FDS=1", "$$", &["--preserve-fds", "2"]);
    assert_eq!(text(&more.stdout), "1 1\nfour\n0 1 2 3 4 5 6\n", "{}", said(&more));
    // They are another process's.
    let not = run("LISTEN_FDS=2", "1", &[]);
    assert!(text(&not.stdout).starts_with("\n") && !text(&not.stdout).contains("four"), "{}", said(&not));
    let closed = run("LISTEN_FDS=4", "$$", &[]);
    assert_eq!(closed.status.code(), Some(1), "{}", said(&closed));
    assert!(text(&closed.stderr).contains("6, which is to be preserved, is not open"), "{}", said(&closed));
}

#[test]
fn a_descriptor_of_the_first_process_goes_to_who_asks_for_it() {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    let path = bundle.at("pidfd");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    bundle.does("create", &["--pidfd-socket", &path.display().to_string()]);
    let (connection, _) = listener.accept().expect("a connection");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0; 64];
    let mut data = [std::io::IoSliceMut::new(&mut word)];
    let received = rustix::net::recvmsg(&connection, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .expect("recvmsg");
    let Some(RecvAncillaryMessage::ScmRights(mut fds)) = ancillary.drain().next() else {
        panic!("no descriptor")
    };
    let pidfd = fds.next().expect("a descriptor");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd)));
    assert!(info.expect("fdinfo").lines().any(|line| line == format!("Pid:\t{}", bundle.pid())));
    assert_eq!(&word[..received.bytes], b"standard");
    let output = bundle.verb(&["create", "--pidfd-socket", "/nonsense", "other"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!Path::new(&bundle.state_root().join("other")).exists(), "{}", said(&output));
}
