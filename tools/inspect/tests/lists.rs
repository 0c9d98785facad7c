//! Lists of containers and images: which are shown, and how.

mod support;

use descriptor::{Descriptor, Line, media};
use serde_json::{Value, json};
use store::CreateDoc;
use store::create::Mount;
use support::{Fixture, fixture};

/// Besides `web`, which was made first: one that runs, two that ended.
fn several() -> Fixture {
    let f = fixture();
    let spec = json!({"process": {"args": ["sh", "-c", "echo a long command \u{1b}[2J that goes on"]}});
    let doc = |name: &str| CreateDoc { name: name.into(), network: "none".into(), ..CreateDoc::default() };
    let mut runs = doc("runs");
    f.store.create_volume("data", &Default::default()).expect("a volume");
    runs.labels.insert("role".into(), "front".into());
    runs.mounts = vec![Mount {
        kind: "volume".into(),
        source: Some("data".into()),
        target: "/d".into(),
        ..Mount::default()
    }];
    let made = f.container(&runs, &spec, |state| state.set_running(std::process::id()));
    std::fs::write(made.path().join("upper/file"), vec![0; 2000]).expect("write");
    f.container(&doc("ended"), &spec, |state| state.set_stopped(Some(3)));
    let mut other = doc("other");
    other.labels.insert("role".into(), "back".into());
    f.container(&other, &spec, |state| state.set_stopped(Some(0)));
    f
}

fn names(f: &Fixture, args: &[&str]) -> String {
    let format = ["containers", "--format", "{{.Names}}"];
    f.text(&[&format[..], args].concat()).lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn only_what_runs_is_listed_unless_all_is_asked_for() {
    let f = several();
    for (args, want) in [
        (&[][..], "runs"),
        (&["-a"], "other ended runs web"),
        (&["--all", "--filter", "name=e"], "other ended web"),
        (&["-l"], "other"),
        (&["--last", "2"], "other ended"),
        (&["-n", "9"], "other ended runs web"),
        (&["-a", "--filter", "name=^/web$"], "web"),
        (&["--filter", "status=exited"], "other ended"),
        (&["--filter", "status=stopped", "--filter", "exited=3"], "ended"),
        (&["-f", "status=created", "-f", "status=running"], "runs web"),
        (&["-a", "-f", "label=role"], "other runs"),
        (&["-a", "-f", "label=role=back"], "other"),
        (&["-a", "-f", "label=role", "-f", "label=role=front"], "runs"),
        (&["-f", "label=role=back"], ""),
        (&["-a", "-f", "volume=data"], "runs"),
        (&["-a", "-f", "volume=/d"], "runs"),
        (&["-a", "-f", "ancestor=app:1", "-f", "name=web"], "web"),
        (&["-a", "-f", "before=ended"], "runs web"),
        (&["-a", "-f", "since=runs"], "other ended"),
        (&["-a", "-f", "network=none", "-f", "exited=0"], "other"),
    ] {
        assert_eq!(names(&f, args), want, "{args:?}");
    }
    let id = f.store.container("ended").expect("ended").id().to_string();
    assert_eq!(names(&f, &["-a", "-f", &format!("id={}", &id[..6])]), "ended");
    for (filter, code) in
        [("colour=red", 2), ("status=happy", 2), ("name", 2), ("ancestor=none:1", 0), ("before=none", 3)]
    {
        assert_eq!(f.run(&["ps", "-f", filter], b"").status.code(), Some(code), "{filter}");
    }
}

#[test]
fn containers_are_lines_ids_rows_or_a_table() {
    let f = several();
    let lines = f.lines(&["containers", "-a"], b"");
    let named = lines.iter().map(|line| match line {
        Line::Container(line) => line.name.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(named.collect::<Vec<_>>(), ["other", "ended", "runs", "web"], "the newest first");
    let id = f.store.container("runs").expect("runs").id().to_string();
    assert_eq!(f.text(&["ps", "-q"]), format!("{}\n", &id[..12]));
    assert_eq!(f.text(&["ps", "-q", "--no-trunc"]), format!("{id}\n"));
    let row: Value = f.json(&["ps", "--format", "json", "--size"]);
    for (member, want) in [
        ("Names", json!("runs")),
        ("Image", json!("app:1")),
        ("State", json!("running")),
        ("Labels", json!("role=front")),
        ("Mounts", json!("data")),
        ("Size", json!("2kB (virtual 2kB)")),
        ("SizeRw", json!(2000)),
        ("SizeRootFs", json!(2005)),
    ] {
        assert_eq!(row[member], want, "{member}");
    }
    let table = f.text(&["ps", "-a", "--format", "table"]);
    let rows: Vec<&str> = table.lines().collect();
    let cells = |row: &str| {
        row.split("   ").map(str::trim).filter(|c| !c.is_empty()).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(cells(rows[0]), ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"]);
    assert!(rows[3].contains("Up ") && rows[3].contains("\"sh -c 'echo a long \u{2026}\""), "{table}");
    assert!(rows[2].contains("Exited (3) ") && rows[2].ends_with("ended"), "{table}");
    assert!(rows[4].contains("Created") && !rows[4].contains("Exited"), "{table}");
    let whole = f.text(&["ps", "--no-trunc", "--format", "table"]);
    assert!(whole.contains("that goes on") && !whole.contains('\u{1b}') && whole.contains(&id), "{whole:?}");
    let tabs = f.text(&["ps", "--format", "{{.Names}}\\t{{.Status}}"]);
    assert!(tabs.starts_with("runs\tUp "), "{tabs}");
}

#[test]
fn what_has_a_lists_name_is_reached_behind_two_dashes_and_by_its_id() {
    let f = fixture();
    f.store.tag("images", &f.image).expect("tag");
    let [Line::Image(line)] = &f.lines(&["--", "images"], b"")[..] else { panic!("one image line") };
    assert_eq!(line.descriptor.digest, f.image.digest);
    assert_eq!(f.run(&["--full", "images"], b"").status.code(), Some(2), "a thing's option before a list");
}

#[test]
fn images_are_lines_ids_rows_or_a_table() {
    let f = fixture();
    let bytes = f.store.read_document(&f.image.digest, 10_000).expect("a manifest");
    let labelled = br#"{"created":"2026-01-02T03:04:05Z","architecture":"amd64","os":"linux","config":{"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let config = f.store.put_document(labelled).expect("put");
    let mut manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
    manifest["config"]["digest"] = json!(config);
    manifest["config"]["size"] = json!(labelled.len());
    manifest["layers"] = json!([]);
    let bytes = manifest.to_string();
    f.store.put_document(bytes.as_bytes()).expect("put");
    f.store.tag("localhost/user/new:2", &Descriptor::of(media::OCI_MANIFEST, bytes.as_bytes())).expect("tag");

    assert_eq!(f.lines(&["images"], b"").len(), 3);
    let told = |args: &[&str]| f.text(&[&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat());
    for (args, want) in [
        (&["app"][..], "app:1\n"),
        (&["app:1"], "app:1\n"),
        (&["localhost/*/*"], "localhost/user/new:2\n"),
        (&["--filter", "reference=*:1"], "app:1\n"),
        (&["--filter", "label=a=b"], "localhost/user/new:2\n"),
        (&["--filter", "label=a=c"], ""),
        (&["--filter", "dangling=true"], ""),
        (&["--filter", "since=app:1"], "localhost/user/new:2\n"),
    ] {
        assert_eq!(told(args), want, "{args:?}");
    }
    let id = f.store.image(&f.image.digest, None).expect("an image").config_digest;
    assert_eq!(f.text(&["images", "-q", "app"]), format!("{}\n", &id.hex()[..12]));
    let row = f.json(&["images", "--format", "json", "app"]);
    assert_eq!((&row["Size"], &row["Bytes"], &row["ID"]), (&json!("5B"), &json!(5), &json!(&id.hex()[..12])));
    let table = f.text(&["images", "--digests", "--format", "table"]);
    assert!(table.starts_with("REPOSITORY ") && table.contains(&f.image.digest.to_string()), "{table}");
    let plain = f.text(&["images", "--format", "table"]);
    assert!(!plain.contains("DIGEST") && !plain.contains("sha256:"), "{plain}");
    assert_eq!(f.run(&["images", "--filter", "dangling=maybe"], b"").status.code(), Some(2));
}
