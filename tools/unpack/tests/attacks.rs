//! The layers' hostile archives through the program: its status, its words, its memory, and a canary beside the store.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use testkit::image::{Image, Packing};
use testkit::tarsmith::{Case, Expected, tables};
use testkit::{Canary, needs};

/// Data that the program may have (RLIMIT_DATA: heaps, stacks, private maps): what it needs, and far from what a header asks for.
const DATA: u64 = 192 << 20;

/// Seconds of processor time after which something has no end.
const SECONDS: u64 = 60;

struct World {
    dir: tempfile::TempDir,
    canary: Canary,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let canary = Canary::plant(&dir.path().join("canary"));
        Self { dir, canary }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with a canary as its working directory, and with bounds.
    fn unpack(&self, args: &[&str]) -> Output {
        let mut command = Command::new("prlimit");
        command.args([format!("--data={DATA}"), format!("--cpu={SECONDS}")]);
        command.arg(env!("CARGO_BIN_EXE_oci-unpack")).args(args).current_dir(self.canary.path());
        command.env("OCIPIPE_STORE", self.path("store")).stdin(Stdio::null());
        command.output().expect("runs")
    }

    /// The case's layers as an image of the store, which may be there already.
    fn image(&self, case: &Case, name: &str) {
        let prey = self.canary.path().to_str().expect("UTF-8").to_owned();
        let layers = case.layers(&[("canary", &prey)]).expect("a case's script");
        let image = layers.into_iter().fold(Image::new(), |image, layer| image.layer(layer, Packing::Gzip));
        image.write(&self.path("store"), name);
    }

    fn published(&self) -> usize {
        let count = |path: &str| std::fs::read_dir(self.path("store").join(path)).map_or(0, Iterator::count);
        count("layers/identity/sha256") + count("staging")
    }
}

/// Runs a case in both forms; each wrong thing in a line.
fn wrong(world: &World, case: &Case, name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let flat = world.path(&format!("flat-{name}"));
    let flat_name = flat.to_str().expect("UTF-8");
    world.image(case, &format!("{name}:1"));
    let image = format!("{name}:1");
    for (form, args) in [("overlay", &[&*image][..]), ("flat", &[&image, "--to", flat_name])] {
        let before = world.published();
        let output = world.unpack(args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let refusal = match &case.expected {
            Expected::Refused(says) if case.only.is_empty() || case.only == form => Some(says),
            _ => None,
        };
        let want = if refusal.is_some() { 6 } else { 0 };
        if output.status.code() != Some(want) || !message.contains(refusal.map_or("", |says| says)) {
            wrong.push(format!("{}: {form}: {:?}: {message}", case.title, output.status));
        }
        if refusal.is_some() && (world.published() != before || flat.exists()) {
            wrong.push(format!("{}: {form}: something is left", case.title));
        }
    }
    // A large tree would make the next comparison long.
    let _ = std::fs::remove_dir_all(&flat);
    wrong.extend(world.canary.changes().into_iter().map(|change| format!("{}: {change}", case.title)));
    wrong
}

#[test]
fn every_hostile_layer_is_refused_or_stays_inside_and_every_twin_unpacks() {
    needs!(Root, Program("prlimit"));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/layer/tests/hostile");
    let tables = tables(&dir);
    let run = &|table: &str, cases: &[Case]| -> Vec<String> {
        let world = World::new();
        let lines = cases.iter().enumerate().flat_map(|(at, case)| wrong(&world, case, &format!("case{at}")));
        lines.map(|line| format!("{table}: {line}")).collect()
    };
    // The tables at once: each has a store and a canary of its own.
    let all: Vec<String> = std::thread::scope(|scope| {
        let begun = tables.iter().map(|(table, cases)| scope.spawn(move || run(table, cases)));
        let threads: Vec<_> = begun.collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn a_limit_of_the_command_line_ends_a_layer_with_its_name() {
    let world = World::new();
    let bytes = |text: &str| testkit::tarsmith::smith(text, &[]).expect("a script");
    let image = |script: &str, packing: Packing, name: &str| {
        Image::new().layer(bytes(script), packing).write(&world.path("store"), name);
    };
    image("repeat 20 file f{n} data=x", Packing::Gzip, "many:1");
    image("file z zeros=4M", Packing::Zstd, "zeros:1");
    image("dir a/b/c/d/e", Packing::Plain, "deep:1");
    for (args, says) in [
        (["many:1", "--max-entries", "19"], "more than 19 members"),
        (["zeros:1", "--max-bytes", "2m"], "more than 2097152 "),
        (["deep:1", "--max-depth", "4"], "more than 4 levels of directories"),
    ] {
        let output = world.unpack(&args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{args:?}: {message}");
        assert!(message.contains(says), "{args:?}: {message}");
        assert_eq!(world.published(), 0);
    }
    for args in
        [["many:1", "--max-entries", "20"], ["zeros:1", "--max-bytes", "5M"], ["deep:1", "--max-depth", "5"]]
    {
        let output = world.unpack(&args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn nothing_of_a_layer_is_run_loaded_or_opened_but_to_write_it() {
    needs!(Root, Program("strace"));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/layer/tests/hostile");
    let (_, cases) = tables(&dir).into_iter().find(|(name, _)| name == "a11-content").expect("the table");
    for case in &cases {
        let world = World::new();
        world.image(case, "content:1");
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(world.path("trace")).arg("-e");
        command.arg("trace=execve,execveat,open,openat,openat2").arg(env!("CARGO_BIN_EXE_oci-unpack"));
        command.arg("content:1").env("OCIPIPE_STORE", world.path("store")).stdin(Stdio::null());
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let trace = std::fs::read_to_string(world.path("trace")).expect("a trace");
        let run = trace.lines().filter(|line| line.contains(" execve")).count();
        assert_eq!(run, 1, "{}: {trace}", case.title);
        for member in ["libnss", "nsswitch", "unpigz", "newuidmap", "\"xz\"", "\"p\"", "\"c\"", "\"b\""] {
            let opened = trace.lines().find(|line| line.contains(member) && !line.contains("O_CREAT"));
            assert_eq!(opened, None, "{}", case.title);
        }
        world.canary.assert_alive();
    }
}
