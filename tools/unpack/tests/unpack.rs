//! The tool itself: what it prints, what it leaves, and that it leaves nothing where it fails.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use descriptor::Digest;
use store::{Ingest, Store};
use testkit::image::{Image, Packing, Written, blob};
use testkit::tar::{Member, archive, dir, file, hardlink, whiteout};

struct World {
    dir: tempfile::TempDir,
    image: Written,
}

impl World {
    fn of(image: Image) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let image = image.write(&dir.path().join("store"), "small:1");
        Self { dir, image }
    }

    fn layers(layers: &[&[Member]]) -> Self {
        let add = |image: Image, members: &&[Member]| image.layer(archive(members), Packing::Gzip);
        Self::of(layers.iter().fold(Image::new(), add))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-unpack"));
        command.args(args).env("OCIPIPE_STORE", self.path("store"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().expect("runs")
    }

    fn feed(&self, args: &[&str], stdin: &str) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("runs");
        child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("written");
        child.wait_with_output().expect("ends")
    }

    fn published(&self) -> usize {
        let count = |path: &str| std::fs::read_dir(self.path("store").join(path)).map_or(0, Iterator::count);
        count("layers/identity/sha256") + count("fixes")
    }

    fn fails(&self, args: &[&str], status: i32, says: &str) {
        let output = self.run(args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(message.contains(says), "{message:?} does not say {says:?}");
        assert_eq!(self.published(), 0, "something was published");
        assert_eq!(std::fs::read_dir(self.path("store/staging")).map_or(0, Iterator::count), 0);
    }
}

fn two_layers() -> World {
    World::layers(&[
        &[dir("d").mode(0o700), file("d/a", "a"), file("b", "b")],
        &[file("d/n", "n"), whiteout("b")],
    ])
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn a_rootfs_line_names_the_layers_and_a_second_run_changes_nothing() {
    let world = two_layers();
    let first = world.run(&["small:1"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let line = testkit::schema::validated(&first.stdout);
    assert_eq!(line["layers"], 2);
    let ids = format!(
        "{{\"diff_ids\":[\"{}\",\"{}\"],\"type\":\"layers\"}}",
        world.image.diff_ids[0], world.image.diff_ids[1]
    );
    assert_eq!(line["digest"], Digest::of(ids.as_bytes()).to_string());
    assert_eq!(world.published(), 3);
    let again = world.run(&[&world.image.manifest]);
    // It is told what it is called by who called it so, and the same otherwise.
    let mut unnamed = line.clone();
    unnamed.as_object_mut().expect("a line").remove("annotations");
    assert_eq!(line["annotations"]["org.opencontainers.image.ref.name"], "small:1");
    assert_eq!(testkit::schema::validated(&again.stdout), unnamed);
}

#[test]
fn a_flat_tree_has_all_layers_applied_and_nothing_beside_it() {
    let world = two_layers();
    let to = world.path("flat");
    let output = world.run(&["small:1", "--to", to.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
    assert!(to.join("d/a").exists() && to.join("d/n").exists() && !to.join("b").exists());
    assert_eq!(std::fs::read_dir(world.dir.path()).expect("read").count(), 2);
    // An empty directory gives way, a full one does not.
    let empty = world.path("empty");
    std::fs::create_dir(&empty).expect("mkdir");
    assert!(world.run(&["small:1", "--to", empty.to_str().expect("UTF-8")]).status.success());
    world.fails(&["small:1", "--to", to.to_str().expect("UTF-8")], 9, "not empty");
}

#[test]
fn a_flipped_bit_names_the_layer_and_publishes_nothing() {
    let world = two_layers();
    flip(&blob(&world.image.layout, &world.image.layers[1]));
    let name = world.image.layers[1].clone();
    world.fails(&["small:1"], 6, &name);
    let to = world.path("flat");
    world.fails(&["small:1", "--to", to.to_str().expect("UTF-8")], 6, &name);
    assert_eq!(std::fs::read_dir(world.dir.path()).expect("read").count(), 1, "something is left");
}

#[test]
fn a_wrong_diff_id_is_refused() {
    let bytes = archive(&[file("a", "x")]);
    let lie = vec![Digest::of(b"something else").to_string()];
    let world = World::of(Image::new().layer(bytes, Packing::Zstd).diff_ids(lie));
    world.fails(&["small:1"], 6, "diffID");
}

#[test]
fn a_hostile_member_is_named_with_its_layer() {
    let world = World::layers(&[&[file("fine", "x")], &[hardlink("h\n", "../../etc/shadow")]]);
    world.fails(&["small:1"], 6, "\"h\\n\"");
    world.fails(&["small:1"], 6, &world.image.layers[1]);
}

#[test]
fn input_that_is_no_image_is_refused_with_its_own_status() {
    let world = two_layers();
    world.fails(&["other:1"], 3, "no image");
    let unknown = format!("small@sha256:{}", "0".repeat(64));
    world.fails(&[&unknown], 3, "no image");
    let line = |store: &str| {
        format!(
            "{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{}\",\"size\":1,\"store\":{store:?},\"complete\":true}}\n",
            world.image.manifest
        )
    };
    assert_eq!(world.feed(&[], &line("/elsewhere")).status.code(), Some(9));
    assert_eq!(world.feed(&[], "").status.code(), Some(10));
    assert_eq!(world.feed(&[], "hello\n").status.code(), Some(2));
    let own = line(world.path("store").to_str().expect("UTF-8"));
    let output = world.feed(&[], &own);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rootfs = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(world.feed(&[], &rootfs).status.code(), Some(2));
    let both = world.feed(&["--to", world.path("x").to_str().expect("UTF-8")], &format!("{own}{own}"));
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_digest_after_a_name_says_all() {
    let world = two_layers();
    let pinned = world.run(&[&format!("registry.example/app@{}", world.image.manifest)]);
    assert!(pinned.status.success(), "{}", String::from_utf8_lossy(&pinned.stderr));
}

#[test]
fn a_layer_in_flight_is_followed_to_its_end() {
    let world = World::layers(&[&[file("big", vec![7; 3 << 20]), file("z", "z")]]);
    let digest: Digest = world.image.layers[0].parse().expect("a digest");
    let path = blob(&world.image.layout, &world.image.layers[0]);
    let bytes = std::fs::read(&path).expect("read");
    std::fs::remove_file(&path).expect("unlink");
    let store = Store::open(Some(&world.path("store"))).expect("open");
    let Ok(Ingest::Writer(mut writer)) = store.ingest(&digest, bytes.len() as u64) else {
        panic!("nobody else writes it");
    };
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    writer.write_all(head).expect("write");
    let mut command = world.command(&["small:1"]);
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(world.published(), 0);
    writer.write_all(tail).expect("write");
    writer.finish().expect("verified");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(world.published(), 2);
}

/// Its archives end within the filling of their last block (umoci 0.4.7).
#[test]
fn what_umoci_inserted_is_unpacked() {
    testkit::needs!(Program("umoci"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("f"), "inserted\n").expect("written");
    let umoci = |args: &str| {
        let output =
            Command::new("umoci").args(args.split(' ')).current_dir(dir.path()).output().expect("runs");
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    umoci("init --layout store");
    umoci("new --image store:1");
    for name in ["/d/first", "/last"] {
        umoci(&format!("insert --rootless --image store:1 f {name}"));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-unpack"));
    command.args(["1", "--to", "flat"]).current_dir(dir.path());
    let output = command.env("OCIPIPE_STORE", dir.path().join("store")).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["flat/d/first", "flat/last"] {
        let text = std::fs::read_to_string(dir.path().join(name)).expect(name);
        assert_eq!(text, "inserted\n");
    }
}
