//! config-linux.md, "Devices" and "Default Devices".

use serde_json::json;

use crate::{cases, prints, refuses, set};

/// Shows a node's kind, numbers, mode and owner.
const SHOW: &str = "stat -c '%F %t:%T %a %u:%g'";

cases! {
    "config-linux.md, Devices" {
        listed_devices_are_available: "the devices listed are available in the container" => prints(
            set("linux.devices", json!([
                {"type": "c", "path": "/dev/zero2", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
                {"type": "b", "path": "/dev/block", "major": 7, "minor": 200, "fileMode": 0o600},
                {"type": "u", "path": "/dev/unbuffered", "major": 1, "minor": 7},
                {"type": "p", "path": "/dev/fifo", "fileMode": 0o622},
            ])),
            &format!("for n in zero2 block unbuffered fifo; do {SHOW} /dev/$n; done; head -c 3 /dev/zero2 | wc -c"),
            "character special file 1:5 640 3:4\nblock special file 7:c8 600 0:0\ncharacter special file 1:7 666 0:0\nfifo 0:0 622 0:0\n3\n");
        a_device_that_exists_otherwise_is_refused: "a file at `path` that does not match the device is an error" => |mut bundle| {
            std::fs::write(bundle.root().join("tmp/node"), "a file").expect("write");
            bundle.config["linux"]["devices"] = json!([{"type": "c", "path": "/tmp/node", "major": 1, "minor": 3}]);
            refuses(&bundle, "/tmp/node");
            assert_eq!(std::fs::read_to_string(bundle.root().join("tmp/node")).expect("read"), "a file");
        };
        a_device_can_be_anywhere: "`path` may be anywhere in the container's file system" => prints(
            set("linux.devices", json!([{"type": "c", "path": "/opt/new/null", "major": 1, "minor": 3}])),
            &format!("{SHOW} /opt/new/null; echo x >/opt/new/null && echo works"), "character special file 1:3 666 0:0\nworks\n");
        a_device_needs_its_members: "`type`, `path`, and `major` and `minor` but for a fifo, are required" => |mut bundle| {
            for device in [
                json!({"path": "/dev/x", "major": 1, "minor": 3}),
                json!({"type": "c", "major": 1, "minor": 3}),
                json!({"type": "c", "path": "/dev/x", "minor": 3}),
            ] {
                bundle.config["linux"]["devices"] = json!([device]);
                refuses(&bundle, "");
            }
        };
    }
    "config-linux.md, Default Devices" {
        default_devices_are_supplied: "/dev/null, zero, full, random, urandom and tty are supplied" => prints(
            |_| (),
            "for n in null zero full random urandom tty; do stat -c '%n %F %t:%T' /dev/$n; done",
            "/dev/null character special file 1:3\n/dev/zero character special file 1:5\n/dev/full character special file 1:7\n\
             /dev/random character special file 1:8\n/dev/urandom character special file 1:9\n/dev/tty character special file 5:0\n");
        default_devices_work: "they work as such" => prints(
            |_| (), "echo x >/dev/null; head -c 2 /dev/zero | od -An -tx1; head -c 4 /dev/urandom | wc -c; echo x 2>/dev/null >/dev/full || echo full", " 00 00\n4\nfull\n");
        the_console_is_the_terminal: "with `terminal` /dev/console is the terminal, bound there" => |mut bundle| {
            testkit::needs!(Program("script"));
            bundle.config["process"]["terminal"] = json!(true);
            bundle.sh("stat -c %t /dev/console; grep -c ' /dev/console ' /proc/mounts; [ $(stat -L -c %t:%T:%i /dev/console) = $(stat -L -c %t:%T:%i /proc/1/fd/0) ] && echo same");
            bundle.write();
            let line = format!("oci-spawn --root {} run -b {} {}", bundle.states().display(), bundle.dir().display(), bundle.id());
            let mut command = bundle.world().command("script");
            command.args(["-qec", &line, "/dev/null"]);
            let said = bundle.finish(command).ok();
            // What `script` sends at the end of its own stdin is echoed.
            assert_eq!(said.text().replace('\r', "").replace("^@", "").replace("^D", ""), "88\n1\nsame\n", "{said}");
        };
        without_a_terminal_there_is_no_console: "without `terminal` no console is set up" => prints(|_| (), "[ -e /dev/console ] || echo none", "none\n");
        ptmx_is_the_containers_own: "/dev/ptmx is the container's /dev/pts/ptmx" => prints(
            |_| (), "readlink -f /dev/ptmx; stat -L -c %t:%T /dev/ptmx; exec 5<>/dev/ptmx && ls /dev/pts", "/dev/pts/ptmx\n5:2\n0\nptmx\n");
    }
}
