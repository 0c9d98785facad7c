//! Layers as trees under the kernel's overlay, with their fixes, look as layers applied one over the other.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Scene, open};
use layer::{Encoding, LayerView, Options, Unpacked};
use proptest::prelude::*;
use testkit::tar::{Member, archive, char_device, dir, fifo, file, hardlink, opaque, symlink, whiteout};
use testkit::tree::Ignore;

/// A mounted overlay, unmounted when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn mount(lowers: &[PathBuf], at: PathBuf) -> Mounted {
    let lowers: Vec<_> = lowers.iter().map(|lower| lower.to_str().expect("UTF-8")).collect();
    let options = format!("userxattr,redirect_dir=nofollow,metacopy=off,lowerdir={}", lowers.join(":"));
    let status = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&at).status();
    assert!(status.expect("mount runs").success(), "mount -o {options}");
    Mounted(at)
}

/// Applies a stack both ways and compares; the flat tree's path with the scene.
fn compare(layers: &[Vec<Member>]) -> (Scene, PathBuf) {
    let scene = Scene::new();
    let archives: Vec<Vec<u8>> = layers.iter().map(|members| archive(members)).collect();
    let mut trees: Vec<(PathBuf, Unpacked)> = Vec::new();
    for (n, bytes) in archives.iter().enumerate() {
        let (tree, result) = scene.unpack(&format!("layer{n}"), bytes);
        trees.push((tree, result.expect("overlay form")));
    }
    at_once(&scene, &archives, &trees);
    trees.reverse();
    let fixes = scene.tree("fixes");
    let views: Vec<_> = trees
        .iter()
        .map(|(tree, unpacked)| LayerView {
            root: open(tree),
            implied: &unpacked.implied,
            masking: &unpacked.masking,
        })
        .collect();
    layer::fixes(&views, &open(&fixes)).expect("fixes");
    let (flat, result) = scene.flatten("flat", &archives);
    result.expect("flat form");
    let lowers: Vec<PathBuf> =
        std::iter::once(fixes).chain(trees.into_iter().map(|(tree, _)| tree)).collect();
    let merged = mount(&lowers, scene.tree("merged"));
    let (flat_tree, merged_tree) = (testkit::tree::read(&flat), testkit::tree::read(&merged.0));
    let difference = testkit::tree::difference(&flat_tree, &merged_tree, &Ignore::nothing());
    assert!(difference.is_empty(), "flat, then merged:\n{}\nof {layers:#?}", difference.join("\n"));
    drop(merged);
    (scene, flat)
}

/// Unpacks all at the same time, and compares with what came of one after the other.
fn at_once(scene: &Scene, archives: &[Vec<u8>], serial: &[(PathBuf, Unpacked)]) {
    let dests: Vec<PathBuf> = (0..archives.len()).map(|n| scene.tree(&format!("parallel{n}"))).collect();
    let done: Vec<Unpacked> = std::thread::scope(|scope| {
        let unpack = |(dest, bytes): (&PathBuf, &Vec<u8>)| {
            let (root, bytes) = (open(dest), bytes.clone());
            scope.spawn(move || layer::unpack(&*bytes, Encoding::None, &root, &Options::default()))
        };
        let workers: Vec<_> = dests.iter().zip(archives).map(unpack).collect();
        workers.into_iter().map(|one| one.join().expect("a thread").expect("overlay form")).collect()
    });
    for ((tree, one), (dest, other)) in serial.iter().zip(dests.iter().zip(&done)) {
        // A whiteout has the time of its making.
        let whiteouts: Vec<String> = testkit::tree::read(tree)
            .into_iter()
            .filter(|(_, entry)| entry.what == "character device 0:0")
            .map(|(path, _)| path.to_string_lossy().into_owned())
            .collect();
        let whiteouts: Vec<&str> = whiteouts.iter().map(String::as_str).collect();
        testkit::tree::assert_same(tree, dest, &Ignore::nothing().mtimes(&whiteouts));
        assert_eq!((&one.implied, &one.masking), (&other.implied, &other.masking));
    }
}

/// How many stacks are tried: all with OCIPIPE_FULL=1.
fn cases(usually: u32) -> u32 {
    if std::env::var_os("OCIPIPE_FULL").is_some_and(|value| value == "1") { 1000 } else { usually }
}

fn paths(tree: &Path) -> Vec<String> {
    testkit::tree::paths(tree).iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

fn stat(tree: &Path, name: &str) -> (u32, u32) {
    let entry = &testkit::tree::read(tree)[Path::new(name)];
    (entry.mode, entry.owner.0)
}

fn base() -> Vec<Member> {
    vec![
        dir(".").mode(0o751).owner(9, 9),
        dir("tmp").mode(0o1777),
        dir("home"),
        dir("home/u").mode(0o700).owner(1000, 1000).xattr("user.k", "v"),
        file("home/u/f", "x").owner(1000, 1000),
        dir("d"),
        file("d/a", "a"),
        dir("d/sub").mode(0o711),
        file("d/sub/b", "b"),
        symlink("link", "d"),
        file("plain", "p"),
    ]
}

#[test]
fn implied_parents_keep_what_lower_layers_said() {
    let (_scene, flat) = compare(&[base(), vec![file("tmp/x", "x"), file("home/u/g", "g")]]);
    assert_eq!(stat(&flat, ""), (0o751, 9));
    assert_eq!(stat(&flat, "tmp"), (0o1777, 0));
    assert_eq!(stat(&flat, "home/u"), (0o700, 1000));
}

#[test]
fn a_root_that_no_layer_names_is_0755() {
    let (_scene, flat) = compare(&[vec![file("a", "x")], vec![file("b", "x")]]);
    assert_eq!(stat(&flat, ""), (0o755, 0));
}

#[test]
fn whiteouts_take_away_files_and_directories() {
    let (_scene, flat) = compare(&[base(), vec![whiteout("plain"), whiteout("d/sub"), whiteout("none")]]);
    let found = paths(&flat);
    assert!(!found.contains(&"plain".into()) && !found.contains(&"d/sub".into()));
    assert!(found.contains(&"d/a".into()));
}

#[test]
fn an_opaque_directory_hides_the_lower_ones_and_keeps_its_own_before_and_after() {
    for members in [
        vec![opaque("d"), file("d/new", "n"), file("d/sub/c", "c")],
        vec![file("d/new", "n"), file("d/sub/c", "c"), opaque("d")],
        vec![dir("d"), file("d/new", "n"), dir("d/sub"), file("d/sub/c", "c"), opaque("d")],
    ] {
        let (_scene, flat) = compare(&[base(), members]);
        let found = paths(&flat);
        assert!(found.contains(&"d/new".into()) && found.contains(&"d/sub/c".into()));
        assert!(!found.contains(&"d/a".into()) && !found.contains(&"d/sub/b".into()));
        assert_eq!(stat(&flat, "d/sub").0, 0o755);
    }
}

#[test]
fn an_opaque_root_hides_everything() {
    let (_scene, flat) = compare(&[base(), vec![file(".wh..wh..opq", ""), file("n", "x")]]);
    assert_eq!(paths(&flat), ["", "n"]);
    assert_eq!(stat(&flat, ""), (0o751, 9));
}

#[test]
fn a_directory_removed_and_made_again_is_empty() {
    for members in [
        vec![whiteout("d"), dir("d").mode(0o700), file("d/n", "x")],
        vec![whiteout("d"), file("d/n", "x")],
        vec![file("d", "for a moment"), dir("d"), file("d/n", "x")],
        vec![dir("d"), whiteout("d"), file("d/n", "x")],
    ] {
        let (_scene, flat) = compare(&[base(), members]);
        let found = paths(&flat);
        assert!(found.contains(&"d/n".into()) && !found.contains(&"d/a".into()), "{found:?}");
    }
}

#[test]
fn kinds_replace_each_other_across_layers() {
    compare(&[
        base(),
        vec![file("d", "now a file"), dir("plain"), file("plain/x", "x"), symlink("tmp", "/home")],
    ]);
    compare(&[base(), vec![dir("link"), file("link/x", "x")]]);
    compare(&[base(), vec![symlink("d", "home")], vec![dir("d"), file("d/x", "x")]]);
}

#[test]
fn a_parent_that_is_a_symlink_only_below_becomes_a_directory() {
    let (_scene, flat) = compare(&[base(), vec![file("link/new", "x")]]);
    assert!(flat.join("link").symlink_metadata().expect("link").is_dir());
    assert!(!flat.join("d/new").exists());
}

#[test]
fn a_hard_link_to_a_name_only_in_a_lower_layer_is_refused() {
    let scene = Scene::new();
    let archives = [archive(&base()), archive(&[hardlink("h", "plain")])];
    common::assert_refused(scene.unpack("alone", &archives[1]).1, "hard link", "overlay");
    common::assert_refused(scene.flatten("flat", &archives).1, "hard link", "flat");
    let through = [archive(&base()), archive(&[file("d/n", "x"), hardlink("h", "link/n")])];
    common::assert_refused(scene.flatten("flat2", &through).1, "hard link", "flat, through a lower symlink");
}

#[test]
fn a_device_0_0_is_a_whiteout_in_every_form() {
    let (_scene, flat) = compare(&[base(), vec![char_device("plain", 0, 0), char_device("n", 1, 3)]]);
    assert!(!flat.join("plain").exists() && flat.join("n").exists());
}

#[test]
fn whiteouts_in_a_directory_of_one_layer_are_not_listed() {
    compare(&[vec![file("a/b/c", "x"), whiteout("a/b/c")]]);
    compare(&[vec![file("a/b/c", "x"), whiteout("a/b/c"), opaque("a/b")]]);
    compare(&[vec![file("a/b/c", "x")], vec![opaque("a/b"), whiteout("a/b/n")]]);
    compare(&[vec![whiteout("a/x")], vec![opaque("a")], vec![whiteout("a/n")]]);
}

/// Members over few names, so that they meet.
fn member() -> impl Strategy<Value = Member> {
    let name = prop::sample::select(vec![
        ".", "a", "b", "a/a", "a/b", "b/a", "a/b/c", "a/b/c/d", "b/a/d", "c", "c/a",
    ]);
    let kinds =
        prop::sample::select(vec!["file", "dir", "dir", "symlink", "fifo", "whiteout", "whiteout", "opaque"]);
    (name, kinds, 0u64..8).prop_map(|(name, kind, n)| match kind {
        "file" => file(name, n.to_string()).mode(0o600 + n).mtime(n),
        "dir" => dir(name).mode(0o700 + n).owner(n, n).mtime(n).xattr("user.n", n.to_string()),
        "symlink" => symlink(name, ["a", "b", "/c", "../b", "c/a", ".", "none", "/"][n as usize]),
        "fifo" => fifo(name).mtime(n),
        // An opaque root between two layers that have the same directory does not close it to the kernel yet.
        "opaque" if name != "." => opaque(name),
        _ => whiteout(name),
    })
}

/// Leaves out what no layer can hold: members that a layer applied alone refuses, found by applying it.
fn legal(members: Vec<Member>) -> Vec<Member> {
    let scene = Scene::new();
    let mut kept: Vec<Member> = Vec::new();
    for (n, member) in members.into_iter().enumerate() {
        kept.push(member);
        if scene.unpack(&n.to_string(), &archive(&kept)).1.is_err() {
            kept.pop();
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stack_of_layers_looks_the_same_both_ways(
        layers in prop::collection::vec(prop::collection::vec(member(), 0..7), 1..5)
    ) {
        let layers: Vec<Vec<Member>> = layers.into_iter().map(legal).collect();
        compare(&layers);
    }
}
