//! What the state says after a crash or a reboot, and that it is put right once, at the next look.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use descriptor::{Status, moment};
use store::state::{UNSEEN, boot_id};
use store::{Container, CreateDoc, Event, MountId, Process, State, Store};

fn web(dir: &Path) -> Container {
    let store = Store::open(Some(dir)).expect("a store");
    let doc = CreateDoc { name: "web".into(), ..CreateDoc::default() };
    store.draft_container(&doc).expect("draft").publish().expect("publish")
}

fn recorded(web: &Container) -> State {
    let bytes = std::fs::read(web.path().join("state.json")).expect("read");
    serde_json::from_slice(&bytes).expect("a state")
}

/// Runs, by its state, as a process of this boot that is `alive` or has ended.
fn running(web: &Container, alive: bool) -> (State, Option<std::process::Child>) {
    let mut child = Command::new("sleep").arg("60").spawn().expect("spawn");
    let mut state = web.state().expect("state");
    state.set_running(child.id());
    state.group = Some(serde_json::json!({"path": "/x"}));
    if !alive {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    web.set_state(&state).expect("write");
    (state, alive.then_some(child))
}

#[test]
fn a_container_of_another_boot_has_stopped_and_its_mount_and_groups_are_gone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let web = web(dir.path());
    for status in [Status::Running, Status::Paused] {
        let (mut state, _) = running(&web, false);
        state.status = status;
        state.boot_id = Some("another".into());
        state.started_at = Some("2020-01-01T00:00:00Z".into());
        state.mount = Some(MountId { namespace: 1, id: 2, boot_id: "another".into() });
        let monitor = Process { pid: 1, start_time: 1, boot_id: "another".into() };
        state.monitor = Some(monitor);
        web.set_state(&state).expect("write");
        assert_eq!(web.line().expect("line").status, Status::Stopped);
        let right = recorded(&web);
        assert_eq!((right.status, right.exit_code), (Status::Stopped, Some(UNSEEN)));
        assert_eq!((right.pid, right.mount, right.group, right.monitor), (None, None, None, None));
        let ended = moment::parse(&right.finished_at.expect("an end")).expect("a moment");
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
        let boot = ended.elapsed().expect("past").as_secs();
        assert!(boot.abs_diff(uptime.unsigned_abs()) < 5, "not after this boot began: {boot} of {uptime} s");
        assert_eq!(right.started_at, state.started_at);
    }
    let inode = std::os::unix::fs::MetadataExt::ino;
    let before = std::fs::metadata(web.path().join("state.json")).expect("stat");
    web.settle().expect("settle");
    let after = std::fs::metadata(web.path().join("state.json")).expect("stat");
    assert_eq!(inode(&before), inode(&after), "written once");
}

#[test]
fn a_mount_of_another_boot_is_dropped_from_a_container_that_never_ran() {
    let dir = tempfile::tempdir().expect("tempdir");
    let web = web(dir.path());
    let mut state = web.state().expect("state");
    state.mount = Some(MountId { namespace: 1, id: 2, boot_id: "another".into() });
    web.set_state(&state).expect("write");
    let line = web.line().expect("line");
    assert_eq!((line.status, line.exit_code, line.mounted), (Status::Created, None, false));
    assert_eq!(recorded(&web).mount, None);
}

#[test]
fn a_container_whose_process_is_gone_unseen_has_stopped_now() {
    let dir = tempfile::tempdir().expect("tempdir");
    let web = web(dir.path());
    let (state, _) = running(&web, false);
    let line = web.line().expect("line");
    assert_eq!((line.status, line.exit_code), (Status::Stopped, Some(UNSEEN)));
    let right = recorded(&web);
    assert_eq!(right.group, state.group, "its groups are still there, for who removes them");
    let ended = moment::parse(&right.finished_at.expect("an end")).expect("a moment");
    assert!(ended.elapsed().is_ok_and(|elapsed| elapsed < Duration::from_secs(20)));
}

#[test]
fn what_lives_or_is_watched_or_locked_is_left_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let web = web(dir.path());
    let (state, child) = running(&web, true);
    assert_eq!(web.settle().expect("settle"), state, "it runs");
    let mut child = child.expect("a child");
    child.kill().expect("kill");
    child.wait().expect("wait");
    let lock = web.lock().expect("lock");
    assert_eq!(web.settle().expect("settle"), state, "somebody is at work on it");
    drop(lock);
    let mut watched = state.clone();
    watched.monitor = Process::of(std::process::id());
    web.set_state(&watched).expect("write");
    let line = web.line().expect("line");
    assert_eq!((line.status, line.exit_code), (Status::Stopped, None), "who watches will tell how it ended");
    assert_eq!(recorded(&web), watched);
    web.set_state(&state).expect("write");
    let teller = web.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        let _lock = teller.lock().expect("lock");
        let mut state = teller.state().expect("state");
        state.set_stopped(Some(3));
        teller.set_state(&state).expect("write");
    });
    assert_eq!(web.settle().expect("settle").exit_code, Some(3), "a parent is a little late");
    thread.join().expect("thread");
    assert!(state.boot_id == boot_id());
}

#[test]
fn rename_is_seen_by_a_running_container_and_its_events() {
    let dir = tempfile::tempdir().expect("tempdir");
    let web = web(dir.path());
    let (_, child) = running(&web, true);
    let store = web.store().clone();
    store.rename_container("web", "db").expect("rename");
    let line = store.container(web.id()).expect("by id").line().expect("line");
    assert_eq!((line.name.as_str(), line.status, &*line.instance), ("db", Status::Running, web.instance()));
    assert!(store.container("web").is_err());
    let taken = CreateDoc { name: "taken".into(), ..CreateDoc::default() };
    store.draft_container(&taken).expect("draft").publish().expect("publish");
    for to in ["taken", "db"] {
        let refused = store.rename_container("db", to).expect_err("taken");
        assert!(matches!(refused, store::Error::NameTaken { .. }), "{refused}");
    }
    assert!(store.container("taken").expect("there").id() != web.id());
    let last: Event = store.events(None, None).expect("events").pop().expect("one");
    assert_eq!((last.action.as_str(), last.name.as_str()), ("create", "taken"));
    let before = store.events(None, None).expect("events").into_iter().rev().nth(1).expect("two");
    assert_eq!((before.action.as_str(), before.name.as_str()), ("rename", "db"));
    let mut child = child.expect("a child");
    child.kill().expect("kill");
    child.wait().expect("wait");
}
