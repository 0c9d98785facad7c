//! config.md, "Specification version", "Annotations", "Extensibility" and "Valid values".

use serde_json::json;

use crate::{cases, prints, refused, refuses, set, without};

cases! {
    "config.md, Specification version" {
        a_version_that_is_no_semver_is_refused: "`ociVersion` is in SemVer 2.0.0 format" => |mut bundle| {
            for version in ["", "1", "1.2", "1.2.x", "v1.2.0", "1.02.0"] {
                bundle.config["ociVersion"] = json!(version);
                refuses(&bundle, "ociVersion");
            }
        };
        a_version_is_required: "`ociVersion` is required" => refused(without("ociVersion"), "ociVersion");
        every_version_of_the_first_major_one_is_taken: "versions are compatible within the major one" => |mut bundle| {
            for version in ["1.0.0", "1.0.2-dev", "1.1.0-rc.2", "1.2.1", "1.3.0+build"] {
                bundle.config["ociVersion"] = json!(version);
                assert_eq!(bundle.prints("echo runs"), "runs\n", "{version}");
            }
        };
        another_major_version_is_refused: "an unsupported version is an error" => refused(set("ociVersion", json!("2.0.0")), "ociVersion");
    }
    "config.md, Annotations" {
        annotations_are_a_map_of_texts: "annotations are a key-value map, keys and values are strings" => |mut bundle| {
            for annotations in [json!({"a": 1}), json!({"a": {"b": "c"}}), json!(["a"])] {
                bundle.config["annotations"] = annotations;
                refuses(&bundle, "config.json");
            }
        };
        an_annotation_has_a_name: "keys are not empty" => refused(set("annotations", json!({"": "x"})), "annotations");
        unknown_annotations_are_ignored: "unknown annotation keys are handled like any unknown property" => prints(
            set("annotations", json!({"org.opencontainers.image.stopSignal": "SIGKILL", "com.example.nonsense": "", "run.oci.keep_original_groups": "1"})),
            "echo runs", "runs\n");
    }
    "config.md, Extensibility" {
        unknown_properties_are_ignored: "unknown properties are ignored and no error" => |mut bundle| {
            bundle.config["com.example"] = json!({"deep": [1, 2]});
            for place in ["root", "process", "linux"] {
                bundle.config[place]["unknownProperty"] = json!(true);
            }
            bundle.config["process"]["user"]["unknownProperty"] = json!("x");
            bundle.mounts()[0]["unknownProperty"] = json!(1);
            bundle.namespaces()[0]["unknownProperty"] = json!(1);
            bundle.config["linux"]["resources"] = json!({"unknownProperty": {"limit": 1}, "pids": {"limit": 100, "unknownProperty": 1}});
            assert_eq!(bundle.prints("echo runs"), "runs\n");
        };
    }
    "config.md, Valid values" {
        invalid_values_are_refused: "invalid or unsupported values are errors" => |mut bundle| {
            let good = bundle.config.clone();
            for (place, value) in [
                ("/process/terminal", json!("yes")),
                ("/process/user/uid", json!(-1)),
                ("/process/user/uid", json!(4_294_967_295_u32)),
                ("/process/user/gid", json!(4_294_967_296_u64)),
                ("/process/env/0", json!("B=\u{0}")),
                ("/process/args/0", json!("")),
                ("/linux/namespaces/0/type", json!("nonsense")),
                ("/root/readonly", json!("true")),
                ("/hostname", json!("x".repeat(65))),
            ] {
                bundle.config = good.clone();
                let (parent, name) = place.rsplit_once('/').expect("a path");
                match bundle.config.pointer_mut(parent).expect("a parent") {
                    serde_json::Value::Array(list) => list[name.parse::<usize>().expect("a number")] = value,
                    parent => parent[name] = value,
                }
                refuses(&bundle, "");
            }
        };
        members_of_linux_that_are_invalid_are_refused: "the same of the members of `linux`" => |mut bundle| {
            let good = bundle.config.clone();
            for (name, value) in [
                ("rootfsPropagation", json!("nonsense")),
                ("personality", json!({"domain": "NONSENSE"})),
                ("seccomp", json!({"defaultAction": "SCMP_ACT_NONSENSE"})),
                ("cgroupsPath", json!(7)),
                ("devices", json!([{"type": "x", "path": "/dev/x", "major": 1, "minor": 3}])),
                ("sysctl", json!({"net.ipv4.ip_forward": 1})),
            ] {
                bundle.config = good.clone();
                bundle.config["linux"][name] = value;
                refuses(&bundle, "");
            }
        };
    }
}
