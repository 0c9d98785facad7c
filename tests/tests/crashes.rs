//! kill -9 of whoever takes part in a container's run, and a reboot: the next look tells the truth, `start` works, and nothing
//! stays behind.

use std::path::PathBuf;
use std::time::Duration;

use ocipipe_tests::Hub;
#[cfg(target_arch = "x86_64")]
use ocipipe_tests::stepper::{self, Fault, Point, Whom};
use ocipipe_tests::traces::{left, locks, open_files, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::world::Running;
use testkit::{leftovers, needs};

/// What a container ended with whose end nobody saw.
const UNSEEN: u8 = 255;
/// What the container's command ends with when it is asked to.
const ASKED: u8 = 5;
/// Says that it is up, and ends when it is asked to.
const COMMAND: &str = "trap 'exit 5' TERM; echo up >>/ups; sleep 1000 & wait $!";
/// At how many of its system calls a process is killed.
#[cfg(target_arch = "x86_64")]
const POINTS: usize = 20;

/// A status, an exit code, a pid.
type Told = (String, Option<u8>, Option<u64>);

/// A container that runs, and what the machine has of it.
struct Case {
    hub: Hub,
    name: &'static str,
    line: Vec<u8>,
    instance: String,
    runs: usize,
    mounts: usize,
    caller: Option<Running>,
}

impl Case {
    /// A container with a limit, so that it has a control group however it is run.
    fn of(name: &'static str, command: &str) -> Self {
        let hub = Hub::busybox();
        let made = hub.container(&["--name", name, "-m", "64m", "--", "sh", "-c", command]);
        let mounts = leftovers::mounts(&hub.world.store()).len();
        Self {
            name,
            instance: made.member("instance"),
            line: made.stdout,
            runs: 0,
            mounts,
            caller: None,
            hub,
        }
    }

    fn detached(name: &'static str) -> Self {
        let mut case = Self::of(name, COMMAND);
        case.hub.world.feed("oci-spawn", &["-d"], &case.line).ok();
        case.is_up();
        case
    }

    fn foreground(name: &'static str) -> Self {
        let mut case = Self::of(name, COMMAND);
        let command = case.hub.world.command("oci-spawn");
        case.caller = Some(case.hub.world.start(command, Some(&case.line)));
        case.is_up();
        case
    }

    /// Waits until the command of one run more has said so.
    fn is_up(&mut self) {
        self.runs += 1;
        let file = self.bundle().join("upper/ups");
        let ups = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
        until("up", ups, |ups| *ups == self.runs);
    }

    fn bundle(&self) -> PathBuf {
        self.hub.world.store().join("containers").join(self.id())
    }

    fn id(&self) -> String {
        let line: Value = serde_json::from_slice(&self.line).expect("a line");
        line["id"].as_str().expect("an id").to_string()
    }

    /// state.json as it stands there; looking so puts nothing right.
    fn written(&self) -> Value {
        let bytes = std::fs::read(self.bundle().join("state.json")).expect("state.json");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn pid(&self, who: &str) -> u64 {
        let state = self.written();
        let pid = if who == "monitor" { &state["monitor"]["pid"] } else { &state["pid"] };
        pid.as_u64().unwrap_or_else(|| panic!("no {who}: {state}"))
    }

    fn kill(&self, who: &str) {
        kill(self.pid(who));
    }

    /// What oci-inspect tells: status, exit code, pid.
    fn told(&self) -> Told {
        let ours = self.hub.document(self.name);
        let status = ours["status"].as_str().unwrap_or_default().to_string();
        let code = ours["exitCode"].as_u64().and_then(|code| u8::try_from(code).ok());
        (status, code, ours["state"]["pid"].as_u64())
    }

    /// The container has ended, and is told to have ended so.
    fn has_ended(&self, code: u8) {
        let ended = ("stopped".to_string(), Some(code), None);
        until("told to have ended", || self.told(), |told| *told == ended);
        let docker = &self.hub.docker(self.name)["State"];
        let members = ["Status", "Running", "Pid", "ExitCode"].map(|name| docker[name].clone());
        assert_eq!(
            members,
            [json!("exited"), json!(false), json!(0), json!(code)],
            "docker's form says the same"
        );
        let finished = self.hub.document(self.name)["state"]["finishedAt"].clone();
        assert!(finished.as_str().is_some_and(|time| time.ends_with('Z')), "{finished}");
        let waited = self.hub.world.tool("oci-spawn", &["wait", self.name]).ok().text();
        assert_eq!(waited, format!("{code}\n"));
        self.hub.world.assert_nothing_runs();
        assert_eq!(locks(&self.hub.world.store()), <[&str; 0]>::default());
    }

    /// It starts again, on what it wrote, answers, and ends with a status that is known.
    fn starts_again(&mut self) {
        self.hub.world.tool("oci-spawn", &["start", self.name]).ok();
        self.is_up();
        let ups = self.hub.world.tool("oci-spawn", &["exec", self.name, "grep", "-c", "up", "/ups"]).ok();
        assert_eq!(ups.text(), format!("{}\n", self.runs));
        assert_eq!(self.told().0, "running");
        self.hub.world.tool("oci-spawn", &["stop", "-t", "60", self.name]).ok();
        self.has_ended(ASKED);
        until("clear", || self.left(), Vec::is_empty);
    }

    /// What is left on the machine; the root's mounts are those of its making.
    fn left(&self) -> Vec<String> {
        let mut found = left(&self.hub.world.store(), std::slice::from_ref(&self.instance));
        let mounts = leftovers::mounts(&self.hub.world.store());
        if mounts.len() > self.mounts {
            found.extend(mounts);
        }
        found
    }

    /// It is removed, and nothing of it stays.
    fn ends(self) {
        self.hub.world.tool("oci-mount", &["--remove", self.name]).ok();
        self.hub.world.assert_nothing_left();
        assert_eq!(left(&self.hub.world.store(), &[self.instance]), <[&str; 0]>::default());
        self.hub.world.assert_store_is_sound();
    }
}

fn kill(pid: u64) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    // One that has just ended needs none.
    let _ = kill_process(pid, Signal::KILL);
}

fn lives(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Who is killed, in what order, and what the container is told to have ended with.
type Row = (&'static str, &'static [&'static str], u8);

#[rustfmt::skip]
const KILLED: [Row; 3] = [
    ("watched", &["init"], 137),
    ("monitor-then-init", &["monitor", "init"], UNSEEN),
    ("init-then-monitor", &["init", "monitor"], UNSEEN),
];

#[test]
fn kill_9_of_a_containers_process_is_told_by_its_monitor_or_said_to_be_unknown() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    for (name, victims, code) in KILLED {
        let mut case = Case::detached(name);
        let pids: Vec<u64> = victims.iter().map(|who| case.pid(who)).collect();
        if name == "init-then-monitor" {
            // It would record the end otherwise.
            signal(pids[1], Signal::STOP);
        }
        pids.iter().for_each(|pid| kill(*pid));
        for pid in pids {
            until("dead", || lives(pid), |lives| !lives);
        }
        case.has_ended(code);
        case.starts_again();
        case.ends();
    }
}

fn signal(pid: u64, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("it lives");
}

#[test]
fn after_kill_9_of_its_monitor_a_container_goes_on_and_can_be_asked_stopped_and_started() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let mut case = Case::detached("orphan");
    let (init, monitor) = (case.pid("init"), case.pid("monitor"));
    case.kill("monitor");
    until("dead", || lives(monitor), |lives| !lives);
    assert_eq!(case.told(), ("running".into(), None, Some(init)));
    assert_eq!(open_files(init, &case.hub.world.store()), <[&str; 0]>::default());
    assert_eq!(locks(&case.hub.world.store()), <[&str; 0]>::default());
    let ran = case.hub.world.tool("oci-spawn", &["exec", "orphan", "cat", "/ups"]).ok().text();
    assert_eq!(ran, "up\n");
    // One that runs is started already; a second one is not made.
    case.hub.world.tool("oci-spawn", &["start", "orphan"]).ok();
    assert_eq!(case.told(), ("running".into(), None, Some(init)));
    case.hub.world.feed("oci-spawn", &["-d"], &case.line).fails(9);
    case.hub.world.tool("oci-spawn", &["pause", "orphan"]).ok();
    assert_eq!(case.told().0, "paused");
    case.hub.world.tool("oci-spawn", &["resume", "orphan"]).ok();
    case.hub.world.tool("oci-spawn", &["stop", "-t", "60", "orphan"]).ok();
    case.has_ended(UNSEEN);
    case.starts_again();
    case.ends();
}

#[test]
fn kill_9_of_a_caller_in_the_foreground_takes_the_container_along() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    for with_watcher in [false, true] {
        let mut case = Case::foreground(if with_watcher { "with-watcher" } else { "caller" });
        let mut caller = case.caller.take().expect("a caller");
        let init = case.pid("init");
        if with_watcher {
            let all = leftovers::processes(&case.hub.world.store());
            let watchers = all.iter().filter_map(|line| line.split(' ').nth(1)?.parse().ok());
            let name = |pid: &u64| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let watchers: Vec<u64> =
                watchers.filter(|pid| name(pid).starts_with("oci-spawn:watch")).collect();
            assert_eq!(watchers.len(), 1, "{all:?}");
            kill(watchers[0]);
        }
        caller.child.kill().expect("it lives");
        caller.wait();
        until("dead", || lives(init), |lives| !lives);
        case.has_ended(UNSEEN);
        case.starts_again();
        case.ends();
    }
}

/// Kills a process at system calls of its life, spread evenly over all that it makes; whatever came of it, the container can be
/// started.
#[cfg(target_arch = "x86_64")]
fn killed_at_its_calls(name: &'static str, whom: Whom) {
    let mut case = Case::of(name, "echo up >>/ups; exit 5");
    let errors = case.hub.world.path("errors");
    let stepped = |case: &Case, number: usize, fault: Fault| {
        let mut command =
            case.hub.world.command(&testkit::world::tools().join("oci-spawn").display().to_string());
        command.args(["start", case.name]);
        stepper::run(&command, Point { whom, number, fault }, &errors)
    };
    let calls = stepped(&case, usize::MAX, Fault::None).calls;
    assert!(calls > 100, "{calls} calls of a {name}");
    case.has_ended(ASKED);
    let mut seen = std::collections::BTreeMap::new();
    for point in 0..POINTS {
        stepped(&case, 1 + point * calls / POINTS, Fault::Kill);
        let told = until("ended", || case.told(), |told| told.0 == "stopped");
        assert!(told.1 == Some(ASKED) || told.1 == Some(UNSEEN), "{told:?}");
        case.hub.world.assert_nothing_runs();
        *seen.entry(told.1).or_insert(0) += 1;
        let again = case.hub.world.tool("oci-spawn", &["start", "-a", name]);
        assert_eq!(
            again.code,
            i32::from(ASKED),
            "killed at call {} of {calls}: {again}",
            1 + point * calls / POINTS
        );
        case.has_ended(ASKED);
        until("clear", || case.left(), Vec::is_empty);
    }
    eprintln!("{name}: {calls} calls; exit codes after {POINTS} kills: {seen:?}");
    let file = case.bundle().join("upper/ups");
    case.runs = std::fs::read_to_string(file).unwrap_or_default().lines().count();
    assert!(case.runs > POINTS, "{} runs", case.runs);
    case.ends();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn kill_9_of_a_caller_at_any_call_of_a_start_leaves_a_container_that_starts() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    killed_at_its_calls("caller", Whom::Runtime);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn kill_9_of_a_monitor_at_any_call_of_its_life_leaves_a_container_that_starts() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    killed_at_its_calls("monitor", Whom::Init);
}

#[test]
fn after_a_reboot_containers_have_stopped_and_start_on_what_they_wrote() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let mut case = Case::detached("rebooted");
    // The power goes: nothing of what the kernel had is there any more, only the disk.
    let (init, monitor) = (case.pid("init"), case.pid("monitor"));
    kill(monitor);
    until("dead", || lives(monitor), |lives| !lives);
    let before = case.written();
    kill(init);
    until("dead", || lives(init), |lives| !lives);
    for group in leftovers::groups(&case.instance) {
        until("empty", || std::fs::remove_dir(&group).is_ok(), |gone| *gone);
    }
    let store = case.hub.world.store();
    case.hub.world.sh(&format!("for i in 1 2; do umount -l {}/rootfs; done", case.bundle().display())).ok();
    assert_eq!(leftovers::mounts(&store), <[&str; 0]>::default());
    // Another boot, in which its pids are other processes'.
    let me = std::process::id();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("/proc is there");
    let other = "00000000-0000-4000-8000-000000000000";
    let text = before.to_string().replace(boot.trim(), other);
    let mut state: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&state["bootId"], &state["mount"]["bootId"], &state["monitor"]["bootId"]),
        (&json!(other), &json!(other), &json!(other))
    );
    state["pid"] = json!(me);
    state["monitor"]["pid"] = json!(me);
    std::fs::write(case.bundle().join("state.json"), state.to_string()).expect("a file");

    let listed =
        case.hub.world.tool("oci-inspect", &["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok().text();
    assert_eq!(listed, "rebooted exited\n");
    let ours = case.hub.document("rebooted");
    assert_eq!(
        (&ours["status"], &ours["exitCode"], &ours["mounted"]),
        (&json!("stopped"), &json!(UNSEEN), &json!(false))
    );
    let (gone, started) = (&ours["state"], &before["startedAt"]);
    assert_eq!(
        (&gone["pid"], &gone["monitor"], &gone["group"], &gone["mount"]),
        (&Value::Null, &Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(&gone["startedAt"], started);
    case.has_ended(UNSEEN);
    case.starts_again();
    // It is mounted where it runs, or at its directory again: not twice.
    assert!(leftovers::mounts(&store).len() <= case.mounts);
    case.ends();
    // The pid that was recorded is this test's: nobody took it for the container's.
    std::thread::sleep(Duration::from_millis(1));
}
