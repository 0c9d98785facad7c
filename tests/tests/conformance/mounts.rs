//! config.md, "Root" and "Mounts"; the options are in options.rs.

use serde_json::json;

use crate::{cases, prints, refused, refuses, set, without};

cases! {
    "config.md, Root" {
        a_configuration_without_a_root_is_refused: "`root` is required" => refused(without("root"), "root");
        a_root_without_a_path_is_refused: "`root.path` is required" => refused(without("root.path"), "path");
        a_root_that_is_no_directory_is_refused: "a directory exists at `root.path`" => |mut bundle| {
            for (path, word) in [("missing", "missing"), ("config.json", "config.json")] {
                bundle.config["root"]["path"] = json!(path);
                refuses(&bundle, word);
            }
        };
        a_root_is_relative_to_the_bundle_or_absolute: "`root.path` is absolute or relative to the bundle" => |mut bundle| {
            assert_eq!(bundle.prints("echo relative"), "relative\n");
            bundle.config["root"]["path"] = json!(bundle.root());
            assert_eq!(bundle.prints("echo absolute"), "absolute\n");
        };
        a_read_only_root_takes_no_writes: "with `readonly` the root is read-only inside the container" => prints(
            set("root.readonly", json!(true)), "touch /x 2>&1; touch /dev/shm/x && echo elsewhere",
            "touch: /x: Read-only file system\nelsewhere\n");
        a_root_is_writable_by_default: "`readonly` defaults to false" => prints(|_| (), "touch /x && echo written", "written\n");
    }
    "config.md, Mounts" {
        mounts_come_in_the_listed_order: "mounts are made in the listed order" => |mut bundle| {
            for (name, text) in [("one", "one"), ("two", "two")] {
                std::fs::create_dir_all(bundle.path(name).join("sub")).expect("mkdir");
                std::fs::write(bundle.path(name).join("file"), text).expect("write");
            }
            let (one, two) = (bundle.path("one"), bundle.path("two"));
            bundle.mount("bind", &one, "/v", &["bind"]);
            bundle.mount("bind", &two, "/v", &["bind"]);
            bundle.mount("bind", &one, "/v/sub", &["bind"]);
            assert_eq!(bundle.prints("cat /v/file /v/sub/file"), "twoone");
        };
        a_relative_destination_is_below_the_root: "a relative destination is interpreted as relative to \"/\"" => |mut bundle| {
            bundle.mount("tmpfs", "tmpfs".as_ref(), "relative/place", &[]);
            bundle.config["process"]["cwd"] = json!("/tmp");
            assert_eq!(bundle.prints("cut -d' ' -f2 /proc/mounts | grep place"), "/relative/place\n");
        };
        a_mount_without_a_destination_is_refused: "`destination` is required" => |mut bundle| {
            bundle.mounts().push(json!({"type": "tmpfs", "source": "tmpfs"}));
            refuses(&bundle, "destination");
        };
        a_bind_of_a_relative_source_is_of_the_bundle: "a bind's source is absolute or relative to the bundle" => |mut bundle| {
            std::fs::create_dir(bundle.path("data")).expect("mkdir");
            std::fs::write(bundle.path("data/file"), "of the bundle\n").expect("write");
            bundle.mount("none", "data".as_ref(), "/v", &["rbind"]);
            assert_eq!(bundle.prints("cat /v/file"), "of the bundle\n");
        };
        the_options_make_a_bind_and_not_the_type: "a mount is a bind mount if it has `bind` or `rbind`, whatever its type" => |mut bundle| {
            std::fs::create_dir(bundle.path("data")).expect("mkdir");
            std::fs::write(bundle.path("data/file"), "bound\n").expect("write");
            let data = bundle.path("data");
            bundle.mount("tmpfs", &data, "/v", &["bind"]);
            bundle.mount("nonsense", &data, "/w", &["rbind"]);
            assert_eq!(bundle.prints("cat /v/file /w/file"), "bound\nbound\n");
        };
        a_file_system_of_any_kind_of_the_kernels_is_mounted: "`type` is a file system of the kernel's" => |mut bundle| {
            bundle.mount("mqueue", "mqueue".as_ref(), "/dev/mqueue", &["nosuid"]);
            bundle.mount("ramfs", "ramfs".as_ref(), "/r", &[]);
            assert_eq!(bundle.prints("awk '$2 == \"/r\" || $2 == \"/dev/mqueue\" {print $3}' /proc/mounts"), "mqueue\nramfs\n");
        };
        a_kind_that_the_kernel_lacks_is_refused: "a file system that the kernel does not know is an error" => |mut bundle| {
            bundle.mount("nonsense", "x".as_ref(), "/r", &[]);
            refuses(&bundle, "nonsense");
        };
        mappings_of_one_kind_alone_are_refused: "a mount's `uidMappings` and `gidMappings` are specified together" => |mut bundle| {
            let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
            let source = bundle.root().join("tmp");
            for one in ["uidMappings", "gidMappings"] {
                bundle.mounts().retain(|mount| mount["destination"] != "/v");
                bundle.mounts().push(json!({"type": "bind", "source": source, "destination": "/v", "options": ["bind", "idmap"], one: map}));
                refuses(&bundle, "appings");
            }
        };
    }
    "config.md, Linux mount options" {
        an_idmapped_mount_has_its_own_mappings: "`idmap`: the mount has an id mapping, that of its `uidMappings` and `gidMappings` where they are given" => idmapped("idmap", false);
        a_recursively_idmapped_mount_has_its_own_mappings: "`ridmap`: the same for all that is mounted below" => idmapped("ridmap", true);
        idmap_without_mappings_is_refused: "`idmap` and `ridmap` without mappings and without a user namespace are errors" => |mut bundle| {
            let source = bundle.root().join("tmp");
            for option in ["idmap", "ridmap"] {
                bundle.mounts().retain(|mount| mount["destination"] != "/v");
                bundle.mount("bind", &source, "/v", &["bind", option]);
                refuses(&bundle, "idmap");
            }
        };
        an_unknown_option_is_the_file_systems: "an unknown option is handed to the file system (SHOULD)" => |mut bundle| {
            bundle.mount("tmpfs", "tmpfs".as_ref(), "/r", &["size=64k", "nr_inodes=7"]);
            assert_eq!(bundle.prints("grep ' /r ' /proc/mounts | grep -c 'size=64k.*nr_inodes=7'"), "1\n");
            bundle.mount("tmpfs", "tmpfs".as_ref(), "/s", &["nonsense"]);
            refuses(&bundle, "nonsense");
        };
    }
}

/// A volume of uid 0 shows as uid 1000 and more in the container.
fn idmapped(option: &'static str, below: bool) -> impl FnOnce(testkit::Bundle) {
    move |mut bundle| {
        let volume = bundle.path("volume");
        std::fs::create_dir_all(volume.join("sub")).expect("mkdir");
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
        bundle.mounts().push(json!({"type": "bind", "source": volume, "destination": "/v", "options": ["rbind", option], "uidMappings": map, "gidMappings": map}));
        bundle.sh("stat -c %u:%g /v /v/sub");
        bundle.write();
        let mut command = bundle.world().command("unshare");
        let script = "mount -t tmpfs -o mode=755 below \"$1\" && shift && exec \"$@\"";
        command.args(["-m", "sh", "-c", script, "sh"]).arg(volume.join("sub")).args(["oci-spawn", "--root"]);
        command.arg(bundle.states()).args(["run", "-b"]).arg(bundle.dir()).arg(bundle.id());
        let said = bundle.finish(command).ok();
        assert_eq!(said.text(), if below { "1000:1000\n1000:1000\n" } else { "1000:1000\n0:0\n" });
    }
}
