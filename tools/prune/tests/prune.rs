//! oci-prune as a whole: what nothing uses goes, all else stays.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use store::containers::Mount;
use store::{Container, CreateDoc, Sharing, Store};

const PRUNE: &str = env!("CARGO_BIN_EXE_oci-prune");

struct World {
    dir: tempfile::TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(Some(&dir.path().join("store"))).expect("a store");
        Self { dir, store }
    }

    fn container(&self, name: &str, volume: Option<&str>, label: &str) -> Container {
        let mount = |source: &str| Mount {
            kind: "volume".into(),
            source: Some(source.into()),
            target: "/data".into(),
            ..Mount::default()
        };
        let doc = CreateDoc {
            name: name.into(),
            mounts: volume.map(mount).into_iter().collect(),
            labels: labels(label),
            ..CreateDoc::default()
        };
        self.store.draft_container(&doc).expect("draft").publish().expect("publish")
    }

    fn stopped(&self, name: &str, volume: Option<&str>, label: &str) -> Container {
        let container = self.container(name, volume, label);
        let mut state = container.state().expect("state");
        state.set_stopped(Some(0));
        container.set_state(&state).expect("write");
        container
    }

    fn volume(&self, name: &str, label: &str) {
        drop(self.store.create_volume(name, &labels(label)).expect("volume"));
    }

    /// Its lines in order, its exit status and what it says.
    fn prune(&self, args: &[&str]) -> (Vec<String>, i32, String) {
        let out = Command::new(PRUNE).arg("--store").arg(self.dir.path().join("store")).args(args).output();
        let out = out.expect("run");
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (text.lines().map(Into::into).collect(), out.status.code().unwrap_or(-1), said)
    }

    /// A child that another test is just making has this process's descriptors for a moment.
    fn until_free(&self, id: &str) {
        let is_busy = || {
            let caches = self.store.caches().expect("caches");
            caches.iter().any(|cache| cache.id() == id && cache.is_in_use().expect("look"))
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_busy() {
            assert!(Instant::now() < deadline, "{id} is never free");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn left(&self) -> String {
        let containers = self.store.containers().expect("containers");
        let volumes = self.store.volumes().expect("volumes");
        let names = containers.iter().map(Container::name).chain(volumes.iter().map(store::Volume::name));
        names.collect::<Vec<_>>().join(" ")
    }
}

fn labels(label: &str) -> BTreeMap<String, String> {
    label.split_once('=').map(|(key, value)| (key.to_string(), value.to_string())).into_iter().collect()
}

#[test]
fn stopped_containers_go_and_those_that_run_or_never_ran_stay() {
    let world = World::new();
    let old = world.stopped("old", None, "");
    std::fs::write(old.path().join("upper/file"), vec![1; 1 << 20]).expect("write");
    world.container("fresh", None, "");
    let busy = world.container("busy", None, "");
    let mut sleep = Command::new("sleep").arg("60").spawn().expect("spawn");
    let mut state = busy.state().expect("state");
    state.set_running(sleep.id());
    busy.set_state(&state).expect("write");
    let (lines, code, said) = world.prune(&["--containers", "--dry-run"]);
    assert_eq!((lines, code), (vec!["container old".to_string()], 0));
    assert!(said.contains(": 1.0") && said.contains("MB would be freed"), "{said}");
    assert_eq!(world.left(), "busy fresh old", "nothing was removed");
    let (lines, code, said) = world.prune(&["--containers"]);
    assert_eq!((lines, code), (vec!["container old".to_string()], 0));
    assert!(said.contains(" MB freed"), "{said}");
    assert_eq!(world.left(), "busy fresh");
    sleep.kill().expect("kill");
    sleep.wait().expect("wait");
    // Its end was not seen, and it never was more than stopped from then on.
    assert_eq!(world.prune(&["--containers", "--all"]).0, ["container busy", "container fresh"]);
    assert_eq!(world.left(), "");
    assert_eq!(world.store.check().expect("check").findings, []);
}

#[test]
fn volumes_go_when_no_container_names_them() {
    let world = World::new();
    for name in ["data", "used", "spare"] {
        world.volume(name, "");
    }
    let nameless = world.store.create_anonymous_volume(&"0".repeat(64), &BTreeMap::new()).expect("volume");
    let nameless = {
        let held = nameless;
        held.name().to_string()
    };
    let old = world.stopped("old", Some("used"), "");
    assert_eq!(world.prune(&["--volumes"]).0, [format!("volume {nameless}")], "those with a name stay");
    let (lines, code, said) = world.prune(&["--volumes", "used"]);
    assert_eq!((lines.len(), code), (0, 9), "{said}");
    assert!(said.contains("in use by old"), "{said}");
    let (lines, code, _) = world.prune(&["--volumes", "nosuch", "spare"]);
    assert_eq!((lines, code), (vec!["volume spare".to_string()], 3), "the rest goes on");
    assert_eq!(world.prune(&["--volumes", "--all", "-n"]).0, ["volume data"]);
    assert_eq!(world.left(), "old data used");
    let (lines, code, _) = world.prune(&["--containers", "--volumes", "--all"]);
    assert_eq!((lines, code), (["container old", "volume data", "volume used"].map(String::from).into(), 0));
    assert_eq!(world.left(), "");
    drop(old);
}

#[test]
fn a_volume_that_is_being_used_without_a_container_stays() {
    let world = World::new();
    let held = world.store.create_volume("data", &BTreeMap::new()).expect("volume");
    assert_eq!(world.prune(&["--volumes", "--all"]).0.len(), 0);
    assert_eq!(world.prune(&["--volumes", "data"]).1, 9);
    drop(held);
    // A child that another test is just making has this process's descriptors for a moment.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut pruned = world.prune(&["--volumes", "data"]);
    while pruned.1 == 9 {
        assert!(Instant::now() < deadline, "it is never free");
        pruned = world.prune(&["--volumes", "data"]);
    }
    assert_eq!(pruned.0, ["volume data"]);
}

#[test]
fn caches_go_when_asked_for_and_no_run_has_them() {
    let world = World::new();
    let own = std::fs::metadata(world.store.path()).expect("stat");
    let hold = |id: &str| {
        let looks = (0o755, own.uid(), own.gid());
        world.store.hold_cache(id, Sharing::Shared, looks, || ()).expect("a cache")
    };
    let pip = hold("pip");
    std::fs::write(pip.path().join("wheel"), vec![1; 1 << 20]).expect("write");
    let busy = hold("/root/.cache");
    drop(pip);
    world.until_free("pip");
    assert_eq!(world.prune(&["--volumes", "--containers", "--all"]).0, Vec::<String>::new(), "not asked for");
    let (lines, code, said) = world.prune(&["--caches", "-n"]);
    assert_eq!((lines.len(), code), (1, 0), "{lines:?}");
    assert!(lines[0].starts_with("cache pip (1.") && said.contains("would be freed"), "{lines:?} {said}");
    assert_eq!(world.prune(&["--caches", "--filter", "until=1h"]).0, Vec::<String>::new(), "used just now");
    assert_eq!(world.prune(&["--caches"]).0, ["cache pip"]);
    assert!(busy.path().exists() && !world.store.path().join("caches/pip").exists());
    drop(busy);
    world.until_free("/root/.cache");
    assert_eq!(world.prune(&["--caches"]).0, ["cache /root/.cache"]);
    assert_eq!(world.store.check().expect("check").findings, []);
}

#[test]
fn filters_narrow_what_goes_and_others_are_refused() {
    let world = World::new();
    world.stopped("a", None, "tier=front");
    world.stopped("b", None, "tier=back");
    world.volume("va", "tier=front");
    world.volume("vb", "tier=back");
    let both = |more: &[&str]| world.prune(&[&["--containers", "--volumes", "--all"], more].concat());
    assert_eq!(both(&["--filter", "until=1h"]).0.len(), 0, "nothing is that old");
    assert_eq!(both(&["--filter", "label=tier=front"]).0, ["container a", "volume va"]);
    for (filter, said) in
        [("status=exited", "no such filter"), ("until=soon", "1h30m"), ("label", "KEY=VALUE")]
    {
        let (lines, code, message) = both(&["--filter", filter]);
        assert_eq!((lines.len(), code), (0, 2), "{filter}");
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(world.left(), "b vb");
    assert_eq!(world.prune(&[]).1, 2, "what is to go has to be said");
    assert!(Path::new(PRUNE).exists());
}

#[test]
fn many_that_prune_at_once_remove_each_thing_once() {
    let world = World::new();
    for n in 0..12 {
        world.stopped(
            &format!("c{n}"),
            Some(&{
                world.volume(&format!("v{n}"), "");
                format!("v{n}")
            }),
            "",
        );
    }
    let all: Vec<String> = std::thread::scope(|scope| {
        let prune = || {
            let (lines, code, said) = world.prune(&["--containers", "--volumes", "--all"]);
            assert_eq!(code, 0, "{said}");
            lines
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(prune)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("thread")).collect()
    });
    let mut once = all.clone();
    once.sort();
    once.dedup();
    assert_eq!((once.len(), all.len()), (24, 24), "{all:?}");
    assert_eq!(world.left(), "");
    assert_eq!(world.store.check().expect("check").findings, []);
}
