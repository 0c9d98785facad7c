//! What a store is on disk, whoever made or damaged it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use descriptor::{Classify, Descriptor, Digest, Exit, media};
use store::{Error, Store};

fn open(dir: &Path) -> Store {
    Store::open(Some(dir)).expect("a store")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("stat").permissions().mode() & 0o7777
}

/// A manifest of an image without layers, in the store.
fn image(store: &Store, label: &str) -> Descriptor {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"l":"{label}"}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    );
    let digest = store.put_document(config.as_bytes()).expect("put");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{digest}","size":{}}},"layers":[]}}"#,
        media::OCI_MANIFEST,
        media::OCI_CONFIG,
        config.len()
    );
    store.put_document(manifest.as_bytes()).expect("put");
    Descriptor::of(media::OCI_MANIFEST, manifest.as_bytes())
}

#[test]
fn a_new_store_is_private_whatever_the_umask() {
    let dir = tempfile::tempdir().expect("tempdir");
    let at = dir.path().join("a/b/store");
    // The umask is the process's: another one.
    let exe = std::env::current_exe().expect("the test's own path");
    let script = format!("umask 000; STORE_TEST_AT={at:?} exec {exe:?} --exact opens_a_store_where_told");
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success());
    assert_eq!(mode(&at), 0o700);
    for entry in std::fs::read_dir(&at).expect("readdir") {
        let path = entry.expect("entry").path();
        assert_eq!(mode(&path) & 0o077, 0, "{path:?}");
    }
    std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    open(&at);
    assert_eq!(mode(&at), 0o700, "made private again");
}

/// Not a test of its own: the other process of the one before.
#[test]
fn opens_a_store_where_told() {
    if let Some(at) = std::env::var_os("STORE_TEST_AT") {
        open(Path::new(&at));
    }
}

#[test]
fn the_callers_own_place_must_be_the_callers_own_store() {
    let dir = tempfile::tempdir().expect("tempdir");
    let exe = std::env::current_exe().expect("the test's own path");
    // In a user namespace of its own no process is root of the initial one, which would use /var/lib.
    let opens = || {
        let mut command = Command::new("unshare");
        command.args(["-Ur"]).arg(&exe).args(["--exact", "opens_its_own_store", "--nocapture"]);
        command.env("XDG_DATA_HOME", dir.path()).env("STORE_TEST_OWN", "1").output()
    };
    let Some(out) = opens().ok().filter(|out| out.status.success()) else {
        testkit::skip("user namespaces are not available");
        return;
    };
    assert!(String::from_utf8_lossy(&out.stdout).contains("opened"));
    let record = dir.path().join("ocipipe/store.json");
    let text = std::fs::read_to_string(&record).expect("store.json");
    assert!(text.contains(r#""owner":0"#), "{text}");
    std::fs::write(&record, text.replace(r#""owner":0"#, r#""owner":12"#)).expect("write");
    let out = opens().expect("unshare");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("belongs to uid 12, not to 0"), "{said}");
    open(&dir.path().join("ocipipe"));
}

/// Not a test of its own: the other process of the one before.
#[test]
fn opens_its_own_store() {
    if std::env::var_os("STORE_TEST_OWN").is_some() {
        match Store::open(None) {
            Ok(_) => println!("opened"),
            Err(e) => println!("{:?}: {e}", e.exit()),
        }
    }
}

#[test]
fn many_processes_make_one_store() {
    let dir = tempfile::tempdir().expect("tempdir");
    let at = dir.path().join("store");
    let exe = std::env::current_exe().expect("the test's own path");
    let start = || {
        Command::new(&exe)
            .args(["--exact", "opens_a_store_where_told"])
            .env("STORE_TEST_AT", &at)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("spawn")
    };
    let children: Vec<_> = (0..8).map(|_| start()).collect();
    for mut child in children {
        assert!(child.wait().expect("wait").success());
    }
    assert_eq!(open(&at).check().expect("check").findings, []);
}

#[test]
fn a_directory_with_other_things_is_no_store() {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("thesis.tex"), "").expect("write");
    let error = Store::open(Some(dir.path())).expect_err("refused");
    assert!(matches!(error, Error::NotAStore { .. }));
    assert_eq!(error.exit(), Exit::Conflict);
    assert_eq!(std::fs::read_dir(dir.path()).expect("readdir").count(), 1);
}

#[test]
fn a_store_of_a_later_layout_is_left_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    open(dir.path());
    std::fs::write(dir.path().join("store.json"), r#"{"layout":2,"owner":0,"uidMap":""}"#).expect("write");
    let error = Store::open(Some(dir.path())).expect_err("refused");
    assert!(matches!(error, Error::LayoutVersion { found: 2, .. }));
}

#[test]
fn what_is_no_regular_file_is_no_blob_and_nothing_hangs() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let at = |name: &str| dir.path().join("blobs/sha256").join(Digest::of(name.as_bytes()).hex());
    symlink("/etc/shadow", at("symlink")).expect("symlink");
    std::fs::create_dir(at("directory")).expect("mkdir");
    assert!(Command::new("mkfifo").arg(at("fifo")).status().expect("mkfifo").success());
    drop(std::os::unix::net::UnixListener::bind(at("socket")));
    symlink("/dev/zero", at("device")).expect("symlink");
    for name in ["symlink", "directory", "fifo", "socket", "device"] {
        let digest = Digest::of(name.as_bytes());
        assert!(store.has_blob(&digest).is_err(), "{name}");
        assert!(store.open_blob(&digest).is_err(), "{name}");
        let error = store.read_document(&digest, 100).expect_err(name);
        assert_eq!(error.exit(), Exit::Content, "{name}: {error}");
        assert!(store.ingest(&digest, 1).is_err(), "{name}");
        assert!(store.follow(&digest, 1).is_err(), "{name}");
    }
    assert_eq!(store.check().expect("check").findings.len(), 5);
}

#[test]
fn a_strange_file_in_the_place_of_ingest_or_index_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let digest = Digest::of(b"x");
    symlink("/etc/passwd", dir.path().join("ingest").join(digest.hex())).expect("symlink");
    assert!(matches!(store.ingest(&digest, 1), Err(Error::WrongKind { .. })));
    std::fs::remove_file(dir.path().join("index.json")).expect("rm");
    assert!(Command::new("mkfifo").arg(dir.path().join("index.json")).status().expect("mkfifo").success());
    assert!(matches!(store.references(), Err(Error::WrongKind { .. })));
    std::fs::remove_file(dir.path().join("index.json")).expect("rm");
    symlink("/etc/passwd", dir.path().join("index.json")).expect("symlink");
    assert!(matches!(store.references(), Err(Error::WrongKind { .. })));
}

#[test]
fn a_name_leads_to_its_image_until_it_is_moved_or_taken_away() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let (one, two) = (image(&store, "1"), image(&store, "2"));
    store.tag("example/app:1", &one).expect("tag");
    store.tag("example/app:2", &one).expect("tag");
    store.tag("example/app:1", &two).expect("move");
    assert_eq!(store.resolve("example/app:1").expect("resolve"), Some(two));
    assert_eq!(store.references().expect("references").len(), 2);
    assert!(store.untag("example/app:2").expect("untag"));
    assert!(!store.untag("example/app:2").expect("untag"));
    assert_eq!(store.resolve("example/app:2").expect("resolve"), None);
    assert!(matches!(store.tag("x", &Descriptor::of(media::OCI_MANIFEST, b"gone")), Err(Error::NoBlob(_))));
}

#[test]
fn another_programs_index_is_accepted_and_kept() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let (ours, theirs) = (image(&store, "1"), image(&store, "2"));
    store.tag("ours:1", &ours).expect("tag");
    // As a program writes it that had read the file before our tag.
    let foreign = format!(
        r#"{{"schemaVersion":2,"x-theirs":7,"manifests":[{{"mediaType":"{}","digest":"{}","size":{},"urls":["u"],"annotations":{{"org.opencontainers.image.ref.name":"theirs"}}}},{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        theirs.media_type, theirs.digest, theirs.size, theirs.media_type, theirs.digest, theirs.size
    );
    std::fs::write(dir.path().join("index.json"), foreign).expect("write");
    assert_eq!(store.resolve("theirs").expect("resolve"), Some(theirs.clone()));
    assert_eq!(store.resolve("ours:1").expect("resolve"), Some(ours), "healed");
    store.tag("third", &theirs).expect("tag");
    let index = std::fs::read_to_string(dir.path().join("index.json")).expect("read");
    for kept in ["\"x-theirs\":7", "\"urls\":[\"u\"]", "\"theirs\"", "ours:1", "third"] {
        assert!(index.contains(kept), "{kept} in {index}");
    }
    assert_eq!(store.references().expect("references").len(), 3);
}

#[test]
fn a_half_written_index_is_read_again_and_then_healed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let one = image(&store, "1");
    store.tag("ours:1", &one).expect("tag");
    let path = dir.path().join("index.json");
    let whole = std::fs::read(&path).expect("read");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("truncate");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        std::fs::write(&path, whole).expect("write");
    });
    let begin = Instant::now();
    assert_eq!(store.resolve("ours:1").expect("resolve"), Some(one.clone()));
    assert!(begin.elapsed() >= Duration::from_millis(150), "it waited for the writer");
    writer.join().expect("writer");
    std::fs::write(dir.path().join("index.json"), "").expect("truncate for good");
    assert_eq!(store.resolve("ours:1").expect("resolve"), Some(one.clone()));
    store.tag("ours:2", &one).expect("tag");
    let index = std::fs::read_to_string(dir.path().join("index.json")).expect("read");
    assert!(index.contains("ours:1") && index.contains("ours:2"));
}

#[test]
fn tags_of_many_threads_are_all_kept() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let one = image(&store, "1");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (one, dir) = (&one, dir.path());
            scope.spawn(move || open(dir).tag(&format!("t{n}"), one).expect("tag"));
        }
    });
    assert_eq!(store.references().expect("references").len(), 8);
}

#[test]
fn skopeo_reads_and_writes_the_store() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        testkit::skip("skopeo is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let at = dir.path().join("store");
    let store = open(&at);
    let one = image(&store, "1");
    store.tag("localhost/app:1", &one).expect("tag");
    let skopeo = |args: &[&str]| {
        let out = Command::new("skopeo").arg("--insecure-policy").args(args).output().expect("skopeo");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let ours = format!("oci:{}:localhost/app:1", at.display());
    assert!(skopeo(&["inspect", "--raw", &ours]).contains(media::OCI_CONFIG));
    let theirs = format!("oci:{}:theirs:2", at.display());
    skopeo(&["copy", &ours, &theirs]);
    assert_eq!(store.resolve("theirs:2").expect("resolve").map(|d| d.digest), Some(one.digest));
    store.tag("third", &one).expect("tag");
    skopeo(&["inspect", "--raw", &theirs]);
    // A layout that skopeo makes alone is taken over.
    let fresh = dir.path().join("fresh");
    skopeo(&["copy", &ours, &format!("oci:{}:x", fresh.display())]);
    let fresh = open(&fresh);
    assert!(fresh.resolve("x").expect("resolve").is_some());
    assert_eq!(fresh.check().expect("check").findings, []);
}

#[test]
fn a_check_names_what_is_damaged() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let one = image(&store, "1");
    store.tag("a:1", &one).expect("tag");
    assert_eq!(store.check().expect("check").findings, []);
    let path = dir.path().join("blobs/sha256").join(one.digest.hex());
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    std::fs::create_dir_all(dir.path().join("layers/identity/sha256").join(one.digest.hex())).expect("mkdir");
    symlink(format!("../containers/{}", one.digest.hex()), dir.path().join("names/ghost")).expect("symlink");
    std::fs::create_dir(dir.path().join("containers").join(one.digest.hex().replace('a', "b")))
        .expect("mkdir");
    let findings = store.check().expect("check").findings;
    for what in ["blobs/sha256/", "image sha256:", "layers/identity", "names/ghost", "containers/"] {
        assert!(findings.iter().any(|f| f.what.starts_with(what)), "{what} in {findings:?}");
    }
}
