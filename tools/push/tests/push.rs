//! The tool itself: against Debian's docker-registry, and against a scripted one for what a real one does not do.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::{Response, Server};
use testkit::image::{MANIFEST, blob, put};
use testkit::registry::LOGIN;
use testkit::{Image, Packing, Registry, World, Written, digest, needs, tar};

/// An image in the world's store, without any tool of ours.
fn stored(world: &World, layers: usize, bytes: usize) -> Written {
    world.tool("oci-push", &["--image", "nothing"]).fails(3);
    let mut image = Image::new();
    for n in 0..layers {
        let noise: Vec<u8> =
            (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (7 + n)) as u8).collect();
        image = image.layer(tar::archive(&[tar::file(format!("layer-{n}"), noise)]), Packing::Gzip);
    }
    image.write(&world.store(), "docker.io/library/made:1")
}

fn read(layout: &Path, digest: &str) -> Vec<u8> {
    std::fs::read(blob(layout, digest)).unwrap_or_else(|e| panic!("{digest}: {e}"))
}

fn line(world: &World, image: &Written, reference: Option<&str>) -> Vec<u8> {
    let mut line = json!({"mediaType": MANIFEST, "digest": image.manifest,
        "size": read(&image.layout, &image.manifest).len(), "store": world.store(), "complete": true});
    if let Some(reference) = reference {
        line["reference"] = json!(reference);
    }
    format!("{line}\n").into_bytes()
}

#[test]
fn a_lines_image_goes_to_the_destination_with_its_exact_bytes_and_its_line_names_it() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = stored(&world, 3, 3000);
    let dest = registry.reference("team/app:v2");
    let out = world.feed("oci-push", &[&dest], &line(&world, &image, None)).ok().line();
    assert_eq!(registry.manifest("team/app", "v2"), Some(read(&image.layout, &image.manifest)));
    assert_eq!((&out["digest"], &out["reference"]), (&json!(image.manifest), &json!(dest)));
    assert_eq!(out["pinned"], format!("{}@{}", registry.reference("team/app"), image.manifest));
    assert_eq!((out.get("store"), &out["complete"]), (None, &json!(true)), "it is in no store");
    for name in image.layers.iter().chain([&image.config]) {
        assert_eq!(std::fs::read(registry.blob_file(name)).expect("a blob"), read(&image.layout, name));
    }
}

#[test]
fn only_what_the_registry_lacks_is_uploaded() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = stored(&world, 3, 3000);
    registry.upload("app", &image.layers[1], &read(&image.layout, &image.layers[1]));
    let puts = || {
        registry.log().lines().filter(|line| line.contains("\"PUT ") && line.contains("/uploads/")).count()
    };
    let before = puts();
    world.feed("oci-push", &[&registry.reference("app:v1")], &line(&world, &image, None)).ok();
    assert_eq!(puts() - before, 3, "two layers and the configuration");
    world.feed("oci-push", &[&registry.reference("app:v2")], &line(&world, &image, None)).ok();
    assert_eq!(puts() - before, 3, "all is there");
}

#[test]
fn the_destination_is_the_lines_reference_unless_one_is_given() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = stored(&world, 1, 100);
    let reference = registry.reference("by-line:v1");
    let out = world.feed("oci-push", &[], &line(&world, &image, Some(&reference))).ok();
    assert_eq!(out.member("reference"), reference);
    world.feed("oci-push", &[], &line(&world, &image, None)).fails(2).says("oci-push DEST");
    let by_name = world.tool("oci-push", &["--image", "made:1", &registry.reference("x:1")]).ok();
    assert_eq!(by_name.member("digest"), image.manifest);
    let pinned = format!("made:1@{}", image.manifest);
    let by_both = world.tool("oci-push", &["--image", &pinned, &registry.reference("x:3")]).ok();
    assert_eq!(by_both.member("digest"), image.manifest);
    let by_digest = world.tool("oci-push", &["--image", &image.manifest, &registry.reference("x:2")]).ok();
    assert_eq!(by_digest.member("digest"), image.manifest);
    let other = format!("{}@{}", registry.reference("x"), digest(b"another"));
    world.tool("oci-push", &["--image", "made:1", &other]).fails(2).says("another image");
    let pinned = format!("{}@{}", registry.reference("x"), image.manifest);
    world.tool("oci-push", &["--image", "made:1", &pinned]).ok();
}

#[test]
fn lines_of_other_kinds_and_of_other_stores_are_refused() {
    let world = World::new();
    let image = stored(&world, 1, 100);
    world.feed("oci-push", &[], b"").fails(10).error_line();
    world.feed("oci-push", &[], b"plain text\n").fails(2);
    let container = json!({"mediaType": "application/vnd.ocipipe.container.v1+json", "digest": digest(b"x"), "size": 1,
        "store": "/", "id": "a".repeat(64), "instance": "b", "name": "n", "bundle": "/etc", "rootfs": "/", "mounted": true,
        "status": "created"});
    world
        .feed("oci-push", &["127.0.0.1:1/x"], format!("{container}\n").as_bytes())
        .fails(2)
        .says("container line");
    let mut forged: Value = serde_json::from_slice(&line(&world, &image, None)).expect("JSON");
    forged["store"] = json!("/somewhere/else");
    world.feed("oci-push", &["127.0.0.1:1/x"], format!("{forged}\n").as_bytes()).fails(9);
    let error = json!({"mediaType": "application/vnd.ocipipe.error.v1+json", "tool": "oci-pull", "exit": 3, "what": "x", "why": "y"});
    let passed = world.feed("oci-push", &["127.0.0.1:1/x"], format!("{error}\n").as_bytes());
    assert_eq!((passed.code, passed.stderr.as_str()), (3, ""), "{passed}");
    assert_eq!(passed.error_line()["tool"], "oci-pull");
}

#[test]
fn a_destination_takes_a_single_line_and_lines_with_references_many() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = stored(&world, 1, 100);
    let one = |tag: &str| line(&world, &image, Some(&registry.reference(&format!("app:{tag}"))));
    let two = [one("a"), one("b")].concat();
    assert_eq!(world.feed("oci-push", &[], &two).ok().lines().len(), 2);
    world.feed("oci-push", &[&registry.reference("app:c")], &two).fails(2).says("single image");
}

#[test]
fn logins_are_made_with_credentials_and_refused_without() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::with_login());
    let image = stored(&world, 2, 100);
    let dest = registry.reference("app:v1");
    world.feed("oci-push", &[&dest], &line(&world, &image, None)).fails(4).error_line();
    assert_eq!(registry.manifest("app", "v1"), None);
    let creds = format!("{}:{}", LOGIN.0, LOGIN.1);
    world.feed("oci-push", &["--creds", &creds, &dest], &line(&world, &image, None)).ok();
    assert!(registry.manifest("app", "v1").is_some());
}

#[test]
fn a_flipped_bit_on_disk_is_never_pushed() {
    needs!(Program("docker-registry"));
    for place in ["layer", "config", "manifest"] {
        let (world, registry) = (World::new(), Registry::start());
        let image = stored(&world, 2, 300_000);
        let victim = match place {
            "layer" => &image.layers[0],
            "config" => &image.config,
            _ => &image.manifest,
        };
        let path = blob(&world.store(), victim);
        let mut bytes = std::fs::read(&path).expect("a blob");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("spoilt");
        let outcome = world.feed(
            "oci-push",
            &[&registry.reference(&format!("{place}:v1"))],
            &line(&world, &image, None),
        );
        outcome.fails(6).error_line();
        assert_eq!(registry.manifest(place, "v1"), None, "no manifest without its blobs");
        assert!(!registry.blob_file(victim).exists(), "{place} was taken");
    }
}

#[test]
fn an_index_is_pushed_after_its_children_that_are_there() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    let image = stored(&world, 1, 100);
    let size = read(&image.layout, &image.manifest).len();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [
        {"mediaType": MANIFEST, "digest": image.manifest, "size": size, "platform": {"os": "linux", "architecture": "amd64"}}]});
    let bytes = index.to_string().into_bytes();
    let name = put(&world.store(), &bytes);
    let out = world.tool("oci-push", &["--image", &name, &registry.reference("multi:v1")]).ok().line();
    assert_eq!((&out["digest"], &out["mediaType"]), (&json!(name), &json!(media_type)));
    assert_eq!(registry.manifest("multi", "v1"), Some(bytes));
    assert_eq!(registry.manifest("multi", &image.manifest), Some(read(&image.layout, &image.manifest)));
}

#[test]
fn docker_manifests_stay_docker_manifests() {
    needs!(Program("docker-registry"));
    let (world, registry) = (World::new(), Registry::start());
    stored(&world, 1, 10);
    let layer = tar::archive(&[tar::file("a", "b")]);
    let image = Image::new().docker().layer(layer, Packing::Gzip).write(&world.store(), "localhost/docker:1");
    let out = world.tool("oci-push", &["--image", "localhost/docker:1", &registry.reference("d:1")]).ok();
    assert_eq!(out.member("mediaType"), "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(registry.manifest("d", "1"), Some(read(&image.layout, &image.manifest)));
}

#[test]
fn a_layout_is_a_destination_that_skopeo_and_umoci_read() {
    needs!(Program("skopeo"), Program("umoci"));
    let world = World::new();
    let image = stored(&world, 2, 1000);
    for (dest, lines) in
        [("oci:out:first", 1), ("oci:out:second", 2), ("oci:out:first", 2), ("oci:out", 3), ("oci:out", 3)]
    {
        let out = world.feed("oci-push", &[dest], &line(&world, &image, None)).ok().line();
        assert_eq!(out["digest"], image.manifest);
        let index: Value =
            serde_json::from_slice(&std::fs::read(world.path("out/index.json")).expect("an index"))
                .expect("JSON");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(lines), "{dest}: {index}");
    }
    let raw = world.sh("skopeo inspect --raw oci:out:first").ok();
    assert_eq!(digest(&raw.stdout), image.manifest);
    world.sh("umoci unpack --image out:second bundle").ok();
    assert!(world.path("bundle/rootfs/layer-1").exists());
    let left = world.sh("find out -name '.oci-push*'").ok();
    assert_eq!(left.text(), "", "nothing half-made is left");
}

#[test]
fn a_flipped_bit_leaves_no_trace_in_a_layout() {
    let world = World::new();
    let image = stored(&world, 1, 1000);
    let path = blob(&world.store(), &image.layers[0]);
    let mut bytes = std::fs::read(&path).expect("a blob");
    bytes[30] ^= 1;
    std::fs::write(&path, bytes).expect("spoilt");
    world.feed("oci-push", &["oci:out:x"], &line(&world, &image, None)).fails(6);
    assert!(!blob(&world.path("out"), &image.layers[0]).exists());
    assert!(!world.path("out/index.json").exists());
}

#[test]
fn layers_on_their_way_are_followed_and_a_broken_promise_is_told_by_its_origin() {
    needs!(Program("docker-registry"));
    if !testkit::world::tools().join("oci-pull").exists() {
        // Built with the workspace, but not by a test of this tool alone.
        testkit::skip("oci-pull is not built");
        return;
    }
    let (world, registry) = (World::new(), Registry::start());
    let noise: Vec<u8> = (0..400_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    let image = Image::new()
        .layer(tar::archive(&[tar::file("x", noise)]), Packing::Plain)
        .write(&world.path("source"), "x");
    for (name, cut) in [("whole", None), ("broken", Some(200_000))] {
        let world = World::new();
        let kept = image.clone();
        let server = Server::start(move |request| {
            let name = request.target.rsplit('/').next().unwrap_or_default();
            if request.target.contains("/manifests/") {
                return Response::ok(MANIFEST, read(&kept.layout, &kept.manifest));
            }
            let answer = Response::ok("x/y", read(&kept.layout, name));
            match (name == kept.config, cut) {
                (true, _) => answer,
                (false, None) => answer.slowly(20_000, Duration::from_millis(20)),
                (false, Some(bytes)) => answer.slowly(20_000, Duration::from_millis(20)).cut(bytes),
            }
        });
        let (from, to) = (format!("{}/app:v1", server.address()), registry.reference(&format!("{name}:v1")));
        let outcome = world.sh(&format!("oci-pull -q --retry 0 {from} | oci-push -q {to}"));
        match cut {
            None => {
                assert_eq!(outcome.ok().member("digest"), image.manifest);
                assert_eq!(registry.manifest(name, "v1"), Some(read(&image.layout, &image.manifest)));
            }
            Some(_) => {
                assert_eq!(outcome.code, 5, "{outcome}");
                assert_eq!(outcome.error_line()["tool"], "oci-pull");
                assert_eq!(registry.manifest(name, "v1"), None);
            }
        }
    }
}

#[test]
fn a_registry_that_refuses_the_manifest_is_told_with_its_words() {
    let world = World::new();
    let image = stored(&world, 1, 100);
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Response::status(200),
        _ => {
            Response::status(400).body(r#"{"errors":[{"code":"MANIFEST_INVALID","message":"not this one"}]}"#)
        }
    });
    let dest = format!("{}/app:v1", server.address());
    world.feed("oci-push", &[&dest], &line(&world, &image, None)).fails(5).says("not this one");
}

#[test]
fn a_name_in_the_store_moves_no_bytes_and_is_refused_where_it_is_none() {
    let world = World::new();
    let image = stored(&world, 1, 100);
    let named = world.tool("oci-push", &["--image", "made:1", "--tag", "a:1", "-t", "b.example/c"]).ok();
    assert_eq!(named.member("digest"), image.manifest);
    assert_eq!(named.member("reference"), "docker.io/library/a:1");
    for name in ["a:1", "b.example/c:latest", "made:1"] {
        assert_eq!(world.tool("oci-inspect", &[name]).ok().member("digest"), image.manifest);
    }
    world.tool("oci-push", &["--image", "made:1", "--tag", "UPPER"]).fails(2);
    world.tool("oci-push", &["--image", "made:1", "--tag", &format!("x@{}", image.manifest)]).fails(2);
    world.tool("oci-push", &["--image", "made:1", "--tag", "a:2", "b:1"]).fails(2);
    std::fs::remove_file(blob(&image.layout, &image.layers[0])).expect("remove");
    world.tool("oci-push", &["--image", "made:1", "--tag", "a:3"]).fails(10);
    world.tool("oci-inspect", &["a:3"]).fails(3);
}
