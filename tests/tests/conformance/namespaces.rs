//! config-linux.md, "Default Filesystems", "Namespaces", "User namespace mappings", "Offset for Time Namespace" and
//! "Network Devices".

use std::process::{Child, Command};

use serde_json::json;
use testkit::Bundle;

use crate::{cases, prints, refuses};

/// The kinds with their names below /proc/PID/ns.
const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn namespace(pid: &str, name: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace").display().to_string()
}

/// A process in new namespaces of all kinds; ends with the value.
struct Other(Child);

impl Other {
    fn start(bundle: &Bundle) -> Self {
        let flags = ["-n", "-i", "-u", "-C", "-T", "-m", "-f", "-p", "--kill-child"];
        let child = Command::new("unshare").args(flags).args(["sleep", "100"]).spawn().expect("unshare");
        let other = Self(child);
        bundle.until("a process in other namespaces", || other.find().is_some());
        other
    }

    fn find(&self) -> Option<String> {
        let path = format!("/proc/{0}/task/{0}/children", self.0.id());
        let children = std::fs::read_to_string(path).ok()?;
        let pid = children.split_whitespace().next()?.to_owned();
        (std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()? == "sleep\n").then_some(pid)
    }

    fn pid(&self) -> String {
        self.find().expect("it lives")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What tools of another user namespace's root must be able to reach.
fn opened(bundle: &Bundle) {
    let owner = |path: &std::path::Path| {
        std::os::unix::fs::lchown(path, Some(100_000), Some(100_000)).expect("chown")
    };
    owner(&bundle.root());
    for entry in std::fs::read_dir(bundle.root()).expect("a root").flatten() {
        owner(&entry.path());
    }
}

cases! {
    "config-linux.md, Default Filesystems" {
        default_file_systems_can_be_had: "/proc, /sys, /dev/pts and /dev/shm are of their types (SHOULD)" => prints(
            |_| (), "for p in /proc /sys /dev/pts /dev/shm; do awk -v p=$p '$2 == p {print $3}' /proc/mounts; done", "proc\nsysfs\ndevpts\ntmpfs\n");
    }
    "config-linux.md, Namespaces" {
        a_namespace_without_a_kind_is_refused: "`type` is required" => |mut bundle| {
            bundle.namespaces().push(json!({}));
            refuses(&bundle, "type");
        };
        a_namespaces_path_is_absolute: "`path` is an absolute path" => |mut bundle| {
            let deep = "../".repeat(20);
            bundle.join_namespace("network", &format!("{deep}proc/1/ns/net"));
            refuses(&bundle, "absolute");
        };
        the_process_is_in_the_namespaces_of_the_paths: "the process is placed in the namespace of `path`" => |mut bundle| {
            let other = Other::start(&bundle);
            for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup"), ("pid", "pid")] {
                bundle.join_namespace(kind, &format!("/proc/{}/ns/{name}", other.pid()));
            }
            bundle.config.as_object_mut().expect("an object").remove("hostname");
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            for name in ["net", "ipc", "uts", "cgroup", "pid"] {
                assert_eq!(namespace(&bundle.pid().to_string(), name), namespace(&other.pid(), name), "{name}");
            }
            bundle.verb(&["delete", "--force", bundle.id()]).ok();
            drop(other);
        };
        a_path_of_another_kind_is_refused: "a `path` that is not of a namespace of `type` is an error" => |mut bundle| {
            for (kind, path) in [("network", "/proc/self/ns/uts"), ("ipc", "/proc/self/ns/net"), ("pid", "/proc/self/ns/mnt"), ("uts", "/etc/passwd")] {
                let good = bundle.config.clone();
                bundle.join_namespace(kind, path);
                refuses(&bundle, "");
                bundle.config = good;
            }
        };
        a_namespace_without_a_path_is_new: "without a `path` a new namespace of `type` is created" => |mut bundle| {
            bundle.namespaces().push(json!({"type": "time"}));
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            bundle.start().ok();
            for (kind, name) in KINDS {
                assert_ne!(namespace(&bundle.pid().to_string(), name), namespace("self", name), "{kind}");
            }
        };
        a_kind_that_is_not_listed_is_inherited: "a kind that is not listed is inherited from the runtime" => |mut bundle| {
            for kind in ["network", "ipc", "uts", "cgroup", "pid"] {
                bundle.without_namespace(kind);
            }
            bundle.config.as_object_mut().expect("an object").remove("hostname");
            // A sysfs belongs to a network namespace, and a procfs to a pid namespace.
            bundle.mounts().retain(|mount| mount["destination"] != "/sys");
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            for name in ["net", "ipc", "uts", "cgroup", "pid", "user", "time"] {
                assert_eq!(namespace(&bundle.pid().to_string(), name), namespace("self", name), "{name}");
            }
        };
        the_hosts_mount_namespace_is_inherited_and_cleaned: "without a mount namespace the runtime's is inherited" => |mut bundle| {
            bundle.without_namespace("mount");
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            bundle.start().ok();
            let pid = bundle.pid().to_string();
            assert_eq!(namespace(&pid, "mnt"), namespace("self", "mnt"));
            assert!(!testkit::leftovers::mounts(bundle.dir()).is_empty(), "its root is among the host's mounts");
            // It sees its own root, and so does what joins it.
            assert_eq!(std::fs::read_link(format!("/proc/{pid}/root")).expect("its root"), bundle.root());
            let prints = |words: &[&str]| {
                let all = [&["exec", bundle.id()], words].concat();
                String::from_utf8_lossy(&bundle.verb(&all).ok().stdout).into_owned()
            };
            let listed = prints(&["ls", "/"]);
            assert!(listed.contains("bin\n") && !listed.contains("boot"), "{listed}");
            let shown = prints(&["cat", "/proc/self/mountinfo"]);
            assert!(shown.lines().all(|line| !line.contains(" /home ")), "{shown}");
            bundle.verb(&["delete", "--force", bundle.id()]).ok();
            bundle.assert_nothing_left();
            // What cannot be had there is refused by name.
            bundle.config["linux"]["rootfsPropagation"] = json!("slave");
            refuses(&bundle, "rootfsPropagation");
            bundle.config["linux"].as_object_mut().expect("an object").remove("rootfsPropagation");
            bundle.namespaces().push(json!({"type": "user"}));
            for name in ["uidMappings", "gidMappings"] {
                bundle.config["linux"][name] = json!([{"containerID": 0, "hostID": 100_000, "size": 2000}]);
            }
            refuses(&bundle, "without a mount namespace");
        };
        a_kind_listed_twice_is_refused: "duplicated namespaces of one `type` are an error" => |mut bundle| {
            bundle.namespaces().push(json!({"type": "network"}));
            refuses(&bundle, "twice");
        };
    }
    "config-linux.md, User namespace mappings" {
        the_mappings_are_those_of_the_configuration: "`uidMappings` and `gidMappings` map from the host to the container" => |mut bundle| {
            opened(&bundle);
            bundle.namespaces().push(json!({"type": "user"}));
            bundle.config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}, {"containerID": 1000, "hostID": 200_000, "size": 10}]);
            bundle.config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 500}]);
            let maps = bundle.prints("cat /proc/self/uid_map /proc/self/gid_map | tr -s ' ' | sed 's/^ //'");
            assert_eq!(maps, "0 100000 1000\n1000 200000 10\n0 100000 500\n");
        };
        the_process_is_its_user_of_the_container: "`containerID`, `hostID` and `size` have these meanings" => |mut bundle| {
            opened(&bundle);
            bundle.namespaces().push(json!({"type": "user"}));
            for name in ["uidMappings", "gidMappings"] {
                bundle.config["linux"][name] = json!([{"containerID": 0, "hostID": 100_000, "size": 2000}]);
            }
            bundle.config["process"]["user"] = json!({"uid": 7, "gid": 8});
            bundle.args(&["sleep", "100"]);
            bundle.create().ok();
            bundle.start().ok();
            let status = std::fs::read_to_string(format!("/proc/{}/status", bundle.pid())).expect("status");
            assert!(status.contains("Uid:\t100007\t") && status.contains("Gid:\t100008\t"), "{status}");
        };
        a_mapping_needs_its_members: "`containerID`, `hostID` and `size` are required" => |mut bundle| {
            bundle.namespaces().push(json!({"type": "user"}));
            bundle.config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
            for map in [json!({"containerID": 0, "size": 1}), json!({"hostID": 0, "size": 1}), json!({"containerID": 0, "hostID": 0})] {
                bundle.config["linux"]["uidMappings"] = json!([map]);
                refuses(&bundle, "");
            }
        };
    }
    "config-linux.md, Offset for Time Namespace" {
        clocks_are_offset: "`timeOffsets` offset the clocks of a new time namespace" => |mut bundle| {
            bundle.namespaces().push(json!({"type": "time"}));
            bundle.config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1_000_000}, "boottime": {"secs": 2_000_000}});
            let seconds: f64 = bundle.prints("cut -d' ' -f1 /proc/uptime").trim().parse().expect("seconds");
            assert!(seconds > 2_000_000.0, "{seconds}");
        };
        offsets_without_a_time_namespace_are_refused: "offsets that cannot be applied are an error" => |mut bundle| {
            bundle.config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}});
            refuses(&bundle, "time");
        };
    }
    "config-linux.md, Network Devices" {
        network_devices_are_moved_in_and_up: "`netDevices` are made available in the container, under `name` where given, with their permanent addresses, and up" => |mut bundle| {
            testkit::needs!(Program("ip"));
            let Some(link) = Link::make(&bundle) else { return };
            bundle.config["linux"]["netDevices"] = json!({&link.name: {"name": "inside"}});
            let shown = bundle.prints("ip addr show inside");
            assert!(shown.contains("10.99.0.7/24") && shown.contains("UP"), "{shown}");
        };
        a_network_device_that_is_not_there_is_refused: "a device that cannot be moved is an error" => |mut bundle| {
            bundle.config["linux"]["netDevices"] = json!({"nosuchdevice": {}});
            refuses(&bundle, "nosuchdevice");
        };
        a_network_devices_name_that_is_taken_is_refused: "a name that exists in the container's namespace is an error" => |mut bundle| {
            testkit::needs!(Program("ip"));
            let Some(link) = Link::make(&bundle) else { return };
            bundle.config["linux"]["netDevices"] = json!({&link.name: {"name": "lo"}});
            refuses(&bundle, "lo");
            assert!(std::path::Path::new("/sys/class/net").join(&link.name).exists(), "the device is gone");
        };
        a_network_devices_name_can_be_a_template: "a name that ends in `%d` is made unique by the kernel" => |mut bundle| {
            testkit::needs!(Program("ip"));
            let Some(link) = Link::make(&bundle) else { return };
            bundle.config["linux"]["netDevices"] = json!({&link.name: {"name": "eth%d"}});
            assert_eq!(bundle.prints("ls /sys/class/net"), "eth0\nlo\n");
        };
    }
}

/// A dummy network device of the host's; goes with the value.
struct Link {
    name: String,
}

impl Link {
    fn make(bundle: &Bundle) -> Option<Self> {
        let number = bundle.id().rsplit('-').next().unwrap_or_default();
        let link = Self { name: format!("c{}x{number}", std::process::id() % 100_000) };
        let ip = |words: &[&str]| {
            Command::new("ip").args(words).output().is_ok_and(|output| output.status.success())
        };
        if !ip(&["link", "add", &link.name, "type", "dummy"]) {
            testkit::skip("the kernel makes no dummy network device");
            return None;
        }
        assert!(ip(&["addr", "add", "10.99.0.7/24", "dev", &link.name]));
        Some(link)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.name]).output();
    }
}
