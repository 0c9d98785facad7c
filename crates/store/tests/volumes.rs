//! Volumes: made once, kept while something uses them, filled once, whatever dies in between.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};

use descriptor::{Classify, Exit};
use store::containers::Mount;
use store::{CreateDoc, Error, Store};

const HELPER: &str = "STORE_TEST_VOLUMES";

fn open(dir: &Path) -> Store {
    Store::open(Some(dir)).expect("a store")
}

fn labels(key: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_string(), "1".to_string())])
}

fn doc(name: &str, volume: Option<&str>) -> CreateDoc {
    let mount = Mount {
        kind: "volume".into(),
        source: volume.map(Into::into),
        target: "/data".into(),
        ..Mount::default()
    };
    CreateDoc { name: name.into(), mounts: vec![mount], ..CreateDoc::default() }
}

fn is_clean(store: &Store) {
    assert_eq!(store.check().expect("check").findings, []);
    assert_eq!(std::fs::read_dir(store.path().join("staging")).expect("staging").count(), 0);
}

#[test]
fn a_volume_is_made_once_and_found_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    assert!(matches!(store.volume("data"), Err(Error::NoVolume(_))));
    let made = store.create_volume("data", &labels("a")).expect("create");
    std::fs::write(made.path().join("file"), "x").expect("write");
    let again = store.create_volume("data", &labels("b")).expect("again");
    assert_eq!(again.doc(), made.doc(), "what is there stays");
    assert_eq!(store.volumes().expect("list").len(), 1);
    assert_eq!(store.volume("data").expect("find").path(), store.path().join("volumes/data/_data"));
    drop((made, again));
    store.remove_volume("data").expect("remove");
    assert_eq!(store.remove_volume("data").expect_err("gone").exit(), Exit::NotFound);
    assert!(!dir.path().join("volumes/data").exists());
    is_clean(&store);
}

#[test]
fn names_of_volumes_are_dockers() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let long = "n".repeat(256);
    for name in ["", ".", "..", ".lock", "_x", "-x", "a/b", "../x", "a\0", "a b", "a+b", "ä", &long] {
        let error = store.create_volume(name, &BTreeMap::new()).expect_err(name);
        assert_eq!(error.exit(), Exit::Usage, "{name:?}");
        assert!(store.volume(name).is_err() && store.remove_volume(name).is_err());
    }
    for name in ["a", "0", "A.b-c_d", &"n".repeat(255)] {
        store.create_volume(name, &BTreeMap::new()).expect(name);
    }
    let nameless = store.create_anonymous_volume("of", &BTreeMap::new()).expect("anonymous");
    assert!(store::volumes::is_anonymous_name(nameless.name()) && nameless.is_anonymous());
}

#[test]
fn a_volume_stays_while_a_container_names_it_or_is_being_made_with_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let held = store.create_volume("data", &BTreeMap::new()).expect("create");
    let refused = |said: &str| {
        let error = store.remove_volume("data").expect_err("in use");
        assert_eq!((error.exit(), error.to_string()), (Exit::Conflict, said.to_string()));
    };
    refused("the volume \"data\" is in use");
    let draft = store.draft_container(&doc("web", Some("data"))).expect("draft");
    let web = draft.publish().expect("publish");
    drop(held);
    refused("the volume \"data\" is in use by web");
    store.rename_container("web", "old").expect("rename");
    refused("the volume \"data\" is in use by old");
    web.remove().expect("remove");
    store.remove_volume("data").expect("free now");
    let draft = store.draft_container(&doc("web", Some("data"))).expect("draft");
    assert!(matches!(draft.publish(), Err(Error::NoVolume(_))), "no container without its volume");
    is_clean(&store);
}

#[test]
fn a_nameless_volume_belongs_to_its_container_and_goes_with_a_one_off() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let named = store.create_volume("named", &BTreeMap::new()).expect("volume").name().to_string();
    let others =
        store.create_anonymous_volume(&"0".repeat(64), &BTreeMap::new()).expect("volume").name().to_string();
    for auto_remove in [false, true] {
        let doc = CreateDoc { auto_remove, ..doc("web", None) };
        let draft = store.draft_container(&doc).expect("draft");
        let volume = store.create_anonymous_volume(draft.id(), &BTreeMap::new()).expect("volume");
        let web = draft.publish().expect("publish");
        let name = volume.name().to_string();
        assert_eq!(volume.users().expect("users"), ["web"]);
        drop(volume);
        assert_eq!(store.remove_volume(&name).expect_err("in use").exit(), Exit::Conflict);
        web.remove().expect("remove");
        assert_eq!(store.volume(&name).is_err(), auto_remove);
    }
    // Nobody uses them, but they are not that container's.
    assert!(store.volume(&named).is_ok() && store.volume(&others).is_ok());
    is_clean(&store);
}

#[test]
fn a_volume_is_filled_where_it_has_nothing_and_looks_like_what_filled_it() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let volume = store.create_volume("data", &BTreeMap::new()).expect("create");
    let inode = || std::fs::metadata(volume.path()).expect("stat").ino();
    let before = inode();
    let path = |name: &str| dir.path().join("volumes/data").join(name);
    let failed: Result<(), &str> = volume.fill(|_| Err("no")).expect("fill");
    assert_eq!((failed, path("filling").exists()), (Err("no"), false));
    let copy = |_: &sys::Root| -> Result<(), ()> {
        let at = path("filling");
        std::fs::write(at.join("file"), "x").expect("write");
        std::fs::write(at.join(std::ffi::OsStr::from_bytes(b"\xff")), "y").expect("a name that is no UTF-8");
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o1777)).expect("chmod");
        std::os::unix::fs::chown(&at, Some(70), Some(71)).expect("chown");
        Ok(())
    };
    volume.fill(copy).expect("fill").expect("copy");
    let stat = std::fs::metadata(volume.path()).expect("stat");
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o1777, 70, 71));
    assert_eq!(std::fs::read_dir(volume.path()).expect("readdir").count(), 2);
    assert_eq!(inode(), before, "who has it mounted sees it too");
    assert!(!path("filled").exists() && !path("filling").exists());
    let called: Result<(), &str> = volume.fill(|_| Err("called")).expect("fill");
    assert_eq!(called, Ok(()), "what is there stays");
    // Left whole by one that died; a container has written a file of that name since.
    std::fs::create_dir(path("filled")).expect("mkdir");
    for (name, text) in [("file", "image's"), ("new", "image's")] {
        std::fs::write(path("filled").join(name), text).expect("write");
    }
    volume.fill(|_| Err("called")).expect("fill").expect("nothing is copied");
    let read = |name: &str| std::fs::read_to_string(volume.path().join(name)).expect("read");
    assert_eq!((read("file").as_str(), read("new").as_str()), ("x", "image's"));
}

/// Not a test of its own: the process that is killed while it fills a volume, or that makes and removes one.
#[test]
fn helper_process() {
    let Some(dir) = std::env::var_os(HELPER) else { return };
    let store = open(Path::new(&dir));
    let (made, done) = (std::env::var("MANY"), |result: Result<(), Error>| match result {
        Ok(()) | Err(Error::NoVolume(_) | Error::VolumeInUse { .. }) => {}
        Err(e) => panic!("{e}"),
    });
    if made.is_ok() {
        for n in 0..60 {
            let volume = store.create_volume("shared", &labels("l")).expect("create");
            let file = volume.path().join(format!("{}", std::process::id()));
            std::fs::write(&file, format!("{n}")).expect("it stays while it is held");
            std::fs::remove_file(&file).expect("and what is in it");
            drop(volume);
            done(store.remove_volume("shared"));
        }
        return;
    }
    let volume = store.create_volume("data", &BTreeMap::new()).expect("create");
    let copy = |root: &sys::Root| -> Result<(), ()> {
        for name in ["a", "b", "c"] {
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            root.open(name, flags, rustix::fs::Mode::RUSR).expect("create");
        }
        rustix::fs::fchmod(root, rustix::fs::Mode::from_raw_mode(0o711)).expect("chmod");
        Ok(())
    };
    volume.fill(copy).expect("fill").expect("copy");
}

fn helper(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
    command.args(["--exact", "helper_process"]).env(HELPER, dir).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn of_many_processes_that_make_and_remove_a_volume_none_loses_what_it_holds() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let spawn = |_| helper(dir.path()).env("MANY", "1").spawn().expect("spawn");
    let children: Vec<_> = (0..6).map(spawn).collect();
    for child in children {
        let out = child.wait_with_output().expect("wait");
        let said = out.stderr.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
        assert!(out.status.success(), "{said}");
    }
    assert!(store.volumes().expect("list").len() <= 1);
    is_clean(&store);
    let events = store.events(None, None).expect("events");
    let count = |action: &str| events.iter().filter(|event| event.action == action).count();
    assert_eq!(
        count("create") - count("destroy"),
        store.volumes().expect("list").len(),
        "each is noted once"
    );
}

#[test]
fn a_kill_while_a_volume_is_filled_leaves_it_empty_or_to_be_finished() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|out| out.status.success()) {
        testkit::skip("strace is not installed");
        return;
    }
    let mut kills = 0;
    for call in ["mkdirat", "renameat", "renameat2", "fchmod", "fchown", "utimensat", "unlinkat", "syncfs"] {
        for when in 1.. {
            let dir = tempfile::tempdir().expect("tempdir");
            open(dir.path());
            let status = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
                .args(["-e", &format!("inject={call}:signal=KILL:when={when}")])
                .arg(std::env::current_exe().expect("the test's own path"))
                .args(["--exact", "helper_process"])
                .env(HELPER, dir.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("strace");
            if status.success() {
                break;
            }
            kills += 1;
            assert!(helper(dir.path()).status().expect("again").success(), "{call} {when}");
            let store = open(dir.path());
            let volume = store.volume("data").expect("there");
            let mut names: Vec<_> = std::fs::read_dir(volume.path())
                .expect("readdir")
                .map(|entry| entry.expect("entry").file_name())
                .collect();
            names.sort();
            assert_eq!(names, ["a", "b", "c"], "{call} {when}");
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(volume.path()).expect("stat"));
            assert_eq!(mode & 0o777, 0o711, "{call} {when}");
            is_clean(&store);
        }
    }
    assert!(kills >= 10, "only {kills} kills");
}

#[test]
fn a_damaged_volume_is_found_by_a_check_and_does_not_hide_the_others() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    for name in ["a", "b", "c", "whole"] {
        store.create_volume(name, &BTreeMap::new()).expect("create");
    }
    let volumes = dir.path().join("volumes");
    std::fs::write(volumes.join("a/volume.json"), "{").expect("damage");
    std::fs::remove_dir(volumes.join("b/_data")).expect("damage");
    std::fs::remove_file(volumes.join("c/lock")).expect("damage");
    let names: Vec<_> = store.volumes().expect("list").iter().map(|v| v.name().to_string()).collect();
    assert_eq!(names, ["b", "c", "whole"]);
    let wrong = store.check().expect("check").findings;
    assert_eq!(wrong.iter().map(|f| &*f.what).collect::<Vec<_>>(), ["volumes/a", "volumes/b", "volumes/c"]);
    assert_eq!(store.volume("a").expect_err("damaged").exit(), Exit::Content);
}
