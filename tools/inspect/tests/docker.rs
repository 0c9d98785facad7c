//! Docker's documents, members of them, and ours.

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use store::CreateDoc;
use store::create::{Device, Mount};
use support::{Fixture, fixture};

/// What `docker inspect` of releases 24 to 27 prints of every container, by object.
const CONTAINER: [(&str, &str); 6] = [
    (
        "",
        "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform \
         MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings",
    ),
    ("/State", "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt"),
    ("/GraphDriver/Data", "LowerDir MergedDir UpperDir WorkDir"),
    (
        "/Config",
        "Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd Image Volumes \
         WorkingDir Entrypoint OnBuild Labels",
    ),
    (
        "/HostConfig",
        "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver VolumesFrom \
         ConsoleSize CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links \
         OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize Runtime \
         Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps \
         BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod \
         CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests MemoryReservation MemorySwap \
         MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth \
         MaskedPaths ReadonlyPaths",
    ),
    (
        "/NetworkSettings",
        "Bridge SandboxID SandboxKey Ports HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen \
         SecondaryIPAddresses SecondaryIPv6Addresses EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAddress \
         IPPrefixLen IPv6Gateway MacAddress Networks",
    ),
];

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn mount(kind: &str, source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        kind: kind.into(),
        source: Some(source.into()),
        target: target.into(),
        read_only,
        ..Mount::default()
    }
}

/// A container with a choice of everything.
fn chosen(f: &Fixture) -> store::Container {
    let mut doc = CreateDoc { name: "chosen".into(), network: "private".into(), ..CreateDoc::default() };
    f.store.create_volume("data", &Default::default()).expect("a volume");
    doc.process.env = vec!["A=1".into()];
    doc.process.user = Some("web".into());
    doc.process.args = Some(vec!["sleep".into(), "9".into()]);
    doc.labels.insert("org.example.role".into(), "front".into());
    doc.mounts = vec![mount("bind", "/src", "/dst", true), mount("volume", "data", "/data", false)];
    doc.devices =
        vec![Device { source: "/dev/fuse".into(), target: Some("/dev/fuse".into()), permissions: None }];
    doc.auto_remove = true;
    let spec = json!({"hostname": "box", "process": {"args": ["sleep", "9"], "env": ["PATH=/bin", "HOSTNAME=box", "A=1"]},
        "linux": {"resources": {"memory": {"limit": 1_048_576}}, "maskedPaths": ["/proc/kcore"]}});
    f.container(&doc, &spec, |state| {
        state.started_at = Some("2026-01-02T03:04:05.000000001Z".into());
        state.set_stopped(Some(137));
        state.oom_killed = true;
    })
}

#[test]
fn a_container_has_every_member_that_docker_prints() {
    let f = fixture();
    chosen(&f);
    for name in ["web", "chosen"] {
        let all = f.json(&["--format", "docker", name]);
        let document = &all[0];
        for (place, wanted) in CONTAINER {
            let got = members(document.pointer(place).expect(place));
            let wanted: BTreeSet<&str> = wanted.split_whitespace().collect();
            assert_eq!(got, wanted, "{name}{place}");
        }
    }
}

#[test]
fn a_container_that_never_ran_has_dockers_zero_time() {
    let f = fixture();
    let state = &f.json(&["--format", "docker", "web"])[0]["State"];
    for (member, want) in [
        ("Status", json!("created")),
        ("Running", json!(false)),
        ("Pid", json!(0)),
        ("ExitCode", json!(0)),
        ("StartedAt", json!("0001-01-01T00:00:00Z")),
        ("FinishedAt", json!("0001-01-01T00:00:00Z")),
    ] {
        assert_eq!(state[member], want, "{member}");
    }
}

#[test]
fn what_was_chosen_and_what_happened_stand_where_docker_has_them() {
    let f = fixture();
    let container = chosen(&f);
    let all = f.json(&["--format", "docker", "--size", "chosen"]);
    let document = &all[0];
    let image = f.store.image(&f.image.digest, None).expect("an image");
    for (place, want) in [
        ("/Id", json!(container.id())),
        ("/Name", json!("/chosen")),
        ("/Path", json!("sleep")),
        ("/Args", json!(["9"])),
        ("/Image", json!(image.config_digest)),
        ("/State/Status", json!("exited")),
        ("/State/ExitCode", json!(137)),
        ("/State/OOMKilled", json!(true)),
        ("/State/StartedAt", json!("2026-01-02T03:04:05.000000001Z")),
        ("/Config/Hostname", json!("box")),
        ("/Config/User", json!("web")),
        ("/Config/Env", json!(["PATH=/bin", "A=1"])),
        ("/Config/Cmd", json!(["sleep", "9"])),
        ("/Config/Image", json!("app:1")),
        ("/Config/Labels/org.example.role", json!("front")),
        ("/HostConfig/Memory", json!(1_048_576)),
        ("/HostConfig/AutoRemove", json!(true)),
        ("/HostConfig/Binds", json!(["/src:/dst:ro", "data:/data"])),
        ("/HostConfig/Devices/0/CgroupPermissions", json!("rwm")),
        ("/HostConfig/MaskedPaths", json!(["/proc/kcore"])),
        ("/Mounts/0/RW", json!(false)),
        ("/Mounts/0/Mode", json!("ro")),
        ("/Mounts/1/Name", json!("data")),
        ("/Mounts/1/Source", json!(f.store.path().join("volumes/data/_data"))),
        ("/GraphDriver/Data/UpperDir", json!(container.path().join("upper"))),
        ("/SizeRw", json!(0)),
        ("/SizeRootFs", json!(5)),
        ("/LogPath", json!("")),
    ] {
        assert_eq!(document.pointer(place), Some(&want), "{place}");
    }
}

#[test]
fn an_image_has_dockers_members() {
    let f = fixture();
    let all = f.json(&["--format", "docker", "app:1", "localhost/many:1"]);
    let image = &all[0];
    let wanted = "Id RepoTags RepoDigests Parent Comment Created DockerVersion Author Config Architecture Os Size \
                  GraphDriver RootFS Metadata";
    assert_eq!(members(image), wanted.split_whitespace().collect());
    let config = f.store.image(&f.image.digest, None).expect("an image").config_digest;
    assert_eq!(image["Id"], config.to_string());
    assert_eq!(image["RepoTags"], json!(["app:1"]));
    assert_eq!(image["RepoDigests"], json!([format!("app@{}", f.image.digest)]));
    assert_eq!(image["RootFS"]["Layers"], json!([f.diff_id]));
    assert_eq!((&image["Size"], &image["Config"]["Cmd"]), (&json!(5), &json!(["sh"])));
    assert_eq!(all[1]["Id"], image["Id"], "of an index, the image of this host");
}

#[test]
fn what_is_missing_is_left_out_of_the_array() {
    let f = fixture();
    let out = f.run(&["--format", "docker", "nothing", "web"], b"");
    assert_eq!(out.status.code(), Some(3));
    let all: Value = serde_json::from_slice(&out.stdout).expect("an array and nothing else");
    assert_eq!((all.as_array().map(Vec::len), &all[0]["Name"]), (Some(1), &json!("/web")));
    let out = f.run(&["--format", "docker", "nothing"], b"");
    assert_eq!((out.status.code(), &*out.stdout), (Some(3), &b"[]\n"[..]));
    assert_eq!(f.run(&["--format", "docker", &f.diff_id.to_string()], b"").status.code(), Some(2));
}

#[test]
fn a_member_alone_is_printed_for_scripts() {
    let f = fixture();
    chosen(&f);
    for (args, want) in [
        (&["--field", "status", "web"][..], "created\n"),
        (&["--field", "State.Status", "--format", "docker", "web"], "created\n"),
        (&["--field", "status", "--field", "name", "web", "chosen"], "created\nweb\nstopped\nchosen\n"),
        (&["--field", "create.labels.org.example.role", "chosen"], "front\n"),
        (&["--field", "Config.Cmd", "--format", "docker", "chosen"], "[\"sleep\",\"9\"]\n"),
        (&["--field", "config.config.Cmd.0", "app:1"], "sh\n"),
        (&["-f", "{{.Name}} {{.State.ExitCode}}", "chosen", "web"], "/chosen 137\n/web 0\n"),
        (&["--format", "{{json .State.OOMKilled}} {{.Config.Cmd}}", "chosen"], "true [sleep 9]\n"),
    ] {
        assert_eq!(f.text(args), want, "{args:?}");
    }
    let line = f.run(&["web"], b"").stdout;
    assert_eq!(f.run(&["--field", "name"], &line).stdout, b"web\n", "of a line on stdin");
}

#[test]
fn a_member_that_is_not_there_and_a_template_that_is_not_understood_are_refused_without_a_word_on_stdout() {
    let f = fixture();
    for (args, code) in [
        (&["--field", "nothing", "web"][..], 3),
        (&["--field", "status", "--field", "State.Nothing", "web"], 3),
        (&["-f", "{{.State.Nothing}}", "web"], 3),
        (&["-f", "{{range .Mounts}}x{{end}}", "web"], 2),
        (&["--format", "yaml", "web"], 2),
        (&["--field", "status", "--raw", "app:1"], 2),
    ] {
        let out = f.run(args, b"");
        assert_eq!((out.status.code(), &*out.stdout), (Some(code), &b""[..]), "{args:?}");
        assert!(!out.stderr.is_empty(), "{args:?}");
    }
    let why = String::from_utf8(f.run(&["-f", "{{len .Mounts}}", "web"], b"").stderr).expect("UTF-8");
    assert!(why.contains("{{.A.B}} and {{json .A}}"), "{why}");
}

#[test]
fn our_documents_name_their_schema_and_satisfy_it() {
    let f = fixture();
    chosen(&f);
    let diff_id = f.diff_id.to_string();
    for (name, schema) in [
        ("web", "container"),
        ("chosen", "container"),
        ("app:1", "image"),
        ("localhost/many:1", "image"),
        (&diff_id, "layer"),
    ] {
        for args in [["--full", name], ["--format=json", name]] {
            let out = f.text(&args);
            let document = testkit::schema::validated(out.trim_end().as_bytes());
            assert_eq!(document["schema"], format!("urn:ocipipe:schema:inspect.{schema}.v1"), "{name}");
        }
    }
    testkit::schema::validated(f.text(&[&diff_id]).trim_end().as_bytes());
}
