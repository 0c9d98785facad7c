//! The tool itself: against Debian's docker-registry, and against a scripted one for what a real one does not do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::http::{Request, Response, Server};
use testkit::image::{MANIFEST, blob};
use testkit::registry::LOGIN;
use testkit::{Image, Outcome, Packing, Registry, World, Written, digest, needs, tar};

/// Layers of bytes that do not compress, so that they are really on their way for a while.
fn image(world: &World, layers: usize, bytes: usize) -> Written {
    let mut image = Image::new();
    for n in 0..layers {
        let mut state = 0x9e37_79b9_u32.wrapping_add(n as u32);
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .take(bytes)
        .collect();
        image = image.layer(tar::archive(&[tar::file(format!("layer-{n}"), noise)]), Packing::Gzip);
    }
    image.write(&world.path("source"), "made")
}

/// A registry of one image, whose blobs come slowly where `slow` says so.
fn served(image: &Written, slow: Option<(usize, Duration)>) -> Server {
    let image = image.clone();
    Server::start(move |request| answer(&image, request, slow))
}

fn answer(image: &Written, request: &Request, slow: Option<(usize, Duration)>) -> Response {
    let digest = request.target.rsplit('/').next().unwrap_or_default();
    if request.target.contains("/manifests/") {
        return Response::ok(MANIFEST, read(&image.layout, &image.manifest));
    }
    let all = read(&image.layout, digest);
    let from =
        request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let response = match from {
        Some(from @ 1..) => {
            let range = format!("bytes {from}-{}/{}", all.len() - 1, all.len());
            Response::status(206).with("content-range", &range).body(&all[from..])
        }
        _ => Response::ok("application/octet-stream", all),
    };
    match slow {
        Some((bytes, pause)) if digest != image.config => response.slowly(bytes, pause),
        _ => response,
    }
}

fn read(layout: &Path, digest: &str) -> Vec<u8> {
    std::fs::read(blob(layout, digest)).unwrap_or_else(|e| panic!("{digest}: {e}"))
}

fn assert_whole(world: &World, image: &Written) {
    for name in image.layers.iter().chain([&image.manifest, &image.config]) {
        assert_eq!(&digest(&read(&world.store(), name)), name);
    }
}

/// Nothing has a name, and no layer is visible.
fn assert_nothing_published(world: &World, image: &Written) {
    let index = std::fs::read(world.store().join("index.json")).unwrap_or_default();
    let index: Value = serde_json::from_slice(&index).unwrap_or_default();
    assert!(index["manifests"].as_array().is_none_or(Vec::is_empty), "{index}");
    for layer in &image.layers {
        assert!(!blob(&world.store(), layer).exists(), "{layer} is visible");
    }
}

fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !there() {
        assert!(Instant::now() < until, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn in_flight(world: &World) -> u64 {
    let entries = std::fs::read_dir(world.store().join("ingest")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

#[test]
fn an_image_comes_with_its_exact_bytes_and_gets_its_name() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = image(&world, 3, 1000);
    let reference = registry.push(&image, "some/app", "v1");
    let line = world.tool("oci-pull", &[&reference]).ok().line();
    assert_eq!(line["digest"], image.manifest);
    assert_eq!(line["complete"], false);
    assert_eq!(line["reference"], reference);
    assert_eq!(line["pinned"], format!("{}@{}", registry.reference("some/app"), image.manifest));
    assert_eq!(line["platform"], json!({"os": "linux", "architecture": "amd64"}));
    assert_whole(&world, &image);
    let index: Value =
        serde_json::from_slice(&std::fs::read(world.store().join("index.json")).expect("an index"))
            .expect("JSON");
    assert_eq!(index["manifests"][0]["digest"], image.manifest);
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], reference);
}

#[test]
fn what_is_there_is_not_fetched_again() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = image(&world, 3, 1000);
    let reference = registry.push(&image, "app", "v1");
    for complete in [false, true] {
        assert_eq!(world.tool("oci-pull", &[&reference]).ok().line()["complete"], complete);
    }
    for name in image.layers.iter().chain([&image.config]) {
        assert_eq!(registry.downloads(name), 1, "{}", registry.log());
    }
    let pinned = format!("{}@{}", registry.reference("app"), image.manifest);
    let before = registry.log().lines().count();
    world.tool("oci-pull", &[&pinned]).ok();
    assert_eq!(registry.log().lines().count(), before, "a digest that is there asks nobody");
}

#[test]
fn docker_manifests_and_zstd_layers_come_as_they_are() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let layer = || tar::archive(&[tar::file("a", "b")]);
    let docker = Image::new().docker().layer(layer(), Packing::Gzip).write(&world.path("docker"), "x");
    let zstd = Image::new()
        .layer(layer(), Packing::Zstd)
        .layer(layer(), Packing::Plain)
        .write(&world.path("zstd"), "x");
    for (image, name) in [(docker, "docker"), (zstd, "zstd")] {
        let reference = registry.push(&image, name, "1");
        let line = world.tool("oci-pull", &["--wait", &reference]).ok().line();
        assert_eq!((&line["digest"], &line["complete"]), (&json!(image.manifest), &json!(true)));
        assert_whole(&world, &image);
    }
}

#[test]
fn the_platform_is_chosen_from_an_index_or_what_exists_is_listed() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = image(&world, 1, 100);
    registry.push(&image, "app", "amd64");
    let size = read(&image.layout, &image.manifest).len();
    let entry = |architecture: &str, variant: Option<&str>| {
        let mut platform = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            platform["variant"] = json!(variant);
        }
        json!({"mediaType": MANIFEST, "digest": image.manifest, "size": size, "platform": platform})
    };
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type,
        "manifests": [entry("arm", Some("v7")), entry("amd64", None), entry("unknown", None)]});
    registry.put_manifest("app", "all", media_type, index.to_string().as_bytes());
    let reference = registry.reference("app:all");
    let line = world.tool("oci-pull", &["--platform", "linux/amd64", &reference]).ok().line();
    assert_eq!(line["digest"], image.manifest);
    let missing = world.tool("oci-pull", &["--platform", "linux/s390x", &reference]).fails(3);
    let missing = missing.says("no image for linux/s390x; there is linux/arm/v7, linux/amd64");
    assert_eq!(missing.error_line()["exit"], 3);
    let single = registry.reference("app:amd64");
    world.tool("oci-pull", &["--platform", "linux/arm64", &single]).fails(3).says("there is linux/amd64");
}

#[test]
fn a_tag_with_a_digest_is_what_the_digest_says() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = image(&world, 1, 100);
    let reference = registry.push(&image, "app", "v1");
    let pinned = format!("{reference}@{}", image.manifest);
    assert_eq!(world.tool("oci-pull", &[&pinned]).ok().line()["reference"], pinned);
    let other = format!("{reference}@{}", digest(b"something else"));
    world.tool("oci-pull", &[&other]).fails(3);
}

#[test]
fn logins_are_made_with_credentials_and_refused_without() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::with_login());
    let image = image(&world, 2, 100);
    let reference = registry.push(&image, "app", "v1");
    world.tool("oci-pull", &[&reference]).fails(4).says("--creds").error_line();
    let wrong = world.tool("oci-pull", &["--creds", "tester:nonsense-word", &reference]).fails(4);
    assert!(
        !wrong.to_string().replace("--creds\" \"tester:nonsense-word", "").contains("nonsense"),
        "{wrong}"
    );
    let unreadable = world.tool("oci-pull", &["--creds", "nonsense-word", &reference]).fails(2);
    assert!(
        unreadable.stdout.windows(8).all(|w| w != b"nonsense"),
        "the error line has the secret: {unreadable}"
    );
    world.tool("oci-pull", &["--creds", &format!("{}:{}", LOGIN.0, LOGIN.1), &reference]).ok();
    assert_whole(&world, &image);
}

#[test]
fn failures_have_their_exit_status_and_publish_nothing() {
    needs!(Program("docker-registry"));
    let registry = Registry::start();
    let make = |name: &str, spoil: &dyn Fn(&Written), status: i32| {
        let world = World::new();
        let image = image(&world, 2, 5000);
        let reference = registry.push(&image, name, "v1");
        spoil(&image);
        let outcome = world.tool("oci-pull", &[&reference]).fails(status);
        outcome.error_line();
        assert_nothing_published(&world, &image);
    };
    let change = |digest: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let file = registry.blob_file(digest);
        let mut bytes = std::fs::read(&file).expect("the registry's blob");
        change(&mut bytes);
        std::fs::write(&file, bytes).expect("it can be spoilt");
    };
    make("flip", &|image| change(&image.layers[0], &|bytes| bytes[500] ^= 4), 6);
}

#[test]
fn a_short_blob_is_a_content_error() {
    let world = World::new();
    let image = image(&world, 2, 5000);
    let short = image.layers[1].clone();
    let kept = image.clone();
    let server = Server::start(move |request| {
        let whole = answer(&kept, request, None);
        let cut = request.target.ends_with(&short);
        if cut { Response::ok("x/y", &whole.body[..whole.body.len() - 1]) } else { whole }
    });
    let outcome =
        world.tool("oci-pull", &[&format!("{}/app:v1", server.address())]).fails(6).says(&image.layers[1]);
    assert_eq!(outcome.lines().len(), 2, "the image's line, then the error's");
    outcome.error_line();
    let index = std::fs::read_to_string(world.store().join("index.json")).unwrap_or_default();
    assert!(!index.contains("app:v1"), "{index}");
}

#[test]
fn unknown_names_and_unreachable_registries_are_told_apart() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    world.tool("oci-pull", &[&registry.reference("none:v1")]).fails(3).error_line();
    world.tool("oci-pull", &["127.0.0.1:1/app"]).fails(5).says("refused").error_line();
    world.tool("oci-pull", &["UPPER/Case:tag:tag"]).fails(2).error_line();
    world.tool("oci-pull", &[]).fails(2);
}

#[test]
fn documents_that_lie_about_their_kind_or_size_are_refused() {
    let world = World::new();
    let plain = image(&world, 1, 100);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let good = String::from_utf8(read(&plain.layout, &plain.manifest)).expect("JSON");
    let with = |member: &str| good.replacen('{', &format!("{{{member},"), 1);
    let table = [
        ("another Content-Type", docker, good.clone()),
        ("no manifest at all", "text/html", good.clone()),
        ("both kinds", MANIFEST, with("\"manifests\":[]")),
        ("a member twice", MANIFEST, with("\"layers\":[]")),
        ("a case variant", MANIFEST, with("\"Layers\":[]")),
        ("not JSON", MANIFEST, "{".to_owned()),
        ("4 MiB and more", MANIFEST, format!("{good}{}", " ".repeat(4 << 20))),
        ("a climbing digest", MANIFEST, good.replace(&plain.layers[0], "sha256:../../../canary/f")),
        ("a digest in upper case", MANIFEST, good.replace(&plain.layers[0], &plain.layers[0].to_uppercase())),
        ("a negative size", MANIFEST, good.replacen("\"size\":", "\"size\":-", 1)),
        ("a huge configuration", MANIFEST, good.replacen("\"size\":", "\"size\":99999999", 1)),
    ];
    for (what, media_type, body) in table {
        let kept = plain.clone();
        let server = Server::start(move |request| match request.target.contains("/manifests/") {
            true => Response::ok(media_type, body.clone()),
            false => answer(&kept, request, None),
        });
        let outcome = world.tool("oci-pull", &[&format!("{}/app:v1", server.address())]);
        assert_eq!(outcome.code, 6, "{what}: {outcome}");
        outcome.error_line();
        assert_nothing_published(&world, &plain);
        assert!(server.seen().iter().all(|seen| !seen.target.contains("..")), "{what}");
    }
}

#[test]
fn a_configuration_that_is_not_json_or_of_other_layers_is_refused() {
    needs!(Program("docker-registry"));
    let registry = Registry::start();
    let layer = || tar::archive(&[tar::file("a", "b")]);
    let table = [
        ("config", Image::new().raw_config(b"not json").layer(layer(), Packing::Gzip)),
        ("count", Image::new().layer(layer(), Packing::Gzip).diff_ids(Vec::new())),
        ("names", Image::new().layer(layer(), Packing::Gzip).diff_ids(vec!["sha256:../x".to_owned()])),
    ];
    for (name, image) in table {
        let world = World::new();
        let image = image.write(&world.path("source"), "x");
        let reference = registry.push(&image, name, "1");
        world.tool("oci-pull", &[&reference]).fails(6).error_line();
        assert_nothing_published(&world, &image);
        assert!(!blob(&world.store(), &image.manifest).exists());
    }
}

#[test]
fn urls_of_foreign_layers_are_never_followed() {
    let world = World::new();
    let elsewhere = Server::start(|_| Response::ok("x/y", "anything"));
    let layer = tar::archive(&[tar::file("a", "b")]);
    let image = Image::new().layer(layer, Packing::Plain).write(&world.path("source"), "x");
    let url = format!("\"urls\":[\"http://{}/layer\"],", elsewhere.address());
    let manifest = String::from_utf8(read(&image.layout, &image.manifest)).expect("JSON");
    let manifest = manifest.replace(
        &format!("\"digest\":\"{}\"", image.layers[0]),
        &format!("{url}\"digest\":\"{}\"", image.layers[0]),
    );
    assert!(manifest.contains("urls"));
    let (kept, lost) = (image.clone(), image.layers[0].clone());
    let server = Server::start(move |request| match request.target.contains("/manifests/") {
        true => Response::ok(MANIFEST, manifest.clone()),
        false if request.target.ends_with(&lost) => Response::status(404),
        false => answer(&kept, request, None),
    });
    world.tool("oci-pull", &[&format!("{}/app:v1", server.address())]).fails(3);
    assert!(elsewhere.seen().is_empty());
}

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
    assert_nothing_published(&world, &image);
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
fn a_registry_that_fails_for_a_while_is_asked_again_and_one_that_stalls_is_given_up() {
    let world = World::new();
    let image = image(&world, 2, 1000);
    let (kept, first) = (image.clone(), Arc::new(AtomicBool::new(true)));
    let server = Server::start(move |request| match first.swap(false, Ordering::SeqCst) {
        true => Response::status(503).with("retry-after", "0"),
        false => answer(&kept, request, None),
    });
    world.tool("oci-pull", &[&format!("{}/app:v1", server.address())]).ok();
    let other = World::new();
    let server = served(&image, Some((1, Duration::from_secs(30))));
    let begun = Instant::now();
    let outcome =
        other.tool("oci-pull", &["--timeout", "1", "--retry", "1", &format!("{}/app:v1", server.address())]);
    outcome.fails(5).says("stalled").error_line();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_plain_registry_is_reached_by_name_through_a_proxy_and_loopback_never_is() {
    let mut world = World::new();
    let image = image(&world, 1, 1000);
    let server = served(&image, None);
    let proxy = Server::proxy(vec![("registry.test".to_owned(), server.socket())]);
    world.set("HTTP_PROXY", &format!("http://{}", proxy.address()));
    world.set("http_proxy", &format!("http://{}", proxy.address()));
    world.tool("oci-pull", &[&format!("{}/app:v1", server.address())]).ok();
    assert!(proxy.seen().is_empty(), "a registry on this machine is asked directly");
    let fresh = world.path("fresh").display().to_string();
    world.tool("oci-pull", &["--store", &fresh, "--plain-http", "registry.test/app:v1"]).ok();
    assert!(!proxy.seen().is_empty());
    world.set("NO_PROXY", "registry.test");
    world.set("no_proxy", "registry.test");
    world.tool("oci-pull", &["--retry", "0", "--plain-http", "registry.test/other:v1"]).fails(5);
}

#[test]
fn several_references_are_independent() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = image(&world, 1, 100);
    let good = registry.push(&image, "app", "v1");
    let outcome = world.tool("oci-pull", &[&registry.reference("none:v1"), &good, "127.0.0.1:1/x"]).fails(3);
    let lines = outcome.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["exit"], &lines[1]["digest"], &lines[2]["exit"]),
        (&json!(3), &json!(image.manifest), &json!(5))
    );
    let fast = world.tool("oci-pull", &["--fail-fast", &registry.reference("none:v1"), &good]).fails(3);
    assert_eq!(fast.lines().len(), 1);
}

#[test]
fn image_layouts_are_a_source_by_name_or_as_the_only_image() {
    let world = World::new();
    let image = image(&world, 2, 1000);
    let pull = |source: &str, store: &str| world.tool("oci-pull", &["--store", &world.name(store), source]);
    assert_eq!(pull("oci:source", "a").ok().line()["digest"], image.manifest);
    let named = pull("oci:source:made", "b").ok().line();
    assert_eq!(named["digest"], image.manifest);
    assert_eq!(named.get("reference"), None, "a bare word is no reference");
    pull("oci:source:other", "c").fails(3).says("there is \"made\"");
    pull("oci:missing", "d").fails(3);
    pull("oci:", "d").fails(2);
    Image::new().write(&world.path("source"), "localhost/second:2");
    pull("oci:source", "e").fails(3).says("2 images");
    let second = pull("oci:source:localhost/second:2", "e").ok().line();
    assert_eq!(second["reference"], "localhost/second:2");
}

#[test]
fn hostile_layouts_are_refused_without_a_hang() {
    let spoil: [(&str, fn(&Path)); 6] = [
        ("a link to a file of the host", |blob| {
            std::fs::remove_file(blob).expect("rm");
            std::os::unix::fs::symlink("/etc/shadow", blob).expect("symlink");
        }),
        ("a FIFO", |blob| {
            std::fs::remove_file(blob).expect("rm");
            let status = std::process::Command::new("mkfifo").arg(blob).status().expect("mkfifo");
            assert!(status.success());
        }),
        ("a directory", |blob| {
            std::fs::remove_file(blob).expect("rm");
            std::fs::create_dir(blob).expect("mkdir");
        }),
        ("a flipped bit", |blob| {
            let mut bytes = std::fs::read(blob).expect("read");
            bytes[20] ^= 1;
            std::fs::write(blob, bytes).expect("write");
        }),
        ("a byte more", |blob| {
            let mut bytes = std::fs::read(blob).expect("read");
            bytes.push(0);
            std::fs::write(blob, bytes).expect("write");
        }),
        ("a byte less", |blob| {
            let mut bytes = std::fs::read(blob).expect("read");
            bytes.pop();
            std::fs::write(blob, bytes).expect("write");
        }),
    ];
    for (what, act) in spoil {
        for place in ["layer", "config", "manifest", "index"] {
            let world = World::new();
            let image = image(&world, 1, 1000);
            let victim = match place {
                "layer" => blob(&image.layout, &image.layers[0]),
                "config" => blob(&image.layout, &image.config),
                "manifest" => blob(&image.layout, &image.manifest),
                _ => image.layout.join("index.json"),
            };
            act(&victim);
            let outcome: Outcome = world.tool("oci-pull", &["oci:source"]);
            assert_eq!(outcome.code, 6, "{what} as {place}: {outcome}");
            assert!(!outcome.text().contains("root:"), "{what} as {place}: {outcome}");
            assert_nothing_published(&world, &image);
        }
    }
}

#[test]
fn a_published_image_comes_byte_for_byte() {
    needs!(Program("docker-registry"), Program("skopeo"), Shared("busybox-glibc"));
    let (world, registry) = (World::new(), Registry::start());
    let source = testkit::probe::image("busybox-glibc").expect("it is there");
    let reference = registry.push_layout(&source, "library/busybox", "1.38");
    let line = world.tool("oci-pull", &[&reference]).ok().line();
    let from_store = format!("oci:{}:{reference}", world.store().display());
    let raw = world
        .run(
            {
                let mut c = world.command("skopeo");
                c.args(["inspect", "--raw", &from_store]);
                c
            },
            None,
        )
        .ok();
    assert_eq!(line["digest"], digest(&raw.stdout));
}
