//! What was chosen for a container about isolation and resources: docker's HostConfig.

use serde_json::{Map, Value, json};
use store::CreateDoc;
use store::create::Mount;

use crate::docker::list_or_null;

/// The size of /dev/shm where nobody chose one, in bytes.
const SHM_BYTES: u64 = 64 << 20;

/// The choices as create.json has them, the numbers as config.json has them.
pub(crate) fn host_config(create: &CreateDoc, spec: &Value) -> Value {
    let mut all = Map::new();
    for part in [general(create), isolation(create), resources(create, spec), limits(create, spec)] {
        if let Value::Object(members) = part {
            all.extend(members);
        }
    }
    let linux = &spec["linux"];
    all.insert("MaskedPaths".into(), linux["maskedPaths"].clone());
    all.insert("ReadonlyPaths".into(), linux["readonlyPaths"].clone());
    if create.init {
        all.insert("Init".into(), json!(true));
    }
    if !create.sysctls.is_empty() {
        all.insert("Sysctls".into(), json!(create.sysctls));
    }
    let tmpfs: Map<String, Value> = of_kind(create, "tmpfs")
        .map(|mount| (mount.target.clone(), json!(mount.options.join(","))))
        .collect();
    if !tmpfs.is_empty() {
        all.insert("Tmpfs".into(), tmpfs.into());
    }
    all.into()
}

fn of_kind<'a>(create: &'a CreateDoc, kind: &'a str) -> impl Iterator<Item = &'a Mount> {
    create.mounts.iter().filter(move |mount| mount.kind == kind)
}

/// `SRC:DST[:ro]`, as -v has it.
fn bind(mount: &Mount) -> String {
    let source = mount.source.as_deref().unwrap_or_default();
    format!("{source}:{}{}", mount.target, if mount.read_only { ":ro" } else { "" })
}

fn general(create: &CreateDoc) -> Value {
    let binds: Vec<String> = of_kind(create, "bind").chain(of_kind(create, "volume")).map(bind).collect();
    json!({
        "Binds": list_or_null(&binds), "ContainerIDFile": "",
        "LogConfig": {"Type": "json-file", "Config": create.log},
        "NetworkMode": create.network, "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": create.auto_remove,
        "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [0, 0],
        "CapAdd": list_or_null(&create.security.cap_add), "CapDrop": list_or_null(&create.security.cap_drop),
    })
}

fn isolation(create: &CreateDoc) -> Value {
    let kind = |name: &str, default: &str| {
        create.namespaces.get(name).map_or_else(|| default.to_string(), String::clone)
    };
    json!({
        "CgroupnsMode": kind("cgroup", "private"), "Dns": create.names.servers,
        "DnsOptions": create.names.options, "DnsSearch": create.names.search,
        "ExtraHosts": list_or_null(&create.names.hosts), "GroupAdd": list_or_null(&create.process.groups),
        "IpcMode": kind("ipc", "private"), "Cgroup": "", "Links": null,
        "OomScoreAdj": number(create, "oom-score-adj").unwrap_or_default(), "PidMode": kind("pid", ""),
        "Privileged": create.security.privileged, "PublishAllPorts": false,
        "ReadonlyRootfs": create.read_only, "SecurityOpt": list_or_null(&security(create)),
        "UTSMode": kind("uts", ""), "UsernsMode": kind("user", ""),
        "ShmSize": number(create, "shm-size").unwrap_or(json!(SHM_BYTES)), "Runtime": "oci-spawn", "Isolation": "",
    })
}

/// A limit whose recorded form is a plain number.
fn number(create: &CreateDoc, name: &str) -> Option<Value> {
    let text = create.limits.get(name)?;
    text.parse::<i64>().ok().map(|number| json!(number))
}

fn security(create: &CreateDoc) -> Vec<String> {
    let security = &create.security;
    let mut all = Vec::new();
    if security.no_new_privileges {
        all.push("no-new-privileges".to_string());
    }
    match &security.seccomp {
        Some(Value::String(word)) => all.push(format!("seccomp={word}")),
        Some(profile) => all.push(format!("seccomp={profile}")),
        None => {}
    }
    all.extend(security.apparmor.iter().map(|name| format!("apparmor={name}")));
    all.extend(security.unmask.iter().map(|path| format!("unmask={path}")));
    all
}

fn resources(create: &CreateDoc, spec: &Value) -> Value {
    let resources = &spec["linux"]["resources"];
    let (cpu, block) = (&resources["cpu"], &resources["blockIO"]);
    let nano = create.limits.get("cpus").and_then(|text| text.parse::<f64>().ok());
    let integer = |value: &Value| value.as_i64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    // Docker says --cpus in one member, and the quota only where that was chosen.
    let (period, quota) =
        if nano.is_some() { (0, 0) } else { (integer(&cpu["period"]), integer(&cpu["quota"])) };
    let groups = spec["linux"]["cgroupsPath"].as_str().unwrap_or_default();
    let parent = groups.rsplit_once('/').map_or("", |(parent, _)| parent);
    json!({
        "CpuShares": integer(&cpu["shares"]), "Memory": integer(&resources["memory"]["limit"]),
        // No host has a million processors.
        "NanoCpus": nano.map_or(0, |cpus| (cpus.clamp(0.0, 1e6) * 1e9).round() as u64),
        "CgroupParent": parent, "BlkioWeight": integer(&block["weight"]), "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": block["throttleReadBpsDevice"], "BlkioDeviceWriteBps": block["throttleWriteBpsDevice"],
        "BlkioDeviceReadIOps": block["throttleReadIOPSDevice"],
        "BlkioDeviceWriteIOps": block["throttleWriteIOPSDevice"],
        "CpuPeriod": period, "CpuQuota": quota, "CpuRealtimePeriod": integer(&cpu["realtimePeriod"]),
        "CpuRealtimeRuntime": integer(&cpu["realtimeRuntime"]), "CpusetCpus": text(&cpu["cpus"]),
        "CpusetMems": text(&cpu["mems"]),
    })
}

fn limits(create: &CreateDoc, spec: &Value) -> Value {
    let resources = &spec["linux"]["resources"];
    let memory = &resources["memory"];
    let integer = |value: &Value| value.as_i64().unwrap_or_default();
    let (cdi, devices): (Vec<_>, Vec<_>) = create.devices.iter().partition(|device| device.target.is_none());
    let devices: Vec<Value> = devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.source, "PathInContainer": device.target,
                "CgroupPermissions": device.permissions.as_deref().unwrap_or("rwm"),
            })
        })
        .collect();
    let names: Vec<&String> = cdi.iter().map(|device| &device.source).collect();
    let requests = match names[..] {
        [] => Value::Null,
        _ => {
            json!([{"Driver": "cdi", "Count": 0, "DeviceIDs": names, "Capabilities": null, "Options": null}])
        }
    };
    json!({
        "Devices": devices, "DeviceCgroupRules": null, "DeviceRequests": requests,
        "MemoryReservation": integer(&memory["reservation"]), "MemorySwap": integer(&memory["swap"]),
        "MemorySwappiness": memory["swappiness"],
        "OomKillDisable": memory["disableOOMKiller"].as_bool().map_or(Value::Null, Value::Bool),
        "PidsLimit": resources["pids"]["limit"], "Ulimits": ulimits(create), "CpuCount": 0, "CpuPercent": 0,
        "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
    })
}

fn ulimits(create: &CreateDoc) -> Value {
    let of = |(name, value): (&String, &String)| {
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        // `unlimited` is docker's -1.
        let number = |text: &str| text.parse::<i64>().unwrap_or(-1);
        json!({"Name": name, "Hard": number(hard), "Soft": number(soft)})
    };
    list_or_null(&create.ulimits.iter().map(of).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_stand_where_docker_has_them() {
        let mut create =
            CreateDoc { network: "none".into(), read_only: true, init: true, ..CreateDoc::default() };
        create.limits.insert("cpus".into(), "1.5".into());
        create.ulimits.insert("nofile".into(), "64:128".into());
        create.ulimits.insert("core".into(), "unlimited:unlimited".into());
        create.security.cap_add = vec!["CAP_NET_ADMIN".into()];
        create.security.no_new_privileges = true;
        create.mounts = vec![
            Mount {
                kind: "bind".into(),
                source: Some("/a".into()),
                target: "/b".into(),
                read_only: true,
                options: vec![],
            },
            Mount {
                kind: "tmpfs".into(),
                source: None,
                target: "/t".into(),
                read_only: false,
                options: vec!["size=1".into()],
            },
        ];
        let spec = json!({"linux": {"resources": {"memory": {"limit": 1024, "swap": 2048}, "pids": {"limit": 9},
            "cpu": {"quota": 150_000, "period": 100_000, "shares": 512}}, "cgroupsPath": "/ocipipe/x"}});
        let got = host_config(&create, &spec);
        for (name, want) in [
            ("NanoCpus", json!(1_500_000_000)),
            ("CpuQuota", json!(0)),
            ("CpuShares", json!(512)),
            ("Memory", json!(1024)),
            ("MemorySwap", json!(2048)),
            ("PidsLimit", json!(9)),
            ("Binds", json!(["/a:/b:ro"])),
            ("Tmpfs", json!({"/t": "size=1"})),
            ("CapAdd", json!(["CAP_NET_ADMIN"])),
            ("SecurityOpt", json!(["no-new-privileges"])),
            ("ReadonlyRootfs", json!(true)),
            ("Init", json!(true)),
            ("ShmSize", json!(67_108_864)),
            ("CgroupParent", json!("/ocipipe")),
            ("NetworkMode", json!("none")),
            (
                "Ulimits",
                json!([{"Name": "core", "Hard": -1, "Soft": -1}, {"Name": "nofile", "Hard": 128, "Soft": 64}]),
            ),
        ] {
            assert_eq!(got[name], want, "{name}");
        }
    }
}
