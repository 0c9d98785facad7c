//! Renaming while others rename, and a kill in the middle of it.

use std::path::Path;
use std::process::{Command, Stdio};

use store::{CreateDoc, Error, Store};

const HELPER: &str = "STORE_TEST_RENAME";

fn make(store: &Store, name: &str) -> String {
    let doc = CreateDoc { name: name.into(), ..CreateDoc::default() };
    store.draft_container(&doc).expect("draft").publish().expect("publish").id().into()
}

/// Not a test of its own: a process that takes a name everybody wants and gives it back, again and again.
#[test]
fn helper_process() {
    let Some(dir) = std::env::var_os(HELPER) else { return };
    let store = Store::open(Some(Path::new(&dir))).expect("open");
    let own = std::env::var("OWN").expect("a name");
    let rounds: u32 = std::env::var("ROUNDS").expect("a number").parse().expect("a number");
    let container = store.container(&own).expect("its container");
    for _ in 0..rounds {
        match container.rename("king") {
            Ok(king) => assert_eq!(king.rename(&own).expect("its own name is free").name(), own),
            Err(Error::NameTaken { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

fn helper(command: &mut Command, dir: &Path, own: &str, rounds: u32) {
    command.args(["--exact", "helper_process"]).env(HELPER, dir).env("OWN", own);
    command.env("ROUNDS", rounds.to_string()).stdout(Stdio::null());
}

fn exe() -> String {
    std::env::current_exe().expect("the test's own path").to_str().expect("UTF-8").into()
}

#[test]
fn of_many_that_want_a_name_each_has_it_alone_and_none_is_lost() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(dir.path())).expect("open");
    let names = ["a", "b", "c", "d", "e"];
    let ids = names.map(|name| make(&store, name));
    let spawn = |name| {
        let mut command = Command::new(exe());
        helper(&mut command, dir.path(), name, 40);
        command.spawn().expect("spawn")
    };
    let mut children = names.map(spawn);
    for child in &mut children {
        assert!(child.wait().expect("wait").success());
    }
    for (name, id) in names.iter().zip(&ids) {
        assert_eq!(store.container(name).expect(name).id(), id);
    }
    assert_eq!(store.containers().expect("list").len(), names.len());
    assert_eq!(store.check().expect("check").findings, []);
}

#[test]
fn a_kill_while_a_container_is_renamed_leaves_it_one_of_the_names() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|out| out.status.success()) {
        testkit::skip("strace is not installed");
        return;
    }
    let mut kills = 0;
    for call in ["renameat", "fsync", "fcntl", "write"] {
        for when in 1.. {
            let dir = tempfile::tempdir().expect("tempdir");
            let store = Store::open(Some(dir.path())).expect("open");
            let id = make(&store, "own");
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            command.args(["-e", &format!("inject={call}:signal=KILL:when={when}")]).arg(exe());
            helper(&mut command, dir.path(), "own", 1);
            command.stderr(Stdio::null());
            if command.status().expect("strace").success() {
                break;
            }
            kills += 1;
            let store = Store::open(Some(dir.path())).expect("open");
            let all = store.containers().expect("list");
            assert_eq!((all.len(), all[0].id()), (1, &*id), "{call} {when}");
            assert!(["own", "king"].contains(&all[0].name()), "{call} {when}");
            assert_eq!(store.container(&id).expect("by id").name(), all[0].name());
            all[0].rename("after").expect("it goes on");
            assert_eq!(store.check().expect("check").findings, [], "{call} {when}");
        }
    }
    assert!(kills >= 4, "only {kills} kills");
}
