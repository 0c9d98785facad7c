//! config-linux.md: sysctls, propagation of the root, masked and read-only paths, labels, personality.

use serde_json::json;

use crate::{cases, prints, refused, refuses, set};

/// The root's propagation as the container sees it.
fn propagation(value: &'static str, tag: &'static str) -> impl FnOnce(testkit::Bundle) {
    move |mut bundle| {
        bundle.config["linux"]["rootfsPropagation"] = json!(value);
        let line = bundle.prints("awk '$5 == \"/\"' /proc/self/mountinfo");
        let tags: Vec<&str> = line.split(' ').skip(6).take_while(|word| *word != "-").collect();
        let there =
            if tag.is_empty() { tags.is_empty() } else { tags.iter().any(|word| word.starts_with(tag)) };
        assert!(there, "{value}: {line}");
    }
}

cases! {
    "config-linux.md, Sysctl" {
        sysctls_are_set: "`sysctl` sets kernel parameters of the container" => prints(
            set("linux.sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"})),
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced", "1\n1\n");
        sysctls_of_the_host_are_refused: "a parameter that is not the container's own is an error" => |mut bundle| {
            for (name, value) in [("kernel.panic", "1"), ("vm.swappiness", "1"), ("fs.file-max", "1")] {
                bundle.config["linux"]["sysctl"] = json!({name: value});
                refuses(&bundle, name);
            }
            bundle.without_namespace("network");
            bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            refuses(&bundle, "net.ipv4.ip_forward");
        };
    }
    "config-linux.md, Rootfs Mount Propagation" {
        the_root_is_shared: "`shared`: the root's mount belongs to a peer group" => propagation("shared", "shared:");
        the_root_is_a_slave: "`slave`: the root's mount receives what the host mounts" => propagation("slave", "");
        the_root_is_private: "`private`: nothing propagates" => propagation("private", "");
        the_root_is_unbindable: "`unbindable`: private, and it cannot be bind-mounted" => propagation("unbindable", "unbindable");
        another_propagation_is_refused: "another value is an error" => refused(set("linux.rootfsPropagation", json!("nonsense")), "rootfsPropagation");
    }
    "config-linux.md, Masked Paths" {
        masked_paths_cannot_be_read: "masked paths cannot be read" => |mut bundle| {
            std::fs::write(bundle.root().join("etc/secret"), "secret").expect("write");
            std::fs::create_dir(bundle.root().join("etc/dir")).expect("mkdir");
            std::fs::write(bundle.root().join("etc/dir/secret"), "secret").expect("write");
            bundle.config["linux"]["maskedPaths"] = json!(["/etc/secret", "/etc/dir", "/no/such/path"]);
            assert_eq!(bundle.prints("cat /etc/secret | wc -c; ls /etc/dir | wc -l"), "0\n0\n");
        };
        masked_paths_are_absolute: "masked paths are absolute" => refused(set("linux.maskedPaths", json!(["etc/secret"])), "maskedPaths");
    }
    "config-linux.md, Readonly Paths" {
        read_only_paths_take_no_writes: "read-only paths are that" => |mut bundle| {
            std::fs::create_dir(bundle.root().join("etc/dir")).expect("mkdir");
            bundle.config["linux"]["readonlyPaths"] = json!(["/etc/dir", "/no/such/path"]);
            assert_eq!(bundle.prints("touch /etc/dir/x 2>&1; touch /etc/x && echo elsewhere"), "touch: /etc/dir/x: Read-only file system\nelsewhere\n");
        };
        read_only_paths_are_absolute: "read-only paths are absolute" => refused(set("linux.readonlyPaths", json!(["etc/dir"])), "readonlyPaths");
    }
    "config-linux.md, Mount Label" {
        labels_are_given_or_refused: "`mountLabel`, `selinuxLabel` and `apparmorProfile` are applied, or an error where the kernel has no such module" => |mut bundle| {
            let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
            if modules.contains("selinux") || modules.contains("apparmor") {
                testkit::skip("this kernel has a module for labels");
                return;
            }
            let good = bundle.config.clone();
            for (place, name) in [("linux", "mountLabel"), ("process", "selinuxLabel"), ("process", "apparmorProfile")] {
                bundle.config = good.clone();
                bundle.config[place][name] = json!("system_u:object_r:svirt_sandbox_file_t:s0:c1,c2");
                refuses(&bundle, name);
            }
        };
    }
    "config-linux.md, Personality" {
        a_personality_is_set: "`domain` is the execution domain" => |mut bundle| {
            bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
            let machine = bundle.prints("uname -m");
            assert!(machine == "i686\n" || machine.starts_with("arm"), "{machine}");
            bundle.config["linux"]["personality"] = json!({"domain": "LINUX"});
            assert_ne!(bundle.prints("uname -m"), machine);
        };
        flags_of_a_personality_are_told_of: "no `flags` are supported, which is said (a warning, as with runc)" => |mut bundle| {
            bundle.config["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]});
            bundle.create().ok().says("personality flags");
        };
    }
}
