//! The runtime killed at every system call, and every system call made to fail: nothing is ever left for good.
#![cfg(target_arch = "x86_64")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use ocipipe_tests::stepper::{self, Fault, Point, Stepped, Whom};
use serde_json::json;
use testkit::bundle::Bundle;

/// How long what was killed may take to be gone.
const SETTLING: Duration = Duration::from_secs(10);
/// The answers of failing calls; every run gives each call one of them, the full run each call all.
const ERRORS: [Errno; 5] = [Errno::ENOSPC, Errno::EIO, Errno::EMFILE, Errno::ENOMEM, Errno::EINTR];
/// Threads that step, each with a bundle of its own.
const STEPPERS: usize = 2;

fn is_full() -> bool {
    std::env::var_os("OCIPIPE_FULL").is_some()
}

/// A container and the places where something could be left of it.
struct Subject {
    bundle: Bundle,
}

impl Subject {
    fn new() -> Option<Self> {
        let mut bundle = Bundle::new()?;
        // Named in the process's command line, too, so that it is found whatever became of it.
        let script = format!(": {}; exec sleep 1000", bundle.dir().display());
        bundle.sh(&script);
        bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id()));
        bundle.config["linux"]["resources"] =
            json!({"pids": {"limit": 50}, "devices": [{"allow": false, "access": "rwm"}]});
        bundle.write();
        std::fs::create_dir(bundle.path("run")).expect("a folder");
        Some(Self { bundle })
    }

    /// One whose mounts are the host's.
    fn among_the_hosts_mounts() -> Option<Self> {
        let mut subject = Self::new()?;
        subject.bundle.without_namespace("mount");
        subject.bundle.write();
        Some(subject)
    }

    fn create(&self) -> Command {
        let mut command = self.bundle.command(&["create", "--pid-file"]);
        command.arg(self.bundle.path("run/pid")).arg("-b").arg(self.bundle.dir()).arg(self.bundle.id());
        command
    }

    fn verb(&self, words: &[&str]) -> Command {
        let mut command = self.bundle.command(words);
        command.arg(self.bundle.id());
        command
    }

    fn stepped(&self, command: &Command, point: Point) -> Stepped {
        stepper::run(command, point, &self.bundle.path("said"))
    }

    fn plain(&self, command: Command) -> stepper::Stepped {
        let none = Point { whom: Whom::Runtime, number: usize::MAX, fault: Fault::None };
        self.stepped(&command, none)
    }

    /// What there is of the container, quickly found: its places are known.
    fn left(&self) -> Vec<String> {
        let mut left = names(&self.bundle.states(), "state");
        let pid_files = names(&self.bundle.path("run"), "beside the pid file");
        left.extend(pid_files.into_iter().filter(|line| !line.ends_with(" pid")));
        for hierarchy in
            [Path::new("/sys/fs/cgroup").to_path_buf()].into_iter().chain(folders("/sys/fs/cgroup"))
        {
            let group = hierarchy.join(self.bundle.id());
            if group.exists() {
                left.push(format!("control group {}", group.display()));
            }
        }
        left.extend(testkit::leftovers::mounts(self.bundle.dir()));
        left.extend(processes(self.bundle.dir()));
        left
    }

    fn assert_nothing_left(&self, after: &dyn std::fmt::Debug) {
        let until = Instant::now() + SETTLING;
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "after {after:?}, left behind:\n{}", left.join("\n"));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The command said what is wrong, in one line of its own, and nothing is left without further ado.
    fn assert_clean_failure(&self, stepped: &Stepped) {
        // The loader has words and a status of its own.
        let by_loader = stepped.code() == 127 && stepped.stderr.contains("shared librar");
        assert!(by_loader || stepped.code() == 1, "{stepped:?}");
        assert!(by_loader || stepped.stderr.starts_with("oci-spawn: "), "{stepped:?}");
        self.assert_nothing_left(stepped);
    }

    fn delete_by_force(&self, after: &dyn std::fmt::Debug) {
        let command = self.verb(&["delete", "--force"]);
        let out = self.bundle.finish(command);
        assert_eq!(out.code, 0, "delete --force after {after:?}: {out}");
        self.assert_nothing_left(after);
    }
}

fn names(folder: &Path, what: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| format!("{what} {}", entry.file_name().to_string_lossy())).collect()
}

fn folders(path: &str) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Processes whose command line names the bundle: the runtime, its copies, and the container's own.
fn processes(dir: &Path) -> Vec<String> {
    let text = dir.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(text.as_ref()) {
                found.push(format!("process {} {line}", name.to_string_lossy()));
            }
        }
    }
    found
}

/// Does something at each call of a command until a run makes fewer calls; the calls are divided among threads. How many.
///
/// Panics with all points that went wrong.
fn sweep(what: &str, each: impl Fn(&Subject, usize) -> bool + Sync) -> usize {
    let begun = Instant::now();
    let (count, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for first in 1..=STEPPERS {
            let (each, count, wrong) = (&each, &count, &wrong);
            scope.spawn(move || {
                let mut subject = Subject::new().expect("asked before");
                for number in (first..).step_by(STEPPERS) {
                    match catch_unwind(AssertUnwindSafe(|| each(&subject, number))) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(panic) => {
                            wrong
                                .lock()
                                .expect("no panic while it is held")
                                .push((number, words(panic.as_ref())));
                            subject = Subject::new().expect("asked before");
                        }
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
                subject.bundle.assert_nothing_left();
            });
        }
    });
    let (count, wrong) = (count.into_inner(), wrong.into_inner().expect("no panic while it was held"));
    eprintln!("{what}: {count} points in {:?}", begun.elapsed());
    let list: Vec<String> = wrong.iter().map(|(number, words)| format!("at {number}: {words}\n")).collect();
    assert!(wrong.is_empty(), "{what}: {} of {count} points\n{}", wrong.len(), list.concat());
    count
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// Kills at call `number` of `create`; false if it makes fewer.
fn kill_create(subject: &Subject, whom: Whom, number: usize) -> bool {
    let point = Point { whom, number, fault: Fault::Kill };
    let stepped = subject.stepped(&subject.create(), point);
    if stepped.met.is_some() && whom == Whom::Init {
        if stepped.code() == 0 {
            // Killed when all was said: a container that has been created, and was killed then.
            subject.bundle.wait_for("stopped");
        } else {
            // Its runtime lives and takes all back by itself.
            subject.assert_clean_failure(&stepped);
        }
    }
    subject.delete_by_force(&(point, &stepped));
    stepped.met.is_some()
}

/// Lets call `number` of `create` fail; false if it makes fewer.
fn fail_create(subject: &Subject, whom: Whom, number: usize) -> bool {
    let mut met = false;
    for errno in errors(number) {
        let point = Point { whom, number, fault: Fault::Fail(errno) };
        let stepped = subject.stepped(&subject.create(), point);
        met = stepped.met.is_some();
        match stepped.code() {
            _ if !is_given(&stepped, errno) => {}
            0 => {
                // Init's last calls, the answer to its "ready" and the wait for its start, may fail when all was said: then it is
                // a container that ended before its start, if only a moment after it was looked at.
                let started = subject.bundle.status() == "created" && {
                    let out = subject.bundle.start();
                    assert!(out.code == 0 || whom == Whom::Init, "{errno}: {out}, {stepped:?}");
                    out.code == 0
                };
                if started {
                    assert_eq!(subject.bundle.status(), "running", "{errno}: {stepped:?}");
                } else {
                    assert_eq!(whom, Whom::Init, "{errno}: {stepped:?}");
                    subject.bundle.wait_for("stopped");
                }
            }
            _ => subject.assert_clean_failure(&stepped),
        }
        subject.delete_by_force(&(point, &stepped));
    }
    met
}

/// Whether the kernel ever gives this answer to this call. What others make of it (the loader, the standard library's own
/// beginning, which end the program by a signal) proves nothing but that the rest can be removed.
fn is_given(stepped: &Stepped, errno: Errno) -> bool {
    let Some(call) = stepped.met.and_then(|call| i64::try_from(call).ok()) else { return true };
    match call {
        libc::SYS_getpid | libc::SYS_geteuid | libc::SYS_getuid => false,
        libc::SYS_umask | libc::SYS_arch_prctl | libc::SYS_getrandom | libc::SYS_rt_sigaction => false,
        // Memory: a program without it ends at once.
        libc::SYS_mmap | libc::SYS_munmap | libc::SYS_mprotect | libc::SYS_brk | libc::SYS_mremap => false,
        libc::SYS_poll => errno == Errno::EINTR || errno == Errno::ENOMEM,
        _ => true,
    }
}

/// The answers to try at a call: all of them take their turn.
fn errors(number: usize) -> Vec<Errno> {
    if is_full() { ERRORS.to_vec() } else { vec![ERRORS[number % ERRORS.len()]] }
}

#[test]
fn a_stepper_that_does_nothing_leaves_a_container_that_works() {
    let Some(subject) = Subject::new() else { return };
    for whom in [Whom::Runtime, Whom::Init] {
        let point = Point { whom, number: usize::MAX, fault: Fault::None };
        let stepped = subject.stepped(&subject.create(), point);
        assert_eq!(stepped.code(), 0, "{stepped:?}");
        assert!(stepped.calls > 100, "{stepped:?}");
        eprintln!("create, {whom:?}: {} calls", stepped.calls);
        assert_eq!(subject.bundle.status(), "created");
        assert!(!subject.left().is_empty());
        subject.bundle.start().ok();
        assert_eq!(subject.bundle.status(), "running");
        let stepped =
            subject.stepped(&subject.verb(&["delete", "--force"]), Point { whom: Whom::Runtime, ..point });
        assert_eq!(stepped.code(), 0, "{stepped:?}");
        eprintln!("delete: {} calls", stepped.calls);
        subject.assert_nothing_left(&stepped);
    }
}

#[test]
fn create_killed_at_any_system_call_leaves_what_delete_by_force_removes() {
    if Subject::new().is_none() {
        return;
    }
    let count = sweep("kill create", |subject, number| kill_create(subject, Whom::Runtime, number));
    assert!(count > 100, "only {count}");
}

#[test]
fn a_root_among_the_hosts_mounts_is_taken_away_whoever_is_killed() {
    let Some(subject) = Subject::among_the_hosts_mounts() else { return };
    // The calls between the first mount and the last are what is new here; a step takes several of them.
    let every = if is_full() { 1 } else { 5 };
    for whom in [Whom::Runtime, Whom::Init] {
        let points = (1..).step_by(every).take_while(|number| kill_create(&subject, whom, *number));
        assert!(points.count() > 20);
    }
    let points = (1..).step_by(every).take_while(|number| fail_create(&subject, Whom::Init, *number));
    assert!(points.count() > 20);
}

#[test]
fn init_killed_at_any_system_call_of_its_setup_makes_create_fail_and_take_all_back() {
    if Subject::new().is_none() {
        return;
    }
    let count = sweep("kill init", |subject, number| kill_create(subject, Whom::Init, number));
    assert!(count > 100, "only {count}");
}

#[test]
fn delete_killed_at_any_system_call_is_finished_by_delete_by_force() {
    if Subject::new().is_none() {
        return;
    }
    let count = sweep("kill delete", |subject, number| {
        assert_eq!(subject.plain(subject.create()).code(), 0);
        assert_eq!(subject.plain(subject.verb(&["start"])).code(), 0);
        let point = Point { whom: Whom::Runtime, number, fault: Fault::Kill };
        let stepped = subject.stepped(&subject.verb(&["delete", "--force"]), point);
        subject.delete_by_force(&(point, &stepped));
        stepped.met.is_some()
    });
    assert!(count > 50, "only {count}");
}

#[test]
fn create_whose_calls_fail_leaves_a_container_or_nothing() {
    if Subject::new().is_none() {
        return;
    }
    for whom in [Whom::Runtime, Whom::Init] {
        let count =
            sweep(&format!("fail create, {whom:?}"), |subject, number| fail_create(subject, whom, number));
        assert!(count > 100, "only {count}");
    }
}

#[test]
fn delete_whose_calls_fail_says_so_or_is_done() {
    if Subject::new().is_none() {
        return;
    }
    let count = sweep("fail delete", |subject, number| {
        let mut met = false;
        for errno in errors(number) {
            assert_eq!(subject.plain(subject.create()).code(), 0);
            assert_eq!(subject.plain(subject.verb(&["start"])).code(), 0);
            let point = Point { whom: Whom::Runtime, number, fault: Fault::Fail(errno) };
            let stepped = subject.stepped(&subject.verb(&["delete", "--force"]), point);
            met = stepped.met.is_some();
            match stepped.code() {
                _ if !is_given(&stepped, errno) => {}
                0 => subject.assert_nothing_left(&(point, &stepped)),
                _ => assert!(!stepped.stderr.is_empty(), "{errno}: {stepped:?}"),
            }
            subject.delete_by_force(&(point, &stepped));
        }
        met
    });
    assert!(count > 50, "only {count}");
}
