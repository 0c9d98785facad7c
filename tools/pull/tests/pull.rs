//! The tool itself: against Debian's docker-registry, and against a scripted one for what a real one does not do.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "test code; each test file uses its part of the support"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{answer, assert_whole, image, read, served};
use testkit::http::{Response, Server};
use testkit::image::MANIFEST;
use testkit::registry::LOGIN;
use testkit::{Image, Packing, Registry, World, digest, needs, tar};

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
    assert!(!format!("{}{}", wrong.text(), wrong.stderr).contains("nonsense"), "{wrong}");
    let unreadable = world.tool("oci-pull", &["--creds", "nonsense-word", &reference]).fails(2);
    assert!(
        unreadable.stdout.windows(8).all(|w| w != b"nonsense"),
        "the error line has the secret: {unreadable}"
    );
    world.tool("oci-pull", &["--creds", &format!("{}:{}", LOGIN.0, LOGIN.1), &reference]).ok();
    assert_whole(&world, &image);
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
