//! bundle.md and runtime-linux.md.

use crate::{cases, prints};

cases! {
    "bundle.md" {
        the_configuration_is_config_json_of_the_bundle: "config.json resides in the root of the bundle and has that name" => |bundle| {
            bundle.write();
            std::fs::rename(bundle.path("config.json"), bundle.path("Config.json")).expect("rename");
            let mut command = bundle.command(&["create", "-b"]);
            command.arg(bundle.dir()).arg(bundle.id());
            bundle.finish(command).fails(1).says("config.json");
            bundle.assert_nothing_left();
        };
    }
    "runtime-linux.md, File descriptors" {
        only_the_standard_descriptors_are_open: "only stdin, stdout and stderr are kept open for the application" => |mut bundle| {
            bundle.sh("ls /proc/$$/fd; :");
            bundle.write();
            let mut command = bundle.world().command("sh");
            let script = "exec 7</etc 9<>/dev/null; exec \"$@\"";
            command.args(["-c", script, "sh", "oci-spawn", "--root"]).arg(bundle.states());
            command.args(["run", "-b"]).arg(bundle.dir()).arg(bundle.id());
            let said = bundle.finish(command).ok();
            // The shell itself opens 10 for the script it was given, if any.
            let open: Vec<u32> = said.text().lines().filter_map(|n| n.parse().ok()).filter(|&n| n < 10).collect();
            assert_eq!(open, [0, 1, 2], "{said}");
        };
    }
    "runtime-linux.md, Dev symbolic links" {
        dev_has_its_links: "/dev/fd, /dev/stdin, /dev/stdout and /dev/stderr are links into /proc/self/fd" => prints(
            |_| (),
            "for n in fd stdin stdout stderr; do readlink /dev/$n; done",
            "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n",
        );
        dev_has_no_links_where_there_is_no_proc: "the links are made only if the source file exists once the mounts are processed" => |mut bundle| {
            bundle.mounts().retain(|mount| mount["destination"] != "/proc");
            bundle.config["linux"]["maskedPaths"] = serde_json::json!([]);
            bundle.config["linux"]["readonlyPaths"] = serde_json::json!([]);
            // Whether dangling links are made is free; that the container starts is not.
            assert_eq!(bundle.prints("echo started"), "started\n");
        };
    }
}
