//! Pruning while others work: what they need stays, what nobody needs goes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use testkit::{Image, Packing, World, needs, tar};

/// Rounds of one worker; with `OCIPIPE_FULL` 1,000 in all.
fn rounds() -> usize {
    if std::env::var_os("OCIPIPE_FULL").is_some() { 500 } else { 20 }
}

/// Two images that share a layer, and a configuration with nothing else.
fn images(world: &World) -> Vec<String> {
    let layer = |name: &str| tar::archive(&[tar::file(format!("etc/{name}"), name.as_bytes())]);
    let image = |name: &str| {
        let reference = format!("localhost/{name}:1");
        Image::new()
            .layer(layer("shared"), Packing::Gzip)
            .layer(layer(name), Packing::Gzip)
            .write(&world.path(name), &reference);
        reference
    };
    vec![image("one"), image("two")]
}

/// One round: everything that a worker asks for is there when it asks.
fn round(world: &World, name: &str, reference: &str, n: usize) {
    let place = format!("oci:{}:{reference}", world.name(name));
    let container = format!("{name}{n}");
    let mount: &[&str] = &["oci-mount", "--name", &container, "--", "/x"];
    let out = world.stages(&["oci-pull", &place], &[&["oci-unpack"], mount]);
    assert_eq!(out.code, 0, "{container}: {out}");
    // From here on the container alone keeps its layers.
    world.tool("oci-prune", &["--force", "--image", reference]).ok();
    let bundle = world.tool("oci-inspect", &["--field", "bundle", &container]).ok().text();
    for file in ["shared", name] {
        let path = std::path::Path::new(bundle.trim_end()).join("rootfs/etc").join(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), file, "{path:?} of round {n}");
    }
    world.tool("oci-mount", &["--remove", &container]).ok();
}

#[test]
fn rounds_of_pull_unpack_mount_and_remove_lose_nothing_beside_a_pruner() {
    needs!(Root, Overlay);
    let world = World::new();
    let references = images(&world);
    let (over, swept) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let workers: Vec<_> = ["one", "two"]
            .into_iter()
            .zip(&references)
            .map(|(name, reference)| {
                let world = &world;
                scope.spawn(move || (0..rounds()).for_each(|n| round(world, name, reference, n)))
            })
            .collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let words = ["--blobs", "--layers", "--refs", "--keep-since", "0s"];
                let out = world.tool("oci-prune", &words);
                assert_eq!(out.code, 0, "{out}");
                swept.fetch_add(out.text().lines().count() as u64, Ordering::Relaxed);
            }
        });
        let ends: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        over.store(true, Ordering::Relaxed);
        for end in ends {
            end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    assert!(swept.load(Ordering::Relaxed) > 10, "the pruner had work: {swept:?}");
    world.assert_store_is_sound();
    world.tool("oci-prune", &["--blobs", "--layers", "--keep-since", "0s"]).ok();
    for dir in ["blobs/sha256", "layers/identity/sha256", "fixes", "staging", "ingest"] {
        let left = std::fs::read_dir(world.store().join(dir)).expect("a directory").count();
        assert_eq!(left, 0, "{dir}: nothing needs what is left");
    }
}

#[test]
fn what_was_used_lately_or_has_a_name_or_a_container_stays() {
    needs!(Root, Overlay);
    let world = World::new();
    let references = images(&world);
    let place = format!("oci:{}:{}", world.name("one"), references[0]);
    world.stages(&["oci-pull", &place], &[&["oci-unpack"]]).ok();
    let prune = |words: &[&str]| {
        let out = world.tool("oci-prune", &[&["--blobs", "--layers"], words].concat()).ok();
        out.text().lines().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(prune(&["--keep-since", "0s"]), Vec::<String>::new(), "it has a name");
    world.tool("oci-prune", &["--image", &references[0]]).ok();
    assert_eq!(prune(&[]), Vec::<String>::new(), "it was used within a day");
    // The clock was set back.
    world.stages(&["oci-pull", &place], &[&["oci-unpack"]]).ok();
    world.tool("oci-prune", &["--image", &references[0]]).ok();
    let day = std::time::Duration::from_secs(86_400);
    let lease = std::fs::read_dir(world.store().join("leases")).expect("leases");
    let leases: Vec<_> = lease.map(|entry| entry.expect("a lease").path()).collect();
    let set = |ahead: bool| {
        let now = std::time::SystemTime::now();
        let at = if ahead { now + day } else { now - day };
        for path in &leases {
            std::fs::File::options().write(true).open(path).and_then(|f| f.set_modified(at)).expect("time");
        }
    };
    set(true);
    assert_eq!(prune(&["--keep-since", "0s"]), Vec::<String>::new(), "a lease of tomorrow");
    set(false);
    let would = prune(&["--keep-since", "0s", "--dry-run"]);
    assert!(would.iter().any(|line| line.starts_with("layer sha256:") && line.ends_with("B)")), "{would:?}");
    assert!(would.iter().any(|line| line.starts_with("blob sha256:")), "{would:?}");
    world.stages(&["oci-pull", &place], &[&["oci-unpack"], &["oci-mount", "--name", "c", "--", "/x"]]).ok();
    world.tool("oci-prune", &["--force", "--image", &references[0]]).ok();
    assert_eq!(prune(&["--keep-since", "0s"]), Vec::<String>::new(), "a container needs it");
    world.tool("oci-mount", &["--remove", "c"]).ok();
    assert_eq!(prune(&["--keep-since", "0s"]).len(), would.len(), "now nothing does");
    assert!(world.store().join("blobs/sha256").read_dir().expect("blobs").next().is_none());
}

#[test]
fn an_image_that_is_mounted_into_a_container_stays() {
    needs!(Root, Overlay);
    let world = World::new();
    let references = images(&world);
    let pull = |n: usize, name: &str| {
        let place = format!("oci:{}:{}", world.name(name), references[n]);
        world.stages(&["oci-pull", &place], &[&["oci-unpack"]]).ok()
    };
    pull(1, "two");
    let rootfs = pull(0, "one");
    let mount = format!("type=image,source={},target=/two", references[1]);
    world.feed("oci-mount", &["--name", "c", "--mount", &mount, "--", "/x"], &rootfs.stdout).ok();
    world.tool("oci-prune", &["--force", "--image", &references[0], &references[1]]).ok();
    let out = world.tool("oci-prune", &["--blobs", "--layers", "--keep-since", "0s"]).ok();
    assert_eq!(out.text(), "", "both images are needed");
    world.tool("oci-mount", &["--remove", "c"]).ok();
    let out = world.tool("oci-prune", &["--blobs", "--layers", "--keep-since", "0s"]).ok();
    assert!(out.text().lines().count() >= 7, "{out}");
}

#[test]
fn a_name_without_its_image_goes_and_others_stay() {
    needs!(Root);
    let world = World::new();
    let references = images(&world);
    for (name, reference) in ["one", "two"].iter().zip(&references) {
        world.tool("oci-pull", &[&format!("oci:{}:{reference}", world.name(name))]).ok();
    }
    let digest = world.tool("oci-inspect", &[&references[0]]).ok().member("digest");
    std::fs::remove_file(testkit::image::blob(&world.store(), &digest)).expect("lost");
    let out = world.tool("oci-prune", &["--refs"]).ok();
    assert_eq!(out.text(), format!("ref {}\n", references[0]));
    let left = world.tool("oci-inspect", &["images", "-q"]).ok().text();
    assert_eq!(left.lines().count(), 1, "{left}");
}
