//! Images and registries for the tests of this tool.

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::http::{Request, Response, Server};
use testkit::image::{MANIFEST, blob};
use testkit::{Image, Packing, World, Written, digest, tar};

/// Layers of bytes that do not compress, so that they are really on their way for a while.
pub fn image(world: &World, layers: usize, bytes: usize) -> Written {
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
pub fn served(image: &Written, slow: Option<(usize, Duration)>) -> Server {
    let image = image.clone();
    Server::start(move |request| answer(&image, request, slow))
}

pub fn answer(image: &Written, request: &Request, slow: Option<(usize, Duration)>) -> Response {
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

pub fn read(layout: &Path, digest: &str) -> Vec<u8> {
    std::fs::read(blob(layout, digest)).unwrap_or_else(|e| panic!("{digest}: {e}"))
}

pub fn assert_whole(world: &World, image: &Written) {
    for name in image.layers.iter().chain([&image.manifest, &image.config]) {
        assert_eq!(&digest(&read(&world.store(), name)), name);
    }
}

/// The image has no name, and none of these layers is visible.
pub fn assert_nothing_published(world: &World, manifest: &str, layers: &[String]) {
    let index = std::fs::read_to_string(world.store().join("index.json")).unwrap_or_default();
    assert!(!index.contains(manifest), "{index}");
    for layer in layers {
        assert!(!blob(&world.store(), layer).exists(), "{layer} is visible");
    }
}

pub fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !there() {
        assert!(Instant::now() < until, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn in_flight(world: &World) -> u64 {
    let entries = std::fs::read_dir(world.store().join("ingest")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}
