//! Pulls and their readers, pulls and other pulls: at the same time, and after a death.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "test code; each test file uses its part of the support"
)]

mod support;

use std::time::{Duration, Instant};

use support::{assert_nothing_published, assert_whole, image, in_flight, served, wait_until};
use testkit::{Registry, World, needs};

#[test]
fn the_line_comes_first_and_the_end_of_the_output_means_that_all_is_there() {
    let world = World::new();
    let image = image(&world, 2, 200_000);
    let server = served(&image, Some((20_000, Duration::from_millis(50))));
    let name = format!("{}/app:v1", server.address());
    let script = format!(
        "oci-pull -q {name} | {{ read -r line; ls store/blobs/sha256 | wc -l; cat >/dev/null; ls store/blobs/sha256 | wc -l; }}"
    );
    let counts = world.sh(&script).ok().text();
    assert_eq!(
        counts.split_whitespace().collect::<Vec<_>>(),
        ["2", "4"],
        "documents first, layers at the end"
    );
    assert_whole(&world, &image);
    let begun = Instant::now();
    let waited = World::new();
    let script = format!("oci-pull -q --wait {name} | {{ read -r line; ls store/blobs/sha256 | wc -l; }}");
    assert_eq!(waited.sh(&script).ok().text().trim(), "4");
    assert!(begun.elapsed() >= Duration::from_millis(400), "it was slow");
}

#[test]
fn a_pull_whose_reader_is_gone_stops_and_leaves_what_came_for_the_next_one() {
    let world = World::new();
    let image = image(&world, 1, 400_000);
    let server = served(&image, Some((10_000, Duration::from_millis(100))));
    let name = format!("{}/app:v1", server.address());
    let begun = Instant::now();
    let outcome = world.bash(&format!("oci-pull -q {name} | head -n 1"));
    assert_eq!(outcome.code, 141, "{outcome}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_nothing_published(&world, &image.manifest, &image.layers);
}

#[test]
fn eight_pulls_of_one_image_at_once_download_each_blob_once() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = image(&world, 4, 2_000_000);
    let reference = registry.push(&image, "app", "v1");
    let pull = || {
        let mut command = world.command("oci-pull");
        command.args(["-q", &reference]);
        world.start(command, None)
    };
    let running: Vec<_> = (0..8).map(|_| pull()).collect();
    for outcome in running.into_iter().map(testkit::world::Running::wait) {
        assert_eq!(outcome.ok().line()["digest"], image.manifest);
    }
    for layer in &image.layers {
        assert_eq!(registry.downloads(layer), 1, "{}", registry.log());
    }
    assert_whole(&world, &image);
}

#[test]
fn a_killed_pull_is_taken_over_by_one_that_waits_and_goes_on_where_it_was() {
    let world = World::new();
    let image = image(&world, 2, 1_000_000);
    let server = served(&image, Some((20_000, Duration::from_millis(20))));
    let name = format!("{}/app:v1", server.address());
    let pull = || {
        let mut command = world.command("oci-pull");
        command.args(["-q", &name]);
        world.start(command, None)
    };
    let mut first = pull();
    wait_until("some of both layers", || in_flight(&world) > 200_000);
    let second = pull();
    wait_until("the second one's manifest", || {
        server.seen().iter().filter(|seen| seen.target.contains("/manifests/")).count() == 2
    });
    std::thread::sleep(Duration::from_millis(100));
    first.kill();
    assert_eq!(first.wait().code, 137);
    second.wait().ok();
    assert_whole(&world, &image);
    let ranges = server.seen().iter().filter(|seen| seen.header("range").is_some()).count();
    assert_eq!(ranges, 2, "each layer went on where the dead one had left it");
}

#[test]
fn a_later_process_resumes_what_a_killed_one_left() {
    let world = World::new();
    let image = image(&world, 1, 1_000_000);
    let server = served(&image, Some((20_000, Duration::from_millis(20))));
    let name = format!("{}/app:v1", server.address());
    let mut command = world.command("oci-pull");
    command.args(["-q", &name]);
    let mut first = world.start(command, None);
    wait_until("some of the layer", || in_flight(&world) > 300_000);
    first.kill();
    first.wait();
    let left = in_flight(&world);
    world.tool("oci-pull", &["-q", &name]).ok();
    let seen = server.seen();
    let from: u64 = seen
        .iter()
        .find_map(|seen| seen.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .expect("a range was asked for");
    assert_eq!(from, left);
    assert_whole(&world, &image);
}

#[test]
fn a_store_that_lost_its_directory_for_blobs_on_their_way_gets_it_back() {
    let world = World::new();
    let image = image(&world, 1, 1000);
    let name = format!("{}/app:v1", served(&image, None).address());
    world.tool("oci-pull", &["--retry", "0", &name]).fails(5);
    std::fs::remove_dir(world.store().join("ingest")).expect("it is there and empty");
    let server = served(&image, None);
    world.tool("oci-pull", &[&format!("{}/app:v1", server.address())]).ok();
    assert_whole(&world, &image);
}
