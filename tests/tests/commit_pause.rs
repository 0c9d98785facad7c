//! A container stands still while it is committed, and goes on afterwards whatever became of the commit.

use std::fs;
use std::path::{Path, PathBuf};

use ocipipe_tests::Hub;
use ocipipe_tests::traces::until;
use rustix::process::Signal;
use testkit::world::Running;
use testkit::{Outcome, needs};

/// Counts in two files, of which a commit reads one first and the other last. Lines are added: a file that is written anew is
/// empty for a moment.
const COUNTER: &str = "n=0; while :; do n=$((n+1)); echo $n >>/a; echo $n >>/z; done";

/// A container that counts, with a file between that takes a commit a while.
struct Counter {
    hub: Hub,
    line: Outcome,
    bundle: PathBuf,
}

impl Counter {
    fn start(megabytes: usize) -> Self {
        let hub = Hub::busybox();
        let line = hub.container(&["--name", "c"]);
        let fill = format!("head -c {megabytes}m /dev/urandom >/m");
        hub.step(&line, &fill);
        hub.world.feed("oci-spawn", &["-d", "--", "sh", "-c", COUNTER], &line.stdout).ok();
        let bundle = PathBuf::from(line.member("bundle"));
        let counter = Self { hub, line, bundle };
        counter.assert_counts();
        counter
    }

    fn number(&self, name: &str) -> u64 {
        number(&self.bundle.join("upper").join(name)).unwrap_or(0)
    }

    /// Waits until the count is another.
    fn assert_counts(&self) {
        let before = self.number("a");
        until("the container counts", || self.number("a"), |&now| now > before);
    }

    fn is_frozen(&self) -> bool {
        let state = fs::read_to_string(self.bundle.join("state.json")).expect("state.json");
        let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap_or_default();
        groups.lines().any(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            let read = |file: String| fs::read_to_string(file).unwrap_or_default();
            (controllers == "freezer"
                && read(format!("/sys/fs/cgroup/freezer{path}/freezer.state")).trim() == "FROZEN")
                || (controllers.is_empty()
                    && read(format!("/sys/fs/cgroup{path}/cgroup.freeze")).trim() == "1")
        })
    }

    /// A long commit, as it reads. On a busy disk a write takes longer than a commit waits for it: it is asked again then.
    fn commit_until_frozen(&self) -> Running {
        for _ in 0..10 {
            let mut command = self.hub.world.command("oci-commit");
            command.args(["--layer", "--compression", "gzip:9", "c"]);
            let mut running = self.hub.world.start(command, None);
            let ended = |running: &mut Running| running.child.try_wait().expect("a child").is_some();
            until("it stands still", || self.is_frozen() || ended(&mut running), |&done| done);
            if self.is_frozen() && !ended(&mut running) {
                return running;
            }
            let outcome = running.wait();
            if outcome.code != 0 {
                outcome.fails(1).says("did not get frozen");
            }
        }
        panic!("the container never stood still");
    }

    /// How far apart the two counts of a commit are.
    fn apart(&self, flags: &[&str]) -> u64 {
        let args = [&["--layer"], flags].concat();
        let commit = || self.hub.world.feed("oci-commit", &args, &self.line.stdout);
        let is_late = |outcome: &Outcome| outcome.stderr.contains("did not get frozen");
        let image = until("a commit", commit, |outcome| !is_late(outcome)).ok();
        let out = self.hub.world.name("out");
        let _ = fs::remove_dir_all(&out);
        self.hub.world.feed("oci-unpack", &["--to", &out], &image.stdout).ok();
        let of = |name| number(&Path::new(&out).join(name));
        of("a").expect("a count").abs_diff(of("z").expect("a count"))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.hub.world.tool("oci-mount", &["--remove", "--force", "c"]);
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.lines().last()?.parse().ok()
}

#[test]
fn files_of_a_running_container_are_of_one_moment() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let counter = Counter::start(40);
    for _ in 0..3 {
        assert!(counter.apart(&[]) <= 1, "the files are of two moments");
        counter.assert_counts();
    }
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(counter.apart(&["--no-pause"]));
        if most > 1 {
            return;
        }
    }
    panic!("without a pause the counts were never apart: the test shows nothing");
}

#[test]
fn a_container_goes_on_whatever_ends_its_commit() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let counter = Counter::start(150);
    for signal in [Signal::KILL, Signal::TERM, Signal::USR1] {
        // A quick machine may be done before the signal comes.
        let is_hit = (0..20).any(|_| {
            let running = counter.commit_until_frozen();
            let group = rustix::process::Pid::from_child(&running.child);
            rustix::process::kill_process_group(group, signal).expect("kill");
            running.wait().code != 0
        });
        assert!(is_hit, "no commit was ended by {signal:?}");
        counter.assert_counts();
    }
    fs::write(counter.bundle.join("upper/.wh.x"), "").expect("write");
    counter.hub.world.tool("oci-commit", &["--layer", "c"]).fails(6).says(".wh.x");
    counter.assert_counts();
    fs::remove_file(counter.bundle.join("upper/.wh.x")).expect("unlink");
}

#[test]
fn who_is_paused_stays_paused() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let counter = Counter::start(150);
    let world = &counter.hub.world;
    world.tool("oci-spawn", &["pause", "c"]).ok();
    world.tool("oci-commit", &["--layer", "c"]).ok();
    assert!(counter.is_frozen());
    assert_eq!(counter.hub.document("c")["status"], "paused");
    world.tool("oci-spawn", &["resume", "c"]).ok();
    counter.assert_counts();
    // Paused while a commit has it stand still.
    let running = counter.commit_until_frozen();
    world.tool("oci-spawn", &["pause", "c"]).ok();
    assert_eq!(running.wait().code, 0);
    assert!(counter.is_frozen());
    world.tool("oci-spawn", &["resume", "c"]).ok();
    counter.assert_counts();
}
