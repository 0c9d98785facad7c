//! Containers and layers: made, found, removed, and what a death in between leaves.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use descriptor::{Classify, Digest, Exit, Status};
use store::{Claim, CreateDoc, Error, Form, LayerMeta, Store};

fn open(dir: &Path) -> Store {
    Store::open(Some(dir)).expect("a store")
}

fn doc(name: &str) -> CreateDoc {
    CreateDoc { name: name.into(), network: "private".into(), ..CreateDoc::default() }
}

fn make(store: &Store, name: &str) -> store::Container {
    store.draft_container(&doc(name)).expect("draft").publish().expect("publish")
}

fn meta(diff_id: Digest) -> LayerMeta {
    LayerMeta {
        diff_id,
        entries: 1,
        bytes: 2,
        implied: vec![b"usr".to_vec(), vec![b'%', 0xff, b' ']],
        masking: Vec::new(),
    }
}

/// A draft with the directories that [`meta`] speaks of.
fn with_dirs(draft: store::LayerDraft) -> store::LayerDraft {
    for dir in meta(Digest::of(b"")).implied {
        let name = std::os::unix::ffi::OsStrExt::from_bytes(&dir);
        let name: &std::ffi::OsStr = name;
        draft.root().create_dir_all(name, rustix::fs::Mode::RWXU).expect("mkdir");
    }
    draft
}

fn entries(dir: &Path, name: &str) -> usize {
    let all = std::fs::read_dir(dir.join(name)).expect("readdir");
    all.filter(|e| !e.as_ref().expect("entry").file_name().to_string_lossy().starts_with('.')).count()
}

#[test]
fn a_container_is_found_by_name_id_and_prefix() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let web = make(&store, "web");
    assert_eq!(web.id(), doc("web").id().expect("id"));
    for text in ["web", web.id(), &web.id()[..12], &web.id()[..4]] {
        assert_eq!(store.container(text).expect(text).id(), web.id());
    }
    for text in ["", "we", &web.id()[..3], "..", "../containers", "w\0b", "zzzzzz"] {
        assert!(matches!(store.container(text), Err(Error::NoContainer(_))), "{text:?}");
    }
    let line = web.line().expect("line");
    assert_eq!((line.status, line.mounted, line.name.as_str()), (Status::Created, false, "web"));
    assert_eq!(line.bundle, dir.path().canonicalize().expect("path").join("containers").join(web.id()));
    assert_eq!(store.resolve_line(&line).expect("resolve").name(), "web");
}

#[test]
fn a_line_of_another_store_or_of_an_earlier_creation_names_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let mut line = make(&store, "web").line().expect("line");
    store.container("web").expect("web").remove().expect("remove");
    assert!(matches!(store.resolve_line(&line), Err(Error::NoContainer(_))));
    make(&store, "web");
    assert!(matches!(store.resolve_line(&line), Err(Error::OtherInstance { .. })));
    line.store = "/elsewhere".into();
    let error = store.resolve_line(&line).expect_err("foreign");
    assert_eq!(error.exit(), Exit::Conflict);
}

#[test]
fn names_that_could_leave_their_directory_or_be_taken_for_options_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let long = "n".repeat(256);
    for name in ["", ".", "..", ".lock", "a/b", "../x", "a\0", "a b", "ä", "-x", &long] {
        let error = store.draft_container(&doc(name)).expect_err(name);
        assert!(matches!(error, Error::BadName { .. }), "{name:?}");
        assert_eq!(error.exit(), Exit::Usage);
    }
    for name in ["a", "_x-", "_", "+1", "A.b-c_d+e", &"n".repeat(255)] {
        make(&store, name);
    }
}

#[test]
fn a_taken_name_is_refused_with_its_holder() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let web = make(&store, "web");
    let mut other = doc("web");
    other.hostname = Some("h".into());
    let error = store.draft_container(&other).expect_err("taken");
    assert_eq!(error.exit(), Exit::Conflict);
    assert!(error.to_string().contains(web.id()));
    store.rename_container("web", "old").expect("rename");
    assert_eq!(store.container("old").expect("old").id(), web.id());
    assert_eq!(store.container(web.id()).expect("by id").name(), "old");
    store.draft_container(&other).expect("draft").publish().expect("the name is free");
    assert_eq!(entries(dir.path(), "staging"), 0);
}

#[test]
fn the_same_choices_under_a_name_that_was_given_up_make_another_container() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let first = make(&store, "web");
    store.rename_container("web", "old").expect("rename");
    let second = make(&store, "web");
    store.rename_container("web", "older").expect("rename");
    let third = make(&store, "web");
    assert_eq!(store.container("old").expect("old").id(), first.id());
    assert_eq!(store.container("older").expect("older").id(), second.id());
    assert_eq!([second.create().expect("doc").again, third.create().expect("doc").again], [Some(2), Some(3)]);
    assert_eq!(store.check().expect("check").findings, []);
    for name in ["old", "older", "web"] {
        store.container(name).expect(name).remove().expect("remove");
    }
    assert_eq!(make(&store, "web").id(), first.id(), "the same choices, the same id");
}

#[test]
fn a_container_is_removed_with_the_name_it_has_by_then() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let web = make(&store, "web");
    store.rename_container("web", "new").expect("rename");
    web.remove().expect("remove");
    assert_eq!((entries(dir.path(), "containers"), entries(dir.path(), "names")), (0, 0));
    assert_eq!(store.check().expect("check").findings, []);
}

#[test]
fn of_many_that_want_a_name_one_gets_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    open(dir.path());
    let made: Vec<bool> = std::thread::scope(|scope| {
        let make = |n: usize| {
            let dir = dir.path();
            move || {
                let mut doc = doc("web");
                doc.hostname = Some(format!("h{}", n % 3));
                open(dir).draft_container(&doc).and_then(store::ContainerDraft::publish).is_ok()
            }
        };
        let threads: Vec<_> = (0..12).map(|n| scope.spawn(make(n))).collect();
        threads.into_iter().map(|t| t.join().expect("thread")).collect()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    let store = open(dir.path());
    assert_eq!(store.containers().expect("containers").len(), 1);
    assert_eq!(store.check().expect("check").findings, []);
}

#[test]
fn a_removed_container_is_gone_and_its_name_free() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let web = make(&store, "web");
    std::fs::create_dir_all(web.path().join("upper/a/b")).expect("mkdir");
    symlink("/etc", web.path().join("upper/a/etc")).expect("symlink");
    web.remove().expect("remove");
    assert_eq!((entries(dir.path(), "containers"), entries(dir.path(), "names")), (0, 0));
    assert!(Path::new("/etc/passwd").exists());
    make(&store, "web");
}

#[test]
fn a_waiter_for_a_removed_containers_lock_learns_that_it_is_gone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let web = make(&store, "web");
    let lock = web.lock().expect("lock");
    let same = store.container("web").expect("web");
    assert!(same.try_lock().expect("try").is_none());
    let waiter = std::thread::spawn(move || same.lock().map(|_| ()));
    std::thread::sleep(std::time::Duration::from_millis(30));
    web.remove().expect("remove");
    drop(lock);
    assert!(matches!(waiter.join().expect("waiter"), Err(Error::NoContainer(_))));
}

#[test]
fn a_status_is_true_only_while_its_process_lives() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let web = make(&store, "web");
    let mut child = Command::new("sleep").arg("60").spawn().expect("spawn");
    let mut state = web.state().expect("state");
    state.set_running(child.id());
    web.set_state(&state).expect("write");
    assert_eq!(web.line().expect("line").status, Status::Running);
    let mut reused = state.clone();
    reused.start_time = reused.start_time.map(|t| t + 1);
    assert_eq!(reused.now(), Status::Stopped, "another process with the pid");
    let mut rebooted = state.clone();
    rebooted.boot_id = Some("another".into());
    assert_eq!(rebooted.now(), Status::Stopped);
    child.kill().expect("kill");
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(web.line().expect("line").status, Status::Stopped, "a zombie does not run");
    child.wait().expect("wait");
    assert_eq!(web.line().expect("line").status, Status::Stopped);
}

#[test]
fn a_state_that_a_power_cut_took_leaves_a_stopped_container() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let web = make(&store, "web");
    let line = web.line().expect("line");
    std::fs::write(web.path().join("state.json"), [0; 64]).expect("write");
    let web = store.container("web").expect("by name");
    assert_eq!(web.line().expect("line").status, Status::Stopped);
    assert!(matches!(store.resolve_line(&line), Err(Error::OtherInstance { .. })));
    assert_eq!(store.check().expect("check").findings, []);
    web.remove().expect("remove");
    std::fs::write(make(&store, "web").path().join("state.json"), "{").expect("write");
    assert!(store.container("web").is_err(), "damaged is not lost");
}

#[test]
fn what_a_death_between_the_two_renames_leaves_is_settled_by_the_next_call() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let web = make(&store, "web");
    // A creation: the directory is there, the name is not yet, the lock file tells.
    std::fs::remove_file(dir.path().join("names/web")).expect("rm");
    std::fs::write(dir.path().join("staging/k1.lock"), format!("{} web", web.id())).expect("write");
    let store = {
        drop(store);
        open(dir.path())
    };
    assert_eq!((entries(dir.path(), "containers"), entries(dir.path(), "staging")), (0, 0));
    // A removal: the directory is renamed away, the name is still there.
    let web = make(&store, "web");
    std::fs::write(dir.path().join("staging/k2.lock"), format!("{} web", web.id())).expect("write");
    std::fs::rename(web.path(), dir.path().join("staging/k2")).expect("rename");
    let store = open(dir.path());
    assert_eq!((entries(dir.path(), "names"), entries(dir.path(), "staging")), (0, 0));
    make(&store, "web");
    assert_eq!(store.check().expect("check").findings, []);
}

#[test]
fn a_layer_is_made_by_one_and_then_there_for_all() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let id = Digest::of(b"layer");
    let made: usize = std::thread::scope(|scope| {
        let claim = || {
            let store = open(dir.path());
            match store.claim_layer(Form::Identity, &id).expect("claim") {
                Claim::Present(tree) => {
                    assert_eq!(tree.meta(), &meta(id));
                    assert!(tree.path().join("file").exists());
                    0
                }
                Claim::Mine(draft) => {
                    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
                    draft.root().open("file", flags, rustix::fs::Mode::RUSR).expect("create");
                    std::thread::sleep(std::time::Duration::from_millis(30));
                    with_dirs(draft).publish(&store, meta(id)).expect("publish");
                    1
                }
            }
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
        threads.into_iter().map(|t| t.join().expect("thread")).sum()
    });
    assert_eq!(made, 1);
    assert_eq!(entries(dir.path(), "staging"), 0);
    assert_eq!(store.check().expect("check").findings, []);
}

#[test]
fn a_dropped_draft_is_made_by_the_next_and_a_damaged_tree_made_anew() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let id = Digest::of(b"layer");
    let Claim::Mine(draft) = store.claim_layer(Form::Identity, &id).expect("claim") else {
        panic!("present")
    };
    drop(draft);
    assert!(store.layer(Form::Identity, &id).expect("layer").is_none());
    let Claim::Mine(draft) = store.claim_layer(Form::Identity, &id).expect("claim") else {
        panic!("present")
    };
    let tree = with_dirs(draft).publish(&store, meta(id)).expect("publish");
    std::fs::write(tree.path().with_file_name("layer.json"), "{").expect("damage");
    assert!(store.layer(Form::Identity, &id).is_err());
    let Claim::Mine(draft) = store.claim_layer(Form::Identity, &id).expect("claim") else {
        panic!("present")
    };
    with_dirs(draft).publish(&store, meta(id)).expect("publish");
    let Claim::Mine(fixes) = store.claim_fixes(&id).expect("claim") else { panic!("present") };
    fixes
        .publish(&store, LayerMeta { entries: 0, bytes: 0, implied: Vec::new(), ..meta(id) })
        .expect("publish");
    assert!(store.fixes(&id).expect("fixes").is_some());
    assert_eq!(store.check().expect("check").findings, []);
}

#[test]
fn what_a_dead_process_left_in_staging_is_swept_and_what_a_living_one_makes_is_not() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    std::fs::create_dir_all(dir.path().join("staging/dead/tree")).expect("mkdir");
    std::fs::write(dir.path().join("staging/dead.lock"), "").expect("write");
    std::fs::write(dir.path().join("staging/deadfile"), "x").expect("write");
    let draft = store.draft_container(&doc("web")).expect("draft");
    let blob = store.new_blob().expect("blob");
    open(dir.path());
    assert_eq!(entries(dir.path(), "staging"), 3, "the draft, its lock, the blob");
    drop(blob);
    draft.publish().expect("publish");
    assert_eq!(entries(dir.path(), "staging"), 0);
}

#[test]
fn removal_leaves_what_is_mounted_or_linked_and_goes_to_any_depth() {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = sys::Root::open_ambient(dir.path()).expect("open");
    let outside = tempfile::tempdir().expect("tempdir");
    std::fs::write(outside.path().join("canary"), "").expect("write");
    let mut deep = String::from("tree");
    for _ in 0..400 {
        deep.push_str("/d");
        std::fs::create_dir_all(dir.path().join(&deep)).expect("mkdir");
    }
    symlink(outside.path(), dir.path().join("tree/link")).expect("symlink");
    store::remove_tree(&root, "tree").expect("remove");
    assert!(!dir.path().join("tree").exists());
    assert!(outside.path().join("canary").exists());
    store::remove_tree(&root, "tree").expect("nothing there is no failure");
    std::fs::create_dir_all(dir.path().join("tree/mnt")).expect("mkdir");
    let bind =
        Command::new("mount").arg("--bind").arg(outside.path()).arg(dir.path().join("tree/mnt")).status();
    if !bind.is_ok_and(|status| status.success()) {
        testkit::skip("bind mounts need privileges");
        return;
    }
    let error = store::remove_tree(&root, "tree");
    assert!(outside.path().join("canary").exists());
    assert!(Command::new("umount").arg(dir.path().join("tree/mnt")).status().expect("umount").success());
    assert!(error.is_err());
}

#[test]
fn a_lease_is_held_while_its_owner_lives() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let digest = Digest::of(b"x");
    let lease = store.lease();
    lease.touch(&digest).expect("touch");
    lease.touch(&digest).expect("touch twice");
    let file =
        std::fs::File::options().read(true).write(true).open(dir.path().join("leases").join(digest.hex()));
    let attempt = |file: &std::fs::File| {
        let file = file.try_clone().expect("dup");
        sys::lock::Lock::attempt(file, sys::lock::Kind::Exclusive).expect("fcntl").is_ok()
    };
    let file = file.expect("open");
    assert!(!attempt(&file));
    drop(lease);
    assert!(attempt(&file));
}
