//! What is in the store: volumes, history, changes, layers and who shares them, sizes, processes, events.

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use descriptor::{Descriptor, Digest, media};
use serde_json::{Value, json};
use store::{Claim, CreateDoc, Event, Form, LayerMeta, Store, Subject};
use support::{Fixture, fixture};

/// An unpacked layer that is filled by the caller.
fn layer(store: &Store, name: &str, fill: impl FnOnce(&Path)) -> Digest {
    let diff_id = Digest::of(name.as_bytes());
    let Claim::Mine(draft) = store.claim_layer(Form::Identity, &diff_id).expect("claim") else {
        panic!("present")
    };
    let meta = LayerMeta { diff_id, entries: 1, bytes: 1_500, implied: Vec::new(), masking: Vec::new() };
    fill(&draft.publish(store, meta).expect("publish").path());
    diff_id
}

/// An image of layers, with a history.
fn image(store: &Store, name: &str, layers: &[Digest], history: &Value) -> Descriptor {
    let config =
        json!({"created": "2024-05-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers}, "history": history})
        .to_string();
    let digest = store.put_document(config.as_bytes()).expect("put");
    let blobs: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let blob = layer.to_string();
            let digest = store.put_document(blob.as_bytes()).expect("put");
            json!({"mediaType": media::OCI_LAYER_GZIP, "digest": digest, "size": blob.len()})
        })
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": blobs,
        "config": {"mediaType": media::OCI_CONFIG, "digest": digest, "size": config.len()}})
    .to_string();
    store.put_document(manifest.as_bytes()).expect("put");
    let image = Descriptor::of(media::OCI_MANIFEST, manifest.as_bytes());
    store.tag(name, &image).expect("tag");
    image
}

/// Two images, one upon the other, and a container of each.
struct Shared {
    f: Fixture,
    base: Digest,
    top: Digest,
}

fn write(path: &Path, bytes: usize) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
    std::fs::write(path, vec![1; bytes]).expect("write");
}

fn shared() -> Shared {
    let f = fixture();
    let base = layer(&f.store, "base", |tree| {
        for name in ["etc/passwd", "data/one", "data/two", "data/deep/x", "usr/a", "link/target"] {
            write(&tree.join(name), 100_000);
        }
        symlink("data", tree.join("ln")).expect("symlink");
    });
    let top = layer(&f.store, "top", |tree| write(&tree.join("usr/b"), 1_000_000));
    let history = json!([{"created": "2020-01-01T00:00:00Z", "created_by": "ADD\tfile in /"},
        {"created": "2020-01-02T00:00:00Z", "created_by": "CMD [\"sh\"]", "empty_layer": true},
        {"created": "2024-05-01T00:00:00Z", "created_by": format!("RUN {}", "x".repeat(60)), "comment": "buildkit"}]);
    let below = image(
        &f.store,
        "docker.io/library/base:1",
        &[base],
        &history.as_array().expect("an array")[..2].into(),
    );
    let above = image(&f.store, "docker.io/library/above:1", &[base, top], &history);
    for (name, image, layers) in [("one", &below, vec![base]), ("two", &above, vec![base, top])] {
        let doc = CreateDoc {
            name: name.into(),
            image: Some(image.digest),
            diff_ids: layers.clone(),
            ..CreateDoc::default()
        };
        let draft = f.store.draft_container(&doc).expect("draft");
        let paths = layers.iter().rev().map(|layer| format!("layers/identity/sha256/{}/tree", layer.hex()));
        draft
            .write("plan.json", json!({"image": paths.collect::<Vec<_>>()}).to_string().as_bytes())
            .expect("plan");
        draft.publish().expect("publish");
    }
    Shared { f, base, top }
}

fn whiteout(path: &Path) {
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    );
    made.expect("mknod");
}

fn copy_looks(from: &Path, to: &Path) {
    let mode = std::fs::metadata(from).expect("stat").permissions().mode();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn a_diff_tells_what_was_added_changed_and_deleted_and_nothing_else() {
    let Shared { f, .. } = shared();
    assert_eq!(f.text(&["diff", "two"]), "");
    let container = f.store.container("two").expect("two");
    let upper = container.path().join("upper");
    write(&container.path().join("init/etc/hosts"), 0);
    write(&upper.join("etc/hosts"), 1);
    write(&upper.join("new/inner"), 1);
    whiteout(&upper.join("etc/passwd"));
    whiteout(&upper.join("never-was"));
    // A directory that was removed and made again.
    write(&upper.join("data/two"), 1);
    write(&upper.join("data/three"), 1);
    rustix::fs::setxattr(upper.join("data"), "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .expect("xattr");
    // Copied up for nothing, and with another mode.
    std::fs::create_dir(upper.join("link")).expect("mkdir");
    std::fs::create_dir(upper.join("usr")).expect("mkdir");
    std::fs::set_permissions(upper.join("usr"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let tree = f.store.layer(Form::Identity, &Digest::of(b"base")).expect("layer").expect("there").path();
    copy_looks(&tree.join("link"), &upper.join("link"));
    copy_looks(&tree.join("etc"), &upper.join("etc"));
    // A file where a symlink was, a directory where a file was.
    write(&upper.join("ln"), 1);
    let want = "C /data\nD /data/deep\nD /data/one\nA /data/three\nC /data/two\nC /etc\nC /etc/hosts\nD /etc/passwd\n\
                C /ln\nA /new\nA /new/inner\nC /usr\n";
    assert_eq!(f.text(&["diff", "two"]), want);
    let row: Value =
        serde_json::from_str(f.text(&["diff", "--format", "json", "two"]).lines().next().expect("a row"))
            .expect("JSON");
    assert_eq!(row, json!({"Kind": "C", "Path": "/data"}));
    assert_eq!(f.run(&["diff", "nobody"], b"").status.code(), Some(3));
}

#[test]
fn a_diff_goes_deeper_than_a_path_may_be_long() {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let Shared { f, .. } = shared();
    let mut at = openat(
        CWD,
        f.store.container("two").expect("two").path().join("upper"),
        OFlags::DIRECTORY,
        Mode::empty(),
    )
    .expect("upper");
    let name = "d".repeat(250);
    for _ in 0..40 {
        mkdirat(&at, &*name, Mode::RWXU).expect("mkdir");
        at = openat(&at, &*name, OFlags::DIRECTORY, Mode::empty()).expect("open");
    }
    let changes = f.text(&["diff", "two"]);
    assert_eq!(changes.lines().count(), 40);
    let deepest = format!("A {}", format!("/{name}").repeat(40));
    assert_eq!(changes.lines().last(), Some(&*deepest));
}

#[test]
fn a_history_has_the_steps_with_what_each_added() {
    let Shared { f, .. } = shared();
    let text = f.text(&["history", "above:1"]);
    let rows: Vec<&str> = text.lines().collect();
    let id = f.json(&["images", "--format", "json", "above"])["ID"].as_str().expect("an id").to_string();
    assert!(rows[0].starts_with("IMAGE") && rows[0].ends_with("COMMENT"), "{text}");
    assert!(rows[1].starts_with(&id) && rows[1].contains("x\u{2026}   1.5kB     buildkit"), "{text}");
    assert!(
        rows[2].starts_with("<missing>") && rows[2].contains("CMD [\"sh\"]") && rows[2].ends_with("0B"),
        "{text}"
    );
    assert!(rows[3].contains("ADD file in /") && rows[3].ends_with("1.5kB"), "{text}");
    assert_eq!(f.text(&["history", "-q", "above:1"]), format!("{id}\n<missing>\n<missing>\n"));
    assert!(f.text(&["history", "--no-trunc", "above:1"]).contains(&"x".repeat(60)));
    assert_eq!(
        f.text(&["history", "app:1"]).lines().count(),
        2,
        "an image that tells no history has its layers"
    );
    assert_eq!(f.run(&["history", "one"], b"").status.code(), Some(2));
}

#[test]
fn layers_say_who_has_them_and_the_tree_draws_it() {
    let Shared { f, base, top } = shared();
    let rows = f.text(&["layers", "--format", "{{.ID}} {{.Images}} {{.Containers}} {{.UsedBy}}", "two"]);
    let (base, top) = (&base.hex()[..12], &top.hex()[..12]);
    assert_eq!(rows, format!("{base} 2 2 above:1, base:1\n{top} 1 1 above:1\n"));
    assert_eq!(f.text(&["layers", "-q"]).lines().count(), 3);
    let tree = f.text(&["tree", "above:1"]);
    let lines: Vec<&str> = tree.lines().collect();
    let begins = [
        format!("layer {base}  "),
        "image base:1".into(),
        "\u{251c}\u{2500} container one  ".into(),
        format!("\u{2514}\u{2500} layer {top}  "),
        "   image above:1".into(),
        "   \u{2514}\u{2500} container two  ".into(),
        "layers ".into(),
    ];
    assert_eq!(lines.len(), begins.len(), "{tree}");
    for (line, begin) in lines.iter().zip(&begins) {
        assert!(line.starts_with(begin), "{begin:?}: {tree}");
    }
    assert!(
        lines[0].ends_with("2 images, 2 containers") && lines[3].ends_with("1 image, 1 container"),
        "{tree}"
    );
    assert!(f.text(&["tree"]).contains("image app:1"));
    // The sums: each layer once, and as often as images and containers have it.
    let bytes = |args: &[&str], name: &str| -> u64 {
        let rows = f.text(args);
        let rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).expect("JSON"));
        let wanted = rows.filter(|row| row["ID"] == name || row["Names"] == name);
        wanted.map(|row| row["Bytes"].as_u64().expect("bytes")).sum()
    };
    let (low, high) =
        (bytes(&["layers", "--format", "json"], base), bytes(&["layers", "--format", "json"], top));
    let containers = f.json(&["df", "-v", "--format", "json"])["Containers"].clone();
    let own = containers.as_array().expect("an array").iter().filter(|row| row["Names"] != "web");
    let own: u64 = own.map(|row| row["Bytes"].as_u64().expect("bytes")).sum();
    let told: Vec<u64> = lines[6].split([',', ';']).map(|part| decimal(part.rsplit(' ').next())).collect();
    for (told, want) in told.iter().zip([low + high, own, low + high + own, 4 * low + 2 * high + own]) {
        assert!(told.abs_diff(want) <= want / 100, "{told} is not about {want}: {tree}");
    }
    assert_eq!(told.len(), 4, "{tree}");
}

/// Bytes as a table has them.
fn decimal(text: Option<&str>) -> u64 {
    let text = text.expect("a size");
    let (number, unit) = text.split_at(text.find(char::is_alphabetic).expect("a unit"));
    let unit = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        other => panic!("{other}"),
    };
    (number.parse::<f64>().expect("a number") * unit) as u64
}

/// What du(1) says, in bytes.
fn du(path: &Path) -> u64 {
    let out = Command::new("du").args(["-s", "-B1"]).arg(path).output().expect("du");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    text.split_whitespace().next().expect("a number").parse().expect("a number")
}

#[test]
fn df_counts_what_the_disk_has_and_what_it_would_have() {
    let Shared { f, base, top } = shared();
    f.store.create_volume("data", &Default::default()).expect("a volume");
    let volume = f.store.path().join("volumes/data/_data");
    write(&volume.join("file"), 500_000);
    std::fs::hard_link(volume.join("file"), volume.join("again")).expect("link");
    write(&f.store.container("one").expect("one").path().join("upper/own"), 300_000);
    let held = f.store.hold_cache("pip", store::Sharing::Shared, (0o755, 0, 0), || ()).expect("a cache");
    write(&held.path().join("wheel"), 200_000);
    let rows = f.text(&["df", "--format", "json"]);
    let row = |kind: &str| -> Value {
        let rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).expect("JSON"));
        rows.into_iter().find(|row| row["Type"] == kind).expect(kind)
    };
    let store = f.store.path();
    let layers = du(&store.join("layers/identity/sha256").join(base.hex()))
        + du(&store.join("layers/identity/sha256").join(top.hex()));
    let other = du(&store.join("layers/identity/sha256").join(f.diff_id.hex()));
    assert_eq!(row("Images")["Bytes"], layers + other + du(&store.join("fixes")));
    assert_eq!(
        row("Local Volumes")["Bytes"],
        du(&store.join("volumes/data")),
        "a file with two names counts once"
    );
    assert_eq!(row("Build Cache")["Bytes"], du(&store.join("caches/pip")));
    assert_eq!(row("Build Cache")["ReclaimableBytes"], 0, "somebody has it");
    let own = du(&store.join("containers"))
        - std::fs::metadata(store.join("containers")).expect("stat").blocks() * 512;
    assert_eq!(row("Containers")["Bytes"], own);
    assert_eq!(row("Containers")["ReclaimableBytes"], own, "none runs");
    assert_eq!(
        row("Local Volumes")["Reclaimable"],
        format!("{} (100%)", row("Local Volumes")["Size"].as_str().expect("text"))
    );
    let bytes = |kind: &str| row(kind)["Bytes"].as_u64().expect("bytes");
    assert_eq!(bytes("Blobs"), du(&store.join("blobs")));
    let parts = ["Images", "Blobs", "Containers", "Local Volumes", "Build Cache", "Other"];
    assert_eq!(bytes("Total"), parts.map(bytes).iter().sum::<u64>());
    // Two images and two containers have the lowest layer, one of each the other.
    let apart = row("Without sharing")["Bytes"].as_u64().expect("bytes")
        - row("Total")["Bytes"].as_u64().expect("bytes");
    let blocks = |digest: &Digest| du(&store.join("layers/identity/sha256").join(digest.hex()));
    let more = 3 * blocks(&base) + blocks(&top);
    assert!(apart.abs_diff(more) < 100_000, "{apart} is not about {more}");

    let verbose = f.text(&["df", "-v"]);
    assert!(
        verbose.contains("SHARED SIZE") && verbose.contains("one") && verbose.contains("data"),
        "{verbose}"
    );
    let all = f.json(&["df", "-v", "--format", "json"]);
    let above = all["Images"]
        .as_array()
        .expect("images")
        .iter()
        .find(|image| image["Repository"] == "above")
        .expect("above");
    assert_eq!((&above["SharedBytes"], &above["UniqueBytes"]), (&json!(blocks(&base)), &json!(blocks(&top))));
}

#[test]
fn volumes_are_listed_by_name_and_filter() {
    let f = fixture();
    let labels = [("k".to_string(), "v".to_string())].into();
    f.store.create_volume("a", &labels).expect("a volume");
    f.store.create_volume("b", &Default::default()).expect("a volume");
    assert_eq!(f.text(&["volumes"]), "DRIVER    VOLUME NAME\nlocal     a\nlocal     b\n");
    assert_eq!(f.text(&["volumes", "-q", "--filter", "label=k=v"]), "a\n");
    let row = f.json(&["volumes", "--filter", "name=^b$", "--format", "json"]);
    assert_eq!(row["Mountpoint"], json!(f.store.path().join("volumes/b/_data")));
    for args in
        [["volumes", "--filter=status=running"], ["volumes", "--format=line"], ["volumes", "--format=docker"]]
    {
        assert_eq!(f.run(&args, b"").status.code(), Some(2), "{args:?}");
    }
}

/// A process in a pid namespace of its own, and who keeps it.
fn apart() -> (std::process::Child, u32) {
    let words = ["--pid", "--fork", "--kill-child", "sleep", "60"];
    let keeper = Command::new("unshare").args(words).stdin(Stdio::null()).spawn().expect("unshare");
    let pid = sleeper_of(keeper.id());
    (keeper, pid)
}

/// The child that a process gets when it has become `sleep`.
fn sleeper_of(parent: u32) -> u32 {
    let children = format!("/proc/{parent}/task/{parent}/children");
    loop {
        let text = std::fs::read_to_string(&children).expect("its children");
        if let Ok(pid) = text.trim().parse::<u32>()
            && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
        {
            return pid;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn top_and_stats_show_what_runs() {
    let f = fixture();
    let (mut keeper, pid) = apart();
    let named = |name: &str| CreateDoc { name: name.into(), ..CreateDoc::default() };
    f.container(&named("runs"), &json!({}), |state| state.set_running(pid));
    let top = f.text(&["top", "runs"]);
    let rows: Vec<&str> = top.lines().collect();
    assert_eq!(
        rows[0].split_whitespace().collect::<Vec<_>>(),
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    let cells: Vec<&str> = rows[1].split_whitespace().collect();
    assert_eq!(
        (cells[0], cells[1], cells[2]),
        ("root", &*pid.to_string(), &*keeper.id().to_string()),
        "{top}"
    );
    assert_eq!((cells[6], cells[7], cells[8]), ("00:00:00", "sleep", "60"), "{top}");
    assert_eq!(rows.len(), 2, "{top}");
    assert_eq!(f.text(&["top", "-q", "runs"]), format!("{pid}\n"));
    let out = f.run(&["top", "web"], b"");
    assert_eq!(out.status.code(), Some(9), "what does not run has no processes");
    assert!(String::from_utf8_lossy(&out.stderr).contains("hint: oci-spawn start web"), "{out:?}");

    // Without a control group its processes are counted one by one.
    let stats = ["stats", "--no-stream", "--format"];
    let text = f.text(&[&stats[..], &["{{.Name}} {{.CPUPerc}} {{.PIDs}}"]].concat());
    assert!(text.starts_with("runs ") && text.ends_with("% 1\n"), "{text}");
    // With neither that nor a pid namespace nobody can tell which they are.
    f.container(&named("plain"), &json!({}), |state| state.set_running(std::process::id()));
    assert_eq!(f.run(&["top", "plain"], b"").status.code(), Some(7));
    assert_eq!(f.text(&[&stats[..], &["{{.Name}} {{.PIDs}}", "plain"]].concat()), "plain --\n");
    assert_eq!(f.text(&[&stats[..], &["{{.Name}}", "-a"]].concat()), "plain\nruns\nweb\n");
    keeper.kill().expect("kill");
    keeper.wait().expect("wait");
    assert_eq!(f.run(&["stats", "--no-stream", "nobody"], b"").status.code(), Some(3));
}

#[test]
fn events_are_told_filtered_and_followed() {
    let f = fixture();
    let note = |action: &str, name: &str| {
        f.store.note(&Event::new(Subject::Container, action, "0123", name).with("exitCode", 3))
    };
    note("die", "web");
    note("die", "other");
    let told = f.text(&["events", "--filter", "container=web", "--filter", "event=die"]);
    assert!(
        told.ends_with(" container die 0123 (exitCode=3, name=web)\n") && told.lines().count() == 1,
        "{told}"
    );
    let document =
        f.json(&["events", "--filter", "event=die", "--filter", "container=other", "--format", "json"]);
    assert_eq!(document["Actor"], json!({"ID": "0123", "Attributes": {"exitCode": "3", "name": "other"}}));
    assert_eq!((&document["Type"], &document["Action"]), (&json!("container"), &json!("die")));
    assert_eq!(f.text(&["events", "--until", "1h"]), "");
    for args in [["events", "--since=soon"], ["events", "--filter=colour=red"], ["events", "--format=line"]] {
        assert_eq!(f.run(&args, b"").status.code(), Some(2), "{args:?}");
    }

    let mut follower = Command::new(env!("CARGO_BIN_EXE_oci-inspect"))
        .args(["events", "-f", "--filter", "event=start", "--format", "{{.Actor.Attributes.name}}"])
        .env("OCIPIPE_STORE", f.store.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().expect("stdout")));
    // It may not follow yet: what it tells first is the first that it can have seen.
    let done = std::sync::atomic::AtomicBool::new(false);
    let noting = std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let first = lines.next().expect("a line").expect("text");
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            first
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            note("stop", "not this");
            note("start", "this");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        first.join().expect("joined")
    });
    assert_eq!(noting, "this");
    follower.kill().expect("kill");
    follower.wait().expect("wait");
}
