//! The classic examples of images and containers, one test each: what containers of an image share, what is their own, how
//! long that lives, and what it takes on the disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ocipipe_tests::{Hub, config, diff_ids};
use serde_json::{Value, json};
use testkit::tar::{archive, file};
use testkit::{Packing, fixtures, needs, tree};

/// The bytes of a container's own that it has before it writes any: its documents, mount points and directories. 84 KiB on
/// ext4, whose blocks and directories are 4 KiB.
const AT_MOST_OF_ITS_OWN: u64 = 128 << 10;

/// The files that a container's writable layer has.
fn upper(hub: &Hub, name: &str) -> Vec<String> {
    let paths = tree::paths(&hub.bundle(name).join("upper")).into_iter();
    paths.skip(1).map(|path| path.display().to_string()).collect()
}

/// The unpacked tree of the image's only layer.
fn layer(hub: &Hub) -> std::path::PathBuf {
    let hex = hub.image.diff_ids[0].trim_start_matches("sha256:");
    hub.world.store().join("layers/identity/sha256").join(hex).join("tree")
}

/// Runs a further command in a container that runs.
fn exec(hub: &Hub, name: &str, script: &str) -> String {
    hub.world.tool("oci-spawn", &["exec", name, "sh", "-ec", script]).ok().text()
}

#[test]
fn three_containers_of_one_image_are_independent() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let names = ["one", "two", "three"];
    for name in names {
        let made = hub.container(&["--name", name, "-h", name, "--", "sleep", "1000"]);
        hub.world.feed("oci-spawn", &["-d"], &made.stdout).ok();
    }
    for name in names {
        exec(
            &hub,
            name,
            &format!("echo {name} >/who; echo {name} >/tmp/shared; echo {name} >>/etc/os-release"),
        );
    }
    exec(&hub, "two", "rm /tmp/shared /etc/group");
    for name in names {
        let seen = exec(&hub, name, "hostname; cat /who; tail -n 1 /etc/os-release; grep -c . /etc/passwd");
        assert_eq!(seen, format!("{name}\n{name}\n{name}\n2\n"));
        // Its own processes alone: the sleep, and the shell with what looks.
        let processes = exec(&hub, name, "cat /proc/[0-9]*/comm | sort | tr '\\n' ' '");
        assert!(processes.split(' ').filter(|comm| *comm == "sleep").count() == 1, "{name}: {processes}");
    }
    assert_eq!(exec(&hub, "one", "ls /tmp"), "shared\n");
    assert_eq!(exec(&hub, "two", "ls /tmp"), "");
    // What happens to one is nothing to the others.
    hub.world.tool("oci-spawn", &["kill", "two"]).ok();
    hub.world.tool("oci-spawn", &["wait", "two"]).ok();
    hub.remove(&["two"]);
    assert_eq!(exec(&hub, "three", "cat /who; grep -c . /etc/group"), "three\n3\n");
    hub.remove(&["one", "three"]);
    hub.world.assert_nothing_left();
}

#[test]
fn a_modified_file_lies_in_the_containers_writable_layer_alone() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let (one, _two) = (hub.container(&["--name", "one"]), hub.container(&["--name", "two"]));
    let before = tree::read(&layer(&hub));
    assert_eq!(upper(&hub, "one"), <[&str; 0]>::default());
    hub.step(&one, "echo more >>/etc/os-release; chmod 600 /etc/group; cat /etc/passwd >/dev/null");
    // What was changed is there whole, with the directory above it; what was read is not.
    assert_eq!(upper(&hub, "one"), ["etc", "etc/group", "etc/os-release"]);
    let own = hub.bundle("one").join("upper/etc");
    let text = std::fs::read_to_string(own.join("os-release")).expect("a file");
    assert_eq!(text, format!("{}more\n", fixtures::OS_RELEASE));
    assert_eq!(own.join("group").metadata().expect("a file").mode() & 0o7777, 0o600);
    let after = tree::read(&layer(&hub));
    assert_eq!(tree::difference(&before, &after, &tree::Ignore::nothing()), <[&str; 0]>::default());
    assert_eq!(upper(&hub, "two"), <[&str; 0]>::default());
    hub.remove(&["one", "two"]);
    hub.world.assert_nothing_left();
}

#[test]
fn stop_and_start_keep_what_was_written_and_removal_loses_it() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let script = "echo start >>/starts; exec sleep 1000";
    let made = hub.container(&["--name", "web", "--", "sh", "-c", script]);
    hub.world.feed("oci-spawn", &["-d"], &made.stdout).ok();
    exec(&hub, "web", "echo kept >/root/file; rm /etc/group");
    for starts in [2, 3] {
        hub.world.tool("oci-spawn", &["stop", "-t", "0", "web"]).ok();
        hub.world.tool("oci-spawn", &["start", "web"]).ok();
        let count = "while ! grep -c start /starts; do sleep 0.01; done; cat /root/file; ls /etc/group 2>&1 | grep -c 'No such'";
        let wanted = format!("{starts}\nkept\n1\n");
        // The container's command writes while we look.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while exec(&hub, "web", count) != wanted {
            assert!(std::time::Instant::now() < until, "{}", exec(&hub, "web", count));
        }
    }
    let bundle = hub.bundle("web");
    hub.remove(&["web"]);
    assert!(!bundle.exists(), "its writable layer goes with it");
    let made = hub.container(&["--name", "web", "--", "sh", "-c", script]);
    assert_eq!(hub.output(&made, "ls /starts /root/file 2>/dev/null || grep -c . /etc/group"), "3\n");
    hub.remove(&["web"]);
    hub.world.assert_nothing_left();
}

#[test]
fn the_images_shell_is_as_it_was_after_a_container_wrote_over_its_own() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let shell = layer(&hub).join("bin/busybox");
    let digest = |path: &Path| testkit::digest(&std::fs::read(path).expect("a program"));
    let made = hub.container(&["--name", "vandal"]);
    let (before, inode) = (digest(&shell), shell.metadata().expect("a program").ino());
    // In place: a copy runs meanwhile, as what is executed cannot be written.
    let script = "cp /bin/busybox /tmp/busybox; exec /tmp/busybox sh -ec \
        '/tmp/busybox printf broken | /tmp/busybox dd of=/bin/busybox conv=notrunc 2>/dev/null'";
    hub.step(&made, script);
    let own = hub.bundle("vandal").join("upper/bin/busybox");
    let bytes = std::fs::read(&own).expect("the container's own");
    assert!(bytes.starts_with(b"broken") && bytes.len() > 100_000, "{} bytes", bytes.len());
    assert_eq!((digest(&shell), shell.metadata().expect("a program").ino()), (before, inode));
    hub.world.feed("oci-spawn", &["--", "/bin/sh", "-c", "true"], &made.stdout).fails(126);
    let other = hub.container(&["--name", "other"]);
    assert_eq!(hub.output(&other, "/bin/sh -c 'echo whole'"), "whole\n");
    hub.world.assert_store_is_sound();
    hub.remove(&["vandal", "other"]);
    hub.world.assert_nothing_left();
}

#[test]
fn commit_makes_an_image_that_has_the_change_beside_the_one_that_has_not() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let made = hub.container(&["--name", "author"]);
    hub.step(&made, "echo 'hello from a layer' >/greeting; rm /etc/group");
    let image = hub.world.feed("oci-commit", &["--layer", "--tag", "greeting:1"], &made.stdout).ok();
    let seen = "cat /greeting 2>/dev/null || echo none; ls /etc/group 2>/dev/null || echo gone";
    let run = |reference: &str| {
        let line = hub.world.stages(
            &["oci-inspect", reference, "--format", "line"],
            &[&["oci-unpack"], &["oci-mount", "--rm"]],
        );
        hub.output(&line, seen)
    };
    assert_eq!(run("greeting:1"), "hello from a layer\ngone\n");
    assert_eq!(run(&hub.reference), "none\n/etc/group\n");
    let ids = diff_ids(&config(&hub.world.store(), &image.member("digest")));
    assert_eq!((ids.len(), &ids[0]), (2, &hub.image.diff_ids[0]), "one layer more, over the same one");
    // What the author does from now on is no part of it.
    hub.step(&made, "echo changed >/greeting");
    assert_eq!(run("greeting:1"), "hello from a layer\ngone\n");
    hub.remove(&["author"]);
    hub.world.assert_nothing_left();
}

#[test]
fn an_id_is_the_sha256_of_what_was_chosen_in_every_store() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let choices = ["--name", "web", "-e", "A=1", "-m", "64m", "-l", "role=test", "--", "sleep", "1"];
    let here = hub.container(&choices).member("id");
    let bytes = std::fs::read(hub.bundle("web").join("create.json")).expect("create.json");
    assert_eq!(testkit::digest(&bytes), format!("sha256:{here}"));
    assert_eq!(hub.docker("web")["Id"], json!(here));
    let words = choices.join(" ");
    let elsewhere = |words: &str| {
        let script = format!("oci-pull -q $R | oci-unpack -q | oci-mount {words} | oci-inspect --field id");
        hub.world
            .bash(&format!("export OCIPIPE_STORE=$PWD/second; {script}; oci-mount --remove web"))
            .ok()
            .text()
    };
    assert_eq!(elsewhere(&words).lines().next(), Some(&*here));
    // Every choice counts, and so does the order of the words that are no choices: it does not.
    let others = [
        words.replace("A=1", "A=2"),
        words.replace("64m", "65m"),
        words.replace("sleep 1", "sleep 2"),
        words.replace("role=test", "role=other"),
    ];
    for other in others {
        assert_ne!(elsewhere(&other).lines().next(), Some(&*here), "{other}");
    }
    let turned = "-l role=test -m 65536k --env A=1 --name=web -- sleep 1";
    assert_eq!(elsewhere(turned).lines().next(), Some(&*here));
    hub.remove(&["web"]);
    hub.world.assert_nothing_left();
}

#[test]
fn a_name_is_taken_while_its_container_is_there_and_free_after_that() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let first = hub.container(&["--name", "web"]);
    let rootfs = hub.rootfs();
    let again = |options: &[&str]| {
        hub.world.feed("oci-mount", &[&["--name", "web"], options].concat(), &rootfs.stdout)
    };
    again(&[]).fails(9).says(&first.member("id")[..12]);
    again(&["-e", "A=1"]).fails(9);
    // It has ended: the name is still its own.
    assert_eq!(hub.output(&first, "echo ran"), "ran\n");
    again(&[]).fails(9);
    hub.remove(&["web"]);
    assert_eq!(hub.world.containers(), <[&str; 0]>::default());
    let second = again(&["-e", "A=1"]).ok();
    assert_ne!(second.member("id"), first.member("id"));
    // Who still has the first one's line does not get the second one.
    hub.world.feed("oci-spawn", &["--", "true"], &first.stdout).fails(125);
    hub.world.tool("oci-mount", &["--rename", "site", "web"]).ok();
    again(&[]).ok();
    hub.remove(&["web", "site"]);
    hub.world.assert_nothing_left();
}

#[test]
fn inspect_shows_pid_status_times_and_mounts() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let clock = || hub.world.sh("date -u +%Y-%m-%dT%H:%M:%S.%NZ").ok().text().trim_end().to_string();
    let outside = hub.world.path("outside");
    std::fs::create_dir(&outside).expect("a directory");
    let bind = format!("{}:/outside:ro", outside.display());
    let begin = clock();
    let made = hub.container(&["--name", "web", "-v", &bind, "-v", "data:/data", "--", "sleep", "1000"]);
    assert_eq!(hub.docker("web")["State"]["Status"], "created");
    hub.world.feed("oci-spawn", &["-d"], &made.stdout).ok();
    let started = clock();

    let (ours, docker) = (hub.document("web"), hub.docker("web"));
    assert_eq!((&ours["status"], &docker["State"]["Status"]), (&json!("running"), &json!("running")));
    assert_eq!((&docker["State"]["Running"], &docker["State"]["Paused"]), (&json!(true), &json!(false)));
    let pid = ours["state"]["pid"].as_u64().expect("a pid");
    assert_eq!(docker["State"]["Pid"], json!(pid));
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it lives");
    assert_eq!(words, b"sleep\x001000\0");
    let mounts = docker["Mounts"].as_array().expect("mounts");
    let seen = |kind: &str| mounts.iter().find(|mount| mount["Type"] == kind).expect("a mount").clone();
    let source = |mount: &Value| mount["Source"].as_str().expect("a path").to_string();
    assert_eq!((mounts.len(), source(&seen("bind"))), (2, outside.display().to_string()));
    assert_eq!((&seen("bind")["Destination"], &seen("bind")["RW"]), (&json!("/outside"), &json!(false)));
    assert_eq!((&seen("volume")["Name"], &seen("volume")["RW"]), (&json!("data"), &json!(true)));
    exec(&hub, "web", "echo in the volume >/data/file");
    assert!(Path::new(&source(&seen("volume"))).join("file").exists());
    assert_eq!(ours["create"]["mounts"].as_array().map(Vec::len), Some(2));

    hub.world.tool("oci-spawn", &["stop", "-t", "0", "web"]).ok();
    let end = clock();
    let (ours, docker) = (hub.document("web"), hub.docker("web"));
    let state = &docker["State"];
    assert_eq!(
        (&state["Status"], &state["ExitCode"], &state["Pid"]),
        (&json!("exited"), &json!(137), &json!(0))
    );
    assert_eq!((&ours["status"], &ours["exitCode"]), (&json!("stopped"), &json!(137)));
    // Made, started and ended in this order, between our looks at the clock.
    let moments = [&docker["Created"], &state["StartedAt"], &state["FinishedAt"]];
    let moments = moments.map(|moment| moment.as_str().expect("a time").to_string());
    let order = [&begin, &moments[0], &moments[1], &started, &moments[2], &end];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(ours["state"]["finishedAt"], json!(moments[2]));
    hub.remove(&["web"]);
    hub.world.assert_nothing_left();
}

#[test]
fn three_containers_of_50_40_and_60_megabytes_share_their_image() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.rootfs();
    let image = tree::allocated(&hub.world.store());
    let own = [("a", 50_000_000_u64), ("b", 40_000_000), ("c", 60_000_000)];
    for (name, bytes) in own {
        let made = hub.world.feed("oci-mount", &["--name", name], &line.stdout).ok();
        hub.step(
            &made,
            &format!("dd if=/dev/zero of=/own bs=1000000 count={} 2>/dev/null", bytes / 1_000_000),
        );
    }
    let sizes = ["containers", "-a", "-s", "--format", "{{.Names}} {{.SizeRw}}"];
    let listed = hub.world.tool("oci-inspect", &sizes).ok().text();
    assert_eq!(listed, "c 60000000\nb 40000000\na 50000000\n");
    let table =
        hub.world.tool("oci-inspect", &["containers", "-a", "-s", "--format", "{{.Size}}"]).ok().text();
    assert!(table.starts_with("60MB (virtual 6") && table.contains("\n40MB ("), "{table}");
    let text = hub.world.tool("oci-inspect", &["df", "-v", "--format", "json"]).ok().text();
    let all: Value = serde_json::from_str(&text).expect("JSON");
    for (name, bytes) in own {
        let wide = bytes..bytes + bytes / 100;
        let upper = hub.bundle(name).join("upper");
        let du = hub.world.sh(&format!("du -s --block-size=1 {}", upper.display())).ok().text();
        let du = du.split('\t').next().and_then(|number| number.parse().ok()).expect("a number");
        assert!(wide.contains(&du), "du of {name}: {du}");
        assert_eq!(tree::allocated(&upper), du);
        let mut rows = all["Containers"].as_array().expect("containers").iter();
        let row = rows.find(|row| row["Names"] == name).expect("a row");
        assert!(wide.contains(&row["Bytes"].as_u64().expect("bytes")), "{row}");
        assert_eq!(
            hub.world
                .tool("oci-inspect", &["--size", "--format", "docker", "--field", "SizeRw", name])
                .ok()
                .text(),
            format!("{bytes}\n")
        );
    }
    // The image once, whatever is made of it.
    let total = tree::allocated(&hub.world.store()) - image;
    assert!((150_000_000..151_500_000).contains(&total), "{total}");
    hub.remove(&["a", "b", "c"]);
    hub.world.assert_nothing_left();
}

#[test]
fn a_hundred_containers_take_their_image_once_and_what_is_their_own() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    const EACH: u64 = 1 << 20;
    // Bytes that no file system makes smaller.
    let noise: Vec<u8> =
        (0_u64..8 << 20).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let image = fixtures::busybox().layer(archive(&[file("big", noise.as_slice())]), Packing::Plain);
    let hub = Hub::of(&image);
    let line = hub.rootfs();
    std::fs::write(hub.world.path("line"), &line.stdout).expect("a file");
    std::fs::write(hub.world.path("own"), &noise[..usize::try_from(EACH).expect("small")]).expect("a file");
    let image = tree::allocated(&hub.world.store());
    assert!(image > (2 * 64) << 20, "its blob and its tree: {image}");
    let script = "seq 100 | xargs -P 4 -I{} sh -c 'oci-mount -q --name c{} <line >line{}'";
    hub.world.bash(script).ok();
    let made = tree::allocated(&hub.world.store()) - image;
    hub.world.bash("seq 100 | xargs -P 4 -I{} sh -c 'oci-cp own :/own <line{} >/dev/null'").ok();

    let total = tree::allocated(&hub.world.store());
    let rows = hub.world.tool("oci-inspect", &["df", "--format", "json"]).ok().text();
    let row = |kind: &str| {
        let mut rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).expect("JSON"));
        rows.find(|row| row["Type"] == kind).expect("a row")["Bytes"].as_u64().expect("bytes")
    };
    eprintln!("image {image}, 100 containers {made} (each {}), with 1 MiB each {total}", made / 100);
    assert!(made / 100 < AT_MOST_OF_ITS_OWN, "{} bytes for one container", made / 100);
    let wanted = image + 100 * EACH + made;
    assert!(total.abs_diff(wanted) * 100 < wanted, "{total} bytes, not {wanted} within 1 %");
    assert!(row("Total").abs_diff(total) * 100 < total, "df says {}, and it is {total}", row("Total"));
    assert!(row("Without sharing") > 100 * (64 << 20), "{}", row("Without sharing"));
    hub.world.bash("oci-inspect containers -a | oci-mount --remove").ok();
    let left = tree::allocated(&hub.world.store());
    assert!(left.abs_diff(image) * 100 < image, "{left} bytes, not the image's {image}");
    hub.world.assert_nothing_left();
}
