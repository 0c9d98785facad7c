//! Bad bytes on the disk: a check finds each, a repair and another pull heal it, and a push refuses to pass it on.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use testkit::{Image, Packing, World, needs, tar};

const OFFSETS: u64 = 100;
const REFERENCE: &str = "localhost/flips:1";

/// A store with an unpacked image; what its blobs hold is told apart by a layer's encoding.
fn world() -> (World, String) {
    let world = World::new();
    let noise = |seed: u32, count: u32| -> Vec<u8> {
        (0..count)
            .flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(13).to_le_bytes())
            .collect()
    };
    let layer = |seed: u32| {
        tar::archive(&[
            tar::dir("d"),
            tar::file(format!("d/noise{seed}"), noise(seed, 2000)),
            tar::file(format!("d/text{seed}"), b"all the same\n".repeat(500)),
            tar::file(format!("implied{seed}/deep/small"), b"x"),
        ])
    };
    Image::new()
        .layer(layer(1), Packing::Gzip)
        .layer(layer(2), Packing::Plain)
        .layer(layer(3), Packing::Zstd)
        .write(&world.path("layout"), REFERENCE);
    let place = format!("oci:{}:{REFERENCE}", world.name("layout"));
    unpack(&world, &place);
    (world, place)
}

fn unpack(world: &World, place: &str) {
    world.stages(&["oci-pull", place], &[&["oci-unpack"]]).ok();
}

/// What a check covers byte for byte: everything of an image. Lists, locks and notes are not.
fn files(store: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut todo: Vec<PathBuf> =
        ["blobs", "layers", "fixes", "refs"].iter().map(|dir| store.join(dir)).collect();
    all.push(store.join("index.json"));
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let stat = path.symlink_metadata().expect("stat");
            if stat.is_dir() {
                todo.push(path);
            } else if stat.is_file() && stat.len() > 0 {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

/// Flips a bit; nothing else tells, for the time is set back. Returns what puts it right.
fn flip(path: &Path, offset: u64, bit: u32) -> impl Fn() + use<> {
    let path = path.to_path_buf();
    let write = move |mask: u8| {
        let modified = path.metadata().expect("stat").modified().expect("a time");
        let file = File::options().read(true).write(true).open(&path).expect("open");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("read");
        byte[0] ^= mask;
        file.write_all_at(&byte, offset).expect("write");
        file.set_times(FileTimes::new().set_modified(modified)).expect("times");
    };
    let mask = 1 << (bit % 8);
    write(mask);
    move || write(mask)
}

/// Offsets spread over all files: each file has its share, and one at least.
fn places(files: &[PathBuf]) -> Vec<(PathBuf, u64)> {
    let size = |path: &PathBuf| path.metadata().expect("stat").len();
    let total: u64 = files.iter().map(size).sum();
    let mut places = Vec::new();
    for file in files {
        let share = (size(file) * OFFSETS / total).clamp(3, size(file).max(3));
        places.extend((0..share).map(|n| (file.clone(), (n * 2 + 1) * size(file) / (share * 2))));
    }
    places
}

#[test]
fn a_check_finds_every_flipped_bit_of_an_image() {
    needs!(Root);
    let (world, _) = world();
    world.assert_store_is_sound();
    let places = places(&files(&world.store()));
    assert!(places.len() as u64 >= OFFSETS, "{}", places.len());
    let mut missed = Vec::new();
    for (n, (path, offset)) in places.iter().enumerate() {
        let restore = flip(path, *offset, n as u32);
        let check = world.tool("oci-inspect", &["--check"]);
        // A flip in a tag's name makes it another program's tag, and ours one that was lost: that is told, and no fault.
        let is_told = check.code == 6 || check.stderr.contains("lost from index.json");
        if !is_told {
            missed.push(format!("{path:?} at {offset}, bit {}", n % 8));
        }
        restore();
    }
    assert!(missed.is_empty(), "{} of {}: {missed:#?}", missed.len(), places.len());
    world.assert_store_is_sound();
}

#[test]
fn a_repair_and_another_pull_heal_a_flipped_bit() {
    needs!(Root);
    let (world, place) = world();
    let files = files(&world.store());
    for (n, path) in files.iter().enumerate() {
        let middle = path.metadata().expect("stat").len() / 2;
        drop(flip(path, middle, n as u32));
        world.tool("oci-inspect", &["--repair"]);
        unpack(&world, &place);
        let check = world.tool("oci-inspect", &["--check"]);
        assert_eq!(check.code, 0, "{path:?} at {middle}: {check}");
    }
    for path in files {
        assert!(path.exists(), "{path:?} came back");
    }
}

#[test]
fn a_check_changes_nothing_and_says_each_finding_in_a_line() {
    needs!(Root);
    let (world, _) = world();
    let blob = files(&world.store()).into_iter().find(|path| path.starts_with(world.store().join("blobs")));
    let blob = blob.expect("a blob");
    drop(flip(&blob, 5, 0));
    let before = std::fs::read(&blob).expect("read");
    let check = world.tool("oci-inspect", &["--check"]).fails(6);
    let name = blob.file_name().expect("a name").to_string_lossy().into_owned();
    let lines = check.lines();
    assert!(lines.iter().any(|line| line["what"] == format!("blobs/sha256/{name}")), "{check}");
    assert!(lines.iter().all(|line| line["schema"] == "urn:ocipipe:schema:inspect.finding.v1"));
    assert_eq!(std::fs::read(&blob).expect("still there"), before);
}

#[test]
fn a_push_refuses_a_bad_blob() {
    needs!(Root);
    let (world, _) = world();
    for (n, path) in files(&world.store()).into_iter().enumerate() {
        if !path.starts_with(world.store().join("blobs")) {
            continue;
        }
        let restore = flip(&path, path.metadata().expect("stat").len() / 2, 3);
        let dest = format!("oci:{}:x", world.name(&format!("pushed{n}")));
        world.tool("oci-push", &["--image", REFERENCE, &dest]).fails(6);
        let hex = path.file_name().expect("a name");
        let pushed = world.path(&format!("pushed{n}"));
        assert!(!pushed.join("blobs/sha256").join(hex).exists(), "{path:?} was passed on");
        let index = std::fs::read_to_string(pushed.join("index.json")).unwrap_or_default();
        assert!(!index.contains("\"x\""), "{index}");
        restore();
    }
}

#[test]
fn a_repair_leaves_what_a_container_has_mounted() {
    needs!(Root, Overlay);
    let (world, place) = world();
    world.stages(&["oci-pull", &place], &[&["oci-unpack"], &["oci-mount", "--name", "c", "--", "/x"]]).ok();
    let file = files(&world.store()).into_iter().find(|path| path.ends_with("d/noise1")).expect("a file");
    drop(flip(&file, 100, 1));
    let repair = world.tool("oci-inspect", &["--repair"]).fails(6);
    assert!(repair.lines().iter().any(|line| line["repaired"] == false), "{repair}");
    assert!(file.exists(), "the tree is in use");
    world.tool("oci-mount", &["--remove", "c"]).ok();
    world.tool("oci-inspect", &["--repair"]).ok();
    assert!(!file.exists(), "the tree is removed");
    unpack(&world, &place);
    world.assert_store_is_sound();
}

#[test]
fn an_unreadable_container_becomes_removable() {
    needs!(Root, Overlay);
    let (world, place) = world();
    world.stages(&["oci-pull", &place], &[&["oci-unpack"], &["oci-mount", "--name", "c", "--", "/x"]]).ok();
    let bundle = world.tool("oci-inspect", &["--field", "bundle", "c"]).ok().text();
    let bundle = Path::new(bundle.trim_end());
    world.sh(&format!("umount -R {}", bundle.join("rootfs").display())).ok();
    std::fs::write(bundle.join("upper/mine"), "mine").expect("write");
    std::fs::write(bundle.join("state.json"), "{").expect("damage");
    world.tool("oci-inspect", &["--repair"]).ok();
    world.assert_store_is_sound();
    std::fs::write(bundle.join("create.json"), "{}").expect("damage");
    world.tool("oci-prune", &["--blobs", "--layers"]).fails(6);
    world.tool("oci-inspect", &["--repair"]).ok();
    world.assert_store_is_sound();
    let aside = std::fs::read_dir(world.store().join("damaged")).expect("set aside").next();
    let aside = aside.expect("one").expect("an entry").path();
    assert_eq!(std::fs::read(aside.join("upper/mine")).expect("what was written stays"), b"mine");
    world.stages(&["oci-pull", &place], &[&["oci-unpack"], &["oci-mount", "--name", "c", "--", "/x"]]).ok();
    world.tool("oci-mount", &["--remove", "c"]).ok();
}
