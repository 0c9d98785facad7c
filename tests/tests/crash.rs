//! kill -9 of any stage at a random moment, then the same again: it succeeds, and the store is in order.

use ocipipe_tests::Hub;
use std::time::{Duration, Instant};
use testkit::{World, fixtures, leftovers, needs};

const PIPELINE: &str = "oci-pull $R | oci-unpack | oci-mount --rm | oci-cp ./src :/src \
    | oci-spawn --pass -- sh -c 'echo x >/x; sleep 0.05' | oci-commit --layer --tag $REGISTRY/out:1 | oci-push";
const STAGES: [&str; 7] =
    ["oci-pull", "oci-unpack", "oci-mount", "oci-cp", "oci-spawn", "oci-commit", "oci-push"];

/// How many kills: `$OCIPIPE_KILLS` (scripts/test --full sets 1,000), else a hundred.
fn rounds() -> u64 {
    std::env::var("OCIPIPE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// splitmix64: the kills' moments, the same in every run with the same seed.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The processes of a tool that work on this world's store.
fn pids(world: &World, tool: &str) -> Vec<rustix::process::Pid> {
    let lines = leftovers::processes(&world.store());
    let words = lines.iter().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = words.filter(|words| words.get(2).is_some_and(|program| program.ends_with(tool)));
    found.filter_map(|words| words[1].parse().ok().and_then(rustix::process::Pid::from_raw)).collect()
}

/// Runs the pipeline and kills one tool `moment` after the start; true if it was there to be killed.
fn run_and_kill(world: &World, tool: &str, moment: Duration) -> bool {
    let mut command = world.command("sh");
    command.args(["-c", PIPELINE]);
    let started = Instant::now();
    let running = world.start(command, None);
    let mut killed = false;
    std::thread::sleep(moment.saturating_sub(started.elapsed()));
    for pid in pids(world, tool) {
        killed |= rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
    }
    running.wait();
    killed
}

/// How long each tool lives in an undisturbed run, so that most kills find their process.
fn lifetimes(world: &World) -> Vec<Duration> {
    let mut command = world.command("sh");
    command.args(["-c", PIPELINE]);
    let started = Instant::now();
    let mut running = world.start(command, None);
    let mut seen = vec![Duration::from_millis(1); STAGES.len()];
    while running.child.try_wait().expect("a child can be asked").is_none() {
        for (stage, tool) in STAGES.iter().enumerate() {
            if !pids(world, tool).is_empty() {
                seen[stage] = started.elapsed();
            }
        }
    }
    running.wait().ok();
    seen
}

#[test]
fn after_kill_9_of_any_stage_at_random_moments_the_same_command_succeeds() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::of(&fixtures::stack());
    std::fs::create_dir(hub.world.path("src")).expect("a folder");
    std::fs::write(hub.world.path("src/file"), vec![7; 100_000]).expect("a file");
    let (cold, warm) = (lifetimes(&hub.world), lifetimes(&hub.world));
    let (mut seed, mut hits) = (20_240_607, 0);
    for round in 0..rounds() {
        let lifetimes = if round % 2 == 0 { &cold } else { &warm };
        if round % 2 == 0 {
            // from an empty store every other round, so that fetching and unpacking are hit too
            std::fs::rename(hub.world.store(), hub.world.path(&format!("old{round}"))).expect("a rename");
        }
        let stage = usize::try_from(random(&mut seed) % 7).expect("below seven");
        let (tool, lifetime) = (STAGES[stage], lifetimes[stage]);
        let moment = lifetime.mul_f64((random(&mut seed) % 1000) as f64 / 1000.0);
        hits += u64::from(run_and_kill(&hub.world, tool, moment));
        let again = hub.world.bash(PIPELINE);
        assert_eq!(again.code, 0, "round {round}, after kill of {tool} at {moment:?}: {again}");
        let check = hub.world.tool("oci-inspect", &["--check"]);
        assert_eq!(check.code, 0, "round {round}, after kill of {tool} at {moment:?}: {check}");
    }
    assert!(hits * 3 >= rounds(), "only {hits} of {} kills found their process", rounds());
}

#[test]
fn kill_9_of_spawn_takes_its_container_along() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.container(&["--name", "c"]);
    let mut command = hub.world.command("oci-spawn");
    command.args(["--", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]);
    let mut running = hub.world.start(command, Some(&line.stdout));
    std::thread::sleep(Duration::from_millis(700));
    assert!(leftovers::processes(&hub.world.store()).len() > 1, "it runs");
    running.child.kill().expect("it can be killed");
    running.wait();
    hub.world.assert_nothing_runs();
    assert_eq!(hub.output(&line, "echo again"), "again\n", "the container can be started again");
}
