//! Many processes, one store: each blob is fetched once, each layer unpacked once, also when one of them dies.

use ocipipe_tests::Hub;
use rustix::fs::inotify;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::http::{Response, Server};
use testkit::serve::honest;
use testkit::{Image, Packing, World, Written, fixtures, image, needs, tar};

const TOGETHER: usize = 8;

fn pipelines(world: &World, reference: &str) -> Vec<testkit::world::Running> {
    let script = format!("oci-pull {reference} | oci-unpack");
    (0..TOGETHER)
        .map(|_| {
            let mut command = world.command("bash");
            command.args(["-o", "pipefail", "-c", &script]);
            world.start(command, None)
        })
        .collect()
}

#[test]
fn eight_pipelines_of_one_image_fetch_each_blob_once_and_unpack_each_layer_once() {
    needs!(Root, Program("docker-registry"), Program("busybox"));
    let hub = Hub::of(&fixtures::stack());
    hub.world.tool("oci-inspect", &["images"]).ok(); // makes the store
    let watch = Folders::watch(&hub.world.store().join("staging"));
    let ends: Vec<_> =
        pipelines(&hub.world, &hub.reference).into_iter().map(|running| running.wait().ok().line()).collect();
    assert!(ends.windows(2).all(|pair| pair[0]["digest"] == pair[1]["digest"]));
    for digest in hub.image.layers.iter().chain([&hub.image.config]) {
        assert_eq!(hub.registry.downloads(digest), 1, "{digest}\n{}", hub.registry.log());
    }
    let made = watch.made();
    for diff_id in &hub.image.diff_ids {
        let trees = made.iter().filter(|name| name.contains(diff_id.trim_start_matches("sha256:"))).count();
        // a flat image's lowest diffID is its chainID too, for which there may be a tree of fixes
        let fixes = made.iter().filter(|name| name.contains("fix") && name.contains(&diff_id[7..])).count();
        assert_eq!(trees - fixes, 1, "{diff_id} is unpacked once: {made:?}");
    }
    hub.world.assert_store_is_sound();
}

/// The folders that are made in a folder while it is watched.
struct Folders(std::os::fd::OwnedFd);

impl Folders {
    fn watch(folder: &std::path::Path) -> Self {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify is there");
        inotify::add_watch(&watch, folder, inotify::WatchFlags::CREATE).expect("the folder can be watched");
        Self(watch)
    }

    fn made(&self) -> Vec<String> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 16 << 10];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        while let Ok(event) = events.next() {
            if event.events().contains(inotify::ReadFlags::ISDIR) {
                names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        names
    }
}

/// Layers of a few hundred kilobytes that do not compress, so that a slow server takes a second for each.
fn slow_image(world: &World) -> Written {
    let layer = |seed: u32| {
        let noise: Vec<u8> = (0u32..100_000)
            .flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(13).to_le_bytes())
            .collect();
        tar::archive(&[tar::file(format!("file{seed}"), noise)])
    };
    Image::new()
        .layer(layer(1), Packing::Gzip)
        .layer(layer(2), Packing::Plain)
        .layer(layer(3), Packing::Zstd)
        .write(&world.path("layout"), "1")
}

/// An honest registry that sends blobs in small pieces.
fn slow_server(image: &Written) -> Server {
    let image = image.clone();
    Server::start(move |request| {
        let answer = honest(&image, request);
        if request.target.contains("/blobs/") {
            answer.slowly(16 << 10, Duration::from_millis(25))
        } else {
            answer
        }
    })
}

fn fetched(server: &Server, digest: &str) -> Vec<Option<String>> {
    let seen = server.seen();
    let gets = seen.iter().filter(|request| request.method == "GET" && request.target.ends_with(digest));
    gets.map(|request| request.header("range").map(str::to_owned)).collect()
}

#[test]
fn when_the_one_that_fetches_is_killed_another_goes_on_from_there() {
    needs!(Root);
    let world = World::new();
    let image = slow_image(&world);
    let server = slow_server(&image);
    let reference = format!("{}/x:1", server.address());
    let mut leader = world.command("oci-pull");
    leader.args(["--plain-http", &reference]);
    let mut leader = world.start(leader, None);
    while image.layers.iter().all(|digest| fetched(&server, digest).is_empty()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let rest = pipelines(&world, &format!("--plain-http {reference}"));
    std::thread::sleep(Duration::from_millis(300));
    leader.kill();
    for running in rest {
        running.wait().ok();
    }
    for digest in &image.layers {
        let gets = fetched(&server, digest);
        let whole = gets.iter().filter(|range| range.is_none()).count();
        assert!(
            whole <= 1 && gets.len() <= 2,
            "{digest}: once, and once more from where the dead one stopped: {gets:?}"
        );
    }
    world.assert_store_is_sound();
}

#[test]
fn unpack_follows_a_layer_while_it_arrives() {
    needs!(Root);
    let world = World::new();
    let image = slow_image(&world);
    let server = slow_server(&image);
    let reference = format!("{}/x:1", server.address());
    let script = format!(
        "oci-pull --plain-http {reference} | {{ read -r line; echo \"$line\" | jq -c .complete >complete; \
         {{ echo \"$line\"; cat; }} | oci-unpack; }}"
    );
    world.bash(&script).ok().line();
    assert_eq!(std::fs::read_to_string(world.path("complete")).expect("jq wrote it").trim(), "false");
    assert!(image::blob(&world.store(), &image.layers[0]).exists());
}

#[test]
fn an_upstream_that_dies_while_a_layer_arrives_is_named_and_nothing_is_published() {
    needs!(Root);
    let world = World::new();
    let image = slow_image(&world);
    let server = slow_server(&image);
    let mut pull = world.command("oci-pull");
    pull.args(["--plain-http", &format!("{}/x:1", server.address())]);
    pull.stdout(std::fs::File::create(world.path("line")).expect("a file"));
    let mut pull = pull.spawn().expect("oci-pull starts");
    let line = loop {
        let line = std::fs::read(world.path("line")).expect("the file made above");
        if line.ends_with(b"\n") {
            break line;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut unpack = world.command("oci-unpack");
    unpack.stdin(std::fs::File::open(world.path("line")).expect("the line"));
    assert!(!line.is_empty());
    let script = "oci-unpack <line";
    let mut command = world.command("sh");
    command.args(["-c", script]);
    let running = world.start(command, None);
    std::thread::sleep(Duration::from_millis(200));
    pull.kill().expect("oci-pull can be killed");
    pull.wait().expect("it ends");
    let outcome = running.wait().fails(10).says("sha256:");
    outcome.error_line();
    world.assert_store_is_sound();
    world.bash(&format!("oci-pull --plain-http {}/x:1 | oci-unpack", server.address())).ok();
}

#[test]
fn containers_with_one_name_are_made_once_however_many_try() {
    needs!(Root, Overlay, Program("docker-registry"), Program("busybox"));
    let hub = Hub::busybox();
    let line = hub.rootfs();
    let (made, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                let outcome = hub.world.feed("oci-mount", &["--name", "one"], &line.stdout);
                match outcome.code {
                    0 => made.fetch_add(1, Ordering::SeqCst),
                    9 => refused.fetch_add(1, Ordering::SeqCst),
                    _ => panic!("{outcome}"),
                };
            });
        }
    });
    assert_eq!((made.into_inner(), refused.into_inner()), (1, TOGETHER - 1));
    hub.world.tool("oci-mount", &["--remove", "one"]).ok();
    hub.world.assert_nothing_left();
}

#[test]
fn one_server_that_stalls_at_first_is_asked_again() {
    needs!(Root);
    let world = World::new();
    let image = slow_image(&world);
    let (layer, tries) = (image.layers[1].clone(), AtomicUsize::new(0));
    let honest_image = image.clone();
    let server = Server::start(move |request| {
        let answer = honest(&honest_image, request);
        let first = request.target.ends_with(&layer) && tries.fetch_add(1, Ordering::SeqCst) == 0;
        if first { answer.cut(100_000) } else { answer }
    });
    let reference = format!("{}/x:1", server.address());
    world.bash(&format!("oci-pull --plain-http {reference} | oci-unpack")).ok();
    let gets = fetched(&server, &image.layers[1]);
    assert_eq!(gets.len(), 2, "{gets:?}");
    assert_eq!(gets[1].as_deref(), Some("bytes=100000-"));
    let refused = Server::start(|_| Response::status(500));
    world.tool("oci-pull", &["--plain-http", &format!("{}/x:1", refused.address())]).fails(5);
}
