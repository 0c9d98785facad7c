//! What happened is known, in order, once, with many writers, through rotation, and fails nobody.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use descriptor::{Descriptor, media};
use store::event::FILE_LIMIT;
use store::{CreateDoc, Event, Filters, Store, Subject};

const HELPER: &str = "STORE_TEST_EVENTS";
const EACH: usize = 1000;
const WRITERS: usize = 4;

fn open(dir: &Path) -> Store {
    Store::open(Some(dir)).expect("a store")
}

fn told(events: &[Event]) -> Vec<String> {
    let name = |event: &Event| if event.name.is_empty() { event.id.clone() } else { event.name.clone() };
    events.iter().map(|event| format!("{:?} {} {}", event.kind, event.action, name(event))).collect()
}

#[test]
fn what_the_store_does_itself_is_noted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    assert_eq!(store.events(None, None).expect("none yet"), []);
    let labels = BTreeMap::from([("tier".to_string(), "front".to_string())]);
    let doc = CreateDoc { name: "web".into(), labels: labels.clone(), ..CreateDoc::default() };
    let web = store.draft_container(&doc).expect("draft").publish().expect("publish");
    store.rename_container("web", "old").expect("rename");
    store.container("old").expect("old").remove().expect("remove");
    drop(store.create_volume("data", &labels).expect("volume"));
    drop(store.create_volume("data", &labels).expect("the same"));
    store.remove_volume("data").expect("remove");
    let manifest = br#"{"schemaVersion":2}"#;
    store.put_document(manifest).expect("put");
    let image = Descriptor::of(media::OCI_MANIFEST, manifest);
    store.tag("app:1", &image).expect("tag");
    store.tag("app:1", &image).expect("the same again");
    assert!(store.untag("app:1").expect("untag") && !store.untag("app:1").expect("nothing"));
    let events = store.events(None, None).expect("events");
    assert_eq!(
        told(&events),
        [
            "Container create web",
            "Container rename old",
            "Container destroy old",
            "Volume create data",
            "Volume destroy data",
            "Image tag app:1",
            "Image untag app:1",
        ]
    );
    assert_eq!((events[0].id.as_str(), events[1].attributes["oldName"].as_str()), (web.id(), "web"));
    assert_eq!(events[0].attributes["tier"], "front");
    assert_eq!(events[5].id, image.digest.to_string());
    let only = |words: &[&str]| {
        let filters = Filters::parse(store::filter::Of::Events, words).expect("filters");
        told(&events.iter().filter(|event| filters.event(event)).cloned().collect::<Vec<_>>())
    };
    assert_eq!(only(&["type=image", "event=untag"]), ["Image untag app:1"]);
    assert_eq!(only(&["container=old", "event=rename", "event=destroy"]).len(), 2);
    assert_eq!(only(&["label=tier=front", "volume=data"]), ["Volume create data"]);
}

#[test]
fn events_are_found_by_when_they_were() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    for second in 1..=5 {
        let mut event = Event::new(Subject::Container, "start", format!("{second}"), "");
        event.time = format!("2026-01-01T00:00:0{second}Z");
        store.note(&event);
    }
    let at = |text: &str| store::filter::moment_of(text);
    let ids = |since, until| {
        let events = store.events(since, until).expect("events");
        events.into_iter().map(|event| event.id).collect::<Vec<_>>().join("")
    };
    assert_eq!(ids(at("2026-01-01T00:00:02Z"), at("2026-01-01T00:00:04Z")), "234");
    assert_eq!(ids(None, at("2026-01-01T00:00:01Z")), "1");
    assert_eq!(ids(Some(SystemTime::now()), None), "");
}

#[test]
fn a_line_that_a_power_cut_tore_is_passed_over() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.note(&Event::new(Subject::Volume, "create", "a", ""));
    let mut bytes = std::fs::read(dir.path().join("events")).expect("read");
    bytes.extend([&[0; 5000][..], b"\n{\"time\":\"x\"}\n{\n"].concat());
    std::fs::write(dir.path().join("events"), bytes).expect("write");
    store.note(&Event::new(Subject::Volume, "create", "b", ""));
    assert_eq!(told(&store.events(None, None).expect("events")), ["Volume create a", "Volume create b"]);
}

#[test]
fn noting_fails_nobody() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    std::fs::create_dir(dir.path().join("events")).expect("something in the way");
    store.note(&Event::new(Subject::Volume, "create", "a", ""));
    std::fs::remove_dir(dir.path().join("events")).expect("rmdir");
    // A writer that hangs with the lock is not waited for long, and the line is not lost.
    let file = std::fs::File::options().create(true).append(true).read(true).open(dir.path().join("events"));
    let lock = sys::lock::Lock::wait(file.expect("open"), sys::lock::Kind::Exclusive).expect("lock");
    let begin = Instant::now();
    store.note(&Event::new(Subject::Volume, "create", "b", ""));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    drop(lock);
    assert_eq!(told(&store.events(None, None).expect("events")), ["Volume create b"]);
}

/// Not a test of its own: a process that notes much.
#[test]
fn helper_process() {
    let Some(dir) = std::env::var_os(HELPER) else { return };
    let store = open(Path::new(&dir));
    let writer = std::process::id();
    for n in 0..EACH {
        let event = Event::new(Subject::Container, "start", format!("{writer}"), format!("{n}"));
        store.note(&event.with("pad", "p".repeat(220)));
    }
}

#[test]
fn a_follower_sees_each_event_of_many_writers_once_through_rotation() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let mut follower = store.follow_events(None).expect("follow");
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    // So many a round that a follower, however late it looks, has them in the two files there are and the one it holds.
    for round in 0..4 {
        let spawn = |_| {
            Command::new(std::env::current_exe().expect("the test's own path"))
                .args(["--exact", "helper_process"])
                .env(HELPER, dir.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("spawn")
        };
        let children: Vec<_> = (0..WRITERS).map(spawn).collect();
        for _ in 0..WRITERS * EACH {
            let event = follower.next(Some(Duration::from_secs(60))).expect("read").expect("an event");
            let n: usize = event.name.parse().expect("a number");
            let before = last.insert(event.id.clone(), n);
            assert_eq!(before.map_or(0, |before| before + 1), n, "round {round}, writer {}", event.id);
        }
        for mut child in children {
            assert!(child.wait().expect("wait").success());
        }
        assert_eq!(follower.next(Some(Duration::ZERO)).expect("read"), None);
    }
    assert_eq!(last.len(), 4 * WRITERS);
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |stat| stat.len());
    assert!(size("events.1") > 0, "rotated");
    for name in ["events", "events.1"] {
        assert!(size(name) <= 2 * FILE_LIMIT + 4096, "{name}: {}", size(name));
    }
    assert!(!dir.path().join("events.2").exists());
}

#[test]
fn a_follower_that_is_two_files_late_misses_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let mut follower = store.follow_events(Some(SystemTime::UNIX_EPOCH)).expect("follow");
    let note = |n: usize| {
        store.note(&Event::new(Subject::Container, "x", n.to_string(), "").with("text", "t".repeat(3500)));
    };
    note(0);
    assert_eq!(follower.next(Some(Duration::ZERO)).expect("read").map(|event| event.id), Some("0".into()));
    // More than two files, fewer than three.
    let all = usize::try_from(FILE_LIMIT).expect("small") * 5 / 2 / 3600;
    (1..all).for_each(note);
    for n in 1..all {
        let event = follower.next(Some(Duration::ZERO)).expect("read").expect("an event");
        assert_eq!(event.id, n.to_string());
    }
    assert_eq!(follower.next(Some(Duration::ZERO)).expect("read"), None);
}

#[test]
fn a_follower_waits_and_wakes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.note(&Event::new(Subject::Volume, "create", "before", ""));
    let mut follower = store.follow_events(None).expect("follow");
    assert_eq!(follower.next(Some(Duration::from_millis(20))).expect("read"), None, "only what is to come");
    let writer = store.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        writer.note(&Event::new(Subject::Volume, "create", "after", ""));
    });
    let event = follower.next(Some(Duration::from_secs(20))).expect("read").expect("woken");
    assert_eq!(event.id, "after");
    thread.join().expect("thread");
    let mut all = store.follow_events(Some(SystemTime::UNIX_EPOCH)).expect("follow");
    let first = all.next(Some(Duration::ZERO)).expect("read").expect("known");
    assert_eq!(first.id, "before", "what is known comes first");
}

#[test]
fn a_note_costs_microseconds() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let begin = Instant::now();
    for n in 0..1000 {
        store.note(&Event::new(Subject::Container, "start", "f".repeat(64), format!("{n}")));
    }
    let each = begin.elapsed() / 1000;
    println!("a note costs {each:?}");
    assert!(each < Duration::from_millis(5), "{each:?}");
}
