//! Many containers, one after the other and at once: nothing of them adds up.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use testkit::bundle::Bundle;

/// Cycles of every run, and of the full one.
const CYCLES: [usize; 2] = [200, 1000];
/// Batches of cycles, all of which must grow for a leak.
const ROUNDS: usize = 3;
/// Containers at once.
const CROWD: usize = 100;
/// Processes that want the same container.
const RIVALS: usize = 16;

/// One test at a time: others would be counted.
static ALONE: Mutex<()> = Mutex::new(());

/// What a leak would make grow.
#[derive(Debug)]
struct Totals {
    /// Directories of all control group hierarchies but memory's, whose dead ones stay while their pages are cached.
    groups: usize,
    mounts: usize,
    /// Open files of the whole machine.
    files: usize,
    processes: usize,
    /// Kernel memory that cannot be taken back, KiB.
    kernel: usize,
}

impl Totals {
    fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let groups = read("/proc/cgroups");
        let groups = groups.lines().filter(|line| !line.starts_with('#') && !line.starts_with("memory"));
        let kernel = read("/proc/meminfo");
        let kernel = kernel.lines().find(|line| line.starts_with("SUnreclaim:"));
        let processes = std::fs::read_dir("/proc").expect("/proc is there").flatten();
        let is_process =
            |name: &std::ffi::OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        Self {
            groups: groups.map(|line| number(line.split_whitespace().nth(2))).sum(),
            mounts: read("/proc/self/mountinfo").lines().count(),
            files: number(read("/proc/sys/fs/file-nr").split_whitespace().next()),
            processes: processes.filter(|entry| is_process(&entry.file_name())).count(),
            kernel: number(kernel.and_then(|line| line.split_whitespace().nth(1))),
        }
    }

    /// What grew since as if each of so many containers had left one.
    fn growth(&self, containers: usize) -> Option<String> {
        let now = Self::now();
        let bound = containers / 2;
        eprintln!("{self:?}, then {now:?}");
        let each = now.kernel.saturating_sub(self.kernel) / containers;
        let grown = [
            ("control groups", self.groups, now.groups),
            ("mounts", self.mounts, now.mounts),
            ("open files", self.files, now.files),
            ("processes", self.processes, now.processes),
        ]
        .into_iter()
        .find(|(_, before, after)| *after >= before + bound);
        match grown {
            Some((what, before, after)) => {
                Some(format!("{what}: {before} before, {after} after {containers} containers"))
            }
            None if each >= 64 => {
                Some(format!("{each} KiB of kernel memory a container: {self:?}, then {now:?}"))
            }
            None => None,
        }
    }
}

/// A quiet verb in the background.
fn begin(bundle: &Bundle, words: &[&str]) -> Child {
    let mut command = bundle.command(words);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the runtime")
}

fn succeeds(bundle: &Bundle, words: &[&str]) {
    let status = begin(bundle, words).wait().expect("it can be awaited");
    assert!(status.success(), "{words:?}: {status}");
}

#[test]
fn cycles_of_create_start_kill_and_delete_leave_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["sleep", "1000"]);
    bundle.write();
    let id = bundle.id().to_owned();
    let dir = bundle.dir().display().to_string();
    let cycles = CYCLES[usize::from(std::env::var_os("OCIPIPE_FULL").is_some())];
    let cycle = || {
        succeeds(&bundle, &["create", "-b", &dir, &id]);
        succeeds(&bundle, &["start", &id]);
        succeeds(&bundle, &["kill", &id, "KILL"]);
        bundle.wait_for("stopped");
        succeeds(&bundle, &["delete", &id]);
    };
    // What is made once is not counted.
    (0..10).for_each(|_| cycle());
    // The totals are the whole machine's: others make them grow now and then, a leak every time.
    let rounds: Vec<String> = (0..ROUNDS)
        .map_while(|_| {
            let (before, begun) = (Totals::now(), Instant::now());
            (0..cycles).for_each(|_| cycle());
            eprintln!("{cycles} cycles in {:?}", begun.elapsed());
            before.growth(cycles)
        })
        .collect();
    assert!(rounds.len() < ROUNDS, "every time:\n{}", rounds.join("\n"));
    bundle.assert_nothing_left();
}

#[test]
fn a_hundred_containers_at_once_come_and_go() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir().display().to_string();
    let ids: Vec<String> = (0..CROWD).map(|number| format!("{}-c{number}", bundle.id())).collect();
    let begun = Instant::now();
    let at_once = |words: &dyn Fn(&str) -> Vec<String>| {
        let all: Vec<(Vec<String>, Child)> = ids
            .iter()
            .map(|id| {
                let words = words(id);
                let child = begin(&bundle, &words.iter().map(String::as_str).collect::<Vec<_>>());
                (words, child)
            })
            .collect();
        for (words, mut child) in all {
            let status = child.wait().expect("it can be awaited");
            assert!(status.success(), "{words:?}: {status}");
        }
    };
    let words = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    at_once(&|id| words(&["create", "-b", &dir, id]));
    at_once(&|id| words(&["start", id]));
    let list = bundle.verb(&["list", "-q"]).ok().text();
    assert_eq!(list.lines().count(), CROWD, "{list}");
    for id in &ids {
        let state = bundle.verb(&["state", id]).ok().text();
        assert!(state.contains("\"running\""), "{state}");
    }
    at_once(&|id| words(&["kill", id, "KILL"]));
    at_once(&|id| words(&["delete", "--force", id]));
    eprintln!("{CROWD} at once in {:?}", begun.elapsed());
    bundle.assert_nothing_left();
}

#[test]
fn of_sixteen_that_create_one_container_one_wins_and_the_others_hear_that_it_exists() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["sleep", "1000"]);
    bundle.write();
    for round in 0..5 {
        let rivals: Vec<(Child, std::path::PathBuf)> = (0..RIVALS)
            .map(|number| {
                let said = bundle.path(&format!("said{number}"));
                let mut command = bundle.command(&["create", "-b"]);
                command.arg(bundle.dir()).arg(bundle.id()).stdout(Stdio::null());
                let errors = std::fs::File::create(&said).expect("a file");
                (command.stderr(errors).spawn().expect("the runtime"), said)
            })
            .collect();
        let mut winners = 0;
        for (mut child, said) in rivals {
            let status = child.wait().expect("it can be awaited");
            let said = std::fs::read_to_string(said).expect("what it said");
            winners += usize::from(status.success());
            assert!(
                status.success() || (status.code() == Some(1) && said.contains("exists")),
                "{status}: {said}"
            );
        }
        assert_eq!(winners, 1, "in round {round}");
        assert_eq!(bundle.status(), "created");
        bundle.verb(&["delete", "--force", bundle.id()]).ok();
        bundle.assert_nothing_left();
    }
}

/// Runs a verb over and over until a file is gone, and prints what went wrong in other words than these.
fn storm(bundle: &Bundle, words: &[&str], fine: &str, flag: &Path) -> Child {
    let runtime = bundle.command(words);
    let mut script = Command::new("/bin/sh");
    script
        .args([
            "-c",
            "while [ -e \"$0\" ]; do \"$@\" >/dev/null 2>\"$SAID\"; grep -vE \"$FINE\" \"$SAID\"; done; :",
        ])
        .arg(flag)
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .env_clear()
        .env("FINE", fine)
        // A file: a container that was made keeps its maker's streams.
        .env("SAID", bundle.path(&format!("said-{}", words.join("-").replace('/', "_"))))
        .current_dir(bundle.dir());
    for (name, value) in runtime.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    script.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a shell")
}

#[test]
fn verbs_that_race_on_one_container_say_how_it_stands_and_leave_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.args(&["sleep", "1000"]);
    bundle.write();
    let id = bundle.id().to_owned();
    let dir = bundle.dir().display().to_string();
    let flag = bundle.path("flag");
    std::fs::write(&flag, "").expect("a file");
    let fine = "does not exist|already exists|not running|cannot [a-z]+ (a )?container|ended during its setup|stopped|created";
    let verbs: [&[&str]; 8] = [
        &["create", "-b", &dir, &id],
        &["start", &id],
        &["state", &id],
        &["list", "-q"],
        &["kill", &id, "KILL"],
        &["kill", "--all", &id, "TERM"],
        &["delete", &id],
        &["delete", "--force", &id],
    ];
    let storms: Vec<Child> = verbs.iter().map(|words| storm(&bundle, words, fine, &flag)).collect();
    std::thread::sleep(std::time::Duration::from_secs(4));
    std::fs::remove_file(&flag).expect("the flag");
    for (words, child) in verbs.iter().zip(storms) {
        let output = child.wait_with_output().expect("it can be awaited");
        let said = String::from_utf8_lossy(&output.stdout);
        let first: Vec<&str> = said.lines().take(5).collect();
        assert!(said.is_empty(), "{words:?}, {} times: {first:#?}", said.lines().count());
    }
    bundle.verb(&["delete", "--force", &id]).ok();
    bundle.assert_nothing_left();
}
