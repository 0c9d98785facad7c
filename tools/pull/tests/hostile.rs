//! Registries and layouts that lie: an error of the right class, and nothing published.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "test code; each test file uses its part of the support"
)]

mod support;

use std::path::Path;

use support::{answer, assert_nothing_published, image, read};
use testkit::http::{Response, Server};
use testkit::image::{MANIFEST, blob};
use testkit::{Image, Outcome, Packing, Registry, World, needs, tar};

#[test]
fn a_blob_with_one_bit_flipped_is_a_content_error_and_publishes_nothing() {
    needs!(Program("docker-registry"));
    let registry = Registry::start();
    for place in ["layer", "config"] {
        let world = World::new();
        let image = image(&world, 2, 5000);
        let reference = registry.push(&image, place, "v1");
        let victim = registry.blob_file(if place == "layer" { &image.layers[0] } else { &image.config });
        let good = std::fs::read(&victim).expect("the registry's blob");
        let mut bytes = good.clone();
        bytes[100] ^= 4;
        std::fs::write(&victim, bytes).expect("it can be spoilt");
        world.tool("oci-pull", &[&reference]).fails(6).error_line();
        assert_nothing_published(&world, &image.manifest, &image.layers[..1]);
        std::fs::write(&victim, good).expect("it can be healed");
        world.tool("oci-pull", &[&reference]).ok();
    }
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
        assert_nothing_published(&world, &plain.manifest, &plain.layers);
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
        assert_nothing_published(&world, &image.manifest, &image.layers);
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

/// Makes a file of a layout into something else.
type Spoil = fn(&Path);

#[test]
fn hostile_layouts_are_refused_without_a_hang() {
    let spoil: [(&str, Spoil); 6] = [
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
            assert_nothing_published(&world, &image.manifest, &image.layers);
        }
    }
}
