//! Containers mounted, looked at from other mount namespaces, and removed with things mounted inside.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use descriptor::{Classify, Digest, Exit, Status};
use overlay::{Error, Mounted, Plan, Running};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use store::{Claim, Container, CreateDoc, Form, LayerMeta, Store};
use sys::mount::{Change, Extent};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    container: Container,
}

impl Fixture {
    /// A container of one layer with a file and a directory; none where mounting is not allowed.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            testkit::skip("mounting needs root");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(Some(&dir.path().join("store"))).expect("a store");
        let diff_id = Digest::of(b"layer");
        let Ok(Claim::Mine(draft)) = store.claim_layer(Form::Identity, &diff_id) else {
            panic!("a fresh layer")
        };
        draft.root().create_dir_all("mnt", Mode::RWXU).expect("mkdir");
        draft.root().open("file", OFlags::CREATE, Mode::RWXU).expect("create");
        let meta = LayerMeta { diff_id, entries: 2, bytes: 0, implied: Vec::new(), masking: Vec::new() };
        let tree = draft.publish(&store, meta).expect("publish");
        let plan = Plan::of(&store, [tree.path()]).expect("plan");
        let draft =
            store.draft_container(&CreateDoc { name: "c".into(), ..CreateDoc::default() }).expect("draft");
        draft.write("plan.json", &plan.to_bytes()).expect("plan.json");
        let container = draft.publish().expect("publish");
        std::fs::create_dir(dir.path().join("canary")).expect("mkdir");
        std::fs::write(dir.path().join("canary/f"), "alive").expect("write");
        Some(Self { dir, store, container })
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.container.path().join(path)
    }

    fn mounted(&self) -> Mounted {
        overlay::mounted(&self.container, &self.container.state().expect("state")).expect("mounted")
    }

    fn bind_canary(&self, to: &str) {
        rustix::mount::mount_bind(self.dir.path().join("canary"), self.inside(to)).expect("bind");
    }

    fn canary_lives(&self) -> bool {
        std::fs::read_to_string(self.dir.path().join("canary/f")).is_ok_and(|text| text == "alive")
    }

    /// The container's parts that are mount points now.
    fn mounts(&self) -> usize {
        let all = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
        all.lines().filter(|line| line.contains(self.container.id())).count()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // A removal that a mount stopped has put the container aside.
        let aside = std::fs::read_dir(self.dir.path().join("store/staging")).into_iter().flatten().flatten();
        for at in aside.map(|entry| entry.path()).chain([self.container.path()]) {
            let _ = rustix::mount::unmount(at.join("upper/m"), rustix::mount::UnmountFlags::DETACH);
        }
        if let Ok(container) = self.store.container("c") {
            let _ = overlay::remove(container, Running::Kill);
        }
    }
}

/// Puts the thread into a mount namespace of its own.
fn apart() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare");
    let root = sys::Root::open_ambient("/").expect("open /");
    let private = Change { propagation: Some(MountPropagationFlags::PRIVATE), ..Change::default() };
    sys::mount::set_attributes(root.as_fd(), Extent::Tree, private).expect("private");
}

#[test]
fn a_mount_is_recorded_and_seen_to_be_gone() {
    let Some(f) = Fixture::new() else { return };
    assert!(matches!(f.mounted(), Mounted::Nowhere));
    assert!(overlay::attach(&f.container).expect("attach"));
    assert!(f.container.line().expect("line").mounted && f.inside("rootfs/file").exists());
    assert!(matches!(f.mounted(), Mounted::Here(_)));
    let before = f.mounts();
    assert!(overlay::attach(&f.container).expect("again"), "one live mount for a writable layer");
    assert_eq!(f.mounts(), before);
    rustix::mount::unmount(f.inside("rootfs"), rustix::mount::UnmountFlags::empty()).expect("by hand");
    assert!(matches!(f.mounted(), Mounted::Nowhere));
    assert!(overlay::attach(&f.container).expect("anew") && f.inside("rootfs/file").exists());
    overlay::remove(f.container.clone(), Running::Refuse).expect("remove");
    assert_eq!(f.mounts(), 0);
    assert!(f.store.container("c").is_err() && !f.container.path().exists());
}

#[test]
fn a_namespace_that_ends_with_the_process_gets_no_mount() {
    if rustix::process::geteuid().is_root() {
        apart();
    }
    let Some(f) = Fixture::new() else { return };
    assert!(!overlay::attach(&f.container).expect("attach"));
    assert!(!f.container.line().expect("line").mounted);
    let root = overlay::open_root(&f.container).expect("mounted for the moment");
    root.open("made", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("write");
    assert!(f.inside("upper/made").exists() && f.mounts() == 0);
}

#[test]
fn a_mount_in_another_living_namespace_is_not_doubled() {
    let Some(f) = Fixture::new() else { return };
    assert!(overlay::attach(&f.container).expect("attach"));
    std::thread::scope(|scope| {
        let apart = scope.spawn(|| {
            apart();
            assert!(matches!(f.mounted(), Mounted::Elsewhere));
            for refused in [
                overlay::open_root(&f.container).map(|_| ()).expect_err("a second mount"),
                overlay::remove(f.container.clone(), Running::Refuse).expect_err("under a mount"),
            ] {
                assert!(matches!(refused, Error::Elsewhere { .. }), "{refused}");
                assert_eq!(refused.exit(), Exit::Conflict);
            }
        });
        apart.join().expect("the thread");
    });
    assert!(matches!(f.mounted(), Mounted::Here(_)));
}

#[test]
fn what_is_mounted_inside_survives_the_removal() {
    let Some(f) = Fixture::new() else { return };
    assert!(overlay::attach(&f.container).expect("attach"));
    f.bind_canary("rootfs/mnt");
    overlay::remove(f.container.clone(), Running::Refuse).expect("remove");
    assert!(f.canary_lives() && f.mounts() == 0 && !f.container.path().exists());
}

#[test]
fn a_mount_in_the_writable_layer_stops_the_removal() {
    let Some(f) = Fixture::new() else { return };
    std::fs::create_dir(f.inside("upper/m")).expect("mkdir");
    f.bind_canary("upper/m");
    overlay::remove(f.container.clone(), Running::Refuse).expect_err("mounted");
    assert!(f.canary_lives());
}

#[test]
fn a_link_in_place_of_the_root_is_not_followed() {
    let Some(f) = Fixture::new() else { return };
    std::fs::remove_dir(f.inside("rootfs")).expect("rmdir");
    std::os::unix::fs::symlink(f.dir.path().join("canary"), f.inside("rootfs")).expect("symlink");
    std::os::unix::fs::symlink(f.dir.path().join("canary"), f.inside("upper/link")).expect("symlink");
    overlay::attach(&f.container).expect_err("a link");
    // Removing a container that was tampered with either works or says what is wrong; the canary lives.
    let _ = overlay::remove(f.container.clone(), Running::Refuse);
    assert!(f.canary_lives());
}

#[test]
fn a_running_container_is_removed_only_when_told() {
    let Some(f) = Fixture::new() else { return };
    let mut process = Command::new("sleep").arg("100").spawn().expect("sleep");
    let mut state = f.container.state().expect("state");
    state.set_running(process.id());
    f.container.set_state(&state).expect("state");
    let refused = overlay::remove(f.container.clone(), Running::Refuse).expect_err("running");
    assert_eq!(refused.exit(), Exit::Conflict);
    assert_eq!(f.container.line().expect("line").status, Status::Running);
    let waits = std::thread::spawn(move || process.wait());
    overlay::remove(f.container.clone(), Running::Kill).expect("told");
    assert!(!waits.join().expect("thread").expect("wait").success());
    assert!(!Path::new(&f.container.path()).exists());
}
